//! Where a block leaves the keys of a shard, while it is made.
//!
//! ```text
//!   known beforehand    10   20   25   30   40     slots, ascending: the keys of the block's operations, and the keys
//!   of the shard         ■    ■         ■    ■     before those that it may create or delete
//!   present now          1    1    0    1    1     a bit each: create 25 sets it, delete 30 clears it
//!   it is now in         -   #1    -    -    -     an entry of the block, once it is in one
//!
//!   others              17►#4  99►#2  17►#9        moved by compaction: in the order in which they were told
//! ```
//!
//! An operation knows the number of its key's slot, so that nothing is searched or hashed for it. The key before another is
//! that of the nearest slot below with its bit set.
//!
//! **Invariant:** of every key that is created or deleted the key before it, as of the block's start, has a slot. So the
//! nearest present slot below is the key before, whatever was created and deleted meanwhile: what was there at the start
//! and is not known here lies below the one before as of the start; and when that one is deleted, its own has a slot.
//!
//! [`settle`](Draft::settle) makes the [`Layer`] of it.

use crate::layer::present::Present;
use crate::layer::{Layer, Packed, Slot, prefixes};
use hedgerow_index::Place;
use hedgerow_types::even::sort_even;
use hedgerow_types::{KeyHash, SerialNumber};

/// Where a block leaves the keys of a shard, while it is made. [Settled](Draft::settle) it is a [`Layer`].
#[derive(Debug, Default)]
pub struct Draft {
    slots: Vec<Slot>,
    /// Of the numbers of slots; empty unless keys are created or deleted.
    present: Present,
    /// The next key hashes of entries that updates made.
    nexts: Vec<KeyHash>,
    /// Keys without a slot; one that is told again is there twice, the second time without an old place.
    others: Vec<Slot>,
}

impl Draft {
    /// A draft without slots, with room for so many.
    pub(crate) fn with_room(slots: usize) -> Self {
        Self {
            slots: Vec::with_capacity(slots),
            nexts: Vec::with_capacity(slots),
            others: Vec::with_capacity(slots / 2),
            ..Self::default()
        }
    }

    /// Adds the slot of a key above those that have one; `old` is where its entry is, `None` if it is absent.
    /// Returns the slot's number.
    pub(crate) fn add(&mut self, key: KeyHash, old: Option<Place>) -> usize {
        debug_assert!(self.slots.last().is_none_or(|slot| slot.key < key));
        self.slots.push(Slot::new(key, old, Packed::UNTOUCHED));
        self.slots.len() - 1
    }

    /// All keys that are created or deleted have a slot by now, and those before them.
    pub(crate) fn note_present(&mut self) {
        self.present = Present::none_of(self.slots.len());
        for (number, _) in self.slots.iter().enumerate().filter(|(_, slot)| slot.old().is_some()) {
            self.present.insert(number);
        }
    }

    /// What the block made of a key so far: `None` if it has not touched it.
    pub(crate) fn now(&self, slot: usize) -> Option<Here> {
        self.slots.get(slot).and_then(|slot| slot.now.draft())
    }

    /// The key of a slot.
    pub(crate) fn key(&self, slot: usize) -> Option<&KeyHash> {
        self.slots.get(slot).map(|slot| &slot.key)
    }

    /// The number of the slot of the key before that of a slot, as things are now.
    pub(crate) fn before(&self, slot: usize) -> Option<usize> {
        self.present.below(slot)
    }

    /// The key of a slot is now in entry `entry` of the run, as it was in another.
    pub(crate) fn moved(&mut self, slot: usize, entry: u32) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.now = Packed::here(entry);
        }
    }

    /// As [`moved`](Self::moved), by an operation on the key itself, whose entry leads to `next`.
    pub(crate) fn updated(&mut self, slot: usize, entry: u32, next: KeyHash) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.now = Packed::updated(entry);
            // Until it is settled, when it gets a serial number: where its next key hash is.
            slot.new_sn = SerialNumber(self.nexts.len() as u64);
            self.nexts.push(next);
        }
    }

    /// The key of a slot was absent, and is now in entry `entry` of the run.
    pub(crate) fn created(&mut self, slot: usize, entry: u32) {
        self.moved(slot, entry);
        self.present.insert(slot);
    }

    /// The key of a slot is absent now.
    pub(crate) fn removed(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.now = Packed::gone(0);
        }
        self.present.remove(slot);
    }

    /// Any key is now in entry `entry` of the run; `old` is where it was before the block, if it was not told of the
    /// key before.
    pub(crate) fn compacted(&mut self, key: KeyHash, old: Option<Place>, entry: u32) {
        match self.find(&key) {
            Some(slot) => self.moved(slot, entry),
            None => self.others.push(Slot::new(key, old, Packed::here(entry))),
        }
    }

    /// The slot of a key. Key hashes lie evenly, so it is looked for from where it would be if they did so exactly.
    fn find(&self, key: &KeyHash) -> Option<usize> {
        let len = self.slots.len();
        // Those of a shard have the first four bits in common.
        let guess = ((u128::from(key.prefix_u64() << 4) * len as u128) >> 64) as usize;
        let below = |at: usize| self.slots.get(at).is_some_and(|slot| slot.key < *key);
        let (mut low, mut high, mut step) = (guess, guess, 8);
        if below(guess) {
            while below(high) {
                low = high + 1;
                high += step;
                step *= 2;
            }
        } else {
            while low > 0 && !below(low - 1) {
                high = low - 1;
                low = low.saturating_sub(step);
                step *= 2;
            }
        }
        let range = self.slots.get(low..high.min(len)).unwrap_or_default();
        let at = low + range.partition_point(|slot| slot.key < *key);
        self.slots.get(at).filter(|slot| slot.key == *key).map(|_| at)
    }

    /// The layer, now that the record has its place: `place_of` says where the entries of the run are. `updated` is told
    /// of the keys whose entries an update made that is the last word on them, in key-hash order: key, next key hash, place.
    pub fn settle(
        self,
        place_of: impl Fn(u32) -> Place,
        mut updated: impl FnMut(&KeyHash, &KeyHash, Place),
    ) -> Layer {
        let Self { mut slots, present, nexts, mut others } = self;
        let mut befores = Vec::new();
        for number in 0..slots.len() {
            let before = |number: usize| slots.get(number).map(|slot| slot.key);
            if slots.get(number).is_some_and(|slot| slot.now.is_gone()) {
                let before = present.below(number).and_then(before).unwrap_or(KeyHash([0; 32]));
                slots[number].now = Packed::gone(befores.len() as u32); // fewer than slots
                befores.push(before);
            }
        }
        slots.retain(|slot| slot.now != Packed::UNTOUCHED);
        if !others.is_empty() {
            merge_others(&mut slots, &mut others);
        }
        for slot in &mut slots {
            if let Some(Here::In(entry)) = slot.now.draft() {
                let Place { at, sn } = place_of(entry);
                let next =
                    slot.now.is_updated().then(|| nexts.get(slot.new_sn.0 as usize)).flatten();
                if let Some(next) = next {
                    updated(&slot.key, next, Place { at, sn });
                }
                (slot.now, slot.new_sn) = (Packed::at(at), sn);
            }
        }
        let created = |slot: &Slot| slot.old().is_none() && !slot.now.is_gone();
        let created = (0..).zip(&slots).filter(|(_, slot)| created(slot)).map(|(number, _)| number);
        let created = created.collect();
        Layer { prefixes: prefixes(&slots), slots, created, befores }
    }
}

/// What a block in the making has made of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// It is in this entry of the run.
    In(u32),
    /// It is absent.
    Gone,
}

/// Brings the keys without a slot between those that have one, all ascending.
fn merge_others(slots: &mut Vec<Slot>, others: &mut Vec<Slot>) {
    // Of 16 bytes each, and prefixes decide nearly always.
    let mut order: Vec<(u64, u32)> =
        (0..).zip(&*others).map(|(number, slot)| (slot.key.prefix_u64(), number)).collect();
    sort_even(&mut order, |&(prefix, _)| prefix);
    for tied in order.chunk_by_mut(|(a, _), (b, _)| a == b).filter(|tied| tied.len() > 1) {
        tied.sort_unstable_by_key(|&(_, number)| {
            (others.get(number as usize).map(|slot| slot.key), number)
        });
    }
    let mut merged: Vec<Slot> = Vec::with_capacity(slots.len() + others.len());
    let mut known = slots.drain(..).peekable();
    for slot in order.iter().filter_map(|&(_, number)| others.get(number as usize)) {
        while let Some(before) = known.next_if(|known| known.key < slot.key) {
            merged.push(before);
        }
        match merged.last_mut() {
            // Told again: where it was is known, and where it is now is this.
            Some(last) if last.key == slot.key => last.now = slot.now,
            _ => merged.push(*slot),
        }
    }
    merged.extend(known);
    *slots = merged;
    others.clear();
}
