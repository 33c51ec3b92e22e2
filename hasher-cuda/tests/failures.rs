//! Every call of the driver fails in turn: an error, never a panic, never a wrong digest, and nothing
//! that the device may still use is freed.
#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{driver, everything};
use hedgerow_fake_cuda::control::FakeCuda;
use hedgerow_hasher_api::{HashError, ScalarHasher};
use hedgerow_hasher_cuda::{CudaDevice, CudaHasher};
use hedgerow_hasher_device::{DeviceHasher, Limits};
use hedgerow_types::Digest;

const OUT_OF_MEMORY: u32 = 2;
const LAUNCH_FAILED: u32 = 719;

fn hasher(ordinal: u32) -> Result<CudaHasher, HashError> {
    DeviceHasher::with_chunk_bytes(CudaDevice::new(ordinal)?, Limits::LEAST_BUFFER)
}

/// A hasher's life: two rounds, so that whatever is kept is used again; then `end`, and it is
/// dropped.
fn life(ordinal: u32, end: impl FnOnce()) -> Result<Vec<Digest>, HashError> {
    let hasher = hasher(ordinal)?;
    everything(&hasher)?;
    let digests = everything(&hasher)?;
    end();
    Ok(digests)
}

/// Calls whose success nobody needs when something is given back.
fn may_fail_silently(name: &str) -> bool {
    let gives_back = ["Destroy", "Free", "Unload", "Release", "Ctx", "cuStreamSynchronize"];
    gives_back.iter().any(|word| name.contains(word))
}

/// Which of a number of calls fail: all of few, some of many.
fn chosen(count: u64) -> impl Iterator<Item = u64> {
    (1..=count).filter(move |nth| *nth <= 12 || *nth == count || nth % 17 == 0)
}

/// A failure of the `nth` call of `name` in the life of a hasher.
fn check(fake: &FakeCuda, ordinal: u32, name: &str, nth: u64, code: u32, expected: &[Digest]) {
    fake.configure(12_080, 3).unwrap();
    fake.forget().unwrap();
    fake.fail(name, nth, code).unwrap();
    let what = format!("{name}, call {nth}, code {code}, device {ordinal}");
    let mut while_dropped = false;
    match life(ordinal, || while_dropped = fake.failure_pending().unwrap()) {
        Ok(digests) => {
            assert!(while_dropped || may_fail_silently(name), "{what}: no error");
            assert_eq!(digests, expected, "{what}");
        }
        Err(HashError::Device { backend, reason } | HashError::DeviceLost { backend, reason }) => {
            assert_eq!(backend, "cuda");
            assert!(reason.contains(&format!("({code})")), "{what}: {reason}");
        }
        Err(error) => assert_eq!(error.to_string(), "", "{what}"),
    }
    assert!(!fake.failure_pending().unwrap(), "{what}: did not happen");
    assert_eq!(fake.violations().unwrap(), [""; 0], "{what}");
    // Everything is gone with its context, unless the context could not be released either: cudarc
    // forgets to when its making fails half-way.
    let live = fake.live().unwrap();
    let kept = |kind: &str| kind == "contexts" || live["contexts"] > 0;
    assert!(live.iter().all(|(kind, &count)| count == 0 || kept(kind)), "{what}: {live:?}");
}

fn every_call_fails_in_turn(ordinal: u32, code: u32) {
    let driver = driver();
    let Some(fake) = driver.fake("failure injection") else { return };
    let expected = everything(&ScalarHasher).unwrap();
    assert_eq!(life(ordinal, || ()).unwrap(), expected);
    let calls = fake.calls().unwrap();
    let mut failures = 0;
    for (name, count) in calls {
        for nth in chosen(count) {
            check(fake, ordinal, &name, nth, code, &expected);
            failures += 1;
        }
    }
    println!("device {ordinal}: {failures} failures with code {code}");
    assert!(failures > 150, "{failures}");
    fake.configure(12_080, 3).unwrap();
    assert_eq!(life(ordinal, || ()).unwrap(), expected, "after all failures");
}

#[test]
fn every_call_fails_in_turn_with_memory_pools() {
    every_call_fails_in_turn(0, OUT_OF_MEMORY);
}

#[test]
fn every_call_fails_in_turn_without_memory_pools() {
    every_call_fails_in_turn(1, OUT_OF_MEMORY);
}

#[test]
fn every_call_ends_the_context_in_turn() {
    every_call_fails_in_turn(0, LAUNCH_FAILED);
}

#[test]
fn a_device_that_failed_once_goes_on() {
    let driver = driver();
    let Some(fake) = driver.fake("failure injection") else { return };
    let expected = everything(&ScalarHasher).unwrap();
    let hasher = hasher(0).unwrap();
    let calls = ["cuMemAllocAsync", "cuMemHostAlloc", "cuMemcpyHtoDAsync_v2", "cuLaunchKernel"];
    let waits = ["cuMemcpyDtoHAsync_v2", "cuEventRecord", "cuEventQuery", "cuStreamCreate"];
    for name in calls.into_iter().chain(waits) {
        fake.fail(name, 1, OUT_OF_MEMORY).unwrap();
        let mut result = everything(&hasher);
        if result.is_ok() {
            // What is kept from before was enough. All of it is used at once, so more is needed.
            let all = std::thread::scope(|scope| {
                let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| everything(&hasher))).collect();
                callers.into_iter().map(|caller| caller.join().unwrap()).collect::<Vec<_>>()
            });
            result = all.into_iter().find(Result::is_err).unwrap_or(result);
        }
        assert!(matches!(result, Err(HashError::Device { .. })), "{name}: {result:?}");
        assert_eq!(everything(&hasher).unwrap(), expected, "after {name}");
    }
}

#[test]
fn a_lost_device_stays_lost_and_a_new_one_can_be_made() {
    let driver = driver();
    let Some(fake) = driver.fake("failure injection") else { return };
    let expected = everything(&ScalarHasher).unwrap();
    let lost = hasher(0).unwrap();
    assert_eq!(everything(&lost).unwrap(), expected);
    fake.fail("execute", 7, LAUNCH_FAILED).unwrap();
    for _ in 0..3 {
        let result = everything(&lost);
        assert!(matches!(result, Err(HashError::DeviceLost { .. })), "{result:?}");
    }
    // The other device does not care.
    assert_eq!(life(1, || ()).unwrap(), expected);
    drop(lost);
    assert_eq!(life(0, || ()).unwrap(), expected);
}
