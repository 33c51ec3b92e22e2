//! redb on a disk that fails: whatever operation of a commit fails, the commit says so, and what is
//! there afterwards is the state before it or after it.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is the failure report")]

mod common;

use common::{assert_state, commit};
use hedgerow_metadb::{Engine, MetaDb, MetaError, open};
use hedgerow_types::Height;
use hedgerow_vfs::{
    Hook, HookedDisk, MemDisk, OpenMode, RealDisk, Vfs, VfsOp, read_file, write_atomic,
};
use parking_lot::Mutex;
use std::{io, panic, path::Path, sync::Arc};

const ROOT: &str = "/";
const FILE: &str = "/meta.redb";
/// Heights that are there before the disk fails; the commit that meets the failure is the next.
const BEFORE: u64 = 8;

/// Which changing operations fail: those from number `from` on, `count` of them.
#[derive(Clone, Copy, Debug)]
struct Fault {
    from: usize,
    count: usize,
}

#[derive(Debug, Default)]
struct Plan {
    fault: Option<Fault>,
    /// Changing operations since the fault was set, by kind.
    seen: Vec<VfsOp>,
}

fn faulty(disk: &MemDisk, plan: &Arc<Mutex<Plan>>) -> Arc<dyn Vfs> {
    let plan = Arc::clone(plan);
    let hook: Hook = Arc::new(move |call| {
        if !matches!(call.op, VfsOp::Write | VfsOp::Sync | VfsOp::SetLen) {
            return Ok(());
        }
        let mut plan = plan.lock();
        let number = plan.seen.len();
        plan.seen.push(call.op);
        match plan.fault {
            Some(Fault { from, count }) if (from..from.saturating_add(count)).contains(&number) => {
                Err(call.error(io::Error::other("injected")))
            }
            _ => Ok(()),
        }
    });
    Arc::new(HookedDisk::new(Arc::new(disk.clone()), hook))
}

fn start(vfs: Arc<dyn Vfs>, create: bool) -> Result<Box<dyn MetaDb>, MetaError> {
    open(Engine::Redb, vfs, Path::new(ROOT), create)
}

fn filled(disk: &MemDisk) {
    let db = start(Arc::new(disk.clone()), true).unwrap();
    for height in 1..=BEFORE {
        commit(&*db, height, 1.max(height.saturating_sub(4))).unwrap();
    }
}

/// Commits one height on a disk with `fault`; returns how many changing operations there were and
/// whether the commit came through.
fn commit_with(fault: Fault) -> (Vec<VfsOp>, bool) {
    let disk = MemDisk::new();
    filled(&disk);
    let plan = Arc::new(Mutex::new(Plan::default()));
    let db = start(faulty(&disk, &plan), false).unwrap();
    *plan.lock() = Plan { fault: Some(fault), seen: Vec::new() };
    let result = commit(&*db, BEFORE + 1, 5);
    let seen = plan.lock().seen.clone();
    if let Err(error) = &result {
        // Latched: the disk may work again, the database does not.
        let again = commit(&*db, BEFORE + 1, 5).unwrap_err();
        assert_eq!(again.to_string(), error.to_string());
        assert_eq!(plan.lock().seen.len(), seen.len(), "a commit after a failed one wrote");
        assert!(matches!(error, MetaError::Engine { engine: "redb", .. }), "{error}");
    }
    drop(db);

    let reopened = start(Arc::new(disk), false).unwrap();
    match reopened.manifest().unwrap().unwrap().height {
        Height(height) if height == BEFORE + 1 => assert_state(&*reopened, height, 5),
        height => {
            assert!(result.is_err(), "a commit that returned Ok is gone");
            assert_eq!(height, Height(BEFORE));
            assert_state(&*reopened, BEFORE, 4);
        }
    }
    // And it goes on from there.
    commit(&*reopened, BEFORE + 2, 6).unwrap();
    (seen, result.is_ok())
}

#[test]
fn a_commit_that_meets_an_error_says_so_and_leaves_no_garbage() {
    let (clean, came_through) = commit_with(Fault { from: usize::MAX, count: 0 });
    assert!(came_through);
    assert!(clean.contains(&VfsOp::Sync) && clean.contains(&VfsOp::Write), "{clean:?}");
    for from in 0..clean.len() {
        for count in [1, usize::MAX] {
            let (seen, came_through) = commit_with(Fault { from, count });
            assert!(
                !came_through,
                "operation {from} ({:?}) failed, the commit did not",
                seen[from]
            );
        }
    }
}

#[test]
fn the_error_names_the_file_and_the_reason() {
    let disk = MemDisk::new();
    filled(&disk);
    let plan = Arc::new(Mutex::new(Plan::default()));
    let db = start(faulty(&disk, &plan), false).unwrap();
    plan.lock().fault = Some(Fault { from: 0, count: usize::MAX });
    let text = commit(&*db, BEFORE + 1, 1).unwrap_err().to_string();
    assert!(text.starts_with("committing to the redb database /meta.redb: "), "{text}");
    assert!(text.contains("injected"), "{text}");
}

#[test]
fn a_full_disk_is_an_error_and_not_the_end() {
    let disk = MemDisk::new();
    filled(&disk);
    disk.set_capacity(disk.used_bytes());
    let db = start(Arc::new(disk.clone()), false).unwrap();
    let mut height = BEFORE;
    let error = loop {
        match commit(&*db, height + 1, 1) {
            Ok(()) => height += 1,
            Err(error) => break error,
        }
        assert!(height < 10_000, "the disk never filled up");
    };
    assert!(matches!(error, MetaError::Engine { .. }), "{error}");
    drop(db);
    disk.set_capacity(u64::MAX);
    let db = start(Arc::new(disk), false).unwrap();
    let found = db.manifest().unwrap().unwrap().height.0;
    assert!(found == height || found == height + 1);
    commit(&*db, found + 1, 1).unwrap();
}

#[test]
fn a_failure_while_creating_leaves_no_database() {
    let plan = Arc::new(Mutex::new(Plan::default()));
    drop(start(faulty(&MemDisk::new(), &plan), true).unwrap());
    let operations = plan.lock().seen.len();
    for from in 0..operations {
        let disk = MemDisk::new();
        let fault = Some(Fault { from, count: usize::MAX });
        let plan = Arc::new(Mutex::new(Plan { fault, seen: Vec::new() }));
        let created = start(faulty(&disk, &plan), true);
        let db = match start(Arc::new(disk.clone()), false) {
            // Its name is only there when the database is complete.
            Ok(db) => db,
            Err(error) => {
                assert!(matches!(error, MetaError::Missing { .. }), "operation {from}: {error}");
                assert!(created.is_err());
                start(Arc::new(disk), true).unwrap()
            }
        };
        assert_eq!(db.manifest().unwrap(), None);
        commit(&*db, 1, 1).unwrap();
    }
}

/// How many 1 KiB blocks a file has that is small enough to be damaged block by block.
fn blocks(bytes: &[u8]) -> impl Iterator<Item = usize> {
    (0..bytes.len()).step_by(1024)
}

#[test]
fn a_damaged_file_is_an_error_or_tells_the_truth() {
    let disk = MemDisk::new();
    filled(&disk);
    let bytes = read_file(&disk, Path::new(FILE), 1 << 30).unwrap();
    let mut refused = 0;
    let everywhere = blocks(&bytes).map(|at| at + 37);
    for at in (0..512).chain(everywhere) {
        for flip in [0x01, 0xFF] {
            let mut damaged = bytes.clone();
            let Some(byte) = damaged.get_mut(at) else { continue };
            *byte ^= flip;
            refused += usize::from(!tells_the_truth(&damaged, at));
        }
    }
    assert!(refused > 0, "no damage was noticed");
}

#[test]
fn a_truncated_or_overwritten_file_is_an_error_or_tells_the_truth() {
    let disk = MemDisk::new();
    filled(&disk);
    let bytes = read_file(&disk, Path::new(FILE), 1 << 30).unwrap();
    for len in [0, 1, 7, 9, 64, 320, 4096, 8192, bytes.len() / 2, bytes.len() - 4096] {
        assert!(!tells_the_truth(&bytes[..len], len), "cut to {len}");
    }
    assert!(!tells_the_truth(&vec![0; bytes.len()], 0), "all zero");
    assert!(!tells_the_truth(b"something else", 0));
    for at in blocks(&bytes).step_by(4) {
        let mut damaged = bytes.clone();
        let end = damaged.len().min(at + 4096);
        damaged[at..end].fill(0);
        tells_the_truth(&damaged, at);
    }
}

/// Opens a file with these bytes and reads the manifest. True if it is the one that was committed
/// last, or the one before it; false if there was an error; anything else fails the test.
fn tells_the_truth(bytes: &[u8], at: usize) -> bool {
    let disk = MemDisk::new();
    write_atomic(&disk, Path::new(FILE), bytes).unwrap();
    let result = panic::catch_unwind(panic::AssertUnwindSafe(|| -> Result<_, MetaError> {
        let db = start(Arc::new(disk), false)?;
        Ok((db.manifest()?, db.first_history()?))
    }));
    match result.unwrap_or_else(|_| panic!("damage at {at} of {} made it panic", bytes.len())) {
        Ok((manifest, _)) => {
            let height = manifest.map(|manifest| manifest.height);
            assert!(
                matches!(height, Some(Height(height)) if height == BEFORE || height + 1 == BEFORE),
                "damage at {at}: {height:?}"
            );
            true
        }
        Err(_) => false,
    }
}

#[test]
fn a_commit_costs_one_sync() {
    let plan = Arc::new(Mutex::new(Plan::default()));
    let db = start(faulty(&MemDisk::new(), &plan), true).unwrap();
    let mut grown = 0;
    for height in 1..=60 {
        plan.lock().seen.clear();
        commit(&*db, height, 1).unwrap();
        let seen = plan.lock().seen.clone();
        let syncs = seen.iter().filter(|&&op| op == VfsOp::Sync).count();
        // And one more if the file grew: its new length is durable before anything is written there.
        let growing = usize::from(seen.starts_with(&[VfsOp::SetLen, VfsOp::Sync]));
        assert_eq!(syncs, 1 + growing, "height {height}: {seen:?}");
        grown += growing;
    }
    // It doubles, from 72 KiB on.
    assert!(grown <= 3, "{grown}");
}

#[test]
fn the_same_file_opens_on_another_disk() {
    let mem = MemDisk::new();
    filled(&mem);
    let bytes = read_file(&mem, Path::new(FILE), 1 << 30).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = RealDisk.open(&dir.path().join("meta.redb"), OpenMode::CreateNew).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    let db = open(Engine::Redb, Arc::new(RealDisk), dir.path(), false).unwrap();
    assert_state(&*db, BEFORE, 4);
}
