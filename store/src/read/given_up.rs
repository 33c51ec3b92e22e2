//! An index in files of which a file turned out to be damaged: the next opening makes it anew.
//!
//! ```text
//!   a look-up, a job, a check       damaged ─► index/GIVEN_UP, durable: which file, and what is wrong
//!   the open store                  goes on; what it needs of that file is an error
//!   the next opening                the mark is there: no checkpoint, the log is read; every old file of the index goes,
//!                                   durably; then the mark
//! ```
//!
//! Without the mark the next opening would take the same file again: of the segments it reads what stays in
//! memory, no pages.

use crate::Error;
use crate::opening::rebuild::INDEX;
use crate::options::Options;
use crate::read::published::in_index;
use hedgerow_index::{Edit, Index, IndexError, Stem, TieredIndex};
use hedgerow_types::{KeyHash, LogPosition, SerialNumber};
use hedgerow_vfs::Vfs;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The mark in the directory of the index.
pub(crate) const MARK: &str = "GIVEN_UP";

/// Where the mark is.
fn path(store: &Path) -> PathBuf {
    store.join(INDEX).join(MARK)
}

/// Whether the index of the store in `dir` was given up.
///
/// # Errors
/// The disk's.
pub(crate) fn is_given_up(disk: &dyn Vfs, dir: &Path) -> Result<bool, Error> {
    Ok(disk.exists(&path(dir))?)
}

/// Takes the mark away, after what it is about.
///
/// # Errors
/// The disk's.
pub(crate) fn forget(disk: &dyn Vfs, dir: &Path) -> Result<(), Error> {
    if is_given_up(disk, dir)? {
        disk.sync_dir(&dir.join(INDEX))?;
        disk.remove_file(&path(dir))?;
        tracing::info!("the index, which was damaged, was made anew from the log");
    }
    Ok(())
}

/// Gives up the index of a store, once.
#[derive(Debug)]
pub(crate) struct Mark {
    disk: Arc<dyn Vfs>,
    path: PathBuf,
    /// Whether the mark is there.
    left: Mutex<bool>,
}

impl Mark {
    /// That of the store in `dir`; `None` if nothing may be written there.
    pub(crate) fn new(dir: &Path, options: &Options) -> Option<Arc<Self>> {
        let (disk, path, left) = (Arc::clone(&options.disk), path(dir), Mutex::new(false));
        (!options.read_only).then(|| Arc::new(Self { disk, path, left }))
    }

    /// Leaves the mark. Says whether it is there.
    pub(crate) fn leave(&self, why: &str) -> bool {
        let mut left = self.left.lock();
        if *left {
            return true;
        }
        match hedgerow_vfs::write_atomic(&*self.disk, &self.path, why.as_bytes()) {
            Ok(()) => {
                tracing::error!("{why}: the next opening makes the index anew from the log");
                *left = true;
            }
            Err(error) => {
                tracing::error!(%error, "{why}; remove the directory index/ to have it made anew")
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
