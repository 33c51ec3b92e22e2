//! Undo records of blocks whose records are in the log: of the journal's, or of settled ones that lack them.
//!
//! ```text
//!   working Forest ── apply(block) ── Dirty ──┐
//!                                             ▼
//!   tree before the block ── what it replaces ── undo record ► file
//!          └──────────────── copy ◄───────────┘
//! ```

use crate::Error;
use crate::history::undo::{BlockUndo, UndoStore};
use crate::shared::per_shard;
use hedgerow_entryfile::ScannedRecord;
use hedgerow_merkle::{Dirty, Forest, Published};
use hedgerow_types::{Height, SerialNumber, ShardId};

/// Makes the undo records of blocks that are taken in, one after the other.
pub(crate) struct MakesUndo<'a> {
    store: &'a UndoStore,
    /// The first block that wants one.
    from: Height,
    /// The tree before the block.
    before: Published,
}

impl<'a> MakesUndo<'a> {
    /// From the block of this height on, for blocks that follow on `forest`.
    pub(crate) fn new(store: &'a UndoStore, from: Height, forest: &Forest) -> Self {
        Self { store, from, before: forest.publish() }
    }

    /// Writes the record of a block, before which `keys` keys had a value; `shard` says the next serial number of a
    /// shard before it, and what it deactivated there. It has been applied to `forest`, where it changed `dirty`.
    ///
    /// # Errors
    /// A failed write.
    pub(crate) fn take<'r>(
        &self,
        block: &ScannedRecord,
        keys: u64,
        shard: impl Fn(ShardId) -> (SerialNumber, &'r [SerialNumber]),
        forest: &Forest,
        dirty: &Dirty,
    ) -> Result<(), Error> {
        let height = block.height();
        if height >= self.from {
            let tree = self.before.before(dirty);
            let upper = per_shard(|shard| tree.upper(shard));
            let place = (block.position(), block.end());
            self.store.write(&[BlockUndo::new(height, place, keys, shard, upper)])?;
        }
        self.before.copy(forest, dirty);
        Ok(())
    }

    /// The tree after the last block.
    pub(crate) fn end(self) -> Published {
        self.before
    }
}
