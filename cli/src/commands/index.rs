//! Where the index of a store is: `--index` and `--index-memory-mb`, for every command that opens one for writing.
//!
//! ```text
//!   --index given             that
//!   not, and there is one     as it is: a store that has its index in files keeps it there
//!   neither                   in memory
//! ```
//!
//! To open a store the other way reads all of its log: no command does so unless it is told.

use crate::error::CliError;
use clap::{Args, ValueEnum};
use hedgerow::{IndexMode, Options};
use std::path::Path;

/// Memory of an index in files, unless it is given.
const MEMORY_MB: u64 = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum IndexArg {
    Memory,
    Tiered,
}

/// Where the index is.
#[derive(Debug, Args)]
pub(super) struct IndexArgs {
    /// Where the index is: in memory, 11 bytes per key, or tiered, which is in files but for the newest part. As it
    /// is unless given; a new store has it in memory. To change it reads all of the log once
    #[arg(long, value_enum, value_name = "MODE")]
    index: Option<IndexArg>,

    /// Memory of a tiered index in MB of 2^20 bytes, at least 4 [default: 256]
    #[arg(long, value_name = "N")]
    index_memory_mb: Option<u64>,
}

impl IndexArgs {
    /// These options, with the index of the store in `dir` where it is asked to be.
    ///
    /// # Errors
    /// If memory is given for an index that takes what it needs.
    pub(super) fn apply(&self, dir: &Path, options: Options) -> Result<Options, CliError> {
        let tiered = match self.index {
            Some(index) => index == IndexArg::Tiered,
            None => has_files(dir),
        };
        match (tiered, self.index_memory_mb) {
            (true, mb) => Ok(options.index(in_files(mb.unwrap_or(MEMORY_MB)))),
            (false, None) => Ok(options.index(IndexMode::Memory)),
            (false, Some(_)) => Err(CliError::Arguments(
                "--index-memory-mb is for an index in files: --index tiered".to_owned(),
            )),
        }
    }
}

fn in_files(mb: u64) -> IndexMode {
    IndexMode::Tiered { memory_bytes: mb.saturating_mul(1 << 20) }
}

/// These options, with the index of the store in `dir` where it is.
pub(super) fn as_it_is(dir: &Path, options: Options) -> Options {
    if has_files(dir) { options.index(in_files(MEMORY_MB)) } else { options }
}

/// Whether the store in `dir` has its index in files. One of few keys may have it so and no file yet: then it makes no
/// difference.
fn has_files(dir: &Path) -> bool {
    let files = std::fs::read_dir(dir.join("index"));
    files.is_ok_and(|mut files| files.any(|file| file.is_ok()))
}
