//! A [`CoinsCache`] over [`RocksCoins`], with [`UndoFiles`] beside them: what Bitcoin Core would be on RocksDB.

use crate::coins_cache::{CoinsCache, Key, Value};
use crate::engine::{Engine, EngineFigures, Failure, Visit};
use crate::rocks::{RocksCoins, Tuning};
use crate::undo_files::UndoFiles;
use hedgerow_coins::bitcoin::OutPoint;
use hedgerow_coins::{BlockEffect, Coin, key_of, outpoint_of};
use rayon::prelude::*;
use std::path::Path;
use std::time::{Duration, Instant};

/// Coins that a task decodes at least.
const DECODED_AT_ONCE: usize = 128;

/// See the [module documentation](self).
pub struct CoreLike {
    cache: CoinsCache<RocksCoins>,
    undo: Option<UndoFiles>,
    height: u32,
    /// The height of the last epoch.
    flushed: u32,
    /// Flush after each height that this divides, too.
    every: Option<u32>,
    flushing: Duration,
    keys: Vec<Key>,
    stored: Vec<u8>,
}

/// What is kept beside the coins, and how epochs end.
#[derive(Clone, Copy, Debug)]
pub struct CoreOptions {
    /// Bytes of the cache.
    pub cache_bytes: usize,
    /// Blocks that can be disconnected; 0: nothing is kept for that.
    pub undo_blocks: u32,
    /// Flush at each height that this divides, and not only when the cache is full.
    pub every: Option<u32>,
}

impl CoreLike {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// What RocksDB says; a failed call.
    pub fn open(dir: &Path, options: CoreOptions, tuning: Tuning) -> Result<Self, Failure> {
        let rocks = RocksCoins::open(&dir.join("chainstate"), tuning)?;
        let height = rocks.height()?.unwrap_or_default();
        let undo = match options.undo_blocks {
            0 => None,
            kept => Some(UndoFiles::new(&dir.join("undo"), kept)?),
        };
        let cache = CoinsCache::new(rocks, options.cache_bytes);
        let (flushing, every) = (Duration::ZERO, options.every);
        Ok(Self {
            cache,
            undo,
            height,
            flushed: height,
            every,
            flushing,
            keys: Vec::new(),
            stored: Vec::new(),
        })
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.flushed == self.height {
            return Ok(());
        }
        let begin = Instant::now();
        if let Some(undo) = &mut self.undo {
            undo.sync(self.height)?;
        }
        self.cache.flush(self.height)?;
        self.flushed = self.height;
        self.flushing += begin.elapsed();
        Ok(())
    }
}

fn decode(outpoint: &OutPoint, bytes: &[u8]) -> Result<Coin, Failure> {
    Coin::decode(bytes).map_err(|error| Failure::Wrong(format!("{outpoint}: {error}")))
}

impl Engine for CoreLike {
    fn inputs(&mut self, spent: &[OutPoint]) -> Result<Vec<Option<Coin>>, Failure> {
        self.keys.clear();
        self.keys.extend(spent.iter().map(key_of));
        self.cache.fetch(&self.keys)?;
        let stored: Vec<Option<&[u8]>> =
            self.keys.iter().map(|key| self.cache.cached(key)).collect();
        let coins = spent.par_iter().with_min_len(DECODED_AT_ONCE).zip(&stored);
        coins
            .map(|(outpoint, bytes)| bytes.map(|bytes| decode(outpoint, bytes)).transpose())
            .collect()
    }

    fn connect(&mut self, height: u32, effect: &BlockEffect) -> Result<(), Failure> {
        self.keys.clear();
        self.keys.extend(effect.spent.iter().map(key_of));
        let mut spent = Vec::with_capacity(self.keys.len());
        for (key, outpoint) in self.keys.iter().zip(&effect.spent) {
            let coin = self.cache.spend(key)?;
            spent.push(coin.ok_or_else(|| Failure::Wrong(format!("{outpoint} is not there")))?);
        }
        if let Some(undo) = &mut self.undo {
            undo.append(height, spent.iter().map(Value::as_slice))?;
        }
        for (outpoint, coin) in &effect.created {
            self.stored.clear();
            coin.encode(&mut self.stored);
            // As Core: only a coinbase could be there, as two were before BIP 34.
            if !self.cache.add(
                key_of(outpoint),
                Value::from_slice(&self.stored),
                coin.is_coinbase(),
            )? {
                return Err(Failure::Wrong(format!("{outpoint} is there")));
            }
        }
        self.height = height;
        let due = self.every.is_some_and(|every| every > 0 && height.is_multiple_of(every));
        if due || self.cache.is_full() { self.flush() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.flush()
    }

    fn figures(&self) -> EngineFigures {
        let counts = self.cache.counts();
        let flushing_s = self.flushing.as_secs_f64();
        EngineFigures {
            flushes: counts.flushes,
            puts: counts.puts,
            deletes: counts.deletes,
            vanished: counts.vanished,
            hits: counts.hits,
            misses: counts.misses,
            flushing_s,
            waiting_s: flushing_s,
            undo_bytes: self.undo.as_ref().map_or(0, UndoFiles::bytes),
            files: Some(self.cache.below().files()),
            index_mb: None,
            tree_mb: None,
        }
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(())
    }

    fn each(&self, visit: &mut Visit<'_>) -> Result<(), Failure> {
        self.cache.below().each(&mut |key, bytes| {
            let outpoint = outpoint_of(key);
            visit(outpoint, decode(&outpoint, bytes)?)
        })
    }

    fn stands_at(&self) -> Result<(Option<u32>, Option<String>), Failure> {
        Ok((self.cache.below().height()?, None))
    }
}
