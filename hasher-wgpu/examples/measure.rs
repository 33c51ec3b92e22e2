//! How fast an adapter hashes, transfers included, by batch size.
//!
//! `cargo run --release -p hedgerow-hasher-wgpu --example measure [software] [WHICH]`: without
//! arguments on the first GPU.

use hedgerow_hasher_api::{BatchHasher, HashError, LeftTree, MessageGroup, PairGroup, Span};
use hedgerow_hasher_wgpu::{Choice, adapters, open};
use hedgerow_types::{Digest, TWIG_LEAVES};
use std::{
    error::Error,
    time::{Duration, Instant},
};

/// The best of some runs, of which the first warm up.
fn best(mut run: impl FnMut() -> Result<(), HashError>) -> Result<Duration, HashError> {
    let mut best = Duration::MAX;
    let end = Instant::now() + Duration::from_millis(500);
    for runs in 0.. {
        let start = Instant::now();
        run()?;
        best = best.min(start.elapsed());
        if runs >= 3 && Instant::now() > end {
            break;
        }
    }
    Ok(best)
}

fn report(what: &str, hashes: usize, time: Duration) {
    let rate = hashes as f64 / time.as_secs_f64() / 1e6;
    println!("{what:<28} {:>12.1} us  {rate:>9.2} M hashes/s", time.as_secs_f64() * 1e6);
}

fn main() -> Result<(), Box<dyn Error>> {
    for adapter in adapters() {
        println!("{}: {adapter}", adapter.index);
    }
    let (software, which): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument == "software");
    let (software, adapter) = (!software.is_empty(), which.into_iter().next());
    let start = Instant::now();
    let hasher = open(&Choice { adapter, software })?;
    println!("{} opened in {:?}", hasher.device().adapter(), start.elapsed());

    for count in [1, 256, 4096, 65_536, 1 << 20] {
        let children = vec![Digest::ZERO; 2 * count];
        let mut out = vec![Digest::ZERO; count];
        let time =
            best(|| hasher.pairs(3, &mut [PairGroup { children: &children, out: &mut out }]))?;
        report(&format!("{count} nodes"), count, time);
    }
    for count in [1, 16, 256, 2048] {
        let leaves = vec![Digest::ZERO; count * TWIG_LEAVES];
        let mut tree = LeftTree::new(count);
        let time = best(|| hasher.left_trees(&mut [tree.group(&leaves, 0..leaves.len())]))?;
        report(&format!("{count} twigs"), count * (TWIG_LEAVES - 1), time);
    }
    for count in [256, 16_384, 262_144] {
        let arena = vec![7; 200 * count];
        let spans: Vec<_> = (0..count as u32).map(|i| Span { offset: 200 * i, len: 180 }).collect();
        let mut out = vec![Digest::ZERO; count];
        let time = best(|| {
            let group = MessageGroup { arena: &arena, spans: &spans, out: &mut out };
            hasher.messages(&mut [group])
        })?;
        report(&format!("{count} messages of 180 bytes"), count, time);
    }
    Ok(())
}
