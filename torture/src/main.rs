//! The program `torture`: see the library's documentation.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use hedgerow_torture::crash::{Session, Until, run};
use hedgerow_torture::process::{Failure, child, command, contend};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
    /// Kills a child that writes blocks, again and again, and compares what is left.
    Kill(command::KillArgs),
    /// Fills a small file system: no space, again and again, at another call each time.
    Full(command::FullArgs),
    /// The part of `full` that runs inside of the small file system.
    #[command(hide = true)]
    FullInside(command::InsideArgs),
    /// Several processes want one store: one at a time has it, a killed one gives it back.
    Two(command::TwoArgs),
    /// One of them.
    #[command(hide = true)]
    Contend(contend::Args),
    /// The child that is killed.
    #[command(hide = true)]
    Child(child::Args),
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
        Command::Kill(args) => command::kill(&args),
        Command::Full(args) => command::full(&args),
        Command::FullInside(args) => exit(command::full_inside(&args)),
        Command::Two(args) => command::two(&args),
        Command::Contend(args) => exit(contend::run(&args)),
        Command::Child(args) => exit(child::run(&args)),
    }
}

fn exit(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
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
