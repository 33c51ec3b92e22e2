//! `twigs` on a device: leaves up, one root per twig down.

use super::{
    Launch, Queue,
    cut::next_range,
    pipeline::{Buffers, Work, pack, unpack},
};
use crate::HashError;
use hedgerow_types::{Digest, TWIG_LEAVES};
use std::ops::Range;

/// Bytes of the leaves of a twig.
pub(super) const TWIG_BYTES: u64 = 32 * TWIG_LEAVES as u64;

/// All twigs of a call.
pub(super) struct Twigs<'a> {
    pub(super) leaves: &'a [Digest],
    pub(super) roots: &'a mut [Digest],
    /// Most twigs per chunk.
    pub(super) most: usize,
    /// Twigs given out.
    pub(super) done: usize,
}

impl<Q: Queue> Work<Q> for Twigs<'_> {
    type Chunk = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        next_range(&mut self.done, self.roots.len(), self.most)
    }

    fn submit(
        &self,
        twigs: &Range<usize>,
        queue: &mut Q,
        buffers: &mut Buffers<Q::Buffer>,
    ) -> Result<Vec<Q::Download>, HashError> {
        let (in_bytes, out_bytes) = (TWIG_BYTES * twigs.len() as u64, 32 * twigs.len() as u64);
        let leaves = buffers.input.at_least(queue, in_bytes)?;
        let roots = buffers.output.at_least(queue, out_bytes)?;
        queue.upload(leaves, 0, in_bytes, &mut |staging| {
            pack(&self.leaves[TWIG_LEAVES * twigs.start..TWIG_LEAVES * twigs.end], staging);
        })?;
        queue.launch(Launch::Twigs { leaves, count: twigs.len() as u32, roots, inner: None })?;
        Ok(vec![queue.download(roots, 0, out_bytes)?])
    }

    fn read(&mut self, twigs: &Range<usize>, _: usize, bytes: &[u8]) {
        for (root, digest) in self.roots[twigs.clone()].iter_mut().zip(unpack(bytes)) {
            *root = digest;
        }
    }
}
