//! MuHash3072: a digest that follows a set by what is put in and taken out, in any order.
//!
//! ```text
//!   put in       numerator   = numerator   * number(element)       3 us each, no order, no division
//!   taken out    denominator = denominator * number(element)
//!   another one  numerators and denominators multiplied
//!
//!   digest = SHA-256(numerator / denominator)                      one inversion, when it is asked for
//! ```
//!
//! Bellare and Micciancio, *A New Paradigm for Collision-Free Hashing*, 1997; the parameters are Bitcoin Core's
//! (`crypto/muhash.h`).

use super::SetDigest;
use super::number::{NUMBER_LEN, Number};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::fmt;

/// Bytes of a [`MuHash`]: numerator and denominator.
pub const MUHASH_LEN: usize = 2 * NUMBER_LEN;

/// Elements that a task of [`MuHash::net`] takes at least: a fifth of a millisecond of work.
const CHUNK: usize = 64;

/// The product of a set's elements, from which its digest is made.
///
/// ```
/// use hedgerow_coins::MuHash;
///
/// let mut set = MuHash::new();
/// set.insert(b"one");
/// set.insert(b"two");
/// set.remove(b"one");
///
/// let mut other = MuHash::new();
/// other.insert(b"two");
/// assert_eq!(set.digest(), other.digest());
/// assert_ne!(set, other);                     // the same set, reached in another way
/// assert_eq!(MuHash::from_bytes(&set.to_bytes()), Ok(set));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct MuHash {
    numerator: Number,
    denominator: Number,
}

impl MuHash {
    /// Of the empty set.
    pub const fn new() -> Self {
        Self { numerator: Number::ONE, denominator: Number::ONE }
    }

    /// Puts an element in.
    pub fn insert(&mut self, element: &[u8]) {
        self.numerator = self.numerator.times(&Number::of(element));
    }

    /// Takes an element out. Whether it was in is for the caller to know; it may also be put in later.
    pub fn remove(&mut self, element: &[u8]) {
        self.denominator = self.denominator.times(&Number::of(element));
    }

    /// Puts in all that `other` has in, and takes out all that it has out.
    pub fn combine(&mut self, other: &Self) {
        self.numerator = self.numerator.times(&other.numerator);
        self.denominator = self.denominator.times(&other.denominator);
    }

    /// What turns one set into another: the coins that only the other has, and those that only the first has.
    /// [`combine`](Self::combine) applies it. `element` appends the bytes of a coin, as [`write_element`] does.
    ///
    /// The coins are taken in chunks by the threads of the rayon pool that the caller is in.
    ///
    /// ```
    /// use hedgerow_coins::{MuHash, write_element};
    /// # use hedgerow_coins::{Coin, bitcoin::{Amount, OutPoint, ScriptBuf}};
    /// # let coin = Coin::new(1, false, Amount::ZERO, ScriptBuf::new())?;
    /// # let coins = [0, 1, 2].map(|vout| (OutPoint { vout, ..Default::default() }, coin.clone()));
    /// let net = |created, spent| MuHash::net(created, spent, |(outpoint, coin), out| write_element(outpoint, coin, out));
    /// let mut set = net(&coins[..2], &[]);
    /// set.combine(&net(&coins[2..], &coins[..1]));
    /// assert_eq!(set.digest(), net(&coins[1..], &[]).digest());
    /// # Ok::<(), hedgerow_coins::CoinError>(())
    /// ```
    ///
    /// [`write_element`]: crate::write_element
    pub fn net<T: Sync>(
        created: &[T],
        spent: &[T],
        element: impl Fn(&T, &mut Vec<u8>) + Sync,
    ) -> Self {
        let (numerator, denominator) =
            rayon::join(|| product(created, &element), || product(spent, &element));
        Self { numerator, denominator }
    }

    /// The digest of the set.
    pub fn digest(&self) -> SetDigest {
        SetDigest(Sha256::digest(self.numerator.over(&self.denominator).to_bytes()).into())
    }

    /// Numerator and denominator, little-endian: what it takes to go on.
    pub fn to_bytes(&self) -> [u8; MUHASH_LEN] {
        let mut bytes = [0; MUHASH_LEN];
        let (first, last) = bytes.split_at_mut(NUMBER_LEN);
        first.copy_from_slice(&self.numerator.to_bytes());
        last.copy_from_slice(&self.denominator.to_bytes());
        bytes
    }

    /// From the bytes of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`MuHashError`] if they are not those of a product.
    pub fn from_bytes(bytes: &[u8; MUHASH_LEN]) -> Result<Self, MuHashError> {
        let number = |part: &[u8]| Number::from_bytes(part.try_into().ok()?);
        let (first, last) = bytes.split_at(NUMBER_LEN);
        let numerator = number(first).ok_or(MuHashError::Numerator)?;
        let denominator = number(last).ok_or(MuHashError::Denominator)?;
        Ok(Self { numerator, denominator })
    }
}

/// The product of the elements of some coins.
fn product<T: Sync>(coins: &[T], element: &(impl Fn(&T, &mut Vec<u8>) + Sync)) -> Number {
    coins
        .par_chunks(CHUNK)
        .map(|chunk| {
            let mut bytes = Vec::new();
            chunk.iter().fold(Number::ONE, |product, coin| {
                bytes.clear();
                element(coin, &mut bytes);
                product.times(&Number::of(&bytes))
            })
        })
        .reduce(|| Number::ONE, |a, b| a.times(&b))
}

impl Default for MuHash {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MuHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MuHash({})", self.digest())
    }
}

/// Why bytes are no [`MuHash`].
///
/// ```
/// use hedgerow_coins::{MUHASH_LEN, MuHash, MuHashError};
///
/// assert_eq!(MuHash::from_bytes(&[0; MUHASH_LEN]), Err(MuHashError::Numerator));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MuHashError {
    /// The first number is zero, or the modulus or above.
    #[error("the numerator is not between 1 and 2^3072 - 1103718")]
    Numerator,
    /// The second number is zero, or the modulus or above.
    #[error("the denominator is not between 1 and 2^3072 - 1103718")]
    Denominator,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of Bitcoin Core's unit test (`crypto_tests.cpp`, MuHash): elements of 32 bytes.
    #[test]
    fn the_published_vector() {
        let element = |first| {
            let mut element = [0; 32];
            element[0] = first;
            element
        };
        let mut set = MuHash::new();
        set.insert(&element(0));
        set.insert(&element(1));
        set.remove(&element(2));
        let expected = "10d312b100cbd32ada024a6646e40d3482fcff103668d2625f10002a607d5863";
        assert_eq!(set.digest().to_string(), expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() })]

        #[test]
        fn only_the_set_counts(
            mut steps in prop::collection::vec((any::<u8>(), any::<bool>(), 0..4_usize), 1..30),
            swaps in prop::collection::vec(any::<prop::sample::Index>(), 30),
        ) {
            // Four products of parts, combined, and one of all in another order.
            let mut parts: [MuHash; 4] = Default::default();
            let mut counts = std::collections::BTreeMap::new();
            for (element, put, part) in &steps {
                let into = &mut parts[*part];
                if *put { into.insert(&[*element]) } else { into.remove(&[*element]) }
                *counts.entry(*element).or_insert(0) += if *put { 1 } else { -1 };
            }
            let mut combined = MuHash::new();
            for part in &parts {
                combined.combine(&MuHash::from_bytes(&part.to_bytes()).unwrap());
            }
            let len = steps.len();
            for (at, swap) in swaps.iter().enumerate() {
                steps.swap(at % len, swap.index(len));
            }
            let mut shuffled = MuHash::new();
            for (element, put, _) in &steps {
                if *put { shuffled.insert(&[*element]) } else { shuffled.remove(&[*element]) }
            }
            prop_assert_eq!(&combined, &shuffled);
            // Nor does what was put in and taken out again.
            let mut net = MuHash::new();
            for (element, count) in &counts {
                for _ in 0..*count { net.insert(&[*element]) }
                for _ in *count..0 { net.remove(&[*element]) }
            }
            prop_assert_eq!(combined.digest(), net.digest());
            net.insert(b"one more");
            prop_assert_ne!(combined.digest(), net.digest());
        }
    }
}
