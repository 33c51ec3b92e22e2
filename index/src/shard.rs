//! The index of one shard, one key at a time.

use crate::IndexError;
use crate::group::Group;
use crate::slot::{GROUPS, Slot, Stem, Unit};
use hedgerow_types::{KeyHash, LogPosition};
use std::fmt;
use std::mem::size_of;

/// The ordered index of one shard, from key hash to log position.
///
/// All keys must be of one shard: the top 4 bits are not looked at. See the crate's documentation
/// for the structure, what it costs, and what a *tie* is.
#[derive(Clone)]
pub struct ShardIndex {
    /// The number of the first group: 0, but for a part of a [`SharedIndex`](crate::SharedIndex).
    first: usize,
    /// [`GROUPS`] of them, fewer in a part.
    groups: Box<[Group]>,
    len: usize,
}

impl Default for ShardIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ShardIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardIndex").field("len", &self.len).finish_non_exhaustive()
    }
}

impl ShardIndex {
    /// An empty index. It occupies 96 KiB, the array of its groups.
    pub fn new() -> Self {
        Self::from_groups(vec![Group::default(); GROUPS].into_boxed_slice(), 0)
    }

    /// The index with these [`GROUPS`] groups, which hold `len` slots.
    pub(crate) fn from_groups(groups: Box<[Group]>, len: usize) -> Self {
        debug_assert_eq!(groups.len(), GROUPS);
        Self { first: 0, groups, len }
    }

    /// Cuts the index into parts of so many groups each, in order.
    pub(crate) fn into_parts(self, groups: usize) -> Vec<Self> {
        let mut rest = self.groups.into_vec().into_iter();
        let firsts = (self.first..self.first + rest.len()).step_by(groups.max(1));
        let part = |first| {
            let groups: Box<[Group]> = rest.by_ref().take(groups.max(1)).collect();
            let len = groups.iter().map(Group::len).sum();
            Self { first, groups, len }
        };
        firsts.map(part).collect()
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of heap that the index has requested from the allocator, exactly. Takes time
    /// proportional to the number of buckets.
    pub fn heap_bytes(&self) -> usize {
        let groups: usize = self.groups.iter().map(Group::heap_bytes).sum();
        self.groups.len() * size_of::<Group>() + groups
    }

    pub(crate) fn all_groups(&self) -> &[Group] {
        &self.groups
    }

    /// The number of the first group.
    pub(crate) fn first(&self) -> usize {
        self.first
    }

    /// The place of the group of `stem`, which is one of this index.
    #[inline]
    pub(crate) fn place(&self, stem: Stem) -> usize {
        stem.group() - self.first
    }

    #[inline]
    pub(crate) fn group(&self, stem: Stem) -> &Group {
        &self.groups[self.place(stem)] // < GROUPS by its type
    }

    #[inline]
    fn group_mut(&mut self, stem: Stem) -> &mut Group {
        &mut self.groups[stem.group() - self.first] // < GROUPS by its type
    }

    /// Adds `key` at `at`. That `key` was not indexed before is for the caller to know: the index
    /// would hold both positions.
    ///
    /// # Errors
    /// [`IndexError::Position`] if `at` cannot be indexed; [`IndexError::Occupied`] if it is
    /// indexed already, with `key`'s stem.
    pub fn insert(&mut self, key: &KeyHash, at: LogPosition) -> Result<(), IndexError> {
        let stem = Stem::of(key);
        let slot = Slot::new(stem.fragment(), Unit::new(at)?);
        self.group_mut(stem).insert(slot)?;
        self.len += 1;
        Ok(())
    }

    /// Removes `key`, which is at `at`. False, and nothing changes, if the index does not hold
    /// `at` for `key`'s stem.
    pub fn remove(&mut self, key: &KeyHash, at: LogPosition) -> bool {
        let stem = Stem::of(key);
        let Ok(unit) = Unit::new(at) else {
            return false;
        };
        let removed = self.group_mut(stem).remove(Slot::new(stem.fragment(), unit));
        self.len -= usize::from(removed);
        removed
    }

    /// Moves `key` from position `old` to `new`. False, and nothing changes, if the index does not
    /// hold `old` for `key`'s stem.
    ///
    /// # Errors
    /// [`IndexError::Position`] if `new` cannot be indexed; [`IndexError::Occupied`] if it is
    /// indexed already, with `key`'s stem.
    pub fn replace(
        &mut self,
        key: &KeyHash,
        old: LogPosition,
        new: LogPosition,
    ) -> Result<bool, IndexError> {
        let stem = Stem::of(key);
        let new = Slot::new(stem.fragment(), Unit::new(new)?);
        let Ok(old) = Unit::new(old) else {
            return Ok(false);
        };
        self.group_mut(stem).replace(Slot::new(stem.fragment(), old), new)
    }

    /// Panics if an invariant of the crate's documentation is broken.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        assert!(self.first + self.groups.len() <= GROUPS);
        self.groups.iter().for_each(Group::check);
        assert_eq!(self.positions().count(), self.len);
    }
}
