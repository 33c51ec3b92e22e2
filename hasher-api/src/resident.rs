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
///
/// ```
/// use hedgerow_hasher_api::{BatchHasher, ScalarHasher};
/// /// From how many dirty pages on a block is hashed in rows on a device, if it ever is.
/// fn worth_from(hasher: &dyn BatchHasher) -> Option<usize> {
///     Some(hasher.residency()?.worth_from())
/// }
/// assert_eq!(worth_from(&ScalarHasher), None); // it keeps nothing
/// ```
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
/// ```
/// use hedgerow_hasher_api::{HashError, ResidentRows, Target};
/// # use hedgerow_hasher_api::hash_node;
/// use hedgerow_types::Digest;
///
/// /// The parents of `leaves`: row 1 of rows that stay where they are.
/// fn parents(rows: &mut dyn ResidentRows, leaves: &[Digest]) -> Result<Vec<Digest>, HashError> {
///     let places: Vec<u32> = (0..leaves.len() as u32 / 2).collect();
///     let mut out = vec![Digest::ZERO; places.len()];
///     rows.write_run(0, 0, leaves)?;           // to row 0
///     rows.hash(0, 0, &places, Target::row(1))?;
///     rows.read(1, &places)?;
///     rows.take(&mut out)?;                    // waits for the device
///     Ok(out)
/// }
/// # #[derive(Debug)]
/// # struct Host([Vec<Digest>; 2], Vec<Digest>);
/// # impl ResidentRows for Host {
/// #     fn write_run(&mut self, row: usize, at: u32, all: &[Digest]) -> Result<(), HashError> {
/// #         Ok(self.0[row][at as usize..][..all.len()].copy_from_slice(all))
/// #     }
/// #     fn write(&mut self, _: usize, _: &[u32], _: &[Digest]) -> Result<(), HashError> { Ok(()) }
/// #     fn flip(&mut self, _: usize, _: &[(u32, u32)]) -> Result<(), HashError> { Ok(()) }
/// #     fn hash(&mut self, level: u8, from: usize, ps: &[u32], to: Target) -> Result<(), HashError> {
/// #         for p in ps.iter().map(|&p| p as usize) {
/// #             self.0[to.row][p] = hash_node(level, &self.0[from][2 * p], &self.0[from][2 * p + 1]);
/// #         }
/// #         Ok(())
/// #     }
/// #     fn read(&mut self, row: usize, places: &[u32]) -> Result<(), HashError> {
/// #         Ok(self.1 = places.iter().map(|&p| self.0[row][p as usize]).collect())
/// #     }
/// #     fn flush(&mut self) -> Result<(), HashError> { Ok(()) }
/// #     fn take(&mut self, out: &mut [Digest]) -> Result<(), HashError> {
/// #         Ok(out.copy_from_slice(&self.1))
/// #     }
/// # }
/// # let leaves = [1, 2, 3, 4].map(|byte| Digest([byte; 32]));
/// # let mut rows = Host([vec![Digest::ZERO; 4], vec![Digest::ZERO; 2]], Vec::new());
/// let found = parents(&mut rows, &leaves)?;
/// assert_eq!(found[1], hash_node(0, &leaves[2], &leaves[3]));
/// # Ok::<(), hedgerow_hasher_api::HashError>(())
/// ```
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
    /// `to.row[to.stride * p + to.offset] = node(level, children[2p], children[2p + 1])` ([spec 2](hedgerow_types::spec)).
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
///
/// ```
/// use hedgerow_hasher_api::Target;
/// // Row 2 has a left root and a right root of each twig, side by side: here go the right ones.
/// let right = Target { row: 2, stride: 2, offset: 1 };
/// let place = |twig: u32| right.stride * twig + right.offset;
/// assert_eq!((place(0), place(7)), (1, 15));
/// assert_eq!(Target::row(2), Target { row: 2, stride: 1, offset: 0 });
/// ```
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
