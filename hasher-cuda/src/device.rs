//! A device: its context, the kernels in it, and what the driver says of it.

use crate::{
    NAME,
    context::Shared,
    errors::refused,
    kernels::Kernels,
    probe::{self, CudaInfo},
    queue::CudaQueue,
};
use hedgerow_hasher_api::{Capabilities, HashError};
use hedgerow_hasher_device::{Device, Limits, PATIENCE};
use std::{sync::Arc, time::Duration};

/// An NVIDIA device. Clones share its context.
#[derive(Clone, Debug)]
pub struct CudaDevice {
    shared: Arc<Shared>,
    kernels: Arc<Kernels>,
    info: Arc<CudaInfo>,
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
        let shared = Shared::new(ordinal, patience)?;
        let kernels = Arc::new(Kernels::load(&shared)?);
        Ok(Self { shared, kernels, info: Arc::new(info) })
    }

    /// What the driver says of it.
    pub fn info(&self) -> &CudaInfo {
        &self.info
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
        CudaQueue::new(&self.shared, &self.kernels, self.limits())
    }
}
