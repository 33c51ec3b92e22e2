//! The upper tree of one shard: twig roots and everything above them.
//!
//! ```text
//!  level 15            0           (n)          root level: the smallest with one node
//!  level 14      0           1                  first_kept = 5:  base = 0
//!  level 13   .     .     2     3                                base = 2
//!  level 12  .  .  .  .  4  5  6 (n)            twigs 0..=6      base = 4
//!                        ▲  ▲     ▲
//!                     edge  first padding: the null node stands for a missing right sibling
//!                           kept  (spec 8.2), so every row has even length
//! ```
//!
//! Rows grow by null nodes. That is all that an empty twig, and every ancestor of it that has no
//! entry below, ever needs: only what is above new entries and cleared bits is hashed.
//!
//! The row of level L begins at `(first_kept >> (L - 12))` rounded down to even: where that is odd,
//! the node before it is an *edge*, the root of everything pruned below it. The edges and the twigs
//! from `first_kept` on are all that the tree can be computed from.

use crate::row::Row;
use hedgerow_hasher_api::NullTable;
use hedgerow_types::{Digest, TWIG_ROOT_LEVEL, TwigId};

/// The upper tree of one shard. See the [module documentation](self).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UpperTree {
    first_kept: TwigId,
    /// Rows of the levels 12 (twig roots) to the root's.
    rows: Vec<Row>,
}

/// Levels that the tree over the twigs `0 ..= youngest` has above the twig roots (spec 8.2).
pub(crate) const fn levels_above_twigs(youngest: TwigId) -> usize {
    (u64::BITS - youngest.0.leading_zeros()) as usize
}

/// The number of the row's level; rows are at most 64.
pub(crate) const fn level_of(row: usize) -> u8 {
    TWIG_ROOT_LEVEL + row as u8
}

/// Index of the first node kept in a row.
const fn base(first_kept: TwigId, row: usize) -> u64 {
    (first_kept.0 >> row) & !1
}

impl UpperTree {
    /// No twig yet; the first one will be `first_kept`.
    pub(crate) fn new(first_kept: TwigId) -> Self {
        Self { first_kept, rows: Vec::new() }
    }

    /// Adds twigs without entries until `youngest` is the youngest, and the levels they need.
    /// `youngest` is at least `first_kept`.
    pub(crate) fn grow_to(&mut self, youngest: TwigId, null: &NullTable) {
        let above = levels_above_twigs(youngest);
        while self.rows.len() <= above {
            self.rows.push(Row::new(base(self.first_kept, self.rows.len())));
        }
        for (row, nodes) in self.rows.iter_mut().enumerate() {
            let count = (youngest.0 >> row) + 1;
            nodes.extend_to(count.next_multiple_of(2), null.upper[usize::from(level_of(row))]);
        }
    }

    /// The first twig not pruned.
    pub(crate) fn first_kept(&self) -> TwigId {
        self.first_kept
    }

    /// Rows from level 12 to the root's.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Rows from level 12 to the root's.
    pub(crate) fn rows_mut(&mut self) -> &mut [Row] {
        &mut self.rows
    }

    /// The node with this index in a row, if the tree holds it.
    pub(crate) fn node(&self, row: usize, index: u64) -> Option<Digest> {
        self.rows.get(row)?.get(index).copied()
    }

    /// The shard root.
    pub(crate) fn root(&self) -> Option<Digest> {
        self.rows.last()?.live().first().copied()
    }

    /// The nodes that pruning up to `first_kept` takes away but that the tree right of it needs:
    /// (row, node), by row. `None` if one of them is pruned already.
    pub(crate) fn edges(&self, first_kept: TwigId) -> Option<Vec<(usize, Digest)>> {
        edge_places(first_kept).map(|(row, index)| Some((row, self.node(row, index)?))).collect()
    }

    /// Drops everything left of `first_kept` but its edges.
    pub(crate) fn prune(&mut self, first_kept: TwigId) {
        self.first_kept = first_kept;
        for (row, nodes) in self.rows.iter_mut().enumerate() {
            nodes.drop_below(base(first_kept, row));
        }
    }

    /// Makes this tree equal to `from`, given that they differ, where both hold them, at most in
    /// the twigs `dirty` (increasing) and above them. Uses `dirty` up.
    pub(crate) fn copy(&mut self, from: &Self, dirty: &mut Vec<u64>) {
        self.first_kept = self.first_kept.max(from.first_kept);
        for (row, nodes) in from.rows.iter().enumerate() {
            if row == self.rows.len() {
                self.rows.push(Row::new(nodes.base()));
            }
            let Some(mine) = self.rows.get_mut(row) else { return };
            mine.align(nodes);
            for node in dirty.iter_mut() {
                mine.copy(nodes, *node);
                *node >>= 1;
            }
            dirty.dedup();
        }
    }

    /// Heap bytes, slack included.
    pub(crate) fn heap_bytes(&self) -> usize {
        let rows = self.rows.capacity() * size_of::<Row>();
        rows + self.rows.iter().map(Row::heap_bytes).sum::<usize>()
    }
}

/// (row, index) of every edge of `first_kept`, by row.
pub(crate) fn edge_places(first_kept: TwigId) -> impl Iterator<Item = (usize, u64)> {
    (0..levels_above_twigs(first_kept))
        .map(move |row| (row, first_kept.0 >> row))
        .filter(|(_, index)| index % 2 == 1)
        .map(|(row, index)| (row, index - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_level_is_the_smallest_with_one_node() {
        // max_level = 13 + floor(log2(y)) for y >= 1 (spec 8.2)
        for (youngest, level) in [(0, 12), (1, 13), (2, 14), (3, 14), (4, 15), (7, 15), (8, 16)] {
            assert_eq!(level_of(levels_above_twigs(TwigId(youngest))), level, "{youngest}");
        }
    }

    #[test]
    fn edges_stand_left_of_odd_ancestors() {
        let places = |first_kept| edge_places(TwigId(first_kept)).collect::<Vec<_>>();
        assert_eq!(places(0), []);
        assert_eq!(places(1), [(0, 0)]);
        assert_eq!(places(4), [(2, 0)]);
        assert_eq!(places(5), [(0, 4), (2, 0)]);
        assert_eq!(places(7), [(0, 6), (1, 2), (2, 0)]);
    }
}
