//! The numbers and scripts of stored coins and of snapshots.
//!
//! ```text
//!   VARINT        n = 0..127 ──► one byte; else groups of 7 bits, the most significant first, the high bit set on
//!                 all but the last, and each carried group is one less: every number has one form
//!   CompactSize   up to 252 ──► one byte; else FD u16, FE u32, FF u64, little-endian (Bitcoin's consensus encoding)
//!   amount        d * 10^e with as many zeros as there are (at most 9) taken off: 50 bitcoin is the number 50
//!   script        00 hash 20      pays to a key's hash
//!                 01 hash 20      pays to a script's hash
//!                 02 x 32, 03 x 32  pays to a compressed key
//!                 04 x 32, 05 x 32  pays to an uncompressed key: y, even or odd, is computed again
//!                 VARINT length + 6, script    anything else
//! ```
//!
//! These are the formats of Bitcoin Core's `serialize.h` and `compressor.h`. Each has one form for each value, and only
//! that one is read: bytes that decode encode to themselves.

mod amount;
mod input;
mod script;
mod varint;

pub(crate) use amount::{pack_amount, unpack_amount};
pub(crate) use input::{Input, ReadError, read_compact_size};
pub(crate) use script::{read_script, write_script};
pub(crate) use varint::{read_varint, write_varint};

use crate::coin::CoinError;
use bitcoin::VarInt;
use bitcoin::consensus::Encodable;

/// Why bytes are not a coin.
///
/// ```
/// use hedgerow_coins::{Coin, FormatError};
///
/// assert_eq!(Coin::decode(&[]), Err(FormatError::Truncated));
/// // Height 1, no amount, an uncompressed key with an x that no point of the curve has.
/// let bytes = [&[2, 0, 4][..], &[0xff; 32]].concat();
/// assert_eq!(Coin::decode(&bytes), Err(FormatError::Key));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end within a field.
    #[error("the bytes end within a field")]
    Truncated,
    /// There are bytes behind the coin.
    #[error("{0} bytes too many")]
    Trailing(u64),
    /// A number has more than 64 bits.
    #[error("a VARINT has more than 64 bits")]
    VarInt,
    /// A number is not written in the shortest form.
    #[error("a CompactSize is not in its shortest form")]
    CompactSize,
    /// Height and coinbase flag are more than 32 bits.
    #[error("height and coinbase flag are {0}, more than 32 bits")]
    Code(u64),
    /// A packed amount is more than 64 bits.
    #[error("the packed amount {0} is more than 64 bits")]
    Amount(u64),
    /// A script is said to be longer than one that can be spent.
    #[error("a script of {0} bytes cannot be spent")]
    ScriptLen(u64),
    /// A script that has a special form stands there in full.
    #[error("a script is not in its shortest form")]
    Script,
    /// No point of the curve has the x of an uncompressed key.
    #[error("a public key is not on the curve")]
    Key,
    /// The coin cannot be in the set.
    #[error(transparent)]
    Coin(#[from] CoinError),
}

/// Appends a CompactSize.
pub(crate) fn write_compact_size(number: u64, out: &mut Vec<u8>) {
    // UNWRAP: writing to memory cannot fail.
    #[expect(clippy::expect_used, reason = "a Vec takes all that is written to it")]
    VarInt(number).consensus_encode(out).expect("memory takes it");
}
