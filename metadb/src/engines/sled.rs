//! sled 0.34: a log-structured B-tree in a directory. It is there for compatibility only: its stable
//! version has not changed since 2021, and some of what it depends on has no maintainer any more.
//!
//! ```text
//!   "m" + piece              ──► manifest, always one piece
//!   "h" + height + piece     ──► row, in pieces of 48 KiB        (numbers are big-endian)
//! ```
//!
//! A commit is one batch and a flush, and then what sled leaves out:
//!
//! * `flush` ends in `sync_file_range`, which writes pages out but makes neither the file's length
//!   nor the disk's own cache durable. We sync sled's file ourselves before a commit returns.
//! * Values, and tree nodes of up to 17 values, that exceed a quarter of a segment go to files of
//!   their own, which sled never syncs. Rows are cut in pieces and the segments chosen such that
//!   this does not happen: 17 x 48 KiB < 4 MiB / 4.

use super::{Backend, Driver, Failure, Place};
use ::sled::{Batch, Config, Db, Error};
use hedgerow_types::Height;
use hedgerow_vfs::{OpenMode, Vfs, VfsFile};
use parking_lot::RwLock;
use std::{fmt, fs::File, io, ops::RangeInclusive, path::Path, sync::Arc};

pub(crate) static DRIVER: Driver =
    Driver { name: "sled", file: "meta.sled", is_dir: true, needs_real_disk: true, create, open };

/// The file that holds all but the largest values, within sled's directory.
const FILE: &str = "db";
const CACHE_BYTES: u64 = 1 << 20;
const SEGMENT_BYTES: usize = 4 << 20;
const PIECE_BYTES: usize = 48 << 10;
const _: () = assert!(17 * PIECE_BYTES < SEGMENT_BYTES / 4 - 4096);
const _: () = assert!(crate::Manifest::MAX_LEN <= PIECE_BYTES);

const MANIFEST_KEY: &[u8] = b"m";
const ROW_PREFIX: u8 = b'h';
const ROW_KEY_LEN: usize = 1 + size_of::<u64>();

struct Sled {
    db: Db,
    /// Held by whoever reads, and exclusively while a batch goes in: sled makes a batch atomic for
    /// crashes and for single reads, not for scans.
    batch: RwLock<()>,
    file: Arc<dyn VfsFile>,
}

impl fmt::Debug for Sled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sled").field("file", &self.file).finish_non_exhaustive()
    }
}

fn start(path: &Path) -> Result<Db, Error> {
    Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .segment_size(SEGMENT_BYTES)
        .flush_every_ms(None)
        .open()
}

fn create(place: &Place) -> Result<(), Failure> {
    let db = start(&place.real).map_err(Failure::of("creating"))?;
    db.flush().map_err(Failure::of("creating"))?;
    drop(db);
    sync_names(&*place.vfs, &place.path)
}

/// Makes the files that sled has made durable, content and names.
fn sync_names(vfs: &dyn Vfs, dir: &Path) -> Result<(), Failure> {
    let sync = || {
        for file in [FILE, "conf"] {
            vfs.open(&dir.join(file), OpenMode::ReadWrite)?.sync()?;
        }
        vfs.sync_dir(dir)
    };
    sync().map_err(Failure::of("creating"))
}

fn open(place: &Place) -> Result<Box<dyn Backend>, Failure> {
    // Opened first: sled would make what is missing.
    let file = place.vfs.open(&place.path.join(FILE), OpenMode::ReadWrite);
    let file = file.map_err(Failure::of("opening"))?;
    wait_for_lock(&place.real).map_err(Failure::of("opening"))?;
    let db = start(&place.real).map_err(Failure::of("opening"))?;
    Ok(Box::new(Sled { db, batch: RwLock::new(()), file }))
}

/// Waits until nobody has sled's file locked. The threads of a database that was dropped can hold it
/// a little longer, and sled gives up at once if it finds it locked. Nobody else can hold it: the
/// store's own lock comes first.
fn wait_for_lock(dir: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(dir.join(FILE))?;
    file.lock()?;
    file.unlock()
}

fn row_key(height: Height) -> [u8; ROW_KEY_LEN] {
    let mut key = [ROW_PREFIX; ROW_KEY_LEN];
    key[1..].copy_from_slice(&height.0.to_be_bytes());
    key
}

fn piece_key(key: &[u8], piece: usize) -> Vec<u8> {
    // A row has at most 1 MiB and some: 22 pieces.
    [key, &(piece as u16).to_be_bytes()].concat()
}

impl Sled {
    /// The pieces of a value joined.
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        let mut value = None;
        for piece in self.db.scan_prefix(key) {
            let (_, bytes) = piece.map_err(Failure::of("reading"))?;
            value.get_or_insert_with(Vec::new).extend_from_slice(&bytes);
        }
        Ok(value)
    }

    /// Adds to `batch` what replaces the value of `key`.
    fn put(&self, batch: &mut Batch, key: &[u8], value: &[u8]) -> Result<(), Error> {
        for old in self.db.scan_prefix(key).keys() {
            batch.remove(old?);
        }
        for (i, piece) in value.chunks(PIECE_BYTES).enumerate() {
            batch.insert(piece_key(key, i), piece);
        }
        Ok(())
    }

    fn fill(
        &self,
        batch: &mut Batch,
        manifest: &[u8],
        rows: &[(Height, Vec<u8>)],
        kept: &RangeInclusive<Height>,
    ) -> Result<(), Error> {
        self.put(batch, MANIFEST_KEY, manifest)?;
        for (height, row) in rows {
            self.put(batch, &row_key(*height), row)?;
        }
        let (below, above) = (row_key(*kept.start()), row_key(kept.end().next()));
        let old = self.db.range(row_key(Height(0))..below).keys();
        for gone in old.chain(self.db.range(above..=row_key(Height(u64::MAX))).keys()) {
            batch.remove(gone?);
        }
        Ok(())
    }
}

impl Backend for Sled {
    fn manifest(&self) -> Result<Option<Vec<u8>>, Failure> {
        let _reading = self.batch.read();
        self.value(MANIFEST_KEY)
    }

    fn history(&self, height: Height) -> Result<Option<Vec<u8>>, Failure> {
        let _reading = self.batch.read();
        self.value(&row_key(height))
    }

    fn first_history(&self) -> Result<Option<Height>, Failure> {
        let _reading = self.batch.read();
        let first = self.db.scan_prefix([ROW_PREFIX]).keys().next().transpose();
        let first = first.map_err(Failure::of("reading"))?;
        Ok(first.and_then(|key| {
            let height = key.get(1..ROW_KEY_LEN)?;
            Some(Height(u64::from_be_bytes(height.try_into().ok()?)))
        }))
    }

    fn commit(
        &self,
        manifest: &[u8],
        rows: &[(Height, Vec<u8>)],
        kept: &RangeInclusive<Height>,
    ) -> Result<(), Failure> {
        let mut batch = Batch::default();
        self.fill(&mut batch, manifest, rows, kept).map_err(Failure::of("reading"))?;
        {
            let _writing = self.batch.write();
            self.db.apply_batch(batch).map_err(Failure::of("committing to"))?;
        }
        self.db.flush().map_err(Failure::of("committing to"))?;
        self.file.sync().map_err(Failure::of("committing to"))
    }
}
