//! The command `torture faults`.

use super::{Strides, replay, run};
use std::process::ExitCode;
use std::time::Instant;

/// Up to these strides everything that is wanted must have failed.
const MOST_STRIDE: u64 = 4;
const MOST_READ_STRIDE: u64 = 400;

/// What `torture faults` is given.
#[derive(Debug, clap::Args)]
pub struct FaultsArgs {
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

/// Runs the command.
pub fn faults(args: &FaultsArgs) -> ExitCode {
    let said = |what: &str| {
        println!("FAILED: {what}");
        ExitCode::FAILURE
    };
    if let Some(line) = &args.replay {
        return replay(line).map_or_else(|what| said(&what), |()| ExitCode::SUCCESS);
    }
    let started = Instant::now();
    let strides = Strides { changes: args.stride, all: args.read_stride, first: args.first };
    let summary = match run(strides) {
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
    // With larger strides some kinds of calls are missed.
    let is_quick = args.stride > MOST_STRIDE || args.read_stride > MOST_READ_STRIDE;
    if summary.failures.is_empty() && (missing.is_empty() || is_quick) {
        ExitCode::SUCCESS
    } else {
        println!("{} runs failed", summary.failures.len());
        ExitCode::FAILURE
    }
}
