//! Which entries count: a bit each, from about the oldest active one on.
//!
//! ```text
//!   blocks   first ▼
//!            [ none ][ 32768 bits, how many are set ][ none ][ 32768 bits, .. ]     4 KiB each
//!   number   first * 32768 ...
//! ```
//!
//! Bits change in place while they are read: whoever needs an answer about one key holds the lock of its
//! part, and so does whoever changes it. Only for blocks to come and go all must be kept away.

use crate::IndexError;
use hedgerow_types::SerialNumber;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const BLOCK_BITS: u64 = 1 << 15;
const WORDS: usize = (BLOCK_BITS / 64) as usize;
/// Blocks between the first and the last: 2^39 entries of a shard, as the tree has at most.
const MAX_BLOCKS: u64 = 1 << 24;

struct Block {
    set: AtomicU32,
    words: [AtomicU64; WORDS],
}

impl Block {
    fn new() -> Box<Self> {
        Box::new(Self { set: AtomicU32::new(0), words: [const { AtomicU64::new(0) }; WORDS] })
    }
}

/// The bits of a shard's entries. None is set where there is no block.
#[derive(Default)]
pub(crate) struct Bits {
    first: u64,
    blocks: VecDeque<Option<Box<Block>>>,
}

fn place(sn: SerialNumber) -> (usize, u64) {
    ((sn.0 % BLOCK_BITS / 64) as usize, 1 << (sn.0 % 64))
}

impl Bits {
    fn block(&self, sn: SerialNumber) -> Option<&Block> {
        let number = (sn.0 / BLOCK_BITS).checked_sub(self.first)?;
        self.blocks.get(usize::try_from(number).ok()?)?.as_deref()
    }

    pub(crate) fn get(&self, sn: SerialNumber) -> bool {
        let (word, mask) = place(sn);
        self.block(sn).is_some_and(|block| block.words[word].load(Relaxed) & mask != 0)
    }

    /// The bits of 64 entries from `first`, a multiple of 64, on.
    pub(crate) fn word(&self, first: SerialNumber) -> u64 {
        self.block(first).map_or(0, |block| block.words[place(first).0].load(Relaxed))
    }

    /// Whether the bit can be set.
    pub(crate) fn covers(&self, sn: SerialNumber) -> bool {
        self.block(sn).is_some()
    }

    /// Sets a bit that is [covered](Bits::cover). False if it was set, or cannot be.
    pub(crate) fn set(&self, sn: SerialNumber) -> bool {
        let (word, mask) = place(sn);
        let Some(block) = self.block(sn) else { return false };
        let new = block.words[word].fetch_or(mask, Relaxed) & mask == 0;
        block.set.fetch_add(u32::from(new), Relaxed);
        new
    }

    /// Clears a bit. False if it was not set.
    pub(crate) fn clear(&self, sn: SerialNumber) -> bool {
        let (word, mask) = place(sn);
        let Some(block) = self.block(sn) else { return false };
        let was = block.words[word].fetch_and(!mask, Relaxed) & mask != 0;
        block.set.fetch_sub(u32::from(was), Relaxed);
        was
    }

    /// Makes room for a bit.
    ///
    /// # Errors
    /// [`IndexError::Number`] if it lies too far from the others.
    pub(crate) fn cover(&mut self, sn: SerialNumber) -> Result<(), IndexError> {
        let number = sn.0 / BLOCK_BITS;
        if self.blocks.is_empty() {
            self.first = number;
        }
        let last = (self.first + self.blocks.len() as u64).saturating_sub(1).max(number);
        if last - self.first.min(number) >= MAX_BLOCKS {
            return Err(IndexError::Number { sn });
        }
        while number < self.first {
            self.blocks.push_front(None);
            self.first -= 1;
        }
        let place = (number - self.first) as usize;
        if place >= self.blocks.len() {
            self.blocks.resize_with(place + 1, || None);
        }
        self.blocks[place].get_or_insert_with(Block::new);
        Ok(())
    }

    /// Sets the bits of a word: those of 64 entries from `first`, a multiple of 64, on.
    pub(crate) fn set_word(&mut self, first: SerialNumber, word: u64) -> Result<(), IndexError> {
        if word != 0 {
            if !first.0.is_multiple_of(64) {
                return Err(IndexError::Number { sn: first });
            }
            self.cover(first)?;
            (0..64).filter(|bit| word >> bit & 1 == 1).for_each(|bit| {
                self.set(first.plus(bit));
            });
        }
        Ok(())
    }

    fn is_idle(block: &Option<Box<Block>>) -> bool {
        block.as_ref().is_none_or(|block| block.set.load(Relaxed) == 0)
    }

    /// Whether [`trim`](Bits::trim) would do anything.
    pub(crate) fn has_idle_front(&self) -> bool {
        self.blocks.len() > 1 && self.blocks.front().is_some_and(Self::is_idle)
    }

    /// Forgets the blocks at the front that have no bit set, but for the last block.
    pub(crate) fn trim(&mut self) {
        while self.has_idle_front() {
            self.blocks.pop_front();
            self.first += 1;
        }
        if self.blocks.capacity() > 4 * self.blocks.len() + 16 {
            self.blocks.shrink_to(2 * self.blocks.len());
        }
    }

    /// Number of bits set.
    pub(crate) fn count(&self) -> u64 {
        self.blocks.iter().flatten().map(|block| u64::from(block.set.load(Relaxed))).sum()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let blocks = self.blocks.iter().flatten().count() * size_of::<Block>();
        self.blocks.capacity() * size_of::<Option<Box<Block>>>() + blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn bits_are_a_set(
            base in prop_oneof![Just(0_u64), 0..1_u64 << 40],
            steps in proptest::collection::vec((0_u64..200_000, 0..4), 0..120),
        ) {
            let mut bits = Bits::default();
            let mut model = BTreeSet::new();
            for &(offset, kind) in &steps {
                let sn = SerialNumber(base + offset);
                match kind {
                    0 => prop_assert_eq!(bits.clear(sn), model.remove(&sn)),
                    1 => bits.trim(),
                    _ => {
                        bits.cover(sn).unwrap();
                        prop_assert_eq!(bits.set(sn), model.insert(sn));
                    }
                }
            }
            prop_assert_eq!(bits.count(), model.len() as u64);
            for &(offset, _) in &steps {
                let sn = SerialNumber(base + offset);
                prop_assert_eq!(bits.get(sn), model.contains(&sn));
            }
        }
    }

    /// A number from a damaged file must not make the index ask for all memory.
    #[test]
    fn numbers_far_apart_are_refused() {
        let mut bits = Bits::default();
        bits.cover(SerialNumber(1 << 20)).unwrap();
        assert!(matches!(bits.cover(SerialNumber(1 << 47)), Err(IndexError::Number { .. })));
        assert!(!bits.get(SerialNumber(1 << 47)));
        bits.cover(SerialNumber(0)).unwrap();
        assert!(bits.heap_bytes() < 1 << 20);
    }
}
