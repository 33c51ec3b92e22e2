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

    /// The stem of these keys.
    pub fn stem(&self) -> Stem {
        self.stem
    }
}

/// Groups of ties, downwards, from a stem on: see [`ShardIndex::downwards`].
#[derive(Clone)]
pub(crate) struct Downwards<'a> {
    groups: &'a [Group],
    /// The number of the first of `groups`.
    first: usize,
    /// The place of the current one among them.
    group: usize,
    bucket: usize,
    /// The slots of the bucket that are not yet visited.
    rest: &'a [Slot],
}

impl<'a> Iterator for Downwards<'a> {
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

impl FusedIterator for Downwards<'_> {}

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

    /// All keys whose stems are at most `stem`, one of this index's groups, in descending order of
    /// their stems, those with equal stems together.
    pub(crate) fn downwards(&self, stem: Stem) -> Downwards<'_> {
        let (number, bucket, span) = self.group(stem).bucket(stem.fragment());
        let run = bucket.run(span, stem.fragment());
        let rest = &bucket.slots()[..run.end];
        let (groups, first) = (self.all_groups(), self.first());
        Downwards { groups, first, group: self.place(stem), bucket: number, rest }
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
