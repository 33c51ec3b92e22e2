//! RocksDB: a log-structured merge tree in a directory.
//!
//! ```text
//!   "m"                         ──► manifest
//!   "h" + height, big-endian    ──► row          so that rows are in order of height
//! ```
//!
//! A commit is one write batch, synced with the write-ahead log. The log may end in a torn batch
//! after a crash, which is that of a commit that never returned; damage anywhere else is an error
//! at open (RocksDB's default would silently drop what follows it).

use super::{Backend, Driver, Failure, Place};
use ::rocksdb::{
    DB, DBRecoveryMode, Error, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};
use hedgerow_types::Height;
use std::{
    fmt,
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
};

pub(crate) static DRIVER: Driver = Driver {
    name: "rocksdb",
    file: "meta.rocksdb",
    is_dir: true,
    needs_real_disk: true,
    create,
    open,
};

const MANIFEST_KEY: &[u8] = b"m";
const ROW_PREFIX: u8 = b'h';
/// The first key after all rows.
const ROWS_END: &[u8] = b"i";

/// Bytes of the write buffer; 64 MiB is the default, for databases of another size.
const WRITE_BUFFER_BYTES: usize = 4 << 20;
/// Bytes after which the text log is rotated; one old one is kept.
const TEXT_LOG_BYTES: usize = 1 << 20;

struct RocksDb {
    db: DB,
    /// No row is below this height. Looking for the first row begins here, past the tombstones of
    /// those that were removed, which would otherwise be walked again at each commit.
    none_below: AtomicU64,
}

impl fmt::Debug for RocksDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocksDb").field("path", &self.db.path()).finish_non_exhaustive()
    }
}

fn options(create: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.set_error_if_exists(create);
    options.set_paranoid_checks(true);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(TEXT_LOG_BYTES);
    options.set_keep_log_file_num(2);
    options
}

fn create(place: &Place) -> Result<(), Failure> {
    DB::open(&options(true), &place.real).map(drop).map_err(Failure::of("creating"))
}

fn open(place: &Place) -> Result<Box<dyn Backend>, Failure> {
    let db = DB::open(&options(false), &place.real).map_err(Failure::of("opening"))?;
    Ok(Box::new(RocksDb { db, none_below: AtomicU64::new(0) }))
}

fn row_key(height: Height) -> [u8; 9] {
    let mut key = [ROW_PREFIX; 9];
    key[1..].copy_from_slice(&height.0.to_be_bytes());
    key
}

fn height_of(row_key: &[u8]) -> Option<Height> {
    let (&ROW_PREFIX, height) = row_key.split_first()? else { return None };
    Some(Height(u64::from_be_bytes(height.try_into().ok()?)))
}

impl RocksDb {
    /// Calls `visit` with the heights that have a row, from `from` on and below `end`, in order, until it says stop.
    fn rows(
        &self,
        from: Height,
        end: &[u8],
        mut visit: impl FnMut(Height) -> bool,
    ) -> Result<(), Error> {
        let mut read = ReadOptions::default();
        read.set_iterate_upper_bound(end);
        let mut rows = self.db.raw_iterator_opt(read);
        rows.seek(row_key(from));
        while let Some(height) = rows.key().and_then(height_of) {
            if !visit(height) {
                break;
            }
            rows.next();
        }
        // An iterator that meets an error looks as if it were at its end.
        rows.status()
    }
}

impl Backend for RocksDb {
    fn manifest(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.db.get(MANIFEST_KEY).map_err(Failure::of("reading"))
    }

    fn history(&self, height: Height) -> Result<Option<Vec<u8>>, Failure> {
        self.db.get(row_key(height)).map_err(Failure::of("reading"))
    }

    fn first_history(&self) -> Result<Option<Height>, Failure> {
        let mut first = None;
        let from = Height(self.none_below.load(Ordering::Acquire));
        let found = self.rows(from, ROWS_END, |height| {
            first = Some(height);
            false
        });
        found.map(|()| first).map_err(Failure::of("reading"))
    }

    fn commit(
        &self,
        manifest: &[u8],
        rows: &[(Height, Vec<u8>)],
        kept: &RangeInclusive<Height>,
    ) -> Result<(), Failure> {
        let mut batch = WriteBatch::default();
        batch.put(MANIFEST_KEY, manifest);
        for (height, row) in rows {
            batch.put(row_key(*height), row);
        }
        let from = Height(self.none_below.load(Ordering::Acquire));
        for (from, end) in [(from, &row_key(*kept.start())[..]), (kept.end().next(), ROWS_END)] {
            let removed = self.rows(from, end, |height| {
                batch.delete(row_key(height));
                true
            });
            removed.map_err(Failure::of("reading"))?;
        }

        let mut write = WriteOptions::default();
        write.set_sync(true);
        self.db.write_opt(batch, &write).map_err(Failure::of("committing to"))?;
        // Whatever was below is gone, and `rows` are not below.
        self.none_below.store(kept.start().0, Ordering::Release);
        Ok(())
    }
}
