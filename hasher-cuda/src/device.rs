//! A device: its context, the kernels in it, and the memory of its loss.

use crate::{
    NAME,
    kernels::Kernels,
    probe::{self, CudaInfo, refused},
    queue::CudaQueue,
};
use cudarc::driver::{
    CudaContext,
    result::{self, DriverError},
};
use hedgerow_hasher_api::{Capabilities, HashError};
use hedgerow_hasher_device::{Device, Limits, PATIENCE};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

/// An NVIDIA device. Clones share its context.
#[derive(Clone, Debug)]
pub struct CudaDevice {
    shared: Arc<Shared>,
}

/// What all queues of a device have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) context: Arc<CudaContext>,
    pub(crate) kernels: Kernels,
    info: CudaInfo,
    /// How long a wait may take.
    pub(crate) patience: Duration,
    /// What ended the context.
    lost: OnceLock<Loss>,
}

/// Threads of a warp.
const WARP: usize = 32;

/// More items per launch than any buffer holds, and few enough that two threads for each fit a grid.
const MOST_ITEMS: u32 = 1 << 30;

impl CudaDevice {
    /// The device with this ordinal: makes a context on it and lets the driver compile the kernels,
    /// which takes seconds the first time on a machine.
    ///
    /// # Errors
    /// [`HashError::Device`] if there is no driver, no such device, or it is not usable: with the
    /// reason.
    pub fn new(ordinal: u32) -> Result<Self, HashError> {
        Self::with_patience(ordinal, PATIENCE)
    }

    /// The same; a wait for the device that takes longer than `patience` finds it lost.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_patience(ordinal: u32, patience: Duration) -> Result<Self, HashError> {
        let info = probe::device(ordinal)?;
        if let Some(why_not) = &info.why_not {
            return Err(refused(format!("{}: {why_not}", info.name)));
        }
        let failed = |what: &str, error| refused(format!("{what}: {}", describe(error)));
        let context = CudaContext::new(ordinal as usize);
        let context = context.map_err(|error| failed("cannot make a context", error))?;
        let kernels = Kernels::load(&context);
        let kernels = kernels.map_err(|error| failed("cannot load the kernels", error))?;
        let lost = OnceLock::new();
        Ok(Self { shared: Arc::new(Shared { context, kernels, info, patience, lost }) })
    }

    /// What the driver says of it.
    pub fn info(&self) -> &CudaInfo {
        &self.shared.info
    }
}

impl Device for CudaDevice {
    type Queue = CudaQueue;

    fn capabilities(&self) -> Capabilities {
        let (processors, threads) = self.info().processors;
        Capabilities {
            name: NAME.into(),
            device: self.info().to_string(),
            lanes: WARP,
            full_speed_batch: (processors as usize * threads as usize).max(WARP),
            is_device: true,
        }
    }

    fn limits(&self) -> Limits {
        Limits { buffer_bytes: self.info().memory_bytes / 4 * 4, max_count: MOST_ITEMS }
    }

    fn queue(&self) -> Result<CudaQueue, HashError> {
        self.shared.usable()?;
        CudaQueue::new(self.shared.clone(), self.limits())
    }
}

impl Shared {
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

impl Drop for Shared {
    fn drop(&mut self) {
        // Unloading the module and releasing the context wait for the device.
        if !self.is_hung() {
            let _ = self.apart("cuCtxSynchronize", result::ctx::synchronize);
        }
        if self.is_hung() {
            std::mem::forget((self.context.clone(), self.kernels.clone()));
            return;
        }
        // For the kernels' module.
        let _ = self.bind_even_if_lost();
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

/// Whether a context is of no use after this error (`cuda.h` says of each: "the process must be
/// terminated", "the context cannot be used", or that the device is gone).
fn ends_context(code: u32) -> bool {
    const DEINITIALIZED: u32 = 4;
    const ECC_UNCORRECTABLE: u32 = 214;
    const NVLINK_UNCORRECTABLE: u32 = 220;
    const ILLEGAL_ADDRESS: u32 = 700;
    const LAUNCH_TIMEOUT: u32 = 702;
    const CONTEXT_IS_DESTROYED: u32 = 709;
    const ASSERT: u32 = 710;
    const HARDWARE_STACK_ERROR: u32 = 714;
    const LAUNCH_FAILED: u32 = 719;
    const CONTAINED: u32 = 721;
    const UNKNOWN: u32 = 999;
    matches!(
        code,
        DEINITIALIZED
            | ECC_UNCORRECTABLE
            | NVLINK_UNCORRECTABLE
            | ILLEGAL_ADDRESS
            | LAUNCH_TIMEOUT
            | CONTEXT_IS_DESTROYED
            | ASSERT
            | HARDWARE_STACK_ERROR..=LAUNCH_FAILED | CONTAINED | UNKNOWN
    )
}

/// An error in the driver's words. Its number is in there because a driver newer than our bindings
/// may have more errors than they name.
pub(crate) fn describe(error: DriverError) -> String {
    let code = error.0 as u32;
    let text = |text: Result<&std::ffi::CStr, DriverError>| match text {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => "an error without a name".into(),
    };
    format!("{} ({code}), {}", text(error.error_name()), text(error.error_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_that_end_a_context_lose_the_device() {
        for code in [4, 700, 702, 714, 716, 719, 721, 999] {
            assert!(ends_context(code), "{code}");
        }
        for code in [1, 2, 101, 201, 304, 400, 600, 701, 713, 720] {
            assert!(!ends_context(code), "{code}");
        }
    }
}
