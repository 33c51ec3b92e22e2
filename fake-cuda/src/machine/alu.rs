//! Arithmetic on the 32 lanes of a warp (PTX ISA 8.1, chapter 9.7).

use super::LANES;
use crate::ptx::{Alu, Compare};
use std::array::from_fn;

/// One 32-bit value per lane.
pub(super) type Lanes32 = [u32; LANES];
/// One 64-bit value per lane.
pub(super) type Lanes64 = [u64; LANES];

/// `prmt`: each nibble of the selector names one of the eight bytes of `b:a`.
fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    let mut result = 0;
    for i in 0..4 {
        let nibble = selector >> (4 * i) & 0xf;
        let mut byte = (bytes >> (8 * (nibble & 7))) as u8;
        if nibble & 8 != 0 {
            // The sign instead of the byte.
            byte = if byte & 0x80 == 0 { 0 } else { 0xff };
        }
        result |= u32::from(byte) << (8 * i);
    }
    result
}

/// `lop3`: bit `4 a + 2 b + c` of the table.
fn logic3(a: u32, b: u32, c: u32, table: u32) -> u32 {
    let mut result = 0;
    for row in 0..8 {
        if table >> row & 1 != 0 {
            let pick = |value: u32, bit: u32| if row >> bit & 1 != 0 { value } else { !value };
            result |= pick(a, 2) & pick(b, 1) & pick(c, 0);
        }
    }
    result
}

fn insert32(a: u32, b: u32, at: u32, len: u32) -> u32 {
    let (at, len) = (at & 0xff, len & 0xff);
    let ones = if len >= 32 { u32::MAX } else { (1 << len) - 1 };
    let mask = ones.checked_shl(at).unwrap_or(0);
    (b & !mask) | (a.checked_shl(at).unwrap_or(0) & mask)
}

fn insert64(a: u64, b: u64, at: u64, len: u64) -> u64 {
    let (at, len) = (at as u32 & 0xff, len as u32 & 0xff);
    let ones = if len >= 64 { u64::MAX } else { (1 << len) - 1 };
    let mask = ones.checked_shl(at).unwrap_or(0);
    (b & !mask) | (a.checked_shl(at).unwrap_or(0) & mask)
}

/// Lane by lane; the compiler makes vector instructions of it.
#[inline]
pub(super) fn compute32(alu: Alu, [a, b, c, d]: [&Lanes32; 4]) -> Lanes32 {
    match alu {
        Alu::Move => *a,
        Alu::Not => from_fn(|i| !a[i]),
        Alu::Negate => from_fn(|i| a[i].wrapping_neg()),
        Alu::Add => from_fn(|i| a[i].wrapping_add(b[i])),
        Alu::Subtract => from_fn(|i| a[i].wrapping_sub(b[i])),
        Alu::MultiplyLow => from_fn(|i| a[i].wrapping_mul(b[i])),
        Alu::MultiplyAddLow => from_fn(|i| a[i].wrapping_mul(b[i]).wrapping_add(c[i])),
        Alu::And => from_fn(|i| a[i] & b[i]),
        Alu::Or => from_fn(|i| a[i] | b[i]),
        Alu::Xor => from_fn(|i| a[i] ^ b[i]),
        Alu::ShiftLeft => from_fn(|i| a[i].checked_shl(b[i]).unwrap_or(0)),
        Alu::ShiftRight => from_fn(|i| a[i].checked_shr(b[i]).unwrap_or(0)),
        Alu::ShiftRightSigned => from_fn(|i| (a[i] as i32 >> b[i].min(31)) as u32),
        Alu::RotateLeft => {
            // The same in all lanes.
            let by = b[0];
            from_fn(|i| a[i].rotate_left(by))
        }
        Alu::FunnelLeft => from_fn(|i| {
            let pair = u64::from(b[i]) << 32 | u64::from(a[i]);
            ((pair << (c[i] & 31)) >> 32) as u32
        }),
        Alu::FunnelRight => from_fn(|i| {
            let pair = u64::from(b[i]) << 32 | u64::from(a[i]);
            (pair >> (c[i] & 31)) as u32
        }),
        Alu::Permute => from_fn(|i| permute(a[i], b[i], c[i])),
        Alu::Logic3 => from_fn(|i| logic3(a[i], b[i], c[i], d[i])),
        Alu::Insert => from_fn(|i| insert32(a[i], b[i], c[i], d[i])),
        Alu::Min => from_fn(|i| a[i].min(b[i])),
        Alu::Max => from_fn(|i| a[i].max(b[i])),
    }
}

#[inline]
pub(super) fn compute64(alu: Alu, [a, b, c, d]: [&Lanes64; 4]) -> Option<Lanes64> {
    Some(match alu {
        Alu::Move => *a,
        Alu::Not => from_fn(|i| !a[i]),
        Alu::Negate => from_fn(|i| a[i].wrapping_neg()),
        Alu::Add => from_fn(|i| a[i].wrapping_add(b[i])),
        Alu::Subtract => from_fn(|i| a[i].wrapping_sub(b[i])),
        Alu::MultiplyLow => from_fn(|i| a[i].wrapping_mul(b[i])),
        Alu::MultiplyAddLow => from_fn(|i| a[i].wrapping_mul(b[i]).wrapping_add(c[i])),
        Alu::And => from_fn(|i| a[i] & b[i]),
        Alu::Or => from_fn(|i| a[i] | b[i]),
        Alu::Xor => from_fn(|i| a[i] ^ b[i]),
        Alu::ShiftLeft => from_fn(|i| a[i].checked_shl(b[i] as u32).unwrap_or(0)),
        Alu::ShiftRight => from_fn(|i| a[i].checked_shr(b[i] as u32).unwrap_or(0)),
        Alu::ShiftRightSigned => from_fn(|i| (a[i] as i64 >> (b[i] as u32).min(63)) as u64),
        Alu::Insert => from_fn(|i| insert64(a[i], b[i], c[i], d[i])),
        Alu::Min => from_fn(|i| a[i].min(b[i])),
        Alu::Max => from_fn(|i| a[i].max(b[i])),
        // Not there for 64 bits.
        Alu::RotateLeft | Alu::FunnelLeft | Alu::FunnelRight | Alu::Permute | Alu::Logic3 => {
            return None;
        }
    })
}

/// The lanes, as bits, for which the comparison holds.
pub(super) fn compare32(compare: Compare, signed: bool, a: &Lanes32, b: &Lanes32) -> u32 {
    // Order is that of unsigned numbers after the sign bit is turned.
    let flip = if signed { 1 << 31 } else { 0 };
    bits(|i| holds(compare, a[i] ^ flip, b[i] ^ flip))
}

/// The lanes, as bits, for which the comparison holds.
pub(super) fn compare64(compare: Compare, signed: bool, a: &Lanes64, b: &Lanes64) -> u32 {
    let flip = if signed { 1 << 63 } else { 0 };
    bits(|i| holds(compare, a[i] ^ flip, b[i] ^ flip))
}

fn bits(holds: impl Fn(usize) -> bool) -> u32 {
    (0..LANES).fold(0, |bits, i| bits | u32::from(holds(i)) << i)
}

fn holds<T: Ord>(compare: Compare, a: T, b: T) -> bool {
    match compare {
        Compare::Equal => a == b,
        Compare::NotEqual => a != b,
        Compare::Less => a < b,
        Compare::LessOrEqual => a <= b,
        Compare::Greater => a > b,
        Compare::GreaterOrEqual => a >= b,
    }
}
