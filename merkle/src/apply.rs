//! One block applied to the forest.
//!
//! ```text
//!  stage    per shard: next serial number, new twigs, active bits; dirty pages marked
//!  hash     leaves, then everything above them and above the dirty pages (see `flush`)
//!  settle   finished twigs handed out, filled and inactive twigs dropped
//! ```

use crate::dirty::Dirty;
use crate::flush::flush_block;
use crate::resident::Block;
use crate::shard::SharedTree;
use crate::{FinishedTwig, Forest, MerkleError, Roots};
use hedgerow_hasher_api::{BatchHasher, MessageGroup, Span};
use hedgerow_types::{SHARDS, SerialNumber, ShardId};

/// What one block does to one shard.
#[derive(Clone, Copy, Debug)]
pub struct ShardChange<'a> {
    /// The bytes that the new entries lie in, best with
    /// [`MESSAGE_SLACK`](hedgerow_hasher_api::MESSAGE_SLACK) bytes after the last one.
    pub arena: &'a [u8],
    /// The hashed bytes of the new entries (spec 4.1) in the order of their serial numbers, the
    /// first of which is the shard's [`next_sn`](Forest::next_sn). All become active.
    pub entries: &'a [Span],
    /// Serial numbers of the entries that become inactive, in any order, each once. May name new
    /// entries.
    pub deactivated: &'a [SerialNumber],
    /// Below this serial number no entry is active after the block. Never moves back; at most the
    /// serial number after the last new entry.
    pub oldest_active: SerialNumber,
}

impl ShardChange<'_> {
    /// A block that leaves the shard as it is; `oldest_active` is that of the block before.
    pub const fn none(oldest_active: SerialNumber) -> Self {
        Self { arena: &[], entries: &[], deactivated: &[], oldest_active }
    }
}

/// What one block made of the forest.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The roots after the block.
    pub roots: Roots,
    /// The twigs that the block filled, by shard and twig.
    pub finished: Vec<FinishedTwig>,
    /// What the block changed, for [`Published::copy`](crate::Published::copy).
    pub dirty: Dirty,
}

impl Forest {
    /// Applies one block to all shards and computes the new roots (spec 8). A change without
    /// entries and deactivations leaves its shard's root as it is.
    ///
    /// Hashes level by level, all shards in one call each: 10 calls and one per level of the
    /// deepest shard above the twig roots, at most, whatever the size of the block.
    ///
    /// # Errors
    /// [`MerkleError::OutOfRange`], [`Evicted`](MerkleError::Evicted) or
    /// [`AlreadyInactive`](MerkleError::AlreadyInactive) if an entry cannot be deactivated,
    /// [`OldestActive`](MerkleError::OldestActive) or [`StillActive`](MerkleError::StillActive) if
    /// `oldest_active` is wrong, [`TooManyTwigs`](MerkleError::TooManyTwigs), and
    /// [`Hash`](MerkleError::Hash) if the backend failed. After an error the forest is in no
    /// defined state: discard it.
    pub fn apply(
        &mut self,
        hasher: &dyn BatchHasher,
        changes: &[ShardChange<'_>; SHARDS],
    ) -> Result<Applied, MerkleError> {
        self.apply_announcing(hasher, changes, &mut |_| {})
    }

    /// [`apply`](Self::apply), which calls `announce` with the new roots, once, as soon as they are
    /// known. With a backend that keeps rows on a device ([`BatchHasher::residency`]) that is before
    /// the changed nodes are back; the sampled nodes are checked by then.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), before the roots are announced or after;
    /// [`WrongRoot`](MerkleError::WrongRoot) if the device failed after, and the CPU, which hashed
    /// the block in its place, came to other roots: no check had caught what was wrong.
    pub fn apply_announcing(
        &mut self,
        hasher: &dyn BatchHasher,
        changes: &[ShardChange<'_>; SHARDS],
        announce: &mut dyn FnMut(&Roots),
    ) -> Result<Applied, MerkleError> {
        let mut dirty = Dirty::default();
        let shards = self.shards.iter_mut().zip(self.works.iter_mut());
        for (((shard, (tree, work)), change), dirty) in
            ShardId::all().zip(shards).zip(changes).zip(&mut dirty.shards)
        {
            work.reset();
            if tree.is_left_by(change) {
                continue;
            }
            tree.stage(shard, change, work)?;
            work.collect();
            *dirty = work.to_copy(&tree.bits);
        }

        if dirty.is_empty() {
            announce(&self.roots);
        } else {
            let leaves = self.shards.iter_mut().zip(&self.works).zip(changes);
            let mut leaves = leaves
                .filter(|(_, change)| !change.entries.is_empty())
                .map(|((tree, work), change)| MessageGroup {
                    arena: change.arena,
                    spans: change.entries,
                    out: tree.open.leaves_mut(&work.leaves),
                })
                .collect::<Vec<_>>();
            if !leaves.is_empty() {
                hasher.messages(&mut leaves)?;
            }
            let block = Block { changes, dirty: &dirty };
            let Self { shards, works, state, resident, .. } = self;
            let announce = &mut |state: &_| announce(&Roots::of(state));
            flush_block(hasher, resident, (shards, works), state, block, announce)?;
        }

        let mut finished = Vec::new();
        let trees = ShardId::all().zip(&mut self.shards).zip(&dirty.shards);
        let changed = |tree: &SharedTree| tree.first_active() < tree.oldest_active.twig();
        let trees = trees.filter(|((_, tree), dirty)| !dirty.pages.is_empty() || changed(tree));
        for ((shard, tree), _) in trees {
            finished.extend(tree.open.finished(shard));
            tree.settle();
        }
        self.refresh_roots();
        Ok(Applied { roots: self.roots.clone(), finished, dirty })
    }
}
