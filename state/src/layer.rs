//! The edits of blocks that are accepted and not yet published.
//!
//! The index holds the published state. What later blocks changed lies above it in layers, one per
//! block in flight, each with one map per shard:
//!
//! ```text
//!   block being updated    layer h+2   slots { key hash -> Here(entry of this run) | Gone }
//!   accepted               layer h+1   slots { key hash -> At(log position) | Gone }   ▲ newest
//!   being hashed           layer h     slots ...                                       │ answers
//!   ─────────────────────────────────────────────                                      │ first
//!   published              index       key-hash fragment -> log position
//! ```
//!
//! The key before another, through two layers. Before both blocks the shard had the keys 10, 20, 30, 40.
//!
//! ```text
//!  block h      removes 30 (before it: 20), creates 25     now 10 20 25 40
//!  block h+1    removes 25 (before it: 20), removes 20     now 10 40
//!               (before it: 10); so 25 leads to 10 too
//!
//!  which key is before 40?     the index answers   30    (it has neither block)  or  25  (it has h)
//!    through h:    30 is gone, before it 20; 25 was created and is greater     25          25
//!    through h+1:  25 is gone, before it 10; nothing was created below 40      10          10
//! ```
//!
//! Each layer is asked with what the one before it came to, so it does not matter how far the index is.
//!
//! Invariants:
//! * A layer's edits reach the index in one exclusive section, and a layer is dropped only after
//!   that. A look-up through the layers therefore answers the same whether or not the index has
//!   received a layer's edits already: every key that a layer names is answered by the layer.
//! * A removed key names the key `before` it at that moment, and that one was rewritten by the same
//!   removal. So every `before` leads to a key that the same layer names, and walking them ends at
//!   a present key. In a settled layer they lead there in one step.

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use hedgerow_index::{Edit, Place};
use hedgerow_types::{KeyHash, LogPosition, SerialNumber};
use std::collections::BTreeSet;
use std::hash::BuildHasher;

/// Where a block left a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// In the entry with this number of the run being built.
    Here(u32),
    /// In the entry at this position of the log.
    At(LogPosition),
    /// Removed.
    Gone {
        /// The key hash before it when it was removed.
        before: KeyHash,
    },
}

/// What is remembered of a key that a block changed: 64 bytes.
#[derive(Clone, Copy, Debug)]
struct Slot {
    key: KeyHash,
    /// Its position before the block, or [`ABSENT`], and its serial number.
    old: u64,
    old_sn: SerialNumber,
    /// A [`Now`]; of a removed key the number of the key before it.
    now: Packed,
    /// Its serial number once it is settled, unless it was removed.
    new_sn: SerialNumber,
}

/// No position.
const ABSENT: u64 = u64::MAX;
/// No place.
const NONE: Place = Place { at: LogPosition(ABSENT), sn: SerialNumber(0) };

/// A [`Now`] in 8 bytes. Positions are multiples of 8; the low bits tell the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64);

impl Packed {
    const HERE: u64 = 1;
    const GONE: u64 = 2;

    const fn here(entry: u32) -> Self {
        Self((entry as u64) << 3 | Self::HERE)
    }

    const fn gone(number: u32) -> Self {
        Self((number as u64) << 3 | Self::GONE)
    }

    /// The number of the key before it, if it was removed.
    const fn removed(self) -> Option<u32> {
        if self.0 & 7 == Self::GONE { Some((self.0 >> 3) as u32) } else { None }
    }
}

/// The keys of one shard that one block changed.
///
/// The slots lie in the order in which the keys were first changed, which for the keys of the block's own
/// operations is that of their hashes; a table of their numbers finds one.
#[derive(Debug, Default)]
pub struct Layer {
    slots: Vec<Slot>,
    table: HashTable<u32>,
    hashes: DefaultHashBuilder,
    /// The key before each removed one, see [`Packed::removed`].
    befores: Vec<KeyHash>,
    /// Keys that the block created and that are present after it.
    created: BTreeSet<KeyHash>,
    /// The numbers of the slots in key-hash order, if [`arrange`](Layer::arrange) was asked to find it.
    order: Vec<u32>,
    /// The slots ascend and none is of a removed key: then neither `table` nor `created` has any of them.
    ordered: bool,
}

impl Layer {
    /// An empty layer with room for so many keys, which are told in ascending order and which nobody removes:
    /// by [`in_order_moved`](Self::in_order_moved), [`in_order_created`](Self::in_order_created) and
    /// [`in_order_again`](Self::in_order_again). It is searched by halves, and costs less to make.
    pub(crate) fn in_order(keys: usize) -> Self {
        Self { slots: Vec::with_capacity(keys), ordered: true, ..Self::default() }
    }

    /// As [`moved`](Self::moved), of a key above all before it.
    pub(crate) fn in_order_moved(&mut self, key: KeyHash, old: Place, entry: u32) {
        self.push_in_order(key, old, entry);
    }

    /// As [`created`](Self::created), of a key above all before it.
    pub(crate) fn in_order_created(&mut self, key: KeyHash, entry: u32) {
        self.push_in_order(key, NONE, entry);
    }

    /// The last key is in another entry by now.
    pub(crate) fn in_order_again(&mut self, entry: u32) {
        if let Some(slot) = self.slots.last_mut() {
            slot.now = Packed::here(entry);
        }
    }

    fn push_in_order(&mut self, key: KeyHash, old: Place, entry: u32) {
        debug_assert!(self.ordered && self.slots.last().is_none_or(|slot| slot.key < key));
        let (now, new_sn) = (Packed::here(entry), SerialNumber(0));
        self.slots.push(Slot { key, old: old.at.0, old_sn: old.sn, now, new_sn });
    }

    /// Makes of a layer in order one that any key may be told.
    fn leave_order(&mut self) {
        if !std::mem::take(&mut self.ordered) {
            return;
        }
        let Self { slots, table, hashes, created, .. } = self;
        let hash = |slot: &Slot| hashes.hash_one(slot.key.prefix_u64());
        let again = |&number: &u32| slots.get(number as usize).map_or(0, hash);
        for (number, slot) in (0..).zip(&*slots) {
            table.insert_unique(hash(slot), number, again);
            if slot.old == ABSENT {
                created.insert(slot.key);
            }
        }
    }

    /// The greatest key below `key` that the block created and that is present after it.
    fn created_below(&self, key: &KeyHash) -> Option<KeyHash> {
        if !self.ordered {
            return self.created.range(..key).next_back().copied();
        }
        let below = self.slots.partition_point(|slot| slot.key < *key);
        let below = self.slots.get(..below).unwrap_or_default();
        // Few steps: before a key that was there a block creates others, or has no need to name it.
        below.iter().rev().find(|slot| slot.old == ABSENT).map(|slot| slot.key)
    }

    /// An empty layer with room for so many keys.
    pub fn with_capacity(keys: usize) -> Self {
        Self {
            slots: Vec::with_capacity(keys),
            table: HashTable::with_capacity(keys),
            ..Self::default()
        }
    }

    /// Of the first 64 bits alone, which differ between any two sentries too.
    fn hash(&self, key: &KeyHash) -> u64 {
        self.hashes.hash_one(key.prefix_u64())
    }

    fn number(&self, key: &KeyHash) -> Option<usize> {
        if self.ordered {
            return self.slots.binary_search_by(|slot| slot.key.cmp(key)).ok();
        }
        let same = |&number: &u32| self.slots.get(number as usize).is_some_and(|it| it.key == *key);
        let found = self.table.find(self.hash(key), same);
        found.map(|&number| number as usize)
    }

    fn now(&self, slot: &Slot) -> Now {
        let Packed(word) = slot.now;
        match word & 7 {
            Packed::HERE => Now::Here((word >> 3) as u32),
            Packed::GONE => {
                let before = self.befores.get((word >> 3) as usize).copied();
                Now::Gone { before: before.unwrap_or(KeyHash([0; 32])) }
            }
            _ => Now::At(LogPosition(word)),
        }
    }

    /// What the block made of a key; `None` if it does not name it.
    pub fn get(&self, key: &KeyHash) -> Option<Now> {
        Some(self.now(self.slots.get(self.number(key)?)?))
    }

    /// Where a key is, once the layer is settled; `None` if the block does not name it, or removed it.
    pub fn place(&self, key: &KeyHash) -> Option<Place> {
        let slot = self.slots.get(self.number(key)?)?;
        (slot.now.0 & 7 == 0).then_some(Place { at: LogPosition(slot.now.0), sn: slot.new_sn })
    }

    /// Gives a key another `now`; `old` is where it was before the block, if it is not named yet.
    fn set(&mut self, key: KeyHash, old: Option<Place>, now: Packed) {
        self.leave_order();
        self.order.clear();
        let Self { slots, table, hashes, .. } = self;
        let same = |&number: &u32| slots.get(number as usize).is_some_and(|it| it.key == key);
        let again = |&number: &u32| {
            hashes.hash_one(slots.get(number as usize).map_or(0, |slot| slot.key.prefix_u64()))
        };
        match table.entry(hashes.hash_one(key.prefix_u64()), same, again) {
            Entry::Occupied(number) => {
                if let Some(slot) = slots.get_mut(*number.get() as usize) {
                    slot.now = now;
                }
            }
            Entry::Vacant(place) => {
                place.insert(slots.len() as u32); // a run has less than 2^32 entries
                let Place { at, sn } = old.unwrap_or(NONE);
                slots.push(Slot { key, old: at.0, old_sn: sn, now, new_sn: SerialNumber(0) });
            }
        }
    }

    /// Notes that the key's entry is now number `entry` of the run; `old` is where it was before
    /// the block, if this is the block's first change of it.
    pub fn moved(&mut self, key: KeyHash, old: Option<Place>, entry: u32) {
        self.set(key, old, Packed::here(entry));
    }

    /// Notes that the key was absent and is now entry number `entry` of the run.
    pub fn created(&mut self, key: KeyHash, entry: u32) {
        self.moved(key, None, entry);
        self.created.insert(key);
    }

    /// Notes that the key is gone; `old` as for [`Layer::moved`], `before` its predecessor, which
    /// the caller rewrites in the same operation.
    pub fn removed(&mut self, key: KeyHash, old: Option<Place>, before: KeyHash) {
        let number = self.befores.len() as u32;
        self.befores.push(before);
        self.set(key, old, Packed::gone(number));
        self.created.remove(&key);
    }

    /// The greatest present key hash below `key`, given the one before the block.
    pub fn predecessor(&self, key: &KeyHash, before_block: KeyHash) -> KeyHash {
        let mut found = before_block;
        while let Some(Now::Gone { before }) = self.get(&found) {
            found = before;
        }
        match self.created_below(key) {
            Some(created) => found.max(created),
            None => found,
        }
    }

    /// As [`Layer::predecessor`], and makes the next walk over the same removed keys short.
    pub fn predecessor_mut(&mut self, key: &KeyHash, before_block: KeyHash) -> KeyHash {
        let end = self.shorten(before_block);
        match self.created_below(key) {
            Some(created) => end.max(created),
            None => end,
        }
    }

    /// The number in `befores` of a removed key.
    fn removal(&self, key: &KeyHash) -> Option<usize> {
        let slot = self.slots.get(self.number(key)?)?;
        slot.now.removed().map(|number| number as usize)
    }

    /// Walks from `key` over removed keys to the present one before them, and makes all of them lead
    /// there directly.
    fn shorten(&mut self, key: KeyHash) -> KeyHash {
        let mut end = key;
        let mut steps = Vec::new();
        while let Some(number) = self.removal(&end) {
            let Some(before) = self.befores.get(number) else { break };
            steps.push(number);
            end = *before;
        }
        if steps.len() > 1 {
            for number in steps {
                self.befores[number] = end;
            }
        }
        end
    }

    /// Turns entry numbers into places, once the record has its place, and makes every removed
    /// key lead to a present one directly: the blocks that ask from now on cannot.
    pub fn settle(&mut self, place_of: impl Fn(u32) -> Place) {
        let mut gone = Vec::new();
        for slot in &mut self.slots {
            let Packed(word) = slot.now;
            match word & 7 {
                Packed::HERE => {
                    let Place { at, sn } = place_of((word >> 3) as u32);
                    (slot.now, slot.new_sn) = (Packed(at.0), sn);
                }
                Packed::GONE => gone.push(slot.key),
                _ => {}
            }
        }
        // No way is walked twice: all along it is short then.
        for key in gone {
            self.shorten(key);
        }
    }

    /// Bytes of heap, as far as they can be told: those of `created` are an estimate.
    pub fn heap_bytes(&self) -> usize {
        /// A key hash, and its part of a node that is two thirds full.
        const CREATED: usize = size_of::<KeyHash>() + 24;
        self.slots.capacity() * size_of::<Slot>()
            + self.table.capacity() * (size_of::<u32>() + 2)
            + self.befores.capacity() * size_of::<KeyHash>()
            + self.order.capacity() * size_of::<u32>()
            + self.created.len() * CREATED
    }

    /// Finds the order of the keys ahead of [`edits`](Self::edits). Only after [`settle`](Self::settle).
    pub fn arrange(&mut self) {
        let slots = &self.slots;
        let key = |&number: &u32| slots.get(number as usize).map(|slot| &slot.key);
        let prefix = |number: &u32| key(number).map(KeyHash::prefix_u64);
        let mut order: Vec<u32> = (0..).zip(slots).map(|(number, _)| number).collect();
        order.sort_unstable_by(|a, b| prefix(a).cmp(&prefix(b)).then_with(|| key(a).cmp(&key(b))));
        self.order = order;
    }

    /// What the index has to learn, in key-hash order. Only after [`Layer::settle`].
    pub fn edits(&self) -> Vec<Edit> {
        let edit = |slot: &Slot| {
            let old = Place { at: LogPosition(slot.old), sn: slot.old_sn };
            let new = Place { at: LogPosition(slot.now.0), sn: slot.new_sn };
            Edit {
                key: slot.key,
                old: (slot.old != ABSENT).then_some(old),
                new: (slot.now.0 & 7 == 0).then_some(new),
            }
        };
        if self.order.len() == self.slots.len() {
            let slots = self.order.iter().filter_map(|&number| self.slots.get(number as usize));
            return slots.map(edit).collect();
        }
        let mut edits: Vec<Edit> = self.slots.iter().map(edit).collect();
        // Prefixes decide nearly always, and cost one comparison of numbers. Most keys are in order.
        edits.sort_unstable_by(|a, b| {
            let (a, b) = (&a.key, &b.key);
            a.prefix_u64().cmp(&b.prefix_u64()).then_with(|| a.cmp(b))
        });
        edits
    }
}

/// What the newest of `layers` (oldest first) that names `key` says of it.
pub fn newest<'a>(
    layers: impl DoubleEndedIterator<Item = &'a Layer>,
    key: &KeyHash,
) -> Option<Now> {
    layers.rev().find_map(|layer| layer.get(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer in order answers as one that is not, before it is settled and after, and when it is told more.
    #[test]
    fn a_layer_in_order_answers_as_any() {
        let mut any = Layer::default();
        let mut ordered = Layer::in_order(0);
        for byte in (10..200).step_by(10) {
            if byte % 40 == 10 {
                any.moved(key(byte), Some(place(8 * u64::from(byte))), u32::from(byte));
                ordered.in_order_moved(key(byte), place(8 * u64::from(byte)), u32::from(byte));
            } else {
                any.created(key(byte), 1);
                any.moved(key(byte), None, u32::from(byte));
                ordered.in_order_created(key(byte), 1);
                ordered.in_order_again(u32::from(byte));
            }
        }
        let same = |any: &Layer, ordered: &Layer| {
            for byte in 0..=255 {
                assert_eq!(any.get(&key(byte)), ordered.get(&key(byte)), "{byte}");
                let before = key(byte.saturating_sub(25));
                let found = any.predecessor(&key(byte), before);
                assert_eq!(found, ordered.predecessor(&key(byte), before), "{byte}");
            }
            let edits = |layer: &Layer| {
                layer.edits().iter().map(|it| (it.key, it.old, it.new)).collect::<Vec<_>>()
            };
            assert_eq!(edits(any), edits(ordered));
        };
        same(&any, &ordered);
        for layer in [&mut any, &mut ordered] {
            layer.settle(|entry| place(8_000 + 8 * u64::from(entry)));
        }
        same(&any, &ordered);
        for layer in [&mut any, &mut ordered] {
            layer.created(key(5), 700);
            layer.moved(key(50), None, 701);
            layer.removed(key(60), None, key(50));
        }
        same(&any, &ordered);
    }

    fn key(byte: u8) -> KeyHash {
        KeyHash([byte; 32])
    }

    /// What lies at a position, its serial number made up.
    fn place(at: u64) -> Place {
        Place { at: LogPosition(at), sn: SerialNumber(at / 8 + 1) }
    }

    #[test]
    fn predecessors_skip_what_was_removed_and_see_what_was_created() {
        // Before the block: 0, 10, 20, 30, 40.
        let mut layer = Layer::default();
        // Removed from above: 30 (before 20), 20 (before 10), 10 (before 0).
        for (i, (gone, before)) in [(30, 20), (20, 10), (10, 0)].into_iter().enumerate() {
            layer.removed(key(gone), Some(place(8 * u64::from(gone))), key(before));
            layer.moved(key(before), Some(place(8 * u64::from(before))), i as u32);
            layer.removed(key(gone), None, key(before));
        }
        assert_eq!(layer.predecessor(&key(40), key(30)), key(0));
        assert_eq!(layer.predecessor_mut(&key(40), key(30)), key(0));
        assert_eq!(layer.get(&key(30)), Some(Now::Gone { before: key(0) }), "the walk got shorter");
        layer.created(key(35), 9);
        assert_eq!(layer.predecessor(&key(40), key(30)), key(35));
        assert_eq!(layer.predecessor(&key(35), key(30)), key(0), "strictly below");
        layer.removed(key(35), None, key(0));
        assert_eq!(layer.predecessor(&key(40), key(30)), key(0));
    }

    /// The example of the module's comment.
    #[test]
    fn the_key_before_another_through_two_layers() {
        let at = |byte: u8| Some(place(8 * u64::from(byte)));
        let mut first = Layer::default();
        first.removed(key(30), at(30), key(20));
        first.moved(key(20), at(20), 0);
        first.created(key(25), 1);
        first.settle(|entry| place(800 + 8 * u64::from(entry)));
        let mut second = Layer::default();
        second.removed(key(25), Some(place(808)), key(20));
        second.moved(key(20), Some(place(800)), 0);
        second.removed(key(20), None, key(10));
        second.moved(key(10), at(10), 1);
        second.settle(|entry| place(1600 + 8 * u64::from(entry)));
        for answer in [30, 25] {
            let between = first.predecessor(&key(40), key(answer));
            assert_eq!(between, key(25), "{answer}");
            assert_eq!(second.predecessor(&key(40), between), key(10));
        }
    }

    /// C8: keys deleted from above, one after the other, make a chain as long as they are many. A frozen
    /// layer has none: every look-up for the next blocks would walk it.
    #[test]
    fn a_settled_layer_has_no_chains() {
        let hash = |number: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            KeyHash(bytes)
        };
        const COUNT: u32 = 100_000;
        let mut layer = Layer::default();
        for number in (1..=COUNT).rev() {
            layer.removed(hash(number), Some(place(8)), hash(number - 1));
        }
        layer.moved(hash(0), Some(place(0)), 0);
        // One in the middle comes back: those above it end there.
        layer.created(hash(COUNT / 2), 1);
        layer.settle(|_| place(8));
        for number in 1..=COUNT {
            let before = match number {
                _ if number == COUNT / 2 => continue,
                _ if number > COUNT / 2 => hash(COUNT / 2),
                _ => hash(0),
            };
            assert_eq!(layer.get(&hash(number)), Some(Now::Gone { before }), "{number}");
        }
        assert_eq!(layer.predecessor(&KeyHash::MAX, hash(COUNT)), hash(COUNT / 2));
    }

    #[test]
    fn edits_name_the_first_old_and_the_last_new_place() {
        let mut layer = Layer::default();
        layer.moved(key(2), Some(place(16)), 0);
        layer.moved(key(2), Some(place(999)), 1);
        layer.created(key(1), 2);
        layer.created(key(3), 3);
        layer.removed(key(3), None, key(2));
        layer.settle(|entry| place(1000 + 8 * u64::from(entry)));
        let edits: Vec<_> = layer.edits().iter().map(|e| (e.key, e.old, e.new)).collect();
        assert_eq!(
            edits,
            [
                (key(1), None, Some(place(1016))),
                (key(2), Some(place(16)), Some(place(1008))),
                (key(3), None, None),
            ]
        );
        // Whether their order was found ahead or not, and also if more is told then.
        let all = |layer: &Layer| -> Vec<_> {
            layer.edits().iter().map(|e| (e.key, e.old, e.new)).collect()
        };
        layer.arrange();
        assert_eq!(all(&layer), edits);
        layer.created(key(0), 9);
        layer.settle(|entry| place(1000 + 8 * u64::from(entry)));
        assert_eq!(all(&layer)[0], (key(0), None, Some(place(1072))));
        assert_eq!(all(&layer)[1..], edits);
    }
}
