//! The program `torture`: see the library's documentation.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use hedgerow_torture::crash::{Session, Until, run};
use hedgerow_torture::flips;
use peak_alloc::PeakAlloc;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Counts, so that `flips` notices an allocation beyond what the files can be the reason for.
#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Crashes, failing calls, damage and kills: what Hedgerow must survive.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A disk that loses power at a random call, against the model.
    Crash(CrashArgs),
    /// Bytes flipped, sectors lost and files cut in a store at rest.
    Flips(FlipsArgs),
}

#[derive(Debug, clap::Args)]
struct CrashArgs {
    /// Cycles to run.
    #[arg(long, default_value_t = 1_000)]
    cycles: u64,
    /// Run for this many minutes instead.
    #[arg(long)]
    minutes: Option<f64>,
    /// Seed of the first session. Default: from the clock.
    #[arg(long)]
    seed: Option<u64>,
    /// Run the one session of this seed.
    #[arg(long)]
    replay: Option<u64>,
    /// Fail if something that a long run meets was not met.
    #[arg(long)]
    all_paths: bool,
}

#[derive(Debug, clap::Args)]
struct FlipsArgs {
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
    /// Run this one case: flip:FILE:AT:MASK, zero:FILE:AT:LEN, swap:FILE:A:B, len:FILE:LEN,
    /// remove:FILE, rename:FILE:TO, copy:FILE:TO.
    #[arg(long)]
    replay: Option<flips::Change>,
    /// With --replay: damage the store after it was opened.
    #[arg(long)]
    while_open: bool,
    /// With --replay: it is a failure if nobody notices.
    #[arg(long)]
    must_report: bool,
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Crash(args) => crash(&args),
        Command::Flips(args) => flips(&args),
    }
}

fn crash(args: &CrashArgs) -> ExitCode {
    if let Some(seed) = args.replay {
        let outcome = Session::run(seed);
        print!("{}", outcome.reach);
        return match outcome.result {
            Ok(()) => ExitCode::SUCCESS,
            Err(what) => {
                println!("FAILED: {what}");
                ExitCode::FAILURE
            }
        };
    }
    let seed = args.seed.unwrap_or_else(|| clock() << 20);
    let until = match args.minutes {
        Some(minutes) => Until::Time(Duration::from_secs_f64(minutes * 60.0)),
        None => Until::Cycles(args.cycles),
    };
    println!("first seed {seed}");
    let summary = run(seed, until, |_| {});
    print!("{}", summary.reach);
    let (cycles, seconds) = (summary.reach.cycles(), summary.time.as_secs_f64());
    println!(
        "{cycles} cycles in {} sessions, {seconds:.0} s, {:.1} cycles a second; seeds {seed} to {}",
        summary.sessions,
        cycles as f64 / seconds,
        seed + summary.sessions.saturating_sub(1),
    );
    let mut ok = true;
    for (seed, what) in &summary.failures {
        ok = false;
        println!("FAILED, seed {seed}: {what}\nreplay: torture crash --replay {seed}");
    }
    let missing = summary.reach.missing();
    if !missing.is_empty() {
        println!("not reached: {}", missing.join("; "));
        ok &= !args.all_paths;
    }
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Seconds since 1970: where seeds come from.
fn clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs())
}

fn flips(args: &FlipsArgs) -> ExitCode {
    let memory = flips::Memory {
        now: || ALLOCATOR.current_usage(),
        peak: || ALLOCATOR.peak_usage(),
        reset: || ALLOCATOR.reset_peak_usage(),
    };
    let seed = args.seed.unwrap_or_else(clock);
    println!("seed {seed}");
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let workers = args.workers.unwrap_or(cores);
    let plan = flips::Plan { seed, count: args.count, stride: args.stride, workers };
    let result = match &args.replay {
        Some(change) => {
            let replayed = flips::replay(change, args.while_open, args.must_report, seed, memory);
            replayed.map(|text| (text, Vec::new()))
        }
        None => {
            flips::run(plan, memory).map(|report| (report.to_string(), report.failures.clone()))
        }
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
