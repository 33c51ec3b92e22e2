//! What keeps an open store's files where they are while they are copied.
//!
//! ```text
//!   backup    begin ──► read the manifest ──► copy what it needs ──► dropped
//!               │ waits for
//!   commit    hold_off: plan, commit a manifest │ hold_off: delete what it no longer needs
//!               └ while a copy is made: no log, no twig, no history is given up, nothing is deleted
//!   close     end: copies stop with an error, and are waited for
//! ```
//!
//! **Invariant:** between `begin` and its end nothing is deleted that the manifest needs which was the
//! newest at any time in between.

use crate::Error;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Copies {
    /// How many are being made. Changed under `turn`.
    now: AtomicUsize,
    /// The store is being closed.
    ended: AtomicBool,
    /// Held while something is planned or deleted, and for a moment when a copy begins or ends.
    turn: Mutex<()>,
    fewer: Condvar,
    /// The process that opened the store.
    process: u32,
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            now: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            turn: Mutex::new(()),
            fewer: Condvar::new(),
            process: std::process::id(),
        }
    }
}

impl Copies {
    /// Everything that is there stays until the returned value is dropped.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::Forked`].
    pub(crate) fn begin(&self) -> Result<Copying<'_>, Error> {
        if self.process != std::process::id() {
            return Err(Error::Forked(self.process));
        }
        let _turn = self.turn.lock();
        if self.ended.load(Ordering::SeqCst) {
            return Err(Error::Closed);
        }
        self.now.fetch_add(1, Ordering::SeqCst);
        Ok(Copying(self))
    }

    /// Until this is dropped, no copy begins.
    pub(crate) fn hold_off(&self) -> HeldOff<'_> {
        HeldOff { copies: self, _turn: self.turn.lock() }
    }

    /// As [`hold_off`](Self::hold_off), once none is being made.
    pub(crate) fn wait_for_none(&self) -> HeldOff<'_> {
        let mut turn = self.turn.lock();
        while self.any() {
            self.fewer.wait(&mut turn);
        }
        HeldOff { copies: self, _turn: turn }
    }

    /// Whether any is being made. Says the same until the end of a [`hold_off`](Self::hold_off), but for
    /// those that end.
    pub(crate) fn any(&self) -> bool {
        self.now.load(Ordering::SeqCst) > 0
    }

    /// The store is being closed: waits until all have stopped.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        let mut turn = self.turn.lock();
        while self.any() {
            self.fewer.wait(&mut turn);
        }
    }
}

/// See [`Copies::hold_off`].
pub(crate) struct HeldOff<'a> {
    copies: &'a Copies,
    _turn: MutexGuard<'a, ()>,
}

impl HeldOff<'_> {
    pub(crate) fn any(&self) -> bool {
        self.copies.any()
    }
}

/// A copy that is being made. See [`Copies::begin`].
#[derive(Debug)]
pub(crate) struct Copying<'a>(&'a Copies);

impl Copying<'_> {
    /// To be asked now and then.
    ///
    /// # Errors
    /// [`Error::Closed`] if the store is being closed.
    pub(crate) fn go_on(&self) -> Result<(), Error> {
        if self.0.ended.load(Ordering::SeqCst) { Err(Error::Closed) } else { Ok(()) }
    }
}

impl Drop for Copying<'_> {
    fn drop(&mut self) {
        let _turn = self.0.turn.lock();
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        self.0.fewer.notify_all();
    }
}
