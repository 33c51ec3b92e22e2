//! AVX-512, 16 messages side by side, or two times 16.
//!
//! ```text
//!  rows      16 messages x 64 bytes, where they lie
//!            load 16 bytes of 4 rows into one vector, turn the bytes of each word around,
//!            transpose words 4 x 4 in every quarter
//!  w[j]      word j of 16 messages
//! ```
//!
//! The rest is in [`lanes`](super::lanes).

use super::{Row, lanes::BIG_ENDIAN, sha256::END_OF_MESSAGE};
use crate::detect::Avx512;
use hedgerow_types::Digest;
use std::arch::{asm, x86_64::*};

/// `S` streams of 16 messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512Kernel<const S: usize>(pub(crate) Avx512);

many_lanes_kernel!(Avx512Kernel<1>, "avx512x16", 16, one);
many_lanes_kernel!(Avx512Kernel<2>, "avx512x32", 32, two);

lanes!("avx512f,avx512bw");
streams!(one, "avx512f,avx512bw", 1, 16, true, false, [0]);
streams!(two, "avx512f,avx512bw", 2, 32, false, true, [0 1]);

type Vector = __m512i;
/// Messages of a stream.
const LANES: usize = 16;

/// `(x & y) | z`
const AND_OR: i32 = 0xea;

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: Vector, b: Vector) -> Vector {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0x96>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn choose(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xca>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm512_ternarylogic_epi32::<0xe8>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rotate<const RIGHT: i32, const LEFT: i32>(x: Vector) -> Vector {
    _mm512_ror_epi32::<RIGHT>(x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shift<const RIGHT: u32>(x: Vector) -> Vector {
    _mm512_srli_epi32::<RIGHT>(x)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn top_byte_of(x: Vector, y: Vector) -> Vector {
    choose(all(0xff00_0000), x, y)
}

/// The same word in all lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn all(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

/// A word per lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn load(words: &[u32; LANES]) -> Vector {
    // SAFETY: 16 words, loaded unaligned.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// `x`, which the compiler can no longer see through.
#[inline]
#[target_feature(enable = "avx512f")]
fn pin(mut x: __m512i) -> __m512i {
    // SAFETY: no instruction at all.
    unsafe { asm!("/* {0} */", inout(zmm_reg) x, options(pure, nomem, nostack, preserves_flags)) };
    x
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

/// The words of a quarter of 16 rows, with their bytes in `order`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transposed(rows: &[&Row; LANES], quarter: usize, order: &[u8; 16]) -> [Vector; 4] {
    let order = u128::from_le_bytes(*order).cast_signed();
    let order = _mm512_broadcast_i32x4(_mm_set_epi64x((order >> 64) as i64, order as i64));
    let mut z = [all(0); 4];
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
    transposed_quarters(z)
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

/// Writes the digests of at most 16 messages.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store<'a>(state: &State, outs: impl Iterator<Item = &'a mut Digest>) {
    let order = u128::from_le_bytes(BIG_ENDIAN).cast_signed();
    let order = _mm512_broadcast_i32x4(_mm_set_epi64x((order >> 64) as i64, order as i64));
    let [a, b, c, d, e, f, g, h] = *state;
    // Quarter `q` of vector `i` is half a digest of message `4q + i`.
    let mut halves = [transposed_quarters([a, b, c, d]), transposed_quarters([e, f, g, h])];
    for vector in halves.as_flattened_mut() {
        *vector = _mm512_shuffle_epi8(*vector, order);
    }
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
