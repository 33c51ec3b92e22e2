//! `import`: what a bulk load costs, beside puts of the same keys.
//!
//! ```text
//!   driver ──► puts      a process of its own: the keys in no order, in blocks of 50,000
//!          ├─► sorted    another one: the same in the order of their hashes
//!          └─► import    another one: the same, as one stream
//! ```
//!
//! Times are CPU of the whole process, kernel included, until the store is closed.
#![forbid(unsafe_code)]

use clap::{Parser, ValueEnum};
use hedgerow::{IndexMode, Options, Store, StoreParams};
use hedgerow_benches::usage::{self, Meter};
use hedgerow_hasher_api::hash_message;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Loads the same keys in several ways and says what each costs.
#[derive(Debug, Parser)]
struct Args {
    /// Keys.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes of a value.
    #[arg(long, default_value_t = 32)]
    value_bytes: usize,
    /// Puts the index into files, with so many MiB of memory.
    #[arg(long)]
    index_memory_mb: Option<u64>,
    /// Operations of a block of puts.
    #[arg(long, default_value_t = 50_000)]
    block: usize,
    /// Part of the run: what the driver calls itself with.
    #[arg(long, value_enum, hide = true)]
    phase: Option<Phase>,
    /// Where the stores are made; a temporary directory unless given.
    #[arg(long)]
    dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Phase {
    Puts,
    Sorted,
    Import,
}

/// Why a run ended without figures.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] hedgerow::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("a part of the run failed")]
    Phase,
}

/// A key of 32 bytes.
fn key(number: u64) -> [u8; 32] {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
    key[24..].copy_from_slice(&number.to_le_bytes());
    key
}

/// The keys, in the order of their hashes if they are to be in one.
fn keys(args: &Args, sorted: bool) -> Vec<[u8; 32]> {
    let mut keys: Vec<_> = (0..args.keys).map(key).collect();
    if sorted {
        keys.sort_by_cached_key(|key| hash_message(key).0);
    }
    keys
}

fn options(args: &Args) -> Options {
    match args.index_memory_mb {
        Some(mib) => Options::new().index(IndexMode::Tiered { memory_bytes: mib << 20 }),
        None => Options::new(),
    }
}

fn run(args: &Args, phase: Phase) -> Result<(), Failure> {
    let keys = keys(args, phase != Phase::Puts);
    let folder = tempfile::tempdir()?;
    let dir = args.dir.clone().unwrap_or_else(|| folder.path().to_owned()).join("store");
    let value = vec![7; args.value_bytes];
    let before = usage::memory().unwrap_or(0);
    let meter = Meter::read()?;
    let store = match phase {
        Phase::Puts | Phase::Sorted => {
            let mut store = Store::create(&dir, StoreParams::default(), options(args))?;
            for keys in keys.chunks(args.block.max(1)) {
                let mut block = store.next_block()?;
                for key in keys {
                    block.put(key, &value)?;
                }
                block.submit()?;
            }
            store
        }
        Phase::Import => {
            let pairs = keys.iter().map(|key| Ok::<_, hedgerow::Error>((key, &value)));
            Store::import(&dir, StoreParams::default(), options(args), pairs)?
        }
    };
    store.flush()?;
    let (height, root) = (store.height(), store.reader().root().1);
    store.close()?;
    let cost = meter.since()?;
    let peak = usage::peak_memory().unwrap_or(0).saturating_sub(before);
    println!(
        "{phase:?}: {:.3} us CPU per key ({:.3} user), {:.0} keys/s, {} MB beyond the keys, height {height}, root {root}",
        cost.cpu().as_secs_f64() * 1e6 / args.keys as f64,
        cost.user.as_secs_f64() * 1e6 / args.keys as f64,
        cost.rate(args.keys),
        peak >> 20,
    );
    Ok(())
}

fn drive(args: &Args) -> Result<(), Failure> {
    match args.phase {
        Some(phase) => run(args, phase),
        None => {
            for phase in ["puts", "sorted", "import"] {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(std::env::args().skip(1)).args(["--phase", phase]);
                if !command.status()?.success() {
                    return Err(Failure::Phase);
                }
            }
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    match drive(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("import: {error}");
            ExitCode::FAILURE
        }
    }
}
