//! A past height, as a view holds it.

use crate::Error;
use crate::error::Kept;
use crate::history::cover::{self, Covering};
use crate::history::pins::Pin;
use crate::read::published::{State, going_back};
use crate::shared::Shared;
use hedgerow_entryfile::{StoredEntry, UndoHead};
use hedgerow_merkle::{PastShard, Roots, TreePath};
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Height, KeyHash, SerialNumber, ShardId};
use std::sync::Arc;

/// What there is to know of a past height, beside an anchor: the state from which one looks back.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) height: Height,
    pub(crate) roots: Roots,
    /// What the first undo record after it says; `None` if there are no proofs against its root.
    undo: Option<UndoHead>,
    pin: Pin,
}

impl Past {
    /// The past `height`, which is held from now on. A state that is looked up afterwards is an anchor for it.
    ///
    /// # Errors
    /// [`Error::HeightUnavailable`].
    pub(crate) fn new(shared: &Shared, height: Height) -> Result<Arc<Self>, Error> {
        let (row, pin) = loop {
            let before = shared.published.rollbacks();
            let row = shared.history(height)?;
            // From there on every block has one, up to the newest published.
            let has_undo = || shared.undo.first().is_some_and(|first| first <= height.next());
            let Some(pin) = shared.pins.take(height, &row.oldest_active, has_undo) else {
                return Err(unavailable(shared, height));
            };
            // Else the row may be of a block that is taken back, and the pin of the one after it.
            if !going_back(before) && shared.published.rollbacks() == before {
                break (row, pin);
            }
            shared.flow.check()?;
            std::thread::yield_now();
        };
        let roots = Roots { shards: row.shard_roots, state: row.root };
        let undo = if pin.has_undo() { shared.undo.head(height.next())? } else { None };
        Ok(Arc::new(Self { height, roots, undo, pin }))
    }

    /// Whether this height was taken back.
    pub(crate) fn is_rolled_back(&self) -> bool {
        self.pin.is_rolled_back()
    }

    /// Number of keys that had a value, if that is known.
    pub(crate) fn keys(&self) -> Option<u64> {
        self.undo.as_ref().map(|undo| undo.keys)
    }

    /// The next serial number of a shard.
    ///
    /// # Errors
    /// [`Error::HeightUnavailable`] if there are no proofs against the roots of this height.
    pub(crate) fn next_sn(&self, shared: &Shared, shard: ShardId) -> Result<SerialNumber, Error> {
        match &self.undo {
            Some(undo) => Ok(undo.next_sn[shard.index()]),
            None => Err(self.no_proofs(shared)),
        }
    }

    /// Why there are no proofs against the roots of this height.
    fn no_proofs(&self, shared: &Shared) -> Error {
        let last = shared.published.height();
        let first = shared.undo.first().map_or(last, |first| Height(first.0.saturating_sub(1)));
        Error::HeightUnavailable { height: self.height, first, last, kept: Kept::Proofs }
    }

    /// The entry that covered `key_hash` at this height, from what covers it later.
    ///
    /// # Errors
    /// [`Error::HeightUnavailable`] if there are no proofs against the roots of this height; as
    /// [`value_entry`](Self::value_entry).
    pub(crate) fn active_entry(
        &self,
        shared: &Shared,
        later: StoredEntry,
        key_hash: &KeyHash,
    ) -> Result<StoredEntry, Error> {
        let next = self.next_sn(shared, key_hash.shard())?;
        let old = |entry: EntryRef<'_>| entry.serial_number() < next;
        Ok(self.found(cover::back_to(shared, later, key_hash, old)?)?.entry)
    }

    /// The path of a serial number to the root of this height, from the tree of `anchor`. It is to be compared
    /// with that root.
    ///
    /// # Errors
    /// [`Error::HeightUnavailable`] if there are no proofs against the roots of this height; those of
    /// [`Published::path`](hedgerow_merkle::Published::path).
    pub(crate) fn path(
        &self,
        shared: &Shared,
        anchor: &State,
        shard: ShardId,
        sn: SerialNumber,
    ) -> Result<TreePath, Error> {
        let next_sn = self.next_sn(shared, shard)?;
        let blocks = shared.undo.sections(self.height, anchor.height, shard)?;
        let Some(blocks) = blocks else { return Err(self.no_proofs(shared)) };
        let past = PastShard { roots: &self.roots, next_sn, blocks: &blocks };
        Ok(shared.published.past_path(anchor, &past, shard, sn)?)
    }

    /// What had the key, the value and the next key hash of the entry that covered `key_hash` at this height,
    /// from what covers it later: see [`cover`].
    ///
    /// # Errors
    /// A failed read, or entries that contradict each other.
    pub(crate) fn value_entry(
        &self,
        shared: &Shared,
        later: StoredEntry,
        key_hash: &KeyHash,
    ) -> Result<Covering, Error> {
        let old = |entry: EntryRef<'_>| entry.version().height() <= self.height;
        self.found(cover::back_to(shared, later, key_hash, old)?)
    }

    fn found(&self, covering: Option<Covering>) -> Result<Covering, Error> {
        covering.ok_or_else(|| {
            let height = self.height;
            Error::Corrupt(format!("what height {height} needs was pruned while it was held"))
        })
    }
}

/// Why a height whose history row is there cannot be looked at.
fn unavailable(shared: &Shared, height: Height) -> Error {
    let last = shared.published.height();
    match first_available(shared, height, last) {
        Ok(first) => Error::HeightUnavailable { height, first, last, kept: Kept::State },
        Err(error) => error,
    }
}

/// The first height above `missing` of which all entries are there. What a height needs reaches back less the
/// higher it is.
fn first_available(shared: &Shared, missing: Height, last: Height) -> Result<Height, Error> {
    let (mut low, mut high) = (missing.0, last.0);
    while high.saturating_sub(low) > 1 {
        let middle = low + (high - low) / 2;
        let has = match shared.history(Height(middle)) {
            Ok(row) => shared.pins.has(&row.oldest_active),
            Err(Error::HeightUnavailable { .. }) => false,
            Err(error) => return Err(error),
        };
        if has {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(Height(high))
}
