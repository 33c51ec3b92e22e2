//! The conformance suite of hasher-api on every usable device.
#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]

mod common;

use common::driver;
use hedgerow_hasher_api::{BatchHasher, LeftTree, PairGroup, ScalarHasher, conformance};
use hedgerow_hasher_cuda::{CudaDevice, hasher};
use hedgerow_hasher_device::{DeviceHasher, Limits};
use hedgerow_types::{Digest, TWIG_LEAVES};

#[test]
fn every_device_conforms() {
    let driver = driver();
    for ordinal in driver.ordinals() {
        let hasher = hasher(ordinal).unwrap();
        println!("{:?}", hasher.capabilities());
        conformance::run(&hasher);
    }
}

#[test]
fn chunks_of_the_smallest_size_conform() {
    let _driver = driver();
    let device = CudaDevice::new(0).unwrap();
    conformance::run(&DeviceHasher::with_chunk_bytes(device, Limits::LEAST_BUFFER).unwrap());
}

/// Sizes around the threads of a block and the items of a chunk; a million where there is a device.
#[test]
fn pairs_of_any_size_equal_the_reference() {
    let driver = driver();
    let device = CudaDevice::new(0).unwrap();
    let chunk = 1 << 12;
    let hasher = DeviceHasher::with_chunk_bytes(device, 64 * chunk as u64).unwrap();
    let top = if driver.is_fake() { 3 * chunk } else { 1 << 20 };
    let around = |n: usize| [n - 1, n, n + 1];
    let sizes = [around(128), around(256), around(chunk), around(top)].concat();
    let nodes = common::digests(2 * (top + 1));
    for size in sizes {
        let children = &nodes[..2 * size];
        let [mut device, mut reference] = [(); 2].map(|()| vec![Digest::ZERO; size]);
        hasher.pairs(9, &mut [PairGroup { children, out: &mut device }]).unwrap();
        ScalarHasher.pairs(9, &mut [PairGroup { children, out: &mut reference }]).unwrap();
        let wrong = (0..size).find(|&i| device[i] != reference[i]);
        assert_eq!(wrong, None, "{size} parents");
    }
}

#[test]
fn many_twigs_equal_the_reference() {
    let driver = driver();
    let hasher = hasher(0).unwrap();
    let count = if driver.is_fake() { 20 } else { 1000 };
    let leaves = common::digests(count * TWIG_LEAVES);
    let (mut device, mut reference) = (LeftTree::new(count), LeftTree::new(count));
    hasher.left_trees(&mut [device.group(&leaves, 0..leaves.len())]).unwrap();
    ScalarHasher.left_trees(&mut [reference.group(&leaves, 0..leaves.len())]).unwrap();
    assert!(device == reference);
}
