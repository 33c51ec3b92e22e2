//! `coins`: the first sync of a Bitcoin node, on Hedgerow's coins and on RocksDB under a cache as Bitcoin Core's.
//!
//! ```text
//!   driver ──► a process for each engine, in turns, round after round ──► a line of JSON each ──► table of medians
//! ```
//!
//! Build it with `RUSTFLAGS="-C target-cpu=native"`: RocksDB's C++ is compiled for this machine then too.
#![forbid(unsafe_code)]

use clap::{Parser, ValueEnum};
use hedgerow_coins::{CoinOptions, Flush};
use hedgerow_compare_coins::core_like::CoreOptions;
use hedgerow_compare_coins::report::{Line, table};
use hedgerow_compare_coins::rocks::Tuning;
use hedgerow_compare_coins::sync::{Workload, run};
use hedgerow_compare_coins::{CoreLike, Engine, Failure, Hedgerow};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The first sync of a Bitcoin node: Hedgerow's coins beside RocksDB under a cache as Bitcoin Core's.
///
/// Prints a line of JSON for each run, and a table of the medians with ratios to `rocksdb`. Each run is a process of its own; it
/// ends with an error if the set on the disk is not what the blocks say.
#[derive(Debug, Parser)]
struct Args {
    /// Blocks
    #[arg(long, default_value_t = 2_000)]
    blocks: u32,
    /// Transactions of a block
    #[arg(long, default_value_t = 2_000)]
    transactions: u32,
    /// MB (2^20 bytes) of the cache of coins
    #[arg(long, default_value_t = 64)]
    cache_mb: usize,
    /// Blocks that can be disconnected; 0: nothing is kept for that
    #[arg(long, default_value_t = 288)]
    undo_blocks: u32,
    /// Hedgerow looks each coin up that a block creates, as it does by default. Bitcoin Core does not since BIP 34, nor does `rocksdb` here
    #[arg(long)]
    check_created: bool,
    /// Blocks from flush to flush, for the engines of that name
    #[arg(long, default_value_t = 100)]
    every: u32,
    /// What all blocks follow from
    #[arg(long, default_value_t = 16)]
    seed: u64,
    /// Rounds: in each, every engine runs once
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Engines, in the order of the first round; every other round is in the opposite one
    #[arg(long, value_enum, value_delimiter = ',', num_args = 1..)]
    engines: Vec<Which>,
    /// An empty directory, or one that is not there yet, on the disk that is meant [a temporary one, which may be in memory]
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    tuning: Tuning,
    /// Part of a run: what the driver calls itself with
    #[arg(long, value_enum, hide = true)]
    alone: Option<Which>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    /// Flushed when the cache is full
    Hedgerow,
    /// With a MuHash of the set
    HedgerowMuhash,
    /// Flushed at fixed heights: roots can be compared
    HedgerowEvery,
    /// Both
    HedgerowEveryMuhash,
    /// Flushed when the cache is full
    Rocksdb,
    /// Flushed at fixed heights
    RocksdbEvery,
}

impl Which {
    fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
    }
}

impl Args {
    fn open(&self, which: Which, dir: &Path) -> Result<Box<dyn Engine>, Failure> {
        let cache_bytes = self.cache_mb << 20;
        let ours = |flush, muhash| -> Result<Box<dyn Engine>, Failure> {
            let options = CoinOptions::new().cache_bytes(cache_bytes as u64);
            let options = options.flush(flush).muhash(muhash).undo_blocks(self.undo_blocks);
            let options = options.check_created(self.check_created);
            Ok(Box::new(Hedgerow::open(dir, options)?))
        };
        let rocks = |every| -> Result<Box<dyn Engine>, Failure> {
            let options = CoreOptions { cache_bytes, undo_blocks: self.undo_blocks, every };
            Ok(Box::new(CoreLike::open(dir, options, self.tuning)?))
        };
        match which {
            Which::Hedgerow => ours(Flush::WhenFull, false),
            Which::HedgerowMuhash => ours(Flush::WhenFull, true),
            Which::HedgerowEvery => ours(Flush::Every(self.every), false),
            Which::HedgerowEveryMuhash => ours(Flush::Every(self.every), true),
            Which::Rocksdb => rocks(None),
            Which::RocksdbEvery => rocks(Some(self.every)),
        }
    }
}

/// One engine, in this process.
fn alone(args: &Args, which: Which, dir: &Path) -> Result<(), Failure> {
    let Args { blocks, transactions, seed, .. } = *args;
    let open = |dir: &Path| args.open(which, dir);
    let report = run(&which.name(), &open, dir, Workload { blocks, transactions, seed })?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

/// One engine, in a process and a directory of its own.
fn apart(which: Which, dir: &Path) -> Result<Line, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1));
    // The last of two flags would be refused.
    let ran = command
        .env(DIR, dir)
        .args(["--alone", &which.name()])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .output()?;
    std::fs::remove_dir_all(dir)?;
    if !ran.status.success() {
        return Err(Failure::Wrong(format!("{} ended with {}", which.name(), ran.status)));
    }
    print!("{}", String::from_utf8_lossy(&ran.stdout));
    Ok(serde_json::from_slice(&ran.stdout)?)
}

/// Where a process of its own has its engine.
const DIR: &str = "HEDGEROW_COMPARE_COINS_DIR";

fn drive(args: &Args) -> Result<(), Failure> {
    if let Some(which) = args.alone {
        let dir = std::env::var_os(DIR).map(PathBuf::from);
        return alone(
            args,
            which,
            &dir.ok_or_else(|| Failure::Wrong(format!("{DIR} is not set")))?,
        );
    }
    let temporary = tempfile::tempdir()?;
    let dir = args.dir.as_deref().unwrap_or(temporary.path());
    let mut engines = args.engines.clone();
    if engines.is_empty() {
        engines = Which::value_variants().to_vec();
    }
    let mut lines = Vec::new();
    for round in 0..args.rounds {
        for &which in &engines {
            let dir = dir.join(format!("{}-{round}", which.name()));
            std::fs::create_dir_all(&dir)?;
            lines.push(apart(which, &dir)?);
        }
        engines.reverse();
    }
    println!("{}", table(&lines, &Which::Rocksdb.name()));
    Ok(())
}

fn main() -> ExitCode {
    match drive(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("coins: {failure}");
            ExitCode::FAILURE
        }
    }
}
