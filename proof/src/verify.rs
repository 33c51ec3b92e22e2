//! From proof bytes to an answer.

use crate::path::sha256;
use crate::{DEFAULT_MAX_PROOF_LEN, ProofError, ProofRef};
use hedgerow_types::{Digest, KeyHash, MAX_KEY_LEN};

/// What `proof` proves about `key` in the state whose root is `root`: `Some(value)` that the key
/// is present with this value (which may be empty), `None` that it is absent.
///
/// The caller vouches for the root alone; the proof may come from anyone.
///
/// ```
/// use hedgerow_proof::verify;
/// # use hedgerow_proof::{Digest, Proof, ProofRef};
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
pub fn verify<'a>(
    root: &Digest,
    key: &[u8],
    proof: &'a [u8],
) -> Result<Option<&'a [u8]>, ProofError> {
    verify_with_limit(root, key, proof, DEFAULT_MAX_PROOF_LEN)
}

/// As [`verify`], for proofs of at most `max_len` bytes: longer ones are refused before anything is
/// hashed. A proof is as long as its entry plus 609 bytes, plus 32 for each level of the
/// upper tree (21 levels at 2^32 entries in a shard).
///
/// ```
/// use hedgerow_proof::{Digest, ProofError, verify_with_limit};
/// let too_long = verify_with_limit(&Digest::ZERO, b"alice", &[1; 5_000], 4_096);
/// assert_eq!(too_long, Err(ProofError::TooLong { len: 5_000, max: 4_096 }));
/// ```
///
/// # Errors
/// As [`verify`], and [`ProofError::TooLong`].
pub fn verify_with_limit<'a>(
    root: &Digest,
    key: &[u8],
    proof: &'a [u8],
    max_len: usize,
) -> Result<Option<&'a [u8]>, ProofError> {
    if key.is_empty() || key.len() > MAX_KEY_LEN {
        return Err(ProofError::KeyLength(key.len()));
    }
    let proof = ProofRef::decode(proof, max_len)?;
    if proof.root() != *root {
        return Err(ProofError::WrongRoot);
    }
    // From here on the entry and its page are in the tree; the rest asks what they say.
    if !proof.is_active() {
        return Err(ProofError::Inactive);
    }
    answer(&proof, key)
}

/// What the active entry of `proof` says about `key` ([spec 10.2](hedgerow_types::spec)).
fn answer<'a>(proof: &ProofRef<'a>, key: &[u8]) -> Result<Option<&'a [u8]>, ProofError> {
    let entry = proof.entry();
    // A sentry is nobody's entry, even for a user's key of the same bytes: that key is ordered by
    // its hash, like every other.
    if entry.key() == key && !entry.is_sentry() {
        return Ok(Some(entry.value()));
    }
    let from = proof.entry_key_hash();
    let wanted = KeyHash(sha256(key).0);
    let until = entry.next_key_hash();
    // The upper bound must be strict: the predecessor of a present key ends at that key's hash.
    // (The lower one could only be met by two keys of one SHA-256.)
    if wanted.shard() == from.shard() && from < wanted && wanted < until {
        Ok(None)
    } else {
        Err(ProofError::WrongKey)
    }
}
