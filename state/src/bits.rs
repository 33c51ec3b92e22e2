//! The writer's view of which entries of a shard are active: one bit per entry from the oldest
//! active twig on. The tree has its own copy of the bits, some blocks behind; this one is what
//! compaction asks for the next entry to move.

use hedgerow_types::{ACTIVE_PAGES_PER_TWIG, Digest, SerialNumber, TWIG_LEAVES, TwigId};
use std::collections::VecDeque;

const WORDS: usize = TWIG_LEAVES / 64;

/// Active bits of one shard, twig by twig.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveBits {
    first: TwigId,
    twigs: VecDeque<[u64; WORDS]>,
}

/// Which twigs there are bits of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    first: TwigId,
    twigs: usize,
}

impl ActiveBits {
    /// No entry active, the twigs from `first` on to come.
    pub fn starting_at(first: TwigId) -> Self {
        Self { first, twigs: VecDeque::new() }
    }

    /// The twigs from `first` on with the bits of `pages`, 8 pages of 32 bytes per twig (spec 8.1).
    pub fn from_pages(first: TwigId, pages: &[Digest]) -> Self {
        let twig = |pages: &[Digest]| {
            let mut words = [0; WORDS];
            let bytes = pages.iter().flat_map(|page| page.0.as_chunks::<8>().0);
            words
                .iter_mut()
                .zip(bytes)
                .for_each(|(word, bytes)| *word = u64::from_le_bytes(*bytes));
            words
        };
        Self { first, twigs: pages.chunks(ACTIVE_PAGES_PER_TWIG).map(twig).collect() }
    }

    fn place(sn: SerialNumber) -> (usize, u64) {
        (sn.leaf() / 64, 1 << (sn.leaf() % 64))
    }

    fn slot(&self, sn: SerialNumber) -> Option<usize> {
        usize::try_from(sn.twig().0.checked_sub(self.first.0)?).ok()
    }

    /// Marks an entry active; `false` if its twig was dropped.
    pub fn set(&mut self, sn: SerialNumber) -> bool {
        let Some(twig) = self.slot(sn) else { return false };
        while self.twigs.len() <= twig {
            self.twigs.push_back([0; WORDS]);
        }
        let (word, mask) = Self::place(sn);
        self.twigs[twig][word] |= mask;
        true
    }

    /// Marks the entries from `from` to before `to` active, but for those whose twigs were dropped.
    pub fn set_range(&mut self, from: SerialNumber, to: SerialNumber) {
        let mut sn = from.max(self.first.first());
        while sn < to {
            let place = sn.leaf() % 64;
            let count = (64 - place as u64).min(to.0 - sn.0);
            if self.set(sn)
                && let Some(twig) = self.slot(sn)
            {
                self.twigs[twig][sn.leaf() / 64] |= (u64::MAX >> (64 - count)) << place;
            }
            sn = sn.plus(count);
        }
    }

    /// Marks an entry inactive; `false` if it was not active.
    pub fn clear(&mut self, sn: SerialNumber) -> bool {
        let (word, mask) = Self::place(sn);
        let Some(bits) = self.slot(sn).and_then(|twig| self.twigs.get_mut(twig)) else {
            return false;
        };
        let was = bits[word] & mask != 0;
        bits[word] &= !mask;
        was
    }

    /// Whether an entry is active.
    pub fn is_active(&self, sn: SerialNumber) -> bool {
        let (word, mask) = Self::place(sn);
        let bits = self.slot(sn).and_then(|twig| self.twigs.get(twig));
        bits.is_some_and(|bits| bits[word] & mask != 0)
    }

    /// The active entry with the smallest serial number at or above `from`.
    pub fn next_active(&self, from: SerialNumber) -> Option<SerialNumber> {
        let from = from.max(self.first.first());
        let mut twig = self.slot(from)?;
        let mut word = from.leaf() / 64;
        let mut mask = u64::MAX << (from.leaf() % 64);
        loop {
            let bits = self.twigs.get(twig)?[word] & mask;
            if bits != 0 {
                let leaf = (word * 64) as u64 + u64::from(bits.trailing_zeros());
                return Some(TwigId(self.first.0 + twig as u64).first().plus(leaf));
            }
            mask = u64::MAX;
            word += 1;
            if word == WORDS {
                (word, twig) = (0, twig + 1);
            }
        }
    }

    /// Forgets the twigs before `first`.
    pub fn drop_before(&mut self, first: TwigId) {
        while self.first < first {
            self.twigs.pop_front();
            self.first = self.first.next();
        }
    }

    /// Which twigs there are.
    pub(crate) fn shape(&self) -> Shape {
        Shape { first: self.first, twigs: self.twigs.len() }
    }

    /// The twigs that were dropped since there were those of `shape` are there again, without active
    /// entries: none of those that were dropped had any.
    pub(crate) fn reach_back(&mut self, shape: Shape) {
        while self.first > shape.first {
            self.first.0 -= 1;
            self.twigs.push_front([0; WORDS]);
        }
    }

    /// Forgets the twigs that came since there were those of `shape`.
    pub(crate) fn cut(&mut self, shape: Shape) {
        self.twigs.truncate(shape.twigs);
    }

    /// Forgets the entries from `next` on, and reaches back to the twig `first`: none of those before is active
    /// until it is [set](Self::set).
    pub fn take_back(&mut self, first: TwigId, next: SerialNumber) {
        while self.first > first {
            self.first.0 -= 1;
            self.twigs.push_front([0; WORDS]);
        }
        let Some(twigs) = self.slot(next) else {
            self.twigs.clear();
            return;
        };
        self.twigs.truncate(twigs.saturating_add(1));
        if let Some(words) = self.twigs.get_mut(twigs) {
            for (number, word) in words.iter_mut().enumerate() {
                let kept = next.leaf().saturating_sub(64 * number).min(64) as u32;
                *word &= u64::MAX.checked_shr(64 - kept).unwrap_or(0);
            }
        }
    }

    /// The bits of a twig as the tree stores them: 256 bytes, bit i in byte i/8 (spec 8.1).
    pub fn twig_bytes(&self, twig: TwigId) -> [u8; TWIG_LEAVES / 8] {
        let mut bytes = [0; TWIG_LEAVES / 8];
        if let Some(words) = self.slot(twig.first()).and_then(|slot| self.twigs.get(slot)) {
            for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
                chunk.copy_from_slice(&word.to_le_bytes());
            }
        }
        bytes
    }

    /// The bits in words of 64, each with the serial number of its first entry.
    pub fn words(&self) -> impl Iterator<Item = (SerialNumber, u64)> + '_ {
        let first = self.first.first();
        (0..)
            .zip(self.twigs.iter().flatten())
            .map(move |(number, word)| (first.plus(64 * number), *word))
    }

    /// Bytes of heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.twigs.capacity() * size_of::<[u64; WORDS]>()
    }

    /// Number of active entries.
    pub fn count(&self) -> u64 {
        self.twigs.iter().flatten().map(|word| u64::from(word.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn bits_are_a_set(first in 0u64..3, steps in proptest::collection::vec((0u64..9000, any::<bool>()), 0..200), cut in 0u64..5, next in proptest::option::of(0u64..9500)) {
            let mut bits = ActiveBits::starting_at(TwigId(first));
            let mut model = BTreeSet::new();
            for (sn, on) in steps {
                let known = sn >> 11 >= first;
                if on && sn % 5 == 0 {
                    let end = sn + sn % 400;
                    bits.set_range(SerialNumber(sn), SerialNumber(end));
                    model.extend((sn..end).filter(|sn| sn >> 11 >= first));
                }
                if on {
                    prop_assert_eq!(bits.set(SerialNumber(sn)), known);
                    if known { model.insert(sn); }
                } else {
                    prop_assert_eq!(bits.clear(SerialNumber(sn)), model.remove(&sn));
                }
            }
            bits.drop_before(TwigId(cut));
            model.retain(|sn| sn >> 11 >= cut);
            if let Some(next) = next {
                // Down to where it began, or what is there already.
                bits.take_back(TwigId(first), SerialNumber(next));
                model.retain(|&sn| sn < next);
            }
            prop_assert_eq!(bits.count(), model.len() as u64);
            for (sn, word) in bits.words() {
                for bit in 0..64 {
                    prop_assert_eq!(word >> bit & 1 == 1, model.contains(&(sn.0 + bit)));
                }
            }
            for from in (0..9100).step_by(37) {
                prop_assert_eq!(bits.next_active(SerialNumber(from)).map(|sn| sn.0), model.range(from..).next().copied());
            }
            for sn in 0..9100 {
                prop_assert_eq!(bits.is_active(SerialNumber(sn)), model.contains(&sn));
                let bytes = bits.twig_bytes(SerialNumber(sn).twig());
                let leaf = SerialNumber(sn).leaf();
                prop_assert_eq!(bytes[leaf / 8] >> (leaf % 8) & 1 == 1, model.contains(&sn));
            }
        }
    }
}
