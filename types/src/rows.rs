//! Nodes of several rows of a tree, in one list: what a block replaced of them, for example.
//!
//! ```text
//!   nodes   (1, a) (4, b) (9, c) │ (0, d) (4, e) │ (0, f)      each with its index in its row, ascending
//!   ends                         3               5        6
//!           row 0                  row 1           row 2
//! ```

use crate::Digest;
use alloc::vec::Vec;

/// Nodes of rows, each with its index in its row.
///
/// ```
/// use hedgerow_types::Digest;
/// use hedgerow_types::rows::NodeRows;
/// let mut rows = NodeRows::with_capacity(3, 2);
/// rows.push_row([(1, Digest([7; 32])), (4, Digest([8; 32]))]);
/// rows.push_row([(0, Digest([9; 32]))]);
/// assert_eq!((rows.len(), rows.nodes().len(), rows.row(1).len(), rows.row(2).len()), (2, 3, 1, 0));
/// assert_eq!((rows.get(0, 4), rows.get(0, 2)), (Some(Digest([8; 32])), None));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRows {
    nodes: Vec<(u64, Digest)>,
    /// Of each row: where it ends among the nodes.
    ends: Vec<usize>,
}

impl NodeRows {
    /// None yet, with room for so many nodes and rows.
    pub fn with_capacity(nodes: usize, rows: usize) -> Self {
        Self { nodes: Vec::with_capacity(nodes), ends: Vec::with_capacity(rows) }
    }

    /// Adds a row; its nodes come in ascending order of their indexes.
    pub fn push_row(&mut self, nodes: impl IntoIterator<Item = (u64, Digest)>) {
        self.nodes.extend(nodes);
        self.ends.push(self.nodes.len());
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The nodes of a row; none if there is no such row.
    pub fn row(&self, row: usize) -> &[(u64, Digest)] {
        let start = match row.checked_sub(1) {
            Some(below) => self.ends.get(below),
            None => Some(&0),
        };
        let range = start.zip(self.ends.get(row)).map(|(start, end)| *start..*end);
        range.and_then(|range| self.nodes.get(range)).unwrap_or_default()
    }

    /// The rows, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &[(u64, Digest)]> {
        (0..self.len()).map(|row| self.row(row))
    }

    /// All nodes, row after row.
    pub fn nodes(&self) -> &[(u64, Digest)] {
        &self.nodes
    }

    /// The node that has this index in a row.
    pub fn get(&self, row: usize, index: u64) -> Option<Digest> {
        let nodes = self.row(row);
        let found = nodes.binary_search_by_key(&index, |&(index, _)| index).ok()?;
        nodes.get(found).map(|&(_, node)| node)
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<(u64, Digest)>()
            + self.ends.capacity() * size_of::<usize>()
    }
}

impl<R: IntoIterator<Item = (u64, Digest)>> FromIterator<R> for NodeRows {
    fn from_iter<I: IntoIterator<Item = R>>(rows: I) -> Self {
        let mut all = Self::default();
        rows.into_iter().for_each(|row| all.push_row(row));
        all
    }
}
