//! A device under guard: the answers of the CPU, whatever the device does.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use hedgerow_hasher_api::{
    BatchHasher, Capabilities, HashError, HookedHasher, PairGroup, ScalarHasher, conformance,
    hash_node,
};
use hedgerow_hasher_device::{DeviceHasher, Failure, HostDevice, Limits};
use hedgerow_hashers::{Guarded, Thresholds};
use hedgerow_types::Digest;
use std::sync::Arc;

fn host_device() -> HostDevice {
    HostDevice::new(Limits { buffer_bytes: 1 << 30, max_count: u32::MAX })
}

/// The device with the reference behind it; every digest is checked.
fn guarded(device: &HostDevice, from: Thresholds) -> Guarded {
    let device = DeviceHasher::new(device.clone()).unwrap();
    Guarded::new(Arc::new(device), Arc::new(ScalarHasher), from, 1)
}

const CHILDREN: [Digest; 6] = [Digest([7; 32]); 6];

/// So many parents, which must be right.
fn pairs(hasher: &dyn BatchHasher, count: usize) {
    let mut out = vec![Digest::ZERO; count];
    let group = PairGroup { children: &CHILDREN[..2 * count], out: &mut out };
    hasher.pairs(5, &mut [group]).unwrap();
    assert_eq!(out, vec![hash_node(5, &CHILDREN[0], &CHILDREN[1]); count]);
}

#[test]
fn it_is_a_hasher_like_any_other() {
    let hasher = guarded(&host_device(), Thresholds::ALL);
    conformance::run(&hasher);
    let health = hasher.health();
    assert!(health.device_batches > 100 && health.checked > 1000, "{health:?}");
    assert_eq!((health.failures, health.quarantined), (0, None));
}

#[test]
fn small_batches_stay_on_the_cpu() {
    let device = host_device();
    let from = Thresholds { nodes: 3, messages: 2, resident: Some(usize::MAX) };
    let hasher = guarded(&device, from);
    for (count, on_device) in [(0, false), (1, false), (2, false), (3, true)] {
        let before = device.calls();
        pairs(&hasher, count);
        assert_eq!(device.calls() > before, on_device, "{count} nodes");
    }
    assert_eq!(hasher.health().checked, 3);
    // A malformed batch is the caller's fault.
    let mut out = vec![Digest::ZERO; 3];
    let group = PairGroup { children: &CHILDREN[..5], out: &mut out };
    assert!(matches!(hasher.pairs(5, &mut [group]), Err(HashError::Shape(_))));
    assert_eq!(hasher.health().quarantined, None);
}

#[test]
fn a_device_that_fails_is_asked_no_more() {
    let calls = {
        let device = host_device();
        let hasher = guarded(&device, Thresholds::ALL);
        let opened = device.calls();
        pairs(&hasher, 3);
        opened..device.calls()
    };
    assert!(calls.end > calls.start + 3, "{calls:?}");
    for (call, failure) in calls.flat_map(|call| [(call, Failure::Once), (call, Failure::Lost)]) {
        let device = host_device();
        let hasher = guarded(&device, Thresholds::ALL);
        device.fail_at(call, failure);
        pairs(&hasher, 3);
        let reason = hasher.health().quarantined.unwrap();
        assert!(hasher.capabilities().device.contains(&reason), "{reason}");
        let done = device.calls();
        pairs(&hasher, 3);
        assert_eq!(device.calls(), done, "call {call}, {failure:?}");
        assert!(hasher.residency().is_none());
    }
}

#[test]
fn a_wrong_digest_is_found_if_it_is_checked() {
    // The last of three is wrong.
    let liar = HookedHasher::new(Arc::new(ScalarHasher), |call, inner| {
        call.hash(inner)?;
        let mut at = 0;
        call.for_each_digest(|digest| {
            at += 1;
            digest.0[31] ^= u8::from(at == 3);
        });
        Ok(())
    });
    let capabilities =
        Capabilities { name: "liar".into(), is_device: true, ..ScalarHasher.capabilities() };
    let liar = Arc::new(liar.with_capabilities(capabilities));
    for (check_one_of, is_found) in [(1, true), (2, true), (3, false), (1000, false), (0, false)] {
        let hasher =
            Guarded::new(liar.clone(), Arc::new(ScalarHasher), Thresholds::ALL, check_one_of);
        let mut out = [Digest::ZERO; 3];
        hasher.pairs(5, &mut [PairGroup { children: &CHILDREN, out: &mut out }]).unwrap();
        let health = hasher.health();
        assert_eq!(health.failures > 0, is_found, "one of {check_one_of}: {health:?}");
        assert_eq!(out[2] == out[0], is_found, "one of {check_one_of}");
        assert_eq!(health.cpu_batches, u64::from(is_found));
    }
}
