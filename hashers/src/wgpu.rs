//! GPUs through wgpu: `wgpu` for the first that can be used, `wgpu:WHICH` for a certain one, by its
//! index or a part of its name. Software adapters, which hash on the CPU and slowly, only as
//! `wgpu-software` and `wgpu-software:WHICH`.

use crate::backend::{Backend, Family, Opened};
use hedgerow_hasher_wgpu::{Choice, adapters, find};
use std::sync::Arc;

pub(crate) const FAMILY: Family = Family {
    name: "wgpu",
    backends: || backends(&FAMILY, "the first GPU that works", false),
    open: |which, _| open(which, false),
    automatic: true,
};

pub(crate) const SOFTWARE: Family = Family {
    name: "wgpu-software",
    backends: || backends(&SOFTWARE, "the first software adapter, for tests", true),
    open: |which, _| open(which, true),
    automatic: false,
};

fn backends(family: &Family, first: &str, software: bool) -> Vec<Backend> {
    let found = find(&Choice { adapter: None, software });
    let first = Backend {
        why_not: found.err().map(|error| error.to_string()),
        ..Backend::new(family.name, first)
    };
    let all = adapters().into_iter().filter(|adapter| adapter.software == software);
    let each = all.map(|adapter| Backend {
        why_not: adapter.unusable.clone(),
        ..Backend::new(format!("{}:{}", family.name, adapter.index), adapter.to_string())
    });
    [first].into_iter().chain(each).collect()
}

fn open(which: Option<&str>, software: bool) -> Opened {
    let choice = Choice { adapter: which.map(String::from), software };
    match hedgerow_hasher_wgpu::open(&choice) {
        Ok(hasher) => Ok(Arc::new(hasher)),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tuning;

    #[test]
    fn a_backend_opens_or_says_why_not() {
        for family in [FAMILY, SOFTWARE] {
            for backend in (family.backends)() {
                let which = backend.name.split_once(':').map(|(_, which)| which);
                match (&backend.why_not, (family.open)(which, Tuning::default())) {
                    (None, Ok(hasher)) => assert!(hasher.capabilities().is_device),
                    (Some(why_not), Err(error)) => assert!(error.contains(why_not), "{error}"),
                    (why_not, opened) => panic!("{}: {why_not:?}, {opened:?}", backend.name),
                }
                println!("{}: {:?}", backend.name, backend.why_not);
            }
            for unknown in ["", "no such adapter", "4294967295", "-1"] {
                assert!((family.open)(Some(unknown), Tuning::default()).is_err(), "{unknown:?}");
            }
        }
    }
}
