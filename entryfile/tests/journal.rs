//! The journal: whole records behind the manifest's end are found, torn ones are not, damaged ones are an
//! error, and what is found is written once more.

#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]

mod common;

use common::{ID, Model, shape};
use hedgerow_entryfile::{
    BlockState, Damage, EntryLog, Journal, LogError, LogOptions, Record, SegmentSize,
};
use hedgerow_types::{Height, LogPosition, ShardId};
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use hedgerow_vfs::{MemDisk, OpenMode, Vfs, VfsOp, read_file};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/log";

fn options(segment_size: u64) -> LogOptions {
    LogOptions { segment_size: SegmentSize::fixed(segment_size), cache_bytes: 0, tail_bytes: 0 }
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

/// A whole sector is gone out of a record that a later one calls durable: that is no crash.
#[test]
fn what_a_later_record_calls_durable_is_never_cut() {
    for (segment_size, later_segment) in [(1 << 20, false), (1, true)] {
        let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let log = EntryLog::create(Arc::clone(&vfs), Path::new(DIR), ID, options(segment_size));
        let log = log.unwrap();
        let mut records = vec![];
        for height in 1..=4 {
            let mut model = Model::default();
            let shapes: Vec<_> = (0..16).map(|shard| shape(shard, 90)).collect();
            let made = model.record(log.next_position(), &shapes);
            let runs = std::array::from_fn(|i| made.run(ShardId::new(i).unwrap()).clone());
            let counts = std::array::from_fn(|i| made.entries(ShardId::new(i).unwrap()));
            let state = BlockState { durable: Height(height - 1), ..BlockState::default() };
            let record = Record::new(log.next_position(), Height(height), runs, counts, state);
            let record = Arc::new(record.unwrap());
            log.announce(Arc::clone(&record)).unwrap();
            log.append(&record).unwrap();
            records.push(record);
        }
        let log = Log { vfs, records, settled: 1 };
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
