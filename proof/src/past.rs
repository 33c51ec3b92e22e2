//! From proof bytes to what a key had at an earlier height, under the root of a later one.
//!
//! ```text
//!   height asked about ──────────────┐
//!   versions  ......... E1 ..........│........... E2 .............. root of a later height
//!                       says it      │            names E1 among those that it deactivated
//! ```
//!
//! Every entry is a leaf of all later trees. If E1 is active still, it was current at the height unless it is
//! of a later one. If it is not, exactly one entry replaced it: when that one is of a later height, E1 was
//! current at the height. A copy that compaction makes keeps its version, so E1 is the last copy before the
//! change, and a copy never passes for a change.

use crate::format::DEFAULT_MAX_PROOF_LEN;
use crate::hash::{Sha256, key_hash_of};
use crate::verify::{Answer, Verified, check_key};
use crate::{ProofError, Trusted, Verifier};
use hedgerow_types::{Digest, Height};

impl<H: Sha256> Verifier<H> {
    /// What `key` had after the block at `height`: see [`verify_past`].
    ///
    /// # Errors
    /// [`ProofError`] if the bytes are not a proof, or prove nothing about this key at this height under this root.
    pub fn verify_past<'p, 't>(
        &self,
        trusted: impl Into<Trusted<'t>>,
        key: &[u8],
        height: Height,
        proof: &'p [u8],
    ) -> Result<Verified<'p>, ProofError> {
        check_key(key)?;
        let proof = self.decode(&trusted.into(), proof, 2 * DEFAULT_MAX_PROOF_LEN)?;
        let mut entries = proof.entries();
        let (first, second) = match (entries.next(), entries.next(), entries.next()) {
            (Some(first), second, None) => (first, second),
            _ => return Err(ProofError::EntryCount(proof.count())),
        };
        if second.is_none() && !first.active {
            return Err(ProofError::Inactive);
        }
        let mut verified = self.answer(&first, key_hash_of(&self.hash, &first.entry), key)?;
        let written = first.entry.version().height();
        if written > height {
            return Err(ProofError::Later(written));
        }
        if let Some(second) = second {
            let sn = first.entry.serial_number();
            let replaced_at = second.entry.version().height();
            let replaces = second.entry.deactivated().any(|deactivated| deactivated == sn);
            if second.shard != first.shard || replaced_at <= height || !replaces {
                return Err(ProofError::NotReplaced);
            }
            verified.replaced_at = Some(replaced_at);
        }
        Ok(verified)
    }

    /// What `key` has had at the end of every block since `height`: see [`verify_since`].
    ///
    /// # Errors
    /// As [`verify_since`].
    pub fn verify_since<'p, 't>(
        &self,
        trusted: impl Into<Trusted<'t>>,
        key: &[u8],
        height: Height,
        proofs: impl IntoIterator<Item = &'p [u8]>,
    ) -> Result<Answer<'p>, ProofError> {
        let root = trusted.into().root(&self.hash);
        // What has held so far, and to what height; nothing yet.
        let (mut answer, mut next) = (None, Some(height));
        for proof in proofs {
            let Some(height) = next else { return Err(ProofError::Surplus) };
            let verified = self.verify_past(root, key, height, proof)?;
            if answer.is_some_and(|answer| answer != verified.answer) {
                return Err(ProofError::Changed(height));
            }
            (answer, next) = (Some(verified.answer), verified.replaced_at);
        }
        match (answer, next) {
            (Some(answer), None) => Ok(answer),
            (_, reached) => Err(ProofError::Unfinished(reached.unwrap_or(height))),
        }
    }
}

/// What `key` had after the block at `height`, proved under the root of that height or any later one.
///
/// The caller vouches for the root, for its height being `height` at least, and for the root having been
/// computed by the rules (docs/proofs.md). The proof has one entry that is active still, or two: one, and the one that
/// replaced it after `height`; at most twice [`DEFAULT_MAX_PROOF_LEN`] bytes.
///
/// ```
/// use hedgerow_proof::{Answer, Height, ProofError, verify_past};
/// # use hedgerow_proof::{Digest, EntryPath, Proof, ProofRef};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(7 << 24), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let made = Proof::assemble(&[EntryPath { entry, page: [0xFF; 32], upper: vec![Digest::ZERO; 2],
/// #     ..EntryPath::default() }]);
/// # let received = made.unwrap().into_bytes();
/// # let root = ProofRef::decode(&received, 1 << 20)?.root();
/// // Written by block 7, and current still: so it was at height 9.
/// let verified = verify_past(&root, b"alice", Height(9), &received)?;
/// assert_eq!(verified.answer(), Answer::Present(b"100"));
/// let before = verify_past(&root, b"alice", Height(6), &received);
/// assert_eq!(before, Err(ProofError::Later(Height(7))));
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
///
/// # Errors
/// [`ProofError`] if the bytes are not a proof, or prove nothing about this key at this height under this root.
pub fn verify_past<'p>(
    root: &Digest,
    key: &[u8],
    height: Height,
    proof: &'p [u8],
) -> Result<Verified<'p>, ProofError> {
    Verifier::new().verify_past(root, key, height, proof)
}

/// What `key` has had at the end of every block from `height` to that of the root: one answer, which did not change.
///
/// The proofs are [proofs of the past](verify_past), all under this root: the first for `height`, each further one
/// for the height at which the entry of the one before was [replaced](Verified::replaced_at), until one was not.
/// There is more than one if the entry was written again in between: with another value and back, or since a
/// neighbour came or went. What happened within one block is not seen. This is what the version of an
/// entry does not say (docs/proofs.md, section 5).
///
/// ```
/// use hedgerow_proof::{Answer, Height, ProofError, verify_since};
/// # use hedgerow_proof::{Digest, EntryPath, Proof, ProofRef};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(7 << 24), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let made = Proof::assemble(&[EntryPath { entry, page: [0xFF; 32], upper: vec![Digest::ZERO; 2],
/// #     ..EntryPath::default() }]);
/// # let received = made.unwrap().into_bytes();
/// # let root = ProofRef::decode(&received, 1 << 20)?.root();
/// // Written by block 7, and current still.
/// let answer = verify_since(&root, b"alice", Height(9), [&received[..]])?;
/// assert_eq!(answer, Answer::Present(b"100"));
/// let nothing = verify_since(&root, b"alice", Height(9), []);
/// assert_eq!(nothing, Err(ProofError::Unfinished(Height(9))));
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
///
/// # Errors
/// As [`verify_past`] for each of them; [`ProofError::Changed`] if the answer is another one later,
/// [`ProofError::Unfinished`] if they end before the height of the root, [`ProofError::Surplus`] if they go on after it.
pub fn verify_since<'p>(
    root: &Digest,
    key: &[u8],
    height: Height,
    proofs: impl IntoIterator<Item = &'p [u8]>,
) -> Result<Answer<'p>, ProofError> {
    Verifier::new().verify_since(root, key, height, proofs)
}
