//! The one way in which nodes are hashed: all shards together, level by level.
//!
//! ```text
//!  calls   level    shape            what, over all shards
//!  1       0        messages         leaf hashes (before this, by `apply`)
//!  1       1..=11   left_trees       left trees above the new leaves
//!  2       9, 10    indexed_pairs    l1 and l2 above the dirty pages of active bits
//!  1       11       pairs            l3 of the dirty twigs
//!  1       12       indexed_pairs    twig roots: left root beside l3
//!  depth   13..     indexed_pairs    upper nodes above the dirty twigs; shards of any depth
//!  4       65..=68  pairs            from the 16 shard roots to the state root
//! ```
//!
//! The number of calls depends on the deepest shard alone: neither on the number of shards nor on
//! the size of the block. (A backend that does nothing of its own for `left_trees` takes 11 calls of
//! `pairs` for it.)

use crate::MerkleError;
use crate::resident::{Block, Resident};
use crate::shard::ShardTree;
use crate::upper::level_of;
use crate::work::ShardWork;
use hedgerow_hasher_api::{BatchHasher, PairGroup};
use hedgerow_types::{
    ACTIVE_BITS_LEVEL, Digest, SHARDS, STATE_LEVELS, STATE_ROOT_LEVEL, TWIG_ROOT_LEVEL,
};

/// The tree over the 16 shard roots as a heap: element 1 is the state root, the children of `i` are
/// `2 i` and `2 i + 1`, and shard `s` has its root at `16 + s`. Element 0 is zero.
pub(crate) type StateHeap = [Digest; 2 * SHARDS];

/// Calls `hash` with the groups, unless there are none.
fn call<G>(
    groups: impl Iterator<Item = G>,
    hash: impl FnOnce(&mut [G]) -> Result<(), hedgerow_hasher_api::HashError>,
) -> Result<(), MerkleError> {
    let mut groups = groups.collect::<Vec<_>>();
    if !groups.is_empty() {
        hash(&mut groups)?;
    }
    Ok(())
}

/// Hashes everything above the new leaves and the dirty pages in `work`, up to the state root. The
/// leaves and pages themselves are in place; `work` is used up.
pub(crate) fn flush(
    hasher: &dyn BatchHasher,
    shards: &mut [ShardTree; SHARDS],
    works: &mut [ShardWork; SHARDS],
    state: &mut StateHeap,
) -> Result<(), MerkleError> {
    left_trees(hasher, shards, works)?;
    above_pages(&mut Batches(hasher), shards, works)?;
    state_tree(hasher, shards, state)
}

/// The same, with the rows above the pages on the hasher's device if it has one that keeps them
/// and the block is worth it. `announce` gets the state tree once, when it is known; the rows may be
/// filled after that.
pub(crate) fn flush_block(
    hasher: &dyn BatchHasher,
    resident: &mut Resident,
    (shards, works): (&mut [ShardTree; SHARDS], &mut [ShardWork; SHARDS]),
    state: &mut StateHeap,
    block: Block<'_>,
    announce: &mut dyn FnMut(&StateHeap),
) -> Result<(), MerkleError> {
    left_trees(hasher, shards, works)?;
    let mut announced = false;
    let done = resident.flush(hasher, shards, works, block, &mut |shards| {
        state_tree(hasher, shards, state)?;
        announced = true;
        announce(state);
        Ok(())
    });
    if done {
        return Ok(());
    }
    for ((work, tree), dirty) in works.iter_mut().zip(&*shards).zip(&block.dirty.shards) {
        work.restart(&tree.bits, dirty);
    }
    above_pages(&mut Batches(hasher), shards, works)?;
    let before = *state;
    state_tree(hasher, shards, state)?;
    if !announced {
        announce(state);
    } else if *state != before {
        return Err(MerkleError::WrongRoot { announced: before[1], right: state[1] });
    }
    Ok(())
}

/// One level of all shards, named by the row that the children lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Pages of active bits to l1.
    Pages,
    /// l1 to l2.
    L1,
    /// l2 to l3, which lies beside the left root.
    L2,
    /// Left root and l3 to the twig root.
    Joins,
    /// This row of the upper tree to the next.
    Upper(usize),
}

/// Who hashes the dirty nodes of a level.
pub(crate) trait Hashing {
    /// Hashes the nodes that `works` name, of all shards that have the row.
    fn hash(
        &mut self,
        step: Step,
        shards: &mut [ShardTree; SHARDS],
        works: &mut [ShardWork; SHARDS],
    ) -> Result<(), MerkleError>;
}

/// Hashes what is above the dirty pages and the left roots, up to the shard roots.
pub(crate) fn above_pages(
    hashing: &mut dyn Hashing,
    shards: &mut [ShardTree; SHARDS],
    works: &mut [ShardWork; SHARDS],
) -> Result<(), MerkleError> {
    for step in [Step::Pages, Step::L1, Step::L2] {
        works.iter_mut().for_each(|work| work.ascend(0));
        hashing.hash(step, shards, works)?;
    }
    for (tree, work) in shards.iter().zip(&mut *works) {
        // Joins left of the first active twig exist only while a forest is restored: those of its
        // evicted twigs, whose roots are yet to be computed.
        work.prepend(tree.first_active().0.saturating_sub(tree.joins.base() / 2));
    }
    hashing.hash(Step::Joins, shards, works)?;
    for (tree, work) in shards.iter().zip(&mut *works) {
        if let Some(roots) = tree.upper.rows().first() {
            work.ascend(tree.joins.parents_skip(roots));
        }
    }
    let depth = shards.iter().map(|tree| tree.upper.rows().len()).max().unwrap_or(0);
    for row in 0..depth.saturating_sub(1) {
        hashing.hash(Step::Upper(row), shards, works)?;
        for (tree, work) in shards.iter().zip(&mut *works) {
            if let [children, parents, ..] = tree.upper.rows().get(row..).unwrap_or_default() {
                work.ascend(children.parents_skip(parents));
            }
        }
    }
    Ok(())
}

/// One batch per level, on rows in memory.
pub(crate) struct Batches<'a>(pub(crate) &'a dyn BatchHasher);

impl Hashing for Batches<'_> {
    fn hash(
        &mut self,
        step: Step,
        shards: &mut [ShardTree; SHARDS],
        works: &mut [ShardWork; SHARDS],
    ) -> Result<(), MerkleError> {
        let hasher = self.0;
        if step == Step::L2 {
            return l3(hasher, shards, works);
        }
        let groups = shards.iter_mut().zip(&*works).filter(|(_, work)| !work.is_clean());
        let groups = groups.filter_map(|(tree, work)| {
            let (children, parents) = match step {
                Step::Pages => (&tree.bits.pages, &mut tree.bits.l1),
                Step::L1 | Step::L2 => (&tree.bits.l1, &mut tree.bits.l2),
                Step::Joins => (&tree.joins, tree.upper.rows_mut().first_mut()?),
                Step::Upper(row) => {
                    let (below, above) = tree.upper.rows_mut().split_at_mut_checked(row + 1)?;
                    (below.last()?, above.first_mut()?)
                }
            };
            Some(children.hash_into(&work.dirty, parents))
        });
        let level = match step {
            Step::Pages => ACTIVE_BITS_LEVEL,
            Step::L1 | Step::L2 => ACTIVE_BITS_LEVEL + 1,
            Step::Joins => TWIG_ROOT_LEVEL - 1,
            Step::Upper(row) => level_of(row),
        };
        call(groups, |groups| hasher.indexed_pairs(level, groups))
    }
}

fn left_trees(
    hasher: &dyn BatchHasher,
    shards: &mut [ShardTree; SHARDS],
    works: &[ShardWork; SHARDS],
) -> Result<(), MerkleError> {
    let groups = shards.iter_mut().zip(works);
    let groups = groups.filter_map(|(tree, work)| tree.open.above(&work.leaves));
    call(groups, |groups| hasher.left_trees(groups))?;
    for tree in shards {
        for twig in tree.open.first().0..=tree.open.last().0 {
            if let Some(root) = tree.open.root(hedgerow_types::TwigId(twig)) {
                tree.joins.set(2 * twig, root);
            }
        }
    }
    Ok(())
}

/// l3 has no array of its own: it lies beside the left root. Few nodes, so copies are cheap.
fn l3(
    hasher: &dyn BatchHasher,
    shards: &mut [ShardTree; SHARDS],
    works: &mut [ShardWork; SHARDS],
) -> Result<(), MerkleError> {
    for (tree, work) in shards.iter().zip(&mut *works) {
        work.children.clear();
        for &twig in &work.dirty {
            let children = 2 * twig as usize..2 * twig as usize + 2;
            let children = tree.bits.l2.live().get(children).unwrap_or_default();
            work.children.extend_from_slice(children);
        }
        work.parents.clear();
        work.parents.resize(work.dirty.len(), Digest::ZERO);
    }
    let groups = works.iter_mut().filter(|work| !work.is_clean());
    let groups = groups.map(|work| PairGroup { children: &work.children, out: &mut work.parents });
    call(groups, |groups| hasher.pairs(ACTIVE_BITS_LEVEL + 2, groups))?;
    for (tree, work) in shards.iter_mut().zip(&*works) {
        let first = tree.bits.first_twig().0;
        for (&twig, &l3) in work.dirty.iter().zip(&work.parents) {
            tree.joins.set(2 * (first + u64::from(twig)) + 1, l3);
        }
    }
    Ok(())
}

fn state_tree(
    hasher: &dyn BatchHasher,
    shards: &[ShardTree; SHARDS],
    state: &mut StateHeap,
) -> Result<(), MerkleError> {
    for (tree, root) in shards.iter().zip(&mut state[SHARDS..]) {
        *root = tree.root();
    }
    for level in 0..STATE_LEVELS {
        let width = SHARDS >> level;
        let (above, children) = state.split_at_mut(width);
        let groups =
            &mut [PairGroup { children: &children[..width], out: &mut above[width / 2..] }];
        hasher.pairs(STATE_ROOT_LEVEL + level as u8, groups)?;
    }
    Ok(())
}
