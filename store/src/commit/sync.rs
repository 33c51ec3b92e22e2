//! What the hand-offs of a store are made of: the lock and the condition of `flow`, the channels and
//! threads of `stages`.
//!
//! ```text
//!   flow, stages, ticket ──► sync ──► the library      parking_lot, std
//!                                └──► its unit tests   shuttle, which decides who runs next
//! ```
//!
//! In the library's own unit tests every lock, wait and send is a point where shuttle may let another
//! thread go on, so that a test sees thousands of orders of events and can see each of them again.
//! That holds for `cargo test` as it is, without a flag and a second build; the price is that a unit
//! test of this crate cannot run a whole store. The tests in `tests/` do, on the real thing.
//!
//! Shuttle and not loom: the hand-offs are made of locks and channels, not of atomics whose orderings
//! loom would check, and three stages with four waiters have far more orders than loom can go through.

#[cfg(test)]
pub(crate) use hedgerow_testkit::modelled::{
    Condvar, Mutex, Receiver, Sender, TryRecvError, bounded, thread,
};

#[cfg(not(test))]
mod real {
    pub(crate) use parking_lot::{Condvar, Mutex};
    pub(crate) use std::sync::mpsc::{
        Receiver, SyncSender as Sender, TryRecvError, sync_channel as bounded,
    };
    pub(crate) use std::thread;
}
#[cfg(not(test))]
pub(crate) use real::{Condvar, Mutex, Receiver, Sender, TryRecvError, bounded, thread};
