//! A disk in memory.
//!
//! ```text
//!   MemDisk ──clone──► the same disk
//!      │
//!      ├── tree    root ─┬─ "store" ─┬─ "log.0"  ─► Arc<FileData>  { len, pages of 4 KiB }
//!      │                 └─ "other"  └─ "LOCK"   ─► Arc<FileData>  { locked }
//!      └── space   bytes of pages in use, capacity
//! ```
//!
//! Files are sparse: a page exists once it has been written to, a missing one reads as zeros, so a
//! far offset costs nothing. A file lives as long as its name or a handle to it, as on Unix.
//!
//! Relative paths and absolute ones start at the same root, and `..` is resolved by name.

use crate::path::{names, split};
use crate::{DirLock, FileId, LOCK_FILE, OpenMode, Vfs, VfsError, VfsFile, VfsOp};
use parking_lot::{Mutex, RwLock};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    ffi::{OsStr, OsString},
    fmt, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Bytes per page: what a file's room is counted in.
const PAGE: usize = 4096;
/// Longest file and greatest offset, as on the systems that count in signed 64-bit numbers.
const MAX_LEN: u64 = i64::MAX as u64;

/// A tree of files and directories in memory. A clone is another handle to the same disk; the
/// content is gone with the last one. Everything is "durable" at once: no power loss is modelled.
///
/// ```
/// use hedgerow_vfs::{MemDisk, OpenMode, Vfs, VfsErrorKind};
/// let disk = MemDisk::with_capacity(8_192);
/// let file = disk.open("/a".as_ref(), OpenMode::CreateNew)?;
/// file.write_all_at(b"one byte takes a page", 0)?;
/// assert_eq!(disk.used_bytes(), 4_096);
/// let full = file.write_all_at(&[0; 10_000], 0).unwrap_err();
/// assert_eq!(full.kind(), VfsErrorKind::Full);               // what a test of a full disk wants
/// # Ok::<(), hedgerow_vfs::VfsError>(())
/// ```
#[derive(Clone)]
pub struct MemDisk {
    disk: Arc<Disk>,
}

struct Disk {
    root: RwLock<Dir>,
    space: Arc<Mutex<Space>>,
}

/// Room on the disk, in bytes, counted in whole pages.
struct Space {
    capacity: u64,
    used: u64,
}

type Dir = BTreeMap<OsString, Node>;

enum Node {
    Dir(Dir),
    File(Arc<FileData>),
}

struct FileData {
    content: RwLock<Content>,
    /// Held by a [`DirLock`]; only ever set for files named [`LOCK_FILE`].
    locked: AtomicBool,
    space: Arc<Mutex<Space>>,
}

#[derive(Default)]
struct Content {
    len: u64,
    /// By page number. Bytes of a page at or beyond `len` are zero.
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl MemDisk {
    /// An empty disk without limit.
    pub fn new() -> Self {
        Self::with_capacity(u64::MAX)
    }

    /// An empty disk with room for `bytes` bytes of file content, counted in pages of 4 KiB that
    /// have been written to.
    pub fn with_capacity(bytes: u64) -> Self {
        let space = Arc::new(Mutex::new(Space { capacity: bytes, used: 0 }));
        Self { disk: Arc::new(Disk { root: RwLock::new(Dir::new()), space }) }
    }

    /// Changes the room. Less than what is in use is legal: nothing is lost, but no page is added
    /// until enough has been freed.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk.space.lock().capacity = bytes;
    }

    /// Bytes in use, counted in pages of 4 KiB, by all files that a name or a handle keeps alive.
    pub fn used_bytes(&self) -> u64 {
        self.disk.space.lock().used
    }

    fn new_file(&self) -> Arc<FileData> {
        Arc::new(FileData {
            content: RwLock::default(),
            locked: AtomicBool::new(false),
            space: Arc::clone(&self.disk.space),
        })
    }
}

impl Default for MemDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemDisk").field("used_bytes", &self.used_bytes()).finish_non_exhaustive()
    }
}

fn find<'a>(root: &'a Dir, names: &[&OsStr]) -> io::Result<&'a Dir> {
    names.iter().try_fold(root, |dir, &name| match dir.get(name) {
        Some(Node::Dir(child)) => Ok(child),
        Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
        None => Err(io::ErrorKind::NotFound.into()),
    })
}

fn find_mut<'a>(root: &'a mut Dir, names: &[&OsStr]) -> io::Result<&'a mut Dir> {
    names.iter().try_fold(root, |dir, &name| match dir.get_mut(name) {
        Some(Node::Dir(child)) => Ok(child),
        Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
        None => Err(io::ErrorKind::NotFound.into()),
    })
}

impl Disk {
    fn open(&self, path: &Path, create: Option<Arc<FileData>>) -> io::Result<Arc<FileData>> {
        let names = names(path);
        let Ok((name, parents)) = split(&names) else {
            return Err(match create {
                Some(_) => io::ErrorKind::AlreadyExists.into(),
                None => io::ErrorKind::IsADirectory.into(),
            });
        };
        if let Some(new) = create {
            let mut root = self.root.write();
            let dir = find_mut(&mut root, parents)?;
            if dir.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            dir.insert(name.to_owned(), Node::File(Arc::clone(&new)));
            return Ok(new);
        }
        match find(&self.root.read(), parents)?.get(name) {
            Some(Node::File(file)) => Ok(Arc::clone(file)),
            Some(Node::Dir(_)) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let names = names(path);
        let mut root = self.root.write();
        let mut dir = &mut *root;
        for (i, &name) in names.iter().enumerate() {
            dir = match dir.entry(name.to_owned()).or_insert_with(|| Node::Dir(Dir::new())) {
                Node::Dir(child) => child,
                Node::File(_) if i + 1 == names.len() => {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                Node::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
            };
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let names = names(path);
        let Ok((name, parents)) = split(&names) else { return Ok(true) };
        match find(&self.root.read(), parents) {
            Ok(dir) => Ok(dir.contains_key(name)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remove(&self, path: &Path, directory: bool) -> io::Result<()> {
        let names = names(path);
        let (name, parents) = split(&names)?;
        let mut root = self.root.write();
        let dir = find_mut(&mut root, parents)?;
        match (dir.get(name), directory) {
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
            (Some(Node::Dir(_)), false) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), true) => return Err(io::ErrorKind::NotADirectory.into()),
            (Some(_), _) => dir.remove(name),
        };
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (names(from), names(to));
        let (from_name, from_parents) = split(&from)?;
        let (to_name, to_parents) = split(&to)?;
        let mut root = self.root.write();

        let moved = find(&root, from_parents)?.get(from_name);
        let target = find(&root, to_parents)?.get(to_name);
        let Some(moved) = moved else { return Err(io::ErrorKind::NotFound.into()) };
        if from == to {
            return Ok(());
        }
        if to.starts_with(&from) {
            let text = "a directory cannot become part of itself";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        match (moved, target) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (Node::Dir(_), Some(Node::Dir(target))) if target.is_empty() => {}
            (Node::File(_), Some(Node::Dir(_))) if from.starts_with(&to) => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            (Node::Dir(_), Some(Node::Dir(_))) => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            (Node::Dir(_), Some(Node::File(_))) => return Err(io::ErrorKind::NotADirectory.into()),
            (Node::File(_), Some(Node::Dir(_))) => return Err(io::ErrorKind::IsADirectory.into()),
        }
        // Both directories were found above, under the same lock.
        if let Some(moved) = find_mut(&mut root, from_parents)?.remove(from_name) {
            find_mut(&mut root, to_parents)?.insert(to_name.to_owned(), moved);
        }
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.open(from, None)?;
        self.open(to, Some(file)).map(drop)
    }

    fn lock_dir(&self, path: &Path, new: Arc<FileData>) -> io::Result<Option<HeldLock>> {
        let names = names(path);
        let mut root = self.root.write();
        let dir = find_mut(&mut root, &names)?;
        let node = dir.entry(OsString::from(LOCK_FILE)).or_insert(Node::File(new));
        let Node::File(file) = node else { return Err(io::ErrorKind::IsADirectory.into()) };
        // Acquire pairs with the release in `HeldLock::drop`.
        let held = file.locked.swap(true, Ordering::AcqRel);
        Ok((!held).then(|| HeldLock(Arc::clone(file))))
    }
}

/// Releases the lock of a directory when dropped.
struct HeldLock(Arc<FileData>);

impl Drop for HeldLock {
    fn drop(&mut self) {
        self.0.locked.store(false, Ordering::Release);
    }
}

impl Vfs for MemDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        let (op, create) = match mode {
            OpenMode::CreateNew => (VfsOp::Create, Some(self.new_file())),
            OpenMode::Read | OpenMode::ReadWrite => (VfsOp::Open, None),
        };
        let file = self.disk.open(path, create);
        let data = file.map_err(|reason| VfsError::new(op, path, None, reason))?;
        Ok(Arc::new(MemFile { data, path: path.to_owned(), writable: mode != OpenMode::Read }))
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        let done = self.disk.create_dir_all(path);
        done.map_err(|reason| VfsError::new(VfsOp::CreateDirAll, path, None, reason))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<OsString>, VfsError> {
        let root = self.disk.root.read();
        let dir = find(&root, &names(path));
        let dir = dir.map_err(|reason| VfsError::new(VfsOp::ReadDir, path, None, reason))?;
        Ok(dir.keys().cloned().collect())
    }

    fn exists(&self, path: &Path) -> Result<bool, VfsError> {
        let found = self.disk.exists(path);
        found.map_err(|reason| VfsError::new(VfsOp::Exists, path, None, reason))
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        let done = self.disk.remove(path, false);
        done.map_err(|reason| VfsError::new(VfsOp::RemoveFile, path, None, reason))
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        let done = self.disk.remove(path, true);
        done.map_err(|reason| VfsError::new(VfsOp::RemoveDirAll, path, None, reason))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        self.disk.rename(from, to).map_err(|reason| VfsError::renaming(from, to, reason))
    }

    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        self.disk.hard_link(from, to).map_err(|reason| VfsError::linking(from, to, reason))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        match find(&self.disk.root.read(), &names(path)) {
            Ok(_) => Ok(()),
            Err(reason) => Err(VfsError::new(VfsOp::SyncDir, path, None, reason)),
        }
    }

    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        match self.disk.lock_dir(path, self.new_file()) {
            Ok(Some(held)) => Ok(DirLock::new(path, held)),
            Ok(None) => Err(VfsError::in_use(path)),
            Err(reason) => Err(VfsError::new(VfsOp::LockDir, path, None, reason)),
        }
    }

    fn real_path(&self, _path: &Path) -> Option<PathBuf> {
        None
    }

    fn file_id(&self, path: &Path) -> Result<Option<FileId>, VfsError> {
        match self.disk.open(path, None) {
            Ok(data) => Ok(Some(id(&data))),
            // A directory has one name here, and nothing else to be known by.
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Ok(None),
            Err(reason) => Err(VfsError::new(VfsOp::Exists, path, None, reason)),
        }
    }
}

/// A file is known by where it lies in memory, as long as somebody holds it.
fn id(data: &Arc<FileData>) -> FileId {
    FileId { volume: 0, number: Arc::as_ptr(data).addr() as u64 }
}

/// The part of one page that a range of a file covers.
struct Chunk {
    page: u64,
    in_page: std::ops::Range<usize>,
    in_range: std::ops::Range<usize>,
}

/// Cuts the `len` bytes at `offset` at the page borders. `offset + len` is at most [`MAX_LEN`].
fn chunks(offset: u64, len: usize) -> impl Iterator<Item = Chunk> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let start = (at % PAGE as u64) as usize;
        let count = (len - done).min(PAGE - start);
        let in_range = done..done + count;
        done += count;
        let chunk = Chunk { page: at / PAGE as u64, in_page: start..start + count, in_range };
        (count > 0).then_some(chunk)
    })
}

impl FileData {
    fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset > MAX_LEN && !buf.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let content = self.content.read();
        let there = content.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        for Chunk { page, in_page, in_range } in chunks(offset, there) {
            match content.pages.get(&page) {
                Some(bytes) => buf[in_range].copy_from_slice(&bytes[in_page]),
                None => buf[in_range].fill(0),
            }
        }
        Ok(there)
    }

    /// Writes what fits; on an error the pages before the first that does not fit are written.
    fn write(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if buf.is_empty() {
            return Ok(());
        }
        if offset.checked_add(buf.len() as u64).is_none_or(|end| end > MAX_LEN) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut content = self.content.write();
        let Content { len, pages } = &mut *content;
        for Chunk { page, in_page, in_range } in chunks(offset, buf.len()) {
            let end = offset + in_range.end as u64;
            let bytes = match pages.entry(page) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(hole) => {
                    self.space.lock().take_page()?;
                    hole.insert(Box::new([0; PAGE]))
                }
            };
            bytes[in_page].copy_from_slice(&buf[in_range]);
            *len = (*len).max(end);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > MAX_LEN {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut content = self.content.write();
        if len < content.len {
            let gone = content.pages.split_off(&len.div_ceil(PAGE as u64));
            self.space.lock().free_pages(gone.len());
            if let Some(last) = content.pages.get_mut(&(len / PAGE as u64)) {
                last[(len % PAGE as u64) as usize..].fill(0);
            }
        }
        content.len = len;
        Ok(())
    }
}

impl Drop for FileData {
    fn drop(&mut self) {
        self.space.lock().free_pages(self.content.get_mut().pages.len());
    }
}

impl Space {
    fn take_page(&mut self) -> io::Result<()> {
        match self.used.checked_add(PAGE as u64).filter(|&used| used <= self.capacity) {
            Some(used) => self.used = used,
            None => return Err(io::ErrorKind::StorageFull.into()),
        }
        Ok(())
    }

    fn free_pages(&mut self, pages: usize) {
        self.used -= (pages * PAGE) as u64;
    }
}

struct MemFile {
    data: Arc<FileData>,
    path: PathBuf,
    writable: bool,
}

impl MemFile {
    fn writing(
        &self,
        op: VfsOp,
        offset: u64,
        write: impl FnOnce(&FileData) -> io::Result<()>,
    ) -> Result<(), VfsError> {
        let done = if self.writable {
            write(&self.data)
        } else {
            let text = "the file was opened for reading";
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        };
        done.map_err(|reason| VfsError::new(op, &self.path, Some(offset), reason))
    }
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFile")
            .field("path", &self.path)
            .field("len", &self.data.content.read().len)
            .finish_non_exhaustive()
    }
}

impl VfsFile for MemFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn id(&self) -> Result<Option<FileId>, VfsError> {
        Ok(Some(id(&self.data)))
    }

    fn read_at_most(&self, buf: &mut [u8], offset: u64) -> Result<usize, VfsError> {
        let filled = self.data.read(buf, offset);
        filled.map_err(|reason| VfsError::new(VfsOp::Read, &self.path, Some(offset), reason))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), VfsError> {
        self.writing(VfsOp::Write, offset, |data| data.write(buf, offset))
    }

    fn len(&self) -> Result<u64, VfsError> {
        Ok(self.data.content.read().len)
    }

    fn set_len(&self, len: u64) -> Result<(), VfsError> {
        self.writing(VfsOp::SetLen, len, |data| data.set_len(len))
    }

    fn sync(&self) -> Result<(), VfsError> {
        Ok(())
    }
}
