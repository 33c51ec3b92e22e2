//! The command `torture crash`.

use super::{CYCLES_PER_SESSION, Session, Summary, Until, every_creation, run};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What `torture crash` is given.
#[derive(Debug, clap::Args)]
pub struct CrashArgs {
    /// Run at least this many cycles,
    #[arg(long, default_value_t = 1_000)]
    cycles: u64,
    /// of these at least so many with an index in files,
    #[arg(long, default_value_t = 0)]
    tiered_cycles: u64,
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
}

/// Runs the command.
pub fn crash(args: &CrashArgs) -> ExitCode {
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
    let time = Duration::from_secs_f64(args.minutes * 60.0);
    let until = Until { cycles: args.cycles, tiered: args.tiered_cycles, time };
    println!("first seed {seed}");
    let summary = run(seed, until);
    print_summary(&summary, seed);
    let mut ok = creations(seed);
    for (seed, what) in &summary.failures {
        ok = false;
        println!("FAILED, seed {seed}: {what}\nreplay: torture crash --replay {seed}");
    }
    let tiered = summary.reach.tiered_cycles();
    if tiered < args.tiered_cycles {
        println!("not reached: {} cycles with an index in files", args.tiered_cycles);
        ok &= !args.all_paths;
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
        "{cycles} cycles in {} sessions, {} of them with an index in files, {seconds:.0} s, {:.1} cycles a second; \
         seeds {seed} to {}",
        summary.sessions,
        summary.reach.tiered_cycles(),
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
