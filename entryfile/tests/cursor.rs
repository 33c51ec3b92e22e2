//! A cursor sees what a scan sees, wherever the records are.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]

mod common;

use common::{Expected, Model, Shape, assert_same, hooked, mem, shape};
use hedgerow_entryfile::{EntryLog, LogError, LogOptions, RunCursor, SegmentSize};
use hedgerow_types::{LogPosition, ShardId};
use proptest::prelude::*;
use std::sync::Arc;

fn shard(index: usize) -> ShardId {
    ShardId::new(index).unwrap()
}

fn at(e: &Expected) -> RunCursor {
    RunCursor::new(e.shard, e.record, e.at)
}

/// Checks that `cursor` returns exactly `expected` and then nothing.
fn check(mut cursor: RunCursor, log: &EntryLog, expected: &[&Expected]) {
    for e in expected {
        let (at, entry) = cursor.next(log).unwrap().unwrap();
        assert_eq!((at, cursor.record()), (e.at, e.record));
        assert_same(e, &entry);
    }
    assert!(cursor.next(log).unwrap().is_none());
    assert!(cursor.next(log).unwrap().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    #[test]
    fn from_any_entry_to_the_end(
        blocks in proptest::collection::vec(
            proptest::collection::vec(
                (0..3usize, prop_oneof![9 => 0..300usize, 1 => 0..150_000usize]), 0..30),
            1..25),
        segment_size in 0..20_000u64,
        tail_bytes in 0..20_000u64,
        unwritten in 0..5usize,
        modulus in 1..5u64,
    ) {
        let (vfs, dir) = mem();
        let options = LogOptions { segment_size: SegmentSize::fixed(segment_size), tail_bytes, cache_bytes: 0, mapped_bytes: 1 << 30 };
        let log = EntryLog::create(vfs, &dir, common::ID, options).unwrap();
        let mut model = Model::default();
        for block in &blocks {
            let shapes: Vec<_> = block.iter().map(|&(shard, len)| shape(shard * 7, len)).collect();
            model.announce(&log, &shapes);
        }
        let written = blocks.len().saturating_sub(unwritten);
        log.append_many(&model.records[..written]).unwrap();
        for index in [0, 7, 14] {
            let entries = model.shard(shard(index));
            for (i, e) in entries.iter().enumerate().step_by(1 + entries.len() / 10) {
                check(at(e), &log, &entries[i..]);

                let keep = |e: &&&Expected| e.sn.0.is_multiple_of(modulus);
                let mut cursor = at(e);
                for e in entries[i..].iter().filter(keep) {
                    let next = cursor.next_where(&log, |sn| sn.0.is_multiple_of(modulus));
                    let (at, entry) = next.unwrap().unwrap();
                    prop_assert_eq!((at, cursor.record()), (e.at, e.record));
                    assert_same(e, &entry);
                }
                prop_assert!(cursor.next_where(&log, |sn| sn.0.is_multiple_of(modulus)).unwrap().is_none());
            }
            // From the start of every record, and from the end of every run.
            for record in &model.records {
                let from = entries.partition_point(|e| e.record < record.position());
                let after = entries.partition_point(|e| e.record <= record.position());
                let lens = ShardId::all().map(|s| record.run(s).len()).collect::<Vec<_>>();
                let lens: [usize; 16] = lens.try_into().unwrap();
                let start = hedgerow_entryfile::Record::run_start(
                    record.position(), &lens, shard(index));
                let end = start.plus(lens[index] as u64);
                let cursor = |at| RunCursor::new(shard(index), record.position(), at);
                check(cursor(start), &log, &entries[from..]);
                check(cursor(end), &log, &entries[after..]);
            }
        }
    }
}

#[test]
fn a_cursor_at_the_end_goes_on_when_more_is_announced() {
    let (vfs, dir) = mem();
    let options = LogOptions {
        segment_size: SegmentSize::fixed(500),
        tail_bytes: 0,
        cache_bytes: 0,
        mapped_bytes: 1 << 30,
    };
    let log = EntryLog::create(vfs, &dir, common::ID, options).unwrap();
    let mut model = Model::default();
    model.commit(&log, &[shape(5, 100)]);
    let mut cursor = at(&model.entries[0]);
    assert!(cursor.next(&log).unwrap().is_some());
    for block in 0..30 {
        assert!(cursor.next(&log).unwrap().is_none());
        let mut clone = cursor.clone();
        let mut again = RunCursor::new(shard(5), cursor.record(), cursor.position());
        // Blocks without an entry of the shard lie between.
        model.announce(&log, &[shape(6, 100)]);
        assert!(cursor.next(&log).unwrap().is_none());
        model.announce(&log, &[shape(5, 10 * block), shape(4, 3)]);
        if block % 3 == 0 {
            let unwritten = &model.records[model.records.len() - 2..];
            log.append_many(unwritten).unwrap();
        } else if block % 3 == 1 {
            let unwritten = &model.records[model.records.len() - 2..];
            log.append(&unwritten[0]).unwrap();
            log.append(&unwritten[1]).unwrap();
            log.sync().unwrap();
        }
        let expected = *model.shard(shard(5)).last().unwrap();
        for cursor in [&mut cursor, &mut clone, &mut again] {
            let (at, entry) = cursor.next(&log).unwrap().unwrap();
            assert_eq!(at, expected.at);
            assert_same(expected, &entry);
        }
        if block % 3 == 2 {
            log.append_many(&model.records[model.records.len() - 2..]).unwrap();
        }
    }
}

#[test]
fn a_cursor_reads_windows_not_entries() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(inner);
    let options = LogOptions { tail_bytes: 0, cache_bytes: 0, ..LogOptions::default() };
    let log = EntryLog::create(vfs, &dir, common::ID, options).unwrap();
    let mut model = Model::default();
    model.commit(&log, &vec![shape(5, 60); 3000]);
    model.commit(&log, &vec![shape(5, 60); 3000]);
    control.take_reads();
    check(at(&model.entries[0]), &log, &model.shard(shard(5)));
    let run = model.records[0].run(shard(5)).len() as u64;
    assert!(control.take_reads() <= 2 * (1 + run / (64 << 10) + 1));
    // Stepping over entries costs no more.
    let mut cursor = at(&model.entries[0]);
    assert!(cursor.next_where(&log, |_| false).unwrap().is_none());
    assert!(control.take_reads() <= 2 * (1 + run / (64 << 10) + 1));
}

#[test]
fn places_that_are_none_are_refused() {
    let (vfs, dir) = mem();
    for tail_bytes in [0, 1 << 20] {
        let dir = dir.join(tail_bytes.to_string());
        let options = LogOptions {
            segment_size: SegmentSize::fixed(500),
            tail_bytes,
            cache_bytes: 0,
            mapped_bytes: 1 << 30,
        };
        let log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, options).unwrap();
        let mut model = Model::default();
        for _ in 0..10 {
            model.commit(&log, &[shape(5, 100), shape(5, 120), shape(9, 1)]);
        }
        let next = |record: LogPosition, at: LogPosition| {
            RunCursor::new(shard(5), record, at).next(&log).unwrap_err()
        };
        let e = &model.entries[3];
        let outside = next(e.record, model.entries[0].at);
        assert!(matches!(outside, LogError::NotInRun { .. }), "{outside}");
        let other_shard = next(e.record, model.entries[5].at.plus(8));
        assert!(matches!(other_shard, LogError::NotInRun { .. }), "{other_shard}");
        let no_record = next(e.record.plus(8), e.at);
        let expected = matches!(no_record, LogError::NotAnEntry { .. } | LogError::Corrupt { .. });
        assert!(expected, "{no_record}");
        let inside = next(e.record, e.at.plus(8));
        let expected = matches!(inside, LogError::NotAnEntry { .. } | LogError::Corrupt { .. });
        assert!(expected, "{inside}");
        let beyond = next(log.announced_end(), e.at);
        assert!(matches!(beyond, LogError::OutOfRange { .. }), "{beyond}");
        log.prune_head(model.records[7].position()).unwrap();
        assert!(matches!(next(e.record, e.at), LogError::Pruned { .. }));
    }
}

/// Stepping over entries trusts lengths whose checksum it did not look at, but not serial numbers.
#[test]
fn a_gap_in_serial_numbers_is_an_error() {
    let (vfs, dir) = mem();
    let log = EntryLog::create(vfs, &dir, common::ID, common::disk_only(1 << 20)).unwrap();
    let mut model = Model::default();
    model.commit(&log, &[shape(5, 100), shape(5, 120)]);
    model.next_sn[5] += 1;
    model.commit(&log, &[Shape { shard: 5, key_len: 3, value_len: 4, dsns: 0 }]);
    for keep in [true, false] {
        let mut cursor = at(&model.entries[0]);
        let error = loop {
            match cursor.next_where(&log, |_| keep) {
                Ok(next) => assert!(keep && next.is_some()),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LogError::Corrupt { .. }), "{error}");
    }
}
