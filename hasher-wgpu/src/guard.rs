//! Errors of wgpu as values.
//!
//! ```text
//!  a call ─► error scopes of this thread ──────────────► Err(Device)
//!            handler of uncaptured errors ─► counted ──► Err(Device) from every queue made before
//!            device-lost callback ─────────► kept ─────► Err(DeviceLost) from then on
//!            panic of `poll` ──────────────► caught ───► Err(Device)
//!            a wait that does not end ─────► kept ─────► Err(DeviceLost) from then on
//! ```
//!
//! By default wgpu panics at an error that no scope captures. Scopes belong to threads, so several
//! queues do not get each other's errors.

use crate::NAME;
use hedgerow_hasher_api::HashError;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// An error of the device that is not lost.
pub(crate) fn failed(reason: impl fmt::Display) -> HashError {
    HashError::Device { backend: NAME.into(), reason: reason.to_string() }
}

/// What a device has said outside of calls.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lost: Option<String>,
    /// It does not answer: it is not lost for wgpu.
    hung: bool,
    uncaptured: u64,
    last: String,
}

impl Health {
    /// Installs the handlers. Before this wgpu panics at errors.
    pub(crate) fn watch(device: &wgpu::Device) -> Arc<Self> {
        let health = Arc::new(Self::default());
        let of_errors = Arc::clone(&health);
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let mut state = of_errors.state();
            state.uncaptured += 1;
            state.last = error.to_string();
        }));
        let of_loss = Arc::clone(&health);
        device.set_device_lost_callback(move |reason, message| {
            of_loss.state().lost.get_or_insert(format!("{reason:?}: {message}"));
        });
        health
    }

    /// How many errors nobody was there to receive.
    pub(crate) fn uncaptured(&self) -> u64 {
        self.state().uncaptured
    }

    /// Fails if the device is lost, or if there were uncaptured errors since there were `seen`.
    pub(crate) fn check(&self, seen: u64) -> Result<(), HashError> {
        let state = self.state();
        if let Some(reason) = &state.lost {
            return Err(HashError::DeviceLost { backend: NAME.into(), reason: reason.clone() });
        }
        if state.uncaptured != seen {
            return Err(failed(&state.last));
        }
        Ok(())
    }

    /// Whether the device may still be at work on what it was given.
    pub(crate) fn is_hung(&self) -> bool {
        self.state().hung
    }

    /// The error of a wait that took too long. The device is lost.
    pub(crate) fn no_answer(&self, patience: Duration) -> HashError {
        let mut state = self.state();
        state.hung = true;
        let reason = state.lost.get_or_insert_with(|| format!("no answer for {patience:?}"));
        HashError::DeviceLost { backend: NAME.into(), reason: reason.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs `work` and returns the first error that wgpu reported on this thread meanwhile.
pub(crate) fn scoped<T>(device: &wgpu::Device, work: impl FnOnce() -> T) -> Result<T, HashError> {
    let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
    let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let done = work();
    // The last that was pushed must be popped first.
    let validation = pollster::block_on(validation.pop());
    let internal = pollster::block_on(internal.pop());
    let memory = pollster::block_on(memory.pop());
    match memory.or(internal).or(validation) {
        Some(error) => Err(failed(error)),
        None => Ok(done),
    }
}
