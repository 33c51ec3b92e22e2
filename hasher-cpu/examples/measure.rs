//! How fast the kernels are on this machine, against `sha2::Sha256::digest` in the same run.
//!
//! ```text
//! cargo run --release -p hedgerow-hasher-cpu --example measure [kernel ...]
//! ```
//!
//! Every repetition runs all candidates once, in turns, and takes their thread CPU time; a ratio is
//! the median of the repetitions' ratios. "chosen" is what [`CpuHasher::new`] takes. All run on one
//! thread.

#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "a measurement that goes wrong should stop")]

use hedgerow_hasher_api::{BatchHasher, MESSAGE_SLACK, MessageGroup, PairGroup, Span};
use hedgerow_hasher_cpu::CpuHasher;
use hedgerow_types::{Digest, node};
use nix::time::{ClockId, clock_gettime};
use rayon::ThreadPoolBuilder;
use sha2::{Digest as _, Sha256};
use std::{hint::black_box, sync::Arc, time::Duration};

/// Hashes a batch once.
type Run<'a> = Box<dyn FnMut() + 'a>;

fn main() {
    let wanted: Vec<_> = std::env::args().skip(1).collect();
    let pool = Arc::new(ThreadPoolBuilder::new().num_threads(1).build().expect("a pool"));
    let chosen = CpuHasher::with_pool(Arc::clone(&pool));
    println!("chosen: {}", chosen.capabilities().device);
    let mut hashers = vec![("chosen", chosen)];
    for info in CpuHasher::kernels() {
        match CpuHasher::pinned(info.name) {
            Ok(hasher) if wanted.is_empty() || wanted.iter().any(|name| name == info.name) => {
                hashers.push((info.name, hasher.on_pool(Arc::clone(&pool))));
            }
            Ok(_) => {}
            Err(error) => println!("!!! {error}"),
        }
    }
    print!("{:28}{:>10}", "ns each (x sha2)", "sha2 crate");
    hashers.iter().for_each(|(name, _)| print!("{name:>15}"));
    println!();
    for (count, goal) in [(1, 1.8), (8, 2.3), (16, 4.3), (64, 5.4), (1024, 5.4), (1_000_000, 4.8)] {
        nodes(&hashers, count, goal);
    }
    for (count, goal) in [(16, 0.0), (256, 3.6), (1024, 3.6), (262_144, 2.2)] {
        messages(&hashers, count, goal);
    }
    keys(&hashers, 1024);
}

fn nodes(hashers: &[(&str, CpuHasher)], count: usize, goal: f64) {
    let children: Vec<_> = random(2 * count).collect();
    let mut runs: Vec<Run<'_>> = vec![];
    let mut out = vec![Digest::ZERO; count];
    let pairs = &children;
    // The preimages are there already, as no tree has them: the harder comparison.
    let preimages: Vec<_> =
        (pairs.as_chunks().0.iter()).map(|[left, right]| node::preimage(3, left, right)).collect();
    runs.push(Box::new(move || {
        for (preimage, out) in preimages.iter().zip(&mut out) {
            *out = Digest(Sha256::digest(preimage).into());
        }
        black_box(&out);
    }));
    for (_, hasher) in hashers {
        let mut out = vec![Digest::ZERO; count];
        runs.push(Box::new(move || {
            let mut groups = [PairGroup { children: pairs, out: &mut out }];
            hasher.pairs(3, &mut groups).expect("well-formed");
            black_box(&out);
        }));
    }
    table(&format!("nodes, {count} (goal {goal})"), count, &mut runs);
}

fn messages(hashers: &[(&str, CpuHasher)], count: usize, goal: f64) {
    let mut spans = vec![];
    let mut end = 0;
    for digest in random(count) {
        let len = 60 + u32::from(digest.0[0]) * 241 / 256;
        spans.push(Span { offset: end, len });
        end += len;
    }
    group(&format!("60-300 bytes, {count} (goal {goal})"), hashers, &spans, end);
}

fn keys(hashers: &[(&str, CpuHasher)], count: u32) {
    let spans: Vec<_> = (0..count).map(|i| Span { offset: 32 * i, len: 32 }).collect();
    group(&format!("32-byte keys, {count}"), hashers, &spans, 32 * count);
}

fn group(title: &str, hashers: &[(&str, CpuHasher)], spans: &[Span], end: u32) {
    let arena: Vec<u8> =
        random((end as usize + MESSAGE_SLACK).div_ceil(32)).flat_map(|digest| digest.0).collect();
    let arena = &arena;
    let mut runs: Vec<Run<'_>> = vec![];
    let mut out = vec![Digest::ZERO; spans.len()];
    runs.push(Box::new(move || {
        for (span, out) in spans.iter().zip(&mut out) {
            *out = Digest(Sha256::digest(span.of(arena).expect("inside")).into());
        }
        black_box(&out);
    }));
    for (_, hasher) in hashers {
        let mut out = vec![Digest::ZERO; spans.len()];
        runs.push(Box::new(move || {
            let mut groups = [MessageGroup { arena, spans, out: &mut out }];
            hasher.messages(&mut groups).expect("well-formed");
            black_box(&out);
        }));
    }
    table(title, spans.len(), &mut runs);
}

/// Measures the runs, of which the first is the base.
fn table(title: &str, count: usize, runs: &mut [Run<'_>]) {
    let repetitions = if count > 100_000 { 7 } else { 61 };
    // About 100 microseconds per sample.
    let calls = (2000 / count).max(1);
    let mut times: Vec<Vec<f64>> = vec![vec![]; runs.len()];
    for repetition in 0..=repetitions {
        for (run, times) in runs.iter_mut().zip(&mut times) {
            let start = cpu_time();
            for _ in 0..calls {
                run();
            }
            if repetition > 0 {
                let spent = cpu_time().saturating_sub(start);
                times.push(spent.as_nanos() as f64 / (calls * count) as f64);
            }
        }
    }
    let base = times[0].clone();
    print!("{title:28}{:10.1}", median(base.clone()));
    for times in &times[1..] {
        let ratios = base.iter().zip(times).map(|(base, time)| base / time).collect();
        print!("{:8.1} ({:4.2})", median(times.clone()), median(ratios));
    }
    println!();
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock").into()
}

fn random(count: usize) -> impl Iterator<Item = Digest> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..count).map(move |_| {
        let mut bytes = [0; 32];
        for word in bytes.as_chunks_mut().0 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            *word = state.to_le_bytes();
        }
        Digest(bytes)
    })
}
