//! Why bytes prove nothing.

use core::fmt;
use hedgerow_types::entry::EntryError;
use hedgerow_types::{Digest, Height, KeyHash, MAX_KEY_LEN, SerialNumber};

/// Why bytes are not a proof, or not a proof of what was asked: which check failed.
///
/// ```
/// use hedgerow_proof::{Digest, ProofError, verify};
/// # use hedgerow_proof::{EntryPath, Proof, ProofRef};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let made = Proof::assemble(&[EntryPath { entry, page: [0xFF; 32], upper: vec![Digest::ZERO; 2],
/// #     ..EntryPath::default() }]);
/// # let received = made.unwrap().into_bytes();
/// # let root = ProofRef::decode(&received, 1 << 20)?.root();
/// // Nothing follows about the key in any of these cases.
/// let error = verify(&Digest::ZERO, b"alice", &received).unwrap_err();
/// assert_eq!(error, ProofError::WrongRoot { found: root });   // where the proof leads
/// assert_eq!(error.check(), "root");
/// assert_eq!(verify(&root, b"bob", &received), Err(ProofError::WrongKey));
/// assert_eq!(verify(&root, b"alice", b"\x01..."), Err(ProofError::UnknownVersion(1)));
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
    /// The bytes are not as many as the entries, pages and nodes of the proof.
    Length {
        /// Bytes that it needs, as far as could be read.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// A proof of no entry.
    NoEntries,
    /// A shard is said to have so many levels above the twig roots; 51 are the most.
    UpperLevels(u8),
    /// What should be an entry is none.
    Entry(EntryError),
    /// The entry of this number, from 0, does not follow the one before it by shard and serial number.
    Order(u32),
    /// The shards that are named, a bit each, are not those of the entries.
    Shards(u16),
    /// The path has too few levels for the serial number.
    Position {
        /// The serial number.
        sn: SerialNumber,
        /// Levels above the twig root, up to the shard root.
        upper_levels: usize,
    },
    /// The paths that a proof should be made of are not those of one tree.
    Contradiction,
    /// A key asked for has no byte or more than 255.
    KeyLength(usize),
    /// No key was asked for.
    NoKeys,
    /// The proof leads to another root.
    WrongRoot {
        /// The root that it leads to.
        found: Digest,
    },
    /// So many entries are not what such a proof has: one, or one or two for the past.
    EntryCount(u32),
    /// An entry is in the tree but its active bit is not set: it was replaced.
    Inactive,
    /// No entry is the key's own or its predecessor.
    WrongKey,
    /// An entry says nothing about any key that was asked for, or a proof about no height that is left.
    Surplus,
    /// No key of the proof's entries begins the range: the one at its start, or the one before it.
    Start(KeyHash),
    /// The entries of a range do not meet: the one that ends here does not lead to another one of the proof, or
    /// beyond its shard.
    Gap(KeyHash),
    /// The entry is of a later height than the one asked about.
    Later(Height),
    /// The second entry of a proof of the past is not of a later height than the one asked about, or did not
    /// replace the first.
    NotReplaced,
    /// The answer had changed at this height.
    Changed(Height),
    /// The proofs say nothing from this height on.
    Unfinished(Height),
    /// The bytes of a path by serial number are not a whole number of nodes, or too few or too many of them.
    PathLength {
        /// Bytes found in place of the path.
        len: usize,
    },
    /// The entry is not the one that the path by serial number begins with.
    WrongEntry,
}

impl ProofError {
    /// A short name of the check that failed, the one that the golden vectors use: it will not change.
    pub const fn check(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "limit",
            Self::UnknownVersion(_) => "version",
            Self::Length { .. } => "length",
            Self::NoEntries => "no entries",
            Self::UpperLevels(_) => "upper levels",
            Self::Entry(_) => "entry",
            Self::Order(_) => "order",
            Self::Shards(_) => "shards",
            Self::Position { .. } => "position",
            Self::Contradiction => "contradiction",
            Self::KeyLength(_) => "key length",
            Self::NoKeys => "no keys",
            Self::WrongRoot { .. } => "root",
            Self::EntryCount(_) => "entry count",
            Self::Inactive => "inactive",
            Self::WrongKey => "key",
            Self::Surplus => "surplus",
            Self::Start(_) => "start",
            Self::Gap(_) => "gap",
            Self::Later(_) => "later",
            Self::NotReplaced => "not replaced",
            Self::Changed(_) => "changed",
            Self::Unfinished(_) => "unfinished",
            Self::PathLength { .. } => "path length",
            Self::WrongEntry => "wrong entry",
        }
    }
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { len, max } => write!(f, "proof of {len} bytes, at most {max} accepted"),
            Self::UnknownVersion(version) => write!(f, "unknown proof version {version}"),
            Self::Length { need, have } => write!(f, "proof of {have} bytes, needs {need}"),
            Self::NoEntries => f.write_str("a proof of no entry"),
            Self::UpperLevels(levels) => write!(f, "{levels} levels above the twigs, at most 51"),
            Self::Entry(error) => write!(f, "no entry in the proof: {error}"),
            Self::Order(number) => write!(f, "entry {number} of the proof is out of order"),
            Self::Shards(_) => f.write_str("the entries are of other shards than the proof names"),
            Self::Position { sn, upper_levels } => {
                write!(f, "serial number {sn} is beyond a tree of {upper_levels} upper levels")
            }
            Self::Contradiction => f.write_str("the paths are not those of one tree"),
            Self::KeyLength(len) => write!(f, "key of {len} bytes, must be 1 to {MAX_KEY_LEN}"),
            Self::NoKeys => f.write_str("no key was asked for"),
            Self::WrongRoot { found } => write!(f, "the proof leads to another root, {found}"),
            Self::EntryCount(count) => {
                write!(f, "{count} entries, not as many as such a proof has")
            }
            Self::Inactive => f.write_str("the entry is not active"),
            Self::WrongKey => f.write_str("the entry says nothing about the key"),
            Self::Surplus => f.write_str("an entry says nothing about any of the keys"),
            Self::Start(from) => write!(f, "no entry encloses the start of the range, {from}"),
            Self::Gap(at) => write!(f, "the entries of the range do not meet at {at}"),
            Self::Later(height) => write!(f, "the entry is of height {height}, a later one"),
            Self::NotReplaced => {
                f.write_str("the entry was not replaced by the second one after the height")
            }
            Self::Changed(height) => write!(f, "the answer is another one at height {height}"),
            Self::Unfinished(height) => write!(f, "the proofs say nothing from height {height} on"),
            Self::PathLength { len } => write!(f, "{len} bytes cannot be a path"),
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
