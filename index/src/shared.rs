//! An index that is asked while it is edited.
//!
//! ```text
//!  SharedIndex   part 0        part 1    ...    part 15
//!                lock          lock             lock
//!                groups 0..    256..            3840..4096
//!                   ▲             ▲
//!       asked: one lock at a time, for one key,      edited: one lock at a time, for at most
//!       one group, or so many keys in a row          so many edits in a row
//! ```
//!
//! Nobody holds more than one lock, none is held for longer than the work on [`WINDOW`] keys takes (some
//! microseconds, memory only), and none while anything else is waited for. So a reader never waits for a
//! block, only for a few edits of the very part that it asks.
//!
//! What this does not give is a state: whoever asks while a block is applied sees some of its edits and
//! not others, each key before its edit or after it. Whoever needs the state of one height keeps what the
//! edits since then replaced, and looks there as well, *after* the index: an edit that was seen was made
//! known before.

use crate::batch::WINDOW;
use crate::slot::{GROUPS, Stem};
use crate::{Edit, IndexError, ShardIndex};
use hedgerow_types::{KeyHash, LogPosition, SerialNumber};
use parking_lot::{RwLock, RwLockWriteGuard};
use std::fmt;

/// Groups of a part: 16 parts, so that 16 shards have 256 locks.
pub(crate) const PART_GROUPS: usize = GROUPS / 16;

/// What a store asks of the index of one shard: in batches, from any thread, while one thread edits it.
///
/// Positions are candidates: an index knows keys by their [`Stem`]s, and only the entries tell keys of
/// equal stems apart. Every answer is, key by key, that before or after an edit which runs meanwhile.
pub trait Index: fmt::Debug + Send + Sync {
    /// The positions of the keys that have the stems of `keys`, with the number of the key that they
    /// were found for, appended to `out` in the order of the keys, those of one key ascending. Fastest
    /// if the keys are sorted; they need not be. At most 2^32 keys.
    ///
    /// # Errors
    /// An index that reads files: a read that failed, or what is damaged.
    fn candidates(
        &self,
        keys: &[KeyHash],
        out: &mut Vec<(u32, LogPosition)>,
    ) -> Result<(), IndexError>;

    /// Tells `each` the positions of the keys that have the stem of `key`, ascending. It must do no more
    /// than take note of them: the index may be waiting for it.
    ///
    /// # Errors
    /// As [`Index::candidates`].
    fn candidates_of(
        &self,
        key: &KeyHash,
        each: &mut dyn FnMut(LogPosition),
    ) -> Result<(), IndexError>;

    /// For each of `stems` the greatest stem at or below it that has keys, and their positions:
    /// appended to `out` with the number of the stem asked for, in the order of `stems`, those of one
    /// stem ascending. Nothing for a stem below all. At most 2^32 stems.
    ///
    /// # Errors
    /// As [`Index::candidates`].
    fn at_or_below(
        &self,
        stems: &[Stem],
        out: &mut Vec<(u32, Stem, LogPosition)>,
    ) -> Result<(), IndexError>;

    /// All keys of a group, below [`GROUPS`], appended to `out` in ascending order of stem and position.
    ///
    /// # Errors
    /// As [`Index::candidates`].
    fn group(&self, group: usize, out: &mut Vec<(Stem, LogPosition)>) -> Result<(), IndexError>;

    /// Applies the edits in order. Fastest if they are sorted by key; they need not be.
    ///
    /// # Errors
    /// As [`ShardIndex::apply`]: the index is then as before.
    fn apply(&self, edits: &[Edit]) -> Result<(), IndexError>;

    /// Takes back the edits of the last [`apply`](Index::apply) that was not taken back: the index is as it
    /// was before. From then on the serial numbers that they put in may be used anew, for other entries.
    ///
    /// # Errors
    /// [`IndexError::Missing`] if the index does not hold what one of them put in; it is then unchanged.
    fn take_back(&self, applied: &[Edit]) -> Result<(), IndexError> {
        let back: Vec<Edit> = applied.iter().rev().map(Edit::inverse).collect();
        self.apply(&back)
    }

    /// Takes back what many batches made of the index: `changed` has, for every key that is elsewhere now than it is to
    /// be, where it is to be as the old place and where it is as the new one, ascending by key. All serial numbers
    /// from `cut` on may be used anew from then on, whether an edit names them or not.
    ///
    /// # Errors
    /// As [`Index::take_back`].
    fn roll_back(&self, changed: &[Edit], _cut: SerialNumber) -> Result<(), IndexError> {
        let back: Vec<Edit> = changed.iter().map(Edit::inverse).collect();
        self.apply(&back)
    }

    /// Number of keys.
    fn len(&self) -> usize;

    /// Whether there is no key.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of heap.
    fn heap_bytes(&self) -> usize;
}

/// A [`ShardIndex`] that is asked while it is edited. See the [module's picture](Index).
#[derive(Debug)]
pub struct SharedIndex {
    parts: Box<[RwLock<ShardIndex>]>,
}

impl From<ShardIndex> for SharedIndex {
    fn from(index: ShardIndex) -> Self {
        let parts = index.into_parts(PART_GROUPS);
        Self { parts: parts.into_iter().map(RwLock::new).collect() }
    }
}

impl Default for SharedIndex {
    fn default() -> Self {
        Self::from(ShardIndex::new())
    }
}

/// The number of the part that a group is in.
pub(crate) const fn part_of(group: usize) -> usize {
    group / PART_GROUPS
}

/// Runs of at most [`WINDOW`] items that belong to one part, with its number.
pub(crate) fn runs<T>(
    items: &[T],
    group: impl Fn(&T) -> usize,
) -> impl Iterator<Item = (usize, &[T])> {
    let part = move |item: &T| part_of(group(item));
    let mut rest = items;
    std::iter::from_fn(move || {
        let number = part(rest.first()?);
        let same = rest.iter().take(WINDOW).take_while(|item| part(item) == number).count();
        let (run, after) = rest.split_at(same);
        rest = after;
        Some((number, run))
    })
}

impl SharedIndex {
    /// Undoes edits of a batch that did not go to its end.
    fn undo(&self, applied: &[Edit]) {
        for edit in applied.iter().rev() {
            let mut part = self.parts[part_of(Stem::of(&edit.key).group())].write();
            // What the last edit removed was there, and what it put in is.
            let undone = part.apply_one(&edit.inverse());
            debug_assert_eq!(undone, Ok(()));
        }
    }

    /// All positions, in the order of the keys' stems, those of equal stems ascending: for comparing an
    /// index that nobody edits.
    pub fn positions(&self) -> Vec<LogPosition> {
        self.parts.iter().flat_map(|part| part.read().positions().collect::<Vec<_>>()).collect()
    }
}

impl Index for SharedIndex {
    fn candidates(
        &self,
        keys: &[KeyHash],
        out: &mut Vec<(u32, LogPosition)>,
    ) -> Result<(), IndexError> {
        let mut number = 0_u32;
        for (part, keys) in runs(keys, |key| Stem::of(key).group()) {
            let part = self.parts[part].read();
            if keys.len() > 1 {
                part.touch(keys.iter());
            }
            for key in keys {
                out.extend(part.candidates(key).map(|at| (number, at)));
                number = number.wrapping_add(1);
            }
        }
        Ok(())
    }

    fn candidates_of(
        &self,
        key: &KeyHash,
        each: &mut dyn FnMut(LogPosition),
    ) -> Result<(), IndexError> {
        let part = self.parts[part_of(Stem::of(key).group())].read();
        part.candidates(key).for_each(each);
        Ok(())
    }

    fn at_or_below(
        &self,
        stems: &[Stem],
        out: &mut Vec<(u32, Stem, LogPosition)>,
    ) -> Result<(), IndexError> {
        for (number, stem) in (0_u32..).zip(stems) {
            let own = part_of(stem.group());
            // The lower parts from their ends, until one has a key.
            for part in (0..=own).rev() {
                let last = Stem::in_group((part + 1) * PART_GROUPS - 1, u32::MAX);
                let index = self.parts[part].read();
                if let Some(ties) = index.downwards(last.min(*stem)).next() {
                    out.extend(ties.positions().map(|at| (number, ties.stem(), at)));
                    break;
                }
            }
        }
        Ok(())
    }

    fn group(&self, group: usize, out: &mut Vec<(Stem, LogPosition)>) -> Result<(), IndexError> {
        let Some(part) = self.parts.get(part_of(group)) else { return Ok(()) };
        for ties in part.read().group_of(group) {
            out.extend(ties.positions().map(|at| (ties.stem(), at)));
        }
        Ok(())
    }

    fn apply(&self, edits: &[Edit]) -> Result<(), IndexError> {
        let mut applied = 0;
        for (part, run) in runs(edits, |edit| Stem::of(&edit.key).group()) {
            let mut index = self.parts[part].write();
            if run.len() > 1 {
                index.touch(run.iter().map(|edit| &edit.key));
            }
            for edit in run {
                if let Err(error) = index.apply_one(edit) {
                    drop(index);
                    self.undo(&edits[..applied]);
                    return Err(error);
                }
                applied += 1;
            }
            // Whoever waits for this part goes first: else all runs of a block in it might.
            RwLockWriteGuard::unlock_fair(index);
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.parts.iter().map(|part| part.read().len()).sum()
    }

    fn heap_bytes(&self) -> usize {
        let parts = self.parts.len() * size_of::<RwLock<ShardIndex>>();
        parts + self.parts.iter().map(|part| part.read().heap_bytes()).sum::<usize>()
    }
}
