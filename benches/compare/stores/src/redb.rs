//! redb, without a tree: a plain store, a B-tree whose pages are copied when they change.
//!
//! ```text
//!   a block ─► sorted ─► one transaction: pages on the way to each key are written anew ─► synced with its commit
//! ```
//!
//! Sorted, neighbours find the pages that they share in the processor's caches. Set: a cache that holds everything, tables of
//! fixed sizes of key and value, one phase of commit, which is its default.

use crate::engine::{Answer, Asking, Change, Engine, Failure, OpenStore, Prover, Root, Sizing};
use ::redb::{Database, Durability, ReadOnlyTable, ReadableDatabase as _, TableDefinition};
use std::path::Path;

const NAME: &str = "redb";

/// The engine.
pub const ENGINE: Engine = Engine {
    name: NAME,
    package: NAME,
    durability: "synced: a block survives power loss, by the sync of its transaction",
    tuning: "a sorted transaction per block; cache as large as the data; keys and values of fixed sizes",
    keeps: true,
    proofs: None,
    open,
};

type Row = &'static [u8; 32];

const TABLE: TableDefinition<'_, Row, Row> = TableDefinition::new("table");
/// Bytes of pages by key: half-empty ones, and those that a transaction keeps until it ends.
const BYTES_PER_KEY: u64 = 300;
const LEAST_CACHE: u64 = 64 << 20;

struct Redb(Database);

fn open(dir: &Path, sizing: Sizing) -> Result<Box<dyn OpenStore>, Failure> {
    let cache = sizing.keys.saturating_mul(BYTES_PER_KEY).saturating_add(LEAST_CACHE);
    let cache = usize::try_from(cache).map_err(failed)?;
    let database = Database::builder().set_cache_size(cache).create(dir.join("store.redb"));
    let store = Redb(database.map_err(failed)?);
    // So that there is a table to read.
    store.change(&[])?;
    Ok(Box::new(store))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::of(NAME)(&error)
}

fn row(bytes: &[u8]) -> Result<&[u8; 32], Failure> {
    bytes.try_into().map_err(|_| failed("a key or value that is not of 32 bytes"))
}

impl Redb {
    fn change(&self, sorted: &[Change<'_>]) -> Result<(), Failure> {
        let mut transaction = self.0.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::Immediate).map_err(failed)?;
        let mut table = transaction.open_table(TABLE).map_err(failed)?;
        for Change { key, value } in sorted {
            match value {
                Some(value) => table.insert(row(key)?, row(value)?),
                None => table.remove(row(key)?),
            }
            .map_err(failed)?;
        }
        drop(table);
        transaction.commit().map_err(failed)
    }

    fn table(&self) -> Result<ReadOnlyTable<Row, Row>, Failure> {
        self.0.begin_read().map_err(failed)?.open_table(TABLE).map_err(failed)
    }
}

impl OpenStore for Redb {
    fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure> {
        let mut sorted = block.to_vec();
        sorted.sort_unstable_by_key(|change| change.key);
        self.change(&sorted)
    }

    fn root(&self) -> Result<Option<Root>, Failure> {
        Ok(None)
    }

    fn get(&self, key: &[u8]) -> Result<Answer, Failure> {
        let value = self.table()?.get(row(key)?).map_err(failed)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn read_each(&self, asking: &mut dyn Asking) -> Result<(), Failure> {
        let (table, mut key) = (self.table()?, vec![]);
        while asking.next(&mut key) {
            let value = table.get(row(&key)?).map_err(failed)?;
            asking.answer(value.as_ref().map(|value| &value.value()[..]))?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.0.close().map_err(failed)
    }

    fn prover(&self) -> Option<&dyn Prover> {
        None
    }
}
