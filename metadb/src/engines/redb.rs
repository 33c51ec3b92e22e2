//! redb: a copy-on-write B-tree in one file, here a file of any [`Vfs`](hedgerow_vfs::Vfs).
//!
//! ```text
//!   table "manifest"   ()     ──► bytes        one row, or none before the first commit
//!   table "history"    height ──► bytes
//! ```
//!
//! Both tables are made with the database, so that a missing table is damage, not an empty store.
//! A commit is one redb transaction with `Durability::Immediate`.
//!
//! redb follows a page number before it looks at a checksum, and a damaged one makes it allocate up to
//! 4 GiB. So every opening goes through redb's repair, which verifies each page against the checksum
//! that the page above it has, from the top; and from then on what is read of the file must be what was
//! read or written there before ([`backend`](super::redb_file)).

use super::redb_file::{PAGE_BYTES, VfsBackend};
use super::{Backend, Driver, Failure, Place};
use ::redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition,
};
use hedgerow_types::Height;
use hedgerow_vfs::{OpenMode, VfsError, VfsFile};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, ops::RangeInclusive, sync::Arc};

pub(crate) static DRIVER: Driver =
    Driver { name: "redb", file: "meta.redb", is_dir: false, needs_real_disk: false, create, open };

const MANIFEST: TableDefinition<'_, (), &[u8]> = TableDefinition::new("manifest");
const HISTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");

/// Bytes of redb's page cache: a commit touches a handful of pages.
const CACHE_BYTES: usize = 1 << 20;

#[derive(Debug)]
struct Redb {
    db: Database,
}

fn create(place: &Place) -> Result<(), Failure> {
    let file = place.vfs.open(&place.path, OpenMode::CreateNew).map_err(Failure::of("creating"))?;
    let make = || -> Result<(), ::redb::Error> {
        let (db, _) = start(file)?;
        let mut transaction = db.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.open_table(MANIFEST)?;
        transaction.open_table(HISTORY)?;
        transaction.commit()?;
        Ok(())
    };
    make().map_err(Failure::of("creating"))
}

fn open(place: &Place) -> Result<Box<dyn Backend>, Failure> {
    let opened = || -> Result<_, VfsError> {
        let file = place.vfs.open(&place.path, OpenMode::ReadWrite)?;
        Ok((file.len()?, file))
    };
    let (len, file) = opened().map_err(Failure::of("opening"))?;
    if len < PAGE_BYTES {
        // redb would make a new database in an empty file.
        let text = format!("the file is {len} bytes long, less than a page");
        let reason = io::Error::new(io::ErrorKind::InvalidData, text);
        return Err(Failure::of("opening")(reason));
    }
    let (mut db, verified) = start(file).map_err(Failure::of("opening"))?;
    if !verified {
        // A redb that we do not know: it has opened the file all the same.
        db.check_integrity().map_err(Failure::of("opening"))?;
    }
    Ok(Box::new(Redb { db }))
}

/// Opens the database in a file. Says whether redb has verified every page on the way; it has, unless
/// the file is new.
fn start(file: Arc<dyn VfsFile>) -> Result<(Database, bool), ::redb::DatabaseError> {
    let (backend, opening) = VfsBackend::new(file);
    let verified = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&verified);
    let db = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .set_repair_callback(move |_| noted.store(true, Ordering::Relaxed))
        .create_with_backend(backend)?;
    opening.over();
    Ok((db, verified.load(Ordering::Relaxed)))
}

impl Redb {
    fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, ::redb::Error>,
    ) -> Result<T, Failure> {
        let transaction = self.db.begin_read().map_err(Failure::of("reading"))?;
        read(&transaction).map_err(Failure::of("reading"))
    }
}

impl Backend for Redb {
    fn manifest(&self) -> Result<Option<Vec<u8>>, Failure> {
        self.read(|transaction| {
            let value = transaction.open_table(MANIFEST)?.get(())?;
            Ok(value.map(|bytes| bytes.value().to_vec()))
        })
    }

    fn history(&self, height: Height) -> Result<Option<Vec<u8>>, Failure> {
        self.read(|transaction| {
            let value = transaction.open_table(HISTORY)?.get(height.0)?;
            Ok(value.map(|bytes| bytes.value().to_vec()))
        })
    }

    fn first_history(&self) -> Result<Option<Height>, Failure> {
        self.read(|transaction| {
            let table = transaction.open_table(HISTORY)?;
            let first = table.first()?;
            Ok(first.map(|(height, _)| Height(height.value())))
        })
    }

    fn commit(
        &self,
        manifest: &[u8],
        rows: &[(Height, Vec<u8>)],
        kept: &RangeInclusive<Height>,
    ) -> Result<(), Failure> {
        let commit = || -> Result<(), ::redb::Error> {
            let mut transaction = self.db.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            transaction.open_table(MANIFEST)?.insert((), manifest)?;
            let mut history = transaction.open_table(HISTORY)?;
            history.retain_in(..kept.start().0, |_, _| false)?;
            // After a rollback, and never else.
            let last = history.last()?.map(|(height, _)| height.value());
            if last.is_some_and(|last| last > kept.end().0) {
                history.retain_in(kept.end().next().0.., |_, _| false)?;
            }
            for (height, row) in rows {
                history.insert(height.0, row.as_slice())?;
            }
            drop(history);
            transaction.commit()?;
            Ok(())
        };
        commit().map_err(Failure::of("committing to"))
    }
}
