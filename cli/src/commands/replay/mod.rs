//! `replay`: drives a recorded workload of another engine through the low-level interface and
//! compares the state after every block.
//!
//! ```text
//!   --ops FILE      ─┐
//!   --recipe, --seed ┴► blocks of strict tasks ─► Store::submit_tasks ─┐
//!                                                                      ▼
//!   --expect FILE ────► rows, height 0 = genesis ────────────────► compare, row by row:
//!                                            next_sn, oldest_active_sn, clean_roots of each shard
//! ```
//!
//! Of a recorded row, nothing else is looked at: the *live* roots and their digest are the product
//! of a bug of the recorded engines (spec 8.4), positions are their own.
//!
//! A block is compared when its root is known, before the next one is handed in; its log record is
//! synced meanwhile. The first difference ends the replay.

mod compare;
mod recording;

use super::index::IndexArgs;
use crate::error::{CliError, during};
use crate::input::LineArgs;
use crate::outfile::is_dash;
use crate::output::Output;
use crate::recipe::Recipe;
use crate::text::Counted;
use clap::{ArgGroup, Args};
use compare::{Row, state};
use hedgerow::disk::MemDisk;
use hedgerow::hasher::{self, BatchHasher, Health, Tuning};
use hedgerow::{CompactionRule, Height, Options, Store, StoreParams};
use indicatif::{HumanBytes, HumanCount, ProgressBar};
use recording::{Expected, RecordedBlock, Workload};
use serde::Serialize;
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Segments are this small when the replay prunes, so that whole ones become free.
const PRUNING_SEGMENT_BYTES: u64 = 1 << 20;
/// Where the store lies on a disk in memory.
const MEMORY_DIR: &str = "/replay";

/// Replay a recorded workload and compare the state after every block with the recorded one
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("workload").required(true).args(["ops", "recipe"]))]
pub(crate) struct ReplayArgs {
    /// Recorded operations, one block per line, - for standard input; .gz and .zst are unpacked
    #[arg(long, value_name = "FILE")]
    ops: Option<PathBuf>,
    /// Workload that is made from a seed
    #[arg(long, value_enum, requires = "seed")]
    recipe: Option<Recipe>,
    /// Seed of the recipe
    #[arg(long, value_name = "N", requires = "recipe")]
    seed: Option<u64>,
    /// Recorded states, one per line from height 0 on, - for standard input; .gz and .zst are unpacked
    #[arg(long, value_name = "FILE")]
    expect: PathBuf,
    /// Compaction threshold of the recording
    #[arg(long, value_name = "N")]
    thres: u64,
    /// Compaction ratio of the recording
    #[arg(long, value_name = "N")]
    ratio: NonZeroU32,
    /// Compaction divisor of the recording
    #[arg(long, value_name = "N")]
    div: NonZeroU32,
    /// Directory for the store, empty or new; without it the store is in memory
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Close and reopen the store every N blocks
    #[arg(long, value_name = "N")]
    reopen_every: Option<NonZeroU64>,
    /// Prune what was outdated N blocks ago
    #[arg(long, value_name = "N")]
    prune_keep: Option<NonZeroU64>,
    /// Stop after N blocks
    #[arg(long, value_name = "N")]
    blocks: Option<u64>,
    /// Threads to use; 0 stands for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Hashing backend, one of those that `hedgerow devices` lists
    #[arg(long, value_name = "NAME", default_value = hasher::DEFAULT, value_parser = usable)]
    hasher: String,
    /// For devices: keep the tree's rows there for blocks that change N pages of active bits or more
    #[arg(long, value_name = "N")]
    resident_from: Option<usize>,
    #[arg(long, value_name = "N", help = format!(
        "For devices: hash one of N of their digests again; 0 stands for none [default: {}]",
        hasher::CHECK_ONE_OF
    ))]
    check_one_of: Option<u32>,
    #[command(flatten)]
    index: IndexArgs,
    #[command(flatten)]
    lines: LineArgs,
}

impl ReplayArgs {
    /// The backend as it is asked for. What it would ignore is refused.
    fn backend(&self) -> Result<Arc<dyn BatchHasher>, CliError> {
        let tuning = Tuning {
            check_one_of: self.check_one_of.unwrap_or(hasher::CHECK_ONE_OF),
            resident_from: self.resident_from,
        };
        let backend = hasher::by_name_tuned(&self.hasher, tuning)?;
        let tuned = [
            ("--resident-from", self.resident_from.is_some()),
            ("--check-one-of", self.check_one_of.is_some()),
        ];
        match tuned.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) if !backend.capabilities().is_device => {
                let name = &self.hasher;
                Err(CliError::Arguments(format!(
                    "{flag} is for devices: the backend {name} hashes on the CPU here and ignores it"
                )))
            }
            _ => Ok(backend),
        }
    }
}

/// The name of a backend, if it can be used here.
fn usable(name: &str) -> Result<String, hedgerow::Error> {
    hasher::by_name(name).map(|_| name.to_owned())
}

/// `{"blocks", "operations", "equal", "height", "root", "seconds", "log_bytes", "pruned_bytes"}`
#[derive(Serialize)]
struct Replayed {
    blocks: u64,
    operations: u64,
    /// Always true: the first difference is an error.
    equal: bool,
    height: u64,
    root: String,
    seconds: f64,
    log_bytes: u64,
    /// Null without `--prune-keep`.
    pruned_bytes: Option<u64>,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pruned_bytes {
            Some(0) => writeln!(f, "nothing was old enough to be pruned")?,
            Some(pruned) => {
                let (pruned, left) = (HumanBytes(pruned), HumanBytes(self.log_bytes));
                writeln!(f, "{pruned} of log were pruned, {left} are left")?;
            }
            None => {}
        }
        let blocks = Counted(self.blocks, "block");
        write!(f, "{blocks}, {}: all equal", Counted(self.operations, "operation"))
    }
}

/// What a device has done, and whether it still does.
struct OnDevice<'a>(&'a Health);

impl fmt::Display for OnDevice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Health { device_batches, cpu_batches, resident_blocks, checked, quarantined, .. } =
            self.0;
        let [device, cpu, blocks, checked] =
            [device_batches, cpu_batches, resident_blocks, checked].map(|count| HumanCount(*count));
        write!(f, "{device} batches and the rows of {blocks} blocks hashed on the device, ")?;
        write!(f, "{cpu} batches on the CPU; {checked} digests checked")?;
        match quarantined {
            Some(reason) => write!(f, "; the CPU took the device's place: {reason}"),
            None => Ok(()),
        }
    }
}

pub(super) fn run(args: &ReplayArgs, out: Output) -> Result<(), CliError> {
    if args.ops.as_deref().is_some_and(is_dash) && is_dash(&args.expect) {
        let words = "operations and states cannot be read both from standard input";
        return Err(CliError::Arguments(words.into()));
    }
    let backend = args.backend()?;
    let is_device = backend.capabilities().is_device;
    let seed = args.seed.unwrap_or_default();
    let workload = Workload::open(args.ops.as_deref(), args.recipe, seed, args.lines)?;
    let total = match (workload.blocks(), args.blocks) {
        (Some(all), Some(some)) => Some(all.min(some)),
        (all, some) => all.or(some),
    };
    let bar = out.block_bar(total).with_message("replaying");
    let started = Instant::now();
    let mut replay = Replay::new(args, Arc::clone(&backend), bar.clone())?;
    let compared = replay.run(args, workload);
    bar.finish_and_clear();
    let health = backend.health();
    let store = compared.map_err(|error| match is_device {
        true => CliError::OnDevice { source: error.into(), device: OnDevice(&health).to_string() },
        false => error,
    })?;
    let seconds = started.elapsed();
    let Replay { blocks, operations, .. } = replay;
    let (height, root) = store.reader().root();
    let stats = store.stats();
    store.close()?;
    out.note(format_args!(
        "{} operations per second, {:.1} s in all",
        HumanCount((operations as f64 / seconds.as_secs_f64().max(1e-9)) as u64),
        seconds.as_secs_f64()
    ))?;
    if is_device {
        out.note(OnDevice(&health))?;
    }
    if let Some(reason) = health.quarantined {
        return Err(CliError::Quarantined(reason));
    }
    out.report(&Replayed {
        blocks,
        operations,
        equal: true,
        height: height.0,
        root: root.to_string(),
        seconds: seconds.as_secs_f64(),
        log_bytes: stats.log.bytes,
        // The log begins at position 0: what lies before its start is gone.
        pruned_bytes: args.prune_keep.map(|_| stats.log_start.0),
    })
}

/// A replay under way. The store is handed from hand to hand, for it is closed in between.
struct Replay {
    dir: PathBuf,
    params: StoreParams,
    options: Options,
    bar: ProgressBar,
    blocks: u64,
    operations: u64,
}

impl Replay {
    fn new(
        args: &ReplayArgs,
        backend: Arc<dyn BatchHasher>,
        bar: ProgressBar,
    ) -> Result<Self, CliError> {
        let rule = CompactionRule::new(args.thres, args.ratio.get(), args.div.get());
        let rule = rule.map_err(|error| hedgerow::Error::Option {
            option: "compaction",
            reason: error.to_string(),
        })?;
        let params = StoreParams::default().with_compaction(rule);
        // The recorded engines accept every value that an entry can hold.
        let mut options = Options::new()
            .threads(args.threads)
            .max_value_bytes(hedgerow_types::MAX_VALUE_LEN)
            .keep_all();
        // One backend for all stores of the run, so that it counts what it did.
        options = options.hasher(backend);
        if let Some(heights) = args.prune_keep {
            options = options.keep_heights(heights.get()).segment_bytes(PRUNING_SEGMENT_BYTES);
        }
        let dir = match &args.dir {
            Some(dir) => dir.clone(),
            None => {
                // The options hold the disk, so it outlives every closing of the store.
                options = options.disk(Arc::new(MemDisk::new()));
                Path::new(MEMORY_DIR).to_owned()
            }
        };
        let options = args.index.apply(&dir, options)?;
        Ok(Self { dir, params, options, bar, blocks: 0, operations: 0 })
    }

    fn run(&mut self, args: &ReplayArgs, mut workload: Workload) -> Result<Store, CliError> {
        let mut expected = Expected::open(&args.expect, args.lines)?;
        let mut store = Store::create(&self.dir, self.params, self.options.clone())?;
        state(&store)?.compare(&expected.row(0)?, false)?;
        while args.blocks.is_none_or(|blocks| self.blocks < blocks) {
            let Some(block) = workload.next_block()? else { break };
            let row = expected.row(block.height)?;
            self.block(&mut store, &block, &row)?;
            if args.reopen_every.is_some_and(|every| self.blocks % every == 0) {
                store = self.reopen(store, &row)?;
            }
            self.bar.inc(1);
        }
        if args.blocks.is_none() {
            expected.finish(self.blocks)?;
        }
        store.flush()?;
        Ok(store)
    }

    fn block(
        &mut self,
        store: &mut Store,
        block: &RecordedBlock,
        row: &Row,
    ) -> Result<(), CliError> {
        let at = || during(format!("block {}", block.height));
        let ticket = store.submit_tasks(Height(block.height), &block.tasks, Vec::new());
        ticket.map_err(at())?.root().map_err(at())?;
        state(store)?.compare(row, false)?;
        self.blocks += 1;
        self.operations += block.operations();
        Ok(())
    }

    /// Closes the store and opens it again; its state must still be the recorded one.
    fn reopen(&self, store: Store, row: &Row) -> Result<Store, CliError> {
        let at = |doing| during(format!("{doing} the store at height {}", row.h));
        store.close().map_err(at("closing"))?;
        let store = Store::open(&self.dir, self.options.clone()).map_err(at("reopening"))?;
        state(&store)?.compare(row, true)?;
        Ok(store)
    }
}
