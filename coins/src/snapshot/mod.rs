//! Snapshots of a set as Bitcoin Core writes and reads them: `dumptxoutset` and `loadtxoutset`, version 2.
//!
//! ```text
//!   header, 51 bytes   ┌───────────┬───────────┬─────────┬──────────────────────┬───────────────┐
//!                      │ "utxo" FF │ version 2 │ network │ hash of the block 32 │ coins, u64 LE │
//!                      └───────────┴───────────┴─────────┴──────────────────────┴───────────────┘
//!   per transaction    ┌────────┬────────────────────┬───────────────────────────────────────────┐
//!                      │ txid 32│ CompactSize: coins │ CompactSize: output ‖ stored coin │  ..   │
//!                      └────────┴────────────────────┴───────────────────────────────────────────┘
//! ```
//!
//! Transactions ascend by the bytes of their ids as hashed. The coins of one stand as they do in Core's database, whose
//! key has the output's number as a VARINT: ascending, but for numbers from 16,512 on, which come after those up to 255
//! ([`order`]). The reader takes ascending numbers too, and gives coins by number in any case, so that they can go into a
//! [`SerializedHash`](crate::SerializedHash).
//!
//! **Memory.** Writer and reader hold the coins of one transaction. What one can have is bounded by what a block can hold,
//! not by what the file says.

mod error;
mod header;
mod order;
mod reader;
mod writer;

pub use error::{SnapshotDefect, SnapshotError};
pub use header::{SNAPSHOT_HEADER_LEN, SnapshotHeader};
pub use reader::SnapshotReader;
pub use writer::SnapshotWriter;

/// Bytes that the transactions of a block have at most, witnesses aside: a quarter of its weight (BIP 141).
const MAX_BLOCK_LEN: u64 = 1_000_000;
/// Outputs that a transaction has at most: each has an amount and the length of its script, so that no more fit into
/// a block.
pub const MAX_OUTPUTS: u32 = (MAX_BLOCK_LEN / 9) as u32;
