//! The clocks of the past: reads and proofs at earlier heights, and taking blocks back.

use crate::Failure;
use crate::check;
use crate::report::PastFigures;
use crate::run::micros_per;
use hedgerow::{Digest, Height, Proven, Reader, Store, View};
use hedgerow_benches::usage::Meter;
use hedgerow_benches::workload::Generator;
use std::time::Instant;

/// Proofs that are verified beside the clock.
const SAMPLES: usize = 1000;

/// Heights are asked one after the other, so many questions at a time.
const AT_A_TIME: usize = 100;

/// Reads and proves these keys at heights of the last `heights` blocks, spread evenly, and proves them of the past
/// against the newest root.
pub(crate) fn measure(
    reader: &Reader,
    generator: &Generator,
    ids: &[u32],
    heights: u64,
) -> Result<PastFigures, Failure> {
    let newest = reader.height().0;
    let rounds = ids.len().div_ceil(AT_A_TIME).max(1) as u64;
    let height = |round: usize| Height(newest - (1 + round as u64 * heights / rounds).min(heights));
    let mut key = Vec::new();

    let mut samples = Vec::new();
    let meter = Meter::read().map_err(Failure::Meter)?;
    for (round, ids) in ids.chunks(AT_A_TIME).enumerate() {
        let view = reader.at(height(round))?;
        for &id in ids {
            generator.key(id, &mut key);
            let value = view.get(&key)?;
            keep(&mut samples, (id, value));
        }
    }
    let reads = meter.since().map_err(Failure::Meter)?;
    for (id, value) in samples {
        // It may have been created since, or deleted before.
        if value.is_some() {
            check::value(generator, id, value.as_deref())?;
        }
    }

    let mut samples: Vec<(u32, Digest, Proven)> = Vec::new();
    let meter = Meter::read().map_err(Failure::Meter)?;
    for (round, ids) in ids.chunks(AT_A_TIME).enumerate() {
        let view: View = reader.at(height(round))?;
        let root = view.root();
        for &id in ids {
            generator.key(id, &mut key);
            let proven = view.prove(&key)?;
            keep(&mut samples, (id, root, proven));
        }
    }
    let proofs = meter.since().map_err(Failure::Meter)?;
    for (id, root, proven) in samples {
        check::verified(generator, id, &proven, &root)?;
    }

    let meter = Meter::read().map_err(Failure::Meter)?;
    for (round, ids) in ids.chunks(AT_A_TIME).enumerate() {
        for &id in ids {
            generator.key(id, &mut key);
            reader.prove_past(&key, height(round))?;
        }
    }
    let against_newest = meter.since().map_err(Failure::Meter)?;
    let count = ids.len() as u64;
    Ok(PastFigures {
        heights,
        reads_s: reads.rate(count),
        reads_cpu_us: micros_per(&reads, count),
        proofs_s: proofs.rate(count),
        proofs_cpu_us: micros_per(&proofs, count),
        against_newest_s: against_newest.rate(count),
        against_newest_cpu_us: micros_per(&against_newest, count),
    })
}

fn keep<T>(samples: &mut Vec<T>, one: T) {
    if samples.len() < SAMPLES {
        samples.push(one);
    }
}

/// Takes the last `blocks` blocks back, and says how many seconds that took.
pub(crate) fn roll_back(store: &mut Store, blocks: u64) -> Result<f64, Failure> {
    let height = Height(store.height().0.saturating_sub(blocks));
    let expected = store.reader().root_at(height)?;
    let start = Instant::now();
    store.rollback(height)?;
    let elapsed = start.elapsed();
    let (found, root) = store.reader().root();
    if (found, root) != (height, expected) {
        let reason = format!("height {found} with root {root}, not {height} with {expected}");
        return Err(Failure::Wrong(reason));
    }
    Ok(elapsed.as_secs_f64())
}
