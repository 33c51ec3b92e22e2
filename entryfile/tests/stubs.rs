//! A log in which of some entries only the hash is kept: whoever asks for an entry is told, whoever needs
//! the hash gets it, and a damaged stub is noticed like everything else.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]
#![allow(clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Expected, Model, disk_only, files, flip, hooked, leaf_of, mem, shape};
use hedgerow_entryfile::{
    EntryLog, Fill, FrameRef, LogError, LogOptions, RunCursor, SegmentSize, TwigRecord,
};
use hedgerow_types::{Digest, LogPosition, ShardId, TwigId};
use hedgerow_vfs::{OpenMode, Vfs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A log of which one entry in three is a stub, in several segments.
fn filled(vfs: &Arc<dyn Vfs>, dir: &Path, options: &LogOptions) -> (EntryLog, Model) {
    let log = EntryLog::create(Arc::clone(vfs), dir, common::ID, options.clone()).unwrap();
    let mut model = Model { stub_every: 3, ..Model::default() };
    for block in 0..9 {
        // Also a run of a stub alone.
        let mut shapes = vec![shape(3, 10 * block); 5];
        shapes.extend([shape(block, 700), shape(15, 0)]);
        model.commit(&log, &shapes);
    }
    assert!(model.entries.iter().filter(|e| e.is_stub).count() > 20);
    (log, model)
}

fn is_not_kept(result: Result<impl Sized, LogError>, e: &Expected) -> bool {
    matches!(result, Err(LogError::NotKept { at, stub }) if at == e.at && stub == e.stub())
}

/// Asks for everything in every way.
fn ask(log: &EntryLog, model: &Model) {
    let (stubs, kept): (Vec<_>, Vec<_>) = model.entries.iter().partition(|e| e.is_stub);
    for e in &kept {
        common::assert_same(e, &log.read(e.at).unwrap());
    }
    for e in &stubs {
        assert!(is_not_kept(log.read(e.at), e), "{}", e.at);
        assert!(is_not_kept(log.read_many(&[kept[0].at, e.at, kept[1].at]), e), "{}", e.at);
        for fill in [Fill::Cache, Fill::Nothing] {
            assert!(is_not_kept(log.visit_many(&[e.at], fill, |_, _| panic!("{}", e.at)), e));
        }
    }
    // Those beside them are read over them.
    let at: Vec<LogPosition> = kept.iter().map(|e| e.at).collect();
    for (e, entry) in kept.iter().zip(log.read_many(&at).unwrap()) {
        common::assert_same(e, &entry);
    }
    let first = stubs.iter().min_by_key(|e| e.at).unwrap();
    assert!(is_not_kept(log.scan(log.start(), log.end()).find(Result::is_err).unwrap(), first));
    scan(log, model).unwrap();
    for shard in ShardId::all() {
        walk(log, model, shard);
    }
}

/// A scan up to its error, if it meets one: entries and stubs in their order.
fn scan(log: &EntryLog, model: &Model) -> Result<(), LogError> {
    let mut found = 0;
    for record in log.scan(log.start(), log.end()).with_stubs() {
        let record = record?;
        assert!(record.record() == &*model.records[found]);
        for shard in ShardId::all() {
            let expected = model.shard(shard).into_iter().filter(|e| e.record == record.position());
            let frames: Vec<_> = record.frames(shard).collect();
            assert_eq!(frames.len(), record.record().entries(shard) as usize);
            for (e, (at, frame)) in expected.clone().zip(frames) {
                assert_eq!((at, frame.serial_number()), (e.at, e.sn));
                assert_eq!(frame.leaf(leaf_of), leaf_of(&e.hashed));
                match frame {
                    FrameRef::Entry(entry) => assert_eq!(entry.hashed_bytes(), e.hashed),
                    FrameRef::Stub(stub) => assert_eq!((stub, e.is_stub), (e.stub(), true)),
                }
            }
            let kept = expected.filter(|e| !e.is_stub).map(|e| e.at);
            assert!(record.entries(shard).map(|(at, _)| at).eq(kept));
        }
        found += 1;
    }
    assert_eq!(found, model.records.len(), "a scan without an error is complete");
    Ok(())
}

/// A cursor steps over stubs that nobody wants, and stays before one that somebody does.
fn walk(log: &EntryLog, model: &Model, shard: ShardId) {
    let expected = model.shard(shard);
    let Some(first) = expected.first() else { return };
    let mut cursor = RunCursor::new(shard, first.record, first.at);
    for e in expected.iter().filter(|e| !e.is_stub) {
        let (at, entry) = cursor.next_where(log, |sn| !sn.0.is_multiple_of(3)).unwrap().unwrap();
        assert_eq!(at, e.at);
        common::assert_same(e, &entry);
    }
    assert!(cursor.next_where(log, |sn| !sn.0.is_multiple_of(3)).unwrap().is_none());
    for e in expected.into_iter().filter(|e| e.is_stub) {
        let mut cursor = RunCursor::new(shard, e.record, e.at);
        for _ in 0..2 {
            assert!(is_not_kept(cursor.next(log), e), "{}", e.at);
            assert_eq!((cursor.record(), cursor.position()), (e.record, e.at));
        }
    }
}

#[test]
fn who_asks_for_an_entry_is_told_that_it_is_not_kept() {
    for (segment_size, tail_bytes, cache_bytes) in
        [(1 << 30, 0, 0), (2_000, 0, 0), (2_000, 3_000, 1 << 20), (2_000, 1 << 30, 0)]
    {
        let (vfs, dir) = mem();
        let segment_size = SegmentSize::fixed(segment_size);
        let options = LogOptions { segment_size, tail_bytes, cache_bytes, mapped_bytes: 1 << 30 };
        let (log, model) = filled(&vfs, &dir, &options);
        ask(&log, &model);
        let (start, end) = (log.start(), log.end());
        drop(log);
        let log = EntryLog::open(vfs, &dir, common::ID, options, start, end).unwrap();
        ask(&log, &model);
    }
}

/// A stub costs one read, like a short entry.
#[test]
fn a_stub_is_read_at_once() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(inner);
    let (log, model) = filled(&vfs, &dir, &disk_only(1 << 30));
    for e in &model.entries {
        control.take_reads();
        _ = log.read(e.at);
        let reads = control.take_reads();
        assert!(reads == 1 || !e.is_stub && e.hashed.len() > 500, "{reads} for {}", e.at);
    }
}

/// What a crash leaves behind the manifest's end is whole, with or without stubs.
#[test]
fn records_with_stubs_are_part_of_the_journal() {
    let (vfs, dir) = mem();
    let (log, model) = filled(&vfs, &dir, &disk_only(2_000));
    let (start, first) = (log.start(), &model.records[0]);
    let journal =
        EntryLog::find_journal(vfs, &dir, common::ID, start, first.end(), first.height()).unwrap();
    assert_eq!((journal.end, journal.height.0), (log.end(), 9));
}

#[test]
fn leaves_of_a_group_are_read_from_stubs() {
    let (vfs, dir) = mem();
    let log = EntryLog::create(vfs, &dir, common::ID, disk_only(20_000)).unwrap();
    let mut model = Model { stub_every: 3, ..Model::default() };
    while model.next_sn[5] < 2048 {
        let count = (1 + model.next_sn[5] % 61).min(2048 - model.next_sn[5]) as usize;
        let mut shapes = vec![shape(5, 10 * count); count];
        shapes.push(shape(2, 30));
        model.commit(&log, &shapes);
    }
    let shard = ShardId::new(5).unwrap();
    let entries = model.shard(shard);
    let mut end = entries[0].at;
    let mut breaks = vec![];
    for (leaf, e) in entries.iter().enumerate() {
        if e.at != end {
            breaks.push((leaf as u16, e.at));
        }
        let len = if e.is_stub { 48 } else { hedgerow_entryfile::frame_len(e.hashed.len()) };
        end = e.at.plus(len as u64);
    }
    let record = TwigRecord {
        shard,
        twig: TwigId(0),
        record: entries[0].record,
        nodes: Box::new([Digest::ZERO; 255]),
        groups: Box::new(std::array::from_fn(|i| entries[16 * i].at)),
        breaks,
        leaves: None,
    };
    for first in (0..2048).step_by(16) {
        let group = log.read_group(&record, first + 7).unwrap();
        assert_eq!(group.len(), 16);
        for ((at, frame), e) in group.iter().zip(&entries[first..]) {
            assert_eq!((*at, frame.serial_number()), (e.at, e.sn));
            assert_eq!(frame.get().leaf(leaf_of), leaf_of(&e.hashed));
            assert_eq!(frame.get().entry().is_none(), e.is_stub);
        }
    }
}

/// Every byte of a log with stubs, those of the stubs too: no scan accepts it, and no read gives anything
/// but what was written there.
#[test]
fn every_flipped_byte_is_noticed() {
    let (vfs, dir) = mem();
    let log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, disk_only(900)).unwrap();
    let mut model = Model { stub_every: 2, ..Model::default() };
    model.commit(&log, &[shape(0, 0), shape(0, 30), shape(7, 41), shape(0, 0)]);
    model.commit(&log, &[shape(7, 10), shape(15, 10)]);
    assert_eq!(model.entries.iter().filter(|e| e.is_stub).count(), 4);
    for (path, len) in files(&*vfs, &dir) {
        for (byte, bit) in (64..len).flat_map(|byte| [0, byte % 8, 7].map(|bit| (byte, bit as u8)))
        {
            flip(&*vfs, &path, byte, bit);
            let error = scan(&log, &model).unwrap_err();
            assert!(
                matches!(&error, LogError::Corrupt { path: at, offset, .. }
                    if *at == path && *offset <= byte),
                "byte {byte}: {error}"
            );
            let mut hit = 0;
            for e in &model.entries {
                match log.read(e.at) {
                    Ok(entry) => common::assert_same(e, &entry),
                    Err(LogError::Corrupt { .. }) => hit += 1,
                    other => assert!(is_not_kept(other, e), "byte {byte}, {}", e.at),
                }
            }
            assert!(hit <= 1, "at most one is hit: {hit}");
            flip(&*vfs, &path, byte, bit);
        }
    }
    ask_both(&log, &model);
}

fn ask_both(log: &EntryLog, model: &Model) {
    scan(log, model).unwrap();
    for e in &model.entries {
        assert!(log.read(e.at).is_ok() || is_not_kept(log.read(e.at), e));
    }
}

/// All stubs are of one length: each in the place of each other is damage.
#[test]
fn a_whole_stub_in_anothers_place_is_damage() {
    let (vfs, dir) = mem();
    let (log, model) = filled(&vfs, &dir, &disk_only(1 << 30));
    let path: PathBuf = files(&*vfs, &dir)[0].0.clone();
    let file = vfs.open(&path, OpenMode::ReadWrite).unwrap();
    let stubs: Vec<_> = model.entries.iter().filter(|e| e.is_stub).collect();
    let frame = |at: LogPosition| {
        let mut bytes = [0; 48];
        file.read_exact_at(&mut bytes, at.0).unwrap();
        bytes
    };
    for to in &stubs {
        let own = frame(to.at);
        for from in stubs.iter().filter(|from| from.at != to.at) {
            file.write_all_at(&frame(from.at), to.at.0).unwrap();
            for error in [log.read(to.at).unwrap_err(), scan(&log, &model).unwrap_err()] {
                let named = matches!(error, LogError::Corrupt { offset, .. } if offset == to.at.0);
                assert!(named, "{} in the place of {}: {error}", from.at, to.at);
            }
        }
        file.write_all_at(&own, to.at.0).unwrap();
    }
    scan(&log, &model).unwrap();
}
