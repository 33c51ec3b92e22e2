//! Typed readers of the recordings in `testkit/vectors/` (described in its `README.md`).
//!
//! ```text
//!  entries, nodes, twigs, trees     the data structures alone
//!  RecordedSet (11 of them)         one stream of blocks under one compaction rule:
//!     ops()     what was applied       (explicit, or by recipe)
//!     blocks()  what came out          (clean roots, serial numbers, for every block)
//!     proofs()  proofs at the end      (spec 10.1 bytes, against the clean roots)
//! ```
//!
//! Everything is read anew at each call and kept by nobody. All roots here are *clean* roots.

mod blocks;
mod read;
mod structures;

pub use blocks::{
    BlockRow, ProofKind, ProofVector, RecordedSet, all_sets, blocks, ops, proofs, set,
};
pub use structures::{
    EntryKind, EntryVector, NodeHashVector, NodesVector, TreeFlush, TreeProof, TreeVector,
    TwigVector, entries, nodes, rule_entry, rule_leaf, trees, twigs,
};
