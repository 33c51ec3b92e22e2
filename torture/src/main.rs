//! The program `torture`: see the library's documentation.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use hedgerow_torture::crash::{CYCLES_PER_SESSION, Session, Until, run};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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
    /// Every k-th call of a fixed scenario fails, in every way.
    Faults(FaultsArgs),
}

#[derive(Debug, clap::Args)]
struct FaultsArgs {
    /// Of the calls that change the disk every so many.
    #[arg(long, default_value_t = 1)]
    stride: u64,
    /// Of all calls, reads too, every so many.
    #[arg(long, default_value_t = 16)]
    read_stride: u64,
    /// Number of the first call.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run the one job that a failure names: part:calls:after:kind[:on].
    #[arg(long)]
    replay: Option<String>,
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

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Crash(args) => crash(&args),
        Command::Faults(args) => faults(&args),
    }
}

fn crash(args: &CrashArgs) -> ExitCode {
    if let Some(seed) = args.replay {
        let outcome = Session::run(seed, CYCLES_PER_SESSION);
        print!("{}", outcome.reach);
        return match outcome.result {
            Ok(()) => ExitCode::SUCCESS,
            Err(what) => {
                println!("FAILED: {what}");
                ExitCode::FAILURE
            }
        };
    }
    let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs());
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

fn faults(args: &FaultsArgs) -> ExitCode {
    let said = |what: &str| {
        println!("FAILED: {what}");
        ExitCode::FAILURE
    };
    if let Some(line) = &args.replay {
        return hedgerow_torture::faults::replay(line)
            .map_or_else(|what| said(&what), |()| ExitCode::SUCCESS);
    }
    let started = Instant::now();
    let summary = match hedgerow_torture::faults::run(
        args.stride.max(1),
        args.first,
        args.read_stride.max(1),
    ) {
        Ok(summary) => summary,
        Err(what) => return said(&what),
    };
    print!("{}", summary.reach);
    for (part, changes, calls) in &summary.calls {
        println!("{}: {changes} calls change the disk, {calls} in all", part.name());
    }
    println!("{} runs, {:.0} s", summary.runs, started.elapsed().as_secs_f64());
    for (line, what) in summary.failures.iter().take(20) {
        println!("FAILED: {what}\nreplay: {line}");
    }
    let missing = summary.missing();
    if !missing.is_empty() {
        println!("never failed: {}", missing.join("; "));
    }
    if summary.failures.is_empty() && (missing.is_empty() || args.stride > 1) {
        ExitCode::SUCCESS
    } else {
        println!("{} runs failed", summary.failures.len());
        ExitCode::FAILURE
    }
}
