//! The program `torture`: see the library's documentation.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use hedgerow_torture::crash::command::{CrashArgs, crash};
use hedgerow_torture::faults::command::{FaultsArgs, faults};
use hedgerow_torture::flips::Memory;
use hedgerow_torture::flips::command::{FlipsArgs, flips};
use hedgerow_torture::process::{Failure, child, command, contend};
use peak_alloc::PeakAlloc;
use std::process::ExitCode;

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
    /// Every k-th call of a fixed scenario fails, in every way.
    Faults(FaultsArgs),
    /// Bytes flipped, sectors lost, files cut, removed and swapped in a store at rest.
    Flips(FlipsArgs),
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

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Crash(args) => crash(&args),
        Command::Faults(args) => faults(&args),
        Command::Flips(args) => {
            let memory = Memory {
                now: || ALLOCATOR.current_usage(),
                peak: || ALLOCATOR.peak_usage(),
                reset: || ALLOCATOR.reset_peak_usage(),
            };
            flips(&args, memory)
        }
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
