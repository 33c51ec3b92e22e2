//! Reopening after everything that can happen to the files short of a lost sync.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::disks::stopping;
use common::{dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{Digest, Error, Height, Options, Store};
use hedgerow_entryfile::LogError;
use hedgerow_metadb::{Engine, Manifest};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::{OpenMode, VfsFile};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A deterministic block: creates, updates and deletes over a few thousand keys.
fn submit(store: &mut Store, height: u64) -> Result<hedgerow::Ticket, Error> {
    let mut rng = SplitMix64::new(height);
    let mut block = store.begin_block(Height(height))?;
    for _ in 0..400 {
        let key = format!("key {}", rng.below(3000));
        match rng.below(5) {
            0 => block.delete(key)?,
            _ => block.put(key, format!("{height} {}", rng.next_u64()))?,
        }
    }
    block.set_extra(format!("extra {height}"))?;
    block.submit()
}

fn small(disk: &Arc<dyn Vfs>) -> Options {
    on(disk).segment_bytes(150_000).tail_bytes(50_000)
}

/// A store of `heights` blocks and the roots of all heights.
fn build(disk: &Arc<dyn Vfs>, heights: u64) -> Vec<Digest> {
    let mut store = Store::create(dir(), params(1, 4, 5), small(disk)).unwrap();
    let mut roots = vec![store.reader().root().1];
    for height in 1..=heights {
        roots.push(submit(&mut store, height).unwrap().root().unwrap());
    }
    store.close().unwrap();
    roots
}

fn files(disk: &Arc<dyn Vfs>, folder: &str) -> Vec<PathBuf> {
    let folder = dir().join(folder);
    disk.read_dir(&folder).unwrap().into_iter().map(|name| folder.join(name)).collect()
}

fn check_open(disk: &Arc<dyn Vfs>, roots: &[Digest]) {
    let mut store = Store::open(dir(), small(disk)).unwrap();
    let last = roots.len() as u64 - 1;
    assert_eq!(store.reader().root(), (Height(last), roots[roots.len() - 1]));
    let row = store.reader().history(Height(last)).unwrap();
    assert_eq!(row.extra, format!("extra {last}").into_bytes());
    let report = store.check().unwrap();
    assert_eq!(report.twigs_missing, 0, "missing twig records are made again on opening");
    assert!(report.twigs >= 32);
    let proven = store.reader().prove("key 17").unwrap();
    hedgerow_proof::verify(&proven.root, b"key 17", &proven.proof).unwrap();
}

#[test]
fn the_twig_file_is_rebuilt_from_the_log() {
    let _limit = Limit::new();
    let disk = disk();
    let roots = build(&disk, 60);
    check_open(&disk, &roots);
    // Gone altogether.
    disk.remove_dir_all(&dir().join("twigs")).unwrap();
    check_open(&disk, &roots);
    // Cut anywhere, and damaged anywhere.
    let mut rng = SplitMix64::new(7);
    for _ in 0..12 {
        let files = files(&disk, "twigs");
        let path = &files[rng.below(files.len() as u64) as usize];
        let file = disk.open(path, OpenMode::ReadWrite).unwrap();
        let at = 64 + rng.below(file.len().unwrap() - 64);
        if rng.below(2) == 0 {
            file.set_len(at).unwrap();
        } else {
            flip(&disk, path, at);
        }
        check_open(&disk, &roots);
    }
}

/// The youngest segment of the log: its path, it, and its length.
fn last_of_log(disk: &Arc<dyn Vfs>) -> (PathBuf, Arc<dyn VfsFile>, u64) {
    let last = files(disk, "log").pop().unwrap();
    let file = disk.open(&last, OpenMode::ReadWrite).unwrap();
    let len = file.len().unwrap();
    (last, file, len)
}

fn flip(disk: &Arc<dyn Vfs>, path: &Path, at: u64) {
    let file = disk.open(path, OpenMode::ReadWrite).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn a_log_beyond_the_manifest_is_cut() {
    let _limit = Limit::new();
    let disk = disk();
    let roots = build(&disk, 20);
    let (_, file, len) = last_of_log(&disk);
    for tail in [&b"garbage"[..], &[0; 5000], &[0xFF; 100_000]] {
        file.write_all_at(tail, len).unwrap();
        check_open(&disk, &roots);
        assert_eq!(file.len().unwrap(), len, "{}", tail.len());
    }
    // And it goes on from there.
    let mut store = Store::open(dir(), small(&disk)).unwrap();
    submit(&mut store, 21).unwrap().durable().unwrap();
    store.check().unwrap();
}

/// What the store said that is durable is there although no manifest knows it; with all that was known of
/// its heights.
#[test]
fn blocks_that_no_manifest_knows_are_taken_in_again() {
    let _limit = Limit::new();
    for segment_bytes in [100_000, 64 << 20] {
        let disk = disk();
        let options = || on(&disk).manifest_blocks(1_000_000).segment_bytes(segment_bytes);
        let mut store = Store::create(dir(), params(1, 4, 5), options()).unwrap();
        let mut roots = vec![store.reader().root().1];
        let mut left = None;
        for height in 1..=40 {
            let ticket = submit(&mut store, height).unwrap();
            ticket.durable().unwrap();
            roots.push(ticket.root().unwrap());
            if height % 10 == 0 {
                // As a process leaves it that is killed now.
                left = Some(common::copy(&disk));
            }
        }
        let rows: Vec<_> =
            (1..=40).map(|height| store.reader().history(Height(height)).unwrap()).collect();
        store.close().unwrap();
        let left = left.unwrap();
        let manifest = manifest_of(&left);
        assert!(segment_bytes < 1 << 20 || manifest.height == Height(0), "{}", manifest.height);
        check_open(&left, &roots);
        let store = Store::open(dir(), on(&left)).unwrap();
        for (row, height) in rows.iter().zip(1..) {
            assert_eq!(store.reader().history(Height(height)).unwrap(), *row);
        }
        store.close().unwrap();
        assert_eq!(manifest_of(&left).height, Height(40));
    }
}

fn manifest_of(disk: &Arc<dyn Vfs>) -> Manifest {
    let (engine, folder) = (Engine::Redb, dir().join("meta"));
    let copy = common::copy(disk);
    let db = hedgerow_metadb::open(engine, copy, &folder, false).unwrap();
    db.manifest().unwrap().unwrap()
}

/// Metadata that is older than the log: nothing is cut, what follows is taken in again.
#[test]
fn a_manifest_from_a_backup_is_brought_up_to_the_log() {
    let _limit = Limit::new();
    let disk = disk();
    build(&disk, 10);
    let path = files(&disk, "meta").remove(0);
    let backup = hedgerow_vfs::read_file(&*disk, &path, 1 << 30).unwrap();
    let mut store = Store::open(dir(), small(&disk)).unwrap();
    for height in 11..=90 {
        submit(&mut store, height).unwrap();
    }
    store.flush().unwrap();
    let roots: Vec<_> =
        (0..=90).map(|height| store.reader().root_at(Height(height)).unwrap()).collect();
    store.close().unwrap();
    hedgerow_vfs::write_atomic(&*disk, &path, &backup).unwrap();
    assert_eq!(manifest_of(&disk).height, Height(10));
    check_open(&disk, &roots);
}

#[test]
fn a_log_that_is_shorter_is_an_error_that_says_by_how_much() {
    let _limit = Limit::new();
    let disk = disk();
    let roots = build(&disk, 20);
    let (last, file, len) = last_of_log(&disk);
    let mut tail = vec![0; 1000];
    file.read_exact_at(&mut tail, len - 1000).unwrap();
    file.set_len(len - 1000).unwrap();
    match Store::open(dir(), small(&disk)) {
        Err(Error::Log(LogError::Short { path, missing })) => {
            assert_eq!((path, missing), (last.clone(), 1000));
        }
        other => panic!("{other:?}"),
    }
    // Nothing was repaired behind anybody's back: with its bytes again, the store is whole.
    file.write_all_at(&tail, len - 1000).unwrap();
    check_open(&disk, &roots);
}

/// A flipped bit in any file is found, and never a panic; the twig file's are repaired.
#[test]
fn damage_is_found() {
    let _limit = Limit::new();
    let disk = disk();
    let roots = build(&disk, 25);
    let mut rng = SplitMix64::new(99);
    for _ in 0..60 {
        let files = files(&disk, "log");
        let path = &files[rng.below(files.len() as u64) as usize];
        let len = disk.open(path, OpenMode::Read).unwrap().len().unwrap();
        let at = rng.below(len);
        flip(&disk, path, at);
        let found = Store::open(dir(), small(&disk)).and_then(|mut store| store.check());
        match found {
            Err(Error::Log(error)) => {
                assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
            }
            other => panic!("{} at {at}: {other:?}", path.display()),
        }
        flip(&disk, path, at);
    }
    check_open(&disk, &roots);
    for path in files(&disk, "meta") {
        for _ in 0..40 {
            let len = disk.open(&path, OpenMode::Read).unwrap().len().unwrap();
            flip(&disk, &path, rng.below(len));
            // The database may not notice where nothing is stored; what it tells is right.
            if let Ok(store) = Store::open(dir(), small(&disk)) {
                assert_eq!(store.reader().root().1, roots[roots.len() - 1]);
            }
            // The engine may have written: begin from a good copy again.
            disk.remove_dir_all(&dir()).unwrap();
            assert_eq!(build(&disk, 25), roots);
        }
    }
}

/// The disk stops at a random operation: everything before it was done, nothing after it. What opens
/// then is some prefix of the blocks with at least the durable ones. The store is one that prunes
/// (F-B4: nothing is deleted before the manifest that no longer needs it is durable).
#[test]
fn a_disk_that_stops_at_any_moment() {
    let _limit = Limit::new();
    let options = |disk: &Arc<dyn Vfs>| small(disk).keep_heights(3);
    let reference = disk();
    let mut store = Store::create(dir(), params(1, 1, 1), options(&reference)).unwrap();
    let mut roots = vec![store.reader().root().1];
    // On to some blocks after the first pruning.
    let mut pruned_at = u64::MAX;
    while roots.len() as u64 <= pruned_at.saturating_add(6) {
        let height = roots.len() as u64;
        assert!(height < 1000, "never pruned");
        roots.push(submit(&mut store, height).unwrap().root().unwrap());
        store.flush().unwrap();
        if store.stats().log_start.0 > 0 {
            pruned_at = pruned_at.min(height);
        }
    }
    let (first, last) = (pruned_at - 5, roots.len() as u64 - 1);
    let base = disk();
    let mut store = Store::create(dir(), params(1, 1, 1), options(&base)).unwrap();
    for height in 1..=first {
        submit(&mut store, height).unwrap();
    }
    store.close().unwrap();
    let seed = 4711;
    println!("seed {seed}");
    let mut rng = SplitMix64::new(seed);
    let (mut behind, mut ahead) = (0, 0);
    for round in 0..40 {
        let inner = common::copy(&base);
        let (stopping, left) = stopping(&inner);
        let options_now = options(&stopping).max_in_flight(1 + (round % 3) as usize);
        let mut store = Store::open(dir(), options_now).unwrap();
        left.store(rng.below(250), Ordering::SeqCst);
        for height in first + 1..=last {
            if submit(&mut store, height).is_err() {
                break;
            }
        }
        let durable = store.reader().durable_height();
        drop(store);
        left.store(u64::MAX, Ordering::SeqCst);

        let mut store = Store::open(dir(), options(&inner)).unwrap();
        let (height, root) = store.reader().root();
        assert!(height >= durable, "round {round}: {durable} was durable, {height} came back");
        assert_eq!(root, roots[height.0 as usize], "round {round}, height {height}");
        *if height > durable { &mut ahead } else { &mut behind } += 1;
        for height in height.0 + 1..=last {
            let root = submit(&mut store, height).unwrap().root().unwrap();
            assert_eq!(root, roots[height as usize], "round {round}, height {height}");
        }
        store.check().unwrap();
    }
    println!("{behind} at the durable height, {ahead} beyond");
    assert!(behind > 0 && ahead > 0);
}

/// F-B5: metadata that cannot be read, or is gone, is an error and never an empty store.
#[test]
fn unreadable_metadata_is_never_an_empty_store() {
    let _limit = Limit::new();
    let disk = disk();
    let roots = build(&disk, 5);
    let meta = files(&disk, "meta").remove(0);
    let whole = hedgerow_vfs::read_file(&*disk, &meta, 1 << 30).unwrap();
    let file = disk.open(&meta, OpenMode::ReadWrite).unwrap();
    for (len, byte) in [(whole.len() as u64, 0u8), (whole.len() as u64, 0xFF), (0, 0), (100, 0)] {
        file.set_len(0).unwrap();
        file.write_all_at(&vec![byte; len as usize], 0).unwrap();
        for _ in 0..2 {
            let opened = Store::open(dir(), small(&disk));
            assert!(opened.is_err(), "{len} bytes of {byte}");
            let opened = Store::open_or_create(dir(), params(1, 4, 5), small(&disk));
            assert!(opened.is_err(), "{len} bytes of {byte}");
        }
    }
    disk.remove_file(&meta).unwrap();
    assert!(matches!(Store::open(dir(), small(&disk)), Err(Error::NoStore(_))));
    assert!(Store::open_or_create(dir(), params(1, 4, 5), small(&disk)).is_err());
    // Nothing was deleted on the way.
    disk.open(&meta, OpenMode::CreateNew).unwrap().write_all_at(&whole, 0).unwrap();
    check_open(&disk, &roots);
}

/// Opening reports how far it is, in the log alone.
#[test]
fn opening_reports_progress() {
    let _limit = Limit::new();
    let disk = disk();
    build(&disk, 10);
    let last = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&last);
    // Of a checkpoint `checkpoint.rs` says more.
    disk.remove_dir_all(&dir().join("checkpoints")).unwrap();
    let options = small(&disk).on_progress(move |progress| {
        assert!(progress.scanned_bytes <= progress.total_bytes);
        let before = seen.swap(progress.scanned_bytes, Ordering::SeqCst);
        assert!(before < progress.scanned_bytes);
    });
    let store = Store::open(dir(), options).unwrap();
    assert_eq!(last.load(Ordering::SeqCst), store.stats().log_end.0 - 64);
}
