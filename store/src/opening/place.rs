//! The directory of a store: what lies in it, and who may write there.
//!
//! ```text
//!   <dir>/LOCK        held while the store is open
//!   <dir>/CREATING    there while a creation is not finished
//!   <dir>/COPYING     there while a backup of another store, a restoring or an import is not finished
//!   <dir>/CLOSED      there while the store is closed and everything was synced without an error
//!   <dir>/meta/       the manifest and the history: what is durable
//!   <dir>/log/        the entry log
//!   <dir>/twigs/      the twig file, derived from the log
//!   <dir>/undo/       what the last blocks replaced in the tree, derived from the log
//!   <dir>/checkpoints/  the state at a height, derived from the log
//!   <dir>/index/      the index, if it is in files: derived from the log
//!   <dir>/index/GIVEN_UP  there while one of its files is known to be damaged
//! ```
//!
//! Each of these directories is locked itself: what lies below `<dir>` may be a link to somewhere
//! else, and a second name for a directory must not let a second writer in. Before each block it is
//! made sure that the paths still lead to what is locked.

use crate::commit::checkpoint::CHECKPOINTS;
use crate::history::undo::UndoStore;
use crate::opening::rebuild::INDEX;
use crate::options::{IndexMode, Options};
use crate::read::given_up::{Mark, Part};
use crate::{Error, points};
use hedgerow_entryfile::{
    LogOptions, SegmentSize, StoreId, TwigFileOptions, UndoFile, UndoFileOptions,
};
use hedgerow_metadb::{Engine, Manifest, MetaDb, MetaError, Renew};
use hedgerow_types::{Height, LogPosition};
use hedgerow_vfs::{DirLock, OpenMode, Sharing, TEMP_SUFFIX, Vfs, VfsError, VfsErrorKind};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOCK: &str = "LOCK";
pub(crate) const CREATING: &str = "CREATING";
/// Like [`CREATING`], and yet another name: what it marks is to be a copy of what somebody wrote, and nobody is
/// to begin an empty store in its place.
const COPYING: &str = "COPYING";
const CLOSED: &str = "CLOSED";
pub(crate) const META: &str = "meta";
pub(crate) const LOG: &str = "log";
pub(crate) const TWIGS: &str = "twigs";
pub(crate) const UNDO: &str = "undo";
/// What a fresh volume has in its root.
const LOST_AND_FOUND: &str = "lost+found";
/// How the name of every engine's database begins.
const DATABASES: &str = "meta.";

/// What an open store holds so that nobody else writes where it does.
#[derive(Debug)]
pub(crate) struct Locks {
    pub(crate) root: DirLock,
    /// Of the directories in it.
    pub(crate) parts: Vec<DirLock>,
    /// The process that locked them.
    process: u32,
}

impl Locks {
    /// # Errors
    /// [`Error::Forked`] in another process than the one that opened the store.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        if self.process == std::process::id() { Ok(()) } else { Err(Error::Forked(self.process)) }
    }

    /// # Errors
    /// If a path no longer leads to what is locked.
    pub(crate) fn check_places(&self) -> Result<(), Error> {
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

pub(crate) fn name_a_database(names: &[OsString]) -> bool {
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

    /// The store that is to be in `path`, locked with all its parts.
    ///
    /// # Errors
    /// [`Error::NoStore`], [`Error::Unfinished`], [`Error::UnfinishedCopy`], and those of locking.
    pub(crate) fn existing(path: &Path, options: &Options) -> Result<(Self, Locks), Error> {
        let place = Self::new(path, options)?;
        // Without a trace of a store, not even a lock file is left behind.
        if !place.has_mark()? && !place.has_copy_mark()? && !place.has_database()? {
            return Err(Error::NoStore(place.dir));
        }
        let mut locks = place.lock(options)?;
        place.check_copied()?;
        if place.has_mark()? {
            return Err(Error::Unfinished(place.dir));
        }
        locks.parts = place.hold_parts(options)?;
        Ok((place, locks))
    }

    /// The directory of a store of which anything may be missing, locked if it can be.
    ///
    /// # Errors
    /// [`Error::NoStore`] if there is no log; [`Error::InUse`].
    pub(crate) fn damaged(path: &Path, options: &Options) -> Result<(Self, Option<Locks>), Error> {
        let place = Self::new(path, options)?;
        if !place.has(LOG)? {
            return Err(Error::NoStore(place.dir));
        }
        match place.lock(options) {
            Ok(locks) => Ok((place, Some(locks))),
            Err(error @ Error::InUse { .. }) => Err(error),
            Err(_) => Ok((place, None)),
        }
    }

    /// The directory where a store may be made, made itself and locked; what is in it may be anything
    /// still, if it was locked before or is `ours`.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]: a store is not created to be read; [`Error::NotEmpty`], and those of locking.
    pub(crate) fn to_be_filled(
        path: &Path,
        options: &Options,
        ours: impl Fn(&Self) -> Result<bool, Error>,
    ) -> Result<(Self, Locks), Error> {
        let place = Self::new(path, options)?;
        if options.read_only {
            return Err(Error::ReadOnly);
        }
        // Before the lock: somebody else's directory does not get a file of ours.
        if place.was_never_locked()? && !place.is_empty()? && !ours(&place)? {
            return Err(Error::NotEmpty(place.dir));
        }
        place.vfs.create_dir_all(&place.dir)?;
        let locks = place.lock(options)?;
        Ok((place, locks))
    }

    /// Whether the directory is there and has no lock file. If it has one, whoever holds it may be
    /// changing what is there.
    fn was_never_locked(&self) -> Result<bool, Error> {
        Ok(self.vfs.exists(&self.dir)? && !self.has(LOCK)?)
    }

    /// Makes the directory's name durable, and those of all directories above it: an earlier attempt
    /// may have made any of them and died.
    pub(crate) fn sync_names(&self) -> Result<(), Error> {
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

    fn has(&self, name: &str) -> Result<bool, Error> {
        Ok(self.vfs.exists(&self.path(name))?)
    }

    /// Whether the mark of an unfinished creation is there, which is as long as a store's id: a file
    /// that somebody else gave this name is none.
    pub(crate) fn has_mark(&self) -> Result<bool, Error> {
        self.is_marked(CREATING)
    }

    /// The same for the mark of an unfinished copy.
    pub(crate) fn has_copy_mark(&self) -> Result<bool, Error> {
        self.is_marked(COPYING)
    }

    /// # Errors
    /// [`Error::UnfinishedCopy`] if what is here is not a whole copy.
    pub(crate) fn check_copied(&self) -> Result<(), Error> {
        if self.has_copy_mark()? { Err(Error::UnfinishedCopy(self.dir.clone())) } else { Ok(()) }
    }

    fn is_marked(&self, name: &str) -> Result<bool, Error> {
        let mark = match self.vfs.open(&self.path(name), OpenMode::Read) {
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
    fn lock(&self, options: &Options) -> Result<Locks, Error> {
        let root = self.vfs.lock_dir(&self.dir).map_err(|error: VfsError| {
            match (error.kind(), error.io_error().kind()) {
                (VfsErrorKind::InUse, _) => {
                    Error::InUse { dir: self.dir.clone(), holder: error.holder() }
                }
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

    /// Locks the directories in it too, which may be links to somewhere else. Those of an index in files and of undo
    /// records are made for it if they are not there.
    pub(crate) fn hold_parts(&self, options: &Options) -> Result<Vec<DirLock>, Error> {
        let mut parts = vec![];
        let needs_index = matches!(options.index, IndexMode::Tiered { .. });
        for (name, needed) in [(INDEX, needs_index), (UNDO, true)] {
            if needed && !options.read_only && !self.has(name)? {
                self.vfs.create_dir_all(&self.path(name))?;
                self.vfs.sync_dir(&self.dir)?;
            }
        }
        for name in [META, LOG, TWIGS, UNDO, INDEX] {
            let path = self.path(name);
            match self.vfs.hold_dir(&path, Sharing::Exclusive) {
                Ok(lock) => parts.push(lock),
                Err(error) if error.kind() == VfsErrorKind::InUse => {
                    return Err(Error::InUse { dir: path, holder: error.holder() });
                }
                // Opening says what is missing, or makes it.
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(parts)
    }

    /// Says that everything was written and no sync failed. Need not be durable: it is for the next
    /// process on this machine, which may read out of the system's cache what never reached the medium.
    pub(crate) fn mark_closed(&self) -> Result<(), Error> {
        self.vfs.at_point(points::CLOSE_SETTLED)?;
        self.vfs.open(&self.path(CLOSED), OpenMode::CreateNew)?;
        Ok(self.vfs.at_point(points::CLOSE_DONE)?)
    }

    /// Takes the mark away, before anything is written. Returns whether it was there.
    fn take_closed(&self) -> Result<bool, Error> {
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

    pub(crate) fn is_empty(&self) -> Result<bool, Error> {
        // The mark of a creation is written beside its place first; a creation that got no further
        // left nothing else.
        let half_a_mark = [CREATING, COPYING].map(|mark| format!("{mark}{TEMP_SUFFIX}"));
        let nothing = |name: &OsString| {
            name == LOCK
                || name == LOST_AND_FOUND
                || half_a_mark.iter().any(|half| **name == **half)
        };
        Ok(self.vfs.read_dir(&self.dir)?.iter().all(nothing))
    }

    /// Removes what a creation that did not finish left behind; its mark goes last.
    pub(crate) fn remove_unfinished(&self) -> Result<(), Error> {
        self.remove_parts(&[META, LOG, TWIGS, UNDO, INDEX], CREATING)
    }

    /// The same for a copy, or what an import has made. What it shares with the store that it was made of lives
    /// on there.
    pub(crate) fn remove_copy(&self) -> Result<(), Error> {
        if self.has(CLOSED)? {
            self.vfs.remove_file(&self.path(CLOSED))?;
        }
        self.remove_parts(&[META, LOG, TWIGS, UNDO, CHECKPOINTS, INDEX], COPYING)
    }

    fn remove_parts(&self, parts: &[&str], mark: &str) -> Result<(), Error> {
        for name in parts {
            if self.has(name)? {
                self.vfs.remove_dir_all(&self.path(name))?;
            }
        }
        self.vfs.sync_dir(&self.dir)?;
        self.vfs.remove_file(&self.path(mark))?;
        Ok(self.vfs.sync_dir(&self.dir)?)
    }

    /// Marks what is here from now on as a copy that is not finished, durably, name and all.
    pub(crate) fn begin_copy(&self, id: &[u8; 16]) -> Result<(), Error> {
        self.sync_names()?;
        Ok(hedgerow_vfs::write_atomic(&*self.vfs, &self.path(COPYING), id)?)
    }

    /// Takes the mark away: everything else is durable.
    pub(crate) fn finish_copy(&self) -> Result<(), Error> {
        self.vfs.remove_file(&self.path(COPYING))?;
        Ok(self.vfs.sync_dir(&self.dir)?)
    }

    pub(crate) fn engine(&self, options: &Options) -> Result<Engine, Error> {
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

    /// The metadata and the manifest in it.
    ///
    /// # Errors
    /// [`Error::NoStore`] if there is none.
    pub(crate) fn manifest(&self, options: &Options) -> Result<(Box<dyn MetaDb>, Manifest), Error> {
        let none = || Error::NoStore(self.dir.clone());
        let meta = match self.meta(options, false) {
            Err(Error::Meta(error)) if matches!(*error, MetaError::Missing { .. }) => {
                return Err(none());
            }
            other => other?,
        };
        let manifest = meta.manifest()?.ok_or_else(none)?;
        Ok((meta, manifest))
    }

    pub(crate) fn log_options(options: &Options) -> LogOptions {
        let default = LogOptions::default();
        LogOptions {
            segment_size: options.segment_bytes.map_or(default.segment_size, SegmentSize::fixed),
            cache_bytes: options.entry_cache_bytes,
            tail_bytes: options.tail_bytes,
            mapped_bytes: options.mapped().0,
        }
    }

    /// The undo records of a store, whose manifest says that its newest block is that of `height`, and where the
    /// record of that ends.
    pub(crate) fn undo(
        &self,
        options: &Options,
        id: StoreId,
        height: Height,
        log_end: LogPosition,
    ) -> Result<UndoStore, Error> {
        let default = UndoFileOptions::default();
        let SegmentSize { most, .. } = default.segment_size;
        let given = options.segment_bytes.map(|bytes| SegmentSize::fixed(bytes.min(most)));
        let file_options =
            UndoFileOptions { segment_size: given.unwrap_or(default.segment_size), ..default };
        let (vfs, dir) = (Arc::clone(&self.vfs), self.path(UNDO));
        let file = UndoFile::open(vfs, &dir, id, &file_options, height, log_end)?;
        let mark = Mark::new(Part::UndoRecords, &self.dir, options);
        let undo = UndoStore::new(file, id, options.blocks_with_proofs(), mark);
        if !undo.is_on() {
            undo.forget_all();
        }
        Ok(undo)
    }

    pub(crate) fn twig_options(options: &Options) -> TwigFileOptions {
        let default = TwigFileOptions::default();
        let SegmentSize { most, .. } = default.segment_size;
        let given = options.segment_bytes.map(|bytes| SegmentSize::fixed(bytes.min(most)));
        TwigFileOptions {
            segment_size: given.unwrap_or(default.segment_size),
            mapped_bytes: options.mapped().1,
            ..default
        }
    }
}
