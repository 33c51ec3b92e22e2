//! Rows that have left the database for files of their own: they are all there, at every moment, and
//! cost what they are.
#![cfg(feature = "redb")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{manifest, row};
use hedgerow_metadb::{Commit, Engine, MetaDb, MetaError, Renew, open, renew};
use hedgerow_types::Height;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use hedgerow_vfs::{MemDisk, OpenMode, Vfs, read_file, write_atomic};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Heights of a file, as docs/format.md has it.
const ROWS: u64 = 2048;
const EXTRA: usize = 5;
const ROW_LEN: u64 = 700 + EXTRA as u64;

fn open_on(vfs: &Arc<dyn Vfs>) -> Box<dyn MetaDb> {
    open(Engine::Redb, Arc::clone(vfs), Path::new("/"), true).unwrap()
}

/// Commits the rows of these heights at once.
fn commit(
    db: &dyn MetaDb,
    heights: std::ops::RangeInclusive<u64>,
    from: u64,
) -> Result<(), MetaError> {
    let mut manifest = manifest(*heights.end(), 2);
    manifest.history_from = Height(from);
    let rows: Vec<_> = heights.map(|height| (Height(height), row(height, EXTRA))).collect();
    db.commit(&Commit { manifest: &manifest, rows: &rows, history_from: manifest.history_from })
}

/// Commits all heights from `first` to `last`, so many at a time.
fn fill(db: &dyn MetaDb, first: u64, last: u64, step: u64, from: u64) {
    for begin in (first..=last).step_by(step as usize) {
        commit(db, begin..=(begin + step - 1).min(last), from).unwrap();
    }
}

#[track_caller]
fn assert_rows(db: &dyn MetaDb, heights: std::ops::RangeInclusive<u64>, step: usize) {
    for height in heights.step_by(step) {
        let found = db.history(Height(height)).unwrap();
        assert_eq!(found, Some(row(height, EXTRA)), "row {height}");
    }
}

fn names(vfs: &Arc<dyn Vfs>) -> Vec<String> {
    let names = vfs.read_dir(Path::new("/")).unwrap();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}

fn file(number: u64) -> PathBuf {
    PathBuf::from(format!("/history-{number:010}.rows"))
}

fn len(vfs: &Arc<dyn Vfs>, path: &Path) -> u64 {
    vfs.open(path, OpenMode::Read).unwrap().len().unwrap()
}

/// A row of an archive costs its bytes and eight; the database does not grow with the heights kept.
#[test]
fn an_archives_rows_cost_what_they_are() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let mut db = open_on(&vfs);
    let mut longest = [0; 2];
    let last = 16_000;
    for begin in (1..=last).step_by(64) {
        commit(&*db, begin..=(begin + 63).min(last), 0).unwrap();
        let half = usize::from(begin > last / 2);
        longest[half] = longest[half].max(len(&vfs, Path::new("/meta.redb")));
        if begin % 1_024 == 1 {
            assert_rows(&*db, 1..=begin, 131);
            drop(db);
            renew(Engine::Redb, &vfs, Path::new("/"), Renew::Always).unwrap();
            db = open_on(&vfs);
        }
    }
    assert!(longest[1] <= longest[0] && longest[1] <= 8 << 20, "{longest:?}");
    assert_rows(&*db, 1..=last, 1);
    assert_eq!(db.first_history().unwrap(), Some(Height(1)));
    for absent in [0, last + 1, last + ROWS, u64::MAX] {
        assert_eq!(db.history(Height(absent)).unwrap(), None);
    }
    let files = last / ROWS - 1;
    for number in 0..files {
        let rows = if number == 0 { ROWS - 1 } else { ROWS };
        assert_eq!(len(&vfs, &file(number)), 42 + 8 + rows * (8 + ROW_LEN));
    }
    assert_eq!(names(&vfs).len() as u64, files + 1);

    // They go when they are no longer kept, and what is kept of a file stays.
    commit(&*db, last + 1..=last + 1, 2 * ROWS - 5).unwrap();
    assert_eq!(db.first_history().unwrap(), Some(Height(2 * ROWS - 5)));
    assert_eq!(db.history(Height(2 * ROWS - 6)).unwrap(), None);
    assert_rows(&*db, 2 * ROWS - 5..=last + 1, 1);
    assert!(!vfs.exists(&file(0)).unwrap() && vfs.exists(&file(1)).unwrap());
    commit(&*db, last + 2..=last + 2, last).unwrap();
    assert_eq!(names(&vfs), ["meta.redb"]);
    assert_rows(&*db, last..=last + 2, 1);
}

/// A store that keeps 1,024 heights, or some more, never has such a file.
#[test]
fn few_heights_need_no_files() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let db = open_on(&vfs);
    for begin in (1..=9_000_u64).step_by(64) {
        let end = begin + 63;
        commit(&*db, begin..=end, end.saturating_sub(1_900)).unwrap();
        assert_eq!(names(&vfs), ["meta.redb"]);
    }
}

/// Whatever call fails while rows change their place, and whether the process dies or the power goes:
/// every row is there, and the next process goes on.
#[test]
fn rows_survive_whatever_fails_while_they_move() {
    let sealing = 2 * ROWS;
    let base = PowerLossDisk::new(1);
    let vfs: Arc<dyn Vfs> = Arc::new(base.clone());
    fill(&*open_on(&vfs), 1, sealing - 1, 512, 0);
    let run = |fault: Option<(u64, FaultKind)>, power: bool| {
        let disk = base.settled_copy(7);
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let db = open_on(&vfs);
        let before = disk.trace().changes;
        if let Some((after, kind)) = fault {
            disk.plan(Fault::once(Calls::Changes, after, kind));
        }
        let result = commit(&*db, sealing..=sealing, 0);
        let changes = disk.trace().changes - before;
        drop(db);
        let mut seed = fault.map_or(0, |(after, _)| after);
        let mut disk = if power { disk.power_cycle(seed) } else { disk.process_death() };
        // Twice: what the first process left must not be believed by the second.
        for round in 0..3 {
            let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
            renew(Engine::Redb, &vfs, Path::new("/"), Renew::Always).unwrap();
            let db = open_on(&vfs);
            let height = db.manifest().unwrap().unwrap().height.0;
            assert!(height >= sealing - u64::from(result.is_err()), "{fault:?}, round {round}");
            assert_rows(&*db, 1..=height, if round == 0 { 1 } else { 61 });
            fill(&*db, height + 1, height + 3, 1, 0);
            assert!(vfs.exists(&file(0)).unwrap());
            assert_rows(&*db, 1..=height + 3, 61);
            drop(db);
            seed += 1;
            disk = disk.power_cycle(seed);
        }
        (changes, result.is_ok())
    };
    let (changes, came_through) = run(None, false);
    assert!(came_through && changes > 8, "{changes}");
    for after in 0..changes {
        for kind in [FaultKind::Eio, FaultKind::Full, FaultKind::PowerOff] {
            for power in [false, true] {
                run(Some((after, kind)), power);
            }
        }
    }
}

/// No changed byte of a file gives a wrong row; a file that is gone gives none.
#[test]
fn damage_is_an_error() {
    let disk = MemDisk::new();
    let vfs: Arc<dyn Vfs> = Arc::new(disk);
    let db = open_on(&vfs);
    fill(&*db, 1, 2 * ROWS, 512, 0);
    let path = file(0);
    let bytes = read_file(&*vfs, &path, 1 << 30).unwrap();
    let index = 42..42 + 8 * ROWS as usize;
    let body = index.end..bytes.len();
    let places = (0..index.start).chain(index.clone().step_by(97)).chain(body.step_by(9_973));
    let mut noticed = 0;
    for at in places.chain([bytes.len() - 1]) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x41;
        write_atomic(&*vfs, &path, &damaged).unwrap();
        // The rows that lie there, or are found by what lies there; and others.
        let near = if index.contains(&at) {
            ((at - index.start) / 8) as u64
        } else {
            at.saturating_sub(index.end) as u64 / ROW_LEN
        };
        let mut errors = 0;
        for height in [near.max(1), near + 1, (near + 2).min(ROWS - 1), 1, ROWS - 1] {
            match db.history(Height(height)) {
                Ok(found) => assert_eq!(found, Some(row(height, EXTRA)), "byte {at}"),
                Err(error) => {
                    assert!(matches!(error, MetaError::History { .. }), "{error}");
                    assert!(error.to_string().contains("history-0000000000.rows"), "{error}");
                    errors += 1;
                }
            }
        }
        assert!(errors > 0, "byte {at}");
        noticed += 1;
    }
    assert!(noticed > 300, "{noticed}");
    for len in [0, 41, 50, 42 + 8 * ROWS as usize, bytes.len() - 1] {
        write_atomic(&*vfs, &path, &bytes[..len]).unwrap();
        let last = db.history(Height(ROWS - 1));
        assert!(matches!(last, Err(MetaError::History { .. })), "{len}: {last:?}");
    }
    // Another store's, and one under another's name.
    let other: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let theirs = open_on(&other);
    for begin in (1..=2 * ROWS).step_by(512) {
        let mut manifest = manifest(begin + 511, 2);
        (manifest.store_id, manifest.history_from) = ([8; 16], Height(0));
        let rows: Vec<_> = (begin..begin + 512).map(|at| (Height(at), row(at, EXTRA))).collect();
        let history_from = Height(0);
        theirs.commit(&Commit { manifest: &manifest, rows: &rows, history_from }).unwrap();
    }
    let foreign = read_file(&*other, &path, 1 << 30).unwrap();
    write_atomic(&*vfs, &path, &foreign).unwrap();
    assert!(matches!(db.history(Height(5)), Err(MetaError::History { .. })));
    vfs.remove_file(&path).unwrap();
    assert_eq!(db.history(Height(5)).unwrap(), None);
    assert_rows(&*db, ROWS..=2 * ROWS, 7);
}

/// Heights go back as far as rows are in the database: files never change.
#[test]
fn heights_go_back_to_where_the_files_end() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let db = open_on(&vfs);
    fill(&*db, 1, 2 * ROWS + 900, 64, 0);
    assert_eq!(names(&vfs).iter().filter(|name| name.ends_with(".rows")).count(), 1);
    assert_eq!(db.first_to_take_back().unwrap(), Some(Height(ROWS)));
    let back = |height: u64| {
        let mut manifest = manifest(height, 2);
        manifest.history_from = Height(0);
        db.commit(&Commit { manifest: &manifest, rows: &[], history_from: Height(0) })
    };
    assert!(matches!(back(ROWS - 1), Err(MetaError::InvalidCommit(_))));
    assert_rows(&*db, 1..=2 * ROWS + 900, 101);
    back(ROWS).unwrap();
    assert_rows(&*db, 1..=ROWS, 1);
    assert_eq!(db.history(Height(ROWS + 1)).unwrap(), None);
    // And the same heights again, into the next file.
    fill(&*db, ROWS + 1, 3 * ROWS + 10, 64, 0);
    assert_rows(&*db, 1..=3 * ROWS + 10, 37);
    assert_eq!(db.first_to_take_back().unwrap(), Some(Height(2 * ROWS)));
}
