//! A device under hasher-api's hooks: what is passed on, and what a hook may change.

use crate::{DeviceHasher, HostDevice, Limits};
use hedgerow_hasher_api::{
    BatchHasher, Health, HookedHasher, HookedRows, ResidentRows, RowsCall, ScalarHasher, Target,
    hash_node,
};
use hedgerow_types::Digest;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

#[test]
fn it_is_what_it_was_told_to_be() {
    let device =
        || DeviceHasher::new(HostDevice::new(Limits { buffer_bytes: 1 << 20, max_count: 9 }));
    let inner: Arc<dyn BatchHasher> = Arc::new(device().unwrap());
    let hooked = HookedHasher::new(Arc::clone(&inner), |call, inner| call.hash(inner));
    assert_eq!(hooked.capabilities(), inner.capabilities());
    assert!(hooked.residency().is_some());
    assert!(hooked.clone().with_residency(None).residency().is_none());
    let health = Health { checked: 7, ..Health::default() };
    let other = ScalarHasher.capabilities();
    let told = health.clone();
    let hooked = hooked.with_capabilities(other.clone()).with_health(move || told.clone());
    assert_eq!((hooked.capabilities(), hooked.health()), (other, health));
}

#[test]
fn rows_ask_their_hook() {
    let device = DeviceHasher::new(HostDevice::new(Limits { buffer_bytes: 1 << 20, max_count: 9 }));
    let device = device.unwrap();
    let rows = device.residency().unwrap().open(&[4, 2]).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let mut rows = HookedRows::new(rows, move |call, rows| {
        count.fetch_add(1, Ordering::Relaxed);
        call.run(rows)?;
        if let RowsCall::Take(out) = call {
            out[0] = Digest::ZERO;
        }
        Ok(())
    });
    let leaf = |byte| Digest([byte; 32]);
    rows.write_run(0, 0, &[leaf(1), leaf(2)]).unwrap();
    rows.write(0, &[2, 3], &[leaf(3), leaf(4)]).unwrap();
    rows.flip(0, &[(0, 0)]).unwrap();
    rows.hash(0, 0, &[0, 1], Target::row(1)).unwrap();
    rows.read(1, &[0, 1]).unwrap();
    rows.flush().unwrap();
    let mut out = [leaf(9); 2];
    rows.take(&mut out).unwrap();
    assert_eq!(out, [Digest::ZERO, hash_node(0, &leaf(3), &leaf(4))]);
    assert_eq!(calls.load(Ordering::Relaxed), 7);
}
