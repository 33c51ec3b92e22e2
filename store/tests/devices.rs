//! A store whose hashes come from a device: the roots of the CPU, whatever the device does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Gate, dir, disk, guarded, host_device, keep_busy, on};
use hedgerow::hasher::{BatchHasher, Capabilities, Guarded, HashError, Thresholds, by_name};
use hedgerow::{Digest, Error, Height, Options, Store, StoreParams, Ticket};
use hedgerow_hasher_api::{
    HookedHasher, HookedRows, PairGroup, Residency, ResidentRows, RowsCall, ScalarHasher,
};
use hedgerow_hasher_device::{DeviceHasher, Failure, HostDevice};
use hedgerow_testkit::Limit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const BLOCKS: u64 = 4;

/// Applies a few blocks on a fresh store, reopens it and returns all roots.
fn roots(options: impl Fn() -> Options) -> Vec<Digest> {
    let params = StoreParams::default();
    let mut roots = vec![];
    let mut store = Store::create(dir(), params, options()).unwrap();
    for height in 1..=BLOCKS {
        let mut block = store.begin_block(Height(height)).unwrap();
        for n in 0..150_u64 {
            let key = (n * height % 211).to_le_bytes();
            if (n + height) % 7 == 0 {
                block.delete(key).unwrap();
            } else {
                block.put(key, [height as u8; 40]).unwrap();
            }
        }
        block.commit().unwrap();
        roots.push(store.flush().map(|()| store.reader().root().1).unwrap());
    }
    store.close().unwrap();
    let mut store = Store::open(dir(), options()).unwrap();
    roots.push(store.reader().root().1);
    store.check().unwrap();
    roots
}

fn cpu_roots() -> Vec<Digest> {
    let disk = disk();
    roots(|| on(&disk).hasher(by_name("cpu").unwrap()))
}

/// The roots with a guarded device, and the backend that made them.
fn device_roots(device: &HostDevice, check_one_of: u32) -> (Vec<Digest>, Arc<dyn BatchHasher>) {
    let disk = disk();
    let hasher: Arc<dyn BatchHasher> = Arc::new(guarded(device.clone(), check_one_of));
    (roots(|| on(&disk).hasher(Arc::clone(&hasher))), hasher)
}

#[test]
fn a_device_computes_the_roots_of_the_cpu() {
    let _limit = Limit::new();
    let (roots, hasher) = device_roots(&host_device(), 10);
    assert_eq!(roots, cpu_roots());
    let health = hasher.health();
    assert!(health.device_batches > 30, "{health:?}");
    assert!(health.checked > 100, "{health:?}");
    assert_eq!(health.resident_blocks, BLOCKS, "{health:?}");
    assert_eq!((health.cpu_batches, health.failures, health.quarantined), (0, 0, None));
}

#[test]
fn a_device_that_fails_at_any_call_goes_into_quarantine_and_costs_no_root() {
    let _limit = Limit::new();
    let expected = cpu_roots();
    let device = host_device();
    device_roots(&device, 0);
    let calls = device.calls();
    assert!(calls > 300, "{calls}");
    // Every call of the first blocks, then some.
    let at = (0..calls).filter(|call| *call < 120 || call % 61 == 0);
    let mut without_rows = 0;
    for call in at {
        let failure = if call % 2 == 0 { Failure::Once } else { Failure::Lost };
        let device = host_device();
        device.fail_at(call, failure);
        let (roots, hasher) = device_roots(&device, 0);
        assert_eq!(roots, expected, "call {call}, {failure:?}");
        let health = hasher.health();
        if health.failures == 0 {
            // Memory that could not be had for rows is no reason to distrust the device.
            without_rows += 1;
            assert_eq!(health.resident_blocks, 0, "call {call}, {failure:?}, {health:?}");
            continue;
        }
        let reason = health.quarantined.unwrap();
        assert!(hasher.capabilities().device.contains(&reason), "{reason}");
        // After the failure the device was left alone.
        let done = device.calls();
        hasher.pairs(0, &mut [pair(&mut [Digest::ZERO])]).unwrap();
        assert_eq!(device.calls(), done);
    }
    assert!((1..=6).contains(&without_rows), "{without_rows}");
}

fn pair(out: &mut [Digest]) -> PairGroup<'_> {
    PairGroup { children: &[Digest::ZERO; 2], out }
}

/// Hashes right but for the last digest of the batch with this number.
fn liar(batch: u64) -> Arc<dyn BatchHasher> {
    let left = AtomicU64::new(batch);
    let hooked = HookedHasher::new(Arc::new(ScalarHasher), move |call, inner| {
        call.hash(inner)?;
        if left.fetch_sub(1, Ordering::Relaxed) == 0 {
            let mut digests = 0;
            call.for_each_digest(|_| digests += 1);
            call.for_each_digest(|digest| {
                digests -= 1;
                digest.0[(batch % 32) as usize] ^= if digests == 0 { 1 << (batch % 8) } else { 0 };
            });
        }
        Ok(())
    });
    let capabilities =
        Capabilities { name: "liar".into(), is_device: true, ..ScalarHasher.capabilities() };
    Arc::new(hooked.level_by_level().with_capabilities(capabilities))
}

#[test]
fn a_wrong_digest_in_any_batch_is_found_and_costs_no_root() {
    let _limit = Limit::new();
    let expected = cpu_roots();
    let mut caught = 0;
    for batch in 0..100 {
        let disk = disk();
        let cpu = by_name("cpu").unwrap();
        let all = Thresholds::ALL;
        let hasher: Arc<dyn BatchHasher> = Arc::new(Guarded::new(liar(batch), cpu, all, 1));
        assert_eq!(roots(|| on(&disk).hasher(Arc::clone(&hasher))), expected, "batch {batch}");
        caught += hasher.health().failures;
    }
    assert_eq!(caught, 100, "every lie is in a batch that the store asks for");
}

/// What happens to nodes on their way back that the root does not need; nothing is checked.
#[derive(Clone, Debug)]
enum Fate {
    /// They wait at the gate.
    Wait(Arc<Gate>),
    /// While this is set they are lost, and what the root needs arrives wrong.
    Wrong(Arc<AtomicBool>),
}

/// A device that keeps rows for blocks of any size, whose nodes come back late or not at all.
fn slow_return(fate: Fate) -> Arc<dyn BatchHasher> {
    let device = DeviceHasher::new(host_device()).unwrap();
    let capabilities = device.capabilities();
    let residency = Some(Arc::new(SlowReturn { device, fate }) as Arc<dyn Residency>);
    let hooked = HookedHasher::new(Arc::new(ScalarHasher), |call, inner| call.hash(inner));
    Arc::new(hooked.with_capabilities(capabilities).with_residency(residency))
}

struct SlowReturn {
    device: DeviceHasher<HostDevice>,
    fate: Fate,
}

impl Residency for SlowReturn {
    fn id(&self) -> u64 {
        self.device.id()
    }

    fn worth_from(&self) -> usize {
        0
    }

    fn check_one_of(&self) -> u32 {
        0
    }

    fn open(&self, lens: &[u32]) -> Result<Box<dyn ResidentRows>, HashError> {
        let fate = self.fate.clone();
        // Since something was hashed.
        let mut taken = 0;
        let hook = move |call: &mut RowsCall<'_>, rows: &mut dyn ResidentRows| {
            match call {
                RowsCall::Hash(..) => taken = 0,
                RowsCall::Take(out) => {
                    // Every shard has one twig: its root is all that the state root needs of the
                    // device.
                    let for_root = taken == 0;
                    taken += 1;
                    return slow_take(&fate, for_root, out, rows);
                }
                _ => {}
            }
            call.run(rows)
        };
        Ok(Box::new(HookedRows::new(self.device.open(lens)?, hook)))
    }

    fn condemn(&self, error: &HashError) {
        assert!(matches!(self.fate, Fate::Wrong(_)), "{error}");
    }
}

fn slow_take(
    fate: &Fate,
    for_root: bool,
    out: &mut [Digest],
    rows: &mut dyn ResidentRows,
) -> Result<(), HashError> {
    match fate {
        Fate::Wait(gate) if !for_root => gate.pass(),
        Fate::Wrong(now) if now.load(Ordering::Relaxed) => {
            if !for_root {
                let (backend, reason) = ("wrong".into(), "told to fail".into());
                return Err(HashError::Device { backend, reason });
            }
            rows.take(out)?;
            out[0].0[3] ^= 1;
            return Ok(());
        }
        _ => {}
    }
    rows.take(out)
}

#[test]
fn a_root_is_known_before_the_nodes_are_back() {
    let _limit = Limit::new();
    let expected = roots_of_two_keys();
    let gate = Arc::new(Gate::default());
    let options = on(&disk()).hasher(slow_return(Fate::Wait(Arc::clone(&gate))));
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    assert_eq!(two_keys(&mut store, 1).root().unwrap(), expected[0]);
    gate.close();
    let second = two_keys(&mut store, 2);
    assert_eq!(second.early_root().unwrap(), expected[1]);
    gate.reached();
    let reader = store.reader();
    assert_eq!(reader.root(), (Height(1), expected[0]));
    std::thread::scope(|scope| {
        let published = scope.spawn(|| second.root().unwrap());
        keep_busy();
        assert!(!published.is_finished(), "the root of a block that readers do not see");
        gate.open();
        assert_eq!(published.join().unwrap(), expected[1]);
    });
    assert_eq!(reader.root(), (Height(2), expected[1]));
    store.check().unwrap();
}

/// A root that no check vouched for turns out wrong: nobody is given it any more, nothing of what the
/// device computed is kept.
#[test]
fn a_wrong_early_root_stops_the_store() {
    let _limit = Limit::new();
    let expected = roots_of_two_keys();
    let disk = disk();
    let wrong = Arc::new(AtomicBool::new(false));
    let options = on(&disk).hasher(slow_return(Fate::Wrong(Arc::clone(&wrong))));
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    let first = two_keys(&mut store, 1);
    assert_eq!(first.root().unwrap(), expected[0]);
    first.durable().unwrap();
    wrong.store(true, Ordering::Relaxed);
    let second = two_keys(&mut store, 2);
    let error = second.root().unwrap_err();
    assert!(error.to_string().contains("a device gave the root"), "{error}");
    assert!(matches!(second.early_root(), Err(Error::Poisoned { .. })));
    assert!(matches!(second.durable(), Err(Error::Poisoned { .. })));
    // That of the first block stands.
    assert_eq!(first.early_root().unwrap(), expected[0]);
    let reader = store.reader();
    assert_eq!(reader.root(), (Height(1), expected[0]));
    drop(reader);
    store.close().unwrap_err();
    // The block was accepted: its record may be in the log, and then it is taken in again. What the
    // device made of it is nowhere.
    let mut store = Store::open(dir(), on(&disk)).unwrap();
    let (Height(height), root) = store.reader().root();
    assert_eq!(root, expected[height as usize - 1]);
    if height == 1 {
        assert_eq!(two_keys(&mut store, 2).root().unwrap(), expected[1]);
    }
    store.check().unwrap();
}

/// The roots after two blocks of [`two_keys`], from the CPU.
fn roots_of_two_keys() -> [Digest; 2] {
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk())).unwrap();
    [1, 2].map(|height| two_keys(&mut store, height).root().unwrap())
}

fn two_keys(store: &mut Store, height: u64) -> Ticket {
    let mut block = store.begin_block(Height(height)).unwrap();
    block.put("always", height.to_le_bytes()).unwrap();
    block.put(height.to_le_bytes(), "once").unwrap();
    block.submit().unwrap()
}
