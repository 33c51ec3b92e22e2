//! Random histories against the model: the same values, iteration order, proofs and roots, whatever
//! the options, however often the store is reopened.
//!
//! Every run is decided by one seed, which a failure prints.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{apply_net, dir, disk, guarded, host_device, on, rules, tasks};
use hedgerow::hasher::{BatchHasher, Tuning, by_name, by_name_tuned, names};
use hedgerow::{
    CompactionRule, Digest, Durability, Error, Height, Options, Receipt, Store, StoreParams,
};
use hedgerow_hasher_device::Failure;
use hedgerow_testkit::Limit;
use hedgerow_testkit::generate::{BlockGen, GenShape};
use hedgerow_testkit::model::{Counts, Model};
use hedgerow_testkit::recipe::SplitMix64;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// The devices of this build and machine, keeping the rows of every block.
static DEVICES: LazyLock<Vec<Arc<dyn BatchHasher>>> = LazyLock::new(|| {
    let names = names().into_iter().filter(|name| name.contains(':') && !name.starts_with("cpu:"));
    let tuning = Tuning { check_one_of: 100, resident_from: Some(0) };
    let devices: Vec<_> = names.map(|name| (by_name_tuned(&name, tuning).unwrap(), name)).collect();
    println!("devices: {:?}", devices.iter().map(|(_, name)| name).collect::<Vec<_>>());
    devices.into_iter().map(|(device, _)| device).collect()
});

/// Options that may change nothing but speed.
fn options(rng: &mut SplitMix64) -> Options {
    let mut pick = |choices: &[u64]| choices[rng.below(choices.len() as u64) as usize];
    let durability = if pick(&[0, 1]) == 0 { Durability::Pipelined } else { Durability::EachBlock };
    let hasher: Arc<dyn BatchHasher> = match pick(&[0, 1, 2, 3, 4, 5]) {
        0 => by_name("cpu").unwrap(),
        1 => by_name("scalar").unwrap(),
        2 => by_name("auto").unwrap(),
        3 => Arc::new(guarded(host_device(), 3)),
        4 if !DEVICES.is_empty() => {
            Arc::clone(&DEVICES[pick(&[0, 1, 2, 3]) as usize % DEVICES.len()])
        }
        _ => {
            let device = host_device();
            let failure = if pick(&[0, 1]) == 0 { Failure::Once } else { Failure::Lost };
            device.fail_at(pick(&[0, 10, 100, 500]), failure);
            Arc::new(guarded(device, 0))
        }
    };
    let options = Options::default()
        .threads(pick(&[1, 2, 5]) as usize)
        .durability(durability)
        .hasher(hasher)
        .max_in_flight(pick(&[1, 2, 6]) as usize)
        .tail_bytes(pick(&[0, 10_000, 16 << 20]))
        .entry_cache_bytes(pick(&[0, 5_000, 32 << 20]))
        .link_cache_bytes(pick(&[0, 20_000, 64 << 20]))
        .segment_bytes(pick(&[1, 20_000, 300_000, 256 << 20]))
        .max_value_bytes(1 << 20);
    let history = pick(&[1, 1, 3, 50, u64::MAX]);
    match pick(&[0, 0, 1, 3, 50]) {
        0 => options.keep_all(),
        heights => options.keep_heights(heights),
    }
    .keep_history(history)
}

fn check_counts(receipt: &Receipt, counts: Counts) {
    let found = (receipt.created, receipt.updated, receipt.deleted, receipt.absent_deletes);
    assert_eq!(found, (counts.created, counts.updated, counts.deleted, counts.absent_deletes));
}

/// Compares everything that readers can see with the model, for the keys given.
fn check_readers(store: &Store, model: &mut Model, keys: &[Vec<u8>]) {
    let reader = store.reader();
    let (height, root) = reader.root();
    assert_eq!(height, Height(model.height()));
    assert_eq!(root, model.state_root());
    let many = reader.get_many(keys).unwrap();
    for (key, value) in keys.iter().zip(&many) {
        let expected = model.get(key);
        assert_eq!(value.as_deref(), expected);
        assert_eq!(reader.get(key).unwrap(), *value);
        let proven = reader.prove(key).unwrap();
        assert_eq!((proven.height, proven.root), (height, root));
        let verified = hedgerow_proof::verify(&root, key, &proven.proof).unwrap();
        assert_eq!(verified, expected);
    }
}

fn check_iter(store: &Store, model: &Model) {
    let found: Vec<_> = store.reader().iter().collect::<Result<_, _>>().unwrap();
    let expected: Vec<(Vec<u8>, Vec<u8>)> =
        model.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    assert_eq!(found, expected);
}

fn history(seed: u64, rule: CompactionRule, shape: GenShape, blocks: u64) {
    let mut rng = SplitMix64::new(seed);
    let mut blocks_of = BlockGen::new(seed, shape);
    let mut model = Model::without_history(rule);
    let disk = disk();
    let open = |rng: &mut SplitMix64| options(rng).disk(disk.clone());
    let params = StoreParams::default().with_compaction(rule);
    let mut store = Store::create(dir(), params, open(&mut rng)).unwrap();
    let mut roots: BTreeMap<u64, Digest> = BTreeMap::new();
    roots.insert(0, model.state_root());
    let mut tickets = Vec::new();
    for _ in 0..blocks {
        if rng.below(2) == 0 {
            let block = blocks_of.strict();
            model.apply(&block);
            let ticket = store.submit_tasks(Height(block.height), &tasks(&block), []).unwrap();
            tickets.push(ticket);
        } else {
            let (height, change_sets) = blocks_of.net();
            let counts = model.apply_net(height, &change_sets);
            let receipt = apply_net(&mut store, height, &change_sets).unwrap();
            check_counts(&receipt, counts);
            assert_eq!(receipt.root, model.state_root(), "height {height}");
        }
        let height = model.height();
        roots.insert(height, model.state_root());
        if rng.below(4) == 0 {
            for ticket in tickets.drain(..) {
                assert_eq!(ticket.root().unwrap(), roots[&ticket.height().0]);
            }
            let keys: Vec<_> = (0..6).map(|_| blocks_of.any_key()).collect();
            check_readers(&store, &mut model, &keys);
        }
        match rng.below(12) {
            0 => {
                store.close().unwrap();
                store = Store::open(dir(), open(&mut rng)).unwrap();
                assert_eq!(store.reader().root(), (Height(height), roots[&height]));
            }
            1 => {
                let report = store.check().unwrap();
                assert_eq!((report.height.0, report.root), (height, roots[&height]));
                assert_eq!(report.keys, model.len());
            }
            _ => {}
        }
    }
    for ticket in tickets {
        assert_eq!(ticket.root().unwrap(), roots[&ticket.height().0]);
        ticket.durable().unwrap();
    }
    let keys = blocks_of.keys().to_vec();
    check_readers(&store, &mut model, &keys);
    check_iter(&store, &model);
    let reader = store.reader();
    // How much history is kept varies too: what there is is right, and ends where it is said to.
    store.flush().unwrap();
    for (height, root) in &roots {
        match reader.root_at(Height(*height)) {
            Ok(kept) => assert_eq!(kept, *root),
            Err(Error::HeightUnavailable { first, .. }) => assert!(Height(*height) < first),
            Err(error) => panic!("seed {seed}, height {height}: {error}"),
        }
    }
    assert_eq!(reader.root_at(Height(model.height())).unwrap(), model.state_root());
    store.check().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_that_of_the_model(
        seed: u64,
        rule in rules(),
        keys in prop_oneof![Just(60usize), Just(250), Just(2000)],
        per_set in prop_oneof![Just(5u64), Just(60), Just(600)],
        blocks in 5u64..40,
    ) {
        let _limit = Limit::new();
        let shape = GenShape { keys, keys_per_change_set: per_set, ..GenShape::default() };
        history(seed, rule, shape, blocks);
        for device in DEVICES.iter() {
            assert_eq!(device.health().quarantined, None);
        }
    }
}

/// Large blocks over many keys, so that twigs fill, are evicted and pruned: a million operations.
#[test]
fn a_million_operations() {
    let _limit = Limit::new();
    let rule = CompactionRule::new(1, 4, 5).unwrap();
    let shape =
        GenShape { keys: 60_000, keys_per_change_set: 24_000, change_sets: 4, max_value_len: 100 };
    let mut operations = 0;
    let mut seed = 2_026;
    while operations < 1_000_000 {
        operations += long_history(seed, rule, shape, 12);
        seed += 1;
    }
    println!("{operations} operations");
}

/// As [`history`] without the model's proofs of every key; returns the number of operations.
fn long_history(seed: u64, rule: CompactionRule, shape: GenShape, blocks: u64) -> u64 {
    println!("seed {seed}");
    let mut rng = SplitMix64::new(seed);
    let mut blocks_of = BlockGen::new(seed, shape);
    let mut model = Model::without_history(rule);
    let disk = disk();
    let open = || on(&disk).keep_heights(2).segment_bytes(2 << 20);
    let params = StoreParams::default().with_compaction(rule);
    let mut store = Store::create(dir(), params, open()).unwrap();
    let mut operations = 0;
    for _ in 0..blocks {
        let (height, change_sets) = blocks_of.net();
        operations += change_sets.iter().map(Vec::len).sum::<usize>() as u64;
        let counts = model.apply_net(height, &change_sets);
        let receipt = apply_net(&mut store, height, &change_sets).unwrap();
        check_counts(&receipt, counts);
        assert_eq!(receipt.root, model.state_root(), "seed {seed}, height {height}");
        if rng.below(5) == 0 {
            store.close().unwrap();
            store = Store::open(dir(), open()).unwrap();
        }
        let keys: Vec<_> = (0..20).map(|_| blocks_of.any_key()).collect();
        check_readers(&store, &mut model, &keys);
    }
    check_iter(&store, &model);
    let stats = store.stats();
    assert!(stats.log_start.0 > 0, "nothing was pruned");
    store.check().unwrap();
    operations
}

/// Readers beside a writer: whatever height an answer is of, it is the answer of that height.
#[test]
fn readers_beside_the_writer() {
    let _limit = Limit::new();
    let disk = disk();
    let options = on(&disk).tail_bytes(1000).keep_heights(1).segment_bytes(10_000);
    let rule = CompactionRule::new(1, 1, 1).unwrap();
    let params = StoreParams::default().with_compaction(rule);
    let mut store = Store::create(dir(), params, options).unwrap();
    let reader = store.reader();
    let keys: Vec<String> = (0..50).map(|i| format!("key {i}")).collect();
    const LAST: u64 = 150;
    std::thread::scope(|scope| {
        for offset in [0, 1] {
            let (reader, keys) = (reader.clone(), &keys);
            scope.spawn(move || {
                let mut proofs = 0;
                while proofs == 0 || reader.height() < Height(LAST) {
                    // All keys are written in every block: all of them say the same height.
                    let values = reader.get_many(keys).unwrap();
                    assert!(values.windows(2).all(|pair| pair[0] == pair[1]), "mixed heights");
                    let key = &keys[(proofs + offset) % keys.len()];
                    let proven = reader.prove(key).unwrap();
                    let value = hedgerow_proof::verify(&proven.root, key.as_bytes(), &proven.proof);
                    let expected = (proven.height > Height(0)).then(|| proven.height.to_string());
                    assert_eq!(value.unwrap(), expected.as_deref().map(str::as_bytes));
                    assert_eq!(reader.root_at(proven.height).unwrap(), proven.root);
                    let count = reader.iter().inspect(|pair| assert!(pair.is_ok())).count();
                    assert!(count == keys.len() || count == 0);
                    proofs += 1;
                }
            });
        }
        for height in 1..=LAST {
            let mut block = store.begin_block(Height(height)).unwrap();
            for key in &keys {
                block.put(key, height.to_string()).unwrap();
            }
            block.submit().unwrap();
        }
        store.flush().unwrap();
    });
    store.check().unwrap();
}
