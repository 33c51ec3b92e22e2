//! The files of a log as a copy has them: those that are called fixed are never changed again, wherever the
//! manifest's end lies, and however long segments may get from then on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{ID, Model, shape};
use hedgerow_entryfile::{EntryLog, LogError, LogOptions, SegmentSize};
use hedgerow_types::LogPosition;
use hedgerow_vfs::{MemDisk, OpenMode, Vfs, read_file};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const DIR: &str = "log";

fn options(segment: u64) -> LogOptions {
    LogOptions { segment_size: SegmentSize::fixed(segment), ..LogOptions::default() }
}

fn files(vfs: &dyn Vfs) -> BTreeMap<String, Vec<u8>> {
    let names = vfs.read_dir(Path::new(DIR)).unwrap();
    let bytes = |name: &Path| read_file(vfs, &Path::new(DIR).join(name), 1 << 30).unwrap();
    names.iter().map(|name| (name.to_str().unwrap().to_owned(), bytes(Path::new(name)))).collect()
}

fn copy(from: &dyn Vfs) -> Arc<dyn Vfs> {
    let to = MemDisk::new();
    to.create_dir_all(Path::new(DIR)).unwrap();
    for (name, bytes) in files(from) {
        let file = to.open(&Path::new(DIR).join(name), OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
    Arc::new(to)
}

#[test]
fn what_is_fixed_is_never_changed_by_whoever_opens_it() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let log = EntryLog::create(Arc::clone(&vfs), Path::new(DIR), ID, options(700)).unwrap();
    let mut model = Model::default();
    for _ in 0..12 {
        let record = model.announce(&log, &[shape(3, 100)]);
        log.append(&record).unwrap();
    }
    log.sync().unwrap();
    let (start, end) = (LogPosition(0), log.end());
    let (mut fixed_parts, mut boundaries) = (0, 0);
    for (number, record) in model.records.iter().enumerate() {
        let settled = record.end();
        let parts = log.parts(start, settled, end).unwrap();
        assert_eq!(parts.iter().map(|part| part.len).sum::<u64>(), end.0);
        let fixed: Vec<String> = parts
            .iter()
            .filter(|part| part.fixed)
            .map(|part| log.open_part(part).unwrap())
            .map(|file| file.path().file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        fixed_parts += fixed.len();
        let next = model.records.get(number + 1);
        boundaries += usize::from(next.is_some_and(|next| next.position() != settled));
        // All that is behind the end is lost, or taken in again; segments may be longer now.
        for keep in [settled, end] {
            let vfs = copy(&*vfs);
            let before = files(&*vfs);
            let height = record.height();
            let journal = EntryLog::find_journal(
                Arc::clone(&vfs),
                Path::new(DIR),
                ID,
                start,
                settled,
                height,
            );
            EntryLog::renew_journal(&*vfs, Path::new(DIR), start, settled, &journal.unwrap())
                .unwrap();
            let log =
                EntryLog::open(Arc::clone(&vfs), Path::new(DIR), ID, options(1 << 20), start, keep);
            let log = log.unwrap();
            let record = Model::default().announce(&log, &[shape(5, 50)]);
            log.append(&record).unwrap();
            let after = files(&*vfs);
            for name in &fixed {
                assert_eq!(before[name], after[name], "{name}, record {number}, up to {keep}");
            }
        }
        // A copy that ends here has all of it, and no more.
        let parts = log.parts(start, settled, settled).unwrap();
        assert_eq!(parts.iter().map(|part| part.len).sum::<u64>(), settled.0);
    }
    assert!(fixed_parts > 20 && boundaries > 4, "{fixed_parts} {boundaries}");
    let beyond = log.parts(start, end, end.plus(8));
    assert!(matches!(beyond, Err(LogError::OutOfRange { .. })));
}
