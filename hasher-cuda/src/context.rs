//! A context on a device, and the memory of its loss: what everything of a device has in common.

use crate::{
    NAME,
    errors::{describe, ends_context, failed, refused},
};
use cudarc::driver::{CudaContext, DriverError};
use hedgerow_hasher_api::HashError;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// What a device, its queues and their memory have in common. How it ends is in `waiting`.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) context: Arc<CudaContext>,
    /// How long a wait may take.
    pub(crate) patience: Duration,
    /// What ended the context.
    lost: OnceLock<Loss>,
}

impl Shared {
    /// A context on the device with this ordinal, which exists.
    pub(crate) fn new(ordinal: u32, patience: Duration) -> Result<Arc<Self>, HashError> {
        let context = CudaContext::new(ordinal as usize);
        let context = context.map_err(|error| failed("cannot make a context", error))?;
        Ok(Arc::new(Self { context, patience, lost: OnceLock::new() }))
    }

    /// Refuses everything once the device is lost.
    pub(crate) fn usable(&self) -> Result<(), HashError> {
        self.lost.get().map_or(Ok(()), |loss| Err(loss.error()))
    }

    /// Whether the device may still be at work on what it was given, and the driver hang with it: what
    /// is left of it is leaked.
    pub(crate) fn is_hung(&self) -> bool {
        self.lost.get().is_some_and(|loss| loss.hangs)
    }

    /// The error of a wait that took too long. The device is lost.
    pub(crate) fn no_answer(&self, what: &str) -> HashError {
        let loss = || {
            let reason = format!("{what}: no answer for {:?}", self.patience);
            Loss { reason, hangs: true }
        };
        self.lost.get_or_init(loss).error()
    }

    /// Makes the context current on this thread, unless the device is lost.
    pub(crate) fn bind(&self) -> Result<(), HashError> {
        self.usable()?;
        self.bind_even_if_lost().map_err(|error| self.failed("cuCtxSetCurrent", error))
    }

    /// Makes the context current on this thread; before cudarc's objects are dropped too.
    ///
    /// cudarc notes errors that happen while it drops things, and answers them at the next call
    /// instead of doing it. Nobody can do anything about those; what ended the context shows again.
    pub(crate) fn bind_even_if_lost(&self) -> Result<(), DriverError> {
        let _ = self.context.check_err();
        self.context.bind_to_thread()
    }

    /// The error of a call; remembered if it ended the context.
    pub(crate) fn failed(&self, call: &str, error: DriverError) -> HashError {
        let reason = format!("{call}: {}", describe(error));
        if !ends_context(error.0 as u32) {
            return refused(reason);
        }
        self.lost.get_or_init(|| Loss { reason, hangs: false }).error()
    }
}

/// Why a device is lost.
#[derive(Debug)]
struct Loss {
    reason: String,
    /// It does not answer.
    hangs: bool,
}

impl Loss {
    fn error(&self) -> HashError {
        HashError::DeviceLost { backend: NAME.into(), reason: self.reason.clone() }
    }
}
