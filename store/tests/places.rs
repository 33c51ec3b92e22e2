//! Whose a directory is: who may open it, what is left alone in it, and what is noticed when it changes
//! under an open store.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{disk, on};
use hedgerow::disk::{RealDisk, Vfs};
use hedgerow::{Durability, Error, Height, Options, RepairWord, Store, StoreParams};
use hedgerow_testkit::Limit;
use hedgerow_vfs::{Hook, HookedDisk, OpenMode, VfsCall, read_file};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Small segments, nothing in memory: every read opens a file by its name.
fn small(disk: &Arc<dyn Vfs>) -> Options {
    let options = on(disk).segment_bytes(20_000).entry_cache_bytes(0).tail_bytes(0);
    options.durability(Durability::EachBlock)
}

fn real() -> Arc<dyn Vfs> {
    Arc::new(RealDisk)
}

fn fill(store: &mut Store, blocks: u64) {
    for _ in 0..blocks {
        let height = store.height().next();
        let mut block = store.begin_block(height).unwrap();
        for key in 0..40 {
            block.put(format!("key {key}"), format!("{height} {key}").repeat(9)).unwrap();
        }
        block.commit().unwrap();
    }
}

fn create(disk: &Arc<dyn Vfs>, path: &Path, blocks: u64) -> Store {
    let mut store = Store::create(path, StoreParams::default(), small(disk)).unwrap();
    fill(&mut store, blocks);
    store
}

#[track_caller]
fn in_use(opened: Result<Store, Error>) {
    assert!(matches!(opened, Err(Error::InUse { .. })), "{:?}", opened.map(drop));
}

fn put(disk: &dyn Vfs, path: &Path, bytes: &[u8]) {
    if disk.exists(path).unwrap() {
        disk.remove_file(path).unwrap();
    }
    disk.open(path, OpenMode::CreateNew).unwrap().write_all_at(bytes, 0).unwrap();
}

/// The lock file tells that a store is in use; removing it does not end that.
#[cfg(unix)]
#[test]
fn a_removed_lock_file_lets_nobody_in() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let mut store = create(&real(), &path, 2);
    std::fs::remove_file(path.join("LOCK")).unwrap();
    in_use(Store::open(&path, small(&real())));
    in_use(Store::open_or_create(&path, StoreParams::default(), small(&real())));
    in_use(Store::open(&path, small(&real()).read_only()));
    fill(&mut store, 2);
    store.check().unwrap();
    store.close().unwrap();
    Store::open(&path, small(&real())).unwrap().check().unwrap();
}

/// A store whose directory, or one below it, is a link to another store's: one of the two is open.
#[cfg(unix)]
#[test]
fn linked_directories_let_nobody_in() {
    let _limit = Limit::new();
    use std::os::unix::fs::symlink;
    for parts in [&["log"][..], &["meta"], &["twigs"], &["log", "meta", "twigs"]] {
        let temp = tempfile::tempdir().unwrap();
        let (path, other) = (temp.path().join("store"), temp.path().join("other"));
        let mut store = create(&real(), &path, 2);
        std::fs::create_dir(&other).unwrap();
        for part in ["log", "meta", "twigs"] {
            if parts.contains(&part) {
                symlink(path.join(part), other.join(part)).unwrap();
            } else {
                std::fs::create_dir(other.join(part)).unwrap();
                for entry in std::fs::read_dir(path.join(part)).unwrap() {
                    let entry = entry.unwrap();
                    std::fs::copy(entry.path(), other.join(part).join(entry.file_name())).unwrap();
                }
            }
        }
        in_use(Store::open(&other, small(&real())));
        in_use(Store::open_or_create(&other, StoreParams::default(), small(&real())));
        in_use(Store::open(&other, small(&real()).read_only()));
        fill(&mut store, 2);
        store.check().unwrap();
        store.close().unwrap();
        // The other way round: who has the parts is asked, not who has the names.
        let linked = Store::open(&other, small(&real())).map(|mut linked| {
            fill(&mut linked, 1);
            linked
        });
        if linked.is_ok() {
            in_use(Store::open(&path, small(&real())));
        }
        drop(linked);
        let whole = temp.path().join("link");
        symlink(&path, &whole).unwrap();
        if parts.len() == 3 {
            let store = Store::open(&whole, small(&real())).unwrap();
            in_use(Store::open(&path, small(&real())));
            in_use(Store::open(&other, small(&real())));
            drop(store);
        }
    }
}

/// What is locked is moved away, and something else takes its place: the store stops taking blocks.
#[cfg(unix)]
#[test]
fn a_directory_that_goes_is_noticed_before_the_next_block() {
    let _limit = Limit::new();
    for part in ["", "log", "meta", "twigs", "undo"] {
        for replaced in [false, true] {
            let temp = tempfile::tempdir().unwrap();
            let (path, away) = (temp.path().join("store"), temp.path().join("away"));
            let mut store = create(&real(), &path, 3);
            // No manifest is on its way any more, for which files are synced by their names.
            store.flush().unwrap();
            let place = path.join(part);
            std::fs::rename(&place, &away).unwrap();
            if replaced {
                std::fs::create_dir(&place).unwrap();
            }
            let begun = store.begin_block(Height(4)).map(drop);
            assert!(matches!(begun, Err(Error::Disk(_))), "{part}: {begun:?}");
            let submitted = store.submit_tasks(Height(4), &[], []).map(drop);
            assert!(matches!(submitted, Err(Error::Disk(_))), "{part}: {submitted:?}");
            assert!(store.check().is_err());
            if replaced {
                std::fs::remove_dir(&place).unwrap();
            }
            // It is back: nothing was lost.
            std::fs::rename(&away, &place).unwrap();
            fill(&mut store, 2);
            store.check().unwrap();
        }
    }
}

/// Nor with a block that was begun before: a commit that waits would write to the log by itself.
#[cfg(unix)]
#[test]
#[expect(unsafe_code, reason = "forking")]
fn a_forked_process_hands_no_block_in() {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, alarm, fork};
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let mut store = create(&real(), &path, 3);
    let mut block = store.next_block().unwrap();
    block.put("key 1", "of the child").unwrap();
    // SAFETY: the child ends without running anything of the test's.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            alarm::set(60);
            let refused = matches!(block.commit(), Err(Error::Forked(_)));
            let refused = refused && matches!(block.submit(), Err(Error::Forked(_)));
            // SAFETY: ends the process without running what belongs to the parent.
            unsafe { nix::libc::_exit(if refused { 7 } else { 8 }) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 7));
        }
    }
    block.put("key 1", "of the parent").unwrap();
    block.commit().unwrap();
    store.check().unwrap();
    assert_eq!(store.reader().get("key 1").unwrap().as_deref(), Some(&b"of the parent"[..]));
}

/// A forked process has a copy of everything but the threads. It can do nothing with it, and does
/// nothing to the store.
#[cfg(unix)]
#[test]
#[expect(unsafe_code, reason = "forking")]
fn a_forked_process_does_no_harm() {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, alarm, fork};
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let _limit = Limit::new();
    for how in 0..3 {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("store");
        let mut store = create(&real(), &path, 3);
        let reader = store.reader();
        let root = reader.root();
        // SAFETY: the child ends without running anything of the test's.
        match unsafe { fork() }.unwrap() {
            ForkResult::Child => {
                alarm::set(60);
                let forked = |error| matches!(error, Error::Forked(_));
                let work = move || match how {
                    0 => {
                        drop(store);
                        true
                    }
                    1 => store.close().is_err_and(forked),
                    _ => {
                        store.begin_block(Height(4)).map(drop).is_err_and(forked)
                            && store.submit_tasks(Height(4), &[], []).is_err_and(forked)
                            && store.flush().is_err_and(forked)
                            && store.check().is_err_and(forked)
                            && reader.root() == root
                            && reader.get("key 1").is_ok_and(|value| value.is_some())
                    }
                };
                let good = catch_unwind(AssertUnwindSafe(work)).is_ok_and(|good| good);
                // SAFETY: ends the process without running what belongs to the parent.
                unsafe { nix::libc::_exit(if good { 7 } else { 8 }) }
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 7), "{how}");
            }
        }
        in_use(Store::open(&path, small(&real())));
        fill(&mut store, 2);
        store.check().unwrap();
        store.close().unwrap();
        Store::open(&path, small(&real())).unwrap().check().unwrap();
    }
}

/// The root of a fresh volume.
#[test]
fn lost_and_found_is_nothing() {
    let _limit = Limit::new();
    for name in ["lost+found", "lost+found2", "Lost+Found"] {
        let create = |how: u32| {
            let disk = disk();
            disk.create_dir_all(&Path::new("/volume").join(name)).unwrap();
            let (path, params) = (Path::new("/volume"), StoreParams::default());
            let created = match how {
                0 => Store::create(path, params, small(&disk)),
                _ => Store::open_or_create(path, params, small(&disk)),
            };
            assert!(disk.exists(&path.join(name)).unwrap());
            assert_eq!(disk.exists(&path.join("LOCK")).unwrap(), created.is_ok(), "{name}");
            created
        };
        for how in 0..2 {
            match create(how) {
                Ok(mut store) => {
                    assert_eq!(name, "lost+found");
                    fill(&mut store, 1);
                    store.check().unwrap();
                }
                Err(Error::NotEmpty(_)) => assert_ne!(name, "lost+found"),
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }
}

/// C18: in somebody else's directory nothing is left, whatever it looks like.
#[test]
fn nothing_is_left_in_somebody_elses_directory() {
    let _limit = Limit::new();
    let contents: [&[&str]; 7] = [
        &["precious"],
        &["meta/", "log/", "twigs/"],
        &["meta/notes.txt", "log/0000000000000000.log"],
        &["meta", "log"],
        &["CREATING"],
        &["CREATING/", "meta/x", "log/y", "twigs/z"],
        &["CREATING", "meta/x", "log/y", "twigs/z"],
    ];
    for content in contents {
        let disk = disk();
        let dir = PathBuf::from("/theirs");
        disk.create_dir_all(&dir).unwrap();
        for name in content {
            match name.strip_suffix('/') {
                Some(name) => disk.create_dir_all(&dir.join(name)).unwrap(),
                None => {
                    disk.create_dir_all(dir.join(name).parent().unwrap()).unwrap();
                    put(&*disk, &dir.join(name), b"theirs");
                }
            }
        }
        let names = || disk.read_dir(&dir).unwrap();
        let before = names();
        let params = StoreParams::default;
        for _ in 0..2 {
            let created = Store::create(&dir, params(), small(&disk));
            assert!(matches!(created, Err(Error::NotEmpty(_))), "{content:?}");
            let created = Store::open_or_create(&dir, params(), small(&disk));
            assert!(matches!(created, Err(Error::NotEmpty(_))), "{content:?}");
            let opened = Store::open(&dir, small(&disk));
            assert!(matches!(opened, Err(Error::NoStore(_))), "{content:?}");
            let opened = Store::open(&dir, small(&disk).read_only());
            assert!(matches!(opened, Err(Error::NoStore(_))), "{content:?}");
            assert_eq!(names(), before);
        }
        for name in content.iter().filter(|name| !name.ends_with('/')) {
            assert_eq!(read_file(&*disk, &dir.join(name), 100).unwrap(), b"theirs");
        }
    }
}

/// A disk that refuses what would change it, as a volume that is mounted for reading.
fn frozen(inner: &Arc<dyn Vfs>) -> Arc<dyn Vfs> {
    let hook: Hook = Arc::new(|call: &VfsCall<'_>| {
        if call.op.changes() {
            return Err(call.error(io::ErrorKind::ReadOnlyFilesystem.into()));
        }
        Ok(())
    });
    Arc::new(HookedDisk::new(Arc::clone(inner), hook))
}

/// What is only read is not repaired either; looking at what a repair would do is reading.
#[test]
fn a_repair_that_may_only_read_changes_nothing() {
    let _limit = Limit::new();
    let (disk, path) = (disk(), PathBuf::from("/store"));
    let mut store = create(&disk, &path, 6);
    fill(&mut store, 2);
    let root = store.reader().root().1;
    store.close().unwrap();
    let options = || small(&frozen(&disk)).read_only();
    let report = Store::repair(&path, options(), RepairWord::Look).unwrap();
    assert_eq!((report.root, report.is_needed(), report.repaired), (root, false, false));
    for word in [RepairWord::Yes, RepairWord::Root(root)] {
        // On any disk: not being able to write is not the reason.
        for options in [options(), small(&disk).read_only()] {
            let refused = Store::repair(&path, options, word);
            assert!(matches!(refused, Err(Error::ReadOnly)), "{word:?}: {refused:?}");
        }
    }
    assert!(disk.exists(&path.join("CLOSED")).unwrap(), "it was opened for writing");
}

#[test]
fn a_store_on_a_read_only_disk_can_be_read() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let disks = [(disk(), PathBuf::from("/store")), (real(), temp.path().join("store"))];
    for (disk, path) in disks {
        let mut store = create(&disk, &path, 6);
        fill(&mut store, 2);
        let root = store.reader().root();
        in_use_if_real(&disk, Store::open(&path, small(&frozen(&disk)).read_only()));
        store.close().unwrap();
        // Also after a crash, which left half a record and no twig file.
        for crashed in [false, true] {
            if crashed {
                let log = disk.read_dir(&path.join("log")).unwrap();
                let last = path.join("log").join(log.last().unwrap());
                let last = disk.open(&last, OpenMode::ReadWrite).unwrap();
                last.write_all_at(&[7; 1000], last.len().unwrap()).unwrap();
                disk.remove_dir_all(&path.join("twigs")).unwrap();
            }
            let frozen = frozen(&disk);
            let refused = Store::open(&path, small(&frozen)).unwrap_err();
            assert!(matches!(refused, Error::NotWritable { .. }), "{refused}");
            let text = refused.to_string();
            assert!(text.contains("read-only") && text.contains("read_only"), "{text}");

            let open = || Store::open(&path, small(&frozen).read_only()).unwrap();
            let (mut one, two) = (open(), open());
            for store in [&one, &two] {
                let reader = store.reader();
                assert_eq!(reader.root(), root);
                assert_eq!(reader.get("key 7").unwrap().unwrap(), b"8 7".repeat(9));
                assert_eq!(reader.iter().count(), 40);
                let proven = reader.prove("key 7").unwrap();
                assert_eq!(proven.root, root.1);
            }
            let report = one.check().unwrap();
            assert_eq!((report.root, report.twigs_missing), (root.1, 0));
            assert!(matches!(one.begin_block(Height(9)), Err(Error::ReadOnly)));
            assert!(matches!(one.submit_tasks(Height(9), &[], []), Err(Error::ReadOnly)));
            in_use_if_real(&disk, Store::open(&path, small(&disk)));
            one.close().unwrap();
            two.close().unwrap();
        }
        for name in ["new", "store"] {
            let (path, options) = (path.with_file_name(name), || small(&disk).read_only());
            let params = StoreParams::default;
            assert!(matches!(Store::create(&path, params(), options()), Err(Error::ReadOnly)));
            let created = Store::open_or_create(&path, params(), options());
            assert!(matches!(created, Err(Error::ReadOnly)));
        }
        let absent = Store::open(path.with_file_name("new"), small(&disk).read_only());
        assert!(matches!(absent, Err(Error::NoStore(_))));
        // Writing goes on where it was.
        let mut store = Store::open(&path, small(&disk)).unwrap();
        assert_eq!(store.reader().root(), root);
        fill(&mut store, 1);
        store.check().unwrap();
    }
}

/// On a disk whose directories have one name, readers and a writer are kept apart by whoever uses it.
#[track_caller]
fn in_use_if_real(disk: &Arc<dyn Vfs>, opened: Result<Store, Error>) {
    if disk.real_path(Path::new("/")).is_some() {
        in_use(opened);
    }
}

/// What `check` believes is the disk.
#[test]
fn check_looks_at_what_the_names_lead_to() {
    let _limit = Limit::new();
    type Harm = fn(&dyn Vfs, &Path, &[u8]);
    let harms: [(&str, Harm); 4] = [
        ("removed", |disk, path, _| disk.remove_file(path).unwrap()),
        ("cut", |disk, path, bytes| put(disk, path, &bytes[..bytes.len() - 8])),
        ("emptied", |disk, path, _| put(disk, path, &[])),
        ("a byte", |disk, path, bytes| {
            let mut bytes = bytes.to_vec();
            let at = bytes.len() - 40;
            bytes[at] ^= 1;
            put(disk, path, &bytes);
        }),
    ];
    let temp = tempfile::tempdir().unwrap();
    let disks = [(disk(), PathBuf::from("/store")), (real(), temp.path().join("store"))];
    for (disk, path) in disks {
        // With much in memory, and with nothing.
        for options in [small(&disk), on(&disk).segment_bytes(20_000)] {
            let options = options.durability(Durability::EachBlock);
            let mut store = Store::create(&path, StoreParams::default(), options).unwrap();
            fill(&mut store, 20);
            store.check().unwrap();
            let segments = disk.read_dir(&path.join("log")).unwrap();
            assert!(segments.len() > 4);
            for name in &segments {
                let file = path.join("log").join(name);
                let bytes = read_file(&*disk, &file, 1 << 30).unwrap();
                for (what, harm) in &harms {
                    harm(&*disk, &file, &bytes);
                    assert!(store.check().is_err(), "{what}: {}", file.display());
                    put(&*disk, &file, &bytes);
                }
                // The same bytes again are a copy, and not the file that the store wrote.
            }
            drop(store);
            disk.remove_dir_all(&path).unwrap();
        }
        for part in ["meta", "twigs"] {
            let mut store = create(&disk, &path, 3);
            for name in disk.read_dir(&path.join(part)).unwrap() {
                disk.remove_file(&path.join(part).join(name)).unwrap();
            }
            assert!(store.check().is_err(), "{part}");
            drop(store);
            disk.remove_dir_all(&path).unwrap();
        }
    }
}

/// A store is moved away, and a copy of it that went another way takes its place: nothing of the copy is
/// answered.
#[cfg(unix)]
#[test]
fn a_diverged_copy_in_its_place_never_answers() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let (path, copy, away) =
        (temp.path().join("store"), temp.path().join("copy"), temp.path().join("away"));
    create(&real(), &path, 4).close().unwrap();
    let copied = std::process::Command::new("cp").arg("-r").args([&path, &copy]).status();
    assert!(copied.unwrap().success());
    let write = |path: &Path, value: &str| {
        let mut store = Store::open(path, small(&real())).unwrap();
        for height in 5..30 {
            let mut block = store.begin_block(Height(height)).unwrap();
            for key in 0..40 {
                block
                    .put(format!("key {key}"), format!("{value} {height} {key}").repeat(9))
                    .unwrap();
            }
            block.commit().unwrap();
        }
        store.close().unwrap();
    };
    write(&path, "ours");
    write(&copy, "them");
    let store = Store::open(&path, small(&real())).unwrap();
    let reader = store.reader();
    std::fs::rename(&path, &away).unwrap();
    std::fs::rename(&copy, &path).unwrap();
    for key in 0..40 {
        match reader.get(format!("key {key}")) {
            Ok(value) => assert!(value.unwrap().starts_with(b"ours 29")),
            Err(error) => assert!(matches!(error, Error::Log(_)), "{error}"),
        }
        // From files that are open already it may still be read: they are the store's own.
        if let Ok(proven) = reader.prove(format!("key {key}")) {
            assert_eq!(proven.root, reader.root().1);
        }
    }
    drop((reader, store));
    Store::open(&path, small(&real())).unwrap().check().unwrap();
    Store::open(&away, small(&real())).unwrap().check().unwrap();
}
