//! The first sync of a Bitcoin node on engines that keep the set of unspent coins, side by side.
//!
//! ```text
//!   Spending ─► block: outpoints, new coins ──► Engine ◄── Hedgerow   CoinStore: proofs, MuHash if wanted
//!   (benches)                  │                  ▲
//!                              │                  └─────── CoreLike   CoinsCache ─► Below = RocksCoins: RocksDB
//!                              │                                         │
//!                              │                                         └─ UndoFiles: what a node keeps to disconnect
//!                              ▼
//!   sync: the clock runs while an engine works ─► closed, opened again, every coin read ─► Report
//! ```
//!
//! [`CoinsCache`] works as Bitcoin Core's cache of coins does, from the description of that; nothing of it is copied. What is
//! below it is RocksDB, set up for just this ([`rocks`]).
//!
//! # What is the same for all engines
//!
//! * The blocks, in the form [`BlockEffect`](hedgerow_coins::BlockEffect); they are made while the clock stands.
//! * Before a block is connected, the coins that it spends are asked for, as values: validation needs them.
//! * An epoch is atomic and durable: after power loss the set is that of the end of an epoch, with its height.
//! * What disconnects the last blocks is kept, and is durable before the epoch is.
//! * The bytes of the cache, in memory that is counted exactly. What else an engine takes is in `rss_peak_mb`.
//! * Afterwards the set is read from the disk, all of it, and compared with the blocks' own account.
//!
//! # What is not
//!
//! * Hedgerow refuses a block that makes a coin which is there, for which it must look each up; Bitcoin Core looks only where BIP 30 asks for
//!   it, and so [`CoreLike`] does not.
//! * Hedgerow has a root and a proof of each coin with each flush. With RocksDB there are none.
#![forbid(unsafe_code)]

pub mod coins_cache;
pub mod core_like;
pub mod engine;
pub mod ours;
pub mod report;
pub mod rocks;
pub mod sync;
pub mod undo_files;

pub use coins_cache::{Below, CoinsCache};
pub use core_like::CoreLike;
pub use engine::{Engine, EngineFigures, Failure};
pub use ours::Hedgerow;
pub use report::Report;
pub use rocks::RocksCoins;
pub use undo_files::UndoFiles;
