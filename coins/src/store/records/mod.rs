//! Records of blocks: what each did to the set, so that it can be undone, and done again.
//!
//! ```text
//!   blocks/00000007.rec   ┌────────┬────────────────┬────────────────┬───────────────────┬────────────────┐
//!                         │ header │ connect 100    │ connect 101    │ disconnect 101    │ connect 101'   │
//!                         └────────┴────────────────┴────────────────┴───────────────────┴────────────────┘
//!   blocks/00000008.rec   ┌────────┬────────────────┬ ─ ─ ─ ─ ─ ─
//!                         │ header │ connect 102    │ torn: cut when it is opened
//!                         └────────┴────────────────┴ ─ ─ ─ ─ ─ ─
//!
//!   header   magic "HGCBLOCK" ‖ version u32 (1) ‖ number of the segment u64 ‖ CRC32C u32 of what is before it
//!   record   length of the body u32 ‖ CRC32C u32 of (number of the segment u64 ‖ offset u64 ‖ body) ‖ body
//!   body     01 ‖ height u32 ‖ block 32 ‖ height of its parent u32 (FFFFFFFF: none) ‖ parent 32
//!               ‖ amount spent u64 ‖ amount created u64
//!               ‖ coins spent u32 ‖ { key 36 ‖ length u16 ‖ stored coin }
//!               ‖ coins created u32 ‖ { the same }
//!            02 ‖ height u32 ‖ block 32                    the last connected block is none any more
//! ```
//!
//! Numbers are little-endian. What is connected and not disconnected is the chain. Records are appended without waiting
//! for the disk; before a flush they are synced, and the flush says up to where ([`Position`]): damage before that is an
//! error, what is not whole behind it was never durable.

mod log;
mod record;

pub(super) use log::Records;
pub(super) use record::{Draft, Record};

use super::Tip;
use crate::coin::Coin;
use bitcoin::OutPoint;
use std::path::PathBuf;

/// A place in the records of blocks.
///
/// ```
/// use hedgerow_coins::Position;
///
/// let position = Position { segment: 2, offset: 24 };
/// assert!(position > Position { segment: 1, offset: 1 << 20 });
/// assert!(position > Position::START);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the segment, from 1.
    pub segment: u64,
    /// Bytes from its beginning.
    pub offset: u64,
}

impl Position {
    /// Before all records.
    pub const START: Self = Self { segment: 0, offset: 0 };
}

/// What a block did to the set: what [`CoinStore::disconnect`](crate::CoinStore::disconnect) undoes.
///
/// ```
/// use hedgerow::disk::MemDisk;
/// use hedgerow_coins::{BlockEffect, CoinOptions, CoinStore, regtest};
///
/// let options = CoinOptions::new().disk(std::sync::Arc::new(MemDisk::new()));
/// let mut store = CoinStore::open("/coins", options)?;
/// let block = regtest::chain().next().ok_or("no block")?;
/// store.connect_block(1, &block)?;
/// let record = store.record(1)?;
/// assert_eq!(record.created, BlockEffect::of(&block, 1)?.created);
/// assert_eq!((record.spent.len(), record.parent), (0, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockRecord {
    /// The block.
    pub tip: Tip,
    /// The one that it follows; none of the first that was connected.
    pub parent: Option<Tip>,
    /// The coins that it spent, in the order of the inputs, then those that were overwritten.
    pub spent: Vec<(OutPoint, Coin)>,
    /// The coins that it created and did not spend.
    pub created: Vec<(OutPoint, Coin)>,
}

/// The records of blocks are damaged.
///
/// ```
/// use hedgerow_coins::{Position, RecordsDefect, RecordsError};
///
/// let error = RecordsError {
///     path: "blocks/00000001.rec".into(),
///     at: Position { segment: 1, offset: 24 },
///     what: RecordsDefect::Checksum,
/// };
/// assert_eq!(error.to_string(), "blocks/00000001.rec, byte 24: its checksum is wrong");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}, byte {}: {what}", path.display(), at.offset)]
pub struct RecordsError {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub at: Position,
    /// What is wrong.
    pub what: RecordsDefect,
}

impl RecordsError {
    /// Whether what is on the disk is damaged.
    pub const fn is_damage(&self) -> bool {
        true
    }
}

/// What is wrong with the records of blocks.
///
/// ```
/// use hedgerow_coins::RecordsDefect;
///
/// assert_eq!(RecordsDefect::Short.to_string(), "it ends before what a flush has made durable");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsDefect {
    /// A segment does not begin as one does.
    #[error("its header is wrong")]
    Header,
    /// A record has another checksum.
    #[error("its checksum is wrong")]
    Checksum,
    /// The body of a record is none.
    #[error("the body of a record is none")]
    Body,
    /// The file, or the file after it, ends too soon.
    #[error("it ends before what a flush has made durable")]
    Short,
    /// A block does not follow the one before.
    #[error("block {0} does not follow the one before it")]
    Chain(u32),
    /// The block of the last flush is none of the chain that the records tell of.
    #[error("block {0}, at which the store stands, is not in the records")]
    Tip(u32),
}
