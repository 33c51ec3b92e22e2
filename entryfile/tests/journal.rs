//! The journal: whole records behind the manifest's end are found, torn ones are not, damaged ones are an
//! error, and what is found is written once more.

#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]

mod common;

use common::{ID, Model, shape};
use hedgerow_entryfile::{
    BlockState, Damage, EntryLog, Journal, LogError, LogOptions, Record, SegmentSize, StoreId,
};
use hedgerow_types::{Height, LogPosition, ShardId};
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use hedgerow_vfs::{HookedDisk, MemDisk, OpenMode, Vfs, VfsCall, VfsOp, read_file};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/log";

fn options(segment_size: u64) -> LogOptions {
    LogOptions {
        segment_size: SegmentSize::fixed(segment_size),
        cache_bytes: 0,
        tail_bytes: 0,
        mapped_bytes: 1 << 30,
    }
}

/// Records of a few entries; the manifest knows the first `settled` of them.
struct Log {
    vfs: Arc<dyn Vfs>,
    records: Vec<Arc<Record>>,
    settled: usize,
}

fn write(vfs: Arc<dyn Vfs>, segment_size: u64, records: usize, settled: usize) -> Log {
    let log =
        EntryLog::create(Arc::clone(&vfs), Path::new(DIR), ID, options(segment_size)).unwrap();
    let mut model = Model::default();
    for number in 0..records {
        let shapes: Vec<_> = (0..3).map(|i| shape(5 * i + number % 5, 60 * (i + 1))).collect();
        let record = model.announce(&log, &shapes);
        log.append(&record).unwrap();
        log.sync().unwrap();
    }
    Log { vfs, records: model.records, settled }
}

impl Log {
    fn end(&self) -> LogPosition {
        self.records[self.settled - 1].end()
    }

    fn find(&self) -> Result<Journal, LogError> {
        let last = self.records[self.settled - 1].height();
        let vfs = Arc::clone(&self.vfs);
        EntryLog::find_journal(vfs, Path::new(DIR), ID, LogPosition(0), self.end(), last)
    }

    /// What ends with this many records.
    fn journal(&self, records: usize) -> Journal {
        let last = &self.records[records - 1];
        Journal { end: last.end(), height: last.height() }
    }

    fn paths(&self) -> Vec<PathBuf> {
        let names = self.vfs.read_dir(Path::new(DIR)).unwrap();
        names.into_iter().map(|name| Path::new(DIR).join(name)).collect()
    }

    fn open(&self, journal: &Journal) -> EntryLog {
        let (vfs, dir) = (Arc::clone(&self.vfs), Path::new(DIR));
        EntryLog::renew_journal(&*vfs, dir, LogPosition(0), self.end(), journal).unwrap();
        EntryLog::open(vfs, dir, ID, options(1 << 20), LogPosition(0), journal.end).unwrap()
    }
}

#[test]
fn whole_records_are_found_wherever_segments_end() {
    for segment_size in [1, 2_000, 1 << 20] {
        for settled in [1, 4, 9, 10] {
            let log = write(Arc::new(MemDisk::new()), segment_size, 10, settled);
            let journal = log.find().unwrap();
            assert_eq!(journal, log.journal(10), "{segment_size} {settled}");
            let opened = log.open(&journal);
            let scanned = opened.scan(log.end(), journal.end).map(|record| {
                let record = record.unwrap();
                record.record().clone()
            });
            let expected = log.records[settled..].iter().map(|record| (**record).clone());
            assert!(scanned.eq(expected), "with all that they say");
        }
    }
}

/// Any length of the file: the whole records that fit are found.
#[test]
fn a_record_that_is_cut_short_is_torn() {
    let log = write(Arc::new(MemDisk::new()), 1 << 20, 5, 2);
    let path = log.paths().remove(0);
    let file = log.vfs.open(&path, OpenMode::ReadWrite).unwrap();
    let end = file.len().unwrap();
    for len in (log.end().0..=end).rev() {
        file.set_len(len).unwrap();
        let whole = log.records.iter().filter(|record| record.end().0 <= len).count();
        assert_eq!(log.find().unwrap(), log.journal(whole), "{len}");
    }
}

/// A sector that was never written reads as zeros.
#[test]
fn a_record_that_lacks_a_sector_is_torn() {
    let log = write(Arc::new(MemDisk::new()), 1 << 20, 6, 2);
    let path = log.paths().remove(0);
    let whole = read_file(&*log.vfs, &path, 1 << 20).unwrap();
    let file = log.vfs.open(&path, OpenMode::ReadWrite).unwrap();
    let mut torn = 0;
    for sector in log.end().0 / 512..(whole.len() as u64).div_ceil(512) {
        let from = (sector * 512).max(log.end().0) as usize;
        let to = whole.len().min((sector as usize + 1) * 512);
        file.write_all_at(&vec![0; to - from], from as u64).unwrap();
        let found = log.find().unwrap();
        assert!(found.end.0 as usize <= from, "{sector}");
        assert!(log.records.iter().any(|record| record.end() == found.end));
        torn += 1;
        file.write_all_at(&whole[from..to], from as u64).unwrap();
    }
    assert!(torn > 3);
    assert_eq!(log.find().unwrap(), log.journal(6));
}

/// Where nothing is missing, what is wrong is damage: every byte of the last record and of those before.
#[test]
fn a_flipped_byte_is_damage_and_never_an_end() {
    let log = write(Arc::new(MemDisk::new()), 1 << 20, 4, 2);
    let path = log.paths().remove(0);
    let whole = read_file(&*log.vfs, &path, 1 << 20).unwrap();
    let file = log.vfs.open(&path, OpenMode::ReadWrite).unwrap();
    for at in log.end().0 as usize..whole.len() {
        for flip in [1, 0x80, 0xFF] {
            file.write_all_at(&[whole[at] ^ flip], at as u64).unwrap();
            match log.find() {
                Err(LogError::Corrupt { offset, .. }) => {
                    let record = log.records.iter().find(|record| record.end().0 as usize > at);
                    let from = record.unwrap().position().0;
                    assert!(from <= offset && offset <= at as u64, "{at} {offset}");
                }
                other => panic!("{at} ^ {flip}: {other:?}"),
            }
        }
        file.write_all_at(&whole[at..at + 1], at as u64).unwrap();
    }
    assert_eq!(log.find().unwrap(), log.journal(4));
}

/// Records each of which says that the one before it was durable; the manifest knows the first.
fn durable_records(segment_size: u64, records: u64) -> Log {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let log =
        EntryLog::create(Arc::clone(&vfs), Path::new(DIR), ID, options(segment_size)).unwrap();
    let mut made = vec![];
    for height in 1..=records {
        let mut model = Model::default();
        let shapes: Vec<_> = (0..16).map(|shard| shape(shard, 90)).collect();
        let like = model.record(log.next_position(), &shapes);
        let runs = std::array::from_fn(|i| like.run(ShardId::new(i).unwrap()).clone());
        let counts = std::array::from_fn(|i| like.entries(ShardId::new(i).unwrap()));
        let state = BlockState { durable: Height(height - 1), ..BlockState::default() };
        let record = Record::new(log.next_position(), Height(height), runs, counts, state);
        let record = Arc::new(record.unwrap());
        log.announce(Arc::clone(&record)).unwrap();
        log.append(&record).unwrap();
        made.push(record);
    }
    Log { vfs, records: made, settled: 1 }
}

/// A whole sector is gone out of a record that a later one calls durable: that is no crash.
#[test]
fn what_a_later_record_calls_durable_is_never_cut() {
    for (segment_size, later_segment) in [(1 << 20, false), (1, true)] {
        let log = durable_records(segment_size, 4);
        let paths = log.paths();
        assert_eq!(paths.len() > 1, later_segment);
        assert_eq!(log.find().unwrap(), log.journal(4));
        // Of the record before the last, and of the last.
        for (lost, durable) in [(2, true), (3, false)] {
            let record = &log.records[lost];
            let path = if later_segment { &paths[lost] } else { &paths[0] };
            let base = if later_segment { record.position().0 - 64 } else { 0 };
            let sector = (record.position().0 - base) / 512 + 2;
            let file = log.vfs.open(path, OpenMode::ReadWrite).unwrap();
            let mut kept = vec![0; 512];
            file.read_exact_at(&mut kept, sector * 512).unwrap();
            file.write_all_at(&[0; 512], sector * 512).unwrap();
            match (log.find(), durable) {
                (Err(LogError::Corrupt { what: Damage::Durable { height }, .. }), true) => {
                    assert_eq!(height, record.height());
                }
                (Ok(found), false) => assert_eq!(found, log.journal(3)),
                (other, _) => panic!("{lost}: {other:?}"),
            }
            file.write_all_at(&kept, sector * 512).unwrap();
        }
    }
}

/// The record behind the lost one cannot be found by its length, or lies in a segment that does not
/// connect: it says all the same that the lost one was durable.
#[test]
fn what_a_later_record_calls_durable_is_never_cut_wherever_that_lies() {
    for segment_size in [1 << 20, 1, 3_500] {
        let log = durable_records(segment_size, 6);
        let whole: Vec<_> = log
            .paths()
            .into_iter()
            .map(|path| (read_file(&*log.vfs, &path, 1 << 20).unwrap(), path))
            .collect();
        let mut told = 0;
        for (bytes, path) in &whole {
            let base =
                u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
            let file = log.vfs.open(path, OpenMode::ReadWrite).unwrap();
            let mut lose = |what: &str, from: u64, to: u64| {
                let found = log.find();
                // Headers that are still there, and the first record that is not whole.
                let header = |at: u64| at + 352 <= base + from || at >= base + to;
                let lies_here = |record: &Record| {
                    (base..base + bytes.len() as u64).contains(&record.position().0)
                };
                let gone = |record: &&Arc<Record>| {
                    lies_here(record)
                        && record.position().0 < base + to
                        && record.end().0 > base + from
                };
                let Some(lost) = log.records.iter().find(gone) else { return };
                if lost.height().0 <= log.settled as u64 {
                    return;
                }
                let says = |record: &&Arc<Record>| {
                    record.durable() >= lost.height()
                        && (!lies_here(record) || header(record.position().0))
                };
                match (found, log.records.iter().find(says)) {
                    (Err(LogError::Corrupt { what: Damage::Durable { height }, .. }), Some(_)) => {
                        assert_eq!(height, lost.height());
                        told += 1;
                    }
                    (Ok(found), None) => assert_eq!(found.height.0 + 1, lost.height().0),
                    (other, says) => {
                        panic!("{what} {from} {to}: {other:?}, {:?}", says.map(|r| r.height()))
                    }
                }
            };
            for sector in 0..(bytes.len() as u64).div_ceil(512) {
                let (from, to) = (sector * 512, (sector * 512 + 512).min(bytes.len() as u64));
                file.write_all_at(&vec![0; (to - from) as usize], from).unwrap();
                if base > 0 || sector > 0 {
                    lose("zeros", from, to);
                }
                file.write_all_at(&bytes[from as usize..to as usize], from).unwrap();
            }
            for len in (0..bytes.len() as u64).step_by(8).filter(|len| base > 0 || *len >= 64) {
                file.set_len(len).unwrap();
                lose("cut", len, bytes.len() as u64);
                file.write_all_at(&bytes[len as usize..], len).unwrap();
            }
        }
        assert!(told > 10, "{segment_size}: {told}");
        assert_eq!(log.find().unwrap(), log.journal(6));
    }
}

/// A segment behind the manifest's end whose header is neither right nor missing is damaged, whatever
/// it holds.
#[test]
fn a_wrong_segment_header_behind_the_end_is_damage() {
    let log = durable_records(1, 4);
    let paths = log.paths();
    for (number, path) in paths.iter().enumerate().skip(log.settled) {
        let whole = read_file(&*log.vfs, path, 1 << 20).unwrap();
        let other = read_file(&*log.vfs, &paths[number - 1], 1 << 20).unwrap();
        let file = log.vfs.open(path, OpenMode::ReadWrite).unwrap();
        for (at, bytes) in
            [(0, &other[..]), (3, &[7]), (9, &[7]), (33, &[7]), (50, &[7]), (62, &[7])]
        {
            file.write_all_at(bytes, at).unwrap();
            match log.find() {
                Err(LogError::Corrupt { path: named, offset: 0, .. }) => assert_eq!(&named, path),
                other => panic!("{} at {at}: {other:?}", path.display()),
            }
            file.set_len(0).unwrap();
            file.write_all_at(&whole, 0).unwrap();
        }
    }
    assert_eq!(log.find().unwrap(), log.journal(4));
}

/// A value that looks like a header of a later record, checksum and place and all, but for the store's id.
#[test]
fn a_value_that_looks_like_a_record_is_not_believed() {
    let log = durable_records(1 << 20, 4);
    let path = log.paths().remove(0);
    let whole = read_file(&*log.vfs, &path, 1 << 20).unwrap();
    let last = &log.records[3];
    let at = last.position().0 as usize;
    let file = log.vfs.open(&path, OpenMode::ReadWrite).unwrap();
    // The last record lost its first sectors, and in the rest of it such a value lies.
    for (id, believed) in [(StoreId([9; 16]), false), (ID, true)] {
        let place = at.next_multiple_of(512) + 512;
        let mut header = whole[at..at + 352].to_vec();
        header[16..24].copy_from_slice(&(place as u64).to_le_bytes());
        header[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        let crc = crc32c::crc32c(&header[..344]) ^ crc32c::crc32c(&id.0);
        header[344..348].copy_from_slice(&crc.to_le_bytes());
        file.write_all_at(&vec![0; place - at], at as u64).unwrap();
        file.write_all_at(&header, place as u64).unwrap();
        match log.find() {
            Ok(found) => assert_eq!((found, believed), (log.journal(3), false)),
            Err(error) => assert!(believed, "{error}"),
        }
    }
}

/// A sync fails, the process ends, the next one finds all records in the cache: what it takes in is there
/// after the power went.
#[test]
fn what_a_failed_sync_left_is_written_once_more() {
    let mut found = 0;
    for seed in 0..60 {
        let disk = PowerLossDisk::new(seed);
        let segment_size = [1 << 20, 1_500][seed as usize % 2];
        let log = write(Arc::new(disk.clone()), segment_size, 3, 3);
        {
            let (vfs, dir, end) = (Arc::clone(&log.vfs), Path::new(DIR), log.end());
            let opened =
                EntryLog::open(vfs, dir, ID, options(segment_size), LogPosition(0), end).unwrap();
            let mut model = Model { height: 3, ..Model::default() };
            let (calls, kind) = (Calls::Of(VfsOp::Sync, "log".into()), FaultKind::Eio);
            disk.plan(Fault::once(calls, 0, kind));
            for _ in 0..5 {
                let record = model.announce(&opened, &[shape(3, 400)]);
                opened.append(&record).unwrap();
            }
            opened.sync().unwrap_err();
        }
        let disk = disk.process_death();
        let log = Log { vfs: Arc::new(disk.clone()), ..log };
        let journal = log.find().unwrap();
        found += u64::from(journal.height > Height(3));
        drop(log.open(&journal));
        let log = Log { vfs: Arc::new(disk.power_cycle(seed)), ..log };
        let (vfs, dir) = (Arc::clone(&log.vfs), Path::new(DIR));
        let opened = EntryLog::open(vfs, dir, ID, options(1), LogPosition(0), journal.end);
        let opened = opened.unwrap();
        let heights =
            opened.scan(LogPosition(0), journal.end).map(|record| record.unwrap().height());
        assert!(heights.eq((1..=journal.height.0).map(Height)), "seed {seed}");
    }
    assert!(found > 30, "{found}");
}

/// What is left of a record whose writes stopped early is torn, and never looks like damage.
#[test]
fn what_early_stops_of_writes_leave_is_torn() {
    let mut torn = 0;
    for seed in 0..1000 {
        let disk = PowerLossDisk::new(seed);
        disk.short_calls(200);
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        vfs.create_dir_all(Path::new(DIR)).unwrap();
        vfs.sync_dir(Path::new("/")).unwrap();
        let log = EntryLog::create(vfs, Path::new(DIR), ID, options(1 << 30)).unwrap();
        let mut model = Model::default();
        let settled = model.commit(&log, &[shape(1, 100)]);
        let shapes = (0..8).map(|i| shape(i, 100 + seed as usize % 100));
        let last = model.announce(&log, &shapes.collect::<Vec<_>>());
        log.append(&last).unwrap();
        let vfs: Arc<dyn Vfs> = Arc::new(disk.power_cycle(seed));
        let (end, height) = (settled.end(), settled.height());
        let found = EntryLog::find_journal(vfs, Path::new(DIR), ID, LogPosition(0), end, height);
        let found = found.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let all = Journal { end: last.end(), height: last.height() };
        assert!(found == all || found == Journal { end, height }, "seed {seed}: {found:?}");
        torn += u64::from(found != all);
    }
    assert!((300..900).contains(&torn), "{torn}");
}

/// Between two writes of a record no page is shared: the system may take it to the disk in between.
#[test]
fn every_write_of_a_record_but_the_last_ends_with_a_page() {
    let writes = Arc::new(Mutex::new(vec![]));
    let seen = Arc::clone(&writes);
    let hook = move |call: &VfsCall<'_>| {
        if let (VfsOp::Write, Some(offset), Some(len)) = (call.op, call.offset, call.len) {
            seen.lock().push((offset, offset + len));
        }
        Ok(())
    };
    let vfs = Arc::new(HookedDisk::new(Arc::new(MemDisk::new()), Arc::new(hook)));
    let log = EntryLog::create(vfs, Path::new(DIR), ID, options(1 << 30)).unwrap();
    let (mut model, mut several) = (Model::default(), 0);
    for big in 0..40 {
        // Some runs are gathered, more of them than are kept, and some are written as they lie.
        let shapes = (0..8).flat_map(|i| {
            let some = shape(i, 5_000 * i + 333 * big);
            [some, shape(i + 8, 61 + big), shape(i, 150_000 * (big % 3))]
        });
        let record = model.announce(&log, &shapes.collect::<Vec<_>>());
        writes.lock().clear();
        log.append(&record).unwrap();
        let writes = writes.lock();
        several += u64::from(writes.len() > 3);
        assert_eq!(writes.first().map(|write| write.0), Some(record.position().0));
        assert_eq!(writes.last().map(|write| write.1), Some(record.end().0));
        for pair in writes.windows(2) {
            assert!(pair[0].1 == pair[1].0 && pair[1].0 % 4096 == 0, "{writes:?}");
        }
    }
    assert!(several > 20, "{several}");
    model.check(&log);
}
