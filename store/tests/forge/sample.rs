//! True proofs, which attacks begin with: of two stores, and of one of them at two heights.
//!
//! ```text
//!   store 0 ──── 70 blocks ────► held view: world 1 ──── 6 blocks ────► world 0
//!   store 1 ──── 70 blocks ────► world 2
//! ```
//!
//! Most keys are of one shard, so that compaction there goes through the sentries and comes to the entries of keys. Keys come, go, and come again; some rest meanwhile, so that there is something to move.

use crate::attack::is_copy;
use crate::common::{apply_net, dir, disk, on};
use crate::tree::{Parts, Place};
use crate::truth::{FAMILIES, Question, World};
use hedgerow::{CompactionRule, Height, KeyHash, RangeLimit, Store, StoreParams, View};
use hedgerow_testkit::generate::adversarial_keys;
use hedgerow_testkit::model::{Model, NetChangeSet, key_hash};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::entry::is_sentry_key;
use std::collections::{BTreeMap, BTreeSet};

/// A question about a world, and the parts of its proof.
pub(crate) struct Sample {
    pub(crate) world: usize,
    pub(crate) question: Question,
    pub(crate) parts: Parts,
}

/// Worlds, and true proofs in them of each family.
pub(crate) struct Samples {
    pub(crate) worlds: Vec<World>,
    pub(crate) keys: Vec<Vec<u8>>,
    pub(crate) families: [Vec<Sample>; 4],
}

/// The values of every height.
type Past = BTreeMap<u64, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Blocks before the views, enough for compaction to have moved entries of keys that were written again since.
const BLOCKS: u64 = 70;

/// Keys at the start of the list that are written early, then seldom, so that compaction meets them, and late.
const COLD: usize = 30;

/// Operations of a block.
const OPS: u64 = 300;

/// A store, and beside it the model.
struct Twin {
    rng: SplitMix64,
    store: Store,
    model: Model,
    past: Past,
}

impl Twin {
    fn new(seed: u64) -> Self {
        let rule = CompactionRule::new(1, 1, 1).unwrap();
        let params = StoreParams::default().with_compaction(rule);
        let store = Store::create(dir(), params, on(&disk())).unwrap();
        let mut twin =
            Self { rng: SplitMix64::new(seed), store, model: Model::new(rule), past: Past::new() };
        twin.note();
        twin
    }

    fn note(&mut self) {
        let pairs = self.model.iter().map(|(key, value)| (key.to_vec(), value.to_vec()));
        self.past.insert(self.model.height(), pairs.collect());
    }

    fn blocks(&mut self, count: u64, keys: &[Vec<u8>]) {
        for _ in 0..count {
            let rng = &mut self.rng;
            // One of so many operations is on a key of the cold ones.
            let cold = match self.model.height() {
                0..2 => 2,
                2..64 => 2_000,
                _ => 120,
            };
            let change_sets: Vec<NetChangeSet> = (0..3)
                .map(|_| {
                    let mut change_set = NetChangeSet::new();
                    for _ in 0..OPS / 3 {
                        let of = if rng.below(cold) == 0 { &keys[..COLD] } else { &keys[COLD..] };
                        let key = of[rng.below(of.len() as u64) as usize].clone();
                        let len = [0, 1, 8, 8, 20, 40, 90][rng.below(7) as usize];
                        let len = if is_sentry_key(&key) { 5 } else { len };
                        let word = rng.next_u64().to_le_bytes();
                        let value = word.into_iter().cycle().take(len).collect();
                        change_set.push((key, (rng.below(4) > 0).then_some(value)));
                    }
                    change_set
                })
                .collect();
            let height = self.model.height() + 1;
            self.model.apply_net(height, &change_sets);
            apply_net(&mut self.store, height, &change_sets).unwrap();
            self.note();
        }
    }

    fn world(&self, keys: &[Vec<u8>]) -> World {
        World::new(self.model.clone(), self.past.clone(), keys)
    }
}

/// Keys: first the cold ones, last some that are never written. Most are of shard 2, where compaction comes farthest.
fn keys() -> Vec<Vec<u8>> {
    let of_shard = |shard: usize| {
        let ordinary = (0..).map(|i: u32| format!("key {i}").into_bytes());
        ordinary.filter(move |key| key_hash(key).shard().index() == shard)
    };
    let mut keys: Vec<_> = of_shard(2).take(COLD).collect();
    keys.extend(adversarial_keys());
    keys.extend(of_shard(3).take(20));
    keys.extend(of_shard(2).skip(COLD).take(70));
    keys
}

impl Samples {
    pub(crate) fn new(seed: u64) -> Self {
        let keys = keys();
        let written = &keys[..keys.len() - 20];
        let mut twin = Twin::new(seed);
        twin.blocks(BLOCKS, written);
        let before = (twin.world(&keys), twin.store.reader().view());
        twin.blocks(6, written);
        let mut other = Twin::new(seed ^ 0xA5A5);
        other.blocks(BLOCKS, written);
        let now = (twin.world(&keys), twin.store.reader().view());
        let elsewhere = (other.world(&keys), other.store.reader().view());
        let mut samples = Self { worlds: Vec::new(), keys, families: Default::default() };
        let mut rng = SplitMix64::new(seed);
        for (world, view) in [now, before, elsewhere] {
            assert_eq!(world.root, view.root());
            samples.worlds.push(world);
            samples.take(&mut rng, &view);
        }
        samples
    }

    /// True proofs of each family in the last world, of which `view` is the store's.
    fn take(&mut self, rng: &mut SplitMix64, view: &View) {
        let number = self.worlds.len() - 1;
        let world = &self.worlds[number];
        let any_key =
            |rng: &mut SplitMix64| self.keys[rng.below(self.keys.len() as u64) as usize].clone();
        for i in 0..100 {
            let entries = if i == 0 { 600 } else { 1 + i % 7 };
            let key = any_key(rng);
            let keys: Vec<_> = (0..=rng.below(6)).map(|_| any_key(rng)).collect();
            let from = match rng.below(3) {
                // One dense range: sentries that nobody touched.
                _ if i == 0 => KeyHash::sentry(0x8000),
                // Before a shard's border, anywhere, and at a key.
                0 => world.active[world.active_at(&KeyHash::sentry(0x4000)) - 2].0,
                1 => KeyHash::sentry(rng.next_u64() as u16),
                _ => key_hash(&any_key(rng)),
            };
            let height = rng.below(world.height() + 1);
            let questions = [
                Question::Single { key: key.clone() },
                Question::Many { keys },
                Question::Range { from },
                Question::Past { key, height },
            ];
            for (family, question) in questions.into_iter().enumerate() {
                let places = world.places(&question, entries);
                let parts = world.tree.proof(&world.model, &places);
                prove(view, &question, places.len(), &parts.bytes());
                self.families[family].push(Sample { world: number, question, parts });
            }
        }
    }

    /// What the samples have of what attacks need.
    pub(crate) fn describe(&self) -> String {
        let counts = FAMILIES.iter().zip(&self.families);
        let counts: Vec<String> = counts.map(|(name, of)| format!("{} {name}", of.len())).collect();
        let world = &self.worlds[0];
        let about: BTreeSet<Place> = world.about.values().flatten().copied().collect();
        let copy = |place: &Place| {
            let by = world.replaced_by.get(place)?;
            (!world.entry(*place).is_sentry() && is_copy(world, *place, *by)).then_some(by)
        };
        let copies: Vec<_> = about.iter().filter_map(copy).collect();
        let (copied, again) = (
            copies.len(),
            copies.iter().filter(|copy| world.replaced_by.contains_key(*copy)).count(),
        );
        assert!(
            copied > 3 && again > 1,
            "compaction moved {copied} entries of keys, {again} were replaced"
        );
        let absent = self.keys.iter().filter(|key| world.model.get(key).is_none()).count();
        format!(
            "true proofs: {}; {} keys, {absent} of them absent; {} entries after genesis, {} about these keys, {copied} of them \
             moved by compaction and {again} of these replaced since",
            counts.join(", "),
            self.keys.len(),
            world.later.len(),
            about.len(),
        )
    }
}

/// The store's own proof of the same is the same, byte for byte. Those of the past are the forge's own.
fn prove(view: &View, question: &Question, entries: usize, bytes: &[u8]) {
    let proof = match question {
        Question::Single { key } => view.prove(key).unwrap().proof,
        Question::Many { keys } => view.prove_many(keys).unwrap().proof,
        Question::Range { from } => {
            let limit = RangeLimit { entries, ..RangeLimit::default() };
            view.prove_range(*from, limit).unwrap().proven.proof
        }
        Question::Past { key, height } => view.prove_past(key, Height(*height)).unwrap().proof,
    };
    assert_eq!(proof.as_bytes(), bytes, "{question:?}");
}
