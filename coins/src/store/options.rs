//! How a store of coins is set up.

use super::CoinStoreError;
use crate::effect;
use bitcoin::BlockHash;
use bitcoin::p2p::Magic;
use hedgerow::Options;
use hedgerow::disk::{RealDisk, Vfs};
use std::fmt;
use std::sync::Arc;

/// Blocks that can be disconnected by default: two days' worth of mainnet, as many as Bitcoin Core keeps at least.
const UNDO_BLOCKS: u32 = 288;
/// Most: as many blocks as the store below can take back, less one.
const MOST_UNDO_BLOCKS: u32 = 2047;
/// Bytes of the cache by default: as Bitcoin Core's `-dbcache`.
const CACHE_BYTES: u64 = 450 << 20;
/// Fewest: room for what a block can do.
const LEAST_CACHE_BYTES: u64 = 1 << 20;
/// Bytes of a file of records by default.
const SEGMENT_BYTES: u64 = 16 << 20;

/// When what the cache holds goes down to the store.
///
/// One flush is one block of the store, so the heights at which it happens decide the store's roots.
///
/// ```
/// use hedgerow_coins::Flush;
///
/// assert!(Flush::Every(100).is_due(7_200));
/// assert!(!Flush::Every(100).is_due(7_201));
/// assert!(!Flush::Every(100).is_due(0));           // the genesis block has no coins
/// assert!(!Flush::WhenFull.is_due(7_200));         // memory says when
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Flush {
    /// After each block above the genesis block whose height this number divides, and never else: stores with the same
    /// number and the same chain have the same roots.
    Every(u32),
    /// When the cache asks, and when somebody does: the roots are the store's own, the digests those of everybody.
    #[default]
    WhenFull,
}

impl Flush {
    /// Whether the height itself asks for a flush.
    pub const fn is_due(self, height: u32) -> bool {
        match self {
            Self::Every(number) => number > 0 && height > 0 && height.is_multiple_of(number),
            Self::WhenFull => false,
        }
    }
}

/// Options of a [`CoinStore`](crate::CoinStore): a builder with defaults. They may differ at every opening.
///
/// ```
/// use hedgerow_coins::{CoinOptions, Flush};
///
/// let options = CoinOptions::new()
///     .cache_bytes(1 << 30)
///     .flush(Flush::Every(1_000))                  // roots that can be compared
///     .muhash(false);
/// # let _ = options;
/// ```
#[derive(Clone)]
pub struct CoinOptions {
    pub(super) cache_bytes: u64,
    pub(super) flush: Flush,
    pub(super) muhash: bool,
    pub(super) undo_blocks: u32,
    pub(super) network: Option<Magic>,
    pub(super) segment_bytes: u64,
    pub(super) may_overwrite: fn(u32, &BlockHash) -> bool,
    pub(super) check_created: bool,
    pub(super) disk: Arc<dyn Vfs>,
    pub(super) store: Options,
}

impl Default for CoinOptions {
    fn default() -> Self {
        Self {
            cache_bytes: CACHE_BYTES,
            flush: Flush::default(),
            muhash: true,
            undo_blocks: UNDO_BLOCKS,
            network: None,
            segment_bytes: SEGMENT_BYTES,
            may_overwrite: effect::may_overwrite,
            check_created: true,
            disk: Arc::new(RealDisk),
            store: Options::new(),
        }
    }
}

impl CoinOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of memory for coins: those that wait for a flush, and those that were read. Default 450 MiB; at least 1 MiB.
    /// A flush takes some 900 bytes more for each coin that it writes, while it is under way: with [`Flush::WhenFull`] that is at most
    /// some 1 GB, with [`Flush::Every`] what the heights make of it.
    #[must_use]
    pub const fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// When the cache is flushed. Default [`Flush::WhenFull`]. A store that was ever flushed otherwise than
    /// [`Flush::Every`] of one number has roots of its own for good ([`FlushPoint::flush`](crate::FlushPoint::flush)).
    #[must_use]
    pub const fn flush(mut self, flush: Flush) -> Self {
        self.flush = flush;
        self
    }

    /// Whether a MuHash of the set is kept: about 3 us of a core for each coin that a flush writes or deletes. Default
    /// on. A store that was opened without it before has it made from all coins when it is opened with it.
    #[must_use]
    pub const fn muhash(mut self, on: bool) -> Self {
        self.muhash = on;
        self
    }

    /// How many of the newest blocks can be disconnected at least. Default 288; at most 2,047. Records of these, and of what
    /// the flush before them does not hold, are kept in `blocks/`.
    ///
    /// With 0 there are none, which saves writing each coin once more: then no block can be disconnected, and what was
    /// not flushed must be connected again after each opening.
    #[must_use]
    pub const fn undo_blocks(mut self, blocks: u32) -> Self {
        self.undo_blocks = blocks;
        self
    }

    /// The network that the blocks are of. Each flush says it from then on; a store of another network is not opened.
    /// Default: what the store says, which may be that it does not know.
    #[must_use]
    pub fn network(mut self, network: impl Into<Magic>) -> Self {
        self.network = Some(network.into());
        self
    }

    /// Size at which a file of records of blocks is full: the unit in which they are deleted. Default 16 MiB.
    #[must_use]
    pub const fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Which blocks, by height and hash, may create coins over unspent ones, which are lost then. Default
    /// [`may_overwrite`](crate::may_overwrite): the two of mainnet; no block of another network has their hashes.
    #[must_use]
    pub const fn may_overwrite(mut self, rule: fn(u32, &BlockHash) -> bool) -> Self {
        self.may_overwrite = rule;
        self
    }

    /// Whether each coin that a block creates is looked up before, so that a block which creates one over an unspent coin is
    /// refused: some 0.3 to 0.4 us of a core each. Default on.
    ///
    /// Without it that is seen where the cache knows the other coin, and else when the flush is written: which is refused
    /// then, before anything of it is durable, and the store, opened anew, stands before that block. No block that follows the rules
    /// can do so since BIP 34 is in force, from block 227,931 to block 1,983,702 of mainnet, and Bitcoin Core does not look there either.
    #[must_use]
    pub const fn check_created(mut self, on: bool) -> Self {
        self.check_created = on;
        self
    }

    /// The disk that all of it lives on. Default: the real one.
    #[must_use]
    pub fn disk(mut self, disk: Arc<dyn Vfs>) -> Self {
        self.disk = disk;
        self
    }

    /// Options of the store below. Its disk and its
    /// [rollback window](hedgerow::Options::rollback_window) are set by the options here.
    #[must_use]
    pub fn store(mut self, options: Options) -> Self {
        self.store = options;
        self
    }

    /// Refuses options that cannot work.
    pub(super) fn check(&self) -> Result<(), CoinStoreError> {
        let refuse =
            |option, reason: &str| Err(CoinStoreError::Option { option, reason: reason.into() });
        if self.cache_bytes < LEAST_CACHE_BYTES {
            return refuse("cache_bytes", "at least 1 MiB is needed");
        }
        if self.flush == Flush::Every(0) {
            return refuse("flush", "no height is divisible by 0");
        }
        if self.segment_bytes == 0 {
            return refuse("segment_bytes", "must not be 0");
        }
        if self.undo_blocks > MOST_UNDO_BLOCKS {
            return refuse("undo_blocks", "at most 2047 blocks can be disconnected");
        }
        Ok(())
    }

    /// Options for the store below.
    pub(super) fn below(&self) -> Options {
        // Each block may be a flush of its own, and the flush before them all is gone back to.
        let window = if self.undo_blocks == 0 { 0 } else { u64::from(self.undo_blocks) + 1 };
        self.store.clone().disk(Arc::clone(&self.disk)).rollback_window(window)
    }
}

impl fmt::Debug for CoinOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoinOptions")
            .field("cache_bytes", &self.cache_bytes)
            .field("flush", &self.flush)
            .field("muhash", &self.muhash)
            .field("undo_blocks", &self.undo_blocks)
            .field("network", &self.network)
            .field("segment_bytes", &self.segment_bytes)
            .field("check_created", &self.check_created)
            .field("disk", &self.disk)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}
