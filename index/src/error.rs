//! Why the index refused an edit, or did not answer.

use hedgerow_types::{KeyHash, LogPosition, SerialNumber};
use hedgerow_vfs::VfsError;
use std::path::PathBuf;

/// Why the index refused an edit, or did not answer. It is unchanged.
#[derive(Clone, Debug, thiserror::Error)]
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
    /// The serial number is not above those of earlier edits, or further from them than entries can be.
    #[error("serial number {sn} cannot be indexed: it does not follow those before it")]
    Number {
        /// The serial number.
        sn: SerialNumber,
    },
    /// A file of the index does not hold what was written to it.
    #[error("index file {} is damaged: {what}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The same, and whoever owns the index has seen to it that the next opening does without its files.
    #[error(
        "index file {} is damaged: {what}; the next opening makes the index anew from the log",
        file.display()
    )]
    GivenUp {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] VfsError),
}

impl PartialEq for IndexError {
    /// Errors of the disk are equal if they say the same.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Position { at: a }, Self::Position { at: b })
            | (Self::Occupied { at: a }, Self::Occupied { at: b }) => a == b,
            (Self::Missing { key, at }, Self::Missing { key: other, at: there }) => {
                (key, at) == (other, there)
            }
            (Self::Number { sn: a }, Self::Number { sn: b }) => a == b,
            (Self::Damaged { file, what }, Self::Damaged { file: other, what: that })
            | (Self::GivenUp { file, what }, Self::GivenUp { file: other, what: that }) => {
                (file, what) == (other, that)
            }
            (Self::Disk(a), Self::Disk(b)) => a.to_string() == b.to_string(),
            _ => false,
        }
    }
}

impl Eq for IndexError {}
