//! What hashes on one thread.
//!
//! ```text
//!  jobs     ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓│░░░░░░░░      ahead: hashed by a later call, fetched meanwhile
//!           └ lot ┘└ lot ┘
//!  rows     64 bytes per message where they lie      (children of a node, a block of a message)
//!  words    transposed: word j of all messages of the lot in one vector
//! ```
//!
//! A kernel is one instruction set's way to run SHA-256 over a list of messages. It owns padding
//! and lanes; it knows neither groups nor threads, and does not choose: which kernel hashes what is
//! decided in `dispatch`. One file per instruction set:
//!
//! | kernel | messages side by side | instructions |
//! |---|---|---|
//! | `avx512x32`, `avx512x16` | 2 x 16, 16 | AVX-512 F and BW |
//! | `avx512x8` | 8 | AVX-512 F and VL in 256-bit registers |
//! | `avx2` | 8 | AVX2 |
//! | `shani4`, `shani2`, `shani1` | 4, 2, 1 | SHA-NI |
//! | `armv8x4`, `armv8x2`, `armv8x1` | 4, 2, 1 | aarch64 SHA2 extension |
//! | `sha2` | 1 | what the `sha2` crate finds |
//! | `portable` | 1 | none in particular |
//!
//! Invariants:
//! * Every job is done when a call returns, and each writes its own `out` only.
//! * No kernel reads a byte outside the slices of its jobs.
//! * A kernel that needs instructions holds a token of [`detect`](crate::detect), which exists only
//!   on a CPU that has them.

#[cfg(target_arch = "x86_64")]
#[macro_use]
mod lanes;

#[cfg(target_arch = "aarch64")]
mod armv8;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512vl;
mod portable;
#[cfg(target_arch = "x86_64")]
mod rows;
mod sha2;
mod sha256;
#[cfg(target_arch = "x86_64")]
mod shani;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "aarch64")]
pub(crate) use armv8::Armv8Kernel;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2Kernel;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512Kernel;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512vl::Avx512VlKernel;
pub(crate) use portable::Portable;
pub(crate) use sha2::Sha2Kernel;
#[cfg(target_arch = "x86_64")]
pub(crate) use shani::ShaNiKernel;

use hedgerow_types::Digest;
use std::fmt;

/// A block of SHA-256, or the children of a node.
pub(crate) type Row = [u8; 64];

/// `out = node(level, children[0], children[1])` (spec 2).
#[derive(Debug)]
pub(crate) struct NodeJob<'a> {
    pub(crate) children: &'a [Digest; 2],
    pub(crate) out: &'a mut Digest,
}

/// `out = SHA-256(readable[..len])`.
#[derive(Debug)]
pub(crate) struct MessageJob<'a> {
    /// The message and what follows it in its arena: bytes that may be loaded with its last block.
    readable: &'a [u8],
    len: u32,
    blocks: u32,
    pub(crate) out: &'a mut Digest,
}

impl<'a> MessageJob<'a> {
    /// A job for the first `len` bytes of `readable`, `None` if there are fewer.
    pub(crate) fn new(readable: &'a [u8], len: u32, out: &'a mut Digest) -> Option<Self> {
        if readable.len() < len as usize {
            return None;
        }
        // At most 2^26 + 1.
        let blocks = (u64::from(len) + sha256::MIN_PADDING as u64).div_ceil(64) as u32;
        Some(Self { readable, len, blocks, out })
    }

    pub(crate) fn message(&self) -> &'a [u8] {
        &self.readable[..self.len as usize]
    }

    /// Asks for the message's cache lines, up to a few: a longer one is read in order anyway.
    #[inline]
    pub(crate) fn fetch(&self) {
        let message = self.message();
        for row in message.chunks(64).take(8) {
            fetch(&row[0]);
        }
        if let Some(last) = message.last() {
            fetch(last);
        }
    }

    /// Compressions that the message needs, padding included.
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks
    }
}

/// Asks for the cache line of `byte`, where that can be asked.
#[inline]
fn fetch(byte: &u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and the address is that of a byte we may read.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(byte).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = byte;
}

/// SHA-256 with one instruction set and a number of messages side by side.
pub(crate) trait Kernel: Send + Sync + fmt::Debug {
    /// The name to pin it by.
    fn name(&self) -> &'static str;

    /// Messages hashed side by side.
    fn lanes(&self) -> usize;

    /// Whether fewer messages than lanes cost as much as a full lot. If not, the kernel hashes them
    /// one by one or a few at a time.
    fn pads(&self) -> bool;

    /// Hashes nodes whose children have level `level`. The children of `ahead` are hashed by the
    /// next call; a kernel may fetch them from memory meanwhile.
    fn nodes(&self, level: u8, jobs: &mut [NodeJob<'_>], ahead: &[NodeJob<'_>]);

    /// Hashes messages of any length, fastest if neighbours have equally many blocks.
    fn messages(&self, jobs: &mut [MessageJob<'_>]);
}
