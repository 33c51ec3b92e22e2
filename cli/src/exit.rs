//! What a command came to: the kinds of failure, and the exit code of each.
//!
//! ```text
//!   error ─► Kind ─┬─► code     what the program exits with
//!                  ├─► name     "kind" under --json
//!                  └─► advice   "what now"
//! ```
//!
//! Codes are part of the program's interface: a number, once given, keeps its meaning. docs/cli.md has
//! the same table.

use hedgerow::disk::{VfsError, VfsErrorKind};
use hedgerow::{Error, LogError, MerkleError, MetaError};
use std::process::ExitCode;

/// Why a command did not do what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// None of the others.
    Failed,
    /// The arguments make no sense.
    Usage,
    /// What was asked for is not there.
    Absent,
    /// A proof, or a root, is not what it should be.
    NotProved,
    /// The input cannot be used.
    BadInput,
    /// The store's files contradict themselves.
    Damaged,
    /// Somebody else has the store open.
    InUse,
    /// The system refused.
    Io,
    /// The path holds no store.
    NoStore,
    /// Something is in the way.
    Exists,
    /// Ctrl-C.
    Interrupted,
}

impl Kind {
    /// All of them, in the order of their codes.
    pub(crate) const ALL: [Self; 11] = [
        Self::Failed,
        Self::Usage,
        Self::Absent,
        Self::NotProved,
        Self::BadInput,
        Self::Damaged,
        Self::InUse,
        Self::Io,
        Self::NoStore,
        Self::Exists,
        Self::Interrupted,
    ];

    /// What the program exits with.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Absent => 3,
            Self::NotProved => 4,
            Self::BadInput => 5,
            Self::Damaged => 6,
            Self::InUse => 7,
            Self::Io => 8,
            Self::NoStore => 9,
            Self::Exists => 10,
            // 128 and the signal's number, as shells have it.
            Self::Interrupted => 130,
        }
    }

    /// Its name for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Absent => "absent",
            Self::NotProved => "not_proved",
            Self::BadInput => "bad_input",
            Self::Damaged => "damaged",
            Self::InUse => "in_use",
            Self::Io => "io",
            Self::NoStore => "no_store",
            Self::Exists => "exists",
            Self::Interrupted => "interrupted",
        }
    }

    /// Its meaning, for `--help`.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Failed => "failed otherwise: a difference was found, nobody reads the output",
            Self::Usage => "the arguments make no sense",
            Self::Absent => "the key has no value; the height is not kept",
            Self::NotProved => "the proof does not hold; the root is not the expected one",
            Self::BadInput => "the input cannot be used; a message names the line",
            Self::Damaged => "the store's files contradict themselves",
            Self::InUse => "another process has the store open",
            Self::Io => "the system refused: a file, the disk, a limit of the process",
            Self::NoStore => "there is no store in the directory",
            Self::Exists => "something is in the way, and is not overwritten",
            Self::Interrupted => "ended by Ctrl-C or SIGTERM",
        }
    }

    /// What to do about it, where that does not depend on more.
    pub(crate) fn advice(self) -> Option<&'static str> {
        Some(match self {
            Self::Usage => "`hedgerow help COMMAND` says which arguments it takes",
            Self::NotProved => "believe nothing of it: get the proof again, or the root",
            Self::Damaged => {
                "leave the files alone and work on a copy of them: `hedgerow check` names what is \
                 damaged, `hedgerow repair` says what follows from the log"
            }
            Self::InUse => "wait for the other process, or stop it",
            Self::NoStore => "`hedgerow create DIR` makes a store in an empty directory",
            _ => return None,
        })
    }

    /// The table for `--help`.
    pub(crate) fn table() -> String {
        let row = |code: u8, meaning: &str| format!("{code:>5}  {meaning}\n");
        let rows = Self::ALL.iter().map(|kind| row(kind.code(), kind.meaning()));
        let rows: String = rows.collect();
        format!("Exit codes:\n{}{rows}", row(0, "done")).trim_end().to_owned()
    }
}

impl From<Kind> for ExitCode {
    fn from(kind: Kind) -> Self {
        Self::from(kind.code())
    }
}

impl From<&Error> for Kind {
    fn from(error: &Error) -> Self {
        match error {
            Error::Refused(_) | Error::WrongHeight { .. } | Error::ExtraTooLarge(_) => {
                Self::BadInput
            }
            Error::Option { .. } => Self::Usage,
            Error::NoStore(_) | Error::Unfinished(_) | Error::UnfinishedCopy(_) => Self::NoStore,
            Error::NotEmpty(_) => Self::Exists,
            Error::InUse { .. } => Self::InUse,
            Error::HeightUnavailable { .. }
            | Error::SerialUnavailable { .. }
            | Error::RolledBack { .. }
            | Error::Pruned { .. } => Self::Absent,
            Error::Poisoned { cause } => Self::from(&**cause),
            Error::Corrupt(_) | Error::Index(_) | Error::RootMismatch { .. } => Self::Damaged,
            Error::UnexpectedRoot { .. } => Self::NotProved,
            Error::Log(error) => of_log(error),
            Error::Meta(error) => of_metadata(error),
            Error::Merkle(MerkleError::Hash(_)) => Self::Failed,
            Error::Merkle(_) => Self::Damaged,
            Error::Disk(error) => of_disk(error),
            Error::NotWritable { .. }
            | Error::Limit { .. }
            | Error::Random(_)
            | Error::Thread { .. } => Self::Io,
            _ => Self::Failed,
        }
    }
}

fn of_disk(error: &VfsError) -> Kind {
    match error.kind() {
        VfsErrorKind::InUse => Kind::InUse,
        // A file that is shorter than another one says.
        VfsErrorKind::Eof => Kind::Damaged,
        _ => Kind::Io,
    }
}

fn of_log(error: &LogError) -> Kind {
    match error {
        LogError::Io { source, .. } => of_disk(source),
        LogError::Failed(first) => of_log(first),
        LogError::Exists(_) => Kind::Exists,
        LogError::Moved(_) => Kind::Io,
        LogError::Malformed(_) | LogError::OutOfOrder { .. } => Kind::Failed,
        _ => Kind::Damaged,
    }
}

fn of_metadata(error: &MetaError) -> Kind {
    match error {
        MetaError::Missing { .. } | MetaError::Manifest { .. } | MetaError::History { .. } => {
            Kind::Damaged
        }
        MetaError::OtherEngine { .. } | MetaError::NeedsRealDisk { .. } => Kind::Usage,
        MetaError::Disk(error) => of_disk(error),
        // An engine's own words do not tell damage from a disk that fails.
        MetaError::Engine { .. } => Kind::Io,
        _ => Kind::Failed,
    }
}

/// Whether a disk is full.
pub(crate) fn is_full(error: &Error) -> bool {
    let full = |error: &VfsError| error.kind() == VfsErrorKind::Full;
    let mut log = match error {
        Error::Poisoned { cause } => return is_full(cause),
        Error::Disk(error) => return full(error),
        Error::Meta(error) => return matches!(&**error, MetaError::Disk(error) if full(error)),
        Error::Log(error) => error,
        _ => return false,
    };
    while let LogError::Failed(first) = log {
        log = first;
    }
    matches!(log, LogError::Io { source, .. } if full(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_in_order() {
        let codes: Vec<u8> = Kind::ALL.iter().map(|kind| kind.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b), "{codes:?}");
        assert!(codes[0] > 0);
        let table = Kind::table();
        for kind in Kind::ALL {
            assert!(table.contains(&format!("  {}  {}", kind.code(), kind.meaning())), "{table}");
        }
    }

    #[test]
    fn a_failure_keeps_its_kind_behind_others() {
        use std::io;
        use std::path::Path;
        use std::sync::Arc;
        let disk = |kind: io::ErrorKind| {
            VfsError::new(hedgerow::disk::VfsOp::Write, Path::new("log"), None, kind.into())
        };
        let behind = |error: VfsError| {
            let log = LogError::Io { doing: "appending", source: error };
            Error::Poisoned { cause: Arc::new(Error::Log(LogError::Failed(Arc::new(log)))) }
        };
        let full = behind(disk(io::ErrorKind::StorageFull));
        assert_eq!((Kind::from(&full), is_full(&full)), (Kind::Io, true));
        let refused = behind(disk(io::ErrorKind::PermissionDenied));
        assert_eq!((Kind::from(&refused), is_full(&refused)), (Kind::Io, false));
        let short = behind(disk(io::ErrorKind::UnexpectedEof));
        assert_eq!(Kind::from(&short), Kind::Damaged);
    }
}
