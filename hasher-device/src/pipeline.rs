//! Two chunks in flight: while the device hashes one, the CPU packs the next.
//!
//! ```text
//!  stage 0   pack 0 ─ hash 0 ──────── read 0, pack 2 ─ hash 2 ───────── read 2
//!  stage 1            pack 1 ─ hash 1 ──────────────── read 1, pack 3 ─ hash 3 ─ read 3
//! ```

use crate::{Buffer, Queue};
use hedgerow_hasher_api::HashError;
use hedgerow_types::Digest;

/// A call as chunks.
pub(crate) trait Work<Q: Queue> {
    /// Which items a chunk holds.
    type Chunk;

    /// The next chunk.
    fn next(&mut self) -> Option<Self::Chunk>;

    /// Gives the whole work of a chunk to the queue.
    fn submit(
        &self,
        chunk: &Self::Chunk,
        queue: &mut Q,
        buffers: &mut Buffers<Q::Buffer>,
    ) -> Result<Vec<Q::Download>, HashError>;

    /// Takes what the `download`-th of the downloads of a chunk brought.
    fn read(&mut self, chunk: &Self::Chunk, download: usize, bytes: &[u8]);

    /// What the CPU does while the device works on the last chunks.
    fn meanwhile(&mut self) {}
}

/// A queue and the buffers of the chunks in flight on it.
#[derive(Debug)]
pub(crate) struct Slot<Q: Queue> {
    queue: Q,
    stages: [Buffers<Q::Buffer>; 2],
}

impl<Q: Queue> Slot<Q> {
    /// `largest`: bytes that no buffer needs more of.
    pub(crate) fn new(queue: Q, largest: u64) -> Self {
        Self { queue, stages: [Buffers::new(largest), Buffers::new(largest)] }
    }

    /// Does all of `work`. After an error the slot is useless.
    pub(crate) fn run<W: Work<Q>>(&mut self, work: &mut W) -> Result<(), HashError> {
        let Self { queue, stages } = self;
        let mut flying = [None, None];
        let mut turn = 0;
        while let Some(chunk) = work.next() {
            finish(queue, work, flying[turn].take())?;
            let downloads = work.submit(&chunk, queue, &mut stages[turn])?;
            queue.flush()?;
            flying[turn] = Some((chunk, downloads));
            turn = 1 - turn;
        }
        work.meanwhile();
        finish(queue, work, flying[turn].take())?;
        finish(queue, work, flying[1 - turn].take())
    }
}

fn finish<Q: Queue, W: Work<Q>>(
    queue: &mut Q,
    work: &mut W,
    flying: Option<(W::Chunk, Vec<Q::Download>)>,
) -> Result<(), HashError> {
    let Some((chunk, downloads)) = flying else { return Ok(()) };
    for (i, download) in downloads.into_iter().enumerate() {
        queue.wait(download, &mut |bytes| work.read(&chunk, i, bytes))?;
    }
    Ok(())
}

/// Buffers of one chunk in flight. They grow to what was needed and are used again.
#[derive(Debug)]
pub(crate) struct Buffers<B> {
    /// Children, messages or leaves.
    pub(crate) input: Grown<B>,
    /// Where the messages lie.
    pub(crate) index: Grown<B>,
    /// Digests.
    pub(crate) output: Grown<B>,
}

impl<B> Buffers<B> {
    fn new(largest: u64) -> Self {
        let grown = || Grown::new(largest);
        Self { input: grown(), index: grown(), output: grown() }
    }
}

/// A buffer that is replaced by a larger one when it is too small.
#[derive(Debug)]
pub(crate) struct Grown<B> {
    buffer: Option<B>,
    largest: u64,
}

/// Smaller buffers are not worth the trouble.
const LEAST: u64 = 256;

impl<B> Grown<B> {
    /// None yet; never more than `largest` bytes for slack.
    pub(crate) const fn new(largest: u64) -> Self {
        Self { buffer: None, largest }
    }
}

impl<B: Buffer> Grown<B> {
    /// The buffer, with at least `bytes` bytes.
    pub(crate) fn at_least<Q: Queue<Buffer = B>>(
        &mut self,
        queue: &mut Q,
        bytes: u64,
    ) -> Result<&B, HashError> {
        let buffer = match self.buffer.take() {
            Some(buffer) if buffer.bytes() >= bytes => buffer,
            old => {
                drop(old);
                let roomy = bytes.max(LEAST).next_power_of_two().min(self.largest);
                queue.allocate(roomy.max(bytes))?
            }
        };
        Ok(self.buffer.insert(buffer))
    }
}

/// Writes digests one after the other.
pub(crate) fn pack<'a>(digests: impl IntoIterator<Item = &'a Digest>, staging: &mut [u8]) {
    let (places, _) = staging.as_chunks_mut();
    for (place, digest) in places.iter_mut().zip(digests) {
        *place = digest.0;
    }
}

/// The digests that lie in `bytes` one after the other.
pub(crate) fn unpack(bytes: &[u8]) -> impl Iterator<Item = Digest> {
    bytes.as_chunks().0.iter().map(|digest| Digest(*digest))
}
