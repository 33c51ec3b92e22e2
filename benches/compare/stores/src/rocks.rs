//! RocksDB, without a tree: a plain store, set up to be fast at just this.
//!
//! ```text
//!   a block ─► sorted ─► one WriteBatch ─► write-ahead log, synced ─► write buffer ─► sorted files, merged in the background
//! ```
//!
//! Sorted, a batch finds its neighbours of the write buffer in the processor's caches: `rocksdb-unsorted` shows what that is
//! worth. What waits in write buffers and for merging when a phase ends is not in its CPU: with few keys, that is most of
//! what RocksDB has to do. Set: Bloom filters of 10 bits a key, no
//! compression, a block cache that holds everything, a hash index in data blocks, write buffers of 128 MB, as many background
//! threads as there are cores.

use crate::engine::{Answer, Asking, Change, Engine, Failure, OpenStore, Prover, Root, Sizing};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DataBlockIndexType, LogLevel, Options,
    WriteBatch, WriteOptions,
};
use std::path::Path;

const NAME: &str = "rocksdb";

/// The engine.
pub const ENGINE: Engine = Engine {
    name: NAME,
    package: NAME,
    durability: "synced: a block survives power loss, by one sync of the write-ahead log",
    tuning: "a sorted WriteBatch per block; Bloom filters of 10 bits a key; no compression; block cache as large as the \
        data; hash index in data blocks; write buffers of 128 MB",
    keeps: true,
    proofs: None,
    open: |dir, sizing| open(dir, sizing, true),
};

/// Blocks as they come.
pub const UNSORTED: Engine = Engine {
    name: "rocksdb-unsorted",
    tuning: "as `rocksdb`, but blocks are not sorted",
    open: |dir, sizing| open(dir, sizing, false),
    ..ENGINE
};

struct Rocks {
    db: DB,
    write: WriteOptions,
    sorts: bool,
}

/// Bytes of a key and its value in blocks, with what is between them and room for what is older.
const BYTES_PER_KEY: u64 = 160;
const WRITE_BUFFER_BYTES: usize = 128 << 20;

fn open(dir: &Path, sizing: Sizing, sorts: bool) -> Result<Box<dyn OpenStore>, Failure> {
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(true);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_data_block_hash_ratio(0.75);
    table.set_format_version(6);
    let cache = sizing.keys.saturating_mul(BYTES_PER_KEY).saturating_add(32 << 20);
    let cache = usize::try_from(cache).map_err(|error| failed(&error))?;
    // The size of a block, so that its table has as many places as there can be.
    table.set_block_cache(&Cache::new_hyper_clock_cache(cache, 4 << 10));
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::None);
    let threads = i32::try_from(sizing.threads.get()).map_err(|error| failed(&error))?;
    options.increase_parallelism(threads.max(2));
    options.set_max_subcompactions(threads.unsigned_abs());
    options.set_max_open_files(-1);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_target_file_size_base(WRITE_BUFFER_BYTES as u64);
    options.set_max_bytes_for_level_base(4 * WRITE_BUFFER_BYTES as u64);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(1);
    let db = DB::open(&options, dir).map_err(|error| failed(&error))?;
    let mut write = WriteOptions::default();
    write.set_sync(true);
    Ok(Box::new(Rocks { db, write, sorts }))
}

fn failed(error: &dyn std::fmt::Display) -> Failure {
    Failure::of(NAME)(error)
}

impl OpenStore for Rocks {
    fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure> {
        let mut sorted = block.to_vec();
        if self.sorts {
            sorted.sort_unstable_by_key(|change| change.key);
        }
        let mut batch = WriteBatch::default();
        for Change { key, value } in sorted {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        self.db.write_opt(batch, &self.write).map_err(|error| failed(&error))
    }

    fn root(&self) -> Result<Option<Root>, Failure> {
        Ok(None)
    }

    fn get(&self, key: &[u8]) -> Result<Answer, Failure> {
        self.db.get(key).map_err(|error| failed(&error))
    }

    fn read_each(&self, asking: &mut dyn Asking) -> Result<(), Failure> {
        let mut key = vec![];
        while asking.next(&mut key) {
            let value = self.db.get_pinned(&key).map_err(|error| failed(&error))?;
            asking.answer(value.as_deref())?;
        }
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        // Else the log is read when it opens.
        self.db.flush().map_err(|error| failed(&error))
    }

    fn prover(&self) -> Option<&dyn Prover> {
        None
    }
}
