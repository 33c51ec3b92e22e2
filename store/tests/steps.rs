//! How long the steps of blocks take: each is counted as often as it is done, no step takes longer than all of it,
//! and a step that fails is counted as that.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk, on};
use hedgerow::{Error, Op, OpKind, Options, Step, Steps, Store, StoreParams};
use hedgerow_testkit::Limit;
use hedgerow_vfs::{HookedDisk, VfsCall, VfsError, VfsOp};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn counts(steps: &Steps) -> Vec<(&'static str, u64)> {
    steps.iter().map(|(step, stats)| (step.name(), stats.durations.count())).collect()
}

fn failures(steps: &Steps) -> Vec<(Step, u64)> {
    let failed = steps.iter().map(|(step, stats)| (step, stats.failed));
    failed.filter(|&(_, failed)| failed > 0).collect()
}

/// A block that writes to every shard.
fn block(store: &mut Store, height: u32) {
    let mut block = store.next_block().unwrap();
    for key in 0..500_u32 {
        block.put(key.to_be_bytes(), height.to_be_bytes()).unwrap();
    }
    block.submit().unwrap().durable().unwrap();
}

#[test]
fn every_step_is_counted_once() {
    let _limit = Limit::new();
    let disk = disk();
    let options = on(&disk).manifest_blocks(4);
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    let begun = Instant::now();
    let before = store.stats().steps;
    assert!(before.iter().all(|(_, stats)| stats.durations.count() == 0), "{:?}", counts(&before));
    for height in 1..=12 {
        block(&mut store, height);
    }
    store.flush().unwrap();
    let steps = store.stats().steps.since(&before);
    let took = begun.elapsed();
    for step in [Step::Wait, Step::Resolve, Step::Update, Step::Record, Step::Hash, Step::Publish] {
        assert_eq!(steps[step].durations.count(), 12, "{step:?}");
    }
    // Each block was waited for, so that each has a write of its own.
    let (write, sync) = (&steps[Step::Write].durations, &steps[Step::Sync].durations);
    assert_eq!((write.count(), sync.count()), (12, 12));
    let manifests = steps[Step::Manifest].durations.count();
    assert_eq!(manifests, store.stats().commits);
    assert!((3..=4).contains(&manifests), "{manifests}");
    assert_eq!(failures(&steps), []);
    // They are done one after the other, but for the two threads that follow the writer's.
    let sum =
        |which: &[Step]| which.iter().map(|&step| steps[step].durations.sum()).sum::<Duration>();
    assert!(sum(&[Step::Wait, Step::Resolve, Step::Update, Step::Record]) <= took);
    assert!(sum(&[Step::Hash, Step::Publish]) <= took);
    assert!(sum(&[Step::Write, Step::Sync]) <= took);
    assert!(steps.over() <= took + Duration::from_millis(1));
    for (step, stats) in steps.iter() {
        let all = &stats.durations;
        assert!(all.quantile(0.5) <= Some(all.max()) && all.max() <= all.sum(), "{step:?}");
        assert!(all.mean() <= all.max(), "{step:?}");
        assert!(steps.per_second(step) > 0.0 && steps.share(step) <= 1.0, "{step:?}");
    }
    for step in [Step::Resolve, Step::Update, Step::Hash] {
        assert!(steps[step].durations.sum() > Duration::ZERO, "{step:?} takes time");
    }
    let none = store.stats().steps;
    assert_eq!(none.since(&none)[Step::Hash].durations.max(), Duration::ZERO);
    store.close().unwrap();
    let store = Store::open(dir(), on(&disk)).unwrap();
    assert_eq!(store.stats().steps[Step::Hash].durations.count(), 0, "from when it was opened");
}

#[test]
fn a_speculative_block_is_made_and_hashed_once() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    let kept = {
        let mut block = store.speculate(None).unwrap();
        block.put("alice", "1").unwrap();
        block.finish().unwrap()
    };
    let mut other = store.speculate(None).unwrap();
    other.put("bob", "2").unwrap();
    drop(other.finish().unwrap());
    let made = store.stats().steps;
    let expected =
        |step| u64::from(matches!(step, Step::Resolve | Step::Update | Step::Record | Step::Hash));
    for (step, stats) in made.iter() {
        assert_eq!(stats.durations.count(), 2 * expected(step), "{step:?}");
    }
    store.accept(kept).unwrap().durable().unwrap();
    let accepted = store.stats().steps.since(&made);
    for step in [Step::Resolve, Step::Update, Step::Record, Step::Hash] {
        assert_eq!(accepted[step].durations.count(), 0, "{step:?} was done before");
    }
    for step in [Step::Wait, Step::Publish, Step::Write, Step::Sync] {
        assert_eq!(accepted[step].durations.count(), 1, "{step:?}");
    }
}

#[test]
fn a_refused_block_fails_where_it_is_refused() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    let height = store.height().next();
    let op = Op { kind: OpKind::Update, key: b"alice".to_vec(), value: b"1".to_vec() };
    let tasks = [vec![vec![op]].into_iter().collect()];
    let error = store.submit_tasks(height, &tasks, Vec::new()).unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    let steps = store.stats().steps;
    assert_eq!(failures(&steps), [(Step::Resolve, 1)]);
    let told = counts(&steps);
    assert_eq!(told[..3], [("wait", 1), ("resolve", 1), ("update", 0)]);
    assert!(told[3..].iter().all(|&(_, count)| count == 0), "{told:?}");
}

/// A disk of which writes to the log, or syncs of it, fail once it is told so.
fn failing(op: VfsOp) -> (Options, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&fails);
    let hook = move |call: &VfsCall<'_>| {
        let of_log = call.path.to_string_lossy().contains("/log/");
        if of_log && call.op == op && told.load(Ordering::SeqCst) {
            let reason = io::Error::other("as the test wants");
            return Err(VfsError::new(call.op, call.path, None, reason));
        }
        Ok(())
    };
    (on(&(Arc::new(HookedDisk::new(disk(), Arc::new(hook))) as _)), fails)
}

#[test]
fn a_write_or_sync_that_fails_is_counted_as_that() {
    let _limit = Limit::new();
    for (op, step) in [(VfsOp::Write, Step::Write), (VfsOp::Sync, Step::Sync)] {
        let (options, fails) = failing(op);
        let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
        block(&mut store, 1);
        fails.store(true, Ordering::SeqCst);
        let ticket = store.next_block().unwrap().submit().unwrap();
        assert!(matches!(ticket.durable(), Err(Error::Poisoned { .. })));
        let steps = store.stats().steps;
        assert_eq!(failures(&steps), [(step, 1)], "{op:?}");
        assert_eq!(steps[Step::Write].durations.count(), 2);
        assert_eq!(steps[Step::Sync].durations.count(), if op == VfsOp::Sync { 2 } else { 1 });
    }
}
