//! What an engine must do to take part.

use hedgerow_coins::bitcoin::OutPoint;
use hedgerow_coins::{BlockEffect, Coin, CoinStoreError};
use serde::Serialize;
use std::path::Path;

/// A set of coins on a disk, through a cache.
pub trait Engine {
    /// The coins that a block is about to spend, for its validation.
    ///
    /// # Errors
    /// A failed read.
    fn inputs(&mut self, spent: &[OutPoint]) -> Result<Vec<Option<Coin>>, Failure>;

    /// Connects the block of this height; the engine flushes when it must.
    ///
    /// # Errors
    /// A coin that is not there, or is there already; a failed read or write. The run is over then.
    fn connect(&mut self, height: u32, effect: &BlockEffect) -> Result<(), Failure>;

    /// Flushes all of it, and waits until it is durable.
    ///
    /// # Errors
    /// A failed write.
    fn finish(&mut self) -> Result<(), Failure>;

    /// What the engine counted.
    fn figures(&self) -> EngineFigures;

    /// Closes it.
    ///
    /// # Errors
    /// A failed write.
    fn close(self: Box<Self>) -> Result<(), Failure>;

    /// Calls `visit` with each coin of the set, in any order.
    ///
    /// # Errors
    /// A failed read; what `visit` says.
    fn each(&self, visit: &mut Visit<'_>) -> Result<(), Failure>;

    /// The height of the set, and its MuHash if the engine keeps one.
    ///
    /// # Errors
    /// A failed read.
    fn stands_at(&self) -> Result<(Option<u32>, Option<String>), Failure>;
}

/// Opens an engine in a directory, or makes one there.
pub type Opener<'a> = dyn Fn(&Path) -> Result<Box<dyn Engine>, Failure> + 'a;
/// What is done with a coin.
pub type Visit<'a> = dyn FnMut(OutPoint, Coin) -> Result<(), Failure> + 'a;

/// What an engine counted, and where its time went. Whoever does not know something leaves it out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EngineFigures {
    /// Epochs that were flushed.
    pub flushes: u64,
    /// Coins that they put, and deleted, below the cache.
    pub puts: u64,
    /// See `puts`.
    pub deletes: u64,
    /// Coins that were made and spent within an epoch.
    pub vanished: u64,
    /// Coins asked for that the cache had.
    pub hits: u64,
    /// Coins that it had to ask for below, those that are not there included.
    pub misses: u64,
    /// Seconds in which epochs were written.
    pub flushing_s: f64,
    /// Seconds in which a block waited for a flush: all of them where it is not in the background.
    pub waiting_s: f64,
    /// Bytes of what the last blocks are disconnected with.
    pub undo_bytes: u64,
    /// Files below the cache, and bytes that wait for being merged.
    pub files: Option<(usize, u64)>,
    /// Megabytes of the index of the store below.
    pub index_mb: Option<f64>,
    /// Megabytes of its trees.
    pub tree_mb: Option<f64>,
}

/// Why a run ended without figures.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Ours.
    #[error(transparent)]
    Coins(#[from] CoinStoreError),
    /// RocksDB.
    #[error(transparent)]
    Rocks(#[from] rocksdb::Error),
    /// A file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// Figures from another process that cannot be read.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Something is not as it must be.
    #[error("wrong: {0}")]
    Wrong(String),
}
