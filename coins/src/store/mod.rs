//! The set of coins on a disk: a cache of what blocks do, flushed into a verifiable store.
//!
//! ```text
//!   connect ──► checks ──► cache.write ──► record        disconnect ──► record ──► its inverse in the cache
//!                             │              │                            │ at or below a flush
//!                             ▼              ▼                            ▼
//!                    ┌───────────────┐  dir/blocks/           store back to the flush before, then the blocks
//!                    │ cache         │  last 288 blocks,      above it again from their records
//!                    │ open epoch    │  and what is not
//!                    │ closed epochs │  flushed
//!                    └──────┬────────┘       │
//!                 net effect│ a flush        │ synced before
//!                           ▼                ▼
//!     dir/store/   one block of the store: coins, and beside them height, block, MuHash, counts (FlushPoint)
//! ```
//!
//! # What is always true
//!
//! * One flush is one block of the store: the coins and what is said of the set become durable in one step, or not at all.
//!   After a crash the store opens at the last durable flush or above it: records that are whole are connected again.
//! * What is refused changes nothing.
//! * A disconnected block leaves no trace: the flush after it writes what it would have written if the block had never
//!   been, so that with [`Flush::Every`] roots depend on the chain alone.
//! * Records of blocks are durable before the flush that covers them, so the flush's block is among the records of
//!   the chain.
//!
//! **Invariant (absence):** scripts are not run, proof of work is not looked at, and no amounts are compared: whoever connects a
//! block has validated it.

mod below;
mod bytes;
mod coin_store;
mod error;
mod figures;
mod options;
mod point;
mod reader;
mod records;
mod sorted;
mod sorting;
mod transfer;
mod view;

pub use coin_store::CoinStore;
pub use error::CoinStoreError;
pub use figures::{CoinDigest, CoinStats, Connected};
pub use options::{CoinOptions, Flush};
pub use point::{FlushPoint, FlushPointError, Tip};
pub use reader::CoinReader;
pub use records::{BlockRecord, Position, RecordsDefect, RecordsError};
pub use sorted::OrderedCoins;
pub use transfer::{SnapshotImport, TransferError, TransferProgress};
pub use view::CoinView;

use crate::coin::KEY_LEN;

/// A coin's name, as cache and store have it.
pub(crate) type Key = [u8; KEY_LEN];
pub(crate) use bytes::Bytes;
type CoinCache = hedgerow_cache::Cache<below::Below>;
