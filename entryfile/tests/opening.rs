//! Opening after a crash at any point, and pruning.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]

mod common;

use common::{
    Control, Model, copy_dir, disk_only, disks, files, flip, forge_header, hooked, mem, shape,
};
use hedgerow_entryfile::{
    Damage, EntryLog, LogError, SegmentSize, StoreId, TwigFile, TwigFileOptions,
};
use hedgerow_types::{Height, LogPosition};
use hedgerow_vfs::{OpenMode, Vfs, read_file};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn open(
    vfs: &Arc<dyn Vfs>,
    dir: &Path,
    start: u64,
    end: LogPosition,
) -> Result<EntryLog, LogError> {
    let options = disk_only(1000);
    EntryLog::open(Arc::clone(vfs), dir, common::ID, options, LogPosition(start), end)
}

/// A log of `blocks` records in segments of about 1000 bytes.
fn filled(vfs: &Arc<dyn Vfs>, dir: &Path, blocks: usize) -> (EntryLog, Model) {
    let log = EntryLog::create(Arc::clone(vfs), dir, common::ID, disk_only(1000)).unwrap();
    let mut model = Model::default();
    for block in 0..blocks {
        model.commit(&log, &[shape(block % 16, 60 * (block % 7)), shape(3, 50)]);
    }
    (log, model)
}

#[test]
fn whatever_lies_beyond_the_end_is_cut_and_the_log_goes_on_from_there() {
    for (vfs, dir, _temp) in disks() {
        let (log, model) = filled(&vfs, &dir, 12);
        drop(log);
        let ends: Vec<_> = model.records.iter().map(|record| record.end()).collect();
        for end in ends.into_iter().rev().chain([LogPosition(64)]) {
            let log = open(&vfs, &dir, 0, end).unwrap();
            let mut kept = model.clone();
            kept.cut(end);
            kept.check(&log);
            assert_eq!((log.end(), log.announced_end()), (end, end));
            assert_eq!(files(&*vfs, &dir).iter().map(|(_, len)| len).sum::<u64>(), end.0);
            // What is written next takes the place of what was cut.
            kept.commit(&log, &[shape(9, 33)]);
            kept.commit(&log, &[shape(9, 900)]);
            kept.check(&log);
            let log = open(&vfs, &dir, 0, log.end()).unwrap();
            kept.check(&log);
        }
    }
}

/// A crash leaves any length of what was not synced; only what the manifest covers counts.
#[test]
fn a_torn_end_of_any_length_is_cut_or_reported_short() {
    let (vfs, dir) = mem();
    let (log, model) = filled(&vfs, &dir, 4);
    let (end, last) = (log.end(), model.records.last().unwrap().clone());
    let segments = files(&*vfs, &dir);
    let (path, len) = segments.last().unwrap();
    for cut in 0..*len {
        let (vfs, dir) = copy_dir(&*vfs, &dir);
        let path = dir.join(path.file_name().unwrap());
        vfs.open(&path, OpenMode::ReadWrite).unwrap().set_len(cut).unwrap();
        let error = open(&vfs, &dir, 0, end).unwrap_err();
        assert!(matches!(&error, LogError::Short { path: at, missing }
            if *at == path && (*missing == len - cut || cut < 64)));
        assert_eq!(files(&*vfs, &dir).len(), segments.len(), "nothing was removed");
        let base = end.0 - len;
        if base + cut >= last.position().0 && last.position().0 > base + 64 {
            let mut kept = model.clone();
            kept.cut(last.position());
            kept.check(&open(&vfs, &dir, 0, last.position()).unwrap());
        }
    }
}

#[test]
fn a_missing_segment_is_noticed_wherever_it_is() {
    let (vfs, dir) = mem();
    let (log, _) = filled(&vfs, &dir, 20);
    let segments = files(&*vfs, &dir);
    assert!(segments.len() > 4);
    for (index, (path, _)) in segments.iter().enumerate() {
        let (vfs, dir) = copy_dir(&*vfs, &dir);
        vfs.remove_file(&dir.join(path.file_name().unwrap())).unwrap();
        let error = open(&vfs, &dir, 0, log.end()).unwrap_err();
        if index == 0 {
            assert!(matches!(error, LogError::NoSegment { .. }), "{error}");
        } else {
            assert!(matches!(error, LogError::Short { .. }), "{error}");
        }
        assert_eq!(files(&*vfs, &dir).len(), segments.len() - 1, "nothing else was removed");
    }
    for (path, len) in &segments[..segments.len() - 1] {
        let (vfs, dir) = copy_dir(&*vfs, &dir);
        let path = dir.join(path.file_name().unwrap());
        vfs.open(&path, OpenMode::ReadWrite).unwrap().write_all_at(&[0; 8], *len).unwrap();
        let error = open(&vfs, &dir, 0, log.end()).unwrap_err();
        assert!(matches!(error, LogError::Overlap { excess: 8, .. }), "{error}");
    }
}

#[test]
fn bounds_that_no_log_has_are_refused() {
    let (vfs, dir) = mem();
    let (log, model) = filled(&vfs, &dir, 20);
    let base = log.prunable(log.end()).unwrap();
    for end in [LogPosition(0), LogPosition(56), base.plus(8), base.plus(56)] {
        let error = open(&vfs, &dir, 0, end).unwrap_err();
        assert!(matches!(error, LogError::Bounds { .. }), "{error}");
    }
    assert!(matches!(open(&vfs, &dir, base.0, LogPosition(64)), Err(LogError::Bounds { .. })));
    assert!(matches!(open(&vfs, &dir, 4, log.end()), Err(LogError::Misaligned(_))));
    assert!(matches!(open(&vfs, &dir, 0, LogPosition(68)), Err(LogError::Misaligned(_))));
    let error = open(&vfs, &dir, 0, log.end().plus(8)).unwrap_err();
    assert!(matches!(error, LogError::Short { missing: 8, .. }), "{error}");
    assert!(matches!(open(&vfs, &dir.join("none"), 0, log.end()), Err(LogError::Io { .. })));
    model.check(&open(&vfs, &dir, 0, log.end()).unwrap());
}

#[test]
fn a_damaged_or_foreign_segment_header_is_an_error() {
    let (vfs, dir) = mem();
    let (log, _) = filled(&vfs, &dir, 8);
    let other = StoreId([9; 16]);
    let opened =
        EntryLog::open(Arc::clone(&vfs), &dir, other, disk_only(1000), log.start(), log.end());
    assert!(matches!(opened, Err(LogError::Corrupt { what: Damage::StoreId, .. })));
    for (path, _) in files(&*vfs, &dir) {
        for byte in 0..64 {
            flip(&*vfs, &path, byte, (byte % 8) as u8);
            let error = open(&vfs, &dir, 0, log.end()).unwrap_err();
            assert!(
                matches!(&error, LogError::Corrupt { path: at, offset: 0, .. } if *at == path),
                "{error}"
            );
            flip(&*vfs, &path, byte, (byte % 8) as u8);
        }
    }
    assert!(open(&vfs, &dir, 0, log.end()).is_ok());
}

/// What version 1 wrote, and what this version leaves zero and a newer one may not: refused by name, in
/// the log and in the twig file, which is otherwise mended in silence, and nothing is changed.
#[test]
fn a_segment_of_another_version_is_refused_and_stays() {
    for (byte, value, says) in [
        (8, 1, "it has format version 1, this build of Hedgerow reads version 2: an older"),
        (8, 3, "it has format version 3, this build of Hedgerow reads version 2: a newer"),
        (12, 2, "its place is 2, which this build of Hedgerow does not know: a newer"),
        (15, 1, "its reserved field at 14 is 256, which"),
        (41, 1, "its chunk table's offset is 256, which"),
        (48, 16, "its chunk table's length is 16, which"),
        (59, 1, "its reserved field at 56 is 16777216, which"),
    ] {
        let (vfs, dir) = mem();
        let (log, _) = filled(&vfs, &dir, 8);
        let twigs = dir.with_extension("twigs");
        let options = TwigFileOptions {
            segment_size: SegmentSize::fixed(10_000),
            ..TwigFileOptions::default()
        };
        let file = TwigFile::create(Arc::clone(&vfs), &twigs, common::ID, options.clone()).unwrap();
        file.append(&[0, 1, 2, 3].map(|twig| common::twig_record(3, twig))).unwrap();
        drop(file);
        for (folder, number) in [(&dir, 0), (&dir, 1), (&twigs, 0), (&twigs, 1)] {
            let (vfs, folder) = copy_dir(&*vfs, folder);
            let path = files(&*vfs, &folder)[number].0.clone();
            forge_header(&*vfs, &path, byte, value);
            let before = all_bytes(&*vfs, &folder);
            let error = if path.extension().unwrap() == "log" {
                open(&vfs, &folder, 0, log.end()).unwrap_err()
            } else {
                let (options, end) = (options.clone(), LogPosition(u64::MAX));
                TwigFile::open(Arc::clone(&vfs), &folder, common::ID, options, end).unwrap_err()
            };
            let named = matches!(&error, LogError::Corrupt { path: at, .. } if *at == path);
            assert!(named && error.to_string().contains(says), "{error}");
            assert_eq!(all_bytes(&*vfs, &folder), before, "{says}");
        }
        // Behind the end that the manifest names too.
        let (vfs, dir) = copy_dir(&*vfs, &dir);
        let last = files(&*vfs, &dir).last().unwrap().0.clone();
        forge_header(&*vfs, &last, byte, value);
        let (start, end) = (LogPosition(0), LogPosition(64));
        let found = EntryLog::find_journal(vfs, &dir, common::ID, start, end, Height(0));
        let error = found.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// The files of a directory with their bytes.
fn all_bytes(vfs: &dyn Vfs, dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = files(vfs, dir).into_iter();
    files.map(|(path, len)| (path.clone(), read_file(vfs, &path, len).unwrap())).collect()
}

#[test]
fn an_existing_log_is_never_created_over_and_other_names_are_left_alone() {
    let (vfs, dir) = mem();
    let (log, model) = filled(&vfs, &dir, 8);
    let created = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, disk_only(1000));
    assert!(matches!(created, Err(LogError::Exists(_))));
    for name in
        ["LOCK", "0.log", "zzzzzzzzzzzzzzzz.log", "ffffffffffffff00.log", "7fffffffffffff00.twigs"]
    {
        vfs.open(&dir.join(name), OpenMode::CreateNew).unwrap();
    }
    let junk = dir.join("7fffffffffffff00.log");
    vfs.open(&junk, OpenMode::CreateNew).unwrap();
    let count = files(&*vfs, &dir).len();
    model.check(&open(&vfs, &dir, 0, log.end()).unwrap());
    assert_eq!(files(&*vfs, &dir).len(), count - 1);
    assert!(!vfs.exists(&junk).unwrap(), "a segment beyond the end");
}

#[test]
fn pruning_removes_whole_segments_and_is_done_again_at_opening() {
    for (inner, dir, _temp) in disks() {
        let (vfs, control) = hooked(inner);
        let (log, model) = filled(&vfs, &dir, 40);
        assert_eq!((log.prunable(LogPosition(0)), log.prunable(LogPosition(64))), (None, None));
        let upto = model.records[15].position();
        let boundary = log.prunable(upto).unwrap();
        assert!(boundary <= upto && upto.0 - boundary.0 < 2500);
        let bytes = log.stats().bytes;
        assert_eq!(log.prune_head(upto).unwrap(), boundary.0);
        assert_eq!(log.stats().bytes, bytes - boundary.0);
        assert_eq!((log.start(), log.prunable(upto)), (boundary, None));
        for e in model.entries.iter().filter(|e| e.at < boundary) {
            let pruned = log.read(e.at).unwrap_err();
            assert!(matches!(pruned, LogError::Pruned { start, .. } if start == boundary));
            assert!(matches!(log.read_many(&[e.at]), Err(LogError::Pruned { .. })));
        }
        let mut scan = log.scan(LogPosition(64), log.end());
        assert!(matches!(scan.next(), Some(Err(LogError::Pruned { .. }))));
        assert!(scan.next().is_none());
        model.check(&log);
        model.check(&open(&vfs, &dir, boundary.0, log.end()).unwrap());

        // A crash, here an error, after the new start was made durable and before all is removed.
        let upto = model.records[30].position();
        let boundary = log.prunable(upto).unwrap();
        fail(&control, true);
        assert!(matches!(log.prune_head(upto), Err(LogError::Io { .. })));
        fail(&control, false);
        model.check(&log);
        assert!(files(&*vfs, &dir).iter().map(|(_, len)| len).sum::<u64>() > log.stats().bytes);
        let end = log.end();
        drop(log);
        let log = open(&vfs, &dir, boundary.0, end).unwrap();
        model.check(&log);
        assert_eq!(files(&*vfs, &dir).iter().map(|(_, len)| len).sum::<u64>(), end.0 - boundary.0);

        // The last segment always stays.
        log.prune_head(LogPosition(u64::MAX)).unwrap();
        assert_eq!(log.stats().segments, 1);
        model.check(&log);
    }
}

fn fail(control: &Control, fail: bool) {
    control.fail_removals.store(fail, Ordering::SeqCst);
}

#[test]
fn a_start_within_a_segment_keeps_that_segment() {
    let (vfs, dir) = mem();
    let (log, model) = filled(&vfs, &dir, 20);
    let at = model.records[10].position();
    let log = open(&vfs, &dir, at.0, log.end()).unwrap();
    assert_eq!(Some(log.start()), filled(&mem().0, &dir, 20).0.prunable(at));
    model.check(&log);
}

#[test]
fn more_segments_than_files_kept_open_are_readable() {
    let (vfs, dir) = mem();
    let log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, disk_only(0)).unwrap();
    let mut model = Model::default();
    for block in 0..700 {
        model.announce(&log, &[shape(block % 16, 10)]);
    }
    log.append_many(&model.records).unwrap();
    log.sync().unwrap();
    model.check(&log);
    let log = open(&vfs, &dir, 0, log.end()).unwrap();
    model.check(&log);
    assert_eq!(log.stats().segments, 700);
}
