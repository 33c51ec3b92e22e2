//! The defects of the reference systems, one test each: `s_b…` of a write-behind cache with a commit barrier,
//! `o_b…` of an object cache with flush epochs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Below, DiskError, Key, OPTIONS, cache_over, value, write};
use hedgerow_cache::{
    Backing, Cache, CacheOptions, Effect, Epoch, Error, HeapBytes, NetEffect, Op, State,
};
use hedgerow_testkit::Limit;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

/// S-B1: pending operations hid behind a counter that had lost an update. Writers and a closer run at once, and every
/// write is in exactly one of the batches.
#[test]
fn s_b1_no_write_is_lost_between_writers_and_closers() {
    let _limit = Limit::new();
    const WRITERS: u32 = 4;
    const WRITES: u32 = 400;
    let below = Below::with([]);
    let cache = cache_over(&below);
    let left = AtomicU64::new(u64::from(WRITERS));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (cache, left) = (&cache, &left);
            scope.spawn(move || {
                for i in 0..WRITES {
                    write(cache, writer * WRITES + i, Op::Create(value(i as u8)));
                }
                left.fetch_sub(1, SeqCst);
            });
        }
        let mut tag = 0;
        while left.load(SeqCst) > 0 {
            tag += 1;
            cache.close_epoch(tag).unwrap();
        }
        cache.flush(tag + 1).unwrap();
    });
    assert!(cache.is_durable());
    let state = below.look();
    assert_eq!(state.values.len() as u32, WRITERS * WRITES);
    let batches: usize = state.applied.iter().map(|batch| batch.effects.len()).sum();
    assert_eq!(batches as u32, WRITERS * WRITES, "each write in one batch");
}

/// S-B1, at shutdown: what is closed is written, whatever any count says.
#[test]
fn s_b1_what_is_closed_is_written_by_a_drop() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let cache = cache_over(&below);
    below.hold_applies(true);
    for tag in 1..=2 {
        write(&cache, tag as Key, Op::Put(value(tag as u8)));
        cache.close_epoch(tag).unwrap();
    }
    write(&cache, 3, Op::Put(value(3)));
    below.wait_held();
    let below_too = Arc::clone(&below);
    thread::scope(|scope| {
        scope.spawn(|| drop(cache));
        below_too.hold_applies(false);
    });
    assert_eq!(below.look().tag, Some(2));
    // The open epoch is lost: nobody gave it a tag.
    assert_eq!(below.look().values.keys().collect::<Vec<_>>(), [&1, &2]);
}

/// S-B2: a deleted key was found below, and cached again.
#[test]
fn s_b2_a_deletion_is_seen_until_it_is_durable() {
    let _limit = Limit::new();
    let below = Below::with([(1, value(1))]);
    let cache = cache_over(&below);
    let gone = || {
        assert_eq!(cache.get(&1).unwrap(), None);
        assert_eq!(cache.get_many(&[1, 1]).unwrap(), [None, None]);
        assert!(matches!(cache.write(&mut vec![(1, Op::Remove)]), Err(Error::Missing { at: 0 })));
    };
    write(&cache, 1, Op::Remove);
    gone();
    below.hold_applies(true);
    cache.close_epoch(1).unwrap();
    below.wait_held();
    gone();
    below.look().fail_applies = 1;
    below.hold_applies(false);
    cache.wait_durable(&1).unwrap_err();
    // Not after a flush that failed either; the row is still there.
    assert!(below.look().values.contains_key(&1));
    assert_eq!(cache.get(&1).unwrap(), None);
    cache.retry().unwrap();
    cache.wait_durable(&1).unwrap();
    gone();
    assert_eq!(below.look().values.len(), 0);
}

/// S-B2, the race: a read that had asked the backing comes back after the key was deleted, flushed and forgotten. Its answer
/// is not kept.
#[test]
fn s_b2_a_late_answer_does_not_bring_a_key_back() {
    let _limit = Limit::new();
    let below = Below::with([(1, value(1))]);
    let cache = cache_over(&below);
    below.hold_reads(true);
    thread::scope(|scope| {
        let read = scope.spawn(|| cache.get(&1).unwrap());
        below.wait_held();
        write(&cache, 1, Op::Delete);
        cache.flush(1).unwrap();
        assert_eq!(cache.state(&1), State::Unknown);
        below.hold_reads(false);
        // What it was when the read began.
        assert_eq!(read.join().unwrap(), Some(value(1)));
    });
    assert_eq!(cache.state(&1), State::Unknown);
    assert_eq!(cache.get(&1).unwrap(), None);
}

/// The same with a newer value, which the reader is given if it is still known here.
#[test]
fn s_b2_a_late_answer_gives_way_to_what_was_written() {
    let _limit = Limit::new();
    let below = Below::with([(1, value(1))]);
    let cache = cache_over(&below);
    for (tag, op) in [(1, Op::Put(value(2))), (2, Op::Delete)] {
        cache.evict_clean();
        below.hold_reads(true);
        let wanted = op.value().cloned();
        thread::scope(|scope| {
            let read = scope.spawn(|| cache.get(&1).unwrap());
            below.wait_held();
            write(&cache, 1, op);
            below.hold_reads(false);
            assert_eq!(read.join().unwrap(), wanted);
        });
        cache.flush(tag).unwrap();
    }
}

/// S-B3: "could not read" looked like "not found".
#[test]
fn s_b3_could_not_read_is_not_absent() {
    let below = Below::with([(1, value(1))]);
    let cache = cache_over(&below);
    below.look().fail_reads = 3;
    assert!(matches!(cache.get(&1), Err(Error::Read(DiskError(1)))));
    assert!(matches!(cache.get_many(&[2, 1]), Err(Error::Read(DiskError(2)))));
    // Nor may a write believe it.
    let mut ops = vec![(2, Op::Put(value(2))), (1, Op::Insert(value(3)))];
    assert!(matches!(cache.write(&mut ops), Err(Error::Read(DiskError(3)))));
    assert_eq!(ops.len(), 2);
    assert_eq!(cache.state(&2), State::Unknown);
    // A failed read is not latched.
    assert_eq!(cache.get_many(&[2, 1]).unwrap(), [None, Some(value(1))]);
    below.look().short = true;
    assert!(matches!(cache.get_many(&[3, 4]), Err(Error::Answer { asked: 2, got: 1 })));
    assert_eq!(cache.stats().failed_reads, 4);
}

/// S-B4: the barrier said "durable through H" of a part of H. Writers write pairs; every batch has both or none.
#[test]
fn s_b4_an_epoch_has_all_of_a_write() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let cache = cache_over(&below);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3_u32 {
            let (cache, stop) = (&cache, &stop);
            scope.spawn(move || {
                let mut i = 0;
                while !stop.load(SeqCst) {
                    let pair = |key| (1_000 * writer + key, Op::Put(value(i)));
                    cache.write(&mut (0..50).map(pair).collect()).unwrap();
                    i = i.wrapping_add(1);
                }
            });
        }
        for tag in 1..=60 {
            cache.close_epoch(tag).unwrap();
        }
        stop.store(true, SeqCst);
    });
    cache.flush(61).unwrap();
    let state = below.look();
    for batch in &state.applied {
        for writer in 0..3_u32 {
            let of: Vec<_> = batch.effects.range(1_000 * writer..1_000 * writer + 50).collect();
            assert!(of.is_empty() || of.len() == 50, "{} of 50 in {}", of.len(), batch.tag);
            assert!(of.iter().all(|(_, effect)| Some(*effect) == of.first().map(|first| first.1)));
        }
    }
}

/// S-B5: durable was announced before it was so.
#[test]
fn s_b5_durable_only_when_the_backing_has_said_so() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let cache = cache_over(&below);
    below.hold_applies(true);
    write(&cache, 1, Op::Create(value(1)));
    let epoch = cache.close_epoch(10).unwrap();
    below.wait_held();
    assert_eq!((cache.durable_tag(), cache.state(&1)), (None, State::Flushing));
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            cache.wait(epoch).unwrap();
            below.look().tag
        });
        let barrier = scope.spawn(|| {
            cache.wait_durable(&7).unwrap();
            below.look().tag
        });
        assert_eq!(cache.durable_tag(), None);
        below.hold_applies(false);
        assert_eq!(waiter.join().unwrap(), Some(10));
        assert_eq!(barrier.join().unwrap(), Some(10));
    });
    assert_eq!((cache.durable_tag(), cache.state(&1)), (Some(10), State::Clean));
}

/// S-B6: a commitment was updated before the batch, and twice if it was retried. The batch comes with its tag and
/// with what it replaces, and a retry is the same batch.
#[test]
fn s_b6_a_retry_is_the_same_batch_with_its_tag() {
    let _limit = Limit::new();
    let below = Below::with([(1, value(1)), (2, value(2))]);
    let options = CacheOptions { keep_deleted: true, ..OPTIONS };
    let cache = Cache::new(Arc::clone(&below), None, options).unwrap();
    for late in [false, true] {
        let (gone, new) = if late { (2, 4) } else { (1, 3) };
        cache.write(&mut vec![(gone, Op::Remove), (new, Op::Insert(value(9)))]).unwrap();
        (below.look().fail_applies, below.look().late) = (2, late);
        let tag = u64::from(new);
        cache.close_epoch(tag).unwrap();
        for _ in 0..2 {
            assert!(matches!(cache.wait_durable(&tag), Err(Error::Flush(_))));
            cache.retry().unwrap();
            // What comes meanwhile is of the next epoch.
            let mut ops = vec![(50, Op::Put(value(new as u8)))];
            if let Err(error) = cache.write(&mut ops) {
                assert!(error.is_latched(), "{error}");
            }
        }
        cache.wait_durable(&tag).unwrap();
        let tried: Vec<_> =
            below.look().tried.iter().filter(|batch| batch.tag == tag).cloned().collect();
        assert_eq!(tried.len(), 3);
        let effects = BTreeMap::from([
            (gone, Effect::Delete { old: Some(value(gone as u8)) }),
            (new, Effect::Put { value: value(9), fresh: true }),
        ]);
        let with_last = |mut effects: BTreeMap<_, _>| {
            // If the second failure was not there yet.
            if tried.iter().any(|batch| batch.effects.contains_key(&50)) {
                effects.insert(50, Effect::Put { value: value(3), fresh: false });
            }
            effects
        };
        let effects = if late { with_last(effects) } else { effects };
        assert!(tried.iter().all(|batch| batch.effects == effects), "{tried:?}");
    }
}

/// S-B7: large packages came down in chunks. An epoch of many keys is one batch.
#[test]
fn s_b7_an_epoch_is_one_batch_however_large() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let options = CacheOptions { limit_bytes: 64 << 20, ..OPTIONS };
    let cache = Cache::new(Arc::clone(&below), None, options).unwrap();
    for first in (0..20_000).step_by(1_000) {
        let ops = |key| (key, Op::Create(value(key as u8)));
        cache.write(&mut (first..first + 1_000).map(ops).collect()).unwrap();
    }
    cache.flush(1).unwrap();
    let state = below.look();
    assert_eq!((state.applied.len(), state.values.len()), (1, 20_000));
}

/// S-B8: what was flushed hid what was written since, or was removed with it.
#[test]
fn s_b8_a_newer_value_survives_the_flush_of_an_older_one() {
    let _limit = Limit::new();
    for newer in [Op::Put(value(7)), Op::Delete] {
        let below = Below::with([]);
        let cache = cache_over(&below);
        write(&cache, 1, Op::Put(value(1)));
        below.hold_applies(true);
        let first = cache.close_epoch(1).unwrap();
        below.wait_held();
        write(&cache, 1, Op::Put(value(2)));
        let second = cache.close_epoch(2).unwrap();
        write(&cache, 1, newer.clone());
        // Three epochs have the key: the newest is read, whatever is flushed.
        assert_eq!(cache.get(&1).unwrap(), newer.value().cloned());
        below.hold_applies(false);
        cache.wait(first).unwrap();
        assert_eq!(cache.get(&1).unwrap(), newer.value().cloned());
        cache.wait(second).unwrap();
        assert_eq!(cache.get(&1).unwrap(), newer.value().cloned());
        assert_eq!(below.look().values.get(&1), Some(&value(2)));
        cache.flush(3).unwrap();
        assert_eq!(below.look().values.get(&1), newer.value());
    }
}

/// S-B9: operations on one key within one height had no order.
#[test]
fn s_b9_the_last_operation_on_a_key_wins() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let cache = cache_over(&below);
    let mut many = Vec::new();
    for round in 0..50_u8 {
        for key in 0..20 {
            many.push((
                key,
                if (round + key as u8).is_multiple_of(3) {
                    Op::Delete
                } else {
                    Op::Put(value(round))
                },
            ));
        }
    }
    let last: BTreeMap<Key, _> = many.iter().map(|(key, op)| (*key, op.value().cloned())).collect();
    cache.write(&mut many).unwrap();
    for (key, wanted) in &last {
        assert_eq!(cache.get(key).unwrap(), *wanted);
    }
    cache.flush(1).unwrap();
    for (key, wanted) in &last {
        assert_eq!(below.look().values.get(key), wanted.as_ref());
    }
}

/// S-B9, across threads: two keys of one write are never of two, in any state.
#[test]
fn s_b9_writes_of_threads_have_one_order() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let options = CacheOptions { limit_bytes: 64 << 20, ..OPTIONS };
    let cache = Cache::new(Arc::clone(&below), None, options).unwrap();
    thread::scope(|scope| {
        for writer in 0..4_u8 {
            let cache = &cache;
            scope.spawn(move || {
                for i in 0..200_u32 {
                    let keys = (0..40).map(|key| (key, Op::Put(value(writer))));
                    // In another order each time: what counts is the order of the writes.
                    let mut ops: Vec<_> = keys.collect();
                    ops.rotate_left(((i + u32::from(writer)) % 40) as usize);
                    cache.write(&mut ops).unwrap();
                }
            });
        }
    });
    let values = cache.get_many(&(0..40).collect::<Vec<_>>()).unwrap();
    assert!(values.iter().all(|value| *value == values[0]), "{values:?}");
    cache.flush(1).unwrap();
}

/// A value that says that it is huge.
#[derive(Clone, Debug)]
struct Claims(u64);

impl HeapBytes for Claims {
    fn heap_bytes(&self) -> usize {
        self.0 as usize
    }
}

#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<u64, u64>>);

impl Backing for Counts {
    type Key = u64;
    type Value = Claims;
    type Tag = u64;
    type Error = DiskError;

    fn get_many(&self, keys: &[u64]) -> Result<Vec<Option<Claims>>, DiskError> {
        let values = self.0.lock().unwrap();
        Ok(keys.iter().map(|key| values.get(key).map(|&bytes| Claims(bytes))).collect())
    }

    fn apply(&self, net: &NetEffect<'_, Self>) -> Result<(), DiskError> {
        let mut values = self.0.lock().unwrap();
        for (key, effect) in net {
            match effect.value() {
                Some(value) => values.insert(key, value.0),
                None => values.remove(&key),
            };
        }
        Ok(())
    }
}

/// S-B10: offsets of 32 bits cut what was more than 4 GiB, and tags were cut too.
#[test]
fn s_b10_more_than_four_gib_are_counted() {
    let _limit = Limit::new();
    const GIB: u64 = 1 << 30;
    let options = CacheOptions { limit_bytes: 40 * GIB, ..OPTIONS };
    let cache = Cache::new(Arc::new(Counts::default()), None, options).unwrap();
    let empty = cache.stats().used_bytes;
    let mut ops: Vec<_> = (0..10).map(|key| (key, Op::Create(Claims(3 * GIB + key)))).collect();
    cache.write(&mut ops).unwrap();
    let used = cache.stats().used_bytes;
    assert!((30 * GIB + 45..31 * GIB).contains(&(used - empty)), "{used}");
    // Beyond the limit.
    let mut more: Vec<_> = (10..20).map(|key| (key, Op::Create(Claims(3 * GIB)))).collect();
    assert!(matches!(cache.write(&mut more), Err(Error::Full { .. })));
    cache.flush(u64::from(u32::MAX) + 7).unwrap();
    assert_eq!(cache.durable_tag(), Some((1 << 32) + 6));
    cache.write(&mut more).unwrap();
    let mut endless = vec![(30, Op::Put(Claims(u64::MAX))), (31, Op::Put(Claims(u64::MAX)))];
    let refused = cache.write(&mut endless);
    assert!(matches!(refused, Err(Error::TooLarge { needed, limit }) if needed > limit));
    cache.flush(u64::MAX).unwrap();
    assert!(cache.stats().used_bytes <= 40 * GIB);
}

/// S-B11: whoever waited for a flusher that had died waited for ever.
#[test]
fn s_b11_waiters_learn_that_nothing_comes() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let cache = cache_over(&below);
    assert!(matches!(cache.wait_durable(&1), Err(Error::NotClosed)));
    assert!(matches!(cache.wait(Epoch(1)), Err(Error::NotClosed)));
    write(&cache, 1, Op::Put(value(1)));
    below.hold_applies(true);
    let epoch = cache.close_epoch(5).unwrap();
    below.wait_held();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| cache.wait(epoch));
        let barrier = scope.spawn(|| cache.wait_durable(&5));
        below.look().panic_in_apply = true;
        below.hold_applies(false);
        assert!(matches!(waiter.join().unwrap(), Err(Error::Stopped)));
        assert!(matches!(barrier.join().unwrap(), Err(Error::Stopped)));
    });
    assert!(matches!(cache.retry(), Err(Error::Stopped)));
    assert!(matches!(cache.write(&mut vec![(2, Op::Delete)]), Err(Error::Stopped)));
    assert!(matches!(cache.close_epoch(6), Err(Error::Stopped)));
    assert_eq!(cache.get(&1).unwrap(), Some(value(1)));
}

/// S-B12 and S-B14: only what is clean is evicted, at any height, 0 too.
#[test]
fn s_b12_what_is_not_durable_is_never_evicted() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let cache = cache_over(&below);
    write(&cache, 1, Op::Put(value(1)));
    below.hold_applies(true);
    cache.close_epoch(0).unwrap();
    below.wait_held();
    write(&cache, 2, Op::Put(value(2)));
    cache.set_limit(1);
    cache.evict_clean();
    assert_eq!(cache.get_many(&[1, 2]).unwrap(), [Some(value(1)), Some(value(2))]);
    assert!(below.look().reads.is_empty());
    below.hold_applies(false);
    cache.wait_durable(&0).unwrap();
    // Now it is: there is a limit.
    assert_eq!(cache.state(&1), State::Unknown);
    cache.flush(1).unwrap();
    assert_eq!((cache.state(&2), below.look().values.len()), (State::Unknown, 2));
}

/// O-B1 and O-B2: what was written once was never evicted; the limit was none.
#[test]
fn o_b1_what_was_flushed_can_be_evicted() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let cache = cache_over(&below);
    let mut tag = 0;
    for round in 0..40_u32 {
        let ops = |key| (1_000 * round + key, Op::Create(vec![1; 100]));
        cache.write(&mut (0..1_000).map(ops).collect()).unwrap();
        tag += 1;
        cache.flush(tag).unwrap();
        assert!(cache.stats().used_bytes <= OPTIONS.limit_bytes);
    }
    let stats = cache.stats();
    assert_eq!((stats.dirty_keys, stats.flushing_keys), (0, 0));
    assert!(stats.clean_keys > 3_000 && stats.clean_keys < 40_000, "{stats:?}");
    assert_eq!(stats.evictions + stats.clean_keys, 40_000);
    // The youngest are there.
    assert_eq!((cache.state(&39_999), cache.state(&0)), (State::Clean, State::Unknown));
}

/// O-B2: what was written again while it was being flushed is evicted after its last flush.
#[test]
fn o_b2_what_was_written_during_a_flush_can_be_evicted_too() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let cache = cache_over(&below);
    write(&cache, 1, Op::Put(value(1)));
    below.hold_applies(true);
    cache.close_epoch(1).unwrap();
    below.wait_held();
    write(&cache, 1, Op::Put(value(2)));
    below.hold_applies(false);
    cache.flush(2).unwrap();
    assert_eq!((cache.state(&1), cache.stats().clean_keys), (State::Clean, 1));
    cache.evict_clean();
    assert_eq!(cache.state(&1), State::Unknown);
    assert_eq!(cache.get(&1).unwrap(), Some(value(2)));
}

/// O-B3: a flush that failed had thrown away what it was to write, and the next one waited for ever.
#[test]
fn o_b3_a_failed_flush_keeps_everything_and_tells_everybody() {
    let _limit = Limit::new();
    let below = Below::with([(2, value(2))]);
    let cache = cache_over(&below);
    cache.write(&mut vec![(1, Op::Create(value(1))), (2, Op::Remove)]).unwrap();
    below.hold_applies(true);
    below.look().fail_applies = 1;
    let first = cache.close_epoch(1).unwrap();
    below.wait_held();
    write(&cache, 3, Op::Put(value(3)));
    let second = cache.close_epoch(2).unwrap();
    let is_first = |error: Error<DiskError>| match &error {
        Error::Flush(source) => assert_eq!((**source).clone(), DiskError(1)),
        _ => panic!("{error}"),
    };
    thread::scope(|scope| {
        // All kinds of waiters: for each epoch, for a tag, for a place to close a third one, to reset.
        let waits: Vec<_> = [first, second]
            .map(|epoch| {
                scope.spawn({
                    let cache = &cache;
                    move || cache.wait(epoch)
                })
            })
            .into_iter()
            .chain([scope.spawn(|| cache.wait_durable(&2))])
            .chain([scope.spawn(|| cache.close_epoch(3).map(|_| ()))])
            .chain([scope.spawn(|| cache.reset(None))])
            .collect();
        below.hold_applies(false);
        for waiter in waits {
            is_first(waiter.join().unwrap().unwrap_err());
        }
    });
    is_first(cache.check().unwrap_err());
    is_first(cache.close_epoch(3).unwrap_err());
    let mut refused = vec![(4, Op::Put(value(4)))];
    is_first(cache.write(&mut refused).unwrap_err());
    assert_eq!(refused.len(), 1);
    // Everything is there, and dirty; readers go on.
    assert_eq!(cache.get_many(&[1, 2, 3]).unwrap(), [Some(value(1)), None, Some(value(3))]);
    assert_eq!(cache.stats().flushing_keys, 3);
    assert!(!cache.is_durable());
    assert_eq!(below.look().tag, None);
    // And nothing is lost.
    cache.retry().unwrap();
    cache.wait(second).unwrap();
    assert!(cache.is_durable());
    assert_eq!(below.look().values, BTreeMap::from([(1, value(1)), (3, value(3))]));
    assert_eq!(cache.stats().failed_flushes, 1);
}

/// O-B4: "clean" was "nothing in the map", which a flush that had not written yet had drained.
#[test]
fn o_b4_not_durable_while_a_flush_is_under_way() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let cache = cache_over(&below);
    assert!(cache.is_durable());
    write(&cache, 1, Op::Put(value(1)));
    assert!(!cache.is_durable());
    below.hold_applies(true);
    let epoch = cache.close_epoch(1).unwrap();
    below.wait_held();
    assert!(!cache.is_durable());
    assert_eq!((cache.stats().dirty_keys, cache.stats().flushing_keys), (0, 1));
    below.hold_applies(false);
    cache.wait(epoch).unwrap();
    assert!(cache.is_durable());
}

/// O-B4: nor with an epoch that wrote nothing, whose tag is not durable.
#[test]
fn o_b4_an_empty_epoch_is_flushed_for_its_tag() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let cache = cache_over(&below);
    below.hold_applies(true);
    cache.close_epoch(1).unwrap();
    assert!(!cache.is_durable());
    below.hold_applies(false);
    cache.wait_durable(&1).unwrap();
    assert_eq!(below.look().tag, Some(1));
}

/// O-B8: a filter that is empty after a restart must not say "no". A new cache over an old backing finds everything.
#[test]
fn o_b8_a_new_cache_asks_what_it_does_not_know() {
    let below = Below::with((0..500).map(|key| (key, value(key as u8))));
    let cache = cache_over(&below);
    let keys: Vec<_> = (0..600).collect();
    let values = cache.get_many(&keys).unwrap();
    for (key, found) in keys.iter().zip(values) {
        assert_eq!(found, (*key < 500).then(|| value(*key as u8)));
    }
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.loads, stats.absent), (600, 500, 100));
    // What is absent is asked again: nothing here says "no" for the backing.
    below.look().values.insert(550, value(1));
    assert_eq!(cache.get(&550).unwrap(), Some(value(1)));
}

/// A write for which there is no room waits for a flush that is under way, and is refused otherwise.
#[test]
fn a_full_cache_waits_or_refuses() {
    let _limit = Limit::new();
    let below = Below::with([]);
    let cache = cache_over(&below);
    let many = |from: Key| {
        (from..from + 200).map(|key| (key, Op::Create(vec![0; 1_000]))).collect::<Vec<_>>()
    };
    let mut from = 0;
    let refused = loop {
        let mut ops = many(from);
        match cache.write(&mut ops) {
            Ok(_) => from += 200,
            Err(Error::Full { needed, dirty, limit }) => {
                assert!(
                    needed > 200_000 && dirty == u64::from(from) && limit == OPTIONS.limit_bytes
                );
                break ops;
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert!(from >= 600 && refused == many(from));
    assert!(cache.stats().used_bytes <= OPTIONS.limit_bytes);
    below.hold_applies(true);
    let epoch = cache.close_epoch(1).unwrap();
    below.wait_held();
    thread::scope(|scope| {
        let writer = scope.spawn(|| cache.write(&mut many(from)).map(|_| ()));
        below.hold_applies(false);
        writer.join().unwrap().unwrap();
    });
    cache.wait(epoch).unwrap();
    let mut huge = vec![(9, Op::Put(vec![0; 2 << 20]))];
    // However empty it were.
    assert!(matches!(cache.write(&mut huge), Err(Error::TooLarge { .. })));
    cache.flush(2).unwrap();
    assert!(matches!(cache.write(&mut huge), Err(Error::TooLarge { .. })));
    cache.set_limit(4 << 20);
    cache.write(&mut huge).unwrap();
    cache.flush(3).unwrap();
}

/// A writer that waits for room goes on when the limit is raised, and is told of a failure.
#[test]
fn waiting_for_room_has_an_end() {
    let _limit = Limit::new();
    for fails in [false, true] {
        let below = Below::with([]);
        let cache = cache_over(&below);
        cache.write(&mut vec![(1, Op::Put(vec![0; 900_000]))]).unwrap();
        below.hold_applies(true);
        cache.close_epoch(1).unwrap();
        below.wait_held();
        thread::scope(|scope| {
            let writer =
                scope.spawn(|| cache.write(&mut vec![(2, Op::Put(vec![0; 900_000]))]).map(|_| ()));
            if fails {
                below.look().fail_applies = 1;
                below.hold_applies(false);
                assert!(matches!(writer.join().unwrap(), Err(Error::Flush(_))));
            } else {
                cache.set_limit(4 << 20);
                writer.join().unwrap().unwrap();
                below.hold_applies(false);
            }
        });
    }
}

/// Tags ascend; after a reset they begin where the backing stands, and undos of before are refused.
#[test]
fn a_reset_begins_anew() {
    let _limit = Limit::new();
    let below = Below::with([(1, value(1))]);
    let cache = Cache::new(Arc::clone(&below), Some(10), OPTIONS).unwrap();
    assert!(matches!(cache.close_epoch(10), Err(Error::Order)));
    cache.wait_durable(&10).unwrap();
    let undo = cache.write(&mut vec![(1, Op::Remove), (2, Op::Create(value(2)))]).unwrap();
    cache.flush(12).unwrap();
    write(&cache, 2, Op::Remove);
    let older = cache.write(&mut vec![(3, Op::Put(value(3)))]).unwrap();
    // The backing is rolled back.
    below.look().values = BTreeMap::from([(1, value(1))]);
    cache.reset(Some(10)).unwrap();
    assert_eq!(cache.get_many(&[1, 2, 3]).unwrap(), [Some(value(1)), None, None]);
    assert_eq!((cache.durable_tag(), cache.stats().dirty_keys), (Some(10), 0));
    assert!(matches!(cache.wait_durable(&12), Err(Error::NotClosed)));
    for undo in [undo, older] {
        assert!(matches!(cache.undo(undo).unwrap_err().error, Error::NotNewest));
    }
    cache.flush(11).unwrap();
    assert_eq!(below.look().tag, Some(11));
}
