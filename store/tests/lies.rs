//! Hashers that lie: nothing that a device computed is in the log, in the index or in an answer.
//!
//! ```text
//!   key hashes      decide shard, order and links: in the log, in the index       the CPU's, always
//!   leaves, nodes   decide the root, and are in the twig file                     the device's, sampled
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::forge::{files, read, records};
use common::{dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::hasher::{BatchHasher, by_name};
use hedgerow::{Digest, Height, Options, Store};
use hedgerow_hasher_api::{HashCall, HookedHasher, MessageGroup};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What every key begins with, and no entry: the first byte of an entry is the length of its key, and
/// all keys here are shorter.
const KEY: &[u8] = b"the key ";
const ONE_OF: u64 = 5000;
const BLOCKS: u64 = 12;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn key(n: u64) -> Vec<u8> {
    [KEY, n.to_string().as_bytes()].concat()
}

/// The next block of a workload that `seed` makes, and its effect on the model.
fn apply(store: &mut Store, model: &mut Model, rng: &mut SplitMix64, height: u64) {
    let mut block = store.begin_block(Height(height)).unwrap();
    for _ in 0..3000 {
        let key = key(rng.below(9000));
        if rng.below(5) == 0 {
            block.delete(&key).unwrap();
            model.remove(&key);
        } else {
            let value = rng.next_u64().to_le_bytes().to_vec();
            block.put(&key, &value).unwrap();
            model.insert(key, value);
        }
    }
    block.submit().unwrap();
}

/// What a liar lies about.
#[derive(Clone, Copy, PartialEq)]
enum About {
    Keys,
    Everything,
}

/// A hasher that falsifies one of [`ONE_OF`] digests of a kind, and the number of digests of that kind
/// that it was asked for.
fn liar(seed: u64, about: About) -> (Arc<dyn BatchHasher>, Arc<AtomicU64>) {
    let asked = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&asked);
    let lie = move |digest: &mut Digest| {
        if (count.fetch_add(1, Ordering::Relaxed) + seed).is_multiple_of(ONE_OF) {
            digest.0[(seed % 32) as usize] ^= 0x10;
        }
    };
    let hasher = HookedHasher::new(by_name("cpu").unwrap(), move |call, cpu| {
        call.hash(cpu)?;
        match (about, call) {
            (About::Everything, call) => call.for_each_digest(&lie),
            (About::Keys, HashCall::Messages(groups)) => {
                for MessageGroup { arena, spans, out } in groups.iter_mut() {
                    let keys = spans.iter().zip(out.iter_mut());
                    let keys = keys.filter(|(span, _)| span.of(arena).unwrap().starts_with(KEY));
                    keys.for_each(|(_, digest)| lie(digest));
                }
            }
            _ => {}
        }
        Ok(())
    });
    (Arc::new(hasher), asked)
}

/// The records of the log, without what differs from store to store, and without what a record says of
/// heights gone by: how far they had come when it was made, and which root was told.
fn log(disk: &Arc<dyn Vfs>) -> Vec<Vec<u8>> {
    let masked = |path: &PathBuf| {
        let mut bytes = read(disk, path);
        for at in records(&bytes) {
            bytes[at + 32..at + 80].fill(0);
            bytes[at + 344..at + 348].fill(0);
        }
        bytes.split_off(64)
    };
    files(disk, "log").iter().map(masked).collect()
}

fn options(disk: &Arc<dyn Vfs>) -> Options {
    on(disk).segment_bytes(1 << 20)
}

/// Runs the workload; the store is left open.
fn run(
    disk: &Arc<dyn Vfs>,
    hasher: Arc<dyn BatchHasher>,
    seed: u64,
) -> (Store, Model, Vec<Digest>) {
    let mut store = Store::create(dir(), params(1, 2, 1), options(disk).hasher(hasher)).unwrap();
    let (mut model, mut rng) = (Model::new(), SplitMix64::new(seed));
    let mut roots = vec![];
    for height in 1..=BLOCKS {
        apply(&mut store, &mut model, &mut rng, height);
        store.flush().unwrap();
        roots.push(store.reader().root().1);
    }
    (store, model, roots)
}

fn check_answers(store: &Store, model: &Model) {
    let reader = store.reader();
    for n in 0..9000 {
        let key = key(n);
        let found = reader.get(&key).unwrap();
        assert_eq!(found.as_deref(), model.get(&key).map(Vec::as_slice), "{n}");
    }
    let all: Vec<_> = reader.iter().map(|entry| entry.unwrap()).collect();
    assert_eq!(all.len(), model.len());
}

#[test]
fn lies_about_key_hashes_change_nothing() {
    let _limit = Limit::new();
    for seed in [1, 2] {
        let (honest, lying) = (disk(), disk());
        let (store, model, roots) = run(&honest, by_name("cpu").unwrap(), seed);
        drop(store);
        let (hasher, _) = liar(seed, About::Keys);
        let (mut store, _, told) = run(&lying, Arc::clone(&hasher), seed);
        assert!(log(&lying) == log(&honest), "seed {seed}: the lies are in the log");
        assert_eq!(told, roots, "seed {seed}");
        check_answers(&store, &model);
        store.check().unwrap();
        store.close().unwrap();
        // Opening hashes every key again.
        let mut store = Store::open(dir(), options(&lying).hasher(Arc::clone(&hasher))).unwrap();
        check_answers(&store, &model);
        store.check().unwrap();
        let (mut model, mut rng) = (model, SplitMix64::new(!seed));
        apply(&mut store, &mut model, &mut rng, BLOCKS + 1);
        store.flush().unwrap();
        check_answers(&store, &model);
        store.check().unwrap();
    }
}

/// Lies about everything that a device is asked for cost the root at most.
#[test]
fn no_lie_is_in_the_log_or_the_index() {
    let _limit = Limit::new();
    for seed in [3, 4] {
        let (honest, lying) = (disk(), disk());
        let (store, model, roots) = run(&honest, by_name("cpu").unwrap(), seed);
        drop(store);
        let (hasher, seen) = liar(seed, About::Everything);
        let (store, _, told) = run(&lying, hasher, seed);
        assert!(
            seen.load(Ordering::Relaxed) > 10 * ONE_OF,
            "seed {seed}: too few digests for lies"
        );
        assert_ne!(told, roots, "seed {seed}: no lie was told");
        assert!(log(&lying) == log(&honest), "seed {seed}: the lies are in the log");
        check_answers(&store, &model);
    }
}
