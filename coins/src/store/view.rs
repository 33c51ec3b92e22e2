//! A set of coins, held as it was.

use super::below::{Change, decode};
use super::{CoinStoreError, OrderedCoins, Tip};
use crate::coin::{Coin, key_of};
use crate::digest::{SerializedHash, SetDigest};
use bitcoin::{Amount, OutPoint};
use hedgerow::View;
use hedgerow::disk::Vfs;
use std::path::PathBuf;
use std::sync::Arc;

/// Memory for coins that are put in order for their hash.
const ORDER_BYTES: usize = 64 << 20;

/// The set of coins as it was when it was asked for ([`CoinStore::view`](crate::CoinStore::view)): it stays so while blocks
/// go on. After its flush was taken back it answers [`hedgerow::Error::RolledBack`].
///
/// ```
/// use hedgerow::disk::MemDisk;
/// use hedgerow_coins::{CoinOptions, CoinStore, regtest};
///
/// let options = CoinOptions::new().disk(std::sync::Arc::new(MemDisk::new()));
/// let mut store = CoinStore::open("/coins", options)?;
/// let mut blocks = (1..).zip(regtest::chain());
/// for (height, block) in blocks.by_ref().take(100) {
///     store.connect_block(height, &block)?;
/// }
/// let view = store.view()?;
/// for (height, block) in blocks.take(10) {
///     store.connect_block(height, &block)?;
/// }
/// assert_eq!((view.tip().map(|tip| tip.height), view.coins()), (Some(100), 100));
/// let expected = "771d773b5c27b6f35f598ce764652a2cf28fbc268341eb1827844e416c629c7d";
/// assert_eq!(view.hash_serialized()?.to_string(), expected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct CoinView {
    /// At the last flush before it.
    below: View,
    /// What was not flushed, by key.
    changes: Arc<Vec<Change>>,
    tip: Option<Tip>,
    coins: u64,
    total_amount: Amount,
    disk: Arc<dyn Vfs>,
    dir: PathBuf,
}

impl CoinView {
    pub(super) fn new(
        below: View,
        mut changes: Vec<Change>,
        (tip, coins, total_amount): (Option<Tip>, u64, Amount),
        disk: Arc<dyn Vfs>,
        dir: PathBuf,
    ) -> Self {
        changes.sort_unstable_by_key(|change| change.key);
        Self { below, changes: Arc::new(changes), tip, coins, total_amount, disk, dir }
    }

    /// The last block of the set; `None` before the first.
    pub const fn tip(&self) -> Option<Tip> {
        self.tip
    }

    /// Coins.
    pub const fn coins(&self) -> u64 {
        self.coins
    }

    /// All their amounts together.
    pub const fn total_amount(&self) -> Amount {
        self.total_amount
    }

    /// The coin of this name, if the set has it.
    ///
    /// # Errors
    /// A failed read, or damage: never "not there".
    pub fn get(&self, outpoint: &OutPoint) -> Result<Option<Coin>, CoinStoreError> {
        let key = key_of(outpoint);
        let coin = match self.changes.binary_search_by_key(&key, |change| change.key) {
            Ok(at) => {
                self.changes.get(at).and_then(|change| change.new.as_deref().map(<[u8]>::to_vec))
            }
            Err(_) => self.below.get(key)?,
        };
        coin.map(|bytes| decode(&key, &bytes)).transpose()
    }

    /// All coins, in the order of their names. All of the store is read for the first of them; what is more than `memory_bytes` waits
    /// in a temporary file in the store's directory.
    ///
    /// # Errors
    /// A failed read or write, or damage.
    pub fn ordered(&self, memory_bytes: usize) -> Result<OrderedCoins, CoinStoreError> {
        let (coins, disk) = (self.below.iter(), &*self.disk);
        OrderedCoins::new(coins, &self.changes, self.coins, memory_bytes, disk, &self.dir)
    }

    /// Bitcoin Core's `hash_serialized_3` of the set, with some 64 MiB of memory.
    ///
    /// # Errors
    /// As [`Self::ordered`].
    pub fn hash_serialized(&self) -> Result<SetDigest, CoinStoreError> {
        let mut hash = SerializedHash::new();
        for coin in self.ordered(ORDER_BYTES)? {
            let (outpoint, coin) = coin?;
            hash.push(&outpoint, &coin)?;
        }
        Ok(hash.digest())
    }
}

impl std::fmt::Debug for CoinView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CoinView")
            .field("tip", &self.tip)
            .field("coins", &self.coins)
            .finish_non_exhaustive()
    }
}
