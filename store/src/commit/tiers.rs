//! The jobs of an index in files: who does them, and who waits for them.
//!
//! ```text
//!   submit        wait: as long as memory is full of what is to be written   ◄─────┐ caught up, or failed
//!     │                                                                            │
//!   hash stage    edits: the same in the midst of a block that does not fit   ◄────┤
//!                 block published ► nudge ──► a thread of its own:  shard by shard │
//!                                             job ► step, step .. ► install ───────┘
//!                                             between the steps of a merge: spills of all shards
//!                                             before each: how scarce is memory? ► budget
//! ```
//!
//! A job that fails is tried again when the next block is published, and a second later at the latest. Nobody fails for
//! it before memory is full: then blocks are refused with what went wrong, until a job succeeds. Blocks that were taken in
//! before that go over the budget.

use super::waits::{IndexWaits, WaitReason, Waits};
use crate::opening::limits::{STACK_BYTES, no_thread};
use crate::pressure::{MemoryLevel, MemoryWatch};
use crate::read::given_up::Mark;
use crate::read::published::in_index;
use crate::{Error, Options, points};
use hedgerow_index::{Done, Edit, IndexError, Job, Late, Step, TieredIndex};
use hedgerow_vfs::Vfs;
use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

const NAME: &str = "hedgerow-index";
/// After that a job that failed is tried again, and memory is looked at again.
const PATIENCE: Duration = Duration::from_secs(1);

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Tiers {
    /// One per shard.
    pub(crate) index: Vec<TieredIndex>,
    /// What gives them up, if they may be.
    pub(crate) mark: Option<Arc<Mark>>,
    turn: Arc<Turn>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Turn {
    now: Mutex<Now>,
    changed: Condvar,
    watch: Option<MemoryWatch>,
    disk: Arc<dyn Vfs>,
}

#[derive(Debug)]
struct Now {
    /// The budget that was given, and how much of it the scarcity of memory leaves.
    budget: u64,
    level: MemoryLevel,
    /// There may be a job.
    due: bool,
    /// The store is being closed.
    stop: bool,
    /// Why the last job failed.
    failed: Option<IndexError>,
    /// The thread is gone.
    ended: bool,
    waits: Waits,
    /// Times that all that was due was done.
    passes: u64,
}

impl Tiers {
    /// The indexes of all shards, which have so much memory together.
    pub(crate) fn new(
        index: Vec<TieredIndex>,
        budget: u64,
        options: &Options,
        mark: Option<Arc<Mark>>,
    ) -> Self {
        let now = Now {
            budget,
            level: MemoryLevel::None,
            due: false,
            stop: false,
            failed: None,
            ended: false,
            waits: Waits::default(),
            passes: 0,
        };
        let (watch, disk) = (options.watch.clone(), Arc::clone(&options.disk));
        let turn = Turn { now: Mutex::new(now), changed: Condvar::new(), watch, disk };
        Self { index, mark, turn: Arc::new(turn), thread: Mutex::new(None) }
    }

    /// Starts the thread.
    pub(crate) fn start(&self) -> Result<(), Error> {
        let (index, turn) = (self.index.clone(), Arc::clone(&self.turn));
        let mark = self.mark.clone();
        let body = move || {
            let _end = End(&turn);
            turn.run(&index, mark.as_deref());
        };
        let thread = std::thread::Builder::new().name(NAME.into()).stack_size(STACK_BYTES);
        let thread = thread.spawn(body).map_err(|error| no_thread(NAME, error))?;
        *self.thread.lock() = Some(thread);
        Ok(())
    }

    /// A block was published: there may be a job.
    pub(crate) fn nudge(&self) {
        self.turn.now.lock().due = true;
        self.turn.changed.notify_all();
    }

    /// Waits while memory is full of what is to be written, or merges are behind.
    ///
    /// # Errors
    /// Why it cannot be written; the next call may succeed.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        self.wait_while(&|| self.index.iter().find_map(|index| index.behind().late()))
    }

    /// Applies edits to the index of a shard. What does not fit into memory waits for jobs in the midst of it; if they
    /// fail, it goes over the budget, since the block was taken in.
    pub(crate) fn apply(&self, shard: usize, edits: &[Edit]) -> Result<(), IndexError> {
        let Some(index) = self.index.get(shard) else { return Ok(()) };
        let goes_over = Cell::new(false);
        index.apply_waiting(edits, &|| {
            let late = || index.behind().is_full().then_some(Late::Memory);
            if !goes_over.get() && self.wait_while(&late).is_err() {
                goes_over.set(true);
            }
        })
    }

    fn wait_while(&self, late: &dyn Fn() -> Option<Late>) -> Result<(), Error> {
        let Some(reason) = late() else { return Ok(()) };
        let mut now = self.turn.now.lock();
        let begun = now.waits.begin(match reason {
            Late::Memory => WaitReason::MemoryFull,
            Late::Merges => WaitReason::MergesBehind,
        });
        // A pass that began after now and left nothing to be done has done what can be done.
        let enough = now.passes + 2;
        let mut waited = Ok(());
        while now.passes < enough && late().is_some() {
            if now.ended {
                let reason = "ended before the store was closed".into();
                waited = Err(Error::Thread { name: NAME, reason });
                break;
            }
            if let Some(error) = &now.failed {
                waited = Err(in_index(error.clone()));
                break;
            }
            now.due = true;
            self.turn.changed.notify_all();
            self.turn.changed.wait(&mut now);
        }
        now.waits.end(begun, waited.is_err());
        waited
    }

    /// Gives the indexes another budget together.
    pub(crate) fn set_memory(&self, bytes: u64) {
        let mut now = self.turn.now.lock();
        now.budget = bytes;
        now.share(&self.index);
        drop(now);
        self.nudge();
    }

    /// What is to be told of them beside what each tells.
    pub(crate) fn figures(&self) -> Figures {
        let now = self.turn.now.lock();
        Figures {
            budget: now.budget,
            level: now.level,
            waits: now.waits.read(now.failed.is_some()),
            failing: now.failed.as_ref().map(ToString::to_string),
        }
    }

    /// Ends the thread. What it had begun leaves nothing behind.
    pub(crate) fn stop(&self) {
        self.turn.now.lock().stop = true;
        self.turn.changed.notify_all();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a panic while the index was written");
        }
    }

    /// In a forked copy of the process, where the thread is not.
    pub(crate) fn forget(&self) {
        if let Some(mut thread) = self.thread.try_lock() {
            std::mem::forget(thread.take());
        }
    }
}

/// See [`Tiers::figures`].
pub(crate) struct Figures {
    /// The budget that was given.
    pub(crate) budget: u64,
    pub(crate) level: MemoryLevel,
    pub(crate) waits: IndexWaits,
    /// Why the last job failed, if it did.
    pub(crate) failing: Option<String>,
}

impl Now {
    /// Gives each index its part of what is left of the budget.
    fn share(&self, index: &[TieredIndex]) {
        let each = self.level.of_budget(self.budget) / index.len().max(1) as u64;
        let each = usize::try_from(each).unwrap_or(usize::MAX);
        index.iter().for_each(|index| index.set_memory(each));
    }
}

/// Says that the thread is gone, however it ends.
struct End<'a>(&'a Turn);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.now.lock().ended = true;
        self.0.changed.notify_all();
    }
}

impl Turn {
    fn run(&self, index: &[TieredIndex], mark: Option<&Mark>) {
        loop {
            {
                let mut now = self.now.lock();
                while !now.due && !now.stop {
                    if now.failed.is_some() || self.watch.is_some() {
                        now.due = self.changed.wait_for(&mut now, PATIENCE).timed_out();
                    } else {
                        self.changed.wait(&mut now);
                    }
                }
                if now.stop {
                    return;
                }
                now.due = false;
            }
            let done = index.iter().try_for_each(|one| self.work_off(one, index));
            let done = done.map_err(|error| match mark {
                Some(mark) => mark.note(error),
                None => error,
            });
            let mut now = self.now.lock();
            if let Err(error) = &done {
                tracing::warn!(%error, "a part of the index stays in memory until it can be written");
            }
            now.failed = done.err();
            now.passes += u64::from(now.failed.is_none());
            self.changed.notify_all();
        }
    }

    /// Looks how scarce memory is.
    fn look(&self, index: &[TieredIndex]) {
        let Some(figures) = self.watch.as_ref().and_then(MemoryWatch::figures) else { return };
        let mut now = self.now.lock();
        let level = now.level.after(figures);
        if level != now.level {
            tracing::info!(?level, ?figures, "the index has another part of its budget");
            now.level = level;
            now.share(index);
        }
    }

    /// Does what is due in a shard, one of `all`.
    fn work_off(&self, index: &TieredIndex, all: &[TieredIndex]) -> Result<(), IndexError> {
        self.look(all);
        while let Some(job) = index.work() {
            let Some(done) = self.run_job(job, all)? else { return Ok(()) };
            self.install(index, done);
        }
        Ok(())
    }

    /// Lets be seen what was done. Whoever waits may go on before all shards are done.
    fn install(&self, index: &TieredIndex, done: Done) {
        index.install(done);
        let mut now = self.now.lock();
        now.failed = None;
        self.changed.notify_all();
    }

    /// Spills what is due in any shard: nobody waits for memory while a long merge goes on.
    fn spill_first(&self, all: &[TieredIndex]) -> Result<(), IndexError> {
        for index in all {
            while let Some(job) = index.spill() {
                let Some(done) = self.run_job(job, all)? else { return Ok(()) };
                self.install(index, done);
            }
        }
        Ok(())
    }

    /// Does a job, and between the steps of a merge the spills that come due; `None` if the store is being closed.
    fn run_job(&self, mut job: Job, all: &[TieredIndex]) -> Result<Option<Done>, IndexError> {
        let is_spill = job.is_spill();
        let (begin, written) = if is_spill {
            (points::INDEX_SPILL_BEGIN, points::INDEX_SPILL_WRITTEN)
        } else {
            (points::INDEX_MERGE_BEGIN, points::INDEX_MERGE_WRITTEN)
        };
        self.disk.at_point(begin)?;
        loop {
            self.look(all);
            if self.now.lock().stop {
                return Ok(None);
            }
            match job.step()? {
                Step::More(more) => {
                    job = *more;
                    if !is_spill {
                        self.spill_first(all)?;
                    }
                }
                Step::Done(done) => {
                    self.disk.at_point(written)?;
                    return Ok(Some(*done));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use hedgerow_index::{Index, Place, TieredOptions};
    use hedgerow_types::{KeyHash, LogPosition, SerialNumber, ShardId};
    use hedgerow_vfs::MemDisk;

    /// So many keys of a shard, spread evenly, from the `first` on.
    fn creates(first: u64, count: u64) -> Vec<Edit> {
        let create = |n: u64| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 4).to_be_bytes());
            let new = Place { at: LogPosition(8 * n), sn: SerialNumber(n) };
            Edit { key: KeyHash(key), old: None, new: Some(new) }
        };
        let mut edits: Vec<_> = (first..first + count).map(create).collect();
        edits.sort_unstable_by_key(|edit| edit.key);
        edits
    }

    /// A merge of many steps is under way when another shard's memory is full: it is spilled before the merge is
    /// done, and so is what comes to the shard that is merged.
    #[test]
    fn a_spill_does_not_wait_for_a_merge() {
        let disk: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let of_shard = |number| TieredOptions {
            folder: "/index".into(),
            store: [1; 16],
            shard: ShardId::new(number).unwrap(),
            memory_bytes: 1 << 20,
        };
        let create = |n| TieredIndex::create(Arc::clone(&disk), of_shard(n)).unwrap();
        let index = [create(0), create(1)];
        let mut next = 1;
        let mut fill = |index: &TieredIndex| {
            index.apply(&creates(next, 4000)).unwrap();
            next += 4000;
        };
        let merge = loop {
            match index[0].work() {
                Some(job) if !job.is_spill() && job.records() > 100_000 => break job,
                Some(job) => index[0].install(job.run().unwrap()),
                None => fill(&index[0]),
            }
        };
        while !index[1].behind().is_late() {
            fill(&index[1]);
        }
        fill(&index[0]);
        let options = Options::new().disk(Arc::clone(&disk));
        let tiers = Tiers::new(index.to_vec(), 2 << 20, &options, None);
        let before = index.each_ref().map(|index| index.stats());
        let done = tiers.turn.run_job(merge, &index).unwrap().unwrap();
        let after = index.each_ref().map(|index| index.stats());
        assert!(after[1].spills > before[1].spills, "{after:?}");
        assert!(!index[1].behind().is_late());
        tiers.turn.install(&index[0], done);
        assert_eq!(index[0].stats().merges, before[0].merges + 1);
        let keys: Vec<KeyHash> = creates(1, next - 1).iter().map(|edit| edit.key).collect();
        let found: usize = index
            .iter()
            .map(|index| {
                let mut found = vec![];
                index.candidates(&keys, &mut found).unwrap();
                found.len()
            })
            .sum();
        assert_eq!(found as u64, next - 1, "each key is in one of them");
    }
}
