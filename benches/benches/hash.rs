//! Batch hashing: every CPU kernel on the shapes that the trees ask for.
//!
//! Names are `hash/<shape>/<operation>/kernel=<kernel>/n=<batch size>`; the reported elements are
//! messages or nodes. Kernels:
//!
//! * `digest`: a loop of `sha2::Sha256::digest` over prepared 65-byte messages, the yardstick;
//! * `scalar`: the reference backend (builds each node's 65 bytes, then digests them);
//! * `cpu-1`: the CPU backend on one thread;
//! * `cpu`: the CPU backend on all cores.
//!
//! `cargo bench -p hedgerow-benches --bench hash`, with a filter such as `hash/node` behind it.

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use hedgerow_hasher_api::{
    BatchHasher, HashError, IndexedPairGroup, MESSAGE_SLACK, MessageGroup, PairGroup, ScalarHasher,
    Span,
};
use hedgerow_hasher_cpu::CpuHasher;
use hedgerow_types::{Digest, node};
use sha2::{Digest as _, Sha256};
use std::{hint::black_box, sync::Arc, time::Duration};

/// Batch sizes of nodes: below, at and above lane counts, a block's worth, and out of the caches.
const NODE_BATCHES: [usize; 6] = [1, 8, 16, 64, 1024, 65_536];
/// Batch sizes of messages: a small block and a large one.
const MESSAGE_BATCHES: [usize; 2] = [256, 16_384];
/// Bytes of an entry in the benches, its key and value being short.
const ENTRY_LENS: std::ops::RangeInclusive<u64> = 60..=300;
const LEVEL: u8 = 3;

type Hashers = Vec<(&'static str, Box<dyn BatchHasher>)>;

fn hashers() -> Hashers {
    let mut hashers: Hashers = vec![("scalar", Box::new(ScalarHasher))];
    if let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        hashers.push(("cpu-1", Box::new(CpuHasher::with_pool(Arc::new(pool)))));
    }
    hashers.push(("cpu", Box::new(CpuHasher::new())));
    hashers
}

fn digests(count: usize) -> Vec<Digest> {
    (0..count).map(|i| Digest(Sha256::digest(i.to_le_bytes()).into())).collect()
}

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group
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
        let children = digests(2 * n);
        let mut out = vec![Digest::ZERO; n];
        group.throughput(Throughput::Elements(n as u64));

        let (sisters, _) = children.as_chunks::<2>();
        let messages: Vec<_> = sisters.iter().map(|[l, r]| node::preimage(LEVEL, l, r)).collect();
        group.bench_function(id("digest", n), |b| {
            b.iter(|| {
                for (message, out) in black_box(&messages).iter().zip(&mut out) {
                    *out = Digest(Sha256::digest(message).into());
                }
                black_box(&mut out);
            });
        });
        for (name, hasher) in hashers() {
            bench(&mut group, id(name, n), || {
                let (children, out) = (black_box(&children[..]), black_box(&mut out[..]));
                hasher.pairs(LEVEL, &mut [PairGroup { children, out }])
            });
        }
    }
}

/// Every fourth node of a level of all 16 shards.
fn indexed_pairs(c: &mut Criterion) {
    let mut group = group(c, "hash/node/indexed_pairs");
    for n in NODE_BATCHES {
        let per_shard: Vec<usize> = (0..16).map(|shard| (n + shard) / 16).collect();
        let children: Vec<_> = per_shard.iter().map(|&count| digests(8 * count)).collect();
        let parents: Vec<Vec<u32>> = per_shard
            .iter()
            .map(|&count| (0..count as u32).map(|i| 4 * i + i % 4).collect())
            .collect();
        let mut outputs: Vec<_> =
            per_shard.iter().map(|&count| vec![Digest::ZERO; 4 * count]).collect();
        group.throughput(Throughput::Elements(n as u64));
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

/// Messages back to back, in one group per shard.
fn messages(c: &mut Criterion, name: &str, message_lens: impl Fn(usize) -> u32) {
    let mut group = group(c, name);
    for n in MESSAGE_BATCHES {
        let mut arena = vec![];
        let mut spans = vec![];
        for i in 0..n {
            let len = message_lens(i);
            spans.push(Span { offset: arena.len() as u32, len });
            arena.extend((0..len).map(|byte| (byte as usize ^ i) as u8));
        }
        arena.extend([0xAA; MESSAGE_SLACK]);
        let mut out = vec![Digest::ZERO; n];
        group.throughput(Throughput::Elements(n as u64));
        for (name, hasher) in hashers() {
            bench(&mut group, id(name, n), || {
                let mut batch: Vec<_> = (spans.chunks(n / 16).zip(out.chunks_mut(n / 16)))
                    .map(|(spans, out)| MessageGroup { arena: black_box(&arena), spans, out })
                    .collect();
                hasher.messages(&mut batch)
            });
        }
    }
}

/// Entries as blocks of short keys and values make them, lengths mixed.
fn entries(c: &mut Criterion) {
    let span = ENTRY_LENS.end() - ENTRY_LENS.start() + 1;
    messages(c, "hash/message/entries", |i| {
        let mixed = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (ENTRY_LENS.start() + mixed % span) as u32
    });
}

/// Key hashes of 32-byte keys.
fn keys(c: &mut Criterion) {
    messages(c, "hash/message/keys", |_| 32);
}

criterion_group!(benches, pairs, indexed_pairs, entries, keys);
criterion_main!(benches);
