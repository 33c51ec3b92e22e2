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
use crate::levels::{Batches, above_pages, call};
use crate::resident::{Block, Resident};
use crate::shard::SharedTree;
use crate::work::ShardWork;
use hedgerow_hasher_api::{BatchHasher, PairGroup};
use hedgerow_types::{Digest, SHARDS, STATE_LEVELS, STATE_ROOT_LEVEL, TwigId};

/// The tree over the 16 shard roots as a heap: element 1 is the state root, the children of `i` are
/// `2 i` and `2 i + 1`, and shard `s` has its root at `16 + s`. Element 0 is zero.
pub(crate) type StateHeap = [Digest; 2 * SHARDS];

/// Hashes everything above the new leaves and the dirty pages in `work`, up to the state root. The
/// leaves and pages themselves are in place; `work` is used up.
pub(crate) fn flush(
    hasher: &dyn BatchHasher,
    shards: &mut [SharedTree; SHARDS],
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
    (shards, works): (&mut [SharedTree; SHARDS], &mut [ShardWork; SHARDS]),
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

fn left_trees(
    hasher: &dyn BatchHasher,
    shards: &mut [SharedTree; SHARDS],
    works: &[ShardWork; SHARDS],
) -> Result<(), MerkleError> {
    let new = |work: &ShardWork| !work.leaves.is_empty();
    let groups = shards.iter_mut().zip(works).filter(|(_, work)| new(work));
    let groups = groups.filter_map(|(tree, work)| tree.open.above(&work.leaves));
    call(groups, |groups| hasher.left_trees(groups))?;
    for (tree, _) in shards.iter_mut().zip(works).filter(|(_, work)| new(work)) {
        for twig in tree.open.first().0..=tree.open.last().0 {
            if let Some(root) = tree.open.root(TwigId(twig)) {
                tree.joins.set(2 * twig, root);
            }
        }
    }
    Ok(())
}

fn state_tree(
    hasher: &dyn BatchHasher,
    shards: &[SharedTree; SHARDS],
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
