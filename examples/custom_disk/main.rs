//! A disk of one's own: the real one, with what is written and synced counted by kind of file.
//!
//! ```text
//!   store ──► Vfs: open, rename, sync_dir, lock_dir ... ──► Counting ──► RealDisk
//!               └─► VfsFile: reads, writes, sync      ──► Counted  ──► its file
//!                                                           │
//!                                                           └──► per kind of file: bytes, syncs
//! ```
//!
//! What to copy: [`Counting`] and [`Counted`], which hand everything on: a disk that encrypts, throttles or
//! mirrors begins like this. Then, what a block costs the disk: one sync of the log makes it durable, and the rest
//! is written now and then.
//!
//! Run it with `cargo run --release -p hedgerow-examples --bin custom_disk`.

use hedgerow::disk::{DirLock, FileId, OpenMode, RealDisk, Sharing, Vfs, VfsError, VfsFile};
use hedgerow::{Options, Store, StoreParams};
use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// By kind of file: the folder of the store that it is in.
type Counts = Arc<Mutex<BTreeMap<String, Count>>>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    read: u64,
    written: u64,
    syncs: u64,
}

/// The disk.
#[derive(Debug)]
struct Counting {
    inner: RealDisk,
    /// The store's directory: what is counted is named by the part of its path below it.
    root: PathBuf,
    counts: Counts,
}

/// A file of it.
#[derive(Debug)]
struct Counted {
    inner: Arc<dyn VfsFile>,
    kind: String,
    counts: Counts,
}

fn count(counts: &Counts, kind: &str, add: impl FnOnce(&mut Count)) {
    let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
    add(counts.entry(kind.to_owned()).or_default());
}

impl Vfs for Counting {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn VfsFile>, VfsError> {
        let inner = self.inner.open(path, mode)?;
        let folder = path.strip_prefix(&self.root).unwrap_or(path).iter().next();
        let kind = folder.unwrap_or_default().to_string_lossy().into_owned();
        Ok(Arc::new(Counted { inner, kind, counts: Arc::clone(&self.counts) }))
    }

    fn sync_dir(&self, path: &Path) -> Result<(), VfsError> {
        count(&self.counts, "(names)", |it| it.syncs += 1);
        self.inner.sync_dir(path)
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

    fn lock_dir(&self, path: &Path) -> Result<DirLock, VfsError> {
        self.inner.lock_dir(path)
    }

    /// `None`: an engine that opens its files itself would go past us, so it is refused.
    fn real_path(&self, _path: &Path) -> Option<PathBuf> {
        None
    }

    // What follows has defaults, for disks that have nothing better. The one underneath has.

    fn hold_dir(&self, path: &Path, sharing: Sharing) -> Result<DirLock, VfsError> {
        self.inner.hold_dir(path, sharing)
    }

    fn absolute(&self, path: &Path) -> Result<PathBuf, VfsError> {
        self.inner.absolute(path)
    }

    fn file_id(&self, path: &Path) -> Result<Option<FileId>, VfsError> {
        self.inner.file_id(path)
    }

    fn open_limit(&self) -> Option<u64> {
        self.inner.open_limit()
    }
}

impl VfsFile for Counted {
    fn path(&self) -> &Path {
        self.inner.path()
    }

    fn id(&self) -> Result<Option<FileId>, VfsError> {
        self.inner.id()
    }

    fn read_at_most(&self, buf: &mut [u8], offset: u64) -> Result<usize, VfsError> {
        let bytes = self.inner.read_at_most(buf, offset)?;
        count(&self.counts, &self.kind, |it| it.read += bytes as u64);
        Ok(bytes)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> Result<(), VfsError> {
        count(&self.counts, &self.kind, |it| it.written += buf.len() as u64);
        self.inner.write_all_at(buf, offset)
    }

    fn len(&self) -> Result<u64, VfsError> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> Result<(), VfsError> {
        self.inner.set_len(len)
    }

    fn sync(&self) -> Result<(), VfsError> {
        count(&self.counts, &self.kind, |it| it.syncs += 1);
        self.inner.sync() // its error goes up as it is: nobody may try again and believe the answer
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().canonicalize()?.join("state");
    let counts = Counts::default();
    let disk = Counting { inner: RealDisk, root: path.clone(), counts: Arc::clone(&counts) };
    let log =
        || counts.lock().map_or(Count::default(), |it| it.get("log").copied().unwrap_or_default());
    let options = Options::new().disk(Arc::new(disk));
    let mut store = Store::create(&path, StoreParams::default(), options)?;

    println!("{:>8}{:>11}{:>12}{:>10}", "changes", "log_bytes", "log written", "log syncs");
    for (number, changes) in [1, 10, 100, 1000].into_iter().cycle().take(20).enumerate() {
        let before = log();
        let mut block = store.next_block()?;
        for key in 0..changes {
            block.put(format!("key {}", (number * 1000 + key * 7) % 5000), number.to_le_bytes())?;
        }
        let ticket = block.submit()?;
        ticket.durable()?;
        let (after, told) = (log(), ticket.receipt()?.log_bytes);
        let (written, syncs) = (after.written - before.written, after.syncs - before.syncs);
        assert!(written >= told, "the receipt says {told} bytes, {written} were written");
        // The first block begins a file, whose header is synced by itself.
        let expected = if number == 0 { 2 } else { 1 };
        assert_eq!(syncs, expected, "one sync makes a block durable");
        if !(4..16).contains(&number) {
            println!("{changes:>8}{told:>11}{written:>12}{syncs:>10}");
        }
    }
    let root = store.reader().root();
    store.close()?;

    println!("\n{:<12}{:>11}{:>11}{:>7}", "files", "read", "written", "syncs");
    let all = counts.lock().map_err(|_| "a thread panicked while it counted")?.clone();
    for (kind, Count { read, written, syncs }) in &all {
        println!("{kind:<12}{read:>11}{written:>11}{syncs:>7}");
    }
    for kind in ["log", "meta"] {
        assert!(all.get(kind).is_some_and(|it| it.written > 0 && it.syncs > 0), "{kind}: nothing");
    }
    // What it wrote is an ordinary store.
    let store = Store::open(&path, Options::default())?;
    assert_eq!(store.reader().root(), root);
    Ok(store.close()?)
}
