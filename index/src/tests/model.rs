//! The model: an ordered map from full key hashes, and the log that tells key hashes by position.

use super::lookup::KeyHashAt;
use super::place;
use crate::slot::Stem;
use crate::{Edit, IndexError, MAX_BUCKET_SLOTS, MAX_POSITION, ShardIndex};
use hedgerow_types::{KeyHash, LogPosition};
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

/// Tells the key hash of every entry ever written, and counts how often it is asked.
#[derive(Default)]
pub(super) struct Log {
    keys: HashMap<LogPosition, KeyHash>,
    pub(super) reads: Cell<usize>,
    /// The position that cannot be read.
    pub(super) broken: Option<LogPosition>,
}

impl KeyHashAt for Log {
    type Error = LogPosition;

    fn key_hash_at(&self, at: LogPosition) -> Result<KeyHash, LogPosition> {
        self.reads.set(self.reads.get() + 1);
        if self.broken == Some(at) {
            return Err(at);
        }
        Ok(self.keys[&at])
    }
}

/// An index, and what it should answer.
#[derive(Default)]
pub(super) struct Model {
    pub(super) index: ShardIndex,
    pub(super) map: BTreeMap<KeyHash, LogPosition>,
    pub(super) log: Log,
    written: u64,
}

/// A key hash of shard 5.
pub(super) fn key(group: u16, fragment: u32, tail: u64) -> KeyHash {
    let mut bytes = [0; 32];
    bytes[..2].copy_from_slice(&(0x5000 | group & 0xFFF).to_be_bytes());
    bytes[2..6].copy_from_slice(&fragment.to_be_bytes());
    bytes[6..14].copy_from_slice(&tail.to_be_bytes());
    bytes[31] = tail as u8;
    KeyHash(bytes)
}

/// Positions in an order of their own: neighbours in time are far apart, none occurs twice.
fn nth_position(n: u64) -> LogPosition {
    LogPosition((n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16) << 3)
}

impl Model {
    pub(super) fn write(&mut self, key: KeyHash) -> LogPosition {
        self.written += 1;
        let at = nth_position(self.written);
        assert_eq!(self.log.keys.insert(at, key), None, "the test repeats a position");
        at
    }

    pub(super) fn put(&mut self, key: KeyHash) {
        let at = self.write(key);
        match self.map.insert(key, at) {
            None => self.index.insert(&key, at).unwrap(),
            Some(old) => assert_eq!(self.index.replace(&key, old, at), Ok(true)),
        }
    }

    pub(super) fn delete(&mut self, key: KeyHash) {
        match self.map.remove(&key) {
            Some(at) => {
                assert!(self.index.remove(&key, at));
                assert!(!self.index.remove(&key, at), "removed twice");
            }
            None => {
                // The index cannot know that; but that there is no such position, it can.
                assert!(!self.index.remove(&key, MAX_POSITION));
                let moved = self.index.replace(&key, MAX_POSITION, LogPosition(0));
                assert_eq!(moved, Ok(false));
            }
        }
    }

    /// Everything about one key, indexed or not.
    pub(super) fn check_key(&self, key: &KeyHash) {
        let stem = Stem::of(key);
        let mut ties: Vec<LogPosition> = self.ties(key).map(|(_, at)| at).collect();
        ties.sort_unstable();
        let candidates = self.index.candidates(key);
        assert_eq!(candidates.len(), ties.len());
        assert!(candidates.eq(ties.iter().copied()), "candidates of {key}");

        self.log.reads.set(0);
        assert_eq!(self.index.get(key, &self.log), Ok(self.map.get(key).copied()), "get {key}");
        assert!(self.log.reads.get() <= ties.len());

        self.log.reads.set(0);
        let below = self.map.range(..key).next_back();
        let expected = below.map(|(_, &at)| at);
        assert_eq!(self.index.predecessor(key, &self.log), Ok(expected), "predecessor of {key}");
        // Reads: the key's own ties, and those of the answer if it has any.
        let mut allowed = ties.len();
        if let Some((below, _)) = below
            && Stem::of(below) != stem
        {
            let others = self.ties(below).count();
            allowed += if others > 1 { others } else { 0 };
        }
        assert_eq!(self.log.reads.get(), allowed, "reads for the predecessor of {key}");
    }

    /// The keys with the same stem as `key`.
    fn ties(&self, key: &KeyHash) -> impl Iterator<Item = (KeyHash, LogPosition)> + '_ {
        let (mut low, mut high) = (*key, *key);
        low.0[6..].fill(0);
        high.0[6..].fill(0xFF);
        self.map.range(low..=high).map(|(&key, &at)| (key, at))
    }

    /// Everything about the index as a whole, and that it equals one built at once.
    pub(super) fn check(&self) {
        self.index.check();
        assert_eq!(self.index.len(), self.map.len());
        assert_eq!(self.index.is_empty(), self.map.is_empty());
        let mut slots: Vec<(Stem, LogPosition)> =
            self.map.iter().map(|(key, &at)| (Stem::of(key), at)).collect();
        slots.sort_unstable();
        check_walks(&self.index, &slots);

        let mut unsorted: Vec<(u64, LogPosition)> =
            self.map.iter().map(|(key, &at)| (key.prefix_u64(), at)).collect();
        unsorted.sort_unstable_by_key(|&(_, at)| at.0.rotate_left(29));
        let built = ShardIndex::build(unsorted).unwrap();
        built.check();
        check_walks(&built, &slots);

        let keys: Vec<KeyHash> = self.map.keys().copied().collect();
        let (mut many, mut of_built, mut one_by_one) = (Vec::new(), Vec::new(), Vec::new());
        self.index.candidates_many(&keys, &mut many);
        built.candidates_many(&keys, &mut of_built);
        for (number, key) in (0..).zip(&keys) {
            one_by_one.extend(self.index.candidates(key).map(|at| (number, at)));
        }
        assert_eq!(many, one_by_one);
        assert_eq!(of_built, one_by_one);
    }

    /// [`Model::check`], and [`Model::check_key`] of every key and of its neighbours.
    pub(super) fn check_all_keys(&self) {
        self.check();
        self.check_key(&key(0, 0, 0));
        self.check_key(&key(0xFFF, u32::MAX, u64::MAX));
        for &key in self.map.keys() {
            for around in around(key) {
                self.check_key(&around);
            }
        }
    }
}

/// A key hash, and those a little less and greater: in its tail, and in its stem.
fn around(key: KeyHash) -> [KeyHash; 5] {
    let number = u128::from_be_bytes(key.0[..16].try_into().unwrap());
    let with = |number: u128| {
        let mut bytes = key.0;
        bytes[..16].copy_from_slice(&number.to_be_bytes());
        bytes[0] = 0x50 | bytes[0] & 0xF;
        KeyHash(bytes)
    };
    let one = 1_u128 << 80; // the lowest bit of a stem
    [
        key,
        with(number.wrapping_sub(1)),
        with(number.wrapping_add(1)),
        with(number.wrapping_sub(one)),
        with(number.wrapping_add(one)),
    ]
}

fn check_walks(index: &ShardIndex, slots: &[(Stem, LogPosition)]) {
    assert!(index.positions().eq(slots.iter().map(|&(_, at)| at)));
    let mut groups = index.groups();
    for ties in slots.chunk_by(|a, b| a.0 == b.0) {
        let group = groups.next().unwrap();
        assert!(group.positions().eq(ties.iter().map(|&(_, at)| at)));
        let [(stem, at), rest @ ..] = ties else { unreachable!() };
        assert_eq!(group.only(), rest.is_empty().then_some(*at));
        assert!(group.share_stem_with(&key(stem.group() as u16, stem.fragment(), 1)));
        assert!(!group.share_stem_with(&key(stem.group() as u16, stem.fragment() ^ 1, 1)));
    }
    assert!(groups.next().is_none());

    let last = key(0xFFF, u32::MAX, u64::MAX);
    let mut downwards = index.predecessor_candidates(&last);
    for ties in slots.chunk_by(|a, b| a.0 == b.0).rev() {
        let group = downwards.next().unwrap();
        assert!(group.positions().eq(ties.iter().map(|&(_, at)| at)));
    }
    assert!(downwards.next().is_none());
}

/// A fabricated key hash: mostly of few groups, few fragments and few tails, so that ties and full
/// buckets are common.
fn any_key() -> impl Strategy<Value = KeyHash> {
    let group = prop_oneof![6 => Just(7_u16), 1 => Just(0), 1 => Just(8), 1 => Just(0xFFF), 1 => 0..0x1000_u16];
    let fragment = prop_oneof![
        4 => 0..4_u32,
        2 => (0..4_u32).prop_map(|low| u32::MAX - low),
        2 => (0..8_u32).prop_map(|high| high << 29),
        4 => any::<u32>(),
    ];
    let tail = prop_oneof![0..5_u64, (0..5_u64).prop_map(|high| high << 60), any::<u64>()];
    (group, fragment, tail).prop_map(|(group, fragment, tail)| key(group, fragment, tail))
}

/// What happens to the index.
#[derive(Clone, Debug)]
enum Op {
    /// Put one key, new or not.
    Put(KeyHash),
    /// Delete one key, there or not.
    Delete(KeyHash),
    /// Put as many keys, `step` apart, upwards or downwards.
    Grow { first: KeyHash, count: u32, step: Step, down: bool },
    /// Update every key in `every`.
    Update { every: usize },
    /// Delete all but each `keep`-th key; all, if `keep` is 0.
    Shrink { keep: usize },
    /// Look at a key and its neighbours.
    Look(KeyHash),
}

/// How far apart the keys of a [`Op::Grow`] are.
#[derive(Clone, Copy, Debug)]
enum Step {
    Tail,
    Fragment(u32),
    Group,
}

fn any_op() -> impl Strategy<Value = Op> {
    let step = prop_oneof![
        Just(Step::Tail),
        Just(Step::Fragment(1)),
        any::<u32>().prop_map(Step::Fragment),
        Just(Step::Group),
    ];
    let grow = (any_key(), 1..700_u32, step, any::<bool>());
    prop_oneof![
        12 => any_key().prop_map(Op::Put),
        6 => any_key().prop_map(Op::Delete),
        3 => grow.prop_map(|(first, count, step, down)| Op::Grow { first, count, step, down }),
        1 => (1..5_usize).prop_map(|every| Op::Update { every }),
        1 => (0..30_usize).prop_map(|keep| Op::Shrink { keep }),
        6 => any_key().prop_map(Op::Look),
    ]
}

fn nth_key(first: KeyHash, n: u32, step: Step) -> KeyHash {
    let stem = Stem::of(&first);
    let tail = u64::from_be_bytes(first.0[6..14].try_into().unwrap());
    let (group, fragment) = (stem.group() as u16, stem.fragment());
    match step {
        Step::Tail => key(group, fragment, tail.wrapping_add(u64::from(n))),
        Step::Fragment(by) => key(group, fragment.wrapping_add(by.wrapping_mul(n)), tail),
        Step::Group => key(group.wrapping_add(n as u16), fragment, tail),
    }
}

fn run(ops: Vec<Op>) {
    let mut model = Model::default();
    for op in ops {
        match op {
            Op::Put(key) => model.put(key),
            Op::Delete(key) => model.delete(key),
            Op::Grow { first, count, step, down } => {
                for n in 0..count {
                    let n = if down { count - n } else { n };
                    model.put(nth_key(first, n, step));
                }
            }
            Op::Update { every } => {
                let keys: Vec<KeyHash> = model.map.keys().copied().step_by(every).collect();
                keys.into_iter().for_each(|key| model.put(key));
            }
            Op::Shrink { keep } => {
                let keys: Vec<KeyHash> = model.map.keys().copied().collect();
                for (i, key) in keys.into_iter().enumerate() {
                    if keep == 0 || i % keep != 0 {
                        model.delete(key);
                    }
                }
                model.check();
            }
            Op::Look(key) => around(key).iter().for_each(|key| model.check_key(key)),
        }
    }
    model.check_all_keys();
    // Down to nothing, and nothing is left behind.
    let keys: Vec<KeyHash> = model.map.keys().copied().collect();
    keys.into_iter().for_each(|key| model.delete(key));
    model.check();
    assert_eq!(model.index.heap_bytes(), ShardIndex::new().heap_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..Default::default() })]

    /// Whatever happens, the index answers as the map does.
    #[test]
    fn index_answers_as_the_model(ops in prop::collection::vec(any_op(), 1..60)) {
        run(ops);
    }
}

/// A batch of edits: each key with what becomes of it (`true`: put, `false`: delete).
fn edits_of(model: &mut Model, changes: &[(KeyHash, bool)]) -> Vec<Edit> {
    changes
        .iter()
        .map(|&(key, put)| {
            let old = model.map.get(&key).copied();
            let new = put.then(|| model.write(key));
            match new {
                Some(at) => model.map.insert(key, at),
                None => model.map.remove(&key),
            };
            Edit { key, old: old.map(place), new: new.map(place) }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    /// Batches do what single edits do, sorted or not; and a batch with a mistake anywhere in it
    /// does nothing.
    #[test]
    fn batches_apply_wholly_or_not_at_all(
        batches in prop::collection::vec(
            (prop::collection::vec((any_key(), prop::bool::weighted(0.7)), 0..400), any::<bool>()),
            1..6,
        ),
        mistake in any::<prop::sample::Index>(),
        kind in 0..3,
    ) {
        let mut model = Model::default();
        for (mut changes, sorted) in batches {
            if sorted {
                changes.sort_by_key(|change| change.0);
            }
            let edits = edits_of(&mut model, &changes);

            let before: Vec<LogPosition> = model.index.positions().collect();
            let at = mistake.index(edits.len() + 1);
            let mut wrong = edits.clone();
            let bad = LogPosition(12);
            let key = key(7, 1, 1);
            let (edit, error) = match kind {
                0 => (
                    Edit { key, old: Some(place(MAX_POSITION)), new: None },
                    IndexError::Missing { key, at: MAX_POSITION },
                ),
                1 => (
                    Edit { key, old: Some(place(bad)), new: Some(place(LogPosition(16))) },
                    IndexError::Missing { key, at: bad },
                ),
                _ => (Edit { key, old: None, new: Some(place(bad)) }, IndexError::Position { at: bad }),
            };
            wrong.insert(at, edit);
            prop_assert_eq!(model.index.apply(&wrong), Err(error));
            prop_assert!(model.index.positions().eq(before.iter().copied()));
            model.index.check();

            prop_assert_eq!(model.index.apply(&edits), Ok(()));
            model.check();

            let undo: Vec<Edit> = edits.iter().rev().map(Edit::inverse).collect();
            prop_assert_eq!(model.index.apply(&undo), Ok(()));
            prop_assert!(model.index.positions().eq(before.iter().copied()));
            prop_assert_eq!(model.index.apply(&edits), Ok(()));
        }
        model.check_all_keys();
    }
}

/// Uniform keys through several splits of every group, upwards and down again.
#[test]
fn uniform_keys_grow_and_shrink() {
    let mut model = Model::default();
    let keys: Vec<KeyHash> = (0..40_000_u64)
        .map(|i| {
            let random = (i + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(32);
            let random = random.wrapping_mul(0xD6E8_FEB8_6659_FD93);
            key((random >> 60) as u16, (random >> 8) as u32, random)
        })
        .collect();
    for (i, &key) in keys.iter().enumerate() {
        model.put(key);
        if i % 10_000 == 0 {
            model.check();
        }
    }
    model.check();
    assert!(model.index.len() > 16 * 4 * MAX_BUCKET_SLOTS, "no group has a directory");
    keys.iter().step_by(7).for_each(|key| around(*key).iter().for_each(|k| model.check_key(k)));
    for (i, &key) in keys.iter().enumerate() {
        model.delete(key);
        if i % 10_000 == 0 {
            model.check();
        }
    }
    assert!(model.index.is_empty());
    assert_eq!(model.index.heap_bytes(), ShardIndex::new().heap_bytes());
}
