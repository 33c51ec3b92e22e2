//! A light client: what a key's value is, or that it is absent, from a root and a proof.
//!
//! ```text
//!   root, 32 bytes  ◄── from where it is trusted: a block header, a checkpoint
//!   proof, ~1 KB    ◄── from anybody: a server, a file, an enemy
//!   key             ◄── what is asked
//!       └────► look_up ────► value │ absent │ not proved: the proof says nothing
//! ```
//!
//! What to copy: the one line of `Cargo.toml` (`hedgerow-proof`, which brings SHA-256 and nothing more), and
//! [`look_up`]. A proof that is too long is refused before it is in memory ([`read_proof`]): whoever sends it may
//! send anything. What the bytes are and what may be concluded from them: docs/proofs.md; the root must be one that was
//! computed by the rules.
#![forbid(unsafe_code)]

use hedgerow_proof::{Digest, ProofError, verify_with_limit};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longest proof that this client takes, in bytes. It is for the application to choose: the longest value it
/// can have, and some 3 KB for key and path.
pub const MAX_PROOF_BYTES: usize = 64 << 10;

/// Why there is no answer.
#[derive(Debug)]
pub enum Failed {
    /// The text is not 64 hex digits.
    Root,
    /// The file could not be read.
    File(io::Error),
    /// The proof does not prove anything about the key under the root. Nothing is known about the key: ask
    /// somebody else.
    NotProved(ProofError),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the root must be 64 hex digits"),
            Self::File(error) => write!(f, "reading the proof: {error}"),
            Self::NotProved(error) => write!(f, "not proved: {error}"),
        }
    }
}

impl std::error::Error for Failed {}

/// A root as people write it.
///
/// # Errors
/// [`Failed::Root`].
pub fn parse_root(text: &str) -> Result<Digest, Failed> {
    text.parse().map_err(|_| Failed::Root)
}

/// Reads a proof, and one byte too much at most.
///
/// # Errors
/// [`Failed::File`]; [`Failed::NotProved`] if it is longer than [`MAX_PROOF_BYTES`].
pub fn read_proof(path: &Path) -> Result<Vec<u8>, Failed> {
    let mut proof = Vec::new();
    let file = File::open(path).map_err(Failed::File)?;
    file.take(MAX_PROOF_BYTES as u64 + 1).read_to_end(&mut proof).map_err(Failed::File)?;
    if proof.len() > MAX_PROOF_BYTES {
        let (len, max) = (proof.len(), MAX_PROOF_BYTES);
        return Err(Failed::NotProved(ProofError::TooLong { len, max }));
    }
    Ok(proof)
}

/// The value of `key` in the state with this root, a part of the proof; `None` if the key is proved to be absent.
///
/// # Errors
/// [`Failed::NotProved`].
pub fn look_up<'p>(root: &Digest, key: &[u8], proof: &'p [u8]) -> Result<Option<&'p [u8]>, Failed> {
    verify_with_limit(root, key, proof, MAX_PROOF_BYTES).map_err(Failed::NotProved)
}
