//! Hedgerow beside other people's stores.
//!
//! ```text
//!   engine          what is asked of every engine: open, apply a block, root, get, prove, verify
//!   ours            Hedgerow
//!   nomt            NOMT's binary Merkle trie, in memory
//!   commonware      QMDB of commonware: what is current, and what was once
//!   rocks           RocksDB, without a tree
//!   clock           CPU time of the process, time on the wall, and their spread
//!   race            proofs of many keys and of one, made and verified by all engines in turn
//!   workload        what an engine is given and asked, from a seed
//!   run             one engine: creates, updates, reads, proofs, and the figures of each
//! ```
//!
//! The program `proofs-many` prints what proofs of many keys cost in each engine, `engines` what writing and reading costs.
//! An engine is added as a value of [`Engine`] in [`STORES`]; one without a tree has neither root nor proofs.

pub mod clock;
pub mod commonware;
pub mod engine;
pub mod nomt;
pub mod ours;
pub mod race;
#[cfg(feature = "rocksdb")]
pub mod rocks;
pub mod run;
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
];
