//! What is to go wrong at which call, and what was called so far.

use crate::VfsOp;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;

/// Calls of a [`PowerLossDisk`](super::PowerLossDisk).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Every call.
    All,
    /// Calls that change something or make it durable: creating, removing, renaming, locking,
    /// writing, setting a length, syncing. Of a store on one disk they come in the same order
    /// whenever its blocks are handed in at the same moments and each when the one before is tidied after;
    /// else what follows a block's record is written beside the records of later ones.
    Changes,
    /// Calls of one operation on paths that contain a text; the empty text is in every path.
    Of(VfsOp, String),
    /// Arrivals at a named point, see [`Vfs::at_point`](crate::Vfs::at_point).
    Point(String),
}

impl Calls {
    pub(super) fn contain(&self, op: VfsOp, path: &Path) -> bool {
        match self {
            Self::All => op != VfsOp::Point,
            Self::Changes => op.changes(),
            Self::Of(wanted, text) => {
                *wanted == op && (text.is_empty() || path.to_string_lossy().contains(&**text))
            }
            Self::Point(name) => op == VfsOp::Point && path.as_os_str() == &**name,
        }
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// The medium fails (EIO). A write may have happened in part. A sync reaches the medium in part,
    /// and the rest counts as synced from then on: it stays visible until the power goes, and no
    /// later sync saves it. Other changes may have happened all the same.
    Eio,
    /// There is no room (ENOSPC). A write may have happened in part.
    Full,
    /// The system refuses (EACCES), and nothing has happened.
    Denied,
    /// A signal came (EINTR), and nothing has happened. Not for reads and writes: there the loops
    /// around the system's calls hide it, see [`short_calls`](super::PowerLossDisk::short_calls).
    Interrupted,
    /// The path is not there (ENOENT), for this call at least.
    Missing,
    /// The power goes: this call and all later ones fail. A write may have happened in part.
    PowerOff,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Eio, Self::Full, Self::Denied, Self::Interrupted, Self::Missing, Self::PowerOff];

    /// Whether nothing at all has happened when a call fails in this way.
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::Denied | Self::Interrupted | Self::Missing)
    }

    pub(super) fn reason(self) -> std::io::Error {
        match self {
            Self::Eio => std::io::Error::other("injected: input/output error"),
            Self::Full => {
                std::io::Error::new(std::io::ErrorKind::StorageFull, "injected: no space left")
            }
            Self::Denied => std::io::Error::new(
                std::io::ErrorKind::PermissionDenied,
                "injected: permission denied",
            ),
            Self::Interrupted => {
                std::io::Error::new(std::io::ErrorKind::Interrupted, "injected: a signal came")
            }
            Self::Missing => {
                std::io::Error::new(std::io::ErrorKind::NotFound, "injected: no such file")
            }
            Self::PowerOff => std::io::Error::other("the power is off"),
        }
    }
}

/// One thing that is to go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Among these calls,
    pub calls: Calls,
    /// after this many of them, counted from when the fault was planned,
    pub after: u64,
    /// the next this many
    pub times: u64,
    /// fail in this way.
    pub kind: FaultKind,
}

impl Fault {
    /// The call after `after` others of `calls` fails, once.
    pub const fn once(calls: Calls, after: u64, kind: FaultKind) -> Self {
        Self { calls, after, times: 1, kind }
    }

    /// As [`Fault::once`], and every later one of them fails too.
    pub const fn from_then_on(calls: Calls, after: u64, kind: FaultKind) -> Self {
        Self { calls, after, times: u64::MAX, kind }
    }
}

/// A call that failed on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The operation.
    pub op: VfsOp,
    /// The path, or the name of the point.
    pub path: std::path::PathBuf,
    /// How.
    pub kind: FaultKind,
    /// The named point that was reached last before.
    pub point: Option<String>,
}

/// How many calls are kept in [`Trace::recent`].
const RECENT: usize = 24;

/// What was called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Calls of every kind, named points not counted.
    pub calls: u64,
    /// Calls that changed something, see [`Calls::Changes`].
    pub changes: u64,
    /// Calls of each operation.
    pub by_op: HashMap<VfsOp, u64>,
    /// A digest of all changes in order: operation, path, offset, length. Two runs with the same
    /// digest did the same things to the disk.
    pub digest: u64,
    /// How often each named point was reached.
    pub points: BTreeMap<String, u64>,
    /// Calls that failed on purpose, but those after the power went.
    pub failed: Vec<Failed>,
    /// Claims that were not true, see [`claim`](super::PowerLossDisk::claim).
    pub broken: Vec<String>,
    /// The last changes and points, oldest first, as text.
    pub recent: VecDeque<String>,
}

impl Trace {
    pub(super) fn note(&mut self, op: VfsOp, path: &Path, offset: Option<u64>, len: Option<u64>) {
        if op == VfsOp::Point {
            let name = path.to_string_lossy().into_owned();
            self.recent.push_back(format!("-- {name}"));
            *self.points.entry(name).or_default() += 1;
        } else {
            self.calls += 1;
            *self.by_op.entry(op).or_default() += 1;
            if !op.changes() {
                return;
            }
            self.changes += 1;
            let text = format!("{op} {} {offset:?} {len:?}", path.display());
            // FNV-1a, from the digest so far.
            let start = if self.digest == 0 { 0xCBF2_9CE4_8422_2325 } else { self.digest };
            let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
            self.digest = text.bytes().chain([b'\n']).fold(start, step);
            self.recent.push_back(text);
        }
        while self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// The named point that was reached last.
    pub fn last_point(&self) -> Option<&str> {
        self.recent.iter().rev().find_map(|line| line.strip_prefix("-- "))
    }
}
