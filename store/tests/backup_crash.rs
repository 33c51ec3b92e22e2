//! The power goes at every call of a backup that changes the disk: the source is what it was, the target
//! is the whole copy or no store, and the backup can be begun again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, params};
use hedgerow::disk::{MemDisk, Vfs};
use hedgerow::{BackupOptions, Engine, Error, Height, Options, Store};
use hedgerow_testkit::Limit;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use hedgerow_vfs::{Hook, HookedDisk, VfsCall, VfsOp};
use parking_lot::Mutex;
use std::path::Path;
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

/// Who makes the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The program that has the store open.
    Writer,
    /// Another one, beside it.
    Other,
}

/// What the fault leaves, with `how`: says whether a whole copy was left, and whether the fault came at all.
fn crash(
    from: &PowerLossDisk,
    after: u64,
    kind: FaultKind,
    by: By,
    how: BackupOptions,
) -> (bool, bool) {
    let seed = after * 31 + kind as u64;
    let disk = from.settled_copy(seed);
    let store = Store::open(dir(), options(&disk)).unwrap();
    let expected = store.reader().root();
    let mut beside = match by {
        By::Writer => None,
        By::Other => Some(Store::open_read_only(dir(), options(&disk)).unwrap()),
    };
    let copied = beside.as_ref().map_or(expected, |beside| beside.reader().root());
    disk.plan(Fault::once(Calls::Changes, after, kind));
    let made = match &mut beside {
        None => store.backup(TARGET, how),
        Some(beside) => beside.backup(TARGET, how),
    };
    drop((store, beside));
    let failed = disk.trace().failed;
    let context = format!("{by:?}, call {after}, {kind:?}, seed {seed}: {failed:?}");
    if failed.is_empty() {
        assert_eq!(made.unwrap().root, copied.1, "{context}");
    }
    let disk = disk.power_cycle(seed);
    let whole = match Store::open(TARGET, options(&disk)) {
        Ok(mut copy) => {
            assert_eq!(copy.reader().root(), copied, "{context}");
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
        for by in [By::Writer, By::Other] {
            for after in (u64::from(link)..).step_by(step()) {
                let (is_whole, came) = crash(&disk, after, FaultKind::PowerOff, by, how);
                if !came {
                    assert!(after > 30, "{after}");
                    assert!(is_whole);
                    println!("{by:?}, links: {link}, {after} calls");
                    break;
                }
                if is_whole { whole += 1 } else { none += 1 }
            }
        }
    }
    assert!(none > 24, "{whole} {none}");
    println!("{whole} whole copies, {none} times none");
}

#[test]
fn a_call_that_fails_leaves_the_source_and_a_copy_or_no_store() {
    let _limit = Limit::new();
    let disk = store_on_a_disk();
    let by_both = [By::Writer, By::Other].map(|by| [(by, FaultKind::Eio), (by, FaultKind::Full)]);
    for (by, kind) in by_both.into_iter().flatten() {
        let mut after = kind as u64;
        while crash(&disk, after, kind, by, BackupOptions::new().check(false)).1 {
            after += step() as u64;
        }
        println!("{by:?}, {kind:?}: {after} calls");
        assert!(after > 30, "{after}");
    }
}

/// The check opens the copy before it is one.
#[test]
fn a_crash_during_the_check_leaves_no_store() {
    let _limit = Limit::new();
    let disk = store_on_a_disk();
    let (mut after, mut crashes) = (40, 0);
    while crash(&disk, after, FaultKind::PowerOff, By::Other, BackupOptions::new()).1 {
        after += 3 * step() as u64;
        crashes += 1;
    }
    assert!(crashes > 2, "{crashes}");
}

/// The height of the manifest that who looks finds, synced or not.
fn manifest_height(disk: &PowerLossDisk) -> Option<Height> {
    let (meta, seen) = (dir().join("meta"), Arc::new(MemDisk::new()));
    seen.create_dir_all(&meta).unwrap();
    hedgerow_metadb::copy(Engine::Redb, disk, &meta, &*seen).ok()?;
    let db = hedgerow_metadb::open(Engine::Redb, seen, &meta, false).ok()?;
    Some(db.manifest().ok()??.height)
}

/// A backup beside a writer whose manifest is written and not synced; then the power goes, and the writer may
/// have an older manifest. What it writes again is in no file that the copy shares.
#[test]
fn what_rests_on_a_manifest_that_was_not_synced_is_not_written_again() {
    let _limit = Limit::new();
    let from = PowerLossDisk::new(3);
    // A segment takes six blocks: one manifest ends in it, the next one behind it.
    let options = |disk: Arc<dyn Vfs>| options(&from).disk(disk).manifest_blocks(4);
    let seen = Arc::new(Mutex::new((Height(0), None)));
    let (inner, found) = (from.clone(), Arc::clone(&seen));
    let looks = options(Arc::new(from.clone()));
    let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
        if call.op != VfsOp::Sync || call.path.parent() != Some(&dir().join("meta")) {
            return Ok(());
        }
        let mut found = found.lock();
        let Some(height) = manifest_height(&inner) else { return Ok(()) };
        // One that came since the last sync began.
        if height > found.0 && found.0 > Height(0) && found.1.is_none() {
            let mut beside = Store::open_read_only(dir(), looks.clone()).unwrap();
            let report = beside.backup(TARGET, BackupOptions::new().check(false)).unwrap();
            println!("a manifest of height {height} after one of {}", found.0);
            found.1 = Some((report, inner.lose_all_unsynced()));
        }
        found.0 = height;
        Ok(())
    });
    let disk = HookedDisk::new(Arc::new(from.clone()), hook);
    let mut store = Store::create(dir(), params(1, 2, 1), options(Arc::new(disk))).unwrap();
    // Until the power goes.
    let mut block = |height: u64| -> Result<(), Error> {
        let mut block = store.next_block()?;
        for key in 0..40_u64 {
            block.put(format!("{key}"), format!("{height} {key}").repeat(30))?;
        }
        block.commit().map(drop)
    };
    assert!((1..200).any(|height| block(height).is_err()), "the power never goes");
    drop(store);

    let (report, disk) = seen.lock().1.take().unwrap();
    assert!(report.linked_files > 0, "{report:?}");
    // The oldest are linked, and this disk does not tell files apart.
    let names = disk.read_dir(&Path::new(TARGET).join("log")).unwrap();
    let shared: Vec<_> = names.into_iter().take(report.linked_files as usize).collect();
    println!("shared: {shared:?}");
    let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
        let name = call.path.file_name();
        let is_shared = call.path.parent() == Some(&dir().join("log"))
            && shared.iter().any(|shared| name == Some(shared));
        let changes = matches!(call.op, VfsOp::Write | VfsOp::SetLen);
        assert!(!(changes && is_shared), "{:?} of {}", call.op, call.path.display());
        Ok(())
    });
    let hooked = HookedDisk::new(Arc::new(disk.clone()), hook);
    Store::open(dir(), options(Arc::new(hooked))).unwrap().check().unwrap();
    let copy = Store::open(TARGET, options(Arc::new(disk.clone()))).unwrap();
    assert_eq!(copy.reader().root(), (report.height, report.root));
}
