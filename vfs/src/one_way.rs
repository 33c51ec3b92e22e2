//! The real disk, with a choice of how it reads many places: for tests and for comparisons.

use crate::{DirLock, FileId, OpenMode, RealDisk, Sharing, Vfs, VfsError, VfsFile, depth};
use crate::{HowRead, ManyReads, ReadAt, ReadWay};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The real disk, which reads every batch in one way from its first read on, whether the system has the
/// bytes in memory or not. A way that the system does not have is replaced by the next one that it has.
///
/// ```
/// use hedgerow_vfs::{OneWayDisk, ReadWay, Vfs};
/// let disk = OneWayDisk::new(ReadWay::Threads);   // where io_uring must not be tried, for example
/// assert_eq!(disk.many_reads().way, ReadWay::Threads);
/// ```
#[derive(Clone, Debug)]
pub struct OneWayDisk {
    reads: ManyReads,
}

impl OneWayDisk {
    /// Reads by `way`.
    pub fn new(way: ReadWay) -> Self {
        let why = (way != ReadWay::Ring).then(|| "another way was asked for".to_owned());
        Self { reads: ManyReads { way, why } }
    }

    /// Reads by the way that is chosen where the kernel refuses a ring for the reason `why`.
    pub fn without_ring(why: &str) -> Self {
        Self { reads: depth::real::choose(Some(why.to_owned())) }
    }
}

impl Vfs for OneWayDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        RealDisk.open(path, mode)
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        RealDisk.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<OsString>, VfsError> {
        RealDisk.read_dir(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, VfsError> {
        RealDisk.exists(path)
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        RealDisk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        RealDisk.remove_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        RealDisk.rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        RealDisk.hard_link(from, to)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        RealDisk.sync_dir(path)
    }

    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        RealDisk.lock_dir(path)
    }

    fn hold_dir(&self, path: &Path, sharing: Sharing) -> Result<DirLock, VfsError> {
        RealDisk.hold_dir(path, sharing)
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, VfsError> {
        RealDisk.absolute(path)
    }

    fn file_id(&self, path: &Path) -> Result<Option<FileId>, VfsError> {
        RealDisk.file_id(path)
    }

    fn read_batch(&self, reads: &mut [ReadAt<'_>]) -> HowRead {
        depth::real::read_at_once(reads, self.reads.way)
    }

    fn many_reads(&self) -> ManyReads {
        self.reads.clone()
    }

    fn maps_files(&self) -> bool {
        RealDisk.maps_files()
    }

    fn open_limit(&self) -> Option<u64> {
        RealDisk.open_limit()
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        RealDisk.real_path(path)
    }
}
