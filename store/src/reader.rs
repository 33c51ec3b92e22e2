//! Readers: they answer from the published state only, all of one height. They wait for no block to be
//! resolved, hashed or synced, only while the edits of one are put into the index.
//!
//! ```text
//!   get    lock ► positions of the key's fragment ► unlock ► read entries, compare keys
//!   prove  ... ► entry ► lock ► still active? path, roots, height ► unlock ► left part from the
//!          twig's record                     └─ no: a later block replaced it, begin again
//! ```
//!
//! The log never changes what lies at a position, so that a position found under the lock stays good
//! without it. Only pruning takes entries away, long after they were replaced: then the look-up
//! begins again on the newer state.

use crate::Error;
use crate::iter::Iter;
use crate::ops::check_key;
use crate::prove;
use crate::shared::{Published, Shared};
use crate::update::{is_entry_of, key_hash_of};
use hedgerow_entryfile::{Fill, LogError, StoredEntry};
use hedgerow_hasher_api::hash_message;
use hedgerow_metadb::HistoryRow;
use hedgerow_proof::{Proof, SerialPath};
use hedgerow_types::{Digest, Height, KeyHash, LogPosition, SerialNumber, ShardId};
use std::fmt;
use std::sync::Arc;

/// Reads the published state. Cheap to clone, and usable from any thread. As long as it lives, also when
/// the store is closed, it keeps the index and the tree in memory and the log's files open; history ends
/// with the store.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
}

/// A proof and what it was made for. Only the proof's bytes go to the verifier, who has the root from
/// somewhere he trusts.
#[derive(Clone, Debug)]
pub struct Proven {
    /// The height of the state that the proof is about.
    pub height: Height,
    /// The state root at that height.
    pub root: Digest,
    /// Whether that height was durable when the proof was made.
    pub durable: bool,
    /// The proof.
    pub proof: Proof,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The height of the published state.
    pub fn height(&self) -> Height {
        self.shared.published.read().height
    }

    /// The height of the published state and its root.
    pub fn root(&self) -> (Height, Digest) {
        self.shared.state_root()
    }

    /// The last height that survives power loss.
    pub fn durable_height(&self) -> Height {
        self.shared.flow.look(|progress| progress.durable)
    }

    /// The state root after the block at `height`; height 0 is the genesis state.
    ///
    /// # Errors
    /// [`Error::HeightUnavailable`] for heights that are not published, or whose history was not
    /// kept.
    pub fn root_at(&self, height: Height) -> Result<Digest, Error> {
        Ok(self.shared.history(height)?.root)
    }

    /// State root, shard roots and extra data of the block at `height`.
    ///
    /// # Errors
    /// As [`Reader::root_at`].
    pub fn history(&self, height: Height) -> Result<Arc<HistoryRow>, Error> {
        self.shared.history(height)
    }

    /// The value of `key`, or `None` if it is absent.
    ///
    /// # Errors
    /// [`Error::KeyLength`], or a failed read.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        let key = key.as_ref();
        check_key(key)?;
        let key_hash = KeyHash(hash_message(key).0);
        again(|| {
            let positions: Vec<LogPosition> = {
                let published = self.shared.published.read();
                published.index[key_hash.shard().index()].candidates(&key_hash).collect()
            };
            for at in positions {
                let entry = self.shared.log.read(at)?;
                if is_entry_of(entry.get(), key) {
                    self.shared.check_not_abandoned()?;
                    return Ok(Some(entry.get().value().to_vec()));
                }
            }
            self.shared.check_not_abandoned()?;
            Ok(None)
        })
    }

    /// The values of many keys, all from the state of one height.
    ///
    /// # Errors
    /// As [`Reader::get`].
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut hashes = Vec::with_capacity(keys.len());
        for key in keys {
            check_key(key.as_ref())?;
            hashes.push(KeyHash(hash_message(key.as_ref()).0));
        }
        again(|| {
            let mut numbers = Vec::with_capacity(keys.len());
            let mut positions = Vec::with_capacity(keys.len());
            {
                let published = self.shared.published.read();
                for (number, key_hash) in hashes.iter().enumerate() {
                    let index = &published.index[key_hash.shard().index()];
                    for at in index.candidates(key_hash) {
                        numbers.push(number);
                        positions.push(at);
                    }
                }
            }
            let mut values = vec![None; keys.len()];
            self.shared.log.visit_many(&positions, Fill::Cache, |candidate, entry| {
                let number = numbers[candidate];
                if is_entry_of(entry, keys[number].as_ref()) {
                    values[number] = Some(entry.value().to_vec());
                }
            })?;
            self.shared.check_not_abandoned()?;
            Ok(values)
        })
    }

    /// All keys and values of the published state of one height, in the order of the key hashes.
    ///
    /// The iterator remembers where every entry is: 8 bytes per key, as long as it lives; and while
    /// it lives, nothing is pruned. What it reads is what is there, at most twice as many entries as
    /// there are keys.
    pub fn iter(&self) -> Iter {
        Iter::new(&self.shared)
    }

    /// A proof of what the published state says about `key`: that it has its value, or that it is
    /// absent.
    ///
    /// # Errors
    /// [`Error::KeyLength`], or a failed read.
    pub fn prove(&self, key: impl AsRef<[u8]>) -> Result<Proven, Error> {
        check_key(key.as_ref())?;
        prove::by_key(&self.shared, key.as_ref())
    }

    /// The path of one serial number of a shard, in the encoding of spec 10.1, against the shard's
    /// root in the published state.
    ///
    /// # Errors
    /// [`Error::SerialUnavailable`] if the serial number is pruned or beyond the next one.
    pub fn prove_serial(&self, shard: ShardId, sn: SerialNumber) -> Result<SerialPath, Error> {
        prove::by_serial(&self.shared, shard, sn)
    }

    /// The entry of `key`, or else the one before it, in the published state of one height.
    pub(crate) fn locate(
        shared: &Shared,
        key: &[u8],
        key_hash: &KeyHash,
    ) -> Result<StoredEntry, Error> {
        // All positions from one look at the state: between two, the key may come or go.
        let positions = candidates(&shared.published.read(), key_hash);
        let mut nearest: Option<(KeyHash, StoredEntry)> = None;
        for at in positions {
            let entry = shared.log.read(at)?;
            if is_entry_of(entry.get(), key) {
                return Ok(entry);
            }
            let found = key_hash_of(entry.get());
            if found < *key_hash && nearest.as_ref().is_none_or(|(hash, _)| *hash < found) {
                nearest = Some((found, entry));
            }
        }
        match nearest {
            Some((_, entry)) if entry.get().next_key_hash() > *key_hash => Ok(entry),
            _ => Err(Error::Corrupt(format!("no entry encloses key hash {key_hash}"))),
        }
    }
}

/// Where the entry of a key may be and, if it has none, the one before it.
fn candidates(published: &Published, key_hash: &KeyHash) -> Vec<LogPosition> {
    let index = &published.index[key_hash.shard().index()];
    let mut positions = Vec::with_capacity(2);
    for group in index.predecessor_candidates(key_hash) {
        positions.extend(group.positions());
        // The first group below is certain to be; before it may come the key's own, in which only
        // the entries tell.
        if !group.share_stem_with(key_hash) {
            break;
        }
    }
    positions
}

/// Repeats a look-up that met an entry which was replaced and pruned meanwhile.
pub(crate) fn again<T>(mut look_up: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut last: Option<LogPosition> = None;
    loop {
        match look_up() {
            // The same entry twice is no race: the index points at what was pruned.
            Err(Error::Log(LogError::Pruned { at, start })) if last != Some(at) => {
                tracing::debug!(%at, %start, "entry pruned while it was looked up");
                last = Some(at);
            }
            result => return result,
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("height", &self.height()).finish_non_exhaustive()
    }
}
