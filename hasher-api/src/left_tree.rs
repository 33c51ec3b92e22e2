//! Left trees of which a run of leaves is new: a shape of its own, for a device hashes them in one go.

use crate::{HashError, PairGroup};
use hedgerow_types::{Digest, TWIG_LEAVES, TWIG_SHIFT};
use std::ops::Range;

/// Levels of nodes in a left tree: 1, above the leaves, to 11, the left root ([spec 8.1](hedgerow_types::spec)).
pub const LEFT_TREE_LEVELS: usize = TWIG_SHIFT as usize;

/// The left trees of consecutive twigs, of which a run of leaves is new.
///
/// ```text
///  levels[10]   └── root ──┘└── root ──┘└── root ──┘     one per twig
///   ...              ▓▓      ▓▓▓▓▓▓▓▓▓▓  ▓▓▓
///  leaves            ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓             2048 per twig
///                    └────── changed ──────┘
/// ```
///
/// ```
/// use hedgerow_hasher_api::LeftTree;
/// use hedgerow_types::Digest;
/// let leaves = [Digest::ZERO; 2048];
/// let mut tree = LeftTree::new(1);
/// let group = tree.group(&leaves, 10..12);     // the leaves 10 and 11 are new
/// assert_eq!(group.changed_at(1), 5..6);       // both are below one node
/// assert_eq!(group.nodes(), 11);               // which has ten above it
/// ```
#[derive(Debug)]
pub struct LeftTreeGroup<'a> {
    /// Level 0: 2048 per twig.
    pub leaves: &'a [Digest],
    /// Places in `leaves` of those that changed.
    pub changed: Range<usize>,
    /// Levels 1 to 11: 1024 nodes per twig, 512, and so on to 1.
    pub levels: [&'a mut [Digest]; LEFT_TREE_LEVELS],
}

/// The children of some parents; `None` if they lie outside.
fn of_parents(children: &[Digest], parents: Range<usize>) -> Option<&[Digest]> {
    Some(children.as_chunks::<2>().0.get(parents)?.as_flattened())
}

impl LeftTreeGroup<'_> {
    /// Checks the shape that [`BatchHasher::left_trees`](crate::BatchHasher::left_trees) asks for.
    ///
    /// # Errors
    /// [`HashError::Shape`].
    pub fn check(&self) -> Result<(), HashError> {
        let twigs = self.leaves.len() / TWIG_LEAVES;
        let widths = (1..).map(|level| twigs * (TWIG_LEAVES >> level));
        if !self.leaves.len().is_multiple_of(TWIG_LEAVES)
            || self.levels.iter().zip(widths).any(|(nodes, width)| nodes.len() != width)
        {
            return Err(HashError::Shape(
                "a twig has 2048 leaves, and half as many nodes a level up",
            ));
        }
        if self.changed.start <= self.changed.end && self.changed.end <= self.leaves.len() {
            Ok(())
        } else {
            Err(HashError::Shape("a changed leaf lies outside its twigs"))
        }
    }

    /// Places of the nodes above the changed leaves, in `leaves` for level 0, in `levels[level - 1]`
    /// else.
    pub fn changed_at(&self, level: usize) -> Range<usize> {
        match self.changed.clone() {
            Range { start, end } if start < end => start >> level..((end - 1) >> level) + 1,
            _ => 0..0,
        }
    }

    /// Number of nodes above the changed leaves.
    pub fn nodes(&self) -> usize {
        let widths = (1..=LEFT_TREE_LEVELS).map(|level| self.changed_at(level).len());
        widths.fold(0, usize::saturating_add)
    }

    /// The nodes of a level, the leaves for level 0, from which those above the changed leaves are
    /// hashed; empty if there are none.
    pub fn children_at(&self, level: usize) -> &[Digest] {
        let parents = self.changed_at(level + 1);
        let children = match level.checked_sub(1) {
            None => Some(self.leaves),
            Some(below) => self.levels.get(below).map(|nodes| &**nodes),
        };
        children.and_then(|children| of_parents(children, parents)).unwrap_or_default()
    }

    /// What [`BatchHasher::pairs`](crate::BatchHasher::pairs) hashes to get from `level` to the one
    /// above; `None` if no leaf changed, or above the left root.
    pub fn pairs(&mut self, level: usize) -> Option<PairGroup<'_>> {
        let parents = self.changed_at(level + 1);
        let (below, above) = self.levels.split_at_mut_checked(level)?;
        let children = below.last().map_or(self.leaves, |nodes| &**nodes);
        let children = of_parents(children, parents.clone())?;
        let out = above.first_mut()?.get_mut(parents)?;
        (!out.is_empty()).then_some(PairGroup { children, out })
    }
}

/// Room for the levels of the left trees of consecutive twigs.
///
/// ```
/// use hedgerow_hasher_api::{BatchHasher, LeftTree, ScalarHasher};
/// use hedgerow_types::Digest;
/// let leaves = [Digest::ZERO; 2048];
/// let mut tree = LeftTree::new(1);
/// ScalarHasher.left_trees(&mut [tree.group(&leaves, 0..2048)])?;
/// assert_ne!(tree.roots()[0], Digest::ZERO);
/// # Ok::<(), hedgerow_hasher_api::HashError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftTree {
    levels: [Vec<Digest>; LEFT_TREE_LEVELS],
}

impl LeftTree {
    /// Of so many twigs, all nodes zero.
    pub fn new(twigs: usize) -> Self {
        let level = |i: usize| vec![Digest::ZERO; twigs * (TWIG_LEAVES >> (i + 1))];
        Self { levels: std::array::from_fn(level) }
    }

    /// Levels 1 to 11.
    pub const fn levels(&self) -> &[Vec<Digest>; LEFT_TREE_LEVELS] {
        &self.levels
    }

    /// The left roots.
    pub fn roots(&self) -> &[Digest] {
        &self.levels[LEFT_TREE_LEVELS - 1]
    }

    /// What [`BatchHasher::left_trees`](crate::BatchHasher::left_trees) takes when these of the
    /// `leaves` have changed.
    pub fn group<'a>(
        &'a mut self,
        leaves: &'a [Digest],
        changed: Range<usize>,
    ) -> LeftTreeGroup<'a> {
        let levels = self.levels.each_mut().map(|nodes| &mut nodes[..]);
        LeftTreeGroup { leaves, changed, levels }
    }
}
