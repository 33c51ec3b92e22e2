//! The command `torture flips`.

use super::specimen::Which;
use super::{Change, Memory, Plan, replay, run};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// What `torture flips` is given.
#[derive(Debug, clap::Args)]
pub struct FlipsArgs {
    /// Random damages, besides every byte of what must be whole.
    #[arg(long, default_value_t = 3_000)]
    count: u64,
    /// Every this many bytes of what must be whole.
    #[arg(long, default_value_t = 1)]
    stride: usize,
    /// Seed. Default: from the clock.
    #[arg(long)]
    seed: Option<u64>,
    /// Cases at once. Default: as many as there are cores.
    #[arg(long)]
    workers: Option<usize>,
    /// Only damage the files of an index.
    #[arg(long)]
    only_index: bool,
    /// Run this one case: flip:FILE:AT:MASK, zero:FILE:AT:LEN, swap:FILE:A:B,
    /// move:FILE:FROM:TO:LEN, len:FILE:LEN, remove:FILE, rename:FILE:TO, copy:FILE:TO.
    #[arg(long)]
    replay: Option<Change>,
    /// With --replay: damage the store after it was opened.
    #[arg(long)]
    while_open: bool,
    /// With --replay: it is a failure if nobody notices.
    #[arg(long)]
    must_report: bool,
    /// With --replay: damage the store whose last blocks are in the log alone.
    #[arg(long)]
    journal: bool,
    /// With --replay: damage the store whose index is in files.
    #[arg(long, conflicts_with = "journal")]
    tiered: bool,
}

/// Runs the command; `memory` asks the program's allocator.
pub fn flips(args: &FlipsArgs, memory: Memory) -> ExitCode {
    let seed = args.seed.unwrap_or_else(clock);
    println!("seed {seed}");
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let workers = args.workers.unwrap_or(cores);
    let (count, stride, only_index) = (args.count, args.stride, args.only_index);
    let plan = Plan { seed, count, stride, workers, only_index };
    let result = match &args.replay {
        Some(change) => {
            let store = match (args.journal, args.tiered) {
                (true, _) => Which::Journal,
                (false, true) => Which::Tiered,
                (false, false) => Which::Closed,
            };
            let (while_open, must_report) = (args.while_open, args.must_report);
            let replayed = replay(change, while_open, must_report, store, seed, memory);
            replayed.map(|text| (text, Vec::new()))
        }
        None => run(plan, memory).map(|report| (report.to_string(), report.failures.clone())),
    };
    match result {
        Ok((text, failures)) => {
            println!("{text}");
            failures.iter().for_each(|failure| println!("FAILED: {failure}"));
            if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(what) => {
            println!("FAILED: {what}");
            ExitCode::FAILURE
        }
    }
}

/// Seconds since 1970: where seeds come from.
fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs())
}
