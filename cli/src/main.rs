//! The `hedgerow` program: a Hedgerow store from the command line.
//!
//! ```text
//!   arguments ─► commands/  one file per group of commands ─► the library
//!                    │
//!                    ├─► output   reports on standard output (text, or JSON with --json),
//!                    │            progress bars on standard error
//!                    ├─► outfile  files: written beside, synced, renamed
//!                    └─► error    "error: ..." and its causes on standard error,
//!                        exit     and an exit code for each kind of failure
//! ```
//!
//! docs/cli.md describes the commands, what they print and the exit codes.
//!
//! **Invariants**
//! * Nothing is decided here that the library could decide: the program reads text, calls the
//!   library and prints what it answered.
//! * With `--json`, every line on standard output is one JSON object, and so is an error on standard
//!   error; field names are part of the program's interface. Roots are 64 hex digits, keys and values
//!   `0x` and hex digits.
//! * No input makes the program panic.
#![forbid(unsafe_code)]

mod commands;
mod error;
mod exit;
mod input;
mod interrupt;
mod outfile;
mod output;
mod packing;
mod recipe;
mod table;
mod text;
mod what_now;

use clap::Parser;
use exit::Kind;
use output::Output;
use std::io::Write;
use std::process::ExitCode;

/// A verifiable key-value store for blockchain state.
///
/// Keys and values are given as 0x followed by hex digits, or as plain text, which stands for its
/// UTF-8 bytes. Where a file is named, - stands for standard input or output.
#[derive(Debug, Parser)]
#[command(name = "hedgerow", version, max_term_width = 100, after_long_help = Kind::table())]
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
            let error = error::CliError::no_thread(&error);
            complain(&error.report());
            error.kind().into()
        }
    }
}

fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    match commands::run(cli.command, Output::new(cli.json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_silent() {
                complain(&if cli.json { error.json() } else { error.report() });
            }
            error.kind().into()
        }
    }
}

/// Help, the version, or arguments that make no sense.
fn not_parsed(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
        complain(&error::usage_json(error));
        return Kind::Usage.into();
    }
    match error.print() {
        Ok(()) if error.use_stderr() => Kind::Usage.into(),
        Ok(()) => ExitCode::SUCCESS,
        // Nobody is left to tell.
        Err(_) => Kind::Failed.into(),
    }
}

fn complain(text: &str) {
    // If standard error is gone too, nobody is left to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}
