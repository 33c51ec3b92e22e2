//! The twig file: what was appended is found, what is damaged is missing, what could not be read is
//! an error.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]

mod common;

use common::twigs::{EVERYTHING, check, check_groups, open, options, record, shard};
use common::{Model, copy_dir, disks, files, flip, hooked, mem, shape};
use hedgerow_entryfile::{
    EntryLog, Leaves, LiveLog, LogError, LogOptions, LogView, SegmentSize, StoreId, StoredFrame,
    TwigFile, TwigFileOptions, TwigRecord,
};
use hedgerow_types::{Digest, LogPosition, SHARDS, TwigId};
use hedgerow_vfs::power_loss::PowerLossDisk;
use hedgerow_vfs::{OpenMode, Vfs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[test]
fn what_was_appended_is_found_before_and_after_reopening() {
    for (vfs, dir, _temp) in disks() {
        for cache_bytes in [0, 1 << 20] {
            let dir = dir.with_extension(cache_bytes.to_string());
            let options = options(30_000, cache_bytes);
            let file =
                TwigFile::create(Arc::clone(&vfs), &dir, common::ID, options.clone()).unwrap();
            let records: Vec<_> = (0..40).map(|i| record(i, i / 3, i)).collect();
            for some in records.chunks(3) {
                file.append(some).unwrap();
            }
            file.append(&[]).unwrap();
            file.sync().unwrap();
            check_groups(&file, &records);
            check(&file, &records);
            check(&file, &records);
            check_groups(&file, &records);
            assert_eq!(file.get(shard(0), TwigId(999)).unwrap(), None);
            assert!(file.stats().segments >= 10);
            drop(file);

            let (file, found) =
                TwigFile::open(Arc::clone(&vfs), &dir, common::ID, options, EVERYTHING).unwrap();
            let mut expected: Vec<_> = records.iter().map(|r| (r.shard, r.twig)).collect();
            expected.sort();
            assert_eq!((found, file.stats().damaged), (expected, 0));
            check(&file, &records);
            // A later record wins, here and after reopening.
            let newer = record(7, 7 / 3, 77);
            check(&file, &records[7..8]);
            file.append(&[Arc::clone(&newer)]).unwrap();
            check_groups(&file, &[Arc::clone(&newer)]);
            check(&file, &[Arc::clone(&newer)]);
            drop(file);
            let (file, _) = open(&vfs, &dir, EVERYTHING);
            check(&file, &[newer]);
            check(&file, &records[..7]);
            check(&file, &records[8..]);
        }
    }
}

#[test]
fn a_tail_torn_at_any_byte_loses_only_what_is_torn() {
    let (vfs, dir) = mem();
    let file = TwigFile::create(Arc::clone(&vfs), &dir, common::ID, options(1 << 20, 0)).unwrap();
    let records: Vec<_> = (0..2).map(|i| record(i, i, i)).collect();
    let mut ends = vec![64];
    for record in &records {
        file.append(&[Arc::clone(record)]).unwrap();
        ends.push(files(&*vfs, &dir)[0].1);
    }
    // Every byte of the last record, and around the begin and end of the first.
    let cuts = (0..200).chain(ends[1] - 40..ends[2]);
    for cut in cuts {
        let (vfs, dir) = copy_dir(&*vfs, &dir);
        let path = &files(&*vfs, &dir)[0].0;
        vfs.open(path, OpenMode::ReadWrite).unwrap().set_len(cut).unwrap();
        let (file, found) = open(&vfs, &dir, EVERYTHING);
        let whole = ends[1..].iter().filter(|&&end| end <= cut).count();
        assert_eq!(found.len(), whole, "cut at {cut}");
        check(&file, &records[..whole]);
        for lost in &records[whole..] {
            assert_eq!(file.get(lost.shard, lost.twig).unwrap(), None);
        }
        assert_eq!(files(&*vfs, &dir)[0].1, ends[whole], "the torn part is gone");
        if cut % 100 != 0 {
            continue;
        }
        // It is computed again and appended where it was torn.
        file.append(&records[whole..]).unwrap();
        check(&file, &records);
        drop(file);
        check(&open(&vfs, &dir, EVERYTHING).0, &records);
    }
}

#[test]
fn a_damaged_record_is_missing_and_others_are_not() {
    let (vfs, dir) = mem();
    let file = TwigFile::create(Arc::clone(&vfs), &dir, common::ID, options(25_000, 0)).unwrap();
    let records: Vec<_> = (0..9).map(|i| record(i, i, 0)).collect();
    file.append(&records).unwrap();
    let segments = files(&*vfs, &dir);
    assert_eq!(segments.len(), 3);
    let len = (segments[0].1 - 64) / 3;
    for (n, (path, _)) in segments.iter().enumerate() {
        for hit in 0..3 {
            // In the body: only this one is lost.
            let byte = 64 + hit * len + 1000;
            flip(&*vfs, path, byte, 3);
            let lost = n * 3 + hit as usize;
            let before = file.stats().damaged;
            assert_eq!(file.get(records[lost].shard, records[lost].twig).unwrap(), None);
            assert_eq!(file.stats().damaged, before + 1);
            for leaf in [0, 2047, 2048] {
                let group = file.group(records[lost].shard, records[lost].twig, leaf).unwrap();
                assert_eq!(group, None);
            }
            assert_eq!(file.stats().damaged, before + 4);
            let (reopened, found) = open(&vfs, &dir, EVERYTHING);
            assert_eq!((found.len(), reopened.stats().damaged), (8, 1));
            check(&reopened, &records[..lost]);
            check(&reopened, &records[lost + 1..]);
            flip(&*vfs, path, byte, 3);

            // In the header: it and the rest of the segment are lost.
            let (vfs, dir) = copy_dir(&*vfs, &dir);
            let path = dir.join(path.file_name().unwrap());
            flip(&*vfs, &path, 64 + hit * len + 9, 3);
            let (reopened, found) = open(&vfs, &dir, EVERYTHING);
            assert_eq!(found.len(), 9 - (3 - hit as usize));
            check(&reopened, &records[..lost]);
            check(&reopened, &records[n * 3 + 3..]);
            reopened.append(&records[lost..n * 3 + 3]).unwrap();
            check(&reopened, &records);
            drop(reopened);
            check(&open(&vfs, &dir, EVERYTHING).0, &records);
        }
        // In the header of the segment.
        let (vfs, dir) = copy_dir(&*vfs, &dir);
        let path = dir.join(path.file_name().unwrap());
        flip(&*vfs, &path, 60, 0);
        let (reopened, found) = open(&vfs, &dir, EVERYTHING);
        assert_eq!(found.len(), 6);
        reopened.append(&records[n * 3..n * 3 + 3]).unwrap();
        check(&reopened, &records);
        drop(reopened);
        check(&open(&vfs, &dir, EVERYTHING).0, &records);
    }
    check(&file, &records);
}

#[test]
fn records_of_lost_blocks_never_come_back() {
    for segment_size in [0, 25_000, 1 << 20] {
        let (vfs, dir) = mem();
        let opts = options(segment_size, 0);
        let file = TwigFile::create(Arc::clone(&vfs), &dir, common::ID, opts).unwrap();
        let records: Vec<_> = (0..9).map(|i| record(i, i, i)).collect();
        file.append(&records).unwrap();
        drop(file);
        // The log ends within what record 5 describes.
        let (file, found) = open(&vfs, &dir, LogPosition(5_100_000));
        assert_eq!(found.len(), 5);
        check(&file, &records[..5]);
        drop(file);
        let (file, found) = open(&vfs, &dir, EVERYTHING);
        assert_eq!(found.len(), 5, "the cut was made on disk");
        file.append(&records[5..]).unwrap();
        check(&file, &records);
        drop(file);
        // Exactly at the end of the log nothing goes.
        let last = records[8].groups[127].plus(8);
        assert_eq!(open(&vfs, &dir, last).1.len(), 9);
        assert_eq!(open(&vfs, &dir, records[8].groups[127]).1.len(), 8);
    }
}

#[test]
fn a_missing_twig_file_is_an_empty_one_and_a_foreign_one_an_error() {
    let (vfs, dir) = mem();
    let (file, found) = open(&vfs, &dir, EVERYTHING);
    assert!(found.is_empty());
    file.append(&[record(1, 1, 1)]).unwrap();
    drop(file);
    let opened = TwigFile::open(
        Arc::clone(&vfs),
        &dir,
        StoreId([1; 16]),
        TwigFileOptions::default(),
        EVERYTHING,
    );
    assert!(matches!(opened, Err(LogError::Corrupt { .. })));
    assert_eq!(open(&vfs, &dir, EVERYTHING).1.len(), 1);
    let created = TwigFile::create(Arc::clone(&vfs), &dir, common::ID, TwigFileOptions::default());
    assert!(matches!(created, Err(LogError::Exists(_))));
}

/// Records of twigs that were finished in what was taken back count for nothing, not even in the place of a newer one
/// that is damaged; nor do those that begin before the log.
#[test]
fn records_of_dead_spans_are_left_out() {
    let position = |millions: u64| LogPosition(1_000_000 * millions);
    for cache_bytes in [0, 1 << 20] {
        let (vfs, dir) = mem();
        let opened = TwigFile::open(
            Arc::clone(&vfs),
            &dir,
            common::ID,
            options(1 << 20, cache_bytes),
            EVERYTHING,
        );
        let (file, _) = opened.unwrap();
        let (below, live, newer) = (record(1, 2, 1), record(1, 10, 3), record(1, 11, 8));
        let dead = [record(1, 11, 5), record(1, 12, 6), record(2, 30, 6)];
        file.append(&[Arc::clone(&below), Arc::clone(&live)]).unwrap();
        file.append(&dead).unwrap();
        check(&file, &dead);
        let mut first = [TwigId(0); 16];
        (first[1], first[2]) = (TwigId(11), TwigId(30));
        file.forget_from(&first);
        check(&file, &[Arc::clone(&below), Arc::clone(&live)]);
        for gone in &dead {
            assert_eq!(file.get(gone.shard, gone.twig).unwrap(), None);
        }
        file.append(&[Arc::clone(&newer)]).unwrap();
        check(&file, &[Arc::clone(&newer)]);
        drop(file);

        let span = position(5)..position(7);
        let live_log =
            || LiveLog { start: position(3), end: position(9), dead: std::slice::from_ref(&span) };
        let twigs = |live: LiveLog<'_>| {
            let opened =
                TwigFile::open(Arc::clone(&vfs), &dir, common::ID, options(1 << 20, 0), live);
            opened
                .unwrap()
                .1
                .into_iter()
                .map(|(shard, twig)| (shard.index(), twig.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(twigs(live_log()), [(1, 10), (1, 11)]);
        assert_eq!(
            twigs(LiveLog { start: LogPosition(0), ..live_log() }),
            [(1, 2), (1, 10), (1, 11)]
        );
        // Without the newer one the dead one is not there again.
        let (path, len) = files(&*vfs, &dir)[0].clone();
        let file = vfs.open(&path, OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[0xA5], len - 100).unwrap();
        assert_eq!(twigs(live_log()), [(1, 10)]);
    }
}

/// It is derived data: a segment of this store under another's name costs its records, not the store.
#[test]
fn a_misnamed_segment_is_a_missing_one() {
    let records: Vec<_> = (0..9).map(|i| record(i, i, i)).collect();
    for base in ["0000000000000001", "00000000ffffffff", "7fffffffffffffff"] {
        let (vfs, dir) = mem();
        let (file, _) = open(&vfs, &dir, EVERYTHING);
        file.append(&records).unwrap();
        drop(file);
        let second = files(&*vfs, &dir)[1].0.clone();
        let name = dir.join(format!("{base}.twigs"));
        vfs.rename(&second, &name).unwrap();
        let (file, found) = open(&vfs, &dir, EVERYTHING);
        assert_eq!(found.len(), 5, "{found:?}");
        check(&file, &records[..4]);
        check(&file, &records[8..]);
        assert!(!vfs.exists(&name).unwrap());
        file.append(&records[4..8]).unwrap();
        check(&file, &records);
    }
}

#[test]
fn could_not_read_is_not_missing() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(inner);
    let file = TwigFile::create(Arc::clone(&vfs), &dir, common::ID, options(9_000, 0)).unwrap();
    let records: Vec<_> = (0..9).map(|i| record(i, i, i)).collect();
    file.append(&records).unwrap();
    control.fail_reads.store(true, Ordering::SeqCst);
    assert!(matches!(file.get(shard(1), TwigId(1)), Err(LogError::Io { .. })));
    assert_eq!(file.get(shard(1), TwigId(2)).unwrap(), None);
    let opened = TwigFile::open(Arc::clone(&vfs), &dir, common::ID, options(9_000, 0), EVERYTHING);
    assert!(matches!(opened, Err(LogError::Io { .. })));
    control.fail_reads.store(false, Ordering::SeqCst);
    assert_eq!(file.stats().damaged, 0);
    check(&file, &records);
    assert_eq!(files(&*vfs, &dir).len(), 9, "nothing was cut because it could not be read");

    control.fail_writes.store(true, Ordering::SeqCst);
    assert!(matches!(file.append(&[record(1, 1, 2)]), Err(LogError::Io { .. })));
    control.fail_writes.store(false, Ordering::SeqCst);
    assert!(matches!(file.append(&[record(1, 1, 2)]), Err(LogError::Failed(_))));
    assert!(matches!(file.sync(), Err(LogError::Failed(_))));
    check(&file, &records);
}

#[test]
fn pruning_removes_segments_that_nobody_needs() {
    let (vfs, dir) = mem();
    let file =
        TwigFile::create(Arc::clone(&vfs), &dir, common::ID, options(25_000, 1 << 20)).unwrap();
    // Three records per segment; shard 1 is slower.
    let records: Vec<_> =
        (0..60).map(|i| record(i % 3, if i % 3 == 1 { i / 9 } else { i / 3 }, 0)).collect();
    file.append(&records).unwrap();
    let bytes = file.stats().bytes;
    assert_eq!(file.prune(&[TwigId(0); SHARDS]).unwrap(), 0);
    let mut first_kept = [TwigId(0); SHARDS];
    (first_kept[0], first_kept[1], first_kept[2]) = (TwigId(10), TwigId(2), TwigId(10));
    let freed = file.prune(&first_kept).unwrap();
    // Shard 1 needs twig 2, first in the segment of records 18, 19, 20.
    assert_eq!(freed, bytes / 20 * 6);
    assert_eq!(file.stats().bytes, bytes - freed);
    assert_eq!(files(&*vfs, &dir).iter().map(|(_, len)| len).sum::<u64>(), bytes - freed);
    for record in &records {
        let kept = record.twig >= first_kept[record.shard.index()];
        let found = file.get(record.shard, record.twig).unwrap();
        assert!(found.is_some() || !kept, "{:?} {:?}", record.shard, record.twig);
    }
    let (reopened, found) = open(&vfs, &dir, EVERYTHING);
    assert_eq!(found.len() as u64, file.stats().twigs);
    drop(reopened);
    file.prune(&[TwigId(u64::MAX); SHARDS]).unwrap();
    assert_eq!(file.stats().segments, 1);
}

/// A twig whose entries lie in blocks of many sizes: the record's groups and breaks lead to them.
#[test]
fn groups_of_a_twig_are_read_through_its_record() {
    for (segment_size, tail_bytes) in [(1 << 30, 0), (4000, 0), (4000, 60_000), (900, 1 << 30)] {
        let (vfs, dir) = mem();
        let log_options = LogOptions {
            segment_size: SegmentSize::fixed(segment_size),
            tail_bytes,
            cache_bytes: 0,
            mapped_bytes: 1 << 30,
        };
        let log = EntryLog::create(vfs, &dir, common::ID, log_options).unwrap();
        let mut model = Model::default();
        let mut count = 0;
        while model.next_sn[5] < 2048 {
            count = count * 7 % 61 + 1;
            let mut shapes =
                vec![shape(5, 10 * count); count.min(2048 - model.next_sn[5] as usize)];
            shapes.push(shape(2, 30));
            if count == 8 {
                shapes[0].value_len = 10_000;
            }
            model.commit(&log, &shapes);
        }
        let entries = model.shard(shard(5));
        let mut end = LogPosition(0);
        let mut breaks = vec![];
        for (leaf, e) in entries.iter().enumerate() {
            if leaf > 0 && e.at != end {
                breaks.push((leaf as u16, e.at));
            }
            end = e.at.plus(hedgerow_entryfile::frame_len(e.hashed.len()) as u64);
        }
        assert!(breaks.len() > 10);
        let mut record = TwigRecord {
            shard: shard(5),
            twig: TwigId(0),
            record: entries[0].record,
            nodes: Box::new([Digest::ZERO; 255]),
            groups: Box::new(std::array::from_fn(|i| entries[16 * i].at)),
            breaks,
            leaves: None,
        };
        let view = LogView::from(&log);
        let mut all = Leaves::default();
        for leaf in (0..2048).step_by(5).chain([2047]) {
            let group = log.read_group(&record, leaf).unwrap();
            let first = leaf / 16 * 16;
            assert_eq!(group.len(), 16);
            for ((at, entry), e) in group.iter().zip(&entries[first..]) {
                assert_eq!(*at, e.at);
                let StoredFrame::Entry(entry) = entry else { panic!("{entry:?}") };
                common::assert_same(e, entry);
            }
            // Several groups side by side, to be hashed together.
            if all.len() >= 3 * 16 {
                all.clear();
            }
            let (group, before) = (record.group_of(leaf).unwrap(), all.len());
            view.read_leaves(&group, &mut all).unwrap();
            view.check_leaves(&group).unwrap();
            assert_eq!((all.len(), all.hashes()), (before + 16, &[][..]));
            for (span, e) in all.spans().skip(before).zip(&entries[first..]) {
                let bytes = &all.bytes()[span.offset as usize..][..span.len as usize];
                assert_eq!(bytes, e.hashed);
            }
        }
        assert!(matches!(log.read_group(&record, 2048), Err(LogError::Malformed(_))));
        // A record of other entries is noticed, and then nothing is added.
        let (len, bytes) = (all.len(), all.bytes().to_vec());
        let mut refused = |record: &TwigRecord, leaf: usize| {
            assert!(log.read_group(record, leaf).is_err());
            let group = record.group_of(leaf).unwrap();
            assert!(view.read_leaves(&group, &mut all).is_err());
            assert!(view.check_leaves(&group).is_err());
            assert_eq!((all.len(), all.bytes()), (len, &bytes[..]));
        };
        record.twig = TwigId(1);
        refused(&record, 0);
        record.twig = TwigId(0);
        let missing = record.breaks.remove(3);
        refused(&record, usize::from(missing.0));
    }
}

/// Whatever is wrong with a group in the log: who hashes it without looking at checksums gets an error, or other bytes than
/// were written, and then the checksums say so.
#[test]
fn damage_in_a_group_is_an_error_or_other_bytes_that_checksums_tell() {
    let (vfs, dir) = mem();
    let options = LogOptions { tail_bytes: 0, cache_bytes: 0, ..LogOptions::default() };
    let log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, options).unwrap();
    let mut model = Model { stub_every: 5, ..Model::default() };
    for _ in 0..16 {
        model.commit(&log, &vec![shape(5, 40); 128]);
    }
    let entries = model.shard(shard(5));
    let follows = |leaf: usize| !leaf.is_multiple_of(128);
    let record = TwigRecord {
        shard: shard(5),
        twig: TwigId(0),
        record: entries[0].record,
        nodes: Box::new([Digest::ZERO; 255]),
        groups: Box::new(std::array::from_fn(|i| entries[16 * i].at)),
        breaks: (1..2048).filter(|&i| !follows(i)).map(|i| (i as u16, entries[i].at)).collect(),
        leaves: None,
    };
    let view = LogView::from(&log);
    let read = |leaf: usize| -> Result<Vec<Vec<u8>>, LogError> {
        let mut leaves = Leaves::default();
        view.read_leaves(&record.group_of(leaf).unwrap(), &mut leaves)?;
        let bytes = |span: hedgerow_entryfile::EntrySpan| {
            leaves.bytes()[span.offset as usize..][..span.len as usize].to_vec()
        };
        let mut all: Vec<Vec<u8>> = leaves.spans().map(bytes).collect();
        leaves.hashes().iter().for_each(|(stub, hash)| all[*stub] = hash.0.to_vec());
        Ok(all)
    };
    let [(path, _)] = &files(&*vfs, &dir)[..] else { panic!("one segment") };
    // In the middle of a run, and at its end.
    for leaf in [32, 112] {
        let good = read(leaf).unwrap();
        let (start, end) = (entries[leaf].at.0, entries[leaf + 15].at.0 + 48);
        for byte in start..end {
            for bit in [0, 7] {
                flip(&*vfs, path, byte, bit);
                let found = read(leaf);
                let checked = view.check_leaves(&record.group_of(leaf).unwrap());
                assert!(matches!(checked, Err(LogError::Corrupt { .. })), "byte {byte}");
                // Of a frame's checksum and padding nothing is hashed.
                if let Ok(found) = &found {
                    let same = found.iter().zip(&good).filter(|(a, b)| a == b).count();
                    assert!(same >= 15, "byte {byte}");
                } else {
                    assert!(matches!(found, Err(LogError::Corrupt { .. })), "byte {byte}");
                }
                flip(&*vfs, path, byte, bit);
            }
        }
        assert_eq!(read(leaf).unwrap(), good);
    }
}

/// What a process left in the system's cache when it died is not durable because the next one finds
/// it: the next sync is of that too, bytes and names.
#[test]
fn a_sync_is_also_of_what_another_process_left() {
    let disk = PowerLossDisk::new(1);
    let dir = Path::new("twigs");
    // Several segments.
    let records: Vec<_> = (0..10).map(|twig| record(twig, twig / 16, twig)).collect();
    {
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let file = TwigFile::create(vfs, dir, common::ID, options(20_000, 0)).unwrap();
        file.sync().unwrap();
        file.append(&records).unwrap();
        assert!(file.stats().segments > 3);
    }
    let disk = disk.process_death();
    let (file, found) = open(&(Arc::new(disk.clone()) as Arc<dyn Vfs>), dir, EVERYTHING);
    assert_eq!(found.len(), records.len());
    file.sync().unwrap();
    drop(file);
    let disk = disk.lose_all_unsynced();
    let (file, found) = open(&(Arc::new(disk) as Arc<dyn Vfs>), dir, EVERYTHING);
    assert_eq!(found.len(), records.len());
    check(&file, &records);
}
