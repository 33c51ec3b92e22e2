//! Coins in RocksDB, set up to be fast at just this.
//!
//! ```text
//!   36 bytes of a coin's name ─► its stored form         one byte 0 ─► height of the last epoch, u32
//!   get_many   sorted, in parts on all threads, each a MultiGet
//!   write      one epoch, by one of the ways of Way
//! ```
//!
//! Set: a Bloom filter of 10 bits a key (what is asked for is there mostly, but not in each file), indexes and filters of all
//! files in memory, a hash index in data blocks, and as many background threads as there are cores. What else there is to
//! choose is in [`Tuning`].
//!
//! # Durability
//!
//! An epoch is on the disk, synced, when [`Below::write`] returns, in each [`Way`]; after power loss all of it is there or nothing. RocksDB's
//! own checksums are on.

use crate::coins_cache::{Below, Change, Key, Value};
use crate::engine::Failure;
use hedgerow_coins::KEY_LEN;
use rayon::prelude::*;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, DB, DBCompactionStyle, DBCompressionType,
    DataBlockIndexType, IngestExternalFileOptions, IteratorMode, LogLevel, MemtableFactory,
    Options, ReadOptions, SstFileWriter, WriteBatch, WriteOptions,
};
use std::path::{Path, PathBuf};

/// The key of the height.
const HEIGHT_KEY: [u8; 1] = [0];
/// Keys that a task looks up at least.
const LOOKED_UP_AT_ONCE: usize = 128;
/// Bytes of a batch where an epoch may have several.
const BATCH_BYTES: usize = 1 << 20;
/// More than an epoch can have, so that RocksDB never begins another write buffer within one.
const WRITE_BUFFER_BYTES: usize = 16 << 30;

/// How an epoch is written, atomic and durable in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// One batch through the write-ahead log, which is synced; RocksDB flushes its write buffer when it wants.
    Log,
    /// No log: into the one write buffer, a skip list, which is flushed at the end as one file.
    Buffer,
    /// As `Buffer`, and the write buffer is an array: it is sorted already.
    Array,
    /// No write buffer: one sorted file, synced, that RocksDB takes in as it is.
    #[default]
    Ingest,
}

/// How files are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Merging {
    /// By levels.
    #[default]
    Level,
    /// By size: fewer bytes written, more files to look into.
    Universal,
}

/// What is to choose of a [`RocksCoins`].
#[derive(Clone, Copy, Debug, Default, clap::Args, serde::Serialize)]
pub struct Tuning {
    /// How RocksDB is given an epoch
    #[arg(long, value_enum, default_value_t)]
    pub way: Way,
    /// How RocksDB merges files
    #[arg(long, value_enum, default_value_t)]
    pub merging: Merging,
    /// Compress RocksDB's blocks with LZ4
    #[arg(long)]
    pub lz4: bool,
    /// MB of RocksDB's block cache, beside the cache of coins
    #[arg(long, default_value_t = 32)]
    pub block_cache_mb: usize,
    /// Read RocksDB's files through memory maps
    #[arg(long)]
    pub mmap: bool,
}

/// What is done with the stored form of a coin.
pub type VisitStored<'a> = dyn FnMut(&Key, &[u8]) -> Result<(), Failure> + 'a;

/// See the [module documentation](self).
pub struct RocksCoins {
    db: DB,
    options: Options,
    dir: PathBuf,
    way: Way,
}

impl RocksCoins {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// What RocksDB says.
    pub fn open(dir: &Path, tuning: Tuning) -> Result<Self, Failure> {
        let mut table = BlockBasedOptions::default();
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(true);
        table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
        table.set_data_block_hash_ratio(0.75);
        table.set_format_version(6);
        match tuning.block_cache_mb {
            0 => table.disable_cache(),
            megabytes => table.set_block_cache(&Cache::new_hyper_clock_cache(megabytes << 20, 0)),
        }
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&table);
        options.set_compression_type(if tuning.lz4 {
            DBCompressionType::Lz4
        } else {
            DBCompressionType::None
        });
        let threads = std::thread::available_parallelism().map_or(2, usize::from) as i32;
        options.increase_parallelism(threads.max(2));
        options.set_max_subcompactions(threads as u32);
        options.set_compaction_style(match tuning.merging {
            Merging::Level => DBCompactionStyle::Level,
            Merging::Universal => DBCompactionStyle::Universal,
        });
        options.set_max_open_files(-1);
        options.set_allow_mmap_reads(tuning.mmap);
        match tuning.way {
            Way::Log => options.set_write_buffer_size(64 << 20),
            Way::Buffer | Way::Array | Way::Ingest => {
                options.set_write_buffer_size(WRITE_BUFFER_BYTES)
            }
        }
        // The default follows the buffer's size.
        options.set_arena_block_size(1 << 20);
        if tuning.way == Way::Array {
            options.set_memtable_factory(MemtableFactory::Vector);
            options.set_allow_concurrent_memtable_write(false);
        }
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(1);
        std::fs::create_dir_all(dir)?;
        // Named, so that there is a handle of it, which batched look-ups want.
        let family = rocksdb::ColumnFamilyDescriptor::new(
            rocksdb::DEFAULT_COLUMN_FAMILY_NAME,
            options.clone(),
        );
        let db = DB::open_cf_descriptors(&options, dir, [family])?;
        Ok(Self { db, options, dir: dir.to_path_buf(), way: tuning.way })
    }

    /// The height of the last epoch; `None` of an empty database.
    ///
    /// # Errors
    /// What RocksDB says; a row that is no height.
    pub fn height(&self) -> Result<Option<u32>, Failure> {
        let Some(bytes) = self.db.get(HEIGHT_KEY)? else { return Ok(None) };
        let bytes = bytes.try_into().map_err(|_| Failure::Wrong("the row of the height".into()))?;
        Ok(Some(u32::from_le_bytes(bytes)))
    }

    /// Calls `visit` with each coin, in the order of keys.
    ///
    /// # Errors
    /// What RocksDB says; what `visit` says.
    pub fn each(&self, visit: &mut VisitStored<'_>) -> Result<(), Failure> {
        for row in self.db.iterator(IteratorMode::Start) {
            let (key, value) = row?;
            if let Ok(key) = <&Key>::try_from(&*key) {
                visit(key, &value)?;
            } else if *key != HEIGHT_KEY {
                return Err(Failure::Wrong(format!("a key of {} bytes", key.len())));
            }
        }
        Ok(())
    }

    /// Files, and bytes that wait for being merged.
    pub fn files(&self) -> (usize, u64) {
        let files = self.db.live_files().map_or(0, |files| files.len());
        let waiting = self.db.property_int_value("rocksdb.estimate-pending-compaction-bytes");
        (files, waiting.ok().flatten().unwrap_or_default())
    }

    fn family(&self) -> Result<&ColumnFamily, Failure> {
        self.db
            .cf_handle(rocksdb::DEFAULT_COLUMN_FAMILY_NAME)
            .ok_or_else(|| Failure::Wrong("no column family".into()))
    }

    fn look_up(&self, keys: &[&(&Key, usize)]) -> Result<Vec<(usize, Option<Value>)>, Failure> {
        let read = ReadOptions::default();
        let names = keys.iter().map(|(key, _)| *key);
        let values = self.db.batched_multi_get_cf_opt(self.family()?, names, true, &read);
        let with_place = values
            .into_iter()
            .zip(keys)
            .map(|(value, (_, place))| Ok((*place, value?.map(|value| Value::from_slice(&value)))));
        with_place.collect()
    }

    /// In batches, without the log.
    fn buffer(
        &self,
        height: u32,
        changes: &mut dyn Iterator<Item = Change<'_>>,
    ) -> Result<(), Failure> {
        let mut write = WriteOptions::default();
        write.disable_wal(true);
        let mut batch = WriteBatch::default();
        batch.put(HEIGHT_KEY, height.to_le_bytes());
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
            if batch.size_in_bytes() >= BATCH_BYTES {
                self.db.write_opt(std::mem::take(&mut batch), &write)?;
            }
        }
        self.db.write_opt(batch, &write)?;
        let others = self.db.property_int_value("rocksdb.num-immutable-mem-table")?;
        if others != Some(0) {
            return Err(Failure::Wrong("an epoch is in more than one write buffer".into()));
        }
        Ok(self.db.flush()?)
    }

    fn log(
        &self,
        height: u32,
        changes: &mut dyn Iterator<Item = Change<'_>>,
    ) -> Result<(), Failure> {
        let mut batch = WriteBatch::default();
        batch.put(HEIGHT_KEY, height.to_le_bytes());
        for (key, value) in changes {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        let mut write = WriteOptions::default();
        write.set_sync(true);
        Ok(self.db.write_opt(batch, &write)?)
    }

    fn ingest(
        &self,
        height: u32,
        changes: &mut dyn Iterator<Item = Change<'_>>,
    ) -> Result<(), Failure> {
        let path = self.dir.join("epoch.tmp");
        let mut file = SstFileWriter::create(&self.options);
        file.open(&path)?;
        let mut height_row = Some((HEIGHT_KEY, height.to_le_bytes()));
        for (key, value) in changes {
            if key.as_slice() > HEIGHT_KEY.as_slice()
                && let Some((key, value)) = height_row.take()
            {
                file.put(key, value)?;
            }
            match value {
                Some(value) => file.put(key, value)?,
                None => file.delete(key)?,
            }
        }
        if let Some((key, value)) = height_row {
            file.put(key, value)?;
        }
        file.finish()?;
        let mut ingest = IngestExternalFileOptions::default();
        // Hard links, and the file is synced before the manifest names it.
        ingest.set_move_files(true);
        ingest.set_snapshot_consistency(false);
        Ok(self.db.ingest_external_file_opts(&ingest, vec![path])?)
    }
}

impl Below for RocksCoins {
    type Error = Failure;

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, Failure> {
        let mut sorted: Vec<(&Key, usize)> = keys.iter().zip(0..).collect();
        sorted.sort_unstable();
        let sorted: Vec<&(&Key, usize)> = sorted.iter().collect();
        let parts = sorted.par_chunks(LOOKED_UP_AT_ONCE).map(|part| self.look_up(part));
        let parts: Vec<_> = parts.collect::<Result<_, _>>()?;
        let mut values = vec![None; keys.len()];
        for (place, value) in parts.into_iter().flatten() {
            if let Some(at) = values.get_mut(place) {
                *at = value;
            }
        }
        Ok(values)
    }

    fn write(
        &mut self,
        height: u32,
        changes: &mut dyn Iterator<Item = Change<'_>>,
    ) -> Result<(), Failure> {
        match self.way {
            Way::Log => self.log(height, changes),
            Way::Buffer | Way::Array => self.buffer(height, changes),
            Way::Ingest => self.ingest(height, changes),
        }
    }
}

/// Coins have names of one length.
const _: () = assert!(HEIGHT_KEY.len() < KEY_LEN);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CoinsCache;
    use clap::ValueEnum;
    use hedgerow_benches::workload::Random;
    use std::collections::BTreeMap;

    /// Epochs of puts and deletes, in each way, with and without LZ4, are what a map is, also after opening anew.
    #[test]
    fn epochs_are_there_after_opening_anew() {
        for (seed, &way) in (1_u64..).zip(Way::value_variants()) {
            for merging in Merging::value_variants() {
                let tuning =
                    Tuning { way, merging: *merging, mmap: seed % 2 == 0, ..Tuning::default() };
                let dir = tempfile::tempdir().unwrap();
                let mut random = Random::new(seed);
                let mut model: BTreeMap<Key, Value> = BTreeMap::new();
                for height in 1..6 {
                    let rocks = RocksCoins::open(dir.path(), tuning).unwrap();
                    assert_eq!(
                        rocks.height().unwrap(),
                        (height > 1).then_some(height - 1),
                        "{way:?}"
                    );
                    let mut cache = CoinsCache::new(rocks, 1 << 20);
                    for _ in 0..10_000 {
                        let mut key = [0; KEY_LEN];
                        key[..2]
                            .copy_from_slice(&(random.below(30_000).unwrap() as u16).to_be_bytes());
                        let mut value = Vec::new();
                        random.append_to(&mut value, 30);
                        if let Some(old) = model.remove(&key) {
                            assert_eq!(cache.spend(&key).unwrap(), Some(old));
                        } else {
                            model.insert(key, value.clone().into());
                            assert!(cache.add(key, value.into(), false).unwrap());
                        }
                    }
                    cache.flush(height).unwrap();
                    let mut found = BTreeMap::new();
                    cache
                        .below()
                        .each(&mut |key, value| {
                            found.insert(*key, Value::from_slice(value));
                            Ok(())
                        })
                        .unwrap();
                    assert_eq!(found, model, "{tuning:?}");
                    let keys: Vec<Key> =
                        model.keys().copied().chain([[7; KEY_LEN]]).rev().collect();
                    let values = cache.below().get_many(&keys).unwrap();
                    assert!(
                        keys.iter()
                            .zip(values)
                            .all(|(key, value)| value.as_ref() == model.get(key)),
                        "{tuning:?}"
                    );
                }
            }
        }
    }
}
