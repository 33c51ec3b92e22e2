//! Waiting for a device that may never answer.
//!
//! ```text
//!  wait     asks the driver again and again whether work is done       no call that blocks
//!  apart    a call that may block, on a thread of its own ──► its result, or nobody waits for it
//!                                       │ in neither way within the device's patience
//!                                       ▼
//!                           the device is lost, "no answer": from then on nothing is asked of the
//!                           driver, and nothing is given back to it
//! ```
//!
//! Calls that only put work into a stream return at once, unless the driver has no room for more work:
//! a queue is waited for long before that.

use crate::{context::Shared, errors::refused};
use cudarc::driver::result::{self, DriverError};
use hedgerow_hasher_api::HashError;
use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

/// So long the driver is asked without a pause; batches take that long.
const BUSY: Duration = Duration::from_micros(200);
/// The longest pause between two questions.
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

impl Shared {
    /// Asks `done` until it says so. `what` is waited for.
    pub(crate) fn wait(
        &self,
        what: &str,
        mut done: impl FnMut() -> Result<bool, DriverError>,
    ) -> Result<(), HashError> {
        let start = Instant::now();
        loop {
            // Another thread may have found out.
            self.usable()?;
            if done().map_err(|error| self.failed(what, error))? {
                return Ok(());
            }
            let waited = start.elapsed();
            if waited >= self.patience {
                return Err(self.no_answer(what));
            }
            if waited < BUSY {
                thread::yield_now();
            } else {
                // A small part of what was waited already.
                thread::sleep((waited / 16).min(LONGEST_PAUSE));
            }
        }
    }

    /// Makes a call of the driver that may wait for whatever the device is doing.
    pub(crate) fn apart<T: Send + 'static>(
        &self,
        what: &str,
        call: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
    ) -> Result<T, HashError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let context = Arc::clone(&self.context);
        let body = move || {
            let result = context.bind_to_thread().and_then(|()| call());
            // Before the answer: who has it may be the last to own the context.
            drop(context);
            // Nobody is there any more who would need it.
            let _ = answer.send(result);
        };
        let thread = thread::Builder::new().name("hedgerow-cuda".into()).spawn(body);
        thread.map_err(|error| refused(format!("no thread for {what}: {error}")))?;
        match answered.recv_timeout(self.patience) {
            Ok(result) => result.map_err(|error| self.failed(what, error)),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(self.no_answer(what)),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                Err(refused(format!("{what}: the thread of the call ended")))
            }
        }
    }

    /// Waits until the device has done all work of the context; false: it hangs, and what it may still
    /// use must be leaked.
    pub(crate) fn comes_to_rest(&self) -> bool {
        if !self.is_hung() {
            let _ = self.apart("cuCtxSynchronize", result::ctx::synchronize);
        }
        !self.is_hung()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Releasing the context waits for the device.
        if !self.comes_to_rest() {
            std::mem::forget(Arc::clone(&self.context));
        }
    }
}
