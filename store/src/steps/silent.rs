//! What `emit` is without the feature `metrics`: nothing.
//!
//! ```text
//!   a step ends ─► Emitter, of no size ─► nobody
//! ```

use super::Step;
use hedgerow_state::Counts;
use hedgerow_types::Height;
use std::path::Path;
use std::time::Duration;

/// Tells nobody.
#[derive(Debug)]
pub(crate) struct Emitter;

impl Emitter {
    pub(crate) fn new(_dir: &Path) -> Self {
        Self
    }

    pub(super) fn step(&self, _step: Step, _took: Duration, _failed: bool) {}

    pub(crate) fn accepted(&self, _height: Height, _counts: &Counts, _log_bytes: u64) {}

    pub(crate) fn published(&self, _height: Height, _keys: u64) {}

    pub(crate) fn durable(&self, _height: Height) {}

    pub(crate) fn rolled_back(&self, _height: Height, _keys: u64) {}
}
