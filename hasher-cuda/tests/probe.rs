//! What is said of a driver and its devices, usable or not.
#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]

mod common;

use common::driver;
use hedgerow_hasher_api::BatchHasher;
use hedgerow_hasher_cuda::{devices, hasher};

#[test]
fn devices_and_why_one_is_not_usable() {
    let driver = driver();
    let Some(_) = driver.fake("the list of the fake devices") else { return };
    let found = devices().unwrap();
    let ordinals: Vec<_> = found.iter().map(|info| info.ordinal).collect();
    assert_eq!(ordinals, [0, 1, 2]);
    let capabilities: Vec<_> = found.iter().map(|info| info.compute_capability).collect();
    assert_eq!(capabilities, [(9, 0), (7, 5), (5, 2)]);
    assert_eq!((&found[0].why_not, &found[1].why_not), (&None, &None));
    assert!(found[2].why_not.as_deref().unwrap().contains("5.2"));
    let error = hasher(2).unwrap_err().to_string();
    assert!(error.contains("too old") && error.contains("5.2"), "{error}");
    let error = hasher(3).unwrap_err().to_string();
    assert!(error.contains("no device 3"), "{error}");
    hasher(u32::MAX).unwrap_err();
    let capabilities = hasher(1).unwrap().capabilities();
    assert_eq!((capabilities.name.as_str(), capabilities.is_device), ("cuda", true));
    assert!(capabilities.device.contains("7.5") && capabilities.device.contains("CUDA 12.8"));
}

#[test]
fn drivers_that_are_of_no_use() {
    let driver = driver();
    let Some(fake) = driver.fake("drivers of other versions") else { return };
    for (version, count, words) in [
        (12_000, 3, "CUDA 12.0, at least 12.1"),
        (11_040, 3, "CUDA 11.4"),
        (0, 3, "at least 12.1"),
        (12_080, 0, "CUDA_ERROR_NO_DEVICE (100), no CUDA-capable device"),
    ] {
        fake.configure(version, count).unwrap();
        for error in [devices().unwrap_err(), hasher(0).unwrap_err()] {
            assert!(error.to_string().contains(words), "{version}: {error}");
        }
    }
    for version in [12_010, 12_080, 13_020] {
        fake.configure(version, 1).unwrap();
        hasher(0).unwrap();
    }
}
