//! Power loss against the model: random blocks, a crash at a random call or a named point, and what
//! opens afterwards must be the state after some block, with at least all durable ones.
//!
//! ```text
//!   session   one seed: a compaction rule, a shape of blocks, a disk, a model
//!     │
//!     ├─ cycle   options, a plan (what fails, where)
//!     │    open ► blocks in groups, rollbacks ► the plan strikes ► the process goes, perhaps the power too
//!     │    open what survived ► height h: durable <= h <= accepted, or that of a rollback that did not end
//!     │                         model at h = store: roots, values, history, proofs, check
//!     ├─ cycle   goes on from there
//!     └─ ...
//! ```
//!
//! Some sessions are in step: the blocks of a group gather behind a sync that is held back, so that the
//! disk sees the same calls in the same order whenever the session is run again. Others run freely, with
//! several threads: there a seed gives the same blocks and plans, not the same interleaving. Most of these have an
//! index in files, with as little memory as there may be, so that it is spilled and merged all the time.

mod beside;
mod choose;
pub mod command;
mod compare;
mod creation;
pub(crate) mod cycle;
pub(crate) mod image;
mod reach;
pub(crate) mod session;

pub use creation::every_creation;
pub(crate) use cycle::{check_cause, submit_net};
pub(crate) use image::Image;
pub use reach::Reach;
pub(crate) use session::dir as store_dir;
pub use session::{CYCLES_PER_SESSION, Outcome, Session};

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long to go on: until there were so many cycles, and this much time has passed.
#[derive(Clone, Copy, Debug)]
pub struct Until {
    /// At least this many cycles,
    pub cycles: u64,
    /// and of these with an index in files.
    pub tiered: u64,
    /// At least this long.
    pub time: Duration,
}

/// What all sessions came to.
#[derive(Debug, Default)]
pub struct Summary {
    /// Sessions that were run.
    pub sessions: u64,
    /// Seed of the first; they are consecutive.
    pub first_seed: u64,
    /// What happened how often.
    pub reach: Reach,
    /// Failures: the seed of the session and what went wrong.
    pub failures: Vec<(u64, String)>,
    /// How long it took.
    pub time: Duration,
}

/// Runs sessions with consecutive seeds from `first_seed` on, on as many threads as there are cores.
/// Stops at the first failure.
pub fn run(first_seed: u64, until: Until) -> Summary {
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let cycles = AtomicU64::new(0);
    let tiered = AtomicU64::new(0);
    let failed = AtomicU64::new(0);
    let go_on = || {
        failed.load(Ordering::SeqCst) == 0
            && (cycles.load(Ordering::SeqCst) < until.cycles
                || tiered.load(Ordering::SeqCst) < until.tiered
                || started.elapsed() < until.time)
    };
    let work = || {
        let mut reach = Reach::default();
        let mut failures = Vec::new();
        let mut sessions = 0;
        while go_on() {
            let seed = first_seed + next.fetch_add(1, Ordering::SeqCst);
            let outcome = Session::run(seed, CYCLES_PER_SESSION);
            sessions += 1;
            cycles.fetch_add(outcome.reach.cycles(), Ordering::SeqCst);
            tiered.fetch_add(outcome.reach.tiered_cycles(), Ordering::SeqCst);
            reach.merge(&outcome.reach);
            if let Err(what) = outcome.result {
                failed.fetch_add(1, Ordering::SeqCst);
                failures.push((seed, what));
            }
        }
        (sessions, reach, failures)
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let mut summary = Summary { first_seed, ..Summary::default() };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let Ok((sessions, reach, failures)) = worker.join() else {
                summary.failures.push((first_seed, "a session panicked".into()));
                continue;
            };
            summary.sessions += sessions;
            summary.reach.merge(&reach);
            summary.failures.extend(failures);
        }
    });
    summary.time = started.elapsed();
    summary
}
