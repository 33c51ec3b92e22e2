//! Why bytes prove nothing.

use core::fmt;
use hedgerow_types::entry::EntryError;
use hedgerow_types::{MAX_KEY_LEN, SerialNumber};

/// Why bytes are not a proof, or not a proof of what was asked.
///
/// ```
/// use hedgerow_proof::{Digest, ProofError, verify};
/// # use hedgerow_proof::{Proof, ProofRef};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let zero = Digest::ZERO;
/// # let made = Proof::assemble(&entry, &[zero; 11], &[0xFF; 32], &[zero; 3], &[zero; 2], &[zero; 4]);
/// # let received = made.unwrap().into_bytes();
/// # let root = ProofRef::decode(&received, 1 << 20)?.root();
/// // Nothing follows about the key in any of these cases.
/// assert_eq!(verify(&Digest::ZERO, b"alice", &received), Err(ProofError::WrongRoot));
/// assert_eq!(verify(&root, b"bob", &received), Err(ProofError::WrongKey));
/// assert_eq!(verify(&root, b"alice", b"\x02..."), Err(ProofError::UnknownVersion(2)));
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProofError {
    /// The bytes are more than the caller accepts.
    TooLong {
        /// Bytes that are there.
        len: usize,
        /// Bytes that are accepted.
        max: usize,
    },
    /// The first byte names an encoding that is not known here.
    UnknownVersion(u8),
    /// No entry follows the version.
    Entry(EntryError),
    /// The bytes of the path are not a whole number of nodes, or too few or too many of them.
    PathLength {
        /// Bytes found in place of the path.
        len: usize,
    },
    /// The path has too few levels for the serial number.
    Position {
        /// The serial number.
        sn: SerialNumber,
        /// Levels above the twig root, up to the shard root.
        upper_levels: usize,
    },
    /// The key asked for has no byte or more than 255.
    KeyLength(usize),
    /// The path leads to another root.
    WrongRoot,
    /// The entry is in the tree but its active bit is not set: it was replaced.
    Inactive,
    /// The entry is active but it is neither the key's own nor its predecessor.
    WrongKey,
    /// The entry is not the one that the path begins with.
    WrongEntry,
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => write!(f, "proof of {len} bytes, at most {max} accepted"),
            Self::UnknownVersion(version) => write!(f, "unknown proof version {version}"),
            Self::Entry(error) => write!(f, "no entry in the proof: {error}"),
            Self::PathLength { len } => write!(f, "{len} bytes cannot be a path"),
            Self::Position { sn, upper_levels } => {
                write!(f, "serial number {sn} is beyond a tree of {upper_levels} upper levels")
            }
            Self::KeyLength(len) => write!(f, "key of {len} bytes, must be 1 to {MAX_KEY_LEN}"),
            Self::WrongRoot => f.write_str("the path leads to another root"),
            Self::Inactive => f.write_str("the entry is not active"),
            Self::WrongKey => f.write_str("the entry says nothing about the key"),
            Self::WrongEntry => f.write_str("the entry is not the one that the path begins with"),
        }
    }
}

impl core::error::Error for ProofError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Entry(error) => Some(error),
            _ => None,
        }
    }
}
