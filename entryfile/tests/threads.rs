//! What is announced stays readable without a gap while it is written, dropped from memory and
//! pruned by other threads.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]

mod common;

use common::{Expected, Model, assert_same, mem, shape};
use hedgerow_entryfile::{EntryLog, LogError, LogOptions, Record, RunCursor, SegmentSize};
use hedgerow_testkit::Limit;
use hedgerow_types::ShardId;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock, mpsc};
use std::thread;

const BLOCKS: usize = 1500;

#[test]
fn readers_never_see_a_gap() {
    let _limit = Limit::new();
    let (vfs, dir) = mem();
    let options = LogOptions {
        segment_size: SegmentSize::fixed(8_000),
        tail_bytes: 6_000,
        cache_bytes: 20_000,
        mapped_bytes: 1 << 30,
    };
    let log = EntryLog::create(vfs, &dir, common::ID, options).unwrap();
    let known: RwLock<Vec<Expected>> = RwLock::default();
    let (written, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (send, receive) = mpsc::sync_channel::<Arc<Record>>(4);

    thread::scope(|scope| {
        let (log, known, written, over) = (&log, &known, &written, &over);
        let writer = scope.spawn(move || {
            let mut model = Model::default();
            for block in 0..BLOCKS {
                let shapes = [shape(3, block % 900), shape(block % 16, 40), shape(3, 10)];
                let seen = model.entries.len();
                let record = model.announce(log, &shapes);
                known.write().unwrap().extend_from_slice(&model.entries[seen..]);
                send.send(record).unwrap();
            }
            model
        });
        scope.spawn(move || {
            let mut count = 0;
            while let Ok(record) = receive.recv() {
                let records: Vec<_> = [record].into_iter().chain(receive.try_iter()).collect();
                log.append_many(&records).unwrap();
                log.sync().unwrap();
                count += records.len();
                written.store(count, Ordering::Release);
                // Keep about the younger half.
                if let Some(old) = known.read().unwrap().get(count) {
                    log.prune_head(old.at).unwrap();
                }
            }
            over.store(true, Ordering::Release);
        });
        for reader in 0..3_usize {
            scope.spawn(move || {
                let mut random = reader * 7919 + 1;
                let mut reads = 0;
                while !over.load(Ordering::Acquire) || reads < 1000 {
                    reads += 1;
                    let some: Vec<Expected> = {
                        let known = known.read().unwrap();
                        let pick = |_| {
                            random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
                            known.get((random >> 33) % known.len().max(1)).cloned()
                        };
                        (0..5).filter_map(pick).collect()
                    };
                    let at: Vec<_> = some.iter().map(|e| e.at).collect();
                    match log.read_many(&at) {
                        Ok(entries) => {
                            some.iter().zip(&entries).for_each(|(e, entry)| assert_same(e, entry))
                        }
                        Err(LogError::Pruned { start, .. }) => {
                            assert!(at.iter().any(|&at| at < start));
                        }
                        Err(error) => panic!("{error}"),
                    }
                    for e in &some {
                        match log.read(e.at) {
                            Ok(entry) => assert_same(e, &entry),
                            Err(LogError::Pruned { start, .. }) => assert!(e.at < start),
                            Err(error) => panic!("{error}"),
                        }
                        let mut cursor = RunCursor::new(e.shard, e.record, e.at);
                        match cursor.next(log) {
                            Ok(next) => assert_same(e, &next.unwrap().1),
                            Err(LogError::Pruned { start, .. }) => assert!(e.at < start),
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
        let model = writer.join().unwrap();
        while !over.load(Ordering::Acquire) {
            thread::yield_now();
        }
        assert_eq!(written.load(Ordering::Acquire), BLOCKS);
        assert!(log.start().0 > 0 && log.end() == log.announced_end());
        model.check(log);
        assert!(model.shard(ShardId::new(3).unwrap()).len() > 2 * BLOCKS - 1);
    });
}
