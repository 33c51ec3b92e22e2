//! `hash-goals`: the goals of CPU hashing, each with its figure, and whether it is met.
//!
//! ```text
//!   races      nodes in 12 batch sizes, a whole tree, messages: every contender, interleaved
//!      │
//!   goals      figure = median of the ratios of one repetition ─► met, falls short, not measured
//!      │
//!   report     head, goals, the crates by batch size ─► "N of M goals met"
//! ```
//!
//! Everything runs on one thread and is timed in CPU time of that thread; see `hedgerow_sampling`.
//! Digests are checked against `sha2` before anything is timed. Whether goals are met changes
//! nothing about the exit status: a wrong digest and a broken run do.
//!
//! With `--kernels` the kernels of this CPU instead, each pinned, on nodes, entries and keys.
#![forbid(unsafe_code)]

mod goals;
mod kernels;
mod races;
mod report;

use clap::Parser;
use hedgerow_compare::{Failure, race::Effort};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// The goals of CPU hashing, each with its figure.
#[derive(Debug, Parser)]
struct Args {
    /// The program `sha2-native`, built with RUSTFLAGS="-C target-cpu=native" [without it that goal
    /// is not measured]
    #[arg(long, value_name = "PATH")]
    native: Option<PathBuf>,
    /// One repetition of everything: shows that it runs and that the digests agree; the figures mean
    /// nothing
    #[arg(long)]
    quick: bool,
    /// Instead of the goals: kernels by batch size, all or those named (avx512x32 shani4 ...)
    #[arg(long, value_name = "KERNEL", num_args = 0..)]
    kernels: Option<Vec<String>>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let text = run(&args);
    let written = text.and_then(|text| Ok(io::stdout().write_all(text.as_bytes())?));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("hash-goals: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<String, Failure> {
    let effort = if args.quick { Effort::Quick } else { Effort::Full };
    if let Some(names) = &args.kernels {
        return kernels::table(effort, names);
    }
    let races = races::Races::run(effort, args.native.as_deref())?;
    Ok(report::goals(effort, &races, &goals::goals(&races)))
}
