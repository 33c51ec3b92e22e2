//! What can go wrong with a snapshot.

use crate::codec::{FormatError, ReadError};
use crate::digest::OutOfOrder;
use bitcoin::Txid;
use std::io;

/// Why a snapshot could not be written or read.
///
/// ```
/// use hedgerow_coins::{SnapshotDefect, SnapshotError, SnapshotReader};
///
/// let error = SnapshotReader::new(&b"not a snapshot, but as many bytes as a header has."[..]).unwrap_err();
/// assert!(matches!(error, SnapshotError::Format { offset: 50, what: SnapshotDefect::Coin(_) }));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The reader or writer beneath failed.
    #[error("at byte {offset} of the snapshot: {source}")]
    Io {
        /// Bytes of the snapshot before it.
        offset: u64,
        /// What it said.
        source: io::Error,
    },
    /// The bytes are not those of a snapshot.
    #[error("at byte {offset} of the snapshot: {what}")]
    Format {
        /// Bytes of the snapshot up to where it was seen.
        offset: u64,
        /// What is wrong.
        what: SnapshotDefect,
    },
    /// Coins to be written must come in order.
    #[error(transparent)]
    OutOfOrder(#[from] OutOfOrder),
    /// A coin to be written cannot be in a block.
    #[error("transaction {0} has more outputs than fit into a block")]
    Outputs(Txid),
    /// The header promises another number of coins than were written.
    #[error("the header says {promised} coins, and there are {found}")]
    Count {
        /// What the header says.
        promised: u64,
        /// How many there were; of more than promised, one more.
        found: u64,
    },
    /// It failed before; that error was told then.
    #[error("writing the snapshot failed before")]
    Failed,
}

/// What is wrong with the bytes of a snapshot.
///
/// ```
/// use hedgerow_coins::{SNAPSHOT_HEADER_LEN, SnapshotDefect, SnapshotError, SnapshotHeader};
///
/// let mut bytes = [0; SNAPSHOT_HEADER_LEN];
/// bytes[..7].copy_from_slice(b"utxo\xff\x01\x00");
/// let error = SnapshotHeader::decode(&bytes).unwrap_err();
/// assert!(matches!(error, SnapshotError::Format { what: SnapshotDefect::Version(1), .. }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotDefect {
    /// It does not begin with `utxo` and the byte FF.
    #[error("this is no snapshot of a set of coins")]
    Magic,
    /// Another version than 2.
    #[error("a snapshot of version {0}; version 2 is read")]
    Version(u16),
    /// Transactions do not ascend.
    #[error("transaction {0} does not come after the one before")]
    Order(Txid),
    /// A transaction has no coins, more than the header leaves, or more than fit into a block.
    #[error(
        "a transaction with {count} coins, where {left} are left and {} fit into a block",
        super::MAX_OUTPUTS
    )]
    Coins {
        /// What it says.
        count: u64,
        /// How many coins the header says there are, less those that were read.
        left: u64,
    },
    /// The number of an output does not come after the one before, or no block has as many.
    #[error("output {0} is out of order or beyond what fits into a block")]
    Output(u64),
    /// The outputs of a transaction do not fit into a block together.
    #[error("a transaction of more bytes than a block has")]
    Large,
    /// A coin is younger than the set.
    #[error("a coin of height {0}, which is above the snapshot's")]
    Height(u32),
    /// A field or a coin is malformed.
    #[error(transparent)]
    Coin(#[from] FormatError),
    /// There is something behind the last coin.
    #[error("there are bytes after the last coin")]
    Trailing,
}

impl SnapshotError {
    /// What reading ran into, at this offset.
    pub(super) fn reading(offset: u64, error: ReadError) -> Self {
        match error {
            ReadError::Io(source) => Self::Io { offset, source },
            ReadError::Format(what) => Self::Format { offset, what: what.into() },
        }
    }
}
