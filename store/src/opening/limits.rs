//! The limits of the process, asked before one of them ends it.
//!
//! ```text
//!   threads        starting one fails: an error          names `ulimit -u`
//!   stack          too small: the process dies           threads of our own with a stack of our own
//!   address space  too small: the process aborts         asked before opening, `ulimit -v`
//!   open files     opening one fails: an error           few are kept open (entryfile), `ulimit -n`
//! ```
//!
//! What a store needs grows with it, so that opening can succeed and a later allocation fail. What is
//! asked here is what every store needs.

use crate::{Error, Options};
use hedgerow_vfs::limits::address_space_left;
use std::fmt::Display;
use std::thread;

/// Stack of every thread of a store, whatever the environment says: they go less deep than a quarter of
/// it.
pub(crate) const STACK_BYTES: usize = 2 << 20;

/// What the C library may set aside for a thread that allocates, as long as it can. It does without if
/// it must, so that one for every few threads is counted.
const ARENA_BYTES: u64 = 64 << 20;
/// How few.
const THREADS_PER_ARENA: u64 = 8;

/// What a small store needs besides threads and caches: twice what was measured, since what is short
/// after opening is an abort.
const BASE_BYTES: u64 = 128 << 20;

/// Stages and the thread that opens.
const OWN_THREADS: u64 = 3;

/// Runs `work` on a thread with a stack that is large enough, whatever the caller's is.
pub(crate) fn on_own_stack<T: Send>(
    name: &'static str,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    let dispatch = tracing::dispatcher::get_default(Clone::clone);
    let work = || tracing::dispatcher::with_default(&dispatch, work);
    thread::scope(|scope| {
        let builder = thread::Builder::new().name(name.into()).stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, work).map_err(|error| no_thread(name, error))?;
        thread
            .join()
            .unwrap_or_else(|_| Err(Error::Thread { name, reason: "ended in a panic".into() }))
    })
}

/// The error for a thread that could not be started.
pub(crate) fn no_thread(name: &'static str, error: impl Display) -> Error {
    let left = address_space_left()
        .map_or(String::new(), |bytes| format!(", of the latter {} MiB are left", bytes >> 20));
    let reason = format!(
        "{error}; the limits of this process for it are those of threads (ulimit -u) and of address \
         space (ulimit -v){left}"
    );
    Error::Thread { name, reason }
}

/// Refuses to open a store for which there is no room.
pub(crate) fn check(options: &Options) -> Result<(), Error> {
    let Some(left) = address_space_left() else { return Ok(()) };
    let threads = match options.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        some => some,
    };
    let threads = (threads as u64).saturating_mul(2).saturating_add(OWN_THREADS);
    let needed = threads
        .saturating_mul(STACK_BYTES as u64)
        .saturating_add((threads / THREADS_PER_ARENA).saturating_mul(ARENA_BYTES))
        .saturating_add(options.entry_cache_bytes)
        .saturating_add(options.tail_bytes)
        .saturating_add(options.mapped_bytes.unwrap_or(0))
        .saturating_add(BASE_BYTES);
    if left >= needed {
        return Ok(());
    }
    let limit = "address space (ulimit -v); fewer threads and smaller caches need less";
    Err(Error::Limit { limit, left, needed })
}
