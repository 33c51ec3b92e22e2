//! Twigs whose 2048 leaves are filled: what the twig file keeps of them, and paths out of it.
//!
//! ```text
//!  level 11              nodes[0] = left root
//!  level 10         nodes[1]         nodes[2]            children of nodes[i]: nodes[2i + 1], [2i + 2]
//!   ...
//!  level 4     nodes[127] ........... nodes[254]         one per group of 16 leaves
//!  level 0    leaf 0..16               leaf 2032..2048   not kept: 16 entries are read and hashed
//! ```

use crate::MerkleError;
use hedgerow_hasher_api::{BatchHasher, HashError, LeftTree, PairGroup, hash_node};
use hedgerow_types::{Digest, ShardId, TWIG_LEAVES, TwigId};

/// Nodes of a [`FinishedTwig`]: levels 4 to 11 of a left tree, 128 + 64 + ... + 1.
pub const FINISHED_NODES: usize = 255;
/// Leaves below one of the lowest nodes of a [`FinishedTwig`].
pub const GROUP_LEAVES: usize = 16;

const GROUP_LEVEL: usize = 4;
const ROOT_LEVEL: usize = 11;
const FIRST_GROUP_NODE: usize = FINISHED_NODES / 2;

/// The left tree of a twig that a block has filled, from level 4 up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedTwig {
    /// The shard.
    pub shard: ShardId,
    /// The twig.
    pub twig: TwigId,
    /// Levels 11 down to 4 as a heap: `nodes[0]` is the left root, the children of `nodes[i]` are
    /// `nodes[2i + 1]` and `nodes[2i + 2]`, and `nodes[127..255]` are the 128 nodes of level 4, one
    /// per group of 16 leaves.
    pub nodes: Box<[Digest; FINISHED_NODES]>,
}

impl FinishedTwig {
    /// Collects the nodes from an open left tree; `level` returns the twig's nodes of a level.
    pub(crate) fn collect<'a>(
        shard: ShardId,
        twig: TwigId,
        level: impl Fn(usize) -> &'a [Digest],
    ) -> Self {
        let mut nodes = Box::new([Digest::ZERO; FINISHED_NODES]);
        let mut rest = nodes.as_mut_slice().iter_mut();
        for height in (GROUP_LEVEL..=ROOT_LEVEL).rev() {
            for (to, from) in rest.by_ref().take(TWIG_LEAVES >> height).zip(level(height)) {
                *to = *from;
            }
        }
        Self { shard, twig, nodes }
    }

    /// The left tree of a twig over its 2048 leaves.
    ///
    /// # Errors
    /// [`MerkleError::Hash`]: the hasher's, or the leaves are not so many.
    pub fn from_leaves(
        hasher: &dyn BatchHasher,
        shard: ShardId,
        twig: TwigId,
        leaves: &[Digest],
    ) -> Result<Self, MerkleError> {
        let mut tree = LeftTree::new(1);
        hasher.left_trees(&mut [tree.group(leaves, 0..leaves.len())])?;
        Ok(Self::collect(shard, twig, |level| &tree.levels()[level - 1]))
    }

    /// The root of the twig's left tree, a node of level 11 (spec 8.1).
    pub fn left_root(&self) -> Digest {
        self.nodes[0]
    }
}

/// The lowest levels of left trees over groups of 16 leaves, hashed together: what a proof of an entry of each needs
/// below the nodes that the twig file keeps.
///
/// ```text
///   level 4   │ n │                          the node of each group
///   level 3   │ 2 n   │
///   level 2   │ 4 n           │              one row behind the other, each of all groups
///   level 1   │ 8 n                   │
///   level 0   │ 16 n leaves                          │
/// ```
///
/// ```
/// use hedgerow_hasher_api::ScalarHasher;
/// use hedgerow_merkle::LeafGroups;
/// use hedgerow_types::Digest;
/// let leaves: Vec<Digest> = (0..32).map(|byte| Digest([byte; 32])).collect();
/// let groups = LeafGroups::hash(&ScalarHasher, leaves.clone())?;
/// let path = groups.path(1, 3).expect("there are two");
/// assert_eq!((path.leaf, path.siblings[0]), (leaves[16 + 3], leaves[16 + 2]));
/// # Ok::<(), hedgerow_merkle::MerkleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LeafGroups {
    /// The rows, from the leaves up.
    nodes: Vec<Digest>,
    groups: usize,
}

/// A leaf on its way to the node of its group.
///
/// ```
/// use hedgerow_hasher_api::ScalarHasher;
/// use hedgerow_merkle::{FINISHED_NODES, LeafGroups, left_path_in};
/// use hedgerow_types::Digest;
/// let leaves = [Digest([5; 32]); 16];
/// let path = LeafGroups::hash(&ScalarHasher, leaves.to_vec())?.path(0, 9).expect("there is one");
/// let mut nodes = [Digest::ZERO; FINISHED_NODES];
/// nodes[127] = path.node;                          // what the twig's record has for the first group
/// assert_eq!(left_path_in(&nodes, &leaves, 9)?[..4], path.siblings);
/// # Ok::<(), hedgerow_merkle::MerkleError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupPath {
    /// The leaf.
    pub leaf: Digest,
    /// Its siblings at the levels 0..=3.
    pub siblings: [Digest; GROUP_LEVEL],
    /// The node of level 4.
    pub node: Digest,
}

impl LeafGroups {
    /// Hashes the nodes over these leaves, 16 of each group.
    ///
    /// # Errors
    /// [`MerkleError::Hash`]: the hasher's, or the leaves are not whole groups.
    pub fn hash(hasher: &dyn BatchHasher, leaves: Vec<Digest>) -> Result<Self, MerkleError> {
        if !leaves.len().is_multiple_of(GROUP_LEAVES) {
            return Err(HashError::Shape("16 leaves per group").into());
        }
        let groups = leaves.len() / GROUP_LEAVES;
        let mut nodes = leaves;
        nodes.resize(Self::row(GROUP_LEVEL + 1, groups), Digest::ZERO);
        for level in 0..GROUP_LEVEL {
            let (below, above) = nodes.split_at_mut(Self::row(level + 1, groups));
            let children = &below[Self::row(level, groups)..];
            let out = &mut above[..groups << (GROUP_LEVEL - 1 - level)];
            hasher.pairs(level as u8, &mut [PairGroup { children, out }])?;
        }
        Ok(Self { nodes, groups })
    }

    /// Where the row of a level begins: below it lie 16 n, 8 n, ... nodes.
    const fn row(level: usize, groups: usize) -> usize {
        groups * (2 * GROUP_LEAVES - ((2 * GROUP_LEAVES) >> level))
    }

    /// The path of a leaf, 0 to 15, of a group; `None` if there is none.
    pub fn path(&self, group: usize, leaf: usize) -> Option<GroupPath> {
        if group >= self.groups || leaf >= GROUP_LEAVES {
            return None;
        }
        let node = |level: usize, index: usize| {
            let in_row = (group << (GROUP_LEVEL - level)) + index;
            self.nodes.get(Self::row(level, self.groups) + in_row).copied()
        };
        let mut siblings = [Digest::ZERO; GROUP_LEVEL];
        for (level, sibling) in siblings.iter_mut().enumerate() {
            *sibling = node(level, (leaf >> level) ^ 1)?;
        }
        Some(GroupPath { leaf: node(0, leaf)?, siblings, node: node(GROUP_LEVEL, 0)? })
    }
}

/// The node of level 4 over the leaves of a group.
pub(crate) fn group_node(leaves: &[Digest; GROUP_LEAVES]) -> Digest {
    let mut row = *leaves;
    let mut width = GROUP_LEAVES;
    for level in 0..GROUP_LEVEL {
        width /= 2;
        for parent in 0..width {
            row[parent] = hash_node(level as u8, &row[2 * parent], &row[2 * parent + 1]);
        }
    }
    row[0]
}

/// The siblings of leaf `leaf` (0..2048 within its twig) at the levels 0..=10 of a finished twig's
/// left tree, from the `nodes` that the twig file keeps (as [`FinishedTwig::nodes`]) and the hashes
/// of the 16 entries of the leaf's group (leaves `leaf / 16 * 16` onward).
///
/// The leaves are checked against the group's node. The nodes are not checked against each other:
/// [`TreePath::fold`](crate::TreePath::fold) does that when it arrives at the known root.
///
/// # Errors
/// [`MerkleError::GroupMismatch`] if the leaves do not hash to the group's node, or if `leaf` is
/// not a leaf of a twig.
pub fn left_path_in(
    nodes: &[Digest; FINISHED_NODES],
    group_leaves: &[Digest; GROUP_LEAVES],
    leaf: usize,
) -> Result<[Digest; 11], MerkleError> {
    let group = leaf / GROUP_LEAVES;
    let mismatch = MerkleError::GroupMismatch { group };
    if leaf >= TWIG_LEAVES {
        return Err(mismatch);
    }

    let mut siblings = [Digest::ZERO; ROOT_LEVEL];
    let mut row = *group_leaves;
    let mut width = GROUP_LEAVES;
    for (level, sibling) in siblings.iter_mut().take(GROUP_LEVEL).enumerate() {
        *sibling = row[((leaf % GROUP_LEAVES) >> level) ^ 1];
        width /= 2;
        for parent in 0..width {
            row[parent] = hash_node(level as u8, &row[2 * parent], &row[2 * parent + 1]);
        }
    }
    let mut node = FIRST_GROUP_NODE + group;
    if nodes[node] != row[0] {
        return Err(mismatch);
    }
    for sibling in siblings.iter_mut().skip(GROUP_LEVEL) {
        // Left children have odd indexes, so a node's sibling is the one that differs in the last
        // bit counted from 1.
        *sibling = nodes[((node + 1) ^ 1) - 1];
        node = (node - 1) / 2;
    }
    Ok(siblings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_hasher_api::ScalarHasher;

    /// Of many groups at once, each has the path that it has by itself.
    #[test]
    fn groups_that_are_hashed_together_have_the_paths_that_they_have_alone() {
        for count in [0, 1, 2, 5, 33] {
            let leaf = |i: usize| Digest(std::array::from_fn(|j| (i * 7 + j) as u8));
            let leaves: Vec<Digest> = (0..count * GROUP_LEAVES).map(leaf).collect();
            let groups = LeafGroups::hash(&ScalarHasher, leaves.clone()).unwrap();
            for (number, leaves) in leaves.as_chunks::<GROUP_LEAVES>().0.iter().enumerate() {
                let mut nodes = [Digest::ZERO; FINISHED_NODES];
                nodes[FIRST_GROUP_NODE + number] = group_node(leaves);
                for (leaf, digest) in leaves.iter().enumerate() {
                    let path = groups.path(number, leaf).unwrap();
                    let alone = left_path_in(&nodes, leaves, number * GROUP_LEAVES + leaf).unwrap();
                    assert_eq!((path.leaf, path.node), (*digest, group_node(leaves)));
                    assert_eq!(path.siblings, alone[..GROUP_LEVEL]);
                }
                assert_eq!(groups.path(number, GROUP_LEAVES), None);
            }
            assert_eq!(groups.path(count, 0), None);
        }
        let half = vec![Digest::ZERO; 8];
        assert!(LeafGroups::hash(&ScalarHasher, half).is_err());
    }
}
