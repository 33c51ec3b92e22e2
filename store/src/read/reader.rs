//! Readers: every question is answered from the newest published state, all of one height, and waits for
//! nobody. Whoever wants several answers of one height takes a [`View`].

use crate::Error;
use crate::history::versions::KeyHistory;
use crate::read::iter::Iter;
use crate::read::view::{View, value_of};
use crate::shared::Shared;
use hedgerow_metadb::HistoryRow;
use hedgerow_proof::{Proof, SerialPath};
use hedgerow_types::{Digest, Height, KeyHash, SerialNumber, ShardId};
use std::fmt;
use std::sync::Arc;

/// Reads the published state. Cheap to clone, and usable from any thread. As long as it lives, also when
/// the store is closed, it keeps the index and the tree in memory and the log's files open; history ends
/// with the store.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// # let mut block = store.next_block()?;
/// # block.put("alice", "100")?;
/// # block.commit()?;
/// let reader = store.reader();
/// let elsewhere = reader.clone();
/// let there = std::thread::spawn(move || elsewhere.get("alice"));
/// assert_eq!(there.join().unwrap()?, reader.get("alice")?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Reader {
    pub(crate) shared: Arc<Shared>,
}

/// A proof and what it was made for. Only the proof's bytes go to the verifier, who has the root from
/// somewhere he trusts.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// # let mut block = store.next_block()?;
/// # block.put("alice", "100")?;
/// # block.commit()?;
/// let proven = store.reader().prove("alice")?;
/// let value = hedgerow::verify(&proven.root, b"alice", &proven.proof)?;
/// assert_eq!(value, Some(&b"100"[..]));
/// # Ok(())
/// # }
/// ```
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

/// How long a proof of a range may become. The first limit that is met ends the range; one entry is in it in any
/// case.
///
/// ```
/// use hedgerow::RangeLimit;
/// let limit = RangeLimit { bytes: 64 << 10, ..RangeLimit::default() };
/// assert_eq!(limit.entries, 1_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeLimit {
    /// Entries: keys, and the sentries between them, of which there are 65,536 over all key hashes.
    pub entries: usize,
    /// Length of the proof in bytes.
    pub bytes: usize,
}

impl Default for RangeLimit {
    /// 1,000 entries, 1 MiB.
    fn default() -> Self {
        Self { entries: 1_000, bytes: 1 << 20 }
    }
}

/// A proof of all keys of a range of key hashes, and where it ends.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{KeyHash, Options, RangeLimit, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// # let mut block = store.next_block()?;
/// # block.put("alice", "100")?;
/// # block.put("bob", "20")?;
/// # block.commit()?;
/// let view = store.reader().view();
/// let limit = RangeLimit { entries: 5_000, bytes: 16 << 20 };
/// let (mut from, mut found) = (KeyHash::default(), 0);
/// while from < KeyHash::MAX {
///     let range = view.prove_range(from, limit)?;
///     // What whoever has the root makes of it:
///     let verified = hedgerow::verify_range(&view.root(), from, &range.proven.proof)?;
///     found += verified.items().count();
///     from = verified.until();                 // = range.until
/// }
/// assert_eq!(found, 2);                        // and there are no more
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ProvenRange {
    /// The proof and what it was made for.
    pub proven: Proven,
    /// The key hash before which the range ends, and at which the next one begins; [`KeyHash::MAX`] if nothing lies
    /// behind it.
    pub until: KeyHash,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The newest published state, to be held: it stays as it is.
    pub fn view(&self) -> View {
        View::new(&self.shared)
    }

    /// The state at a height, published or past, to be held: it stays as it is, and pruning waits for it.
    ///
    /// Cheap, whatever the height. What a past view answers costs a step for each entry that has covered the key
    /// since: for each time that the key, or the one before it, was written or moved.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
    /// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
    /// # let mut store = Store::create("/state", StoreParams::default(), options)?;
    /// # for value in ["100", "50"] {
    /// #     let mut block = store.next_block()?;
    /// #     block.put("alice", value)?;
    /// #     block.commit()?;
    /// # }
    /// let before = store.reader().at(hedgerow::Height(1))?;
    /// assert_eq!(before.get("alice")?, Some(b"100".to_vec()));
    /// assert_eq!(store.reader().get("alice")?, Some(b"50".to_vec()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::HeightUnavailable`] if it is not published, its history row was not kept
    /// ([`Options::keep_history`](crate::Options::keep_history)), or entries that it needs are pruned
    /// ([`Options::keep_heights`](crate::Options::keep_heights)); [`Error::Closed`].
    pub fn at(&self, height: Height) -> Result<View, Error> {
        View::at(&self.shared, height)
    }

    /// The height of the published state.
    pub fn height(&self) -> Height {
        self.shared.published.height()
    }

    /// Figures of the store, as [`Store::stats`](crate::Store::stats) has them: for who looks while it takes a block in,
    /// and perhaps waits.
    pub fn stats(&self) -> crate::Stats {
        crate::stats::collect(&self.shared)
    }

    /// The height of the published state and its root.
    pub fn root(&self) -> (Height, Digest) {
        self.shared.state_root()
    }

    /// The last height that survives power loss.
    pub fn durable_height(&self) -> Height {
        self.shared.flow.look(|progress| progress.durable)
    }

    /// The state root after the block at `height`. The height before the first block, 0 as a rule, is that of the
    /// genesis state.
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
    /// As [`View::get`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        self.get_with(key, <[u8]>::to_vec)
    }

    /// Shows the value of `key` while it is at hand: see [`View::get_with`].
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn get_with<T>(
        &self,
        key: impl AsRef<[u8]>,
        show: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, Error> {
        let state = self.shared.published.look();
        value_of(&self.shared, &state, key.as_ref(), show)
    }

    /// The values of many keys, all from the state of one height.
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn get_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        self.view().get_many(keys)
    }

    /// Every version of `key` that is still on disk, newest first: see [`KeyHistory`].
    ///
    /// # Errors
    /// As [`View::get`].
    pub fn key_history(&self, key: impl AsRef<[u8]>) -> Result<KeyHistory, Error> {
        self.view().key_history(key)
    }

    /// All keys and values of the published state of one height, in the order of the key hashes: see
    /// [`View::iter`].
    pub fn iter(&self) -> Iter {
        self.view().iter()
    }

    /// A proof of what the published state says about `key`: that it has its value, or that it is
    /// absent.
    ///
    /// # Errors
    /// As [`View::prove`].
    pub fn prove(&self, key: impl AsRef<[u8]>) -> Result<Proven, Error> {
        self.view().prove(key)
    }

    /// A proof of what `key` had at an earlier height, under the root of the published state: see
    /// [`View::prove_past`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
    /// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
    /// # let mut store = Store::create("/state", StoreParams::default(), options)?;
    /// # for value in ["100", "50"] {
    /// #     let mut block = store.next_block()?;
    /// #     block.put("alice", value)?;
    /// #     block.commit()?;
    /// # }
    /// use hedgerow::{Height, verify_past};
    /// let proven = store.reader().prove_past("alice", Height(1))?;
    /// let verified = verify_past(&proven.root, b"alice", Height(1), &proven.proof)?;
    /// assert_eq!(verified.value(), Some(&b"100"[..]));     // under the root of height 2
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`View::prove_past`].
    pub fn prove_past(&self, key: impl AsRef<[u8]>, height: Height) -> Result<Proven, Error> {
        self.view().prove_past(key, height)
    }

    /// One proof of what the published state says about all of `keys`: see [`View::prove_many`].
    ///
    /// # Errors
    /// As [`View::prove_many`].
    pub fn prove_many<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Proven, Error> {
        self.view().prove_many(keys)
    }

    /// One proof of all keys of a range of key hashes in the published state: see [`View::prove_range`]. Several
    /// ranges of one height are asked of one [`View`].
    ///
    /// # Errors
    /// As [`View::prove_range`].
    pub fn prove_range(&self, from: KeyHash, limit: RangeLimit) -> Result<ProvenRange, Error> {
        self.view().prove_range(from, limit)
    }

    /// The path of one serial number of a shard, in the encoding of [spec 10.1](hedgerow_types::spec), against the shard's
    /// root in the published state.
    ///
    /// # Errors
    /// As [`View::prove_serial`].
    pub fn prove_serial(&self, shard: ShardId, sn: SerialNumber) -> Result<SerialPath, Error> {
        self.view().prove_serial(shard, sn)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("height", &self.height()).finish_non_exhaustive()
    }
}
