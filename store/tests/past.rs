//! Past heights are what they were: values, iteration, histories of keys, roots.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{apply_net, dir, disk, on, params, tasks};
use hedgerow::{Error, Height, Kept, Options, Reader, Store, StoreParams, View};
use hedgerow_testkit::Limit;
use hedgerow_testkit::generate::{BlockGen, GenShape, SeedNote};
use hedgerow_testkit::model::Model;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::{Digest, SerialNumber, ShardId};
use std::collections::BTreeMap;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What there was at a height.
struct Then {
    root: Digest,
    /// In key-hash order.
    pairs: Pairs,
    values: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Every height that there was.
#[derive(Default)]
struct All(Vec<Then>);

impl All {
    fn note(&mut self, model: &mut Model) {
        let pairs: Pairs =
            model.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let values = pairs.iter().cloned().collect();
        assert_eq!(model.height(), self.0.len() as u64);
        self.0.push(Then { root: model.state_root(), pairs, values });
    }

    fn at(&self, height: Height) -> &Then {
        &self.0[height.0 as usize]
    }

    fn value(&self, height: Height, key: &[u8]) -> Option<&[u8]> {
        self.at(height).values.get(key).map(Vec::as_slice)
    }

    fn last(&self) -> Height {
        Height(self.0.len() as u64 - 1)
    }

    /// The view shows its height.
    fn check(&self, view: &View, keys: &[Vec<u8>]) {
        let height = view.height();
        let then = self.at(height);
        assert_eq!(view.root(), then.root, "height {height}");
        if let Some(len) = view.len() {
            assert_eq!(len, then.pairs.len() as u64, "height {height}");
        }
        let many = view.get_many(keys).unwrap();
        for (key, found) in keys.iter().zip(many) {
            let (expected, key_shown) = (self.value(height, key), key.escape_ascii());
            assert_eq!(found.as_deref(), expected, "{key_shown} at {height}");
            assert_eq!(view.get(key).unwrap(), found, "{key_shown} at {height}");
        }
        self.check_proofs(view, keys);
    }

    /// Where the view has what proofs need, they prove what was there against the root of then; else it says so.
    fn check_proofs(&self, view: &View, keys: &[Vec<u8>]) {
        let height = view.height();
        let root = self.at(height).root;
        for key in keys {
            let (expected, key_shown) = (self.value(height, key), key.escape_ascii());
            let proven = match view.prove(key) {
                Ok(proven) => proven,
                Err(Error::HeightUnavailable { height: said, first, kept, .. }) => {
                    assert_eq!((said, kept, view.len()), (height, Kept::Proofs, None));
                    assert!(first > height);
                    return;
                }
                Err(error) => panic!("{key_shown} at {height}: {error}"),
            };
            assert!(view.len().is_some());
            assert_eq!((proven.height, proven.root), (height, root));
            let verified = hedgerow_proof::verify(&root, key, &proven.proof);
            assert_eq!(verified.unwrap(), expected, "{key_shown} at {height}");
        }
        self.check_past_proofs(view, keys);
        // Every place of a shard, also one that was not taken yet.
        let shard = ShardId::new(height.0 as usize % 16).unwrap();
        let of_shard = view.roots().shards[shard.index()];
        for sn in (0..9_000).step_by(331).map(SerialNumber) {
            match view.prove_serial(shard, sn) {
                Ok(path) => path.verify(&of_shard).unwrap(),
                Err(Error::SerialUnavailable { .. }) => {}
                Err(error) => panic!("{sn} at {height}: {error}"),
            }
        }
    }

    /// What keys had at earlier heights, under the root of this one.
    fn check_past_proofs(&self, view: &View, keys: &[Vec<u8>]) {
        let newest = view.height();
        for (number, key) in keys.iter().enumerate().take(12) {
            let height = Height(newest.0.saturating_sub(number as u64 * number as u64));
            let key_shown = key.escape_ascii();
            let proven = match view.prove_past(key, height) {
                Ok(proven) => proven,
                Err(Error::HeightUnavailable { .. }) => continue,
                Err(error) => panic!("{key_shown} at {height} from {newest}: {error}"),
            };
            assert_eq!((proven.height, proven.root), (newest, self.at(newest).root));
            let verified =
                hedgerow_proof::verify_past(&proven.root, key, height, &proven.proof).unwrap();
            assert_eq!(verified.value(), self.value(height, key), "{key_shown} at {height}");
        }
    }

    fn check_pairs(&self, view: &View) {
        let found: Vec<_> = view.iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(found, self.at(view.height()).pairs, "height {}", view.height());
    }

    /// Every height that is to be had shows itself, and they reach to the newest. Returns the first.
    fn check_all(&self, reader: &Reader, keys: &[Vec<u8>], pairs_of: u64, window: u64) -> Height {
        let mut first = None;
        for height in (0..=self.last().0).map(Height) {
            match reader.at(height) {
                Ok(view) => {
                    assert_eq!(view.height(), height);
                    let provable = height.0 + window >= self.last().0;
                    assert!(view.len().is_some() || !provable, "height {height}");
                    self.check(&view, keys);
                    if height.0 % pairs_of == 0 {
                        self.check_pairs(&view);
                    }
                    first.get_or_insert(height);
                }
                Err(Error::HeightUnavailable { height: said, first: from, last, .. }) => {
                    assert_eq!((said, first, last), (height, None, self.last()));
                    assert!(from > height, "{from} of {height}");
                    if from <= last {
                        reader.at(from).unwrap();
                    }
                }
                Err(error) => panic!("height {height}: {error}"),
            }
        }
        first.unwrap()
    }

    /// The history of a key is what it was, as far back as it goes.
    fn check_history(&self, reader: &Reader, key: &[u8], first: Height) {
        let mut expected = vec![];
        for height in (1..=self.last().0).rev().map(Height) {
            let (now, before) = (self.value(height, key), self.value(Height(height.0 - 1), key));
            if now != before {
                expected.push((height, now.map(<[u8]>::to_vec)));
            }
        }
        let found: Vec<_> = reader.key_history(key).unwrap().collect::<Result<_, _>>().unwrap();
        assert!(found.is_sorted_by(|a, b| a.height > b.height));
        for version in &found {
            // A block may also write the value that was there already.
            assert_eq!(version.value.as_deref(), self.value(version.height, key));
            if version.is_exact {
                continue;
            }
            assert_eq!(version, found.last().unwrap());
        }
        for (height, value) in expected.into_iter().filter(|(height, _)| *height > first) {
            let found = found.iter().find(|version| version.height == height);
            assert_eq!(found.unwrap().value, value, "{} at {height}", key.escape_ascii());
        }
    }
}

struct Case {
    seed: u64,
    blocks: u64,
    shape: GenShape,
    params: StoreParams,
    window: u64,
    options: Options,
}

/// Blocks of all kinds; now and then, and at the end, all that is to be had of the past is looked at, then again
/// after reopening.
fn past(case: Case) {
    let Case { seed, blocks: count, shape, params, window, options } = case;
    let options = options.proof_window(window);
    let mut rng = SplitMix64::new(seed);
    let mut blocks = BlockGen::new(seed, shape);
    let mut model = Model::without_history(params.compaction());
    let mut store = Store::create(dir(), params, options.clone()).unwrap();
    let mut all = All::default();
    all.note(&mut model);
    let mut held: Vec<View> = vec![];
    for number in 0..count {
        if rng.below(2) == 0 {
            let block = blocks.strict();
            model.apply(&block);
            let ticket = store.submit_tasks(Height(block.height), &tasks(&block), []).unwrap();
            ticket.root().unwrap();
        } else {
            let (height, change_sets) = blocks.net();
            model.apply_net(height, &change_sets);
            apply_net(&mut store, height, &change_sets).unwrap();
        }
        all.note(&mut model);
        let back = rng.below(all.0.len() as u64);
        if let Ok(view) = store.reader().at(Height(back)) {
            held.push(view);
        }
        while held.len() > 6 {
            held.swap_remove(rng.below(held.len() as u64) as usize);
        }
        let mut keys: Vec<_> = (0..3).map(|_| blocks.any_key()).collect();
        keys.push(b"never there".to_vec());
        held.iter().for_each(|view| all.check(view, &keys));
        if number % 20 == 7 {
            all.check_all(&store.reader(), &keys, 10, window);
        }
        if number % 9 == 4 {
            store = reopen(store, &options);
        }
    }
    let keys = blocks.keys().to_vec();
    let looked = |store: &Store| {
        let first = all.check_all(&store.reader(), &keys, 3, window);
        keys.iter().for_each(|key| all.check_history(&store.reader(), key, first));
    };
    looked(&store);
    store.check().unwrap();
    for view in &held {
        all.check(view, &keys);
        all.check_pairs(view);
    }
    let store = reopen(store, &options);
    looked(&store);
    store.close().unwrap();
    for view in &held {
        all.check(view, &keys);
        all.check_pairs(view);
    }
}

fn reopen(store: Store, options: &Options) -> Store {
    store.close().unwrap();
    Store::open(dir(), options.clone()).unwrap()
}

#[test]
fn past_heights_are_what_they_were() {
    let _limit = Limit::new();
    for seed in 0..6 {
        let _note = SeedNote::new(seed);
        let params = if seed % 2 == 0 { params(1, 1, 1) } else { StoreParams::default() };
        let options =
            on(&disk()).keep_heights(4 + 9 * seed).segment_bytes(40_000).manifest_blocks(1 + seed);
        let shape = GenShape { keys: 110, ..GenShape::default() };
        past(Case { seed, blocks: 50, shape, params, window: [1, 5, 12, 200, 7, 30][seed as usize], options });
    }
}
