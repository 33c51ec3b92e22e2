//! AVX-512 in 256-bit registers, 8 messages side by side: for batches that would leave half of the
//! lanes of [`avx512`](super::avx512) without work.
//!
//! On CPUs that run three 256-bit operations per cycle but two of 512 bits (Intel), 8 messages take
//! two thirds of the time of 16; on those that run four of either (Zen 5), as long as 16.
//!
//! AVX2's way to load, pad and store (see [`avx2`](super::avx2)), AVX-512's logic and rotation.

use super::{
    Row,
    avx2::{
        LANES, Vector, add, add_live, all, load, pad, pin, shift, store, top_byte_of, transposed,
    },
};
use crate::detect::Avx512Vl;
use std::arch::x86_64::*;

/// 8 messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512VlKernel(pub(crate) Avx512Vl);

many_lanes_kernel!(Avx512VlKernel, "avx512x8", 8, one);

lanes!("avx2,avx512f,avx512vl");
streams!(one, "avx2,avx512f,avx512vl", 1, 8, true, false, [0]);

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn xor3(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm256_ternarylogic_epi32::<0x96>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn choose(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm256_ternarylogic_epi32::<0xca>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn majority(x: Vector, y: Vector, z: Vector) -> Vector {
    _mm256_ternarylogic_epi32::<0xe8>(x, y, z)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn rotate<const RIGHT: i32, const LEFT: i32>(x: Vector) -> Vector {
    _mm256_ror_epi32::<RIGHT>(x)
}
