//! What is written is read, by every way of reading, on both disks, whatever the segment size.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]

mod common;

use common::{Model, Shape, assert_same, disk_only, disks, files, hooked, mem, shape};
use hedgerow_entryfile::{EntryLog, Fill, LogError, LogOptions, SEGMENT_HEADER_LEN, SegmentSize};
use hedgerow_types::entry::MAX_LEN;
use hedgerow_types::{LogPosition, MAX_VALUE_LEN};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[test]
fn entries_of_every_legal_size_are_read_back() {
    for (vfs, dir, _temp) in disks() {
        let log = EntryLog::create(vfs, &dir, common::ID, disk_only(1 << 20)).unwrap();
        let mut model = Model::default();
        for key_len in [1, 2, 31, 32, 33, 254, 255] {
            for dsns in [0, 1, 2, 255] {
                let shapes: Vec<_> = [0, 1, 7, 8, 9, 299, 300, 301, 450, 451, 452, 460, 65_536]
                    .map(|value_len| Shape { shard: value_len % 16, key_len, value_len, dsns })
                    .into();
                model.commit(&log, &shapes);
            }
        }
        let largest = Shape { shard: 7, key_len: 255, value_len: MAX_VALUE_LEN, dsns: 255 };
        model.commit(&log, &[shape(6, 3), largest, shape(7, 5)]);
        assert!(model.entries.iter().any(|e| e.hashed.len() == MAX_LEN));
        model.check(&log);
    }
}

/// F-B6 of the study of the peers, spec 16.5 and 16.6: entries of more than 300 bytes that come
/// from disk lost their tail, or stopped the peer.
#[test]
fn entries_longer_than_the_first_read_are_read_whole() {
    let (vfs, dir) = mem();
    let log = EntryLog::create(vfs, &dir, common::ID, disk_only(1 << 20)).unwrap();
    let mut model = Model::default();
    let shapes: Vec<_> = (0..2_000).map(|value_len| shape(value_len % 16, value_len)).collect();
    model.commit(&log, &shapes);
    model.check(&log);
}

/// Spec 16.7 and 16.8: what crossed a segment boundary was read wrongly.
#[test]
fn records_never_span_segments_and_are_read_at_every_boundary() {
    let (vfs, dir) = mem();
    for segment_size in [0, 1, 64, 65, 300, 1000, 5000] {
        let dir = dir.join(segment_size.to_string());
        let log =
            EntryLog::create(Arc::clone(&vfs), &dir, common::ID, disk_only(segment_size)).unwrap();
        let mut model = Model::default();
        for block in 0..60 {
            model.commit(&log, &[shape(block % 16, 100 * (block % 13)), shape(15, 520 + block)]);
        }
        model.check(&log);
        let files = files(&*vfs, &dir);
        assert_eq!(files.len() as u64, log.stats().segments);
        for (path, len) in files {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let base = u64::from_str_radix(name, 16).unwrap();
            let last = model
                .records
                .iter()
                .rfind(|record| record.position().0 > base && record.end().0 <= base + len);
            let last = last.expect("a segment holds a record");
            assert_eq!(last.end().0, base + len, "a segment ends with a record");
            let before_last = last.position().0 - base;
            assert!(before_last == SEGMENT_HEADER_LEN as u64 || before_last < segment_size);
        }
        // A record that fits no segment makes an oversize one; every record then has its own.
        if segment_size < 300 {
            assert_eq!(log.stats().segments, 60);
        }
    }
}

/// A segment is a sixteenth of the log while it lies between the bounds, whatever was pruned and
/// however often the log is opened.
#[test]
fn segments_grow_with_the_log_and_shrink_with_it() {
    let (vfs, dir) = mem();
    let segment_size = SegmentSize { least: 2_000, most: 9_000 };
    let options = || LogOptions { segment_size, ..disk_only(0) };
    let mut log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, options()).unwrap();
    let mut model = Model::default();
    // Every segment but the last one has its length: at least `least` and less than a record more.
    let whole = |least: u64| {
        let files: Vec<u64> = files(&*vfs, &dir).into_iter().map(|(_, len)| len).collect();
        let few = files.len().saturating_sub(1);
        files.into_iter().take(few).filter(|len| (least..least + 1_000).contains(len)).count()
    };
    for block in 0..1_200 {
        model.commit(&log, &[shape(block % 16, 300)]);
        // In the second half the log is held at a length at which the least size is right.
        if block >= 600 && block % 10 == 9 {
            log.prune_head(LogPosition(log.end().0 - 20_000)).unwrap();
        }
        if block % 100 == 99 {
            let (start, end) = (log.start(), log.end());
            log =
                EntryLog::open(Arc::clone(&vfs), &dir, common::ID, options(), start, end).unwrap();
        }
        if block == 599 {
            assert!(whole(2_000) >= 5, "the first ones are small");
            assert!(whole(9_000) >= 5, "the last ones are large");
            // A record is about 700 bytes: all segments of the least size would be some 200.
            assert!(log.stats().segments < 90, "{}", log.stats().segments);
        }
    }
    let segments = log.stats().segments;
    assert_eq!((whole(2_000) as u64, segments > 8), (segments - 1, true), "{segments}");
    model.check(&log);
}

/// Spec 16.4: recovery misread the file as soon as an entry was shorter than an earlier one.
#[test]
fn a_scan_reads_entries_of_falling_length() {
    let (vfs, dir) = mem();
    let log = EntryLog::create(vfs, &dir, common::ID, disk_only(4096)).unwrap();
    let mut model = Model::default();
    for value_len in (0..600).rev().step_by(7) {
        model.commit(&log, &[shape(3, value_len), shape(3, value_len / 2)]);
    }
    model.check_scan(&log);
}

/// Spec 16.18: what was written but not flushed read as whatever the buffer held.
#[test]
fn announced_entries_are_readable_before_they_are_written_and_without_system_calls() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(inner);
    let log = EntryLog::create(vfs, &dir, common::ID, LogOptions::default()).unwrap();
    let mut model = Model::default();
    for block in 0..20 {
        model.announce(&log, &[shape(block % 16, 10 * block), shape(2, 40)]);
    }
    control.take_reads();
    model.check(&log);
    assert_eq!((log.end(), control.take_reads()), (LogPosition(64), 0));
    log.append_many(&model.records[..10]).unwrap();
    model.check(&log);
    log.append_many(&model.records[10..]).unwrap();
    log.sync().unwrap();
    model.check(&log);
    assert_eq!(control.take_reads(), 0, "the tail still has them all");
    assert_eq!(log.stats().entries_from_tail, 3 * 2 * 40);
    assert_eq!(log.end(), log.announced_end());
}

#[test]
fn the_tail_drops_the_oldest_written_records_and_no_others() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(inner);
    let options = LogOptions { tail_bytes: 6000, cache_bytes: 0, ..LogOptions::default() };
    let log = EntryLog::create(vfs, &dir, common::ID, options).unwrap();
    let mut model = Model::default();
    for _ in 0..10 {
        model.announce(&log, &[shape(0, 700)]);
    }
    let held = |log: &EntryLog| log.stats().tail_bytes;
    let all: u64 = model.records.iter().map(|record| record.memory()).sum();
    assert_eq!(held(&log), all, "nothing goes before it is written");
    log.append_many(&model.records[..4]).unwrap();
    assert_eq!(held(&log), all - 4 * model.records[0].memory());
    log.append_many(&model.records[4..]).unwrap();
    assert!(held(&log) <= 6000);
    control.take_reads();
    log.read(model.entries[9].at).unwrap();
    assert_eq!(control.take_reads(), 0);
    log.read(model.entries[0].at).unwrap();
    assert_eq!(control.take_reads(), 2, "512 bytes, then the rest");
    model.check(&log);
}

#[test]
fn small_records_are_written_with_one_write_and_large_runs_as_they_lie() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(inner);
    let log = EntryLog::create(vfs, &dir, common::ID, LogOptions::default()).unwrap();
    let mut model = Model::default();
    let small: Vec<_> = (0..100).map(|i| shape(i % 16, 60)).collect();
    for _ in 0..5 {
        model.announce(&log, &small);
    }
    control.take_writes();
    log.append_many(&model.records).unwrap();
    assert_eq!(control.take_writes(), 1);

    let large = model.announce(&log, &[shape(0, 100), shape(3, 100_000), shape(9, 5)]);
    log.append(&large).unwrap();
    assert_eq!(control.take_writes(), 3, "header and small runs, the large run, small runs");
    log.sync().unwrap();
    assert_eq!(control.syncs.load(Ordering::SeqCst), 1);
    log.sync().unwrap();
    assert_eq!(control.syncs.load(Ordering::SeqCst), 1, "nothing new to sync");
}

#[test]
fn a_batch_reads_neighbours_together() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(inner);
    let log = EntryLog::create(vfs, &dir, common::ID, disk_only(1 << 30)).unwrap();
    let mut model = Model::default();
    for _ in 0..10 {
        model.commit(&log, &(0..100).map(|i| shape(i % 16, 60)).collect::<Vec<_>>());
    }
    let positions: Vec<_> = model.entries.iter().map(|e| e.at).collect();
    control.take_reads();
    let entries = log.read_many(&positions).unwrap();
    assert!(control.take_reads() <= 2, "1000 entries in 160 kB");
    for (e, entry) in model.entries.iter().zip(&entries) {
        assert_same(e, entry);
    }
    // Far apart, each is read on its own.
    log.read_many(&[positions[0], positions[500], positions[999], positions[0]]).unwrap();
    assert_eq!(control.take_reads(), 3);
    assert_eq!(log.read_many(&[]).unwrap(), []);
}

#[test]
fn the_cache_is_filled_by_single_reads_and_on_request() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(inner);
    let options = LogOptions { tail_bytes: 0, cache_bytes: 1 << 20, ..LogOptions::default() };
    let log = EntryLog::create(vfs, &dir, common::ID, options).unwrap();
    let mut model = Model::default();
    model.commit(&log, &(0..100).map(|i| shape(i % 16, 60)).collect::<Vec<_>>());
    let positions: Vec<_> = model.entries.iter().map(|e| e.at).collect();
    let reads = |at: &[LogPosition], fill| {
        control.take_reads();
        log.visit_many(at, fill, |number, entry| {
            let expected = model.entries.iter().find(|e| e.at == at[number]).unwrap();
            assert_eq!(entry.hashed_bytes(), &expected.hashed);
        })
        .unwrap();
        control.take_reads()
    };
    assert_eq!(reads(&positions[..10], Fill::Nothing), 1);
    assert_eq!(log.stats().cache_bytes, 0);
    assert_eq!(reads(&positions[..10], Fill::Cache), 1);
    assert_eq!(reads(&positions[..10], Fill::Nothing), 0);
    let held = model.entries[..10].iter().map(|e| e.hashed.len() as u64 + 128).sum::<u64>();
    assert_eq!(log.stats().cache_bytes, held);
    log.read(positions[50]).unwrap();
    control.take_reads();
    log.read(positions[50]).unwrap();
    assert_eq!(control.take_reads(), 0);
    model.check(&log);
}

#[test]
fn the_cache_stays_within_its_bytes() {
    let (vfs, dir) = mem();
    let options = LogOptions { tail_bytes: 0, cache_bytes: 50_000, ..LogOptions::default() };
    let log = EntryLog::create(vfs, &dir, common::ID, options).unwrap();
    let mut model = Model::default();
    model.commit(&log, &(0..2000).map(|i| shape(i % 16, i % 300)).collect::<Vec<_>>());
    for _ in 0..2 {
        model.check(&log);
        assert!(log.stats().cache_bytes <= 50_000);
    }
}

#[test]
fn positions_that_are_none_are_told_apart() {
    let (vfs, dir) = mem();
    for tail_bytes in [0, 1 << 20] {
        let options = LogOptions { tail_bytes, ..LogOptions::default() };
        let dir = dir.join(tail_bytes.to_string());
        let log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, options).unwrap();
        let mut model = Model::default();
        model.commit(&log, &[shape(0, 60), shape(1, 700)]);
        let end = log.announced_end();
        for at in [end, end.plus(64), LogPosition(u64::MAX - 7)] {
            assert!(matches!(log.read(at), Err(LogError::OutOfRange { .. })));
            let many = log.read_many(&[model.entries[0].at, at]);
            assert!(matches!(many, Err(LogError::OutOfRange { .. })));
        }
        let odd = model.entries[0].at.plus(4);
        assert!(matches!(log.read(odd), Err(LogError::Misaligned(at)) if at == odd));
        // A header, or the middle of an entry.
        for at in [0, 64, 72, model.entries[1].at.0 + 8, model.entries[1].at.0 + 256] {
            let error = log.read(LogPosition(at)).unwrap_err();
            assert!(
                matches!(error, LogError::NotAnEntry { .. } | LogError::Corrupt { .. }),
                "{error}"
            );
            assert!(log.read_many(&[LogPosition(at)]).is_err());
        }
    }
}

#[test]
fn records_out_of_order_are_refused_and_change_nothing() {
    let (vfs, dir) = mem();
    let log = EntryLog::create(vfs, &dir, common::ID, disk_only(200)).unwrap();
    let mut model = Model::default();
    let first = model.announce(&log, &[shape(0, 300)]);
    assert_eq!(log.next_position(), first.end().plus(64), "after a new header");
    let wrong = Model::default().record(first.end(), &[shape(0, 1)]);
    let refused = log.announce(Arc::clone(&wrong)).unwrap_err();
    assert!(matches!(refused, LogError::OutOfOrder { expected, got }
        if expected == first.end().plus(64) && got == first.end()));
    assert!(matches!(log.append(&wrong), Err(LogError::OutOfOrder { .. })));
    let second = model.announce(&log, &[shape(0, 300)]);
    assert!(matches!(log.append(&second), Err(LogError::OutOfOrder { .. })));
    log.append(&first).unwrap();
    assert!(matches!(log.append(&first), Err(LogError::OutOfOrder { .. })));
    log.append(&second).unwrap();
    assert!(matches!(log.append(&second), Err(LogError::OutOfOrder { .. })));
    model.check(&log);
}

fn shapes() -> impl Strategy<Value = Vec<Shape>> {
    let value_len = prop_oneof![8 => 0..200usize, 3 => 200..1500usize, 1 => 1500..80_000usize];
    let shape = (0..16usize, 1..=255usize, value_len, prop_oneof![0..4usize, Just(255)])
        .prop_map(|(shard, key_len, value_len, dsns)| Shape { shard, key_len, value_len, dsns });
    proptest::collection::vec(shape, 0..20)
}

#[derive(Clone, Debug)]
enum Step {
    Announce(Vec<Shape>),
    Append(usize),
    Read(usize),
    ReadMany(Vec<usize>, bool),
    Prune(usize),
    Reopen { segment_size: u64, tail_bytes: u64, cache_bytes: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any_index = 0..10_000usize;
    let step = prop_oneof![
        6 => shapes().prop_map(Step::Announce),
        4 => (1..6usize).prop_map(Step::Append),
        2 => any_index.clone().prop_map(Step::Read),
        4 => (proptest::collection::vec(any_index.clone(), 0..60), any::<bool>())
            .prop_map(|(at, fill)| Step::ReadMany(at, fill)),
        1 => any_index.prop_map(Step::Prune),
        1 => (0..20_000u64, 0..20_000u64, 0..20_000u64).prop_map(
            |(segment_size, tail_bytes, cache_bytes)| Step::Reopen {
                segment_size, tail_bytes, cache_bytes
            }
        ),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

    /// Any sequence of operations, against a list of entries.
    #[test]
    fn a_log_behaves_like_a_list_of_entries(steps in steps(), real in any::<bool>()) {
        let (vfs, dir, _temp) = disks().remove(usize::from(real));
        let options = LogOptions { segment_size: SegmentSize::fixed(3000), cache_bytes: 5000, tail_bytes: 8000, mapped_bytes: 1 << 30 };
        let mut log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, options).unwrap();
        let mut model = Model::default();
        let mut written = 0;
        for step in steps {
            match step {
                Step::Announce(shapes) => {
                    model.announce(&log, &shapes);
                }
                Step::Append(count) => {
                    let to = (written + count).min(model.records.len());
                    log.append_many(&model.records[written..to]).unwrap();
                    written = to;
                }
                Step::Read(i) if !model.entries.is_empty() => {
                    let e = &model.entries[i % model.entries.len()];
                    match log.read(e.at) {
                        Ok(entry) => assert_same(e, &entry),
                        Err(LogError::Pruned { .. }) => prop_assert!(e.at < log.start()),
                        Err(error) => return Err(TestCaseError::fail(error.to_string())),
                    }
                }
                Step::ReadMany(at, fill) if !model.entries.is_empty() => {
                    let wanted: Vec<_> = at
                        .iter()
                        .map(|i| &model.entries[i % model.entries.len()])
                        .filter(|e| e.at >= log.start())
                        .collect();
                    let at: Vec<_> = wanted.iter().map(|e| e.at).collect();
                    let fill = if fill { Fill::Cache } else { Fill::Nothing };
                    let mut seen = vec![0; at.len()];
                    log.visit_many(&at, fill, |number, entry| {
                        seen[number] += 1;
                        assert_eq!(entry.hashed_bytes(), &wanted[number].hashed);
                    })
                    .unwrap();
                    prop_assert!(seen.iter().all(|&times| times == 1), "{:?}", seen);
                    let read = log.read_many(&at).unwrap();
                    prop_assert_eq!(read.len(), wanted.len());
                    wanted.iter().zip(&read).for_each(|(e, entry)| assert_same(e, entry));
                }
                Step::Prune(i) if written > 0 => {
                    let upto = model.records[i % written].position();
                    let bytes = log.stats().bytes;
                    let to = log.prunable(upto);
                    let freed = log.prune_head(upto).unwrap();
                    prop_assert_eq!(to.is_some(), freed > 0);
                    prop_assert_eq!(log.stats().bytes, bytes - freed);
                    if let Some(to) = to {
                        prop_assert_eq!(log.start(), to);
                        prop_assert!(to <= upto);
                    }
                }
                Step::Reopen { segment_size, tail_bytes, cache_bytes } => {
                    log.sync().unwrap();
                    let (start, end) = (log.start(), log.end());
                    let options = LogOptions { segment_size: SegmentSize::fixed(segment_size), cache_bytes, tail_bytes, mapped_bytes: 1 << 30 };
                    log = EntryLog::open(Arc::clone(&vfs), &dir, common::ID, options, start, end)
                        .unwrap();
                    model.cut(end);
                    prop_assert_eq!(model.records.len(), written);
                }
                _ => {}
            }
        }
        model.check(&log);
    }
}
