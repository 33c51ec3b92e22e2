//! What every engine must do, run on every engine that was compiled in.
//!
//! Each test goes through [`Engine::available`], on a real disk and, for engines that can, on the
//! disk in memory.

#![expect(clippy::unwrap_used, reason = "a panic is the failure report")]

mod common;

use common::{assert_state, commit, manifest, row};
use hedgerow_metadb::{
    Commit, Engine, HistoryRow, MAX_EDGES, MAX_EXTRA_LEN, Manifest, MetaDb, MetaError, Renew,
    exists, open, renew,
};
use hedgerow_types::{Height, LogPosition};
use hedgerow_vfs::{MemDisk, OpenMode, RealDisk, Vfs};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// An engine on a disk, in a directory of its own.
struct Case {
    engine: Engine,
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    _guard: Option<tempfile::TempDir>,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for &engine in Engine::available() {
        let guard = tempfile::tempdir().unwrap();
        let dir = guard.path().to_owned();
        cases.push(Case { engine, vfs: Arc::new(RealDisk), dir, _guard: Some(guard) });
        if engine.name() == "redb" {
            let vfs = Arc::new(MemDisk::new());
            cases.push(Case { engine, vfs, dir: PathBuf::from("/"), _guard: None });
        }
    }
    assert!(!cases.is_empty(), "no engine was compiled in");
    cases
}

impl Case {
    fn open(&self, create: bool) -> Result<Box<dyn MetaDb>, MetaError> {
        open(self.engine, Arc::clone(&self.vfs), &self.dir, create)
    }

    fn create(&self) -> Box<dyn MetaDb> {
        self.open(true).unwrap()
    }

    fn reopen(&self, db: Box<dyn MetaDb>) -> Box<dyn MetaDb> {
        drop(db);
        self.open(false).unwrap()
    }
}

#[test]
fn nothing_is_created_unless_asked_for() {
    for case in cases() {
        assert!(!exists(case.engine, &*case.vfs, &case.dir).unwrap());
        assert!(matches!(case.open(false), Err(MetaError::Missing { .. })));
        assert!(case.vfs.read_dir(&case.dir).unwrap().is_empty());
        let nowhere = case.dir.join("none");
        let missing = open(case.engine, Arc::clone(&case.vfs), &nowhere, false);
        assert!(matches!(missing, Err(MetaError::Missing { .. })));

        let db = case.create();
        assert_eq!(db.engine(), case.engine.name());
        assert_eq!(db.manifest().unwrap(), None);
        assert_eq!(db.first_history().unwrap(), None);
        assert_eq!(db.history(Height(1)).unwrap(), None);
        let db = case.reopen(db);
        assert_eq!(db.manifest().unwrap(), None);
        assert!(exists(case.engine, &*case.vfs, &case.dir).unwrap());
        assert_eq!(case.vfs.read_dir(&case.dir).unwrap().len(), 1, "a temporary name stayed");
    }
}

#[test]
fn creating_what_exists_opens_it() {
    for case in cases() {
        let db = case.create();
        commit(&*db, 1, 1).unwrap();
        drop(db);
        assert_state(&*case.create(), 1, 1);
    }
}

#[test]
fn a_half_made_database_is_made_anew() {
    for case in cases() {
        // What a crash while creating leaves: something under the temporary name.
        drop(case.create());
        let name = case.vfs.read_dir(&case.dir).unwrap().remove(0);
        let mut temp = name.clone();
        temp.push(".new");
        case.vfs.rename(&case.dir.join(&name), &case.dir.join(&temp)).unwrap();
        assert!(matches!(case.open(false), Err(MetaError::Missing { .. })));
        assert_eq!(case.vfs.read_dir(&case.dir).unwrap(), [temp]);
        let db = case.create();
        commit(&*db, 1, 1).unwrap();
        assert_eq!(case.vfs.read_dir(&case.dir).unwrap(), [name]);
    }
}

#[test]
fn commits_survive_reopening() {
    for case in cases() {
        let mut db = case.create();
        for height in 1..=40 {
            commit(&*db, height, 1).unwrap();
            assert_state(&*db, height, 1);
            if height % 3 == 0 {
                db = case.reopen(db);
                assert_state(&*db, height, 1);
            }
        }
    }
}

#[test]
fn pruning_removes_exactly_the_rows_below() {
    for case in cases() {
        let mut db = case.create();
        for height in 1..=60u64 {
            let from = height.saturating_sub(9).max(1);
            commit(&*db, height, from).unwrap();
            assert_state(&*db, height, from);
        }
        db = case.reopen(db);
        assert_state(&*db, 60, 51);
        // Many at once; a lower bound brings nothing back and removes nothing.
        commit(&*db, 61, 60).unwrap();
        assert_state(&*db, 61, 60);
        commit(&*db, 62, 1).unwrap();
        assert_state(&*db, 62, 60);
        // Everything, the row of the same commit included.
        commit(&*db, 63, 64).unwrap();
        assert_eq!(db.first_history().unwrap(), None);
        assert_eq!(db.history(Height(63)).unwrap(), None);
        assert_eq!(db.manifest().unwrap(), Some(manifest(63, 2)));
        commit(&*db, 64, 64).unwrap();
        assert_state(&*case.reopen(db), 64, 64);
    }
}

/// A manifest of a lower height than the one before: rows above it are gone, and may come again.
#[test]
fn heights_go_back() {
    for case in cases() {
        let db = case.create();
        for height in 1..=30 {
            commit(&*db, height, 5).unwrap();
        }
        for back in [30, 29, 12, 5] {
            let manifest = manifest(back, 2);
            let history_from = Height(5);
            db.commit(&Commit { manifest: &manifest, rows: &[], history_from }).unwrap();
            assert_state(&*db, back, 5);
        }
        for height in 6..=9 {
            commit(&*db, height, 5).unwrap();
        }
        assert_state(&*db, 9, 5);
        assert_state(&*case.reopen(db), 9, 5);
    }
}

#[test]
fn several_heights_in_one_commit() {
    for case in cases() {
        let db = case.create();
        let rows: Vec<_> = (1..=500).map(|height| (Height(height), row(height, 5))).collect();
        let manifest = manifest(500, 2);
        let all = Commit { manifest: &manifest, rows: &rows, history_from: Height(11) };
        db.commit(&all).unwrap();
        assert_state(&*db, 500, 11);
        assert_state(&*case.reopen(db), 500, 11);
    }
}

#[test]
fn the_largest_rows_and_manifests_fit() {
    for case in cases() {
        let mut db = case.create();
        let largest = manifest(6, MAX_EDGES);
        let sizes = [MAX_EXTRA_LEN, 0, MAX_EXTRA_LEN - 1, 300_000, MAX_EXTRA_LEN, 48 << 10];
        let rows: Vec<_> = (1u64..)
            .zip(sizes)
            .map(|(height, extra)| (Height(height), row(height, extra)))
            .collect();
        db.commit(&Commit { manifest: &largest, rows: &rows, history_from: Height(1) }).unwrap();
        for _ in 0..2 {
            assert_eq!(db.manifest().unwrap().as_ref(), Some(&largest));
            for (height, row) in &rows {
                assert_eq!(db.history(*height).unwrap().as_ref(), Some(row));
            }
            db = case.reopen(db);
        }
        // A row replaced by a shorter one leaves nothing of the longer one behind.
        let rows = [(Height(5), row(5, 10))];
        db.commit(&Commit { manifest: &largest, rows: &rows, history_from: Height(1) }).unwrap();
        assert_eq!(db.history(Height(5)).unwrap().as_ref(), Some(&rows[0].1));
        let blobs = case.dir.join("meta.sled/blobs");
        if case.vfs.exists(&blobs).unwrap() {
            assert!(case.vfs.read_dir(&blobs).unwrap().is_empty(), "sled does not sync these");
        }
    }
}

#[test]
fn an_invalid_commit_changes_nothing_and_poisons_nothing() {
    for case in cases() {
        let db = case.create();
        commit(&*db, 1, 1).unwrap();
        let valid = manifest(2, 2);
        let mut spoilt = valid.clone();
        spoilt.log_start = LogPosition(spoilt.log_end.0 + 1);
        let too_long = row(2, MAX_EXTRA_LEN + 1);
        let attempts: [(&Manifest, Vec<(Height, HistoryRow)>); 5] = [
            (&spoilt, vec![]),
            (&valid, vec![(Height(2), too_long)]),
            (&valid, vec![(Height(3), row(3, 0))]),
            (&valid, vec![(Height(2), row(2, 0)), (Height(1), row(1, 0))]),
            (&valid, vec![(Height(2), row(2, 0)), (Height(2), row(2, 0))]),
        ];
        for (manifest, rows) in attempts {
            let error = db.commit(&Commit { manifest, rows: &rows, history_from: Height(1) });
            assert!(matches!(error, Err(MetaError::InvalidCommit(_))), "{error:?}");
            assert_state(&*db, 1, 1);
        }
        commit(&*db, 2, 1).unwrap();
        assert_state(&*case.reopen(db), 2, 1);
    }
}

#[test]
fn readers_beside_commits_see_before_or_after() {
    const HEIGHTS: u64 = 60;
    for case in cases() {
        let db = case.create();
        commit(&*db, 1, 1).unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut last = 0;
                    let mut reads = 0;
                    while !done.load(Ordering::Acquire) || reads == 0 {
                        let seen = db.manifest().unwrap().unwrap();
                        assert_eq!(seen, manifest(seen.height.0, 2));
                        assert!(seen.height.0 >= last);
                        last = seen.height.0;
                        // What a manifest says is there, is, unless it was pruned meanwhile.
                        match db.history(seen.height).unwrap() {
                            Some(found) => assert_eq!(found, row(last, 5)),
                            None => assert!(db.first_history().unwrap() > Some(seen.height)),
                        }
                        reads += 1;
                    }
                });
            }
            for height in 2..=HEIGHTS {
                commit(&*db, height, height.saturating_sub(1)).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        assert_state(&*db, HEIGHTS, HEIGHTS - 1);
    }
}

#[test]
fn two_databases_of_one_directory_are_refused() {
    for case in cases() {
        drop(case.create());
        for &other in Engine::available().iter().filter(|&&other| other != case.engine) {
            let error = open(other, Arc::clone(&case.vfs), &case.dir, true).unwrap_err();
            let MetaError::OtherEngine { engine, found, .. } = error else {
                panic!("{error}");
            };
            assert_eq!((engine, found), (other.name(), case.engine.name()));
        }
        assert_eq!(case.vfs.read_dir(&case.dir).unwrap().len(), 1);
    }
    // Also by an engine whose database this build could not read.
    let foreign = ["meta.redb", "meta.rocksdb", "meta.sled"];
    for &engine in Engine::available() {
        for name in foreign.iter().filter(|name| !name.ends_with(engine.name())) {
            let vfs = MemDisk::new();
            vfs.open(&Path::new("/").join(name), OpenMode::CreateNew).unwrap();
            let error = open(engine, Arc::new(vfs), Path::new("/"), true).unwrap_err();
            assert!(matches!(error, MetaError::OtherEngine { .. }), "{error}");
        }
    }
}

#[test]
fn engines_that_open_files_themselves_say_so() {
    for &engine in Engine::available().iter().filter(|engine| engine.name() != "redb") {
        let vfs = MemDisk::new();
        let error = open(engine, Arc::new(vfs.clone()), Path::new("/"), true).unwrap_err();
        assert!(matches!(error, MetaError::NeedsRealDisk { .. }), "{error}");
        assert!(vfs.read_dir(Path::new("/")).unwrap().is_empty());
    }
}

#[test]
fn engines_have_names() {
    for &engine in Engine::available() {
        assert_eq!(engine.to_string().parse::<Engine>().unwrap(), engine);
    }
    let error = "oracle".parse::<Engine>().unwrap_err();
    assert!(error.to_string().starts_with("\"oracle\" is not a database engine"), "{error}");
}

/// A database that is written once more holds what it held, and nothing of it is left beside it.
#[test]
fn a_renewed_database_holds_what_it_held() {
    for case in cases() {
        let db = case.create();
        for height in 1..=600 {
            commit(&*db, height, 1.max(height / 2)).unwrap();
        }
        drop(db);
        let names = case.vfs.read_dir(&case.dir).unwrap();
        for _ in 0..2 {
            renew(case.engine, &case.vfs, &case.dir, Renew::Always).unwrap();
            assert_eq!(case.vfs.read_dir(&case.dir).unwrap(), names);
            assert_state(&*case.open(false).unwrap(), 600, 300);
        }
    }
}

/// Where an engine keeps a directory, a renewal can be cut short between two renames.
#[test]
fn a_renewal_that_was_cut_short_is_ended() {
    for case in cases() {
        let db = case.create();
        commit(&*db, 1, 1).unwrap();
        drop(db);
        let name = case.vfs.read_dir(&case.dir).unwrap().remove(0);
        let mut aside = name.clone();
        aside.push(".old");
        if case.engine.name() == "redb" {
            continue; // one rename
        }
        let (name, aside) = (case.dir.join(name), case.dir.join(aside));
        case.vfs.rename(&name, &aside).unwrap();
        assert!(exists(case.engine, &*case.vfs, &case.dir).unwrap());
        assert!(!case.vfs.exists(&aside).unwrap());
        case.vfs.create_dir_all(&aside).unwrap();
        assert_state(&*case.open(false).unwrap(), 1, 1);
        assert!(!case.vfs.exists(&aside).unwrap());
    }
}

/// A database whose rows went does not stay as large as it was.
#[test]
fn a_bloated_database_shrinks() {
    for case in cases() {
        if case.engine.name() != "redb" {
            continue; // the others see to it themselves
        }
        let size = || {
            let path = case.dir.join(case.vfs.read_dir(&case.dir).unwrap().remove(0));
            case.vfs.open(&path, OpenMode::Read).unwrap().len().unwrap()
        };
        let db = case.create();
        for height in 1..=21 {
            let rows = [(Height(height), row(height, MAX_EXTRA_LEN))];
            let (manifest, history_from) = (&manifest(height, 2), Height(0));
            db.commit(&Commit { manifest, rows: &rows, history_from }).unwrap();
        }
        drop(db);
        let before = size();
        renew(case.engine, &case.vfs, &case.dir, Renew::IfBloated).unwrap();
        assert_eq!(size(), before, "all of it is needed");
        let db = case.open(false).unwrap();
        // redb lets go of what is free at the end of its file. There the row is that stays.
        commit(&*db, 22, 21).unwrap();
        drop(db);
        assert!(size() > 16 << 20, "{}", size());
        renew(case.engine, &case.vfs, &case.dir, Renew::IfBloated).unwrap();
        // The largest row, twice over and in pages; redb makes room in steps that double.
        assert!(size() < before / 4, "{} of {before}", size());
        let db = case.open(false).unwrap();
        assert_eq!(db.manifest().unwrap(), Some(manifest(22, 2)));
        let large = row(21, MAX_EXTRA_LEN);
        let rows = [20, 21, 22].map(|height| db.history(Height(height)).unwrap());
        assert_eq!(rows, [None, Some(large), Some(row(22, 5))]);
    }
}
