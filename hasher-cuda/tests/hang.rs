//! A device that hangs: an error in bounded time, whatever is asked of it, and nothing hangs with it.
#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{digests, driver, everything};
use hedgerow_fake_cuda::control::FakeCuda;
use hedgerow_hasher_api::{BatchHasher, HashError, ScalarHasher, Target};
use hedgerow_hasher_cuda::{CudaDevice, CudaHasher};
use hedgerow_hasher_device::{DeviceHasher, Limits};
use hedgerow_testkit::Limit;
use hedgerow_types::Digest;
use std::time::Duration;

/// Longer than a piece of work takes on the fake device.
const PATIENCE: Duration = Duration::from_millis(200);

fn hasher(ordinal: u32) -> Result<CudaHasher, HashError> {
    let device = CudaDevice::with_patience(ordinal, PATIENCE)?;
    DeviceHasher::with_chunk_bytes(device, Limits::LEAST_BUFFER)
}

/// What a block in rows asks for.
fn rows(hasher: &CudaHasher) -> Result<Vec<Digest>, HashError> {
    let mut rows = hasher.residency().unwrap().open(&[64, 32])?;
    rows.write_run(0, 0, &digests(64))?;
    rows.write(0, &[3, 9], &digests(2))?;
    rows.flip(0, &[(7, 1)])?;
    rows.hash(2, 0, &[0, 1, 5, 31], Target::row(1))?;
    rows.read(1, &[1, 31])?;
    rows.flush()?;
    let mut out = vec![Digest::ZERO; 2];
    rows.take(&mut out)?;
    Ok(out)
}

fn is_hung(error: &HashError) -> bool {
    let answer = matches!(error, HashError::DeviceLost { .. });
    answer && error.to_string().contains("no answer for 200ms")
}

/// The life of a hasher whose device hangs after so many calls; whether it came to that.
fn life(fake: &FakeCuda, ordinal: u32, calls: u64) -> bool {
    fake.configure(12_080, 3).unwrap();
    fake.forget().unwrap();
    let hasher = hasher(ordinal).unwrap();
    fake.hang_after(calls).unwrap();
    let what = format!("device {ordinal}, hanging after {calls} calls");
    let mut hung = false;
    for round in 0..3 {
        for error in [everything(&hasher).err(), rows(&hasher).err()] {
            assert!(!hung || error.is_some(), "{what}, round {round}: it came back");
            if let Some(error) = error {
                assert!(is_hung(&error), "{what}, round {round}: {error}");
                hung = true;
            }
        }
    }
    drop(hasher);
    assert_eq!(fake.violations().unwrap(), [""; 0], "{what}");
    hung
}

fn a_device_hangs_at_any_call(ordinal: u32) {
    let _limit = Limit::new();
    let driver = driver();
    let Some(fake) = driver.fake("a device that hangs") else { return };
    let expected = everything(&ScalarHasher).unwrap();
    let calls = (0..).map(|step: u64| if step < 40 { step } else { 40 + 31 * (step - 40) });
    let hung = calls.take_while(|&calls| life(fake, ordinal, calls)).count();
    assert!(hung > 40, "{hung}");
    // It is another one afterwards.
    fake.configure(12_080, 3).unwrap();
    assert_eq!(everything(&hasher(ordinal).unwrap()).unwrap(), expected);
}

#[test]
fn a_device_with_memory_pools_hangs_at_any_call() {
    a_device_hangs_at_any_call(0);
}

#[test]
fn a_device_without_memory_pools_hangs_at_any_call() {
    a_device_hangs_at_any_call(1);
}
