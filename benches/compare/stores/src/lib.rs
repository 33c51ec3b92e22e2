//! Hedgerow beside other people's stores.
//!
//! ```text
//!   engine          what is asked of every engine: open, apply a block, root, get, prove, verify
//!   ours            Hedgerow
//!   nomt            NOMT's binary Merkle trie, in memory
//!   commonware      QMDB of commonware: what is current, and what was once
//!   nomt_store      NOMT with its store (feature `nomt`, off by default)
//!   rocks           RocksDB, without a tree (feature `rocksdb`)
//!   redb, fjall     other plain stores (the latter feature `fjall`)
//!   clock           CPU time of the process, time on the wall, and their spread
//!   race            proofs of many keys and of one, made and verified by all engines in turn
//!   workload        what an engine is given and asked, from a seed
//!   run             one engine: creates, updates, reads, proofs, and the figures of each
//!   results         many runs: medians, spreads, ratios to ours
//!   table, plot     the same in markdown and as SVG
//! ```
//!
//! The program `proofs-many` prints what proofs of many keys cost in each engine, `engines` what writing and reading costs.
//! An engine is added as a value of [`Engine`] in [`STORES`]; one without a tree has neither root nor proofs.

pub mod clock;
pub mod commonware;
pub mod engine;
#[cfg(feature = "fjall")]
pub mod fjall;
pub mod nomt;
#[cfg(feature = "nomt")]
pub mod nomt_store;
pub mod ours;
pub mod plot;
pub mod race;
pub mod redb;
pub mod results;
#[cfg(feature = "rocksdb")]
pub mod rocks;
pub mod run;
pub mod table;
#[cfg(test)]
mod tests;
pub mod workload;

pub use engine::{Engine, Failure};

/// The engines whose proofs of many keys are compared, ours first.
pub const ENGINES: [Engine; 3] = [ours::ENGINE, nomt::ENGINE, commonware::current::ENGINE];

/// All engines that keep what they are given, ours first.
pub const STORES: &[Engine] = &[
    ours::ENGINE,
    ours::EACH_BLOCK,
    ours::UNMAPPED,
    ours::TIERED,
    commonware::any::ENGINE,
    commonware::any::ENGINE_ORDERED,
    commonware::current::ENGINE,
    #[cfg(feature = "rocksdb")]
    rocks::ENGINE,
    #[cfg(feature = "rocksdb")]
    rocks::UNSORTED,
    redb::ENGINE,
    #[cfg(feature = "fjall")]
    fjall::ENGINE,
    #[cfg(feature = "nomt")]
    nomt_store::ENGINE,
];
