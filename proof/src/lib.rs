//! Proofs of Hedgerow: what a light client needs, and nothing else.
//!
//! With a 32-byte state root and a proof, anyone learns the value of a key, or that the key is absent,
//! without a store and without trusting the sender of the proof. A proof of one key is accepted up to 70,132 bytes,
//! those of values up to 65,536 bytes; one of many keys or of a range up to 16 MiB; other limits are an
//! argument ([`Verifier::with_limit`]).
//!
//! | what is asked | function | what the proof has |
//! |---|---|---|
//! | the value of a key, or that it is absent | [`verify`], [`verify_entry`] | one entry |
//! | the same of many keys at once | [`verify_many`] | each entry and each node once |
//! | all keys of a range of key hashes | [`verify_range`] | entries between which no other lies |
//! | what a key had at an earlier height | [`verify_past`] | an entry, and the one that replaced it later |
//! | what a key has had since a height | [`verify_since`] | as before; several proofs if the entry was written again |
//!
//! ```text
//!  state root      ┌── state siblings            levels 64..67   side by the key hash's top 4 bits
//!   shard root     ├── upper siblings            levels 12..     side by serial number bits 11..
//!    twig root     │   node(11, left, right)
//!     left root    ├── left siblings             levels 0..10    side by serial number bits 0..10
//!      entry hash  │                             level 0         SHA-256 of the entry's bytes
//!     right root   ├── right siblings            levels 8..10    side by serial number bits 8..10
//!      page        │   256 active bits, raw      level 8         bit: serial number mod 256
//!
//!  entry: key, value, next key hash, serial number, ...
//!    present:  the entry is the key's own
//!    absent:   the entry is the key's predecessor: own key hash < key's hash < next key hash
//! ```
//!
//! ```
//! use hedgerow_proof::{Digest, ProofError, verify};
//!
//! fn balance(root: &Digest, proof: &[u8]) -> Result<u64, ProofError> {
//!     Ok(match verify(root, b"alice", proof)? {
//!         Some(value) => value.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte)),
//!         None => 0, // proved to be absent
//!     })
//! }
//! assert!(balance(&Digest::ZERO, &[]).is_err());
//! ```
//!
//! **What is trusted:** the root, and that it was computed by the rules from blocks that somebody executed
//! rightly. Under a root that was made up a key can have two values, or a value and none. The root says
//! neither its height nor the parameters of the store.
//!
//! **Invariants**
//! * `Ok` means proved. Bytes that do not prove an answer for exactly these keys under exactly this
//!   root are an error, whatever they are; no input panics.
//! * A set of entries of a tree has one encoding: no field can be derived from another, no byte can be added,
//!   dropped or changed.
//! * Only entries whose active bit is set answer for a key: an outdated entry is in the tree too. The past is the
//!   exception: there the entry that replaced it says when.
//! * Verifying one entry allocates nothing. Verifying more allocates one list of the entries and one of the answers.
//!   The work is linear in the proof's length, which is limited first, but for sorting that list; the depth of
//!   calls is at most 70.
//!
//! **Invariant (absence):** nothing here builds trees or reads stores; `no_std`, and of our crates
//! only `hedgerow-types`. The bytes are defined in docs/proofs.md of the repository, and in [spec 2](hedgerow_types::spec), 4, 8 and 10.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `serde` | `Serialize` and `Deserialize` of digests, key hashes and numbers |
#![no_std]
#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

extern crate alloc;

mod assemble;
mod error;
mod format;
mod hash;
mod past;
mod path;
mod range;
mod serial;
mod verify;
mod walk;

/// The types of this crate's interface.
pub use hedgerow_types::{
    Digest, Height, KeyHash, SerialNumber, ShardId, Version,
    entry::{EntryError, EntryRef},
};

pub use assemble::EntryPath;
pub use error::ProofError;
pub use format::{
    ClaimedEntries, ClaimedEntry, ClaimedRoots, DEFAULT_MAX_PROOF_LEN, DEFAULT_MAX_SET_LEN,
    DEFAULT_MAX_VALUE_LEN, MAX_PROOF_LEN, MIN_PROOF_LEN, PROOF_VERSION, Proof, ProofRef,
};
pub use hash::{Sha2, Sha256, state_root};
pub use past::{verify_past, verify_since};
pub use path::{LEFT_LEVELS, MAX_UPPER_LEVELS, RIGHT_LEVELS};
pub use range::{VerifiedRange, verify_range};
pub use serial::SerialPath;
pub use verify::{
    Answer, Trusted, Verified, Verifier, verify, verify_entry, verify_many, verify_with_limit,
};
