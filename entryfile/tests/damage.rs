//! Damage anywhere is noticed, failures of the disk are errors, and nothing panics.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]

mod common;

use common::{Model, copy_dir, disk_only, files, flip, hooked, mem, shape};
use hedgerow_entryfile::{EntryLog, LogError, LogOptions, RunCursor};
use hedgerow_types::{LogPosition, ShardId};
use hedgerow_vfs::MemDisk;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Reads everything by every way of reading; what is returned must be right. Returns the errors.
fn read_all(model: &Model, log: &EntryLog) -> Vec<LogError> {
    let mut errors = vec![];
    for e in &model.entries {
        match log.read(e.at) {
            Ok(entry) => common::assert_same(e, &entry),
            Err(error) => errors.push(error),
        }
        let many = log.read_many(&[e.at]);
        assert_eq!(many.is_err(), log.read(e.at).is_err());
    }
    errors
}

/// A scan up to its error, if it meets one.
fn scan(model: &Model, log: &EntryLog) -> Result<(), LogError> {
    let mut found = 0;
    for record in log.scan(log.start(), log.announced_end()) {
        let record = record?;
        assert!(record.record() == &*model.records[found]);
        found += 1;
    }
    assert_eq!(found, model.records.len(), "a scan without an error is complete");
    Ok(())
}

#[test]
fn every_flipped_byte_is_noticed_by_a_scan_and_never_returned_by_a_read() {
    let (vfs, dir) = mem();
    let log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, disk_only(700)).unwrap();
    let mut model = Model::default();
    model.commit(&log, &[shape(0, 0), shape(0, 300), shape(7, 41)]);
    model.commit(&log, &[]);
    model.commit(&log, &[shape(15, 10)]);
    for (path, len) in files(&*vfs, &dir) {
        for byte in 0..len {
            flip(&*vfs, &path, byte, (byte % 8) as u8);
            if byte >= 64 {
                let error = scan(&model, &log).unwrap_err();
                assert!(
                    matches!(&error, LogError::Corrupt { path: at, offset, .. }
                        if *at == path && *offset <= byte),
                    "byte {byte}: {error}"
                );
            }
            // With a damaged header, nothing of a segment is believed that is not open yet.
            let hit = read_all(&model, &log).len();
            assert!(hit <= 1 || byte < 64, "at most one entry is hit: {hit}");
            for shard in ShardId::all() {
                walk(&model, &log, shard);
            }
            flip(&*vfs, &path, byte, (byte % 8) as u8);
        }
    }
    scan(&model, &log).unwrap();
    assert!(read_all(&model, &log).is_empty());
}

/// Walks a shard with a cursor, up to an error; what it returns must be right, and complete if
/// there is no error.
fn walk(model: &Model, log: &EntryLog, shard: ShardId) {
    let expected = model.shard(shard);
    let Some(first) = expected.first() else { return };
    let mut cursor = RunCursor::new(shard, first.record, first.at);
    let mut expected = expected.iter();
    loop {
        match cursor.next(log) {
            Ok(Some((at, entry))) => {
                let e = expected.next().unwrap();
                assert_eq!(at, e.at);
                common::assert_same(e, &entry);
            }
            Ok(None) => break assert!(expected.next().is_none()),
            Err(_) => {
                // It stays where it is, and the error with it.
                assert!(cursor.next(log).is_err());
                break;
            }
        }
    }
}

/// Every frame of the model put into the place of every other of the same length: whole, with a checksum
/// that fits its bytes, and of other bytes than belong there.
#[test]
fn a_whole_frame_in_anothers_place_is_damage_however_it_is_read() {
    let (vfs, dir) = mem();
    let log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, disk_only(2_000)).unwrap();
    let mut model = Model::default();
    for block in 0..6 {
        let same = shape(3, 100);
        model.commit(&log, &[same, same, shape(9, 100), shape(0, 10 * block)]);
    }
    let files = files(&*vfs, &dir);
    assert!(files.len() > 2, "several segments");
    let place = |at: LogPosition| {
        let base = |path: &Path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            u64::from_str_radix(name, 16).unwrap()
        };
        let (path, _) = files.iter().rfind(|(path, _)| base(path) <= at.0).unwrap();
        (path, at.0 - base(path))
    };
    let len = |of: &common::Expected| hedgerow_entryfile::frame_len(of.hashed.len());
    let frame = |of: &common::Expected| {
        let (path, offset) = place(of.at);
        let mut bytes = vec![0; len(of)];
        let file = vfs.open(path, hedgerow_vfs::OpenMode::Read).unwrap();
        file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    };
    let mut moved = 0;
    for to in &model.entries {
        let (path, offset) = place(to.at);
        let file = vfs.open(path, hedgerow_vfs::OpenMode::ReadWrite).unwrap();
        let own = frame(to);
        for from in model.entries.iter().filter(|from| from.at != to.at && len(from) == len(to)) {
            file.write_all_at(&frame(from), offset).unwrap();
            let named = |error: LogError| {
                let good = matches!(&error, LogError::Corrupt { path: at, offset: found, .. }
                    if at == path && *found == offset);
                assert!(good, "{} in the place of {}: {error}", from.at, to.at);
            };
            named(log.read(to.at).unwrap_err());
            named(log.read_many(&[to.at]).unwrap_err());
            named(scan(&model, &log).unwrap_err());
            let mut cursor = RunCursor::new(to.shard, to.record, to.at);
            named(cursor.next(&log).unwrap_err());
            moved += 1;
        }
        file.write_all_at(&own, offset).unwrap();
    }
    assert!(moved > 300, "{moved}");
    scan(&model, &log).unwrap();
    assert!(read_all(&model, &log).is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    /// Files overwritten with anything, anywhere: wrong answers and panics are impossible.
    #[test]
    fn garbage_is_never_believed(
        patches in proptest::collection::vec(
            (any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 1..200)), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let (vfs, dir) = mem();
        let log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, disk_only(900)).unwrap();
        let mut model = Model::default();
        for block in 0..6 {
            model.commit(&log, &[shape(block, 30 * block), shape(3, 120), shape(3, 600 * block)]);
        }
        let (start, end) = (log.start(), log.end());
        for (at, patch) in patches {
            let files = files(&*vfs, &dir);
            let (path, len) = &files[at.index(files.len())];
            let file = vfs.open(path, hedgerow_vfs::OpenMode::ReadWrite).unwrap();
            let at = at.index(*len as usize) as u64;
            let room = patch.len().min((len - at) as usize);
            file.write_all_at(&patch[..room], at).unwrap();
        }
        if let Some(at) = cut {
            let files = files(&*vfs, &dir);
            let (path, len) = &files[at.index(files.len())];
            let file = vfs.open(path, hedgerow_vfs::OpenMode::ReadWrite).unwrap();
            file.set_len(at.index(*len as usize) as u64).unwrap();
        }
        let reopened =
            EntryLog::open(Arc::clone(&vfs), &dir, common::ID, disk_only(900), start, end);
        for log in [Some(log), reopened.ok()].into_iter().flatten() {
            read_all(&model, &log);
            let _ = scan(&model, &log);
            for shard in ShardId::all() {
                walk(&model, &log, shard);
            }
        }
    }
}

#[test]
fn a_disk_that_does_not_read_is_an_error_and_not_an_end() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(inner);
    let log = EntryLog::create(vfs, &dir, common::ID, disk_only(900)).unwrap();
    let mut model = Model::default();
    for block in 0..10 {
        model.commit(&log, &[shape(3, 10 * block), shape(3, 700)]);
    }
    let shard = ShardId::new(3).unwrap();
    let (first, e) = (&model.entries[0], &model.entries[7]);
    let mut cursor = RunCursor::new(shard, first.record, first.at);
    assert!(cursor.next(&log).unwrap().is_some());
    let mut scan = log.scan(log.start(), log.end());
    assert!(scan.next().unwrap().is_ok());

    control.fail_reads.store(true, Ordering::SeqCst);
    assert!(matches!(log.read(e.at), Err(LogError::Io { .. })));
    assert!(matches!(log.read_many(&[first.at, e.at]), Err(LogError::Io { .. })));
    assert!(matches!(scan.next(), Some(Err(LogError::Io { .. }))));
    // The window still has the second entry of the run; then it must read.
    assert!(cursor.next(&log).unwrap().is_some());
    for _ in 0..2 {
        assert!(matches!(cursor.next(&log), Err(LogError::Io { .. })));
    }
    control.fail_reads.store(false, Ordering::SeqCst);

    for e in &model.entries[2..] {
        let (at, entry) = cursor.next(&log).unwrap().unwrap();
        assert_eq!(at, e.at);
        common::assert_same(e, &entry);
    }
    assert!(cursor.next(&log).unwrap().is_none());
    model.check(&log);
}

/// "After an I/O error no later block is acknowledged; what was published stays readable".
#[test]
fn a_failed_write_or_sync_is_latched_and_reading_goes_on() {
    for what in ["write", "roll", "sync"] {
        let (inner, dir) = mem();
        let (vfs, control) = hooked(Arc::clone(&inner));
        let segment_size = if what == "roll" { 0 } else { 1 << 20 };
        let options = LogOptions { tail_bytes: 0, ..disk_only(segment_size) };
        let log = EntryLog::create(vfs, &dir, common::ID, options.clone()).unwrap();
        let mut model = Model::default();
        for _ in 0..3 {
            model.commit(&log, &[shape(1, 100), shape(2, 100)]);
        }
        let durable = log.end();
        model.announce(&log, &[shape(1, 100)]);
        model.announce(&log, &[shape(2, 100)]);
        let (fourth, fifth) = (Arc::clone(&model.records[3]), Arc::clone(&model.records[4]));

        let fail = if what == "sync" { &control.fail_syncs } else { &control.fail_writes };
        if what == "sync" {
            log.append(&fourth).unwrap();
        }
        fail.store(true, Ordering::SeqCst);
        let failed = if what == "sync" { log.sync() } else { log.append(&fourth) };
        assert!(matches!(failed, Err(LogError::Io { .. })));
        fail.store(false, Ordering::SeqCst);

        // The disk works again, but nobody knows what is on it.
        let refused = log.append(&fifth).unwrap_err();
        assert!(
            matches!(&refused, LogError::Failed(cause) if matches!(**cause, LogError::Io { .. }))
        );
        assert!(refused.to_string().contains("injected"), "{refused}");
        assert!(matches!(
            log.append(&fourth),
            Err(LogError::Failed(_) | LogError::OutOfOrder { .. })
        ));
        assert!(matches!(log.sync(), Err(LogError::Failed(_))));
        let next = model.clone().record(log.next_position(), &[]);
        assert!(matches!(log.announce(next), Err(LogError::Failed(_))));
        model.check(&log);
        drop(log);

        let log = EntryLog::open(inner, &dir, common::ID, options, LogPosition(0), durable);
        let log = log.unwrap();
        model.cut(durable);
        model.check(&log);
        model.commit(&log, &[shape(1, 100)]);
        model.check(&log);
    }
}

#[test]
fn a_full_disk_is_an_error_and_the_log_opens_again() {
    let disk = MemDisk::with_capacity(64 << 10);
    let dir = Path::new("log");
    let log = EntryLog::create(Arc::new(disk.clone()), dir, common::ID, disk_only(9000)).unwrap();
    let mut model = Model::default();
    let durable = loop {
        let record = model.announce(&log, &[shape(4, 1000)]);
        let durable = log.end();
        match log.append(&record) {
            Ok(()) => log.sync().unwrap(),
            Err(error) => {
                assert!(matches!(error, LogError::Io { .. }), "{error}");
                break durable;
            }
        }
    };
    assert!(model.records.len() > 30);
    model.check(&log);
    drop(log);
    disk.set_capacity(u64::MAX);
    let start = LogPosition(0);
    let log =
        EntryLog::open(Arc::new(disk), dir, common::ID, disk_only(9000), start, durable).unwrap();
    model.cut(durable);
    model.commit(&log, &[shape(4, 1000)]);
    model.check(&log);
}

#[test]
fn opening_fails_cleanly_at_every_failing_step_and_succeeds_afterwards() {
    let (vfs, dir) = mem();
    let log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, disk_only(900)).unwrap();
    let mut model = Model::default();
    for block in 0..12 {
        model.commit(&log, &[shape(block, 700)]);
    }
    let (start, end) = (model.records[3].position(), model.records[8].end());
    for limit in 0.. {
        let (inner, dir) = copy_dir(&*vfs, &dir);
        let calls = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counter = Arc::clone(&calls);
        let hook = move |call: &hedgerow_vfs::VfsCall<'_>| {
            if counter.fetch_add(1, Ordering::SeqCst) >= limit {
                return Err(call.error(std::io::Error::other("injected")));
            }
            Ok(())
        };
        let failing = Arc::new(hedgerow_vfs::HookedDisk::new(Arc::clone(&inner), Arc::new(hook)));
        let opened = EntryLog::open(failing, &dir, common::ID, disk_only(900), start, end);
        let failed = opened.is_err();
        if let Err(error) = opened {
            assert!(matches!(error, LogError::Io { .. }), "{error}");
        }
        let log = EntryLog::open(inner, &dir, common::ID, disk_only(900), start, end).unwrap();
        let mut kept = model.clone();
        kept.cut(end);
        kept.check(&log);
        if !failed {
            assert!(limit > 10);
            break;
        }
    }
}
