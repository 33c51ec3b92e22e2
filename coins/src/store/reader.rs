//! What any thread may ask while blocks come.

use super::below::{Tag, decode};
use super::{CoinCache, CoinStoreError, Key};
use crate::coin::{Coin, key_of};
use bitcoin::OutPoint;
use hedgerow::{Digest, Height, Proven};
use parking_lot::RwLock;
use rayon::prelude::*;
use std::sync::Arc;

/// Coins that a task decodes at least.
const DECODED_AT_ONCE: usize = 128;

/// A reader of a [`CoinStore`](crate::CoinStore), for any thread: what it says is of the newest state. While blocks are
/// taken back that were flushed it waits.
///
/// ```
/// use hedgerow::disk::MemDisk;
/// use hedgerow_coins::{BlockEffect, CoinOptions, CoinStore, regtest};
///
/// let options = CoinOptions::new().disk(std::sync::Arc::new(MemDisk::new()));
/// let mut store = CoinStore::open("/coins", options)?;
/// let block = regtest::chain().next().ok_or("no block")?;
/// let (outpoint, coin) = BlockEffect::of(&block, 1)?.created.swap_remove(0);
/// let reader = store.reader();
/// assert_eq!(reader.get(&outpoint)?, None);
/// store.connect_block(1, &block)?;
/// assert_eq!(reader.get(&outpoint)?, Some(coin));      // long before it is flushed
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct CoinReader {
    cache: Arc<CoinCache>,
    /// Held while something is asked; exclusively while the store below goes back.
    gate: Arc<RwLock<()>>,
}

impl CoinReader {
    pub(super) fn new(cache: &Arc<CoinCache>) -> Self {
        Self { cache: Arc::clone(cache), gate: Arc::default() }
    }

    pub(super) fn gate(&self) -> Arc<RwLock<()>> {
        Arc::clone(&self.gate)
    }

    /// The coin of this name, if it is not spent.
    ///
    /// # Errors
    /// A failed read, or damage: never "not there".
    pub fn get(&self, outpoint: &OutPoint) -> Result<Option<Coin>, CoinStoreError> {
        let key = key_of(outpoint);
        let value = {
            let _open = self.gate.read();
            self.cache.get(&key)?
        };
        value.map(|bytes| decode(&key, &bytes)).transpose()
    }

    /// The coins of these names, in their order, looked up by all threads at once.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub fn get_many(&self, outpoints: &[OutPoint]) -> Result<Vec<Option<Coin>>, CoinStoreError> {
        let keys: Vec<Key> = outpoints.iter().map(key_of).collect();
        let values = {
            let _open = self.gate.read();
            self.cache.get_many(&keys)?
        };
        let coins = keys.par_iter().with_min_len(DECODED_AT_ONCE).zip(&values);
        let decoded = |(key, value): (&Key, &Option<super::Bytes>)| {
            value.as_ref().map(|bytes| decode(key, bytes)).transpose()
        };
        coins.map(decoded).collect()
    }

    /// A proof of what the last flush has under this name: a coin ([`Coin::decode`] of the value), or none.
    ///
    /// # Errors
    /// As [`hedgerow::Reader::prove`].
    pub fn prove(&self, outpoint: &OutPoint) -> Result<Proven, CoinStoreError> {
        let _open = self.gate.read();
        Ok(self.cache.backing().reader().prove(key_of(outpoint))?)
    }

    /// The root of the last flush, and the flush's block of the store below.
    pub fn root(&self) -> (Height, Digest) {
        self.cache.backing().reader().root()
    }

    /// Height up to which blocks survive power loss; `None` if none does.
    pub fn durable(&self) -> Option<u32> {
        self.cache.durable_tag().map(|tag| tag.tip.height)
    }

    /// Waits until the block of this height survives power loss.
    ///
    /// # Errors
    /// [`CoinStoreError::NotClosed`] if no flush is on its way that holds it; what is latched since a flush failed.
    pub fn wait_durable(&self, height: u32) -> Result<(), CoinStoreError> {
        self.cache.wait_durable(&Tag::at(height)).map_err(|error| match error {
            hedgerow_cache::Error::NotClosed => CoinStoreError::NotClosed { height },
            other => other.into(),
        })
    }
}
