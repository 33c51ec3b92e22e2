//! What can go wrong in a log or a twig file, told so that a person can act on it.
//!
//! "Could not read" ([`LogError::Io`]), "what is there is damaged" ([`LogError::Corrupt`]), "it was
//! pruned" ([`LogError::Pruned`]), "only its hash is kept" ([`LogError::NotKept`]) and "it was never
//! written" ([`LogError::OutOfRange`]) are different answers. Errors are cheap to clone: the first one that writing meets is latched and
//! given to everybody who comes later.

use crate::record::stub::Stub;
use crate::segments::header::FORMAT_VERSION;
use hedgerow_types::entry::EntryError;
use hedgerow_types::{Height, LogPosition, ShardId};
use hedgerow_vfs::VfsError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Why an operation on an [`EntryLog`](crate::EntryLog) or a [`TwigFile`](crate::TwigFile) failed.
///
/// ```
/// use hedgerow_entryfile::{EntryLog, LogError, LogOptions, StoreId};
/// use hedgerow_types::LogPosition;
/// # use hedgerow_vfs::MemDisk;
/// # let (disk, dir) = (std::sync::Arc::new(MemDisk::new()), std::path::Path::new("/log"));
/// # let id = StoreId([7; 16]);
/// let log = EntryLog::create(disk, dir, id, LogOptions::default())?;
/// match log.read(LogPosition(4_096)) {
///     Err(LogError::OutOfRange { at, end }) => assert!(end <= at),   // never written
///     Err(LogError::Corrupt { path, .. }) => panic!("{} is damaged", path.display()),
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk refused. The source names path and offset.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the disk said.
        source: VfsError,
    },
    /// Bytes on disk are not what was written there.
    #[error("{} is damaged at byte {offset} (log position {at}): {what}", path.display())]
    Corrupt {
        /// The segment file.
        path: PathBuf,
        /// Offset in that file of what was being read.
        offset: u64,
        /// The same as a position.
        at: LogPosition,
        /// What is wrong with it.
        what: Damage,
    },
    /// No entry begins at this position: the record that covers it is still in memory and intact,
    /// so the position is wrong.
    #[error("no entry begins at log position {at}: {what}")]
    NotAnEntry {
        /// The position asked for.
        at: LogPosition,
        /// What was found there.
        what: Damage,
    },
    /// An entry lies there whose bytes are not kept, only its hash.
    #[error("entry {} at log position {at} is not kept here, only its hash", stub.serial_number)]
    NotKept {
        /// The position asked for.
        at: LogPosition,
        /// What is kept of it.
        stub: Stub,
    },
    /// The position lies below the start of the log: its segment was pruned.
    #[error("log position {at} was pruned, the log starts at {start}")]
    Pruned {
        /// The position asked for.
        at: LogPosition,
        /// The first position that the log still has.
        start: LogPosition,
    },
    /// The position lies at or beyond the end of the log.
    #[error("log position {at} is beyond the end of the log, {end}")]
    OutOfRange {
        /// The position asked for.
        at: LogPosition,
        /// The announced end.
        end: LogPosition,
    },
    /// The position is not a multiple of 8, so nothing can begin there.
    #[error("log position {0} is not a multiple of 8")]
    Misaligned(LogPosition),
    /// A position that should lie in one shard's run of a record, or at its end, does not.
    #[error("log position {at} does not lie in the run of shard {shard} of the record at {record}")]
    NotInRun {
        /// The position.
        at: LogPosition,
        /// The record.
        record: LogPosition,
        /// The shard.
        shard: ShardId,
    },
    /// A file ends before it should: bytes that were said to be durable are gone.
    #[error("{} lacks its last {missing} bytes", path.display())]
    Short {
        /// The segment file.
        path: PathBuf,
        /// Bytes that are missing after its end.
        missing: u64,
    },
    /// No file of the directory covers the start of the log.
    #[error("no segment in {} covers log position {start}", dir.display())]
    NoSegment {
        /// The directory.
        dir: PathBuf,
        /// The start of the log.
        start: LogPosition,
    },
    /// A segment reaches into the one that follows it.
    #[error("{} is {excess} bytes too long: the next segment begins before its end", path.display())]
    Overlap {
        /// The segment file.
        path: PathBuf,
        /// Bytes that it is too long.
        excess: u64,
    },
    /// The start and end that a log was to be opened with cannot be those of a log.
    #[error("a log cannot reach from position {start} to {end}")]
    Bounds {
        /// The start asked for.
        start: LogPosition,
        /// The end asked for.
        end: LogPosition,
    },
    /// A log was to be created where one exists. Nothing is ever overwritten.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The path leads to another directory or file than the one that was opened: it was moved,
    /// replaced or removed since. What is there now is left alone.
    #[error("{} is no longer what was opened under this name", .0.display())]
    Moved(PathBuf),
    /// A record does not follow what was announced or appended before it.
    #[error("record at log position {got}, expected one at {expected}")]
    OutOfOrder {
        /// Where the next record must begin.
        expected: LogPosition,
        /// Where it begins.
        got: LogPosition,
    },
    /// A record or twig record that was to be written contradicts itself.
    #[error("malformed record: {0}")]
    Malformed(&'static str),
    /// An earlier write or sync failed. What is on disk after that is unknown until the log is
    /// opened again, so nothing more is written.
    #[error("the log is closed for writing since an earlier failure: {0}")]
    Failed(#[source] Arc<LogError>),
}

impl LogError {
    /// Makes the error of an operation on the disk.
    pub(crate) fn io(doing: &'static str) -> impl Fn(VfsError) -> Self + Copy {
        move |source| Self::Io { doing, source }
    }
}

/// What is wrong with some bytes.
///
/// ```
/// use hedgerow_entryfile::{Damage, EntryLog, LogError, LogOptions, StoreId};
/// # use hedgerow_vfs::{MemDisk, OpenMode, Vfs};
/// # let (disk, dir) = (std::sync::Arc::new(MemDisk::new()), std::path::Path::new("/log"));
/// # let id = StoreId([7; 16]);
/// let log = EntryLog::create(disk.clone(), dir, id, LogOptions::default())?;
/// log.sync()?;
/// let (start, end) = (log.start(), log.end());
/// drop(log);
/// let segment = dir.join(&disk.read_dir(dir)?[0]);
/// disk.open(&segment, OpenMode::ReadWrite)?.write_all_at(b"not ours", 0)?;
/// let damaged = EntryLog::open(disk, dir, id, LogOptions::default(), start, end).unwrap_err();
/// assert!(matches!(damaged, LogError::Corrupt { what: Damage::Magic, offset: 0, .. }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// They do not begin with the magic number of what should be there.
    Magic,
    /// They were written in a format version that this program does not know.
    FormatVersion(u32),
    /// A field that this version always writes as zero is not: a newer version gave it a meaning.
    Newer {
        /// The field.
        what: &'static str,
        /// What it says.
        value: u64,
    },
    /// They belong to another store.
    StoreId,
    /// They say that they belong at another position.
    Place {
        /// The position that they name.
        named: u64,
    },
    /// The checksum does not match.
    Checksum {
        /// The checksum that is stored with them.
        stored: u32,
        /// The checksum of what is there.
        computed: u32,
    },
    /// Padding that must be zero is not.
    Padding,
    /// The entry contradicts its own lengths.
    Entry(EntryError),
    /// A stub without a hash.
    Hash,
    /// A length leads beyond the end of what contains it.
    Length {
        /// The length that is stored, in bytes.
        need: u64,
        /// The bytes that there are.
        have: u64,
    },
    /// A run does not hold as many entries as its record's header says.
    Count {
        /// Entries according to the header.
        named: u32,
        /// Entries that there are.
        found: u32,
    },
    /// An entry is not the one that must be there.
    SerialNumber {
        /// The serial number that must be there.
        expected: u64,
        /// The serial number that is there.
        found: u64,
    },
    /// The position is that of a header, not of an entry.
    Header,
    /// The fields of a twig record contradict each other.
    Twig(&'static str),
    /// It is the record of this height, which does not follow the one before.
    Height(Height),
    /// It takes blocks back that the manifest does not know to be gone, and others follow it.
    Rollback {
        /// The height that it goes back to.
        to: Height,
    },
    /// It cannot be read, and a later record says that it was durable.
    Durable {
        /// The height of the block that it held.
        height: Height,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("wrong magic number"),
            Self::FormatVersion(found) => {
                write!(f, "it has format version {found}, this build of Hedgerow reads version ")?;
                let whose = if *found > FORMAT_VERSION { "a newer" } else { "an older" };
                write!(f, "{FORMAT_VERSION}: {whose} one wrote it")
            }
            Self::Newer { what, value } => write!(
                f,
                "its {what} is {value}, which this build of Hedgerow does not know: a newer one \
                 wrote it"
            ),
            Self::StoreId => f.write_str("belongs to another store"),
            Self::Place { named } => write!(f, "belongs at position {named}"),
            Self::Checksum { stored, computed } => {
                write!(f, "checksum is {computed:08x}, stored is {stored:08x}")
            }
            Self::Padding => f.write_str("padding is not zero"),
            Self::Entry(error) => error.fmt(f),
            Self::Hash => f.write_str("a stub without a hash"),
            Self::Length { need, have } => {
                write!(f, "a length of {need} bytes where {have} are left")
            }
            Self::Count { named, found } => {
                write!(f, "a run of {found} entries, its record says {named}")
            }
            Self::SerialNumber { expected, found } => {
                write!(f, "serial number {found} where {expected} must be")
            }
            Self::Header => f.write_str("a header lies here, not an entry"),
            Self::Twig(what) => f.write_str(what),
            Self::Height(height) => write!(f, "a record of height {height} is out of order"),
            Self::Rollback { to } => write!(
                f,
                "it goes back to height {to}, and blocks follow it: the metadata are older than the log"
            ),
            Self::Durable { height } => {
                write!(
                    f,
                    "the record of height {height} is damaged, and a later one says that it was durable"
                )
            }
        }
    }
}

impl From<EntryError> for Damage {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}
