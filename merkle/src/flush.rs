//! The one way in which nodes are hashed: all shards together, level by level.
//!
//! ```text
//!  calls   level    shape            what, over all shards
//!  1       0        messages         leaf hashes (before this, by `apply`)
//!  11      1..=11   pairs            left trees above the new leaves
//!  2       9, 10    indexed_pairs    l1 and l2 above the dirty pages of active bits
//!  1       11       pairs            l3 of the dirty twigs
//!  1       12       indexed_pairs    twig roots: left root beside l3
//!  depth   13..     indexed_pairs    upper nodes above the dirty twigs; shards of any depth
//!  4       65..=68  pairs            from the 16 shard roots to the state root
//! ```
//!
//! The number of calls depends on the deepest shard alone: neither on the number of shards nor on
//! the size of the block.

use crate::MerkleError;
use crate::left::LEFT_ROOT_LEVEL;
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
    right_trees(hasher, shards, works)?;
    twig_roots(hasher, shards, works)?;
    upper_trees(hasher, shards, works)?;
    state_tree(hasher, shards, state)
}

fn left_trees(
    hasher: &dyn BatchHasher,
    shards: &mut [ShardTree; SHARDS],
    works: &[ShardWork; SHARDS],
) -> Result<(), MerkleError> {
    for level in 0..LEFT_ROOT_LEVEL {
        let groups = shards.iter_mut().zip(works);
        let groups = groups.filter_map(|(tree, work)| tree.open.hash_up(level, &work.leaves));
        call(groups, |groups| hasher.pairs(level as u8, groups))?;
    }
    for tree in shards {
        for twig in tree.open.first().0..=tree.open.last().0 {
            if let Some(root) = tree.open.root(hedgerow_types::TwigId(twig)) {
                tree.joins.set(2 * twig, root);
            }
        }
    }
    Ok(())
}

fn right_trees(
    hasher: &dyn BatchHasher,
    shards: &mut [ShardTree; SHARDS],
    works: &mut [ShardWork; SHARDS],
) -> Result<(), MerkleError> {
    works.iter_mut().for_each(|work| work.ascend(0));
    let groups = shards.iter_mut().zip(&*works).filter(|(_, work)| !work.is_clean());
    let groups =
        groups.map(|(tree, work)| tree.bits.pages.hash_into(&work.dirty, &mut tree.bits.l1));
    call(groups, |groups| hasher.indexed_pairs(ACTIVE_BITS_LEVEL, groups))?;

    works.iter_mut().for_each(|work| work.ascend(0));
    let groups = shards.iter_mut().zip(&*works).filter(|(_, work)| !work.is_clean());
    let groups = groups.map(|(tree, work)| tree.bits.l1.hash_into(&work.dirty, &mut tree.bits.l2));
    call(groups, |groups| hasher.indexed_pairs(ACTIVE_BITS_LEVEL + 1, groups))?;

    // l3 has no array of its own: it lies beside the left root. Few nodes, so copies are cheap.
    for (tree, work) in shards.iter().zip(&mut *works) {
        work.ascend(0);
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

fn twig_roots(
    hasher: &dyn BatchHasher,
    shards: &mut [ShardTree; SHARDS],
    works: &mut [ShardWork; SHARDS],
) -> Result<(), MerkleError> {
    for (tree, work) in shards.iter().zip(&mut *works) {
        // Joins left of the first active twig exist only while a forest is restored: those of its
        // evicted twigs, whose roots are yet to be computed.
        work.prepend(tree.first_active().0.saturating_sub(tree.joins.base() / 2));
    }
    let groups = shards.iter_mut().zip(&*works).filter(|(_, work)| !work.is_clean());
    let groups = groups.filter_map(|(tree, work)| {
        Some(tree.joins.hash_into(&work.dirty, tree.upper.rows_mut().first_mut()?))
    });
    call(groups, |groups| hasher.indexed_pairs(TWIG_ROOT_LEVEL - 1, groups))?;
    for (tree, work) in shards.iter().zip(works) {
        if let Some(roots) = tree.upper.rows().first() {
            work.ascend(tree.joins.parents_skip(roots));
        }
    }
    Ok(())
}

fn upper_trees(
    hasher: &dyn BatchHasher,
    shards: &mut [ShardTree; SHARDS],
    works: &mut [ShardWork; SHARDS],
) -> Result<(), MerkleError> {
    let depth = shards.iter().map(|tree| tree.upper.rows().len()).max().unwrap_or(0);
    for row in 0..depth {
        let groups = shards.iter_mut().zip(&*works).filter(|(_, work)| !work.is_clean());
        let groups = groups.filter_map(|(tree, work)| {
            let (below, above) = tree.upper.rows_mut().split_at_mut_checked(row + 1)?;
            Some(below.last()?.hash_into(&work.dirty, above.first_mut()?))
        });
        call(groups, |groups| hasher.indexed_pairs(level_of(row), groups))?;
        for (tree, work) in shards.iter().zip(&mut *works) {
            if let [children, parents, ..] = tree.upper.rows().get(row..).unwrap_or_default() {
                work.ascend(children.parents_skip(parents));
            }
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
