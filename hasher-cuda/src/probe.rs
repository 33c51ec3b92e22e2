//! Which devices there are, and why one is of no use.
//!
//! ```text
//!  library there? ──► all functions in it? ──► version ≥ 12.1? ──► devices ──► new enough? allowed?
//! ```
//!
//! The order matters: before the library and its functions are known to be there, calling any of
//! them would panic.

use crate::errors::{failed, refused};
use cudarc::driver::{result, sys};
use hedgerow_hasher_api::HashError;
use std::fmt;

/// A device of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaInfo {
    /// By which it is chosen, from 0.
    pub ordinal: u32,
    /// As the driver names it.
    pub name: String,
    /// Major and minor number of the compute capability.
    pub compute_capability: (u32, u32),
    /// Its memory.
    pub memory_bytes: u64,
    /// Processors, and threads that each holds at once.
    pub processors: (u32, u32),
    /// The driver's newest CUDA version, such as 12080 for 12.8.
    pub driver_version: u32,
    /// Why it cannot be used, if it cannot.
    pub why_not: Option<String>,
}

/// Name, compute capability, and the driver's CUDA version.
impl fmt::Display for CudaInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, compute_capability: (major, minor), driver_version, .. } = self;
        write!(f, "{name}, compute capability {major}.{minor}, CUDA {}", shown(*driver_version))
    }
}

/// CUDA 12.1: the first that reads our PTX.
const LEAST_DRIVER: u32 = 12_010;
/// What the PTX is compiled for.
const LEAST_CAPABILITY: (u32, u32) = (6, 0);

/// Every function of the driver that we call, ourselves or through cudarc.
const FUNCTIONS: [&str; 33] = [
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuDriverGetVersion",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventQuery",
    "cuEventRecord",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuInit",
    "cuLaunchKernel",
    "cuMemAllocAsync",
    "cuMemAlloc_v2",
    "cuMemFreeAsync",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemHostAlloc",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
];

/// All devices of the driver, usable or not.
///
/// # Errors
/// [`HashError::Device`] with the reason, if there is no driver or it is of no use.
pub fn devices() -> Result<Vec<CudaInfo>, HashError> {
    let driver_version = driver()?;
    let count = result::device::get_count().map_err(|error| failed("cuDeviceGetCount", error))?;
    (0..count).map(|ordinal| info(ordinal, driver_version)).collect()
}

/// The device with this ordinal, usable or not.
///
/// # Errors
/// [`HashError::Device`] with the reason, if there is none.
pub(crate) fn device(ordinal: u32) -> Result<CudaInfo, HashError> {
    let driver_version = driver()?;
    let count = result::device::get_count().map_err(|error| failed("cuDeviceGetCount", error))?;
    match i32::try_from(ordinal) {
        Ok(ordinal) if ordinal < count => info(ordinal, driver_version),
        _ => Err(refused(format!("there is no device {ordinal}, the driver has {count}"))),
    }
}

/// Makes sure that calls can be made, and begins; the driver's version.
fn driver() -> Result<u32, HashError> {
    // SAFETY: loads libcuda.so, whose initialisation is the driver's own and safe anywhere.
    if !unsafe { sys::is_culib_present() } {
        return Err(refused("the driver's library (libcuda.so) is not installed".into()));
    }
    if let Some(missing) = FUNCTIONS.iter().find(|name| !has_function(name)) {
        return Err(refused(format!("the driver is too old or broken: it lacks {missing}")));
    }
    let mut version = 0;
    // SAFETY: the function is there, and writes one number.
    let asked = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    asked.result().map_err(|error| failed("cuDriverGetVersion", error))?;
    let version = u32::try_from(version).unwrap_or(0);
    if version < LEAST_DRIVER {
        return Err(refused(format!(
            "the driver is for CUDA {}, at least {} is needed",
            shown(version),
            shown(LEAST_DRIVER)
        )));
    }
    result::init().map_err(|error| failed("cuInit", error))?;
    Ok(version)
}

fn has_function(name: &str) -> bool {
    // SAFETY: the library is there, so this does not panic; the function is not called.
    unsafe { sys::culib().get::<unsafe extern "C" fn()>(name.as_bytes()).is_ok() }
}

fn info(ordinal: i32, driver_version: u32) -> Result<CudaInfo, HashError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let device = result::device::get(ordinal).map_err(|error| failed("cuDeviceGet", error))?;
    let attribute = |attribute| {
        // SAFETY: the device is what `cuDeviceGet` gave.
        let value = unsafe { result::device::get_attribute(device, attribute) };
        let value = value.map_err(|error| failed("cuDeviceGetAttribute", error))?;
        Ok(u32::try_from(value).unwrap_or(0))
    };
    let compute_capability = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    let processors = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)?,
    );
    let mode = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_MODE)?;
    // SAFETY: the device is what `cuDeviceGet` gave.
    let memory = unsafe { result::device::total_mem(device) };
    Ok(CudaInfo {
        ordinal: ordinal.unsigned_abs(),
        name: result::device::get_name(device).map_err(|error| failed("cuDeviceGetName", error))?,
        compute_capability,
        memory_bytes: memory.map_err(|error| failed("cuDeviceTotalMem", error))? as u64,
        processors,
        driver_version,
        why_not: why_not(compute_capability, mode),
    })
}

/// `CU_COMPUTEMODE_PROHIBITED`.
const PROHIBITED: u32 = 2;

fn why_not(capability: (u32, u32), mode: u32) -> Option<String> {
    if capability < LEAST_CAPABILITY {
        let ((major, minor), (least_major, least_minor)) = (capability, LEAST_CAPABILITY);
        return Some(format!(
            "its compute capability is {major}.{minor}, at least {least_major}.{least_minor} is needed"
        ));
    }
    (mode == PROHIBITED).then(|| "its compute mode prohibits contexts (see nvidia-smi -c)".into())
}

/// A version as people write it.
fn shown(version: u32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_are_too_old_or_not_allowed() {
        assert_eq!(why_not((6, 0), 0), None);
        assert_eq!(why_not((10, 0), 0), None);
        assert!(why_not((5, 2), 0).is_some_and(|why| why.contains("5.2")));
        assert!(why_not((9, 0), PROHIBITED).is_some());
    }

    #[test]
    fn versions_read_as_people_write_them() {
        assert_eq!(shown(12_010), "12.1");
        assert_eq!(shown(13_000), "13.0");
    }
}
