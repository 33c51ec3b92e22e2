//! The hash function as an argument, and the hashes that are made with it.
//!
//! ```text
//!   Sha256 (trait)  ◄── Sha2: the `sha2` crate      the default
//!                   ◄── yours: a precompile, a coprocessor
//!      │
//!      └─► node hash, key hash, climb, state root of 16 shard roots
//! ```

use crate::path::Node;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, KeyHash, SHARDS, STATE_ROOT_LEVEL, node::preimage};
use sha2::Digest as _;

/// SHA-256 (FIPS 180-4), for a [`Verifier`](crate::Verifier): a zkVM guest or a device with an instruction for
/// it brings its own. What is not SHA-256 verifies nothing.
///
/// ```
/// use hedgerow_proof::{Digest, Sha2, Sha256, Verifier};
///
/// /// Stands for the precompile of a virtual machine.
/// struct Counting(std::cell::Cell<u32>);
/// impl Sha256 for Counting {
///     fn sha256(&self, bytes: &[u8]) -> Digest {
///         self.0.set(self.0.get() + 1);
///         Sha2.sha256(bytes)
///     }
/// }
/// let verifier = Verifier::with_hash(Counting(0.into()));
/// assert!(verifier.verify(&Digest::ZERO, b"alice", b"no proof").is_err());
/// ```
pub trait Sha256 {
    /// SHA-256 of `bytes`.
    fn sha256(&self, bytes: &[u8]) -> Digest;
}

impl<H: Sha256> Sha256 for &H {
    fn sha256(&self, bytes: &[u8]) -> Digest {
        (**self).sha256(bytes)
    }
}

/// SHA-256 of the `sha2` crate, which uses the instructions of the CPU where there are any.
///
/// ```
/// use hedgerow_proof::{Sha2, Sha256};
/// let digest = Sha2.sha256(b"abc");            // the first example of FIPS 180-4
/// assert!(digest.to_string().starts_with("ba7816bf8f01cfea"));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sha2;

impl Sha256 for Sha2 {
    fn sha256(&self, bytes: &[u8]) -> Digest {
        Digest(sha2::Sha256::digest(bytes).into())
    }
}

/// `node(level, left, right)` ([spec 2](hedgerow_types::spec)).
pub(crate) fn hash_node(hash: &impl Sha256, level: u8, left: &Digest, right: &Digest) -> Digest {
    hash.sha256(&preimage(level, left, right))
}

/// The hash of a user's key.
pub(crate) fn hash_key(hash: &impl Sha256, key: &[u8]) -> KeyHash {
    KeyHash(hash.sha256(key).0)
}

/// The key hash of an entry: the padded prefix for a sentry, else SHA-256 of its key ([spec 4.3](hedgerow_types::spec)).
pub(crate) fn key_hash_of(hash: &impl Sha256, entry: &EntryRef<'_>) -> KeyHash {
    entry.sentry_key_hash().unwrap_or_else(|| hash_key(hash, entry.key()))
}

/// The ancestor of `node` that these siblings lead to. The node is the `index`-th of `level`, the
/// first sibling is on `level` too, each other one level higher; bit i of the index is 1 if sibling
/// i is on the left.
pub(crate) fn climb(
    hash: &impl Sha256,
    node: Digest,
    level: u8,
    index: u64,
    siblings: &[Node],
) -> Digest {
    let mut node = node;
    for (i, sibling) in (0_u8..).zip(siblings) {
        let sibling = Digest(*sibling);
        node = if (index >> i) & 1 == 1 {
            hash_node(hash, level + i, &sibling, &node)
        } else {
            hash_node(hash, level + i, &node, &sibling)
        };
    }
    node
}

/// The state root over the roots of the 16 shards, in the order of the shards: four levels of nodes, whose
/// children have the levels 64 to 67 (the header of the [spec](hedgerow_types::spec)).
///
/// ```
/// use hedgerow_proof::{Digest, state_root};
/// let mut shards = [Digest::ZERO; 16];
/// let root = state_root(&shards);
/// shards[9] = root;
/// assert_ne!(state_root(&shards), root);
/// ```
pub fn state_root(shards: &[Digest; SHARDS]) -> Digest {
    state_root_with(&Sha2, shards)
}

/// As [`state_root`], with this hash.
pub(crate) fn state_root_with(hash: &impl Sha256, shards: &[Digest; SHARDS]) -> Digest {
    fn over(hash: &impl Sha256, level: u8, shards: &[Digest]) -> Digest {
        match shards {
            [] => Digest::ZERO,
            [one] => *one,
            several => {
                let (left, right) = several.split_at(several.len() / 2);
                let [left, right] = [left, right].map(|half| over(hash, level - 1, half));
                hash_node(hash, level - 1, &left, &right)
            }
        }
    }
    const { assert!(SHARDS == 16) };
    over(hash, STATE_ROOT_LEVEL + 4, shards)
}
