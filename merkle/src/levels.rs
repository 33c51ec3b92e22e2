//! The levels above the dirty pages of active bits, whoever hashes them.
//!
//! ```text
//!  step       children (level)      parents              which: `ShardWork::dirty`
//!  Pages      pages (8)             l1                   dirty pages / 2
//!  L1         l1 (9)                l2                   / 2
//!  L2         l2 (10)               l3, in the joins     / 2: dirty twigs
//!  Joins      joins (11)            row 0 of upper       dirty twigs
//!  Upper(i)   row i of upper (12+i) row i + 1            / 2, counted from where that row begins
//! ```
//!
//! [`above_pages`] is the order; [`Hashing`] is who does it: [`Batches`], in memory with one batch per
//! level, or rows on a device (`resident`).

use crate::MerkleError;
use crate::shard::SharedTree;
use crate::upper::level_of;
use crate::work::ShardWork;
use hedgerow_hasher_api::{BatchHasher, HashError, PairGroup};
use hedgerow_types::{ACTIVE_BITS_LEVEL, Digest, SHARDS, TWIG_ROOT_LEVEL};

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
        shards: &mut [SharedTree; SHARDS],
        works: &mut [ShardWork; SHARDS],
    ) -> Result<(), MerkleError>;
}

/// Hashes what is above the dirty pages and the left roots, up to the shard roots.
pub(crate) fn above_pages(
    hashing: &mut dyn Hashing,
    shards: &mut [SharedTree; SHARDS],
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
        shards: &mut [SharedTree; SHARDS],
        works: &mut [ShardWork; SHARDS],
    ) -> Result<(), MerkleError> {
        let hasher = self.0;
        if step == Step::L2 {
            return l3(hasher, shards, works);
        }
        let groups = shards.iter_mut().zip(&*works).filter(|(_, work)| !work.is_clean());
        let groups = groups.filter_map(|(tree, work)| {
            let tree = &mut **tree;
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

/// l3 has no array of its own: it lies beside the left root. Few nodes, so copies are cheap.
fn l3(
    hasher: &dyn BatchHasher,
    shards: &mut [SharedTree; SHARDS],
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

/// Calls `hash` with the groups, unless there are none.
pub(crate) fn call<G>(
    groups: impl Iterator<Item = G>,
    hash: impl FnOnce(&mut [G]) -> Result<(), HashError>,
) -> Result<(), MerkleError> {
    let mut groups = groups.collect::<Vec<_>>();
    if !groups.is_empty() {
        hash(&mut groups)?;
    }
    Ok(())
}
