//! A disk that is never changed.
//!
//! ```text
//!   caller ──► ReadOnlyDisk ── reads ──► names and pages that were changed, in memory
//!                   │                          │ not changed
//!                   │ writes                   ▼
//!                   └──► memory          the disk underneath: opened for reading, listed, held shared
//! ```
//!
//! Whoever uses it may do what it always does, recovery after a crash included: what it changes is
//! seen through this disk, costs memory, and is gone with it. Nothing is ever durable here; a sync
//! succeeds and means nothing.

use crate::whole;
use crate::{DirLock, FileId, OpenMode, Sharing, Vfs, VfsError, VfsFile, VfsOp};
use crate::{HowRead, ManyReads, ReadAt, depth};
use parking_lot::{Mutex, RwLock};
use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Bytes per page: what is kept of a file that is changed.
const PAGE: usize = 4096;
/// Longest file and greatest offset, as on the systems that count in signed 64-bit numbers.
const MAX_LEN: u64 = i64::MAX as u64;

/// Another disk, on which nothing is changed. A clone sees the same changes in memory.
///
/// ```
/// use hedgerow_vfs::{MemDisk, OpenMode, ReadOnlyDisk, Vfs};
/// let (inner, path) = (MemDisk::new(), std::path::Path::new("/a"));
/// let disk = ReadOnlyDisk::new(std::sync::Arc::new(inner.clone()));
/// disk.open(path, OpenMode::CreateNew)?.write_all_at(b"only here", 0)?;
/// assert!(disk.exists(path)? && !inner.exists(path)?);
/// # Ok::<(), hedgerow_vfs::VfsError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ReadOnlyDisk {
    inner: Arc<dyn Vfs>,
    changes: Arc<Mutex<BTreeMap<PathBuf, Change>>>,
}

/// What a path is, other than on the disk underneath.
#[derive(Debug)]
enum Change {
    Gone,
    /// A directory that has only what was put into it here.
    Dir,
    File(Arc<Layered>),
}

/// What is known of a path.
enum Known {
    /// Nothing has that name.
    No,
    /// Something above it is a file.
    BelowFile,
    Dir,
    File(Arc<Layered>),
    /// Whatever the disk underneath has there.
    Underneath,
}

type Changes = BTreeMap<PathBuf, Change>;

fn known(changes: &Changes, path: &Path) -> Known {
    // The nearest change at the path or above it decides.
    for (above, at) in path.ancestors().enumerate() {
        match (changes.get(at), above) {
            (None, _) => {}
            (Some(Change::Gone), _) | (Some(Change::Dir), 1..) => return Known::No,
            (Some(Change::Dir), 0) => return Known::Dir,
            (Some(Change::File(file)), 0) => return Known::File(Arc::clone(file)),
            (Some(Change::File(_)), _) => return Known::BelowFile,
        }
    }
    Known::Underneath
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    No,
    File,
    Dir,
}

impl ReadOnlyDisk {
    /// `inner`, never to be changed.
    pub fn new(inner: Arc<dyn Vfs>) -> Self {
        Self { inner, changes: Arc::default() }
    }

    fn kind(&self, changes: &Changes, path: &Path) -> io::Result<Kind> {
        match known(changes, path) {
            Known::No => Ok(Kind::No),
            Known::BelowFile => Err(io::ErrorKind::NotADirectory.into()),
            Known::Dir => Ok(Kind::Dir),
            Known::File(_) => Ok(Kind::File),
            Known::Underneath => {
                if !self.inner.exists(path).map_err(reason)? {
                    return Ok(Kind::No);
                }
                // A directory can be listed, whatever the system lets us know about it otherwise.
                match self.inner.read_dir(path) {
                    Ok(_) => Ok(Kind::Dir),
                    Err(error) if error.io_error().kind() == io::ErrorKind::NotADirectory => {
                        Ok(Kind::File)
                    }
                    Err(error) => Err(reason(error)),
                }
            }
        }
    }

    fn need_dir(&self, changes: &Changes, path: &Path) -> io::Result<()> {
        match self.kind(changes, path)? {
            Kind::Dir => Ok(()),
            Kind::No => Err(io::ErrorKind::NotFound.into()),
            Kind::File => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn need_parent(&self, changes: &Changes, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |parent| self.need_dir(changes, parent))
    }

    /// The file at `path`, to be changed.
    fn lift(&self, changes: &Changes, path: &Path) -> io::Result<Arc<Layered>> {
        match known(changes, path) {
            Known::File(file) => Ok(file),
            Known::Dir => Err(io::ErrorKind::IsADirectory.into()),
            Known::No => Err(io::ErrorKind::NotFound.into()),
            Known::BelowFile => Err(io::ErrorKind::NotADirectory.into()),
            Known::Underneath => {
                let base = self.inner.open(path, OpenMode::Read).map_err(reason)?;
                Ok(Arc::new(Layered::over(base).map_err(reason)?))
            }
        }
    }

    fn list(&self, changes: &Changes, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names: BTreeSet<OsString> = match known(changes, path) {
            Known::No => return Err(io::ErrorKind::NotFound.into()),
            Known::BelowFile | Known::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Known::Dir => BTreeSet::new(),
            Known::Underneath => self.inner.read_dir(path).map_err(reason)?.into_iter().collect(),
        };
        for (at, change) in changes.iter().filter(|(at, _)| at.parent() == Some(path)) {
            let Some(name) = at.file_name() else { continue };
            match change {
                Change::Gone => _ = names.remove(name),
                Change::Dir | Change::File(_) => _ = names.insert(name.to_owned()),
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Takes everything at `from` to `to`, where nothing is.
    fn carry(&self, changes: &mut Changes, from: &Path, to: &Path) -> io::Result<()> {
        if self.kind(changes, from)? == Kind::File {
            let file = self.lift(changes, from)?;
            // It has no other name now: nothing underneath is to be found under this one.
            file.state.write().changed = true;
            changes.insert(to.to_owned(), Change::File(file));
            return Ok(());
        }
        changes.insert(to.to_owned(), Change::Dir);
        for name in self.list(changes, from)? {
            self.carry(changes, &from.join(&name), &to.join(&name))?;
        }
        Ok(())
    }
}

/// Nothing has that name, or a name below it, any more.
fn forget(changes: &mut Changes, path: &Path) {
    changes.retain(|at, _| !at.starts_with(path));
    changes.insert(path.to_owned(), Change::Gone);
}

fn reason(error: VfsError) -> io::Error {
    let found = error.io_error();
    match found.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(found.kind(), found.to_string()),
    }
}

impl Vfs for ReadOnlyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        let op = if mode == OpenMode::CreateNew { VfsOp::Create } else { VfsOp::Open };
        let open = || -> io::Result<Arc<dyn VfsFile>> {
            let mut changes = self.changes.lock();
            let file = if mode == OpenMode::CreateNew {
                self.need_parent(&changes, path)?;
                if self.kind(&changes, path)? != Kind::No {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                Arc::new(Layered::default())
            } else if mode == OpenMode::Read && matches!(known(&changes, path), Known::Underneath) {
                return self.inner.open(path, mode).map_err(reason);
            } else {
                self.lift(&changes, path)?
            };
            changes.insert(path.to_owned(), Change::File(Arc::clone(&file)));
            let (disk, path) = (self.clone(), path.to_owned());
            Ok(Arc::new(LayeredFile { file, disk, path, writable: mode != OpenMode::Read }))
        };
        open().map_err(|reason| VfsError::new(op, path, None, reason))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        let mut changes = self.changes.lock();
        let make = |changes: &mut Changes| {
            let ancestors: Vec<&Path> = path.ancestors().collect();
            for at in ancestors.into_iter().rev().filter(|at| !at.as_os_str().is_empty()) {
                match self.kind(changes, at)? {
                    Kind::Dir => {}
                    Kind::No => _ = changes.insert(at.to_owned(), Change::Dir),
                    Kind::File if at == path => return Err(io::ErrorKind::AlreadyExists.into()),
                    Kind::File => return Err(io::ErrorKind::NotADirectory.into()),
                }
            }
            Ok(())
        };
        make(&mut changes).map_err(|reason| VfsError::new(VfsOp::CreateDirAll, path, None, reason))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<OsString>, VfsError> {
        let names = self.list(&self.changes.lock(), path);
        names.map_err(|reason| VfsError::new(VfsOp::ReadDir, path, None, reason))
    }

    fn exists(&self, path: &Path) -> Result<bool, VfsError> {
        match known(&self.changes.lock(), path) {
            Known::No => Ok(false),
            Known::Dir | Known::File(_) => Ok(true),
            Known::Underneath => self.inner.exists(path),
            Known::BelowFile => {
                let reason = io::ErrorKind::NotADirectory.into();
                Err(VfsError::new(VfsOp::Exists, path, None, reason))
            }
        }
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        let mut changes = self.changes.lock();
        let removed = match self.kind(&changes, path) {
            Ok(Kind::File) => {
                forget(&mut changes, path);
                Ok(())
            }
            Ok(Kind::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            Ok(Kind::No) => Err(io::ErrorKind::NotFound.into()),
            Err(reason) => Err(reason),
        };
        removed.map_err(|reason| VfsError::new(VfsOp::RemoveFile, path, None, reason))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        let mut changes = self.changes.lock();
        let removed = self.need_dir(&changes, path).map(|()| forget(&mut changes, path));
        removed.map_err(|reason| VfsError::new(VfsOp::RemoveDirAll, path, None, reason))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        let mut changes = self.changes.lock();
        let rename = |changes: &mut Changes| {
            self.need_parent(changes, from)?;
            let moved = self.kind(changes, from)?;
            self.need_parent(changes, to)?;
            let target = self.kind(changes, to)?;
            if moved == Kind::No {
                return Err(io::ErrorKind::NotFound.into());
            }
            if from == to {
                return Ok(());
            }
            if to.starts_with(from) {
                let text = "a directory cannot become part of itself";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            match (moved, target) {
                (_, Kind::No) | (Kind::File, Kind::File) => {}
                (Kind::File, _) => return Err(io::ErrorKind::IsADirectory.into()),
                (_, Kind::File) => return Err(io::ErrorKind::NotADirectory.into()),
                _ if self.list(changes, to)?.is_empty() => {}
                _ => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            }
            forget(changes, to);
            self.carry(changes, from, to)?;
            forget(changes, from);
            Ok(())
        };
        rename(&mut changes).map_err(|reason| VfsError::renaming(from, to, reason))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        let found = self.need_dir(&self.changes.lock(), path);
        found.map_err(|reason| VfsError::new(VfsOp::SyncDir, path, None, reason))
    }

    /// Shared with everybody who only reads. Leaves nothing in the directory.
    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        self.inner.hold_dir(path, Sharing::Shared)
    }

    /// Shared, whatever was asked for.
    fn hold_dir(&self, path: &Path, _sharing: Sharing) -> Result<DirLock, VfsError> {
        self.inner.hold_dir(path, Sharing::Shared)
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, VfsError> {
        self.inner.absolute(path)
    }

    fn file_id(&self, path: &Path) -> Result<Option<FileId>, VfsError> {
        let known = known(&self.changes.lock(), path);
        match known {
            Known::File(file) => file.id(),
            Known::Dir => Ok(None),
            Known::Underneath => self.inner.file_id(path),
            Known::No | Known::BelowFile => {
                let reason = io::ErrorKind::NotFound.into();
                Err(VfsError::new(VfsOp::Exists, path, None, reason))
            }
        }
    }

    /// Files of which nothing was changed are read underneath.
    fn read_batch(&self, reads: &mut [ReadAt<'_>]) -> HowRead {
        depth::forward(reads, &*self.inner, |read| {
            // What was opened for reading, and never changed, is the file underneath itself.
            let Some(layered) = read.file().own().and_then(|own| own.downcast_ref::<LayeredFile>())
            else {
                return Some(read.file());
            };
            let base = layered.file.base.as_deref()?;
            let state = layered.file.state.read();
            let end = read.offset().checked_add(read.len() as u64)?;
            (!state.changed && end <= state.base_len).then_some(base)
        })
    }

    fn many_reads(&self) -> ManyReads {
        self.inner.many_reads()
    }

    fn open_limit(&self) -> Option<u64> {
        self.inner.open_limit()
    }

    /// There is none: a program that opens files itself would change them.
    fn real_path(&self, _path: &Path) -> Option<PathBuf> {
        None
    }

    fn at_point(&self, point: &'static str) -> Result<(), VfsError> {
        self.inner.at_point(point)
    }
}

/// A file with what was changed of it.
#[derive(Debug, Default)]
struct Layered {
    base: Option<Arc<dyn VfsFile>>,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    len: u64,
    /// Bytes of `base` that are still seen.
    base_len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
    /// Whether it is anything else than the file underneath.
    changed: bool,
}

impl Layered {
    fn over(base: Arc<dyn VfsFile>) -> Result<Self, VfsError> {
        let len = base.len()?;
        let state = State { len, base_len: len, ..State::default() };
        Ok(Self { base: Some(base), state: RwLock::new(state) })
    }

    /// The file underneath is the same file, whatever was changed of it.
    fn id(&self) -> Result<Option<FileId>, VfsError> {
        let own = FileId { volume: u64::MAX, number: std::ptr::from_ref(self).addr() as u64 };
        self.base.as_ref().map_or(Ok(Some(own)), |base| base.id())
    }

    /// The bytes from `offset` on to the end of its page.
    fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state.read();
        let Some(left) = state.len.checked_sub(offset) else { return Ok(0) };
        let (page, start) = (offset / PAGE as u64, (offset % PAGE as u64) as usize);
        let len = buf.len().min(PAGE - start).min(usize::try_from(left).unwrap_or(usize::MAX));
        let buf = &mut buf[..len];
        match state.pages.get(&page) {
            Some(bytes) => buf.copy_from_slice(&bytes[start..start + len]),
            None => self.read_base(&state, buf, offset)?,
        }
        Ok(len)
    }

    fn read_base(&self, state: &State, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let left = usize::try_from(state.base_len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (there, beyond) = buf.split_at_mut(left.min(buf.len()));
        if let Some(base) = &self.base
            && !there.is_empty()
        {
            base.read_exact_at(there, offset).map_err(reason)?;
        }
        beyond.fill(0);
        Ok(())
    }

    fn write(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let state = &mut *self.state.write();
        let (page, start) = (offset / PAGE as u64, (offset % PAGE as u64) as usize);
        let len = buf.len().min(PAGE - start);
        if !state.pages.contains_key(&page) {
            let mut bytes = Box::new([0; PAGE]);
            self.read_base(state, &mut bytes[..], page * PAGE as u64)?;
            state.pages.insert(page, bytes);
        }
        if let Some(bytes) = state.pages.get_mut(&page) {
            bytes[start..start + len].copy_from_slice(&buf[..len]);
        }
        state.len = state.len.max(offset + len as u64);
        state.changed = true;
        Ok(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let state = &mut *self.state.write();
        state.changed = true;
        if len < state.len {
            state.base_len = state.base_len.min(len);
            let (page, start) = (len / PAGE as u64, (len % PAGE as u64) as usize);
            state.pages.retain(|&at, _| at <= page);
            if let Some(bytes) = state.pages.get_mut(&page) {
                bytes[start..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }
}

#[derive(Debug)]
struct LayeredFile {
    file: Arc<Layered>,
    disk: ReadOnlyDisk,
    path: PathBuf,
    writable: bool,
}

impl Drop for LayeredFile {
    /// A file that nobody changed need not stay open underneath.
    fn drop(&mut self) {
        let mut changes = self.disk.changes.lock();
        let same =
            |change: &Change| matches!(change, Change::File(file) if Arc::ptr_eq(file, &self.file));
        // Held here and in the table only.
        let last = Arc::strong_count(&self.file) == 2;
        if last
            && changes.get(&self.path).is_some_and(same)
            && !self.file.state.read().changed
            && self.file.base.is_some()
        {
            changes.remove(&self.path);
        }
    }
}

impl LayeredFile {
    fn failed(&self, op: VfsOp, offset: Option<u64>, reason: io::Error) -> VfsError {
        VfsError::new(op, &self.path, offset, reason)
    }

    fn check_writable(&self, op: VfsOp, end: Option<u64>) -> Result<(), VfsError> {
        if !self.writable {
            return Err(self.failed(op, None, io::ErrorKind::PermissionDenied.into()));
        }
        if end.is_none_or(|end| end > MAX_LEN) {
            return Err(self.failed(op, None, io::ErrorKind::FileTooLarge.into()));
        }
        Ok(())
    }
}

impl VfsFile for LayeredFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn own(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn id(&self) -> Result<Option<FileId>, VfsError> {
        self.file.id()
    }

    fn read_at_most(&self, buf: &mut [u8], offset: u64) -> Result<usize, VfsError> {
        let filled = whole::read(buf, offset, |rest, at| self.file.read(rest, at));
        filled.map_err(|(at, reason)| self.failed(VfsOp::Read, Some(at), reason))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), VfsError> {
        self.check_writable(VfsOp::Write, offset.checked_add(buf.len() as u64))?;
        let written = whole::write(buf, offset, |rest, at| self.file.write(rest, at));
        written.map_err(|(at, reason)| self.failed(VfsOp::Write, Some(at), reason))
    }

    fn len(&self) -> Result<u64, VfsError> {
        Ok(self.file.state.read().len)
    }

    fn set_len(&self, len: u64) -> Result<(), VfsError> {
        self.check_writable(VfsOp::SetLen, Some(len))?;
        self.file.set_len(len).map_err(|reason| self.failed(VfsOp::SetLen, Some(len), reason))
    }

    fn sync(&self) -> Result<(), VfsError> {
        Ok(())
    }
}
