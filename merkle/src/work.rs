//! What one block changes in a shard, on its way to the hasher; memory kept from block to block.
//!
//! Dirty nodes are numbers, counted at every level from the parent of the first two nodes of the row below.
//! An example: twigs up to 4 are pruned, twig 5 is evicted, twigs 6 and 9 are dirty, 9 is the youngest.
//!
//! ```text
//!  row            holds nodes   base      dirty numbers    are nodes      skip to the row above
//!  joins          12 .. 20      12 = 2x6  0, 3             twigs 6, 9     12/2 - 4 = 2
//!  upper 0 (12)    4 .. 10       4        (0, 3 + 2)/2     3, 4            4/2 - 2 = 0
//!                                         = 1, 2           of upper 1
//!  upper 1 (13)    2 .. 6        2        (1, 2 + 0)/2     1, 2            2/2 - 0 = 1
//!                                         = 0, 1           of upper 2
//!  upper 2 (14)    0 .. 4        0        (0, 1 + 1)/2     0, 1            0
//!                                         = 0, 1           of upper 3
//! ```
//!
//! Number 0 of the joins is twig 6, since its first two nodes are the halves of that twig. In the row of
//! twig roots that is node 6, two behind the row's first: the *skip*, which the outputs begin at
//! ([`Row::hash_into`](crate::row::Row::hash_into)) and which is added before the numbers are halved
//! ([`ShardWork::ascend`]). Numbers above are then counted from the parent of nodes 4 and 5, which is 2.

use crate::dirty::ShardDirty;
use crate::right::{ActiveBits, page_of};
use hedgerow_types::{Digest, SerialNumber};
use std::ops::Range;

/// What one block changes in one shard.
///
/// Dirty pages are gathered in a bitmap and read out as a sorted list, which is then reduced level
/// by level: `dirty` names nodes of the level being hashed, counted from the parent of the first
/// two nodes of the level below.
#[derive(Debug, Default)]
pub(crate) struct ShardWork {
    /// One bit per page in memory, all 0 between blocks.
    marks: Vec<u64>,
    /// The words of `marks` that may have a bit set.
    marked: Range<usize>,
    /// Serial numbers of the leaves that are new.
    pub(crate) leaves: Range<u64>,
    /// The nodes to be hashed next, strictly increasing.
    pub(crate) dirty: Vec<u32>,
    /// Copied children of nodes whose level has no array of its own, and the nodes themselves.
    pub(crate) children: Vec<Digest>,
    pub(crate) parents: Vec<Digest>,
}

impl ShardWork {
    /// Forgets the last block, also if it failed half way.
    pub(crate) fn reset(&mut self) {
        self.marks[self.marked.clone()].fill(0);
        self.marked = 0..0;
        self.leaves = 0..0;
        self.dirty.clear();
    }

    /// Marks the page that holds the bit of `sn`, a serial number in memory.
    pub(crate) fn mark_page(&mut self, bits: &ActiveBits, sn: SerialNumber) {
        self.mark(page_of(sn.0).saturating_sub(bits.pages.base()) as usize);
    }

    /// Notes new leaves, and marks the pages that hold their bits.
    pub(crate) fn mark_entries(&mut self, bits: &ActiveBits, entries: Range<u64>) {
        if let Some(last) = entries.clone().next_back() {
            for page in page_of(entries.start)..=page_of(last) {
                self.mark(page.saturating_sub(bits.pages.base()) as usize);
            }
        }
        self.leaves = entries;
    }

    fn mark(&mut self, page: usize) {
        let word = page / 64;
        if self.marks.len() <= word {
            self.marks.resize(word + 1, 0);
        }
        self.marks[word] |= 1 << (page % 64);
        self.marked = if self.marked.is_empty() {
            word..word + 1
        } else {
            self.marked.start.min(word)..self.marked.end.max(word + 1)
        };
    }

    /// Reads out the marked pages into `dirty`, counted from the first page in memory.
    pub(crate) fn collect(&mut self) {
        self.dirty.clear();
        for word in self.marked.clone() {
            let mut rest = std::mem::take(&mut self.marks[word]);
            while rest != 0 {
                self.dirty.push(word as u32 * 64 + rest.trailing_zeros());
                rest &= rest - 1;
            }
        }
        self.marked = 0..0;
    }

    /// Makes the pages of `dirty` the dirty nodes again.
    pub(crate) fn restart(&mut self, bits: &ActiveBits, dirty: &ShardDirty) {
        let base = bits.pages.base();
        self.dirty.clear();
        self.dirty.extend(dirty.pages.iter().map(|page| page.saturating_sub(base) as u32));
    }

    /// What the published twin of the tree has to copy, between [`collect`](Self::collect) and the
    /// first [`ascend`](Self::ascend).
    pub(crate) fn to_copy(&self, bits: &ActiveBits) -> ShardDirty {
        let base = bits.pages.base();
        ShardDirty {
            pages: self.dirty.iter().map(|&page| base + u64::from(page)).collect(),
            first_leaf: if self.leaves.is_empty() { u64::MAX } else { self.leaves.start },
        }
    }

    /// Whether the shard has nothing to hash.
    pub(crate) fn is_clean(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Replaces the dirty nodes by their parents. `skip` is the number of nodes of their level that
    /// lie left of the one with number 0, and is added before.
    pub(crate) fn ascend(&mut self, skip: u64) {
        let skip = skip as u32; // rows in memory are addressed in 32 bits
        for node in &mut self.dirty {
            *node = (*node + skip) >> 1;
        }
        self.dirty.dedup();
    }

    /// Puts `count` dirty nodes before those there are.
    pub(crate) fn prepend(&mut self, count: u64) {
        if count > 0 {
            let count = count as u32; // rows in memory are addressed in 32 bits
            for node in &mut self.dirty {
                *node += count;
            }
            self.dirty.splice(0..0, 0..count);
        }
    }

    /// Heap bytes, slack included.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.marks.capacity() * size_of::<u64>()
            + self.dirty.capacity() * size_of::<u32>()
            + (self.children.capacity() + self.parents.capacity()) * size_of::<Digest>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::right::PAGES;
    use crate::row::Row;
    use hedgerow_hasher_api::null_table;
    use hedgerow_types::TwigId;

    #[test]
    fn marks_come_back_sorted_and_without_duplicates() {
        let mut bits = ActiveBits::new(TwigId(3));
        bits.grow_to(TwigId(90), null_table());
        let first = TwigId(3).first();
        let mut work = ShardWork::default();
        for _ in 0..2 {
            for page in [600, 5, 64, 63, 5, 600, 0, 128] {
                work.mark_page(&bits, first.plus(page * 256 + page % 256));
            }
            work.mark_entries(&bits, first.0 + 200 * 256 + 255..first.0 + 202 * 256 + 1);
            work.collect();
            assert_eq!(work.dirty, [0, 5, 63, 64, 128, 200, 201, 202, 600]);
            assert_eq!(work.to_copy(&bits).pages[1], 3 * PAGES + 5);
            work.reset();
        }
        work.collect();
        assert!(work.is_clean());
        assert_eq!(work.to_copy(&bits), ShardDirty::default());
    }

    /// The example of the module's comment.
    #[test]
    fn numbers_are_counted_from_the_parent_of_the_first_two() {
        let joins = Row::new(12);
        let upper = [4, 2, 0, 0].map(Row::new);
        let mut work = ShardWork { dirty: vec![0, 3], ..ShardWork::default() };
        let mut below = &joins;
        let mut seen: Vec<Vec<u64>> = Vec::new();
        for row in &upper {
            let first = below.base() / 2;
            seen.push(work.dirty.iter().map(|&number| first + u64::from(number)).collect());
            work.ascend(below.parents_skip(row));
            below = row;
        }
        assert_eq!(seen, [vec![6, 9], vec![3, 4], vec![1, 2], vec![0, 1]]);
    }

    #[test]
    fn ascending_halves_and_dedups() {
        let mut work = ShardWork { dirty: vec![0, 1, 2, 5, 6, 7], ..ShardWork::default() };
        work.ascend(0);
        assert_eq!(work.dirty, [0, 1, 2, 3]);
        work.ascend(1);
        assert_eq!(work.dirty, [0, 1, 2]);
        work.prepend(2);
        assert_eq!(work.dirty, [0, 1, 2, 3, 4]);
    }
}
