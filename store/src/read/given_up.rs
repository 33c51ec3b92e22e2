//! Derived files of which one turned out to be damaged, of an index or of undo records: the next opening makes them
//! anew.
//!
//! ```text
//!   a look-up, a job, a check       damaged ─► index/GIVEN_UP, durable: which file, and what is wrong
//!   the open store                  goes on; what it needs of that file is an error
//!   the next opening                the mark is there: no checkpoint, the log is read; every old file of the index goes,
//!                                   durably; then the mark
//!
//!   a past proof, a check           damaged ─► undo/GIVEN_UP; the heights before that record have no proofs
//!   the next opening                the mark is there: the records of the window are made again, durably; then the mark goes
//! ```
//!
//! Without the mark the next opening would take the same file again: of the segments of an index it reads what stays in
//! memory, no pages; of undo records the heads, no sections.

use crate::Error;
use crate::opening::place::UNDO;
use crate::opening::rebuild::INDEX;
use crate::options::Options;
use crate::read::published::in_index;
use hedgerow_index::{Edit, Index, IndexError, Stem, TieredIndex};
use hedgerow_types::{KeyHash, LogPosition, SerialNumber};
use hedgerow_vfs::Vfs;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The mark in the directory of what is given up.
pub(crate) const MARK: &str = "GIVEN_UP";

/// What may be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Index,
    UndoRecords,
}

impl Part {
    fn folder(self) -> &'static str {
        match self {
            Self::Index => INDEX,
            Self::UndoRecords => UNDO,
        }
    }

    /// In what is said to people.
    fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::UndoRecords => "undo records",
        }
    }

    /// Where the mark is.
    fn path(self, store: &Path) -> PathBuf {
        store.join(self.folder()).join(MARK)
    }

    /// Whether that of the store in `dir` was given up.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn is_given_up(self, disk: &dyn Vfs, dir: &Path) -> Result<bool, Error> {
        Ok(disk.exists(&self.path(dir))?)
    }

    /// Takes the mark away, after what it is about.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn forget(self, disk: &dyn Vfs, dir: &Path) -> Result<(), Error> {
        if self.is_given_up(disk, dir)? {
            disk.sync_dir(&dir.join(self.folder()))?;
            disk.remove_file(&self.path(dir))?;
            tracing::info!("the damaged {} were made anew from the log", self.name());
        }
        Ok(())
    }
}

/// Gives up a part of a store, once.
#[derive(Debug)]
pub(crate) struct Mark {
    part: Part,
    disk: Arc<dyn Vfs>,
    path: PathBuf,
    /// Whether the mark is there.
    left: Mutex<bool>,
}

impl Mark {
    /// That of the store in `dir`; `None` if nothing may be written there.
    pub(crate) fn new(part: Part, dir: &Path, options: &Options) -> Option<Arc<Self>> {
        let (disk, path, left) = (Arc::clone(&options.disk), part.path(dir), Mutex::new(false));
        (!options.read_only).then(|| Arc::new(Self { part, disk, path, left }))
    }

    /// Leaves the mark. Says whether it is there.
    pub(crate) fn leave(&self, why: &str) -> bool {
        let mut left = self.left.lock();
        if *left {
            return true;
        }
        match hedgerow_vfs::write_atomic(&*self.disk, &self.path, why.as_bytes()) {
            Ok(()) => {
                let what = self.part.name();
                tracing::error!("{why}: the next opening makes the {what} anew from the log");
                *left = true;
            }
            Err(error) => {
                let folder = self.part.folder();
                tracing::error!(%error, "{why}; remove the directory {folder}/ to have it made anew")
            }
        }
        *left
    }

    /// Gives the index up if that is what the error is about.
    pub(crate) fn note(&self, error: IndexError) -> IndexError {
        match error {
            IndexError::Damaged { file, what }
                if self.leave(&format!("index file {} is damaged: {what}", file.display())) =>
            {
                IndexError::GivenUp { file, what }
            }
            other => other,
        }
    }
}

/// What an index says is wrong with it, as the store's error, after the index was given up.
pub(crate) fn noted(mark: Option<&Arc<Mark>>, error: IndexError) -> Error {
    in_index(match mark {
        Some(mark) => mark.note(error),
        None => error,
    })
}

/// The index of a shard, which is given up when a file of it is damaged.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) index: TieredIndex,
    pub(crate) mark: Arc<Mark>,
}

impl Watched {
    fn noted<T>(&self, result: Result<T, IndexError>) -> Result<T, IndexError> {
        result.map_err(|error| self.mark.note(error))
    }
}

impl Index for Watched {
    fn candidates(
        &self,
        keys: &[KeyHash],
        out: &mut Vec<(u32, LogPosition)>,
    ) -> Result<(), IndexError> {
        self.noted(self.index.candidates(keys, out))
    }

    fn candidates_of(
        &self,
        key: &KeyHash,
        each: &mut dyn FnMut(LogPosition),
    ) -> Result<(), IndexError> {
        self.noted(self.index.candidates_of(key, each))
    }

    fn at_or_below(
        &self,
        stems: &[Stem],
        out: &mut Vec<(u32, Stem, LogPosition)>,
    ) -> Result<(), IndexError> {
        self.noted(self.index.at_or_below(stems, out))
    }

    fn group(&self, group: usize, out: &mut Vec<(Stem, LogPosition)>) -> Result<(), IndexError> {
        self.noted(self.index.group(group, out))
    }

    fn apply(&self, edits: &[Edit]) -> Result<(), IndexError> {
        self.noted(self.index.apply(edits))
    }

    fn take_back(&self, applied: &[Edit]) -> Result<(), IndexError> {
        self.noted(self.index.take_back(applied))
    }

    fn roll_back(&self, changed: &[Edit], cut: SerialNumber) -> Result<(), IndexError> {
        self.noted(self.index.roll_back(changed, cut))
    }

    fn len(&self) -> usize {
        self.index.len()
    }

    fn heap_bytes(&self) -> usize {
        self.index.heap_bytes()
    }
}
