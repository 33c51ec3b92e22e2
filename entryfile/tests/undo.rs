//! The undo file: what counts is without a gap up to the newest block, whatever was appended, cut or damaged.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use hedgerow_entryfile::{
    EncodedUndo, SegmentSize, ShardUndoParts, StoreId, UndoFile, UndoFileOptions,
};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::rows::NodeRows;
use hedgerow_types::{Digest, Height, LogPosition, SHARDS, SerialNumber, ShardId};
use hedgerow_vfs::{MemDisk, OpenMode, Vfs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ID: StoreId = StoreId([3; 16]);

fn dir() -> PathBuf {
    PathBuf::from("/undo")
}

/// Where the log ends with a height.
fn end(height: u64) -> LogPosition {
    LogPosition(1000 * (height + 1))
}

/// A record of a height; `mark` tells one of several of the same height.
fn record(height: u64, mark: u8) -> Arc<EncodedUndo> {
    let gone: Vec<_> = (0..height % 40).map(|sn| SerialNumber(7 * sn + height)).collect();
    let upper = NodeRows::from_iter([[(height, Digest([mark; 32]))]]);
    let parts: [ShardUndoParts<'_>; SHARDS] = std::array::from_fn(|shard| ShardUndoParts {
        next_sn: SerialNumber(height * 100 + shard as u64),
        deactivated: &gone,
        upper: &upper,
    });
    let place = (end(height - 1), end(height));
    Arc::new(EncodedUndo::new(ID, Height(height), place, 5 * height, &parts).unwrap())
}

fn open(disk: &Arc<dyn Vfs>, height: u64) -> UndoFile {
    let options = UndoFileOptions { segment_size: SegmentSize::fixed(20_000), cache_bytes: 50_000 };
    UndoFile::open(Arc::clone(disk), &dir(), ID, &options, Height(height), end(height)).unwrap()
}

/// What is known is `heights`, and all of it is there.
fn check(file: &UndoFile, heights: Option<(u64, u64)>, mark: u8) {
    let found = file.heights().map(|(first, last)| (first.0, last.0));
    assert_eq!(found, heights);
    let Some((first, last)) = heights else { return };
    for height in first..=last {
        let head = file.head(Height(height)).unwrap().unwrap();
        assert_eq!((head.height, head.keys), (Height(height), 5 * height));
        for shard in ShardId::all() {
            let section = file.section(Height(height), shard).unwrap().unwrap();
            assert_eq!(section.upper(0, height), Some(Digest([mark; 32])));
            let gone = section.deactivated(SerialNumber(0), SerialNumber(u64::MAX));
            assert_eq!(gone.count() as u64, height % 40);
        }
    }
    assert!(file.head(Height(last + 1)).unwrap().is_none());
}

fn files(disk: &Arc<dyn Vfs>) -> Vec<PathBuf> {
    let mut names = disk.read_dir(&dir()).unwrap();
    names.sort();
    names.into_iter().map(|name| dir().join(name)).collect()
}

#[test]
fn records_are_found_by_height_and_go_behind_the_window() {
    let disk: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let file = open(&disk, 0);
    check(&file, None, 1);
    for height in 1..=60 {
        file.append(&[record(height, 1)]).unwrap();
    }
    check(&file, Some((1, 60)), 1);
    file.sync().unwrap();
    let before = files(&disk).len();
    file.forget_before(Height(41));
    assert!(file.remove_files().unwrap() > 0);
    assert!(files(&disk).len() < before);
    check(&file, Some((41, 60)), 1);
    drop(file);
    // Opening looks at what is there.
    let file = open(&disk, 60);
    let (first, last) = file.heights().unwrap();
    assert!(first <= Height(41) && last == Height(60));
    check(&file, Some((first.0, 60)), 1);
    file.forget_all();
    file.remove_files().unwrap();
    assert_eq!(files(&disk).len(), 1);
}

/// Heights that come once more take the place of what was there, when it is appended and when it is opened.
#[test]
fn later_records_win() {
    let disk: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let file = open(&disk, 0);
    let all: Vec<_> = (1..=30).map(|height| record(height, 1)).collect();
    file.append(&all).unwrap();
    check(&file, Some((1, 30)), 1);
    // Back to 0, and on.
    let all: Vec<_> = (1..=20).map(|height| record(height, 2)).collect();
    file.append(&all).unwrap();
    check(&file, Some((1, 20)), 2);
    file.forget_above(Height(12));
    check(&file, Some((1, 12)), 2);
    drop(file);
    check(&open(&disk, 20), Some((1, 20)), 2);
    // A gap: what lies before it does not count.
    let file = open(&disk, 20);
    file.append(&[record(25, 3), record(26, 3)]).unwrap();
    check(&file, Some((25, 26)), 3);
    drop(file);
    check(&open(&disk, 26), Some((25, 26)), 3);
    // Of a store that went on without, and of another end of the log.
    check(&open(&disk, 27), None, 3);
    let options = UndoFileOptions::default();
    let other = UndoFile::open(disk, &dir(), ID, &options, Height(26), end(27)).unwrap();
    assert_eq!(other.heights(), None);
}

/// Cut anywhere and damaged anywhere: what comes out is what was written, or nothing.
#[test]
fn damage_takes_away_and_adds_nothing() {
    for seed in 0..60 {
        let mut rng = SplitMix64::new(seed);
        let disk: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let file = open(&disk, 0);
        let all: Vec<_> = (1..=40).map(|height| record(height, 1)).collect();
        file.append(&all).unwrap();
        drop(file);
        let files = files(&disk);
        let path: &Path = &files[rng.below(files.len() as u64) as usize];
        let damaged = disk.open(path, OpenMode::ReadWrite).unwrap();
        let at = rng.below(damaged.len().unwrap());
        if rng.below(2) == 0 {
            damaged.set_len(at).unwrap();
        } else {
            let mut byte = [0];
            damaged.read_exact_at(&mut byte, at).unwrap();
            damaged.write_all_at(&[byte[0] ^ 1 << rng.below(8)], at).unwrap();
        }
        let right = |file: &UndoFile| {
            for height in (1..=41).map(Height) {
                for shard in ShardId::all() {
                    if let Some(section) = file.section(height, shard).unwrap() {
                        let node = section.upper(0, height.0);
                        assert_eq!(node, Some(Digest([1; 32])), "seed {seed}");
                    }
                }
            }
        };
        let file = open(&disk, 40);
        right(&file);
        // What was met is known, and it goes on.
        let left = file.heights().map(|(first, last)| (first.0, last.0));
        check(&file, left, 1);
        file.append(&[record(41, 1)]).unwrap();
        check(&file, Some((left.map_or(41, |(first, _)| first), 41)), 1);
        drop(file);
        // Sections are not looked at by opening.
        let file = open(&disk, 41);
        assert_eq!(file.heights().unwrap().1, Height(41));
        right(&file);
    }
}
