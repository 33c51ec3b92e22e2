//! Batch SHA-256 on a GPU through wgpu: Vulkan, and Metal and DX12 with the features of those
//! names.
//!
//! ```text
//!  adapters(), Choice ──► WgpuDevice::open        adapter.rs: which GPU; device.rs: set-up
//!                              │
//!  DeviceHasher ───────────────┤ Device, Queue (hasher-device)
//!                              ▼
//!  queue.rs     ─ upload ─ launch ─ copy ─ download ─┐ recorded in one command encoder
//!                                                    ▼
//!  flush        ─► submitted ─► download buffers mapped when done ─► wait
//!
//!  launch.rs        binds a launch's buffers; pipelines.rs compiles the kernels, kernels/*.wgsl
//!  staging.rs       keeps host memory for copies
//!  context.rs       wgpu's objects, and bounded waiting for them
//!  guard.rs         errors of wgpu, which panics by default, as values
//! ```
//!
//! Each module uses only those below it: device, queue, launch, pipelines, staging, context, guard.
//!
//! A software adapter (Mesa's lavapipe) is refused unless asked for: it hashes on the CPU, slower
//! than the CPU backend. The tests of this crate run on it.
//!
//! **Invariant (absence):** no knowledge of batches and trees; no unsafe code.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `metal` | Metal beside Vulkan; nothing outside Apple's systems |
//! | `dx12` | Direct3D 12 beside Vulkan; nothing outside Windows |
#![forbid(unsafe_code)]

mod adapter;
mod context;
mod device;
mod guard;
mod kernels;
mod launch;
mod pipelines;
mod queue;
mod staging;

#[cfg(test)]
mod tests;

pub use adapter::{Adapter, Choice, OpenError, adapters, find};
pub use device::WgpuDevice;
pub use queue::{WgpuBuffer, WgpuDownload, WgpuQueue};

use hedgerow_hasher_device::DeviceHasher;

/// Hashes batches on a GPU.
pub type WgpuHasher = DeviceHasher<WgpuDevice>;

/// The name of the backend.
const NAME: &str = "wgpu";

/// A hasher on the adapter that `choice` names. Opening again after the device was lost is the way
/// to get a working one.
///
/// # Errors
/// [`OpenError`].
pub fn open(choice: &Choice) -> Result<WgpuHasher, OpenError> {
    let device = WgpuDevice::open(choice)?;
    let adapter = device.adapter().to_owned();
    WgpuHasher::new(device).map_err(|error| OpenError::Setup { adapter, reason: error.to_string() })
}
