//! Random blocks over few keys, chosen to hurt; everything follows from one seed.
//!
//! ```text
//!  seed ──► BlockGen ──► strict blocks (always valid: the generator knows which keys are present)
//!              │    └──► net blocks    (puts and deletes, also of absent keys, also repeated)
//!              └ keys    lengths 1 and 255, hashes that agree in their first 3 to 6 bytes, hashes
//!                        just after and before a sentry's, keys that look like sentries
//! ```
//!
//! A test keeps a [`SeedNote`] while it runs: if it fails, the note prints the seed.

use crate::model::NetChangeSet;
use crate::ops::{Op, RecordedBlock};
use crate::recipe::SplitMix64;
use hedgerow_types::entry::is_sentry_key;
use hedgerow_types::{KeyHash, MAX_KEY_LEN};
use std::collections::BTreeMap;

/// Prints the seed when a test panics while this lives.
#[derive(Debug)]
#[must_use = "keep it until the end of the test"]
pub struct SeedNote(u64);

impl SeedNote {
    /// A note of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Drop for SeedNote {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this test failed with seed {}", self.0);
        }
    }
}

/// A group of keys whose hashes agree in their first bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collision {
    /// How many bytes of the hashes agree.
    pub bytes: usize,
    /// The keys.
    pub keys: Vec<Vec<u8>>,
}

/// Numbers `i` whose keys `hedgerow-<i>` have hashes that agree in this many first bytes. Found by
/// hashing the first 2^25 of them.
const COLLISIONS: [(usize, &[u32]); 10] = [
    (6, &[249_233, 10_820_579]),
    (6, &[14_129_789, 21_474_394]),
    (6, &[12_406_380, 23_518_540]),
    (6, &[11_564_333, 14_766_895]),
    (6, &[8_462_769, 14_101_577]),
    (5, &[13_414_441, 31_619_788]),
    (5, &[27_046_135, 8_518_207]),
    (4, &[30_692_034, 27_220_572, 28_409_404]),
    (4, &[3_066_990, 6_844_852, 6_820_033]),
    (
        3,
        &[
            14_903_246, 29_836_352, 31_038_102, 11_402_249, 5_760_087, 29_549_992, 4_095_452,
            21_032_515, 8_581_063, 16_097_090, 21_451_509, 7_438_539,
        ],
    ),
];

/// `hedgerow-<i>` whose hash is 9dd3 0000 00.., the closest after a sentry's among the first 2^25.
const JUST_AFTER_A_SENTRY: u32 = 5_386_872;
/// `hedgerow-<i>` whose hash is e279 ffff ff.., the closest before a sentry's.
const JUST_BEFORE_A_SENTRY: u32 = 30_417_329;
/// `hedgerow-<i>` whose hash is 0000 0033.., the smallest of all.
const FIRST: u32 = 26_509_678;
/// `hedgerow-<i>` whose hash is ffff ff43.., the greatest of all.
const LAST: u32 = 475_531;

fn numbered(i: u32) -> Vec<u8> {
    format!("hedgerow-{i}").into_bytes()
}

/// Groups of keys whose hashes agree in their first 6, 5, 4 or 3 bytes, longest first.
pub fn collisions() -> Vec<Collision> {
    COLLISIONS
        .iter()
        .map(|(bytes, numbers)| Collision {
            bytes: *bytes,
            keys: numbers.iter().copied().map(numbered).collect(),
        })
        .collect()
}

/// All keys that are special in some way: the [`collisions`], hashes next to those of sentries,
/// the shortest and longest keys, keys that look like sentries or like another key's hash.
pub fn adversarial_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = collisions().into_iter().flat_map(|group| group.keys).collect();
    keys.extend([JUST_AFTER_A_SENTRY, JUST_BEFORE_A_SENTRY, FIRST, LAST].map(numbered));
    keys.extend([vec![0], vec![0xFF], vec![0, 0], vec![0; 31], vec![0; 33]]);
    keys.extend([vec![0; MAX_KEY_LEN], vec![0xFF; MAX_KEY_LEN], vec![7; MAX_KEY_LEN - 1]]);
    keys.extend([0, 1, 0x0FFF, 0x1000, 0xFFFF].map(|p| KeyHash::sentry(p).0.to_vec()));
    keys.push(KeyHash::MAX.0.to_vec());
    keys.push(crate::model::key_hash(b"a").0.to_vec());
    keys
}

/// What the blocks of a [`BlockGen`] look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GenShape {
    /// Keys in use: all [`adversarial_keys`] and ordinary ones up to this number.
    pub keys: usize,
    /// A change set touches 0 to this many keys.
    pub keys_per_change_set: u64,
    /// A block has 0 to this many change sets.
    pub change_sets: u64,
    /// Longest value in bytes. Most are short, some empty, one in 64 is of any length up to this.
    pub max_value_len: u64,
}

impl Default for GenShape {
    /// 200 keys, up to 3 change sets of up to 40 keys, values up to 2000 bytes.
    fn default() -> Self {
        Self { keys: 200, keys_per_change_set: 40, change_sets: 3, max_value_len: 2000 }
    }
}

/// A generator of blocks. It knows which keys are present, so strict and net blocks may alternate.
#[derive(Clone, Debug)]
pub struct BlockGen {
    rng: SplitMix64,
    shape: GenShape,
    keys: Vec<Vec<u8>>,
    present: Vec<bool>,
    height: u64,
}

impl BlockGen {
    /// Blocks of this shape from this seed, the first of height 1.
    pub fn new(seed: u64, shape: GenShape) -> Self {
        let mut keys = adversarial_keys();
        let ordinary = (0..).map(|i: u32| format!("key {i}").into_bytes());
        keys.extend(ordinary.take(shape.keys.saturating_sub(keys.len())));
        let present = vec![false; keys.len()];
        Self { rng: SplitMix64::new(seed), shape, keys, present, height: 0 }
    }

    /// Goes on from another seed, with blocks of another shape over the same keys.
    ///
    /// # Panics
    /// If the number of keys differs.
    pub fn go_on(&mut self, seed: u64, shape: GenShape) {
        assert_eq!(shape.keys, self.shape.keys, "the keys stay the same");
        (self.rng, self.shape) = (SplitMix64::new(seed), shape);
    }

    /// All keys that blocks may touch.
    pub fn keys(&self) -> &[Vec<u8>] {
        &self.keys
    }

    /// A random number below `n`, for the test's own choices.
    pub const fn below(&mut self, n: u64) -> u64 {
        self.rng.below(n)
    }

    /// A random key, present or not.
    pub fn any_key(&mut self) -> Vec<u8> {
        let i = self.rng.below(self.keys.len() as u64) as usize;
        self.keys[i].clone()
    }

    fn value(&mut self, key: &[u8]) -> Vec<u8> {
        let len = match self.rng.below(64) {
            0 => self.rng.below(self.shape.max_value_len + 1),
            1..=6 => 0,
            7..=12 => 1,
            _ => self.rng.below(64.min(self.shape.max_value_len) + 1),
        };
        let len = if is_sentry_key(key) { len.max(1) } else { len };
        let word = self.rng.next_u64().to_le_bytes();
        word.into_iter().cycle().take(len as usize).collect()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.rng.below(i as u64 + 1) as usize);
        }
    }

    /// Different keys for one change set, by index.
    fn some_keys(&mut self) -> Vec<usize> {
        let count = self.rng.below(self.shape.keys_per_change_set + 1);
        let mut chosen = BTreeMap::new();
        for _ in 0..count {
            chosen.insert(self.rng.below(self.keys.len() as u64) as usize, ());
        }
        chosen.into_keys().collect()
    }

    /// The next block of strict ops: valid, in any order within a change set, with several ops on
    /// one key where spec 6.3 allows them.
    pub fn strict(&mut self) -> RecordedBlock {
        self.height += 1;
        let change_sets = self.rng.below(self.shape.change_sets + 1);
        let mut tasks = vec![Vec::new()];
        for _ in 0..change_sets {
            if self.rng.below(3) == 0 {
                tasks.push(Vec::new());
            }
            let change_set = self.strict_change_set();
            tasks.last_mut().expect("a block has a task").push(change_set);
        }
        RecordedBlock { height: self.height, tasks }
    }

    fn strict_change_set(&mut self) -> Vec<Op> {
        let mut ops = Vec::new();
        for i in self.some_keys() {
            let key = self.keys[i].clone();
            let choice = self.rng.below(16);
            if self.present[i] {
                let updates = match choice {
                    0..=8 => 1,
                    9..=10 => 2,
                    _ => 0,
                };
                for _ in 0..updates {
                    ops.push(Op::update(&key[..], self.value(&key)));
                }
                // Updates run before the delete, wherever they stand in the list.
                if matches!(choice, 7..=9 | 11..=14) {
                    ops.push(Op::delete(&key[..]));
                    self.present[i] = false;
                }
            } else if choice < 14 {
                ops.push(Op::create(&key[..], self.value(&key)));
                self.present[i] = choice != 0;
                if choice == 0 {
                    ops.push(Op::delete(&key[..]));
                }
            }
            if choice == 15 {
                ops.push(Op::read(&key[..]));
            }
        }
        self.shuffle(&mut ops);
        ops
    }

    /// The next block of puts and deletes: its height and change sets. Deletes hit absent keys
    /// too, and some keys are written more than once in a change set.
    pub fn net(&mut self) -> (u64, Vec<NetChangeSet>) {
        self.height += 1;
        let change_sets = self.rng.below(self.shape.change_sets + 1);
        let change_sets = (0..change_sets).map(|_| self.net_change_set()).collect();
        (self.height, change_sets)
    }

    /// The next block, of nothing: for what the test itself puts in.
    pub const fn none(&mut self) -> (u64, Vec<NetChangeSet>) {
        self.height += 1;
        (self.height, Vec::new())
    }

    fn net_change_set(&mut self) -> NetChangeSet {
        let mut words = Vec::new();
        for i in self.some_keys() {
            for _ in 0..1 + self.rng.below(8) / 7 {
                let key = self.keys[i].clone();
                let value = (self.rng.below(3) != 0).then(|| self.value(&key));
                words.push((i, key, value));
            }
        }
        self.shuffle(&mut words);
        for (i, _, value) in &words {
            self.present[*i] = value.is_some();
        }
        words.into_iter().map(|(_, key, value)| (key, value)).collect()
    }
}
