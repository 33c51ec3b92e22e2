//! How far opening is, told to the one who asked.
//!
//! ```text
//!              begin                                           begin
//!                │ checkpoint        │ log behind it     │       │ log, from where it is needed │
//!   scanned      ├───────────────────┼────── damaged!    │       │                              │
//!   total        ├───────────────────┴───────────────────┤       │                              │
//!   total, then  ├────── what was read so far ───────────┬───────┴──────────────────────────────┤
//! ```
//!
//! What was read in vain stays read: the bytes never go back. The total grows instead, once for each time
//! that opening begins again.

use crate::options::{Progress, ProgressFn};
use hedgerow_types::LogPosition;
use parking_lot::Mutex;
use std::sync::Arc;

/// See the [module documentation](self).
pub(crate) struct Meter {
    tell: ProgressFn,
    state: Mutex<State>,
}

struct State {
    progress: Progress,
    /// Up to where the log is read.
    log_at: LogPosition,
}

impl Meter {
    /// None if nobody asked.
    pub(crate) fn new(tell: Option<&ProgressFn>) -> Option<Arc<Self>> {
        let progress = Progress { scanned_bytes: 0, total_bytes: 0 };
        let state = Mutex::new(State { progress, log_at: LogPosition(0) });
        tell.map(|tell| Arc::new(Self { tell: Arc::clone(tell), state }))
    }

    /// Begins, or begins again: so many bytes of a checkpoint are to be read, and the log from `from` to
    /// `end`.
    pub(crate) fn begin(&self, checkpoint_bytes: u64, from: LogPosition, end: LogPosition) {
        let mut state = self.state.lock();
        let to_read = checkpoint_bytes + end.0.saturating_sub(from.0);
        state.progress.total_bytes = state.progress.scanned_bytes.saturating_add(to_read);
        state.log_at = from;
    }

    /// The log was read up to `end`.
    pub(crate) fn log_to(&self, end: LogPosition) {
        let mut state = self.state.lock();
        let bytes = end.0.saturating_sub(state.log_at.0);
        state.log_at = end;
        self.add(&mut state, bytes);
    }

    /// So many more bytes of the checkpoint were read, by whichever thread.
    pub(crate) fn checkpoint(&self, bytes: u64) {
        self.add(&mut self.state.lock(), bytes);
    }

    /// Tells under the lock: who is told sees the bytes in order.
    fn add(&self, state: &mut State, bytes: u64) {
        state.progress.scanned_bytes += bytes;
        (self.tell)(state.progress);
    }
}
