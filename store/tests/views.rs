//! A view is the state of its height, whatever comes after it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{apply_any, apply_net, dir, disk, on, params};
use hedgerow::{Error, Height, Options, PruneHold, Refused, Store, StoreParams, View};
use hedgerow_testkit::Limit;
use hedgerow_testkit::generate::{BlockGen, GenShape, SeedNote, adversarial_keys};
use hedgerow_testkit::model::{Model, NetChangeSet};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::Digest;

/// A view, and what it is to show.
struct Held {
    view: View,
    root: Digest,
    /// In key-hash order, as the iterator gives them.
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Held {
    fn new(store: &Store, model: &mut Model) -> Self {
        let pairs = model.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        let view = store.reader().view();
        assert_eq!(view.height(), Height(model.height()));
        Self { view, root: model.state_root(), pairs }
    }

    fn value(&self, key: &[u8]) -> Option<&[u8]> {
        self.pairs.iter().find(|(found, _)| found == key).map(|(_, value)| &value[..])
    }

    fn check(&self, keys: &[Vec<u8>]) {
        let view = &self.view;
        assert_eq!((view.root(), view.len().unwrap()), (self.root, self.pairs.len() as u64));
        let many = view.get_many(keys).unwrap();
        for (key, found) in keys.iter().zip(many) {
            let expected = self.value(key);
            assert_eq!(found.as_deref(), expected, "{} of {}", view.height(), key.escape_ascii());
            assert_eq!(view.get(key).unwrap(), found);
            let mut shown = None;
            let made = view.get_with(key, |value| shown = Some(value.to_vec())).unwrap();
            assert_eq!((made.is_some(), &shown), (found.is_some(), &found));
            let proven = view.prove(key).unwrap();
            assert_eq!((proven.height, proven.root), (view.height(), self.root));
            let verified = hedgerow_proof::verify(&self.root, key, &proven.proof).unwrap();
            assert_eq!(verified, expected, "{} of {}", view.height(), key.escape_ascii());
        }
    }

    fn check_all(&self) {
        let found: Vec<_> = self.view.iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(found, self.pairs, "height {}", self.view.height());
    }
}

fn history(seed: u64, shape: GenShape, params: StoreParams, options: Options) {
    let mut rng = SplitMix64::new(seed);
    let mut blocks = BlockGen::new(seed, shape);
    let mut model = Model::without_history(params.compaction());
    let mut store = Store::create(dir(), params, options).unwrap();
    let mut held = vec![Held::new(&store, &mut model)];
    let mut iterators = Vec::new();
    for _ in 0..60 {
        apply_any(&mut rng, &mut blocks, &mut model, &mut store);
        if rng.below(3) > 0 {
            held.push(Held::new(&store, &mut model));
        }
        if rng.below(5) == 0 {
            let of = &held[rng.below(held.len() as u64) as usize];
            iterators.push((of.view.iter(), of.pairs.clone().into_iter()));
        }
        // Iterators go on a little with every block.
        for (iterator, pairs) in &mut iterators {
            for pair in pairs.by_ref().take(40) {
                assert_eq!(iterator.next().unwrap().unwrap(), pair);
            }
        }
        while held.len() > 12 {
            held.swap_remove(rng.below(held.len() as u64) as usize);
        }
        let mut keys: Vec<_> = (0..3).map(|_| blocks.any_key()).collect();
        keys.push(b"never there".to_vec());
        held.iter().for_each(|held| held.check(&keys));
    }
    for (iterator, pairs) in iterators {
        assert_eq!(iterator.collect::<Result<Vec<_>, _>>().unwrap(), pairs.collect::<Vec<_>>());
    }
    let keys = blocks.keys().to_vec();
    held.iter().for_each(|held| (held.check(&keys), held.check_all()).0);
    store.check().unwrap();
    // What is durable is read after the store is closed too.
    store.close().unwrap();
    held.iter().for_each(|held| (held.check(&keys), held.check_all()).0);
}

#[test]
fn a_view_is_the_state_of_its_height() {
    let _limit = Limit::new();
    for seed in 0..6 {
        let _note = SeedNote::new(seed);
        let rule = if seed % 2 == 0 { params(1, 1, 1) } else { StoreParams::default() };
        let options = on(&disk()).keep_heights(1 + seed).segment_bytes(30_000).manifest_blocks(1);
        history(seed, GenShape { keys: 150, ..GenShape::default() }, rule, options);
    }
}

/// Keys whose stems tie, that come and go: only the entries tell them apart, in every view.
#[test]
fn views_tell_tied_keys_apart() {
    let _limit = Limit::new();
    let keys = adversarial_keys();
    let disk = disk();
    let params = params(1, 1, 1);
    let mut model = Model::without_history(params.compaction());
    let mut store = Store::create(dir(), params, on(&disk)).unwrap();
    let mut rng = SplitMix64::new(1);
    let mut held = Vec::new();
    for height in 1..=40 {
        let mut changes = NetChangeSet::new();
        for key in &keys {
            match rng.below(4) {
                0 => changes.push((key.clone(), None)),
                1 => changes.push((key.clone(), Some(vec![height as u8; 9]))),
                _ => {}
            }
        }
        model.apply_net(height, std::slice::from_ref(&changes));
        apply_net(&mut store, height, &[changes]).unwrap();
        held.push(Held::new(&store, &mut model));
        held.iter().for_each(|held| held.check(&keys));
    }
    held.iter().for_each(Held::check_all);
}

/// A view keeps what it needs on disk, for as long as it is held, and nothing after.
#[test]
fn what_a_view_needs_is_not_pruned() {
    let _limit = Limit::new();
    let disk = disk();
    let options = || on(&disk).keep_heights(1).segment_bytes(50_000).manifest_blocks(1);
    let mut store = Store::create(dir(), params(1, 1, 1), options()).unwrap();
    let put_all = |store: &mut Store| {
        let height = store.height().next();
        let mut block = store.begin_block(height).unwrap();
        for key in 0..2_000 {
            block.put(format!("key {key}"), format!("at {height}")).unwrap();
        }
        block.submit().unwrap().durable().unwrap();
        store.flush().unwrap();
    };
    // So far that the sentries have moved, and something was pruned.
    while store.stats().pruned_bytes == 0 {
        put_all(&mut store);
    }
    let view = store.reader().view();
    for _ in 0..60 {
        put_all(&mut store);
    }
    let held = PruneHold::View { height: view.height() };
    assert_eq!(store.stats().prune_hold, Some(held), "{:?}", store.stats());
    assert_eq!(store.stats().views, 2);
    let then = format!("at {}", view.height()).into_bytes();
    for key in (0..2_000).map(|key| format!("key {key}")) {
        assert_eq!(view.get(&key).unwrap().as_ref(), Some(&then));
        let proven = view.prove(&key).unwrap();
        let value = hedgerow_proof::verify(&view.root(), key.as_bytes(), &proven.proof).unwrap();
        assert_eq!(value, Some(&then[..]));
    }
    assert_eq!(view.iter().count(), 2_000);
    let (before, bytes) = (store.stats().pruned_bytes, store.stats().log.bytes);
    drop(view);
    put_all(&mut store);
    put_all(&mut store);
    let stats = store.stats();
    assert!(stats.pruned_bytes > before && stats.log.bytes < bytes, "{stats:?}");
    assert_eq!(stats.views, 1);
}

/// The state that a single answer comes from is held like a view for as long as that takes.
#[test]
fn what_a_single_answer_needs_is_not_pruned() {
    let _limit = Limit::new();
    let disk = disk();
    let options = on(&disk).keep_heights(1).segment_bytes(50_000).manifest_blocks(1);
    let mut store = Store::create(dir(), params(1, 1, 1), options).unwrap();
    let put_all = |store: &mut Store| {
        let height = store.height().next();
        let mut block = store.begin_block(height).unwrap();
        for key in 0..2_000 {
            block.put(format!("key {key}"), format!("at {height}")).unwrap();
        }
        block.submit().unwrap().durable().unwrap();
        store.flush().unwrap();
    };
    while store.stats().pruned_bytes == 0 {
        put_all(&mut store);
    }
    let reader = store.reader();
    let (then, value) = (store.height(), format!("at {}", store.height()).into_bytes());
    let pruned = reader.get_with("key 7", |shown| {
        for _ in 0..60 {
            put_all(&mut store);
        }
        assert_eq!(shown, value);
        let stats = store.stats();
        assert_eq!(stats.prune_hold, Some(PruneHold::View { height: then }), "{stats:?}");
        assert_eq!(stats.views, 2);
        stats.pruned_bytes
    });
    put_all(&mut store);
    put_all(&mut store);
    let stats = store.stats();
    assert!(stats.pruned_bytes > pruned.unwrap().unwrap(), "{stats:?}");
    assert_eq!(stats.views, 1);
}

/// A long chain of changes is let go of one by one, not one inside the other.
#[test]
fn a_view_that_was_held_for_very_long_is_dropped_in_a_small_stack() {
    let _limit = Limit::new();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk())).unwrap();
    let view = store.reader().view();
    for height in 1..=3_000 {
        let mut block = store.begin_block(Height(height)).unwrap();
        block.put("key", height.to_le_bytes()).unwrap();
        block.submit().unwrap();
    }
    store.flush().unwrap();
    assert_eq!(view.get("key").unwrap(), None);
    let drop_it = move || drop(view);
    std::thread::Builder::new().stack_size(64 << 10).spawn(drop_it).unwrap().join().unwrap();
    assert_eq!(store.stats().views, 1);
}

/// Views go on answering when the store is closed. (Of blocks that were not durable they do not: see
/// `concurrency.rs`.)
#[test]
fn views_answer_after_the_store_is_closed() {
    let _limit = Limit::new();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk())).unwrap();
    let before = store.reader().view();
    let mut block = store.begin_block(Height(1)).unwrap();
    block.put("key", "value").unwrap();
    block.submit().unwrap().durable().unwrap();
    let view = store.reader().view();
    store.close().unwrap();
    assert_eq!(view.get("key").unwrap(), Some(b"value".to_vec()));
    assert_eq!(before.get("key").unwrap(), None);
    assert!(matches!(view.get(""), Err(Error::Refused(Refused::KeyLength(0)))));
}
