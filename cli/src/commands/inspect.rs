//! `stat` and `check`: figures of a store, and the proof that its files agree with its root.

use super::create::Compaction;
use super::index::IndexArgs;
use super::{open_to_read, watch};
use crate::error::CliError;
use crate::output::{Output, follow};
use crate::text::{Counted, as_text};
use clap::Args;
use hedgerow::{Digest, Error, IndexStats, Options, Store};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// Print figures of a store
#[derive(Debug, Args)]
pub(crate) struct StatArgs {
    /// Directory of the store
    dir: PathBuf,
    /// Print a line of figures now and every so many seconds, until Ctrl-C: how far another process that has the store
    /// open has come
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        value_parser = watch::seconds
    )]
    watch: Option<Duration>,
    /// End after so many lines
    #[arg(long, value_name = "N", requires = "watch")]
    count: Option<NonZeroU64>,
}

/// Recompute every hash of the state, the index and the twig records from the log, and compare
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Directory of the store
    dir: PathBuf,
    /// Threads to use; 0 stands for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    index: IndexArgs,
}

/// An index in files.
#[derive(Serialize)]
struct InFiles {
    files: u64,
    bytes: u64,
    records: u64,
    /// Records that are in memory, to be written to files.
    in_memory: u64,
}

impl From<&IndexStats> for InFiles {
    fn from(stats: &IndexStats) -> Self {
        let (bytes, records) = (stats.file_bytes, stats.file_records);
        Self { files: stats.files, bytes, records, in_memory: stats.memory_records }
    }
}

/// Sizes in bytes; the last two lists have one number per shard.
#[derive(Serialize)]
struct StatReport {
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    keys: u64,
    entries: u64,
    log_bytes: u64,
    log_segments: u64,
    /// Bytes of log before this position were pruned.
    log_start: u64,
    index_bytes: usize,
    /// What of it is in files; null if all of it is in memory.
    index_files: Option<InFiles>,
    tree_bytes: usize,
    engine: &'static str,
    hasher: String,
    hasher_device: String,
    compaction: Compaction,
    next_sn: Vec<u64>,
    oldest_active_sn: Vec<u64>,
}

impl fmt::Display for StatReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dead = (self.entries - self.active()) as f64 / self.entries.max(1) as f64;
        writeln!(f, "height        {}", self.height)?;
        writeln!(f, "root          {}", self.root)?;
        writeln!(f, "keys          {}", HumanCount(self.keys))?;
        writeln!(
            f,
            "entries       {} written so far, {:.1} % of them outdated",
            HumanCount(self.entries),
            dead * 100.0
        )?;
        let segments = if self.log_segments == 1 { "segment" } else { "segments" };
        writeln!(
            f,
            "log           {} in {} {segments}, {} pruned",
            HumanBytes(self.log_bytes),
            self.log_segments,
            HumanBytes(self.log_start)
        )?;
        writeln!(f, "index         {} of memory", HumanBytes(self.index_bytes as u64))?;
        if let Some(InFiles { files, bytes, records, in_memory }) = &self.index_files {
            let (files, bytes) = (Counted(*files, "file"), HumanBytes(*bytes));
            let (records, in_memory) = (HumanCount(*records), HumanCount(*in_memory));
            let what = format!("{files}, {bytes}: {records} records, and {in_memory} in memory");
            writeln!(f, "              tiered, {what}")?;
        }
        writeln!(f, "trees         {} of memory", HumanBytes(self.tree_bytes as u64))?;
        writeln!(f, "compaction    {}", self.compaction)?;
        writeln!(f, "metadata      {}", self.engine)?;
        write!(f, "hashing       {} ({})", self.hasher, self.hasher_device)
    }
}

impl StatReport {
    /// Entries that are current: those of the keys, and the sentries.
    fn active(&self) -> u64 {
        let sentries = self.next_sn.len() as u64 * hedgerow_types::SENTRIES_PER_SHARD;
        (self.keys + sentries).min(self.entries)
    }
}

/// `{"height", "root", "keys", "log_bytes", "twigs", "twigs_missing"}`
#[derive(Serialize)]
struct CheckedReport {
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    keys: u64,
    log_bytes: u64,
    twigs: u64,
    twigs_missing: u64,
}

impl fmt::Display for CheckedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { height, root, keys, log_bytes, twigs, twigs_missing } = self;
        let (keys, bytes) = (Counted(*keys, "key"), HumanBytes(*log_bytes));
        let twigs = Counted(*twigs, "twig record");
        writeln!(f, "{bytes} of log read, {keys}, {twigs} compared")?;
        if *twigs_missing > 0 {
            writeln!(f, "{twigs_missing} twig records are missing; opening makes them again")?;
        }
        write!(f, "all is well at height {height}, root {root}")
    }
}

pub(super) fn stat(args: &StatArgs, out: Output) -> Result<(), CliError> {
    if let Some(every) = args.watch {
        return watch::run(&args.dir, every, args.count, out);
    }
    let store = open_to_read(&args.dir, Options::new(), out)?;
    let stats = store.stats();
    let (height, root) = store.reader().root();
    out.report(&StatReport {
        height: height.0,
        root,
        keys: stats.keys,
        entries: stats.entries,
        log_bytes: stats.log.bytes,
        log_segments: stats.log.segments,
        log_start: stats.log_start.0,
        index_bytes: stats.index_bytes,
        index_files: stats.index.as_ref().map(InFiles::from),
        tree_bytes: stats.tree_bytes,
        engine: stats.engine,
        hasher: stats.hasher.name,
        hasher_device: stats.hasher.device,
        compaction: store.params().compaction().into(),
        next_sn: stats.next_sn.iter().map(|sn| sn.0).collect(),
        oldest_active_sn: stats.oldest_active.iter().map(|sn| sn.0).collect(),
    })
}

pub(super) fn check(args: &CheckArgs, out: Output) -> Result<(), CliError> {
    // The store reads its log twice, once to open and once to check, and reports both here.
    let bar = out.log_bar("reading the log");
    let options = Options::new().threads(args.threads).on_progress(follow(&bar));
    let options = args.index.apply(&args.dir, options)?;
    let mut store = match Store::open(&args.dir, options.clone()) {
        Err(Error::NotWritable { .. }) => Store::open(&args.dir, options.read_only())?,
        other => other?,
    };
    let report = store.check();
    bar.finish_and_clear();
    let report = report?;
    store.close()?;
    out.report(&CheckedReport {
        height: report.height.0,
        root: report.root,
        keys: report.keys,
        log_bytes: report.log_bytes,
        twigs: report.twigs,
        twigs_missing: report.twigs_missing,
    })
}
