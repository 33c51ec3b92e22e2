//! Memory ages: the newest records, in the groups and buckets of the index in memory, with 16-byte slots.
//!
//! ```text
//!   part 0 .. 15, a lock each    ┌ mutable   groups   edits put records here
//!                                └ frozen    [ groups, groups, .. ]   asked, never changed; a spill writes
//!                                                                     them to a segment, then they go
//! ```
//!
//! Freezing moves the groups of a part to its frozen ones under its lock; the 16 that were frozen together are
//! an [`Age`].

use super::record::{Packed, Record};
use crate::Stem;
use crate::group::Group;
use crate::shared::PART_GROUPS;
use crate::slot::InBucket;
use hedgerow_types::SerialNumber;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a record is reckoned to take in memory: 16 bytes, and room to grow in small buckets.
pub(crate) const RECORD_BYTES: usize = 18;
/// What an age takes before it has any record: its groups.
pub(crate) const AGE_BYTES: usize = crate::GROUPS * size_of::<Group<Packed>>();

/// The groups of a part.
pub(crate) struct Groups {
    /// The number of the first group.
    first: usize,
    groups: Box<[Group<Packed>]>,
}

impl Groups {
    pub(crate) fn new(part: usize) -> Self {
        let groups = vec![Group::default(); PART_GROUPS].into_boxed_slice();
        Self { first: part * PART_GROUPS, groups }
    }

    fn group(&self, stem: Stem) -> Option<&Group<Packed>> {
        self.groups.get(stem.group().checked_sub(self.first)?)
    }

    fn group_mut(&mut self, stem: Stem) -> Option<&mut Group<Packed>> {
        self.groups.get_mut(stem.group().checked_sub(self.first)?)
    }

    /// Puts a record in. False if it is there already.
    pub(crate) fn insert(&mut self, record: Record) -> bool {
        self.group_mut(record.stem).is_some_and(|it| it.insert(record.pack()).is_ok())
    }

    /// Takes a record out. False if it is not there.
    pub(crate) fn remove(&mut self, record: Record) -> bool {
        self.group_mut(record.stem).is_some_and(|it| it.remove(record.pack()))
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let groups: usize = self.groups.iter().map(Group::heap_bytes).sum();
        self.groups.len() * size_of::<Group<Packed>>() + groups
    }

    /// The records of a stem.
    pub(crate) fn ties(&self, stem: Stem) -> impl Iterator<Item = Record> + '_ {
        let run = self.group(stem).map_or(&[][..], |group| group.run(stem.fragment()));
        run.iter().map(move |slot| slot.of_group(stem.group()))
    }

    /// The records of a group, ascending.
    pub(crate) fn group_records(&self, number: usize) -> impl Iterator<Item = Record> + '_ {
        let group = number.checked_sub(self.first).and_then(|place| self.groups.get(place));
        let slots = group.into_iter().flat_map(|it| (0..it.buckets()).flat_map(|i| it.slots(i)));
        slots.map(move |slot| slot.of_group(number))
    }

    /// The greatest stem of a record that counts, at most `from` and at least `to`.
    pub(crate) fn last(
        &self,
        from: Stem,
        to: Stem,
        counts: impl Fn(&Record) -> bool,
    ) -> Option<Stem> {
        let mut number = from.group();
        loop {
            let group = self.groups.get(number.checked_sub(self.first)?)?;
            for bucket in (0..group.buckets()).rev() {
                let slots = group.slots(bucket);
                let end = if number == from.group() {
                    slots.partition_point(|slot| slot.fragment() <= from.fragment())
                } else {
                    slots.len()
                };
                for slot in slots[..end].iter().rev() {
                    let record = slot.of_group(number);
                    if record.stem < to {
                        return None;
                    }
                    if counts(&record) {
                        return Some(record.stem);
                    }
                }
            }
            if number == to.group() {
                return None;
            }
            number = number.checked_sub(1)?;
        }
    }
}

/// Groups that are asked and never changed.
pub(crate) struct Frozen {
    groups: Groups,
    /// Records from this serial number on are void: it may be used anew.
    cut: AtomicU64,
}

impl Frozen {
    pub(crate) fn new(groups: Groups) -> Self {
        Self { groups, cut: AtomicU64::new(u64::MAX) }
    }

    pub(crate) fn cut_to(&self, cut: SerialNumber) {
        self.cut.fetch_min(cut.0, Relaxed);
    }

    pub(crate) fn holds(&self, record: &Record) -> bool {
        record.sn.0 < self.cut.load(Relaxed)
    }
}

/// What was frozen together: one of each part, in order.
#[derive(Clone)]
pub(crate) struct Age {
    pub(crate) parts: Vec<Arc<Frozen>>,
    pub(crate) records: usize,
}

impl Age {
    pub(crate) fn heap_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.groups.heap_bytes()).sum()
    }

    /// All of its records, ascending.
    pub(crate) fn records(&self) -> AgeRecords {
        AgeRecords { parts: self.parts.clone(), group: 0, bucket: 0, slot: 0 }
    }
}

/// The records of an age, ascending, but for those that are void.
pub(crate) struct AgeRecords {
    parts: Vec<Arc<Frozen>>,
    group: usize,
    bucket: usize,
    slot: usize,
}

impl Iterator for AgeRecords {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            let part = self.parts.get(self.group / PART_GROUPS)?;
            let group = part.groups.groups.get(self.group % PART_GROUPS)?;
            if let Some(slot) = group.slots(self.bucket).get(self.slot) {
                self.slot += 1;
                let record = slot.of_group(self.group);
                if part.holds(&record) {
                    return Some(record);
                }
                continue;
            }
            self.slot = 0;
            self.bucket += 1;
            if self.bucket >= group.buckets() {
                (self.bucket, self.group) = (0, self.group + 1);
            }
        }
    }
}

/// What the lock of a part guards.
pub(crate) struct Part {
    pub(crate) mutable: Groups,
    pub(crate) frozen: Vec<Arc<Frozen>>,
}

impl Part {
    pub(crate) fn new(number: usize) -> Self {
        Self { mutable: Groups::new(number), frozen: Vec::new() }
    }

    /// Freezes what is mutable.
    pub(crate) fn freeze(&mut self, number: usize) -> Arc<Frozen> {
        let full = std::mem::replace(&mut self.mutable, Groups::new(number));
        let frozen = Arc::new(Frozen::new(full));
        self.frozen.push(Arc::clone(&frozen));
        frozen
    }

    /// Forgets what was spilled.
    pub(crate) fn forget(&mut self, spilled: &Arc<Frozen>) {
        self.frozen.retain(|frozen| !Arc::ptr_eq(frozen, spilled));
    }

    /// All records of a stem, out of date or not.
    pub(crate) fn ties(&self, stem: Stem, mut each: impl FnMut(Record)) {
        self.mutable.ties(stem).for_each(&mut each);
        for frozen in &self.frozen {
            frozen.groups.ties(stem).filter(|record| frozen.holds(record)).for_each(&mut each);
        }
    }

    /// All records of a group.
    pub(crate) fn group(&self, number: usize, mut each: impl FnMut(Record)) {
        self.mutable.group_records(number).for_each(&mut each);
        for frozen in &self.frozen {
            let records = frozen.groups.group_records(number);
            records.filter(|record| frozen.holds(record)).for_each(&mut each);
        }
    }

    /// The greatest stem of a record that counts, at most `from` and at least `to`; both of this part.
    pub(crate) fn last(
        &self,
        from: Stem,
        to: Stem,
        counts: impl Fn(&Record) -> bool,
    ) -> Option<Stem> {
        let mut best = self.mutable.last(from, to, &counts);
        for frozen in &self.frozen {
            let holds = |record: &Record| frozen.holds(record) && counts(record);
            best = best.max(frozen.groups.last(from, best.unwrap_or(to), holds));
        }
        best
    }
}
