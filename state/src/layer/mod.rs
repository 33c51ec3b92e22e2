//! The edits of blocks that are accepted and not yet published.
//!
//! The index holds the published state. What later blocks changed lies above it in layers, one per
//! block in flight, each with one list per shard:
//!
//! ```text
//!   block being made       draft h+2   slots { key hash -> entry of this run | gone }          (draft.rs)
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
//! A layer is a list in key-hash order, and so are the keys that a block asks for: a [`Walk`] goes along both.
//!
//! Invariants:
//! * A layer's edits reach the index in one exclusive section, and a layer is dropped only after
//!   that. A look-up through the layers therefore answers the same whether or not the index has
//!   received a layer's edits already: every key that a layer names is answered by the layer.
//! * A removed key names the key `before` it after the block: that one is present.

mod draft;
mod present;

pub use draft::Draft;
pub(crate) use draft::Here;

use hedgerow_index::{Edit, Place};
use hedgerow_types::{KeyHash, LogPosition, SerialNumber};

/// Where a block left a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// In the entry at this position of the log.
    At(LogPosition),
    /// Removed.
    Gone {
        /// The key hash before it after the block.
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
    now: Packed,
    /// Its serial number once it is settled, unless it was removed.
    new_sn: SerialNumber,
}

/// No position.
const ABSENT: u64 = u64::MAX;

impl Slot {
    fn new(key: KeyHash, old: Option<Place>, now: Packed) -> Self {
        let Place { at, sn } =
            old.unwrap_or(Place { at: LogPosition(ABSENT), sn: SerialNumber(0) });
        Self { key, old: at.0, old_sn: sn, now, new_sn: SerialNumber(0) }
    }

    /// Where it was before the block.
    fn old(&self) -> Option<Place> {
        (self.old != ABSENT).then_some(Place { at: LogPosition(self.old), sn: self.old_sn })
    }

    /// Where it is after the block; only of a settled layer.
    fn new_place(&self) -> Option<Place> {
        self.now.position().map(|at| Place { at, sn: self.new_sn })
    }
}

/// Where a key is now, in 8 bytes. Positions are multiples of 8; the low bits tell the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64);

impl Packed {
    const HERE: u64 = 1;
    const GONE: u64 = 2;
    /// As [`HERE`](Self::HERE), for an operation of its own.
    const UPDATED: u64 = 3;
    /// The block has not changed it, so far.
    const UNTOUCHED: Self = Self(4);

    const fn here(entry: u32) -> Self {
        Self((entry as u64) << 3 | Self::HERE)
    }

    const fn updated(entry: u32) -> Self {
        Self((entry as u64) << 3 | Self::UPDATED)
    }

    const fn is_updated(self) -> bool {
        self.0 & 7 == Self::UPDATED
    }

    /// `number` is that of the key before it, in a settled layer.
    const fn gone(number: u32) -> Self {
        Self((number as u64) << 3 | Self::GONE)
    }

    const fn at(at: LogPosition) -> Self {
        Self(at.0)
    }

    const fn is_gone(self) -> bool {
        self.0 & 7 == Self::GONE
    }

    /// What it says in a draft.
    const fn draft(self) -> Option<Here> {
        match self.0 & 7 {
            Self::HERE | Self::UPDATED => Some(Here::In((self.0 >> 3) as u32)),
            Self::GONE => Some(Here::Gone),
            _ => None,
        }
    }

    /// The position that it names.
    const fn position(self) -> Option<LogPosition> {
        if self.0 & 7 == 0 { Some(LogPosition(self.0)) } else { None }
    }
}

/// The first 8 bytes of the keys of slots: what nearly every search looks at, next to each other.
fn prefixes(slots: &[Slot]) -> Vec<u64> {
    slots.iter().map(|slot| slot.key.prefix_u64()).collect()
}

/// The keys of one shard that one block changed, and where they are after it. Made by [`Draft::settle`].
///
/// ```
/// use hedgerow_state::{Draft, Layer};
/// // A block that changed nothing.
/// let layer: Layer = Draft::default().settle(|_| unreachable!("it has no entry"), |_, _, _| {});
/// assert!(layer.edits().is_empty());
/// ```
#[derive(Debug, Default)]
pub struct Layer {
    prefixes: Vec<u64>,
    /// In the order of their keys.
    slots: Vec<Slot>,
    /// The numbers of the slots of keys that the block created and that are present after it; ascending.
    created: Vec<u32>,
    /// The key before each removed one.
    befores: Vec<KeyHash>,
}

impl Layer {
    /// The number of the first slot whose key is not below `key`, where one may be that is not below `from`: all slots
    /// below `from` are below `key`, or it takes a little longer.
    fn lower_bound(&self, key: &KeyHash, from: usize) -> usize {
        let prefix = key.prefix_u64();
        let before = |number: usize| self.prefixes.get(number).is_some_and(|it| *it < prefix);
        let (mut low, mut high) = (0, self.prefixes.len());
        if from > 0 && from <= high && before(from - 1) {
            // Ahead in steps that double.
            (low, high) = (from, from);
            let mut step = 1;
            while before(high) {
                low = high + 1;
                high += step;
                step *= 2;
            }
            high = high.min(self.prefixes.len());
        }
        let mut number = low
            + self.prefixes.get(low..high).unwrap_or_default().partition_point(|it| *it < prefix);
        // Rarely one: they share 64 bits.
        while self.slots.get(number).is_some_and(|slot| slot.key < *key) {
            number += 1;
        }
        number
    }

    fn slot_at(&self, number: usize, key: &KeyHash) -> Option<&Slot> {
        self.slots.get(number).filter(|slot| slot.key == *key)
    }

    fn now(&self, slot: &Slot) -> Now {
        match slot.now.position() {
            Some(at) => Now::At(at),
            None => {
                let before = self.befores.get((slot.now.0 >> 3) as usize).copied();
                Now::Gone { before: before.unwrap_or(KeyHash([0; 32])) }
            }
        }
    }

    /// What the block made of a key; `None` if it does not name it.
    pub fn get(&self, key: &KeyHash) -> Option<Now> {
        self.slot_at(self.lower_bound(key, 0), key).map(|slot| self.now(slot))
    }

    /// Where a key is; `None` if the block does not name it, or removed it.
    pub fn place(&self, key: &KeyHash) -> Option<Place> {
        self.slot_at(self.lower_bound(key, 0), key).and_then(Slot::new_place)
    }

    /// The greatest key below that of the slot `number` that the block created and that is present after it.
    fn created_below(&self, number: usize) -> Option<KeyHash> {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let below = self.created.partition_point(|&created| created < number).checked_sub(1)?;
        let created = *self.created.get(below)?;
        self.slots.get(created as usize).map(|slot| slot.key)
    }

    /// The greatest present key hash below `key`, given the one before the block.
    pub fn predecessor(&self, key: &KeyHash, before_block: KeyHash) -> KeyHash {
        Walk::of(self).predecessor(key, before_block)
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.prefixes.capacity() * size_of::<u64>()
            + self.created.capacity() * size_of::<u32>()
            + self.befores.capacity() * size_of::<KeyHash>()
    }

    /// What the index has to learn, in key-hash order.
    pub fn edits(&self) -> Vec<Edit> {
        let edit = |slot: &Slot| Edit { key: slot.key, old: slot.old(), new: slot.new_place() };
        self.slots.iter().map(edit).collect()
    }
}

/// A layer that is asked for keys that ascend, more or less: each is looked for from the one before it on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Walk<'a> {
    layer: &'a Layer,
    /// Slots below the last key, and below the last one before a key.
    at: usize,
    before: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn of(layer: &'a Layer) -> Self {
        Self { layer, at: 0, before: 0 }
    }

    /// See [`Layer::get`].
    pub(crate) fn get(&mut self, key: &KeyHash) -> Option<Now> {
        self.at = self.layer.lower_bound(key, self.at);
        self.layer.slot_at(self.at, key).map(|slot| self.layer.now(slot))
    }

    /// See [`Layer::predecessor`].
    pub(crate) fn predecessor(&mut self, key: &KeyHash, before_block: KeyHash) -> KeyHash {
        self.at = self.layer.lower_bound(key, self.at);
        self.before = self.layer.lower_bound(&before_block, self.before);
        let slot = self.layer.slot_at(self.before, &before_block);
        let found = match slot.map(|slot| self.layer.now(slot)) {
            Some(Now::Gone { before }) => before,
            _ => before_block,
        };
        self.layer.created_below(self.at).map_or(found, |created| found.max(created))
    }
}

#[cfg(test)]
mod tests;
