//! What is done about files that other hands change under an open log, and about too few of them.

#![allow(clippy::unwrap_used, reason = "a panic is the failure report")]

mod common;

use common::{Model, disk_only, files, hooked, mem, shape};
use hedgerow_entryfile::{
    Damage, EntryLog, LogError, SegmentSize, StoreId, TwigFile, TwigFileOptions,
};
use hedgerow_types::{LogPosition, SHARDS, TwigId};
use hedgerow_vfs::{
    DirLock, FileId, HookedDisk, MemDisk, OpenMode, RealDisk, Vfs, VfsCall, VfsError, VfsFile,
    VfsOp, read_file,
};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A log of `blocks` records in segments of about 1000 bytes.
fn filled(vfs: &Arc<dyn Vfs>, dir: &Path, id: StoreId, blocks: usize) -> (EntryLog, Model) {
    let log = EntryLog::create(Arc::clone(vfs), dir, id, disk_only(1000)).unwrap();
    let mut model = Model::default();
    for block in 0..blocks {
        model.commit(&log, &[shape(block % 16, 200), shape(3, 350)]);
    }
    (log, model)
}

fn put(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) {
    if vfs.exists(path).unwrap() {
        vfs.remove_file(path).unwrap();
    }
    let file = vfs.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

/// Both logs have the same entries at the same positions; only the header tells one's files from the
/// other's.
#[test]
fn another_stores_segment_never_answers() {
    let (vfs, dir) = mem();
    let other = dir.with_file_name("other");
    let (log, model) = filled(&vfs, &dir, common::ID, 12);
    drop(filled(&vfs, &other, StoreId([9; 16]), 12));
    let log = EntryLog::open(
        Arc::clone(&vfs),
        &dir,
        common::ID,
        disk_only(1000),
        LogPosition(0),
        log.end(),
    )
    .unwrap();
    for (path, _) in files(&*vfs, &dir) {
        let bytes = read_file(&*vfs, &other.join(path.file_name().unwrap()), 1 << 20).unwrap();
        put(&*vfs, &path, &bytes);
    }
    for entry in &model.entries {
        let error = log.read(entry.at).map(drop).unwrap_err();
        let foreign = matches!(error, LogError::Corrupt { what: Damage::StoreId, .. });
        assert!(foreign, "at {}: {error}", entry.at);
    }
    let scanned = log.scan(LogPosition(0), log.end()).last().unwrap();
    assert!(scanned.is_err());
}

/// The same for a file under another one's name, and for one that is not even a header long.
#[test]
fn a_segment_under_anothers_name_never_answers() {
    let (vfs, dir) = mem();
    let (log, model) = filled(&vfs, &dir, common::ID, 12);
    let found = files(&*vfs, &dir);
    let (first, second) = (&found[0].0, &found[1].0);
    put(&*vfs, second, &read_file(&*vfs, first, 1 << 20).unwrap());
    put(&*vfs, first, &[0; 63]);
    for entry in model.entries.iter().take(4) {
        let error = log.read(entry.at).map(drop).unwrap_err();
        let noticed = matches!(
            error,
            LogError::Short { .. } | LogError::Corrupt { what: Damage::Place { .. }, .. }
        );
        assert!(noticed, "at {}: {error}", entry.at);
    }
}

/// C6: what could not be removed is removed by the next call, without reopening.
#[test]
fn a_failed_removal_is_tried_again_by_the_next() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(Arc::clone(&inner));
    let (log, model) = filled(&vfs, &dir, common::ID, 20);
    let fail = |fail| control.fail_removals.store(fail, Ordering::SeqCst);
    let all = files(&*inner, &dir);
    let upto = model.entries[20].at;
    let start = log.prunable(upto).unwrap();
    let below = all.iter().filter(|(path, _)| name(path) < name_of(start)).count();
    assert!(below > 2);
    fail(true);
    for _ in 0..3 {
        assert!(matches!(log.prune_head(upto), Err(LogError::Io { .. })));
        assert_eq!(files(&*inner, &dir).len(), all.len());
    }
    fail(false);
    let freed = log.prune_head(upto).unwrap();
    assert_eq!(freed, start.0, "all that lies below the start");
    assert_eq!(files(&*inner, &dir).len(), all.len() - below);
    assert_eq!(log.prune_head(upto).unwrap(), 0);
    // Also by one that takes more away.
    fail(true);
    let last = log.prunable(log.end()).unwrap();
    assert!(log.prune_head(model.entries[26].at).is_err());
    fail(false);
    assert_eq!(log.prune_head(log.end()).unwrap(), last.0 - start.0);
    assert_eq!(files(&*inner, &dir).len(), 1);
}

/// One file that cannot go does not keep the others.
#[test]
fn a_file_that_cannot_be_removed_does_not_keep_the_others() {
    let (inner, dir) = mem();
    let stuck = dir.join(format!("{:016x}.log", 0));
    let (path, failing) = (stuck.clone(), Arc::new(AtomicUsize::new(1)));
    let count = Arc::clone(&failing);
    let hook = move |call: &VfsCall<'_>| {
        let fails =
            call.op == VfsOp::RemoveFile && call.path == path && count.load(Ordering::SeqCst) > 0;
        if fails { Err(call.error(io::Error::other("stuck"))) } else { Ok(()) }
    };
    let vfs: Arc<dyn Vfs> = Arc::new(HookedDisk::new(Arc::clone(&inner), Arc::new(hook)));
    let (log, _) = filled(&vfs, &dir, common::ID, 20);
    assert!(log.prune_head(log.end()).is_err());
    assert_eq!(files(&*inner, &dir).len(), 2);
    failing.store(0, Ordering::SeqCst);
    let freed = log.prune_head(LogPosition(0)).unwrap();
    assert_eq!(freed, log.start().0, "what went before is counted too");
    assert_eq!(files(&*inner, &dir).len(), 1);
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn name_of(base: LogPosition) -> String {
    format!("{:016x}.log", base.0)
}

#[test]
fn twig_segments_that_could_not_be_removed_are_tried_again() {
    let (inner, dir) = mem();
    let (vfs, control) = hooked(Arc::clone(&inner));
    let options = TwigFileOptions {
        segment_size: SegmentSize::fixed(64),
        cache_bytes: 0,
        mapped_bytes: 1 << 30,
    };
    let file = TwigFile::create(Arc::clone(&vfs), &dir, common::ID, options).unwrap();
    let records: Vec<_> = (0..5).map(|twig| common::twig_record(0, twig)).collect();
    for record in &records {
        file.append(std::slice::from_ref(record)).unwrap();
    }
    let mut first_kept = [TwigId(0); SHARDS];
    first_kept[0] = TwigId(4);
    let before = files(&*inner, &dir).len();
    control.fail_removals.store(true, Ordering::SeqCst);
    assert!(file.prune(&first_kept).is_err());
    assert_eq!(files(&*inner, &dir).len(), before);
    control.fail_removals.store(false, Ordering::SeqCst);
    assert!(file.prune(&first_kept).unwrap() > 0);
    assert_eq!(files(&*inner, &dir).len(), before - 4);
}

/// A disk on which only so many files can be open, as a process has it.
#[derive(Clone, Debug)]
struct Limited {
    inner: Arc<dyn Vfs>,
    files: Arc<Mutex<Counted>>,
    limit: usize,
    told: Option<u64>,
}

#[derive(Debug, Default)]
struct Counted {
    open: usize,
    most: usize,
}

#[derive(Debug)]
struct LimitedFile {
    inner: Arc<dyn VfsFile>,
    files: Arc<Mutex<Counted>>,
}

impl Drop for LimitedFile {
    fn drop(&mut self) {
        self.files.lock().open -= 1;
    }
}

impl Limited {
    fn new(limit: usize, told: Option<u64>) -> Self {
        let inner = MemDisk::new();
        inner.create_dir_all(Path::new("store")).unwrap();
        Self { inner: Arc::new(inner), files: Arc::default(), limit, told }
    }
}

impl Vfs for Limited {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        let mut files = self.files.lock();
        if files.open >= self.limit {
            // EMFILE
            let reason = io::Error::from_raw_os_error(24);
            return Err(VfsError::new(VfsOp::Open, path, None, reason));
        }
        let inner = self.inner.open(path, mode)?;
        files.open += 1;
        files.most = files.most.max(files.open);
        Ok(Arc::new(LimitedFile { inner, files: Arc::clone(&self.files) }))
    }

    fn open_limit(&self) -> Option<u64> {
        self.told
    }

    fn create_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        self.inner.create_dir_all(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<OsString>, VfsError> {
        self.inner.read_dir(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, VfsError> {
        self.inner.exists(path)
    }

    fn remove_file(&self, path: &Path) -> Result<(), VfsError> {
        self.inner.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> Result<(), VfsError> {
        self.inner.remove_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), VfsError> {
        self.inner.rename(from, to)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        self.inner.sync_dir(path)
    }

    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        self.inner.lock_dir(path)
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        self.inner.real_path(path)
    }

    fn file_id(&self, path: &Path) -> Result<Option<FileId>, VfsError> {
        self.inner.file_id(path)
    }
}

impl VfsFile for LimitedFile {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn id(&self) -> Result<Option<FileId>, VfsError> {
        self.inner.id()
    }

    fn read_at_most(&self, buf: &mut [u8], offset: u64) -> Result<usize, VfsError> {
        self.inner.read_at_most(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), VfsError> {
        self.inner.write_all_at(buf, offset)
    }

    fn len(&self) -> Result<u64, VfsError> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<(), VfsError> {
        self.inner.set_len(len)
    }

    fn sync(&self) -> Result<(), VfsError> {
        self.inner.sync()
    }
}

const DIR: &str = "store/log";

/// However many segments there are, reading and writing them needs few open files: a share of what
/// the process may have, and what is left if others have taken the rest.
#[cfg(unix)]
#[test]
fn open_files_are_bounded_by_the_limit() {
    for (limit, told, most) in [(64, Some(64), 20), (12, None, 12), (12, Some(4096), 12)] {
        let disk = Limited::new(limit, told);
        let files = Arc::clone(&disk.files);
        let vfs: Arc<dyn Vfs> = Arc::new(disk);
        let (log, model) = filled(&vfs, Path::new(DIR), common::ID, 150);
        for _ in 0..2 {
            model.check(&log);
        }
        assert!(files.lock().most <= most, "{} files at {limit}", files.lock().most);
        // What is never synced, as a twig file between two prunings, keeps no file for each segment.
        let options = TwigFileOptions {
            segment_size: SegmentSize::fixed(64),
            cache_bytes: 0,
            mapped_bytes: 1 << 30,
        };
        let dir = Path::new("store/twigs");
        let twigs = TwigFile::create(Arc::clone(&vfs), dir, common::ID, options).unwrap();
        for twig in 0..100 {
            twigs.append(&[common::twig_record(1, twig)]).unwrap();
        }
        // As many segments in one call.
        let records: Vec<_> = (100..200).map(|twig| common::twig_record(1, twig)).collect();
        twigs.append(&records).unwrap();
        twigs.sync().unwrap();
        let most = 2 * most.min(limit / 2);
        assert!(files.lock().most <= most.max(12), "{} files at {limit}", files.lock().most);
        drop((log, twigs));
        assert_eq!(files.lock().open, 0);
    }
}

/// A segment that is removed while a reader opens it does not stay open: its bytes would stay on
/// the disk as long.
#[test]
fn a_removed_segment_is_not_kept_open_by_a_late_reader() {
    let disk = Limited::new(1000, None);
    let counted = Arc::clone(&disk.files);
    let log: Arc<Mutex<Option<Arc<EntryLog>>>> = Arc::default();
    let pruned_by = Arc::clone(&log);
    let hook = move |call: &VfsCall<'_>| {
        // The header of a segment is read when it was opened: that is the moment.
        if call.op == VfsOp::Read
            && call.offset == Some(0)
            && let Some(log) = pruned_by.lock().take()
        {
            log.prune_head(log.end()).unwrap();
        }
        Ok(())
    };
    let vfs: Arc<dyn Vfs> = Arc::new(HookedDisk::new(Arc::new(disk), Arc::new(hook)));
    let (opened, model) = filled(&vfs, Path::new(DIR), common::ID, 20);
    opened.sync().unwrap();
    let opened = Arc::new(opened);
    *log.lock() = Some(Arc::clone(&opened));
    let before = counted.lock().open;
    let _ = opened.read(model.entries[0].at);
    assert!(log.lock().is_none(), "it was pruned meanwhile");
    assert!(opened.start().0 > 0);
    assert_eq!(counted.lock().open, before, "the reader's file is closed");
}

/// What the directory holds is not what was opened: nothing is removed there, and nothing made.
#[test]
fn a_directory_that_took_the_logs_place_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, away) = (temp.path().join("log"), temp.path().join("away"));
    let vfs: Arc<dyn Vfs> = Arc::new(RealDisk);
    let (log, mut model) = filled(&vfs, &dir, common::ID, 20);
    vfs.rename(&dir, &away).unwrap();
    drop(filled(&vfs, &dir, StoreId([9; 16]), 20));
    let others = files(&*vfs, &dir);
    if vfs.file_id(&dir).unwrap().is_none() {
        eprintln!("SKIPPED: this system cannot tell directories apart");
        return;
    }
    let error = log.prune_head(log.end()).unwrap_err();
    assert!(matches!(error, LogError::Moved(_)), "{error}");
    let error = loop {
        let record = model.announce(&log, &[shape(3, 350)]);
        if let Err(error) = log.append(&record) {
            break error;
        }
    };
    assert!(matches!(error, LogError::Moved(_)), "{error}");
    assert_eq!(files(&*vfs, &dir), others);
}

/// What `check` asks: whether the names on the disk still lead to what was written.
#[test]
fn files_that_went_under_the_open_log_are_found() {
    type Harm = fn(&dyn Vfs, &Path, &[u8]);
    let harms: [(&str, Harm); 5] = [
        ("removed", |vfs, path, _| vfs.remove_file(path).unwrap()),
        ("cut", |vfs, path, bytes| {
            vfs.open(path, OpenMode::ReadWrite).unwrap().set_len(bytes.len() as u64 - 8).unwrap();
        }),
        ("emptied", |vfs, path, _| {
            vfs.open(path, OpenMode::ReadWrite).unwrap().set_len(0).unwrap();
        }),
        ("another store's", |vfs, path, bytes| {
            let mut bytes = bytes.to_vec();
            bytes[20] ^= 1;
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
            put(vfs, path, &bytes);
        }),
        ("one byte", |vfs, path, bytes| {
            let mut bytes = bytes.to_vec();
            let at = bytes.len() - 30;
            bytes[at] ^= 1;
            put(vfs, path, &bytes);
        }),
    ];
    let temp = tempfile::tempdir().unwrap();
    let disks: [(Arc<dyn Vfs>, PathBuf); 2] =
        [(Arc::new(RealDisk), temp.path().to_owned()), (Arc::new(MemDisk::new()), "/".into())];
    for (vfs, root) in disks {
        for (number, (what, harm)) in harms.iter().enumerate() {
            // With all of it in memory as well, and with nothing.
            for in_memory in [false, true] {
                let mut options = disk_only(1000);
                options.tail_bytes = if in_memory { 1 << 20 } else { 0 };
                let dir = root.join(format!("{number}-{in_memory}"));
                let log = EntryLog::create(Arc::clone(&vfs), &dir, common::ID, options).unwrap();
                let mut model = Model::default();
                for block in 0..12 {
                    model.commit(&log, &[shape(block % 16, 200), shape(3, 350)]);
                }
                model.check(&log);
                log.check_files().unwrap();
                for (path, _) in files(&*vfs, &dir) {
                    let bytes = read_file(&*vfs, &path, 1 << 20).unwrap();
                    harm(&*vfs, &path, &bytes);
                    let scan =
                        || log.scan(LogPosition(0), log.end()).collect::<Result<Vec<_>, _>>();
                    let found = log.check_files().and_then(|()| scan().map(drop));
                    assert!(found.is_err(), "{what}, in memory: {in_memory}: {}", path.display());
                    put(&*vfs, &path, &bytes);
                }
                // The last one is written to by a handle that no name leads to.
                assert!(log.check_files().is_err());
            }
        }
    }
}

/// The twig file is derived data, but a store that goes on writing into a file without a name has
/// none when it opens again.
#[test]
fn twig_files_that_went_are_found() {
    let (vfs, dir) = mem();
    let options = TwigFileOptions {
        segment_size: SegmentSize::fixed(64),
        cache_bytes: 0,
        mapped_bytes: 1 << 30,
    };
    let file = TwigFile::create(Arc::clone(&vfs), &dir, common::ID, options).unwrap();
    for twig in 0..3 {
        file.append(&[common::twig_record(0, twig)]).unwrap();
    }
    file.check_files().unwrap();
    for (path, _) in files(&*vfs, &dir) {
        let bytes = read_file(&*vfs, &path, 1 << 20).unwrap();
        vfs.remove_file(&path).unwrap();
        assert!(file.check_files().is_err());
        put(&*vfs, &path, &bytes);
    }
}

/// A copy of the log has the same headers; it went another way since.
#[test]
fn a_diverged_copy_never_answers() {
    let temp = tempfile::tempdir().unwrap();
    let disks: [(Arc<dyn Vfs>, PathBuf); 2] =
        [(Arc::new(RealDisk), temp.path().to_owned()), (Arc::new(MemDisk::new()), "/".into())];
    for (vfs, root) in disks {
        let (dir, other) = (root.join("log"), root.join("other"));
        let (log, model) = filled(&vfs, &dir, common::ID, 12);
        drop(filled(&vfs, &other, common::ID, 12));
        let end = log.end();
        let options = disk_only(1000);
        let log = EntryLog::open(Arc::clone(&vfs), &dir, common::ID, options, LogPosition(0), end);
        let log = log.unwrap();
        if log_knows_files(&*vfs, &dir) {
            // Each file by the copy's.
            for (path, _) in files(&*vfs, &dir) {
                vfs.rename(&other.join(path.file_name().unwrap()), &path).unwrap();
            }
            for entry in &model.entries {
                let error = log.read(entry.at).map(drop).unwrap_err();
                assert!(matches!(error, LogError::Moved(_)), "at {}: {error}", entry.at);
            }
            assert!(log.check_files().is_err());
        } else {
            eprintln!("SKIPPED: this system cannot tell files apart");
        }
    }
}

fn log_knows_files(vfs: &dyn Vfs, dir: &Path) -> bool {
    files(vfs, dir).iter().all(|(path, _)| vfs.file_id(path).unwrap().is_some())
}
