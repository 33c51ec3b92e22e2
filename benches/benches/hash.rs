//! Batch hashing: every CPU kernel and device on the shapes that the trees ask for.
//!
//! Names are `hash/<shape>/<operation>/kernel=<kernel>/n=<batch size>`; the reported elements are
//! messages or nodes. Kernels:
//!
//! * `digest`: a loop of `sha2::Sha256::digest` over prepared messages, the yardstick; for a tree
//!   over the 65 bytes that it builds of every two digests;
//! * `scalar`: the reference backend (builds each node's 65 bytes, then digests them);
//! * `cpu`: the CPU backend on all cores;
//! * `cpu-1`: the CPU backend on one thread;
//! * `cpu:NAME`: the same, pinned to one kernel; every one that this CPU runs.
//! * `cuda:..`, `wgpu:..`, `wgpu-software:..`: every device of the features this is built with,
//!   transfers included; software adapters only prove that it runs.
//!
//! Small batches are hashed over and over, in the caches; a million nodes stream from memory.
//!
//! `cargo bench -p hedgerow-benches --bench hash`, with a filter such as `hash/node` behind it. Other
//! people's crates on the same input, and goals: `benches/compare`.
#![expect(clippy::unwrap_used, reason = "an error ends the bench")]

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group,
    criterion_main, measurement::WallTime,
};
use hedgerow_benches::hashing::{
    LEVEL, MESSAGE_BATCHES, Messages, NODE_BATCHES, Nodes, TREE_LEAVES, Tree, devices,
    on_one_thread, pinned_kernels,
};
use hedgerow_hasher_api::{
    BatchHasher, HashError, IndexedPairGroup, LeftTree, MessageGroup, ScalarHasher,
};
use hedgerow_hasher_cpu::CpuHasher;
use hedgerow_types::{Digest, SHARDS, TWIG_LEAVES};
use sha2::{Digest as _, Sha256};
use std::{
    hint::black_box,
    sync::{Arc, LazyLock},
    time::Duration,
};

type Hashers = Vec<(String, Arc<dyn BatchHasher>)>;

/// Made once: a device takes half a second to open.
fn hashers() -> &'static Hashers {
    static HASHERS: LazyLock<Hashers> = LazyLock::new(|| {
        let mut hashers: Hashers = vec![
            ("scalar".into(), Arc::new(ScalarHasher)),
            ("cpu".into(), Arc::new(CpuHasher::new())),
            ("cpu-1".into(), Arc::new(on_one_thread(CpuHasher::new()).unwrap())),
        ];
        for (name, hasher) in pinned_kernels().unwrap().0 {
            hashers.push((name, Arc::new(hasher)));
        }
        hashers.extend(devices());
        hashers
    });
    &HASHERS
}

fn sha2(message: &[u8]) -> Digest {
    Digest(Sha256::digest(message).into())
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
}

/// What follows are batches of `n`.
fn batches_of(group: &mut BenchmarkGroup<'_, WallTime>, n: usize) {
    group.throughput(Throughput::Elements(n as u64));
    // A slow kernel takes half a second for the largest.
    if n > 50_000 {
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
    }
}

fn id(kernel: &str, n: usize) -> BenchmarkId {
    BenchmarkId::new(format!("kernel={kernel}"), format!("n={n}"))
}

/// A batch operation on fixed input; an error ends the bench.
fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    mut operation: impl FnMut() -> Result<(), HashError>,
) {
    let mut failure = None;
    group.bench_function(id, |b| {
        b.iter(|| {
            if let Err(error) = operation() {
                failure = Some(error);
            }
        });
    });
    assert_eq!(failure, None, "a backend failed");
}

/// One contiguous level.
fn pairs(c: &mut Criterion) {
    let mut group = group(c, "hash/node/pairs");
    for n in NODE_BATCHES {
        let nodes = Nodes::new(n);
        let preimages = nodes.preimages();
        let mut out = vec![Digest::ZERO; n];
        batches_of(&mut group, n);
        group.bench_function(id("digest", n), |b| {
            b.iter(|| {
                for (preimage, out) in black_box(&preimages).iter().zip(&mut out) {
                    *out = sha2(preimage);
                }
                black_box(&mut out);
            });
        });
        for (name, hasher) in hashers() {
            bench(&mut group, id(name, n), || {
                black_box(&nodes).hash(hasher.as_ref(), black_box(&mut out))
            });
        }
    }
}

/// Every fourth node of a level of all 16 shards.
fn indexed_pairs(c: &mut Criterion) {
    let mut group = group(c, "hash/node/indexed_pairs");
    for n in NODE_BATCHES {
        let per_shard: Vec<usize> = (0..16).map(|shard| (n + shard) / 16).collect();
        let children: Vec<_> =
            per_shard.iter().map(|&count| Nodes::new(4 * count).children).collect();
        let parents: Vec<Vec<u32>> = per_shard
            .iter()
            .map(|&count| (0..count as u32).map(|i| 4 * i + i % 4).collect())
            .collect();
        let mut outputs: Vec<_> =
            per_shard.iter().map(|&count| vec![Digest::ZERO; 4 * count]).collect();
        batches_of(&mut group, n);
        for (name, hasher) in hashers() {
            bench(&mut group, id(name, n), || {
                let mut batch: Vec<_> = (black_box(&children).iter().zip(&parents))
                    .zip(black_box(&mut outputs))
                    .map(|((children, parents), out)| IndexedPairGroup { children, parents, out })
                    .collect();
                hasher.indexed_pairs(LEVEL, &mut batch)
            });
        }
    }
}

/// All levels of a tree, each stored.
fn tree(c: &mut Criterion) {
    let mut group = group(c, "hash/tree/levels");
    let tree = Tree::new(TREE_LEAVES);
    let mut levels = tree.levels();
    batches_of(&mut group, tree.nodes());
    group.bench_function(id("digest", tree.nodes()), |b| {
        b.iter(|| {
            black_box(&tree).hash_one_by_one(|preimage| sha2(preimage), black_box(&mut levels));
        });
    });
    for (name, hasher) in hashers() {
        bench(&mut group, id(name, tree.nodes()), || {
            black_box(&tree).hash(hasher.as_ref(), black_box(&mut levels))
        });
    }
}

/// Left trees of 16 shards, each with so many new leaves across the border of two twigs.
fn left_trees(c: &mut Criterion) {
    let mut group = group(c, "hash/tree/left_trees");
    let leaves = vec![Digest([0x5A; 32]); 2 * TWIG_LEAVES];
    for new in [4, 64, 1024, 2 * TWIG_LEAVES] {
        let changed = TWIG_LEAVES - new / 2..TWIG_LEAVES + new / 2;
        let mut trees = vec![LeftTree::new(2); SHARDS];
        let nodes = SHARDS * trees[0].group(&leaves, changed.clone()).nodes();
        batches_of(&mut group, nodes);
        for (name, hasher) in hashers() {
            bench(&mut group, id(name, nodes), || {
                let trees = trees.iter_mut();
                let groups = trees.map(|tree| tree.group(black_box(&leaves), changed.clone()));
                hasher.left_trees(&mut groups.collect::<Vec<_>>())
            });
        }
    }
}

/// Messages back to back, in one group per shard.
fn messages(c: &mut Criterion, name: &str, messages: fn(usize) -> Messages) {
    let mut group = group(c, name);
    for n in MESSAGE_BATCHES {
        let messages = messages(n);
        let mut out = vec![Digest::ZERO; n];
        batches_of(&mut group, n);
        group.bench_function(id("digest", n), |b| {
            b.iter(|| {
                for (message, out) in black_box(&messages).iter().zip(&mut out) {
                    *out = sha2(message);
                }
                black_box(&mut out);
            });
        });
        let arena = &messages.arena;
        for (name, hasher) in hashers() {
            bench(&mut group, id(name, n), || {
                let shards = messages.spans.chunks(n / 16).zip(out.chunks_mut(n / 16));
                let mut batch: Vec<_> = shards
                    .map(|(spans, out)| MessageGroup { arena: black_box(arena), spans, out })
                    .collect();
                hasher.messages(&mut batch)
            });
        }
    }
}

/// Entries as blocks of short keys and values make them, lengths mixed.
fn entries(c: &mut Criterion) {
    messages(c, "hash/message/entries", Messages::entries);
}

/// Key hashes of 32-byte keys.
fn keys(c: &mut Criterion) {
    messages(c, "hash/message/keys", Messages::keys);
}

criterion_group!(benches, pairs, indexed_pairs, tree, left_trees, entries, keys);
criterion_main!(benches);
