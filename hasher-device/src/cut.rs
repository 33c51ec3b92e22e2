//! Calls cut into chunks that a device takes.
//!
//! ```text
//!  groups      A ▓▓▓▓▓▓▓▓▓▓▓▓▓▓   B ▓▓   C   D ▓▓▓▓▓▓▓▓▓
//!  chunks      A ▓▓▓▓▓▓▓▓│A ▓▓▓▓▓▓ B ▓▓│D ▓▓▓▓▓▓▓▓│D ▓        at most so many items each
//! ```

use crate::Limits;
use std::ops::Range;

/// `0..count` in runs of at most `most` (not 0), as `(first, count)`: how a long list becomes
/// launches of at most [`Limits::max_count`].
pub fn runs(count: u32, most: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..count).step_by(most.max(1) as usize).map(move |first| (first, (count - first).min(most)))
}

/// How large chunks may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkLimits {
    /// Bytes of the largest buffer.
    pub(crate) bytes: u64,
    /// Items.
    pub(crate) items: usize,
}

impl ChunkLimits {
    pub(crate) fn new(limits: Limits, chunk_bytes: u64) -> Self {
        Self {
            bytes: chunk_bytes.clamp(Limits::LEAST_BUFFER, limits.buffer_bytes) / 4 * 4,
            items: limits.max_count as usize,
        }
    }

    /// Most items of which each has `item_bytes` bytes in the largest buffer; at least one.
    pub(crate) fn items_of(self, item_bytes: u64) -> usize {
        let fit = usize::try_from(self.bytes / item_bytes).unwrap_or(usize::MAX);
        fit.min(self.items).max(1)
    }
}

/// Consecutive items of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) group: usize,
    pub(crate) items: Range<usize>,
}

/// A place between two items of a list of groups.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    group: usize,
    item: usize,
}

impl Cursor {
    /// The next at most `most` items of groups with `lens` items; empty at the end.
    pub(crate) fn advance(
        &mut self,
        most: usize,
        groups: usize,
        len: impl Fn(usize) -> usize,
    ) -> Vec<Piece> {
        let mut pieces = vec![];
        let mut room = most;
        while self.group < groups && room > 0 {
            let end = len(self.group).min(self.item + room);
            if end > self.item {
                pieces.push(Piece { group: self.group, items: self.item..end });
                room -= end - self.item;
            }
            if end == len(self.group) {
                *self = Self { group: self.group + 1, item: 0 };
            } else {
                self.item = end;
            }
        }
        pieces
    }
}

/// The `i`-th of the consecutive slices of `count` items that `items` is cut into, as a range.
pub(crate) fn next_range(done: &mut usize, len: usize, most: usize) -> Option<Range<usize>> {
    let start = *done;
    *done = len.min(start + most);
    (start < *done).then_some(start..*done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_the_list_once() {
        assert_eq!(runs(0, 5).collect::<Vec<_>>(), []);
        assert_eq!(runs(5, 5).collect::<Vec<_>>(), [(0, 5)]);
        assert_eq!(runs(11, 5).collect::<Vec<_>>(), [(0, 5), (5, 5), (10, 1)]);
        assert_eq!(runs(u32::MAX, u32::MAX).collect::<Vec<_>>(), [(0, u32::MAX)]);
    }

    #[test]
    fn chunks_hold_every_item_once_and_no_more_than_they_may() {
        let lens = [0, 7, 2, 0, 0, 5, 1, 0];
        for most in 1..20 {
            let mut cursor = Cursor::default();
            let mut seen = vec![];
            loop {
                let pieces = cursor.advance(most, lens.len(), |group| lens[group]);
                let items: usize = pieces.iter().map(|piece| piece.items.len()).sum();
                if items == 0 {
                    break;
                }
                let left = 15 - seen.len();
                assert_eq!(items, most.min(left));
                seen.extend(pieces.into_iter().flat_map(|p| p.items.map(move |i| (p.group, i))));
            }
            let all: Vec<_> =
                (0..lens.len()).flat_map(|g| (0..lens[g]).map(move |i| (g, i))).collect();
            assert_eq!(seen, all);
        }
    }
}
