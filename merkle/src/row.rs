//! One level of nodes: a dense array whose left end moves.
//!
//! ```text
//!        index   ...  8    9   10   11   12   13      node 8 and everything left of it is gone
//!                    ┌────┬────┬────┬────┬────┬────┐
//!        nodes       │ ▒▒ │ ▒▒ │  a │  b │  c │  d │   ▒ dropped, its memory not yet reclaimed
//!                    └────┴────┴────┴────┴────┴────┘
//!                    ◄─ dead ─► base = 10          end = 14
//! ```
//!
//! Dropping at the left only moves `base`; the memory is reclaimed when the dropped part has grown
//! to a fraction of the rest, so that dropping costs a constant per node however long the row is.
//!
//! **Invariant:** `base` of a row that has parents is even, so that the two children of a parent
//! are either both there or both gone, and parent `p` of the row is the one of its nodes `2p` and
//! `2p + 1` counted from `base`.

use hedgerow_hasher_api::IndexedPairGroup;
use hedgerow_types::Digest;

/// A row reclaims dropped memory when it amounts to this fraction of the live part: 1 / 4.
const RECLAIM_FRACTION: usize = 4;
/// A full row grows by this fraction: 1 / 8. The slack stays small, the moves stay rare.
const GROW_FRACTION: usize = 8;
/// A full row grows by at least this many nodes.
const GROW_MIN: usize = 16;

/// One level of nodes. See the [module documentation](self).
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    base: u64,
    dead: usize,
    nodes: Vec<Digest>,
}

/// Two rows are equal if they hold the same nodes at the same indexes, wherever their memory is.
impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.base == other.base && self.live() == other.live()
    }
}

impl Row {
    /// An empty row whose first node will have the index `base`.
    pub(crate) fn new(base: u64) -> Self {
        Self { base, dead: 0, nodes: Vec::new() }
    }

    /// Index of the first node.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Index after the last node.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.live().len() as u64
    }

    /// The nodes from `base` to `end`.
    pub(crate) fn live(&self) -> &[Digest] {
        self.nodes.get(self.dead..).unwrap_or_default()
    }

    /// The nodes from `base` to `end`.
    pub(crate) fn live_mut(&mut self) -> &mut [Digest] {
        self.nodes.get_mut(self.dead..).unwrap_or_default()
    }

    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.base)?).ok()
    }

    /// The node with this index, if the row holds it.
    pub(crate) fn get(&self, index: u64) -> Option<&Digest> {
        self.live().get(self.place(index)?)
    }

    /// The node with this index, if the row holds it.
    pub(crate) fn get_mut(&mut self, index: u64) -> Option<&mut Digest> {
        let place = self.place(index)?;
        self.live_mut().get_mut(place)
    }

    /// Writes a node. An index that the row does not hold is passed over: it was dropped.
    pub(crate) fn set(&mut self, index: u64, node: Digest) {
        if let Some(place) = self.get_mut(index) {
            *place = node;
        }
    }

    /// Appends copies of `fill` until the row ends at `end`, if it does not reach that far.
    pub(crate) fn extend_to(&mut self, end: u64, fill: Digest) {
        let missing = end.saturating_sub(self.end()) as usize;
        self.reserve(missing);
        self.nodes.extend(std::iter::repeat_n(fill, missing));
    }

    /// Appends nodes.
    pub(crate) fn extend(&mut self, nodes: &[Digest]) {
        self.reserve(nodes.len());
        self.nodes.extend_from_slice(nodes);
    }

    fn reserve(&mut self, more: usize) {
        if self.nodes.capacity() - self.nodes.len() < more {
            let slack = (self.nodes.len() / GROW_FRACTION).max(GROW_MIN);
            self.nodes.reserve_exact(more.max(slack));
        }
    }

    /// Drops the nodes left of `base`; the next one appended to an emptied row has that index.
    pub(crate) fn drop_below(&mut self, base: u64) {
        let Some(gone) = self.place(base) else { return };
        self.dead += gone.min(self.live().len());
        self.base = base;
        if self.dead * RECLAIM_FRACTION >= self.live().len() {
            self.nodes.drain(..self.dead);
            self.dead = 0;
            self.nodes.shrink_to(self.nodes.len() + self.nodes.len() / 2 + GROW_MIN);
        }
    }

    /// Makes this row hold the same indexes as `from`. Nodes it holds already keep their values;
    /// appended ones are taken from `from`.
    pub(crate) fn align(&mut self, from: &Self) {
        self.drop_below(from.base);
        if let Some(new) = from.place(self.end()).and_then(|place| from.live().get(place..)) {
            self.extend(new);
        }
    }

    /// Copies the node with this index from `from`, if both hold it.
    pub(crate) fn copy(&mut self, from: &Self, index: u64) {
        if let Some(&node) = from.get(index) {
            self.set(index, node);
        }
    }

    /// Nodes by which the first parent of this row lies inside the parents' row.
    pub(crate) fn parents_skip(&self, parents: &Self) -> u64 {
        (self.base / 2).saturating_sub(parents.base)
    }

    /// The hash group that computes the nodes `dirty` of `out` from this row. `dirty` counts from
    /// the parent of this row's first two nodes.
    pub(crate) fn hash_into<'a>(
        &'a self,
        dirty: &'a [u32],
        out: &'a mut Self,
    ) -> IndexedPairGroup<'a> {
        let skip = self.parents_skip(out) as usize;
        IndexedPairGroup {
            children: self.live(),
            parents: dirty,
            // An offset outside the row would leave no outputs, which the hasher refuses.
            out: out.live_mut().get_mut(skip..).unwrap_or_default(),
        }
    }

    /// Heap bytes, slack included.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Digest>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(i: u64) -> Digest {
        let mut node = Digest::ZERO;
        node.0[..8].copy_from_slice(&i.to_le_bytes());
        node
    }

    #[test]
    fn a_row_keeps_its_indexes_however_its_left_end_moves() {
        let mut row = Row::new(6);
        let mut base = 6;
        for step in 0..2000u64 {
            row.extend(&[node(row.end())]);
            if step % 3 == 0 {
                base += step % 4;
                row.drop_below(base.min(row.end()));
                base = row.base();
            }
            assert!(row.dead * RECLAIM_FRACTION < row.live().len().max(1));
            for i in row.base()..row.end() {
                assert_eq!(row.get(i), Some(&node(i)));
            }
            assert_eq!(row.get(row.end()), None);
            assert_eq!(row.base().checked_sub(1).and_then(|i| row.get(i)), None);
        }
    }

    #[test]
    fn rows_with_the_same_nodes_at_other_indexes_differ() {
        let (mut a, mut b) = (Row::new(4), Row::new(6));
        a.extend(&[node(1), node(2)]);
        b.extend(&[node(1), node(2)]);
        assert_ne!(a, b);
        a.extend(&[node(1), node(2)]);
        a.drop_below(6);
        assert_eq!(a, b);
    }

    #[test]
    fn an_emptied_row_begins_where_it_was_cut() {
        let mut row = Row::new(0);
        row.extend_to(3, node(7));
        row.drop_below(10);
        assert_eq!((row.base(), row.end()), (10, 10));
        row.drop_below(4);
        assert_eq!(row.base(), 10);
        row.extend(&[node(10)]);
        assert_eq!(row.get(10), Some(&node(10)));
    }

    #[test]
    fn aligned_rows_hold_the_same_indexes() {
        let mut from = Row::new(0);
        (0..20).for_each(|i| from.extend(&[node(i)]));
        let mut twin = from.clone();
        (20..40).for_each(|i| from.extend(&[node(i)]));
        from.set(15, node(99));
        from.drop_below(12);
        twin.align(&from);
        assert_ne!(twin, from);
        twin.copy(&from, 15);
        assert_eq!(twin, from);
        // A twin that ends left of what is kept.
        from.drop_below(38);
        let mut old = Row::new(0);
        old.extend(&[node(0)]);
        old.align(&from);
        assert_eq!(old, from);
    }
}
