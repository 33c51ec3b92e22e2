//! The locks, the condition and the thread of the cache's hand-offs.
//!
//! ```text
//!   parts, flow, flusher ──► sync ──► the library      parking_lot, std
//!                                └──► its unit tests   shuttle, which decides who runs next
//! ```
//!
//! So a unit test of this crate that takes a lock runs under shuttle (`hedgerow_testkit::schedules`); tests of
//! the real thing stand in `tests/`.

#[cfg(test)]
pub(crate) use hedgerow_testkit::modelled::{Condvar, Mutex, MutexGuard, thread};

#[cfg(not(test))]
mod real {
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread;
}
#[cfg(not(test))]
pub(crate) use real::{Condvar, Mutex, MutexGuard, thread};
