//! The rings of this process: a few, each used by one thread at a time.
//!
//! ```text
//!   thread ──► its own slot ── taken? ──► the next ... ──► none left: do without
//!                 │ empty
//!                 ▼
//!              a new ring, kept for the next batch
//! ```
//!
//! A batch takes a slot and gives it back, so that threads meet at no lock while they read, and none waits.
//! A ring is a file descriptor and up to half a MiB of memory.

use super::ring::Ring;
use parking_lot::Mutex;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most rings.
const MOST: usize = 16;

static SLOTS: [Mutex<Slot>; MOST] = [const { Mutex::new(Slot::Empty) }; MOST];

/// What the kernel said when it was asked for the first ring.
static REFUSED: OnceLock<Option<String>> = OnceLock::new();

#[derive(Debug)]
enum Slot {
    Empty,
    /// And the process that made it: a ring is of no use to a child.
    Idle(Box<Ring>, u32),
    /// A ring failed here. It is not tried again, so that no more than one per slot can be leaked.
    Dead,
}

/// Twice as many as there are cores, since who waits for a device needs none.
fn slots() -> &'static [Mutex<Slot>] {
    static COUNT: OnceLock<usize> = OnceLock::new();
    let count = COUNT.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (2 * cores).clamp(4, MOST)
    });
    SLOTS.get(..*count).unwrap_or(&SLOTS)
}

/// Why there are no rings; `None` if there are.
pub(super) fn refused() -> Option<String> {
    if let Some(refused) = REFUSED.get() {
        return refused.clone();
    }
    match with_ring(|_| Ok(())) {
        Some(_) => None,
        // It may be another one's turn, or a lack of files that passes.
        None => REFUSED.get().cloned().unwrap_or_else(|| Some("no ring can be had now".into())),
    }
}

/// Runs `work` with a ring, unless none can be had now or `work` fails; the ring is then gone.
pub(super) fn with_ring<T>(work: impl FnOnce(&mut Ring) -> io::Result<T>) -> Option<T> {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static HOME: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    if matches!(REFUSED.get(), Some(Some(_))) {
        return None;
    }
    let (slots, home) = (slots(), HOME.with(|home| *home));
    let free = |i: usize| slots.get((home + i) % slots.len().max(1))?.try_lock();
    let mut slot = (0..slots.len()).filter_map(free).find(|slot| !matches!(**slot, Slot::Dead))?;
    let process = std::process::id();
    let mut ring = match std::mem::replace(&mut *slot, Slot::Empty) {
        Slot::Idle(ring, by) if by == process => ring,
        Slot::Idle(ring, _) => {
            // Its memory is not here, and what it is at work on is the parent's.
            std::mem::forget(ring);
            made(Ring::new())?
        }
        Slot::Empty | Slot::Dead => made(Ring::new())?,
    };
    match work(&mut ring) {
        Ok(done) => {
            *slot = Slot::Idle(ring, process);
            Some(done)
        }
        Err(_) => {
            *slot = Slot::Dead;
            None
        }
    }
}

/// Remembers whether rings can be had at all.
fn made(ring: io::Result<Ring>) -> Option<Box<Ring>> {
    match ring {
        Ok(ring) => {
            REFUSED.get_or_init(|| None);
            Some(Box::new(ring))
        }
        Err(error) => {
            if !passes(&error) {
                REFUSED.get_or_init(|| Some(format!("io_uring: {error}")));
            }
            None
        }
    }
}

/// Whether it may be different another time: too many files, no memory.
fn passes(error: &io::Error) -> bool {
    crate::error::is_too_many_files(error) || error.kind() == io::ErrorKind::OutOfMemory
}
