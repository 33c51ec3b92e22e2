//! Fjall, without a tree: a plain store, a log-structured merge tree as RocksDB's.
//!
//! ```text
//!   a block ─► sorted ─► one batch ─► journal, synced ─► memtable ─► sorted files, merged in the background
//! ```
//!
//! Set: no compression, a cache that holds everything, indexes and filters of all files in memory, a hash index in data blocks,
//! as many workers as there are cores. A memtable is of 64 MB, its default, and no more is recommended.

use crate::engine::{Answer, Asking, Change, Engine, Failure, OpenStore, Prover, Root, Sizing};
use ::fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode,
    config::{CompressionPolicy, HashRatioPolicy, PinningPolicy},
};
use std::path::Path;

const NAME: &str = "fjall";

/// The engine.
pub const ENGINE: Engine = Engine {
    name: NAME,
    package: NAME,
    durability: "synced: a block survives power loss, by one fdatasync of the journal",
    tuning: "a sorted batch per block; no compression; cache as large as the data; indexes and filters pinned; hash index \
        in data blocks",
    keeps: true,
    proofs: None,
    open,
};

/// Bytes of blocks by key, with room for what is older.
const BYTES_PER_KEY: u64 = 160;
const LEAST_CACHE: u64 = 64 << 20;

struct Fjall {
    keyspace: Keyspace,
    database: Database,
}

fn open(dir: &Path, sizing: Sizing) -> Result<Box<dyn OpenStore>, Failure> {
    let cache = sizing.keys.saturating_mul(BYTES_PER_KEY).saturating_add(LEAST_CACHE);
    let database = Database::builder(dir)
        .cache_size(cache)
        .journal_compression(CompressionType::None)
        .manual_journal_persist(true)
        .worker_threads(sizing.threads.get())
        .open()
        .map_err(failed)?;
    let options = || {
        KeyspaceCreateOptions::default()
            .data_block_compression_policy(CompressionPolicy::disabled())
            .index_block_compression_policy(CompressionPolicy::disabled())
            .data_block_hash_ratio_policy(HashRatioPolicy::all(1.33))
            .index_block_pinning_policy(PinningPolicy::all(true))
            .filter_block_pinning_policy(PinningPolicy::all(true))
            .manual_journal_persist(true)
    };
    let keyspace = database.keyspace("store", options).map_err(failed)?;
    Ok(Box::new(Fjall { keyspace, database }))
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::of(NAME)(&error)
}

impl OpenStore for Fjall {
    fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure> {
        let mut sorted = block.to_vec();
        sorted.sort_unstable_by_key(|change| change.key);
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for Change { key, value } in sorted {
            match value {
                Some(value) => batch.insert(&self.keyspace, key, value),
                None => batch.remove(&self.keyspace, key),
            }
        }
        batch.commit().map_err(failed)
    }

    fn root(&self) -> Result<Option<Root>, Failure> {
        Ok(None)
    }

    fn get(&self, key: &[u8]) -> Result<Answer, Failure> {
        let value = self.keyspace.get(key).map_err(failed)?;
        Ok(value.map(|value| value.to_vec()))
    }

    fn read_each(&self, asking: &mut dyn Asking) -> Result<(), Failure> {
        let mut key = vec![];
        while asking.next(&mut key) {
            let value = self.keyspace.get(&key).map_err(failed)?;
            asking.answer(value.as_deref())?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        self.database.persist(PersistMode::SyncAll).map_err(failed)
    }

    fn prover(&self) -> Option<&dyn Prover> {
        None
    }
}
