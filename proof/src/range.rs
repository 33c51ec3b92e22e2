//! From proof bytes to all keys of a range of key hashes.
//!
//! ```text
//!             from                                       until
//!    e0 ───────┼──► e1 ─────────► e2 ─────► e3 ───────────►│
//!    hash <= from   hash == e0.next  ...    e3.next == until
//! ```
//!
//! Every active entry names the key hash of the next one, so between two that meet lies no key. At the end of
//! a shard that hash is the first sentry's of the next shard: a range may go on there. After the last shard it
//! is [`KeyHash::MAX`].

use crate::format::DEFAULT_MAX_SET_LEN;
use crate::hash::Sha256;
use crate::{ClaimedEntry, ProofError, Trusted, Verifier};
use alloc::vec::Vec;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, KeyHash};

/// All keys, with their values, whose hashes are at least [`from`](Self::from) and below [`until`](Self::until).
/// Only a verification makes one: what it says is proved.
///
/// ```
/// use hedgerow_proof::{KeyHash, verify_range};
/// # use hedgerow_proof::{Digest, EntryPath, Proof, ProofRef};
/// # use hedgerow_types::{SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let hash: KeyHash = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90".parse().unwrap();
/// # let next_key_hash = KeyHash::sentry(0x2BD9);
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash, version, serial_number,
/// #     deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let made = Proof::assemble(&[EntryPath { entry, page: [0xFF; 32], upper: vec![Digest::ZERO; 2],
/// #     ..EntryPath::default() }]);
/// # let received = made.unwrap().into_bytes();
/// # let root = ProofRef::decode(&received, 1 << 20).unwrap().root();
/// # let asked = hash;
/// let range = verify_range(&root, asked, &received)?;
/// for (key, value) in range.items() {
///     println!("{key:?} has {value:?}");
/// }
/// let ask_next = (!range.is_last()).then_some(range.until());
/// # assert_eq!((range.items().count(), ask_next), (1, Some(KeyHash::sentry(0x2BD9))));
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRange<'p> {
    from: KeyHash,
    until: KeyHash,
    /// In the order of their key hashes; the first may lie before the range.
    entries: Vec<(KeyHash, EntryRef<'p>)>,
}

impl<'p> VerifiedRange<'p> {
    /// The key hash at which the range begins: the one asked for.
    pub const fn from(&self) -> KeyHash {
        self.from
    }

    /// The key hash before which the range ends, and at which the next one begins.
    pub const fn until(&self) -> KeyHash {
        self.until
    }

    /// Whether nothing lies behind this range.
    pub fn is_last(&self) -> bool {
        self.until == KeyHash::MAX
    }

    /// The keys of the range and their values, in the order of their hashes.
    pub fn items(&self) -> impl DoubleEndedIterator<Item = (&'p [u8], &'p [u8])> {
        self.entries().map(|(_, entry)| (entry.key(), entry.value()))
    }

    /// The entries of the keys of the range with their key hashes, in the order of these.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = (KeyHash, EntryRef<'p>)> {
        let from = self.from;
        let is_item =
            move |(own, entry): &(KeyHash, EntryRef<'_>)| *own >= from && !entry.is_sentry();
        self.entries.iter().copied().filter(is_item)
    }
}

impl<H: Sha256> Verifier<H> {
    /// All keys of a range that begins at `from`: see [`verify_range`].
    ///
    /// # Errors
    /// [`ProofError`] if the bytes are not a proof, or not that of a range from there under this root.
    pub fn verify_range<'p, 't>(
        &self,
        trusted: impl Into<Trusted<'t>>,
        from: KeyHash,
        proof: &'p [u8],
    ) -> Result<VerifiedRange<'p>, ProofError> {
        let proof = self.decode(&trusted.into(), proof, DEFAULT_MAX_SET_LEN)?;
        let sorted = self.in_key_order(&proof)?;
        let mut entries: Vec<(KeyHash, EntryRef<'p>)> = Vec::with_capacity(sorted.len());
        let mut until = None;
        for (own, ClaimedEntry { entry, shard, .. }) in sorted {
            let next = entry.next_key_hash();
            if until.is_some_and(|until| until != own) {
                return Err(ProofError::Gap(until.unwrap_or_default()));
            }
            // The last entry of a shard leads to the end of it, and none further.
            if next <= own || next > KeyHash::end_of(shard) {
                return Err(ProofError::Gap(own));
            }
            if until.is_none() && (own > from || next <= from) {
                return Err(ProofError::Start(from));
            }
            until = Some(next);
            entries.push((own, entry));
        }
        let until = until.ok_or(ProofError::NoEntries)?;
        Ok(VerifiedRange { from, until, entries })
    }
}

/// All keys, with their values, of the state whose root is `root`, from the key hash `from` up to one that the
/// proof itself says: a prover has limits. Whoever wants more asks again from there, until
/// [`VerifiedRange::is_last`]. The proof has at most [`DEFAULT_MAX_SET_LEN`] bytes.
///
/// # Errors
/// [`ProofError`] if the bytes are not a proof, or not that of a range from there under this root.
pub fn verify_range<'p>(
    root: &Digest,
    from: KeyHash,
    proof: &'p [u8],
) -> Result<VerifiedRange<'p>, ProofError> {
    Verifier::new().verify_range(root, from, proof)
}
