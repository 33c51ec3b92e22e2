//! The state of a height as a file: what opening a store begins with, instead of all of its log.
//!
//! ```text
//!   stream   head          store, height, end of the log, roots; of every shard: numbers, edges' and
//!            │             parts' counts, from which the length of everything else follows
//!            shard 0 .. 15 │ edges │ left roots │ active bits │ youngest leaves │ places │ begins
//!            keys 0 .. 15  │ stem (6) position/8 (6) │ ... ascending
//!            or, of a tiered index: │ its segments │ the records that it has in memory
//!
//!   written  [`Frozen::new`] copies the small parts, while nobody changes the state: megabytes
//!            [`Frozen::write`] streams the keys out of a view of that height, however long it takes;
//!            [`Frozen::write_tiers`] what snapshots of that height name
//!   read     [`Checkpoint::open`] ► [`shard`](Checkpoint::shard) ► [`keys`](Checkpoint::keys) or
//!            [`tiers`](Checkpoint::tiers)
//! ```
//!
//! All of it is derived from the log and never needed for its own sake: whoever finds a checkpoint missing
//! or damaged opens the slower way. What is believed of one: pages by their checksums, which are bound to
//! the store and the height; bits, left roots and leaves by the root that they lead to, which the manifest
//! knows; the keys by their number, and by their order.
//!
//! # Bytes
//!
//! In pages with checksums, see `pages`. Little-endian.
//!
//! ```text
//!   head      0   8   magic "HgrwCkp1"
//!             8   2   format version, 2
//!            10   1   0: it has the keys; 1: it has what a tiered index is made of
//!            11   5   zero
//!            16  16   store id
//!            32   8   height
//!            40   8   log end
//!            48  32   state root
//!            80  96 x shard:   0  8  next serial number
//!                              8  8  oldest active serial number
//!                             16  8  active entries, which is the number of its keys
//!                             24 32  root
//!                             56  8  number of edges, at most 64
//!                             64  8  number of breaks of the youngest twig, at most 2048
//!                             72  8  number of begins
//!                             80  8  number of segments, at most 65536; 0 if it has the keys
//!                             88  8  number of records; 0 if it has the keys
//!   1616      shard:  33 e  edges of the twig of the oldest active entry: level (1), node (32)
//!                     32 t  left roots of the twigs from that of the oldest active entry on
//!                    256 t' their active bits, and the youngest twig's
//!                     32 l  leaves of the youngest twig
//!                      8    record of the youngest twig's first entry, 0 if it is empty
//!                      8 g  position of every 16th entry of the youngest twig
//!                     10 b  breaks: leaf (2), position (8)
//!                     16 n  begins: twig (8), entries of all shards before its record (8)
//!             keys:   12 a  stem (6), position / 8 (6), ascending
//!             or      29 s  segments: number (8), tier (1), length (8), checksum (4), cut (8)
//!                     18 r  records: stem (6), position / 8 (6), serial number (6), ascending
//! ```

mod pages;
mod read;
mod write;

pub use read::{Checkpoint, Keys, Records, ShardParts};
pub use write::Frozen;

use hedgerow_index::IndexError;
use hedgerow_merkle::MerkleError;
use hedgerow_types::{
    Digest, Height, LogPosition, MAX_TWIGS, MAX_TWIGS_HELD, SENTRIES_PER_SHARD, SHARDS,
    SerialNumber, ShardId, TWIG_LEAVES,
};
use hedgerow_vfs::VfsError;

const MAGIC: [u8; 8] = *b"HgrwCkp1";
const VERSION: u16 = 2;
const HEAD_LEN: u64 = 80 + SHARDS as u64 * 96;
const _: () = assert!(HEAD_LEN == 1616);
/// Bytes of a key.
const KEY_LEN: usize = 12;
/// Bytes of a segment of a tiered index.
const SEGMENT_LEN: usize = 29;
/// Bytes of a record of a tiered index.
const RECORD_LEN: usize = 18;
/// Most segments of a shard.
const MAX_SEGMENTS: u64 = 1 << 16;
/// Most edges of a shard: one per level.
const MAX_EDGES: u64 = 64;

/// Why a checkpoint cannot be used, or not be written.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Its bytes are not those that were written, or contradict each other.
    #[error("the checkpoint is damaged: {0}")]
    Damaged(&'static str),
    /// It is whole, and of another store, height or version.
    #[error("the checkpoint is another one: {0}")]
    Other(&'static str),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] VfsError),
    /// Its keys do not fit together.
    #[error("the keys of the checkpoint: {0}")]
    Index(#[from] IndexError),
    /// The tree that was to be copied contradicts itself.
    #[error(transparent)]
    Tree(#[from] MerkleError),
}

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The store.
    pub store: [u8; 16],
    /// The height whose state it is.
    pub height: Height,
    /// Where the log ended.
    pub log_end: LogPosition,
    /// The root of all shards.
    pub state_root: Digest,
    /// Whether it has what a tiered index is made of, and not the keys.
    pub tiered: bool,
    /// The shards, in order.
    pub shards: [ShardHead; SHARDS],
}

/// What a checkpoint says of a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardHead {
    /// The serial number that the next entry gets.
    pub next_sn: SerialNumber,
    /// No entry below it is active.
    pub oldest_active: SerialNumber,
    /// Number of active entries: of keys, sentries included.
    pub active: u64,
    /// Root of the shard's tree.
    pub root: Digest,
    edges: u64,
    breaks: u64,
    begins: u64,
    segments: u64,
    records: u64,
}

impl ShardHead {
    /// Twigs from that of the oldest active entry to before the youngest.
    fn full_twigs(&self) -> u64 {
        self.next_sn.twig().0 - self.oldest_active.twig().0
    }

    fn leaves(&self) -> u64 {
        self.next_sn.leaf() as u64
    }

    fn groups(&self) -> u64 {
        self.leaves().div_ceil(crate::GROUP as u64)
    }

    /// Bytes of the shard's part. Its numbers were checked.
    fn part_len(&self) -> u64 {
        let twigs = self.full_twigs();
        let bits = (TWIG_LEAVES / 8) as u64 * (twigs + 1);
        let places = 8 + 8 * self.groups() + 10 * self.breaks;
        33 * self.edges + 32 * twigs + bits + 32 * self.leaves() + places + 16 * self.begins
    }

    /// Bytes of its keys, or of what a tiered index is made of.
    fn keys_len(&self, tiered: bool) -> u64 {
        if tiered {
            self.segments * SEGMENT_LEN as u64 + self.records * RECORD_LEN as u64
        } else {
            self.active * KEY_LEN as u64
        }
    }

    /// Whether lengths may be computed from its numbers: they are then far from overflowing.
    fn is_sound(&self) -> bool {
        self.oldest_active < self.next_sn
            && self.next_sn.twig().0 < MAX_TWIGS
            && self.full_twigs() < MAX_TWIGS_HELD
            && (SENTRIES_PER_SHARD..=self.next_sn.0 - self.oldest_active.0).contains(&self.active)
            && self.edges <= MAX_EDGES
            && self.breaks <= TWIG_LEAVES as u64
            && self.begins <= self.full_twigs() + 1
            && self.segments <= MAX_SEGMENTS
            && self.records <= self.next_sn.0
    }
}

impl Head {
    /// Bytes of the whole stream.
    fn stream_len(&self) -> u64 {
        let len = |shard: &ShardHead| shard.part_len() + shard.keys_len(self.tiered);
        HEAD_LEN + self.shards.iter().map(len).sum::<u64>()
    }

    /// Where the part of a shard begins in the stream, and where its keys do.
    fn places(&self, shard: usize) -> (u64, u64) {
        let before = || self.shards.iter().take(shard);
        let parts: u64 = self.shards.iter().map(ShardHead::part_len).sum();
        let part: u64 = before().map(ShardHead::part_len).sum();
        let keys: u64 = before().map(|shard| shard.keys_len(self.tiered)).sum();
        (HEAD_LEN + part, HEAD_LEN + parts + keys)
    }

    /// What it says of a shard.
    pub fn shard(&self, shard: ShardId) -> &ShardHead {
        &self.shards[shard.index()] // one per shard
    }

    /// Bytes of its file.
    pub fn file_len(&self) -> u64 {
        pages::file_len(self.stream_len())
    }
}

#[cfg(test)]
mod tests;
