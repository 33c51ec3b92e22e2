//! A part of the cache: the keys of one share of all hashes, behind one lock.
//!
//! ```text
//!   index        hash ──► place of the newest slot of a key
//!                            │
//!   slots        ┌───────────▼──────────────┐
//!   (Arena)      │ 7 │ key a │ v2 │ Dirty   │ older ──► │ 3 │ key a │ v1 │ Dirty │   of a closed epoch
//!                └──────────────────────────┘
//!   lists        clean    oldest ◄──► … ◄──► youngest      evicted from the left
//!                open     what the open epoch has written
//!                closed   the same of each closed epoch, until it is durable
//! ```
//!
//! # Invariants
//!
//! * Every slot is in exactly one list: `clean` if it is clean, else that of the epoch in which its sequence number
//!   lies. So a list *is* the net effect of its epoch, and nothing is searched for a flush.
//! * The index has each key once, at its newest slot. From there `older` leads to slots of ever earlier epochs. A
//!   clean slot has no older one.
//! * A slot of a closed epoch never changes until that epoch is durable; new values of its key lie above it.
//! * Whatever changes a slot's state is a row of the table in `state.rs`.

use crate::arena::{Arena, NONE};
use crate::heap::HeapBytes;
use crate::op::{Effect, Kind, Op, Previous, Was};
use crate::state::{Event, State, Transition};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};

#[derive(Debug)]
struct Slot<K, V> {
    key: K,
    /// The value; of a deleted key, the one that lies below where it is kept.
    value: Option<V>,
    /// Of the last write. Of a clean slot it means nothing.
    seq: u64,
    /// The next older slot of the key.
    older: u32,
    /// Neighbours in the list.
    before: u32,
    after: u32,
    kind: Kind,
}

/// A list through the slots.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
    len: u64,
}

impl List {
    const EMPTY: Self = Self { first: NONE, last: NONE, len: 0 };
}

/// What a closed epoch has written.
#[derive(Debug)]
struct Closed {
    /// Its sequence numbers are below this one.
    end: u64,
    list: List,
}

/// What the cache knows of a key.
#[derive(Debug)]
pub(crate) enum Found<V> {
    /// The value, or that there is none.
    Known(Option<V>, State),
    /// Nothing, at this generation.
    Unknown(u64),
}

/// Why an operation was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Exists,
    Missing,
    /// The backing must be asked.
    Ask,
    /// No place is left.
    Places,
}

/// An epoch whose effects are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    OldestClosed,
    Open,
}

/// What [`Part::settle`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) values: u64,
    pub(crate) deletions: u64,
    /// There may be more to be done.
    pub(crate) more: bool,
}

#[derive(Debug)]
pub(crate) struct Part<K, V> {
    slots: Arena<Slot<K, V>>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    clean: List,
    open: List,
    closed: VecDeque<Closed>,
    /// Sequence numbers from here on are of the open epoch.
    open_from: u64,
    /// How often something here became durable: what was read from the backing before may be older than that.
    generation: u64,
    /// Bytes of keys and values outside of the slots.
    heap: u64,
    keep_deleted: bool,
}

/// Bytes of an index that holds so many, by hashbrown's rule: a power of two of buckets, at most 7/8 full, five
/// bytes each.
fn index_bytes(keys: u64) -> u64 {
    let buckets =
        keys.saturating_mul(8).div_ceil(7).max(4).checked_next_power_of_two().unwrap_or(u64::MAX);
    buckets.saturating_mul((size_of::<u32>() + 1) as u64).saturating_add(32)
}

impl<K, V> Part<K, V> {
    /// Bytes that all of it takes.
    pub(crate) fn bytes(&self) -> u64 {
        Arena::<Slot<K, V>>::place_bytes(u64::from(self.slots.places()))
            .saturating_add(Arena::<Slot<K, V>>::SPARE_BYTES)
            .saturating_add(self.index.allocation_size() as u64)
            .saturating_add(self.heap)
    }
}

impl<K: Hash + Eq + Clone + HeapBytes, V: Clone + HeapBytes> Part<K, V> {
    pub(crate) fn new(hasher: DefaultHashBuilder, keep_deleted: bool) -> Self {
        Self {
            slots: Arena::new(),
            index: HashTable::new(),
            hasher,
            clean: List::EMPTY,
            open: List::EMPTY,
            closed: VecDeque::new(),
            open_from: 0,
            generation: 0,
            heap: 0,
            keep_deleted,
        }
    }

    /// At most so many bytes more are there when `slots` slots and `heap` bytes outside of them have come.
    pub(crate) fn growth(&self, slots: u64, heap: u64) -> u64 {
        let keys = slots.saturating_add(self.index.len() as u64);
        // As hashbrown does it: places of keys that went are cleared up if the table is half empty, else it grows.
        let full = self.index.num_buckets() as u64 * 7 / 8;
        let index = if keys <= self.index.capacity() as u64 || keys <= full / 2 {
            0
        } else {
            index_bytes(keys.max(full + 1)).saturating_sub(self.index.allocation_size() as u64)
        };
        let places = slots.saturating_sub(u64::from(self.slots.holes()));
        Arena::<Slot<K, V>>::place_bytes(places).saturating_add(index).saturating_add(heap)
    }

    /// Keys of the open epoch, of the closed ones, and clean ones.
    pub(crate) fn counts(&self) -> [u64; 3] {
        [self.open.len, self.closed.iter().map(|closed| closed.list.len).sum(), self.clean.len]
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn state(&self, hash: u64, key: &K) -> State {
        self.state_at(self.find(hash, key))
    }

    /// What is known of a key; a clean value becomes the youngest.
    pub(crate) fn get(&mut self, hash: u64, key: &K) -> Found<V> {
        let Some(place) = self.find(hash, key) else { return Found::Unknown(self.generation) };
        let state = self.state_at(Some(place));
        if state == State::Clean {
            self.unlink(place);
            self.link(place);
        }
        match self.slots.get(place) {
            Some(Slot { kind: Kind::Deleted, .. }) => Found::Known(None, state),
            Some(Slot { value, .. }) => Found::Known(value.clone(), state),
            None => Found::Unknown(self.generation),
        }
    }

    /// Keeps what was read from the backing at a generation, unless more is known by now.
    pub(crate) fn load(&mut self, hash: u64, key: &K, value: &V, generation: u64) {
        let known = self.state(hash, key).after(Event::Load) != Transition::To(State::Clean);
        if known || generation != self.generation {
            return;
        }
        self.push(hash, key, Kind::Clean, Some(value.clone()), 0, NONE);
    }

    /// Applies one operation; gives it back if it cannot be. `below` is what the backing has for the key, where
    /// that was asked and is still so.
    ///
    /// Returns what takes it back, and whether something of the open epoch is left.
    pub(crate) fn apply(
        &mut self,
        hash: u64,
        key: &K,
        op: Op<V>,
        seq: u64,
        below: Option<Option<&V>>,
    ) -> Result<(Previous<V>, bool), (Op<V>, Stop)> {
        let newest = self.find(hash, key);
        let state = self.state_at(newest);
        let mut loaded = None;
        let transition = match (state.after(op.event()), below) {
            (Transition::AskBelow, None) => return Err((op, Stop::Ask)),
            (Transition::AskBelow, Some(None)) => State::FlushingDeleted.after(op.event()),
            (Transition::AskBelow, Some(Some(value))) => {
                loaded = Some(value);
                State::Clean.after(op.event())
            }
            (transition, _) => transition,
        };
        let next = match transition {
            Transition::Exists => return Err((op, Stop::Exists)),
            Transition::Missing | Transition::AskBelow => return Err((op, Stop::Missing)),
            Transition::Stays => return Ok(self.stay(newest, seq)),
            Transition::Below => return Ok((self.drop_newest(hash, newest), false)),
            Transition::To(State::Fresh) => Kind::Fresh,
            Transition::To(State::Deleted) => Kind::Deleted,
            Transition::To(_) => Kind::Dirty,
        };
        let in_place = matches!(state, State::Clean | State::Dirty | State::Fresh | State::Deleted);
        if !in_place && self.is_full() {
            return Err((op, Stop::Places));
        }
        // What lies below, if the key is to be deleted and that shall be kept.
        let kept = || match (state, newest) {
            (State::Clean | State::Flushing, Some(place)) => self.slots.get(place)?.value.clone(),
            _ => loaded.cloned(),
        };
        let keep = next == Kind::Deleted && self.keep_deleted;
        let value = if keep { kept() } else { op.into_value() };
        let previous = match newest {
            Some(place) if in_place => self.replace(place, next, value, seq),
            older => {
                let flushing =
                    || self.slots.get(older.filter(|_| state == State::Flushing)?)?.value.clone();
                let (was, replaced) = match loaded {
                    Some(value) => (Was::Slot(Kind::Clean), Some(value.clone())),
                    None => (Was::Nothing, flushing()),
                };
                self.push(hash, key, next, value, seq, older.unwrap_or(NONE));
                Previous { was, value: replaced, seq: 0 }
            }
        };
        Ok((previous, true))
    }

    /// Takes back the last operation on a key, in the epoch in which it was applied. Returns the value that it
    /// wrote.
    pub(crate) fn revert(&mut self, hash: u64, key: &K, previous: Previous<V>) -> Option<V> {
        let newest = self.find(hash, key);
        let open = newest.filter(|&place| self.is_open(place));
        let Previous { was, value, seq } = previous;
        let undone = match (was, open) {
            (Was::Untouched, _) | (Was::Nothing, None) => return None,
            (Was::Nothing, Some(_)) => self.drop_newest(hash, open),
            (Was::Slot(kind), Some(place)) => self.replace(place, kind, value, seq),
            // Not after a create that was true: nothing is below to be loaded.
            (Was::Slot(kind), None) if self.state_at(newest) == State::Clean => {
                newest.map(|place| self.replace(place, kind, value, seq));
                return None;
            }
            (Was::Slot(kind), None) => {
                self.push(hash, key, kind, value, seq, newest.unwrap_or(NONE));
                return None;
            }
        };
        // The kept value of a deleted key is not what was written.
        if undone.was == Was::Slot(Kind::Deleted) { None } else { undone.value }
    }

    /// Whether the open epoch has of a key what the write of this number left.
    pub(crate) fn is_as_left(&self, hash: u64, key: &K, seq: u64, left: bool) -> bool {
        let open = self.find(hash, key).filter(|&place| self.is_open(place));
        match open.and_then(|place| self.slots.get(place)) {
            Some(slot) => left && slot.seq == seq,
            None => !left,
        }
    }

    /// Whether a write of this number is of the open epoch.
    pub(crate) const fn is_of_open_epoch(&self, seq: u64) -> bool {
        seq >= self.open_from
    }

    /// Closes the open epoch; the next one begins with this number. Returns how many keys it wrote.
    pub(crate) fn close(&mut self, next: u64) -> u64 {
        let list = std::mem::replace(&mut self.open, List::EMPTY);
        self.closed.push_back(Closed { end: next, list });
        self.open_from = next;
        list.len
    }

    /// At most `most` effects of the oldest closed epoch, or of the open one, from behind that of `after` on.
    pub(crate) fn effects(
        &self,
        of: Which,
        after: Option<(u64, &K)>,
        most: usize,
    ) -> Vec<(K, Effect<V>)> {
        let mut effects = Vec::new();
        let (end, list) = match (of, self.closed.front()) {
            (Which::Open, _) => (u64::MAX, self.open),
            (Which::OldestClosed, Some(closed)) => (closed.end, closed.list),
            (Which::OldestClosed, None) => return effects,
        };
        let mut place = match after {
            None => list.first,
            Some((hash, key)) => {
                let slot = self.slot_of(hash, key, end);
                slot.map_or(NONE, |slot| slot.after)
            }
        };
        while let Some(slot) = self.slots.get(place).filter(|_| effects.len() < most) {
            let effect = match (slot.kind, &slot.value) {
                (Kind::Dirty | Kind::Fresh, Some(value)) => {
                    Effect::Put { value: value.clone(), fresh: slot.kind == Kind::Fresh }
                }
                (_, old) => Effect::Delete { old: old.clone() },
            };
            effects.push((slot.key.clone(), effect));
            place = slot.after;
        }
        effects
    }

    /// Makes at most `most` keys of the oldest closed epoch clean, which is durable now: what is newer stays, what
    /// was deleted goes.
    pub(crate) fn settle(&mut self, most: usize) -> Settled {
        self.generation += 1;
        let mut settled = Settled { values: 0, deletions: 0, more: true };
        for _ in 0..most {
            let place = self.closed.front().map_or(NONE, |closed| closed.list.first);
            let newest = self.newest_of(place) == Some(place);
            match self.state_at(Some(place)).after(Event::Durable) {
                Transition::To(_) => settled.values += 1,
                Transition::Below => settled.deletions += 1,
                _ => {
                    self.closed.pop_front();
                    settled.more = false;
                    break;
                }
            }
            match self.slots.get(place) {
                Some(Slot { kind: Kind::Dirty | Kind::Fresh, .. }) if newest => {
                    self.unlink(place);
                    if let Some(slot) = self.slots.get_mut(place) {
                        slot.kind = Kind::Clean;
                    }
                    self.link(place);
                }
                _ => self.remove(place),
            }
        }
        settled
    }

    /// Drops the clean value that was not asked for the longest. Returns whether there was one.
    pub(crate) fn evict(&mut self) -> bool {
        let place = self.clean.first;
        if self.state_at((place != NONE).then_some(place)).after(Event::Evict) != Transition::Below
        {
            return false;
        }
        self.remove(place);
        true
    }

    /// Forgets everything; what is written next has this number.
    pub(crate) fn reset(&mut self, next: u64) {
        self.open_from = next;
        self.slots.clear();
        self.index = HashTable::new();
        self.clean = List::EMPTY;
        self.open = List::EMPTY;
        self.closed.clear();
        self.heap = 0;
        self.generation += 1;
    }

    fn is_full(&self) -> bool {
        self.slots.places() >= NONE - 1
    }

    fn find(&self, hash: u64, key: &K) -> Option<u32> {
        let same = |&place: &u32| self.slots.get(place).is_some_and(|slot| slot.key == *key);
        self.index.find(hash, same).copied()
    }

    fn is_open(&self, place: u32) -> bool {
        let open = |slot: &Slot<K, V>| slot.kind != Kind::Clean && slot.seq >= self.open_from;
        self.slots.get(place).is_some_and(open)
    }

    fn state_at(&self, place: Option<u32>) -> State {
        let Some(slot) = place.and_then(|place| self.slots.get(place)) else {
            return State::Unknown;
        };
        match (slot.kind, slot.seq >= self.open_from) {
            (Kind::Clean, _) => State::Clean,
            (Kind::Dirty, true) => State::Dirty,
            (Kind::Fresh, true) => State::Fresh,
            (Kind::Deleted, true) => State::Deleted,
            (Kind::Dirty | Kind::Fresh, false) => State::Flushing,
            (Kind::Deleted, false) => State::FlushingDeleted,
        }
    }

    fn hash_at(&self, place: u32) -> u64 {
        self.slots.get(place).map_or(0, |slot| self.hasher.hash_one(&slot.key))
    }

    /// The newest slot of the key of the slot at `place`.
    fn newest_of(&self, place: u32) -> Option<u32> {
        let slot = self.slots.get(place)?;
        self.find(self.hasher.hash_one(&slot.key), &slot.key)
    }

    /// The slot of a key with a sequence number below `end`.
    fn slot_of(&self, hash: u64, key: &K, end: u64) -> Option<&Slot<K, V>> {
        let mut slot = self.slots.get(self.find(hash, key)?)?;
        while slot.seq >= end || slot.kind == Kind::Clean {
            slot = self.slots.get(slot.older)?;
        }
        Some(slot)
    }

    /// An operation that changes nothing but that it was the last.
    fn stay(&mut self, newest: Option<u32>, seq: u64) -> (Previous<V>, bool) {
        let open = newest.filter(|&place| self.is_open(place));
        match open.and_then(|place| self.slots.get_mut(place)) {
            Some(slot) => {
                let was = Was::Slot(slot.kind);
                let previous = Previous { was, value: slot.value.clone(), seq: slot.seq };
                slot.seq = seq;
                (previous, true)
            }
            None => (Previous { was: Was::Untouched, value: None, seq: 0 }, false),
        }
    }

    /// Another kind and value in the newest slot of a key, which is clean or open, and stays one of these.
    fn replace(&mut self, place: u32, kind: Kind, value: Option<V>, seq: u64) -> Previous<V> {
        self.unlink(place);
        let Some(slot) = self.slots.get_mut(place) else {
            return Previous { was: Was::Nothing, value: None, seq: 0 };
        };
        let previous =
            Previous { was: Was::Slot(slot.kind), value: slot.value.take(), seq: slot.seq };
        self.heap = self
            .heap
            .saturating_sub(previous.value.heap_bytes() as u64)
            .saturating_add(value.heap_bytes() as u64);
        (slot.kind, slot.value, slot.seq) = (kind, value, seq);
        self.link(place);
        previous
    }

    /// A new newest slot of a key.
    fn push(&mut self, hash: u64, key: &K, kind: Kind, value: Option<V>, seq: u64, older: u32) {
        let heap = key.heap_bytes().saturating_add(value.heap_bytes()) as u64;
        let slot = Slot { key: key.clone(), value, seq, older, before: NONE, after: NONE, kind };
        // Those that cannot do without a place ask first; what is clean need not be here.
        let Ok(place) = self.slots.push(slot) else { return };
        self.heap = self.heap.saturating_add(heap);
        match self.index.find_mut(hash, |&found| found == older) {
            Some(found) if older != NONE => *found = place,
            _ => {
                let Self { slots, hasher, .. } = self;
                let rehash =
                    |&place: &u32| slots.get(place).map_or(0, |slot| hasher.hash_one(&slot.key));
                self.index.insert_unique(hash, place, rehash);
            }
        }
        self.link(place);
    }

    /// Takes the newest slot of a key away: what is older shows.
    fn drop_newest(&mut self, hash: u64, newest: Option<u32>) -> Previous<V> {
        match newest.and_then(|place| self.take(place, hash)) {
            Some(slot) => Previous { was: Was::Slot(slot.kind), value: slot.value, seq: slot.seq },
            None => Previous { was: Was::Nothing, value: None, seq: 0 },
        }
    }

    fn remove(&mut self, place: u32) {
        self.take(place, self.hash_at(place));
    }

    /// Takes a slot, whose key has this hash, out of everything that leads to it.
    fn take(&mut self, place: u32, hash: u64) -> Option<Slot<K, V>> {
        self.unlink(place);
        let older = self.slots.get(place)?.older;
        self.point(hash, place, place, older);
        let slot = self.slots.remove(place)?;
        let heap = slot.key.heap_bytes().saturating_add(slot.value.heap_bytes()) as u64;
        self.heap = self.heap.saturating_sub(heap);
        while let Some((from, to)) = self.slots.settle() {
            self.follow(from, to);
        }
        self.shrink_index();
        Some(slot)
    }

    /// What leads to `from`, the index or a newer slot, leads to `to` instead; a slot of the same key, with this hash, is at
    /// `at`.
    fn point(&mut self, hash: u64, at: u32, from: u32, to: u32) {
        if let Ok(entry) = self.index.find_entry(hash, |&place| place == from) {
            if to == NONE {
                entry.remove();
            } else {
                *entry.into_mut() = to;
            }
            return;
        }
        let mut newer = self.newest_of(at);
        while let Some(slot) = newer.and_then(|place| self.slots.get_mut(place)) {
            if slot.older == from {
                slot.older = to;
                return;
            }
            newer = Some(slot.older);
        }
    }

    /// The slot that was at `from` is at `to` now.
    fn follow(&mut self, from: u32, to: u32) {
        self.point(self.hash_at(to), to, from, to);
        let Some(&Slot { before, after, .. }) = self.slots.get(to) else { return };
        match self.slots.get_mut(before) {
            Some(slot) => slot.after = to,
            None => self.with_list(to, |list| list.first = to),
        }
        match self.slots.get_mut(after) {
            Some(slot) => slot.before = to,
            None => self.with_list(to, |list| list.last = to),
        }
    }

    /// The list of a slot, by its kind and its sequence number.
    fn with_list(&mut self, place: u32, change: impl FnOnce(&mut List)) {
        let Some(slot) = self.slots.get(place) else { return };
        let list = match slot.kind {
            Kind::Clean => Some(&mut self.clean),
            _ if slot.seq >= self.open_from => Some(&mut self.open),
            _ => {
                let of = |closed: &&mut Closed| slot.seq < closed.end;
                self.closed.iter_mut().find(of).map(|closed| &mut closed.list)
            }
        };
        if let Some(list) = list {
            change(list);
        }
    }

    /// Puts a slot at the young end of its list.
    fn link(&mut self, place: u32) {
        let mut last = NONE;
        self.with_list(place, |list| {
            last = std::mem::replace(&mut list.last, place);
            if list.first == NONE {
                list.first = place;
            }
            list.len += 1;
        });
        if let Some(slot) = self.slots.get_mut(last) {
            slot.after = place;
        }
        if let Some(slot) = self.slots.get_mut(place) {
            (slot.before, slot.after) = (last, NONE);
        }
    }

    /// Takes a slot out of its list.
    fn unlink(&mut self, place: u32) {
        let Some(&Slot { before, after, .. }) = self.slots.get(place) else { return };
        if let Some(slot) = self.slots.get_mut(before) {
            slot.after = after;
        }
        if let Some(slot) = self.slots.get_mut(after) {
            slot.before = before;
        }
        self.with_list(place, |list| {
            if before == NONE {
                list.first = after;
            }
            if after == NONE {
                list.last = before;
            }
            list.len = list.len.saturating_sub(1);
        });
    }

    /// Gives the index's memory back when an eighth of it would do.
    fn shrink_index(&mut self) {
        let Self { slots, hasher, .. } = self;
        if self.index.capacity() >= 64 && self.index.len() * 8 < self.index.capacity() {
            let rehash =
                |&place: &u32| slots.get(place).map_or(0, |slot| hasher.hash_one(&slot.key));
            self.index.shrink_to(self.index.len() * 2, rehash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a part takes after so many more keys is never more than was said, with whatever went before, and not
    /// much less when a table has grown.
    #[test]
    fn growth_is_known_before() {
        let mut part: Part<u64, u64> = Part::new(DefaultHashBuilder::default(), false);
        let mut key = 0;
        let mut random = 1_u64;
        for _ in 0..4_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let more = (random >> 33) % 40;
            let promised = part.bytes() + part.growth(more, 0);
            for _ in 0..more {
                key += 1;
                let hash = part.hasher.hash_one(key);
                part.load(hash, &key, &key, part.generation());
            }
            assert!(part.bytes() <= promised, "{} bytes, {promised} promised", part.bytes());
            for _ in 0..(random >> 20) % 40 {
                part.evict();
            }
        }
        assert!(key > 50_000);
    }
}
