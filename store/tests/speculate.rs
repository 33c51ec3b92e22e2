//! Speculative blocks: trees of them, what their states say, what becomes of them when one is accepted, another block
//! is, or the store is opened again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Gate, apply_net, dir, disk, disks, guarded, host_device, on, params, rules, tasks};
use hedgerow::disk::Vfs;
use hedgerow::hasher::by_name;
use hedgerow::{
    CompactionRule, Digest, Error, Height, Op, OpKind, Options, Receipt, Refused, Speculative,
    Store, StoreParams,
};
use hedgerow_hasher_api::HookedHasher;
use hedgerow_testkit::Limit;
use hedgerow_testkit::generate::{BlockGen, GenShape};
use hedgerow_testkit::model::{Counts, Model, NetChangeSet};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::VfsOp;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

/// A state and what comes next to it: accepted, or of a speculative block.
#[derive(Clone)]
struct World {
    model: Model,
    blocks: BlockGen,
}

/// A speculative block and the state that it must have.
struct Node {
    block: Speculative,
    world: World,
    /// The block that it follows, by number; `None`: the state that was the last accepted one.
    parent: Option<usize>,
}

fn check_counts(receipt: &Receipt, counts: Counts) {
    let found = Counts {
        created: receipt.created,
        updated: receipt.updated,
        deleted: receipt.deleted,
        absent_deletes: receipt.absent_deletes,
    };
    assert_eq!(found, counts);
}

/// Makes the next block of a world on `parent`.
fn speculate(
    store: &Store,
    parent: Option<&Speculative>,
    world: &mut World,
    strict: bool,
) -> Speculative {
    let (block, counts) = if strict {
        let block = world.blocks.strict();
        let extra = b"strict".to_vec();
        let speculative = store.speculate_tasks(parent, &tasks(&block), extra).unwrap();
        (speculative, world.model.apply(&block))
    } else {
        let (height, change_sets) = world.blocks.net();
        let mut block = store.speculate(parent).unwrap();
        assert_eq!(block.height(), Height(height));
        for (number, change_set) in change_sets.iter().enumerate() {
            if number > 0 {
                block.next_change_set().unwrap();
            }
            for (key, value) in change_set {
                match value {
                    Some(value) => block.put(key, value).unwrap(),
                    None => block.delete(key).unwrap(),
                }
                assert_eq!(block.get(key).unwrap(), *value);
            }
        }
        block.set_extra(format!("extra {height}")).unwrap();
        (block.finish().unwrap(), world.model.apply_net(height, &change_sets))
    };
    assert_eq!(block.height(), Height(world.model.height()));
    assert_eq!(block.root(), world.model.state_root());
    assert_eq!(block.roots().shards, world.model.roots());
    assert_eq!(block.len(), world.model.len());
    assert_eq!(block.receipt().root, block.root());
    check_counts(&block.receipt(), counts);
    block
}

/// Values and proofs of some keys after a speculative block.
fn check_block(block: &Speculative, world: &mut World, keys: &[Vec<u8>]) {
    let values = block.get_many(keys).unwrap();
    for (key, value) in keys.iter().zip(values) {
        let expected = world.model.get(key).map(<[u8]>::to_vec);
        assert_eq!(block.get(key).unwrap(), expected);
        assert_eq!(value, expected);
        let proven = block.prove(key).unwrap();
        assert_eq!((proven.height, proven.root), (block.height(), block.root()));
        let verified = hedgerow_proof::verify(&proven.root, key, &proven.proof).unwrap();
        assert_eq!(verified, expected.as_deref());
    }
    // All of them at once, the first of them twice.
    let Some(first) = keys.first() else { return };
    let keys: Vec<_> = keys.iter().chain([first]).collect();
    let proven = block.prove_many(&keys).unwrap();
    assert_eq!((proven.height, proven.root), (block.height(), block.root()));
    let verified = hedgerow_proof::verify_many(&proven.root, &keys, &proven.proof).unwrap();
    for (key, value) in keys.into_iter().zip(verified) {
        assert_eq!(value, world.model.get(key));
    }
}

/// Values and proofs of some keys in the published state.
fn check_store(store: &Store, world: &mut World, keys: &[Vec<u8>]) {
    let reader = store.reader();
    let (height, root) = reader.root();
    assert_eq!((height, root), (Height(world.model.height()), world.model.state_root()));
    for key in keys {
        let expected = world.model.get(key).map(<[u8]>::to_vec);
        assert_eq!(reader.get(key).unwrap(), expected);
        let proven = reader.prove(key).unwrap();
        let verified = hedgerow_proof::verify(&root, key, &proven.proof).unwrap();
        assert_eq!(verified, expected.as_deref());
    }
}

fn some_keys(world: &mut World, keys: usize) -> Vec<Vec<u8>> {
    (0..keys).map(|_| world.blocks.any_key()).collect()
}

fn assert_stale(block: &Speculative) {
    assert!(block.is_stale());
    let stale = |error: Error| matches!(error, Error::Stale { height } if height == block.height());
    assert!(stale(block.get("key").unwrap_err()));
    assert!(stale(block.get_many(&["key"]).unwrap_err()));
    assert!(stale(block.prove("key").unwrap_err()));
}

/// Options that may change nothing but speed.
fn options(disk: &Arc<dyn Vfs>, rng: &mut SplitMix64) -> Options {
    let mut pick = |choices: &[u64]| choices[rng.below(choices.len() as u64) as usize];
    let options = on(disk)
        .threads(pick(&[1, 2, 5]) as usize)
        .max_in_flight(pick(&[1, 2, 6]) as usize)
        .tail_bytes(pick(&[0, 10_000, 16 << 20]))
        .segment_bytes(pick(&[1, 20_000, 300_000, 256 << 20]))
        .keep_heights(pick(&[1, 3, 1_000]))
        .max_value_bytes(1 << 20);
    match pick(&[0, 1, 2]) {
        0 => options.hasher(by_name("scalar").unwrap()),
        1 => options.hasher(Arc::new(guarded(host_device(), 3))),
        _ => options,
    }
}

/// A random tree of speculative blocks over a store that takes blocks meanwhile.
fn trees(seed: u64, rule: CompactionRule, shape: GenShape, steps: u64) {
    println!("seed {seed}");
    let mut rng = SplitMix64::new(seed);
    let disk = disk();
    let params = StoreParams::default().with_compaction(rule);
    let mut store = Store::create(dir(), params, options(&disk, &mut rng)).unwrap();
    let model = Model::without_history(rule);
    let mut tip = World { model, blocks: BlockGen::new(seed, shape) };
    // The blocks that follow the last accepted state, and number of the block that is that.
    let (mut nodes, mut accepted) = (BTreeMap::<usize, Node>::new(), None::<usize>);
    let mut stale: Vec<Speculative> = Vec::new();
    let mut next_number = 0;
    for step in 0..steps {
        match rng.below(16) {
            // One more block on any state.
            0..9 => {
                let choice = rng.below(nodes.len() as u64 + 1) as usize;
                let chosen = nodes.iter().nth(choice).map(|(&number, _)| number);
                let mut world = chosen.map_or(&tip, |number| &nodes[&number].world).clone();
                world.blocks.go_on(rng.next_u64(), shape);
                let parent = chosen.map(|number| &nodes[&number].block);
                let block = speculate(&store, parent, &mut world, rng.below(2) == 0);
                let keys = some_keys(&mut world, 6);
                check_block(&block, &mut world, &keys);
                nodes.insert(next_number, Node { block, world, parent: chosen.or(accepted) });
                next_number += 1;
            }
            // One of those that come next is accepted.
            9..12 => {
                let ready = nodes.iter().filter(|(_, node)| node.parent == accepted);
                let ready: Vec<usize> = ready.map(|(&number, _)| number).collect();
                if ready.is_empty() {
                    continue;
                }
                let number = ready[rng.below(ready.len() as u64) as usize];
                if let Some(later) = nodes.values().find(|node| node.parent != accepted) {
                    let refused = store.accept(later.block.clone());
                    assert!(matches!(refused, Err(Error::WrongHeight { .. })));
                }
                let Node { block, world, .. } = nodes.remove(&number).unwrap();
                let (root, receipt, kept) = (block.root(), block.receipt(), block.clone());
                let ticket = store.accept(block).unwrap();
                assert_eq!(ticket.early_root().unwrap(), root);
                if rng.below(2) == 0 {
                    assert_eq!(ticket.receipt().unwrap(), receipt);
                }
                (tip, accepted) = (world, Some(number));
                // It is the last accepted state itself now.
                let keys = some_keys(&mut tip, 3);
                check_block(&kept, &mut tip, &keys);
                // What does not follow it is stale.
                let mut follow = vec![number];
                for (&number, node) in &nodes {
                    if node.parent.is_some_and(|parent| follow.contains(&parent)) {
                        follow.push(number);
                    }
                }
                let gone: Vec<usize> =
                    nodes.keys().filter(|number| !follow.contains(number)).copied().collect();
                stale.extend(gone.into_iter().map(|number| nodes.remove(&number).unwrap().block));
            }
            // An ordinary block: all are stale.
            12 => {
                let (height, change_sets) = tip.blocks.net();
                let counts = tip.model.apply_net(height, &change_sets);
                let receipt = apply_net(&mut store, height, &change_sets).unwrap();
                check_counts(&receipt, counts);
                stale.extend(std::mem::take(&mut nodes).into_values().map(|node| node.block));
                accepted = None;
            }
            // Some are dropped; those that follow them stay.
            13 => {
                let numbers: Vec<usize> = nodes.keys().copied().collect();
                if let Some(&number) = numbers.get(rng.below(numbers.len() as u64 + 1) as usize) {
                    // Nobody can accept what follows it any more.
                    let mut follow = vec![number];
                    for (&number, node) in &nodes {
                        if node.parent.is_some_and(|parent| follow.contains(&parent)) {
                            follow.push(number);
                        }
                    }
                    nodes.remove(&number);
                    for number in follow {
                        let Some(mut node) = nodes.remove(&number) else { continue };
                        let keys = some_keys(&mut node.world, 3);
                        check_block(&node.block, &mut node.world, &keys);
                    }
                }
            }
            // The store is opened again: there it knows nothing of them.
            14 => {
                let leftover = nodes.pop_first();
                nodes.clear();
                stale.clear();
                store.close().unwrap();
                store = Store::open(dir(), options(&disk, &mut rng)).unwrap();
                accepted = None;
                if let Some((_, mut node)) = leftover {
                    // It reads on, as a view would.
                    let keys = some_keys(&mut node.world, 3);
                    check_block(&node.block, &mut node.world, &keys);
                    let refused = store.accept(node.block.clone());
                    assert!(matches!(refused, Err(Error::Stale { .. })));
                    assert!(matches!(store.speculate(&node.block), Err(Error::Stale { .. })));
                }
            }
            _ => {
                let choice = rng.below(nodes.len().max(1) as u64) as usize;
                if let Some(node) = nodes.values_mut().nth(choice) {
                    let keys = some_keys(&mut node.world, 6);
                    check_block(&node.block, &mut node.world, &keys);
                }
                if step % 3 == 0 {
                    assert_eq!(store.check().unwrap().root, tip.model.state_root());
                }
            }
        }
        for block in stale.drain(..) {
            assert_stale(&block);
            assert!(matches!(store.accept(block), Err(Error::Stale { .. })));
        }
    }
    drop(nodes);
    store.flush().unwrap();
    assert_eq!(store.stats().speculation_bytes, 0);
    let keys = tip.blocks.keys().to_vec();
    check_store(&store, &mut tip, &keys);
    store.check().unwrap();
    store.close().unwrap();
    let mut store = Store::open(dir(), options(&disk, &mut rng)).unwrap();
    check_store(&store, &mut tip, &keys);
    store.check().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_of_speculative_blocks_is_that_of_the_model(
        seed: u64,
        rule in rules(),
        keys in prop_oneof![Just(60usize), Just(250), Just(2000)],
        per_set in prop_oneof![Just(5u64), Just(60), Just(600)],
        steps in 10u64..60,
    ) {
        let _limit = Limit::new();
        let shape = GenShape { keys, keys_per_change_set: per_set, ..GenShape::default() };
        trees(seed, rule, shape, steps);
    }
}

/// Key-value changes that do not depend on the state.
fn changes(rng: &mut SplitMix64, ops: u64, keys: u64) -> NetChangeSet {
    let change = |rng: &mut SplitMix64| {
        let key = format!("key {}", rng.below(keys)).into_bytes();
        let gone = rng.below(6) == 0;
        (key, (!gone).then(|| rng.next_u64().to_le_bytes().to_vec()))
    };
    (0..ops).map(|_| change(rng)).collect()
}

fn speculate_net(
    store: &Store,
    parent: Option<&Speculative>,
    changes: &NetChangeSet,
) -> Result<Speculative, Error> {
    let mut block = store.speculate(parent)?;
    for (key, value) in changes {
        match value {
            Some(value) => block.put(key, value)?,
            None => block.delete(key)?,
        }
    }
    block.finish()
}

/// Blocks that fill twigs of all shards, several at once, three deep, with compaction into what they wrote; a twin
/// commits the same.
#[test]
fn twigs_are_filled_within_speculative_blocks() {
    let _limit = Limit::new();
    let mut rng = SplitMix64::new(77);
    for rule in [params(1, 4, 5), params(1, 1, 1)] {
        let (disk, twin_disk) = (disk(), disk());
        let small = |disk| on(disk).segment_bytes(1 << 20).tail_bytes(100_000).keep_heights(1);
        let mut store = Store::create(dir(), rule, small(&disk)).unwrap();
        let mut twin = Store::create(dir(), rule, small(&twin_disk)).unwrap();
        for round in 0..5_u64 {
            let sizes = [70_000, 300, 40_000];
            let blocks: Vec<NetChangeSet> =
                sizes.iter().map(|&ops| changes(&mut rng, ops, 60_000)).collect();
            let mut chain: Vec<Speculative> = Vec::new();
            for block in &blocks {
                chain.push(speculate_net(&store, chain.last(), block).unwrap());
            }
            let roots: Vec<Digest> = chain.iter().map(Speculative::root).collect();
            let keys: Vec<Vec<u8>> =
                (0..300).map(|_| format!("key {}", rng.below(60_000)).into_bytes()).collect();
            let mut proofs = Vec::new();
            for block in &chain {
                proofs.push(keys.iter().map(|key| block.prove(key).unwrap()).collect::<Vec<_>>());
            }
            let mut accepted = chain.into_iter();
            for (number, block) in blocks.iter().enumerate() {
                let height = twin.height().next().0;
                let receipt = apply_net(&mut twin, height, std::slice::from_ref(block)).unwrap();
                assert_eq!(receipt.root, roots[number], "round {round}, block {number}");
                for (key, proven) in keys.iter().zip(&proofs[number]) {
                    let same = twin.reader().prove(key).unwrap();
                    assert_eq!(same.proof.as_bytes(), proven.proof.as_bytes());
                }
                // A chain is accepted as it is, or made again on the way, or goes on with blocks that are not
                // speculative: in each way after each other.
                let made = accepted.next().filter(|made| !made.is_stale());
                let found = match (made, (round + number as u64) % 4) {
                    (_, 3) => {
                        let change_sets = std::slice::from_ref(block);
                        apply_net(&mut store, height, change_sets).unwrap()
                    }
                    (Some(made), 0 | 1) => store.accept(made).unwrap().receipt().unwrap(),
                    _ => {
                        let again = speculate_net(&store, None, block).unwrap();
                        store.accept(again).unwrap().receipt().unwrap()
                    }
                };
                assert_eq!(found, receipt);
                for (key, proven) in keys.iter().zip(&proofs[number]) {
                    let same = store.reader().prove(key).unwrap();
                    assert_eq!(same.proof.as_bytes(), proven.proof.as_bytes());
                }
            }
            let report = store.check().unwrap();
            assert_eq!(report.root, roots[roots.len() - 1]);
            assert_eq!(report.twigs_missing, 0);
            if round == 1 {
                store.close().unwrap();
                store = Store::open(dir(), small(&disk)).unwrap();
            }
        }
        assert!(store.stats().log_start.0 > 0, "nothing was pruned");
        store.close().unwrap();
        let mut store = Store::open(dir(), small(&disk)).unwrap();
        assert_eq!(store.reader().root(), twin.reader().root());
        store.check().unwrap();
    }
}

/// A block on a block, each begun before the one before it is accepted: what is held does not grow, and what was
/// accepted is not held.
#[test]
fn an_endless_chain_holds_what_is_not_published() {
    let _limit = Limit::new();
    let mut rng = SplitMix64::new(5);
    let disk = disk();
    let mut store = Store::create(dir(), params(1, 4, 5), on(&disk)).unwrap();
    let mut last: Option<Speculative> = None;
    // The one that is made, and the one before it while it is not published.
    let (mut most, mut largest) = (0, 0);
    for _ in 0..200 {
        let next = speculate_net(&store, last.as_ref(), &changes(&mut rng, 300, 5_000)).unwrap();
        largest = next.bytes().max(largest);
        if let Some(block) = last.replace(next) {
            let root = block.root();
            assert_eq!(store.accept(block).unwrap().root().unwrap(), root);
        }
        most = store.stats().speculation_bytes.max(most);
    }
    println!("{most} bytes at most, {largest} of one block");
    assert!(most < 3 * largest / 2);
    drop(last);
    store.flush().unwrap();
    assert_eq!(store.stats().speculation_bytes, 0);
}

/// Accepting a block asks the hasher for nothing, whatever the block is.
#[test]
fn accepting_hashes_nothing() {
    let _limit = Limit::new();
    let hashed = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&hashed);
    let hasher = HookedHasher::new(by_name("cpu").unwrap(), move |call, inner| {
        counter.fetch_add(1, Ordering::SeqCst);
        call.hash(inner)
    });
    let disk = disk();
    let options = on(&disk).hasher(Arc::new(hasher));
    let mut store = Store::create(dir(), params(1, 4, 5), options).unwrap();
    let mut rng = SplitMix64::new(9);
    for ops in [1, 50, 40_000, 3_000] {
        let before = hashed.load(Ordering::SeqCst);
        let block = speculate_net(&store, None, &changes(&mut rng, ops, 30_000)).unwrap();
        let made = hashed.load(Ordering::SeqCst);
        assert!(made > before);
        let root = block.root();
        let ticket = store.accept(block).unwrap();
        assert_eq!(ticket.early_root().unwrap(), root);
        ticket.durable().unwrap();
        assert_eq!(store.reader().root(), (ticket.height(), root));
        store.flush().unwrap();
        assert_eq!(hashed.load(Ordering::SeqCst), made, "a block of {ops} operations");
    }
    store.check().unwrap();
}

/// More than may be is an error that changes nothing, and dropping makes room.
#[test]
fn what_takes_too_much_memory_is_refused() {
    let _limit = Limit::new();
    let disk = disk();
    let mut rng = SplitMix64::new(3);
    let first = changes(&mut rng, 2_000, 3_000);
    let store = Store::create(dir(), params(1, 4, 5), on(&disk)).unwrap();
    let bytes = speculate_net(&store, None, &first).unwrap().bytes();
    assert!(bytes > 2_000 * 60, "{bytes}");
    store.close().unwrap();

    let limit = 3 * bytes;
    let mut store = Store::open(dir(), on(&disk).speculation_bytes(limit)).unwrap();
    let mut blocks = Vec::new();
    let refused = loop {
        match speculate_net(&store, blocks.last(), &first) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
        let held = store.stats().speculation_bytes;
        assert!(held <= limit);
        assert_eq!(blocks.iter().map(Speculative::bytes).sum::<u64>(), held);
    };
    let used = store.stats().speculation_bytes;
    match refused {
        Error::SpeculationFull { used: said, needed, limit: bound } => {
            assert_eq!((said, bound), (used, limit));
            assert!(said + needed > bound);
        }
        other => panic!("{other}"),
    }
    assert!(blocks.len() >= 2);
    // A parent that is dropped gives back what its children do not need.
    let last = blocks.pop().unwrap();
    drop(blocks);
    let left = store.stats().speculation_bytes;
    assert!(left < used && left > last.bytes(), "{left} of {used}");
    drop(last);
    assert_eq!(store.stats().speculation_bytes, 0);
    let block = speculate_net(&store, None, &first).unwrap();
    store.accept(block).unwrap().durable().unwrap();
    store.close().unwrap();

    // None may be at all.
    let store = Store::open(dir(), on(&disk).speculation_bytes(0)).unwrap();
    let refused = speculate_net(&store, None, &first);
    assert!(matches!(refused, Err(Error::SpeculationFull { used: 0, limit: 0, .. })));
}

/// What is refused is refused as in any block, and leaves everything as it was.
#[test]
fn what_is_refused_leaves_all_as_it_was() {
    let disk = disk();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    let op = |kind, key: &str| Op { kind, key: key.into(), value: b"value".to_vec() };
    let refused = store.speculate_tasks(None, &[vec![vec![op(OpKind::Update, "a")]]], []);
    assert!(matches!(refused, Err(Error::Refused(Refused::InvalidOp { .. }))));
    let block = store.speculate_tasks(None, &[vec![vec![op(OpKind::Create, "a")]]], []).unwrap();
    let again = store.speculate_tasks(&block, &[vec![vec![op(OpKind::Create, "a")]]], []);
    assert!(matches!(again, Err(Error::Refused(Refused::InvalidOp { .. }))));
    let extra = vec![0; hedgerow::MAX_EXTRA_BYTES + 1];
    assert!(matches!(store.speculate_tasks(&block, &[], extra), Err(Error::ExtraTooLarge(_))));
    let mut draft = store.speculate(&block).unwrap();
    assert!(matches!(draft.put("", "v"), Err(Error::Refused(Refused::KeyLength(0)))));
    assert!(matches!(draft.delete([0; 256]), Err(Error::Refused(Refused::KeyLength(256)))));
    assert!(matches!(block.get(""), Err(Error::Refused(Refused::KeyLength(0)))));
    assert!(matches!(block.prove(""), Err(Error::Refused(Refused::KeyLength(0)))));
    let empty = draft.finish().unwrap();
    assert_eq!((empty.root(), empty.height()), (block.root(), Height(2)));
    // Not before the one that it follows.
    match store.accept(empty.clone()) {
        Err(Error::WrongHeight { given, expected }) => {
            assert_eq!((given, expected), (Height(2), Height(1)));
        }
        other => panic!("{other:?}"),
    }
    store.accept(block).unwrap();
    assert_eq!(store.accept(empty).unwrap().root().unwrap(), store.reader().root().1);
    // Another store has other states.
    let disk = common::disk();
    let other = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    let foreign = speculate_net(&other, None, &vec![(b"a".to_vec(), None)]).unwrap();
    assert!(matches!(store.accept(foreign.clone()), Err(Error::Stale { .. })));
    assert!(matches!(store.speculate(&foreign), Err(Error::Stale { .. })));
}

/// A store that is only read has speculative blocks and accepts none.
#[test]
fn a_store_that_is_only_read_speculates() {
    let disk = disk();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    let change = vec![(b"a".to_vec(), Some(b"1".to_vec()))];
    let root = speculate_net(&store, None, &change).unwrap().root();
    store.close().unwrap();
    store = Store::open(dir(), on(&disk).read_only()).unwrap();
    let block = speculate_net(&store, None, &change).unwrap();
    assert_eq!(block.root(), root);
    assert!(matches!(store.accept(block), Err(Error::ReadOnly)));
}

/// A store that failed takes none and makes none; what there is reads on.
#[test]
fn a_store_that_failed_accepts_none() {
    let _limit = Limit::new();
    let (gate, gone) = (Arc::new(Gate::default()), Arc::new(AtomicBool::new(false)));
    let (hook_gate, hook_gone) = (Arc::clone(&gate), Arc::clone(&gone));
    // The log's alone: an index in files would refuse blocks before the store fails.
    let disk = disks::hooked(move |call| {
        let of_log = call.path.extension().is_some_and(|name| name == "log");
        if of_log && call.op == VfsOp::Write && hook_gone.load(Ordering::SeqCst) {
            hook_gate.pass();
            return Err(call.error(std::io::Error::other(disks::GONE)));
        }
        Ok(())
    });
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    let change = |value: &str| vec![(b"a".to_vec(), Some(value.as_bytes().to_vec()))];
    let block = speculate_net(&store, None, &change("1")).unwrap();
    let next = speculate_net(&store, Some(&block), &change("2")).unwrap();
    gate.close();
    gone.store(true, Ordering::SeqCst);
    let ticket = store.accept(block.clone()).unwrap();
    // Published first, so that what follows could begin on what readers see.
    assert_eq!(ticket.root().unwrap(), block.root());
    gate.open();
    assert!(matches!(ticket.durable(), Err(Error::Poisoned { .. })));
    assert_eq!(next.get("a").unwrap().as_deref(), Some(&b"2"[..]));
    assert!(matches!(store.accept(next.clone()), Err(Error::Poisoned { .. })));
    assert!(matches!(store.speculate(&next), Err(Error::Poisoned { .. })));
    assert!(matches!(store.speculate(None), Err(Error::Poisoned { .. })));
    drop(store);
    // It may be written anew: then nothing is said of it.
    assert!(matches!(next.get("a"), Err(Error::Closed)));
}

/// Readers of speculative blocks while others are accepted: the answer of their own block, or that it is stale.
#[test]
fn readers_beside_the_writer() {
    let _limit = Limit::new();
    let disk = disk();
    let options = on(&disk).tail_bytes(1000).keep_heights(1).segment_bytes(10_000);
    let mut store = Store::create(dir(), params(1, 1, 1), options).unwrap();
    let keys: Vec<String> = (0..40).map(|number| format!("key {number}")).collect();
    let all = |value: &str| -> NetChangeSet {
        keys.iter().map(|key| (key.clone().into(), Some(value.into()))).collect()
    };
    std::thread::scope(|scope| {
        let mut to_readers = Vec::new();
        for _ in 0..2 {
            let (to_reader, blocks) = mpsc::sync_channel::<(Speculative, String)>(4);
            to_readers.push(to_reader);
            let keys = &keys;
            scope.spawn(move || {
                let mut answers = 0_u64;
                for (block, value) in blocks {
                    for key in keys {
                        let answer = block.get_many(keys).and_then(|values| {
                            let proven = block.prove(key)?;
                            Ok((values, block.get(key)?, proven))
                        });
                        match answer {
                            Ok((values, one, proven)) => {
                                let expected = Some(value.as_bytes().to_vec());
                                assert!(values.iter().all(|value| *value == expected));
                                assert_eq!(one, expected);
                                let proof = &proven.proof;
                                let verified =
                                    hedgerow_proof::verify(&block.root(), key.as_bytes(), proof);
                                assert_eq!(verified.unwrap(), Some(value.as_bytes()));
                                answers += 1;
                            }
                            Err(Error::Stale { .. }) => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
                println!("{answers} answers");
            });
        }
        let mut tip: Option<Speculative> = None;
        for round in 0..60 {
            let parent = tip.as_ref();
            let one = speculate_net(&store, parent, &all(&format!("one {round}"))).unwrap();
            let other = speculate_net(&store, parent, &all(&format!("other {round}"))).unwrap();
            let next = speculate_net(&store, Some(&one), &all(&format!("next {round}"))).unwrap();
            for (block, value) in [(&one, "one"), (&other, "other"), (&next, "next")] {
                for to_reader in &to_readers {
                    to_reader.send((block.clone(), format!("{value} {round}"))).unwrap();
                }
            }
            store.accept(one).unwrap();
            tip = Some(next.clone());
            store.accept(next).unwrap();
        }
        drop(to_readers);
    });
    store.check().unwrap();
}

/// Who is reading when another block is accepted is told that it is stale, whatever was read.
#[test]
fn a_read_that_is_overtaken_is_stale() {
    let _limit = Limit::new();
    let gate = Arc::new(Gate::default());
    let disk = disks::log_waits(VfsOp::Read, &gate);
    let options = on(&disk).tail_bytes(0);
    let mut store = Store::create(dir(), StoreParams::default(), options).unwrap();
    apply_net(&mut store, 1, &[vec![(b"a".to_vec(), Some(b"1".to_vec()))]]).unwrap();
    store.flush().unwrap();
    let change = |key: &str, value: &str| vec![(key.into(), Some(value.into()))];
    let read = speculate_net(&store, None, &change("b", "2")).unwrap();
    let accepted = speculate_net(&store, None, &change("a", "3")).unwrap();
    assert_eq!(read.get("a").unwrap().as_deref(), Some(&b"1"[..]));
    gate.close();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read.get("a"));
        gate.reached();
        let ticket = store.accept(accepted).unwrap();
        ticket.root().unwrap();
        gate.open();
        let answer = reader.join().unwrap();
        assert!(matches!(answer, Err(Error::Stale { height: Height(2) })), "{answer:?}");
    });
    store.flush().unwrap();
    assert_eq!(store.reader().get("a").unwrap().as_deref(), Some(&b"3"[..]));
}

/// A child of a block that is accepted and held back before it is written: it is made, hashed and accepted meanwhile.
#[test]
fn a_child_of_a_block_that_is_not_durable() {
    let _limit = Limit::new();
    let gate = Arc::new(Gate::default());
    let disk = disks::log_waits(VfsOp::Sync, &gate);
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    let change = |value: &str| vec![(b"a".to_vec(), Some(value.as_bytes().to_vec()))];
    let first = speculate_net(&store, None, &change("1")).unwrap();
    gate.close();
    let first_ticket = store.accept(first.clone()).unwrap();
    let second = speculate_net(&store, Some(&first), &change("2")).unwrap();
    let second_ticket = store.accept(second.clone()).unwrap();
    let third = speculate_net(&store, Some(&second), &change("3")).unwrap();
    assert_eq!(second_ticket.root().unwrap(), second.root());
    assert!(!first_ticket.is_durable().unwrap());
    assert_eq!(third.get("a").unwrap().as_deref(), Some(&b"3"[..]));
    gate.open();
    store.accept(third.clone()).unwrap().durable().unwrap();
    assert_eq!(store.reader().root(), (Height(3), third.root()));
    store.check().unwrap();
}

/// The disk stops at a random call while accepted blocks are written: what opens is some prefix of the blocks with at
/// least the durable ones, as with any blocks.
#[test]
fn a_disk_that_stops_while_accepted_blocks_are_written() {
    let _limit = Limit::new();
    let options = |disk: &Arc<dyn Vfs>| {
        on(disk).segment_bytes(150_000).tail_bytes(50_000).keep_heights(2).manifest_blocks(3)
    };
    let block_of = |height: u64| changes(&mut SplitMix64::new(height), 400, 3_000);
    const LAST: u64 = 24;
    let base = disk();
    let mut store = Store::create(dir(), params(1, 1, 1), options(&base)).unwrap();
    let mut roots = vec![store.reader().root().1];
    for height in 1..=LAST {
        let blocks = [block_of(height)];
        roots.push(apply_net(&mut store, height, &blocks).unwrap().root);
    }
    store.close().unwrap();
    let base = disk();
    drop(Store::create(dir(), params(1, 1, 1), options(&base)).unwrap());
    let seed = 1_147;
    println!("seed {seed}");
    let mut rng = SplitMix64::new(seed);
    for round in 0..30 {
        let inner = common::copy(&base);
        let (stopping, left) = disks::stopping(&inner);
        let mut store = Store::open(dir(), options(&stopping)).unwrap();
        left.store(rng.below(200), Ordering::SeqCst);
        let mut parent: Option<Speculative> = None;
        for height in 1..=LAST {
            let made = speculate_net(&store, parent.as_ref(), &block_of(height));
            let Ok(block) = made else { break };
            assert_eq!(block.root(), roots[height as usize]);
            if store.accept(block.clone()).is_err() {
                break;
            }
            parent = Some(block).filter(|_| height % 4 != 0);
        }
        let durable = store.reader().durable_height();
        drop((store, parent));
        left.store(u64::MAX, Ordering::SeqCst);

        let mut store = Store::open(dir(), options(&inner)).unwrap();
        let (height, root) = store.reader().root();
        assert!(height >= durable, "round {round}: {durable} was durable, {height} came back");
        assert_eq!(root, roots[height.0 as usize], "round {round}, height {height}");
        for height in height.0 + 1..=LAST {
            let block = speculate_net(&store, None, &block_of(height)).unwrap();
            let root = store.accept(block).unwrap().root().unwrap();
            assert_eq!(root, roots[height as usize], "round {round}, height {height}");
        }
        store.check().unwrap();
    }
}
