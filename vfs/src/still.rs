//! A disk to which somebody else goes on writing, and which stands still for who looks.
//!
//! ```text
//!   somebody else ── writes, removes, renames ──► the disk underneath
//!                                                        ▲ opened once, for reading; nothing is locked
//!   caller ──► StillDisk ── open ──► held: the open file, as long as it was when it was opened first
//! ```
//!
//! A file that was opened once stays the same file under its name, and as long as it was, whatever becomes
//! of the name. (Its bytes are those that are there when they are read: this is for files that only grow.)
//! A part of what the process may have open is held open for that, see [`Vfs::open_limit`]. Of other files
//! it is remembered which ones they were, and one that is gone is an error.

use crate::{DirLock, FileId, OpenMode, Sharing, TEMP_SUFFIX, Vfs, VfsError, VfsErrorKind};
use crate::{HowRead, ManyReads, ReadAt, VfsFile, VfsOp, depth};
use parking_lot::Mutex;
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Of what the process may have open, one of so many is held.
const SHARE: u64 = 4;

/// Another disk, of which nothing is changed or locked, and whose files stay what they are once they were
/// opened. A clone holds the same files.
///
/// ```
/// use hedgerow_vfs::{MemDisk, OpenMode, StillDisk, Vfs};
/// let (writer, path) = (MemDisk::new(), std::path::Path::new("/log"));
/// writer.open(path, OpenMode::CreateNew)?.write_all_at(b"first", 0)?;
/// let still = StillDisk::new(std::sync::Arc::new(writer.clone()));
/// still.open(path, OpenMode::Read)?;
/// writer.open(path, OpenMode::ReadWrite)?.write_all_at(b" second", 5)?;
/// writer.remove_file(path)?;
/// assert_eq!(still.open(path, OpenMode::Read)?.len()?, 5);   // as it was when it was opened
/// # Ok::<(), hedgerow_vfs::VfsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StillDisk {
    inner: Arc<dyn Vfs>,
    held: Arc<Mutex<Held>>,
    /// Most files that are held open.
    most: u64,
}

#[derive(Debug, Default)]
struct Held {
    files: BTreeMap<PathBuf, Known>,
    /// How many of them are open.
    open: u64,
}

/// What is known of a file.
#[derive(Debug)]
struct Known {
    /// `None`: there was no room.
    file: Option<Arc<dyn VfsFile>>,
    id: Option<FileId>,
    /// `None`: nobody has asked for the file yet.
    len: Option<u64>,
}

impl StillDisk {
    /// `inner`, of which nothing is held yet.
    pub fn new(inner: Arc<dyn Vfs>) -> Self {
        let most = inner.open_limit().map_or(u64::MAX, |limit| limit / SHARE);
        Self { inner, held: Arc::default(), most }
    }

    /// Opens every file in a directory, as far as there is room for it: none of them can be removed from
    /// now on. They become as long as they are when they are asked for. A directory that is not there has
    /// no files.
    ///
    /// # Errors
    /// If the directory cannot be listed, or a file in it cannot be opened.
    pub fn hold_all(&self, dir: &Path) -> Result<(), VfsError> {
        let names = match self.inner.read_dir(dir) {
            Err(error) if error.kind() == VfsErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        for name in names.iter().filter(|name| !name.to_string_lossy().ends_with(TEMP_SUFFIX)) {
            match self.known(&dir.join(name), false) {
                Err(error) if is_gone_or_no_file(&error) => {}
                other => drop(other?),
            }
        }
        Ok(())
    }

    /// The file of that name. If it was `asked` for, it has its length from now on.
    fn known(&self, path: &Path, asked: bool) -> Result<(Arc<dyn VfsFile>, u64), VfsError> {
        let held = &mut *self.held.lock();
        if let Some(known) = held.files.get_mut(path) {
            let file = match &known.file {
                Some(file) => Arc::clone(file),
                None => self.open_again(path, known.id)?,
            };
            let len = match known.len {
                Some(len) => len,
                None => file.len()?,
            };
            known.len = asked.then_some(len).or(known.len);
            return Ok((file, len));
        }
        let file = self.inner.open(path, OpenMode::Read)?;
        let (id, len) = (file.id()?, file.len()?);
        let room = held.open < self.most;
        held.open += u64::from(room);
        let known = Known { file: room.then(|| Arc::clone(&file)), id, len: asked.then_some(len) };
        held.files.insert(path.to_owned(), known);
        Ok((file, len))
    }

    /// Opens a file that is not held open.
    fn open_again(&self, path: &Path, id: Option<FileId>) -> Result<Arc<dyn VfsFile>, VfsError> {
        let file = self.inner.open(path, OpenMode::Read)?;
        if file.id()? == id {
            return Ok(file);
        }
        let text = "another file has this name now";
        Err(VfsError::new(VfsOp::Open, path, None, io::Error::new(io::ErrorKind::NotFound, text)))
    }

    fn refuse<T>(op: VfsOp, path: &Path) -> Result<T, VfsError> {
        Err(VfsError::new(op, path, None, io::ErrorKind::ReadOnlyFilesystem.into()))
    }
}

fn is_gone_or_no_file(error: &VfsError) -> bool {
    error.kind() == VfsErrorKind::NotFound || error.io_error().kind() == io::ErrorKind::IsADirectory
}

impl Vfs for StillDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        match mode {
            OpenMode::Read => {
                let (file, len) = self.known(path, true)?;
                Ok(Arc::new(StillFile { file, len }))
            }
            OpenMode::ReadWrite => Self::refuse(VfsOp::Open, path),
            OpenMode::CreateNew => Self::refuse(VfsOp::Create, path),
        }
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        Self::refuse(VfsOp::CreateDirAll, path)
    }

    /// What is there, and what is held.
    fn read_dir(&self, path: &Path) -> Result<Vec<OsString>, VfsError> {
        let mut names: BTreeSet<OsString> = self.inner.read_dir(path)?.into_iter().collect();
        let held = self.held.lock();
        let here = held
            .files
            .iter()
            .filter(|(at, known)| at.parent() == Some(path) && known.file.is_some());
        names.extend(here.filter_map(|(at, _)| at.file_name()).map(OsString::from));
        Ok(names.into_iter().collect())
    }

    fn exists(&self, path: &Path) -> Result<bool, VfsError> {
        let held = self.held.lock().files.get(path).is_some_and(|known| known.file.is_some());
        Ok(held || self.inner.exists(path)?)
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        Self::refuse(VfsOp::RemoveFile, path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        Self::refuse(VfsOp::RemoveDirAll, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        Err(VfsError::renaming(from, to, io::ErrorKind::ReadOnlyFilesystem.into()))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        Self::refuse(VfsOp::SyncDir, path)
    }

    /// Locks nothing: whoever writes must not notice.
    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        Ok(DirLock::new(path, ()))
    }

    /// Locks nothing.
    fn hold_dir(&self, path: &Path, _sharing: Sharing) -> Result<DirLock, VfsError> {
        Ok(DirLock::new(path, ()))
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, VfsError> {
        self.inner.absolute(path)
    }

    fn file_id(&self, path: &Path) -> Result<Option<FileId>, VfsError> {
        if let Some(known) = self.held.lock().files.get(path) {
            return Ok(known.id);
        }
        self.inner.file_id(path)
    }

    fn read_batch(&self, reads: &mut [ReadAt<'_>]) -> HowRead {
        depth::forward(reads, &*self.inner, |read| {
            let still: &StillFile = read.file().own()?.downcast_ref()?;
            let end = read.offset().checked_add(read.len() as u64)?;
            // What lies beyond its end is an error here, and may not be one there.
            (end <= still.len).then_some(&*still.file)
        })
    }

    fn many_reads(&self) -> ManyReads {
        self.inner.many_reads()
    }

    fn open_limit(&self) -> Option<u64> {
        self.inner.open_limit()
    }

    /// There is none: a program that opens files itself meets them as they change.
    fn real_path(&self, _path: &Path) -> Option<PathBuf> {
        None
    }
}

/// A file, as long as it was.
#[derive(Debug)]
struct StillFile {
    file: Arc<dyn VfsFile>,
    len: u64,
}

impl VfsFile for StillFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn own(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn id(&self) -> Result<Option<FileId>, VfsError> {
        self.file.id()
    }

    /// Bytes that were there and were cut off since are an error, and never the end of the file.
    fn read_at_most(&self, buf: &mut [u8], offset: u64) -> Result<usize, VfsError> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        self.file.read_exact_at(&mut buf[..len], offset)?;
        Ok(len)
    }

    fn write_all_at(&self, _buf: &[u8], _offset: u64) -> Result<(), VfsError> {
        StillDisk::refuse(VfsOp::Write, self.path())
    }

    fn len(&self) -> Result<u64, VfsError> {
        Ok(self.len)
    }

    fn set_len(&self, _len: u64) -> Result<(), VfsError> {
        StillDisk::refuse(VfsOp::SetLen, self.path())
    }

    fn sync(&self) -> Result<(), VfsError> {
        StillDisk::refuse(VfsOp::Sync, self.path())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{Hook, HookedDisk, MemDisk, RealDisk};

    fn file(disk: &dyn Vfs, path: &Path, bytes: &[u8]) {
        let file = disk.open(path, OpenMode::CreateNew).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }

    fn content(disk: &dyn Vfs, path: &Path) -> Vec<u8> {
        crate::read_file(disk, path, 100).unwrap()
    }

    /// On both disks: grown, removed and replaced files are what they were.
    fn stays(disk: Arc<dyn Vfs>, dir: &Path) {
        let (a, b, c) = (dir.join("a"), dir.join("b"), dir.join("c"));
        file(&*disk, &a, b"12");
        file(&*disk, &b, b"34");
        let still = StillDisk::new(Arc::clone(&disk));
        still.hold_all(dir).unwrap();
        still.hold_all(&dir.join("none")).unwrap();
        // Held, not asked for: it still grows.
        disk.open(&a, OpenMode::ReadWrite).unwrap().write_all_at(b"+", 2).unwrap();
        assert_eq!(content(&still, &a), b"12+");
        disk.open(&a, OpenMode::ReadWrite).unwrap().write_all_at(b"++", 3).unwrap();
        assert_eq!(content(&still, &a), b"12+");
        disk.remove_file(&a).unwrap();
        disk.remove_file(&b).unwrap();
        file(&*disk, &b, b"another");
        file(&*disk, &c, b"new");
        assert_eq!((content(&still, &a), content(&still, &b)), (b"12+".to_vec(), b"34".to_vec()));
        assert_eq!(still.read_dir(dir).unwrap(), ["a", "b", "c"]);
        assert!(still.exists(&a).unwrap() && !disk.exists(&a).unwrap());
        assert_eq!(
            still.file_id(&b).unwrap(),
            still.open(&b, OpenMode::Read).unwrap().id().unwrap()
        );
        assert_eq!(content(&still, &c), b"new");
        disk.open(&c, OpenMode::ReadWrite).unwrap().set_len(1).unwrap();
        let cut = still.open(&c, OpenMode::Read).unwrap().read_at_most(&mut [0; 9], 0);
        assert_eq!(cut.unwrap_err().kind(), VfsErrorKind::Eof);
    }

    #[test]
    fn what_was_opened_stays() {
        stays(Arc::new(MemDisk::new()), Path::new("/"));
        let dir = tempfile::tempdir().unwrap();
        stays(Arc::new(RealDisk), dir.path());
    }

    #[test]
    fn what_there_is_no_room_for_is_the_same_or_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a", "b", "c"] {
            file(&RealDisk, &path(name), b"1");
        }
        let still =
            StillDisk::new(Arc::new(HookedDisk::with_open_limit(Arc::new(RealDisk), SHARE)));
        still.hold_all(dir.path()).unwrap();
        for name in ["a", "b"] {
            RealDisk.rename(&path(name), &path("old")).unwrap();
            file(&RealDisk, &path(name), b"2");
        }
        RealDisk.open(&path("c"), OpenMode::ReadWrite).unwrap().write_all_at(b"3", 1).unwrap();
        assert_eq!(content(&still, &path("a")), b"1");
        let other = still.open(&path("b"), OpenMode::Read).unwrap_err();
        assert_eq!(other.kind(), VfsErrorKind::NotFound, "{other}");
        assert_eq!(content(&still, &path("c")), b"13");
    }

    #[test]
    fn nothing_is_changed_or_locked() {
        let disk: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let path = Path::new("/a");
        file(&*disk, path, b"1");
        let hook: Hook = Arc::new(|call| {
            if call.op.changes() { Err(call.error(io::Error::other("a change"))) } else { Ok(()) }
        });
        let still = StillDisk::new(Arc::new(HookedDisk::new(Arc::clone(&disk), hook)));
        let refused = |result: Result<(), VfsError>| {
            assert_eq!(result.unwrap_err().io_error().kind(), io::ErrorKind::ReadOnlyFilesystem);
        };
        refused(still.open(path, OpenMode::ReadWrite).map(drop));
        refused(still.open(Path::new("/b"), OpenMode::CreateNew).map(drop));
        refused(still.create_dir_all(Path::new("/d")));
        refused(still.remove_file(path));
        refused(still.remove_dir_all(Path::new("/")));
        refused(still.rename(path, Path::new("/b")));
        refused(still.sync_dir(Path::new("/")));
        let file = still.open(path, OpenMode::Read).unwrap();
        refused(file.write_all_at(b"2", 0));
        refused(file.set_len(0));
        refused(file.sync());
        let ours = disk.lock_dir(Path::new("/")).unwrap();
        drop((still.lock_dir(Path::new("/")), still.hold_dir(Path::new("/"), Sharing::Exclusive)));
        drop(ours);
    }
}
