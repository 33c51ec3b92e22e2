//! The program `torture`: see the library's documentation.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use hedgerow_torture::crash::{
    CYCLES_PER_SESSION, Rules, Session, Summary, Until, every_creation, run,
};
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
    /// Run at least this many cycles,
    #[arg(long, default_value_t = 1_000)]
    cycles: u64,
    /// and at least this many minutes.
    #[arg(long, default_value_t = 0.0)]
    minutes: f64,
    /// Seed of the first session. Default: from the clock.
    #[arg(long)]
    seed: Option<u64>,
    /// Run the one session of this seed.
    #[arg(long)]
    replay: Option<u64>,
    /// Fail if something that a run of thousands of cycles meets was not met.
    #[arg(long)]
    all_paths: bool,
    /// Let the next process believe what a failed sync left in the cache: known to lose stores, and
    /// expected to.
    #[arg(long)]
    known_red: bool,
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Crash(args) => crash(&args),
        Command::Faults(args) => faults(&args),
    }
}

fn crash(args: &CrashArgs) -> ExitCode {
    let rules = if args.known_red { Rules::BeliefToo } else { Rules::NoBelief };
    if let Some(seed) = args.replay {
        let outcome = Session::run(seed, CYCLES_PER_SESSION, rules);
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
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let until = Until { cycles: args.cycles, time };
    println!("first seed {seed}");
    let summary = run(seed, until, rules);
    print_summary(&summary, seed);
    if args.known_red {
        return known_red(&summary);
    }
    let mut ok = creations(seed);
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

fn print_summary(summary: &Summary, seed: u64) {
    print!("{}", summary.reach);
    let (cycles, seconds) = (summary.reach.cycles(), summary.time.as_secs_f64());
    println!(
        "{cycles} cycles in {} sessions, {seconds:.0} s, {:.1} cycles a second; seeds {seed} to {}",
        summary.sessions,
        cycles as f64 / seconds,
        seed + summary.sessions.saturating_sub(1),
    );
}

fn creations(seed: u64) -> bool {
    match every_creation(seed) {
        Err(what) => println!("FAILED: {what}"),
        Ok((ways, lost)) if lost.is_empty() => {
            println!("{ways} ways to die while a store is made, nothing lost");
            return true;
        }
        Ok((ways, lost)) => {
            println!("FAILED: {} of {ways} ways to die while a store is made:", lost.len());
            lost.iter().for_each(|what| println!("  {what}"));
        }
    }
    false
}

/// What is known to fail must fail, or the note that it does is out of date.
fn known_red(summary: &Summary) -> ExitCode {
    let (failed, sessions) = (summary.failures.len(), summary.sessions);
    if let Some((seed, what)) = summary.failures.first() {
        let first = what.lines().next().unwrap_or_default();
        println!(
            "for example, seed {seed}: {first}\nreplay: torture crash --known-red --replay {seed}"
        );
        println!(
            "KNOWN RED: a failed sync is believed by the next process: {failed} of {sessions} sessions"
        );
        ExitCode::SUCCESS
    } else {
        println!("FAILED: a failed sync is no longer believed: take Rules::NoBelief away");
        ExitCode::FAILURE
    }
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
