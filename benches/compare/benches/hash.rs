//! Batch hashing by other people's crates beside ours: a closer look at what `hash-goals` compares.
//!
//! Names are `hash/<shape>/<operation>/kernel=<crate and call>/n=<batch size>`, as in our own bench
//! `hash`, and so are the inputs; the reported elements are messages or nodes. `hedgerow` is ours on
//! one thread.
//!
//! `cargo bench --manifest-path benches/compare/Cargo.toml --bench hash`, with a filter such as
//! `hash/node` behind it.
#![expect(clippy::unwrap_used, reason = "an error ends the bench")]

use criterion::{
    BenchmarkGroup, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use hedgerow_benches::hashing::{MESSAGE_BATCHES, Messages, NODE_BATCHES, on_one_thread};
use hedgerow_compare::{Contender, messages::MessageInput, nodes::NodeInput};
use hedgerow_hasher_cpu::CpuHasher;
use std::time::Duration;

/// A batch of `n`, by every contender, whose digests are checked first.
fn batch(group: &mut BenchmarkGroup<'_, WallTime>, n: usize, contenders: Vec<Contender<'_>>) {
    group.throughput(Throughput::Elements(n as u64));
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    if n > 50_000 {
        group.sample_size(10).sampling_mode(SamplingMode::Flat);
    }
    for mut contender in contenders {
        contender.check().unwrap();
        let name = format!("kernel={}/n={n}", contender.name);
        group.bench_function(name, |b| b.iter(|| contender.hash().unwrap()));
    }
}

fn nodes(c: &mut Criterion) {
    let ours = on_one_thread(CpuHasher::new()).unwrap();
    let mut group = c.benchmark_group("hash/node/pairs");
    for n in NODE_BATCHES {
        batch(&mut group, n, NodeInput::new(n).contenders(&ours));
    }
}

fn entries(c: &mut Criterion) {
    let ours = on_one_thread(CpuHasher::new()).unwrap();
    let mut group = c.benchmark_group("hash/message/entries");
    for n in MESSAGE_BATCHES {
        batch(&mut group, n, MessageInput::new(Messages::entries(n)).contenders(&ours));
    }
}

criterion_group!(benches, nodes, entries);
criterion_main!(benches);
