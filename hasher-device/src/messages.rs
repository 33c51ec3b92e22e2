//! `messages` on a device.
//!
//! ```text
//!  spans of all groups ──► by number of blocks, most first ──► chunks
//!
//!  bytes    ▓▓▓▓▓▓▓▓▓▓░ ▓▓▓▓▓▓▓▓▓ ▓▓▓▓▓▓▓░ ▓▓▓ ▓▓░     each at a multiple of 4 bytes
//!  spans    (0, 43)     (11, 36)  (20, 31) ...         first word, length
//!           └─ 2 blocks ────────┘ └─ 1 block ──────    neighbours take equally long
//! ```
//!
//! A message of very many blocks would keep one lane busy while all others wait, so those are
//! hashed by the reference, meanwhile.

use crate::{
    Launch, Queue,
    cut::{ChunkLimits, next_range},
    pipeline::{Buffers, Work, unpack},
};
use hedgerow_hasher_api::{HashError, MessageGroup, Span, hash_message};
use std::ops::Range;

/// Longest message that a device hashes.
const LONGEST: u32 = 64 << 10;

/// A message of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    group: u32,
    message: u32,
}

/// All messages of a call.
pub(crate) struct Messages<'a, 'b> {
    groups: &'a mut [MessageGroup<'b>],
    /// Those that the device hashes.
    order: Vec<Place>,
    /// Those that it does not.
    long: Vec<Place>,
    chunk: ChunkLimits,
    /// Messages of `order` given out.
    done: usize,
}

/// Words that a message takes.
fn words(span: Span) -> u64 {
    u64::from(span.len.div_ceil(4))
}

/// The message, a byte that ends it and 8 bytes of length, in blocks of 64.
fn blocks(span: Span) -> usize {
    ((u64::from(span.len) + 9).div_ceil(64)) as usize
}

impl<'a, 'b> Messages<'a, 'b> {
    pub(crate) fn new(groups: &'a mut [MessageGroup<'b>], chunk: ChunkLimits) -> Self {
        let longest = u64::from(LONGEST).min(chunk.bytes);
        let mut long = vec![];
        let mut starts = vec![0; blocks(Span { offset: 0, len: LONGEST }) + 1];
        for (place, span) in all(groups) {
            if u64::from(span.len) > longest {
                long.push(place);
            } else {
                starts[blocks(span)] += 1;
            }
        }
        // Counting sort: how many have more blocks is where those of one number begin.
        let mut before = 0;
        for start in starts.iter_mut().rev() {
            (*start, before) = (before, before + *start);
        }
        let mut order = vec![Place { group: 0, message: 0 }; before];
        for (place, span) in all(groups).filter(|(_, span)| u64::from(span.len) <= longest) {
            let start = &mut starts[blocks(span)];
            order[*start] = place;
            *start += 1;
        }
        Self { groups, order, long, chunk, done: 0 }
    }

    fn span(&self, place: Place) -> Span {
        self.groups[place.group as usize].spans[place.message as usize]
    }

    fn message(&self, place: Place) -> &[u8] {
        // The shape was checked, so every span lies in its arena.
        self.span(place).of(self.groups[place.group as usize].arena).unwrap_or_default()
    }

    fn pack_bytes(&self, places: &[Place], staging: &mut [u8]) {
        let mut rest = staging;
        for &place in places {
            let message = self.message(place);
            let (to, after) = rest.split_at_mut(4 * words(self.span(place)) as usize);
            to[..message.len()].copy_from_slice(message);
            rest = after;
        }
    }

    fn pack_spans(&self, places: &[Place], staging: &mut [u8]) {
        let mut word = 0;
        for (to, &place) in staging.as_chunks_mut::<8>().0.iter_mut().zip(places) {
            let span = self.span(place);
            *to = u64::to_le_bytes(word | (u64::from(span.len) << 32));
            word += words(span);
        }
    }
}

/// All messages in the order of the call.
fn all(groups: &[MessageGroup<'_>]) -> impl Iterator<Item = (Place, Span)> {
    (0..).zip(groups).flat_map(|(group, messages)| {
        (0..).zip(messages.spans).map(move |(message, &span)| (Place { group, message }, span))
    })
}

impl<Q: Queue> Work<Q> for Messages<'_, '_> {
    /// Messages in `order`.
    type Chunk = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let most = self.chunk.items_of(32);
        let rest = self.order[self.done..].iter().take(most);
        let mut room = self.chunk.bytes / 4;
        let fitting = rest.take_while(|&&place| {
            let words = words(self.span(place));
            let fits = words <= room;
            room = room.saturating_sub(words);
            fits
        });
        let count = fitting.count();
        next_range(&mut self.done, self.order.len(), count)
    }

    fn submit(
        &self,
        chunk: &Range<usize>,
        queue: &mut Q,
        buffers: &mut Buffers<Q::Buffer>,
    ) -> Result<Vec<Q::Download>, HashError> {
        let places = &self.order[chunk.clone()];
        let text = 4 * places.iter().map(|&place| words(self.span(place))).sum::<u64>();
        let (index, digests) = (8 * places.len() as u64, 32 * places.len() as u64);
        let bytes = buffers.input.at_least(queue, text)?;
        let spans = buffers.index.at_least(queue, index)?;
        let out = buffers.output.at_least(queue, digests)?;
        queue.upload(spans, 0, index, &mut |staging| self.pack_spans(places, staging))?;
        if text > 0 {
            queue.upload(bytes, 0, text, &mut |staging| self.pack_bytes(places, staging))?;
        }
        queue.launch(Launch::Messages { bytes, spans, count: places.len() as u32, out })?;
        Ok(vec![queue.download(out, 0, digests)?])
    }

    fn read(&mut self, chunk: &Range<usize>, _: usize, bytes: &[u8]) {
        for (place, digest) in self.order[chunk.clone()].iter().zip(unpack(bytes)) {
            self.groups[place.group as usize].out[place.message as usize] = digest;
        }
    }

    fn meanwhile(&mut self) {
        for place in std::mem::take(&mut self.long) {
            let digest = hash_message(self.message(place));
            self.groups[place.group as usize].out[place.message as usize] = digest;
        }
    }
}
