//! Why the index refused an edit.

use hedgerow_types::{KeyHash, LogPosition};

/// Why the index refused an edit. It is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The position is not a multiple of 8, or above [`MAX_POSITION`](crate::MAX_POSITION).
    #[error("log position {at} cannot be indexed: not a multiple of 8 below 2^51")]
    Position {
        /// The position.
        at: LogPosition,
    },
    /// An edit replaces or removes a position that the index does not hold for this key.
    #[error("index holds no entry at log position {at} for key hash {key}")]
    Missing {
        /// Key hash of the edit.
        key: KeyHash,
        /// The position that it expected.
        at: LogPosition,
    },
    /// The position is already indexed, under a key hash with the same first 48 bits.
    #[error("log position {at} is already indexed")]
    Occupied {
        /// The position.
        at: LogPosition,
    },
}
