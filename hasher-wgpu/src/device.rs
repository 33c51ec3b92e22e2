//! An opened adapter: the device and the compiled kernels.

use crate::{
    NAME,
    adapter::{Choice, OpenError, choose},
    context::Shared,
    guard::{Health, scoped},
    kernels,
    pipelines::Pipelines,
    queue::WgpuQueue,
};
use hedgerow_hasher_api::{Capabilities, HashError};
use hedgerow_hasher_device::{Device, Limits, PATIENCE};
use std::{sync::Arc, time::Duration};

/// A GPU. Clones are the same one.
#[derive(Clone, Debug)]
pub struct WgpuDevice {
    pub(crate) shared: Arc<Shared>,
    pipelines: Arc<Pipelines>,
    adapter: Arc<str>,
}

/// Batches from here on keep a large GPU busy.
const FULL_SPEED_BATCH: usize = 1 << 16;

impl WgpuDevice {
    /// Opens the adapter that `choice` names and compiles the kernels for it, which takes some
    /// seconds on some drivers.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(choice: &Choice) -> Result<Self, OpenError> {
        Self::open_with_patience(choice, PATIENCE)
    }

    /// The same; a wait for the device that takes longer than `patience` finds it lost.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with_patience(choice: &Choice, patience: Duration) -> Result<Self, OpenError> {
        let (described, adapter) = choose(choice)?;
        let name = described.to_string();
        let setup = |reason: String| OpenError::Setup { adapter: name.clone(), reason };
        let (device, queue) = request(&adapter).map_err(|error| setup(error.to_string()))?;
        let health = Health::watch(&device);
        let compiled = scoped(&device, || Pipelines::new(&device))
            .and_then(|pipelines| health.check(0).map(|()| pipelines));
        let pipelines = compiled.map_err(|error| setup(error.to_string()))?;
        let limits = limits(&device.limits());
        let shared = Arc::new(Shared { device, queue, health, limits, patience });
        Ok(Self { shared, pipelines: Arc::new(pipelines), adapter: name.into() })
    }

    /// Name and driver of the adapter.
    pub fn adapter(&self) -> &str {
        &self.adapter
    }
}

fn request(
    adapter: &wgpu::Adapter,
) -> Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: Some("hedgerow"),
        required_features: wgpu::Features::IMMEDIATES,
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::Performance,
        ..Default::default()
    }))
}

fn limits(limits: &wgpu::Limits) -> Limits {
    let buffer = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    // Kernels count in 32 bits, and a launch fills two dimensions of work groups.
    Limits { buffer_bytes: buffer / 32 * 32, max_count: 1 << 30 }
}

impl Device for WgpuDevice {
    type Queue = WgpuQueue;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: NAME.into(),
            device: self.adapter().into(),
            lanes: kernels::LANES as usize,
            full_speed_batch: FULL_SPEED_BATCH,
            is_device: true,
        }
    }

    fn limits(&self) -> Limits {
        self.shared.limits
    }

    fn queue(&self) -> Result<WgpuQueue, HashError> {
        WgpuQueue::new(&self.shared, &self.pipelines)
    }
}
