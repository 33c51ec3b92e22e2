//! Why a block cannot change the state: it is [refused](Refused), or something failed.

use crate::OpKind;
use hedgerow_entryfile::LogError;
use hedgerow_hasher_api::HashError;
use hedgerow_index::IndexError;
use hedgerow_types::hex;
use std::fmt;

/// Why a key, a value, an operation or a whole block is refused: nothing has changed, and the same call on
/// the same state is refused again.
///
/// ```
/// use hedgerow_state::{Refused, check_key, check_value};
/// // What `put` asks first.
/// assert_eq!(check_key(b""), Err(Refused::KeyLength(0)));
/// let too_long = check_value(b"alice", &[0; 100], 64);
/// assert_eq!(too_long, Err(Refused::ValueLength { len: 100, max: 64 }));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// A key is empty or longer than 255 bytes.
    #[error("a key must be 1 to 255 bytes long, this one has {0}")]
    KeyLength(usize),
    /// A value is longer than the limit, which is the option `max_value_bytes` of a store.
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
    #[error("{op:?} of a key that is {}: 0x{}", presence(*.op), HexBytes(.key))]
    InvalidOp {
        /// The operation.
        op: OpKind,
        /// Its key.
        key: Vec<u8>,
    },
    /// A key of a stream that is imported does not come after the one before it, in the order of the hashes
    /// of keys.
    #[error("the key 0x{} comes before the one that it follows, in the order of the hashes of keys", HexBytes(.0))]
    OutOfOrder(Vec<u8>),
    /// A stream that is imported has a key twice.
    #[error("the key 0x{} comes twice", HexBytes(.0))]
    Twice(Vec<u8>),
    /// One proof of no key at all.
    #[error("a proof must be of one key at least")]
    NoKeys,
    /// A range of key hashes that begins with 32 bytes of 0xFF, where the last range ends.
    #[error("no range of keys begins where the last one ends")]
    BehindLastKey,
    /// A block has 2^24 change sets already.
    #[error("a block can have at most 16777216 change sets")]
    TooManyChangeSets,
    /// A block's keys and values, or the entries that it would write to one shard, exceed 4 GiB.
    #[error("a block's operations must stay below 4 GiB")]
    BlockTooLarge,
}

/// Why a block cannot change the state; then the state is as it was.
// Exhaustive: the store must have an answer for each.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked for what cannot be.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What is there contradicts itself.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// An old entry could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The index could not answer.
    #[error("{}", of_index(.0))]
    Index(#[from] IndexError),
    /// The hashing backend failed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

/// A disk that failed is no damage.
fn of_index(error: &IndexError) -> String {
    match error {
        IndexError::Disk(error) => error.to_string(),
        IndexError::Damaged { .. } | IndexError::GivenUp { .. } => error.to_string(),
        other => format!("the store is damaged: index: {other}"),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_types::{KeyHash, LogPosition};
    use hedgerow_vfs::{VfsError, VfsOp};
    use std::path::Path;

    #[test]
    fn a_failing_disk_is_not_called_damage() {
        let full = std::io::ErrorKind::StorageFull.into();
        let disk = VfsError::new(VfsOp::Write, Path::new("index/00-00000001.idx"), None, full);
        let said = Error::from(IndexError::Disk(disk.clone())).to_string();
        assert_eq!(said, disk.to_string());
        let (key, at) = (KeyHash([7; 32]), LogPosition(8));
        let damage = Error::from(IndexError::Missing { key, at }).to_string();
        assert!(damage.starts_with("the store is damaged: index: "), "{damage}");
    }
}
