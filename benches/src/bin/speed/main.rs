//! `speed`: the store end to end, from random keys to roots, reads, proofs and reopening.
//!
//! ```text
//!   populate ──► blocks of creates          ┐  each a phase with its own meters: wall clock,
//!   update   ──► K blocks of B operations   │  CPU of the whole process, bytes written
//!   reads, proofs ──► one reader thread     ┘
//!   checks   ──► last block's keys, sampled reads, sampled proofs        (beside the clock)
//!   past     ──► the same at earlier heights; blocks taken back
//!   reopen   ──► close, open, same root
//!   --kill       instead of all that: a child writes, is killed, and this process opens what is left
//! ```
//!
//! `speed --help` defines every flag and figure.
#![forbid(unsafe_code)]

mod args;
mod check;
mod kill;
mod past;
mod report;
mod run;

use args::Args;
use clap::Parser;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Why a run ended without figures.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] hedgerow::Error),
    #[error("{0} is not empty; a run needs a directory of its own")]
    NotEmpty(PathBuf),
    #[error("reading the process's meters: {0}")]
    Meter(io::Error),
    #[error("{what}: {error}")]
    Io { what: String, error: io::Error },
    #[error("a run needs at least one key, and at most {max} keys in all")]
    Keys { max: u64 },
    #[error("all keys were deleted after {0} operations; take more keys or fewer operations")]
    OutOfKeys(u64),
    #[error("WRONG RESULT: {0}")]
    Wrong(String),
    #[error("a thread of the run panicked")]
    Thread,
    #[error("writing the result: {0}")]
    Output(#[from] serde_json::Error),
}

fn print(args: &Args, report: &(impl Serialize + Display)) -> Result<(), Failure> {
    let text = if args.json { serde_json::to_string(report)? } else { report.to_string() };
    writeln!(io::stdout(), "{text}")
        .map_err(|error| Failure::Io { what: "writing the result".into(), error })
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = if args.until_killed {
        kill::write_until_killed(&args)
    } else if args.kill {
        kill::run(&args).and_then(|report| print(&args, &report))
    } else {
        run::run(&args).and_then(|report| print(&args, &report))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("speed: {failure}");
            ExitCode::FAILURE
        }
    }
}
