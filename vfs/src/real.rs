//! The operating system's files.

use crate::map::{self, Mapping};
use crate::{DirLock, FileId, LOCK_FILE, OpenMode, Sharing, Vfs, VfsError, VfsFile, VfsOp};
use crate::{HowRead, ManyReads, ReadAt, depth, holder, whole};
use std::{
    any::Any,
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// The real disk: paths mean what they mean to the process, relative ones included.
///
/// ```
/// use hedgerow_vfs::{RealDisk, Vfs};
/// let here = std::path::Path::new(".");
/// assert!(RealDisk.exists(here)?);
/// assert!(RealDisk.real_path(here).is_some());   // engines that open files themselves can use it
/// # Ok::<(), hedgerow_vfs::VfsError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Vfs for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        let (op, mut options) = match mode {
            OpenMode::Read => (VfsOp::Open, OpenOptions::new().read(true).clone()),
            OpenMode::ReadWrite => (VfsOp::Open, OpenOptions::new().read(true).write(true).clone()),
            OpenMode::CreateNew => {
                (VfsOp::Create, OpenOptions::new().read(true).write(true).create_new(true).clone())
            }
        };
        os::never_wait(&mut options);
        let open = || {
            let file = options.open(path)?;
            let found = file.metadata()?;
            // Unix opens a directory for reading like a file.
            if found.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            if !found.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            Ok(file)
        };
        let file = open().map_err(|reason| VfsError::new(op, path, None, reason))?;
        let (slow, mapping) = (AtomicBool::new(false), OnceLock::new());
        Ok(Arc::new(RealFile { file, path: path.to_owned(), slow, mapping }))
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

    /// Of the file itself, where `from` is a symbolic link: a link to that would lose its file with it.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        let linked = fs::canonicalize(from).and_then(|file| fs::hard_link(file, to));
        linked.map_err(|reason| VfsError::linking(from, to, reason))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        os::sync_dir(path).map_err(|reason| VfsError::new(VfsOp::SyncDir, path, None, reason))
    }

    /// Locks the directory itself, where the system can, and the file [`LOCK_FILE`] in it. The locks
    /// belong to these open files, not to the process, so a second attempt in the same process is
    /// refused as well.
    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        let dir = os::open_dir(path).map_err(|reason| lock_failed(path, reason))?;
        let dir = Locked::new(path, dir, Sharing::Exclusive)?;
        let file = lock_file(path)?;
        guard(path, dir, Some(file))
    }

    fn hold_dir(&self, path: &Path, sharing: Sharing) -> Result<DirLock, VfsError> {
        let dir = os::open_dir(path).map_err(|reason| lock_failed(path, reason))?;
        let dir = Locked::new(path, dir, sharing)?;
        let file = match (&dir, sharing) {
            (Some(_), _) => None,
            (None, Sharing::Exclusive) => Some(lock_file(path)?),
            // Nobody writes where there is no such file, or all who write must be seen by it.
            (None, Sharing::Shared) => match File::open(path.join(LOCK_FILE)) {
                Ok(file) => Locked::new(path, Some(file), sharing)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(reason) => return Err(lock_failed(path, reason)),
            },
        };
        guard(path, dir, file)
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, VfsError> {
        std::path::absolute(path).map_err(|reason| VfsError::new(VfsOp::Exists, path, None, reason))
    }

    fn file_id(&self, path: &Path) -> Result<Option<FileId>, VfsError> {
        let found = fs::metadata(path);
        let found = found.map_err(|reason| VfsError::new(VfsOp::Exists, path, None, reason))?;
        Ok(os::file_id(&found))
    }

    fn read_batch(&self, reads: &mut [ReadAt<'_>]) -> HowRead {
        depth::real::read(reads)
    }

    fn many_reads(&self) -> ManyReads {
        depth::real::best()
    }

    fn maps_files(&self) -> bool {
        map::AVAILABLE
    }

    fn open_limit(&self) -> Option<u64> {
        crate::limits::open_files()
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        Some(path.to_owned())
    }
}

fn lock_failed(path: &Path, reason: io::Error) -> VfsError {
    VfsError::new(VfsOp::LockDir, path, None, reason)
}

/// Opens and locks the file [`LOCK_FILE`] of a directory, made if need be.
fn lock_file(dir: &Path) -> Result<Locked, VfsError> {
    let path = dir.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    os::never_wait(&mut options);
    // Again if it was removed between opening and locking: what is locked must be what others find.
    for _ in 0..100 {
        let file = options.open(&path).map_err(|reason| lock_failed(dir, reason))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(VfsError::in_use_by(dir, holder::of(&file)));
            }
            Err(TryLockError::Error(reason)) => return Err(lock_failed(dir, reason)),
        }
        let locked = Locked { file, process: std::process::id() };
        let id = locked.id().map_err(|reason| lock_failed(dir, reason))?;
        match fs::metadata(&path) {
            Ok(found) if os::file_id(&found) == id => return Ok(locked),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(lock_failed(dir, error));
            }
            _ => {}
        }
    }
    Err(VfsError::in_use(dir))
}

/// The guard of what is locked. It notices when `path` leads elsewhere; without a locked directory,
/// when the file is no longer the one that others find.
fn guard(path: &Path, dir: Option<Locked>, file: Option<Locked>) -> Result<DirLock, VfsError> {
    let locked = path.to_owned();
    let check = move || {
        let (held, path) = match (&dir, &file) {
            (Some(dir), _) => (dir, locked.clone()),
            (None, Some(file)) => (file, locked.join(LOCK_FILE)),
            (None, None) => return Ok(()),
        };
        // Both now: what lies on several layers may change its number when it is written to.
        let ids = held.id().and_then(|held| Ok((held, os::file_id(&fs::metadata(path)?))));
        let (held, found) = ids.map_err(|reason| lock_failed(&locked, reason))?;
        if held == found {
            return Ok(());
        }
        let text = "the path no longer leads to the directory that was locked";
        Err(lock_failed(&locked, io::Error::other(text)))
    };
    // It may have been replaced between opening and now.
    check()?;
    Ok(DirLock::with_check(path, (), check))
}

/// A locked file or directory. Closing it is not enough to release the lock: a process that another
/// thread is just starting has a copy of every open file until it becomes another program.
struct Locked {
    file: File,
    /// Who locked it. A forked process has a copy of this too, and must not release what is not its
    /// own: the lock belongs to what both have open.
    process: u32,
}

impl Locked {
    /// Locks `file`, which stands for the directory `path`; `None` if there is none or the file
    /// system cannot lock it.
    fn new(path: &Path, file: Option<File>, sharing: Sharing) -> Result<Option<Self>, VfsError> {
        let Some(file) = file else { return Ok(None) };
        let locked = match sharing {
            Sharing::Exclusive => file.try_lock(),
            Sharing::Shared => file.try_lock_shared(),
        };
        match locked {
            Ok(()) => Ok(Some(Self { file, process: std::process::id() })),
            Err(TryLockError::WouldBlock) => Err(VfsError::in_use_by(path, holder::of(&file))),
            // Network file systems want a file that is open for writing. The lock file is what is
            // left there.
            Err(TryLockError::Error(_)) => Ok(None),
        }
    }

    fn id(&self) -> io::Result<Option<FileId>> {
        Ok(os::file_id(&self.file.metadata()?))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            // Closing the file is what is left if this fails.
            let _ = self.file.unlock();
        }
    }
}

#[derive(Debug)]
pub(crate) struct RealFile {
    file: File,
    path: PathBuf,
    /// Whether reads of it were slow lately, see `depth`.
    slow: AtomicBool,
    /// Its first bytes, if somebody promised that they stay what they are.
    mapping: OnceLock<Option<Mapping>>,
}

impl RealFile {
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    pub(crate) fn set_slow(&self, slow: bool) {
        // Many threads look at it, and it seldom changes.
        if self.is_slow() != slow {
            self.slow.store(slow, Ordering::Relaxed);
        }
    }

    /// What of the file is mapped, unless it comes from a device lately: such reads are made in depth.
    #[inline]
    fn mapping(&self) -> Option<&Mapping> {
        let mapping = self.mapping.get()?.as_ref()?;
        (!self.is_slow()).then_some(mapping)
    }

    /// Has the processor fetch what is soon to be read, where that is mapped.
    #[inline]
    pub(crate) fn fetch(&self, offset: u64, len: usize) {
        if let Some(mapping) = self.mapping() {
            mapping.fetch(offset, len);
        }
    }

    fn failed(&self, op: VfsOp, offset: Option<u64>, reason: io::Error) -> VfsError {
        VfsError::new(op, &self.path, offset, reason)
    }
}

impl VfsFile for RealFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn own(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn id(&self) -> Result<Option<FileId>, VfsError> {
        let found = self.file.metadata();
        let found = found.map_err(|reason| self.failed(VfsOp::Exists, None, reason))?;
        Ok(os::file_id(&found))
    }

    fn map(&self, len: u64) -> bool {
        self.mapping.get_or_init(|| Mapping::new(&self.file, len)).is_some()
    }

    fn mapped_bytes(&self) -> u64 {
        let mapping = self.mapping.get().and_then(Option::as_ref);
        mapping.map_or(0, |mapping| mapping.len() as u64)
    }

    fn reads_without_calls(&self) -> bool {
        self.mapping().is_some()
    }

    fn read_at_most(&self, buf: &mut [u8], offset: u64) -> Result<usize, VfsError> {
        if let Some(mapping) = self.mapping()
            && mapping.read(&self.file, buf, offset)
        {
            return Ok(buf.len());
        }
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
    use crate::FileId;
    use std::{
        fs::{File, Metadata, OpenOptions},
        io,
        os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
        path::Path,
    };

    /// Opening a pipe would wait for its other end, and what has a name can be anything.
    pub(super) fn never_wait(options: &mut OpenOptions) {
        options.custom_flags(nix::libc::O_NONBLOCK);
    }

    pub(super) fn file_id(of: &Metadata) -> Option<FileId> {
        Some(FileId { volume: of.dev(), number: of.ino() })
    }

    /// The directory as a file that can be locked.
    pub(super) fn open_dir(path: &Path) -> io::Result<Option<File>> {
        let dir = File::open(path)?;
        if !dir.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Some(dir))
    }

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
    use crate::FileId;
    use std::{
        fs::{self, File, Metadata, OpenOptions},
        io,
        os::windows::fs::FileExt,
        path::Path,
    };

    pub(super) fn never_wait(_options: &mut OpenOptions) {}

    pub(super) fn file_id(_of: &Metadata) -> Option<FileId> {
        None
    }

    /// A directory cannot be locked here; nor can a file be removed that is open.
    pub(super) fn open_dir(path: &Path) -> io::Result<Option<File>> {
        if !fs::metadata(path)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(None)
    }

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
