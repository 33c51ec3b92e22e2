//! What a store of coins says of blocks, of the set, and of itself.

use super::Tip;
use crate::digest::SetDigest;
use bitcoin::Amount;
use hedgerow_cache::CacheStats;

/// What a block did to the set.
///
/// ```
/// use hedgerow::disk::MemDisk;
/// use hedgerow_coins::{CoinOptions, CoinStore, regtest};
///
/// let options = CoinOptions::new().disk(std::sync::Arc::new(MemDisk::new()));
/// let mut store = CoinStore::open("/coins", options)?;
/// let block = regtest::chain().next().ok_or("no block")?;
/// let done = store.connect_block(1, &block)?;
/// assert_eq!((done.tip.height, done.spent, done.created), (1, 0, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connected {
    /// The block.
    pub tip: Tip,
    /// Coins of earlier blocks that it spent.
    pub spent: u64,
    /// Unspent coins over which it created others ([`may_overwrite`](crate::may_overwrite)).
    pub overwritten: u64,
    /// Coins that it created and did not spend.
    pub created: u64,
}

/// What a set of coins is known by: what Bitcoin Core's `gettxoutsetinfo` shows.
///
/// ```
/// use hedgerow::disk::MemDisk;
/// use hedgerow_coins::{CoinOptions, CoinStore, MuHash};
///
/// let options = CoinOptions::new().disk(std::sync::Arc::new(MemDisk::new()));
/// let digest = CoinStore::open("/coins", options)?.digest()?;
/// assert_eq!((digest.tip, digest.coins), (None, 0));
/// assert_eq!(digest.muhash, Some(MuHash::new().digest()));
/// # Ok::<(), hedgerow_coins::CoinStoreError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoinDigest {
    /// The last block; `None` before the first.
    pub tip: Option<Tip>,
    /// Coins.
    pub coins: u64,
    /// All their amounts together.
    pub total_amount: Amount,
    /// MuHash of the set, if it is kept.
    pub muhash: Option<SetDigest>,
}

/// Figures of an open store of coins. Nothing is decided by them.
///
/// ```
/// use hedgerow::disk::MemDisk;
/// use hedgerow_coins::{CoinOptions, CoinStore, regtest};
///
/// let options = CoinOptions::new().disk(std::sync::Arc::new(MemDisk::new()));
/// let mut store = CoinStore::open("/coins", options)?;
/// store.connect_block(1, &regtest::chain().next().ok_or("no block")?)?;
/// let stats = store.stats();
/// assert_eq!((stats.connected, stats.created, stats.records), (1, 1, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CoinStats {
    /// Blocks that were connected since it was opened.
    pub connected: u64,
    /// Blocks that were disconnected.
    pub disconnected: u64,
    /// Blocks that were connected again from their records.
    pub reconnected: u64,
    /// Coins that blocks created.
    pub created: u64,
    /// Coins that blocks spent.
    pub spent: u64,
    /// Blocks of which there is a record.
    pub records: u64,
    /// Bytes of the records.
    pub record_bytes: u64,
    /// The cache.
    pub cache: CacheStats,
    /// The store below.
    pub store: hedgerow::Stats,
}
