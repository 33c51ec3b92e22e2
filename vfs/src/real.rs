//! The operating system's files.

use crate::{DirLock, LOCK_FILE, OpenMode, Vfs, VfsError, VfsFile, VfsOp, whole};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The real disk: paths mean what they mean to the process, relative ones included.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Vfs for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        let (op, options) = match mode {
            OpenMode::Read => (VfsOp::Open, OpenOptions::new().read(true).clone()),
            OpenMode::ReadWrite => (VfsOp::Open, OpenOptions::new().read(true).write(true).clone()),
            OpenMode::CreateNew => {
                (VfsOp::Create, OpenOptions::new().read(true).write(true).create_new(true).clone())
            }
        };
        let open = || {
            let file = options.open(path)?;
            // Unix opens a directory for reading like a file.
            if file.metadata()?.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok(file)
        };
        let file = open().map_err(|reason| VfsError::new(op, path, None, reason))?;
        Ok(Arc::new(RealFile { file, path: path.to_owned() }))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        fs::create_dir_all(path)
            .map_err(|reason| VfsError::new(VfsOp::CreateDirAll, path, None, reason))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<OsString>, VfsError> {
        let list = || {
            let names = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
            let mut names = names.collect::<io::Result<Vec<_>>>()?;
            names.sort_unstable();
            Ok(names)
        };
        list().map_err(|reason| VfsError::new(VfsOp::ReadDir, path, None, reason))
    }

    fn exists(&self, path: &Path) -> Result<bool, VfsError> {
        fs::exists(path).map_err(|reason| VfsError::new(VfsOp::Exists, path, None, reason))
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        fs::remove_file(path).map_err(|reason| VfsError::new(VfsOp::RemoveFile, path, None, reason))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        fs::remove_dir_all(path)
            .map_err(|reason| VfsError::new(VfsOp::RemoveDirAll, path, None, reason))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        fs::rename(from, to).map_err(|reason| VfsError::renaming(from, to, reason))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        os::sync_dir(path).map_err(|reason| VfsError::new(VfsOp::SyncDir, path, None, reason))
    }

    /// Locks the file [`LOCK_FILE`] in the directory. The lock belongs to this open file, not to
    /// the process, so a second attempt in the same process is refused as well.
    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        let failed = |reason| VfsError::new(VfsOp::LockDir, path, None, reason);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK_FILE))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(DirLock::new(path, Locked(file))),
            Err(TryLockError::WouldBlock) => Err(VfsError::in_use(path)),
            Err(TryLockError::Error(reason)) => Err(failed(reason)),
        }
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        Some(path.to_owned())
    }
}

/// A locked file. Closing it is not enough to release the lock: a process that another thread is just
/// starting has a copy of every open file until it becomes another program.
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing the file is what is left if this fails.
        let _ = self.0.unlock();
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
}

impl RealFile {
    fn failed(&self, op: VfsOp, offset: Option<u64>, reason: io::Error) -> VfsError {
        VfsError::new(op, &self.path, offset, reason)
    }
}

impl VfsFile for RealFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at_most(&self, buf: &mut [u8], offset: u64) -> Result<usize, VfsError> {
        let filled = whole::read(buf, offset, |rest, at| os::read_at(&self.file, rest, at));
        filled.map_err(|(at, reason)| self.failed(VfsOp::Read, Some(at), reason))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), VfsError> {
        let written = whole::write(buf, offset, |rest, at| os::write_at(&self.file, rest, at));
        written.map_err(|(at, reason)| self.failed(VfsOp::Write, Some(at), reason))
    }

    fn len(&self) -> Result<u64, VfsError> {
        let metadata = self.file.metadata();
        metadata.map(|found| found.len()).map_err(|reason| self.failed(VfsOp::Len, None, reason))
    }

    fn set_len(&self, len: u64) -> Result<(), VfsError> {
        self.file.set_len(len).map_err(|reason| self.failed(VfsOp::SetLen, Some(len), reason))
    }

    fn sync(&self) -> Result<(), VfsError> {
        self.file.sync_data().map_err(|reason| self.failed(VfsOp::Sync, None, reason))
    }
}

/// What the systems do differently.
#[cfg(unix)]
mod os {
    use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

    pub(super) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buf, offset)
    }

    pub(super) fn write_at(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(buf, offset)
    }

    pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
        let dir = File::open(path)?;
        if !dir.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        dir.sync_all()
    }
}

/// What the systems do differently. Windows has no call that syncs a directory: names are made
/// durable by the file system's journal.
#[cfg(windows)]
mod os {
    use std::{fs, fs::File, io, os::windows::fs::FileExt, path::Path};

    pub(super) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.seek_read(buf, offset)
    }

    pub(super) fn write_at(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
        file.seek_write(buf, offset)
    }

    pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(())
    }
}
