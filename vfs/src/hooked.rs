//! A disk that asks a closure before every operation.
//!
//! ```text
//!   caller ──► HookedDisk / HookedFile ──► hook(&VfsCall) ── Ok ──► the disk underneath
//!                                              │ Err
//!                                              └──────────────────► back to the caller,
//!                                                                   the disk is not touched
//! ```
//!
//! The hook runs on the thread of the caller and may block: that holds the operation back, and
//! nothing else, for as long as a test wants. It holds no lock of the disk, so operations of other
//! threads go on meanwhile.

use crate::{DirLock, FileId, OpenMode, Sharing, Vfs, VfsError, VfsFile, VfsOp};
use std::{
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What is about to be done.
#[derive(Clone, Copy, Debug)]
pub struct VfsCall<'a> {
    /// The operation.
    pub op: VfsOp,
    /// The file or directory; the old name of a rename or a link; for an open file, the path it was opened
    /// under.
    pub path: &'a Path,
    /// The new name of a rename or a link.
    pub to: Option<&'a Path>,
    /// Byte offset of a read or a write.
    pub offset: Option<u64>,
    /// Bytes to read or write, or the length to set.
    pub len: Option<u64>,
}

impl VfsCall<'_> {
    /// The error with which this call fails for `reason`: what a hook that injects errors returns.
    pub fn error(&self, reason: io::Error) -> VfsError {
        match self.to {
            Some(to) if self.op == VfsOp::HardLink => VfsError::linking(self.path, to, reason),
            Some(to) => VfsError::renaming(self.path, to, reason),
            None => VfsError::new(self.op, self.path, self.offset, reason),
        }
    }
}

/// Called before each operation; an `Err` becomes the operation's result.
pub type Hook = Arc<dyn Fn(&VfsCall<'_>) -> Result<(), VfsError> + Send + Sync>;

/// A decorator that calls a [`Hook`] before each operation of the disk underneath, and of the files
/// opened through it. [`Vfs::real_path`] is passed through and what opens files behind the back of
/// the `Vfs` is not seen.
#[derive(Clone)]
pub struct HookedDisk {
    inner: Arc<dyn Vfs>,
    hook: Hook,
    open_limit: Option<u64>,
}

impl HookedDisk {
    /// `inner`, with `hook` before each operation.
    pub fn new(inner: Arc<dyn Vfs>, hook: Hook) -> Self {
        let open_limit = inner.open_limit();
        Self { inner, hook, open_limit }
    }

    /// `inner`, which says that no more than so many files may be open ([`Vfs::open_limit`]); nothing keeps
    /// anyone from opening more.
    pub fn with_open_limit(inner: Arc<dyn Vfs>, limit: u64) -> Self {
        Self { inner, hook: Arc::new(|_| Ok(())), open_limit: Some(limit) }
    }

    fn ask(&self, op: VfsOp, path: &Path) -> Result<(), VfsError> {
        (self.hook)(&VfsCall { op, path, to: None, offset: None, len: None })
    }
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedDisk").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Vfs for HookedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        let op = if mode == OpenMode::CreateNew { VfsOp::Create } else { VfsOp::Open };
        self.ask(op, path)?;
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(HookedFile { inner, hook: Arc::clone(&self.hook) }))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        self.ask(VfsOp::CreateDirAll, path)?;
        self.inner.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<OsString>, VfsError> {
        self.ask(VfsOp::ReadDir, path)?;
        self.inner.read_dir(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, VfsError> {
        self.ask(VfsOp::Exists, path)?;
        self.inner.exists(path)
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        self.ask(VfsOp::RemoveFile, path)?;
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        self.ask(VfsOp::RemoveDirAll, path)?;
        self.inner.remove_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        let call = VfsCall { op: VfsOp::Rename, path: from, to: Some(to), offset: None, len: None };
        (self.hook)(&call)?;
        self.inner.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        let op = VfsOp::HardLink;
        let call = VfsCall { op, path: from, to: Some(to), offset: None, len: None };
        (self.hook)(&call)?;
        self.inner.hard_link(from, to)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        self.ask(VfsOp::SyncDir, path)?;
        self.inner.sync_dir(path)
    }

    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        self.ask(VfsOp::LockDir, path)?;
        self.inner.lock_dir(path)
    }

    fn hold_dir(&self, path: &Path, sharing: Sharing) -> Result<DirLock, VfsError> {
        self.ask(if sharing == Sharing::Shared { VfsOp::Open } else { VfsOp::LockDir }, path)?;
        self.inner.hold_dir(path, sharing)
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, VfsError> {
        self.inner.absolute(path)
    }

    fn file_id(&self, path: &Path) -> Result<Option<FileId>, VfsError> {
        self.ask(VfsOp::Exists, path)?;
        self.inner.file_id(path)
    }

    fn open_limit(&self) -> Option<u64> {
        self.open_limit
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        self.inner.real_path(path)
    }

    fn at_point(&self, point: &'static str) -> Result<(), VfsError> {
        self.ask(VfsOp::Point, Path::new(point))?;
        self.inner.at_point(point)
    }
}

struct HookedFile {
    inner: Arc<dyn VfsFile>,
    hook: Hook,
}

impl HookedFile {
    fn ask(&self, op: VfsOp, offset: Option<u64>, len: Option<u64>) -> Result<(), VfsError> {
        (self.hook)(&VfsCall { op, path: self.inner.path(), to: None, offset, len })
    }
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookedFile").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl VfsFile for HookedFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn id(&self) -> Result<Option<FileId>, VfsError> {
        self.inner.id()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), VfsError> {
        self.ask(VfsOp::Read, Some(offset), Some(buf.len() as u64))?;
        self.inner.read_exact_at(buf, offset)
    }

    fn read_at_most(&self, buf: &mut [u8], offset: u64) -> Result<usize, VfsError> {
        self.ask(VfsOp::Read, Some(offset), Some(buf.len() as u64))?;
        self.inner.read_at_most(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), VfsError> {
        self.ask(VfsOp::Write, Some(offset), Some(buf.len() as u64))?;
        self.inner.write_all_at(buf, offset)
    }

    fn len(&self) -> Result<u64, VfsError> {
        self.ask(VfsOp::Len, None, None)?;
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<(), VfsError> {
        self.ask(VfsOp::SetLen, None, Some(len))?;
        self.inner.set_len(len)
    }

    fn sync(&self) -> Result<(), VfsError> {
        self.ask(VfsOp::Sync, None, None)?;
        self.inner.sync()
    }
}
