//! Where the blocks of the messages of a lot are, lane by lane: what kernels with many lanes share.
//!
//! ```text
//!  message    ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓│▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓│▓▓▓▓▓░░░░░░░░░░░     ░ other bytes of the arena
//!  row        in place         in place         in place if the arena goes on, else a copy
//!  words      as loaded        as loaded        ▓▓▓▓▓80 0 .. 0 bits   blended after transposing
//! ```
//!
//! A row may hold any bytes after the end of its message: the kernel replaces them by the padding.

use super::{MessageJob, NodeJob, Row, fetch};
use hedgerow_types::Digest;
use std::arch::asm;

/// What a lane without work reads.
pub(super) static NOTHING: Row = [0; 64];

/// The children of a node, side by side in memory.
pub(super) fn children_row(children: &[Digest; 2]) -> &Row {
    // SAFETY: a digest is a transparent 32-byte array, so two of them are 64 bytes.
    unsafe { &*std::ptr::from_ref(children).cast() }
}

/// The children of a lot of at most `L` nodes.
pub(super) fn node_rows<'a, const L: usize>(lot: &[NodeJob<'a>]) -> [&'a Row; L] {
    let mut rows = [&NOTHING; L];
    for (row, job) in rows.iter_mut().zip(lot) {
        *row = children_row(job.children);
    }
    rows
}

/// Copies of rows that could not be read in place.
#[repr(align(64))]
pub(super) struct Copies<const L: usize>([Row; L]);

impl<const L: usize> Copies<L> {
    pub(super) const EMPTY: Self = Self([[0; 64]; L]);

    /// Block `block` of each of at most `L` messages.
    #[inline]
    pub(super) fn rows<'a>(&'a mut self, lot: &[MessageJob<'a>], block: u32) -> [&'a Row; L] {
        let mut rows = [&NOTHING; L];
        for ((row, copy), job) in rows.iter_mut().zip(&mut self.0).zip(lot) {
            let start = 64 * block as usize;
            if let Some(rest) = job.readable.get(start..) {
                *row = rest.first_chunk().unwrap_or_else(|| {
                    copy[..rest.len()].copy_from_slice(rest);
                    copy
                });
            }
        }
        rows
    }
}

/// Per lane, what the padding of a message depends on.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Lengths<const L: usize> {
    /// Length in bytes; for a lane without work so long that it never ends.
    pub(super) bytes: [u32; L],
    /// Length in blocks, padding included; 0 for a lane without work.
    pub(super) blocks: [u32; L],
}

impl<const L: usize> Lengths<L> {
    #[inline]
    pub(super) fn of(lot: &[MessageJob<'_>]) -> Self {
        let mut lengths = Self { bytes: [u32::MAX; L], blocks: [0; L] };
        for (i, job) in lot.iter().enumerate().take(L) {
            lengths.bytes[i] = job.len;
            lengths.blocks[i] = job.blocks;
        }
        lengths
    }

    /// Blocks of the longest message.
    #[inline]
    pub(super) fn most(&self) -> u32 {
        self.blocks.iter().copied().fold(0, u32::max)
    }

    /// Blocks that no message of the lot ends in: the first so many need no padding.
    #[inline]
    pub(super) fn whole(&self) -> u32 {
        self.bytes.iter().map(|bytes| bytes / 64).fold(u32::MAX, u32::min)
    }
}

/// A lot's rows, fetched a few at a time.
pub(super) struct Fetch<'a>(pub(super) &'a [NodeJob<'a>]);

impl Fetch<'_> {
    #[inline]
    pub(super) fn some(&mut self, count: usize) {
        let (now, later) = self.0.split_at(count.min(self.0.len()));
        for job in now {
            let row = children_row(job.children);
            fetch(&row[0]);
            fetch(&row[63]);
            fetch_to_write(job.out);
        }
        self.0 = later;
    }
}

/// Asks for the cache line of a digest that will be written.
#[inline]
fn fetch_to_write(digest: &Digest) {
    // SAFETY: a hint, which changes nothing; CPUs that do not know it take it for no operation.
    unsafe {
        asm!("prefetchw [{}]", in(reg) digest, options(nostack, preserves_flags, readonly));
    }
}
