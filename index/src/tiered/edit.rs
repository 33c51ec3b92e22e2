//! Edits of the tiered index: bits change, records come.

use super::age::Part;
use super::bits::Bits;
use super::record::Record;
use super::{Editing, FLOORS, Inner};
use crate::shared::{part_of, runs};
use crate::{Edit, IndexError, Place, Stem};
use hedgerow_types::SerialNumber;
use parking_lot::RwLockWriteGuard;
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;

impl Inner {
    pub(super) fn apply(&self, edits: &[Edit], wait: &dyn Fn()) -> Result<(), IndexError> {
        let mut editing = self.editing.lock();
        self.cover(edits.iter().filter_map(|edit| edit.new))?;
        if editing.filling.is_some() {
            return self.fill(edits, &mut editing);
        }
        let mut done = 0;
        let mut failed = None;
        'all: for (number, run) in runs(edits, |edit| Stem::of(&edit.key).group()) {
            self.make_room(&mut editing, wait);
            let mut part = self.parts[number].write();
            let bits = self.bits.read();
            for edit in run {
                match self.step(&mut part, &bits, edit, &editing) {
                    Ok(()) => done += 1,
                    Err(error) => {
                        failed = Some(error);
                        break 'all;
                    }
                }
            }
            drop(bits);
            // Whoever waits for this part goes first, as in a shared index.
            RwLockWriteGuard::unlock_fair(part);
        }
        if let Some(error) = failed {
            let cut = SerialNumber(editing.next);
            self.cut_to(cut);
            self.undo(&edits[..done], cut, &mut editing);
            self.freeze_full(&mut editing);
            return Err(error);
        }
        let floor = editing.next;
        editing.floors.push_back(floor);
        if editing.floors.len() > FLOORS {
            editing.floors.pop_front();
        }
        let last = edits.iter().filter_map(|edit| edit.new).map(|new| new.sn.0 + 1).max();
        editing.next = editing.next.max(last.unwrap_or(0));
        if self.bits.read().has_idle_front() {
            self.bits.write().trim();
        }
        self.freeze_full(&mut editing);
        Ok(())
    }

    /// Sees to it that there is room in memory for some more records.
    fn make_room(&self, editing: &mut Editing, wait: &dyn Fn()) {
        self.freeze_early(editing);
        let records = self.frozen.load(Relaxed) + self.mutable.load(Relaxed);
        if records >= 2 * self.age_records.load(Relaxed) {
            wait();
            self.freeze_early(editing);
        }
    }

    /// Freezes the mutable age in the middle of edits, so that it can be spilled meanwhile; unless there is one that waits
    /// for that: then nobody spills, and more ages would only take more memory.
    fn freeze_early(&self, editing: &mut Editing) -> bool {
        let share = self.age_records.load(Relaxed);
        let early = self.mutable.load(Relaxed) >= share && self.frozen.load(Relaxed) < share;
        if early {
            self.freeze(editing, &mut self.state.lock());
        }
        early
    }

    /// Makes room for the bits of what comes.
    fn cover(&self, places: impl Iterator<Item = Place>) -> Result<(), IndexError> {
        let mut missing: Vec<SerialNumber> = Vec::new();
        {
            let bits = self.bits.read();
            let open = |sn: &SerialNumber| !bits.covers(*sn);
            missing.extend(places.map(|place| place.sn).filter(open));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let mut bits = self.bits.write();
        missing.into_iter().try_for_each(|sn| bits.cover(sn))
    }

    /// One edit of a key of `part`.
    fn step(
        &self,
        part: &mut Part,
        bits: &Bits,
        edit: &Edit,
        editing: &Editing,
    ) -> Result<(), IndexError> {
        let stem = Stem::of(&edit.key);
        if let Some(old) = edit.old
            && (Record::new(stem, old).is_err() || !bits.get(old.sn))
        {
            return Err(IndexError::Missing { key: edit.key, at: old.at });
        }
        let record = edit.new.map(|new| Record::new(stem, new)).transpose()?;
        if let Some(record) = record {
            if record.sn.0 < editing.next {
                return Err(IndexError::Number { sn: record.sn });
            }
            if bits.get(record.sn) {
                return Err(IndexError::Occupied { at: record.at });
            }
            self.mutable.fetch_add(usize::from(part.mutable.insert(record)), Relaxed);
            bits.set(record.sn);
        }
        if let Some(old) = edit.old {
            bits.clear(old.sn);
        }
        self.count(edit.old.is_some(), edit.new.is_some());
        Ok(())
    }

    /// Counts keys: one less, one more.
    pub(super) fn count(&self, less: bool, more: bool) {
        if more && !less {
            self.live.fetch_add(1, Relaxed);
        } else if less && !more {
            self.live.fetch_sub(1, Relaxed);
        }
    }

    /// Undoes edits, the last first. What they put in goes from the mutable age. What they replaced is put there:
    /// its record may have been dropped by a merge since. Records from `cut` on are void in all that is frozen. Memory may
    /// grow over the budget by as much as was replaced: nothing that can fail is waited for.
    fn undo(&self, applied: &[Edit], cut: SerialNumber, editing: &mut Editing) {
        for edit in applied.iter().rev() {
            if self.freeze_early(editing) {
                // Edits that are to be undone still have theirs in it.
                self.cut_to(cut);
            }
            let stem = Stem::of(&edit.key);
            let mut part = self.parts[part_of(stem.group())].write();
            let bits = self.bits.read();
            let record = |place| Record::new(stem, place).ok();
            if let Some(old) = edit.old.and_then(record) {
                self.mutable.fetch_add(usize::from(part.mutable.insert(old)), Relaxed);
                bits.set(old.sn);
            }
            if let Some(new) = edit.new.and_then(record) {
                bits.clear(new.sn);
                self.mutable.fetch_sub(usize::from(part.mutable.remove(new)), Relaxed);
            }
            self.count(edit.new.is_some(), edit.old.is_some());
        }
    }

    pub(super) fn load(&self, records: &[Record], gone: &[SerialNumber]) -> Result<(), IndexError> {
        let mut editing = self.editing.lock();
        for record in records {
            Record::new(record.stem, Place { at: record.at, sn: record.sn })?;
            if record.sn.0 < editing.next {
                return Err(IndexError::Number { sn: record.sn });
            }
        }
        let mut bits = self.bits.write();
        records.iter().try_for_each(|record| bits.cover(record.sn))?;
        let mut live = self.live.load(Relaxed);
        for record in records {
            live += usize::from(bits.set(record.sn));
        }
        for sn in gone {
            live -= usize::from(bits.clear(*sn));
        }
        for record in records.iter().filter(|record| bits.get(record.sn)) {
            let mut part = self.parts[part_of(record.stem.group())].write();
            self.mutable.fetch_add(usize::from(part.mutable.insert(*record)), Relaxed);
        }
        bits.trim();
        self.live.store(live, Relaxed);
        let last = records.iter().map(|record| record.sn.0 + 1).max();
        editing.next = editing.next.max(last.unwrap_or(0));
        drop(bits);
        self.freeze_full(&mut editing);
        Ok(())
    }

    pub(super) fn take_back(&self, applied: &[Edit]) -> Result<(), IndexError> {
        let mut editing = self.editing.lock();
        if editing.filling.is_some() {
            return Ok(()); // it is thrown away, because another index failed
        }
        self.check_back(applied)?;
        // All numbers from the least on were put in by these edits. Before any of them is used anew, records of them
        // must be void wherever they may be by now.
        let floor = editing.floors.pop_back();
        let cut = applied.iter().filter_map(|edit| edit.new).map(|new| new.sn).min();
        if let Some(cut) = cut {
            self.cut_to(cut);
            editing.next = floor.unwrap_or(cut.0).min(cut.0);
        }
        self.undo(applied, cut.unwrap_or(SerialNumber(u64::MAX)), &mut editing);
        self.freeze_full(&mut editing);
        Ok(())
    }

    /// As [`take_back`](Self::take_back), of all batches that put in numbers from `cut` on.
    pub(super) fn roll_back(&self, changed: &[Edit], cut: SerialNumber) -> Result<(), IndexError> {
        let mut editing = self.editing.lock();
        self.check_back(changed)?;
        // Records of those numbers that no edit names are in memory too: frozen they can be made void.
        self.freeze(&mut editing, &mut self.state.lock());
        self.cut_to(cut);
        editing.floors.clear();
        editing.next = editing.next.min(cut.0);
        self.undo(changed, cut, &mut editing);
        self.freeze_full(&mut editing);
        Ok(())
    }

    /// Whether edits can be taken back. Makes room for the bits of what comes back.
    fn check_back(&self, applied: &[Edit]) -> Result<(), IndexError> {
        self.cover(applied.iter().filter_map(|edit| edit.old))?;
        // Nobody else edits: what is found now holds for all that follows.
        let restored: HashSet<SerialNumber> =
            applied.iter().filter_map(|edit| edit.old).map(|old| old.sn).collect();
        {
            let bits = self.bits.read();
            for edit in applied {
                if let Some(new) = edit.new
                    && !(bits.get(new.sn) || restored.contains(&new.sn))
                {
                    return Err(IndexError::Missing { key: edit.key, at: new.at });
                }
            }
        }
        Ok(())
    }

    fn cut_to(&self, cut: SerialNumber) {
        let state = self.state.lock();
        state.running().for_each(|running| running.cut_to(cut));
        for age in &state.frozen {
            age.parts.iter().for_each(|part| part.cut_to(cut));
        }
        self.tiers().segments.iter().for_each(|segment| segment.cut_to(cut));
    }
}
