//! The store: creating, opening, closing it, and its single writer.
//!
//! ```text
//!   <dir>/LOCK        held while the store is open
//!   <dir>/CREATING    there while a creation is not finished
//!   <dir>/CLOSED      there while the store is closed and everything was synced without an error
//!   <dir>/meta/       the manifest and the history: what is durable
//!   <dir>/log/        the entry log
//!   <dir>/twigs/      the twig file, derived from the log
//! ```
//!
//! Each of these directories is locked itself: what lies below `<dir>` may be a link to somewhere
//! else, and a second name for a directory must not let a second writer in. Before each block it is
//! made sure that the paths still lead to what is locked.
//!
//! Creation writes the genesis log, syncs it, commits the first manifest and takes `CREATING` away
//! last. Whatever is found without that end is an unfinished creation, which only `open_or_create`
//! replaces: it holds nothing that anybody ever wrote.

use crate::Error;
use crate::block::Block;
use crate::flow::{Flow, Progress};
use crate::genesis::genesis;
use crate::hasher::BatchHasher;
use crate::limits::{self, STACK_BYTES, no_thread};
use crate::ops::{BlockOps, Task};
use crate::options::Options;
use crate::pipeline::Unsettled;
use crate::points;
use crate::reader::Reader;
use crate::rebuild::{Rebuilt, Source, rebuild};
use crate::shared::{Counters, Published, Shared, per_shard};
use crate::ticket::Ticket;
use crate::twigs::{TwigStore, run_position};
use crate::writer::Writer;
use hashbrown::HashMap;
use hedgerow_entryfile::{
    BlockState, EntryLog, LogOptions, Record, SegmentSize, StoreId, TwigFile, TwigFileOptions,
};
use hedgerow_metadb::{
    Commit, Engine, HistoryRow, Manifest, MetaDb, MetaError, Renew, ShardManifest, StoreParams,
};
use hedgerow_types::{Height, SHARDS, SerialNumber, ShardId, TwigId};
use hedgerow_vfs::{DirLock, OpenMode, Sharing, TEMP_SUFFIX, Vfs, VfsError, VfsErrorKind};
use parking_lot::{Mutex, RwLock};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const LOCK: &str = "LOCK";
pub(crate) const CREATING: &str = "CREATING";
const CLOSED: &str = "CLOSED";
pub(crate) const META: &str = "meta";
pub(crate) const LOG: &str = "log";
pub(crate) const TWIGS: &str = "twigs";
/// What a fresh volume has in its root.
const LOST_AND_FOUND: &str = "lost+found";
/// The thread on which stores are opened.
const OPENING: &str = "hedgerow-open";
/// How the name of every engine's database begins.
const DATABASES: &str = "meta.";

/// A verifiable key-value store, open. It is the single writer; [`Store::reader`] gives readers.
///
/// Dropping it finishes the blocks that were submitted; [`Store::close`] also says whether that
/// went well. Readers that outlive it answer from the last published state.
#[derive(Debug)]
pub struct Store {
    pub(crate) writer: Writer,
    pub(crate) shared: Arc<Shared>,
    params: StoreParams,
    place: Place,
    /// Given back last.
    locks: Locks,
}

impl Store {
    /// Creates a store in an empty directory, which is made if it does not exist.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::InUse`], [`Error::NotWritable`], [`Error::Option`], or a failed
    /// write.
    pub fn create(
        path: impl AsRef<Path>,
        params: StoreParams,
        options: Options,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        limits::on_own_stack(OPENING, || Self::create_here(path, params, options))
    }

    fn create_here(path: &Path, params: StoreParams, options: Options) -> Result<Self, Error> {
        limits::check(&options)?;
        let hasher = options.check()?;
        let place = Place::new(path, &options)?;
        place.refuse_read_only(&options)?;
        // Before the lock: somebody else's directory does not get a file of ours.
        if place.was_never_locked()? && !place.is_empty()? {
            return Err(Error::NotEmpty(place.dir));
        }
        place.make_dir()?;
        let locks = place.lock(&options)?;
        if !place.is_empty()? {
            return Err(Error::NotEmpty(place.dir));
        }
        place.create_held(params, options, hasher, locks)
    }

    /// Opens an existing store.
    ///
    /// # Errors
    /// [`Error::NoStore`], [`Error::Unfinished`], [`Error::InUse`], [`Error::NotWritable`],
    /// [`Error::Option`]; or what is wrong with the files: nothing is repaired except by cutting what
    /// was never durable.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        let path = path.as_ref();
        limits::on_own_stack(OPENING, || Self::open_here(path, options))
    }

    fn open_here(path: &Path, options: Options) -> Result<Self, Error> {
        limits::check(&options)?;
        let hasher = options.check()?;
        let options = options.for_opening();
        let place = Place::new(path, &options)?;
        // Without a trace of a store, not even a lock file is left behind.
        if !place.has_mark()? && !place.has_database()? {
            return Err(Error::NoStore(place.dir));
        }
        let mut locks = place.lock(&options)?;
        if place.has_mark()? {
            return Err(Error::Unfinished(place.dir));
        }
        locks.parts = place.hold_parts()?;
        place.open(None, options, hasher, locks)
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
        let path = path.as_ref();
        limits::on_own_stack(OPENING, || Self::open_or_create_here(path, params, options))
    }

    fn open_or_create_here(
        path: &Path,
        params: StoreParams,
        options: Options,
    ) -> Result<Self, Error> {
        limits::check(&options)?;
        let hasher = options.check()?;
        let place = Place::new(path, &options)?;
        place.refuse_read_only(&options)?;
        // As in `create`.
        let ours = |place: &Place| Ok::<_, Error>(place.has_mark()? || place.has_database()?);
        if place.was_never_locked()? && !place.is_empty()? && !ours(&place)? {
            return Err(Error::NotEmpty(place.dir));
        }
        place.make_dir()?;
        let mut locks = place.lock(&options)?;
        if place.has_mark()? {
            place.remove_unfinished()?;
        }
        if place.is_empty()? {
            return place.create_held(params, options, hasher, locks);
        }
        if !place.has_database()? {
            return Err(Error::NotEmpty(place.dir));
        }
        locks.parts = place.hold_parts()?;
        place.open(Some(params), options, hasher, locks)
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
    /// [`Error::Poisoned`]; [`Error::ReadOnly`] if the store was opened so; [`Error::Forked`];
    /// [`Error::Disk`] if the store's directories are no longer where they were.
    pub fn begin_block(&mut self, height: Height) -> Result<Block<'_>, Error> {
        self.check_may_write()?;
        Block::begin(self, height)
    }

    /// The low-level interface: hands in a block of strict operations, exactly as spec 6 and 7 have
    /// it. They are all checked against the state that they will meet before anything changes.
    ///
    /// # Errors
    /// [`Error::WrongHeight`]; [`Error::InvalidOp`] and the errors of keys and values, after which
    /// the height is still to be had; a failed read; [`Error::Poisoned`]; as
    /// [`Store::begin_block`].
    pub fn submit_tasks(
        &mut self,
        height: Height,
        tasks: &[Task],
        extra: impl Into<Vec<u8>>,
    ) -> Result<Ticket, Error> {
        self.check_may_write()?;
        self.writer.check_begin(height)?;
        self.writer.say_that_nobody_waits();
        let ops = BlockOps::from_tasks(tasks, self.writer.max_value_bytes())?;
        self.writer.submit(&ops, &mut extra.into())
    }

    /// Whether this process may write to these directories still.
    fn check_may_write(&self) -> Result<(), Error> {
        self.locks.check_process()?;
        if self.shared.options.read_only {
            return Err(Error::ReadOnly);
        }
        self.locks.check_places()
    }

    /// Waits until everything that was submitted is durable.
    ///
    /// # Errors
    /// [`Error::Poisoned`] if the store failed; [`Error::Forked`].
    pub fn flush(&self) -> Result<(), Error> {
        self.locks.check_process()?;
        self.shared.flow.wait_for(|at| (at.durable >= at.accepted).then_some(()))
    }

    /// Waits until everything is durable, then recomputes every hash, the index and the twig records
    /// from the log and compares. What counts is what the names on the disk lead to now, not what the
    /// store has open or remembers.
    ///
    /// # Errors
    /// The first difference found, or a failed read.
    pub fn check(&mut self) -> Result<crate::CheckReport, Error> {
        self.locks.check_process()?;
        self.writer.settle()?;
        self.locks.check_places()?;
        let meta = self.locks.root.path().join(META);
        if !name_a_database(&self.shared.options.disk.read_dir(&meta)?) {
            return Err(Error::Corrupt("the database below meta/ is gone".into()));
        }
        limits::on_own_stack("hedgerow-check", || crate::check::check(&self.shared))
    }

    /// Figures of the open store.
    pub fn stats(&self) -> crate::Stats {
        crate::stats::collect(&self.shared)
    }

    /// Finishes what was submitted and closes the store.
    ///
    /// # Errors
    /// What stopped the store, if something did; [`Error::Forked`].
    pub fn close(mut self) -> Result<(), Error> {
        self.locks.check_process()?;
        self.writer.stop()?;
        self.shared.flow.check()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.locks.check_process().is_err() {
            // A copy in a forked process: the threads are not here, and the files are not ours.
            self.writer.forget();
            if let Some(mut meta) = self.shared.meta.try_write() {
                std::mem::forget(meta.take());
            }
            return;
        }
        if let Err(error) = self.writer.stop() {
            tracing::error!(%error, "while closing");
        }
        if self.shared.flow.look(|progress| progress.published > progress.durable) {
            // What readers saw will be cut from the log by whoever opens it next.
            self.shared.abandoned.store(true, Ordering::SeqCst);
        }
        // Readers and tickets may live on; the database is closed before the lock is given back.
        *self.shared.meta.write() = None;
        let settled = |at: &Progress| at.poison.is_none() && at.settled == at.accepted;
        if self.shared.flow.look(settled)
            && let Err(error) = self.place.mark_closed()
        {
            // Then the next opening does more than it would have to.
            tracing::warn!(%error, "could not mark the store as closed");
        }
    }
}

/// What an open store holds so that nobody else writes where it does.
#[derive(Debug)]
pub(crate) struct Locks {
    root: DirLock,
    /// Of the directories in it.
    pub(crate) parts: Vec<DirLock>,
    /// The process that locked them.
    process: u32,
}

impl Locks {
    /// # Errors
    /// [`Error::Forked`] in another process than the one that opened the store.
    fn check_process(&self) -> Result<(), Error> {
        if self.process == std::process::id() { Ok(()) } else { Err(Error::Forked(self.process)) }
    }

    /// # Errors
    /// If a path no longer leads to what is locked.
    fn check_places(&self) -> Result<(), Error> {
        [&self.root].into_iter().chain(&self.parts).try_for_each(|lock| Ok(lock.check()?))
    }
}

/// Whether there is nothing of that name and kind.
fn is_absent(error: &VfsError) -> bool {
    let kind = error.io_error().kind();
    error.kind() == VfsErrorKind::NotFound
        || matches!(kind, ErrorKind::NotADirectory | ErrorKind::IsADirectory)
}

/// Whether there is a database of any engine in a store's directory, compiled in or not, finished or
/// not.
fn has_database(vfs: &dyn Vfs, dir: &Path) -> Result<bool, Error> {
    let meta = dir.join(META);
    let names = match vfs.read_dir(&meta) {
        Ok(names) => names,
        Err(error) if is_absent(&error) => {
            // What is there and cannot be listed is not absent.
            let hidden = error.kind() == VfsErrorKind::NotFound && vfs.exists(&meta)?;
            return if hidden { Err(error.into()) } else { Ok(false) };
        }
        Err(error) => return Err(error.into()),
    };
    Ok(name_a_database(&names))
}

fn name_a_database(names: &[OsString]) -> bool {
    names.iter().any(|name| name.to_str().is_some_and(|name| name.starts_with(DATABASES)))
}

/// The directory of a store.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: PathBuf,
    pub(crate) vfs: Arc<dyn Vfs>,
}

impl Place {
    /// The path is made absolute here, once: the process may go to another directory later.
    pub(crate) fn new(dir: &Path, options: &Options) -> Result<Self, Error> {
        Ok(Self { dir: options.disk.absolute(dir)?, vfs: Arc::clone(&options.disk) })
    }

    /// A store is not created to be read.
    fn refuse_read_only(&self, options: &Options) -> Result<(), Error> {
        if options.read_only { Err(Error::ReadOnly) } else { Ok(()) }
    }

    /// Whether the directory is there and has no lock file. If it has one, whoever holds it may be
    /// changing what is there.
    fn was_never_locked(&self) -> Result<bool, Error> {
        Ok(self.vfs.exists(&self.dir)? && !self.has(LOCK)?)
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

    /// Whether the mark of an unfinished creation is there, which is as long as a store's id: a file
    /// that somebody else gave this name is none.
    pub(crate) fn has_mark(&self) -> Result<bool, Error> {
        let mark = match self.vfs.open(&self.path(CREATING), OpenMode::Read) {
            Ok(mark) => mark,
            Err(error) if is_absent(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        Ok(mark.len()? == size_of::<StoreId>() as u64)
    }

    pub(crate) fn has_database(&self) -> Result<bool, Error> {
        has_database(&*self.vfs, &self.dir)
    }

    /// Locks the directory of the store.
    pub(crate) fn lock(&self, options: &Options) -> Result<Locks, Error> {
        let root = self.vfs.lock_dir(&self.dir).map_err(|error: VfsError| {
            match (error.kind(), error.io_error().kind()) {
                (VfsErrorKind::InUse, _) => Error::InUse(self.dir.clone()),
                (_, ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
                    if !options.read_only =>
                {
                    Error::NotWritable { dir: self.dir.clone(), source: error }
                }
                _ => error.into(),
            }
        })?;
        Ok(Locks { root, parts: vec![], process: std::process::id() })
    }

    /// Locks the directories in it too, which may be links to somewhere else.
    pub(crate) fn hold_parts(&self) -> Result<Vec<DirLock>, Error> {
        let mut parts = vec![];
        for name in [META, LOG, TWIGS] {
            let path = self.path(name);
            match self.vfs.hold_dir(&path, Sharing::Exclusive) {
                Ok(lock) => parts.push(lock),
                Err(error) if error.kind() == VfsErrorKind::InUse => {
                    return Err(Error::InUse(path));
                }
                // Opening says what is missing, or makes it.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(parts)
    }

    /// Creates the store, and locks what was made.
    fn create_held(
        self,
        params: StoreParams,
        options: Options,
        hasher: Arc<dyn BatchHasher>,
        locks: Locks,
    ) -> Result<Store, Error> {
        let place = Self { dir: self.dir.clone(), vfs: Arc::clone(&self.vfs) };
        let mut store = self.create(params, options, hasher, locks)?;
        store.locks.parts = place.hold_parts()?;
        Ok(store)
    }

    /// Says that everything was written and no sync failed. Need not be durable: it is for the next
    /// process on this machine, which may read out of the system's cache what never reached the medium.
    fn mark_closed(&self) -> Result<(), Error> {
        self.vfs.at_point(points::CLOSE_SETTLED)?;
        self.vfs.open(&self.path(CLOSED), OpenMode::CreateNew)?;
        Ok(self.vfs.at_point(points::CLOSE_DONE)?)
    }

    /// Takes the mark away, before anything is written. Returns whether it was there.
    pub(crate) fn take_closed(&self) -> Result<bool, Error> {
        let was = self.has(CLOSED)?;
        if was {
            self.vfs.remove_file(&self.path(CLOSED))?;
        }
        Ok(was)
    }

    /// Writes the metadata database once more unless the last process closed the store in peace: see
    /// docs/durability.md, "What is believed".
    pub(crate) fn renew_metadata(&self, options: &Options) -> Result<(), Error> {
        let renew = if self.take_closed()? { Renew::IfBloated } else { Renew::Always };
        let engine = self.engine(options)?;
        if hedgerow_metadb::exists(engine, &*self.vfs, &self.path(META))? {
            hedgerow_metadb::renew(engine, &self.vfs, &self.path(META), renew)?;
        }
        Ok(())
    }

    fn is_empty(&self) -> Result<bool, Error> {
        // The mark of a creation is written beside its place first; a creation that got no further
        // left nothing else.
        let half_a_mark = format!("{CREATING}{TEMP_SUFFIX}");
        let nothing =
            |name: &OsString| name == LOCK || name == LOST_AND_FOUND || *name == *half_a_mark;
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
        let default = LogOptions::default();
        LogOptions {
            segment_size: options.segment_bytes.map_or(default.segment_size, SegmentSize::fixed),
            cache_bytes: options.entry_cache_bytes,
            tail_bytes: options.tail_bytes,
        }
    }

    pub(crate) fn twig_options(options: &Options) -> TwigFileOptions {
        let default = TwigFileOptions::default();
        let SegmentSize { most, .. } = default.segment_size;
        let given = options.segment_bytes.map(|bytes| SegmentSize::fixed(bytes.min(most)));
        TwigFileOptions { segment_size: given.unwrap_or(default.segment_size), ..default }
    }

    fn create(
        self,
        params: StoreParams,
        options: Options,
        hasher: Arc<dyn BatchHasher>,
        lock: Locks,
    ) -> Result<Store, Error> {
        let genesis = genesis()?;
        let id = StoreId(rand_id()?);
        self.sync_names()?;
        hedgerow_vfs::write_atomic(&*self.vfs, &self.path(CREATING), &id.0)?;
        self.vfs.at_point(points::CREATE_MARKED)?;

        let log_options = Self::log_options(&options);
        let log = EntryLog::create(Arc::clone(&self.vfs), &self.path(LOG), id, log_options)?;
        let counts = [genesis.spans.len() as u32; SHARDS];
        let at = log.next_position();
        let runs = genesis.runs_at(at)?;
        let record = Record::new(at, Height(0), runs, counts, BlockState::default())?;
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
        let behind = Unsettled { manifest, rows: vec![], bytes: 0 };
        let settled = forest.roots().clone();
        let (twigs_made, contradicted) = (vec![], None);
        let rebuilt = Rebuilt {
            forest,
            index,
            writers,
            open,
            twigs: twigs_made,
            behind,
            settled,
            contradicted,
        };
        let pool = pool(&options, "hedgerow")?;
        start(Parts { place: self, log, twigs, meta, rebuilt, pool, options, hasher, lock })
    }

    fn open(
        self,
        expected: Option<StoreParams>,
        options: Options,
        hasher: Arc<dyn BatchHasher>,
        lock: Locks,
    ) -> Result<Store, Error> {
        self.vfs.at_point(points::OPEN_LOCKED)?;
        self.renew_metadata(&options)?;
        self.vfs.at_point(points::OPEN_METADATA_RENEWED)?;
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
        let (vfs, dir) = (|| Arc::clone(&self.vfs), self.path(LOG));
        let (start_at, end) = (manifest.log_start, manifest.log_end);
        let journal = EntryLog::find_journal(vfs(), &dir, id, start_at, end, manifest.height)?;
        self.vfs.at_point(points::OPEN_JOURNAL_FOUND)?;
        EntryLog::renew_journal(&*self.vfs, &dir, start_at, end, &journal)?;
        self.vfs.at_point(points::OPEN_JOURNAL_RENEWED)?;
        let log_options = Self::log_options(&options);
        let log = EntryLog::open(vfs(), &dir, id, log_options, start_at, journal.end)?;
        self.vfs.at_point(points::OPEN_LOG_CUT)?;
        let twig_options = Self::twig_options(&options);
        let dir = self.path(TWIGS);
        let (file, _) = TwigFile::open(vfs(), &dir, id, twig_options, manifest.log_end)?;
        let twigs = TwigStore::new(file);
        self.vfs.at_point(points::OPEN_TWIG_FILE_CUT)?;
        let pool = pool(&options, "hedgerow")?;
        let attempt = |twigs| {
            let (log, manifest, hasher) = (&log, &manifest, &*hasher);
            let progress = options.progress.as_ref();
            let source = Source { log, twigs, manifest, journal, hasher, progress };
            pool.install(|| rebuild(&source))
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
            start(Parts { place: self, log, twigs, meta, rebuilt, pool, options, hasher, lock })?;
        store.place.vfs.at_point(points::OPEN_DONE)?;
        Ok(store)
    }
}

/// Everything that an open store is put together from.
struct Parts {
    place: Place,
    log: EntryLog,
    twigs: TwigStore,
    meta: Box<dyn MetaDb>,
    rebuilt: Rebuilt,
    pool: rayon::ThreadPool,
    options: Options,
    hasher: Arc<dyn BatchHasher>,
    lock: Locks,
}

fn start(parts: Parts) -> Result<Store, Error> {
    let Parts { place, log, twigs, meta, rebuilt, pool, options, hasher, lock } = parts;
    let behind = rebuilt.behind;
    let (height, manifest) = (behind.manifest.height, &behind.manifest);
    // The manifest on disk is older by the rows that are to follow it.
    let settled = Height(height.0 - behind.rows.len() as u64);
    let shared = Arc::new(Shared {
        log,
        twigs,
        meta: RwLock::new(Some(meta)),
        published: RwLock::new(Published {
            height,
            index: rebuilt.index,
            forest: rebuilt.forest.clone(),
        }),
        flow: Arc::new(Flow::new(height, settled)),
        recent: Mutex::new(behind.rows.iter().cloned().collect()),
        hasher,
        pool,
        hash_pool: self::pool(&options, "hedgerow-hash")?,
        options,
        pins: AtomicUsize::new(0),
        first_kept: Mutex::new(per_shard(|shard| manifest.shards[shard.index()].first_kept)),
        prune_hold: Mutex::new(None),
        abandoned: AtomicBool::new(false),
        counters: Counters::default(),
    });
    let params = manifest.params;
    let pipeline = crate::pipeline::start(&shared, rebuilt.forest, rebuilt.open, behind)?;
    let rule = params.compaction();
    let writer = Writer::new(Arc::clone(&shared), pipeline, rule, height, rebuilt.writers);
    Ok(Store { writer, shared, params, place, locks: lock })
}

pub(crate) fn pool(options: &Options, name: &'static str) -> Result<rayon::ThreadPool, Error> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .thread_name(move |number| format!("{name}-{number}"))
        .stack_size(STACK_BYTES)
        .build()
        .map_err(|error| no_thread(name, error))
}

/// 16 random bytes: what tells one store's files from another's.
fn rand_id() -> Result<[u8; 16], Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| Error::Thread { name: "random numbers", reason: error.to_string() })?;
    Ok(id)
}
