//! The hashing backends that this build has: the only place where a cargo feature decides about
//! hardware. Everywhere else the engine sees an `Arc<dyn BatchHasher>`.

use crate::Options;
use hedgerow_hasher_api::{BatchHasher, ScalarHasher};
use hedgerow_hasher_cpu::CpuHasher;
use std::sync::Arc;

/// Names that [`by_name`] knows in this build.
pub const NAMES: &[&str] = &["cpu", "scalar"];

/// The backend with this name: `cpu` (the default, over all cores) or `scalar` (one hash at a time,
/// the reference).
pub fn by_name(name: &str) -> Option<Arc<dyn BatchHasher>> {
    match name {
        "cpu" => Some(Arc::new(CpuHasher::new())),
        "scalar" => Some(Arc::new(ScalarHasher)),
        _ => None,
    }
}

/// The backend that the options ask for.
pub(crate) fn choose(options: &Options) -> Arc<dyn BatchHasher> {
    match &options.hasher {
        Some(hasher) => Arc::clone(hasher),
        None => Arc::new(CpuHasher::new()),
    }
}
