//! Rows of digests that stay on a device between calls, so that a tree sends only what changed.
//!
//! ```text
//!  host   dirty leaves ─┐ write, flip                                   read ┌─► changed nodes
//!                       ▼                                                    │
//!  device   row 0   a b c d e f g h                                          │
//!                     ╲│ │╱           hash(level, 0, parents, 1)             │
//!           row 1     0 1 2 3  ──────────────────────────────────────────────┘
//! ```
//!
//! A row is an array of digests at places `0..len`. The parent at place `p` of one row has its
//! children at `2p` and `2p + 1` of another. What the rows mean is the tree's affair.
//!
//! **Invariant:** the host keeps every node too. A device that fails, or is caught with a wrong digest,
//! costs time: the tree computes the block without it.

use crate::HashError;
use hedgerow_types::Digest;
use std::fmt;

/// A backend that can keep rows.
pub trait Residency: Send + Sync {
    /// Tells this device from any other of the process, also from itself made anew.
    fn id(&self) -> u64;

    /// Number of dirty pages of active bits of a block from which the rows on the device are worth
    /// their transfers; below it the tree hashes on its own and tells the device with the next large
    /// block.
    fn worth_from(&self) -> usize;

    /// The tree checks one of so many nodes that the device computed by hashing it again;
    /// 0: none.
    fn check_one_of(&self) -> u32;

    /// Rows with `lens` places each. Their contents are unspecified.
    ///
    /// # Errors
    /// [`HashError::DoesNotFit`] if they are too long for the device, [`HashError::Device`],
    /// [`HashError::DeviceLost`].
    fn open(&self, lens: &[u32]) -> Result<Box<dyn ResidentRows>, HashError>;

    /// The rows gave an error or a wrong digest, or do not fit ([`HashError::DoesNotFit`], no fault of
    /// the device); the tree goes on without them.
    fn condemn(&self, error: &HashError);

    /// A block was hashed in the rows, and so many of its digests again by the tree.
    fn hashed(&self, checked: u64) {
        let _ = checked;
    }
}

/// Rows on a device. Work is done in the order given and may wait on the device until a
/// [`take`](Self::take).
///
/// # Errors
/// All methods: [`HashError::Shape`] for a row or place that does not exist or lists of different
/// lengths, [`HashError::Device`] or [`HashError::DeviceLost`] if the device failed, now or earlier.
/// After an error the contents of all rows are unspecified: drop them.
pub trait ResidentRows: Send + fmt::Debug {
    /// Writes `digests` from place `first` on.
    fn write_run(&mut self, row: usize, first: u32, digests: &[Digest]) -> Result<(), HashError>;

    /// Writes `digests[i]` at `places[i]`. Places are distinct.
    fn write(&mut self, row: usize, places: &[u32], digests: &[Digest]) -> Result<(), HashError>;

    /// Changes bits: for every `(word, mask)` the `word`-th 32-bit word of the row, read as
    /// little-endian, by exclusive or with `mask`. Words are distinct.
    fn flip(&mut self, row: usize, flips: &[(u32, u32)]) -> Result<(), HashError>;

    /// Hashes parents of nodes of level `level`: for every `p` in `parents`,
    /// `to.row[to.stride * p + to.offset] = node(level, children[2p], children[2p + 1])` (spec 2).
    /// Parents are distinct; `children` and `to.row` are different rows.
    fn hash(
        &mut self,
        level: u8,
        children: usize,
        parents: &[u32],
        to: Target,
    ) -> Result<(), HashError>;

    /// Asks for the digests at `places`, as they are after the work given so far, for a later
    /// [`take`](Self::take).
    fn read(&mut self, row: usize, places: &[u32]) -> Result<(), HashError>;

    /// Lets the device begin with the work given so far. A [`take`](Self::take) of what was read
    /// before does not wait for what was read after.
    fn flush(&mut self) -> Result<(), HashError>;

    /// Waits for the oldest [`read`](Self::read) not yet taken; `out` has one element per place
    /// of it.
    fn take(&mut self, out: &mut [Digest]) -> Result<(), HashError>;
}

/// Where [`ResidentRows::hash`] writes the parent at place `p`: at `stride * p + offset` of `row`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The row.
    pub row: usize,
    /// At least 1.
    pub stride: u32,
    /// Less than `stride`.
    pub offset: u32,
}

impl Target {
    /// A row that holds nothing but these parents.
    pub const fn row(row: usize) -> Self {
        Self { row, stride: 1, offset: 0 }
    }
}
