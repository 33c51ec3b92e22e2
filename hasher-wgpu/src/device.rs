//! An opened adapter: the device, its queue and the compiled kernels.

use crate::{
    NAME,
    adapter::{Choice, OpenError, choose},
    guard::{Health, failed, scoped},
    kernels::{self, Kernel},
    queue::WgpuQueue,
};
use hedgerow_hasher_api::{Capabilities, HashError};
use hedgerow_hasher_device::{Device, Limits, PATIENCE};
use std::{sync::Arc, time::Duration};

/// A GPU. Clones are the same one.
#[derive(Clone, Debug)]
pub struct WgpuDevice {
    pub(crate) shared: Arc<Shared>,
}

/// What all queues of a device share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) health: Arc<Health>,
    pub(crate) pipelines: Pipelines,
    pub(crate) limits: Limits,
    /// How long a wait may take.
    pub(crate) patience: Duration,
    adapter: String,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // wgpu waits for all of a queue's work when it drops it.
        if self.health.is_hung() {
            std::mem::forget((self.device.clone(), self.queue.clone()));
        }
    }
}

/// A compiled kernel.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) kernel: Kernel,
    pub(crate) layout: wgpu::BindGroupLayout,
    pub(crate) pipeline: wgpu::ComputePipeline,
}

/// All kernels.
#[derive(Debug)]
pub(crate) struct Pipelines {
    pub(crate) nodes: Pipeline,
    pub(crate) messages: Pipeline,
    pub(crate) twigs: Pipeline,
    pub(crate) scatter: Pipeline,
    pub(crate) gather: Pipeline,
    pub(crate) flip: Pipeline,
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
        let shared = Shared { device, queue, health, pipelines, limits, patience, adapter: name };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Name and driver of the adapter.
    pub fn adapter(&self) -> &str {
        &self.shared.adapter
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

impl Pipelines {
    fn new(device: &wgpu::Device) -> Self {
        let pipeline = |kernel| Pipeline::new(device, kernel);
        Self {
            nodes: pipeline(kernels::NODES),
            messages: pipeline(kernels::MESSAGES),
            twigs: pipeline(kernels::TWIGS),
            scatter: pipeline(kernels::SCATTER),
            gather: pipeline(kernels::GATHER),
            flip: pipeline(kernels::FLIP),
        }
    }
}

impl Pipeline {
    fn new(device: &wgpu::Device, kernel: Kernel) -> Self {
        let label = Some(kernel.name);
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label,
            source: wgpu::ShaderSource::Wgsl(kernel.source().into()),
        });
        let entry = |(binding, &writes): (u32, &bool)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: !writes },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = (0..).zip(kernel.writes).map(entry).collect();
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label,
            entries: &entries,
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: kernel.parameters,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: None,
            compilation_options: wgpu::PipelineCompilationOptions {
                // The twig kernel writes what it shares before it reads it.
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        Self { kernel, layout, pipeline }
    }
}

impl Device for WgpuDevice {
    type Queue = WgpuQueue;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: NAME.into(),
            device: self.shared.adapter.clone(),
            lanes: kernels::LANES as usize,
            full_speed_batch: FULL_SPEED_BATCH,
            is_device: true,
        }
    }

    fn limits(&self) -> Limits {
        self.shared.limits
    }

    fn queue(&self) -> Result<WgpuQueue, HashError> {
        WgpuQueue::new(Arc::clone(&self.shared))
    }
}

impl Shared {
    /// A buffer.
    ///
    /// # Errors
    /// [`HashError::Device`] if there is no memory.
    pub(crate) fn buffer(
        &self,
        bytes: u64,
        usage: wgpu::BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<wgpu::Buffer, HashError> {
        if bytes > self.device.limits().max_buffer_size {
            return Err(failed(format!("a buffer of {bytes} bytes is too large")));
        }
        scoped(&self.device, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage,
                mapped_at_creation,
            })
        })
    }
}
