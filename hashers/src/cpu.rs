//! The CPU: `cpu` with the kernels that are fastest here, `cpu:KERNEL` with one for everything.

use crate::{
    Tuning,
    backend::{Backend, Family, Opened, PlannedRange},
};
use hedgerow_hasher_cpu::{CpuHasher, KernelInfo};
use std::sync::Arc;

pub(crate) const FAMILY: Family = Family { name: "cpu", backends, open, automatic: false };

fn pinned(kernel: &str) -> String {
    format!("{}:{kernel}", FAMILY.name)
}

fn backends() -> Vec<Backend> {
    let hasher = CpuHasher::new();
    let ranges = hasher.planned().iter();
    let plan = ranges.map(|range| PlannedRange {
        from: range.from,
        to: range.to,
        backend: pinned(range.kernel),
    });
    let fastest = Backend {
        plan: plan.collect(),
        ..Backend::new(FAMILY.name, "the kernels that are fastest here")
    };
    let kernel = |info: KernelInfo| {
        let measured = hasher.measured().iter().find(|speed| speed.kernel == info.name);
        Backend {
            why_not: info.why_not.map(String::from),
            nanoseconds_per_node: measured.map(|speed| speed.nanoseconds_per_node),
            ..Backend::new(pinned(info.name), info.instructions)
        }
    };
    [fastest].into_iter().chain(CpuHasher::kernels().into_iter().map(kernel)).collect()
}

fn open(kernel: Option<&str>, _: Tuning) -> Opened {
    match kernel.map(CpuHasher::pinned) {
        None => Ok(Arc::new(CpuHasher::new())),
        Some(Ok(hasher)) => Ok(Arc::new(hasher)),
        Some(Err(error)) => Err(error.to_string()),
    }
}
