//! A damaged page number of redb sizes nothing: the top bits of one are the logarithm of how many pages
//! it means, up to 4 GiB of them, and redb makes room for them before it reads.
#![cfg(feature = "redb")]
#![expect(clippy::unwrap_used, reason = "a panic is the failure report")]

mod common;

use common::{manifest, row};
use hedgerow_metadb::{Commit, Engine, MetaDb, MetaError, open};
use hedgerow_types::Height;
use hedgerow_vfs::{MemDisk, OpenMode, Vfs, read_file};
use peak_alloc::PeakAlloc;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// One test at a time counts bytes.
static ALONE: Mutex<()> = Mutex::new(());

const ROOT: &str = "/";
const FILE: &str = "/meta.redb";
/// More than redb keeps of it in memory, so that pages are read again.
const HEIGHTS: u64 = 1_200;
const EXTRA: usize = 1_500;
/// Flips that are tried.
const TRIED: usize = 400;

fn start(disk: &MemDisk) -> Result<Box<dyn MetaDb>, MetaError> {
    open(Engine::Redb, Arc::new(disk.clone()), Path::new(ROOT), true)
}

fn filled() -> Vec<u8> {
    let disk = MemDisk::new();
    let db = start(&disk).unwrap();
    for from in (1..HEIGHTS).step_by(40) {
        let rows: Vec<_> =
            (from..from + 40).map(|height| (Height(height), row(height, EXTRA))).collect();
        let manifest = manifest(from + 39, 2);
        let commit = Commit { manifest: &manifest, rows: &rows, history_from: Height(1) };
        db.commit(&commit).unwrap();
    }
    drop(db);
    read_file(&disk, Path::new(FILE), 1 << 30).unwrap()
}

fn disk_of(bytes: &[u8]) -> MemDisk {
    let disk = MemDisk::new();
    disk.open(Path::new(FILE), OpenMode::CreateNew).unwrap().write_all_at(bytes, 0).unwrap();
    disk
}

/// The top bytes of what may be the number of a single page, some of all.
fn tops(bytes: &[u8]) -> Vec<usize> {
    let pages = bytes.len() as u64 / 4096;
    let numbers = bytes.windows(8).enumerate().filter(|(_, window)| {
        let number = u64::from_le_bytes((*window).try_into().unwrap());
        (1..pages).contains(&number)
    });
    let tops: Vec<_> = numbers.map(|(at, _)| at + 7).collect();
    assert!(tops.len() > TRIED, "{}", tops.len());
    let step = tops.len() / TRIED;
    tops.into_iter().step_by(step).collect()
}

/// Asks for everything; what is answered must be right. Returns whether everything was.
fn ask(db: &dyn MetaDb) -> bool {
    let mut whole = true;
    match db.manifest() {
        Ok(found) => assert_eq!(found, Some(manifest(HEIGHTS, 2))),
        Err(_) => whole = false,
    }
    for height in 1..=HEIGHTS {
        match db.history(Height(height)) {
            Ok(found) => assert!(found == Some(row(height, EXTRA)), "row of height {height}"),
            Err(_) => whole = false,
        }
    }
    whole
}

/// Runs `work` and checks that it took no more memory than the file is the reason for.
fn bounded(what: &str, file: usize, work: impl FnOnce()) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    work();
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    let most = 3 * file + (4 << 20);
    assert!(peak <= most, "{what}: {peak} bytes in use at once, the file has {file}");
}

#[test]
fn a_damaged_page_number_sizes_nothing_when_the_database_is_opened() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = filled();
    let (mut whole, mut refused) = (0, 0);
    for at in tops(&bytes) {
        let disk = disk_of(&bytes);
        let file = disk.open(Path::new(FILE), OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[bytes[at] ^ 0x80], at as u64).unwrap();
        bounded(&format!("byte {at}"), bytes.len(), || match start(&disk) {
            Ok(db) => whole += usize::from(ask(&*db)),
            Err(_) => refused += 1,
        });
    }
    assert!(whole > 0 && refused > 20, "{whole} whole, {refused} refused");
    assert!(ask(&*start(&disk_of(&bytes)).unwrap()));
}

#[test]
fn a_damaged_page_number_sizes_nothing_under_an_open_database() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let bytes = filled();
    let (mut whole, mut noticed) = (0, 0);
    for at in tops(&bytes) {
        let disk = disk_of(&bytes);
        let db = start(&disk).unwrap();
        let file = disk.open(Path::new(FILE), OpenMode::ReadWrite).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at as u64).unwrap();
        file.write_all_at(&[byte[0] ^ 0x80], at as u64).unwrap();
        bounded(&format!("byte {at}"), bytes.len(), || {
            if ask(&*db) { whole += 1 } else { noticed += 1 }
        });
    }
    assert!(whole > 0 && noticed > 20, "{whole} whole, {noticed} noticed");
}
