//! The jobs of an index in files: who does them, and who waits for them.
//!
//! ```text
//!   submit        wait: as long as memory is full of what is to be written   ◄─────┐ caught up, or failed
//!     │                                                                            │
//!   hash stage    block published ► nudge ──► a thread of its own:  shard by shard │
//!                                             job ► step, step .. ► install ───────┘
//! ```
//!
//! A job that fails is tried again when the next block is published, and a second later at the latest. Nobody fails for
//! it before memory is full: then blocks are refused with what went wrong, until a job succeeds.

use crate::Error;
use crate::opening::limits::{STACK_BYTES, no_thread};
use crate::read::given_up::Mark;
use crate::read::published::in_index;
use hedgerow_index::{IndexError, Job, Step, TieredIndex};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

const NAME: &str = "hedgerow-index";
/// After that a job that failed is tried again.
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

#[derive(Debug, Default)]
struct Turn {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Now {
    /// There may be a job.
    due: bool,
    /// The store is being closed.
    stop: bool,
    /// Why the last job failed.
    failed: Option<IndexError>,
    /// The thread is gone.
    ended: bool,
    /// Times that a block waited.
    waited: u64,
    /// Times that all that was due was done.
    passes: u64,
}

impl Tiers {
    /// The indexes of all shards.
    pub(crate) fn new(index: Vec<TieredIndex>, mark: Option<Arc<Mark>>) -> Self {
        Self { index, mark, turn: Arc::default(), thread: Mutex::new(None) }
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

    /// Waits while memory is full of what is to be written.
    ///
    /// # Errors
    /// Why it cannot be written; the next call may succeed.
    pub(crate) fn wait(&self) -> Result<(), Error> {
        let late = || self.index.iter().any(|index| index.behind().is_late());
        if !late() {
            return Ok(());
        }
        let mut now = self.turn.now.lock();
        now.waited += 1;
        // A pass that began after now and left nothing to be done has done what can be done.
        let enough = now.passes + 2;
        while now.passes < enough && late() {
            if now.ended {
                let reason = "ended before the store was closed".into();
                return Err(Error::Thread { name: NAME, reason });
            }
            if let Some(error) = &now.failed {
                return Err(in_index(error.clone()));
            }
            now.due = true;
            self.turn.changed.notify_all();
            self.turn.changed.wait(&mut now);
        }
        Ok(())
    }

    /// Gives the indexes another budget together.
    pub(crate) fn set_memory(&self, bytes: u64) {
        let each = usize::try_from(bytes / self.index.len().max(1) as u64).unwrap_or(usize::MAX);
        self.index.iter().for_each(|index| index.set_memory(each));
        self.nudge();
    }

    /// Times that a block waited, and why the last job failed, if it did.
    pub(crate) fn figures(&self) -> (u64, Option<String>) {
        let now = self.turn.now.lock();
        (now.waited, now.failed.as_ref().map(ToString::to_string))
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
                    if now.failed.is_some() {
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
            let done = index.iter().try_for_each(|index| self.work_off(index));
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

    /// Does what is due in a shard.
    fn work_off(&self, index: &TieredIndex) -> Result<(), IndexError> {
        while let Some(job) = index.work() {
            let Some(done) = self.run_job(job)? else { return Ok(()) };
            index.install(done);
            // Whoever waits may go on before all shards are done.
            let mut now = self.now.lock();
            now.failed = None;
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Does a job; `None` if the store is being closed.
    fn run_job(&self, mut job: Job) -> Result<Option<hedgerow_index::Done>, IndexError> {
        loop {
            if self.now.lock().stop {
                return Ok(None);
            }
            match job.step()? {
                Step::More(more) => job = *more,
                Step::Done(done) => return Ok(Some(*done)),
            }
        }
    }
}
