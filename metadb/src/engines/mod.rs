//! The engines: what each must do, one file each.
//!
//! An engine stores bytes: one manifest, and rows by height. Encoding, checking and latching are
//! done once, in [`database`](crate::database); choosing an engine in [`engine`](crate::engine);
//! turning an engine's panics into errors in [`guard`](mod@guard).

use crate::MetaError;
use hedgerow_types::Height;
use hedgerow_vfs::Vfs;
use std::{
    error::Error,
    fmt::Debug,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

mod guard;
#[cfg(feature = "redb")]
pub(crate) mod redb;
#[cfg(feature = "redb")]
mod redb_file;
#[cfg(feature = "rocksdb")]
pub(crate) mod rocksdb;
#[cfg(feature = "sled")]
pub(crate) mod sled;

pub(crate) use guard::{Guarded, guard};

/// An open database of some engine.
pub(crate) trait Backend: Send + Sync + Debug {
    /// The bytes of the manifest, if there was a commit.
    fn manifest(&self) -> Result<Option<Vec<u8>>, Failure>;

    /// The bytes of the row of `height`.
    fn history(&self, height: Height) -> Result<Option<Vec<u8>>, Failure>;

    /// The lowest height that has a row.
    fn first_history(&self) -> Result<Option<Height>, Failure>;

    /// Atomically replaces the manifest, puts `rows` (heights increasing, all of them
    /// `kept`) and removes all rows of heights that are not `kept`; `Ok` means durable. Never called
    /// by two threads at once, nor again after an error.
    fn commit(
        &self,
        manifest: &[u8],
        rows: &[(Height, Vec<u8>)],
        kept: &RangeInclusive<Height>,
    ) -> Result<(), Failure>;
}

/// Where a database is.
pub(crate) struct Place {
    /// The disk.
    pub(crate) vfs: Arc<dyn Vfs>,
    /// The database on that disk.
    pub(crate) path: PathBuf,
    /// The database as the operating system knows it; `path` itself for an engine that needs no
    /// real disk.
    #[cfg_attr(
        not(any(feature = "rocksdb", feature = "sled")),
        expect(dead_code, reason = "redb opens no files itself")
    )]
    pub(crate) real: PathBuf,
}

/// What [`engine`](crate::engine) must know of an engine.
pub(crate) struct Driver {
    /// Name for options, messages and the command line.
    pub(crate) name: &'static str,
    /// Name of the database within its directory.
    pub(crate) file: &'static str,
    /// Whether the database is a directory rather than a file.
    pub(crate) is_dir: bool,
    /// Whether the engine opens files itself.
    pub(crate) needs_real_disk: bool,
    /// Makes an empty database, durable except for its name, and closes it.
    pub(crate) create: fn(&Place) -> Result<(), Failure>,
    /// Opens a database that exists.
    pub(crate) open: fn(&Place) -> Result<Box<dyn Backend>, Failure>,
}

/// An engine's error and what was being done.
#[derive(Debug)]
pub(crate) struct Failure {
    doing: &'static str,
    reason: Arc<dyn Error + Send + Sync>,
}

impl Failure {
    /// For `map_err`: the failure of `doing`, a participle.
    pub(crate) fn of<E: Error + Send + Sync + 'static>(doing: &'static str) -> impl Fn(E) -> Self {
        move |error| Self { doing, reason: Arc::new(error) }
    }

    /// The error that the user sees.
    pub(crate) fn within(self, engine: &'static str, path: &Path) -> MetaError {
        let Self { doing, reason } = self;
        MetaError::Engine { engine, path: path.to_owned(), doing, reason }
    }
}
