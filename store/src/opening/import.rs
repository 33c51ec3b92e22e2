//! Importing: a new store from a stream of keys and values in the order of their hashes.
//!
//! ```text
//!   COPYING, synced ► genesis, durable          as a creation, behind another mark
//!     │
//!   pairs ─► block, 8 MiB ──► hashes of its keys, a batch: do they ascend? ─► Writer::load ─► the stages
//!     │         ▲                                                                               │
//!     │         └─ the next block is collected meanwhile ◄──────────────────────────────────────┘
//!     ▼ the end
//!   settled: log, twig records and manifest durable ► COPYING goes, synced
//!     │
//!     └─ an error, of whomever: the threads end, everything made is removed, COPYING last
//! ```
//!
//! A record of the log is held in memory by everybody who writes or reads it. So a stream becomes several blocks if
//! it is long, and where they end follows from the pairs alone. What these blocks do to the state is what puts
//! of the same pairs do; that each is looked up and what it meets is read is what is left out
//! (`state/src/load.rs`). An index in files gets one segment for each shard (`index/src/tiered/fill.rs`).
//!
//! **Invariant:** as long as `COPYING` is there, there is no store: it goes after all else is durable.

use crate::commit::writer::Stream;
use crate::opening::create::rand_id;
use crate::opening::limits;
use crate::opening::place::Place;
use crate::options::Options;
use crate::read::published::in_index;
use crate::store::{OPENING, Store};
use crate::{Error, Refused};
use hedgerow_entryfile::StoreId;
use hedgerow_hasher_api::{BatchHasher, MessageGroup};
use hedgerow_metadb::StoreParams;
use hedgerow_state::{BlockOps, Kind, check_key, check_value};
use hedgerow_types::{Digest, KeyHash, LogPosition, SHARDS};
use std::path::Path;

/// What ends a block of [`Store::import`]: the pair with which keys and values, and 64 bytes for each pair, come
/// to so many bytes.
pub const IMPORT_BLOCK_BYTES: usize = 8 << 20;
/// What a pair counts beside its key and value.
const PAIR_BYTES: usize = 64;

impl Store {
    /// Makes a new store of a stream of keys and values, in the order of the hashes of the keys, as
    /// [`Reader::iter`](crate::Reader::iter) gives them. The directory is empty or not there yet, or holds what
    /// an import that was cut short has left.
    ///
    /// The store is that to which the pairs were [put](crate::Block::put), in as few blocks as memory permits: a
    /// block ends with the pair at which keys and values, and 64 bytes for each pair, come to
    /// [`IMPORT_BLOCK_BYTES`]. Nearly all that puts would cost is saved: nothing is looked up, no entry is read.
    /// Memory does not grow with the stream, but for the index and the tree.
    ///
    /// It is all there, durable, or not at all. If the stream ends in an error, or a key is out of order or
    /// comes twice, or the disk is full, nothing is left but the directory and its lock file. If the power goes,
    /// the directory is no store ([`Error::UnfinishedCopy`]): begin it again, or remove that. The end of a
    /// stream is the end of the store's contents: whoever reads from a file or a network has to make an error of
    /// a stream that was cut.
    ///
    /// ```
    /// use hedgerow::{Options, Store, StoreParams};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let (path, copy) = (dir.path().join("state"), dir.path().join("copy"));
    /// # let mut store = Store::create(&path, StoreParams::default(), Options::default())?;
    /// # let mut block = store.next_block()?;
    /// # (0..100).try_for_each(|number| block.put(format!("{number}"), "value"))?;
    /// # block.commit()?;
    /// let view = store.reader().view();            // blocks may go on meanwhile
    /// let made = Store::import(&copy, StoreParams::default(), Options::default(), view.iter())?;
    /// assert_eq!(made.stats().keys, 100);
    /// assert_eq!(made.reader().durable_height(), made.height());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The stream's own; as [`Store::create`]; [`Error::Refused`] with [`Refused::OutOfOrder`],
    /// [`Refused::Twice`], or what [`put`](crate::Block::put) says of a key or a value.
    pub fn import<K, V, E>(
        path: impl AsRef<Path>,
        params: StoreParams,
        options: Options,
        pairs: impl IntoIterator<Item = Result<(K, V), E>>,
    ) -> Result<Self, E>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
        E: From<Error>,
    {
        Self::import_with(path, params, options, ImportOptions::new(), pairs)
    }

    /// As [`import`](Self::import), with blocks of another size, and with extra data on the last of them: what an
    /// application says of its state is durable with the state in one step.
    ///
    /// # Errors
    /// As [`import`](Self::import); [`Error::ExtraTooLarge`].
    pub fn import_with<K, V, E>(
        path: impl AsRef<Path>,
        params: StoreParams,
        options: Options,
        import: ImportOptions,
        pairs: impl IntoIterator<Item = Result<(K, V), E>>,
    ) -> Result<Self, E>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
        E: From<Error>,
    {
        let path = path.as_ref();
        let begin = || Import::begin(path, params, options, import);
        let mut import = limits::on_own_stack(OPENING, begin)?;
        for pair in pairs {
            let (key, value) = pair?;
            import.put(key.as_ref(), value.as_ref())?;
        }
        Ok(import.finish()?)
    }
}

/// What [`Store::import_with`] can be told.
///
/// ```
/// use hedgerow::{Error, Height, ImportOptions, Options, Store, StoreParams};
///
/// # let dir = tempfile::tempdir().expect("a directory");
/// # let path = dir.path().join("state");
/// let import = ImportOptions::new().extra("one pair");
/// let pairs = [Ok::<_, Error>(("alice", "100"))];
/// let store = Store::import_with(&path, StoreParams::default(), Options::default(), import, pairs)?;
/// assert_eq!(&store.reader().history(Height(1))?.extra[..], b"one pair");
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImportOptions {
    block_bytes: usize,
    extra: Vec<u8>,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { block_bytes: IMPORT_BLOCK_BYTES, extra: Vec::new() }
    }
}

impl ImportOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What ends a block, in bytes: the pair with which keys and values, and 64 bytes for each pair, come to so many.
    /// Default [`IMPORT_BLOCK_BYTES`]. A few times as much is held in memory, also by whoever reads the log later.
    #[must_use]
    pub const fn block_bytes(mut self, bytes: usize) -> Self {
        self.block_bytes = bytes;
        self
    }

    /// Extra data of the last block ([`Block::set_extra`](crate::Block::set_extra)). Of a stream without pairs there is
    /// a block then too, an empty one. Default none.
    #[must_use]
    pub fn extra(mut self, extra: impl Into<Vec<u8>>) -> Self {
        self.extra = extra.into();
        self
    }
}

/// A store that is being filled. Unless it is finished, nothing of it is left.
struct Import {
    /// Until it is finished.
    store: Option<Store>,
    ops: BlockOps,
    /// What ends the block comes to this.
    bytes: usize,
    stream: Stream,
    options: ImportOptions,
}

impl Import {
    fn begin(
        path: &Path,
        params: StoreParams,
        options: Options,
        import: ImportOptions,
    ) -> Result<Self, Error> {
        limits::check(&options)?;
        if import.extra.len() > crate::MAX_EXTRA_BYTES {
            return Err(Error::ExtraTooLarge(import.extra.len()));
        }
        let hasher = options.check()?;
        let (place, locks) = Place::to_be_filled(path, &options, Place::has_copy_mark)?;
        if place.has_copy_mark()? {
            place.remove_copy()?;
        }
        if !place.is_empty()? {
            return Err(Error::NotEmpty(place.dir));
        }
        let id = StoreId(rand_id()?);
        place.begin_copy(&id.0)?;
        let begun = place.make(params, &options, id).and_then(|made| {
            let sentries = made.sentries;
            Ok((made.start(options.clone(), hasher, locks)?, sentries))
        });
        match begun {
            Ok((mut store, sentries)) => {
                store.writer.loading = true;
                Self::of(store, sentries, import)
            }
            Err(error) => {
                let left = Place::to_be_filled(path, &options, Place::has_copy_mark);
                let removed = left.and_then(|(place, _locks)| match place.has_copy_mark()? {
                    true => place.remove_copy(),
                    false => Ok(()), // somebody else has begun meanwhile
                });
                removed.unwrap_or_else(|error| tell(&error));
                Err(error)
            }
        }
    }

    fn of(
        store: Store,
        sentries: [LogPosition; SHARDS],
        options: ImportOptions,
    ) -> Result<Self, Error> {
        let stream = Stream { key_hashes: vec![], last: None, sentries, in_order: true };
        let (store, ops) = (Some(store), BlockOps::default());
        let mut import = Self { store, ops, bytes: 0, stream, options };
        import.ops.begin_change_set()?;
        if let Some(tiers) = import.store.as_ref().and_then(|store| store.shared.tiers.as_ref()) {
            tiers.index.iter().try_for_each(|index| index.begin_filling()).map_err(in_index)?;
        }
        Ok(import)
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        // Only now is it known that this one is not the last.
        if self.bytes >= self.options.block_bytes && !self.ops.ops().is_empty() {
            self.block(&mut Vec::new())?;
        }
        let Some(store) = &mut self.store else { return Err(Error::Closed) };
        check_key(key)?;
        check_value(key, value, store.writer.max_value_bytes())?;
        self.ops.push(Kind::Put, key, value)?;
        self.bytes += key.len() + value.len() + PAIR_BYTES;
        Ok(())
    }

    /// Hands the block in.
    fn block(&mut self, extra: &mut Vec<u8>) -> Result<(), Error> {
        let Self { store: Some(store), ops, stream, .. } = self else { return Err(Error::Closed) };
        store.check_may_write()?;
        hash(store, ops, &mut stream.key_hashes)?;
        check_order(ops, stream)?;
        store.writer.load(ops, stream, extra)?;
        ops.clear();
        ops.begin_change_set()?;
        self.bytes = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Store, Error> {
        let mut extra = std::mem::take(&mut self.options.extra);
        if !self.ops.ops().is_empty() || !extra.is_empty() {
            self.block(&mut extra)?;
        }
        let Some(store) = &mut self.store else { return Err(Error::Closed) };
        store.writer.settle()?;
        store.writer.end_filling()?;
        store.locks.check_places()?;
        let Some(mut store) = self.store.take() else { return Err(Error::Closed) };
        if let Err(error) = store.place.finish_copy() {
            // Whether the mark is gone for good nobody knows: it is a store, or marked as none.
            store.unwanted = true;
            return Err(error);
        }
        store.writer.loading = false;
        Ok(store)
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        if let Some(store) = self.store.take()
            && let Err(error) = store.discard()
        {
            tell(&error);
        }
    }
}

fn tell(error: &Error) {
    tracing::warn!(%error, "what there is of an import that failed stays, marked as unfinished");
}

/// The hashes of the keys of a block.
fn hash(store: &Store, ops: &BlockOps, key_hashes: &mut Vec<KeyHash>) -> Result<(), Error> {
    let spans: Vec<_> = ops.ops().iter().map(|op| op.key_span()).collect();
    let mut hashes = vec![Digest::ZERO; spans.len()];
    let group = MessageGroup { arena: ops.arena(), spans: &spans, out: &mut hashes };
    store.shared.pool.install(|| store.shared.hasher.cpu.messages(&mut [group]))?;
    key_hashes.clear();
    key_hashes.extend(hashes.iter().map(|hash| KeyHash(hash.0)));
    Ok(())
}

/// Checks that every key comes after the one before it.
fn check_order(ops: &BlockOps, stream: &Stream) -> Result<(), Refused> {
    let mut last = stream.last.as_ref().map(|last| last.key_hash);
    for (op, key_hash) in ops.ops().iter().zip(&stream.key_hashes) {
        if last.is_some_and(|last| last >= *key_hash) {
            let key = ops.key(op).to_vec();
            let twice = last == Some(*key_hash);
            return Err(if twice { Refused::Twice(key) } else { Refused::OutOfOrder(key) });
        }
        last = Some(*key_hash);
    }
    Ok(())
}
