//! What can go wrong with a store of coins.
//!
//! ```text
//!   refused, nothing has changed     Height, Parent, Missing, .. CacheFull, TooDeep, NotClosed, Option
//!   could not be read, try again     Store, Disk
//!   latched, nothing is written      Flush, Stopped, Poisoned of the store in them
//!   what is on the disk is wrong     Damage, Coin, Point, Store with what says so
//! ```

use super::FlushPointError;
use super::records::RecordsError;
use crate::codec::FormatError;
use crate::digest::OutOfOrder;
use crate::effect::EffectError;
use bitcoin::p2p::Magic;
use bitcoin::{Amount, BlockHash, OutPoint};
use hedgerow::disk::VfsError;
use std::sync::Arc;

/// What can go wrong with a [`CoinStore`](crate::CoinStore).
///
/// ```
/// use hedgerow::disk::MemDisk;
/// use hedgerow_coins::bitcoin::{BlockHash, OutPoint, hashes::Hash};
/// use hedgerow_coins::{BlockEffect, CoinOptions, CoinStore, CoinStoreError};
///
/// let options = CoinOptions::new().disk(std::sync::Arc::new(MemDisk::new()));
/// let mut store = CoinStore::open("/coins", options)?;
/// let effect = BlockEffect { spent: vec![OutPoint::null()], ..BlockEffect::default() };
/// let refused = store.connect(1, BlockHash::all_zeros(), &effect).unwrap_err();
/// assert!(matches!(refused, CoinStoreError::Missing(_)));
/// assert_eq!(store.tip(), None);                        // nothing has changed
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoinStoreError {
    /// A block has another height than the one after the tip; or the block to be disconnected is not the tip.
    #[error("this block has height {given}, the one that can come has {expected}")]
    Height {
        /// The height given.
        given: u32,
        /// The height that is possible.
        expected: u32,
    },
    /// There is no block to be disconnected.
    #[error("the store has no block that could be disconnected")]
    NoBlock,
    /// A block follows another one than the tip.
    #[error("block {height} follows {given}, and the tip is {expected}")]
    Parent {
        /// Its height.
        height: u32,
        /// The block that it names.
        given: BlockHash,
        /// The tip.
        expected: BlockHash,
    },
    /// The store has coins of another network.
    #[error("the coins are of the network with the magic {expected}, not of that with {given}")]
    Network {
        /// The network given.
        given: Magic,
        /// That of the store.
        expected: Magic,
    },
    /// A block can be in no chain.
    #[error(transparent)]
    Effect(#[from] EffectError),
    /// A coin is spent that is not there.
    #[error("{0} is spent, and there is no such coin")]
    Missing(OutPoint),
    /// A coin is created over one that is not spent.
    #[error("{0} is created, and there is such a coin that is not spent")]
    Exists(OutPoint),
    /// A created coin says that another block has made it.
    #[error("{outpoint} is created with height {given}")]
    CoinHeight {
        /// The coin.
        outpoint: OutPoint,
        /// The height in it.
        given: u32,
    },
    /// All coins together would be more than there can be.
    #[error("all coins together would be {0}, more than 21 million bitcoin")]
    TotalAmount(Amount),
    /// What blocks have done since the last flush leaves no room in the cache, and nothing may be flushed now
    /// ([`Flush::Every`](crate::Flush::Every)). More memory helps ([`set_cache_bytes`](crate::CoinStore::set_cache_bytes)).
    #[error(
        "the cache of {limit} bytes is full of what waits for the next flush; {needed} bytes more are needed"
    )]
    CacheFull {
        /// Bytes that the block may need.
        needed: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// A block alone is more than the cache may hold.
    #[error("the block needs {needed} bytes, more than the cache may hold, {limit} bytes")]
    BlockTooLarge {
        /// Bytes that the block may need.
        needed: u64,
        /// The limit, bytes.
        limit: u64,
    },
    /// What it takes to disconnect the block is not kept any more ([`CoinOptions::undo_blocks`](crate::CoinOptions::undo_blocks)).
    #[error("block {height} cannot be disconnected: what that needs is not kept")]
    TooDeep {
        /// The block.
        height: u32,
    },
    /// The record of a block is not kept, or there is no such block.
    #[error("there is no record of block {height}")]
    NoRecord {
        /// The block.
        height: u32,
    },
    /// Nobody has closed a flush that this waits for: it could wait for ever.
    #[error("no flush is on its way that holds block {height}")]
    NotClosed {
        /// The block.
        height: u32,
    },
    /// An option cannot be.
    #[error("option {option}: {reason}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A flush failed: the first error, which everybody gets until [`CoinStore::retry`](crate::CoinStore::retry). All
    /// that was to be flushed is still there.
    #[error("a flush failed; nothing is written any more")]
    Flush(#[source] Arc<CoinStoreError>),
    /// The thread that flushes ended.
    #[error("the thread that flushes has ended")]
    Stopped,
    /// The thread that flushes could not be started.
    #[error("could not start the thread that flushes")]
    Thread(#[source] std::io::Error),
    /// The cache refused what the engine asked of it: a defect of the engine.
    #[error("the cache refused: {0}")]
    Cache(String),
    /// The store below failed, or refused.
    #[error(transparent)]
    Store(#[from] hedgerow::Error),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] VfsError),
    /// The store below is none of coins, or not a finished one: what its last block says of itself is wrong.
    #[error("block {flush} of the store is no flush of coins")]
    Point {
        /// The block of the store.
        flush: u64,
        /// What is wrong.
        source: FlushPointError,
    },
    /// The records of blocks are damaged.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// What is stored under a coin's name is no coin.
    #[error("what is stored as {outpoint} is no coin")]
    Coin {
        /// The coin.
        outpoint: OutPoint,
        /// What is wrong.
        source: FormatError,
    },
    /// The store below has a key that names no coin.
    #[error("the store has a key of {0} bytes, which names no coin")]
    Key(usize),
    /// The store below and the flush's own account of it differ.
    #[error("there are {found} coins, and the flush says {expected}")]
    Count {
        /// Coins found.
        found: u64,
        /// Coins as the flush has it.
        expected: u64,
    },
    /// Coins came twice while they were put in order.
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
}

impl CoinStoreError {
    /// Whether nothing is flushed any more, for everybody.
    pub const fn is_latched(&self) -> bool {
        let stopped = matches!(self, Self::Store(hedgerow::Error::Poisoned { .. }));
        stopped || matches!(self, Self::Flush(_) | Self::Stopped)
    }

    /// Whether what is on the disk is damaged: neither an error of the disk, nor of the caller.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Point { .. } | Self::Coin { .. } | Self::Key(_) | Self::Count { .. } => true,
            Self::OutOfOrder(_) => true,
            Self::Records(error) => error.is_damage(),
            Self::Store(error) => error.is_damage(),
            Self::Flush(cause) => cause.is_damage(),
            _ => false,
        }
    }
}

impl From<hedgerow_cache::Error<Self>> for CoinStoreError {
    fn from(error: hedgerow_cache::Error<Self>) -> Self {
        use hedgerow_cache::Error as Failed;
        match error {
            Failed::Full { needed, limit, .. } => Self::CacheFull { needed, limit },
            Failed::TooLarge { needed, limit } => Self::BlockTooLarge { needed, limit },
            Failed::Read(error) => error,
            Failed::Flush(cause) => Self::Flush(cause),
            Failed::Stopped => Self::Stopped,
            Failed::Thread(error) => Self::Thread(error),
            other => Self::Cache(other.to_string()),
        }
    }
}
