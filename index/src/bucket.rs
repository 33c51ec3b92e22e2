//! A bucket: one sorted array of slots.
//!
//! **Invariant:** slots ascend strictly by (fragment, position). Room beyond the slots is at most
//! 1/4 of them plus [`SPARE_SLOTS`], and at most 1/8 plus one slot as long as nothing is removed.

use crate::IndexError;
use crate::search::partition_point_near;
use crate::slot::InBucket;
use std::mem::size_of;
use std::ops::Range;

/// A bucket with more slots than this is split, unless their fragments are all equal.
pub const MAX_BUCKET_SLOTS: usize = 256;

/// Room that a bucket may keep after removals, beyond 1/4 of its slots.
const SPARE_SLOTS: usize = 4;

/// The fragments that a bucket is responsible for, of which at most all 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The least.
    pub(crate) low: u32,
    /// How many, 1 to 2^32.
    pub(crate) width: u64,
}

impl Span {
    /// The span of a group's only bucket.
    pub(crate) const ALL: Self = Self { low: 0, width: 1 << 32 };

    /// About where `fragment` stands among `len` slots spread evenly over the span. Any number if
    /// `fragment` is outside.
    #[inline]
    pub(crate) fn guess(self, fragment: u32, len: usize) -> usize {
        let scaled = u64::from(fragment.wrapping_sub(self.low)).wrapping_mul(len as u64);
        let guess = if self.width == Self::ALL.width {
            scaled >> 32 // the common case, without a division
        } else {
            scaled / self.width.max(1)
        };
        guess as usize
    }
}

/// One sorted array of slots.
#[derive(Clone)]
pub(crate) struct Bucket<S> {
    slots: Vec<S>,
}

impl<S> Default for Bucket<S> {
    fn default() -> Self {
        Self { slots: Vec::new() }
    }
}

/// Capacity that a growing bucket of `len` slots gets.
const fn roomy(len: usize) -> usize {
    len + len / 8 + 1
}

/// Capacity that a bucket of `len` slots gets when it is built at once: fewer keys may still come.
const fn snug(len: usize) -> usize {
    len + len / 32
}

impl<S: InBucket> Bucket<S> {
    /// A bucket of these slots, which ascend strictly.
    pub(crate) fn from_sorted(sorted: impl ExactSizeIterator<Item = S>) -> Self {
        let mut slots = Vec::new();
        slots.reserve_exact(snug(sorted.len()));
        slots.extend(sorted);
        Self { slots }
    }

    pub(crate) fn slots(&self) -> &[S] {
        &self.slots
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<S>()
    }

    /// The indexes of the slots with this fragment, possibly none: then where they would be.
    #[inline]
    pub(crate) fn run(&self, span: Span, fragment: u32) -> Range<usize> {
        let guess = span.guess(fragment, self.slots.len());
        let start = partition_point_near(&self.slots, guess, |slot| slot.fragment() < fragment);
        // Nearly always there is none or one.
        let mut end = start;
        if self.slots.get(start).is_some_and(|slot| slot.fragment() == fragment) {
            end += 1;
            if self.slots.get(end).is_some_and(|slot| slot.fragment() == fragment) {
                end = partition_point_near(&self.slots, end, |slot| slot.fragment() <= fragment);
            }
        }
        start..end
    }

    /// Where the slot is (`Ok`), or where it would be inserted (`Err`).
    #[inline]
    pub(crate) fn find(&self, span: Span, slot: S) -> Result<usize, usize> {
        let run = self.run(span, slot.fragment());
        let ties = self.slots.get(run.clone()).unwrap_or(&[]);
        let below = match ties {
            [] => 0,
            [only] => usize::from(*only < slot),
            _ => ties.partition_point(|tie| *tie < slot),
        };
        if ties.get(below) == Some(&slot) { Ok(run.start + below) } else { Err(run.start + below) }
    }

    /// Inserts `slot` at the place that [`Bucket::find`] named; any other is ignored.
    pub(crate) fn insert_at(&mut self, at: usize, slot: S) {
        let len = self.slots.len();
        debug_assert!(at <= len);
        if len == self.slots.capacity() {
            self.slots.reserve_exact(roomy(len) - len);
        }
        self.slots.insert(at.min(len), slot);
    }

    /// Removes `slot`. False if it is not there.
    pub(crate) fn remove(&mut self, span: Span, slot: S) -> bool {
        let Ok(at) = self.find(span, slot) else {
            return false;
        };
        self.slots.remove(at);
        self.give_back_room();
        true
    }

    /// Puts `new`, of the same fragment, in the place of `old`.
    ///
    /// `Ok(false)` if `old` is not there.
    ///
    /// # Errors
    /// [`IndexError::Occupied`] if `new` is there already.
    pub(crate) fn replace(&mut self, span: Span, old: S, new: S) -> Result<bool, IndexError> {
        debug_assert_eq!(old.fragment(), new.fragment());
        let Ok(from) = self.find(span, old) else {
            return Ok(false);
        };
        if old == new {
            return Ok(true);
        }
        let below = from.checked_sub(1).and_then(|i| self.slots.get(i));
        let above = self.slots.get(from + 1);
        if below.is_none_or(|slot| *slot < new) && above.is_none_or(|slot| new < *slot) {
            self.slots[from] = new;
            return Ok(true);
        }
        // A tie: the slots between the old place and the new one move by one.
        let to = partition_point_near(&self.slots, from, |slot| *slot < new);
        if self.slots.get(to) == Some(&new) {
            return Err(IndexError::Occupied { at: new.position() });
        }
        if to > from {
            self.slots[from..to].rotate_left(1);
            self.slots[to - 1] = new;
        } else {
            self.slots[to..=from].rotate_right(1);
            self.slots[to] = new;
        }
        Ok(true)
    }

    /// Cuts the bucket between two fragments, as near to its middle as there is such a place.
    /// Returns the upper part; `None` if all fragments are equal.
    pub(crate) fn split(&mut self) -> Option<Self> {
        let middle = self.slots.get(self.slots.len() / 2)?.fragment();
        let start = self.slots.partition_point(|slot| slot.fragment() < middle);
        let end = self.slots.partition_point(|slot| slot.fragment() <= middle);
        let len = self.slots.len();
        let cut = if start > 0 && (end == len || start.abs_diff(len / 2) <= end - len / 2) {
            start
        } else if end < len {
            end
        } else {
            return None;
        };
        let mut upper = Vec::new();
        upper.reserve_exact(roomy(len - cut));
        upper.extend_from_slice(&self.slots[cut..]);
        self.slots.truncate(cut);
        self.slots.shrink_to(roomy(cut));
        Some(Self { slots: upper })
    }

    /// Takes the slots of the bucket above, all of whose fragments are greater.
    pub(crate) fn append(&mut self, above: Self) {
        if self.slots.is_empty() {
            *self = above;
            return;
        }
        if self.slots.capacity() - self.slots.len() < above.len() {
            let wanted = roomy(self.slots.len() + above.len());
            self.slots.reserve_exact(wanted - self.slots.len());
        }
        self.slots.extend_from_slice(&above.slots);
        self.give_back_room();
    }

    /// Whether no two fragments differ.
    #[cfg(test)]
    pub(crate) fn is_one_run(&self) -> bool {
        match (self.slots.first(), self.slots.last()) {
            (Some(first), Some(last)) => first.fragment() == last.fragment(),
            _ => true,
        }
    }

    fn give_back_room(&mut self) {
        let len = self.slots.len();
        if len == 0 {
            self.slots = Vec::new();
        } else if self.slots.capacity() > len + len / 4 + SPARE_SLOTS {
            self.slots.shrink_to(roomy(len));
        }
    }
}
