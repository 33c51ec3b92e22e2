//! Batches of reads: many at once by every way that the disk has, errors in their middle, and how many files
//! they keep open.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]

mod common;

use common::{Expected, Model, assert_same, disk_only, shape};
use hedgerow_entryfile::{EntryLog, Fill, LogError, LogOptions, SegmentSize};
use hedgerow_types::LogPosition;
use hedgerow_vfs::{HookedDisk, OneWayDisk, ReadWay, RealDisk, Vfs, VfsCall, VfsOp};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A log of many segments, in which entries of all lengths lie far apart.
fn log(vfs: Arc<dyn Vfs>) -> (EntryLog, Model, tempfile::TempDir) {
    let temp = tempfile::tempdir().unwrap();
    let log =
        EntryLog::create(vfs, &temp.path().join("log"), common::ID, disk_only(400_000)).unwrap();
    let mut model = Model::default();
    for block in 0..40 {
        // Long ones between short ones, so that few are neighbours.
        let len = |i: usize| if i.is_multiple_of(2) { 60 + i } else { 6000 + block * 100 };
        let shapes: Vec<_> = (0..32).map(|i| shape(i / 2, len(i))).collect();
        model.commit(&log, &shapes);
    }
    assert!(log.stats().segments > 10, "{:?}", log.stats());
    (log, model, temp)
}

/// Every entry once more than it is there, in an order of no meaning.
fn shuffled(model: &Model) -> Vec<&Expected> {
    let count = model.entries.len();
    (0..2 * count).map(|i| &model.entries[i * 7919 % count]).collect()
}

#[test]
fn every_way_reads_the_same() {
    for way in [ReadWay::OneByOne, ReadWay::Threads, ReadWay::Ahead, ReadWay::Ring] {
        let disk = OneWayDisk::new(way);
        let (log, model, _temp) = log(Arc::new(disk));
        let before = log.stats();
        let wanted = shuffled(&model);
        let at: Vec<LogPosition> = wanted.iter().map(|e| e.at).collect();
        for (e, entry) in wanted.iter().zip(log.read_many(&at).unwrap()) {
            assert_same(e, &entry);
        }
        let now = log.stats();
        let batches = now.batches - before.batches;
        assert!(batches > 1, "{way}: {now:?}");
        assert!(now.reads_in_batches >= 500, "{way}: {now:?}");
        assert!(now.reads >= now.reads_in_batches, "{way}: {now:?}");
        assert_eq!(now.entries_from_disk - before.entries_from_disk, at.len() as u64);
        let there = RealDisk.many_reads();
        let counted = match way {
            ReadWay::OneByOne => now.reads_by_ring + now.reads_ahead + now.reads_by_threads == 0,
            ReadWay::Threads => now.reads_by_threads > 400 && now.read_depth > 0,
            ReadWay::Ahead if cfg!(target_os = "linux") => {
                now.reads_ahead > 400 && now.read_depth > 50
            }
            ReadWay::Ahead => true,
            ReadWay::Ring if there.way == ReadWay::Ring => now.reads_by_ring > 400,
            ReadWay::Ring => {
                println!("!!! NOT RUN: rings: {:?}", there.why);
                true
            }
        };
        assert!(counted, "{way}: {now:?}");
        assert_eq!(log.many_reads().way, way);
        model.check(&log);
    }
}

/// One read of a batch fails. What lies before it was shown, and the error is that of this read.
#[test]
fn an_error_in_the_middle_of_a_batch_is_told_and_nothing_behind_it_is_shown() {
    let bad = Arc::new(AtomicU64::new(u64::MAX));
    let hook = {
        let bad = Arc::clone(&bad);
        move |call: &VfsCall<'_>| {
            let (Some(offset), Some(len)) = (call.offset, call.len) else { return Ok(()) };
            // The header, 64 bytes at 0, is read whenever a segment is opened.
            let bad = bad.load(Ordering::SeqCst);
            if call.op == VfsOp::Read && offset > 0 && (offset..offset + len).contains(&bad) {
                return Err(call.error(std::io::Error::from_raw_os_error(5)));
            }
            Ok(())
        }
    };
    let disk = HookedDisk::new(Arc::new(RealDisk), Arc::new(hook));
    let temp = tempfile::tempdir().unwrap();
    let options = LogOptions { segment_size: SegmentSize::fixed(1 << 30), ..disk_only(1 << 30) };
    let log = EntryLog::create(Arc::new(disk), &temp.path().join("log"), common::ID, options);
    let (log, mut model) = (log.unwrap(), Model::default());
    for _ in 0..20 {
        let shapes: Vec<_> = (0..32).map(|i| shape(i / 2, 60 + i % 2 * 9000)).collect();
        model.commit(&log, &shapes);
    }
    let wanted: Vec<&Expected> = model.entries.iter().filter(|e| e.hashed.len() < 1000).collect();
    let at: Vec<LogPosition> = wanted.iter().map(|e| e.at).collect();
    let mut sorted = at.clone();
    sorted.sort_unstable();
    for failing in [0, 1, 100, 300, 319] {
        bad.store(sorted[failing].0 + 8, Ordering::SeqCst);
        let mut shown = vec![];
        let result = log.visit_many(&at, Fill::Nothing, |number, entry| {
            assert_eq!(entry.hashed_bytes(), wanted[number].hashed);
            shown.push(wanted[number].at);
        });
        let error = result.unwrap_err();
        assert!(matches!(error, LogError::Io { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(&format!("offset {}", sorted[failing].0)), "{failing}: {text}");
        assert_eq!(shown, sorted[..failing], "{failing}");
    }
    bad.store(u64::MAX, Ordering::SeqCst);
    model.check(&log);
}

/// A segment that was cut short under the open log: its missing entries are errors, by every way; the others
/// are read.
#[test]
fn a_cut_segment_is_an_error_by_every_way() {
    for way in [ReadWay::OneByOne, ReadWay::Threads, ReadWay::Ahead, ReadWay::Ring] {
        let (log, model, temp) = log(Arc::new(OneWayDisk::new(way)));
        let dir = temp.path().join("log");
        let mut names: Vec<PathBuf> =
            std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let cut = &names[3];
        let base: u64 = cut.file_stem().unwrap().to_str().unwrap().parse().unwrap_or_else(|_| {
            u64::from_str_radix(cut.file_stem().unwrap().to_str().unwrap(), 16).unwrap()
        });
        let before = std::fs::metadata(cut).unwrap().len();
        std::fs::OpenOptions::new().write(true).open(cut).unwrap().set_len(before / 2).unwrap();
        let lost = base + before / 2..base + before;
        let (gone, there): (Vec<&Expected>, Vec<&Expected>) =
            model.entries.iter().partition(|e| lost.contains(&(e.at.0 + e.hashed.len() as u64)));
        assert!(!gone.is_empty() && there.len() > 1000, "{} {}", gone.len(), there.len());
        let at: Vec<LogPosition> = there.iter().map(|e| e.at).collect();
        // Those whose first read reaches behind the cut are not told apart from the lost ones.
        let near = |at: &LogPosition| (lost.start - 6000..lost.start).contains(&at.0);
        let at: Vec<LogPosition> = at.into_iter().filter(|at| !near(at)).collect();
        assert_eq!(log.read_many(&at).unwrap().len(), at.len(), "{way}");
        let mut all = at;
        all.insert(all.len() / 2, gone[gone.len() / 2].at);
        let error = log.read_many(&all).unwrap_err();
        assert!(matches!(error, LogError::Io { .. }), "{way}: {error:?}");
        assert!(error.to_string().contains("bytes long"), "{way}: {error}");
    }
}

/// Many threads read batches of the same segments: all are right, and none waits for ever.
#[test]
fn many_threads_read_batches_at_once() {
    let (log, model, _temp) = log(Arc::new(OneWayDisk::new(ReadWay::Ring)));
    std::thread::scope(|scope| {
        for first in 0..24 {
            let (log, model) = (&log, &model);
            scope.spawn(move || {
                let wanted: Vec<_> =
                    (0..200).map(|i| &model.entries[(first * 37 + i * 61) % 1280]).collect();
                let at: Vec<LogPosition> = wanted.iter().map(|e| e.at).collect();
                for (e, entry) in wanted.iter().zip(log.read_many(&at).unwrap()) {
                    assert_same(e, &entry);
                }
            });
        }
    });
}
