//! The guard that holds a directory's lock.

use crate::VfsError;
use std::{
    fmt::{self, Debug},
    path::{Path, PathBuf},
};

/// Who may hold a lock at the same time.
///
/// ```
/// use hedgerow_vfs::{RealDisk, Sharing, Vfs, VfsErrorKind};
/// # let dir = tempfile::tempdir().unwrap();
/// # let dir = dir.path();
/// let readers = [RealDisk.hold_dir(dir, Sharing::Shared)?, RealDisk.hold_dir(dir, Sharing::Shared)?];
/// let writer = RealDisk.hold_dir(dir, Sharing::Exclusive).unwrap_err();
/// assert_eq!(writer.kind(), VfsErrorKind::InUse);
/// drop(readers);
/// assert!(RealDisk.hold_dir(dir, Sharing::Exclusive).is_ok());
/// # Ok::<(), hedgerow_vfs::VfsError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Nobody else.
    Exclusive,
    /// Others who share it.
    Shared,
}

type Check = dyn Fn() -> Result<(), VfsError> + Send + Sync;

/// The lock of a directory; dropping it releases the lock.
///
/// ```
/// use hedgerow_vfs::{MemDisk, Vfs, VfsErrorKind};
/// let (disk, dir) = (MemDisk::new(), std::path::Path::new("/state"));
/// disk.create_dir_all(dir)?;
/// let lock = disk.lock_dir(dir)?;
/// assert_eq!(disk.lock_dir(dir).unwrap_err().kind(), VfsErrorKind::InUse);
/// drop(lock);
/// assert!(disk.lock_dir(dir).is_ok());
/// # Ok::<(), hedgerow_vfs::VfsError>(())
/// ```
#[must_use = "dropping the guard releases the lock"]
pub struct DirLock {
    path: PathBuf,
    check: Option<Box<Check>>,
    _held: Box<dyn Send + Sync>,
}

impl DirLock {
    /// A guard for the directory `path` that releases whatever `held` releases when dropped. For
    /// implementations of [`Vfs`](crate::Vfs).
    pub fn new(path: impl Into<PathBuf>, held: impl Send + Sync + 'static) -> Self {
        Self { path: path.into(), check: None, _held: Box::new(held) }
    }

    /// As [`DirLock::new`], with an answer to [`DirLock::check`].
    pub fn with_check(
        path: impl Into<PathBuf>,
        held: impl Send + Sync + 'static,
        check: impl Fn() -> Result<(), VfsError> + Send + Sync + 'static,
    ) -> Self {
        Self { path: path.into(), check: Some(Box::new(check)), _held: Box::new(held) }
    }

    /// The locked directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to what is locked. A directory that was moved away, or replaced,
    /// is still locked, but whoever comes by this path meets another one.
    ///
    /// # Errors
    /// If it leads elsewhere or nowhere, or if that cannot be found out.
    pub fn check(&self) -> Result<(), VfsError> {
        self.check.as_ref().map_or(Ok(()), |check| check())
    }
}

impl Debug for DirLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirLock").field("path", &self.path).finish_non_exhaustive()
    }
}
