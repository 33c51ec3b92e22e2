//! AVX2, 8 messages side by side: for CPUs that have neither SHA-NI nor AVX-512.
//!
//! ```text
//!  rows      8 messages x 64 bytes, where they lie
//!            load 16 bytes of 2 rows into one vector, turn the bytes of each word around,
//!            transpose words 4 x 4 in both halves
//!  w[j]      word j of 8 messages                   16 vectors in memory
//!  v[0..8]   a b c d e f g h of 8 messages          8 of the 16 registers
//! ```
//!
//! The same steps as with AVX-512, where they are explained, with two differences: a rotation takes
//! three operations, and with 16 registers there is room for one stream only.

use super::{
    Kernel, MessageJob, NodeJob, Row,
    rounds::{BIG_ENDIAN, BIG_ENDIAN_ROTATED, NODE_TAIL_K, NODE_TAIL_SCHEDULE},
    rows::{Copies, Fetch, Lengths, node_rows},
    sha256::{END_OF_MESSAGE, INITIAL_STATE, K, node_tail_word},
};
use crate::detect::Avx2;
use hedgerow_types::Digest;
use std::arch::{asm, x86_64::*};

const LANES: usize = 8;

/// 8 messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Kernel(pub(crate) Avx2);

impl Kernel for Avx2Kernel {
    fn name(&self) -> &'static str {
        "avx2"
    }

    fn lanes(&self) -> usize {
        LANES
    }

    fn pads(&self) -> bool {
        true
    }

    fn nodes(&self, level: u8, jobs: &mut [NodeJob<'_>], ahead: &[NodeJob<'_>]) {
        // SAFETY: the token proves that this CPU has the instructions.
        unsafe { nodes(level, jobs, ahead) }
    }

    fn messages(&self, jobs: &mut [MessageJob<'_>]) {
        // SAFETY: the token proves that this CPU has the instructions.
        unsafe { messages(jobs) }
    }
}

/// `a` to `h`.
type State = [__m256i; 8];
/// 16 words.
type Words = [__m256i; 16];

#[inline]
#[target_feature(enable = "avx2")]
fn add(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(a: __m256i, b: __m256i) -> __m256i {
    _mm256_xor_si256(a, b)
}

macro_rules! rotate {
    ($x:expr, $bits:literal) => {
        xor(_mm256_srli_epi32::<$bits>($x), _mm256_slli_epi32::<{ 32 - $bits }>($x))
    };
}

/// `Σ0` (FIPS 180-4, 4.1.2).
#[inline]
#[target_feature(enable = "avx2")]
fn big_sigma0(x: __m256i) -> __m256i {
    xor(xor(rotate!(x, 2), rotate!(x, 13)), rotate!(x, 22))
}

/// `Σ1`.
#[inline]
#[target_feature(enable = "avx2")]
fn big_sigma1(x: __m256i) -> __m256i {
    xor(xor(rotate!(x, 6), rotate!(x, 11)), rotate!(x, 25))
}

/// `σ0`.
#[inline]
#[target_feature(enable = "avx2")]
fn sigma0(x: __m256i) -> __m256i {
    xor(xor(rotate!(x, 7), rotate!(x, 18)), _mm256_srli_epi32::<3>(x))
}

/// `σ1`.
#[inline]
#[target_feature(enable = "avx2")]
fn sigma1(x: __m256i) -> __m256i {
    xor(xor(rotate!(x, 17), rotate!(x, 19)), _mm256_srli_epi32::<10>(x))
}

/// The same word in all lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn all(word: u32) -> __m256i {
    _mm256_set1_epi32(word.cast_signed())
}

/// Tells the compiler that memory may have changed, so that it leaves words there.
#[inline(always)]
fn fence() {
    // SAFETY: no instruction at all.
    unsafe { asm!("", options(nostack, preserves_flags)) };
}

/// One round.
macro_rules! round {
    ($v:expr, $kw:expr, [$a:literal $b:literal $c:literal $d:literal
     $e:literal $f:literal $g:literal $h:literal]) => {{
        let choice = xor(_mm256_and_si256(xor($v[$f], $v[$g]), $v[$e]), $v[$g]);
        let majority = _mm256_or_si256(
            _mm256_and_si256($v[$a], $v[$b]),
            _mm256_and_si256(_mm256_or_si256($v[$a], $v[$b]), $v[$c]),
        );
        let t1 = add(add(add($v[$h], $kw), choice), big_sigma1($v[$e]));
        $v[$d] = add($v[$d], t1);
        $v[$h] = add(t1, add(big_sigma0($v[$a]), majority));
    }};
}

/// A round with words that are there, and the words 16 rounds on.
macro_rules! scheduling_round {
    (($v:ident $w:ident $k:ident) $t:literal $registers:tt) => {
        let word = $w[$t];
        round!($v, add(word, all($k[$t])), $registers);
        let far = add(word, $w[($t + 9) % 16]);
        $w[$t] = add(far, add(sigma0($w[($t + 1) % 16]), sigma1($w[($t + 14) % 16])));
        fence();
    };
}

/// A round with words that are there.
macro_rules! last_round {
    (($v:ident $w:ident $k:ident) $t:literal $registers:tt) => {
        round!($v, add($w[$t], all($k[$t])), $registers);
    };
}

/// A round in the second block of a node, where only the first word varies.
macro_rules! node_tail_round {
    (($v:ident $w:ident $k:ident) $t:literal $registers:tt) => {
        let kw = all($k[$t]);
        round!($v, if $t == 0 { add(kw, $w[0]) } else { kw }, $registers);
    };
}

/// The words 16 to 31 of a node's second block, which is `w0, 0, .., 0, NODE_BITS`.
#[inline]
#[target_feature(enable = "avx2")]
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

/// The rounds with the constants `k`, the last 16 without a schedule after them, and without the
/// addition at the end.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn rounds(state: &mut State, w: &mut Words, k: &[[u32; 16]], ahead: &mut Fetch<'_>) {
    let mut v = *state;
    let Some((last, scheduling)) = k.split_last() else { return };
    for k in scheduling {
        ahead.some(LANES / 4);
        sixteen!(scheduling_round (v w k));
    }
    sixteen!(last_round (v w last));
    *state = v;
}

/// The first 16 rounds of the second block of nodes.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn tail_rounds(state: &mut State, w: &mut Words) {
    let mut v = *state;
    let k = &NODE_TAIL_K;
    sixteen!(node_tail_round (v w k));
    *state = v;
    node_tail_schedule(w);
}

#[target_feature(enable = "avx2")]
fn nodes(level: u8, jobs: &mut [NodeJob<'_>], ahead: &[NodeJob<'_>]) {
    let initial = initial_state();
    let mut jobs = jobs;
    while !jobs.is_empty() {
        let (lot, later) = jobs.split_at_mut(jobs.len().min(LANES));
        let next = if later.is_empty() { ahead } else { &*later };
        let mut next = Fetch(&next[..next.len().min(LANES)]);

        let (mut w, last) = node_words(level, &node_rows(lot));
        let mut state = initial;
        rounds(&mut state, &mut w, &K.0, &mut next);
        state = add_states(&state, &initial);
        let middle = state;
        w[0] = last;
        tail_rounds(&mut state, &mut w);
        rounds(&mut state, &mut w, &K.0[1..], &mut next);
        store(&add_states(&state, &middle), lot.iter_mut().map(|job| &mut *job.out));
        jobs = later;
    }
}

#[target_feature(enable = "avx2")]
fn messages(jobs: &mut [MessageJob<'_>]) {
    for lot in jobs.chunks_mut(LANES) {
        let lengths = Lengths::<LANES>::of(lot);
        let most = lengths.most();
        // SAFETY: 8 words each, loaded unaligned.
        let (bytes, blocks) = unsafe {
            (
                _mm256_loadu_si256(lengths.bytes.as_ptr().cast()),
                _mm256_loadu_si256(lengths.blocks.as_ptr().cast()),
            )
        };
        let mut copies = Copies::<LANES>::EMPTY;
        let mut state = initial_state();
        for block in 0..most {
            let mut w = transposed(&copies.rows(lot, block), &BIG_ENDIAN);
            if block >= lengths.whole() {
                pad(&mut w, block, bytes, blocks);
            }
            let before = state;
            rounds(&mut state, &mut w, &K.0, &mut Fetch(&[]));
            // A message that has ended keeps its state. Block counts are far below 2^31.
            let live = _mm256_cmpgt_epi32(blocks, all(block));
            for (after, before) in state.iter_mut().zip(before) {
                *after = add(before, _mm256_and_si256(*after, live));
            }
        }
        store(&state, lot.iter_mut().map(|job| &mut *job.out));
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn initial_state() -> State {
    let mut state = [_mm256_setzero_si256(); 8];
    for (vector, word) in state.iter_mut().zip(INITIAL_STATE) {
        *vector = all(word);
    }
    state
}

#[inline]
#[target_feature(enable = "avx2")]
fn add_states(a: &State, b: &State) -> State {
    let mut sum = *a;
    for (sum, b) in sum.iter_mut().zip(b) {
        *sum = add(*sum, *b);
    }
    sum
}

/// A shuffle of 16 bytes for both halves of a vector.
#[inline]
#[target_feature(enable = "avx2")]
fn in_both_halves(order: [u8; 16]) -> __m256i {
    let order = u128::from_le_bytes(order).cast_signed();
    _mm256_broadcastsi128_si256(_mm_set_epi64x((order >> 64) as i64, order as i64))
}

/// Word `j` of 8 rows in vector `j`, with the bytes of every quarter of a row in `order`.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(rows: &[&Row; LANES], order: &[u8; 16]) -> Words {
    let order = in_both_halves(*order);
    let mut words = [_mm256_setzero_si256(); 16];
    for quarter in 0..4 {
        let mut z = [_mm256_setzero_si256(); 4];
        for (i, z) in z.iter_mut().enumerate() {
            let part = |half: usize| {
                let (parts, _) = rows[4 * half + i].as_chunks::<16>();
                // SAFETY: 16 bytes, loaded unaligned.
                unsafe { _mm_loadu_si128(parts[quarter].as_ptr().cast()) }
            };
            let x = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(part(0)), part(1));
            *z = _mm256_shuffle_epi8(x, order);
        }
        words[4 * quarter..][..4].copy_from_slice(&transposed_halves(z));
    }
    words
}

/// Transposes the 4 x 4 words in both halves of four vectors.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed_halves(z: [__m256i; 4]) -> [__m256i; 4] {
    let ab_low = _mm256_unpacklo_epi32(z[0], z[1]);
    let ab_high = _mm256_unpackhi_epi32(z[0], z[1]);
    let cd_low = _mm256_unpacklo_epi32(z[2], z[3]);
    let cd_high = _mm256_unpackhi_epi32(z[2], z[3]);
    [
        _mm256_unpacklo_epi64(ab_low, cd_low),
        _mm256_unpackhi_epi64(ab_low, cd_low),
        _mm256_unpacklo_epi64(ab_high, cd_high),
        _mm256_unpackhi_epi64(ab_high, cd_high),
    ]
}

/// The words of the first block of 8 nodes, and the first word of their second.
#[inline]
#[target_feature(enable = "avx2")]
fn node_words(level: u8, rows: &[&Row; LANES]) -> (Words, __m256i) {
    let turned = transposed(rows, &BIG_ENDIAN_ROTATED);
    // The top byte comes from the word before, the rest is this word's: bytes 0 to 2 of 4.
    let top_byte = all(0xff00_0000);
    let word = |before, this| _mm256_blendv_epi8(this, before, top_byte);
    let mut w = turned;
    w[0] = word(all(u32::from(level) << 24), turned[0]);
    for j in 1..16 {
        w[j] = word(turned[j - 1], turned[j]);
    }
    (w, word(turned[15], all(node_tail_word(0))))
}

/// Replaces what follows the end of a message in block `block` by the padding.
#[inline(never)]
#[target_feature(enable = "avx2")]
fn pad(w: &mut Words, block: u32, bytes: __m256i, blocks: __m256i) {
    // The word in which the message ends: 0..16 if it ends here, above if later, -1 if before.
    let this = all(block);
    let end_block = _mm256_srli_epi32::<6>(bytes);
    let later = _mm256_cmpgt_epi32(end_block, this);
    let before = _mm256_cmpgt_epi32(this, end_block);
    let end = _mm256_and_si256(_mm256_srli_epi32::<2>(bytes), all(15));
    let end = _mm256_or_si256(end, _mm256_and_si256(later, all(16)));
    let end = _mm256_or_si256(end, before);
    // Of that word, the bytes of the message stay and the end byte follows.
    let shift = _mm256_slli_epi32::<3>(_mm256_and_si256(bytes, all(3)));
    let lose = _mm256_srlv_epi32(all(u32::MAX), shift);
    let stop = _mm256_srlv_epi32(all(u32::from(END_OF_MESSAGE) << 24), shift);
    for (j, word) in (0..16).zip(w.iter_mut()) {
        let here = _mm256_cmpeq_epi32(end, all(j));
        let gone = _mm256_cmpgt_epi32(all(j), end);
        let lost = _mm256_or_si256(_mm256_and_si256(here, lose), gone);
        *word = _mm256_or_si256(_mm256_andnot_si256(lost, *word), _mm256_and_si256(here, stop));
    }
    let last = _mm256_cmpeq_epi32(blocks, all(block + 1));
    w[14] = _mm256_blendv_epi8(w[14], _mm256_srli_epi32::<29>(bytes), last);
    w[15] = _mm256_blendv_epi8(w[15], _mm256_slli_epi32::<3>(bytes), last);
}

/// Writes the digests of at most 8 messages.
#[inline]
#[target_feature(enable = "avx2")]
fn store<'a>(state: &State, outs: impl Iterator<Item = &'a mut Digest>) {
    let order = in_both_halves(BIG_ENDIAN);
    let [a, b, c, d, e, f, g, h] = *state;
    let mut halves = [transposed_halves([a, b, c, d]), transposed_halves([e, f, g, h])];
    for vector in halves.as_flattened_mut() {
        *vector = _mm256_shuffle_epi8(*vector, order);
    }
    for (lane, out) in outs.enumerate().take(LANES) {
        let [low, high] = [halves[0][lane % 4], halves[1][lane % 4]];
        let digest = if lane < 4 {
            _mm256_permute2x128_si256::<0x20>(low, high)
        } else {
            _mm256_permute2x128_si256::<0x31>(low, high)
        };
        // SAFETY: a digest is 32 bytes, stored unaligned.
        unsafe { _mm256_storeu_si256(out.0.as_mut_ptr().cast(), digest) };
    }
}
