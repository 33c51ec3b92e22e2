//! All parts of the cache, and the bytes that they may take together.
//!
//! ```text
//!   hash ── upper bits ──► part 0   part 1   …   part n        a lock each
//!                            │        │            │
//!                            └────────┴────────────┴──► used ≤ limit
//! ```
//!
//! Whoever wants several parts locks them in ascending order, so nobody waits in a circle, and writes that share two
//! parts come in the same order in both. Whoever holds all of them is alone.

use crate::heap::HeapBytes;
use crate::part::Part;
use crate::sync::{Mutex, MutexGuard};
use hashbrown::DefaultHashBuilder;
use std::hash::{BuildHasher, Hash};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Most parts.
const MOST: u64 = 64;
/// Bytes of the limit for which there is a part: a part has some fixed bytes of its own.
const BYTES_OF_A_PART: u64 = 1 << 20;
/// Evictions after which a part is left for the next one.
const EVICTED_AT_ONCE: usize = 32;

/// More than any machine has: sums of some of them are numbers of 64 bits.
const GREATEST_LIMIT: u64 = 1 << 56;

/// The bytes that are used, those that are promised to writes included, and their limit.
#[derive(Debug)]
pub(crate) struct Room {
    used: AtomicU64,
    limit: AtomicU64,
}

impl Room {
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    pub(crate) fn set_limit(&self, bytes: u64) {
        self.limit.store(bytes.min(GREATEST_LIMIT), Relaxed);
    }

    fn is_over(&self) -> bool {
        self.used() > self.limit()
    }

    /// Every change is an addition or a subtraction of what its caller knows exactly: none is lost.
    fn changed(&self, before: u64, after: u64) {
        if after > before {
            self.used.fetch_add(after - before, Relaxed);
        } else if before > after {
            self.used.fetch_sub(before - after, Relaxed);
        }
    }
}

/// Bytes that are promised to a write, until it is done.
#[derive(Debug)]
pub(crate) struct Promise<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.room.changed(self.bytes, 0);
    }
}

#[derive(Debug)]
pub(crate) struct Parts<K, V> {
    parts: Vec<Mutex<Part<K, V>>>,
    hasher: DefaultHashBuilder,
    room: Room,
    /// Where evicting goes on.
    hand: AtomicUsize,
}

/// A part that is locked; what it takes is noted when it is let go.
#[derive(Debug)]
pub(crate) struct Locked<'a, K, V> {
    part: MutexGuard<'a, Part<K, V>>,
    before: u64,
    room: &'a Room,
}

impl<K, V> Deref for Locked<'_, K, V> {
    type Target = Part<K, V>;

    fn deref(&self) -> &Part<K, V> {
        &self.part
    }
}

impl<K, V> DerefMut for Locked<'_, K, V> {
    fn deref_mut(&mut self) -> &mut Part<K, V> {
        &mut self.part
    }
}

impl<K, V> Drop for Locked<'_, K, V> {
    fn drop(&mut self) {
        self.room.changed(self.before, self.part.bytes());
    }
}

impl<K, V> Parts<K, V> {
    pub(crate) const fn room(&self) -> &Room {
        &self.room
    }

    pub(crate) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Locks a part, if there are that many.
    pub(crate) fn lock(&self, part: usize) -> Option<Locked<'_, K, V>> {
        let part = self.parts.get(part)?.lock();
        Some(Locked { before: part.bytes(), part, room: &self.room })
    }

    /// Locks all parts.
    pub(crate) fn lock_all(&self) -> Vec<Locked<'_, K, V>> {
        (0..self.len()).filter_map(|part| self.lock(part)).collect()
    }

    /// The part of a hash: from bits that the index of a part does not use first.
    pub(crate) fn part_of(&self, hash: u64) -> usize {
        (hash >> 40) as usize % self.len().max(1)
    }
}

impl<K: Hash + Eq + Clone + HeapBytes, V: Clone + HeapBytes> Parts<K, V> {
    pub(crate) fn new(limit: u64, keep_deleted: bool) -> Self {
        let hasher = DefaultHashBuilder::default();
        let count = (limit / BYTES_OF_A_PART).clamp(1, MOST);
        let parts: Vec<_> =
            (0..count).map(|_| Mutex::new(Part::new(hasher.clone(), keep_deleted))).collect();
        let used = parts.iter().map(|part| part.lock().bytes()).sum();
        let room = Room { used: AtomicU64::new(used), limit: AtomicU64::new(0) };
        room.set_limit(limit);
        Self { parts, hasher, room, hand: AtomicUsize::new(0) }
    }

    pub(crate) fn hash(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Promises so many bytes, for which clean values go if they must; `None` if that is not enough. `evicted` is
    /// told how many went.
    pub(crate) fn promise(&self, bytes: u64, evicted: impl FnMut(u64)) -> Option<Promise<'_>> {
        if bytes > self.room.limit() {
            return None;
        }
        self.room.changed(0, bytes);
        let promise = Promise { room: &self.room, bytes };
        self.evict_over(evicted);
        (!self.room.is_over()).then_some(promise)
    }

    /// Evicts clean values until the limit is kept or none is left.
    pub(crate) fn evict_over(&self, mut evicted: impl FnMut(u64)) {
        let mut without = 0;
        while self.room.is_over() && without < self.len() {
            let part = self.hand.fetch_add(1, Relaxed) % self.len().max(1);
            let Some(mut part) = self.lock(part) else { return };
            let gone =
                (0..EVICTED_AT_ONCE).take_while(|_| !part.keeps_limit(0) && part.evict()).count();
            without = if gone == 0 { without + 1 } else { 0 };
            evicted(gone as u64);
        }
    }

    /// Evicts every clean value.
    pub(crate) fn evict_all(&self, mut evicted: impl FnMut(u64)) {
        for part in 0..self.len() {
            let Some(mut part) = self.lock(part) else { return };
            let mut gone = 0;
            while part.evict() {
                gone += 1;
            }
            evicted(gone);
        }
    }
}

impl<K: Hash + Eq + Clone + HeapBytes, V: Clone + HeapBytes> Locked<'_, K, V> {
    /// Whether the limit is kept with so many bytes more.
    pub(crate) fn keeps_limit(&self, more: u64) -> bool {
        let others = self.room.used().saturating_sub(self.before);
        others.saturating_add(self.part.bytes()).saturating_add(more) <= self.room.limit()
    }
}
