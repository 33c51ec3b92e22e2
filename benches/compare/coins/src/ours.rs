//! [`CoinStore`], as a user would set it up.

use crate::engine::{Engine, EngineFigures, Failure, Visit};
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::{BlockHash, OutPoint};
use hedgerow_coins::{BlockEffect, Coin, CoinOptions, CoinStore};
use std::path::Path;

/// Memory for putting coins in order.
const ORDER_BYTES: usize = 256 << 20;

/// See the [module documentation](self).
pub struct Hedgerow {
    store: CoinStore,
}

impl Hedgerow {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// As [`CoinStore::open`].
    pub fn open(dir: &Path, options: CoinOptions) -> Result<Self, Failure> {
        Ok(Self { store: CoinStore::open(dir, options)? })
    }
}

fn megabytes(bytes: usize) -> Option<f64> {
    Some(bytes as f64 / 1e6)
}

impl Engine for Hedgerow {
    fn inputs(&mut self, spent: &[OutPoint]) -> Result<Vec<Option<Coin>>, Failure> {
        Ok(self.store.get_many(spent)?)
    }

    fn connect(&mut self, height: u32, effect: &BlockEffect) -> Result<(), Failure> {
        let mut hash = [0; 32];
        hash.iter_mut().zip(height.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        self.store.connect(height, BlockHash::from_byte_array(hash), effect)?;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.store.flush()?;
        Ok(())
    }

    fn figures(&self) -> EngineFigures {
        let stats = self.store.stats();
        let cache = &stats.cache;
        EngineFigures {
            flushes: cache.durable_epoch,
            puts: cache.puts_flushed,
            deletes: cache.deletes_flushed,
            vanished: cache.vanished,
            hits: cache.clean_hits + cache.dirty_hits + cache.flushing_hits,
            misses: cache.misses,
            flushing_s: cache.applying.sum.as_secs_f64(),
            waiting_s: cache.waiting_for_room.sum.as_secs_f64() + cache.closing.sum.as_secs_f64(),
            undo_bytes: stats.record_bytes,
            files: None,
            index_mb: megabytes(stats.store.index_bytes),
            tree_mb: megabytes(stats.store.tree_bytes),
        }
    }

    fn close(self: Box<Self>) -> Result<(), Failure> {
        Ok(self.store.close()?)
    }

    fn each(&self, visit: &mut Visit<'_>) -> Result<(), Failure> {
        for coin in self.store.view()?.ordered(ORDER_BYTES)? {
            let (outpoint, coin) = coin?;
            visit(outpoint, coin)?;
        }
        Ok(())
    }

    fn stands_at(&self) -> Result<(Option<u32>, Option<String>), Failure> {
        let digest = self.store.digest()?;
        Ok((self.store.height(), digest.muhash.map(|muhash| muhash.to_string())))
    }
}
