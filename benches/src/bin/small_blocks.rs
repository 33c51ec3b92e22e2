//! `small_blocks`: what a chain does all day, many blocks of a few operations, and what of it grows.
//!
//! ```text
//!   driver ──► fill     a process of its own: N blocks of five operations; a line of figures at
//!          │            every tenth. Ends by closing the store, or as if it were killed
//!          └─► reopen   another one: opens, says how long it took, what it read and wrote, and how
//!                       much memory it came to
//! ```
//!
//! Bytes are those that the store hands to the disk and takes from it, by folder; bytes held are the
//! lengths of the files.
#![forbid(unsafe_code)]

use clap::{Parser, ValueEnum};
use hedgerow::disk::RealDisk;
use hedgerow::{Options, Stats, Store, StoreParams};
use hedgerow_benches::usage;
use hedgerow_vfs::{HookedDisk, VfsCall, VfsOp};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The folders of a store, in the order of the figures.
const FOLDERS: [&str; 3] = ["log", "meta", "twigs"];
/// Operations of a block; every tenth of them creates a key.
const OPS: u64 = 5;

/// Fills stores with many small blocks and says what grows.
#[derive(Debug, Parser)]
struct Args {
    /// Blocks of five operations.
    #[arg(long, default_value_t = 100_000)]
    blocks: u64,
    /// Keys that exist before the first of them.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// What is kept.
    #[arg(long, value_enum, default_value_t = Kept::Default)]
    keep: Kept,
    /// Waits for every block to be durable, as a chain that has nothing else to do.
    #[arg(long)]
    each: bool,
    /// Ends the process without closing the store.
    #[arg(long)]
    die: bool,
    /// Part of the run: what the driver calls itself with.
    #[arg(long, value_enum, hide = true)]
    phase: Option<Phase>,
    /// Where the store is made; a temporary directory unless given.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What a store is told to keep.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kept {
    /// Nothing is said.
    Default,
    /// `keep_heights(16)`.
    Sixteen,
    /// `keep_all()`.
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Phase {
    Fill,
    Reopen,
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

/// Bytes by folder.
#[derive(Debug, Default)]
struct Counted {
    written: [AtomicU64; 3],
    read: [AtomicU64; 3],
}

impl Counted {
    fn note(&self, call: &VfsCall<'_>) {
        let which = match call.op {
            VfsOp::Write => &self.written,
            VfsOp::Read => &self.read,
            _ => return,
        };
        let parent = call.path.parent().and_then(Path::file_name);
        let folder = FOLDERS.iter().position(|name| parent.is_some_and(|parent| parent == *name));
        if let (Some(folder), Some(len)) = (folder, call.len) {
            which[folder].fetch_add(len, Ordering::Relaxed);
        }
    }

    fn get(which: &[AtomicU64; 3]) -> [u64; 3] {
        std::array::from_fn(|folder| which[folder].load(Ordering::Relaxed))
    }
}

fn options(args: &Args, counted: &Arc<Counted>) -> Options {
    let counted = Arc::clone(counted);
    let hook = move |call: &VfsCall<'_>| {
        counted.note(call);
        Ok(())
    };
    let options =
        Options::new().disk(Arc::new(HookedDisk::new(Arc::new(RealDisk), Arc::new(hook))));
    match args.keep {
        Kept::Default => options,
        Kept::Sixteen => options.keep_heights(16),
        Kept::All => options.keep_all(),
    }
}

/// Bytes of the files of each folder.
fn held(dir: &Path) -> Result<[u64; 3], Failure> {
    let mut held = [0; 3];
    for (held, folder) in held.iter_mut().zip(FOLDERS) {
        for file in std::fs::read_dir(dir.join(folder))? {
            *held += file?.metadata()?.len();
        }
    }
    Ok(held)
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or("?".into(), |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)))
}

fn fill(args: &Args, dir: &Path) -> Result<(), Failure> {
    let counted = Arc::new(Counted::default());
    let mut store = Store::create(dir, StoreParams::default(), options(args, &counted))?;
    let mut state = 7_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let put = |store: &mut Store, keys: &[u64], value: u64| -> Result<(), Failure> {
        let height = store.height().next();
        let mut block = store.begin_block(height)?;
        for key in keys {
            block.put(format!("account {key:08}"), [value.to_le_bytes(); 4].as_flattened())?;
        }
        let ticket = block.submit()?;
        if args.each {
            ticket.durable()?;
        }
        Ok(())
    };
    let mut keys = args.keys;
    for first in (0..keys).step_by(1_000) {
        put(&mut store, &(first..keys.min(first + 1_000)).collect::<Vec<_>>(), first)?;
    }
    store.flush()?;
    println!(
        "blocks    bytes written per block        bytes held                       MiB resident  index+tree  tail  entries  us/block"
    );
    println!("          log     meta    twigs          log        meta       twigs");
    let mut before = Counted::get(&counted.written);
    let step = (args.blocks / 10).max(1);
    let mut begin = Instant::now();
    for number in 1..=args.blocks {
        let mut changed = vec![];
        for op in 0..OPS {
            if (number * OPS + op).is_multiple_of(10) {
                changed.push(keys);
                keys += 1;
            } else {
                changed.push(random() % keys);
            }
        }
        put(&mut store, &changed, number)?;
        if number % step == 0 {
            store.flush()?;
            let took = begin.elapsed().as_micros() as u64 / step;
            let now = Counted::get(&counted.written);
            let [log, meta, twigs] = std::array::from_fn(|i| (now[i] - before[i]) / step);
            let [held_log, held_meta, held_twigs] = held(dir)?;
            let Stats { index_bytes, tree_bytes, log: log_stats, entries, .. } = store.stats();
            println!(
                "{number:<9} {log:<7} {meta:<7} {twigs:<14} {held_log:<10} {held_meta:<10} {held_twigs:<10} {:<13} {:<11} {:<5} {entries:<8} {took}",
                mebibytes(usage::memory()),
                mebibytes(Some((index_bytes + tree_bytes) as u64)),
                mebibytes(Some(log_stats.tail_bytes)),
            );
            before = Counted::get(&counted.written);
            begin = Instant::now();
        }
    }
    if args.die {
        println!("dies");
        std::process::exit(0);
    }
    store.close()?;
    let [log, meta, twigs] = held(dir)?;
    println!("closed: {log} {meta} {twigs} bytes held");
    Ok(())
}

fn reopen(args: &Args, dir: &Path) -> Result<(), Failure> {
    let counted = Arc::new(Counted::default());
    let begin = Instant::now();
    let store = Store::open(dir, options(args, &counted))?;
    let took = begin.elapsed();
    let (read, written) = (Counted::get(&counted.read), Counted::get(&counted.written));
    println!(
        "reopened in {:.3} s: read {read:?}, wrote {written:?} bytes of {FOLDERS:?}; at most {} MiB resident, \
         now {}",
        took.as_secs_f64(),
        mebibytes(usage::peak_memory()),
        mebibytes(usage::memory()),
    );
    Ok(store.close()?)
}

fn run(args: &Args) -> Result<(), Failure> {
    let temporary = tempfile::tempdir()?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().join("store"));
    match args.phase {
        Some(Phase::Fill) => return fill(args, &dir),
        Some(Phase::Reopen) => return reopen(args, &dir),
        None => {}
    }
    println!("{} blocks of {OPS} operations, keep {:?}, die {}", args.blocks, args.keep, args.die);
    for phase in ["fill", "reopen", "reopen"] {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1)).args(["--phase", phase]);
        if args.dir.is_none() {
            command.arg("--dir").arg(&dir);
        }
        if !command.status()?.success() {
            return Err(Failure::Phase);
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("small_blocks: {failure}");
            ExitCode::FAILURE
        }
    }
}
