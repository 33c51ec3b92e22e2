//! Disks in memory that wait or fail.

use super::{Gate, disk};
use hedgerow::disk::Vfs;
use hedgerow_vfs::{DirLock, FileId, HookedDisk, OpenMode, VfsCall, VfsError, VfsFile, VfsOp};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A fresh disk that asks this before each call.
pub(crate) fn hooked(
    hook: impl Fn(&VfsCall<'_>) -> Result<(), VfsError> + Send + Sync + 'static,
) -> Arc<dyn Vfs> {
    Arc::new(HookedDisk::new(disk(), Arc::new(hook)))
}

/// A fresh disk on which such calls for the log wait at the gate.
pub(crate) fn log_waits(op: VfsOp, gate: &Arc<Gate>) -> Arc<dyn Vfs> {
    let gate = Arc::clone(gate);
    hooked(move |call| {
        if call.op == op && call.path.extension().is_some_and(|name| name == "log") {
            gate.pass();
        }
        Ok(())
    })
}

/// What a call on a disk that is [`gone_for`] some says.
pub(crate) const GONE: &str = "the disk is gone";

/// A fresh disk, and what makes such calls fail on it from then on.
pub(crate) fn gone_for(ops: &'static [VfsOp]) -> (Arc<dyn Vfs>, Arc<AtomicBool>) {
    let gone = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&gone);
    let disk = hooked(move |call| {
        if flag.load(Ordering::SeqCst) && ops.contains(&call.op) {
            return Err(call.error(std::io::Error::other(GONE)));
        }
        Ok(())
    });
    (disk, gone)
}

/// A disk of which next to no file may be open.
#[derive(Debug)]
pub(crate) struct Few(pub(crate) Arc<dyn Vfs>);

impl Vfs for Few {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        self.0.open(path, mode)
    }
    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        self.0.create_dir_all(path)
    }
    fn read_dir(&self, path: &Path) -> Result<Vec<OsString>, VfsError> {
        self.0.read_dir(path)
    }
    fn exists(&self, path: &Path) -> Result<bool, VfsError> {
        self.0.exists(path)
    }
    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        self.0.remove_file(path)
    }
    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        self.0.remove_dir_all(path)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        self.0.hard_link(from, to)
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        self.0.rename(from, to)
    }
    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        self.0.sync_dir(path)
    }
    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        self.0.lock_dir(path)
    }
    fn file_id(&self, path: &Path) -> Result<Option<FileId>, VfsError> {
        self.0.file_id(path)
    }
    fn open_limit(&self) -> Option<u64> {
        Some(4)
    }
    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        self.0.real_path(path)
    }
}
