//! The bytes of a proof by key, version 1.

use crate::ProofError;
use crate::path::{FIXED_NODES, LEFT_LEVELS, MAX_UPPER_LEVELS, Node, PathRef, RIGHT_LEVELS};
use crate::path::{climb, sha256};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;
use hedgerow_types::entry::{self, EntryRef};
use hedgerow_types::{Digest, KeyHash, STATE_LEVELS, STATE_ROOT_LEVEL, ShardId};

/// The first byte of a proof.
pub const PROOF_VERSION: u8 = 1;
/// Length in bytes of the shortest proof: a one-byte key, no value, a shard of one twig.
pub const MIN_PROOF_LEN: usize = 1 + entry::FIXED_LEN + 1 + 32 * (FIXED_NODES + STATE_LEVELS);
/// Length in bytes of the longest proof that the format allows, 16.8 MB: the limit of
/// [`verify`](crate::verify). A caller that knows that values are shorter gives
/// [`verify_with_limit`](crate::verify_with_limit) a lower one.
pub const DEFAULT_MAX_PROOF_LEN: usize =
    1 + entry::MAX_LEN + 32 * (FIXED_NODES + MAX_UPPER_LEVELS + STATE_LEVELS);

const _: () = assert!(MIN_PROOF_LEN == 663);
const _: () = assert!(DEFAULT_MAX_PROOF_LEN == 16_781_804);

/// A proof by key, borrowed from its bytes. Decoding checks the form only: what it proves, and
/// under which root, [`verify`](crate::verify) says.
///
/// ```text
///  1 byte     version, 1
///  P bytes    the entry's hashed bytes, which say their own length (spec 4.1)
///  11 x 32    left siblings, levels 0..=10
///  32         the page of active bits that holds the entry's
///  3 x 32     right siblings, levels 8..=10
///  k x 32     upper siblings, levels 12..12+k, 0 <= k <= 51: what fills the length
///  4 x 32     state siblings, levels 64..=67
/// ```
///
/// The serial number, which says on which side each sibling is, stands in the entry; the shard is
/// the top of the entry's key hash.
///
/// ```
/// use hedgerow_proof::ProofRef;
/// # use hedgerow_proof::{Digest, Proof};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let zero = Digest::ZERO;
/// # let made = Proof::assemble(&entry, &[zero; 11], &[0xFF; 32], &[zero; 3], &[zero; 2], &[zero; 4]);
/// # let received = made.unwrap().into_bytes();
/// let proof = ProofRef::decode(&received, 64 * 1024)?;
/// assert_eq!(proof.entry().key(), b"alice");   // what it claims: nothing is verified yet
/// println!("{} under root {}", proof.entry().serial_number(), proof.root());
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofRef<'a> {
    entry: EntryRef<'a>,
    path: PathRef<'a>,
    state: &'a [Node; STATE_LEVELS],
}

impl<'a> ProofRef<'a> {
    /// Decodes a proof of at most `max_len` bytes, which must be exactly `bytes`.
    ///
    /// # Errors
    /// [`ProofError`]: `TooLong`, `UnknownVersion`, `Entry`, `PathLength` or `Position`.
    pub fn decode(bytes: &'a [u8], max_len: usize) -> Result<Self, ProofError> {
        if bytes.len() > max_len {
            return Err(ProofError::TooLong { len: bytes.len(), max: max_len });
        }
        let Some((version, rest)) = bytes.split_first() else {
            return Err(ProofError::PathLength { len: 0 });
        };
        if *version != PROOF_VERSION {
            return Err(ProofError::UnknownVersion(*version));
        }
        let (entry, rest) = EntryRef::parse_prefix(rest).map_err(ProofError::Entry)?;
        let length = ProofError::PathLength { len: rest.len() };
        let (nodes, []) = rest.as_chunks() else {
            return Err(length);
        };
        let (nodes, state) = nodes.split_last_chunk().ok_or(length)?;
        let path = PathRef::new(entry.serial_number(), nodes).map_err(|error| match error {
            ProofError::PathLength { .. } => length,
            other => other,
        })?;
        Ok(Self { entry, path, state })
    }

    /// The entry that the proof is about: the key's own, or its predecessor's. Not yet known to be
    /// in any tree.
    pub const fn entry(&self) -> EntryRef<'a> {
        self.entry
    }

    /// The key hash of the entry: the padded prefix for a sentry, else SHA-256 of its key
    /// ([spec 4.3](hedgerow_types::spec)).
    pub fn entry_key_hash(&self) -> KeyHash {
        self.entry.sentry_key_hash().unwrap_or_else(|| KeyHash(sha256(self.entry.key()).0))
    }

    /// The shard of the entry.
    pub fn shard(&self) -> ShardId {
        self.entry_key_hash().shard()
    }

    /// Whether the entry's active bit is set in the page that the proof brings.
    pub fn is_active(&self) -> bool {
        self.path.is_active(self.entry.serial_number())
    }

    /// The shard root that the proof leads to.
    pub fn shard_root(&self) -> Digest {
        let leaf = sha256(self.entry.hashed_bytes());
        self.path.shard_root(self.entry.serial_number(), leaf)
    }

    /// The state root that the proof leads to: it proves something under this root only.
    pub fn root(&self) -> Digest {
        let shard = self.shard().index() as u64;
        climb(self.shard_root(), STATE_ROOT_LEVEL, shard, self.state)
    }
}

/// The bytes of a proof by key. They are well formed ([`ProofRef::decode`] accepts them); what they
/// prove, [`verify`](crate::verify) says.
///
/// ```
/// use hedgerow_proof::{Proof, ProofError};
/// # use hedgerow_proof::Digest;
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let zero = Digest::ZERO;
/// # let made = Proof::assemble(&entry, &[zero; 11], &[0xFF; 32], &[zero; 3], &[zero; 2], &[zero; 4]);
/// # let received = made.unwrap().into_bytes();
/// let limit = 64 * 1024;                       // this application has no longer values
/// let proof = Proof::from_bytes(received, limit)?;   // well formed: it may be stored, and sent on
/// assert_eq!(proof.as_bytes()[0], hedgerow_proof::PROOF_VERSION);
/// let cut = Proof::from_bytes(proof[..100].to_vec(), limit);
/// assert!(matches!(cut, Err(ProofError::PathLength { .. })));
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proof(Vec<u8>);

impl Proof {
    /// Puts a proof together; the prover's side.
    ///
    /// `entry` is the entry's hashed bytes, `page` the 32 bytes of active bits that hold the
    /// entry's, the siblings are given from the lowest level up.
    ///
    /// # Errors
    /// [`ProofError`] if `entry` is not one entry, or `upper` has too few levels for its serial
    /// number, or more than [`MAX_UPPER_LEVELS`].
    pub fn assemble(
        entry: &[u8],
        left: &[Digest; LEFT_LEVELS],
        page: &[u8; 32],
        right: &[Digest; RIGHT_LEVELS],
        upper: &[Digest],
        state: &[Digest; STATE_LEVELS],
    ) -> Result<Self, ProofError> {
        EntryRef::parse(entry).map_err(ProofError::Entry)?;
        let nodes = FIXED_NODES + upper.len() + STATE_LEVELS;
        let mut bytes = Vec::with_capacity(1 + entry.len() + 32 * nodes);
        bytes.push(PROOF_VERSION);
        bytes.extend_from_slice(entry);
        let siblings = |bytes: &mut Vec<u8>, digests: &[Digest]| {
            bytes.extend(digests.iter().flat_map(|digest| digest.0));
        };
        siblings(&mut bytes, left);
        bytes.extend_from_slice(page);
        siblings(&mut bytes, right);
        siblings(&mut bytes, upper);
        siblings(&mut bytes, state);
        Self::from_bytes(bytes, DEFAULT_MAX_PROOF_LEN)
    }

    /// Takes bytes, at most `max_len`, that are a well-formed proof.
    ///
    /// # Errors
    /// As [`ProofRef::decode`].
    pub fn from_bytes(bytes: Vec<u8>, max_len: usize) -> Result<Self, ProofError> {
        ProofRef::decode(&bytes, max_len)?;
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl Deref for Proof {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Proof {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proof({} bytes)", self.0.len())
    }
}
