//! Why a database could not be opened, read or committed to.

use crate::codec::{DecodeError, InvalidField};
use hedgerow_types::Height;
use hedgerow_vfs::VfsError;
use std::{error::Error, path::PathBuf, sync::Arc};

/// Why a database could not be opened, read or committed to. The text names the database and ends
/// with the engine's own message; cloning is cheap, so that the first error can be given to everyone
/// who waits.
///
/// ```
/// use hedgerow_metadb::{Engine, MetaError, open};
/// # use hedgerow_vfs::MemDisk;
/// let (disk, dir) = (std::sync::Arc::new(MemDisk::new()), std::path::Path::new("/"));
/// match open(Engine::Redb, disk, dir, false) {
///     Err(MetaError::Missing { engine, .. }) => assert_eq!(engine, "redb"),   // and none was made
///     Err(MetaError::Manifest { reason, .. }) => panic!("damaged: {reason}"),
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Clone, Debug, thiserror::Error)]
pub enum MetaError {
    /// There is no database and none was to be created.
    #[error("there is no {engine} database at {}", path.display())]
    Missing {
        /// The engine asked for.
        engine: &'static str,
        /// Where its database would be.
        path: PathBuf,
    },
    /// The directory holds the database of another engine.
    #[error("{} was made by {found}: it cannot be opened with {engine}", path.display())]
    OtherEngine {
        /// The engine asked for.
        engine: &'static str,
        /// The engine of the database that is there.
        found: &'static str,
        /// That database.
        path: PathBuf,
    },
    /// The engine opens files itself and the [`Vfs`](hedgerow_vfs::Vfs) is not a real disk.
    #[error("{engine} needs a real disk for {}; redb does not", path.display())]
    NeedsRealDisk {
        /// The engine asked for.
        engine: &'static str,
        /// Where its database would be.
        path: PathBuf,
    },
    /// The engine's database cannot be read while another process may be writing to it.
    #[error(
        "{} cannot be read while a store may be open: its engine is {engine}; that of {} can",
        path.display(), able.join(", ")
    )]
    NotBeside {
        /// The engine asked for.
        engine: &'static str,
        /// Its database.
        path: PathBuf,
        /// The engines whose databases can.
        able: Vec<&'static str>,
    },
    /// A database is too large to be copied into memory.
    #[error("{} has {len} bytes: too many to be copied into memory", path.display())]
    TooLarge {
        /// The database.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
    },
    /// The disk refused, outside the engine.
    #[error(transparent)]
    Disk(#[from] VfsError),
    /// The engine failed.
    #[error("{doing} the {engine} database {}: {reason}", path.display())]
    Engine {
        /// The engine.
        engine: &'static str,
        /// The database.
        path: PathBuf,
        /// What was being done, as a participle.
        doing: &'static str,
        /// What the engine said.
        reason: Arc<dyn Error + Send + Sync>,
    },
    /// The manifest is there and cannot be read.
    #[error("the manifest in {} is unreadable: {reason}", path.display())]
    Manifest {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// The row of a height is there and cannot be read.
    #[error("the history row of height {height} in {} is unreadable: {reason}", path.display())]
    History {
        /// The database.
        path: PathBuf,
        /// The height asked for.
        height: Height,
        /// What is wrong with the row.
        reason: DecodeError,
    },
    /// A commit held what can never be valid; nothing has happened.
    #[error("not committed: {0}")]
    InvalidCommit(#[from] InvalidField),
}
