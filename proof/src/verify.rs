//! From proof bytes to answers about keys.
//!
//! ```text
//!   bytes ─► form ─► root == the trusted one? ─► entries active? ─► what they say about the keys
//!            │
//!            └─ after the root, all that an entry and its page say is in the tree
//! ```

use crate::format::{DEFAULT_MAX_PROOF_LEN, DEFAULT_MAX_SET_LEN};
use crate::hash::{Sha2, Sha256, hash_key, key_hash_of, state_root_with};
use crate::{ClaimedEntry, ProofError, ProofRef};
use alloc::vec::Vec;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, Height, KeyHash, MAX_KEY_LEN, SHARDS, ShardId};

/// What a verifier trusts: it has it from a block header, a checkpoint, its own node.
///
/// ```
/// use hedgerow_proof::{Digest, Trusted, Verifier, state_root};
/// let shards = [Digest::ZERO; 16];
/// let verifier = Verifier::new();
/// // Either is as good: the list leads to the state root.
/// let of_list = verifier.verify(&shards, b"alice", b"...");
/// let of_root = verifier.verify(Trusted::State(state_root(&shards)), b"alice", b"...");
/// assert_eq!(of_list, of_root);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted<'t> {
    /// A state root.
    State(Digest),
    /// The roots of the 16 shards.
    Shards(&'t [Digest; SHARDS]),
}

impl Trusted<'_> {
    pub(crate) fn root(&self, hash: &impl Sha256) -> Digest {
        match self {
            Self::State(root) => *root,
            Self::Shards(shards) => state_root_with(hash, shards),
        }
    }
}

impl From<Digest> for Trusted<'_> {
    fn from(root: Digest) -> Self {
        Self::State(root)
    }
}

impl From<&Digest> for Trusted<'_> {
    fn from(root: &Digest) -> Self {
        Self::State(*root)
    }
}

impl<'t> From<&'t [Digest; SHARDS]> for Trusted<'t> {
    fn from(shards: &'t [Digest; SHARDS]) -> Self {
        Self::Shards(shards)
    }
}

/// What is proved about a key.
///
/// ```
/// use hedgerow_proof::Answer;
/// assert_eq!(Answer::Present(b"").value(), Some(&b""[..]));   // an empty value is a value
/// assert_eq!(Answer::Absent.value(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'p> {
    /// It has this value.
    Present(&'p [u8]),
    /// It has none.
    Absent,
}

impl<'p> Answer<'p> {
    /// The value, `None` if the key is absent.
    pub const fn value(self) -> Option<&'p [u8]> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent => None,
        }
    }
}

/// An answer, and the entry that gives it. Only a verification makes one: what it says is proved.
///
/// ```
/// use hedgerow_proof::{Answer, verify_entry};
/// # use hedgerow_proof::{Digest, EntryPath, Proof, ProofRef};
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
/// let verified = verify_entry(&root, b"alice", &received)?;
/// assert_eq!(verified.answer(), Answer::Present(b"100"));
/// assert_eq!(verified.entry().serial_number().0, 5_000);
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified<'p> {
    pub(crate) answer: Answer<'p>,
    entry: EntryRef<'p>,
    shard: ShardId,
    pub(crate) replaced_at: Option<Height>,
}

impl<'p> Verified<'p> {
    /// What is proved about the key.
    pub const fn answer(&self) -> Answer<'p> {
        self.answer
    }

    /// The value of the key, `None` if it is absent.
    pub const fn value(&self) -> Option<&'p [u8]> {
        self.answer.value()
    }

    /// The entry that says so: the key's own, or its predecessor's. Its version is that of its last rewriting,
    /// which a neighbour's creation or removal causes too.
    pub const fn entry(&self) -> EntryRef<'p> {
        self.entry
    }

    /// The shard of the key and of the entry.
    pub const fn shard(&self) -> ShardId {
        self.shard
    }

    /// The answer has held at the end of every block from this height on, before [`replaced_at`](Self::replaced_at) or up to
    /// the height of the root. It may have held before too.
    pub fn held_from(&self) -> Height {
        self.entry.version().height()
    }

    /// The height of the block that replaced the entry, and so may have changed the answer. `None`: it holds at the
    /// height of the root. Only a proof of the [past](crate::verify_past) may have one.
    pub const fn replaced_at(&self) -> Option<Height> {
        self.replaced_at
    }
}

/// Verifies proofs: with a hash function and limits that one may choose. The functions of this crate, such as
/// [`verify`], are this with the defaults.
///
/// ```
/// use hedgerow_proof::{Digest, ProofError, Verifier};
/// let verifier = Verifier::new().with_limit(4_096);
/// let too_long = verifier.verify(&Digest::ZERO, b"alice", &[2; 5_000]);
/// assert_eq!(too_long, Err(ProofError::TooLong { len: 5_000, max: 4_096 }));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Verifier<H = Sha2> {
    pub(crate) hash: H,
    limit: Option<usize>,
}

impl Verifier {
    /// With the `sha2` crate, and the default limits: [`DEFAULT_MAX_PROOF_LEN`] for the proof of one key,
    /// twice that for one of the past, [`DEFAULT_MAX_SET_LEN`] for those of many keys and of ranges.
    pub const fn new() -> Self {
        Self { hash: Sha2, limit: None }
    }
}

impl<H: Sha256> Verifier<H> {
    /// With this SHA-256, and the default limits.
    pub const fn with_hash(hash: H) -> Self {
        Self { hash, limit: None }
    }

    /// As it is, but proofs of at most `max_len` bytes: longer ones are refused before anything is hashed.
    #[must_use]
    pub fn with_limit(self, max_len: usize) -> Self {
        Self { limit: Some(max_len), ..self }
    }

    /// The value that `key` is proved to have, `None` if it is proved to be absent: see [`verify`].
    ///
    /// # Errors
    /// [`ProofError`] if the bytes are not a proof, or prove nothing about this key under this root.
    pub fn verify<'p, 't>(
        &self,
        trusted: impl Into<Trusted<'t>>,
        key: &[u8],
        proof: &'p [u8],
    ) -> Result<Option<&'p [u8]>, ProofError> {
        Ok(self.verify_entry(trusted, key, proof)?.value())
    }

    /// What is proved about `key`, and the entry that says so: see [`verify_entry`].
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub fn verify_entry<'p, 't>(
        &self,
        trusted: impl Into<Trusted<'t>>,
        key: &[u8],
        proof: &'p [u8],
    ) -> Result<Verified<'p>, ProofError> {
        check_key(key)?;
        let proof = self.decode(&trusted.into(), proof, DEFAULT_MAX_PROOF_LEN)?;
        let Some((claimed, own)) = proof.first().filter(|_| proof.count() == 1) else {
            return Err(ProofError::EntryCount(proof.count()));
        };
        if !claimed.active {
            return Err(ProofError::Inactive);
        }
        self.answer(&claimed, own, key)
    }

    /// What is proved about each of `keys`, in their order: see [`verify_many`].
    ///
    /// # Errors
    /// [`ProofError`] if the bytes are not a proof, or not the proof of these keys under this root.
    pub fn verify_many<'p, 't, K: AsRef<[u8]>>(
        &self,
        trusted: impl Into<Trusted<'t>>,
        keys: &[K],
        proof: &'p [u8],
    ) -> Result<Vec<Verified<'p>>, ProofError> {
        if keys.is_empty() {
            return Err(ProofError::NoKeys);
        }
        keys.iter().try_for_each(|key| check_key(key.as_ref()))?;
        let proof = self.decode(&trusted.into(), proof, DEFAULT_MAX_SET_LEN)?;
        let mut entries: Vec<_> =
            self.in_key_order(&proof)?.into_iter().map(|entry| (entry, false)).collect();
        let mut verified = Vec::with_capacity(keys.len());
        for key in keys {
            let wanted = hash_key(&self.hash, key.as_ref());
            // The last one not above it: another one could neither be the key's nor enclose its hash.
            let upto = entries.partition_point(|((own, _), _)| *own <= wanted);
            let nearest = upto.checked_sub(1).and_then(|last| entries.get_mut(last));
            let ((own, claimed), used) = nearest.ok_or(ProofError::WrongKey)?;
            verified.push(self.answer(claimed, *own, key.as_ref())?);
            *used = true;
        }
        if entries.iter().all(|(_, used)| *used) { Ok(verified) } else { Err(ProofError::Surplus) }
    }

    /// Verifies single proofs, each with its key, under one root: an answer or an error for each.
    ///
    /// ```
    /// use hedgerow_proof::{Digest, ProofError, Verifier};
    /// let received: [(&[u8], &[u8]); 2] = [(b"alice", b"..."), (b"bob", b"...")];
    /// // All of them, or the first error.
    /// let values: Result<Vec<Option<&[u8]>>, ProofError> =
    ///     Verifier::new().verify_batch(&Digest::ZERO, received).collect();
    /// assert!(values.is_err());
    /// ```
    pub fn verify_batch<'v, 'p, 't, K: AsRef<[u8]>>(
        &'v self,
        trusted: impl Into<Trusted<'t>>,
        pairs: impl IntoIterator<Item = (K, &'p [u8])> + 'v,
    ) -> impl Iterator<Item = Result<Option<&'p [u8]>, ProofError>> + 'v
    where
        'p: 'v,
    {
        let root = trusted.into().root(&self.hash);
        pairs.into_iter().map(move |(key, proof)| self.verify(root, key.as_ref(), proof))
    }

    /// A proof whose form is right and which leads to the trusted root. From here on its entries and pages are
    /// in the tree; what is left to ask is what they say.
    pub(crate) fn decode<'p>(
        &self,
        trusted: &Trusted<'_>,
        proof: &'p [u8],
        default_limit: usize,
    ) -> Result<ProofRef<'p>, ProofError> {
        let limit = self.limit.unwrap_or(default_limit);
        let proof = ProofRef::decode_with(&self.hash, proof, limit)?;
        let found = proof.roots_with(&self.hash).state;
        if found == trusted.root(&self.hash) {
            Ok(proof)
        } else {
            Err(ProofError::WrongRoot { found })
        }
    }

    /// The entries of a verified proof, all of which must be active, with their key hashes and in their order.
    pub(crate) fn in_key_order<'p>(
        &self,
        proof: &ProofRef<'p>,
    ) -> Result<Vec<(KeyHash, ClaimedEntry<'p>)>, ProofError> {
        let mut entries = Vec::with_capacity(proof.entries().len());
        for claimed in proof.entries() {
            if !claimed.active {
                return Err(ProofError::Inactive);
            }
            entries.push((key_hash_of(&self.hash, &claimed.entry), claimed));
        }
        entries.sort_unstable_by_key(|(own, _)| *own);
        Ok(entries)
    }

    /// What an entry, whose key hash is `own`, says about `key` ([spec 10.2](hedgerow_types::spec)).
    pub(crate) fn answer<'p>(
        &self,
        claimed: &ClaimedEntry<'p>,
        own: KeyHash,
        key: &[u8],
    ) -> Result<Verified<'p>, ProofError> {
        let ClaimedEntry { entry, shard, .. } = *claimed;
        let verified = |answer| Verified { answer, entry, shard, replaced_at: None };
        // A sentry is nobody's entry, even for a user's key of the same bytes: that key is ordered by
        // its hash, like every other.
        if entry.key() == key && !entry.is_sentry() {
            return Ok(verified(Answer::Present(entry.value())));
        }
        let wanted = hash_key(&self.hash, key);
        // The upper bound must be strict: the predecessor of a present key ends at that key's hash.
        // (The lower one could only be met by two keys of one SHA-256.)
        if wanted.shard() == shard && own < wanted && wanted < entry.next_key_hash() {
            Ok(verified(Answer::Absent))
        } else {
            Err(ProofError::WrongKey)
        }
    }
}

/// Keys have 1 to 255 bytes.
pub(crate) fn check_key(key: &[u8]) -> Result<(), ProofError> {
    if key.is_empty() || key.len() > MAX_KEY_LEN {
        return Err(ProofError::KeyLength(key.len()));
    }
    Ok(())
}

/// What `proof` proves about `key` in the state whose root is `root`: `Some(value)` that the key
/// is present with this value (which may be empty), `None` that it is absent.
///
/// The caller vouches for the root alone; the proof may come from anyone. It has one entry, and at most
/// [`DEFAULT_MAX_PROOF_LEN`] bytes, which is enough for values of 65,536 bytes.
///
/// ```
/// use hedgerow_proof::verify;
/// # use hedgerow_proof::{Digest, EntryPath, Proof, ProofRef};
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
/// match verify(&root, b"alice", &received)? {
///     Some(value) => assert_eq!(value, b"100"),
///     None => println!("alice has no value"),  // proved too
/// }
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
///
/// # Errors
/// [`ProofError`] if the bytes are not a proof, or prove nothing about this key under this root.
/// Nothing is then known about the key.
pub fn verify<'p>(
    root: &Digest,
    key: &[u8],
    proof: &'p [u8],
) -> Result<Option<&'p [u8]>, ProofError> {
    Verifier::new().verify(root, key, proof)
}

/// As [`verify`], for proofs of at most `max_len` bytes: longer ones are refused before anything is
/// hashed. A proof is as long as its entry plus 616 bytes, plus 32 for each level of the
/// upper tree (21 levels at 2^32 entries in a shard).
///
/// ```
/// use hedgerow_proof::{Digest, ProofError, verify_with_limit};
/// let too_long = verify_with_limit(&Digest::ZERO, b"alice", &[2; 5_000], 4_096);
/// assert_eq!(too_long, Err(ProofError::TooLong { len: 5_000, max: 4_096 }));
/// ```
///
/// # Errors
/// As [`verify`], and [`ProofError::TooLong`].
pub fn verify_with_limit<'p>(
    root: &Digest,
    key: &[u8],
    proof: &'p [u8],
    max_len: usize,
) -> Result<Option<&'p [u8]>, ProofError> {
    Verifier::new().with_limit(max_len).verify(root, key, proof)
}

/// As [`verify`], with the entry that gives the answer.
///
/// # Errors
/// As [`verify`].
pub fn verify_entry<'p>(
    root: &Digest,
    key: &[u8],
    proof: &'p [u8],
) -> Result<Verified<'p>, ProofError> {
    Verifier::new().verify_entry(root, key, proof)
}

/// The values of `keys` in the state whose root is `root`, in the order of the keys, as one proof of all of
/// them proves them; `None` for a key that is absent. Keys may come in any order and more than once. The proof has
/// no entry but those that say something about one of these keys, and at most [`DEFAULT_MAX_SET_LEN`] bytes.
///
/// ```
/// use hedgerow_proof::verify_many;
/// # use hedgerow_proof::{Digest, EntryPath, Proof, ProofRef};
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
/// let values = verify_many(&root, &["alice", "alice"], &received)?;
/// assert_eq!(values, [Some(&b"100"[..]); 2]);
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
///
/// # Errors
/// [`ProofError`] if the bytes are not a proof, or not the proof of these keys under this root; no key is
/// [`ProofError::NoKeys`]. Nothing is then known about any of them.
pub fn verify_many<'p, K: AsRef<[u8]>>(
    root: &Digest,
    keys: &[K],
    proof: &'p [u8],
) -> Result<Vec<Option<&'p [u8]>>, ProofError> {
    let verified = Verifier::new().verify_many(root, keys, proof)?;
    Ok(verified.iter().map(Verified::value).collect())
}
