//! Where the time of blocks goes: how long each step of their way takes.
//!
//! ```text
//!   the writer's thread   wait ─► resolve ─► update ─► record ─┬─► hash ─► publish    hash stage
//!                                                              └─► write ─► sync      log stage, many blocks at once
//!                                              manifest, now and then                 commit stage
//!
//!   a step ends ─► Recorder: buckets, sum, maximum ─► Steps, whenever somebody asks
//!              └─► Emitter: the same to a recorder of the crate `metrics`, if the feature of that name is on
//! ```
//!
//! A *step* is a part of the way of a block, a *stage* is a thread that does some of them; a `commit` that waits for the disk may write
//! and sync on the writer's. Two readings of the clock
//! for each step, and four for each shard that a block touches, because shards resolve and update in parallel.

#[cfg(feature = "metrics")]
mod emit;
#[cfg(not(feature = "metrics"))]
#[path = "silent.rs"]
mod emit;
mod histogram;

pub(crate) use emit::Emitter;
pub use histogram::Durations;

use hedgerow_state::Spent;
use histogram::Recorder;
use std::ops::Index;
use std::time::{Duration, Instant};

/// A step of a block's way, whose time is taken.
///
/// ```
/// use hedgerow::Step;
/// let names: Vec<_> = Step::all().map(Step::name).collect();
/// assert_eq!(
///     names,
///     ["wait", "resolve", "update", "record", "hash", "publish", "write", "sync", "manifest"]
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Step {
    /// Waits for room, while as much is in flight as [may be](crate::Options::max_in_flight), or an index in files is
    /// behind. Once per block that is handed in.
    Wait,
    /// Hashes the keys, looks them up, reads the old entries, and validates strict operations. Once per block that is
    /// made, whether handed in or speculative. Shards do it in parallel, and each goes on to the update by itself: what
    /// the two take together is divided as the time of the shards' threads is.
    Resolve,
    /// Makes the new entries, sets active bits, moves entries. As [`Step::Resolve`]; of an import the only one of the two,
    /// as long as its keys ascend.
    Update,
    /// Gives the new entries their places in the log. Once per block that is made.
    Record,
    /// The tree pass: to the root and the records of twigs. Once per block, speculative ones included; one that is
    /// accepted is not hashed again.
    Hash,
    /// Edits the index and the tree that readers see. Once per block.
    Publish,
    /// Hands records to the system. One write has all blocks that wait for it.
    Write,
    /// Waits until the disk says that they survive power loss. Once per write.
    Sync,
    /// Syncs twig records and undo records, and commits the manifest with the history. Once per manifest, which has
    /// [many blocks](crate::Options::manifest_blocks).
    Manifest,
}

/// How many there are.
const STEPS: usize = 9;

impl Step {
    const ALL: [Self; STEPS] = [
        Self::Wait,
        Self::Resolve,
        Self::Update,
        Self::Record,
        Self::Hash,
        Self::Publish,
        Self::Write,
        Self::Sync,
        Self::Manifest,
    ];

    /// All of them, in the order of a block's way.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter()
    }

    /// Its name, as in metrics and in what the program prints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wait => "wait",
            Self::Resolve => "resolve",
            Self::Update => "update",
            Self::Record => "record",
            Self::Hash => "hash",
            Self::Publish => "publish",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Manifest => "manifest",
        }
    }
}

/// How one step fared.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Step, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// store.next_block()?.commit()?;
/// store.flush()?;
/// let sync = &store.stats().steps[Step::Sync];
/// assert_eq!((sync.durations.count(), sync.failed), (1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StepStats {
    /// How long it took, each time that it ended, well or not.
    pub durations: Durations,
    /// How often it ended with an error. A block that is refused (see [`Error::Refused`](crate::Error::Refused)) ends its
    /// [`Step::Resolve`] or [`Step::Update`] so.
    pub failed: u64,
}

/// How long each step of the blocks' way took since the store was opened, or [between](Steps::since) two moments.
/// A store that is only looked at has taken none.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Step, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// let before = store.stats().steps;
/// let mut block = store.next_block()?;
/// block.put("alice", "100")?;
/// block.commit()?;
/// let interval = store.stats().steps.since(&before);
/// for (step, stats) in interval.iter() {
///     let (times, share) = (interval.per_second(step), interval.share(step));
///     println!("{:8} {times:.0} per second, busy {:.1} %", step.name(), share * 100.0);
///     println!("         99 of 100 within {:?}", stats.durations.quantile(0.99));
/// }
/// assert_eq!(interval[Step::Hash].durations.count(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    each: [StepStats; STEPS],
    over: Duration,
}

impl Steps {
    /// Each with its figures, in the order of a block's way.
    pub fn iter(&self) -> impl Iterator<Item = (Step, &StepStats)> {
        Step::all().zip(&self.each)
    }

    /// The time in which these were counted: since the store was opened, or between the two moments.
    pub const fn over(&self) -> Duration {
        self.over
    }

    /// What came after `earlier`, which was told of the same open store before.
    pub fn since(&self, earlier: &Self) -> Self {
        let each = std::array::from_fn(|number| {
            let (now, then) = (&self.each[number], &earlier.each[number]);
            let failed = now.failed.saturating_sub(then.failed);
            StepStats { durations: now.durations.since(&then.durations), failed }
        });
        Self { each, over: self.over.saturating_sub(earlier.over) }
    }

    /// How often a step ended, per second.
    pub fn per_second(&self, step: Step) -> f64 {
        ratio(self[step].durations.count() as f64, self.over)
    }

    /// The share of the time in which a step was under way: 1 is all the time. It is more only where blocks are made
    /// by several threads at once, as speculative ones can be.
    pub fn share(&self, step: Step) -> f64 {
        ratio(self[step].durations.sum().as_secs_f64(), self.over)
    }
}

fn ratio(what: f64, over: Duration) -> f64 {
    if over.is_zero() { 0.0 } else { what / over.as_secs_f64() }
}

impl Index<Step> for Steps {
    type Output = StepStats;

    fn index(&self, step: Step) -> &StepStats {
        &self.each[step as usize]
    }
}

/// `{"over_ns", "wait": {"durations", "failed"}, "resolve": ..}`
#[cfg(feature = "serde")]
impl serde::Serialize for Steps {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let mut map = serializer.serialize_map(Some(STEPS + 1))?;
        let over = u64::try_from(self.over.as_nanos()).unwrap_or(u64::MAX);
        map.serialize_entry("over_ns", &over)?;
        for (step, stats) in self.iter() {
            map.serialize_entry(step.name(), stats)?;
        }
        map.end()
    }
}

#[derive(Debug, Default)]
struct Account {
    durations: Recorder,
    failed: std::sync::atomic::AtomicU64,
}

/// The account of an open store.
#[derive(Debug)]
pub(crate) struct StepTimes {
    opened: Instant,
    each: [Account; STEPS],
    pub(crate) emitter: Emitter,
}

impl StepTimes {
    pub(crate) fn new(emitter: Emitter) -> Self {
        Self { opened: Instant::now(), each: Default::default(), emitter }
    }

    /// Does a step, and takes its time.
    pub(crate) fn time<T, E>(
        &self,
        step: Step,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let begun = Instant::now();
        let result = work();
        self.note(step, begun.elapsed(), result.is_err());
        result
    }

    /// A step took so long.
    fn note(&self, step: Step, took: Duration, failed: bool) {
        let account = &self.each[step as usize];
        account.durations.add(took);
        if failed {
            account.failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        self.emitter.step(step, took, failed);
    }

    /// What a block spent on the first two steps.
    pub(crate) fn note_spent(&self, spent: &Spent, failed: bool) {
        let resolved = spent.update.is_some();
        self.note(Step::Resolve, spent.resolve, failed && !resolved);
        if let Some(took) = spent.update {
            self.note(Step::Update, took, failed);
        }
    }

    pub(crate) fn read(&self) -> Steps {
        let each = std::array::from_fn(|number| {
            let account = &self.each[number];
            let failed = account.failed.load(std::sync::atomic::Ordering::Relaxed);
            StepStats { durations: account.durations.read(), failed }
        });
        Steps { each, over: self.opened.elapsed() }
    }
}
