//! The state at one height, for as long as somebody holds it.
//!
//! ```text
//!   get    positions of the key's stem ► read entries, compare keys
//!   prove  ... the key's, or the one's before it ► path at this height ► left part from the twig's record
//! ```
//!
//! Nothing here waits for the writer, for hashing or for the disk's syncs, and nothing has to be tried
//! again: what a view needs stays as long as it lives. The log never changes what lies at a position, and
//! nothing is pruned that a held state needs.

use crate::Error;
use crate::read::iter::Iter;
use crate::read::prove;
use crate::read::published::State;
use crate::read::reader::Proven;
use crate::shared::Shared;
use hedgerow_entryfile::{Fill, StoredEntry};
use hedgerow_hasher_api::hash_message;
use hedgerow_index::Stem;
use hedgerow_merkle::Roots;
use hedgerow_proof::SerialPath;
use hedgerow_state::{check_key, is_entry_of, key_hash_of};
use hedgerow_types::{Digest, Height, KeyHash, LogPosition, SerialNumber, ShardId};
use std::fmt;
use std::sync::Arc;

/// The state at one height. Cheap to make and to clone, and usable from any thread.
///
/// All answers are of this height, however many blocks are published meanwhile. Holding a view keeps
/// nobody waiting. It costs: what the blocks since then replaced stays in memory (about 16 bytes per
/// change of a key, and up to 40 per node of the tree), every look-up goes through those blocks, and the
/// log that the view needs is not pruned.
///
/// A view of a height that is [taken back](crate::Store::rollback) answers [`Error::RolledBack`] from then on; views of
/// heights that stay go on answering.
///
/// When the store is closed, a view goes on answering, unless it shows blocks that were not durable: then
/// it says [`Error::Closed`].
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// # let mut block = store.next_block()?;
/// # block.put("alice", "100")?;
/// # block.commit()?;
/// let before = store.reader().view();
/// let mut block = store.next_block()?;
/// block.put("alice", "50")?;
/// block.commit()?;
/// assert_eq!(before.get("alice")?, Some(b"100".to_vec()));   // as it was
/// assert_eq!(store.reader().get("alice")?, Some(b"50".to_vec()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct View {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Arc<State>,
}

impl View {
    /// The newest state.
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), state: shared.published.current() }
    }

    /// The height of this state.
    pub fn height(&self) -> Height {
        self.state.height
    }

    /// The state root.
    pub fn root(&self) -> Digest {
        self.state.roots().state
    }

    /// The state root and the roots of the shards.
    pub fn roots(&self) -> &Roots {
        self.state.roots()
    }

    /// Number of keys that have a value.
    pub fn len(&self) -> u64 {
        self.state.keys
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.state.keys == 0
    }

    /// The value of `key`, or `None` if it is absent.
    ///
    /// # Errors
    /// [`Refused::KeyLength`](crate::Refused::KeyLength), or a failed read.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.get_with(key, <[u8]>::to_vec)
    }

    /// Shows the value of `key` while it is at hand, and returns what is made of it: for a value of which
    /// no copy is wanted. `None` if the key is absent. What was shown counts only if there is no error.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn get_with<T>(
        &self,
        key: impl AsRef<[u8]>,
        show: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, Error> {
        value_of(&self.shared, &self.state, key.as_ref(), &mut Some(show))
    }

    /// The values of many keys.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.state.unless_rolled_back(self.values_of(keys))
    }

    fn values_of<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut hashes = Vec::with_capacity(keys.len());
        for key in keys {
            check_key(key.as_ref())?;
            hashes.push(KeyHash(hash_message(key.as_ref()).0));
        }
        let candidates = self.shared.published.candidates(&self.state, &hashes)?;
        let positions: Vec<LogPosition> = candidates.iter().map(|&(_, at)| at).collect();
        let mut values = vec![None; keys.len()];
        let visited = self.shared.log.visit_many(&positions, Fill::Cache, |candidate, entry| {
            let number = candidates[candidate].0 as usize;
            if is_entry_of(entry, keys[number].as_ref()) {
                values[number] = Some(entry.value().to_vec());
            }
        });
        visited.map_err(|error| self.shared.read_for(self.height())(error.into()))?;
        self.shared.check_not_abandoned()?;
        Ok(values)
    }

    /// All keys and values, in the order of the key hashes. What is read is what is there, at most twice
    /// as many entries as there are keys; what is remembered meanwhile does not depend on how many.
    pub fn iter(&self) -> Iter {
        Iter::new(self.clone())
    }

    /// A proof of what this state says about `key`: that it has its value, or that it is absent.
    ///
    /// # Errors
    /// [`Refused::KeyLength`](crate::Refused::KeyLength), or a failed read.
    pub fn prove(&self, key: impl AsRef<[u8]>) -> Result<Proven, Error> {
        check_key(key.as_ref())?;
        let proven = self.state.unless_rolled_back(prove::by_key(self, key.as_ref()));
        proven.map_err(self.shared.read_for(self.height()))
    }

    /// The path of one serial number of a shard, in the encoding of [spec 10.1](hedgerow_types::spec), against the shard's
    /// root in this state.
    ///
    /// # Errors
    /// [`Error::SerialUnavailable`] if the serial number is pruned or beyond the next one.
    pub fn prove_serial(&self, shard: ShardId, sn: SerialNumber) -> Result<SerialPath, Error> {
        let proven = self.state.unless_rolled_back(prove::by_serial(self, shard, sn));
        proven.map_err(self.shared.read_for(self.height()))
    }

    /// The entry of `key`, or else the one before it.
    pub(crate) fn locate(&self, key: &[u8], key_hash: &KeyHash) -> Result<StoredEntry, Error> {
        let stem = Stem::of(key_hash);
        let mut below = Some(stem);
        let mut nearest: Option<(KeyHash, StoredEntry)> = None;
        while let Some(from) = below {
            let found = self.shared.published.at_or_below(&self.state, key_hash.shard(), from)?;
            let Some((found, positions)) = found else { break };
            for at in positions {
                let entry = self.shared.log.read(at)?;
                if is_entry_of(entry.get(), key) {
                    return Ok(entry);
                }
                let found = key_hash_of(entry.get());
                if found < *key_hash && nearest.as_ref().is_none_or(|(hash, _)| *hash < found) {
                    nearest = Some((found, entry));
                }
            }
            // The first stem below is certain to be; at the key's own, only the entries tell.
            below = found.before().filter(|_| found == stem);
        }
        match nearest {
            Some((_, entry)) if entry.get().next_key_hash() > *key_hash => Ok(entry),
            _ => Err(Error::Corrupt(format!("no entry encloses key hash {key_hash}"))),
        }
    }
}

/// See [`View::get_with`]. The caller holds the state meanwhile.
///
/// `show` is taken if it was called, which is at most once.
///
/// The value is copied from the system's cache, or from a record in memory, to where `show` sees it, and no
/// more; no lock is taken but that of the part of the index, for the look into it.
pub(crate) fn value_of<T>(
    shared: &Shared,
    state: &State,
    key: &[u8],
    show: &mut Option<impl FnOnce(&[u8]) -> T>,
) -> Result<Option<T>, Error> {
    check_key(key)?;
    let shown = look_up(shared, state, key, show);
    // What was shown was found before: see there.
    if matches!(shown, Ok(Some(_))) { shown } else { state.unless_rolled_back(shown) }
}

fn look_up<T>(
    shared: &Shared,
    state: &State,
    key: &[u8],
    show: &mut Option<impl FnOnce(&[u8]) -> T>,
) -> Result<Option<T>, Error> {
    let key_hash = KeyHash(hash_message(key).0);
    let mut shown = None;
    for at in shared.published.candidates_of(state, &key_hash)?.iter() {
        let read = shared.log.show(at, |entry| {
            // Not once the state was taken back: then the index may have led to another one's entry.
            let show = show.take_if(|_| is_entry_of(entry, key) && !state.is_rolled_back())?;
            Some(show(entry.value()))
        });
        shown = read.map_err(|error| shared.read_for(state.height)(error.into()))?;
        if shown.is_some() {
            break;
        }
    }
    shared.check_not_abandoned()?;
    Ok(shown)
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("height", &self.height()).finish_non_exhaustive()
    }
}
