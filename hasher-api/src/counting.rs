//! A decorator that counts what passes through it, for tests that state how much work an operation
//! may cost ("one call per level, never one per shard").

use crate::{
    BatchHasher, Capabilities, HashError, IndexedPairGroup, LeftTreeGroup, MessageGroup, PairGroup,
};
use std::sync::{Mutex, PoisonError};

/// What one operation of [`BatchHasher`] was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShapeCount {
    /// Calls.
    pub calls: u64,
    /// Groups of all calls, empty ones included.
    pub groups: u64,
    /// Digests that the calls asked for: messages or parents.
    pub items: u64,
    /// Items of the call with the most.
    pub largest_call: u64,
}

impl ShapeCount {
    fn add(&mut self, groups: usize, items: usize) {
        self.calls += 1;
        self.groups += groups as u64;
        self.items = self.items.saturating_add(items as u64);
        self.largest_call = self.largest_call.max(items as u64);
    }
}

/// What a [`CountingHasher`] has seen since it was made or last [taken](CountingHasher::take).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`BatchHasher::messages`].
    pub messages: ShapeCount,
    /// [`BatchHasher::pairs`].
    pub pairs: ShapeCount,
    /// [`BatchHasher::indexed_pairs`].
    pub indexed_pairs: ShapeCount,
    /// [`BatchHasher::left_trees`].
    pub left_trees: ShapeCount,
}

impl Counts {
    /// Tree nodes hashed by whichever operation.
    pub fn nodes(&self) -> u64 {
        self.pairs.items + self.indexed_pairs.items + self.left_trees.items
    }

    /// Calls of all operations.
    pub fn calls(&self) -> u64 {
        [self.messages, self.pairs, self.indexed_pairs, self.left_trees]
            .iter()
            .map(|count| count.calls)
            .sum()
    }
}

/// Passes everything on to `H` and counts it. A call counts where it enters, whether it succeeds or
/// not: what `H` does inside `left_trees` is not counted again.
#[derive(Debug, Default)]
pub struct CountingHasher<H> {
    inner: H,
    counts: Mutex<Counts>,
}

impl<H> CountingHasher<H> {
    /// Counts what `inner` is asked for, from zero.
    pub fn new(inner: H) -> Self {
        Self { inner, counts: Mutex::default() }
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.update(|counts| *counts)
    }

    /// The counts so far; counting starts again at zero.
    pub fn take(&self) -> Counts {
        self.update(std::mem::take)
    }

    fn update<T>(&self, f: impl FnOnce(&mut Counts) -> T) -> T {
        f(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<H: BatchHasher> BatchHasher for CountingHasher<H> {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn messages(&self, groups: &mut [MessageGroup<'_>]) -> Result<(), HashError> {
        let items = groups.iter().map(|group| group.out.len()).sum();
        self.update(|counts| counts.messages.add(groups.len(), items));
        self.inner.messages(groups)
    }

    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError> {
        let items = groups.iter().map(|group| group.out.len()).sum();
        self.update(|counts| counts.pairs.add(groups.len(), items));
        self.inner.pairs(level, groups)
    }

    fn indexed_pairs(
        &self,
        level: u8,
        groups: &mut [IndexedPairGroup<'_>],
    ) -> Result<(), HashError> {
        let items = groups.iter().map(|group| group.parents.len()).sum();
        self.update(|counts| counts.indexed_pairs.add(groups.len(), items));
        self.inner.indexed_pairs(level, groups)
    }

    fn left_trees(&self, groups: &mut [LeftTreeGroup<'_>]) -> Result<(), HashError> {
        let items = groups.iter().map(LeftTreeGroup::nodes).fold(0, usize::saturating_add);
        self.update(|counts| counts.left_trees.add(groups.len(), items));
        self.inner.left_trees(groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LeftTree, ScalarHasher, Span, conformance};
    use hedgerow_types::{Digest, TWIG_LEAVES};

    #[test]
    fn counts_calls_groups_and_items() {
        let hasher = CountingHasher::new(ScalarHasher);
        let children = [Digest::ZERO; 8];
        let (mut a, mut b) = ([Digest::ZERO; 4], [Digest::ZERO; 1]);
        hasher
            .pairs(
                0,
                &mut [
                    PairGroup { children: &children, out: &mut a },
                    PairGroup { children: &children[..2], out: &mut b },
                ],
            )
            .unwrap();
        hasher.pairs(0, &mut []).unwrap();
        let spans = [Span::default(); 3];
        let mut out = [Digest::ZERO; 3];
        hasher.messages(&mut [MessageGroup { arena: &[], spans: &spans, out: &mut out }]).unwrap();
        hasher
            .indexed_pairs(
                0,
                &mut [IndexedPairGroup { children: &children, parents: &[1, 3], out: &mut a }],
            )
            .unwrap();
        let leaves = vec![Digest::ZERO; TWIG_LEAVES];
        hasher.left_trees(&mut [LeftTree::new(1).group(&leaves, 3..7)]).unwrap();

        let counts = hasher.take();
        let count =
            |calls, groups, items, largest_call| ShapeCount { calls, groups, items, largest_call };
        assert_eq!(counts.pairs, count(2, 2, 5, 5));
        assert_eq!(counts.messages, count(1, 1, 3, 3));
        assert_eq!(counts.indexed_pairs, count(1, 1, 2, 2));
        // 1..4, 0..2, and one node on each of nine levels.
        assert_eq!(counts.left_trees, count(1, 1, 3 + 2 + 9, 14));
        assert_eq!(counts.nodes(), 5 + 2 + 14);
        assert_eq!(counts.calls(), 5);
        assert_eq!(hasher.counts(), Counts::default());
    }

    #[test]
    fn counting_changes_no_answer() {
        conformance::run(&CountingHasher::new(ScalarHasher));
    }
}
