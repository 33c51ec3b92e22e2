//! A blocked Bloom filter: says of a stem that a segment does not have it, or that it may.
//!
//! ```text
//!   stem ─► hash ─► high half: block     64 bytes, one cache line
//!              └──► 9 bits a probe, up to 7: bits of that block
//! ```
//!
//! 12 bits a record and 7 probes let about 1 of 200 absent stems through, 8 bits and 6 about 1 of 35, 4 bits
//! and 3 about 1 of 6. It is part of the format of segments: what it answers for given bytes never
//! changes without a new version of it.

use crate::Stem;

const BLOCK_WORDS: usize = 8;
const BLOCK_BITS: u64 = 64 * BLOCK_WORDS as u64;
/// Probes that a hash has bits for.
const MAX_PROBES: u8 = 7;

/// The filter of a segment; of none, if it has no words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    words: Vec<u64>,
    probes: u8,
    salt: u32,
}

/// A hash of 64 bits (the finalizer of splitmix64, public domain).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

impl Filter {
    /// An empty one for so many records, with so many bits for each; none at all if that is 0. The salt differs
    /// from file to file, so that stems which pass one do not pass all.
    pub(crate) fn new(records: u64, bits: u32, salt: u32) -> Self {
        let blocks = (records * u64::from(bits)).div_ceil(BLOCK_BITS);
        let probes = (u64::from(bits) * 69 / 100).clamp(1, u64::from(MAX_PROBES)) as u8;
        Self { words: vec![0; blocks as usize * BLOCK_WORDS], probes, salt }
    }

    /// The one that was stored; `None` if there cannot be such a one.
    pub(crate) fn from_words(words: Vec<u64>, probes: u8, salt: u32) -> Option<Self> {
        let sound = words.len().is_multiple_of(BLOCK_WORDS) && (1..=MAX_PROBES).contains(&probes);
        sound.then_some(Self { words, probes, salt })
    }

    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    pub(crate) fn probes(&self) -> u8 {
        self.probes
    }

    fn block(&self, stem: Stem) -> (usize, u64) {
        let hash = mix(stem.get() ^ u64::from(self.salt) << 32);
        let blocks = (self.words.len() / BLOCK_WORDS) as u64;
        let block = ((hash >> 32) * blocks) >> 32;
        (block as usize * BLOCK_WORDS, mix(hash))
    }

    pub(crate) fn insert(&mut self, stem: Stem) {
        if self.words.is_empty() {
            return;
        }
        let (block, mut bits) = self.block(stem);
        for _ in 0..self.probes {
            let bit = bits % BLOCK_BITS;
            if let Some(word) = self.words.get_mut(block + (bit / 64) as usize) {
                *word |= 1 << (bit % 64);
            }
            bits >>= 9;
        }
    }

    /// False only if the stem was not inserted.
    pub(crate) fn may_have(&self, stem: Stem) -> bool {
        if self.words.is_empty() {
            return true;
        }
        let (block, mut bits) = self.block(stem);
        (0..self.probes).all(|_| {
            let bit = bits % BLOCK_BITS;
            bits >>= 9;
            let word = self.words.get(block + (bit / 64) as usize);
            word.is_none_or(|word| word >> (bit % 64) & 1 == 1)
        })
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.words.capacity() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stems(from: u64, count: u64) -> impl Iterator<Item = Stem> {
        (from..from + count).map(|n| Stem::of_prefix(mix(n)))
    }

    #[test]
    fn nothing_is_lost_and_few_pass() {
        for (bits, most) in [(12, 0.01), (8, 0.045), (4, 0.22), (0, 1.0)] {
            let mut filter = Filter::new(20_000, bits, 77);
            stems(0, 20_000).for_each(|stem| filter.insert(stem));
            assert!(stems(0, 20_000).all(|stem| filter.may_have(stem)), "{bits} bits");
            let passed = stems(1 << 40, 20_000).filter(|stem| filter.may_have(*stem)).count();
            let rate = passed as f64 / 20_000.0;
            assert!(rate <= most && rate >= most / 20.0, "{bits} bits: {rate}");
            let stored = Filter::from_words(filter.words().to_vec(), filter.probes(), 77);
            assert_eq!(stored, Some(filter));
        }
        assert_eq!(Filter::from_words(vec![0; 7], 3, 0), None);
        assert_eq!(Filter::from_words(vec![0; 8], 0, 0), None);
    }

    /// What passes one file's filter passes another's no more often than any.
    #[test]
    fn salts_make_filters_independent() {
        let filter = |salt| {
            let mut filter = Filter::new(5_000, 8, salt);
            stems(0, 5_000).for_each(|stem| filter.insert(stem));
            filter
        };
        let (one, other) = (filter(1), filter(2));
        let passed: Vec<Stem> = stems(1 << 40, 50_000).filter(|stem| one.may_have(*stem)).collect();
        let both = passed.iter().filter(|stem| other.may_have(**stem)).count();
        assert!(passed.len() > 500 && both * 10 < passed.len(), "{both} of {}", passed.len());
    }
}
