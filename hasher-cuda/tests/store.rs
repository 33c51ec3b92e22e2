//! A store whose device hangs, on the fake CUDA driver: the CPU takes over, and neither a block nor the
//! end of the store waits for the device any more.
#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use hedgerow::disk::MemDisk;
use hedgerow::hasher::{BatchHasher, Guarded, Thresholds, by_name};
use hedgerow::{Digest, Height, Options, Store, StoreParams};
use hedgerow_fake_cuda::control::FakeCuda;
use hedgerow_hasher_cuda::CudaDevice;
use hedgerow_hasher_device::DeviceHasher;
use hedgerow_testkit::Limit;
use std::sync::Arc;
use std::time::Duration;

/// Longer than a piece of work takes on the fake device.
const PATIENCE: Duration = Duration::from_millis(200);
const BLOCKS: u64 = 6;

/// A store's whole life; `hang` is called in the middle of it.
fn roots(hasher: Arc<dyn BatchHasher>, hang: impl FnOnce()) -> Vec<Digest> {
    let options = Options::default().disk(Arc::new(MemDisk::new())).hasher(hasher);
    let mut store = Store::create("/store", StoreParams::default(), options).unwrap();
    let (mut roots, mut hang) = (vec![], Some(hang));
    for height in 1..=BLOCKS {
        if height == BLOCKS / 2 {
            hang.take().unwrap()();
        }
        let mut block = store.begin_block(Height(height)).unwrap();
        for n in 0..100_u64 {
            block.put((n * height % 211).to_le_bytes(), [height as u8; 40]).unwrap();
        }
        roots.push(block.submit().unwrap().root().unwrap());
    }
    store.check().unwrap();
    store.close().unwrap();
    roots
}

#[test]
fn a_device_that_hangs_costs_no_root_and_holds_no_store_up() {
    let _limit = Limit::new();
    let fake = FakeCuda::load().unwrap();
    let cpu = || by_name("cpu").unwrap();
    let expected = roots(cpu(), || ());
    // Two with memory pools and without.
    for (ordinal, calls) in [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144].into_iter().enumerate() {
        fake.configure(12_080, 3).unwrap();
        let device = CudaDevice::with_patience(ordinal as u32 % 2, PATIENCE).unwrap();
        let device = Arc::new(DeviceHasher::new(device).unwrap().resident_from(0));
        let guarded = Arc::new(Guarded::new(device, cpu(), Thresholds::ALL, 10));
        let hasher: Arc<dyn BatchHasher> = guarded.clone();
        let found = roots(hasher, || fake.hang_after(calls).unwrap());
        assert_eq!(found, expected, "hanging after {calls} calls");
        let health = guarded.health();
        assert!(health.device_batches > 0, "{health:?}");
        assert!(health.quarantined.unwrap().contains("no answer for 200ms"));
        drop(guarded);
        assert_eq!(fake.violations().unwrap(), [""; 0]);
    }
}
