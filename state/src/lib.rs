//! What a block does to the state: from its operations to the entries that it appends, the entries that
//! it makes inactive, and the keys that it moves.
//!
//! ```text
//!  operations ─► resolve ─► update, shard by shard ─► spread, across them ─► 16 ShardDeltas
//!   ops           resolve    update, layer, bits       spread
//!                  ▲          ▲                                               (apply)
//!                  │ index,   │ log, twig records
//!                    log
//! ```
//!
//! Nothing here knows a directory, commits, or starts a thread: what is read is read through what the
//! caller gives (index, log, twig records, a hasher), and tasks run in the pool that the caller is in.
//!
//! What the entries of a block change of their shard is done in one place, [`ShardState`] (`shard.rs`), whoever
//! brings them:
//!
//! ```text
//!  update, entry by entry ─────────────────┐
//!  load, a stream in key-hash order ───────┤
//!  a new store's sentries ─────────────────┤
//!  records, when a store is opened ────────┼─► ShardState::take ─► Undo ─► ShardState::undo
//!  accept, of a speculative block ─────────┤
//!  to come: rollback, sync ────────────────┘
//! ```
//!
//! **Invariant:** a change of state is a value. What [`apply`] did to the [`ShardWriter`]s is in the
//! [`ShardDelta`]s, which know how to take it back: an error in one shard leaves all as they were.
//!
//! The state at a height is also a file, [`checkpoint`], from which a store opens without reading all of its
//! log.
//!
//! What becomes of a delta (its place in the log, the tree, what readers see) is the affair of the crate
//! `hedgerow`.

#![forbid(unsafe_code)]

mod apply;
mod begins;
mod bits;
pub mod checkpoint;
mod error;
mod keys;
mod layer;
mod links;
mod load;
mod ops;
mod resolve;
mod shard;
mod spread;
mod twigs;
mod update;

pub use apply::{Spent, Tools, apply};
pub use begins::TwigBegins;
pub use bits::ActiveBits;
pub use error::{Error, Refused};
pub use keys::{is_entry_of, key_hash_of};
pub use layer::{Draft, Layer, Now};
pub use links::{LINK_BYTES, Links};
pub use load::{LastPair, LoadBlock, load};
pub use ops::{BlockOps, ChangeSet, Kind, Op, OpKind, RawOp, Task, check_key, check_value};
pub use resolve::{ShardView, candidates, find_enclosing, find_entry};
pub use shard::{Misfit, RunChange, ShardState, Undo};
use spread::spread;
pub use twigs::{
    GROUP, OpenTwig, TwigPlaces, TwigStore, TwigView, run_position, twig_agrees, twig_records,
};
use update::update_shard;
pub use update::{Counts, Files, HeldWriter, ShardDelta, ShardWriter};
