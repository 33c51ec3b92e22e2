//! The workload: keys, values and random operations on them, all of it a function of one seed.
//!
//! ```text
//!   seed ─► Generator ─► key bytes of id      value bytes of (id, turn)
//!   KeySet   ids that exist: 0..n, and once something was deleted a list of 4 bytes per key
//!   Op       id and whether it deletes: 8 bytes. Operations are drawn before a clock starts; their
//!            bytes are made where they are used, from SplitMix64: about 1 ns per 8 bytes
//! ```
//!
//! Invariants:
//! * Two ids never have the same key: its first 8 bytes are a permutation of the id.
//! * A value tells its id and turn, so that any value read back can be checked without remembering
//!   what was written.

/// Shortest key: 8 bytes tell all ids apart.
pub const MIN_KEY_LEN: usize = 8;
/// Keys that one run can name.
pub const MAX_KEYS: u64 = u32::MAX as u64;

/// Makes the bytes of keys and values.
#[derive(Clone, Copy, Debug)]
pub struct Generator {
    seed: u64,
    key_len: usize,
    value_len: usize,
}

impl Generator {
    /// A generator of keys of `key_len` bytes, at least [`MIN_KEY_LEN`], and values of `value_len`.
    pub fn new(seed: u64, key_len: usize, value_len: usize) -> Self {
        Self { seed: mix(seed), key_len: key_len.max(MIN_KEY_LEN), value_len }
    }

    /// Makes `out` the key of `id`.
    pub fn key(&self, id: u32, out: &mut Vec<u8>) {
        // A permutation of 64-bit numbers, xor-ed with a constant before: still a permutation.
        fill(mix(self.seed ^ u64::from(id)), self.key_len, out);
    }

    /// Makes `out` the value that `id` gets at `turn`, the number of the operation in the run.
    pub fn value(&self, id: u32, turn: u64, out: &mut Vec<u8>) {
        out.clear();
        let head = turn.to_le_bytes();
        out.extend_from_slice(&head[..head.len().min(self.value_len)]);
        let mut state = self.value_state(id, turn);
        append(&mut state, self.value_len - out.len(), out);
    }

    /// The turn at which `id` got this value; `None` if it is no value that `id` ever got.
    pub fn turn_of(&self, id: u32, value: &[u8]) -> Option<u64> {
        let mut head = [0; 8];
        let known = self.value_len.min(8);
        head[..known].copy_from_slice(value.get(..known)?);
        let turn = u64::from_le_bytes(head);
        let mut expected = Vec::with_capacity(self.value_len);
        self.value(id, turn, &mut expected);
        (expected == value).then_some(turn)
    }

    fn value_state(&self, id: u32, turn: u64) -> u64 {
        mix(self.seed ^ u64::from(id).rotate_left(32) ^ mix(turn))
    }
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op {
    /// The key.
    pub id: u32,
    /// Removes the key; else gives it a value.
    pub delete: bool,
}

/// How operations are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Updates of existing keys.
    Update,
    /// 90 % updates of existing keys, 5 % creates, 5 % deletes of existing keys.
    Mixed,
}

/// The ids that exist.
#[derive(Clone, Debug)]
pub struct KeySet {
    /// Ids from here on were never used.
    next: u32,
    /// The ids that exist, in no order; `None` as long as those are all below `next`.
    live: Option<Vec<u32>>,
    /// How much more often some are drawn than others: see [`KeySet::skewed`].
    skew: f64,
}

impl KeySet {
    /// The ids `0..keys`.
    pub fn new(keys: u32) -> Self {
        Self { next: keys, live: None, skew: 0.0 }
    }

    /// Some ids are drawn more often than others: the one of rank k as often as 1 / k^skew says (Zipf's law). YCSB and
    /// others use 0.99; 0 is all alike. The lowest ids are the hottest, until some are deleted. Which are drawn depends on the
    /// machine's mathematical library in rare cases.
    #[must_use]
    pub fn skewed(mut self, skew: f64) -> Self {
        self.skew = skew;
        self
    }

    /// Keys that exist.
    pub fn len(&self) -> usize {
        self.live.as_ref().map_or(self.next as usize, Vec::len)
    }

    /// Whether no key exists.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Heap memory, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.live.as_ref().map_or(0, |live| size_of::<u32>() * live.capacity())
    }

    /// A random id that exists, all equally likely unless they are [skewed](Self::skewed); `None` of an empty set.
    pub fn pick(&self, random: &mut Random) -> Option<u32> {
        let number = match self.skew > 0.0 {
            true => random.zipf(self.len() as u64, self.skew)?,
            false => random.below(self.len() as u64)?,
        };
        Some(match &self.live {
            Some(live) => live[number as usize],
            None => number as u32,
        })
    }

    /// Draws the next operation and carries it out on the set; `None` once no key or no id is left.
    pub fn draw(&mut self, mix: Mix, random: &mut Random) -> Option<Op> {
        let choice = match mix {
            Mix::Update => 0,
            Mix::Mixed => random.below(100)?,
        };
        match choice {
            0..90 => Some(Op { id: self.pick(random)?, delete: false }),
            90..95 => Some(Op { id: self.create()?, delete: false }),
            _ => Some(Op { id: self.remove(random)?, delete: true }),
        }
    }

    fn create(&mut self) -> Option<u32> {
        let id = self.next;
        self.next = id.checked_add(1)?;
        if let Some(live) = &mut self.live {
            live.push(id);
        }
        Some(id)
    }

    fn remove(&mut self, random: &mut Random) -> Option<u32> {
        let next = self.next;
        let live = self.live.get_or_insert_with(|| (0..next).collect());
        let number = random.below(live.len() as u64)?;
        Some(live.swap_remove(number as usize))
    }
}

/// Random numbers: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators,
/// 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5EED))
    }

    /// A number below `end`, all equally likely up to 1 in 2^64 / `end`; `None` for 0.
    pub fn below(&mut self, end: u64) -> Option<u64> {
        let product = u128::from(next(&mut self.0)) * u128::from(end);
        (end > 0).then_some((product >> 64) as u64)
    }

    /// A number from 0 to below 1.
    fn unit(&mut self) -> f64 {
        (next(&mut self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number below `end`, of which k is drawn in proportion to 1 / (k + 1)^skew; `None` for 0. By rejection-inversion
    /// (Hörmann, Derflinger: Rejection-inversion to generate variates from monotone discrete distributions, 1996).
    pub fn zipf(&mut self, end: u64, skew: f64) -> Option<u64> {
        if end == 0 {
            return None;
        }
        // The integral of x^-skew from 1, and its inverse.
        let integral = |x: f64| match (1.0 - skew) * x.ln() {
            power if power.abs() < 1e-12 => x.ln(),
            power => power.exp_m1() / (1.0 - skew),
        };
        let inverse = |y: f64| match (1.0 - skew) * y {
            power if power.abs() < 1e-12 => y.exp(),
            power => (power.ln_1p() / (1.0 - skew)).exp(),
        };
        let height = |k: f64| (-skew * k.ln()).exp();
        let (first, last) = (integral(1.5) - 1.0, integral(end as f64 + 0.5));
        let sure = 2.0 - inverse(integral(2.5) - height(2.0));
        loop {
            let under = last + self.unit() * (first - last);
            let x = inverse(under);
            let k = x.round().clamp(1.0, end as f64);
            if k - x <= sure || under >= integral(k + 0.5) - height(k) {
                return Some(k as u64 - 1);
            }
        }
    }

    /// Appends `len` random bytes.
    pub fn append_to(&mut self, out: &mut Vec<u8>, len: usize) {
        append(&mut self.0, len, out);
    }
}

const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// The finalizer of SplitMix64: a permutation of all 64-bit numbers.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(STEP);
    mix(*state)
}

fn fill(mut state: u64, len: usize, out: &mut Vec<u8>) {
    out.clear();
    append(&mut state, len, out);
}

fn append(state: &mut u64, len: usize, out: &mut Vec<u8>) {
    let end = out.len() + len;
    while out.len() < end {
        let word = next(state).to_le_bytes();
        out.extend_from_slice(&word[..word.len().min(end - out.len())]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_differ_and_have_their_length() {
        for key_len in [8, 9, 32, 255] {
            let generator = Generator::new(7, key_len, 0);
            let mut seen = HashSet::new();
            let mut key = Vec::new();
            for id in (0..5000).chain(u32::MAX - 5000..=u32::MAX) {
                generator.key(id, &mut key);
                assert_eq!(key.len(), key_len);
                assert!(seen.insert(key[..8].to_vec()), "id {id} has another id's key");
            }
            generator.key(1, &mut key);
            let before = key.clone();
            Generator::new(8, key_len, 0).key(1, &mut key);
            assert_ne!(key, before, "the seed counts");
        }
    }

    #[test]
    fn values_tell_their_id_and_turn() {
        let mut value = Vec::new();
        for value_len in [9, 12, 32, 1000] {
            let generator = Generator::new(7, 32, value_len);
            for (id, turn) in [(0, 0), (1, 0), (0, 1), (u32::MAX, u64::MAX)] {
                generator.value(id, turn, &mut value);
                assert_eq!(value.len(), value_len);
                assert_eq!(generator.turn_of(id, &value), Some(turn));
                if value_len > 12 {
                    assert_eq!(generator.turn_of(id ^ 2, &value), None);
                }
                value[value_len - 1] ^= 1;
                assert_eq!(generator.turn_of(id, &value), None);
                assert_eq!(generator.turn_of(id, &value[1..]), None);
            }
        }
        for value_len in [0, 5] {
            let generator = Generator::new(7, 32, value_len);
            generator.value(3, 300, &mut value);
            assert_eq!((value.len(), generator.turn_of(3, &value).is_some()), (value_len, true));
        }
    }

    #[test]
    fn skewed_numbers_follow_zipfs_law() {
        let (end, draws) = (1_000_u64, 400_000);
        for skew in [0.5, 0.99, 1.0, 1.4] {
            let mut random = Random::new(3);
            assert_eq!((random.zipf(0, skew), random.zipf(1, skew)), (None, Some(0)));
            let mut counts = vec![0_f64; end as usize];
            for _ in 0..draws {
                counts[random.zipf(end, skew).unwrap() as usize] += 1.0;
            }
            let weight = |k: usize| (k as f64 + 1.0).powf(-skew);
            let all: f64 = (0..end as usize).map(weight).sum();
            // Of single ranks and of a range, within five standard deviations.
            for range in [0..1, 1..2, 9..10, 10..100, 500..1_000] {
                let expected = f64::from(draws) * range.clone().map(weight).sum::<f64>() / all;
                let found: f64 = counts[range.clone()].iter().sum();
                let off = (found - expected).abs();
                assert!(off < 5.0 * expected.sqrt(), "{skew}, {range:?}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn numbers_below_cover_their_range_evenly() {
        let mut random = Random::new(1);
        assert_eq!(random.below(0), None);
        let mut counts = [0; 10];
        for _ in 0..100_000 {
            counts[random.below(10).unwrap() as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }

    #[test]
    fn updates_leave_the_keys_alone() {
        let mut keys = KeySet::new(100);
        let mut random = Random::new(2);
        let ids: HashSet<u32> =
            (0..2000).map(|_| keys.draw(Mix::Update, &mut random).unwrap().id).collect();
        assert_eq!((ids.len(), keys.len(), keys.heap_bytes()), (100, 100, 0));
    }

    #[test]
    fn a_mix_names_existing_keys_only_and_keeps_its_shares() {
        let mut keys = KeySet::new(1000);
        let mut random = Random::new(3);
        let mut live: HashSet<u32> = (0..1000).collect();
        let [mut updates, mut creates, mut deletes] = [0; 3];
        for _ in 0..100_000 {
            let op = keys.draw(Mix::Mixed, &mut random).unwrap();
            if op.delete {
                assert!(live.remove(&op.id), "deletes an absent key");
                deletes += 1;
            } else if live.insert(op.id) {
                creates += 1;
            } else {
                updates += 1;
            }
            assert_eq!(keys.len(), live.len());
        }
        assert!((89_000..91_000).contains(&updates), "{updates} updates");
        assert!((4_500..5_500).contains(&creates), "{creates} creates");
        assert!((4_500..5_500).contains(&deletes), "{deletes} deletes");
        let picked: HashSet<u32> = (0..50_000).map(|_| keys.pick(&mut random).unwrap()).collect();
        assert_eq!(picked, live);
    }

    #[test]
    fn an_empty_set_has_nothing_to_draw() {
        let mut random = Random::new(4);
        assert_eq!(KeySet::new(0).draw(Mix::Update, &mut random), None);
        assert!(KeySet::new(0).is_empty() && KeySet::new(0).pick(&mut random).is_none());
    }
}
