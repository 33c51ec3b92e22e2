//! The SHA2 extension of aarch64, 1, 2 or 4 messages interleaved.
//!
//! ```text
//!  state     abcd, efgh
//!  4 rounds  wk = w[g] + K[g]         abcd' = sha256h(abcd, efgh, wk)
//!                                     efgh' = sha256h2(efgh, abcd, wk)
//!  block 2   of a node: wk from a table by the last byte of the preimage, no schedule
//! ```
//!
//! `sha256h` and `sha256h2` take 4 cycles and start every cycle or two, so messages are interleaved
//! for the same reason as with SHA-NI.

use super::{
    Kernel, MessageJob, NodeJob, Row,
    sha256::{INITIAL_STATE, K, NODE_TAIL, Rounds, Tail},
};
use crate::detect::Sha2Extension;
use hedgerow_types::Digest;
use std::{arch::aarch64::*, array};

/// `N` messages interleaved; what is left over, two or one at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Armv8Kernel<const N: usize>(pub(crate) Sha2Extension);

impl<const N: usize> Kernel for Armv8Kernel<N> {
    fn name(&self) -> &'static str {
        match N {
            1 => "armv8x1",
            2 => "armv8x2",
            _ => "armv8x4",
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

/// `abcd` and `efgh`.
type State = [uint32x4_t; 2];

#[target_feature(enable = "neon,sha2")]
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
#[target_feature(enable = "neon,sha2")]
fn node_lot<const N: usize>(level: u8, lot: &mut [NodeJob<'_>; N]) {
    let initial = initial_state();
    let mut state = [initial; N];
    let mut w = [[vdupq_n_u32(0); 4]; N];
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
#[target_feature(enable = "neon")]
fn node_words(level: u8, children: &[Digest; 2]) -> [uint32x4_t; 4] {
    let from = children.as_ptr().cast::<u8>();
    // SAFETY: two digests are 64 contiguous bytes, four loads of 16.
    let c = unsafe {
        [vld1q_u8(from), vld1q_u8(from.add(16)), vld1q_u8(from.add(32)), vld1q_u8(from.add(48))]
    };
    let level = vdupq_n_u8(level);
    [
        big_endian(vextq_u8::<15>(level, c[0])),
        big_endian(vextq_u8::<15>(c[0], c[1])),
        big_endian(vextq_u8::<15>(c[1], c[2])),
        big_endian(vextq_u8::<15>(c[2], c[3])),
    ]
}

#[target_feature(enable = "neon,sha2")]
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
#[target_feature(enable = "neon,sha2")]
fn message_lot<const N: usize>(lot: &mut [MessageJob<'_>; N]) {
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
        let mut w = [[vdupq_n_u32(0); 4]; N];
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
#[target_feature(enable = "neon")]
fn row_words(row: &Row) -> [uint32x4_t; 4] {
    let from = row.as_ptr();
    // SAFETY: a row is 64 bytes, four loads of 16.
    unsafe {
        [
            big_endian(vld1q_u8(from)),
            big_endian(vld1q_u8(from.add(16))),
            big_endian(vld1q_u8(from.add(32))),
            big_endian(vld1q_u8(from.add(48))),
        ]
    }
}

/// The words of 16 bytes.
#[inline]
#[target_feature(enable = "neon")]
fn big_endian(x: uint8x16_t) -> uint32x4_t {
    vreinterpretq_u32_u8(vrev32q_u8(x))
}

/// Four words.
#[inline]
#[target_feature(enable = "neon")]
fn load(words: &[u32; 4]) -> uint32x4_t {
    // SAFETY: four words, one load of 16 bytes.
    unsafe { vld1q_u32(words.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn initial_state() -> State {
    let [a, b, c, d, e, f, g, h] = INITIAL_STATE;
    [load(&[a, b, c, d]), load(&[e, f, g, h])]
}

#[inline]
#[target_feature(enable = "neon")]
fn add(a: State, b: State) -> State {
    [vaddq_u32(a[0], b[0]), vaddq_u32(a[1], b[1])]
}

#[inline]
#[target_feature(enable = "neon")]
fn store([abcd, efgh]: State, out: &mut Digest) {
    let to = out.0.as_mut_ptr();
    // SAFETY: a digest is 32 bytes, two stores of 16.
    unsafe {
        vst1q_u8(to, vrev32q_u8(vreinterpretq_u8_u32(abcd)));
        vst1q_u8(to.add(16), vrev32q_u8(vreinterpretq_u8_u32(efgh)));
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
#[target_feature(enable = "neon,sha2")]
fn four_rounds([abcd, efgh]: State, wk: uint32x4_t) -> State {
    [vsha256hq_u32(abcd, efgh, wk), vsha256h2q_u32(efgh, abcd, wk)]
}

/// The words of group `g` of four rounds.
#[inline]
#[target_feature(enable = "neon")]
fn constants(rounds: &Rounds, g: usize) -> uint32x4_t {
    load(&rounds.0[g / 4].as_chunks::<4>().0[g % 4])
}

/// 64 rounds of `N` messages, without the addition at the end.
#[inline]
#[target_feature(enable = "neon,sha2")]
fn compress<const N: usize>(state: &mut [State; N], w: &mut [[uint32x4_t; 4]; N]) {
    macro_rules! groups {
        ($($g:literal)*) => {
            $(
                let k = constants(&K, $g);
                for i in 0..N {
                    let w = &mut w[i];
                    state[i] = four_rounds(state[i], vaddq_u32(w[$g % 4], k));
                    if $g < 12 {
                        // The words that take these ones' place 16 rounds on.
                        let [old, next, mid, new] =
                            [w[$g % 4], w[($g + 1) % 4], w[($g + 2) % 4], w[($g + 3) % 4]];
                        w[$g % 4] = vsha256su1q_u32(vsha256su0q_u32(old, next), mid, new);
                    }
                }
            )*
        };
    }
    all_groups!(groups);
}

/// 64 rounds over the second block of `N` nodes, without the addition at the end.
#[inline]
#[target_feature(enable = "neon,sha2")]
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
