//! The `hedgerow` program: a Hedgerow store from the command line.
//!
//! ```text
//!   arguments ─► commands/  one file per group of commands ─► the library
//!                    │
//!                    ├─► output   reports on standard output (text, or JSON with --json),
//!                    │            progress bars on standard error
//!                    └─► error    "error: ..." and its causes on standard error
//! ```
//!
//! Exit codes: 0, the command did what it says; 1, it failed or found something wrong; 2, the
//! arguments make no sense.
//!
//! **Invariants**
//! * Nothing is decided here that the library could decide: the program reads text, calls the
//!   library and prints what it answered.
//! * With `--json`, every line on standard output is one JSON object; field names are part of the
//!   program's interface. Roots are 64 hex digits, keys and values `0x` and hex digits.
//! * No input makes the program panic.
#![forbid(unsafe_code)]

mod commands;
mod error;
mod input;
mod output;
mod recipe;
mod text;
mod what_now;

use clap::Parser;
use output::Output;
use std::io::Write;
use std::process::ExitCode;

/// A verifiable key-value store for blockchain state.
///
/// Keys and values are given as 0x followed by hex digits, or as plain text, which stands for its
/// UTF-8 bytes.
#[derive(Debug, Parser)]
#[command(name = "hedgerow", version, max_term_width = 100)]
struct Cli {
    /// Print one JSON object per line instead of text
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: commands::Command,
}

/// Stack of the thread that does it all: the system's limit for the first thread (`ulimit -s`) is none
/// of what is needed.
const STACK_BYTES: usize = 8 << 20;

fn main() -> ExitCode {
    let thread = std::thread::Builder::new().name("command".into()).stack_size(STACK_BYTES);
    match thread.spawn(run) {
        // A panic has said what there is to say.
        Ok(thread) => thread.join().unwrap_or(ExitCode::FAILURE),
        Err(error) => {
            let limits = "the limits for it are threads (ulimit -u) and address space (ulimit -v)";
            complain(&format!("error: starting a thread: {error}; {limits}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(cli.command, Output::new(cli.json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_broken_pipe() {
                complain(&error.report());
            }
            error.exit_code()
        }
    }
}

fn complain(text: &str) {
    // If standard error is gone too, nobody is left to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}
