//! Why a block cannot change the state.

use crate::OpKind;
use hedgerow_entryfile::LogError;
use hedgerow_hasher_api::HashError;
use hedgerow_index::IndexError;
use hedgerow_types::hex;
use std::fmt;

/// Why a block cannot change the state; then the state is as it was.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key is empty or longer than 255 bytes.
    #[error("a key must be 1 to 255 bytes long, this one has {0}")]
    KeyLength(usize),
    /// A value is longer than the limit that was given.
    #[error("value of {len} bytes; the limit (option max_value_bytes) is {max}")]
    ValueLength {
        /// Length of the value in bytes.
        len: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// An empty value under a key of 32 bytes of which the last 30 are zero: reserved for sentries.
    #[error("a 32-byte key that ends in 30 zero bytes cannot have an empty value (it is reserved)")]
    SentryShape,
    /// A strict operation does not fit the state: an update or delete of an absent key, or a create
    /// of a present one.
    #[error("{}", invalid_op(*.op, .key))]
    InvalidOp {
        /// The operation.
        op: OpKind,
        /// Its key.
        key: Vec<u8>,
    },
    /// A block has 2^24 change sets already.
    #[error("a block can have at most 16777216 change sets")]
    TooManyChangeSets,
    /// A block's keys and values, or the entries that it would write to one shard, exceed 4 GiB.
    #[error("a block's operations must stay below 4 GiB")]
    BlockTooLarge,
    /// What is there contradicts itself.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// An old entry could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The index could not answer.
    #[error("the store is damaged: index: {0}")]
    Index(#[from] IndexError),
    /// The hashing backend failed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// The text of [`Error::InvalidOp`].
pub fn invalid_op(op: OpKind, key: &[u8]) -> String {
    format!("{op:?} of a key that is {}: 0x{}", presence(op), HexBytes(key))
}

fn presence(op: OpKind) -> &'static str {
    if op == OpKind::Create { "present" } else { "absent" }
}

struct HexBytes<'a>(&'a [u8]);

impl fmt::Display for HexBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(f, self.0)
    }
}
