//! The kernels, compiled for a device.

use crate::kernels::{self, Kernel};

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

impl Pipelines {
    /// Lets wgpu compile them. Errors go to the scopes of this thread.
    pub(crate) fn new(device: &wgpu::Device) -> Self {
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
