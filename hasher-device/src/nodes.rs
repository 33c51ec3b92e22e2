//! `pairs` and `indexed_pairs` on a device.
//!
//! ```text
//!  groups    A ▓▓▓▓▓▓▓▓   B ▓▓▓▓         children of the wanted parents, straight into staging
//!               │             │
//!  chunk     a b c d e f ... y z         ──►  Launch::Nodes over the run 0..count
//!  digests    0   1   2  ...  n          ──►  to the places of the parents
//! ```
//!
//! Chosen parents need no index on the device: children come from the host anyway.

use crate::{
    Launch, Parents, Queue,
    cut::{Cursor, Piece},
    pipeline::{Buffers, Work, pack, unpack},
};
use hedgerow_hasher_api::{HashError, IndexedPairGroup, PairGroup};
use std::ops::Range;

/// A group of parents of which some can be taken.
pub(crate) trait NodeGroup {
    fn len(&self) -> usize;
    /// Writes the children of some parents.
    fn pack(&self, parents: Range<usize>, staging: &mut [u8]);
    /// Takes the digests of some parents.
    fn unpack(&mut self, parents: Range<usize>, bytes: &[u8]);
}

impl NodeGroup for PairGroup<'_> {
    fn len(&self) -> usize {
        self.out.len()
    }

    fn pack(&self, parents: Range<usize>, staging: &mut [u8]) {
        pack(&self.children[2 * parents.start..2 * parents.end], staging);
    }

    fn unpack(&mut self, parents: Range<usize>, bytes: &[u8]) {
        for (out, digest) in self.out[parents].iter_mut().zip(unpack(bytes)) {
            *out = digest;
        }
    }
}

impl NodeGroup for IndexedPairGroup<'_> {
    fn len(&self) -> usize {
        self.parents.len()
    }

    fn pack(&self, parents: Range<usize>, staging: &mut [u8]) {
        let (pairs, _) = self.children.as_chunks::<2>();
        let children = self.parents[parents].iter().flat_map(|&parent| &pairs[parent as usize]);
        pack(children, staging);
    }

    fn unpack(&mut self, parents: Range<usize>, bytes: &[u8]) {
        for (&parent, digest) in self.parents[parents].iter().zip(unpack(bytes)) {
            self.out[parent as usize] = digest;
        }
    }
}

/// Parents of all groups of a call.
pub(crate) struct Nodes<'a, G> {
    pub(crate) level: u8,
    pub(crate) groups: &'a mut [G],
    /// Most parents per chunk.
    pub(crate) most: usize,
    pub(crate) cursor: Cursor,
}

/// Bytes of a parent in the largest buffer: its children.
pub(crate) const NODE_BYTES: u64 = 64;

impl<G: NodeGroup, Q: Queue> Work<Q> for Nodes<'_, G> {
    type Chunk = Vec<Piece>;

    fn next(&mut self) -> Option<Vec<Piece>> {
        let len = |group: usize| self.groups[group].len();
        let pieces = self.cursor.advance(self.most, self.groups.len(), len);
        (!pieces.is_empty()).then_some(pieces)
    }

    fn submit(
        &self,
        chunk: &Vec<Piece>,
        queue: &mut Q,
        buffers: &mut Buffers<Q::Buffer>,
    ) -> Result<Vec<Q::Download>, HashError> {
        let count: usize = chunk.iter().map(|piece| piece.items.len()).sum();
        let (in_bytes, out_bytes) = (NODE_BYTES * count as u64, 32 * count as u64);
        let children = buffers.input.at_least(queue, in_bytes)?;
        let out = buffers.output.at_least(queue, out_bytes)?;
        queue.upload(children, 0, in_bytes, &mut |staging| {
            let mut rest = staging;
            for Piece { group, items } in chunk {
                let (staging, after) = rest.split_at_mut(NODE_BYTES as usize * items.len());
                self.groups[*group].pack(items.clone(), staging);
                rest = after;
            }
        })?;
        queue.launch(Launch::Nodes {
            level: self.level,
            children,
            parents: Parents::Run { first: 0 },
            count: count as u32,
            out,
            out_stride: 1,
            out_offset: 0,
        })?;
        Ok(vec![queue.download(out, 0, out_bytes)?])
    }

    fn read(&mut self, chunk: &Vec<Piece>, _: usize, bytes: &[u8]) {
        let mut rest = bytes;
        for Piece { group, items } in chunk {
            let (bytes, after) = rest.split_at(32 * items.len());
            self.groups[*group].unpack(items.clone(), bytes);
            rest = after;
        }
    }
}
