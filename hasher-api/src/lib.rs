//! The batch hashing interface that Hedgerow's trees run on.
//!
//! A tree never hashes one node. It asks for *all* messages of a block, or *all* dirty nodes of one
//! level of all 16 shards, in one call, so that SIMD lanes and GPUs get batches as large as the
//! block allows. The shapes are those that need no copy:
//!
//! ```text
//!  messages        arena ▓▓▓▓▓░▓▓▓▓▓▓▓▓░░▓▓▓...slack      spans (offset, len) -> out[i]
//!                   entries as they lie in the block's record
//!
//!  pairs           children  a b c d e f ...               out[i] = node(level, c[2i], c[2i+1])
//!                            └┬┘ └┬┘ └┬┘                    contiguous part of one level
//!                  out        0   1   2
//!
//!  indexed_pairs   children  a b c d e f g h ...           out[p] = node(level, c[2p], c[2p+1])
//!                            └┬┘         └┬┘                for p in parents: the dirty nodes of a
//!                  out        0   .   .   3                 level, in place in its array
//! ```
//!
//! Every shape takes a list of groups, one per shard as a rule; a backend is free to fill its lanes
//! across groups. A backend implements the three shapes and inherits the larger operation,
//! [`left_trees`](BatchHasher::left_trees); one that can do several levels better than one after the
//! other (a GPU) overrides it.
//!
//! Invariants:
//! * A call that returns `Ok` has written every output it was asked for and nothing else; after an
//!   `Err` the outputs hold unspecified digests, and the caller discards them.
//! * Same input, same output, whatever the backend: the conformance suite (feature `conformance`)
//!   runs on every one.
//! * A backend never panics on shapes: they are checked first ([`HashError::Shape`]).
//!
//! What backends on GPUs have in common is in the crate `hedgerow-hasher-device`.
//!
//! **Invariant (absence):** nothing here knows a driver, a thread or a file.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `conformance` | the suite that every backend must pass; for tests |
//! | `serde` | `Serialize` of [`Capabilities`] and [`Health`] |
#![forbid(unsafe_code)]

mod error;
mod hooked;
mod left_tree;
mod null;
mod resident;
mod scalar;
mod shapes;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;

pub use error::HashError;
pub use hooked::{HashCall, HashHook, HookedHasher, HookedRows, RowsCall, RowsHook};
pub use left_tree::{LEFT_TREE_LEVELS, LeftTree, LeftTreeGroup};
pub use null::{NullTable, null_table};
pub use resident::{Residency, ResidentRows, Target};
pub use scalar::{ScalarHasher, hash_message, hash_node};
pub use shapes::{IndexedPairGroup, MessageGroup, PairGroup, Span, check_all};

use std::fmt;

/// Bytes after the last message of an arena that make a backend's loads simple. An arena with less
/// is legal and hashes to the same digests; its last messages may take a slower path.
pub const MESSAGE_SLACK: usize = 64;

/// What a backend is, for choosing one and for showing to a person.
///
/// ```
/// use hedgerow_hasher_api::{BatchHasher, ScalarHasher};
/// let what = ScalarHasher.capabilities();
/// assert_eq!((what.name.as_str(), what.lanes, what.is_device), ("scalar", 1, false));
/// println!("{} hashes with: {}", what.name, what.device);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Capabilities {
    /// Name by which options and the command line select the backend, such as `cpu` or `scalar`.
    pub name: String,
    /// What it runs on, for a person: an instruction set or a device's name.
    pub device: String,
    /// Messages hashed side by side; batches that are multiples of it waste nothing.
    pub lanes: usize,
    /// Batch size from which the backend is at its full speed.
    pub full_speed_batch: usize,
    /// Whether the work leaves the CPU, so that a call costs a transfer.
    pub is_device: bool,
}

/// How a backend with a device behind it fares. All zero for one without.
///
/// ```
/// use hedgerow_hasher_api::{BatchHasher, Health, ScalarHasher};
/// let health = ScalarHasher.health();
/// match &health.quarantined {
///     Some(reason) => println!("the CPU hashes instead of the device: {reason}"),
///     None => assert_eq!(health, Health::default()),         // no device, nothing to tell
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Health {
    /// Batches that the device hashed.
    pub device_batches: u64,
    /// Batches that the CPU hashed in its place: too small, or the device had failed.
    pub cpu_batches: u64,
    /// Blocks whose tree was hashed in rows that stay on the device.
    pub resident_blocks: u64,
    /// Digests of the device that were hashed again on the CPU.
    pub checked: u64,
    /// Errors of the device and wrong digests; more than one if several callers met them at once.
    pub failures: u64,
    /// Why the device is out of use, if it is.
    pub quarantined: Option<String>,
}

/// SHA-256 over many independent messages at once. The
/// [crate's documentation](crate) draws the shapes.
///
/// ```
/// use hedgerow_hasher_api::{BatchHasher, PairGroup, ScalarHasher, hash_node};
/// use hedgerow_types::Digest;
/// let hasher: &dyn BatchHasher = &ScalarHasher;              // or any other: the digests are the same
/// let children = [1, 2, 3, 4].map(|byte| Digest([byte; 32]));
/// let mut parents = [Digest::ZERO; 2];
/// hasher.pairs(0, &mut [PairGroup { children: &children, out: &mut parents }])?;
/// assert_eq!(parents[1], hash_node(0, &children[2], &children[3]));
/// # Ok::<(), hedgerow_hasher_api::HashError>(())
/// ```
pub trait BatchHasher: Send + Sync + fmt::Debug {
    /// What this backend is.
    fn capabilities(&self) -> Capabilities;

    /// How its device fares; as here, all zero, if there is none.
    fn health(&self) -> Health {
        Health::default()
    }

    /// The rows that this backend can keep between calls; `None`, as here, if it keeps nothing.
    fn residency(&self) -> Option<&dyn Residency> {
        None
    }

    /// Hashes messages of any length: `out[i] = SHA-256(arena[spans[i]])` in every group.
    ///
    /// # Errors
    /// [`HashError::Shape`] if a group's `spans` and `out` differ in length or a span leaves its
    /// arena; [`HashError::Device`] if the device failed.
    fn messages(&self, groups: &mut [MessageGroup<'_>]) -> Result<(), HashError>;

    /// Hashes the parents of a contiguous run of nodes of level `level`:
    /// `out[i] = node(level, children[2i], children[2i+1])` in every group ([spec 2](hedgerow_types::spec)).
    ///
    /// # Errors
    /// [`HashError::Shape`] unless `children.len() == 2 * out.len()` in every group;
    /// [`HashError::Device`] if the device failed.
    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError>;

    /// Hashes chosen parents of nodes of level `level`: for every `p` in `parents`,
    /// `out[p] = node(level, children[2p], children[2p+1])` in every group. `parents` is strictly
    /// increasing; other elements of `out` keep their values.
    ///
    /// # Errors
    /// [`HashError::Shape`] if `parents` is not strictly increasing or names a node outside
    /// `children` or `out`; [`HashError::Device`] if the device failed.
    fn indexed_pairs(
        &self,
        level: u8,
        groups: &mut [IndexedPairGroup<'_>],
    ) -> Result<(), HashError>;

    /// Hashes everything above the changed leaves of left trees, up to the left roots ([spec 8.1](hedgerow_types::spec)).
    /// The other nodes of a twig with changed leaves must be right, and keep their values: a backend
    /// may read them or compute them again.
    ///
    /// # Errors
    /// [`HashError::Shape`] if a group's levels do not belong to its leaves or a changed leaf is not
    /// one of them; else as [`BatchHasher::pairs`].
    fn left_trees(&self, groups: &mut [LeftTreeGroup<'_>]) -> Result<(), HashError> {
        left_trees_by_level(self, groups)
    }
}

/// [`BatchHasher::left_trees`] by [`BatchHasher::pairs`], one level after the other.
fn left_trees_by_level<H: BatchHasher + ?Sized>(
    hasher: &H,
    groups: &mut [LeftTreeGroup<'_>],
) -> Result<(), HashError> {
    check_all(groups, LeftTreeGroup::check)?;
    for level in 0..LEFT_TREE_LEVELS {
        let pairs = groups.iter_mut().filter_map(|group| group.pairs(level));
        let mut pairs = pairs.collect::<Vec<_>>();
        if !pairs.is_empty() {
            hasher.pairs(level as u8, &mut pairs)?;
        }
    }
    Ok(())
}
