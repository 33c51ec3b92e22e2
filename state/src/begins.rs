//! Where in the history the twigs of a shard begin.

use hedgerow_types::{SerialNumber, TwigId};
use std::collections::VecDeque;

/// How many entries of all shards precede the block that wrote the first entry of each twig of a shard,
/// from that of the oldest active entry on: what pruning keeps begins there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TwigBegins(VecDeque<(TwigId, u64)>);

impl TwigBegins {
    /// Notes the entries from `from` to before `to`, of a block that `before` entries precede.
    pub(crate) fn note(&mut self, from: SerialNumber, to: SerialNumber, before: u64) {
        let first = if from.leaf() == 0 { from.twig() } else { from.twig().next() };
        for twig in (first.0..).map(TwigId).take_while(|twig| twig.first() < to) {
            self.0.push_back((twig, before));
        }
    }

    /// Forgets the twigs before `first`. Returns those that had begun before the entry `known`.
    pub(crate) fn take_before(&mut self, first: TwigId, known: SerialNumber) -> Vec<(TwigId, u64)> {
        let mut taken = Vec::new();
        while let Some(&(twig, before)) = self.0.front().filter(|&&(twig, _)| twig < first) {
            self.0.pop_front();
            if twig.first() < known {
                taken.push((twig, before));
            }
        }
        taken
    }

    /// The inverse of noting the entries from `from` on and of [`take_before`](Self::take_before).
    pub(crate) fn restore(&mut self, from: SerialNumber, taken: Vec<(TwigId, u64)>) {
        while self.0.back().is_some_and(|&(twig, _)| twig.first() >= from) {
            self.0.pop_back();
        }
        taken.into_iter().rev().for_each(|begin| self.0.push_front(begin));
    }

    /// The twigs that have begun, oldest first, each with how many entries precede.
    pub fn iter(&self) -> impl Iterator<Item = (TwigId, u64)> {
        self.0.iter().copied()
    }

    /// Bytes of heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.capacity() * size_of::<(TwigId, u64)>()
    }

    /// That of a twig, `None` if it has not begun.
    pub(crate) fn of(&self, twig: TwigId) -> Option<u64> {
        let first = self.0.front()?.0;
        let number = usize::try_from(twig.0.checked_sub(first.0)?).ok()?;
        self.0.get(number).map(|&(_, before)| before)
    }
}

impl FromIterator<(TwigId, u64)> for TwigBegins {
    fn from_iter<I: IntoIterator<Item = (TwigId, u64)>>(twigs: I) -> Self {
        Self(twigs.into_iter().collect())
    }
}
