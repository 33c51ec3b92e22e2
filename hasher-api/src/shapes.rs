//! The input and output of the batch operations, and the checks that make them safe to trust.

use crate::HashError;
use hedgerow_types::Digest;

/// Where one message lies in its arena. Offsets are 32 bits: an arena holds at most 4 GiB.
///
/// ```
/// use hedgerow_hasher_api::Span;
/// let arena = b"alicebob";
/// let bob = Span { offset: 5, len: 3 };
/// assert_eq!(bob.of(arena), Some(&b"bob"[..]));
/// assert_eq!(Span { len: 4, ..bob }.of(arena), None);        // beyond the arena
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte of the message.
    pub offset: u32,
    /// Length of the message in bytes.
    pub len: u32,
}

impl Span {
    /// The message's bytes, or `None` if the span leaves the arena.
    pub fn of(self, arena: &[u8]) -> Option<&[u8]> {
        arena.get(self.offset as usize..)?.get(..self.len as usize)
    }

    /// Offset of the first byte after the message; beyond 32 bits if the span is malformed.
    pub const fn end(self) -> u64 {
        self.offset as u64 + self.len as u64
    }
}

/// Messages of one arena: `out[i] = SHA-256(arena[spans[i]])`.
///
/// ```
/// use hedgerow_hasher_api::{BatchHasher, MessageGroup, ScalarHasher, Span, hash_message};
/// use hedgerow_types::Digest;
/// let spans = [Span { offset: 0, len: 5 }, Span { offset: 5, len: 3 }];
/// let mut out = [Digest::ZERO; 2];
/// ScalarHasher.messages(&mut [MessageGroup { arena: b"alicebob", spans: &spans, out: &mut out }])?;
/// assert_eq!(out, [hash_message(b"alice"), hash_message(b"bob")]);
/// # Ok::<(), hedgerow_hasher_api::HashError>(())
/// ```
#[derive(Debug)]
pub struct MessageGroup<'a> {
    /// The bytes that the messages lie in, best with [`MESSAGE_SLACK`](crate::MESSAGE_SLACK) bytes
    /// after the last one.
    pub arena: &'a [u8],
    /// The messages, in any order.
    pub spans: &'a [Span],
    /// Receives one digest per span.
    pub out: &'a mut [Digest],
}

/// Adjacent children: `out[i] = node(level, children[2i], children[2i+1])`.
///
/// ```
/// use hedgerow_hasher_api::{HashError, PairGroup};
/// use hedgerow_types::Digest;
/// let (children, mut out) = ([Digest::ZERO; 4], [Digest::ZERO; 2]);
/// assert_eq!(PairGroup { children: &children, out: &mut out }.check(), Ok(()));
/// let odd = PairGroup { children: &children[1..], out: &mut out };
/// assert!(matches!(odd.check(), Err(HashError::Shape(_))));  // what a backend answers to it
/// ```
#[derive(Debug)]
pub struct PairGroup<'a> {
    /// Twice as many nodes as `out`.
    pub children: &'a [Digest],
    /// Receives the parents.
    pub out: &'a mut [Digest],
}

/// Chosen parents of a level: `out[p] = node(level, children[2p], children[2p+1])` for `p` in
/// `parents`.
///
/// ```
/// use hedgerow_hasher_api::{BatchHasher, IndexedPairGroup, ScalarHasher, hash_node};
/// use hedgerow_types::Digest;
/// let children = [1, 2, 3, 4].map(|byte| Digest([byte; 32]));
/// let mut out = [Digest::ZERO; 2];
/// let group = IndexedPairGroup { children: &children, parents: &[1], out: &mut out };
/// ScalarHasher.indexed_pairs(0, &mut [group])?;
/// assert_eq!(out, [Digest::ZERO, hash_node(0, &children[2], &children[3])]);
/// # Ok::<(), hedgerow_hasher_api::HashError>(())
/// ```
#[derive(Debug)]
pub struct IndexedPairGroup<'a> {
    /// The nodes of the level below.
    pub children: &'a [Digest],
    /// The parents to hash, strictly increasing.
    pub parents: &'a [u32],
    /// The level's array; only the elements that `parents` names are written.
    pub out: &'a mut [Digest],
}

impl MessageGroup<'_> {
    /// Checks the shape that [`BatchHasher::messages`](crate::BatchHasher::messages) asks for.
    ///
    /// # Errors
    /// [`HashError::Shape`].
    pub fn check(&self) -> Result<(), HashError> {
        if self.spans.len() != self.out.len() {
            return Err(HashError::Shape("one digest per message"));
        }
        let inside = |span: &Span| span.end() <= self.arena.len() as u64;
        if self.spans.iter().all(inside) { Ok(()) } else { Err(HashError::MESSAGE_OUTSIDE) }
    }
}

impl PairGroup<'_> {
    /// Checks the shape that [`BatchHasher::pairs`](crate::BatchHasher::pairs) asks for.
    ///
    /// # Errors
    /// [`HashError::Shape`].
    pub fn check(&self) -> Result<(), HashError> {
        if self.children.len() == 2 * self.out.len() {
            Ok(())
        } else {
            Err(HashError::Shape("two children per parent"))
        }
    }
}

impl IndexedPairGroup<'_> {
    /// Checks the shape that [`BatchHasher::indexed_pairs`](crate::BatchHasher::indexed_pairs)
    /// asks for.
    ///
    /// # Errors
    /// [`HashError::Shape`].
    pub fn check(&self) -> Result<(), HashError> {
        if !self.parents.is_sorted_by(|a, b| a < b) {
            return Err(HashError::Shape("parents must be strictly increasing"));
        }
        let end = self.parents.last().map_or(0, |&last| last as usize + 1);
        if end <= self.out.len() && end <= self.children.len() / 2 {
            Ok(())
        } else {
            Err(HashError::Shape("a parent lies outside its level"))
        }
    }
}

/// Checks every group before the first output is written, so that a malformed batch changes
/// nothing.
///
/// # Errors
/// The first error of `check`.
pub fn check_all<G>(
    groups: &[G],
    check: impl Fn(&G) -> Result<(), HashError>,
) -> Result<(), HashError> {
    groups.iter().try_for_each(check)
}
