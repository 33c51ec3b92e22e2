//! Why a forest refused a change, a question or a state to restore.

use hedgerow_hasher_api::HashError;
use hedgerow_types::{Digest, SerialNumber, ShardId, TwigId};

/// Why a forest refused a change, a question or a state to restore.
///
/// After an error of [`Forest::apply`](crate::Forest::apply) the forest is in no defined state and
/// the caller discards it; every other method leaves it as it was.
///
/// ```
/// use hedgerow_merkle::{Forest, MerkleError};
/// use hedgerow_types::{ShardId, TwigId};
/// let shard = ShardId::new(3).unwrap();
/// let refused = Forest::new().prune(shard, TwigId(9)).unwrap_err();
/// assert!(matches!(refused, MerkleError::PruneTooFar { first_kept: TwigId(9), .. }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MerkleError {
    /// The hash backend failed.
    #[error("hashing the tree: {0}")]
    Hash(#[from] HashError),
    /// A device's root was announced, then the device failed, and the CPU came to another root.
    #[error("a device gave the root {announced}, which is wrong: it is {right}")]
    WrongRoot {
        /// What [`Forest::apply_announcing`](crate::Forest::apply_announcing) announced.
        announced: Digest,
        /// The state root after the block.
        right: Digest,
    },
    /// The serial number lies beyond the shard's youngest twig, or, to be deactivated, is not in
    /// use yet.
    #[error("serial number {sn} of shard {shard} does not exist yet")]
    OutOfRange {
        /// The shard.
        shard: ShardId,
        /// The serial number asked for.
        sn: SerialNumber,
    },
    /// An entry to be deactivated lies in an evicted twig, whose entries are all inactive.
    #[error("entry {sn} of shard {shard} cannot be deactivated: its twig is evicted")]
    Evicted {
        /// The shard.
        shard: ShardId,
        /// The entry.
        sn: SerialNumber,
    },
    /// An entry to be deactivated is inactive already.
    #[error("entry {sn} of shard {shard} cannot be deactivated twice")]
    AlreadyInactive {
        /// The shard.
        shard: ShardId,
        /// The entry.
        sn: SerialNumber,
    },
    /// The oldest-active serial number would pass an entry that is still active.
    #[error("entry {sn} of shard {shard} is active but lies below the oldest active one")]
    StillActive {
        /// The shard.
        shard: ShardId,
        /// The active entry that was passed.
        sn: SerialNumber,
    },
    /// The oldest-active serial number moved back, or beyond the next serial number.
    #[error("oldest active serial number {sn} of shard {shard} is out of order")]
    OldestActive {
        /// The shard.
        shard: ShardId,
        /// The oldest-active serial number that was refused.
        sn: SerialNumber,
    },
    /// What was asked for lies left of the shard's pruning point.
    #[error("twig {twig} of shard {shard} is pruned")]
    Pruned {
        /// The shard.
        shard: ShardId,
        /// The twig.
        twig: TwigId,
    },
    /// A twig that may still hold active entries cannot be pruned.
    #[error("cannot prune shard {shard} up to twig {first_kept}: twig {first_active} is active")]
    PruneTooFar {
        /// The shard.
        shard: ShardId,
        /// The first twig that was to be kept.
        first_kept: TwigId,
        /// The twig of the oldest active entry.
        first_active: TwigId,
    },
    /// A shard has more twigs than the tree can address.
    #[error("shard {shard} has too many twigs")]
    TooManyTwigs {
        /// The shard.
        shard: ShardId,
    },
    /// A state to restore contradicts itself.
    #[error("cannot restore shard {shard}: {reason}")]
    Restore {
        /// The shard.
        shard: ShardId,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The 16 leaves given for a group are not those that a finished twig's nodes commit to.
    #[error("the leaves of group {group} do not hash to the node of their twig")]
    GroupMismatch {
        /// The group within its twig, 0..128.
        group: usize,
    },
}
