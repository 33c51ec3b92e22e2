//! AVX2, 8 messages side by side: for CPUs that have neither SHA-NI nor AVX-512.
//!
//! ```text
//!  rows      8 messages x 64 bytes, where they lie
//!            load 16 bytes of 2 rows into one vector, turn the bytes of each word around,
//!            transpose words 4 x 4 in both halves
//!  w[j]      word j of 8 messages
//! ```
//!
//! The rest is in [`lanes`](super::lanes). A rotation takes three operations, and with 16 registers
//! there is room for one stream only.

use super::{Row, lanes::BIG_ENDIAN, sha256::END_OF_MESSAGE};
use crate::detect::Avx2;
use hedgerow_types::Digest;
use std::arch::{asm, x86_64::*};

/// 8 messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2Kernel(pub(crate) Avx2);

many_lanes_kernel!(Avx2Kernel, "avx2", 8, one);

lanes!("avx2");
streams!(one, "avx2", 1, 8, false, true, [0]);

pub(super) type Vector = __m256i;
/// Messages of a stream.
pub(super) const LANES: usize = 8;

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add(a: Vector, b: Vector) -> Vector {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(x: Vector, y: Vector) -> Vector {
    _mm256_xor_si256(x, y)
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor3(x: Vector, y: Vector, z: Vector) -> Vector {
    xor(xor(x, y), z)
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(x: Vector, y: Vector, z: Vector) -> Vector {
    xor(_mm256_and_si256(xor(y, z), x), z)
}

#[inline]
#[target_feature(enable = "avx2")]
fn majority(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm256_or_si256(_mm256_and_si256(x, y), _mm256_and_si256(_mm256_or_si256(x, y), z))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate<const RIGHT: i32, const LEFT: i32>(x: Vector) -> Vector {
    xor(_mm256_srli_epi32::<RIGHT>(x), _mm256_slli_epi32::<LEFT>(x))
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn shift<const RIGHT: i32>(x: Vector) -> Vector {
    _mm256_srli_epi32::<RIGHT>(x)
}

/// The same word in all lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn all(word: u32) -> Vector {
    _mm256_set1_epi32(word.cast_signed())
}

/// A word per lane.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(words: &[u32; LANES]) -> Vector {
    // SAFETY: 8 words, loaded unaligned.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn top_byte_of(x: Vector, y: Vector) -> Vector {
    _mm256_blendv_epi8(y, x, all(0xff00_0000))
}

/// `x`, which the compiler can no longer see through.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn pin(mut x: Vector) -> Vector {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(ymm_reg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
}

/// The state after `block`: `before` where the message had ended, else the sum with `after`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add_live(
    before: &[Vector; 8],
    after: &[Vector; 8],
    block: u32,
    blocks: Vector,
) -> [Vector; 8] {
    // Block counts are far below 2^31.
    let live = _mm256_cmpgt_epi32(blocks, all(block));
    let mut sum = *before;
    for (sum, after) in sum.iter_mut().zip(after) {
        *sum = add(*sum, _mm256_and_si256(*after, live));
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

/// The words of a quarter of 8 rows, with their bytes in `order`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transposed(rows: &[&Row; LANES], quarter: usize, order: &[u8; 16]) -> [Vector; 4] {
    let order = in_both_halves(*order);
    let mut z = [all(0); 4];
    for (i, z) in z.iter_mut().enumerate() {
        let part = |half: usize| {
            let (parts, _) = rows[4 * half + i].as_chunks::<16>();
            // SAFETY: 16 bytes, loaded unaligned.
            unsafe { _mm_loadu_si128(parts[quarter].as_ptr().cast()) }
        };
        let x = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(part(0)), part(1));
        *z = _mm256_shuffle_epi8(x, order);
    }
    transposed_halves(z)
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

/// Replaces what follows the end of a message in block `block` by the padding.
#[inline(never)]
#[target_feature(enable = "avx2")]
pub(super) fn pad(w: &mut [Vector; 16], block: u32, bytes: Vector, blocks: Vector) {
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
pub(super) fn store<'a>(state: &[Vector; 8], outs: impl Iterator<Item = &'a mut Digest>) {
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
