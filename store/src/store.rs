//! The store: creating, opening, closing it, and its single writer.
//!
//! ```text
//!   <dir>/LOCK        held while the store is open
//!   <dir>/CREATING    there while a creation is not finished
//!   <dir>/meta/       the manifest and the history: what is durable
//!   <dir>/log/        the entry log
//!   <dir>/twigs/      the twig file, derived from the log
//! ```
//!
//! Creation writes the genesis log, syncs it, commits the first manifest and takes `CREATING` away
//! last. Whatever is found without that end is an unfinished creation, which only `open_or_create`
//! replaces: it holds nothing that anybody ever wrote.

use crate::Error;
use crate::block::Block;
use crate::flow::Flow;
use crate::genesis::genesis;
use crate::hasher::BatchHasher;
use crate::ops::{BlockOps, Task};
use crate::options::Options;
use crate::points;
use crate::reader::Reader;
use crate::rebuild::{Rebuilt, Source, rebuild};
use crate::shared::{Counters, Published, Shared, per_shard};
use crate::ticket::Ticket;
use crate::twigs::{TwigStore, run_position};
use crate::writer::Writer;
use hashbrown::HashMap;
use hedgerow_entryfile::{EntryLog, LogOptions, Record, StoreId, TwigFile, TwigFileOptions};
use hedgerow_metadb::{
    Commit, Engine, HistoryRow, Manifest, MetaDb, MetaError, ShardManifest, StoreParams,
};
use hedgerow_types::{Height, SHARDS, SerialNumber, ShardId, TwigId};
use hedgerow_vfs::{DirLock, TEMP_SUFFIX, Vfs, VfsError, VfsErrorKind};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const LOCK: &str = "LOCK";
pub(crate) const CREATING: &str = "CREATING";
pub(crate) const META: &str = "meta";
pub(crate) const LOG: &str = "log";
pub(crate) const TWIGS: &str = "twigs";

/// A verifiable key-value store, open. It is the single writer; [`Store::reader`] gives readers.
///
/// Dropping it finishes the blocks that were submitted; [`Store::close`] also says whether that
/// went well. Readers that outlive it answer from the last published state.
#[derive(Debug)]
pub struct Store {
    pub(crate) writer: Writer,
    pub(crate) shared: Arc<Shared>,
    params: StoreParams,
    /// Given back last.
    _lock: DirLock,
}

impl Store {
    /// Creates a store in an empty directory, which is made if it does not exist.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::InUse`], [`Error::Option`], or a failed write.
    pub fn create(
        path: impl AsRef<Path>,
        params: StoreParams,
        options: Options,
    ) -> Result<Self, Error> {
        let hasher = options.check()?;
        let place = Place::new(path.as_ref(), &options);
        place.make_dir()?;
        let lock = place.lock()?;
        if !place.is_empty()? {
            return Err(Error::NotEmpty(place.dir));
        }
        place.create(params, options, hasher, lock)
    }

    /// Opens an existing store.
    ///
    /// # Errors
    /// [`Error::NoStore`], [`Error::Unfinished`], [`Error::InUse`], [`Error::Option`]; or what is
    /// wrong with the files: nothing is repaired except by cutting what was never durable.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let hasher = options.check()?;
        let place = Place::new(path.as_ref(), &options);
        // Without a trace of a store, not even a lock file is left behind.
        if !place.has(CREATING)? && !place.has(META)? {
            return Err(Error::NoStore(place.dir));
        }
        let lock = place.lock()?;
        if place.has(CREATING)? {
            return Err(Error::Unfinished(place.dir));
        }
        place.open(None, options, hasher, lock)
    }

    /// Opens the store in `path` if there is one, with these parameters; else creates it, in an
    /// empty directory or over its own unfinished creation. Never deletes anything else.
    ///
    /// # Errors
    /// [`Error::Params`] if the store has other parameters; as [`Store::open`] and
    /// [`Store::create`].
    pub fn open_or_create(
        path: impl AsRef<Path>,
        params: StoreParams,
        options: Options,
    ) -> Result<Self, Error> {
        let hasher = options.check()?;
        let place = Place::new(path.as_ref(), &options);
        place.make_dir()?;
        let lock = place.lock()?;
        if place.has(CREATING)? {
            place.remove_unfinished()?;
        }
        if place.is_empty()? {
            return place.create(params, options, hasher, lock);
        }
        if !place.has(META)? {
            return Err(Error::NotEmpty(place.dir));
        }
        place.open(Some(params), options, hasher, lock)
    }

    /// What the store was created with.
    pub fn params(&self) -> &StoreParams {
        &self.params
    }

    /// A reader of the published state.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.shared))
    }

    /// The last accepted height: the next block has the height after it.
    pub fn height(&self) -> Height {
        self.writer.height()
    }

    /// Begins the next block.
    ///
    /// # Errors
    /// [`Error::WrongHeight`] unless `height` is the one after the last block's;
    /// [`Error::Poisoned`].
    pub fn begin_block(&mut self, height: Height) -> Result<Block<'_>, Error> {
        Block::begin(self, height)
    }

    /// The low-level interface: hands in a block of strict operations, exactly as spec 6 and 7 have
    /// it. They are all checked against the state that they will meet before anything changes.
    ///
    /// # Errors
    /// [`Error::WrongHeight`]; [`Error::InvalidOp`] and the errors of keys and values, after which
    /// the height is still to be had; a failed read; [`Error::Poisoned`].
    pub fn submit_tasks(
        &mut self,
        height: Height,
        tasks: &[Task],
        extra: impl Into<Vec<u8>>,
    ) -> Result<Ticket, Error> {
        self.writer.check_begin(height)?;
        let ops = BlockOps::from_tasks(tasks, self.writer.max_value_bytes())?;
        self.writer.submit(&ops, extra.into())
    }

    /// Waits until everything that was submitted is durable.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed.
    pub fn flush(&self) -> Result<(), Error> {
        self.shared.flow.wait_for(|at| (at.durable >= at.accepted).then_some(()))
    }

    /// Waits until everything is durable, then recomputes every hash, the index and the twig records
    /// from the log and compares.
    ///
    /// # Errors
    /// The first difference found, or a failed read.
    pub fn check(&mut self) -> Result<crate::CheckReport, Error> {
        self.flush()?;
        crate::check::check(&self.shared)
    }

    /// Figures of the open store.
    pub fn stats(&self) -> crate::Stats {
        crate::stats::collect(&self.shared)
    }

    /// Finishes what was submitted and closes the store.
    ///
    /// # Errors
    /// What stopped the store, if something did.
    pub fn close(mut self) -> Result<(), Error> {
        self.writer.stop()?;
        self.shared.flow.check()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.writer.stop() {
            tracing::error!(%error, "while closing");
        }
        if self.shared.flow.look(|progress| progress.published > progress.durable) {
            // What readers saw will be cut from the log by whoever opens it next.
            self.shared.abandoned.store(true, Ordering::SeqCst);
        }
        // Readers and tickets may live on; the database is closed before the lock is given back.
        *self.shared.meta.write() = None;
    }
}

/// The directory of a store.
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) vfs: Arc<dyn Vfs>,
}

impl Place {
    pub(crate) fn new(dir: &Path, options: &Options) -> Self {
        Self { dir: dir.to_path_buf(), vfs: Arc::clone(&options.disk) }
    }

    fn make_dir(&self) -> Result<(), Error> {
        Ok(self.vfs.create_dir_all(&self.dir)?)
    }

    /// Makes the directory's name durable, and those of all directories above it: an earlier attempt
    /// may have made any of them and died.
    fn sync_names(&self) -> Result<(), Error> {
        let denied = |error: &VfsError| error.io_error().kind() == ErrorKind::PermissionDenied;
        let above = self.dir.ancestors().skip(1);
        for dir in above.map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir }) {
            match self.vfs.sync_dir(dir) {
                // One that we may not even list is none that we made.
                Err(error)
                    if denied(&error) && self.vfs.read_dir(dir).is_err_and(|e| denied(&e)) => {}
                other => other?,
            }
        }
        Ok(())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn has(&self, name: &str) -> Result<bool, Error> {
        Ok(self.vfs.exists(&self.path(name))?)
    }

    pub(crate) fn lock(&self) -> Result<DirLock, Error> {
        self.vfs.lock_dir(&self.dir).map_err(|error: VfsError| match error.kind() {
            VfsErrorKind::InUse => Error::InUse(self.dir.clone()),
            _ => error.into(),
        })
    }

    fn is_empty(&self) -> Result<bool, Error> {
        // The mark of a creation is written beside its place first; a creation that got no further
        // left nothing else.
        let half_a_mark = format!("{CREATING}{TEMP_SUFFIX}");
        let nothing = |name: &OsString| name == LOCK || *name == *half_a_mark;
        Ok(self.vfs.read_dir(&self.dir)?.iter().all(nothing))
    }

    /// Removes what a creation that did not finish left behind; its mark goes last.
    fn remove_unfinished(&self) -> Result<(), Error> {
        for name in [META, LOG, TWIGS] {
            if self.has(name)? {
                self.vfs.remove_dir_all(&self.path(name))?;
            }
        }
        self.vfs.sync_dir(&self.dir)?;
        self.vfs.remove_file(&self.path(CREATING))?;
        Ok(self.vfs.sync_dir(&self.dir)?)
    }

    fn engine(&self, options: &Options) -> Result<Engine, Error> {
        if let Some(engine) = options.engine {
            return Ok(engine);
        }
        let engines = Engine::available();
        for &engine in engines {
            if hedgerow_metadb::exists(engine, &*self.vfs, &self.path(META))? {
                return Ok(engine);
            }
        }
        engines.first().copied().ok_or(Error::Option {
            option: "engine",
            reason: "the crate was built without a metadata engine (features redb, rocksdb, sled)"
                .into(),
        })
    }

    pub(crate) fn meta(&self, options: &Options, create: bool) -> Result<Box<dyn MetaDb>, Error> {
        let engine = self.engine(options)?;
        Ok(hedgerow_metadb::open(engine, Arc::clone(&self.vfs), &self.path(META), create)?)
    }

    pub(crate) fn log_options(options: &Options) -> LogOptions {
        LogOptions {
            segment_size: options.segment_bytes,
            cache_bytes: options.entry_cache_bytes,
            tail_bytes: options.tail_bytes,
        }
    }

    pub(crate) fn twig_options(options: &Options) -> TwigFileOptions {
        let default = TwigFileOptions::default();
        TwigFileOptions { segment_size: default.segment_size.min(options.segment_bytes), ..default }
    }

    fn create(
        self,
        params: StoreParams,
        options: Options,
        hasher: Arc<dyn BatchHasher>,
        lock: DirLock,
    ) -> Result<Store, Error> {
        let genesis = genesis()?;
        let id = StoreId(rand_id()?);
        self.sync_names()?;
        hedgerow_vfs::write_atomic(&*self.vfs, &self.path(CREATING), &id.0)?;
        self.vfs.at_point(points::CREATE_MARKED)?;

        let log_options = Self::log_options(&options);
        let log = EntryLog::create(Arc::clone(&self.vfs), &self.path(LOG), id, log_options)?;
        let counts = [genesis.spans.len() as u32; SHARDS];
        let record = Record::new(log.next_position(), Height(0), genesis.runs.clone(), counts)?;
        let record = Arc::new(record);
        log.announce(Arc::clone(&record))?;
        log.append_many(&[Arc::clone(&record)])?;
        log.sync()?;
        self.vfs.at_point(points::CREATE_LOG_SYNCED)?;

        let twig_options = Self::twig_options(&options);
        let file = TwigFile::create(Arc::clone(&self.vfs), &self.path(TWIGS), id, twig_options)?;
        let twigs = TwigStore::new(file);
        let (mut index, mut open, mut writers) = (vec![], vec![], vec![]);
        let mut places = HashMap::new();
        for shard in ShardId::all() {
            let start = run_position(&record, shard);
            let entries = genesis.index_entries(shard, start);
            index.push(
                hedgerow_index::ShardIndex::build(entries)
                    .map_err(|error| Error::Corrupt(format!("index: {error}")))?,
            );
            let (youngest, filled) = genesis.places(record.position(), start);
            open.push(youngest);
            places.extend(filled.into_iter().map(|filled| ((shard, filled.twig), filled)));
            writers.push(genesis.writer(shard, record.position(), start));
        }
        let records = twigs.finish(genesis.finished.clone(), &mut places)?;
        twigs.write(&records)?;
        twigs.file.sync()?;
        self.vfs.at_point(points::CREATE_TWIGS_SYNCED)?;

        let forest = genesis.forest.clone();
        let roots = forest.roots();
        let row = HistoryRow {
            root: roots.state,
            shard_roots: roots.shards,
            oldest_active: [SerialNumber(0); SHARDS],
            extra: Vec::new(),
        };
        let manifest = Manifest {
            store_id: id.0,
            params,
            height: Height(0),
            log_start: hedgerow_types::LogPosition(0),
            log_end: record.end(),
            state_root: roots.state,
            history_from: Height(0),
            shards: std::array::from_fn(|shard| ShardManifest {
                next_sn: SerialNumber(genesis.spans.len() as u64),
                oldest_active: SerialNumber(0),
                active: genesis.spans.len() as u64,
                root: roots.shards[shard],
                first_kept: TwigId(0),
                edges: Vec::new(),
            }),
        };
        self.vfs.create_dir_all(&self.path(META))?;
        let meta = self.meta(&options, true)?;
        let rows = [(Height(0), row)];
        let commit =
            Commit { manifest: &manifest, rows: &rows, history_from: manifest.history_from };
        meta.commit(&commit)?;
        self.vfs.at_point(points::CREATE_MANIFEST_WRITTEN)?;
        self.vfs.sync_dir(&self.dir)?;
        self.vfs.remove_file(&self.path(CREATING))?;
        self.vfs.sync_dir(&self.dir)?;
        self.vfs.at_point(points::CREATE_DONE)?;
        let rebuilt = Rebuilt { forest, index, writers, open, twigs: vec![] };
        let pool = pool(&options, "hedgerow")?;
        start(Parts { log, twigs, meta, manifest, rebuilt, pool, options, hasher, lock })
    }

    fn open(
        self,
        expected: Option<StoreParams>,
        options: Options,
        hasher: Arc<dyn BatchHasher>,
        lock: DirLock,
    ) -> Result<Store, Error> {
        self.vfs.at_point(points::OPEN_LOCKED)?;
        let meta = match self.meta(&options, false) {
            Err(Error::Meta(error)) if matches!(*error, MetaError::Missing { .. }) => {
                return Err(Error::NoStore(self.dir));
            }
            other => other?,
        };
        let Some(manifest) = meta.manifest()? else { return Err(Error::NoStore(self.dir)) };
        if let Some(expected) = expected.filter(|expected| *expected != manifest.params) {
            let found = &manifest.params;
            return Err(Error::Params(format!("asked for {expected:?}, it has {found:?}")));
        }
        self.vfs.at_point(points::OPEN_MANIFEST_READ)?;
        let id = StoreId(manifest.store_id);
        let log_options = Self::log_options(&options);
        let log = EntryLog::open(
            Arc::clone(&self.vfs),
            &self.path(LOG),
            id,
            log_options,
            manifest.log_start,
            manifest.log_end,
        )?;
        self.vfs.at_point(points::OPEN_LOG_CUT)?;
        let twig_options = Self::twig_options(&options);
        let (vfs, dir) = (Arc::clone(&self.vfs), self.path(TWIGS));
        let (file, _) = TwigFile::open(vfs, &dir, id, twig_options, manifest.log_end)?;
        let twigs = TwigStore::new(file);
        self.vfs.at_point(points::OPEN_TWIG_FILE_CUT)?;
        let pool = pool(&options, "hedgerow")?;
        let attempt = |twigs| {
            let (log, manifest, hasher) = (&log, &manifest, &*hasher);
            let progress = options.progress.as_ref();
            pool.install(|| rebuild(&Source { log, twigs, manifest, hasher, progress }))
        };
        let rebuilt = match attempt(Some(&twigs)) {
            Err(error) if error.is_contradiction() => {
                // A twig record may be whole and yet wrong, and it is derived data: what counts is
                // whether the log, without it, leads to the manifest's roots.
                tracing::warn!(%error, "opening once more, without the twig file");
                let mut rebuilt = attempt(None)?;
                rebuilt.twigs = twigs.different(rebuilt.twigs)?;
                rebuilt
            }
            other => other?,
        };
        self.vfs.at_point(points::OPEN_REBUILT)?;
        twigs.write(&rebuilt.twigs)?;
        self.vfs.at_point(points::OPEN_TWIGS_WRITTEN)?;
        let store =
            start(Parts { log, twigs, meta, manifest, rebuilt, pool, options, hasher, lock })?;
        self.vfs.at_point(points::OPEN_DONE)?;
        Ok(store)
    }
}

/// Everything that an open store is put together from.
struct Parts {
    log: EntryLog,
    twigs: TwigStore,
    meta: Box<dyn MetaDb>,
    manifest: Manifest,
    rebuilt: Rebuilt,
    pool: rayon::ThreadPool,
    options: Options,
    hasher: Arc<dyn BatchHasher>,
    lock: DirLock,
}

fn start(parts: Parts) -> Result<Store, Error> {
    let Parts { log, twigs, meta, manifest, rebuilt, pool, options, hasher, lock } = parts;
    let height = manifest.height;
    let shared = Arc::new(Shared {
        log,
        twigs,
        meta: RwLock::new(Some(meta)),
        published: RwLock::new(Published {
            height,
            index: rebuilt.index,
            forest: rebuilt.forest.clone(),
        }),
        flow: Arc::new(Flow::new(height)),
        recent: Mutex::new(BTreeMap::new()),
        hasher,
        pool,
        hash_pool: self::pool(&options, "hedgerow-hash")?,
        options,
        pins: AtomicUsize::new(0),
        first_kept: Mutex::new(per_shard(|shard| manifest.shards[shard.index()].first_kept)),
        abandoned: AtomicBool::new(false),
        counters: Counters::default(),
    });
    let params = manifest.params;
    let pipeline = crate::pipeline::start(&shared, rebuilt.forest, rebuilt.open, manifest)?;
    let rule = params.compaction();
    let writer = Writer::new(Arc::clone(&shared), pipeline, rule, height, rebuilt.writers);
    Ok(Store { writer, shared, params, _lock: lock })
}

pub(crate) fn pool(options: &Options, name: &'static str) -> Result<rayon::ThreadPool, Error> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .thread_name(move |number| format!("{name}-{number}"))
        .build()
        .map_err(|error| Error::Thread { name, reason: error.to_string() })
}

/// 16 random bytes: what tells one store's files from another's.
fn rand_id() -> Result<[u8; 16], Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Error::Thread { name: "random numbers", reason: error.to_string() })?;
    Ok(id)
}
