//! AVX-512, 16 messages side by side, or two times 16.
//!
//! ```text
//!  rows      16 messages x 64 bytes, where they lie
//!            load 16 bytes of 4 rows into one vector, turn the bytes of each word around,
//!            transpose words 4 x 4 in every quarter
//!  w[j]      word j of 16 messages                  16 vectors per stream, in memory
//!  v[0..8]   a b c d e f g h of 16 messages         8 vectors per stream, in registers
//! ```
//!
//! The children of a node lie one byte before the words of its preimage, `level ‖ left ‖ right`.
//! The load therefore turns words around *and* by one byte, so that word `j` of the preimage is one
//! blend of two neighbours. A node's second block holds one byte that varies: its first rounds and
//! its first 16 schedule words are written out by hand (1494 instead of 1624 vector operations).
//!
//! IMPLEMENTATION NOTES
//! * Two streams have 32 words beside 16 state registers. Left alone, the compiler keeps words in
//!   registers and spills them again, 100 times per 16 rounds. An empty `asm!` after every round of
//!   a stream, which might change memory, makes it leave them there.
//! * One stream alone waits for its own results where an operation takes 2 cycles (Zen 5): it gets
//!   the short way from `e` to the next `e` (one more addition per round, one fewer in the way).
//!   The compiler would undo that by reassociating; an empty `asm!` in the middle of the sum forbids
//!   it. Two streams have always something to do and take the way with the fewest additions.
//! * The rounds are a loop over 16 of them, shared by both blocks: unrolled, they outgrow the
//!   instruction cache.
//! * What comes next is fetched a few rows per 16 rounds, not in a burst.

use super::{
    Kernel, MessageJob, NodeJob, Row,
    rounds::{BIG_ENDIAN, BIG_ENDIAN_ROTATED, NODE_TAIL_K, NODE_TAIL_SCHEDULE},
    rows::{Copies, Fetch, Lengths, node_rows},
    sha256::{END_OF_MESSAGE, INITIAL_STATE, K, node_tail_word},
};
use crate::detect::Avx512;
use hedgerow_types::Digest;
use std::arch::{asm, x86_64::*};

/// `S` streams of 16 messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Kernel<const S: usize>(pub(crate) Avx512);

macro_rules! kernel {
    ($streams:literal, $lanes:literal, $name:literal, $nodes:ident, $messages:ident) => {
        impl Kernel for Avx512Kernel<$streams> {
            fn name(&self) -> &'static str {
                $name
            }

            fn lanes(&self) -> usize {
                $lanes
            }

            fn pads(&self) -> bool {
                true
            }

            fn nodes(&self, level: u8, jobs: &mut [NodeJob<'_>], ahead: &[NodeJob<'_>]) {
                // SAFETY: the token proves that this CPU has the instructions.
                unsafe { $nodes(level, jobs, ahead) }
            }

            fn messages(&self, jobs: &mut [MessageJob<'_>]) {
                // SAFETY: the token proves that this CPU has the instructions.
                unsafe { $messages(jobs) }
            }
        }
    };
}

kernel!(1, 16, "avx512x16", nodes_1, messages_1);
kernel!(2, 32, "avx512x32", nodes_2, messages_2);

/// `a` to `h` of one stream.
type State = [__m512i; 8];
/// 16 words of one stream.
type Words = [__m512i; 16];

macro_rules! rotate {
    ($x:expr, $bits:literal) => {
        _mm512_ror_epi32::<$bits>($x)
    };
}

/// `x ^ y ^ z`
const XOR3: i32 = 0x96;
/// `x ? y : z`, bit by bit: `Ch`.
const CHOOSE: i32 = 0xca;
/// The majority of three bits: `Maj`.
const MAJORITY: i32 = 0xe8;
/// `(x & y) | z`
const AND_OR: i32 = 0xea;

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(a, b)
}

/// `Σ0` (FIPS 180-4, 4.1.2).
#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma0(x: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<XOR3>(rotate!(x, 2), rotate!(x, 13), rotate!(x, 22))
}

/// `Σ1`.
#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma1(x: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<XOR3>(rotate!(x, 6), rotate!(x, 11), rotate!(x, 25))
}

/// `σ0`.
#[inline]
#[target_feature(enable = "avx512f")]
fn sigma0(x: __m512i) -> __m512i {
    let shifted = _mm512_srli_epi32::<3>(x);
    _mm512_ternarylogic_epi32::<XOR3>(rotate!(x, 7), rotate!(x, 18), shifted)
}

/// `σ1`.
#[inline]
#[target_feature(enable = "avx512f")]
fn sigma1(x: __m512i) -> __m512i {
    let shifted = _mm512_srli_epi32::<10>(x);
    _mm512_ternarylogic_epi32::<XOR3>(rotate!(x, 17), rotate!(x, 19), shifted)
}

/// The same word in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn all(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

/// `x`, which the compiler can no longer see through.
#[inline]
#[target_feature(enable = "avx512f")]
fn pin(mut x: __m512i) -> __m512i {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(zmm_reg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
}

/// Tells the compiler that memory may have changed, so that it leaves words there.
#[inline(always)]
fn fence() {
    // SAFETY: no instruction at all.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

/// One round. `$short`: the short way from `e` to the next `e`.
macro_rules! round {
    ($v:expr, $kw:expr, $short:literal, [$a:literal $b:literal $c:literal $d:literal
     $e:literal $f:literal $g:literal $h:literal]) => {{
        let choice = _mm512_ternarylogic_epi32::<CHOOSE>($v[$e], $v[$f], $v[$g]);
        let majority = _mm512_ternarylogic_epi32::<MAJORITY>($v[$a], $v[$b], $v[$c]);
        let early = add(add($v[$h], $kw), choice);
        let top = add(big_sigma0($v[$a]), majority);
        let sigma = big_sigma1($v[$e]);
        if $short {
            $v[$d] = add(pin(add($v[$d], early)), sigma);
            $v[$h] = add(pin(add(early, top)), sigma);
        } else {
            let t1 = add(early, sigma);
            $v[$d] = add($v[$d], t1);
            $v[$h] = add(t1, top);
        }
    }};
}

/// A round of every stream with words that are there, and the words 16 rounds on.
macro_rules! scheduling_round {
    (($v:ident $w:ident $k:ident $short:literal [$($s:literal)*]) $t:literal $registers:tt) => {
        $(
            let word = $w[$s][$t];
            round!($v[$s], add(word, all($k[$t])), $short, $registers);
            let far = add(word, $w[$s][($t + 9) % 16]);
            let near = add(sigma0($w[$s][($t + 1) % 16]), sigma1($w[$s][($t + 14) % 16]));
            $w[$s][$t] = add(far, near);
            fence();
        )*
    };
}

/// A round of every stream with words that are there.
macro_rules! last_round {
    (($v:ident $w:ident $k:ident $short:literal [$($s:literal)*]) $t:literal $registers:tt) => {
        $(
            round!($v[$s], add($w[$s][$t], all($k[$t])), $short, $registers);
            fence();
        )*
    };
}

/// A round of every stream in the second block of a node, where only the first word varies.
macro_rules! node_tail_round {
    (($v:ident $w:ident $k:ident $short:literal [$($s:literal)*]) $t:literal $registers:tt) => {
        $(
            let kw = all($k[$t]);
            round!($v[$s], if $t == 0 { add(kw, $w[$s][0]) } else { kw }, $short, $registers);
            fence();
        )*
    };
}

/// The words 16 to 31 of a node's second block, which is `w0, 0, .., 0, NODE_BITS`.
#[inline]
#[target_feature(enable = "avx512f")]
fn node_tail_schedule(w: &mut Words) {
    use NODE_TAIL_SCHEDULE as W;
    let w0 = w[0];
    w[1] = all(W[1]);
    w[2] = sigma1(w0);
    w[3] = all(W[3]);
    w[4] = sigma1(w[2]);
    w[5] = all(W[5]);
    w[6] = add(sigma1(w[4]), all(W[6]));
    w[7] = add(all(W[7]), w0);
    w[8] = add(sigma1(w[6]), all(W[1]));
    w[9] = add(sigma1(w[7]), w[2]);
    w[10] = add(sigma1(w[8]), all(W[3]));
    w[11] = add(sigma1(w[9]), w[4]);
    w[12] = add(sigma1(w[10]), all(W[5]));
    w[13] = add(sigma1(w[11]), w[6]);
    w[14] = add(add(sigma1(w[12]), w[7]), all(W[14]));
    w[15] = add(add(sigma1(w[13]), w[8]), add(sigma0(w0), all(W[15])));
}

macro_rules! streams {
    ($n:literal, $lanes:literal, $short:literal, $list:tt, $rounds:ident, $tail_rounds:ident,
     $nodes:ident, $messages:ident) => {
        /// The rounds of `$n` streams with the constants `k`, the last 16 without a schedule after
        /// them, and without the addition at the end.
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw")]
        fn $rounds(
            state: &mut [State; $n],
            w: &mut [Words; $n],
            k: &[[u32; 16]],
            ahead: &mut Fetch<'_>,
        ) {
            let mut v = *state;
            let Some((last, scheduling)) = k.split_last() else { return };
            for k in scheduling {
                ahead.some($lanes / 4);
                sixteen!(scheduling_round (v w k $short $list));
            }
            sixteen!(last_round (v w last $short $list));
            *state = v;
        }

        /// The first 16 rounds of the second block of `$n` streams of nodes.
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512bw")]
        fn $tail_rounds(state: &mut [State; $n], w: &mut [Words; $n]) {
            let mut v = *state;
            let k = &NODE_TAIL_K;
            sixteen!(node_tail_round (v w k $short $list));
            *state = v;
            for w in w {
                node_tail_schedule(w);
            }
        }

        #[target_feature(enable = "avx512f,avx512bw")]
        fn $nodes(level: u8, jobs: &mut [NodeJob<'_>], ahead: &[NodeJob<'_>]) {
            let initial = initial_state();
            let mut jobs = jobs;
            while !jobs.is_empty() {
                let (lot, later) = jobs.split_at_mut(jobs.len().min($lanes));
                let next = if later.is_empty() { ahead } else { &*later };
                let mut next = Fetch(&next[..next.len().min($lanes)]);

                let rows: [&Row; $lanes] = node_rows(lot);
                let mut w = [[_mm512_setzero_si512(); 16]; $n];
                let mut last = [_mm512_setzero_si512(); $n];
                for ((w, last), rows) in w.iter_mut().zip(&mut last).zip(rows.as_chunks().0) {
                    *last = node_words(level, rows, w);
                }
                let mut state = [initial; $n];
                $rounds(&mut state, &mut w, &K.0, &mut next);
                for s in &mut state {
                    *s = add_states(s, &initial);
                }
                let middle = state;
                for (w, last) in w.iter_mut().zip(last) {
                    w[0] = last;
                }
                $tail_rounds(&mut state, &mut w);
                $rounds(&mut state, &mut w, &K.0[1..], &mut next);
                let outs = lot.chunks_mut(16);
                for ((state, middle), lot) in state.iter().zip(&middle).zip(outs) {
                    let digests = digests(&add_states(state, middle));
                    store(&digests, lot.iter_mut().map(|job| &mut *job.out));
                }
                jobs = later;
            }
        }

        #[target_feature(enable = "avx512f,avx512bw")]
        fn $messages(jobs: &mut [MessageJob<'_>]) {
            for lot in jobs.chunks_mut($lanes) {
                let lengths = Lengths::<$lanes>::of(lot);
                let most = lengths.most();
                let mut copies = Copies::<$lanes>::EMPTY;
                let mut state = [initial_state(); $n];
                let mut w = [[_mm512_setzero_si512(); 16]; $n];
                for block in 0..most {
                    let rows: [&Row; $lanes] = copies.rows(lot, block);
                    for (s, (w, rows)) in w.iter_mut().zip(rows.as_chunks().0).enumerate() {
                        transposed(rows, &BIG_ENDIAN, w);
                        if block >= lengths.whole() {
                            let (bytes, blocks) = stream_lengths(&lengths, s);
                            pad(w, block, bytes, blocks);
                        }
                    }
                    let before = state;
                    $rounds(&mut state, &mut w, &K.0, &mut Fetch(&[]));
                    for s in 0..$n {
                        let (_, blocks) = stream_lengths(&lengths, s);
                        state[s] = add_live(&before[s], &state[s], block, blocks);
                    }
                }
                for (state, lot) in state.iter().zip(lot.chunks_mut(16)) {
                    store(&digests(state), lot.iter_mut().map(|job| &mut *job.out));
                }
            }
        }
    };
}

streams!(1, 16, true, [0], rounds_1, tail_rounds_1, nodes_1, messages_1);
streams!(2, 32, false, [0 1], rounds_2, tail_rounds_2, nodes_2, messages_2);

#[inline]
#[target_feature(enable = "avx512f")]
fn initial_state() -> State {
    let mut state = [_mm512_setzero_si512(); 8];
    for (vector, word) in state.iter_mut().zip(INITIAL_STATE) {
        *vector = all(word);
    }
    state
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add_states(a: &State, b: &State) -> State {
    let mut sum = *a;
    for (sum, b) in sum.iter_mut().zip(b) {
        *sum = add(*sum, *b);
    }
    sum
}

/// The state after `block`: `before` where the message had ended, else the sum with `after`.
#[inline]
#[target_feature(enable = "avx512f")]
fn add_live(before: &State, after: &State, block: u32, blocks: __m512i) -> State {
    let live = _mm512_cmpgt_epu32_mask(blocks, all(block));
    let mut sum = *before;
    for (sum, after) in sum.iter_mut().zip(after) {
        *sum = _mm512_mask_add_epi32(*sum, live, *sum, *after);
    }
    sum
}

/// Word `j` of 16 rows in vector `j`, with the bytes of every quarter of a row in `order`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transposed(rows: &[&Row; 16], order: &[u8; 16], words: &mut Words) {
    let order = u128::from_le_bytes(*order).cast_signed();
    let order = [order as i64, (order >> 64) as i64];
    let order = _mm512_broadcast_i32x4(_mm_set_epi64x(order[1], order[0]));
    for (quarter, words) in words.as_chunks_mut().0.iter_mut().enumerate() {
        let mut z = [_mm512_setzero_si512(); 4];
        for (i, z) in z.iter_mut().enumerate() {
            let part = |lane: usize| {
                let (parts, _) = rows[4 * lane + i].as_chunks::<16>();
                // SAFETY: 16 bytes, loaded unaligned.
                unsafe { _mm_loadu_si128(parts[quarter].as_ptr().cast()) }
            };
            let x = _mm512_castsi128_si512(part(0));
            let x = _mm512_inserti32x4::<1>(x, part(1));
            let x = _mm512_inserti32x4::<2>(x, part(2));
            let x = _mm512_inserti32x4::<3>(x, part(3));
            *z = _mm512_shuffle_epi8(x, order);
        }
        *words = transposed_quarters(z);
    }
}

/// Transposes the 4 x 4 words in every quarter of four vectors.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed_quarters(z: [__m512i; 4]) -> [__m512i; 4] {
    let ab_low = _mm512_unpacklo_epi32(z[0], z[1]);
    let ab_high = _mm512_unpackhi_epi32(z[0], z[1]);
    let cd_low = _mm512_unpacklo_epi32(z[2], z[3]);
    let cd_high = _mm512_unpackhi_epi32(z[2], z[3]);
    [
        _mm512_unpacklo_epi64(ab_low, cd_low),
        _mm512_unpackhi_epi64(ab_low, cd_low),
        _mm512_unpacklo_epi64(ab_high, cd_high),
        _mm512_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// The words of the first block of 16 nodes. Returns the first word of their second.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn node_words(level: u8, rows: &[&Row; 16], w: &mut Words) -> __m512i {
    let mut turned = [_mm512_setzero_si512(); 16];
    transposed(rows, &BIG_ENDIAN_ROTATED, &mut turned);
    let top_byte = all(0xff00_0000);
    // The top byte comes from the word before.
    let word = |before, this| _mm512_ternarylogic_epi32::<CHOOSE>(top_byte, before, this);
    w[0] = word(all(u32::from(level) << 24), turned[0]);
    for j in 1..16 {
        w[j] = word(turned[j - 1], turned[j]);
    }
    const { assert!(END_OF_MESSAGE == 0x80) };
    word(turned[15], all(node_tail_word(0)))
}

/// Lengths in bytes and in blocks of the messages of stream `s`.
#[inline]
#[target_feature(enable = "avx512f")]
fn stream_lengths<const L: usize>(lengths: &Lengths<L>, s: usize) -> (__m512i, __m512i) {
    let (bytes, _) = lengths.bytes.as_chunks::<16>();
    let (blocks, _) = lengths.blocks.as_chunks::<16>();
    // SAFETY: 16 words each, loaded unaligned.
    unsafe {
        (
            _mm512_loadu_si512(bytes[s].as_ptr().cast()),
            _mm512_loadu_si512(blocks[s].as_ptr().cast()),
        )
    }
}

/// Replaces what follows the end of a message in block `block` by the padding.
#[inline(never)]
#[target_feature(enable = "avx512f")]
fn pad(w: &mut Words, block: u32, bytes: __m512i, blocks: __m512i) {
    // The word in which the message ends: 0..16 if it ends here, 16 if later, -1 if before.
    let this = all(block);
    let end_block = _mm512_srli_epi32::<6>(bytes);
    let mut end = _mm512_and_si512(_mm512_srli_epi32::<2>(bytes), all(15));
    end = _mm512_mask_mov_epi32(end, _mm512_cmpgt_epu32_mask(end_block, this), all(16));
    end = _mm512_mask_mov_epi32(end, _mm512_cmplt_epu32_mask(end_block, this), all(u32::MAX));
    // Of that word, the bytes of the message stay and the end byte follows.
    let shift = _mm512_slli_epi32::<3>(_mm512_and_si512(bytes, all(3)));
    let keep = _mm512_xor_si512(_mm512_srlv_epi32(all(u32::MAX), shift), all(u32::MAX));
    let stop = _mm512_srlv_epi32(all(u32::from(END_OF_MESSAGE) << 24), shift);
    for (j, word) in (0..16).zip(w.iter_mut()) {
        let here = all(j);
        let ended = _mm512_mask_ternarylogic_epi32::<AND_OR>(
            *word,
            _mm512_cmpeq_epi32_mask(end, here),
            keep,
            stop,
        );
        *word = _mm512_maskz_mov_epi32(_mm512_cmpge_epi32_mask(end, here), ended);
    }
    let last = _mm512_cmpeq_epi32_mask(blocks, all(block + 1));
    w[14] = _mm512_mask_srli_epi32::<29>(w[14], last, bytes);
    w[15] = _mm512_mask_slli_epi32::<3>(w[15], last, bytes);
}

/// The digests of 16 messages: quarter `q` of vector `i` is half a digest of message `4q + i`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn digests(state: &State) -> [[__m512i; 4]; 2] {
    let order = u128::from_le_bytes(BIG_ENDIAN).cast_signed();
    let order = _mm512_broadcast_i32x4(_mm_set_epi64x((order >> 64) as i64, order as i64));
    let [a, b, c, d, e, f, g, h] = *state;
    let mut halves = [transposed_quarters([a, b, c, d]), transposed_quarters([e, f, g, h])];
    for vector in halves.as_flattened_mut() {
        *vector = _mm512_shuffle_epi8(*vector, order);
    }
    halves
}

/// Writes the digests of at most 16 messages.
#[inline]
#[target_feature(enable = "avx512f")]
fn store<'a>(halves: &[[__m512i; 4]; 2], outs: impl Iterator<Item = &'a mut Digest>) {
    for (lane, out) in outs.enumerate().take(16) {
        let [low, high] = [halves[0][lane % 4], halves[1][lane % 4]];
        let [low, high] = match lane / 4 {
            0 => [_mm512_castsi512_si128(low), _mm512_castsi512_si128(high)],
            1 => [_mm512_extracti32x4_epi32::<1>(low), _mm512_extracti32x4_epi32::<1>(high)],
            2 => [_mm512_extracti32x4_epi32::<2>(low), _mm512_extracti32x4_epi32::<2>(high)],
            _ => [_mm512_extracti32x4_epi32::<3>(low), _mm512_extracti32x4_epi32::<3>(high)],
        };
        let to = out.0.as_mut_ptr().cast::<__m128i>();
        // SAFETY: a digest is 32 bytes, two unaligned stores of 16.
        unsafe {
            _mm_storeu_si128(to, low);
            _mm_storeu_si128(to.add(1), high);
        }
    }
}
