//! Batch SHA-256 on NVIDIA devices.
//!
//! ```text
//!  DeviceHasher<CudaDevice>     hasher-device: chunks, packing, two in flight
//!      │
//!  device    one device, chosen by its ordinal                    CudaDevice
//!  queue     a stream of its own, staging blocks, downloads       CudaQueue
//!  kernels   arguments, grids, the committed PTX                  ┐ raw calls of the driver: the only
//!  memory    device buffers, pinned blocks, events                ┘ unsafe code, with `probe`
//!  waiting   bounded, however long the device takes
//!  context   what is lost stays lost
//!  probe     is there a driver? which devices, and why not?
//!  errors    the driver's errors as values
//!      │
//!  libcuda.so, loaded when first asked for: building and running need no toolkit
//! ```
//!
//! Each module uses only those below it. The kernels are CUDA C++ in `kernels/*.cu` and ship as PTX of
//! an old version (`kernels.ptx`), which the driver of the device compiles for it.
//! `compile_kernels.py` makes the PTX from the sources.
//!
//! **Invariants:**
//! * No call panics, whatever the driver answers and whether or not there is one.
//! * What a copy reads or writes on the host is pinned and stays until an event says that the copy
//!   is done; if the driver cannot say so, it is leaked.
//! * Every wait ends. After one that took too long nothing is asked of the driver, and nothing given
//!   back to it: it is leaked.
//! * After an error that ends its context (CUDA's "sticky" errors) a device answers
//!   [`DeviceLost`](hedgerow_hasher_api::HashError::DeviceLost) to everything.
#![deny(unsafe_code)]

mod context;
mod device;
mod errors;
#[allow(unsafe_code, reason = "launches: arguments are pointers that the driver reads")]
mod kernels;
#[allow(unsafe_code, reason = "memory of the device, pinned memory, copies between them")]
mod memory;
#[allow(unsafe_code, reason = "asks for the driver's library and its functions")]
mod probe;
mod queue;
mod waiting;

pub use device::CudaDevice;
pub use memory::CudaBuffer;
pub use probe::{CudaInfo, devices};
pub use queue::{CudaDownload, CudaQueue};

use hedgerow_hasher_api::HashError;
use hedgerow_hasher_device::DeviceHasher;

/// The name of this backend.
const NAME: &str = "cuda";

/// Hashes batches on one NVIDIA device.
pub type CudaHasher = DeviceHasher<CudaDevice>;

/// A hasher on the device with this ordinal, see [`devices`].
///
/// # Errors
/// [`HashError::Device`] if there is no driver, no such device, or it is not usable: with the
/// reason.
pub fn hasher(ordinal: u32) -> Result<CudaHasher, HashError> {
    CudaHasher::new(CudaDevice::new(ordinal)?)
}
