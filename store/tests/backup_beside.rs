//! Backups of a store that somebody else has open and goes on writing to: each is the state of its height,
//! whatever is pruned meanwhile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::written::{Written, busy, create};
use common::{dir, disk, on};
use hedgerow::disk::{RealDisk, Vfs, VfsOp};
use hedgerow::{BackupOptions, BackupReport, Error, Height, Options, ReadOnlyStore, Store};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::{Hook, HookedDisk, VfsCall};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Segments that are pruned while a backup is made: more than a file or two that may be held open.
const OLDEST: usize = 4;

/// A writer whose blocks prune.
struct Writer {
    store: Option<Store>,
    written: Written,
    rng: SplitMix64,
    disk: Arc<dyn Vfs>,
    path: PathBuf,
}

impl Writer {
    fn new(disk: &Arc<dyn Vfs>, path: &Path, seed: u64) -> Self {
        println!("seed {seed}");
        let store = Some(create(path, busy(on(disk))));
        let (rng, written) = (SplitMix64::new(seed), Written::default());
        let (disk, path) = (Arc::clone(disk), path.to_owned());
        let mut writer = Self { store, written, rng, disk, path };
        while writer.store().stats().pruned_bytes == 0 {
            writer.block();
        }
        writer
    }

    fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    fn block(&mut self) {
        let height = self.written.block(self.store.as_mut().unwrap(), &mut self.rng);
        assert!(height < Height(5_000), "nothing is pruned");
    }

    /// Ends in peace and begins anew.
    fn open_again(&mut self) {
        self.store.take().unwrap().close().unwrap();
        self.store = Some(Store::open(&self.path, busy(on(&self.disk))).unwrap());
    }

    fn segments(&self) -> Vec<OsString> {
        self.disk.read_dir(&self.path.join("log")).unwrap()
    }

    /// Blocks until the oldest segments are gone that are there now.
    fn until_pruned(&mut self) {
        let before = self.segments();
        while self.segments().iter().any(|name| before[..OLDEST].contains(name)) {
            self.block();
        }
    }

    /// The copy is what was written, as far as it goes.
    fn check(&self, copy: &Path, report: &BackupReport) {
        let mut copy = Store::open(copy, on(&self.disk).keep_all()).unwrap();
        self.written.check(&copy.reader(), report.height, report.history_from);
        assert_eq!(copy.check().unwrap().root, report.root);
        copy.close().unwrap();
    }
}

fn look(disk: &Arc<dyn Vfs>, path: &Path) -> ReadOnlyStore {
    Store::open_read_only(path, on(disk)).unwrap()
}

/// A disk for who makes the backup, which calls this before each call.
fn with(inner: &Arc<dyn Vfs>, each: impl Fn(&VfsCall<'_>) + Send + Sync + 'static) -> Arc<dyn Vfs> {
    let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
        each(call);
        Ok(())
    });
    Arc::new(HookedDisk::new(Arc::clone(inner), hook))
}

#[test]
fn backups_made_beside_a_writer_are_the_state_of_their_height() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let real: Arc<dyn Vfs> = Arc::new(RealDisk);
    let path = temp.path().join("store");
    let mut writer = Writer::new(&real, &path, 31);
    let done = Arc::new(AtomicBool::new(false));
    let copies: Vec<PathBuf> =
        (0..8).map(|number| temp.path().join(format!("{number}/copy"))).collect();
    let (targets, finished, from) = (copies.clone(), Arc::clone(&done), path.clone());
    let copier = thread::spawn(move || {
        let how =
            |number: usize| BackupOptions::new().check(number.is_multiple_of(2)).link(number != 3);
        // One view, that goes on, and those that come for one backup.
        let mut long = look(&real, &from);
        let reports: Result<Vec<_>, Error> = targets
            .iter()
            .enumerate()
            .map(|(number, target)| match number % 3 {
                0 => long.backup(target, how(number)),
                1 => long.refresh().and_then(|_| long.backup(target, how(number))),
                _ => look(&real, &from).backup(target, how(number)),
            })
            .collect();
        finished.store(true, Ordering::SeqCst);
        reports
    });
    let mut blocks = 0;
    while !done.load(Ordering::SeqCst) || blocks < 40 {
        writer.block();
        blocks += 1;
        if blocks % 50 == 0 {
            writer.open_again();
        }
    }
    let reports = copier.join().unwrap().unwrap();
    assert!(reports.iter().any(|report| report.linked_files > 1), "{reports:?}");
    assert_eq!(reports[3].linked_files, 0);
    assert!(reports[0].height < reports[7].height);
    for (number, (report, path)) in reports.iter().zip(&copies).enumerate() {
        assert_eq!(report.checked.is_some(), number.is_multiple_of(2));
        writer.check(path, report);
        // And a backup is restored as any other.
        let new = path.with_file_name("new");
        let how = BackupOptions::new().check(false);
        let restored = Store::restore(path, &new, Options::new(), how).unwrap();
        assert!(restored.height == report.height && restored.root == report.root);
        writer.check(&new, &restored);
    }
    writer.store().check().unwrap();
}

/// What a backup does when `at` comes for the first time, or every time, a writer that prunes what was there.
fn pruned_at(
    inner: &Arc<dyn Vfs>,
    writer: &Arc<Mutex<Writer>>,
    times: u64,
    at: impl Fn(&VfsCall<'_>) -> bool + Send + Sync + 'static,
) -> (Arc<dyn Vfs>, Arc<AtomicU64>) {
    let (writer, pruned) = (Arc::clone(writer), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&pruned);
    let disk = with(inner, move |call| {
        if at(call) && counted.load(Ordering::SeqCst) < times {
            counted.fetch_add(1, Ordering::SeqCst);
            writer.lock().until_pruned();
        }
    });
    (disk, pruned)
}

/// Between the view and the first link, the oldest files of the log lose their names.
#[test]
fn what_is_pruned_between_view_and_link_is_held() {
    let _limit = Limit::new();
    let inner = disk();
    let writer = Arc::new(Mutex::new(Writer::new(&inner, &dir(), 32)));
    let first = |call: &VfsCall<'_>| call.op == VfsOp::HardLink;
    let (hooked, pruned) = pruned_at(&inner, &writer, 1, first);
    let mut beside = look(&hooked, &dir());
    let shown = beside.reader().root();
    let report = beside.backup("/copy", BackupOptions::new()).unwrap();
    assert_eq!(pruned.load(Ordering::SeqCst), 1);
    assert_eq!((report.height, report.root), shown);
    assert_eq!(beside.height(), report.height);
    assert!(report.copied_bytes > 3 * (64 << 10) && report.linked_files > 0, "{report:?}");
    writer.lock().check(Path::new("/copy"), &report);
}

/// The same where next to no file can be held open: what was shown is gone, the newest height is not.
#[test]
fn what_is_pruned_and_was_not_held_leads_to_a_newer_height() {
    let _limit = Limit::new();
    let inner = disk();
    let writer = Arc::new(Mutex::new(Writer::new(&inner, &dir(), 33)));
    let few: Arc<dyn Vfs> = Arc::new(HookedDisk::with_open_limit(Arc::clone(&inner), 4));
    let begins =
        |call: &VfsCall<'_>| call.op == VfsOp::CreateDirAll && call.path == Path::new("/copy/log");
    for (target, times) in [(1, 1), (2, 7)] {
        let (hooked, pruned) = pruned_at(&few, &writer, times, begins);
        let mut beside = look(&hooked, &dir());
        let shown = beside.height();
        let report = beside.backup("/copy", BackupOptions::new()).unwrap();
        assert_eq!(pruned.load(Ordering::SeqCst), times);
        assert!(report.height > shown, "{report:?}, and {shown} was shown");
        assert_eq!(beside.reader().root(), (report.height, report.root));
        writer.lock().check(Path::new("/copy"), &report);
        inner.rename(Path::new("/copy"), &PathBuf::from(format!("/{target}"))).unwrap();
    }
    // Each time it begins: an error that says why, and nothing is left.
    let (hooked, pruned) = pruned_at(&few, &writer, u64::MAX, begins);
    let error = look(&hooked, &dir()).backup("/copy", BackupOptions::new()).unwrap_err();
    let Error::Unsteady { attempts, source, .. } = &error else { panic!("{error}") };
    assert_eq!(u64::from(*attempts), pruned.load(Ordering::SeqCst));
    assert!(matches!(**source, Error::Pruned { .. }), "{error}");
    assert!(error.to_string().contains("was pruned"), "{error}");
    assert!(matches!(Store::open("/copy", on(&inner)), Err(Error::NoStore(_))));
}

/// A segment that is gone for good is damage, however often it is looked for.
#[test]
fn a_segment_that_is_lost_is_no_pruning() {
    let _limit = Limit::new();
    let inner = disk();
    let mut writer = Writer::new(&inner, &dir(), 34);
    writer.store().flush().unwrap();
    let few: Arc<dyn Vfs> = Arc::new(HookedDisk::with_open_limit(Arc::clone(&inner), 4));
    let mut beside = look(&few, &dir());
    let segments = writer.segments();
    let lost = dir().join("log").join(&segments[segments.len() / 2]);
    inner.remove_file(&lost).unwrap();
    let error = beside.backup("/copy", BackupOptions::new()).unwrap_err();
    assert!(!matches!(error, Error::Unsteady { .. }), "{error}");
    assert!(matches!(error, Error::Log(_)), "{error}");
    assert!(matches!(Store::open("/copy", on(&inner)), Err(Error::NoStore(_))));
}

/// Where files get no second names, all is copied, pruned while it is or not.
#[test]
fn links_that_cannot_be_are_copies_of_what_is_held() {
    let _limit = Limit::new();
    let inner = disk();
    let writer = Arc::new(Mutex::new(Writer::new(&inner, &dir(), 35)));
    let no_links: Arc<dyn Vfs> = Arc::new(HookedDisk::new(
        Arc::clone(&inner),
        Arc::new(|call| {
            let refused = call.op == VfsOp::HardLink;
            if refused { Err(call.error(io::ErrorKind::CrossesDevices.into())) } else { Ok(()) }
        }),
    ));
    let copies = |call: &VfsCall<'_>| {
        call.op == VfsOp::Create && call.path.parent() == Some(Path::new("/copy/log"))
    };
    let (hooked, pruned) = pruned_at(&no_links, &writer, 1, copies);
    let mut beside = look(&hooked, &dir());
    let shown = beside.reader().root();
    let report = beside.backup("/copy", BackupOptions::new()).unwrap();
    assert_eq!(pruned.load(Ordering::SeqCst), 1);
    assert_eq!((report.height, report.root), shown);
    assert_eq!((report.linked_files, report.linked_bytes), (0, 0));
    writer.lock().check(Path::new("/copy"), &report);
}

/// What the writer writes to later is not shared, and what is shared nobody changes.
#[test]
fn no_shared_file_is_written_to_afterwards() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let real: Arc<dyn Vfs> = Arc::new(RealDisk);
    let (path, target) = (temp.path().join("store"), temp.path().join("copy"));
    let mut writer = Writer::new(&real, &path, 36);
    let how = BackupOptions::new().check(false);
    let report = look(&real, &path).backup(&target, how).unwrap();
    assert!(report.linked_files > 1, "{report:?}");
    let log = target.join("log");
    let bytes = || -> Vec<Vec<u8>> {
        let names = real.read_dir(&log).unwrap();
        names.iter().map(|name| std::fs::read(log.join(name)).unwrap()).collect()
    };
    let before = bytes();
    for _ in 0..4 {
        (0..5).for_each(|_| writer.block());
        writer.open_again();
        // As after an unclean end.
        writer.store = None;
        std::fs::remove_file(path.join("CLOSED")).unwrap();
        writer.store = Some(Store::open(&path, busy(Options::new())).unwrap());
        assert!(before == bytes(), "a file of the copy changed");
    }
    writer.until_pruned();
    assert!(before == bytes(), "a file of the copy changed");
    writer.check(&target, &report);
}

#[test]
fn a_target_that_is_the_store_itself_is_refused() {
    let _limit = Limit::new();
    let inner = disk();
    let mut writer = Writer::new(&inner, &dir(), 37);
    let mut beside = look(&inner, &dir());
    let refused = |result: Result<BackupReport, Error>| match result {
        Err(Error::InUse { .. } | Error::NotEmpty(_)) => {}
        other => panic!("{other:?}"),
    };
    refused(beside.backup(dir(), BackupOptions::new()));
    refused(beside.backup("/", BackupOptions::new()));
    refused(beside.backup(dir().join("log"), BackupOptions::new()));
    writer.block();
    writer.store().check().unwrap();
}
