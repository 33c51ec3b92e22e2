//! The hashing backends that this build has, and the choice among them.
//!
//! ```text
//!  name          family   which                      available()   by_name(name)
//!  cpu           cpu                                 name, what
//!  cpu:avx2      cpu      one of its kernels         it runs on,   Arc<dyn BatchHasher>
//!  scalar        scalar                              why not       or why not
//!  cuda:0        cuda     a device (feature `cuda`)
//!  wgpu:0        wgpu     a GPU (feature `wgpu`)
//! ```
//!
//! A family is what one crate brings; `FAMILIES` is the only place where a cargo feature decides
//! about hardware. Everywhere else the engine sees an `Arc<dyn BatchHasher>`.
//!
//! **Invariant:** backends that hash right differ in how long they take, never in a digest.
//!
//! **Invariant:** nothing that a device computed enters the log or the index unverified. What enters
//! them of hashes are those of keys, and the CPU hashes them, whatever backend was named
//! ([`trusted_beside`]). All other digests are leaves and nodes of the tree. Of those that a device computed one of
//! [`CHECK_ONE_OF`] is checked, so they are a bet: on the root, and on the records of finished twigs,
//! which hold the same nodes.
//!
//! **Invariant (absence):** nothing here knows a tree, a block or a file.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `cuda` | NVIDIA devices; needs no CUDA to build, the driver is looked for when asked for |
//! | `wgpu` | GPUs through Vulkan; needs no driver to build, adapters are looked for when asked for |
//! | `metal` | `wgpu` with Metal; nothing outside Apple's systems |
//! | `dx12` | `wgpu` with Direct3D 12; nothing outside Windows |
#![forbid(unsafe_code)]

mod auto;
mod backend;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod error;
mod guard;
mod scalar;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use backend::{Backend, Cost, Measured, PlannedRange, Work};
pub use error::BackendError;
pub use guard::{CHECK_ONE_OF, Guarded, Thresholds, Tuning};
pub use hedgerow_hasher_api::{BatchHasher, Capabilities, HashError, Health};
pub use hedgerow_hasher_cpu::CpuHasher;

use backend::Family;
use std::sync::Arc;

/// Name of the backend that hashes if nobody names another.
pub const DEFAULT: &str = "cpu";

const FAMILIES: &[Family] = &[
    auto::FAMILY,
    cpu::FAMILY,
    scalar::FAMILY,
    #[cfg(feature = "cuda")]
    cuda::FAMILY,
    #[cfg(feature = "wgpu")]
    wgpu::FAMILY,
    #[cfg(feature = "wgpu")]
    wgpu::SOFTWARE,
];

/// All backends of this build, each kernel of the CPU among them, with the reason why one cannot be
/// used on this machine. The first call of a process measures: the CPU for about a third of a
/// millisecond, devices for a fraction of a second each.
///
/// ```
/// # use hedgerow_hashers as hasher;
/// for backend in hasher::available() {
///     match &backend.why_not {
///         None => println!("{}: {}", backend.name, backend.device),
///         Some(why_not) => println!("{}: cannot be used: {why_not}", backend.name),
///     }
/// }
/// ```
pub fn available() -> Vec<Backend> {
    FAMILIES.iter().flat_map(|family| (family.backends)()).collect()
}

/// Names that [`by_name`] takes on this machine.
pub fn names() -> Vec<String> {
    available().into_iter().filter(Backend::is_usable).map(|backend| backend.name).collect()
}

/// The CPU that stands beside the backend with this name, for what a device must not decide: with the kernel that
/// `cpu:KERNEL` pins, else with those that are fastest here. It uses the pool that it is called from.
///
/// # Errors
/// [`BackendError`] if this machine cannot run the kernel, or there is none of its name.
///
/// ```
/// # use hedgerow_hasher_api::BatchHasher;
/// let name = |cpu: hedgerow_hashers::CpuHasher| cpu.capabilities().name;
/// assert_eq!(name(hedgerow_hashers::trusted_beside("cpu:portable")?), "cpu:portable");
/// assert_eq!(name(hedgerow_hashers::trusted_beside("cuda:0")?), "cpu");
/// # Ok::<(), hedgerow_hashers::BackendError>(())
/// ```
pub fn trusted_beside(name: &str) -> Result<CpuHasher, BackendError> {
    match name.split_once(':') {
        Some((family, kernel)) if family == cpu::FAMILY.name => {
            CpuHasher::pinned(kernel).map_err(|error| BackendError::Unavailable {
                name: name.into(),
                reason: error.to_string(),
            })
        }
        _ => Ok(CpuHasher::new()),
    }
}

/// Every usable device with its name, for `auto` to measure.
fn devices() -> impl Iterator<Item = (String, Arc<dyn BatchHasher>)> {
    FAMILIES.iter().filter(|family| family.automatic).flat_map(|family| {
        let named = (family.backends)().into_iter().filter(Backend::is_usable);
        let named = named.filter_map(|backend| {
            let which = backend.name.split_once(':').map(|(_, which)| which);
            // A name without a colon stands for one of the others.
            Some((backend.name.clone(), (family.open)(Some(which?), Tuning::default()).ok()?))
        });
        named.collect::<Vec<_>>()
    })
}

/// The CPU, or a device for the batches that it hashes faster.
///
/// The first use in a process calibrates: every usable device and the CPU hash batches of 1024 and of
/// 65,536 nodes and messages, and a block's tree in rows that stay on the device, a fraction of a second
/// for each device. The two sizes tell what a call costs and what an item costs, and where the lines
/// cross is the size from which batches go to the device. The result is kept for the life of the
/// process, and [`available`] tells it ([`Backend::plan`], [`Backend::measured`]). Of several devices, the
/// one that hashes the large batch of nodes first is taken. Without a usable device nothing is measured,
/// and this is the [`DEFAULT`].
///
/// The device comes [`Guarded`] by the CPU, which also hashes the small batches.
pub fn auto() -> Arc<dyn BatchHasher> {
    auto::chosen(Tuning::default())
}

/// The backend with this name:
///
/// * `cpu`, the [`DEFAULT`]: the kernels that were measured fastest here; `cpu:KERNEL`: one kernel
///   for everything;
/// * `scalar`: one hash at a time, the reference;
/// * `auto`: what [`auto()`] gives;
/// * with the feature `cuda`, `cuda` (the first NVIDIA device that can be used) and `cuda:ORDINAL`;
/// * with the feature `wgpu`, `wgpu` (the first GPU that can be used), `wgpu:WHICH` (by index or part
///   of its name), and the same with `wgpu-software` for software adapters.
///
/// Devices come [`Guarded`] by the CPU; one of [`CHECK_ONE_OF`] of their digests is checked.
///
/// # Errors
/// [`BackendError`] if there is no backend of this name, or it cannot be used on this machine.
pub fn by_name(name: &str) -> Result<Arc<dyn BatchHasher>, BackendError> {
    by_name_tuned(name, Tuning::default())
}

/// As [`by_name`], with a device used as `tuning` says.
///
/// # Errors
/// As [`by_name`].
pub fn by_name_tuned(name: &str, tuning: Tuning) -> Result<Arc<dyn BatchHasher>, BackendError> {
    let (family, which) = match name.split_once(':') {
        Some((family, which)) => (family, Some(which)),
        None => (name, None),
    };
    let Some(family) = FAMILIES.iter().find(|known| known.name == family) else {
        return Err(BackendError::Unknown { name: name.into(), usable: names() });
    };
    let hasher = (family.open)(which, tuning)
        .map_err(|reason| BackendError::Unavailable { name: name.into(), reason })?;
    if !hasher.capabilities().is_device || family.name == auto::FAMILY.name {
        return Ok(hasher);
    }
    let cpu = Arc::new(CpuHasher::new());
    let from = Thresholds { resident: tuning.resident_from, ..Thresholds::ALL };
    Ok(Arc::new(Guarded::new(hasher, cpu, from, tuning.check_one_of)))
}
