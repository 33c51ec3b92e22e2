//! The power goes at every call of a backup that changes the disk: the source is what it was, the target
//! is the whole copy or no store, and the backup can be begun again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, params};
use hedgerow::disk::Vfs;
use hedgerow::{BackupOptions, Error, Options, Store};
use hedgerow_testkit::Limit;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use std::sync::Arc;

const TARGET: &str = "/backups/copy";

/// Of how many calls one is taken: each of them takes a second or two. `HEDGEROW_BACKUP_CALLS=1` takes all.
fn step() -> usize {
    std::env::var("HEDGEROW_BACKUP_CALLS").map_or(9, |step| step.parse().unwrap())
}

fn options(disk: &PowerLossDisk) -> Options {
    let disk: Arc<dyn Vfs> = Arc::new(disk.clone());
    let options = Options::new().disk(disk).segment_bytes(64 << 10).keep_heights(3);
    options.manifest_blocks(4).checkpoint_bytes(0).threads(1)
}

/// A store with full segments, and blocks behind its manifest.
fn store_on_a_disk() -> PowerLossDisk {
    let disk = PowerLossDisk::new(1);
    let mut store = Store::create(dir(), params(1, 2, 1), options(&disk)).unwrap();
    for height in 1..=22_u64 {
        let mut block = store.next_block().unwrap();
        for key in 0..40_u64 {
            block.put(format!("{key}"), format!("{height} {key}").repeat(30)).unwrap();
        }
        block.commit().unwrap();
    }
    store.flush().unwrap();
    // Not closed: the manifest is not brought to the end.
    let copy = disk.settled_copy(2);
    drop(store);
    copy
}

/// What the fault leaves, with `how`: says whether a whole copy was left, and whether the fault came at all.
fn crash(from: &PowerLossDisk, after: u64, kind: FaultKind, how: BackupOptions) -> (bool, bool) {
    let seed = after * 31 + kind as u64;
    let disk = from.settled_copy(seed);
    let store = Store::open(dir(), options(&disk)).unwrap();
    let expected = store.reader().root();
    disk.plan(Fault::once(Calls::Changes, after, kind));
    let made = store.backup(TARGET, how);
    drop(store);
    let failed = disk.trace().failed;
    let context = format!("call {after}, {kind:?}, seed {seed}: {failed:?}");
    if failed.is_empty() {
        assert_eq!(made.unwrap().root, expected.1, "{context}");
    }
    let disk = disk.power_cycle(seed);
    let whole = match Store::open(TARGET, options(&disk)) {
        Ok(mut copy) => {
            assert_eq!(copy.reader().root(), expected, "{context}");
            copy.check().unwrap_or_else(|error| panic!("{context}: {error}"));
            true
        }
        Err(Error::NoStore(_) | Error::UnfinishedCopy(_)) => false,
        Err(error) => panic!("{context}: {error}"),
    };
    let mut store = Store::open(dir(), options(&disk)).unwrap();
    assert_eq!(store.reader().root(), expected, "{context}");
    store.check().unwrap_or_else(|error| panic!("{context}: {error}"));
    if !whole {
        let again = store.backup(TARGET, BackupOptions::new().check(false));
        let again = again.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!((again.height, again.root), expected, "{context}");
        let copy = Store::open(TARGET, options(&disk)).unwrap();
        assert_eq!(copy.reader().root(), expected, "{context}");
    }
    (whole, !failed.is_empty())
}

#[test]
fn a_crash_during_a_backup_leaves_the_source_and_a_copy_or_no_store() {
    let _limit = Limit::new();
    let disk = store_on_a_disk();
    let (mut whole, mut none) = (0, 0);
    for link in [true, false] {
        let how = BackupOptions::new().link(link).check(false);
        for after in (u64::from(link)..).step_by(step()) {
            let (is_whole, came) = crash(&disk, after, FaultKind::PowerOff, how);
            if !came {
                assert!(after > 30, "{after}");
                assert!(is_whole);
                println!("links: {link}, {after} calls");
                break;
            }
            if is_whole { whole += 1 } else { none += 1 }
        }
    }
    assert!(none > 12, "{whole} {none}");
    println!("{whole} whole copies, {none} times none");
}

#[test]
fn a_call_that_fails_leaves_the_source_and_a_copy_or_no_store() {
    let _limit = Limit::new();
    let disk = store_on_a_disk();
    for kind in [FaultKind::Eio, FaultKind::Full] {
        let mut after = kind as u64;
        while crash(&disk, after, kind, BackupOptions::new().check(false)).1 {
            after += step() as u64;
        }
        println!("{kind:?}: {after} calls");
        assert!(after > 30, "{after}");
    }
}

/// The check opens the copy before it is one.
#[test]
fn a_crash_during_the_check_leaves_no_store() {
    let _limit = Limit::new();
    let disk = store_on_a_disk();
    let (mut after, mut crashes) = (40, 0);
    while crash(&disk, after, FaultKind::PowerOff, BackupOptions::new()).1 {
        after += 3 * step() as u64;
        crashes += 1;
    }
    assert!(crashes > 2, "{crashes}");
}
