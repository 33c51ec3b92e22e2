//! `levels` on a device: nodes go up once, every level above them comes down.
//!
//! ```text
//!  nodes     ▓▓▓▓▓▓▓▓ ▓▓▓▓▓▓▓▓ ▓▓▓▓▓▓▓▓     a chunk holds whole subtrees, so that a level of it
//!  level 1    ▓▓  ▓▓   ▓▓  ▓▓   ▓▓  ▓▓      needs nothing of its neighbours
//!  level 2      ▓        ▓        ▓
//!             chunk 0  chunk 1  chunk 2     on the device the levels alternate between two buffers
//! ```

use super::{
    Launch, Parents, Queue,
    cut::{ChunkLimits, next_range},
    pipeline::{Buffers, Work, pack, unpack},
};
use crate::HashError;
use hedgerow_types::Digest;
use std::ops::Range;

/// Some levels above a run of nodes, low enough that a subtree fits a chunk.
pub(super) struct Levels<'a, 'b> {
    level: u8,
    nodes: &'a [Digest],
    levels: &'a mut [&'b mut [Digest]],
    /// Most nodes per chunk: a multiple of the nodes below one of the top level.
    most: usize,
    done: usize,
}

/// How many of `wanted` levels can be done in one pass: those of a subtree that fits a chunk.
pub(super) fn height(wanted: usize, chunk: ChunkLimits) -> usize {
    wanted.min(chunk.items_of(NODE_BYTES).ilog2() as usize + 1)
}

/// Bytes of a parent in the largest buffer: its children.
const NODE_BYTES: u64 = 64;

impl<'a, 'b> Levels<'a, 'b> {
    /// `levels` are at most as many as [`height`] allows.
    pub(super) fn new(
        level: u8,
        nodes: &'a [Digest],
        levels: &'a mut [&'b mut [Digest]],
        chunk: ChunkLimits,
    ) -> Self {
        let subtree = 1_usize << levels.len();
        let most = (2 * chunk.items_of(NODE_BYTES) / subtree).max(1) * subtree;
        Self { level, nodes, levels, most, done: 0 }
    }
}

impl<Q: Queue> Work<Q> for Levels<'_, '_> {
    /// Nodes.
    type Chunk = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        next_range(&mut self.done, self.nodes.len(), self.most)
    }

    fn submit(
        &self,
        nodes: &Range<usize>,
        queue: &mut Q,
        buffers: &mut Buffers<Q::Buffer>,
    ) -> Result<Vec<Q::Download>, HashError> {
        let bytes = 32 * nodes.len() as u64;
        let mut children = buffers.input.at_least(queue, bytes)?;
        let mut parents = buffers.output.at_least(queue, bytes / 2)?;
        queue.upload(children, 0, bytes, &mut |staging| {
            pack(&self.nodes[nodes.clone()], staging);
        })?;
        let mut downloads = Vec::with_capacity(self.levels.len());
        let mut count = nodes.len();
        for (level, _) in (self.level..=u8::MAX).zip(self.levels.iter()) {
            count /= 2;
            queue.launch(Launch::Nodes {
                level,
                children,
                parents: Parents::Run { first: 0 },
                count: count as u32,
                out: parents,
                out_stride: 1,
                out_offset: 0,
            })?;
            downloads.push(queue.download(parents, 0, 32 * count as u64)?);
            (children, parents) = (parents, children);
        }
        Ok(downloads)
    }

    fn read(&mut self, nodes: &Range<usize>, download: usize, bytes: &[u8]) {
        let first = nodes.start >> (download + 1);
        for (out, digest) in self.levels[download][first..].iter_mut().zip(unpack(bytes)) {
            *out = digest;
        }
    }
}
