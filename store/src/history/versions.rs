//! Every version of a key that the log still has.

use crate::Error;
use crate::history::cover::{self, Before, covers};
use crate::read::view::View;
use hedgerow_entryfile::StoredEntry;
use hedgerow_state::{is_entry_of, key_hash_of};
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Height, KeyHash};
use std::fmt;

/// What a block made of a key.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// let mut block = store.next_block()?;
/// block.put("alice", "100")?;
/// block.commit()?;
/// let versions: Vec<_> = store.reader().key_history("alice")?.collect::<Result<_, _>>()?;
/// assert_eq!((versions[0].height.0, versions[0].value.as_deref()), (1, Some(&b"100"[..])));
/// assert!(versions[0].is_exact);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeyVersion {
    /// The height of the block that wrote or removed the key.
    pub height: Height,
    /// The value that it had after that block; `None` if the block removed it.
    pub value: Option<Vec<u8>>,
    /// Whether the block at this height wrote the key. `false` only for the oldest version that is left: what it
    /// replaced is pruned, and without that it cannot be told whether the block wrote the key, or a neighbour of it,
    /// which writes its entry once more. Then the key has had this value since this height or longer.
    pub is_exact: bool,
}

/// The versions of a key, newest first. After an error it ends.
///
/// A block counts once, with what it left. Blocks that wrote neighbours of the key are not among them.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// for value in [Some("100"), Some("50"), None] {
///     let mut block = store.next_block()?;
///     match value {
///         Some(value) => block.put("alice", value)?,
///         None => block.delete("alice")?,
///     }
///     block.commit()?;
/// }
/// let mut heights = vec![];
/// for version in store.reader().key_history("alice")? {
///     let version = version?;
///     heights.push((version.height.0, version.value.is_some()));
/// }
/// assert_eq!(heights, [(3, false), (2, true), (1, true)]);
/// # Ok(())
/// # }
/// ```
pub struct KeyHistory {
    view: View,
    key: Vec<u8>,
    key_hash: KeyHash,
    /// What covers the key at the place that is reached; `None` at the end.
    at: Option<StoredEntry>,
    /// The last version that was given out.
    last: Option<Height>,
}

/// Whether `after`, an entry of the key, was written by an operation on it, which replaced `before`: an entry
/// that is only written again, for its neighbour's sake or by compaction, keeps its value, and has another next
/// key hash or the same version.
fn is_update(before: EntryRef<'_>, after: EntryRef<'_>) -> bool {
    before.next_key_hash() == after.next_key_hash()
        && (before.version() != after.version() || before.value() != after.value())
}

impl KeyHistory {
    /// The versions of `key` up to the height of the view.
    ///
    /// # Errors
    /// As [`View::get`].
    pub(crate) fn new(view: View, key: &[u8], key_hash: KeyHash) -> Result<Self, Error> {
        let at = Some(view.locate_value(key, &key_hash)?);
        Ok(Self { view, key: key.to_vec(), key_hash, at, last: None })
    }

    /// The next block that left the key otherwise than it found it.
    fn step(&mut self) -> Result<Option<KeyVersion>, Error> {
        let shared = &self.view.shared;
        while let Some(newest) = self.at.take() {
            // All that one block did to what covers the key.
            let height = newest.get().version().height();
            let value = self.value_of(&newest);
            let (mut here, mut written) = (newest, false);
            loop {
                let own = is_entry_of(here.get(), &self.key);
                let older = match cover::before(shared, &here, &self.key_hash)? {
                    Before::Entry { entry, .. } => entry,
                    Before::Nothing => return Ok(None),
                    Before::Pruned => {
                        let is_exact = written;
                        let version = KeyVersion { height, value, is_exact };
                        return Ok((own || written).then_some(version));
                    }
                };
                let was_own = is_entry_of(older.get(), &self.key);
                written |= own != was_own || own && is_update(older.get(), here.get());
                if older.get().version().height() < height {
                    // It was there neither before nor after.
                    let never = value.is_none() && !was_own;
                    self.at = Some(older);
                    if written && !never {
                        return Ok(Some(KeyVersion { height, value, is_exact: true }));
                    }
                    break;
                }
                here = older;
            }
        }
        Ok(None)
    }

    fn value_of(&self, entry: &StoredEntry) -> Option<Vec<u8>> {
        let entry = entry.get();
        is_entry_of(entry, &self.key).then(|| entry.value().to_vec())
    }
}

impl Iterator for KeyHistory {
    type Item = Result<KeyVersion, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let before = self.view.shared.published.rollbacks();
            let step = self.step().and_then(|step| {
                self.view.shared.check_not_abandoned()?;
                Ok(step)
            });
            match self.view.unless_rolled_back(step) {
                // It was given out before.
                Ok(Some(version)) if self.last.is_some_and(|last| version.height >= last) => {}
                Ok(Some(version)) => {
                    self.last = Some(version.height);
                    return Some(Ok(version));
                }
                Ok(None) => return None,
                Err(error) if self.view.may_ask_again(before, &error) => {
                    self.view = self.view.again();
                    let (key, key_hash) = (&self.key, &self.key_hash);
                    match self.view.answer(|view| view.locate_value(key, key_hash)) {
                        Ok(entry) => self.at = Some(entry),
                        Err(error) => return Some(Err(error)),
                    }
                }
                Err(error) => {
                    self.at = None;
                    return Some(Err(self.view.shared.read_for(self.view.height())(error)));
                }
            }
        }
    }
}

impl fmt::Debug for KeyHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyHistory").field("key_hash", &self.key_hash).finish_non_exhaustive()
    }
}

/// What the state of a past height has in the range that an entry of a later one covers, in key-hash order.
pub(crate) struct Within {
    /// Covers the range later.
    later: StoredEntry,
    /// The first key hash that is not passed.
    from: KeyHash,
}

impl Within {
    /// All that `later` covers.
    pub(crate) fn new(later: StoredEntry) -> Self {
        let from = key_hash_of(later.get());
        Self { later, from }
    }

    /// The next entry that begins in the range; `None` at its end.
    ///
    /// # Errors
    /// As [`cover::back_to`].
    pub(crate) fn next(&mut self, view: &View) -> Result<Option<(KeyHash, StoredEntry)>, Error> {
        let Some(past) = &view.past else { return Ok(None) };
        while self.from < self.later.get().next_key_hash() {
            let from = self.from;
            if !covers(self.later.get(), &from) {
                return Err(Error::Corrupt(format!("no entry encloses key hash {from}")));
            }
            let found = past.value_entry(&view.shared, self.later.clone(), &from)?.entry;
            // Beyond `from`: it covers it.
            self.from = found.get().next_key_hash();
            if key_hash_of(found.get()) == from {
                return Ok(Some((from, found)));
            }
        }
        Ok(None)
    }
}
