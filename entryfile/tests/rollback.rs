//! What was taken back: scans and cursors pass over it, the journal and salvage know its record, and twig records
//! of it are left out.

#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]

mod common;

use common::{ID, Model, shape};
use hedgerow_entryfile::{
    Damage, EntryLog, Journal, LogError, LogOptions, Rollback, RunCursor, Salvaged, SegmentSize,
    find_dead, salvage, with_dead_span,
};
use hedgerow_types::{LogPosition, ShardId};
use hedgerow_vfs::{MemDisk, OpenMode, Vfs};
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "/log";

fn options(segment_size: u64) -> LogOptions {
    LogOptions {
        segment_size: SegmentSize::fixed(segment_size),
        cache_bytes: 0,
        tail_bytes: 500,
        mapped_bytes: 1 << 30,
    }
}

/// A log of ten records, of which the last three were taken back.
fn rolled_back(segment_size: u64) -> (Arc<dyn Vfs>, EntryLog, Model, LogPosition) {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let log =
        EntryLog::create(Arc::clone(&vfs), Path::new(DIR), ID, options(segment_size)).unwrap();
    let mut model = Model::default();
    for number in 0..10 {
        let shapes: Vec<_> = (0..3).map(|i| shape(5 * i + number % 5, 60 * (i + 1))).collect();
        model.commit(&log, &shapes);
    }
    let (last, kept) = (&model.records[9], &model.records[6]);
    let rollback = Rollback { from: last.height(), to: kept.height(), dead_from: kept.end() };
    let end = log.append_rollback(&rollback).unwrap();
    (vfs, log, model, end)
}

#[test]
fn scans_and_cursors_pass_over_what_is_dead() {
    for segment_size in [1, 700, 1 << 20] {
        let (_, log, model, end) = rolled_back(segment_size);
        let kept = model.records[6].end();
        assert_eq!(log.end(), end);
        log.set_dead(&[kept..end]);
        assert_eq!(log.stats().dead_bytes, end.0 - kept.0);
        assert_eq!((log.next_record(kept), log.dead()), (None, vec![kept..end]));
        let heights = |log: &EntryLog, to| {
            let records = log.scan(LogPosition(0), to);
            records.map(|record| record.unwrap().height()).collect::<Vec<_>>()
        };
        let live: Vec<_> = model.records[..7].iter().map(|record| record.height()).collect();
        assert_eq!(heights(&log, end), live);
        assert_eq!(heights(&log, kept), live);
        for shard in ShardId::all() {
            let Some(first) = model.records.iter().find(|record| record.entries(shard) > 0) else {
                continue;
            };
            let start = hedgerow_entryfile::Record::run_start(
                first.position(),
                &std::array::from_fn(|i| first.run(ShardId::new(i).unwrap()).len()),
                shard,
            );
            let mut cursor = RunCursor::new(shard, first.position(), start);
            let mut count = 0;
            while cursor.next(&log).unwrap().is_some() {
                count += 1;
            }
            let expected: u32 = model.records[..7].iter().map(|it| it.entries(shard)).sum();
            assert_eq!(count, expected, "{shard}");
        }
        let head = log.record_head(model.records[3].position()).unwrap();
        assert_eq!((head.height, head.end), (model.records[3].height(), model.records[3].end()));
    }
}

#[test]
fn the_journal_ends_before_a_rollback_that_nobody_names() {
    for segment_size in [1, 700, 1 << 20] {
        for settled in [8, 10] {
            let (vfs, log, model, end) = rolled_back(segment_size);
            drop(log);
            let known = &model.records[settled - 1];
            let find = || {
                let (vfs, dir) = (Arc::clone(&vfs), Path::new(DIR));
                let (at, height) = (known.end(), known.height());
                EntryLog::find_journal(vfs, dir, ID, LogPosition(0), at, height)
            };
            let last = &model.records[9];
            let journal = Journal { end: last.end(), height: last.height() };
            assert_eq!(find().unwrap(), journal);
            // Of any length that a crash may leave of it.
            let mut bases: Vec<u64> = vfs
                .read_dir(Path::new(DIR))
                .unwrap()
                .iter()
                .map(|name| u64::from_str_radix(&name.to_str().unwrap()[..16], 16).unwrap())
                .collect();
            bases.sort_unstable();
            let base = *bases.last().unwrap();
            let path = Path::new(DIR).join(format!("{base:016x}.log"));
            let file = vfs.open(&path, OpenMode::ReadWrite).unwrap();
            let whole = hedgerow_vfs::read_file(&*vfs, &path, 1 << 20).unwrap();
            for len in (end.0 - 64 - base)..(end.0 - base) {
                file.set_len(len).unwrap();
                assert_eq!(find().unwrap(), journal, "{len}");
            }
            file.write_all_at(&whole, 0).unwrap();
            // Once something follows it, it was named: then what names less is older.
            let log = EntryLog::open(
                Arc::clone(&vfs),
                Path::new(DIR),
                ID,
                options(segment_size),
                LogPosition(0),
                end,
            );
            let log = log.unwrap();
            let mut model = model.clone();
            model.commit(&log, &[shape(2, 100)]);
            drop(log);
            match find() {
                Err(LogError::Corrupt { what: Damage::Rollback { to }, .. }) => {
                    assert_eq!(to, model.records[6].height());
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn salvage_goes_by_the_records_of_rollbacks() {
    for segment_size in [1, 700, 1 << 20] {
        let (vfs, _log, model, end) = rolled_back(segment_size);
        let span = model.records[6].end()..end;
        let dir = Path::new(DIR);
        assert_eq!(find_dead(&*vfs, dir, None).unwrap(), std::slice::from_ref(&span));
        assert_eq!(find_dead(&*vfs, dir, Some(end)).unwrap(), std::slice::from_ref(&span));
        assert_eq!(find_dead(&*vfs, dir, Some(LogPosition(end.0 - 8))).unwrap(), []);
        let entries = |dead: &[std::ops::Range<LogPosition>]| {
            let mut count = 0;
            let all = salvage(&*vfs, dir, dead, &mut |found| {
                assert!(matches!(found, Salvaged::Entry(_)), "{found:?}");
                count += 1;
                true
            });
            assert_eq!(all.unwrap(), LogPosition(0)..end);
            count
        };
        let of = |records: &[Arc<hedgerow_entryfile::Record>]| -> u32 {
            let shards = |record: &Arc<hedgerow_entryfile::Record>| {
                ShardId::all().map(|shard| record.entries(shard)).sum::<u32>()
            };
            records.iter().map(shards).sum()
        };
        assert_eq!(entries(&[]), of(&model.records));
        assert_eq!(entries(std::slice::from_ref(&span)), of(&model.records[..7]));
        assert_eq!(with_dead_span(std::slice::from_ref(&span), span.clone()), [span]);
    }
}
