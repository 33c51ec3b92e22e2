//! Groups as pieces: what they cost, how they are cut, what jobs they hold.
//!
//! ```text
//!  indexed pairs   parents   1   4 | 5   9                  sorted, so a cut between two parents
//!                  out     0 1 2 3 4 | 5 6 7 8 9            is a cut of `out` too: the pieces write
//!                          └── front ┘ └── rest ┘           disjoint slices
//! ```
//!
//! **Invariant:** the jobs of the pieces of a group, in order, are the jobs of the group. Pieces
//! come from groups that passed their check; a piece that did not would lose jobs, never panic.

use crate::kernel::{MessageJob, NodeJob};
use hedgerow_hasher_api::{IndexedPairGroup, MessageGroup, PairGroup, Span};
use hedgerow_types::Digest;
use std::mem;

/// Work in compressions of 64 bytes.
pub(crate) type Cost = u64;

/// Compressions per node: 65 bytes and the padding fill two blocks.
const NODE_COST: Cost = 2;

/// The work of `count` nodes.
pub(crate) fn cost_of_nodes(count: usize) -> Cost {
    NODE_COST * count as Cost
}

/// The work of `spans`.
pub(crate) fn cost_of_messages(spans: &[Span]) -> Cost {
    spans.iter().map(cost_of_message).sum()
}

/// The message, a byte that ends it and 8 bytes of length, in blocks of 64.
fn cost_of_message(span: &Span) -> Cost {
    (Cost::from(span.len) + 9).div_ceil(64)
}

/// Work that can be cut in two.
pub(crate) trait Divide: Sized {
    /// Takes whole items from the front until they cost `room` or more, at least one. Returns
    /// them, what they cost, and the rest if there is any.
    fn divide(self, room: Cost) -> (Self, Cost, Option<Self>);
}

/// Of `count` nodes, those to take from the front, and their cost.
fn front_nodes(count: usize, room: Cost) -> (usize, Cost) {
    let wanted = room.div_ceil(NODE_COST).max(1);
    let taken = usize::try_from(wanted).map_or(count, |wanted| wanted.min(count));
    (taken, cost_of_nodes(taken))
}

impl Divide for PairGroup<'_> {
    fn divide(self, room: Cost) -> (Self, Cost, Option<Self>) {
        let (taken, cost) = front_nodes(self.out.len(), room);
        if taken == self.out.len() {
            return (self, cost, None);
        }
        let (children, other_children) = self.children.split_at(2 * taken);
        let (out, other_out) = self.out.split_at_mut(taken);
        let rest = Self { children: other_children, out: other_out };
        (Self { children, out }, cost, Some(rest))
    }
}

/// The nodes of a group.
pub(crate) fn pair_jobs<'a>(group: PairGroup<'a>) -> impl Iterator<Item = NodeJob<'a>> {
    let (children, _) = group.children.as_chunks();
    children.iter().zip(group.out).map(|(children, out)| NodeJob { children, out })
}

impl Divide for MessageGroup<'_> {
    fn divide(self, room: Cost) -> (Self, Cost, Option<Self>) {
        let mut cost = 0;
        let mut taken = 0;
        for span in self.spans {
            taken += 1;
            cost += cost_of_message(span);
            if cost >= room {
                break;
            }
        }
        if taken == self.spans.len() {
            return (self, cost, None);
        }
        let (spans, other_spans) = self.spans.split_at(taken);
        let (out, other_out) = self.out.split_at_mut(taken);
        let rest = Self { arena: self.arena, spans: other_spans, out: other_out };
        (Self { arena: self.arena, spans, out }, cost, Some(rest))
    }
}

/// The messages of a group.
pub(crate) fn message_jobs<'a>(group: MessageGroup<'a>) -> impl Iterator<Item = MessageJob<'a>> {
    let MessageGroup { arena, spans, out } = group;
    spans.iter().zip(out).filter_map(|(span, out)| {
        MessageJob::new(arena.get(span.offset as usize..)?, span.len, out)
    })
}

/// Some parents of an [`IndexedPairGroup`], with the part of its level that they lie in.
#[derive(Debug)]
pub(crate) struct IndexedPairPiece<'a> {
    /// Children of the whole level, by parent.
    children: &'a [[Digest; 2]],
    parents: &'a [u32],
    /// The parent that `out[0]` is.
    first: usize,
    out: &'a mut [Digest],
}

impl<'a> IndexedPairPiece<'a> {
    /// All parents of a group.
    pub(crate) fn whole(group: &'a mut IndexedPairGroup<'_>) -> Self {
        let (children, _) = group.children.as_chunks();
        Self { children, parents: group.parents, first: 0, out: group.out }
    }

    /// The nodes of a piece.
    pub(crate) fn jobs(self) -> impl Iterator<Item = NodeJob<'a>> {
        let Self { children, parents, mut first, mut out } = self;
        parents.iter().map_while(move |&parent| {
            let parent = parent as usize;
            let (_, from_parent) = mem::take(&mut out).split_at_mut_checked(parent - first)?;
            let (target, after) = from_parent.split_first_mut()?;
            out = after;
            first = parent + 1;
            Some(NodeJob { children: children.get(parent)?, out: target })
        })
    }
}

impl Divide for IndexedPairPiece<'_> {
    fn divide(self, room: Cost) -> (Self, Cost, Option<Self>) {
        let Self { children, parents, first, out } = self;
        let (taken, cost) = front_nodes(parents.len(), room);
        let (front, back) = parents.split_at(taken);
        let Some(&next) = back.first() else {
            return (Self { children, parents, first, out }, cost, None);
        };
        let next = next as usize;
        let (out, other_out) = out.split_at_mut(next - first);
        let rest = Self { children, parents: back, first: next, out: other_out };
        (Self { children, parents: front, first, out }, cost, Some(rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Cuts `piece` by the rooms in turn and returns the jobs of all parts, cost by cost.
    fn parts<P: Divide>(piece: P, rooms: &[Cost]) -> Vec<(P, Cost, Cost)> {
        let mut parts = vec![];
        let mut left = Some(piece);
        for &room in rooms.iter().chain(std::iter::repeat(&Cost::MAX)) {
            let Some(piece) = left else { break };
            let (front, cost, rest) = piece.divide(room);
            parts.push((front, cost, room));
            left = rest;
        }
        parts
    }

    /// The address of an output, to recognize it by.
    fn address(out: &mut Digest) -> usize {
        std::ptr::from_mut(out) as usize
    }

    #[test]
    fn a_message_costs_its_blocks() {
        for (len, cost) in [(0, 1), (55, 1), (56, 2), (64, 2), (119, 2), (120, 3), (65, 2)] {
            assert_eq!(cost_of_message(&Span { offset: 3, len }), cost, "{len} bytes");
        }
        assert_eq!(cost_of_message(&Span { offset: 0, len: u32::MAX }), (1 << 26) + 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn cut_indexed_pairs_hold_the_same_jobs(
            chosen in prop::collection::vec(any::<bool>(), 0..80),
            rooms in prop::collection::vec(0_u64..30, 0..20),
        ) {
            let children: Vec<_> =
                (0..2 * chosen.len()).map(|i| Digest([i as u8; 32])).collect();
            let parents: Vec<_> =
                (0..chosen.len() as u32).filter(|&p| chosen[p as usize]).collect();
            let mut out = vec![Digest::ZERO; chosen.len()];
            let base = out.as_ptr() as usize;
            let mut group =
                IndexedPairGroup { children: &children, parents: &parents, out: &mut out };
            let mut jobs = vec![];
            for (part, cost, room) in parts(IndexedPairPiece::whole(&mut group), &rooms) {
                let before = jobs.len();
                jobs.extend(part.jobs().map(|job| (job.children, address(job.out))));
                prop_assert_eq!(cost, 2 * (jobs.len() - before) as Cost);
                prop_assert!(cost <= room.saturating_add(1).max(2));
            }
            let expected: Vec<_> = parents
                .iter()
                .map(|&p| p as usize)
                .map(|p| (&children.as_chunks().0[p], base + 32 * p))
                .collect();
            prop_assert_eq!(jobs, expected);
        }

        #[test]
        fn cut_pairs_hold_the_same_jobs(
            count in 0_usize..80, rooms in prop::collection::vec(0_u64..30, 0..20)
        ) {
            let children: Vec<_> = (0..2 * count).map(|i| Digest([i as u8; 32])).collect();
            let mut out = vec![Digest::ZERO; count];
            let base = out.as_ptr() as usize;
            let group = PairGroup { children: &children, out: &mut out };
            let mut jobs = vec![];
            for (part, cost, _) in parts(group, &rooms) {
                let before = jobs.len();
                jobs.extend(pair_jobs(part).map(|job| (job.children, address(job.out))));
                prop_assert_eq!(cost, 2 * (jobs.len() - before) as Cost);
            }
            let expected: Vec<_> =
                (0..count).map(|p| (&children.as_chunks().0[p], base + 32 * p)).collect();
            prop_assert_eq!(jobs, expected);
        }

        #[test]
        fn cut_messages_hold_the_same_jobs(
            lens in prop::collection::vec(0_u32..300, 0..60),
            rooms in prop::collection::vec(0_u64..30, 0..20),
        ) {
            let arena = [0; 512];
            let spans: Vec<_> =
                lens.iter().enumerate().map(|(i, &len)| Span { offset: i as u32, len }).collect();
            let mut out = vec![Digest::ZERO; spans.len()];
            let base = out.as_ptr() as usize;
            let group = MessageGroup { arena: &arena, spans: &spans, out: &mut out };
            let mut jobs = vec![];
            let mut total = 0;
            for (part, cost, _) in parts(group, &rooms) {
                prop_assert_eq!(cost, cost_of_messages(part.spans));
                total += cost;
                jobs.extend(message_jobs(part).map(|job| {
                    (job.message().as_ptr() as usize, job.message().len(), address(job.out))
                }));
            }
            prop_assert_eq!(total, cost_of_messages(&spans));
            let expected: Vec<_> = (spans.iter().enumerate())
                .map(|(i, s)| (arena.as_ptr() as usize + i, s.len as usize, base + 32 * i))
                .collect();
            prop_assert_eq!(jobs, expected);
        }
    }
}
