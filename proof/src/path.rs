//! The path from one entry hash to its shard's root, as [`SerialPath`](crate::SerialPath) has it.
//!
//! ```text
//!   11 left siblings │ page │ 3 right siblings │ k upper siblings      each 32 bytes
//! ```

use crate::ProofError;
use crate::hash::{Sha2, climb, hash_node};
use hedgerow_types::{ACTIVE_BITS_LEVEL, Digest, SerialNumber, TWIG_ROOT_LEVEL, TWIG_SHIFT};

/// Siblings in the left tree of a twig, levels 0..=10 ([spec 8.1](hedgerow_types::spec)).
pub const LEFT_LEVELS: usize = TWIG_SHIFT as usize;
/// Siblings in the right tree of a twig, levels 8..=10 ([spec 8.1](hedgerow_types::spec)).
pub const RIGHT_LEVELS: usize = 3;
/// Most siblings in the upper tree, levels 12..=62 ([spec 10.2](hedgerow_types::spec)).
pub const MAX_UPPER_LEVELS: usize = 51;
/// Nodes of a path without upper siblings.
pub(crate) const FIXED_NODES: usize = LEFT_LEVELS + 1 + RIGHT_LEVELS;

/// A node, or a page of active bits, as it lies in the bytes.
pub(crate) type Node = [u8; 32];

const _: () = assert!(LEFT_LEVELS == 11 && FIXED_NODES == 15);
const _: () = assert!(TWIG_ROOT_LEVEL as usize + MAX_UPPER_LEVELS < 64, "below the state levels");

/// Whether the active bit of `sn` is set in the page that holds it ([spec 8.1](hedgerow_types::spec)).
pub(crate) fn is_active(page: &Node, sn: SerialNumber) -> bool {
    let byte = page.get((sn.0 % 256 / 8) as usize);
    byte.is_some_and(|byte| byte & (1 << (sn.0 % 8)) != 0)
}

/// Whether a serial number has a place in a shard with so many levels above the twig roots. Bits above would
/// choose no side, so one path would stand for many serial numbers ([spec 10.2](hedgerow_types::spec)).
pub(crate) fn check_position(sn: SerialNumber, upper_levels: usize) -> Result<(), ProofError> {
    let beyond = upper_levels <= MAX_UPPER_LEVELS && sn.0 >> (LEFT_LEVELS + upper_levels) != 0;
    if beyond { Err(ProofError::Position { sn, upper_levels }) } else { Ok(()) }
}

/// A path, borrowed from its bytes.
///
/// Invariant: `upper` has at most [`MAX_UPPER_LEVELS`] nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PathRef<'a> {
    left: &'a [Node; LEFT_LEVELS],
    page: &'a Node,
    right: &'a [Node; RIGHT_LEVELS],
    upper: &'a [Node],
}

impl<'a> PathRef<'a> {
    /// The path of `sn` that these nodes are.
    ///
    /// # Errors
    /// [`ProofError::PathLength`] for an impossible number of nodes, [`ProofError::Position`] if
    /// the serial number has bits above the path.
    pub(crate) fn new(sn: SerialNumber, nodes: &'a [Node]) -> Result<Self, ProofError> {
        let path = Self::split(nodes).ok_or(ProofError::PathLength { len: 32 * nodes.len() })?;
        check_position(sn, path.upper.len())?;
        Ok(path)
    }

    fn split(nodes: &'a [Node]) -> Option<Self> {
        let (left, rest) = nodes.split_first_chunk()?;
        let (page, rest) = rest.split_first()?;
        let (right, upper) = rest.split_first_chunk()?;
        (upper.len() <= MAX_UPPER_LEVELS).then_some(Self { left, page, right, upper })
    }

    /// The shard root that the path leads to from `leaf`, the `sn`-th entry hash ([spec 10.2](hedgerow_types::spec)).
    pub(crate) fn shard_root(&self, sn: SerialNumber, leaf: Digest) -> Digest {
        let hash = &Sha2;
        let left_root = climb(hash, leaf, 0, sn.0, self.left);
        let right_root = climb(hash, Digest(*self.page), ACTIVE_BITS_LEVEL, sn.0 >> 8, self.right);
        let twig_root = hash_node(hash, TWIG_ROOT_LEVEL - 1, &left_root, &right_root);
        climb(hash, twig_root, TWIG_ROOT_LEVEL, sn.0 >> TWIG_SHIFT, self.upper)
    }

    /// Whether the active bit of `sn` is set in the page ([spec 10.2](hedgerow_types::spec)).
    pub(crate) fn is_active(&self, sn: SerialNumber) -> bool {
        is_active(self.page, sn)
    }
}
