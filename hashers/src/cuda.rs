//! NVIDIA devices: `cuda` for the first that can be used, `cuda:ORDINAL` for a certain one.

use crate::{
    HashError, Tuning,
    backend::{Backend, Family, Opened},
};
use hedgerow_hasher_cuda::{CudaInfo, devices, hasher};
use std::sync::Arc;

pub(crate) const FAMILY: Family = Family { name: "cuda", backends, open, automatic: true };

fn backends() -> Vec<Backend> {
    let first = Backend {
        why_not: first_usable().err(),
        ..Backend::new(FAMILY.name, "the first NVIDIA device that works")
    };
    let device = |info: CudaInfo| Backend {
        why_not: info.why_not.clone(),
        ..Backend::new(format!("{}:{}", FAMILY.name, info.ordinal), info.to_string())
    };
    let all = devices().unwrap_or_default();
    [first].into_iter().chain(all.into_iter().map(device)).collect()
}

fn open(ordinal: Option<&str>, _: Tuning) -> Opened {
    let ordinal = match ordinal {
        None => first_usable()?,
        Some(text) => text.parse().map_err(|_| format!("{text:?} is no device's ordinal"))?,
    };
    Ok(Arc::new(hasher(ordinal).map_err(reason)?))
}

/// The first device that says it can be used, or why there is none.
fn first_usable() -> Result<u32, String> {
    let devices = devices().map_err(reason)?;
    match devices.iter().find(|info| info.why_not.is_none()) {
        Some(info) => Ok(info.ordinal),
        None => Err(format!("none of the driver's {} devices can be used", devices.len())),
    }
}

/// What the driver said, without the backend's name.
fn reason(error: HashError) -> String {
    match error {
        HashError::Device { reason, .. } | HashError::DeviceLost { reason, .. } => reason,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_opens_or_says_why_not() {
        for backend in backends() {
            let which = backend.name.split_once(':').map(|(_, ordinal)| ordinal);
            match (&backend.why_not, open(which, Tuning::default())) {
                (None, Ok(hasher)) => assert!(hasher.capabilities().is_device),
                (Some(why_not), Err(error)) => assert!(error.contains(why_not), "{error}"),
                (why_not, opened) => panic!("{}: {why_not:?}, {opened:?}", backend.name),
            }
            println!("{}: {:?}", backend.name, backend.why_not);
        }
        assert!(open(Some("x"), Tuning::default()).unwrap_err().contains("ordinal"));
        assert!(open(Some("-1"), Tuning::default()).unwrap_err().contains("ordinal"));
        open(Some("4294967295"), Tuning::default()).unwrap_err();
    }
}
