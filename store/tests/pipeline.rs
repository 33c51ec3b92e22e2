//! What waits for what: held-back syncs and hashing, injected failures, poison.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::disks::{hooked, log_waits};
use common::{Gate, dir, disk, keep_busy};
use hedgerow::disk::Vfs;
use hedgerow::hasher::{BatchHasher, HashError};
use hedgerow::{Durability, Error, Height, Options, Store, StoreParams};
use hedgerow_hasher_api::{HookedHasher, ScalarHasher};
use hedgerow_testkit::Limit;
use hedgerow_vfs::{Hook, HookedDisk, VfsCall, VfsOp};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn block(store: &mut Store, height: u64) -> hedgerow::Ticket {
    let mut block = store.begin_block(Height(height)).unwrap();
    for i in 0..50 {
        block.put(format!("key {i}"), format!("value {i} at {height}")).unwrap();
    }
    block.put(format!("only {height}"), "x").unwrap();
    block.submit().unwrap()
}

#[test]
fn a_held_back_sync_does_not_hold_back_roots_or_readers() {
    let _limit = Limit::new();
    let gate = Arc::new(Gate::default());
    let disk = log_waits(VfsOp::Sync, &gate);
    let options = Options::default().disk(disk).max_in_flight(2);
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    gate.close();
    let first = block(&mut store, 1);
    gate.reached();
    let second = block(&mut store, 2);
    // The root after the next one is reached, though nothing is durable.
    let root = second.root().unwrap();
    assert_eq!(store.reader().durable_height(), Height(0));
    let reader = store.reader();
    assert_eq!(reader.root(), (Height(2), root));
    assert_eq!(reader.get("key 7").unwrap().unwrap(), b"value 7 at 2");
    let proven = reader.prove("only 2").unwrap();
    assert_eq!((proven.height, proven.root, proven.durable), (Height(2), root, false));
    assert_eq!(hedgerow_proof::verify(&root, b"only 2", &proven.proof).unwrap(), Some(&b"x"[..]));
    assert_eq!(reader.root_at(Height(2)).unwrap(), root);

    // The third has no room until something is durable.
    let entered = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (flag, store) = (Arc::clone(&entered), &mut store);
        let third = scope.spawn(move || {
            let ticket = block(store, 3);
            flag.store(true, Ordering::SeqCst);
            ticket.root().unwrap()
        });
        // In the time of many blocks it is not in.
        keep_busy();
        assert_eq!(reader.height(), Height(2));
        assert!(!entered.load(Ordering::SeqCst));
        gate.open();
        third.join().unwrap();
    });
    first.durable().unwrap();
    store.flush().unwrap();
    assert_eq!(reader.durable_height(), Height(3));
}

/// A block is durable before what it made needless is deleted; `flush` waits for that too.
#[test]
fn flush_waits_for_what_follows_a_commit() {
    let _limit = Limit::new();
    let gate = Arc::new(Gate::default());
    let passes = Arc::clone(&gate);
    let disk = hooked(move |call| {
        if call.op == VfsOp::Point && call.path == Path::new("commit: done") {
            passes.pass();
        }
        Ok(())
    });
    let options = Options::default().disk(disk);
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    gate.close();
    block(&mut store, 1).durable().unwrap();
    gate.reached();
    let flushed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            store.flush().unwrap();
            flushed.store(true, Ordering::SeqCst);
        });
        keep_busy();
        assert!(!flushed.load(Ordering::SeqCst));
        gate.open();
        waiter.join().unwrap();
    });
    store.close().unwrap();
}

/// A backend that waits at a gate before it hashes nodes, or fails, when told to.
fn gated(gate: &Arc<Gate>, fail: &Arc<AtomicBool>) -> Arc<dyn BatchHasher> {
    let (gate, fail) = (Arc::clone(gate), Arc::clone(fail));
    Arc::new(HookedHasher::new(Arc::new(ScalarHasher), move |call, inner| {
        if call.is_tree() {
            gate.pass();
        }
        if fail.load(Ordering::SeqCst) {
            let (backend, reason) = ("gated".into(), "told to fail".into());
            return Err(HashError::Device { backend, reason });
        }
        call.hash(inner)
    }))
}

/// F-B3: proofs come from the published state at once, tagged with its height and root.
#[test]
fn readers_do_not_wait_for_hashing() {
    let _limit = Limit::new();
    let (gate, fail) = (Arc::new(Gate::default()), Arc::new(AtomicBool::new(false)));
    let options = Options::default().disk(disk()).hasher(gated(&gate, &fail)).max_in_flight(3);
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    let root = block(&mut store, 1).root().unwrap();
    gate.close();
    let second = block(&mut store, 2);
    gate.reached();
    // Resolved and updated while the second is being hashed.
    let third = block(&mut store, 3);
    let reader = store.reader();
    assert_eq!(reader.root(), (Height(1), root));
    assert_eq!(reader.get("key 3").unwrap().unwrap(), b"value 3 at 1");
    assert_eq!(reader.get("only 2").unwrap(), None);
    let proven = reader.prove("only 2").unwrap();
    assert_eq!((proven.height, proven.root), (Height(1), root));
    assert_eq!(hedgerow_proof::verify(&root, b"only 2", &proven.proof).unwrap(), None);
    assert_eq!(reader.iter().count(), 51);
    // A block sees what was accepted, published or not.
    let mut fourth = store.begin_block(Height(4)).unwrap();
    assert_eq!(fourth.get("key 3").unwrap().unwrap(), b"value 3 at 3");
    assert_eq!(fourth.get("only 2").unwrap().unwrap(), b"x");
    fourth.put("key 3", "mine").unwrap();
    assert_eq!(fourth.get("key 3").unwrap().unwrap(), b"mine");
    fourth.delete("key 3").unwrap();
    assert_eq!(fourth.get("key 3").unwrap(), None);
    drop(fourth);
    gate.open();
    second.root().unwrap();
    third.root().unwrap();
    store.check().unwrap();

    // A hash failure stops the store, wakes everybody and leaves the readers where they were.
    gate.close();
    let fourth = block(&mut store, 4);
    gate.reached();
    fail.store(true, Ordering::SeqCst);
    gate.open();
    assert!(matches!(fourth.root(), Err(Error::Poisoned { .. })));
    assert!(matches!(fourth.durable(), Err(Error::Poisoned { .. })));
    assert!(matches!(store.begin_block(Height(5)), Err(Error::Poisoned { .. })));
    assert!(matches!(store.flush(), Err(Error::Poisoned { .. })));
    assert_eq!(reader.height(), Height(3));
    assert_eq!(reader.get("key 3").unwrap().unwrap(), b"value 3 at 3");
    assert!(reader.prove("key 3").is_ok());
    assert!(store.stats().poison.unwrap().contains("told to fail"));
    assert!(store.close().is_err());
}

/// Fails every operation of the given kind on files with the given suffix, once armed.
fn failing(op: VfsOp, suffix: &'static str) -> (Arc<dyn Vfs>, Arc<dyn Vfs>, Arc<AtomicBool>) {
    let armed = Arc::new(AtomicBool::new(false));
    let inner = disk();
    let flag = Arc::clone(&armed);
    let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
        let path = call.path.to_string_lossy();
        if call.op == op && path.ends_with(suffix) && flag.load(Ordering::SeqCst) {
            return Err(call.error(io::Error::other("injected")));
        }
        Ok(())
    });
    let hooked = Arc::new(HookedDisk::new(Arc::clone(&inner), hook));
    (hooked, inner, armed)
}

/// F-B1, F-B2: a failure is latched, everybody who waits returns, and closing joins the threads.
#[test]
fn a_failed_sync_or_write_poisons_and_loses_nothing_durable() {
    let _limit = Limit::new();
    for (op, suffix) in
        [(VfsOp::Sync, ".log"), (VfsOp::Write, ".log"), (VfsOp::Sync, ""), (VfsOp::Write, "")]
    {
        let (hooked, inner, armed) = failing(op, suffix);
        let options = || Options::default().disk(Arc::clone(&hooked));
        let mut store = Store::create(dir(), StoreParams::default(), options()).unwrap();
        for height in 1..=3 {
            block(&mut store, height);
        }
        store.flush().unwrap();
        let (height, root) = store.reader().root();
        armed.store(true, Ordering::SeqCst);
        let fourth = block(&mut store, 4);
        match fourth.durable() {
            Err(Error::Poisoned { cause }) => {
                assert!(cause.to_string().contains("injected"), "{cause}")
            }
            other => panic!("{op:?} {suffix}: {other:?}"),
        }
        // Published or not, the readers go on.
        let reader = store.reader();
        assert!(reader.get("key 3").unwrap().is_some());
        let proven = reader.prove("key 3").unwrap();
        hedgerow_proof::verify(&proven.root, b"key 3", &proven.proof).unwrap();
        assert!(matches!(store.begin_block(Height(5)), Err(Error::Poisoned { .. })));
        assert_eq!(reader.durable_height(), Height(3));
        drop(store);
        drop(reader);
        armed.store(false, Ordering::SeqCst);
        // Reopened without the fault: what was durable is there, and perhaps the next block.
        let mut store = Store::open(dir(), Options::default().disk(inner)).unwrap();
        let (now, now_root) = store.reader().root();
        assert!(now >= height, "{op:?} {suffix}");
        assert_eq!(store.reader().root_at(height).unwrap(), root);
        assert!(now == Height(4) || now_root == root);
        store.check().unwrap();
        block(&mut store, now.0 + 1).durable().unwrap();
    }
}

/// A failed read while a block is resolved refuses it and leaves the store as it was.
#[test]
fn a_failed_read_refuses_the_block_only() {
    let _limit = Limit::new();
    let (hooked, _, armed) = failing(VfsOp::Read, ".log");
    let options = Options::default().disk(hooked).tail_bytes(0).entry_cache_bytes(0);
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    block(&mut store, 1).durable().unwrap();
    armed.store(true, Ordering::SeqCst);
    let mut second = store.begin_block(Height(2)).unwrap();
    second.put("key 1", "other").unwrap();
    assert!(matches!(second.submit(), Err(Error::Log(_))));
    assert!(store.reader().get("key 1").is_err(), "could not read is not absent");
    assert!(store.reader().get("never there").is_ok());
    armed.store(false, Ordering::SeqCst);
    block(&mut store, 2).durable().unwrap();
    store.check().unwrap();
}

/// Whichever read of a block fails, in resolving it, in updating or in compaction: the block is
/// refused, nothing has changed, and the same block goes in afterwards.
#[test]
fn any_failed_read_of_a_block_leaves_no_trace() {
    let _limit = Limit::new();
    let reads = Arc::new(AtomicUsize::new(usize::MAX));
    let countdown = Arc::clone(&reads);
    let disk = hooked(move |call| {
        let log = call.path.extension().is_some_and(|extension| extension == "log");
        if call.op != VfsOp::Read || !log {
            return Ok(());
        }
        let step = |left: usize| Some(left.saturating_sub(1));
        match countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) {
            Ok(0) => Err(call.error(io::Error::other("injected"))),
            _ => Ok(()),
        }
    });
    let submit = |store: &mut Store, height: u64| {
        let mut block = store.begin_block(Height(height)).unwrap();
        for i in 0..300 {
            let key = format!("key {}", i * height % 1000);
            match (i + height) % 7 {
                0 => block.delete(key).unwrap(),
                _ => block.put(key, format!("{height}")).unwrap(),
            }
        }
        block.submit()
    };
    let params = common::params(1, 1, 1);
    let plain = common::disk();
    let mut reference = Store::create(dir(), params, common::on(&plain)).unwrap();
    let options = Options::default().disk(disk).tail_bytes(0).entry_cache_bytes(0);
    let mut store = Store::create(dir(), params, options).unwrap();
    let mut refused = 0;
    for height in 1..=6 {
        let root = submit(&mut reference, height).unwrap().root().unwrap();
        store.flush().unwrap();
        for fail_at in (0..).step_by(7) {
            reads.store(fail_at, Ordering::SeqCst);
            match submit(&mut store, height) {
                Ok(ticket) => {
                    assert_eq!(ticket.root().unwrap(), root);
                    break;
                }
                Err(Error::Log(_)) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        reads.store(usize::MAX, Ordering::SeqCst);
    }
    assert!(refused > 50, "only {refused} reads failed");
    store.check().unwrap();
}

/// The size of what is in flight is bounded too.
#[test]
fn bytes_in_flight_are_bounded() {
    let _limit = Limit::new();
    let gate = Arc::new(Gate::default());
    let disk = log_waits(VfsOp::Sync, &gate);
    let options = Options::default().disk(disk).max_in_flight(100).max_in_flight_bytes(1);
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    gate.close();
    block(&mut store, 1);
    gate.reached();
    let reader = store.reader();
    std::thread::scope(|scope| {
        let store = &mut store;
        let second = scope.spawn(move || block(store, 2).root().unwrap());
        keep_busy();
        assert!(reader.height() <= Height(1));
        gate.open();
        second.join().unwrap();
    });
}

/// Futures have the answers that threads get, failures too, after the store was dropped as well.
#[test]
fn futures_wait_as_threads_do() {
    let _limit = Limit::new();
    let gate = Arc::new(Gate::default());
    let disk = log_waits(VfsOp::Sync, &gate);
    let options = Options::default().disk(disk).max_in_flight(2);
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    gate.close();
    let ticket = block(&mut store, 1);
    let root = pollster::block_on(ticket.root_async()).unwrap();
    assert_eq!(ticket.try_root().unwrap(), Some(root));
    assert!(!ticket.is_durable().unwrap());
    let (durable, flushed) = (ticket.durable_async(), ticket.durable_async());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| pollster::block_on(durable));
        gate.reached();
        gate.open();
        waiting.join().unwrap().unwrap();
    });
    assert!(ticket.is_durable().unwrap());
    drop(store);
    pollster::block_on(flushed).unwrap();

    let (disk, _, broken) = failing(VfsOp::Sync, ".log");
    let options = Options::default().disk(disk);
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    block(&mut store, 1).durable().unwrap();
    broken.store(true, Ordering::SeqCst);
    let ticket = block(&mut store, 2);
    let failed = pollster::block_on(ticket.durable_async());
    assert!(matches!(failed, Err(Error::Poisoned { .. })), "{failed:?}");
    assert!(matches!(ticket.is_durable(), Err(Error::Poisoned { .. })));
}

#[test]
fn commit_waits_for_what_durability_says() {
    let _limit = Limit::new();
    for (durability, durable) in [(Durability::EachBlock, true), (Durability::Pipelined, false)] {
        let gate = Arc::new(Gate::default());
        let disk = log_waits(VfsOp::Sync, &gate);
        let options = Options::default().disk(disk).durability(durability);
        let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
        let reader = store.reader();
        gate.close();
        std::thread::scope(|scope| {
            let (store, opener) = (&mut store, &gate);
            if durable {
                // Somebody else opens the gate when the commit has come to it.
                scope.spawn(move || {
                    opener.reached();
                    opener.open();
                });
            }
            let mut block = store.begin_block(Height(1)).unwrap();
            block.put("a", "b").unwrap();
            block.commit().unwrap();
        });
        assert_eq!(reader.durable_height() == Height(1), durable);
        gate.open();
    }
}
