//! One way to hash a batch.

use hedgerow_hasher_api::HashError;
use hedgerow_types::Digest;
use std::{borrow::Cow, hint::black_box, io};

/// The name of ours, with the kernels that calibration chose.
pub const OURS: &str = "hedgerow";
/// The name of the yardstick: `sha2::Sha256::digest` of one message after the other.
pub const SHA2: &str = "sha2 digest";

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Our hasher refused.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The clock cannot be read, or another process failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Our hasher could not be made.
    #[error(transparent)]
    Pool(#[from] rayon::ThreadPoolBuildError),
    /// A contender does not compute SHA-256.
    #[error("WRONG DIGESTS: {name}, batch of {batch}")]
    Wrong {
        /// The contender.
        name: String,
        /// Messages that it was given.
        batch: usize,
    },
}

/// Digests as the crates have them.
pub trait Output {
    /// The same in our type.
    fn digests(&self) -> Vec<Digest>;
}

impl Output for Vec<Digest> {
    fn digests(&self) -> Vec<Digest> {
        self.clone()
    }
}

/// Levels of a tree, one after the other.
impl Output for Vec<Vec<Digest>> {
    fn digests(&self) -> Vec<Digest> {
        self.concat()
    }
}

impl Output for Vec<[u8; 32]> {
    fn digests(&self) -> Vec<Digest> {
        self.iter().copied().map(Digest).collect()
    }
}

impl Output for Vec<commonware_cryptography::sha256::Digest> {
    fn digests(&self) -> Vec<Digest> {
        self.iter().map(|digest| Digest(digest.0)).collect()
    }
}

/// One way to hash a batch, with the batch.
pub struct Contender<'a> {
    /// The crate, and which of its calls.
    pub name: Cow<'static, str>,
    /// The crate, if it hashes many messages at a time and we mean to be ahead of it.
    pub rival: Option<&'static str>,
    expected: &'a [Digest],
    way: Box<dyn Way + 'a>,
}

impl<'a> Contender<'a> {
    /// A contender whose `hash` fills `out`, with `expected` if it is right. What it needs beside
    /// the messages themselves, such as a list of references to them, is made before.
    pub fn new<O: Output + 'a>(
        name: impl Into<Cow<'static, str>>,
        expected: &'a [Digest],
        out: O,
        mut hash: impl FnMut(&mut O) + 'a,
    ) -> Self {
        Self::fallible(name, expected, out, move |out| {
            hash(out);
            Ok(())
        })
    }

    /// One that can fail.
    pub fn fallible<O: Output + 'a>(
        name: impl Into<Cow<'static, str>>,
        expected: &'a [Digest],
        out: O,
        hash: impl FnMut(&mut O) -> Result<(), HashError> + 'a,
    ) -> Self {
        Self { name: name.into(), rival: None, expected, way: Box::new(Filling { out, hash }) }
    }

    /// The same, of a crate that we mean to be ahead of.
    #[must_use]
    pub fn of(self, rival: &'static str) -> Self {
        Self { rival: Some(rival), ..self }
    }

    /// Hashes the batch.
    ///
    /// # Errors
    /// [`Failure::Hash`].
    #[inline]
    pub fn hash(&mut self) -> Result<(), Failure> {
        Ok(self.way.hash()?)
    }

    /// Hashes the batch and looks at the digests.
    ///
    /// # Errors
    /// [`Failure::Wrong`], or as [`hash`](Self::hash).
    pub fn check(&mut self) -> Result<(), Failure> {
        self.hash()?;
        if self.way.digests() == self.expected {
            return Ok(());
        }
        Err(Failure::Wrong { name: self.name.to_string(), batch: self.expected.len() })
    }
}

/// What a [`Contender`] does, whatever its digests' type is.
trait Way {
    fn hash(&mut self) -> Result<(), HashError>;
    fn digests(&self) -> Vec<Digest>;
}

struct Filling<O, H> {
    out: O,
    hash: H,
}

impl<O: Output, H: FnMut(&mut O) -> Result<(), HashError>> Way for Filling<O, H> {
    fn hash(&mut self) -> Result<(), HashError> {
        (self.hash)(&mut self.out)?;
        black_box(&mut self.out);
        Ok(())
    }

    fn digests(&self) -> Vec<Digest> {
        self.out.digests()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_digest_is_a_failure() {
        let expected = [Digest([7; 32]); 2];
        let contender = |last: u8| {
            Contender::new("x", &expected, vec![[7; 32]; 2], move |out: &mut Vec<[u8; 32]>| {
                out[1][31] = last;
            })
        };
        contender(7).check().unwrap();
        let failure = contender(8).check().unwrap_err();
        assert!(matches!(failure, Failure::Wrong { batch: 2, .. }), "{failure}");
    }
}
