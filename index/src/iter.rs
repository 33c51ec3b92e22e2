//! Walking the index: upwards over everything, downwards from a key.

use crate::ShardIndex;
use crate::group::Group;
use crate::search::partition_point_near;
use crate::slot::{Slot, Stem};
use hedgerow_types::{KeyHash, LogPosition};
use std::iter::{Copied, FusedIterator};
use std::slice;

/// Log positions of keys with equal stems, ascending.
#[derive(Clone)]
pub struct Positions<'a>(Copied<slice::Iter<'a, Slot>>);

impl<'a> Positions<'a> {
    pub(crate) fn new(slots: &'a [Slot]) -> Self {
        Self(slots.iter().copied())
    }
}

impl Iterator for Positions<'_> {
    type Item = LogPosition;

    fn next(&mut self) -> Option<LogPosition> {
        self.0.next().map(Slot::position)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl DoubleEndedIterator for Positions<'_> {
    fn next_back(&mut self) -> Option<LogPosition> {
        self.0.next_back().map(Slot::position)
    }
}

impl ExactSizeIterator for Positions<'_> {}
impl FusedIterator for Positions<'_> {}

/// All indexed keys that share one stem: at least one, nearly always exactly one.
#[derive(Clone, Copy)]
pub struct Ties<'a> {
    stem: Stem,
    /// Not empty; all of one fragment.
    slots: &'a [Slot],
}

impl<'a> Ties<'a> {
    /// Where the entries of these keys are: at least one position, ascending.
    pub fn positions(&self) -> Positions<'a> {
        Positions::new(self.slots)
    }

    /// The position, if there is one only: then no entry need be read to know the order of the
    /// group's keys.
    pub fn only(&self) -> Option<LogPosition> {
        match self.slots {
            [slot] => Some(slot.position()),
            _ => None,
        }
    }

    /// The stem of these keys.
    pub fn stem(&self) -> Stem {
        self.stem
    }

    /// Whether `key` (of the index's shard) has the same stem. If so, only the entries tell which
    /// keys of the group are less than, equal to or greater than `key`.
    pub fn share_stem_with(&self, key: &KeyHash) -> bool {
        self.stem == Stem::of(key)
    }
}

/// Groups of ties, downwards, from that of a key: see
/// [`ShardIndex::predecessor_candidates`].
#[derive(Clone)]
pub struct PredecessorGroups<'a> {
    groups: &'a [Group],
    /// The number of the first of `groups`.
    first: usize,
    /// The place of the current one among them.
    group: usize,
    bucket: usize,
    /// The slots of the bucket that are not yet visited.
    rest: &'a [Slot],
}

impl<'a> Iterator for PredecessorGroups<'a> {
    type Item = Ties<'a>;

    fn next(&mut self) -> Option<Ties<'a>> {
        loop {
            if let Some(last) = self.rest.last() {
                let fragment = last.fragment();
                let mut start = self.rest.len() - 1;
                // Nearly always there is one only.
                if start > 0
                    && self.rest.get(start - 1).is_some_and(|slot| slot.fragment() == fragment)
                {
                    start =
                        partition_point_near(self.rest, start, |slot| slot.fragment() < fragment);
                }
                let (rest, slots) = self.rest.split_at(start);
                self.rest = rest;
                return Some(Ties {
                    stem: Stem::in_group(self.first + self.group, fragment),
                    slots,
                });
            }
            if self.bucket == 0 {
                self.group = self.group.checked_sub(1)?;
                self.bucket = self.groups.get(self.group)?.buckets();
            }
            self.bucket -= 1;
            self.rest = self.groups.get(self.group)?.slots(self.bucket);
        }
    }
}

impl FusedIterator for PredecessorGroups<'_> {}

/// Groups of ties of a whole index, upwards: see [`ShardIndex::groups`].
#[derive(Clone)]
pub struct Groups<'a> {
    groups: &'a [Group],
    /// The number of the first of `groups`.
    first: usize,
    /// The place of the current one among them.
    group: usize,
    /// The bucket after the one that `rest` belongs to.
    bucket: usize,
    /// The slots of the bucket that are not yet visited.
    rest: &'a [Slot],
}

impl<'a> Iterator for Groups<'a> {
    type Item = Ties<'a>;

    fn next(&mut self) -> Option<Ties<'a>> {
        loop {
            if let Some(first) = self.rest.first() {
                let fragment = first.fragment();
                let mut end = 1;
                if self.rest.get(end).is_some_and(|slot| slot.fragment() == fragment) {
                    end = partition_point_near(self.rest, end, |slot| slot.fragment() <= fragment);
                }
                let (slots, rest) = self.rest.split_at(end);
                self.rest = rest;
                return Some(Ties {
                    stem: Stem::in_group(self.first + self.group, fragment),
                    slots,
                });
            }
            let group = self.groups.get(self.group)?;
            if self.bucket < group.buckets() {
                self.rest = group.slots(self.bucket);
                self.bucket += 1;
            } else {
                self.group += 1;
                self.bucket = 0;
            }
        }
    }
}

impl FusedIterator for Groups<'_> {}

impl ShardIndex {
    /// Every position whose key has the same stem as `key`, ascending. Reads no entry: that a stem
    /// is equal does not mean that the key is. A key that has no candidate is absent.
    #[inline]
    pub fn candidates(&self, key: &KeyHash) -> Positions<'_> {
        let stem = Stem::of(key);
        Positions::new(self.group(stem).run(stem.fragment()))
    }

    /// Where the greatest key less than `key` may be: groups of ties in descending order of their
    /// stems, found one by one as the iterator advances.
    ///
    /// The first is the group of `key`'s own stem if there is one
    /// ([`Ties::share_stem_with`]): some of its keys may be less than `key`, which only their
    /// entries tell. If none is, the predecessor is the greatest key of the next group; every key
    /// of that is less than `key`.
    pub fn predecessor_candidates(&self, key: &KeyHash) -> PredecessorGroups<'_> {
        self.downwards(Stem::of(key))
    }

    /// All keys whose stems are at most `stem`, one of this index's groups, in descending order of
    /// their stems, those with equal stems together.
    pub(crate) fn downwards(&self, stem: Stem) -> PredecessorGroups<'_> {
        let (number, bucket, span) = self.group(stem).bucket(stem.fragment());
        let run = bucket.run(span, stem.fragment());
        let rest = &bucket.slots()[..run.end];
        let (groups, first) = (self.all_groups(), self.first());
        PredecessorGroups { groups, first, group: self.place(stem), bucket: number, rest }
    }

    /// All keys in ascending order of their stems, those with equal stems together.
    pub fn groups(&self) -> Groups<'_> {
        let (groups, first) = (self.all_groups(), self.first());
        Groups { groups, first, group: 0, bucket: 0, rest: &[] }
    }

    /// The keys of one group of this index, upwards.
    pub(crate) fn group_of(&self, number: usize) -> Groups<'_> {
        let place = number - self.first();
        let groups = self.all_groups().get(place..=place).unwrap_or_default();
        Groups { groups, first: number, group: 0, bucket: 0, rest: &[] }
    }

    /// All positions in ascending order of their keys' stems, those with equal stems ascending.
    pub fn positions(&self) -> impl Iterator<Item = LogPosition> + '_ {
        self.all_groups()
            .iter()
            .flat_map(|group| (0..group.buckets()).flat_map(|i| group.slots(i)))
            .map(|slot| slot.position())
    }
}
