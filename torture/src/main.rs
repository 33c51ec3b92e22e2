//! The program `torture`: see the library's documentation.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use hedgerow_torture::process::{child, command};
use std::process::ExitCode;

/// Crashes, failing calls, damage and kills: what Hedgerow must survive.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kills a child that writes blocks, again and again, and compares what is left.
    Kill(command::KillArgs),
    /// The child that is killed.
    #[command(hide = true)]
    Child(child::Args),
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Kill(args) => command::kill(&args),
        Command::Child(args) => match child::run(&args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("error: {failure}");
                ExitCode::FAILURE
            }
        },
    }
}
