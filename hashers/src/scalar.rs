//! The reference: one hash at a time.

use crate::{
    BatchHasher, Tuning,
    backend::{Backend, Family, Opened},
};
use hedgerow_hasher_api::ScalarHasher;
use std::sync::Arc;

pub(crate) const FAMILY: Family = Family { name: "scalar", backends, open, automatic: false };

fn backends() -> Vec<Backend> {
    vec![Backend::new(FAMILY.name, ScalarHasher.capabilities().device)]
}

fn open(which: Option<&str>, _: Tuning) -> Opened {
    match which {
        None => Ok(Arc::new(ScalarHasher)),
        Some(which) => Err(format!("the reference has no kinds; {which:?} is none")),
    }
}
