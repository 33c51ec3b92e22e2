//! What becomes of a block that is handed in: refused, it is still there; accepted, its receipt says
//! what it cost, and its ticket holds on to nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::disks::{GONE, gone_for};
use common::{dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{Error, Height, KeyHash, Receipt, Store};
use hedgerow_testkit::Limit;
use hedgerow_testkit::model::key_hash;
use hedgerow_vfs::{Hook, HookedDisk, VfsCall, VfsOp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A disk whose read after so many succeeds no more, once; `u64::MAX`: all do.
fn failing_reads(inner: &Arc<dyn Vfs>) -> (Arc<dyn Vfs>, Arc<AtomicU64>) {
    let left = Arc::new(AtomicU64::new(u64::MAX));
    let counter = Arc::clone(&left);
    let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
        if call.op != VfsOp::Read || counter.load(Ordering::SeqCst) == u64::MAX {
            return Ok(());
        }
        if counter.fetch_sub(1, Ordering::SeqCst) == 0 {
            counter.store(u64::MAX, Ordering::SeqCst);
            return Err(call.error(std::io::Error::other("a cable came loose")));
        }
        Ok(())
    });
    (Arc::new(HookedDisk::new(Arc::clone(inner), hook)), left)
}

/// C5: a read that fails, however late, loses none of a block's operations: the same block is handed in
/// again, and comes to what it would have come to.
#[test]
fn a_refused_block_can_be_handed_in_again() {
    let _limit = Limit::new();
    let fill = |store: &mut Store| {
        let mut block = store.begin_block(Height(1)).unwrap();
        for key in 0..3_000 {
            block.put(format!("key {key}"), "first").unwrap();
        }
        block.commit().unwrap();
        store.flush().unwrap();
    };
    let collect = |block: &mut hedgerow::Block<'_>| {
        for key in 0..1_500 {
            block.put(format!("key {}", 2 * key), "second").unwrap();
            block.delete(format!("key {}", 3 * key)).unwrap();
        }
        block.next_change_set().unwrap();
        block.put("key 0", "third").unwrap();
        block.set_extra("extra").unwrap();
    };
    let options =
        |disk: &Arc<dyn Vfs>| on(disk).tail_bytes(0).entry_cache_bytes(0).threads(1).keep_all();
    let reference = disk();
    let mut store = Store::create(dir(), params(1, 1, 2), options(&reference)).unwrap();
    fill(&mut store);
    let mut block = store.begin_block(Height(2)).unwrap();
    collect(&mut block);
    let expected = block.commit().unwrap();
    let mut failed = 0;
    for after in [0, 1, 5, 20, 100, 300, 1_000, 3_000] {
        let (disk, left) = failing_reads(&disk());
        let mut store = Store::create(dir(), params(1, 1, 2), options(&disk)).unwrap();
        fill(&mut store);
        let mut block = store.begin_block(Height(2)).unwrap();
        collect(&mut block);
        left.store(after, Ordering::SeqCst);
        let receipt = match block.submit() {
            Err(Error::Log(error)) => {
                failed += 1;
                assert!(error.to_string().contains("a cable came loose"), "{error}");
                block.commit().unwrap()
            }
            Err(error) => panic!("{error}"),
            Ok(ticket) => {
                left.store(u64::MAX, Ordering::SeqCst);
                ticket.receipt().unwrap()
            }
        };
        // The block is spent: what is put into it now is for no height.
        assert!(matches!(block.submit(), Err(Error::WrongHeight { given: Height(2), .. })));
        block.put("late", "value").unwrap();
        assert!(matches!(block.commit(), Err(Error::WrongHeight { .. })));
        assert_eq!(receipt, expected, "after {after} reads");
        assert_eq!(store.reader().history(Height(2)).unwrap().extra, b"extra");
        store.check().unwrap();
    }
    assert!(failed >= 4, "only {failed} reads failed");
}

/// A key whose hash comes after that of `key`, before the next sentry.
fn neighbour_of(key: &[u8]) -> Vec<u8> {
    let of = key_hash(key);
    let near = |hash: KeyHash| hash > of && hash.0[..2] == of.0[..2];
    let mut keys = (0_u64..).map(|i| format!("neighbour {i}").into_bytes());
    keys.find(|candidate| near(key_hash(candidate))).unwrap()
}

/// C7: creating and deleting a key copies the entry before it, value included: the receipt says so, and
/// what compaction moved, and what the block takes of the log in all.
#[test]
fn the_receipt_says_what_a_block_cost() {
    let _limit = Limit::new();
    let disk = disk();
    let options = || on(&disk).segment_bytes(1 << 30);
    // A rule under which nothing compacts at first.
    let mut store = Store::create(dir(), params(4_100, 1, 1), options()).unwrap();
    let big = 60_000;
    let commit = |store: &mut Store, change: &dyn Fn(&mut hedgerow::Block<'_>)| -> Receipt {
        let (height, before) = (store.height().next(), store.stats().log_end.0);
        let mut block = store.begin_block(height).unwrap();
        change(&mut block);
        let ticket = block.submit().unwrap();
        ticket.durable().unwrap();
        let receipt = ticket.receipt().unwrap();
        assert_eq!(receipt.log_bytes, store.stats().log_end.0 - before);
        assert!(receipt.log_bytes >= receipt.neighbour_bytes + receipt.moved_bytes);
        receipt
    };
    let next = neighbour_of(b"big");
    let created = commit(&mut store, &|block| block.put("big", vec![7; big as usize]).unwrap());
    assert!((90..300).contains(&created.neighbour_bytes), "a sentry: {created:?}");
    assert!(created.log_bytes > big);
    for _ in 0..3 {
        for put in [true, false] {
            let receipt = commit(&mut store, &|block| match put {
                true => block.put(&next, "small").unwrap(),
                false => block.delete(&next).unwrap(),
            });
            assert!((big..big + 500).contains(&receipt.neighbour_bytes), "{receipt:?}");
            assert_eq!(receipt.moved_bytes, 0);
        }
    }
    // An update copies nobody, and a block of nothing costs its record's header.
    let updated = commit(&mut store, &|block| block.put("big", "small").unwrap());
    assert_eq!((updated.neighbour_bytes, updated.moved_bytes), (0, 0));
    let nothing = commit(&mut store, &|block| block.delete("nowhere").unwrap());
    assert_eq!((nothing.neighbour_bytes, nothing.moved_bytes), (0, 0));
    assert!(nothing.log_bytes < updated.log_bytes);
    store.close().unwrap();

    let disk = common::disk();
    let mut store =
        Store::create(dir(), params(1, 1, 1), on(&disk).segment_bytes(1 << 30)).unwrap();
    let moved = commit(&mut store, &|block| block.put("key", "value").unwrap()).moved_bytes;
    assert!((200..400).contains(&moved), "two sentries, {moved} bytes");
}

/// C5: whoever keeps tickets keeps no index and no tree, nor the disk.
#[test]
fn a_ticket_keeps_nothing_alive() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create(dir(), params(1, 1, 2), on(&disk)).unwrap();
    let mut block = store.begin_block(Height(1)).unwrap();
    block.put("key", "value").unwrap();
    let ticket = block.submit().unwrap();
    let root = ticket.root().unwrap();
    store.close().unwrap();
    assert_eq!(Arc::strong_count(&disk), 1, "the store is gone");
    assert_eq!(ticket.root().unwrap(), root);
    ticket.durable().unwrap();
}

/// A block that meets a store which is just failing is answered as one that comes later: the store
/// stopped, and why.
#[test]
fn a_failing_store_says_that_it_stopped() {
    let _limit = Limit::new();
    for round in 0..100 {
        let (disk, gone) = gone_for(&[VfsOp::Write, VfsOp::Sync]);
        let options = on(&disk).max_in_flight(1_000).threads(1);
        let mut store = Store::create(dir(), params(1, 1, 2), options).unwrap();
        gone.store(true, Ordering::SeqCst);
        let error = loop {
            let height = store.height().next();
            match store.begin_block(height).and_then(|mut block| block.submit()) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        let Error::Poisoned { cause } = &error else { panic!("round {round}: {error:?}") };
        assert!(cause.to_string().contains(GONE), "round {round}: {error}");
    }
}
