//! The disk, as a trait.
//!
//! Everything that Hedgerow keeps goes through a [`Vfs`]: the entry log, the twig file, the default
//! manifest database. Nothing else in the workspace opens a file, so whoever replaces the disk
//! replaces all of it.
//!
//! ```text
//!   entryfile   metadb   store            path-based: open, create_dir_all, read_dir, exists,
//!        └────────┼────────┘              remove_*, rename, hard_link, sync_dir, lock_dir
//!                 ▼
//!      Arc<dyn Vfs> ── open ──► Arc<dyn VfsFile>      positioned reads and writes, len, set_len, sync
//!        │        └─── read_batch ──► many reads at once (`depth`)
//!        │
//!        ├── RealDisk      the operating system's files; those that do not change are mapped (`map`)
//!        ├── MemDisk       a tree in memory, with a capacity; for tests and for throw-away stores
//!        ├── ReadOnlyDisk  another Vfs that is never changed: what is written stays in memory
//!        ├── StillDisk     another Vfs to which somebody else writes: files stay what they are when opened
//!        ├── HookedDisk    asks a closure before every operation of another Vfs: hold it back, fail it
//!        ├── OneWayDisk    the real disk, with a choice of how it reads many places; for tests
//!        └── PowerLossDisk forgets what was not synced, fails on demand (feature `power-loss`)
//! ```
//!
//! # What durable means here
//!
//! * The bytes of a file survive power loss once [`VfsFile::sync`] has returned `Ok` after the
//!   write.
//! * A *name* (a new file, a removed file, a rename, a new directory) survives once
//!   [`Vfs::sync_dir`] of the directory that holds the name has returned `Ok`.
//! * After `sync` or `sync_dir` has failed nobody knows what is on the medium, and a second call
//!   that succeeds proves nothing (the system may have dropped the dirty pages). Callers latch the
//!   first error; that is why [`VfsError`] is cheap to clone.
//!
//! # Invariants
//!
//! * All operations take `&self` and any number of threads may call them. Reads and writes carry
//!   their offset; there is no file cursor to share.
//! * "Not found" ([`VfsErrorKind::NotFound`]) and "could not look" are different answers, in
//!   [`Vfs::exists`] too.
//! * A read that wants more than the file has is [`VfsErrorKind::Eof`], never a short buffer.
//! * The implementations behave alike: the suite in `conformance` (feature of that name) runs on
//!   each, and a model test drives [`MemDisk`] and [`RealDisk`] side by side.
//!
//! **Invariant (absence):** no file format is known here, and no operation deletes or truncates
//! what it was not asked to.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `conformance` | the suite that every implementation passes, for whoever writes another one |
//! | `power-loss` | the disk that loses power and fails on demand; for tests |
#![deny(unsafe_code)]

mod depth;
mod error;
mod files;
mod holder;
mod hooked;
pub mod limits;
mod lock;
// The same condition stands in Cargo.toml.
#[cfg_attr(
    not(all(target_os = "linux", target_pointer_width = "64", not(miri))),
    path = "no_map.rs"
)]
#[allow(unsafe_code, reason = "a mapping is memory that others could change")]
mod map;
mod mem;
mod one_way;
mod path;
#[cfg(feature = "power-loss")]
pub mod power_loss;
mod read_only;
mod real;
#[cfg(feature = "power-loss")]
mod rng;
mod still;
mod whole;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use depth::{HowRead, ManyReads, ReadAt, ReadWay};
pub use error::{VfsError, VfsErrorKind, VfsOp};
pub use files::{TEMP_SUFFIX, read_file, renew_file, write_atomic};
pub use hooked::{Hook, HookedDisk, VfsCall};
pub use lock::{DirLock, Sharing};
pub use mem::MemDisk;
pub use one_way::OneWayDisk;
pub use read_only::ReadOnlyDisk;
pub use real::RealDisk;
pub use still::StillDisk;

use std::{
    any::Any,
    ffi::OsString,
    fmt::Debug,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Name of the file that [`Vfs::lock_dir`] leaves in the directory it locks.
pub const LOCK_FILE: &str = "LOCK";

/// How a file is opened. No mode truncates, and only [`OpenMode::CreateNew`] creates.
///
/// ```
/// use hedgerow_vfs::{MemDisk, OpenMode, Vfs, VfsErrorKind};
/// let (disk, path) = (MemDisk::new(), std::path::Path::new("/a"));
/// let missing = disk.open(path, OpenMode::ReadWrite).unwrap_err();
/// assert_eq!(missing.kind(), VfsErrorKind::NotFound);        // it creates nothing
/// disk.open(path, OpenMode::CreateNew)?;
/// let there = disk.open(path, OpenMode::CreateNew).unwrap_err();
/// assert_eq!(there.kind(), VfsErrorKind::AlreadyExists);     // it replaces nothing
/// # Ok::<(), hedgerow_vfs::VfsError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenMode {
    /// The file must exist; writes are refused.
    Read,
    /// The file must exist; reads and writes.
    ReadWrite,
    /// The file must not exist and is created empty; reads and writes.
    CreateNew,
}

/// What tells a file or a directory from every other one that is there at the same time, whatever
/// names lead to it.
///
/// ```
/// use hedgerow_vfs::{MemDisk, OpenMode, Vfs};
/// # let (disk, path, other) = (MemDisk::new(), std::path::Path::new("/a"), std::path::Path::new("/b"));
/// let file = disk.open(path, OpenMode::CreateNew)?;
/// disk.rename(path, other)?;
/// assert_eq!(disk.file_id(other)?, file.id()?);              // the same file under another name
/// disk.open(path, OpenMode::CreateNew)?;
/// assert_ne!(disk.file_id(path)?, file.id()?);               // another file under the old name
/// # Ok::<(), hedgerow_vfs::VfsError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The volume.
    pub volume: u64,
    /// The number of the file on its volume.
    pub number: u64,
}

/// A disk: directories and files under paths.
///
/// Every method fails with a [`VfsError`] that names the operation, the path and the system's
/// reason; the kinds given below are those a caller may rely on.
///
/// ```
/// use hedgerow_vfs::{MemDisk, OpenMode, Vfs, VfsError};
/// use std::path::Path;
///
/// /// Makes a file whose name and bytes survive power loss, on whatever disk.
/// fn put(disk: &dyn Vfs, dir: &Path, name: &str, bytes: &[u8]) -> Result<(), VfsError> {
///     let file = disk.open(&dir.join(name), OpenMode::CreateNew)?;
///     file.write_all_at(bytes, 0)?;
///     file.sync()?;                            // its bytes
///     disk.sync_dir(dir)                       // its name
/// }
/// let disk = MemDisk::new();
/// put(&disk, Path::new("/"), "greeting", b"hello")?;
/// assert_eq!(disk.read_dir(Path::new("/"))?, ["greeting"]);
/// # Ok::<(), hedgerow_vfs::VfsError>(())
/// ```
pub trait Vfs: Send + Sync + Debug + 'static {
    /// Opens the file at `path`. The handle stays usable after the file is renamed or removed.
    ///
    /// # Errors
    /// `NotFound` if the file (or, for `CreateNew`, its directory) does not exist;
    /// `AlreadyExists` for `CreateNew` if anything has that name; others if it is a directory.
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError>;

    /// Makes a directory and the parents it lacks; succeeds if it is already there. To make it
    /// durable, [`sync_dir`](Self::sync_dir) the directories that got a new name.
    ///
    /// # Errors
    /// `AlreadyExists` if `path` is a file; others if a parent is one.
    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// `NotFound` if there is no such directory.
    fn read_dir(&self, path: &Path) -> Result<Vec<OsString>, VfsError>;

    /// Whether a file or directory has this path.
    ///
    /// # Errors
    /// If that cannot be found out; a missing parent directory is `Ok(false)`.
    fn exists(&self, path: &Path) -> Result<bool, VfsError>;

    /// Removes a file. Handles that are open keep reading it.
    ///
    /// # Errors
    /// `NotFound`; others if it is a directory.
    fn remove_file(&self, path: &Path) -> Result<(), VfsError>;

    /// Removes a directory and everything in it.
    ///
    /// # Errors
    /// `NotFound`; others if it is a file.
    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError>;

    /// Renames a file or a directory, atomically replacing the file, or the empty directory, that
    /// has the new name. Durable after [`sync_dir`](Self::sync_dir) of both directories.
    ///
    /// # Errors
    /// `NotFound` if `from`, or the directory of `to`, does not exist; others if one of the two is
    /// a file and the other a directory, or if a directory in the way is not empty.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError>;

    /// Gives the file `from` a second name, `to`: both lead to the same bytes from then on, and the file
    /// lives as long as one of them does. Durable after [`sync_dir`](Self::sync_dir) of the directory of
    /// `to`. The default is for disks on which a file has one name: whoever calls this must be able to
    /// copy instead.
    ///
    /// # Errors
    /// `NotFound` if `from`, or the directory of `to`, does not exist; `AlreadyExists` if anything has
    /// the name `to`; others if `from` is a directory, if the two are not on one volume, or if this disk
    /// gives no second names.
    fn hard_link(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        Err(VfsError::linking(from, to, std::io::ErrorKind::Unsupported.into()))
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// `NotFound`; others if it is a file or the medium fails. See the crate's notes on what a
    /// failed sync means.
    fn sync_dir(&self, path: &Path) -> Result<(), VfsError>;

    /// Takes the exclusive lock of a directory, in which it leaves a file [`LOCK_FILE`]. The lock
    /// goes when the returned guard is dropped, and when the process ends in whatever way.
    ///
    /// Where the system can do it the directory itself is locked too, so that neither another name
    /// for it nor the removal of the file lets anybody else in.
    ///
    /// # Errors
    /// `InUse` if it is held, by this process or another, by whatever name; `NotFound` if there is no
    /// such directory.
    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError>;

    /// Takes the lock of a directory itself, whatever name leads to it, for one that lies below a
    /// locked one: what looks like a part of it may be a link to somewhere else. Shared locks are for
    /// those who only read. Leaves a file [`LOCK_FILE`] only where the system cannot lock directories,
    /// and never for a shared lock.
    ///
    /// The default is for disks on which a directory has one name: the lock above it is enough.
    ///
    /// # Errors
    /// `InUse` if somebody else holds it; `NotFound` if there is no such directory.
    fn hold_dir(&self, path: &Path, _sharing: Sharing) -> Result<DirLock, VfsError> {
        Ok(DirLock::new(path, ()))
    }

    /// `path` in a form that means the same for ever, whatever becomes the current directory of the
    /// process. The default is for disks whose paths have nothing to do with it.
    ///
    /// # Errors
    /// If the current directory cannot be found out.
    fn absolute(&self, path: &Path) -> Result<PathBuf, VfsError> {
        Ok(path.to_owned())
    }

    /// What has the name `path` now; `None` if this disk cannot tell files apart.
    ///
    /// # Errors
    /// `NotFound` if nothing has that name.
    fn file_id(&self, _path: &Path) -> Result<Option<FileId>, VfsError> {
        Ok(None)
    }

    /// Makes all these reads, of files that this disk has opened, and gives each its result: what
    /// [`VfsFile::read_exact_at`] would have returned. A disk may make many of them at once, and in any
    /// order. The default makes one after the other, so that whoever looks at every read sees them all.
    fn read_batch(&self, reads: &mut [ReadAt<'_>]) -> HowRead {
        depth::one_by_one(reads)
    }

    /// How [`read_batch`](Self::read_batch) makes reads that the system has not in memory.
    fn many_reads(&self) -> ManyReads {
        ManyReads::one_by_one("this disk reads one after the other")
    }

    /// Whether [`VfsFile::map`] can do anything on this disk.
    fn maps_files(&self) -> bool {
        false
    }

    /// How many files this process may have open at a time, as far as that is known. It is shared by
    /// everything that the process does.
    fn open_limit(&self) -> Option<u64> {
        None
    }

    /// Where `path` lies for programs that open files themselves, as some database engines do;
    /// `None` if it does not exist outside this `Vfs`.
    fn real_path(&self, path: &Path) -> Option<PathBuf>;

    /// Called by whoever uses the disk when it comes to a named point of a procedure, such as
    /// "commit: log synced". It does nothing; a disk that tests crashes stops there when asked to.
    ///
    /// # Errors
    /// Only those that a test planned.
    fn at_point(&self, _point: &'static str) -> Result<(), VfsError> {
        Ok(())
    }
}

/// An open file.
///
/// ```
/// use hedgerow_vfs::{MemDisk, OpenMode, Vfs, VfsErrorKind};
/// let file = MemDisk::new().open("/a".as_ref(), OpenMode::CreateNew)?;
/// file.write_all_at(b"hello", 3)?;             // beyond the end: what lies between is zero
/// let mut bytes = [9; 8];
/// file.read_exact_at(&mut bytes, 0)?;
/// assert_eq!(&bytes, b"\0\0\0hello");
/// let beyond = file.read_exact_at(&mut bytes, 1).unwrap_err();
/// assert_eq!(beyond.kind(), VfsErrorKind::Eof);              // never a part of what was asked for
/// # Ok::<(), hedgerow_vfs::VfsError>(())
/// ```
#[expect(
    clippy::len_without_is_empty,
    reason = "a file's length is asked for, never its emptiness"
)]
pub trait VfsFile: Send + Sync + Debug {
    /// The path it was opened under, for messages.
    fn path(&self) -> &Path;

    /// The file in the form that its disk knows, for that disk's [`Vfs::read_batch`]. `None`, the default,
    /// means that it must be read by the methods here.
    fn own(&self) -> Option<&dyn Any> {
        None
    }

    /// Promises that the first `len` bytes stay what they are as long as the file is open here: nobody writes to
    /// them or cuts them, in this process or another. The disk may then answer short reads of them from memory
    /// that it shares with the system's cache of files, without a call of the system. Returns whether it does.
    ///
    /// Where it does, a byte that was there, that the system has given up for want of memory and that cannot be had
    /// again ends the process by a signal (SIGBUS), which a broken promise and a failing device can bring about. Whatever
    /// cannot be had at its first reading is an error as ever. The default does nothing, so that whoever looks at
    /// every read sees them all.
    fn map(&self, _len: u64) -> bool {
        false
    }

    /// Bytes that are [mapped](Self::map).
    fn mapped_bytes(&self) -> u64 {
        0
    }

    /// Whether short reads of what is [mapped](Self::map) take no call of the system at the moment: then it is of no use
    /// to read more than is wanted. A file that comes from a device lately is read by calls, many at a time.
    fn reads_without_calls(&self) -> bool {
        false
    }

    /// Which file it is, see [`Vfs::file_id`]: another than the path leads to if the name was removed
    /// or given to another file since.
    ///
    /// # Errors
    /// If the system refuses.
    fn id(&self) -> Result<Option<FileId>, VfsError> {
        Ok(None)
    }

    /// Fills `buf` from the bytes at `offset`.
    ///
    /// # Errors
    /// `Eof` if the file ends before `buf` is full; the content of `buf` is then unspecified.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<(), VfsError> {
        if self.read_at_most(buf, offset)? < buf.len() {
            return Err(VfsError::eof(self.path(), offset, buf.len(), self.len()?));
        }
        Ok(())
    }

    /// Fills as much of `buf` as the file has from `offset` on and returns how much that was; less
    /// than `buf.len()` only at the end of the file.
    ///
    /// # Errors
    /// If the medium fails. The end of the file is not an error here.
    fn read_at_most(&self, buf: &mut [u8], offset: u64) -> Result<usize, VfsError>;

    /// Writes all of `buf` at `offset`. Writing beyond the end makes the file longer; a gap reads
    /// as zeros.
    ///
    /// # Errors
    /// `Full` if there is no room. After any error an unknown part of the range has been written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), VfsError>;

    /// Length of the file in bytes.
    ///
    /// # Errors
    /// If the system refuses.
    fn len(&self) -> Result<u64, VfsError>;

    /// Cuts the file to `len` bytes, or extends it with zeros.
    ///
    /// # Errors
    /// If the file was opened for reading or the system refuses.
    fn set_len(&self, len: u64) -> Result<(), VfsError>;

    /// Makes the file's bytes and length durable (fdatasync). The file's *name* is made durable by
    /// [`Vfs::sync_dir`].
    ///
    /// # Errors
    /// If the medium fails. See the crate's notes on what a failed sync means.
    fn sync(&self) -> Result<(), VfsError>;
}
