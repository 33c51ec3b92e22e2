//! The bytes that a tree node commits to ([spec 2](crate::spec)).
//!
//! ```text
//!  offset 0      1            33           65
//!         ┌──────┬────────────┬────────────┐
//!         │ L    │ left       │ right      │   node(L, left, right) = SHA-256 of these 65 bytes
//!         └──────┴────────────┴────────────┘   L = level of the children
//! ```
//!
//! Leaves (entry hashes) have no level byte; every other node of every tree is made this way, the
//! one that joins the two halves of a twig and the state root's tree included.

use crate::Digest;

/// Length in bytes of a node's preimage.
pub const NODE_PREIMAGE_LEN: usize = 65;

/// The 65 hashed bytes of the parent of `left` and `right`, which are nodes of level `level`.
pub const fn preimage(level: u8, left: &Digest, right: &Digest) -> [u8; NODE_PREIMAGE_LEN] {
    let mut bytes = [0; NODE_PREIMAGE_LEN];
    bytes[0] = level;
    let (_, children) = bytes.split_at_mut(1);
    let (l, r) = children.split_at_mut(32);
    l.copy_from_slice(&left.0);
    r.copy_from_slice(&right.0);
    bytes
}
