//! Many keys at once.
//!
//! A look-up is a chain of dependent loads: group, then bucket. Done one after another, each waits
//! for memory by itself. A batch therefore goes in windows of [`WINDOW`] keys, twice over each:
//! first it touches the lines where each key's slot is expected, loads which do not depend on one
//! another, so that the processor has many in flight; then it works, on lines that have arrived.
//! At 10 million keys this halves the time of an update (50,000 sorted updates on one core: 270 ns
//! each without, 120 ns with it) and takes a fifth off inserts and look-ups; at 1 million, where
//! caches hold the index, it changes nothing.

use crate::slot::Stem;
use crate::{IndexError, ShardIndex};
use hedgerow_types::{KeyHash, LogPosition, SerialNumber};
use std::hint::black_box;

/// Keys whose lines are fetched together. A core has some tens of loads in flight at most.
pub(crate) const WINDOW: usize = 32;

/// Where an entry is, and which of its shard's entries it is.
///
/// An index in memory goes by positions and does not look at serial numbers. One that reads files goes by
/// serial numbers: whether one is current is then a bit in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its position in the log.
    pub at: LogPosition,
    /// Its serial number. No two entries of a shard have the same.
    pub sn: SerialNumber,
}

/// One change of the index: where a key was, and where it is now. 80 bytes.
///
/// | `old` | `new` | |
/// |---|---|---|
/// | none | some | insert |
/// | some | some | replace |
/// | some | none | remove |
/// | none | none | nothing |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The key's hash.
    pub key: KeyHash,
    /// Where its entry was.
    pub old: Option<Place>,
    /// Where its entry is.
    pub new: Option<Place>,
}

impl Edit {
    /// The edit that takes this one back.
    pub const fn inverse(&self) -> Self {
        Self { key: self.key, old: self.new, new: self.old }
    }
}

impl ShardIndex {
    /// The candidates of many keys: for each key, by its number in `keys`, those of
    /// [`ShardIndex::candidates`], appended to `out` in order of the keys. Fastest if the keys are
    /// sorted; they need not be. At most 2^32 keys.
    pub fn candidates_many(&self, keys: &[KeyHash], out: &mut Vec<(u32, LogPosition)>) {
        let mut number = 0_u32;
        for window in keys.chunks(WINDOW) {
            self.touch(window.iter());
            for key in window {
                out.extend(self.candidates(key).map(|at| (number, at)));
                number = number.wrapping_add(1);
            }
        }
    }

    /// Applies the edits in order. Fastest if they are sorted by key; they need not be. Several
    /// edits may be of one key.
    ///
    /// # Errors
    /// The first edit that cannot be applied decides, and then none is: the index is as before.
    /// [`IndexError::Missing`] if the index does not hold the `old` of an edit;
    /// [`IndexError::Position`] and [`IndexError::Occupied`] as [`ShardIndex::insert`].
    pub fn apply(&mut self, edits: &[Edit]) -> Result<(), IndexError> {
        let mut applied = 0;
        for window in edits.chunks(WINDOW) {
            self.touch(window.iter().map(|edit| &edit.key));
            for edit in window {
                if let Err(error) = self.apply_one(edit) {
                    self.take_back(&edits[..applied]);
                    return Err(error);
                }
                applied += 1;
            }
        }
        Ok(())
    }

    pub(crate) fn apply_one(&mut self, edit: &Edit) -> Result<(), IndexError> {
        let Edit { key, old, new } = edit;
        let at = |place: &Place| place.at;
        let (found, at) = match (old.as_ref().map(at), new.as_ref().map(at)) {
            (None, None) => return Ok(()),
            (None, Some(new)) => return self.insert(key, new),
            (Some(old), Some(new)) => (self.replace(key, old, new)?, old),
            (Some(old), None) => (self.remove(key, old), old),
        };
        if found { Ok(()) } else { Err(IndexError::Missing { key: *key, at }) }
    }

    /// Undoes edits that were just applied.
    fn take_back(&mut self, applied: &[Edit]) {
        for edit in applied.iter().rev() {
            // The inverse of the last edit always applies: what it removes was put there, and what
            // it puts back was removed.
            let undone = self.apply_one(&edit.inverse());
            debug_assert_eq!(undone, Ok(()));
        }
    }

    /// Loads the lines where each key's slot is expected.
    pub(crate) fn touch<'a>(&self, keys: impl Iterator<Item = &'a KeyHash>) {
        let mut seen = 0;
        for key in keys {
            let stem = Stem::of(key);
            seen ^= self.group(stem).touch(stem.fragment());
        }
        black_box(seen);
    }
}
