//! What blocks waited for, how often and for how long.
//!
//! ```text
//!   wait begins ─► now: one more waits for this ─► ends ─► times and time of this
//!                                                └ refused, since the disk fails ─► of that
//! ```

use std::time::{Duration, Instant};

/// What blocks wait for at an index in files.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{IndexMode, Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let options = options.index(IndexMode::Tiered { memory_bytes: 64 << 20 });
/// # let store = Store::create("/state", StoreParams::default(), options)?;
/// use hedgerow::WaitReason;
/// let index = store.reader().stats().index.expect("it is in files");
/// let what_helps = match index.waits.now {
///     None => "nothing is waited for",
///     Some(WaitReason::DiskFailing) => "room on the disk",
///     Some(_) => "a larger budget, or a faster disk",
/// };
/// assert_eq!(what_helps, "nothing is waited for");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum WaitReason {
    /// The index's memory is full of records that are being written to files.
    MemoryFull,
    /// There are so many files that look-ups would become slow: they are being merged.
    MergesBehind,
    /// Memory is full, and what is in it cannot be written: the disk is full or fails. Blocks are refused until it can be.
    DiskFailing,
}

/// How often blocks waited for something, and for how long.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{IndexMode, Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let options = options.index(IndexMode::Tiered { memory_bytes: 64 << 20 });
/// # let store = Store::create("/state", StoreParams::default(), options)?;
/// let waits = store.stats().index.expect("it is in files").waits;
/// let waited = waits.memory_full;
/// assert_eq!((waited.times, waited.time.as_secs()), (0, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Waited {
    /// Times.
    pub times: u64,
    /// How long, together.
    pub time: Duration,
}

/// What blocks waited for since the store was opened: those that come in, and those that are published, whose shards
/// count each by itself.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{IndexMode, Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let options = options.index(IndexMode::Tiered { memory_bytes: 64 << 20 });
/// # let store = Store::create("/state", StoreParams::default(), options)?;
/// let waits = store.stats().index.expect("it is in files").waits;
/// assert_eq!((waits.now, waits.times()), (None, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct IndexWaits {
    /// What is waited for now.
    pub now: Option<WaitReason>,
    /// For [`WaitReason::MemoryFull`].
    pub memory_full: Waited,
    /// For [`WaitReason::MergesBehind`].
    pub merges_behind: Waited,
    /// For [`WaitReason::DiskFailing`]: times that a block was refused, or went over the budget.
    pub disk_failing: Waited,
}

impl IndexWaits {
    /// Times that was waited, for whatever.
    pub const fn times(&self) -> u64 {
        self.memory_full.times + self.merges_behind.times + self.disk_failing.times
    }

    /// How long was waited, for whatever.
    pub fn time(&self) -> Duration {
        self.memory_full.time + self.merges_behind.time + self.disk_failing.time
    }
}

/// A wait that has begun.
pub(super) struct Begun {
    reason: WaitReason,
    at: Instant,
}

/// The account.
#[derive(Debug, Default)]
pub(super) struct Waits {
    all: IndexWaits,
    /// How many wait now.
    waiting: usize,
}

impl Waits {
    pub(super) fn begin(&mut self, reason: WaitReason) -> Begun {
        self.waiting += 1;
        self.all.now = Some(reason);
        Begun { reason, at: Instant::now() }
    }

    pub(super) fn end(&mut self, begun: Begun, failed: bool) {
        self.waiting -= 1;
        if self.waiting == 0 {
            self.all.now = None;
        }
        let all = &mut self.all;
        let waited = match begun.reason {
            _ if failed => &mut all.disk_failing,
            WaitReason::MergesBehind => &mut all.merges_behind,
            _ => &mut all.memory_full,
        };
        waited.times += 1;
        waited.time += begun.at.elapsed();
    }

    /// What there is to tell; `failing` if nothing can be written.
    pub(super) fn read(&self, failing: bool) -> IndexWaits {
        let now = self.all.now.map(|now| if failing { WaitReason::DiskFailing } else { now });
        IndexWaits { now, ..self.all }
    }
}
