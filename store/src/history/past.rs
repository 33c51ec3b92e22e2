//! A past height, as a view holds it.

use crate::Error;
use crate::error::Kept;
use crate::history::cover::{self, Covering};
use crate::history::pins::Pin;
use crate::shared::Shared;
use hedgerow_entryfile::StoredEntry;
use hedgerow_merkle::Roots;
use hedgerow_types::{Height, KeyHash};
use std::sync::Arc;

/// What there is to know of a past height, beside an anchor: the state from which one looks back.
#[derive(Debug)]
pub(crate) struct Past {
    pub(crate) height: Height,
    pub(crate) roots: Roots,
    pin: Pin,
}

impl Past {
    /// The past `height`, which is held from now on. A state that is looked up afterwards is an anchor for it.
    ///
    /// # Errors
    /// [`Error::HeightUnavailable`].
    pub(crate) fn new(shared: &Shared, height: Height) -> Result<Arc<Self>, Error> {
        let row = shared.history(height)?;
        let has_undo = || false;
        let Some(pin) = shared.pins.take(height, &row.oldest_active, has_undo) else {
            return Err(unavailable(shared, height));
        };
        let roots = Roots { shards: row.shard_roots, state: row.root };
        Ok(Arc::new(Self { height, roots, pin }))
    }

    /// Number of keys that had a value, if that is known.
    pub(crate) fn keys(&self) -> Option<u64> {
        None
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
        let old = |entry: hedgerow_types::entry::EntryRef<'_>| {
            entry.version().height() <= self.height
        };
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
