//! Proofs by key: making them from the published state, and verifying them with nothing but a root.
//!
//! Names are `proof::<operation>/<answer>/keys=<keys>`. The store lives in memory, with the default
//! options; every key is a random one. With 10,000 keys the entries lie in the youngest twigs, whose
//! leaves are in memory; with a million they lie in finished ones, for which a proof reads the twig's
//! record and hashes 16 entries again. Prints the size of the proofs.
//!
//! `proof::<operation>_many/of=<asked>/keys=<keys>`: one proof of so many keys, half of them present. Beside its size
//! stands that of single proofs of the same keys; the time of these is that many times the single ones'.
//!
//! `cargo bench -p hedgerow-benches --bench proof`, with a filter such as `proof::verify` behind it.
#![expect(clippy::unwrap_used, reason = "an error ends the bench")]

use criterion::{Criterion, criterion_group, criterion_main};
use hedgerow::disk::MemDisk;
use hedgerow::{CompactionRule, Digest, Height, Options, Reader, Store, StoreParams};
use hedgerow_benches::workload::{Generator, Random};
use std::{hint::black_box, sync::Arc};

const SIZES: [u32; 2] = [10_000, 1_000_000];
const BLOCK: u32 = 50_000;
/// Proofs that the verifier goes round in.
const PROOFS: usize = 1000;

/// The keys `0..keys` in a store in memory.
fn store(generator: &Generator, keys: u32) -> Store {
    let options = Options::new().disk(Arc::new(MemDisk::new()));
    // The rule of the first figures, so that later ones compare.
    let rule = CompactionRule::new(65_536, 1, 2).unwrap();
    let params = StoreParams::default().with_compaction(rule);
    let mut store = Store::create("store", params, options).unwrap();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for first in (0..keys).step_by(BLOCK as usize) {
        let height = Height(store.height().0 + 1);
        let mut block = store.begin_block(height).unwrap();
        for id in first..keys.min(first + BLOCK) {
            generator.key(id, &mut key);
            generator.value(id, 0, &mut value);
            block.put(&key, &value).unwrap();
        }
        block.commit().unwrap();
    }
    store.flush().unwrap();
    store
}

/// Keys that are present, or absent ones.
struct Keys<'a> {
    generator: &'a Generator,
    random: Random,
    keys: u32,
    present: bool,
}

impl Keys<'_> {
    fn next(&mut self) -> Vec<u8> {
        let id = self.random.below(self.keys.into()).unwrap() as u32;
        let mut key = Vec::new();
        // Ids above the populated ones were never written.
        self.generator.key(if self.present { id } else { u32::MAX - id }, &mut key);
        key
    }
}

struct Made {
    key: Vec<u8>,
    root: Digest,
    bytes: Vec<u8>,
}

fn made(reader: &Reader, keys: &mut Keys<'_>) -> Vec<Made> {
    let one = |key: Vec<u8>| {
        let proven = reader.prove(&key).unwrap();
        Made { key, root: proven.root, bytes: proven.proof.into_bytes() }
    };
    (0..PROOFS).map(|_| one(keys.next())).collect()
}

fn proof(c: &mut Criterion) {
    let generator = Generator::new(1, 32, 32);
    for keys in SIZES {
        let store = store(&generator, keys);
        let reader = store.reader();
        for (answer, present) in [("present", true), ("absent", false)] {
            let random = Random::new(2);
            let mut keys_of = Keys { generator: &generator, random, keys, present };
            let id = |operation: &str| format!("proof::{operation}/{answer}/keys={keys}");

            let proofs = made(&reader, &mut keys_of);
            let mut lens: Vec<usize> = proofs.iter().map(|proof| proof.bytes.len()).collect();
            lens.sort_unstable();
            let mean = lens.iter().sum::<usize>() as f64 / lens.len() as f64;
            let (first, last) = (lens[0], lens[lens.len() - 1]);
            println!("proof::size/{answer}/keys={keys}: {mean:.0} bytes ({first} to {last})");

            c.bench_function(&id("prove"), |b| {
                b.iter_batched(
                    || keys_of.next(),
                    |key| reader.prove(key).unwrap(),
                    criterion::BatchSize::SmallInput,
                );
            });
            let mut turn = proofs.iter().cycle();
            c.bench_function(&id("verify"), |b| {
                b.iter(|| {
                    let Some(Made { key, root, bytes }) = black_box(turn.next()) else { return };
                    let value = hedgerow_proof::verify(root, key, bytes).unwrap();
                    assert_eq!(value.is_some(), present);
                });
            });
        }
        store.close().unwrap();
    }
}

/// How many keys are proved at once.
const ASKED: [usize; 4] = [1, 10, 100, 1_000];

fn many(c: &mut Criterion) {
    let generator = Generator::new(1, 32, 32);
    for keys in SIZES {
        let store = store(&generator, keys);
        let reader = store.reader();
        for asked in ASKED {
            let keys_of = |seed, present| {
                let random = Random::new(seed);
                Keys { generator: &generator, random, keys, present }
            };
            let (mut present, mut absent) = (keys_of(3, true), keys_of(4, false));
            let mut next = || -> Vec<Vec<u8>> {
                let one = |i| if i % 2 == 0 { present.next() } else { absent.next() };
                (0..asked).map(one).collect()
            };
            let id = |operation: &str| format!("proof::{operation}_many/of={asked}/keys={keys}");

            let set = next();
            let proven = reader.prove_many(&set).unwrap();
            let alone = |key: &Vec<u8>| reader.prove(key).unwrap().proof.len();
            let singles: usize = set.iter().map(alone).sum();
            let len = proven.proof.len();
            println!("proof::size_many/of={asked}/keys={keys}: {len} bytes, {singles} one by one");

            c.bench_function(&id("prove"), |b| {
                b.iter_batched(
                    &mut next,
                    |set| reader.prove_many(&set).unwrap(),
                    criterion::BatchSize::SmallInput,
                );
            });
            c.bench_function(&id("verify"), |b| {
                b.iter(|| {
                    let set = black_box(&set);
                    let values = hedgerow_proof::verify_many(&proven.root, set, &proven.proof);
                    assert_eq!(values.unwrap().len(), asked);
                });
            });
        }
        store.close().unwrap();
    }
}

criterion_group!(benches, proof, many);
criterion_main!(benches);
