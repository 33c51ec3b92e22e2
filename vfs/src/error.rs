//! What went wrong, with which file, while doing what.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// An operation of a [`Vfs`](crate::Vfs) or a [`VfsFile`](crate::VfsFile).
///
/// ```
/// use hedgerow_vfs::{MemDisk, Vfs, VfsOp};
/// let error = MemDisk::new().remove_file("/none".as_ref()).unwrap_err();
/// assert_eq!(error.op(), VfsOp::RemoveFile);
/// assert_eq!(format!("while {} it", error.op()), "while removing it");
/// assert!(VfsOp::Write.changes() && !VfsOp::Read.changes());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VfsOp {
    /// Opening a file that exists.
    Open,
    /// Opening a file that must not exist yet.
    Create,
    /// Making a directory and its parents.
    CreateDirAll,
    /// Listing a directory.
    ReadDir,
    /// Finding out whether a path exists.
    Exists,
    /// Removing a file.
    RemoveFile,
    /// Removing a directory with its content.
    RemoveDirAll,
    /// Renaming a file or a directory.
    Rename,
    /// Giving a file a second name.
    HardLink,
    /// Making the names in a directory durable.
    SyncDir,
    /// Locking a directory.
    LockDir,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Asking for a file's length.
    Len,
    /// Changing a file's length.
    SetLen,
    /// Making a file's content durable.
    Sync,
    /// Arriving at a named point; the path of the call is its name. See
    /// [`Vfs::at_point`](crate::Vfs::at_point).
    Point,
}

impl VfsOp {
    /// Whether it changes something on the disk, or makes it durable. Opening a file does not.
    pub fn changes(self) -> bool {
        match self {
            Self::Create
            | Self::CreateDirAll
            | Self::RemoveFile
            | Self::RemoveDirAll
            | Self::Rename
            | Self::HardLink
            | Self::SyncDir
            | Self::LockDir
            | Self::Write
            | Self::SetLen
            | Self::Sync => true,
            Self::Open | Self::ReadDir | Self::Exists | Self::Read | Self::Len | Self::Point => {
                false
            }
        }
    }
}

impl fmt::Display for VfsOp {
    /// The operation as a participle, as in "reading".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "opening",
            Self::Create => "creating",
            Self::CreateDirAll => "creating directory",
            Self::ReadDir => "listing directory",
            Self::Exists => "looking for",
            Self::RemoveFile => "removing",
            Self::RemoveDirAll => "removing directory",
            Self::Rename => "renaming",
            Self::HardLink => "linking",
            Self::SyncDir => "syncing directory",
            Self::LockDir => "locking directory",
            Self::Read => "reading",
            Self::Write => "writing",
            Self::Len => "asking for the length of",
            Self::SetLen => "setting the length of",
            Self::Sync => "syncing",
            Self::Point => "arriving at",
        })
    }
}

/// The errors that callers tell apart.
///
/// ```
/// use hedgerow_vfs::{MemDisk, OpenMode, Vfs, VfsErrorKind};
/// let file = match MemDisk::new().open("/none".as_ref(), OpenMode::Read) {
///     Ok(file) => Some(file),
///     Err(error) if error.kind() == VfsErrorKind::NotFound => None,   // an answer
///     Err(error) => return Err(error),                                // no answer
/// };
/// assert!(file.is_none());
/// # Ok::<(), hedgerow_vfs::VfsError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VfsErrorKind {
    /// The file or directory, or one on the way to it, does not exist.
    NotFound,
    /// Something has this name already.
    AlreadyExists,
    /// The directory is locked by somebody else.
    InUse,
    /// The file ends before what was to be read.
    Eof,
    /// There is no room left on the disk or in the quota.
    Full,
    /// The process, or the system, has as many files open as it may.
    TooManyFiles,
    /// Anything else; the text says what.
    Other,
}

impl VfsErrorKind {
    fn of(error: &io::Error) -> Self {
        if is_too_many_files(error) {
            return Self::TooManyFiles;
        }
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::AlreadyExists => Self::AlreadyExists,
            io::ErrorKind::UnexpectedEof => Self::Eof,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Other,
        }
    }
}

#[cfg(unix)]
pub(crate) fn is_too_many_files(error: &io::Error) -> bool {
    use nix::errno::Errno;
    error.raw_os_error().map(Errno::from_raw).is_some_and(|errno| {
        // Of the process, of the system.
        matches!(errno, Errno::EMFILE | Errno::ENFILE)
    })
}

#[cfg(not(unix))]
pub(crate) fn is_too_many_files(_error: &io::Error) -> bool {
    false
}

/// An operation on the disk that failed: which one, on which path, at which offset, and why.
///
/// One pointer wide and cheap to clone, so that the first error can be latched and given to
/// everyone who waits. The text contains the system's reason, which is therefore not offered again
/// as [`source`](std::error::Error::source); [`io_error`](Self::io_error) returns it.
///
/// ```
/// use hedgerow_vfs::{MemDisk, OpenMode, Vfs, VfsErrorKind, VfsOp};
/// let error = MemDisk::new().open("/state/none".as_ref(), OpenMode::Read).unwrap_err();
/// assert_eq!((error.op(), error.kind()), (VfsOp::Open, VfsErrorKind::NotFound));
/// assert!(error.to_string().starts_with("opening /state/none: "));
/// ```
#[derive(Clone)]
pub struct VfsError(Arc<Details>);

#[derive(Debug)]
struct Details {
    op: VfsOp,
    path: PathBuf,
    to: Option<PathBuf>,
    offset: Option<u64>,
    kind: VfsErrorKind,
    reason: io::Error,
    /// Who holds the lock.
    holder: Option<u32>,
}

impl VfsError {
    /// `op` on `path`, at `offset` if it has one, failed with `reason`, which decides the kind.
    pub fn new(op: VfsOp, path: &Path, offset: Option<u64>, reason: io::Error) -> Self {
        let kind = VfsErrorKind::of(&reason);
        let (path, to, holder) = (path.to_owned(), None, None);
        Self(Arc::new(Details { op, path, to, offset, kind, reason, holder }))
    }

    /// Renaming `from` to `to` failed with `reason`.
    pub fn renaming(from: &Path, to: &Path, reason: io::Error) -> Self {
        Self::of_two(VfsOp::Rename, from, to, reason)
    }

    /// Giving `from` the second name `to` failed with `reason`.
    pub fn linking(from: &Path, to: &Path, reason: io::Error) -> Self {
        Self::of_two(VfsOp::HardLink, from, to, reason)
    }

    fn of_two(op: VfsOp, from: &Path, to: &Path, reason: io::Error) -> Self {
        Self(Arc::new(Details {
            op,
            path: from.to_owned(),
            to: Some(to.to_owned()),
            offset: None,
            kind: VfsErrorKind::of(&reason),
            reason,
            holder: None,
        }))
    }

    /// The directory `path` is locked by somebody else.
    pub fn in_use(path: &Path) -> Self {
        Self::in_use_by(path, None)
    }

    /// The directory `path` is locked by the process `holder`, if that is known.
    pub fn in_use_by(path: &Path, holder: Option<u32>) -> Self {
        let text = match holder {
            Some(holder) => format!("process {holder} holds the lock"),
            None => "another handle, in this process or another, holds the lock".into(),
        };
        Self(Arc::new(Details {
            op: VfsOp::LockDir,
            path: path.to_owned(),
            to: None,
            offset: None,
            kind: VfsErrorKind::InUse,
            reason: io::Error::new(io::ErrorKind::WouldBlock, text),
            holder,
        }))
    }

    /// Of a lock that is held: the process that holds it, where the system tells.
    pub fn holder(&self) -> Option<u32> {
        self.0.holder
    }

    /// Reading `wanted` bytes at `offset` met the end of the file, which is `len` bytes long.
    pub fn eof(path: &Path, offset: u64, wanted: usize, len: u64) -> Self {
        let text = format!("{wanted} bytes wanted, but the file is {len} bytes long");
        let reason = io::Error::new(io::ErrorKind::UnexpectedEof, text);
        Self::new(VfsOp::Read, path, Some(offset), reason)
    }

    /// What was being done.
    pub fn op(&self) -> VfsOp {
        self.0.op
    }

    /// The file or directory it was done to; of a rename or a link, the old name.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// The new name of a rename or a link.
    pub fn to(&self) -> Option<&Path> {
        self.0.to.as_deref()
    }

    /// Byte offset of a read or a write; the length of a `set_len`.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The error as callers tell it apart.
    pub fn kind(&self) -> VfsErrorKind {
        self.0.kind
    }

    /// The system's reason.
    pub fn io_error(&self) -> &io::Error {
        &self.0.reason
    }
}

impl fmt::Display for VfsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details { op, path, to, offset, kind, reason, .. } = &*self.0;
        write!(f, "{op} {}", path.display())?;
        match (op, offset) {
            (VfsOp::SetLen, Some(len)) => write!(f, " to {len}")?,
            (_, Some(offset)) => write!(f, " at offset {offset}")?,
            (_, None) => {}
        }
        if let Some(to) = to {
            write!(f, " to {}", to.display())?;
        }
        write!(f, ": {reason}")?;
        if *kind == VfsErrorKind::TooManyFiles
            && let Some(limit) = crate::limits::open_files()
        {
            write!(f, "; this process may have {limit} open (ulimit -n)")?;
        }
        Ok(())
    }
}

impl fmt::Debug for VfsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for VfsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_was_done_to_what_and_why() {
        let path = Path::new("store/log.0");
        let full = io::Error::new(io::ErrorKind::StorageFull, "no space left");
        let error = VfsError::new(VfsOp::Write, path, Some(4096), full);
        assert_eq!(error.to_string(), "writing store/log.0 at offset 4096: no space left");
        assert_eq!((error.kind(), error.offset()), (VfsErrorKind::Full, Some(4096)));

        let error = VfsError::renaming(path, Path::new("x"), io::Error::other("busy"));
        assert_eq!(error.to_string(), "renaming store/log.0 to x: busy");

        let error = VfsError::eof(path, 7, 16, 9);
        assert_eq!(
            error.to_string(),
            "reading store/log.0 at offset 7: 16 bytes wanted, but the file is 9 bytes long"
        );
        assert_eq!(error.kind(), VfsErrorKind::Eof);
        assert_eq!(size_of::<VfsError>(), size_of::<usize>());
    }
}
