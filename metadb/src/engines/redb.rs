//! redb: a copy-on-write B-tree in one file, here a file of any [`Vfs`](hedgerow_vfs::Vfs).
//!
//! ```text
//!   table "manifest"   ()     ──► bytes        one row, or none before the first commit
//!   table "history"    height ──► bytes
//! ```
//!
//! Both tables are made with the database, so that a missing table is damage, not an empty store.
//! A commit is one redb transaction with `Durability::Immediate`.

use super::{Backend, Driver, Failure, Place};
use ::redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageBackend, TableDefinition,
};
use hedgerow_types::Height;
use hedgerow_vfs::{OpenMode, VfsError, VfsFile};
use std::{io, sync::Arc};

pub(crate) static DRIVER: Driver =
    Driver { name: "redb", file: "meta.redb", is_dir: false, needs_real_disk: false, create, open };

const MANIFEST: TableDefinition<'_, (), &[u8]> = TableDefinition::new("manifest");
const HISTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("history");

/// Bytes of redb's pages: its default, which is kept in the file.
const PAGE_BYTES: u64 = 4096;

/// Bytes of redb's page cache: a commit touches a handful of pages.
const CACHE_BYTES: usize = 1 << 20;

#[derive(Debug)]
struct Redb {
    db: Database,
}

fn create(place: &Place) -> Result<(), Failure> {
    let file = place.vfs.open(&place.path, OpenMode::CreateNew).map_err(Failure::of("creating"))?;
    let make = || -> Result<(), ::redb::Error> {
        let db = start(file)?;
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
    let db = start(file).map_err(Failure::of("opening"))?;
    Ok(Box::new(Redb { db }))
}

fn start(file: Arc<dyn VfsFile>) -> Result<Database, ::redb::DatabaseError> {
    Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(VfsBackend { file })
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
        history_from: Height,
    ) -> Result<(), Failure> {
        let commit = || -> Result<(), ::redb::Error> {
            let mut transaction = self.db.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            transaction.open_table(MANIFEST)?.insert((), manifest)?;
            let mut history = transaction.open_table(HISTORY)?;
            history.retain_in(..history_from.0, |_, _| false)?;
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

/// A file of a `Vfs` as redb wants it. The lock methods stay unsupported: the store's directory is
/// locked by whoever opens it.
#[derive(Debug)]
struct VfsBackend {
    file: Arc<dyn VfsFile>,
}

/// Keeps the text, which names the file, and the kind, which redb's callers may look at.
fn io_error(error: VfsError) -> io::Error {
    io::Error::new(error.io_error().kind(), error)
}

impl StorageBackend for VfsBackend {
    /// In whole pages. redb changes the length by whole pages and refuses any other, but a crash can
    /// leave one in between. What was committed lies below both lengths, so below the border too.
    fn len(&self) -> io::Result<u64> {
        let len = self.file.len().map_err(io_error)?;
        Ok(len - len % PAGE_BYTES)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset).map_err(io_error)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(io_error)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync().map_err(io_error)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset).map_err(io_error)
    }
}
