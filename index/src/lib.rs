//! The index: where in the log the current entry of each key is, in key-hash order.
//!
//! A [`ShardIndex`] serves one of the store's 16 shards. Keys are SHA-256 hashes, hence uniform, so
//! no general B-tree is needed: 12 bits of the key hash name a *group*, and a group is one sorted
//! array until it has more than [`MAX_BUCKET_SLOTS`] slots.
//!
//! ```text
//!  key hash   │ 4 bits │   12 bits   │        32 bits        │ 208 bits ...            │
//!             │ shard  │   group     │       fragment        │ not kept: read the entry │
//!                          │                   │
//!                          ▼                   ▼
//!  ShardIndex   groups [0] [1] .. [4095]     slot, 10 bytes
//!                      │   │                 ┌──────────────┬────────────────────┐
//!          One bucket ◄┘   └► Many           │ fragment u32 │ position / 8, u48  │
//!   ┌────────────────────┐    low  bucket    └──────────────┴────────────────────┘
//!   │ slots, ascending   │   ┌────┬────────┐
//!   │ by (fragment,      │   │ 0  │ slots  │  directory of a group that outgrew one bucket:
//!   │ position)          │   ├────┼────────┤  `low` is the least fragment of its bucket
//!   └────────────────────┘   │ 91 │ slots  │
//!                            └────┴────────┘
//! ```
//!
//! # Words
//!
//! * *stem*: group and fragment, the 44 bits after the shard's. The index knows a key by its stem
//!   only, and never looks at the top 4 bits: whoever owns the shards sends each key to its own.
//! * *tie*: keys with equal stems. Any number is legal. [`ShardIndex::candidates`] yields them all,
//!   and the caller reads the entries to tell them apart.
//!
//! # Invariants
//!
//! * The slots of a group, bucket after bucket, ascend strictly by (fragment, position). Hence what
//!   an index answers depends only on the set of (stem, position) it holds, never on its history.
//! * Equal fragments of a group lie in one bucket: a bucket is split between two fragments only. A
//!   bucket of a single fragment therefore grows beyond [`MAX_BUCKET_SLOTS`].
//! * A directory has at least two buckets, none of them empty; its first `low` is 0.
//! * Positions are multiples of 8 below 2^51 ([`MAX_POSITION`]); any other is an error and changes
//!   nothing.
//!
//! # Cost
//!
//! A look-up touches the group (24 bytes, 96 KiB per shard: cached), then the bucket around the
//! place where a uniform fragment should stand: 16 slots, three neighbouring cache lines that
//! arrive together. Above 256 keys per group (16 million keys in the store) the directory adds one
//! line. Batches overlap the waits of many keys.
//!
//! With n keys in the store a key is tied with probability n / 2^48: 4 in 10^8 at 10 million keys,
//! 4 in 10^7 at 100 million. Keys tied on purpose cost 2^48 hashes each, and cost the store one
//! more read for look-ups of those very keys.
//!
//! **Growth never pauses.** The array of groups has its final size from the start. An insert moves
//! at most one bucket (2.5 KB unless its fragments are all equal) and, when a bucket splits, one
//! group's directory: 32 bytes per ~190 keys of that group, 260 bytes at 100 million keys in the
//! store. Someone who mines keys into a single group (2^16 hashes each) makes that directory long:
//! 170 KB per million such keys, copied once per 128 of them. Measured while a store grew to 10
//! million keys (x86-64, a busy two-core machine; of each insert the fastest of three runs): median
//! 0.3 us, 99.99 % within 1.4 us, the slowest 9.3 us; no request to the allocator above 2.3 KB.
//!
//! **Memory.** 10 bytes per slot; room for growth of at most 1/8 and one slot, half of that on
//! average; 1.5 MiB for the groups of 16 shards. Measured: 12.0 bytes per key at 1 million keys,
//! 10.8 at 10 million, 10.9 at 1500 keys per group (100 million).
//!
//! **Sharing.** A [`ShardIndex`] has one owner. A [`SharedIndex`] is one cut into parts, which readers
//! and the one who edits share; the store asks it through the trait [`Index`].
//!
//! **Larger than memory.** A [`TieredIndex`] answers as a [`SharedIndex`] does, keeps its newest records in memory and the
//! rest in files, and stays within a budget. All above this paragraph is about the index in memory.
//!
//! What is deliberately absent: threads, reads of entries other than through the caller, and values.
#![forbid(unsafe_code)]

mod batch;
mod bucket;
mod build;
mod error;
mod group;
mod iter;
mod search;
mod shard;
mod shared;
mod slot;
#[cfg(test)]
mod tests;
mod tiered;

pub use batch::{Edit, Place};
pub use bucket::MAX_BUCKET_SLOTS;
pub use error::IndexError;
pub use iter::{Groups, Positions, Ties};
pub use shard::ShardIndex;
pub use shared::{Index, SharedIndex};
pub use slot::{GROUPS, MAX_POSITION, Stem};
pub use tiered::{
    Audited, Behind, Done, Job, LOWEST_TIER, Late, MemoryStats, Record, SegmentEntry, Snapshot,
    SnapshotRecords, Step, TierStats, TieredIndex, TieredOptions, TieredStats,
};
