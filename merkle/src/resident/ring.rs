//! Where nodes lie on the device: a ring per shard and row.
//!
//! ```text
//!  shard 0           shard 1           ...   shard 15
//!  ├── len(row) ─────┼── len(row) ─────┼─        ─────────┤   one row on the device
//!  │ 8 9 10 3 4 5 6 7│ ...                                    node i of a shard at i modulo len
//! ```
//!
//! Rings halve from row to row as the tree does, so that a parent finds its children by its place;
//! and they go on for ever, however far the tree moves to the right.

use crate::levels::Step;
use crate::right::PAGES;
use crate::row::Row;
use crate::shard::{ShardTree, SharedTree};
use crate::upper::level_of;
use hedgerow_hasher_api::{HashError, Target};
use hedgerow_types::{ACTIVE_BITS_LEVEL, SHARDS, TWIG_ROOT_LEVEL};

/// Places per shard of the highest row on the device: above it, a level has too few nodes to be
/// worth a launch.
const TOP_PLACES: u64 = 64;
/// Smallest ring, in twigs.
const LEAST_RING: u64 = 2 * TOP_PLACES;

/// Rows as the device numbers them: pages, l1, l2, joins, then the upper tree from level 12 on.
pub(super) const PAGES_ROW: usize = 0;
pub(super) const JOINS_ROW: usize = 3;
pub(super) const UPPER_ROWS: usize = 4;

/// Where nodes lie on the device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    /// Twigs per shard, a power of two.
    twigs: u64,
}

impl Ring {
    /// One with room for the twigs of `shards` and half as many again.
    pub(super) fn for_shards(shards: &[SharedTree; SHARDS]) -> Self {
        let most = shards.iter().map(|tree| twigs_held(tree)).max().unwrap_or(0);
        Self { twigs: (most + most / 2).next_power_of_two().max(LEAST_RING) }
    }

    /// Whether the twigs of `shards` fit. In the highest row, a sixteenth is what the ends of the
    /// row may take beyond the twigs' share: it begins at an even node and ends before one.
    pub(super) fn holds(self, shards: &[SharedTree; SHARDS]) -> bool {
        shards.iter().all(|tree| twigs_held(tree) <= self.twigs / 16 * 15)
    }

    /// Number of rows on the device.
    pub(super) const fn rows(self) -> usize {
        UPPER_ROWS + (self.twigs / TOP_PLACES).ilog2() as usize + 1
    }

    /// Places per shard.
    pub(super) const fn len(self, row: usize) -> u64 {
        match row {
            PAGES_ROW..=2 => self.twigs * (PAGES >> row),
            JOINS_ROW => 2 * self.twigs,
            _ => self.twigs >> (row - UPPER_ROWS),
        }
    }

    /// Places of all shards, by row.
    ///
    /// # Errors
    /// [`HashError::DoesNotFit`] if 32 bits do not name them all, or not all words of the pages:
    /// bits are flipped by 32-bit words, 8 per page.
    pub(super) fn lens(self) -> Result<Vec<u32>, HashError> {
        let too_long = || HashError::DoesNotFit {
            backend: "resident".into(),
            reason: "a row has more places than 32 bits name".into(),
        };
        if SHARDS as u64 * self.len(PAGES_ROW) > u64::from(u32::MAX / 8) {
            return Err(too_long());
        }
        let lens = (0..self.rows()).map(|row| u32::try_from(SHARDS as u64 * self.len(row)));
        lens.collect::<Result<_, _>>().map_err(|_| too_long())
    }

    /// Place of a node in a row with `len` places per shard.
    pub(super) const fn place_in(len: u64, shard: usize, index: u64) -> u32 {
        (shard as u64 * len + index % len) as u32 // `lens` has checked that places fit
    }

    pub(super) const fn place(self, row: usize, shard: usize, index: u64) -> u32 {
        Self::place_in(self.len(row), shard, index)
    }

    /// The highest row on the device that the shard has.
    pub(super) fn last_row(self, tree: &ShardTree) -> usize {
        (UPPER_ROWS + tree.upper.rows().len()).min(self.rows()) - 1
    }
}

/// Twigs between the oldest node and the youngest twig.
fn twigs_held(tree: &ShardTree) -> u64 {
    let oldest = tree.upper.rows().first().map_or(0, Row::base).min(tree.joins.base() / 2);
    tree.youngest().0 + 1 - oldest.min(tree.youngest().0)
}

pub(super) fn row_of(tree: &ShardTree, row: usize) -> Option<&Row> {
    match row {
        PAGES_ROW => Some(&tree.bits.pages),
        1 => Some(&tree.bits.l1),
        2 => Some(&tree.bits.l2),
        JOINS_ROW => Some(&tree.joins),
        _ => tree.upper.rows().get(row - UPPER_ROWS),
    }
}

pub(super) fn row_of_mut(tree: &mut ShardTree, row: usize) -> Option<&mut Row> {
    match row {
        PAGES_ROW => Some(&mut tree.bits.pages),
        1 => Some(&mut tree.bits.l1),
        2 => Some(&mut tree.bits.l2),
        JOINS_ROW => Some(&mut tree.joins),
        _ => tree.upper.rows_mut().get_mut(row - UPPER_ROWS),
    }
}

/// The row that the children of a step lie in, their level, and where the parents go.
pub(super) fn ends_of(step: Step) -> (usize, u8, Target) {
    match step {
        Step::Pages => (PAGES_ROW, ACTIVE_BITS_LEVEL, Target::row(1)),
        Step::L1 => (1, ACTIVE_BITS_LEVEL + 1, Target::row(2)),
        Step::L2 => (2, ACTIVE_BITS_LEVEL + 2, Target { row: JOINS_ROW, stride: 2, offset: 1 }),
        Step::Joins => (JOINS_ROW, TWIG_ROOT_LEVEL - 1, Target::row(UPPER_ROWS)),
        Step::Upper(row) => (UPPER_ROWS + row, level_of(row), Target::row(UPPER_ROWS + row + 1)),
    }
}

/// Index in its row of the parent with this number.
pub(super) fn index_of(to: Target, parent: u64) -> u64 {
    u64::from(to.stride) * parent + u64::from(to.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 32 bits name the words of the pages of 2^21 twigs per shard, not of twice as many.
    #[test]
    fn a_ring_is_as_long_as_the_words_of_its_pages_allow() {
        let lens = Ring { twigs: 1 << 21 }.lens().unwrap();
        assert_eq!(u64::from(lens[PAGES_ROW]) * 8, 1 << 31);
        assert!(matches!(Ring { twigs: 1 << 22 }.lens(), Err(HashError::DoesNotFit { .. })));
        assert!(matches!(Ring { twigs: 1 << 40 }.lens(), Err(HashError::DoesNotFit { .. })));
    }

    #[test]
    fn rings_halve_from_row_to_row() {
        let ring = Ring { twigs: 4 * TOP_PLACES };
        let lens = (0..ring.rows()).map(|row| ring.len(row)).collect::<Vec<_>>();
        assert_eq!(lens, [2048, 1024, 512, 512, 256, 128, 64]);
        assert_eq!(ring.place(4, 3, 256 + 7), 3 * 256 + 7);
    }
}
