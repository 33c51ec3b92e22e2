//! The trees: applying blocks, publishing them, restoring.
//!
//! Names are `tree::<operation>/<what>/hasher=<hasher>`. All forests hold 2^20 entries in 16 shards;
//! a block of `ops=n` appends n entries to every shard and deactivates n others there, as n updates
//! do. Hashers:
//!
//! * `cpu`: the CPU backend on all cores;
//! * `none`: a hasher that hashes nothing: what the trees cost beside hashing.
//!
//! `cargo bench -p hedgerow-benches --bench tree`, with a filter such as `tree::apply` behind it.
#![expect(clippy::unwrap_used, reason = "an error ends the bench")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hedgerow_hasher_api::{BatchHasher, HookedHasher, MESSAGE_SLACK, ScalarHasher, Span};
use hedgerow_hasher_cpu::CpuHasher;
use hedgerow_merkle::{Dirty, Forest, ShardChange, ShardRestore};
use hedgerow_types::{Digest, SHARDS, SerialNumber, ShardId, TwigId};
use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

/// Entries of a forest, per shard.
const ENTRIES: u64 = (1 << 20) / SHARDS as u64;
/// Updates of a block, per shard.
const OPS: [u64; 3] = [6, 300, 3000];
/// Blocks of a run; the forest grows meanwhile, and then starts again.
const BLOCKS: usize = 8;
/// Hashed bytes of an entry with a 32-byte key, a 32-byte value and one deactivated entry.
const ENTRY_LEN: u32 = 53 + 32 + 32 + 8;

/// Hashes nothing.
fn nothing() -> HookedHasher {
    let hooked = HookedHasher::new(Arc::new(ScalarHasher), |call, _| {
        black_box(call);
        Ok(())
    });
    hooked.level_by_level()
}

fn hashers() -> [(&'static str, Box<dyn BatchHasher>); 2] {
    [("cpu", Box::new(CpuHasher::new())), ("none", Box::new(nothing()))]
}

/// What a block does to every shard.
struct Block {
    arena: Vec<u8>,
    entries: Vec<Span>,
    deactivated: Vec<SerialNumber>,
}

impl Block {
    fn new(entries: u64, deactivated: Vec<SerialNumber>) -> Self {
        let frame = ENTRY_LEN.next_multiple_of(8);
        let len = u64::from(frame) * entries;
        let arena = (0..len + MESSAGE_SLACK as u64).map(|i| (i % 251) as u8).collect();
        let span = |i: u64| Span { offset: i as u32 * frame, len: ENTRY_LEN };
        Self { arena, entries: (0..entries).map(span).collect(), deactivated }
    }

    fn changes(&self) -> [ShardChange<'_>; SHARDS] {
        [ShardChange {
            arena: &self.arena,
            entries: &self.entries,
            deactivated: &self.deactivated,
            oldest_active: SerialNumber(0),
        }; SHARDS]
    }
}

/// A forest, and blocks that follow it. Each entry of the forest is deactivated once at most.
fn history(ops: u64) -> (Forest, Vec<Block>) {
    let mut forest = Forest::new();
    forest.apply(&CpuHasher::new(), &Block::new(ENTRIES, vec![]).changes()).unwrap();
    // An odd multiplier visits all of a power of two in scattered order.
    let scattered = |i: u64| SerialNumber(i.wrapping_mul(0x9E37_79B1) % ENTRIES);
    let blocks = (0..BLOCKS as u64)
        .map(|block| Block::new(ops, (block * ops..(block + 1) * ops).map(scattered).collect()));
    (forest, blocks.collect())
}

/// Applies the blocks over and over and hands every step to `step`, which returns the time taken.
fn run(
    iterations: u64,
    (forest, blocks): &(Forest, Vec<Block>),
    mut step: impl FnMut(&mut Forest, &[ShardChange<'_>; SHARDS]) -> Duration,
) -> Duration {
    let mut total = Duration::ZERO;
    let mut working = forest.clone();
    for i in 0..iterations as usize {
        // The first block of a run gives the forest its working memory and is not counted.
        let block = 1 + i % (blocks.len() - 1);
        if block == 1 {
            working.clone_from(forest);
            step(&mut working, &blocks[0].changes());
        }
        total += step(&mut working, &blocks[block].changes());
    }
    total
}

fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("tree::apply");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    for ops in OPS {
        let history = history(ops);
        group.throughput(Throughput::Elements(ops * SHARDS as u64));
        for (name, hasher) in hashers() {
            let id = BenchmarkId::new(format!("ops={ops}x16"), format!("hasher={name}"));
            group.bench_function(id, |b| {
                b.iter_custom(|iterations| {
                    run(iterations, &history, |forest, changes| {
                        let start = Instant::now();
                        black_box(forest.apply(hasher.as_ref(), changes).unwrap());
                        start.elapsed()
                    })
                });
            });
        }
    }
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("tree::publish");
    group.sample_size(20).measurement_time(Duration::from_secs(2));
    for ops in OPS {
        let history = history(ops);
        group.throughput(Throughput::Elements(ops * SHARDS as u64));
        group.bench_function(format!("ops={ops}x16"), |b| {
            b.iter_custom(|iterations| {
                let mut published = history.0.publish();
                let mut behind = Dirty::default();
                run(iterations, &history, |forest, changes| {
                    if forest.next_sn(ShardId::from_top_bits(0)).0 == ENTRIES {
                        published = forest.publish();
                        behind = Dirty::default();
                    }
                    behind.merge(&forest.apply(&nothing(), changes).unwrap().dirty);
                    let start = Instant::now();
                    black_box(published.before(&behind));
                    published.copy(forest, &behind);
                    let elapsed = start.elapsed();
                    behind = Dirty::default();
                    elapsed
                })
            });
        });
    }
}

fn restore(c: &mut Criterion) {
    let mut group = c.benchmark_group("tree::restore");
    group.sample_size(20).throughput(Throughput::Elements(ENTRIES * SHARDS as u64));
    let (forest, _) = history(6);
    let parts: [ShardRestore; SHARDS] = std::array::from_fn(|i| {
        let shard = ShardId::from_top_bits((i << 4) as u8);
        let twigs = forest.next_sn(shard).twig().0;
        ShardRestore {
            first_kept: TwigId(0),
            edges: vec![],
            left_roots: (0..twigs).map(|twig| Digest([twig as u8; 32])).collect(),
            first_active: TwigId(0),
            active_pages: forest.active_pages(shard).to_vec(),
            youngest_leaves: forest.youngest_leaves(shard).to_vec(),
            oldest_active: SerialNumber(0),
        }
    });
    for (name, hasher) in hashers() {
        group.bench_function(format!("hasher={name}"), |b| {
            b.iter_batched(
                || parts.clone(),
                |parts| Forest::restore(hasher.as_ref(), parts).unwrap(),
                criterion::BatchSize::PerIteration,
            );
        });
    }
}

fn path(c: &mut Criterion) {
    let (forest, _) = history(6);
    let mut sn = 0_u64;
    c.bench_function("tree::path", |b| {
        b.iter(|| {
            sn = (sn + 40_503) % ENTRIES;
            forest.path(ShardId::from_top_bits(sn as u8), SerialNumber(sn)).unwrap()
        });
    });
}

criterion_group!(benches, apply, publish, restore, path);
criterion_main!(benches);
