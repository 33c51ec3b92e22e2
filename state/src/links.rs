//! What an update needs of the entries that keys have now, for keys that blocks updated lately.
//!
//! ```text
//!   key hash ──► place in the table ──► key hash │ next key hash │ serial number │ position     80 bytes
//!                (in key-hash order)       same?                       active?
//!                                            └──────── both: it is the key's entry ─┘  nothing is looked up or read
//! ```
//!
//! What is remembered is of an *entry*, which never changes. Whether the key is still in that entry the shard's
//! active bits know: whoever gives the key another entry, moves it, changes the key after it or removes it makes this
//! one inactive. So nothing here is brought up to date, and what is out of date is not believed.
//!
//! Only a rollback gives serial numbers to other entries: then all is [forgotten](Links::clear). For the same reason
//! speculative blocks do not ask: their entries have the serial numbers of others.
//!
//! Each key has one place, by the order of key hashes: keys of a block ascend, and so do their places. Who came last has
//! it. The table grows with what is remembered, up to its bound.

use crate::bits::ActiveBits;
use crate::resolve::Link;
use hedgerow_types::{KeyHash, LogPosition, SerialNumber};
use std::hint::black_box;

/// Key hash, next key hash, serial number, position. Zeroes are of no key.
type Slot = [u64; 10];

/// Bytes that a key takes.
pub const LINK_BYTES: u64 = size_of::<Slot>() as u64;

/// Places of the smallest table.
const LEAST: usize = 64;

/// The links of one shard: what is remembered of the entries that keys have, whatever became of them since.
///
/// ```
/// use hedgerow_state::Links;
/// let links = Links::new(1 << 20);
/// assert_eq!(links.heap_bytes(), 0);               // it grows with what it knows
/// ```
#[derive(Debug, Default)]
pub struct Links {
    slots: Vec<Slot>,
    /// How many keys were put in since it has this size, again and again the same ones too.
    put: usize,
    /// Places that there may be.
    most: usize,
}

impl Links {
    /// Nothing, in at most so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self { most: usize::try_from(bytes / LINK_BYTES).unwrap_or(usize::MAX), ..Self::default() }
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        (self.slots, self.put) = (Vec::new(), 0);
    }

    /// Whether it knows of no key.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn place(prefix: u64, slots: usize) -> usize {
        // The bits after those of the shard, as a fraction.
        ((u128::from(prefix << 4) * slots as u128) >> 64) as usize
    }

    /// Loads the lines of these keys: see `hedgerow_index::batch` for why.
    pub(crate) fn touch<'k>(&self, keys: impl Iterator<Item = &'k KeyHash>) {
        let mut seen = 0;
        for key in keys {
            let slot = self.slots.get(Self::place(key.prefix_u64(), self.slots.len()));
            seen ^= slot.map_or(0, |slot| slot[0] ^ slot[9]);
        }
        black_box(seen);
    }

    /// The entry of a key, if it is known and `active` says that it still is.
    pub(crate) fn get(&self, key: &KeyHash, active: &ActiveBits) -> Option<Link> {
        let slot = self.slots.get(Self::place(key.prefix_u64(), self.slots.len()))?;
        let [k0, k1, k2, k3, n0, n1, n2, n3, sn, at] = *slot;
        if [k0, k1, k2, k3] != words_of(key) || !active.is_active(SerialNumber(sn)) {
            return None;
        }
        let next_key_hash = hash_of([n0, n1, n2, n3]);
        Some(Link { at: LogPosition(at), next_key_hash, sn: SerialNumber(sn) })
    }

    /// The current entry of a key, after the last block that was taken in.
    #[inline]
    pub fn put(&mut self, key: &KeyHash, next: &KeyHash, sn: SerialNumber, at: LogPosition) {
        if self.put >= self.slots.len() / 2 && self.slots.len() < self.most {
            self.grow();
        }
        let place = Self::place(key.prefix_u64(), self.slots.len());
        let Some(slot) = self.slots.get_mut(place) else { return };
        let ([k0, k1, k2, k3], [n0, n1, n2, n3]) = (words_of(key), words_of(next));
        *slot = [k0, k1, k2, k3, n0, n1, n2, n3, sn.0, at.0];
        self.put += 1;
    }

    fn grow(&mut self) {
        let len = (2 * self.slots.len()).max(LEAST).min(self.most);
        let mut larger = Vec::new();
        if larger.try_reserve_exact(len).is_err() {
            self.most = self.slots.len(); // it does with what it has
            return;
        }
        larger.resize(len, [0; 10]);
        let old = std::mem::replace(&mut self.slots, larger);
        self.put = 0;
        for slot in old.iter().filter(|slot| **slot != [0; 10]) {
            let [k0, ..] = slot;
            let place = Self::place(u64::from_be_bytes(k0.to_ne_bytes()), len);
            if let Some(free) = self.slots.get_mut(place) {
                *free = *slot;
                self.put += 1;
            }
        }
    }
}

fn words_of(key: &KeyHash) -> [u64; 4] {
    let (words, _) = key.0.as_chunks::<8>();
    std::array::from_fn(|word| words.get(word).map_or(0, |bytes| u64::from_ne_bytes(*bytes)))
}

fn hash_of(words: [u64; 4]) -> KeyHash {
    let mut bytes = [0; 32];
    for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *to = word.to_ne_bytes();
    }
    KeyHash(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_types::TwigId;
    use std::collections::HashMap;

    fn key(number: u64) -> KeyHash {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        bytes[0] &= 0x0f;
        bytes[31] = 1;
        KeyHash(bytes)
    }

    #[test]
    fn what_it_knows_is_the_last_that_it_was_told() {
        for bytes in [0, LINK_BYTES, 100 * LINK_BYTES, 1 << 20] {
            let mut links = Links::new(bytes);
            let mut active = ActiveBits::starting_at(TwigId(0));
            let mut model: HashMap<u64, SerialNumber> = HashMap::new();
            for step in 0..20_000 {
                let (number, sn) = (step * step % 1_009, SerialNumber(step));
                if let Some(old) = model.insert(number, sn) {
                    assert!(active.clear(old));
                }
                active.set(sn);
                links.put(&key(number), &key(number + 1), sn, LogPosition(8 * step));
                assert!(links.heap_bytes() as u64 <= bytes, "{} bytes", links.heap_bytes());
                let found = links.get(&key(number), &active);
                let told = found.map(|link| (link.sn, link.at, link.next_key_hash));
                let expected = (sn, LogPosition(8 * step), key(number + 1));
                assert_eq!(told, (bytes > 0).then_some(expected));
                let other = step % 1_000;
                if let Some(link) = links.get(&key(other), &active) {
                    assert_eq!(Some(&link.sn), model.get(&other));
                }
            }
            let known = model.keys().filter(|&&number| links.get(&key(number), &active).is_some());
            let known = known.count();
            assert!(bytes < 1 << 20 || known == model.len(), "{known} of {}", model.len());
            links.clear();
            assert!(model.keys().all(|&number| links.get(&key(number), &active).is_none()));
        }
    }

    #[test]
    fn an_entry_that_is_not_active_is_not_believed() {
        let (mut links, mut active) = (Links::new(1 << 20), ActiveBits::starting_at(TwigId(0)));
        active.set(SerialNumber(7));
        links.put(&key(1), &key(2), SerialNumber(7), LogPosition(800));
        assert!(links.get(&key(1), &active).is_some());
        active.clear(SerialNumber(7));
        assert!(links.get(&key(1), &active).is_none());
        // Nor one before all that is followed.
        assert!(links.get(&key(1), &ActiveBits::starting_at(TwigId(3))).is_none());
    }
}
