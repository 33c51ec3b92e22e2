//! SHA-NI, 1, 2 or 4 messages interleaved.
//!
//! ```text
//!  state     ABEF, CDGH               two rounds of one are a step of the other
//!  4 rounds  wk = w[g] + K[g]         CDGH = rnds2(CDGH, ABEF, wk)
//!                                     ABEF = rnds2(ABEF, CDGH, wk >> 64)
//!  block 2   of a node: wk from a table by the last byte of the preimage, no schedule
//! ```
//!
//! `sha256rnds2` takes 4 cycles and starts every 2, so one message leaves half of the unit idle.
//! Two fill it and four hide the ends of the messages too. Nothing is fetched ahead: the loads are
//! spread over the work, and the CPU fetches a level that is read in order by itself.

use super::{
    Kernel, MessageJob, NodeJob, Row,
    sha256::{INITIAL_STATE, K, NODE_TAIL, Rounds, Tail},
};
use crate::detect::ShaNi;
use hedgerow_types::Digest;
use std::{arch::x86_64::*, array};

/// `N` messages interleaved; what is left over, two or one at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShaNiKernel<const N: usize>(pub(crate) ShaNi);

impl<const N: usize> Kernel for ShaNiKernel<N> {
    fn name(&self) -> &'static str {
        match N {
            1 => "shani1",
            2 => "shani2",
            _ => "shani4",
        }
    }

    fn lanes(&self) -> usize {
        N
    }

    fn pads(&self) -> bool {
        false
    }

    fn nodes(&self, level: u8, jobs: &mut [NodeJob<'_>], _ahead: &[NodeJob<'_>]) {
        // SAFETY: the token proves that this CPU has the instructions.
        unsafe { nodes::<N>(level, jobs) }
    }

    fn messages(&self, jobs: &mut [MessageJob<'_>]) {
        // SAFETY: the token proves that this CPU has the instructions.
        unsafe { messages::<N>(jobs) }
    }
}

type State = [__m128i; 2];

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn nodes<const N: usize>(level: u8, jobs: &mut [NodeJob<'_>]) {
    let (lots, rest) = jobs.as_chunks_mut::<N>();
    for lot in lots {
        node_lot(level, lot);
    }
    let (twos, one) = rest.as_chunks_mut::<2>();
    for lot in twos {
        node_lot(level, lot);
    }
    for job in one {
        node_lot(level, array::from_mut(job));
    }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn node_lot<const N: usize>(level: u8, lot: &mut [NodeJob<'_>; N]) {
    let initial = initial_state();
    let mut state = [initial; N];
    let mut w = [[_mm_setzero_si128(); 4]; N];
    let mut tails = [&NODE_TAIL[0]; N];
    for i in 0..N {
        let children = lot[i].children;
        w[i] = node_words(level, children);
        tails[i] = &NODE_TAIL[usize::from(children[1].0[31])];
    }
    compress(&mut state, &mut w);
    for s in &mut state {
        *s = add(*s, initial);
    }
    let middle = state;
    compress_tail(&mut state, tails);
    for i in 0..N {
        store(add(state[i], middle[i]), lot[i].out);
    }
}

/// The first block of a node: the children, one byte later.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn node_words(level: u8, children: &[Digest; 2]) -> [__m128i; 4] {
    let from = children.as_ptr().cast::<__m128i>();
    // SAFETY: two digests are 64 contiguous bytes, four unaligned loads of 16.
    let c = unsafe {
        [
            _mm_loadu_si128(from),
            _mm_loadu_si128(from.add(1)),
            _mm_loadu_si128(from.add(2)),
            _mm_loadu_si128(from.add(3)),
        ]
    };
    let level = _mm_slli_si128::<15>(_mm_cvtsi32_si128(i32::from(level)));
    [
        big_endian(_mm_alignr_epi8::<15>(c[0], level)),
        big_endian(_mm_alignr_epi8::<15>(c[1], c[0])),
        big_endian(_mm_alignr_epi8::<15>(c[2], c[1])),
        big_endian(_mm_alignr_epi8::<15>(c[3], c[2])),
    ]
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn messages<const N: usize>(jobs: &mut [MessageJob<'_>]) {
    let (lots, rest) = jobs.as_chunks_mut::<N>();
    for lot in lots {
        message_lot(lot);
    }
    let (twos, one) = rest.as_chunks_mut::<2>();
    for lot in twos {
        message_lot(lot);
    }
    for job in one {
        message_lot(array::from_mut(job));
    }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn message_lot<const N: usize>(lot: &mut [MessageJob<'_>; N]) {
    // The tails are written long before they are loaded, so that no load waits for a store.
    let mut tails = [Tail::EMPTY; N];
    let mut whole: [&[Row]; N] = [&[]; N];
    let mut blocks = 0;
    for i in 0..N {
        let message = lot[i].message();
        let rest;
        (whole[i], rest) = message.as_chunks();
        tails[i].fill(rest, message.len());
        blocks = blocks.max(lot[i].blocks());
    }
    let mut state = [initial_state(); N];
    for block in 0..blocks {
        let mut w = [[_mm_setzero_si128(); 4]; N];
        for i in 0..N {
            let b = block as usize;
            let tail = || tails[i].blocks().get(b - whole[i].len());
            if let Some(row) = whole[i].get(b).or_else(tail) {
                w[i] = row_words(row);
            }
        }
        let before = state;
        compress(&mut state, &mut w);
        for i in 0..N {
            let live = block < lot[i].blocks();
            state[i] = if live { add(state[i], before[i]) } else { before[i] };
        }
    }
    for i in 0..N {
        store(state[i], lot[i].out);
    }
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn row_words(row: &Row) -> [__m128i; 4] {
    let from = row.as_ptr().cast::<__m128i>();
    // SAFETY: a row is 64 bytes, four unaligned loads of 16.
    unsafe {
        [
            big_endian(_mm_loadu_si128(from)),
            big_endian(_mm_loadu_si128(from.add(1))),
            big_endian(_mm_loadu_si128(from.add(2))),
            big_endian(_mm_loadu_si128(from.add(3))),
        ]
    }
}

/// Turns the bytes of every 32-bit word around.
#[inline]
#[target_feature(enable = "ssse3")]
fn big_endian(x: __m128i) -> __m128i {
    _mm_shuffle_epi8(x, _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203))
}

#[inline]
#[target_feature(enable = "sse2")]
fn initial_state() -> State {
    let [a, b, c, d, e, f, g, h] = INITIAL_STATE.map(u32::cast_signed);
    [_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)]
}

#[inline]
#[target_feature(enable = "sse2")]
fn add(a: State, b: State) -> State {
    [_mm_add_epi32(a[0], b[0]), _mm_add_epi32(a[1], b[1])]
}

/// Writes a state, which is in the order of the instructions, as a digest.
#[inline]
#[target_feature(enable = "ssse3,sse4.1")]
fn store([abef, cdgh]: State, out: &mut Digest) {
    let feba = _mm_shuffle_epi32::<0x1b>(abef);
    let dchg = _mm_shuffle_epi32::<0xb1>(cdgh);
    let dcba = _mm_blend_epi16::<0xf0>(feba, dchg);
    let hgfe = _mm_alignr_epi8::<8>(dchg, feba);
    let to = out.0.as_mut_ptr().cast::<__m128i>();
    // SAFETY: a digest is 32 bytes, two unaligned stores of 16.
    unsafe {
        _mm_storeu_si128(to, big_endian(dcba));
        _mm_storeu_si128(to.add(1), big_endian(hgfe));
    }
}

/// Runs `$do!` for 16 groups of four rounds: unrolled, so that all words stay in registers.
macro_rules! all_groups {
    ($do:ident) => {
        $do!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
}

/// Four rounds of one message.
#[inline]
#[target_feature(enable = "sha,sse2")]
fn four_rounds([abef, cdgh]: State, wk: __m128i) -> State {
    let cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);
    let abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32::<0x0e>(wk));
    [abef, cdgh]
}

/// The words of group `g` of four rounds.
#[inline]
#[target_feature(enable = "sse2")]
fn constants(rounds: &Rounds, g: usize) -> __m128i {
    let four = &rounds.0[g / 4].as_chunks::<4>().0[g % 4];
    // SAFETY: four words are 16 bytes, loaded unaligned.
    unsafe { _mm_loadu_si128(four.as_ptr().cast()) }
}

/// 64 rounds of `N` messages, without the addition at the end.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress<const N: usize>(state: &mut [State; N], w: &mut [[__m128i; 4]; N]) {
    macro_rules! groups {
        ($($g:literal)*) => {
            $(
                let k = constants(&K, $g);
                for i in 0..N {
                    let w = &mut w[i];
                    state[i] = four_rounds(state[i], _mm_add_epi32(w[$g % 4], k));
                    if $g < 12 {
                        // The words that take these ones' place 16 rounds on.
                        let [old, next, mid, new] =
                            [w[$g % 4], w[($g + 1) % 4], w[($g + 2) % 4], w[($g + 3) % 4]];
                        let sum = _mm_add_epi32(
                            _mm_sha256msg1_epu32(old, next),
                            _mm_alignr_epi8::<4>(new, mid),
                        );
                        w[$g % 4] = _mm_sha256msg2_epu32(sum, new);
                    }
                }
            )*
        };
    }
    all_groups!(groups);
}

/// 64 rounds over the second block of `N` nodes, without the addition at the end.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress_tail<const N: usize>(state: &mut [State; N], tails: [&Rounds; N]) {
    macro_rules! groups {
        ($($g:literal)*) => {
            $(
                for i in 0..N {
                    state[i] = four_rounds(state[i], constants(tails[i], $g));
                }
            )*
        };
    }
    all_groups!(groups);
}
