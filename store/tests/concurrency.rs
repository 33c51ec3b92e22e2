//! The writer, its stages and readers at the same time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::disks::{GONE, gone_for, hooked, log_waits};
use common::{Gate, dir, disk, on, params};
use hedgerow::{Error, Height, Options, SerialNumber, ShardId, Store, StoreParams, Ticket};
use hedgerow_hasher_api::{HookedHasher, ScalarHasher};
use hedgerow_testkit::Limit;
use hedgerow_vfs::VfsOp;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

fn submit(store: &mut Store, height: u64, keys: u64) -> Ticket {
    submit_range(store, height, 0..keys)
}

fn submit_range(store: &mut Store, height: u64, keys: std::ops::Range<u64>) -> Ticket {
    let mut block = store.begin_block(Height(height)).unwrap();
    for key in keys {
        block.put(format!("key {key}"), format!("{height}")).unwrap();
    }
    block.submit().unwrap()
}

/// A key that comes and goes while it is proved: every proof holds, whichever way.
#[test]
fn proving_a_key_that_comes_and_goes() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let provers: Vec<_> = (0..2)
            .map(|_| {
                let (reader, stop) = (store.reader(), &stop);
                scope.spawn(move || {
                    let (mut present, mut absent) = (0, 0);
                    while !stop.load(Ordering::Relaxed) {
                        let proven = reader.prove("k").unwrap();
                        let value = hedgerow_proof::verify(&proven.root, b"k", &proven.proof);
                        let count =
                            if value.unwrap().is_some() { &mut present } else { &mut absent };
                        *count += 1;
                    }
                    (present, absent)
                })
            })
            .collect();
        for height in 1..=1000 {
            let mut block = store.begin_block(Height(height)).unwrap();
            if height % 2 == 1 { block.put("k", "v") } else { block.delete("k") }.unwrap();
            block.submit().unwrap();
            if provers.iter().any(|prover| prover.is_finished()) {
                break; // It failed; the join says why.
            }
        }
        stop.store(true, Ordering::Relaxed);
        for prover in provers {
            let (present, absent) = prover.join().unwrap();
            assert!(present > 0 && absent > 0, "{present} present, {absent} absent");
        }
    });
}

/// A store that is written from a worker of somebody else's pool, whose other jobs read it.
#[test]
fn a_store_used_from_inside_a_rayon_pool() {
    let _limit = Limit::new();
    const LAST: u64 = 60;
    let disk = disk();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    let reader = store.reader();
    let (done, progress) = mpsc::channel();
    std::thread::spawn(move || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.scope(|scope| {
            for height in 1..=LAST {
                for _ in 0..8 {
                    let reader = reader.clone();
                    scope.spawn(move |_| {
                        for key in 0..300 {
                            reader.get(format!("key {key}")).unwrap();
                        }
                    });
                }
                submit(&mut store, height, 2000);
                done.send(height).unwrap();
            }
        });
    });
    let mut last = 0;
    while last < LAST {
        match progress.recv_timeout(Duration::from_secs(120)) {
            Ok(height) => last = height,
            Err(error) => panic!("stuck after block {last}: {error}"),
        }
    }
}

/// A backend whose tree passes wait at a gate.
fn gated_tree(gate: &Arc<Gate>) -> HookedHasher {
    let gate = Arc::clone(gate);
    HookedHasher::new(Arc::new(ScalarHasher), move |call, inner| {
        if call.is_tree() {
            gate.pass();
        }
        call.hash(inner)
    })
}

/// While the next block's reads hang on the disk, this one is hashed and published, and readers
/// that need nothing from the disk get their answers.
#[test]
fn nobody_waits_for_the_reads_of_the_next_block() {
    let _limit = Limit::new();
    for threads in [1, 2] {
        let (at_tree, at_read) = (Arc::new(Gate::default()), Arc::new(Gate::default()));
        let options = Options::default()
            .disk(log_waits(VfsOp::Read, &at_read))
            .hasher(Arc::new(gated_tree(&at_tree)))
            .threads(threads)
            .max_in_flight(3)
            .tail_bytes(0)
            .entry_cache_bytes(0);
        let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
        submit(&mut store, 1, 3000).durable().unwrap();
        at_tree.close();
        let second = submit(&mut store, 2, 1000);
        at_tree.reached();
        at_read.close();
        let reader = store.reader();
        std::thread::scope(|scope| {
            let store = &mut store;
            // Of keys whose entries are on the disk for certain: the first block wrote them.
            let third = scope.spawn(move || submit_range(store, 3, 1000..3000).root().unwrap());
            at_read.reached();
            at_tree.open();
            // The second block is published while every read of the third hangs.
            let root = second.root().unwrap();
            assert_eq!(reader.root(), (Height(2), root));
            at_read.open();
            third.join().unwrap();
        });
        store.check().unwrap();
    }
}

/// The history has a block when readers see it and not before: until then it may come to nothing.
#[test]
fn the_history_is_not_ahead_of_the_readers() {
    const BLOCKS: u64 = 400;
    let _limit = Limit::new();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk())).unwrap();
    std::thread::scope(|scope| {
        let askers: Vec<_> = (0..2)
            .map(|_| {
                let reader = store.reader();
                scope.spawn(move || {
                    let mut early = 0_u64;
                    for height in (1..=BLOCKS).map(Height) {
                        loop {
                            match reader.root_at(height) {
                                Ok(_) => break,
                                Err(Error::HeightUnavailable { .. }) => early += 1,
                                Err(error) => panic!("{error}"),
                            }
                        }
                        assert!(reader.height() >= height, "{height}");
                    }
                    early
                })
            })
            .collect();
        for height in 1..=BLOCKS {
            submit(&mut store, height, 20);
        }
        for asker in askers {
            assert!(asker.join().unwrap() > 0, "nobody asked too early");
        }
    });
}

/// Compaction that jumped ahead of its place in the log, which was pruned afterwards, goes on.
#[test]
fn compaction_goes_on_after_its_old_place_was_pruned() {
    let _limit = Limit::new();
    let disk = disk();
    let options = || on(&disk).segment_bytes(1).keep_heights(1).max_in_flight(1);
    let mut store = Store::create(dir(), params(1, 1, 1), options()).unwrap();
    let mut height = 0;
    // One block of so many creates that compaction reaches entries of the block itself.
    for keys in [0, 42_000, 0, 0, 0, 0, 100, 100] {
        height += 1;
        submit(&mut store, height, keys).durable().unwrap();
        store.flush().unwrap();
    }
    assert!(store.stats().log_start.0 > 0, "nothing was pruned");
    store.check().unwrap();
    store.close().unwrap();
    let mut store = Store::open(dir(), options()).unwrap();
    submit(&mut store, height + 1, 50_000).durable().unwrap();
    store.check().unwrap();
}

#[test]
fn a_pruned_serial_number_is_called_unavailable() {
    let _limit = Limit::new();
    let disk = disk();
    let options = on(&disk).segment_bytes(100_000).keep_heights(1);
    let mut store = Store::create(dir(), params(1, 1, 1), options).unwrap();
    let reader = store.reader();
    let first = |reader: &hedgerow::Reader| {
        reader.prove_serial(ShardId::new(0).unwrap(), SerialNumber(5)).map(drop)
    };
    first(&reader).unwrap();
    for height in 1..=300 {
        submit(&mut store, height, 2000).durable().unwrap();
        // Pruned or not, and at whichever moment one asks.
        match first(&reader) {
            Ok(()) => {}
            Err(Error::SerialUnavailable { .. }) if height > 2 => return,
            Err(error) => panic!("height {height}: {error}"),
        }
    }
    panic!("never pruned");
}

/// The directory entries that lead to a new store are made durable, from the first that was missing.
#[test]
fn the_name_of_a_new_store_is_synced() {
    let _limit = Limit::new();
    let (tell, told) = mpsc::channel();
    let disk = hooked(move |call| {
        if call.op == VfsOp::SyncDir {
            tell.send(call.path.to_path_buf()).unwrap();
        }
        Ok(())
    });
    let options = Options::default().disk(disk);
    drop(Store::create("/a/b/store", StoreParams::default(), options).unwrap());
    let synced: Vec<_> = told.try_iter().collect();
    for parent in ["/", "/a", "/a/b"] {
        assert!(synced.iter().any(|path| path == std::path::Path::new(parent)), "{synced:?}");
    }
}

/// Whoever is told that the store stopped is told the first cause.
#[test]
fn the_cause_is_the_first_failure() {
    let _limit = Limit::new();
    for round in 0..50 {
        let (disk, gone) = gone_for(&[VfsOp::Sync]);
        let options = Options::default().disk(disk).max_in_flight(1000);
        let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
        gone.store(true, Ordering::SeqCst);
        for height in 1..2000 {
            let Ok(mut block) = store.begin_block(Height(height)) else { break };
            if block.submit().is_err() {
                break;
            }
        }
        let error = store.flush().unwrap_err().to_string();
        assert!(error.contains(GONE), "round {round}: {error}");
        // Published and not durable: whoever opens the directory next cuts it, so a reader that is
        // left says nothing rather than something that may no longer hold.
        let reader = store.reader();
        drop(store);
        let ahead = reader.height() > reader.durable_height();
        match reader.get("key") {
            Ok(value) => assert!(!ahead && value.is_none()),
            Err(Error::Closed) => assert!(ahead),
            Err(error) => panic!("{error}"),
        }
    }
}
