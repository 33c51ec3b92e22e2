//! Proofs by serial number, in the bytes that QMDB and skippydb use ([spec 10.1](hedgerow_types::spec)).

use crate::ProofError;
use crate::hash::{Sha2, Sha256};
use crate::path::{FIXED_NODES, LEFT_LEVELS, MAX_UPPER_LEVELS, Node, PathRef, RIGHT_LEVELS};
use alloc::vec::Vec;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, SerialNumber};

/// The path from one leaf of a shard to the root of that shard, and whether the leaf is active.
///
/// ```text
///  8          serial number (u64 LE)
///  32         leaf: the entry hash, or the null entry's where there is no entry yet
///  11 x 32    left siblings, levels 0..=10
///  32         the page of active bits that holds the leaf's
///  3 x 32     right siblings, levels 8..=10
///  k x 32     upper siblings, levels 12..12+k, 1 <= k <= 51
///  32         shard root
/// ```
///
/// It proves what stands at a position, current or not. Proofs about keys, and under the state
/// root, are [`Proof`](crate::Proof)s.
///
/// ```
/// use hedgerow_proof::{Digest, ProofError, SerialNumber, SerialPath};
/// # let (sn, zero) = (SerialNumber(5_000), Digest::ZERO);
/// # let made = SerialPath::assemble(sn, zero, &[zero; 11], &[0; 32], &[zero; 3], &[zero; 2], zero);
/// # let received = made?.to_bytes();
/// let path = SerialPath::decode(&received)?;
/// assert_eq!(path.sn(), SerialNumber(5_000));
/// // The root that it names is a claim. Here it does not even lead there.
/// let shard_root = path.claimed_root();
/// assert!(matches!(path.verify(&shard_root), Err(ProofError::WrongRoot { .. })));
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialPath {
    sn: SerialNumber,
    leaf: Digest,
    /// Left siblings, page, right siblings, upper siblings: [`PathRef`] accepts them.
    nodes: Vec<Node>,
    root: Digest,
}

impl SerialPath {
    /// Puts a path together; the prover's side. Siblings are given from the lowest level up.
    ///
    /// # Errors
    /// [`ProofError`] if `upper` is empty, has too few levels for the serial number, or more than
    /// [`MAX_UPPER_LEVELS`].
    pub fn assemble(
        sn: SerialNumber,
        leaf: Digest,
        left: &[Digest; LEFT_LEVELS],
        page: &[u8; 32],
        right: &[Digest; RIGHT_LEVELS],
        upper: &[Digest],
        root: Digest,
    ) -> Result<Self, ProofError> {
        let mut nodes = Vec::with_capacity(FIXED_NODES + upper.len());
        nodes.extend(left.iter().map(|digest| digest.0));
        nodes.push(*page);
        nodes.extend(right.iter().chain(upper).map(|digest| digest.0));
        Self::checked(sn, leaf, nodes, root)
    }

    /// Decodes a path, which must be exactly `bytes`.
    ///
    /// # Errors
    /// [`ProofError::PathLength`] unless the length is 8 + 32 (17 + k) with 1 <= k <= 51,
    /// [`ProofError::Position`] if the serial number has bits above the path.
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofError> {
        let length = ProofError::PathLength { len: bytes.len() };
        if bytes.len() > 8 + 32 * (FIXED_NODES + 2 + MAX_UPPER_LEVELS) {
            return Err(length);
        }
        let (sn, rest) = bytes.split_first_chunk().ok_or(length)?;
        let (nodes, []) = rest.as_chunks::<32>() else {
            return Err(length);
        };
        let [leaf, nodes @ .., root] = nodes else {
            return Err(length);
        };
        let sn = SerialNumber(u64::from_le_bytes(*sn));
        Self::checked(sn, Digest(*leaf), nodes.to_vec(), Digest(*root))
    }

    fn checked(
        sn: SerialNumber,
        leaf: Digest,
        nodes: Vec<Node>,
        root: Digest,
    ) -> Result<Self, ProofError> {
        let len = 8 + 32 * (nodes.len() + 2);
        // A single twig has no root in the engines whose encoding this is (spec 16.14).
        if nodes.len() == FIXED_NODES {
            return Err(ProofError::PathLength { len });
        }
        PathRef::new(sn, &nodes).map_err(|error| match error {
            ProofError::PathLength { .. } => ProofError::PathLength { len },
            other => other,
        })?;
        Ok(Self { sn, leaf, nodes, root })
    }

    /// The bytes: [`SerialPath::decode`] reads them back.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + 32 * (self.nodes.len() + 2));
        bytes.extend_from_slice(&self.sn.0.to_le_bytes());
        bytes.extend_from_slice(&self.leaf.0);
        bytes.extend_from_slice(self.nodes.as_flattened());
        bytes.extend_from_slice(&self.root.0);
        bytes
    }

    /// The serial number.
    pub const fn sn(&self) -> SerialNumber {
        self.sn
    }

    /// The entry hash at this serial number, or the null entry's.
    pub const fn leaf(&self) -> Digest {
        self.leaf
    }

    /// The shard root that the bytes name: a claim, not a root to verify against.
    pub const fn claimed_root(&self) -> Digest {
        self.root
    }

    /// Checks that the leaf stands at the serial number, with the active bit of
    /// [`SerialPath::is_active`], in the shard whose root is `shard_root`; the named root must be
    /// the same ([spec 10.2](hedgerow_types::spec)).
    ///
    /// # Errors
    /// [`ProofError::WrongRoot`] if not.
    pub fn verify(&self, shard_root: &Digest) -> Result<(), ProofError> {
        let found = PathRef::new(self.sn, &self.nodes)?.shard_root(self.sn, self.leaf);
        match [found, self.root].into_iter().find(|root| root != shard_root) {
            None => Ok(()),
            Some(found) => Err(ProofError::WrongRoot { found }),
        }
    }

    /// Whether the active bit is set; to be believed after [`SerialPath::verify`].
    pub fn is_active(&self) -> bool {
        PathRef::new(self.sn, &self.nodes).is_ok_and(|path| path.is_active(self.sn))
    }

    /// The entry whose hashed bytes are `bytes`, if it is the one that stands at this serial
    /// number; to be believed after [`SerialPath::verify`].
    ///
    /// # Errors
    /// [`ProofError::Entry`] if the bytes are not one entry, [`ProofError::WrongEntry`] if its hash
    /// is not the leaf or it has another serial number.
    pub fn check_entry<'a>(&self, bytes: &'a [u8]) -> Result<EntryRef<'a>, ProofError> {
        let entry = EntryRef::parse(bytes).map_err(ProofError::Entry)?;
        if Sha2.sha256(bytes) == self.leaf && entry.serial_number() == self.sn {
            Ok(entry)
        } else {
            Err(ProofError::WrongEntry)
        }
    }
}
