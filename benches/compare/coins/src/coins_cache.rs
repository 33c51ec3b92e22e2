//! A cache of coins that works as Bitcoin Core's does (`CCoinsViewCache`), over anything that reads many and writes an epoch.
//!
//! ```text
//!   index: hash of the key ─► slot        slots, in pieces that never move
//!   ┌───┬───┬───┬───┐                     ┌─────────────────────────────────────┐
//!   │ 7 │   │ 2 │   │ ..                  │ key │ value, or spent │ DIRTY FRESH │ ..
//!   └───┴───┴───┴───┘                     └─────────────────────────────────────┘
//!
//!   fetch   asks below for what is not here                              ─► clean
//!   add     DIRTY, and FRESH if nothing is below
//!   spend   FRESH: gone without a trace; else DIRTY and spent
//!   flush   all that is DIRTY, in the order of keys, goes below as one epoch; then all is forgotten
//! ```
//!
//! * A **FRESH** entry has nothing below: when it is spent nobody has to hear of it.
//! * A **DIRTY** entry differs from what is below.
//! * When more memory is used than the limit, the whole cache is written and emptied. Nothing else is ever evicted.
//!
//! It is lighter than what it follows, to its favour: a coin is kept in its stored form and mostly without an allocation of its own, an
//! entry takes [`ENTRY_BYTES`] bytes and 5 of the index, and a block's changes need no view on top of their own.

use hashbrown::{DefaultHashBuilder, HashTable};
use hedgerow_coins::KEY_LEN;
use rayon::slice::ParallelSliceMut;
use smallvec::SmallVec;
use std::hash::BuildHasher;

/// A coin's name: `hedgerow_coins::key_of`.
pub type Key = [u8; KEY_LEN];
/// A coin in its stored form, which is never empty: `hedgerow_coins::Coin::encode`.
pub type Value = SmallVec<[u8; 32]>;
/// What an epoch does to a coin: its new value, or `None` where it is deleted.
pub type Change<'a> = (&'a Key, Option<&'a [u8]>);

/// Bytes of an entry.
pub const ENTRY_BYTES: usize = size_of::<Entry>();
/// Entries of a piece.
const PIECE: usize = 4096;

/// What lies below a [`CoinsCache`].
///
/// ```
/// use hedgerow_compare_coins::coins_cache::{Below, Change, Key, Value};
/// use std::collections::BTreeMap;
///
/// #[derive(Default)]
/// struct Map(BTreeMap<Key, Value>);
///
/// impl Below for Map {
///     type Error = std::convert::Infallible;
///     fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, Self::Error> {
///         Ok(keys.iter().map(|key| self.0.get(key).cloned()).collect())
///     }
///     fn write(&mut self, _: u32, changes: &mut dyn Iterator<Item = Change<'_>>) -> Result<(), Self::Error> {
///         for (key, value) in changes {
///             match value {
///                 Some(value) => self.0.insert(*key, value.into()),
///                 None => self.0.remove(key),
///             };
///         }
///         Ok(())
///     }
/// }
///
/// let mut cache = hedgerow_compare_coins::CoinsCache::new(Map::default(), 1 << 20);
/// assert!(cache.add([1; 36], Value::from_slice(b"coin"), false)?);
/// cache.flush(1)?;
/// assert_eq!(cache.below().0.len(), 1);
/// # Ok::<(), std::convert::Infallible>(())
/// ```
pub trait Below {
    /// Why something failed.
    type Error;

    /// The values of these keys, in their order.
    ///
    /// # Errors
    /// A failed read.
    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, Self::Error>;

    /// Writes what an epoch does, in the ascending order of keys, and the height up to which it goes: all or nothing, and durable on
    /// return.
    ///
    /// # Errors
    /// A failed write.
    fn write(
        &mut self,
        height: u32,
        changes: &mut dyn Iterator<Item = Change<'_>>,
    ) -> Result<(), Self::Error>;
}

/// What was counted. Nothing is decided by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Coins asked for that were here.
    pub hits: u64,
    /// Coins asked for that were not, and were asked for below.
    pub misses: u64,
    /// Coins that were made and spent within an epoch, so that nothing below heard of them.
    pub vanished: u64,
    /// Epochs.
    pub flushes: u64,
    /// Coins written by them.
    pub puts: u64,
    /// Coins deleted by them.
    pub deletes: u64,
}

const DIRTY: u8 = 1;
const FRESH: u8 = 2;

struct Entry {
    key: Key,
    flags: u8,
    /// Empty: spent, or a slot that is free.
    value: Value,
}

/// See the [module documentation](self).
pub struct CoinsCache<B> {
    below: B,
    limit: usize,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    pieces: Vec<Vec<Entry>>,
    /// Slots that were taken since all was forgotten.
    taken: usize,
    /// Those of them that are free again.
    free: Vec<u32>,
    /// Bytes of values that have an allocation of their own.
    heap: usize,
    counts: Counts,
}

/// What an allocation of so many bytes takes: with the 8 bytes before it, in steps of 16.
fn heap_of(value: &Value) -> usize {
    if value.spilled() { (value.capacity() + 8).next_multiple_of(16) } else { 0 }
}

fn entry(pieces: &[Vec<Entry>], slot: u32) -> Option<&Entry> {
    pieces.get(slot as usize / PIECE)?.get(slot as usize % PIECE)
}

fn entry_mut(pieces: &mut [Vec<Entry>], slot: u32) -> Option<&mut Entry> {
    pieces.get_mut(slot as usize / PIECE)?.get_mut(slot as usize % PIECE)
}

impl<B: Below> CoinsCache<B> {
    /// An empty cache that is to hold at most `limit` bytes.
    pub fn new(below: B, limit: usize) -> Self {
        Self {
            below,
            limit,
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            pieces: Vec::new(),
            taken: 0,
            free: Vec::new(),
            heap: 0,
            counts: Counts::default(),
        }
    }

    /// What lies below.
    pub const fn below(&self) -> &B {
        &self.below
    }

    /// What lies below.
    pub const fn below_mut(&mut self) -> &mut B {
        &mut self.below
    }

    /// What was counted.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Bytes that it uses: entries, index, values.
    pub fn used(&self) -> usize {
        let free = self.free.capacity() * size_of::<u32>();
        self.taken * ENTRY_BYTES + free + self.index.allocation_size() + self.heap
    }

    /// Whether it uses more than its limit, so that it is to be flushed.
    pub fn is_full(&self) -> bool {
        self.used() > self.limit
    }

    fn slot(&self, key: &Key) -> Option<u32> {
        let same = |slot: &u32| entry(&self.pieces, *slot).is_some_and(|entry| entry.key == *key);
        self.index.find(self.hasher.hash_one(key), same).copied()
    }

    /// The coin of this name, if it is here and not spent.
    pub fn cached(&self, key: &Key) -> Option<&[u8]> {
        let value = &entry(&self.pieces, self.slot(key)?)?.value;
        (!value.is_empty()).then_some(value.as_slice())
    }

    /// Asks below for those of these coins that are not here.
    ///
    /// # Errors
    /// A failed read.
    pub fn fetch(&mut self, keys: &[Key]) -> Result<(), B::Error> {
        let missing: Vec<Key> =
            keys.iter().filter(|key| self.slot(key).is_none()).copied().collect();
        self.counts.hits += (keys.len() - missing.len()) as u64;
        self.counts.misses += missing.len() as u64;
        if missing.is_empty() {
            return Ok(());
        }
        for (key, value) in missing.iter().zip(self.below.get_many(&missing)?) {
            // One that is asked for twice is here now.
            if let Some(value) = value
                && self.slot(key).is_none()
            {
                self.insert(Entry { key: *key, flags: 0, value });
            }
        }
        Ok(())
    }

    /// Spends a coin, and says what it was; `None` if there is none of this name.
    ///
    /// # Errors
    /// A failed read.
    pub fn spend(&mut self, key: &Key) -> Result<Option<Value>, B::Error> {
        let slot = match self.slot(key) {
            Some(slot) => slot,
            None => {
                self.fetch(std::slice::from_ref(key))?;
                let Some(slot) = self.slot(key) else { return Ok(None) };
                slot
            }
        };
        let found = entry_mut(&mut self.pieces, slot).filter(|entry| !entry.value.is_empty());
        let Some(found) = found else { return Ok(None) };
        let spent = std::mem::take(&mut found.value);
        self.heap -= heap_of(&spent);
        if found.flags & FRESH == 0 {
            found.flags |= DIRTY;
            return Ok(Some(spent));
        }
        let hash = self.hasher.hash_one(key);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        self.free.push(slot);
        self.counts.vanished += 1;
        Ok(Some(spent))
    }

    /// Adds a coin; `false`, and nothing is done, if there is one of this name here that is not spent, and it may not be overwritten. What is below is not
    /// asked: a coin that may not overwrite is taken to be new.
    ///
    /// # Errors
    /// None so far.
    pub fn add(&mut self, key: Key, value: Value, may_overwrite: bool) -> Result<bool, B::Error> {
        let Some(slot) = self.slot(&key) else {
            let flags = if may_overwrite { DIRTY } else { DIRTY | FRESH };
            self.insert(Entry { key, flags, value });
            return Ok(true);
        };
        let Some(old) = entry_mut(&mut self.pieces, slot) else { return Ok(false) };
        if !old.value.is_empty() && !may_overwrite {
            return Ok(false);
        }
        // Spent, and below it is not yet: not fresh.
        let fresh = if !may_overwrite && old.flags & DIRTY == 0 { FRESH } else { 0 };
        old.flags |= DIRTY | fresh;
        self.heap = self.heap + heap_of(&value) - heap_of(&old.value);
        old.value = value;
        Ok(true)
    }

    /// Writes what is dirty as one epoch, and forgets everything. After an error all is as it was.
    ///
    /// # Errors
    /// A failed write.
    pub fn flush(&mut self, height: u32) -> Result<(), B::Error> {
        // The first bytes of a key decide nearly always, and are at hand.
        let mut dirty: Vec<(u64, u32)> = Vec::new();
        let (mut puts, mut deletes) = (0, 0);
        for &slot in &self.index {
            let Some(entry) = entry(&self.pieces, slot).filter(|entry| entry.flags & DIRTY != 0)
            else {
                continue;
            };
            *(if entry.value.is_empty() { &mut deletes } else { &mut puts }) += 1;
            let first = entry.key.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
            dirty.push((first, slot));
        }
        let key_of = |slot: u32| entry(&self.pieces, slot).map(|entry| &entry.key);
        dirty.par_sort_unstable_by(|(first, slot), (other, with)| {
            first.cmp(other).then_with(|| key_of(*slot).cmp(&key_of(*with)))
        });
        let mut changes = dirty.iter().filter_map(|(_, slot)| {
            let Entry { key, value, .. } = entry(&self.pieces, *slot)?;
            Some((key, (!value.is_empty()).then_some(value.as_slice())))
        });
        self.below.write(height, &mut changes)?;
        self.index.clear();
        // The pieces stay: they are needed again.
        self.pieces.iter_mut().for_each(Vec::clear);
        self.free.clear();
        (self.taken, self.heap) = (0, 0);
        self.counts.flushes += 1;
        self.counts.puts += puts;
        self.counts.deletes += deletes;
        Ok(())
    }

    /// Puts in what is not here.
    fn insert(&mut self, new: Entry) {
        self.heap += heap_of(&new.value);
        let hash = self.hasher.hash_one(new.key);
        let slot = match self.free.pop() {
            Some(slot) => {
                if let Some(old) = entry_mut(&mut self.pieces, slot) {
                    *old = new;
                }
                slot
            }
            None => {
                let slot = self.taken as u32;
                if self.taken / PIECE == self.pieces.len() {
                    self.pieces.push(Vec::with_capacity(PIECE));
                }
                if let Some(piece) = self.pieces.get_mut(self.taken / PIECE) {
                    piece.push(new);
                }
                self.taken += 1;
                slot
            }
        };
        let (pieces, hasher) = (&self.pieces, &self.hasher);
        let hash_of = |slot: &u32| entry(pieces, *slot).map_or(0, |old| hasher.hash_one(old.key));
        self.index.insert_unique(hash, slot, hash_of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_benches::workload::Random;
    use std::collections::BTreeMap;

    /// What lies below in tests: it can be told to fail.
    #[derive(Default)]
    struct Map {
        coins: BTreeMap<Key, Value>,
        height: u32,
        heard_of: u64,
        fails: bool,
    }

    impl Below for Map {
        type Error = &'static str;

        fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, Self::Error> {
            Ok(keys.iter().map(|key| self.coins.get(key).cloned()).collect())
        }

        fn write(
            &mut self,
            height: u32,
            changes: &mut dyn Iterator<Item = Change<'_>>,
        ) -> Result<(), Self::Error> {
            if self.fails {
                return Err("told to");
            }
            let mut last = None;
            for (key, value) in changes {
                assert!(last < Some(*key), "in order, each once");
                last = Some(*key);
                self.heard_of += 1;
                match value {
                    Some(value) => drop(self.coins.insert(*key, value.into())),
                    // One that might have been overwritten may not be there.
                    None => drop(self.coins.remove(key)),
                }
            }
            self.height = height;
            Ok(())
        }
    }

    fn key(number: u64) -> Key {
        let mut key = [0; KEY_LEN];
        // Few first bytes, so that the rest decides too.
        key[0] = (number % 3) as u8;
        key[28..].copy_from_slice(&number.to_be_bytes());
        key
    }

    fn value(random: &mut Random) -> Value {
        let len = 1 + random.below(60).unwrap() as usize;
        let mut bytes = Vec::new();
        random.append_to(&mut bytes, len);
        Value::from_vec(bytes)
    }

    /// Random operations give what they give on a map; what is used is what all entries and values take.
    #[test]
    fn it_is_a_map() {
        for seed in 0..60 {
            let mut random = Random::new(seed);
            let mut model: BTreeMap<Key, Value> = BTreeMap::new();
            let mut cache = CoinsCache::new(Map::default(), 40 * ENTRY_BYTES);
            for height in 0..600 {
                let key = key(random.below(90).unwrap());
                let context = format!("seed {seed}, step {height}");
                match random.below(10).unwrap() {
                    0..4 => {
                        // Core asks before it adds, or knows: so does this test.
                        let (value, over) = (value(&mut random), random.below(4) == Some(0));
                        let there = model.contains_key(&key);
                        if over || !there {
                            assert_eq!(cache.add(key, value.clone(), over), Ok(true), "{context}");
                            model.insert(key, value);
                        } else if cache.cached(&key).is_some() {
                            assert_eq!(cache.add(key, value, false), Ok(false), "{context}");
                        }
                    }
                    4..7 => {
                        assert_eq!(cache.spend(&key), Ok(model.remove(&key)), "{context}");
                    }
                    7 => {
                        let keys: Vec<Key> =
                            (0..20).map(|_| self::key(random.below(90).unwrap())).collect();
                        cache.fetch(&keys).unwrap();
                        for key in keys {
                            assert_eq!(
                                cache.cached(&key),
                                model.get(&key).map(|v| v.as_slice()),
                                "{context}"
                            );
                        }
                    }
                    8 if random.below(4) == Some(0) => {
                        cache.below_mut().fails = true;
                        let before = cache.used();
                        assert_eq!(cache.flush(height), Err("told to"));
                        assert_eq!(cache.used(), before, "{context}");
                        cache.below_mut().fails = false;
                    }
                    _ if cache.is_full() || random.below(30) == Some(0) => {
                        cache.flush(height).unwrap();
                        assert_eq!(cache.below().coins, model, "{context}");
                        assert_eq!((cache.below().height, cache.taken, cache.heap), (height, 0, 0));
                    }
                    _ => {}
                }
                let heap: usize = cache
                    .index
                    .iter()
                    .filter_map(|slot| entry(&cache.pieces, *slot))
                    .map(|entry| heap_of(&entry.value))
                    .sum();
                assert_eq!(cache.heap, heap, "{context}");
                assert_eq!(cache.taken, cache.index.len() + cache.free.len(), "{context}");
            }
            cache.flush(600).unwrap();
            assert_eq!(cache.below().coins, model, "seed {seed}");
        }
    }

    #[test]
    fn what_is_made_and_spent_within_an_epoch_is_not_heard_of_below() {
        let mut cache = CoinsCache::new(Map::default(), 1 << 20);
        for number in 0..1_000 {
            assert_eq!(cache.add(key(number), Value::from_slice(b"coin"), false), Ok(true));
        }
        for number in 0..999 {
            assert_eq!(cache.spend(&key(number)), Ok(Some(Value::from_slice(b"coin"))));
            assert_eq!(cache.spend(&key(number)), Ok(None));
        }
        cache.flush(1).unwrap();
        assert_eq!((cache.below().heard_of, cache.counts().vanished), (1, 999));
        // Those that are not there were asked for below. Flushed, a coin is not fresh any more.
        assert_eq!(cache.spend(&key(999)), Ok(Some(Value::from_slice(b"coin"))));
        assert_eq!(cache.add(key(999), Value::from_slice(b"again"), false), Ok(true));
        assert_eq!(cache.spend(&key(999)), Ok(Some(Value::from_slice(b"again"))));
        cache.flush(2).unwrap();
        assert_eq!((cache.below().heard_of, cache.below().coins.len()), (2, 0));
        assert_eq!(
            cache.counts(),
            Counts { hits: 0, misses: 1_000, vanished: 999, flushes: 2, puts: 1, deletes: 1 }
        );
    }

    #[test]
    fn entries_are_as_small_as_said() {
        assert_eq!(ENTRY_BYTES, 80);
    }
}
