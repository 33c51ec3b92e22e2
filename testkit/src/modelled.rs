//! Shuttle's lock and condition with the interface of `parking_lot`; its channel is made like the one of
//! the standard library.
//!
//! ```text
//!   a crate's `sync` ──► the library      parking_lot, std
//!                   └──► its unit tests   this: each lock, wait and send is a point where shuttle
//!                                         may let another thread go on
//! ```

pub use shuttle::sync::mpsc::{
    Receiver, SyncSender as Sender, TryRecvError, sync_channel as bounded,
};
pub use shuttle::thread;

use shuttle::sync;
use std::ops::{Deref, DerefMut};
use std::sync::PoisonError;

/// A lock whose order of holders shuttle decides.
#[derive(Debug)]
pub struct Mutex<T>(sync::Mutex<T>);

/// Holds the guard except while it waits.
#[derive(Debug)]
pub struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

/// A condition whose wakes shuttle decides.
#[derive(Debug)]
pub struct Condvar(sync::Condvar);

impl<T> Mutex<T> {
    /// A lock on `value`.
    pub fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Holds the lock until the guard is dropped. A holder that panicked is no error.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().expect("not waiting")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_deref_mut().expect("not waiting")
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl Condvar {
    /// A condition that nobody waits for.
    pub fn new() -> Self {
        Self(sync::Condvar::new())
    }

    /// Gives the lock back until it is woken, and holds it again.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let inner = guard.0.take().expect("not waiting");
        guard.0 = Some(self.0.wait(inner).unwrap_or_else(PoisonError::into_inner));
    }

    /// Wakes all who wait.
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
