//! Proofs of Hedgerow: what a light client needs, and nothing else.
//!
//! With a 32-byte state root and a proof, anyone learns the value of a key, or that the key is absent,
//! without a store and without trusting the sender of the proof.
//!
//! ```text
//!  state root      ┌── 4 state siblings          levels 64..67   side by the key hash's top 4 bits
//!   shard root     ├── k upper siblings          levels 12..     side by serial number bits 11..
//!    twig root     │   node(11, left, right)
//!     left root    ├── 11 left siblings          levels 0..10    side by serial number bits 0..10
//!      entry hash  │                             level 0         SHA-256 of the entry's bytes
//!     right root   ├── 3 right siblings          levels 8..10    side by serial number bits 8..10
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
//! **Invariants**
//! * `Ok` means proved. Bytes that do not prove an answer for exactly this key under exactly this
//!   root are an error, whatever they are; no input panics.
//! * A proof has one encoding: no field can be derived from another, no byte can be added, dropped
//!   or changed.
//! * Only entries whose active bit is set answer for a key: an outdated entry is in the tree too.
//! * Verifying allocates nothing and does work linear in the proof's length, which is limited
//!   first.
//!
//! **Invariant (absence):** nothing here builds trees or reads stores; `no_std`, and of our crates
//! only `hedgerow-types`. The bytes are defined in [spec 2](hedgerow_types::spec), 4, 8 and 10 and in [`ProofRef`].
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

mod error;
mod format;
mod path;
mod serial;
mod verify;

/// The types of this crate's interface.
pub use hedgerow_types::{
    Digest, Height, KeyHash, SerialNumber, ShardId, Version, entry::EntryRef,
};

pub use error::ProofError;
pub use format::{DEFAULT_MAX_PROOF_LEN, MIN_PROOF_LEN, PROOF_VERSION, Proof, ProofRef};
pub use path::{LEFT_LEVELS, MAX_UPPER_LEVELS, RIGHT_LEVELS};
pub use serial::SerialPath;
pub use verify::{verify, verify_with_limit};
