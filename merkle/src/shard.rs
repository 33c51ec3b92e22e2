//! The tree of one shard: its arrays, and what may happen to them besides hashing.
//!
//! ```text
//!               0 ....... first_kept ....... first_active ......... youngest
//!  left trees                                                          █      leaves and levels 1..=11
//!  active bits                                     ████████████████████████   pages, l1, l2
//!  joins                                           ████████████████████████   [left root, l3] per twig
//!  upper tree   edges         █████████████████████████████████████████████   twig roots and above
//!               pruned        evicted              active
//! ```
//!
//! A shard always has the twigs `0 ..= youngest`, youngest = next serial number / 2048: when the
//! last leaf of a twig is filled, the next twig exists at once, empty (spec 8.2).
//!
//! Invariants:
//! * `first_kept <= first_active = oldest_active / 2048 <= youngest`.
//! * No entry below `oldest_active` is active.
//! * Between blocks one twig is open (its left tree is in memory): the youngest.

use crate::dirty::ShardDirty;
use crate::left::OpenTwigs;
use crate::right::ActiveBits;
use crate::row::Row;
use crate::upper::{UpperTree, level_of};
use crate::work::ShardWork;
use crate::{MerkleError, ShardChange};
use hedgerow_hasher_api::{NullTable, null_table};
use hedgerow_types::{Digest, MAX_TWIGS, MAX_TWIGS_HELD, SerialNumber, ShardId, TwigId};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The tree of one shard. See the [module documentation](self).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ShardTree {
    pub(crate) next_sn: SerialNumber,
    pub(crate) oldest_active: SerialNumber,
    pub(crate) open: OpenTwigs,
    pub(crate) bits: ActiveBits,
    /// Both halves of every active twig, `[left root, l3]`: the children of its twig root.
    pub(crate) joins: Row,
    pub(crate) upper: UpperTree,
}

/// The tree of a shard in a forest. Forests that have the same one share it, until one of them changes it, which
/// makes a copy. A forest that shares it with nobody, as the one that blocks are applied to, makes none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SharedTree(Arc<ShardTree>);

impl SharedTree {
    pub(crate) fn new(tree: ShardTree) -> Self {
        Self(Arc::new(tree))
    }

    /// A copy that is shared with nobody.
    pub(crate) fn apart(&self) -> Self {
        Self::new(ShardTree::clone(&self.0))
    }

    /// Gives memory back that is for blocks to come, unless others share the tree.
    pub(crate) fn shrink(&mut self) {
        if let Some(tree) = Arc::get_mut(&mut self.0) {
            tree.open.shrink();
        }
    }

    /// Whether it is one and the same as `other`.
    pub(crate) fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for SharedTree {
    type Target = ShardTree;

    fn deref(&self) -> &ShardTree {
        &self.0
    }
}

impl DerefMut for SharedTree {
    fn deref_mut(&mut self) -> &mut ShardTree {
        Arc::make_mut(&mut self.0)
    }
}

impl ShardTree {
    /// A shard without entries: one empty twig.
    pub(crate) fn new() -> Self {
        let null = null_table();
        let mut tree = Self::bare(TwigId(0), TwigId(0), TwigId(0), null);
        tree.grow_to(TwigId(0), null);
        tree
    }

    /// A tree without twigs that begins at the twigs given: `first_kept` in the upper tree,
    /// `first_active` in the active bits, `youngest` in the left trees. The joins begin at
    /// `first_kept`, so that the roots of the evicted twigs can be computed with the others.
    pub(crate) fn bare(
        first_kept: TwigId,
        first_active: TwigId,
        youngest: TwigId,
        null: &NullTable,
    ) -> Self {
        Self {
            next_sn: youngest.first(),
            oldest_active: first_active.first(),
            open: OpenTwigs::new(youngest, null),
            bits: ActiveBits::new(first_active),
            joins: Row::new(2 * first_kept.0),
            upper: UpperTree::new(first_kept),
        }
    }

    /// The twig that the next entry goes to.
    pub(crate) fn youngest(&self) -> TwigId {
        self.next_sn.twig()
    }

    /// The twig of the oldest active entry.
    pub(crate) fn first_active(&self) -> TwigId {
        self.bits.first_twig()
    }

    /// The shard root.
    pub(crate) fn root(&self) -> Digest {
        self.upper.root().unwrap_or(Digest::ZERO) // there is always a twig, hence a root
    }

    /// Adds twigs without entries to every array until `youngest` is the youngest.
    pub(crate) fn grow_to(&mut self, youngest: TwigId, null: &NullTable) {
        self.open.open_to(youngest, null);
        self.bits.grow_to(youngest, null);
        for _ in self.joins.end() / 2..=youngest.0 {
            self.joins.extend(&[null.left[11], null.active_l3]);
        }
        self.upper.grow_to(youngest, null);
    }

    /// Whether a shard may hold the twigs from `first` to `youngest`.
    pub(crate) fn check_size(
        shard: ShardId,
        first: TwigId,
        youngest: TwigId,
    ) -> Result<(), MerkleError> {
        if youngest.0 < MAX_TWIGS && youngest.0.saturating_sub(first.0) < MAX_TWIGS_HELD {
            Ok(())
        } else {
            Err(MerkleError::TooManyTwigs { shard })
        }
    }

    /// Whether the twigs left of `first_kept` can be pruned.
    pub(crate) fn check_first_kept(
        &self,
        shard: ShardId,
        first_kept: TwigId,
    ) -> Result<(), MerkleError> {
        let first_active = self.first_active();
        if first_kept > first_active {
            return Err(MerkleError::PruneTooFar { shard, first_kept, first_active });
        }
        Ok(())
    }

    /// See [`Forest::edges`](crate::Forest::edges).
    pub(crate) fn edges(
        &self,
        shard: ShardId,
        first_kept: TwigId,
    ) -> Result<Vec<(u8, Digest)>, MerkleError> {
        self.check_first_kept(shard, first_kept)?;
        let pruned = MerkleError::Pruned { shard, twig: first_kept };
        if first_kept < self.upper.first_kept() {
            return Err(pruned);
        }
        let edges = self.upper.edges(first_kept).ok_or(pruned)?;
        Ok(edges.into_iter().map(|(row, node)| (level_of(row), node)).collect())
    }

    /// Everything a block does to the shard before hashing: new twigs, active bits, counters. Notes
    /// the leaves and the pages to be hashed in `work`. The leaves themselves are not touched.
    pub(crate) fn stage(
        &mut self,
        shard: ShardId,
        change: &ShardChange<'_>,
        work: &mut ShardWork,
    ) -> Result<(), MerkleError> {
        let (first, before) = (self.next_sn, self.youngest());
        let next = first.plus(change.entries.len() as u64);
        Self::check_size(shard, self.upper.first_kept(), next.twig())?;
        if change.oldest_active < self.oldest_active || change.oldest_active > next {
            return Err(MerkleError::OldestActive { shard, sn: change.oldest_active });
        }

        self.next_sn = next;
        if self.youngest() > before {
            self.grow_to(self.youngest(), null_table());
        }
        self.bits.activate(first.0..next.0);
        work.mark_entries(&self.bits, first.0..next.0);
        for &sn in change.deactivated {
            if !self.bits.deactivate(sn) {
                return Err(if sn >= next {
                    MerkleError::OutOfRange { shard, sn }
                } else if sn.twig() < self.first_active() {
                    MerkleError::Evicted { shard, sn }
                } else {
                    MerkleError::AlreadyInactive { shard, sn }
                });
            }
            work.mark_page(&self.bits, sn);
        }

        // Everything below the old one is inactive already.
        if let Some(sn) = self.bits.first_active(self.oldest_active.0..change.oldest_active.0) {
            return Err(MerkleError::StillActive { shard, sn });
        }
        self.oldest_active = change.oldest_active;
        Ok(())
    }

    /// Drops what is not needed once a block is hashed: the left trees of the twigs it filled, and
    /// everything but the root of the twigs that have become inactive.
    pub(crate) fn settle(&mut self) {
        self.open.close_filled();
        self.bits.evict(self.oldest_active.twig());
        self.joins.drop_below(2 * self.oldest_active.twig().0);
    }

    /// Whether a block that changes this leaves the tree as it is.
    pub(crate) fn is_left_by(&self, change: &ShardChange<'_>) -> bool {
        change.entries.is_empty()
            && change.deactivated.is_empty()
            && change.oldest_active == self.oldest_active
    }

    /// Whether it ends, or begins, elsewhere than `other`.
    pub(crate) fn differs_in_bounds(&self, other: &Self) -> bool {
        let bounds = |tree: &Self| (tree.next_sn, tree.oldest_active, tree.upper.first_kept());
        bounds(self) != bounds(other)
    }

    /// Makes this tree equal to `from`, given that they differ at most in `dirty` and in what lies
    /// beyond either end of this one. What is pruned in either is so afterwards.
    pub(crate) fn copy(&mut self, from: &Self, dirty: &ShardDirty) {
        self.next_sn = from.next_sn;
        self.oldest_active = from.oldest_active;
        self.open.copy(&from.open, &(dirty.first_leaf..from.next_sn.0));
        self.bits.copy(&from.bits, &dirty.pages);
        self.joins.align(&from.joins);
        let mut twigs = dirty.twigs();
        for twig in &twigs {
            self.joins.copy(&from.joins, 2 * twig);
            self.joins.copy(&from.joins, 2 * twig + 1);
        }
        self.upper.copy(&from.upper, &mut twigs);
    }

    /// Heap bytes, slack included.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.open.heap_bytes()
            + self.bits.heap_bytes()
            + self.joins.heap_bytes()
            + self.upper.heap_bytes()
    }
}
