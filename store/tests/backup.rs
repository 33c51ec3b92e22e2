//! Backups: made while blocks go on, equal to their source at their height, and independent of it from
//! then on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::written::{Written, busy, create};
use common::{Gate, copy, dir, disk, on};
use hedgerow::disk::{MemDisk, OpenMode, RealDisk, Vfs, VfsError, VfsOp};
use hedgerow::{BackupOptions, Error, Height, Options, PruneHold, Store};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::HookedDisk;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// The names of the files of a store that are files of another one too, and their bytes.
fn shared(one: &Path, other: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for folder in ["log", "twigs", "checkpoints", "meta"] {
        let Ok(names) = RealDisk.read_dir(&one.join(folder)) else { continue };
        for name in names {
            let (one, other) = (one.join(folder).join(&name), other.join(folder).join(&name));
            let id = |path: &Path| RealDisk.file_id(path).ok().flatten();
            if id(&one) == id(&other) {
                found.insert(Path::new(folder).join(&name), std::fs::read(one).unwrap());
            }
        }
    }
    found
}

#[test]
fn backups_made_while_blocks_go_on_are_the_state_of_their_height() {
    let _limit = Limit::new();
    let place = tempfile::tempdir().unwrap();
    let mut store = create(&place.path().join("store"), busy(Options::new()));
    let (mut written, mut rng) = (Written::default(), SplitMix64::new(7));
    for _ in 0..200 {
        written.block(&mut store, &mut rng);
    }
    let done = Arc::new(AtomicBool::new(false));
    let (reader, finished) = (store.reader(), Arc::clone(&done));
    let copies: Vec<PathBuf> =
        (0..6).map(|number| place.path().join(format!("{number}/copy"))).collect();
    let targets = copies.clone();
    let copier = thread::spawn(move || {
        let how =
            |number: usize| BackupOptions::new().check(number.is_multiple_of(2)).link(number != 3);
        let backup = |(number, target): (usize, &PathBuf)| reader.backup(target, how(number));
        let reports: Result<Vec<_>, Error> = targets.iter().enumerate().map(backup).collect();
        finished.store(true, Ordering::SeqCst);
        reports
    });
    let mut blocks = 0;
    while !done.load(Ordering::SeqCst) || blocks < 40 {
        written.block(&mut store, &mut rng);
        blocks += 1;
    }
    let reports = copier.join().unwrap().unwrap();
    store.flush().unwrap();
    let stats = store.stats();
    assert!(stats.pruned_bytes > 0 && stats.checkpoint.is_some(), "{:?}", stats.prune_hold);
    assert!(reports.iter().any(|report| report.linked_files > 1), "{reports:?}");
    assert_eq!(reports[3].linked_files, 0);
    for (number, (report, path)) in reports.iter().zip(&copies).enumerate() {
        assert_eq!(report.checked.is_some(), number.is_multiple_of(2));
        let keep = Options::new().keep_all();
        let mut copy = Store::open(path, keep).unwrap();
        written.check(&copy.reader(), report.height, report.history_from);
        assert_eq!(copy.check().unwrap().root, report.root);
        copy.close().unwrap();
    }
    store.check().unwrap();
    store.close().unwrap();
}

#[test]
fn both_stores_go_their_own_ways_and_no_shared_file_changes() {
    let _limit = Limit::new();
    let place = tempfile::tempdir().unwrap();
    let (path, target) = (place.path().join("store"), place.path().join("copy"));
    let mut store = create(&path, busy(Options::new()).manifest_blocks(50));
    let (mut written, mut rng) = (Written::default(), SplitMix64::new(8));
    for _ in 0..64 {
        written.block(&mut store, &mut rng);
    }
    let report = store.backup(&target, BackupOptions::new().check(false)).unwrap();
    let before = shared(&path, &target);
    assert_eq!(before.len() as u64, report.linked_files);
    assert!(before.len() > 1, "{report:?}");
    assert_eq!(before.values().map(|bytes| bytes.len() as u64).sum::<u64>(), report.linked_bytes);

    // The same height becomes two: the journals of both are cut, renewed and appended to, in stores that
    // end without closing too, and both prune.
    let mut theirs = written.clone();
    drop(store);
    for round in 0..4 {
        let options =
            busy(Options::new()).segment_bytes(if round < 2 { 64 << 10 } else { 1 << 20 });
        let mut ours = Store::open(&path, options.clone()).unwrap();
        let mut copy = Store::open(&target, options).unwrap();
        for _ in 0..5 {
            written.block(&mut ours, &mut rng);
            theirs.block(&mut copy, &mut rng);
        }
        assert_ne!(ours.reader().root().1, copy.reader().root().1);
        written.check(&ours.reader(), ours.height(), Height(u64::MAX));
        theirs.check(&copy.reader(), copy.height(), Height(u64::MAX));
        assert_eq!(ours.check().unwrap().height, copy.check().unwrap().height);
        drop((ours, copy));
        for one in [&path, &target] {
            // As after an unclean end: everything is written once more.
            std::fs::remove_file(one.join("CLOSED")).unwrap();
            for (name, bytes) in &before {
                match std::fs::read(one.join(name)) {
                    Ok(now) => assert!(now == *bytes, "{} changed", one.join(name).display()),
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
                }
            }
        }
    }
    // Something is left that could have been changed.
    let left = before.keys().filter(|name| path.join(name).exists() || target.join(name).exists());
    println!("of {} shared files {} are left", before.len(), left.count());
}

/// A disk on which whatever is created below the target waits at a gate.
fn gated(gate: &Arc<Gate>) -> Arc<dyn Vfs> {
    let gate = Arc::clone(gate);
    common::disks::hooked(move |call| {
        if call.op == VfsOp::Create && call.path.starts_with("/copy/twigs") {
            gate.pass();
        }
        Ok(())
    })
}

#[test]
fn nothing_is_pruned_while_a_backup_is_made_and_it_is_afterwards() {
    let _limit = Limit::new();
    let gate = Arc::new(Gate::default());
    let disk = gated(&gate);
    let mut store = create(&dir(), busy(on(&disk)));
    let (mut written, mut rng) = (Written::default(), SplitMix64::new(9));
    for _ in 0..250 {
        written.block(&mut store, &mut rng);
    }
    gate.close();
    let reader = store.reader();
    let copier = thread::spawn(move || reader.backup("/copy", BackupOptions::new()));
    gate.reached();
    store.flush().unwrap();
    let (log, history) = (disk.read_dir(&dir().join("log")).unwrap(), store.height());
    let before = store.stats().pruned_bytes;
    for _ in 0..60 {
        written.block(&mut store, &mut rng);
    }
    store.flush().unwrap();
    let stats = store.stats();
    assert_eq!((stats.pruned_bytes, stats.prune_hold), (before, Some(PruneHold::Backup)));
    let now = disk.read_dir(&dir().join("log")).unwrap();
    assert!(log.iter().all(|name| now.contains(name)));
    gate.open();
    let report = copier.join().unwrap().unwrap();
    assert!(report.height <= history);
    for _ in 0..10 {
        written.block(&mut store, &mut rng);
    }
    store.flush().unwrap();
    assert!(store.stats().pruned_bytes > before);
    let now = disk.read_dir(&dir().join("log")).unwrap();
    assert!(log.iter().any(|name| !now.contains(name)), "what was needed then is gone now");
    let copy = Store::open("/copy", on(&disk).keep_all()).unwrap();
    written.check(&copy.reader(), report.height, report.history_from);
}

#[test]
fn closing_the_store_ends_a_backup() {
    let _limit = Limit::new();
    let gate = Arc::new(Gate::default());
    let disk = gated(&gate);
    let mut store = create(&dir(), busy(on(&disk)));
    Written::default().block(&mut store, &mut SplitMix64::new(1));
    gate.close();
    let reader = store.reader();
    let copier = thread::spawn(move || reader.backup("/copy", BackupOptions::new()));
    gate.reached();
    let reader = store.reader();
    let closer = thread::spawn(move || store.close());
    // The lock is not given back before the backup has ended.
    common::keep_busy();
    assert!(matches!(Store::open(dir(), on(&disk)), Err(Error::InUse { .. })));
    gate.open();
    assert!(matches!(copier.join().unwrap(), Err(Error::Closed)));
    closer.join().unwrap().unwrap();
    assert!(matches!(Store::open("/copy", on(&disk)), Err(Error::NoStore(_))));
    assert!(matches!(reader.backup("/other", BackupOptions::new()), Err(Error::Closed)));
    assert!(!disk.exists(Path::new("/other")).unwrap());
    Store::open(dir(), on(&disk)).unwrap().check().unwrap();
}

#[test]
fn a_full_disk_leaves_nothing_that_could_be_believed() {
    let mem = MemDisk::new();
    let disk: Arc<dyn Vfs> = Arc::new(mem.clone());
    let mut store = create(&dir(), busy(on(&disk)).checkpoint_bytes(0));
    let (mut written, mut rng) = (Written::default(), SplitMix64::new(2));
    for _ in 0..20 {
        written.block(&mut store, &mut rng);
    }
    store.flush().unwrap();
    let used = mem.used_bytes();
    let how = BackupOptions::new().link(false);
    let mut failed = 0;
    let mut room = 0;
    let report = loop {
        mem.set_capacity(used + room);
        match store.backup("/copy", how) {
            Ok(report) => break report,
            Err(error) => assert!(error.to_string().contains("no storage space"), "{error}"),
        }
        failed += 1;
        let opened = Store::open("/copy", on(&disk));
        assert!(matches!(opened, Err(Error::NoStore(_) | Error::UnfinishedCopy(_))), "{opened:?}");
        // What was copied whole and could not be checked stays, marked, to be looked at.
        let given_back = mem.used_bytes() <= used + (64 << 10);
        assert!(given_back || matches!(opened, Err(Error::UnfinishedCopy(_))), "{opened:?}");
        room += 1 << 20;
    };
    assert!(failed > 2, "{failed}");
    mem.set_capacity(u64::MAX);
    written.check(&Store::open("/copy", on(&disk)).unwrap().reader(), report.height, Height(15));
    store.check().unwrap();
}

#[test]
fn what_is_not_empty_or_in_use_is_refused() {
    let disk = disk();
    let mut store = create(&dir(), on(&disk));
    Written::default().block(&mut store, &mut SplitMix64::new(3));
    let backup = |target: &str| store.backup(target, BackupOptions::new().check(false));
    disk.create_dir_all(Path::new("/full")).unwrap();
    disk.open(Path::new("/full/letter"), OpenMode::CreateNew).unwrap();
    assert!(matches!(backup("/full"), Err(Error::NotEmpty(_))));
    assert_eq!(disk.read_dir(Path::new("/full")).unwrap(), ["letter"]);
    assert!(matches!(backup("/store"), Err(Error::InUse { .. })));
    assert!(matches!(backup("/"), Err(Error::NotEmpty(_))));
    backup("/copy").unwrap();
    assert!(matches!(backup("/copy"), Err(Error::NotEmpty(_) | Error::InUse { .. })));
    let copy = Store::open("/copy", on(&disk)).unwrap();
    assert!(matches!(backup("/copy"), Err(Error::InUse { .. })));
    assert_eq!(copy.reader().root(), store.reader().root());
}

/// A disk that fails once, at a call below the target.
fn fails_at(op: VfsOp, part: &'static str) -> Arc<dyn Vfs> {
    common::disks::hooked(move |call| {
        let path = call.path.to_string_lossy();
        if call.op == op && path.starts_with("/copy") && path.contains(part) {
            return Err(call.error(std::io::Error::other("no")));
        }
        Ok(())
    })
}

#[test]
fn an_unfinished_copy_is_refused_by_all_and_begun_again() {
    // What is left cannot be removed.
    let disk = fails_at(VfsOp::RemoveDirAll, "log");
    let mut store = create(&dir(), on(&disk));
    let mut written = Written::default();
    let height = written.block(&mut store, &mut SplitMix64::new(4));
    let broken: Arc<dyn Vfs> = Arc::new(HookedDisk::new(
        Arc::clone(&disk),
        Arc::new(|call| {
            let wanted = call.op == VfsOp::Create && call.path.starts_with("/copy/meta");
            if wanted { Err(call.error(std::io::Error::other("broken"))) } else { Ok(()) }
        }),
    ));
    store.close().unwrap();
    let store = Store::open(dir(), on(&broken)).unwrap();
    let error = store.backup("/copy", BackupOptions::new()).unwrap_err();
    assert!(error.to_string().contains("broken"), "{error}");
    let params = *store.params();
    assert!(matches!(Store::open("/copy", on(&disk)), Err(Error::UnfinishedCopy(_))));
    let read_only = Store::open("/copy", on(&disk).read_only());
    assert!(matches!(read_only, Err(Error::UnfinishedCopy(_))));
    let beside = Store::open_read_only("/copy", on(&disk));
    assert!(matches!(beside, Err(Error::UnfinishedCopy(_))), "{beside:?}");
    let created = Store::open_or_create("/copy", params, on(&disk));
    assert!(matches!(created, Err(Error::UnfinishedCopy(_))), "an empty store in its place");
    assert!(matches!(Store::create("/copy", params, on(&disk)), Err(Error::NotEmpty(_))));
    store.close().unwrap();

    let whole = copy(&disk);
    let left = copy_of("/copy", &disk, &whole);
    assert!(left > 0);
    let store = Store::open(dir(), on(&whole)).unwrap();
    let report = store.backup("/copy", BackupOptions::new()).unwrap();
    assert_eq!(report.height, height);
    written.check(&Store::open("/copy", on(&whole)).unwrap().reader(), height, Height(0));
}

/// Copies the files of a directory and of those in it.
fn copy_of(path: &str, from: &Arc<dyn Vfs>, to: &Arc<dyn Vfs>) -> usize {
    let mut files = 0;
    let mut left = vec![PathBuf::from(path)];
    while let Some(dir) = left.pop() {
        to.create_dir_all(&dir).unwrap();
        for name in from.read_dir(&dir).unwrap() {
            let path = dir.join(name);
            if from.read_dir(&path).is_ok() {
                left.push(path);
                continue;
            }
            let bytes = hedgerow_vfs::read_file(&**from, &path, 1 << 30).unwrap();
            to.open(&path, OpenMode::CreateNew).unwrap().write_all_at(&bytes, 0).unwrap();
            files += 1;
        }
    }
    files
}

#[test]
fn links_that_cannot_be_are_copies() {
    let disk = common::disks::hooked(|call| {
        let refused = call.op == VfsOp::HardLink;
        let reason = std::io::ErrorKind::CrossesDevices;
        if refused { Err::<(), VfsError>(call.error(reason.into())) } else { Ok(()) }
    });
    let mut store = create(&dir(), busy(on(&disk)));
    let (mut written, mut rng) = (Written::default(), SplitMix64::new(5));
    for _ in 0..30 {
        written.block(&mut store, &mut rng);
    }
    let report = store.backup("/copy", BackupOptions::new()).unwrap();
    assert_eq!((report.linked_files, report.linked_bytes), (0, 0));
    assert!(report.copied_bytes > 0);
}

#[test]
fn a_backup_of_damage_is_none() {
    let disk = disk();
    let mut store = create(&dir(), busy(on(&disk)).keep_all());
    let (mut written, mut rng) = (Written::default(), SplitMix64::new(6));
    for _ in 0..20 {
        written.block(&mut store, &mut rng);
    }
    store.flush().unwrap();
    let first = disk.read_dir(&dir().join("log")).unwrap().remove(0);
    let file = disk.open(&dir().join("log").join(first), OpenMode::ReadWrite).unwrap();
    let at = file.len().unwrap() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    let error = store.backup("/copy", BackupOptions::new()).unwrap_err();
    assert!(matches!(error, Error::Log(_)), "{error}");
    assert!(matches!(Store::open("/copy", on(&disk)), Err(Error::UnfinishedCopy(_))));
    // Begun again, without the check, it is as damaged as its source.
    store.backup("/copy", BackupOptions::new().check(false)).unwrap();
    store.close().unwrap();
}

#[test]
fn a_backup_is_restored_with_its_root_and_its_history() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let mut store = create(&path("store"), busy(Options::new()).keep_all());
    let (mut written, mut rng) = (Written::default(), SplitMix64::new(10));
    for _ in 0..30 {
        written.block(&mut store, &mut rng);
    }
    let report = store.backup(path("backup"), BackupOptions::new()).unwrap();
    store.close().unwrap();
    let files = |dir: &Path| -> BTreeMap<PathBuf, Vec<u8>> {
        let folder = |name| std::fs::read_dir(dir.join(name)).unwrap();
        let all = ["log", "twigs", "meta", "."].into_iter().flat_map(folder);
        let paths = all.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let before = files(&path("backup"));
    let how = BackupOptions::new().link(false);
    let restored = Store::restore(path("backup"), path("new"), Options::new(), how).unwrap();
    assert_eq!((restored.height, restored.root), (report.height, report.root));
    assert_eq!(restored.linked_files, 0);
    assert_eq!(before, files(&path("backup")), "a backup stays as it is");
    let mut store = Store::open(path("new"), Options::new().keep_all()).unwrap();
    written.check(&store.reader(), Height(30), Height(0));
    written.block(&mut store, &mut rng);
    store.check().unwrap();
    // Not into a store that is there.
    let again = Store::restore(path("backup"), path("store"), Options::new(), how);
    assert!(matches!(again, Err(Error::NotEmpty(_))), "{again:?}");
    let none = Store::restore(path("none"), path("x"), Options::new(), how);
    assert!(matches!(none, Err(Error::NoStore(_))));
    assert!(!path("x").exists());
}
