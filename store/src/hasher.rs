//! The hashing backends that this build has: the only place where a cargo feature decides about
//! hardware. Everywhere else the engine sees an `Arc<dyn BatchHasher>`.

use crate::{Error, Options};
use hedgerow_hasher_api::{BatchHasher, ScalarHasher};
use hedgerow_hasher_cpu::CpuHasher;
use std::sync::Arc;

/// What goes before the name of a CPU kernel to pin it.
const PINNED: &str = "cpu:";

/// Names that [`by_name`] knows on this machine.
pub fn names() -> Vec<String> {
    let kernels = CpuHasher::kernels().into_iter().filter(|kernel| kernel.available);
    let pinned = kernels.map(|kernel| format!("{PINNED}{}", kernel.name));
    ["cpu", "scalar"].map(String::from).into_iter().chain(pinned).collect()
}

/// The backend with this name: `cpu` (the default, with the kernels that are fastest here), `scalar`
/// (one hash at a time, the reference), or `cpu:KERNEL` with one kernel for everything, as
/// [`CpuHasher::pinned`] has it.
///
/// # Errors
/// [`Error::Option`] if there is no backend of this name, or this machine cannot run it.
pub fn by_name(name: &str) -> Result<Arc<dyn BatchHasher>, Error> {
    let refused = |reason| Error::Option { option: "hasher", reason };
    match name {
        "cpu" => Ok(Arc::new(CpuHasher::new())),
        "scalar" => Ok(Arc::new(ScalarHasher)),
        _ => match name.strip_prefix(PINNED) {
            Some(kernel) => match CpuHasher::pinned(kernel) {
                Ok(hasher) => Ok(Arc::new(hasher)),
                Err(error) => Err(refused(error.to_string())),
            },
            None => Err(refused(format!("{name:?} is none of {}", names().join(", ")))),
        },
    }
}

/// The backend that the options ask for.
pub(crate) fn choose(options: &Options) -> Arc<dyn BatchHasher> {
    match &options.hasher {
        Some(hasher) => Arc::clone(hasher),
        None => Arc::new(CpuHasher::new()),
    }
}
