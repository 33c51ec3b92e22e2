//! Hedgerow beside other people's stores.
//!
//! ```text
//!   engine          what is asked of every engine: open, apply a block, root, get, prove, verify
//!   ours            Hedgerow
//!   nomt            NOMT's binary Merkle trie, in memory
//!   commonware      QMDB of commonware, which proves what is current
//!   clock           CPU time of the process, time on the wall, and their spread
//!   race            proofs of many keys and of one, made and verified by all engines in turn
//! ```
//!
//! The program `proofs-many` prints what proofs of many keys cost in each engine. An engine is added as a value of
//! [`Engine`] in [`ENGINES`]; one without a tree has neither root nor proofs.

pub mod clock;
pub mod commonware;
pub mod engine;
pub mod nomt;
pub mod ours;
pub mod race;
#[cfg(test)]
mod tests;

pub use engine::{Engine, Failure};

/// All engines, ours first.
pub const ENGINES: [Engine; 3] = [ours::ENGINE, nomt::ENGINE, commonware::ENGINE];
