//! How long a small block takes to be durable, beside the least that it could take: a write at the end of a file and
//! one `fdatasync`, in the same directory.
//!
//! ```text
//!   round 1    bare writes ─► commit, waited for ─► submit, then the ticket ─► commit, its root alone
//!   round 2    the same
//!   ...        each kind: all its times of all rounds ─► median, 90 %, 99 %, median to that of bare writes
//! ```
//!
//! One thread asks, one block after the other, as a chain of one node does. `DIR` must be on a disk, not in memory.

use clap::Parser;
use hedgerow::{Block, Durability, Options, Store, StoreParams};
use hedgerow_benches::usage::processor;
use hedgerow_benches::workload::Generator;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The time of small blocks beside that of a bare write, in turns.
#[derive(Parser, Debug)]
#[command(name = "latency", version)]
struct Args {
    /// Where a directory for the stores is made, and removed again.
    #[arg(long)]
    dir: PathBuf,
    /// Keys of the stores.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Updates of a block.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    ops: u32,
    /// Blocks of each kind in a round.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    blocks: u32,
    /// Rounds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

type Times = Vec<Duration>;

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let dir = tempfile::tempdir_in(&args.dir)?;
    run(&args, dir.path())
}

fn run(args: &Args, dir: &Path) -> Result<(), Box<dyn Error>> {
    let generator = Generator::new(7, 32, 32);
    let mut durable = filled(args, &generator, dir.join("durable"), Durability::EachBlock)?;
    let mut pipelined = filled(args, &generator, dir.join("pipelined"), Durability::Pipelined)?;
    let mut file = File::create(dir.join("bare"))?;
    let before = durable.stats().steps;
    let mut turn = 0;
    let [mut bare, mut waited, mut ticket, mut root] = [const { Times::new() }; 4];
    for _ in 0..args.rounds {
        // About what the log gets of a block.
        let bytes = vec![7; 400 + 150 * args.ops as usize];
        times(args, &mut bare, || {
            file.write_all(&bytes)?;
            Ok(file.sync_data()?)
        })?;
        times(args, &mut waited, || {
            updates(args, &generator, &mut turn, &mut durable)?.commit()?;
            Ok(())
        })?;
        times(args, &mut ticket, || {
            let mut block = updates(args, &generator, &mut turn, &mut pipelined)?;
            Ok(block.submit()?.durable()?)
        })?;
        times(args, &mut root, || {
            updates(args, &generator, &mut turn, &mut pipelined)?.commit()?;
            Ok(())
        })?;
        pipelined.flush()?;
    }
    let steps = durable.stats().steps.since(&before);
    durable.close()?;
    pipelined.close()?;
    println!("{}, {} updates per block", processor().unwrap_or_default(), args.ops);
    println!("| | median us | 90 % | 99 % | to a bare write |");
    println!("|---|---|---|---|---|");
    let least = median(&mut bare);
    for (name, times) in [
        ("write and fdatasync", &mut bare),
        ("`commit`, each block durable", &mut waited),
        ("`submit`, then `durable` of its ticket", &mut ticket),
        ("`commit` of a pipelined store: the root", &mut root),
    ] {
        let [median, nine, most] = [0.5, 0.9, 0.99].map(|part| at(times, part));
        println!("| {name} | {median:.0} | {nine:.0} | {most:.0} | {:.2} |", median / least);
    }
    println!("\nSteps of the store whose blocks are each durable:\n");
    println!("| | median us |\n|---|---|");
    for (step, stats) in steps.iter() {
        let median = stats.durations.quantile(0.5).unwrap_or_default();
        println!("| {} | {:.1} |", step.name(), median.as_secs_f64() * 1e6);
    }
    Ok(())
}

/// A store with all keys.
fn filled(
    args: &Args,
    generator: &Generator,
    path: PathBuf,
    durability: Durability,
) -> Result<Store, hedgerow::Error> {
    let options = Options::new().durability(durability);
    let mut store = Store::create(path, StoreParams::default(), options)?;
    let (mut key, mut value) = (vec![], vec![]);
    for first in (0..args.keys).step_by(50_000) {
        let mut block = store.next_block()?;
        for id in first..args.keys.min(first.saturating_add(50_000)) {
            generator.key(id, &mut key);
            generator.value(id, 0, &mut value);
            block.put(&key, &value)?;
        }
        block.submit()?;
    }
    store.flush()?;
    Ok(store)
}

/// The next block with its updates, each of another key, far from the last one.
fn updates<'s>(
    args: &Args,
    generator: &Generator,
    turn: &mut u64,
    store: &'s mut Store,
) -> Result<Block<'s>, hedgerow::Error> {
    let mut block = store.next_block()?;
    let (mut key, mut value) = (vec![], vec![]);
    for _ in 0..args.ops {
        *turn += 1;
        let id = (turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32 % args.keys;
        generator.key(id, &mut key);
        generator.value(id, *turn, &mut value);
        block.put(&key, &value)?;
    }
    Ok(block)
}

/// Does it for every block of a round, and adds the times.
fn times(
    args: &Args,
    to: &mut Times,
    mut block: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    for _ in 0..args.blocks {
        let start = Instant::now();
        block()?;
        to.push(start.elapsed());
    }
    Ok(())
}

fn median(times: &mut Times) -> f64 {
    at(times, 0.5)
}

/// Microseconds that this part of the times does not exceed.
fn at(times: &mut Times, part: f64) -> f64 {
    times.sort_unstable();
    let index = (times.len() as f64 * part) as usize;
    times
        .get(index.min(times.len().saturating_sub(1)))
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
