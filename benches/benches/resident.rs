//! A block that touches many twigs: on the CPU, level by level on a device, with the rows on a device.
//!
//! Names are `hash/block/hasher=<hasher>/rows=<cpu, per-level or resident>/twigs=<n>`. A forest of `n`
//! twigs in 16 shards, all of whose entries are active; a block deactivates one entry of every twig.
//! The left trees are not touched, so what is measured is everything above them, transfers
//! included. Devices are those of the features this is built with, software adapters too: there
//! the figures only prove that it runs. Where a device has no room for the rows (a software adapter
//! binds 128 MiB, the row of the pages of 1,000,000 twigs has 512), that is said, and the others are
//! measured.
//!
//! `cargo bench -p hedgerow-benches --features cuda,wgpu --bench resident`; `HEDGEROW_BENCH_TWIGS=1000`
//! leaves larger forests out. The largest takes 1 GB of memory besides a device's.
#![expect(clippy::unwrap_used, reason = "an error ends the bench")]

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use hedgerow_benches::hashing::{devices, with_rows, without_rows};
use hedgerow_hasher_api::BatchHasher;
use hedgerow_hasher_cpu::CpuHasher;
use hedgerow_merkle::{Forest, ShardChange, ShardRestore};
use hedgerow_types::{
    ACTIVE_PAGES_PER_TWIG, Digest, SHARDS, SerialNumber, ShardId, TWIG_LEAVES, TwigId,
};
use std::time::{Duration, Instant};

/// Dirty twigs of a block.
const TWIGS: [usize; 4] = [1000, 10_000, 100_000, 1_000_000];
/// The variable that limits them.
const LIMIT: &str = "HEDGEROW_BENCH_TWIGS";

/// A forest of full twigs, and which of their entries go next.
struct Blocks {
    forest: Forest,
    twigs_per_shard: usize,
    next: u64,
}

impl Blocks {
    fn new(twigs: usize) -> Self {
        let per_shard = twigs / SHARDS;
        let parts = std::array::from_fn(|shard| {
            let full = vec![Digest([0xff; 32]); ACTIVE_PAGES_PER_TWIG * per_shard];
            ShardRestore {
                left_roots: (0..per_shard).map(|twig| root(shard, twig)).collect(),
                active_pages: [full, vec![Digest::ZERO; ACTIVE_PAGES_PER_TWIG]].concat(),
                ..ShardRestore::default()
            }
        });
        let forest = Forest::restore(&CpuHasher::new(), parts).unwrap();
        Self { forest, twigs_per_shard: per_shard, next: 0 }
    }

    /// Applies the next block, which has one entry of every twig die, far from the last one.
    fn apply(&mut self, hasher: &dyn BatchHasher) -> Duration {
        let leaf = self.next * 773 % TWIG_LEAVES as u64;
        self.next += 1;
        let deactivated: Vec<_> = (0..self.twigs_per_shard as u64)
            .map(|twig| SerialNumber(TwigId(twig).first().0 + leaf))
            .collect();
        let changes = ShardId::all().map(|shard| ShardChange {
            deactivated: &deactivated,
            ..ShardChange::none(self.forest.oldest_active(shard))
        });
        let changes: Vec<_> = changes.collect();
        let changes = changes.try_into().unwrap();
        let start = Instant::now();
        self.forest.apply(hasher, &changes).unwrap();
        start.elapsed()
    }
}

fn root(shard: usize, twig: usize) -> Digest {
    let mut bytes = [shard as u8; 32];
    bytes[..8].copy_from_slice(&(twig as u64).to_le_bytes());
    Digest(bytes)
}

/// Why blocks are not hashed as they should be, if they are not.
type WhyNot<'a> = &'a dyn Fn() -> Option<String>;

fn blocks(c: &mut Criterion) {
    let limit = std::env::var(LIMIT).ok().and_then(|limit| limit.parse().ok());
    let mut group = c.benchmark_group("hash/block");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    for twigs in TWIGS.into_iter().filter(|&twigs| limit.is_none_or(|limit| twigs <= limit)) {
        group.throughput(Throughput::Elements(twigs as u64));
        let mut bench = |name: &str, rows: &str, hasher: &dyn BatchHasher, why_not: WhyNot<'_>| {
            let id = format!("hasher={name}/rows={rows}");
            let mut blocks = Blocks::new(twigs);
            // Loads the rows.
            blocks.apply(hasher);
            if let Some(why_not) = why_not() {
                println!("!!! NOT MEASURED: {id}/twigs={twigs}: {why_not}");
                return;
            }
            let id = BenchmarkId::new(id, format!("twigs={twigs}"));
            group.bench_function(id, |b| {
                b.iter_custom(|times| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..times {
                        if blocks.next == TWIG_LEAVES as u64 {
                            blocks = Blocks::new(twigs);
                            blocks.apply(hasher);
                        }
                        spent += blocks.apply(hasher);
                    }
                    spent
                });
            });
            if let Some(reason) = hasher.health().quarantined.or_else(why_not) {
                println!("!!! NOT MEASURED: {name} failed, the CPU took its place: {reason}");
            }
        };
        bench("cpu", "cpu", &CpuHasher::new(), &|| None);
        for (name, device) in devices() {
            bench(&name, "per-level", &without_rows(device.clone()), &|| None);
            let (hasher, rows) = with_rows(device);
            bench(&name, "resident", &hasher, &|| rows.refused());
        }
    }
}

criterion_group!(benches, blocks);
criterion_main!(benches);
