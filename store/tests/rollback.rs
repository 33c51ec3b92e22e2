//! Rollbacks: afterwards a store is what it would be had it never had the blocks that were taken back.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{TIERED, dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{
    BackupOptions, Digest, Error, Height, Options, SerialNumber, ShardId, Store, StoreParams,
};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Keys that the blocks write to.
const KEYS: u64 = 700;

/// A chain of blocks: of each the seed that its content follows from, and the root after it.
#[derive(Clone)]
struct Chain {
    params: StoreParams,
    seeds: Vec<u64>,
    /// One more: that of the state before the first.
    roots: Vec<Digest>,
}

impl Chain {
    fn height(&self) -> u64 {
        self.seeds.len() as u64
    }

    fn root(&self) -> Digest {
        self.roots[self.seeds.len()]
    }

    /// The next block, in the store and here.
    fn block(&mut self, store: &mut Store, seed: u64) {
        let root = submit(store, seed).root().unwrap();
        self.seeds.push(seed);
        self.roots.push(root);
    }

    fn roll_back(&mut self, store: &mut Store, height: u64) {
        store.rollback(Height(height)).unwrap();
        self.seeds.truncate(height as usize);
        self.roots.truncate(height as usize + 1);
        assert_eq!(store.height(), Height(height));
        assert_eq!(store.reader().root(), (Height(height), self.root()));
    }

    /// A store that never had any other block.
    fn reference(&self) -> Store {
        let disk = disk();
        let mut store = Store::create(dir(), self.params, Options::new().disk(disk)).unwrap();
        for (seed, root) in self.seeds.iter().zip(&self.roots[1..]) {
            assert_eq!(submit(&mut store, *seed).root().unwrap(), *root);
        }
        store.flush().unwrap();
        store
    }
}

/// Keys that come, change and go.
fn submit(store: &mut Store, seed: u64) -> hedgerow::Ticket {
    let mut rng = SplitMix64::new(seed);
    let mut block = store.next_block().unwrap();
    let ops = [0, 3, 60, 300][rng.below(4) as usize];
    for _ in 0..ops {
        let key = format!("key {}", rng.below(KEYS));
        match rng.below(4) {
            0 => block.delete(key).unwrap(),
            _ => {
                let value = format!("{seed} {}", rng.next_u64());
                block.put(key, value.repeat(1 + rng.below(3) as usize)).unwrap();
            }
        }
    }
    block.set_extra(format!("extra {seed}")).unwrap();
    block.submit().unwrap()
}

/// Everything that can be asked of the two is the same.
fn compare(store: &Store, reference: &Store, rng: &mut SplitMix64) {
    let (mine, other) = (store.reader(), reference.reader());
    assert_eq!(mine.root(), other.root());
    assert_eq!(mine.view().roots(), other.view().roots());
    let (stats, said) = (store.stats(), reference.stats());
    assert_eq!(
        (stats.keys, stats.entries, stats.next_sn, stats.oldest_active),
        (said.keys, said.entries, said.next_sn, said.oldest_active)
    );
    for number in 0..KEYS + 20 {
        let key = format!("key {number}");
        assert_eq!(mine.get(&key).unwrap(), other.get(&key).unwrap(), "{key}");
        if number % 7 == rng.below(7) {
            let (proven, said) = (mine.prove(&key).unwrap(), other.prove(&key).unwrap());
            assert_eq!(*proven.proof, *said.proof, "{key}");
            hedgerow::verify(&proven.root, key.as_bytes(), &proven.proof).unwrap();
        }
    }
    let all = |store: &Store| store.reader().iter().collect::<Result<Vec<_>, _>>().unwrap();
    assert!(all(store) == all(reference));
    for shard in ShardId::all() {
        let next = stats.next_sn[shard.index()].0;
        let oldest = stats.oldest_active[shard.index()].0;
        for sn in [oldest, next - 1, next, oldest + rng.below(next - oldest)].map(SerialNumber) {
            let (path, said) = (mine.prove_serial(shard, sn), other.prove_serial(shard, sn));
            match (path, said) {
                (Ok(path), Ok(said)) => assert_eq!(path, said, "{shard} {sn}"),
                (path, said) => assert!(path.is_err() && said.is_err(), "{shard} {sn}"),
            }
        }
    }
    let last = mine.height();
    for height in (last.0.saturating_sub(3)..=last.0).map(Height) {
        assert_eq!(mine.history(height).unwrap(), other.history(height).unwrap(), "{height}");
    }
    for height in [last.next(), Height(last.0 + 9)] {
        assert!(matches!(mine.history(height), Err(Error::HeightUnavailable { .. })), "{height}");
    }
}

/// What salvage gives out.
fn salvaged(disk: &Arc<dyn Vfs>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut all = BTreeMap::new();
    let report = Store::salvage(dir(), Options::new().disk(Arc::clone(disk)), |key, value| {
        assert!(all.insert(key.to_vec(), value.to_vec()).is_none(), "a key twice");
        true
    });
    let report = report.unwrap();
    assert!(report.is_whole(), "{report:?}");
    all
}

fn random_rollbacks(seed: u64, tiered: bool) {
    println!("seed {seed}, tiered {tiered}");
    let mut rng = SplitMix64::new(seed);
    let disk = disk();
    let rules = [params(1, 4, 5), params(1, 1, 1), params(1 << 40, 4, 5)];
    let params = rules[rng.below(3) as usize];
    let window = 1 + rng.below(12);
    let manifest_blocks = 1 + rng.below(9);
    let checkpoint_bytes = [0, 30_000, 200_000][rng.below(3) as usize];
    let segment_bytes = [1, 60_000, 4 << 20][rng.below(3) as usize];
    let keep = [1, 1000][rng.below(2) as usize];
    let options = || {
        let options = on(&disk).threads(1).keep_heights(keep).rollback_window(window);
        let options = options.segment_bytes(segment_bytes).manifest_blocks(manifest_blocks);
        let options = options.checkpoint_bytes(checkpoint_bytes);
        if tiered { options.index(TIERED) } else { options }
    };
    let mut store = Store::create(dir(), params, options()).unwrap();
    let roots = vec![store.reader().root().1];
    let mut chain = Chain { params, seeds: vec![], roots };
    // As low as this it was gone back to: below, what is needed may be pruned by now.
    let mut least = 0;
    for step in 0..60 {
        match rng.below(12) {
            0..8 => chain.block(&mut store, rng.next_u64()),
            8..10 => {
                let height = chain.height();
                let back = rng.below(window + 1).min(height);
                if height - back < least {
                    // Whatever is answered, the store goes on.
                    let was = store.reader().root();
                    if store.rollback(Height(height - back)).is_err() {
                        assert_eq!(store.reader().root(), was);
                        continue;
                    }
                    least = height - back;
                }
                chain.roll_back(&mut store, height - back);
            }
            10 => {
                let height = chain.height();
                let error = store.rollback(Height(height + 1)).unwrap_err();
                assert!(matches!(error, Error::HeightUnavailable { .. }), "{error}");
                if height > window {
                    let error = store.rollback(Height(height - window - 1)).unwrap_err();
                    assert!(matches!(error, Error::HeightUnavailable { .. }), "{error}");
                }
            }
            _ => {
                if rng.below(2) == 0 {
                    store.close().unwrap();
                } else {
                    store.flush().unwrap();
                    drop(store);
                }
                store = Store::open(dir(), options()).unwrap();
            }
        }
        least = least.max(chain.height().saturating_sub(window));
        assert_eq!(store.reader().root(), (Height(chain.height()), chain.root()), "step {step}");
    }
    let reference = chain.reference();
    compare(&store, &reference, &mut rng);
    store.check().unwrap();
    let beside = Store::open_read_only(dir(), options()).unwrap();
    assert!(beside.height() <= store.height());
    store.backup("/copy", BackupOptions::new()).unwrap();
    let mut copy = Store::open("/copy", options()).unwrap();
    compare(&copy, &reference, &mut rng);
    copy.check().unwrap();
    copy.close().unwrap();
    store.close().unwrap();

    let expected: BTreeMap<_, _> = reference.reader().iter().map(Result::unwrap).collect();
    assert!(salvaged(&disk) == expected);
    let bare = common::copy(&disk);
    bare.remove_dir_all(&dir().join("meta")).unwrap();
    assert!(salvaged(&bare) == expected, "rollback records alone tell what is dead");

    for without in [None, Some("checkpoints"), Some("twigs")] {
        if let Some(folder) = without
            && disk.exists(&dir().join(folder)).unwrap()
        {
            disk.remove_dir_all(&dir().join(folder)).unwrap();
        }
        let read_only = Store::open_read_only(dir(), options()).unwrap();
        assert_eq!(read_only.reader().root(), reference.reader().root(), "{without:?}");
        let mut store = Store::open(dir(), options()).unwrap();
        compare(&store, &reference, &mut rng);
        store.check().unwrap();
        store.close().unwrap();
    }
}

#[test]
fn random_rollbacks_leave_what_there_would_be_without() {
    let _limit = Limit::new();
    let first = std::env::var("HEDGEROW_ROLLBACK_SEED").map_or(1, |seed| seed.parse().unwrap());
    let count = std::env::var("HEDGEROW_ROLLBACKS").map_or(12, |count| count.parse().unwrap());
    for seed in first..first + count {
        random_rollbacks(seed, seed % 3 == 0);
    }
}
