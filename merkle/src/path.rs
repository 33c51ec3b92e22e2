//! The way from one entry up to the state root, as siblings: what a proof is made of.
//!
//! ```text
//!  state root   ▲ state[0..4]          the 16 shard roots
//!  shard root   ▲ upper[..]            level 12 upward
//!  twig root    ▲
//!         ┌─────┴─────┐
//!     left root       l3
//!         ▲           ▲ right[0..3]    the neighbour page, an l1, an l2
//!         │ left      page
//!        leaf         bit of the entry
//! ```
//!
//! The left part of a finished twig is not in memory: the caller takes it from the twig file with
//! [`left_path_in`](crate::left_path_in).

use hedgerow_hasher_api::hash_node;
use hedgerow_types::{
    ACTIVE_BITS_LEVEL, Digest, STATE_LEVELS, STATE_ROOT_LEVEL, SerialNumber, ShardId,
    TWIG_ROOT_LEVEL, TWIG_SHIFT, TwigId,
};

/// The lowest part of a [`TreePath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftPart {
    /// The entry is in the youngest twig: everything is here.
    Here {
        /// The entry hash, or the null entry hash of a leaf not yet occupied.
        leaf: Digest,
        /// Siblings of the levels 0..=10; apart, since most paths have none here.
        siblings: Box<[Digest; 11]>,
        /// The root of the twig's left tree.
        left_root: Digest,
    },
    /// The twig is filled: the leaf and its siblings come from the twig file and the log.
    Finished {
        /// The twig.
        twig: TwigId,
        /// The root of the twig's left tree; `None` if the twig is evicted.
        left_root: Option<Digest>,
    },
    /// The twig was the youngest at the height asked for and is filled by now: see
    /// [`left_part_as_of`](crate::left_part_as_of).
    Filled {
        /// The twig.
        twig: TwigId,
        /// How many leaves it had.
        leaves: usize,
    },
}

/// The siblings on the way from one entry to the state root (spec 10.1): the leaf through its left
/// tree, the page of active bits through the right tree, both joined in the twig root, from there
/// through the upper tree to the shard root and through the tree over the 16 shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreePath {
    /// The shard.
    pub shard: ShardId,
    /// The entry's serial number.
    pub sn: SerialNumber,
    /// Leaf to left root.
    pub left: LeftPart,
    /// The page of 256 active bits that holds the entry's: bit `sn % 8` of byte `sn % 256 / 8`.
    pub page: Digest,
    /// Siblings of the page (level 8), of its l1 (level 9) and of its l2 (level 10).
    pub right: [Digest; 3],
    /// Siblings from the twig root (level 12) upward; as many as the shard has levels above it.
    pub upper: Vec<Digest>,
    /// Siblings of the shard root (level 64) up to those below the state root (level 67).
    pub state: [Digest; STATE_LEVELS],
    /// The root of the entry's shard.
    pub shard_root: Digest,
    /// The state root.
    pub state_root: Digest,
}

/// The parent of `node`, which is the left child if bit `bit` of `number` is 0.
fn join(level: u8, number: u64, bit: u32, node: &Digest, sibling: &Digest) -> Digest {
    if (number >> bit) & 1 == 0 {
        hash_node(level, node, sibling)
    } else {
        hash_node(level, sibling, node)
    }
}

impl TreePath {
    /// The root of the left tree of the entry's twig; `None` if it is not in memory.
    pub fn left_root(&self) -> Option<Digest> {
        match self.left {
            LeftPart::Here { left_root, .. } => Some(left_root),
            LeftPart::Finished { left_root, .. } => left_root,
            LeftPart::Filled { .. } => None,
        }
    }

    /// Whether the entry is active: its bit in [`page`](Self::page).
    pub fn is_active(&self) -> bool {
        self.page.0[(self.sn.0 & 255) as usize / 8] >> (self.sn.0 % 8) & 1 == 1
    }

    /// The shard root and the state root that this path leads to from the entry hash `leaf` with
    /// the siblings `siblings` of the levels 0..=10 (spec 10.2). The path is right if they equal
    /// [`shard_root`](Self::shard_root) and [`state_root`](Self::state_root).
    pub fn fold(&self, leaf: &Digest, siblings: &[Digest; 11]) -> (Digest, Digest) {
        let sn = self.sn.0;
        let mut left = *leaf;
        for (level, sibling) in (0..).zip(siblings) {
            left = join(level, sn, u32::from(level), &left, sibling);
        }
        let mut right = self.page;
        for (level, sibling) in (ACTIVE_BITS_LEVEL..).zip(&self.right) {
            right = join(level, sn, u32::from(level), &right, sibling);
        }
        let mut node = hash_node(TWIG_ROOT_LEVEL - 1, &left, &right);
        for (level, sibling) in (TWIG_ROOT_LEVEL..).zip(&self.upper) {
            node =
                join(level, sn >> TWIG_SHIFT, u32::from(level - TWIG_ROOT_LEVEL), &node, sibling);
        }
        let shard_root = node;
        for (step, sibling) in (0..).zip(&self.state) {
            let shard = self.shard.index() as u64;
            node = join(STATE_ROOT_LEVEL + step, shard, u32::from(step), &node, sibling);
        }
        (shard_root, node)
    }
}
