//! `left_trees` on a device: leaves up, inner nodes down, one kernel between.
//!
//! ```text
//!  groups    A ░░▓▓▓▓ ▓▓▓▓▓▓ ▓░░░░░   B ░░░▓░░        ▓ changed leaves
//!               twig 0  twig 1  twig 2    twig 0
//!  chunk     A 0     A 1     A 2        B 0           ──►  Launch::Twigs, all 2047 inner nodes
//!  nodes     those above ▓, from every level          ──►  to their places
//! ```
//!
//! Twigs with a changed leaf are hashed whole, whatever else is right already: a twig is 64 KiB
//! each way and 2047 hashes side by side, a level on its own a round trip with a list of places. So
//! a block costs one round trip instead of 11, and 16 shards with a few new leaves each copy a
//! megabyte each way. (The roots, which the kernel gives apart as well, lie among the inner nodes and
//! are not fetched.)

use crate::{
    Launch, Queue, TWIG_INNER,
    cut::{Cursor, Piece},
    pipeline::{Buffers, Work, pack, unpack},
};
use hedgerow_hasher_api::{HashError, LEFT_TREE_LEVELS, LeftTreeGroup};
use hedgerow_types::TWIG_LEAVES;
use std::ops::Range;

/// Bytes of the leaves of a twig.
pub(crate) const TWIG_BYTES: u64 = 32 * TWIG_LEAVES as u64;

/// All twigs of a call that have a changed leaf.
pub(crate) struct LeftTrees<'a, 'b> {
    pub(crate) groups: &'a mut [LeftTreeGroup<'b>],
    /// Most twigs per chunk.
    pub(crate) most: usize,
    pub(crate) cursor: Cursor,
}

/// The twigs of a group that have a changed leaf.
fn twigs(group: &LeftTreeGroup<'_>) -> Range<usize> {
    group.changed_at(LEFT_TREE_LEVELS)
}

impl LeftTrees<'_, '_> {
    /// Groups and twigs of a chunk, in order.
    fn twigs_of(&self, chunk: &[Piece]) -> Vec<(usize, usize)> {
        let of_piece = |Piece { group, items }: &Piece| {
            let (group, first) = (*group, twigs(&self.groups[*group]).start);
            items.clone().map(move |item| (group, first + item))
        };
        chunk.iter().flat_map(of_piece).collect()
    }
}

impl<Q: Queue> Work<Q> for LeftTrees<'_, '_> {
    type Chunk = Vec<(usize, usize)>;

    fn next(&mut self) -> Option<Self::Chunk> {
        let len = |group: usize| twigs(&self.groups[group]).len();
        let pieces = self.cursor.advance(self.most, self.groups.len(), len);
        (!pieces.is_empty()).then(|| self.twigs_of(&pieces))
    }

    fn submit(
        &self,
        chunk: &Self::Chunk,
        queue: &mut Q,
        buffers: &mut Buffers<Q::Buffer>,
    ) -> Result<Vec<Q::Download>, HashError> {
        let twigs = chunk.len() as u64;
        let (in_bytes, out_bytes) = (TWIG_BYTES * twigs, 32 * TWIG_INNER * twigs);
        let leaves = buffers.input.at_least(queue, in_bytes)?;
        let roots = buffers.index.at_least(queue, 32 * twigs)?;
        let inner = buffers.output.at_least(queue, out_bytes)?;
        queue.upload(leaves, 0, in_bytes, &mut |staging| {
            for (&(group, twig), staging) in
                chunk.iter().zip(staging.chunks_mut(TWIG_BYTES as usize))
            {
                let leaves = &self.groups[group].leaves;
                pack(&leaves[TWIG_LEAVES * twig..TWIG_LEAVES * (twig + 1)], staging);
            }
        })?;
        queue.launch(Launch::Twigs { leaves, count: twigs as u32, roots, inner: Some(inner) })?;
        Ok(vec![queue.download(inner, 0, out_bytes)?])
    }

    fn read(&mut self, chunk: &Self::Chunk, _: usize, bytes: &[u8]) {
        for (&(group, twig), bytes) in chunk.iter().zip(bytes.chunks(32 * TWIG_INNER as usize)) {
            let group = &mut self.groups[group];
            let mut rest = bytes;
            for level in 1..=LEFT_TREE_LEVELS {
                let width = TWIG_LEAVES >> level;
                let (nodes, above) = rest.split_at(32 * width);
                rest = above;
                let changed = group.changed_at(level);
                let first = twig * width;
                let here = changed.start.max(first)..changed.end.min(first + width);
                let nodes = unpack(&nodes[32 * (here.start - first)..]);
                for (out, digest) in group.levels[level - 1][here].iter_mut().zip(nodes) {
                    *out = digest;
                }
            }
        }
    }
}
