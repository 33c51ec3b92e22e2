//! What one or more blocks changed, for bringing a second copy of the forest up to date.
//!
//! ```text
//!  working    ── apply(h) ──► ── apply(h+1) ──►          hashes, takes long
//!                   │ Dirty        │ Dirty
//!  published        └── copy ──►   └── copy ──►          memcpy of dirty nodes, takes microseconds
//! ```
//!
//! Only what cannot be derived is kept: the first new leaf, and the dirty pages of active bits. The
//! dirty twigs are those that have a dirty page (a new entry sets its bit, so new leaves have dirty
//! pages); the dirty inner nodes are their ancestors. Growth, eviction and pruning show in where the
//! arrays begin and end.

use crate::right::{PAGES, page_of};
use hedgerow_types::{SHARDS, SerialNumber};

/// What one or more blocks changed. See [`Published::copy`](crate::Published::copy).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    pub(crate) shards: [ShardDirty; SHARDS],
}

/// What one or more blocks changed in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardDirty {
    /// Dirty pages, strictly increasing, as numbered by [`ActiveBits`](crate::right::ActiveBits).
    pub(crate) pages: Vec<u64>,
    /// Serial number of the first new leaf; `u64::MAX` if there is none.
    pub(crate) first_leaf: u64,
}

impl Default for ShardDirty {
    fn default() -> Self {
        Self { pages: Vec::new(), first_leaf: u64::MAX }
    }
}

impl ShardDirty {
    /// The dirty twigs, strictly increasing.
    pub(crate) fn twigs(&self) -> Vec<u64> {
        let mut twigs = self.pages.iter().map(|page| page / PAGES).collect::<Vec<_>>();
        twigs.dedup();
        twigs
    }
}

impl Dirty {
    /// What changes if these entries, by shard and in any order, come, go, or become active or inactive.
    pub fn of_entries(entries: [Vec<SerialNumber>; SHARDS]) -> Self {
        let shards = entries.map(|entries| {
            let mut pages: Vec<u64> = entries.iter().map(|sn| page_of(sn.0)).collect();
            pages.sort_unstable();
            pages.dedup();
            ShardDirty { pages, first_leaf: u64::MAX }
        });
        Self { shards }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.pages.is_empty())
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.pages.capacity() * size_of::<u64>()).sum()
    }

    /// Adds what another block changed, so that both can be copied at once.
    pub fn merge(&mut self, other: &Self) {
        for (mine, other) in self.shards.iter_mut().zip(&other.shards) {
            mine.first_leaf = mine.first_leaf.min(other.first_leaf);
            if mine.pages.is_empty() {
                mine.pages.clone_from(&other.pages);
            } else if !other.pages.is_empty() {
                mine.pages.extend_from_slice(&other.pages);
                mine.pages.sort(); // a merge of two sorted runs
                mine.pages.dedup();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_is_a_sorted_union() {
        let dirty = |pages: &[u64], first_leaf| {
            let mut dirty = Dirty::default();
            dirty.shards[3] = ShardDirty { pages: pages.to_vec(), first_leaf };
            dirty
        };
        let mut merged = Dirty::default();
        assert!(merged.is_empty());
        for part in [dirty(&[2, 9], 500), dirty(&[], u64::MAX), dirty(&[1, 2, 17], 600)] {
            merged.merge(&part);
        }
        assert_eq!(merged, dirty(&[1, 2, 9, 17], 500));
        assert_eq!(merged.shards[3].twigs(), [0, 1, 2]);
        assert!(!merged.is_empty());
    }
}
