//! Salvage: whatever is damaged in the log, all other keys are given out, with their last values.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{copy, dir, disk, on, params};
use hedgerow::disk::{OpenMode, Vfs};
use hedgerow::{Error, LogError, Options, SalvageReport, Store};
use hedgerow_testkit::recipe::SplitMix64;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

const MARK: &str = "the marked value";

/// A store whose keys were written, written again and deleted; the last value of `key 7` is marked.
fn store() -> (Arc<dyn Vfs>, State) {
    let disk = disk();
    let options = on(&disk).segment_bytes(64 << 10).keep_all().checkpoint_bytes(0);
    let mut store = Store::create(dir(), params(1, 1, 2), options).unwrap();
    let mut rng = SplitMix64::new(11);
    let mut state = State::new();
    for height in 1..=20_u64 {
        let mut block = store.next_block().unwrap();
        let mut ops = BTreeMap::new();
        for _ in 0..100 {
            let value = (rng.below(6) > 0).then(|| format!("{:x}", rng.next_u64()).repeat(4));
            ops.insert(format!("key {}", rng.below(300)), value);
        }
        if height == 12 {
            ops.insert("key 7".into(), Some(MARK.repeat(3)));
        } else if height > 12 {
            ops.remove("key 7");
        }
        for (key, value) in ops {
            match value {
                Some(value) => {
                    block.put(&key, &value).unwrap();
                    state.insert(key.into_bytes(), value.into_bytes());
                }
                None => {
                    block.delete(&key).unwrap();
                    state.remove(key.as_bytes());
                }
            }
        }
        block.commit().unwrap();
    }
    store.close().unwrap();
    (disk, state)
}

fn salvage(disk: &Arc<dyn Vfs>) -> Result<(State, SalvageReport), Error> {
    let mut found = State::new();
    let report = Store::salvage(dir(), Options::new().disk(Arc::clone(disk)), |key, value| {
        found.insert(key.to_vec(), value.to_vec());
        true
    })?;
    assert!(report.keys >= found.len() as u64);
    Ok((found, report))
}

fn segments(disk: &Arc<dyn Vfs>) -> Vec<PathBuf> {
    let log = dir().join("log");
    disk.read_dir(&log).unwrap().into_iter().map(|name| log.join(name)).collect()
}

fn bytes(disk: &Arc<dyn Vfs>, path: &Path) -> Vec<u8> {
    hedgerow_vfs::read_file(&**disk, path, 1 << 30).unwrap()
}

fn flip(disk: &Arc<dyn Vfs>, path: &Path, at: usize) {
    let byte = bytes(disk, path)[at] ^ 0x10;
    disk.open(path, OpenMode::ReadWrite).unwrap().write_all_at(&[byte], at as u64).unwrap();
}

/// Where the last copy of the marked value lies.
fn marked(disk: &Arc<dyn Vfs>) -> (PathBuf, usize) {
    let find = |path: PathBuf| {
        let bytes = bytes(disk, &path);
        let at = bytes.windows(MARK.len()).rposition(|part| part == MARK.as_bytes())?;
        Some((path, at))
    };
    segments(disk).into_iter().rev().find_map(find).unwrap()
}

#[test]
fn of_a_store_that_is_whole_everything_is_given_out() {
    let (disk, state) = store();
    let (found, report) = salvage(&disk).unwrap();
    assert_eq!(found, state);
    assert_eq!(report.keys, state.len() as u64);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.expected.unwrap().1, report.keys);
}

#[test]
fn with_a_flipped_byte_in_a_value_all_other_keys_are_given_out() {
    let (disk, mut state) = store();
    let (path, at) = marked(&disk);
    flip(&disk, &path, at);
    let opened = Store::open(dir(), on(&disk));
    assert!(matches!(opened, Err(Error::Log(LogError::Corrupt { .. }))), "{opened:?}");
    assert!(opened.unwrap_err().is_damage());
    let before = bytes(&disk, &path);
    let (found, report) = salvage(&disk).unwrap();
    state.remove(&b"key 7"[..]).unwrap();
    assert_eq!(found, state, "not with an older value either");
    assert_eq!((report.parts, report.keys), (1, state.len() as u64));
    assert_eq!(report.lost[0].key.as_deref(), Some(&b"key 7"[..]));
    assert!(!report.is_whole());
    assert_eq!(before, bytes(&disk, &path));
}

/// Wherever the byte is: no other key has a wrong value, and but for those of the damaged part all are there.
#[test]
fn wherever_a_byte_is_flipped_little_is_lost() {
    let (disk, state) = store();
    let mut rng = SplitMix64::new(12);
    let mut missing = 0;
    for round in 0..60 {
        let copy = copy(&disk);
        let paths = segments(&copy);
        let path = &paths[1 + rng.below(paths.len() as u64 - 1) as usize];
        let at = rng.below(bytes(&copy, path).len() as u64) as usize;
        flip(&copy, path, at);
        let (found, report) = salvage(&copy).unwrap();
        let context = format!("round {round}: {} at {at}: {report:?}", path.display());
        let lost = state.keys().filter(|key| !found.contains_key(*key)).count();
        assert!(lost <= 4, "{lost} of {context}");
        let wrong = found.iter().filter(|(key, value)| state.get(*key) != Some(value)).count();
        assert!(wrong <= 2 && (wrong == 0 || report.parts > 0), "{wrong} of {context}");
        missing += lost + wrong;
    }
    assert!(missing > 0);
}

#[test]
fn with_a_segment_or_the_metadata_gone_the_rest_is_given_out() {
    let (disk, state) = store();
    let gone = copy(&disk);
    let paths = segments(&gone);
    gone.remove_file(&paths[paths.len() / 2]).unwrap();
    let (found, report) = salvage(&gone).unwrap();
    assert!(report.parts == 1 && report.bytes > 60_000, "{report:?}");
    assert!(found.len() > state.len() / 2);

    let gone = copy(&disk);
    for path in [&paths[0], paths.last().unwrap()] {
        gone.remove_file(path).unwrap();
    }
    let (_, report) = salvage(&gone).unwrap();
    assert_eq!(report.parts, 2, "before and behind what is left: {report:?}");

    let no_meta = copy(&disk);
    no_meta.remove_dir_all(&dir().join("meta")).unwrap();
    assert!(matches!(Store::open(dir(), on(&no_meta)), Err(Error::NoStore(_))));
    let (found, report) = salvage(&no_meta).unwrap();
    assert_eq!((found, report.expected), (state, None));

    no_meta.remove_dir_all(&dir().join("log")).unwrap();
    assert!(matches!(salvage(&no_meta), Err(Error::NoStore(_))));
}

#[test]
fn noise_ends_and_gives_nothing() {
    let (disk, _) = store();
    let mut rng = SplitMix64::new(13);
    for path in segments(&disk) {
        let noise: Vec<u8> = (0..bytes(&disk, &path).len()).map(|_| rng.next_u64() as u8).collect();
        disk.open(&path, OpenMode::ReadWrite).unwrap().write_all_at(&noise, 0).unwrap();
    }
    let (found, report) = salvage(&disk).unwrap();
    assert!(found.is_empty() && report.bytes > 0);
}

#[test]
fn a_store_is_pruned_when_somebody_says_so() {
    let disk = disk();
    let options = || on(&disk).segment_bytes(64 << 10).manifest_blocks(8).checkpoint_bytes(0);
    let mut store = Store::create(dir(), params(1, 1, 1), options().keep_all()).unwrap();
    for height in 1..=120_u64 {
        let mut block = store.next_block().unwrap();
        for key in 0..1_000_u64 {
            block.put(format!("{key}"), format!("{height}")).unwrap();
        }
        block.commit().unwrap();
    }
    let held = store.prune().unwrap();
    assert_eq!((held.log_freed, held.hold), (0, Some(hedgerow::PruneHold::KeepAll)));
    let root = store.reader().root();
    store.close().unwrap();
    let mut store = Store::open(dir(), options().keep_heights(2).keep_history(2)).unwrap();
    let report = store.prune().unwrap();
    assert!(report.log_freed > 1 << 20 && report.twigs_freed > 0, "{report:?}");
    assert_eq!(report.log_left + report.log_freed, held.log_left);
    assert_eq!(store.prune().unwrap().log_freed, 0);
    assert_eq!((store.check().unwrap().root, store.reader().root()), (root.1, root));
    store.close().unwrap();
    let mut store = Store::open(dir(), on(&disk).read_only()).unwrap();
    assert!(matches!(store.prune(), Err(Error::ReadOnly)));
}
