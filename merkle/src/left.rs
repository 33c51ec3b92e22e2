//! Left trees: the binary trees over the entry hashes of the twigs that are open.
//!
//! ```text
//!  level 11   ┌ left root ┐┌ left root ┐┌ null ┐
//!             │           ││           ││      │      youngest at block start ..= at block end
//!  level 0    └ 2048 leaves┘└ 2048     ┘└ null ┘
//!                    ▲ appended in this block ▲
//! ```
//!
//! Between blocks exactly one twig is open: the youngest. A block that fills it opens the next ones
//! beside it, so that every level is one contiguous run over all of them; afterwards all but the
//! youngest are closed. Leaves not yet occupied hold the null entry hash and nodes over nothing but
//! those the null node of their level (spec 8.1), so an open tree is always complete.

use crate::FinishedTwig;
use hedgerow_hasher_api::{LEFT_TREE_LEVELS, LeftTreeGroup, NullTable};
use hedgerow_types::{Digest, ShardId, TWIG_LEAVES, TwigId};
use std::ops::Range;

/// Level of the left root (spec 8.1).
const LEFT_ROOT_LEVEL: usize = LEFT_TREE_LEVELS;
/// Levels of a left tree, the leaves counted.
const LEFT_LEVELS: usize = LEFT_TREE_LEVELS + 1;
/// Memory for this many open twigs is kept between blocks; more is given back.
const KEPT_TWIGS: usize = 4;

/// The left trees of consecutive twigs. See the [module documentation](self).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OpenTwigs {
    first: TwigId,
    levels: [Vec<Digest>; LEFT_LEVELS],
}

/// Nodes of one left tree at a level.
const fn width(level: usize) -> usize {
    TWIG_LEAVES >> level
}

impl OpenTwigs {
    /// One twig without leaves.
    pub(crate) fn new(first: TwigId, null: &NullTable) -> Self {
        let levels = std::array::from_fn(|level| vec![null.left[level]; width(level)]);
        Self { first, levels }
    }

    /// The oldest open twig.
    pub(crate) fn first(&self) -> TwigId {
        self.first
    }

    /// The youngest open twig.
    pub(crate) fn last(&self) -> TwigId {
        TwigId(self.first.0 + (self.levels[LEFT_ROOT_LEVEL].len() as u64).saturating_sub(1))
    }

    /// Opens twigs, without leaves, until `last` is the youngest.
    pub(crate) fn open_to(&mut self, last: TwigId, null: &NullTable) {
        let twigs = (last.0.saturating_sub(self.first.0) + 1) as usize;
        for (level, nodes) in self.levels.iter_mut().enumerate() {
            if nodes.len() < twigs * width(level) {
                nodes.resize(twigs * width(level), null.left[level]);
            }
        }
    }

    /// Where the leaves with these serial numbers lie in level 0.
    fn places(&self, leaves: &Range<u64>) -> Range<usize> {
        let base = self.first.first().0;
        leaves.start.saturating_sub(base) as usize..leaves.end.saturating_sub(base) as usize
    }

    /// The leaves with these serial numbers.
    pub(crate) fn leaves_mut(&mut self, leaves: &Range<u64>) -> &mut [Digest] {
        let places = self.places(leaves);
        self.levels[0].get_mut(places).unwrap_or_default()
    }

    /// The hash group that computes what is above the leaves with these serial numbers; `None` if
    /// there are none.
    pub(crate) fn above(&mut self, leaves: &Range<u64>) -> Option<LeftTreeGroup<'_>> {
        let changed = (!leaves.is_empty()).then(|| self.places(leaves))?;
        let [leaves, levels @ ..] = &mut self.levels;
        let levels = levels.each_mut().map(|nodes| &mut nodes[..]);
        Some(LeftTreeGroup { leaves, changed, levels })
    }

    /// The left root of an open twig.
    pub(crate) fn root(&self, twig: TwigId) -> Option<Digest> {
        let place = usize::try_from(twig.0.checked_sub(self.first.0)?).ok()?;
        self.levels[LEFT_ROOT_LEVEL].get(place).copied()
    }

    /// A node of the first open twig, which between blocks is the youngest.
    pub(crate) fn node(&self, level: usize, index: usize) -> Option<Digest> {
        self.levels.get(level)?.get(..width(level))?.get(index).copied()
    }

    /// The open leaves, null ones included.
    pub(crate) fn leaves(&self) -> &[Digest] {
        &self.levels[0]
    }

    /// The record of every open twig but the youngest: those that the block has filled.
    pub(crate) fn finished(&self, shard: ShardId) -> impl Iterator<Item = FinishedTwig> {
        (self.first.0..self.last().0).enumerate().map(move |(place, twig)| {
            FinishedTwig::collect(shard, TwigId(twig), |level| {
                let width = width(level);
                self.levels[level].get(place * width..(place + 1) * width).unwrap_or_default()
            })
        })
    }

    /// Forgets every open twig but the youngest.
    pub(crate) fn close_filled(&mut self) {
        let last = self.last();
        let filled = (last.0 - self.first.0) as usize;
        self.first = last;
        for (level, nodes) in self.levels.iter_mut().enumerate() {
            nodes.drain(..(filled * width(level)).min(nodes.len()));
            nodes.shrink_to(KEPT_TWIGS * width(level));
        }
    }

    /// Makes this tree equal to `from`, given that they differ, if they have the same youngest
    /// twig, only above the leaves with these serial numbers.
    pub(crate) fn copy(&mut self, from: &Self, leaves: &Range<u64>) {
        if self.first != from.first {
            self.first = from.first;
            for (nodes, from) in self.levels.iter_mut().zip(&from.levels) {
                nodes.clear();
                nodes.extend_from_slice(from);
            }
            return;
        }
        let places = from.places(leaves);
        if places.is_empty() {
            return;
        }
        for (level, (nodes, from)) in self.levels.iter_mut().zip(&from.levels).enumerate() {
            let changed = places.start >> level..((places.end - 1) >> level) + 1;
            if let (Some(to), Some(from)) = (nodes.get_mut(changed.clone()), from.get(changed)) {
                to.copy_from_slice(from);
            }
        }
    }

    /// Gives memory back that no node is in.
    pub(crate) fn shrink(&mut self) {
        self.levels.iter_mut().for_each(Vec::shrink_to_fit);
    }

    /// Heap bytes, slack included.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.levels.iter().map(|nodes| nodes.capacity() * size_of::<Digest>()).sum()
    }
}
