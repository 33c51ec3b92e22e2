//! Reads by a few threads, for systems that have nothing better.
//!
//! ```text
//!   batch ──► next, next, next ...   each thread, the caller's among them, takes the next read that
//!              ▲     ▲     ▲         nobody has; all are back before the batch is
//!              │     │     │
//!            caller  1 ... 7
//! ```
//!
//! They are made for the batch and end with it. That costs some hundredths of a millisecond, a part of one
//! read from a device: a batch must be long and slow.

use super::{HowRead, ReadAt};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Threads of a batch, the caller's among them.
const THREADS: usize = 8;
/// Threads of all batches together that are not callers'.
const MOST: usize = 32;
/// Shortest batch.
pub(super) const SHORTEST: usize = 16;

static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// A right to have a thread.
struct Permit;

impl Permit {
    fn get() -> Option<Self> {
        let one_more = |running: usize| (running < MOST).then_some(running + 1);
        RUNNING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok().map(|_| Self)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn read(reads: &mut [ReadAt<'_>]) -> HowRead {
    let count = reads.len();
    if count < SHORTEST {
        return super::one_by_one(reads);
    }
    let left = Mutex::new(reads.iter_mut());
    let work = || {
        loop {
            let next = left.lock().next();
            let Some(read) = next else { break };
            read.read_alone();
        }
    };
    let mut threads = 1;
    thread::scope(|scope| {
        for _ in 1..THREADS {
            let Some(permit) = Permit::get() else { break };
            let work = &work;
            let made = thread::Builder::new().name("hedgerow-read".into()).spawn_scoped(
                scope,
                move || {
                    work();
                    drop(permit);
                },
            );
            // The system may have no more.
            if made.is_err() {
                break;
            }
            threads += 1;
        }
        work();
    });
    HowRead { by_threads: count as u64, depth: threads, ..HowRead::default() }
}
