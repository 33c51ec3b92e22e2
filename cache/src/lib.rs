//! A concurrent write-back cache over anything that reads many keys and applies a batch atomically.
//!
//! ```text
//!    get, get_many            write ──► Undo ──► undo            close_epoch(tag)
//!         │                     │                                      │
//!   ┌─────▼─────────────────────▼──────────────────────────────────────▼──────────────────┐
//!   │ clean                open epoch                           closed epochs             │
//!   │ what lies below      Dirty, Fresh, Deleted   ── close ──► being flushed, readable   │  ≤ limit_bytes
//!   │ evicted for room     by sequence number                   until they are durable    │
//!   └─────▲─────────────────────────────────────────────────────────┬──────────▲──────────┘
//!         │ unknown: asked for                        one net effect│          │ then clean
//!   ┌─────┴─────────────────────────────────────────────────────────▼──────────┴──────────┐
//!   │ Backing                  get_many                    apply(NetEffect, tag)          │
//!   └─────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Most of what a Bitcoin node writes is deleted soon: what is born and gone within an epoch never reaches the backing.
//! What is written is read at once, is taken back exactly as long as its epoch is open ([`Undo`]), and becomes durable with
//! its epoch, all of it in one step with the epoch's tag (a height, say) or nothing.
//!
//! # What is always true
//!
//! * A read sees what was written last, deletions too, whatever state it is in: open, being flushed, flushed, or
//!   after a flush that failed. What the backing said is not kept if the key was flushed meanwhile.
//! * "Not found" is `Ok(None)`; "could not read" is an error.
//! * The state of a key follows the table at [`State::after`].
//! * A write is of one epoch, all of it. Writes are ordered by sequence numbers, taken under the locks of all that they
//!   touch, and operations by their place in the write.
//! * An epoch's effect is what its keys are now against what they were before it; the backing is given it once, as a whole. Its
//!   keys are clean when that is durable, and not before.
//! * A flush that fails changes nothing here: everything is there, dirty, readable. The first error is latched and is
//!   what every writer and waiter gets, until [`Cache::retry`]. Nobody waits for what cannot come.
//! * Only what lies below is evicted, the value first that was not asked for the longest. The bytes of slots, index, keys and
//!   values are counted exactly and kept within `limit_bytes` (5 % more for what an allocator adds). What is dirty
//!   cannot go: a write for which there is no room waits for a flush that is under way, and is refused otherwise.
//! * Nothing is decided by statistics.
//!
//! **Invariant (absence):** nothing is known here of what keys and values mean, of files and of when to flush: the caller
//! closes epochs, since only he knows what a tag stands for.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `serde` | `Serialize` of [`CacheStats`] and [`Timing`] |
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

mod arena;
mod backing;
mod cache;
mod error;
mod flow;
mod flusher;
mod heap;
mod op;
mod part;
mod parts;
#[cfg(test)]
mod schedules;
mod state;
mod stats;
mod sync;

pub use backing::{Backing, Effects, Epoch, MapBacking, NetEffect};
pub use cache::{Cache, CacheOptions};
pub use error::{Error, UndoRefused};
pub use heap::{HeapBytes, allocated};
pub use op::{Effect, Op, Undo};
pub use state::{Event, State, Transition};
pub use stats::{CacheStats, Timing};
