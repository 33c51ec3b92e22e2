//! Figures of an open store, for people and for monitoring.

use crate::commit::prune::PruneHold;
use crate::commit::tiers::{Figures, Tiers};
use crate::commit::waits::IndexWaits;
use crate::pressure::MemoryLevel;
use crate::shared::{Shared, per_shard};
use crate::steps::Steps;
use hedgerow_entryfile::LogStats;
use hedgerow_hasher_api::{Capabilities, Health};
use hedgerow_types::{Height, LogPosition, SHARDS, SerialNumber};
use std::sync::atomic::Ordering;

/// Figures of an open store.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let store = Store::create("/state", StoreParams::default(), options)?;
/// # store.flush()?;
/// let stats = store.stats();
/// assert_eq!((stats.keys, stats.engine), (0, "redb"));
/// assert!(stats.read_way == "one by one" && stats.no_ring.is_some());
/// assert!(stats.poison.is_none() && stats.log.bytes > 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// Height of the last accepted block.
    pub accepted: Height,
    /// Height of the published state.
    pub published: Height,
    /// Height that survives power loss.
    pub durable: Height,
    /// Keys that have a value.
    pub keys: u64,
    /// Entries ever appended, the sentries included.
    pub entries: u64,
    /// Bytes of memory of the index.
    pub index_bytes: usize,
    /// More of the index, if it is in files.
    pub index: Option<IndexStats>,
    /// Bytes of memory of the published tree; the writer's own copy takes as much again.
    pub tree_bytes: usize,
    /// Where the log begins: what was written before was pruned.
    pub log_start: LogPosition,
    /// Where the log ends; never falls.
    pub log_end: LogPosition,
    /// The entry log.
    pub log: LogStats,
    /// How many reads are made at once of what the system does not have in memory: "ring", "ahead", "threads"
    /// or "one by one", see [`ReadWay`](crate::disk::ReadWay). What was read in which way is in `log`.
    pub read_way: &'static str,
    /// Why not by a ring, if not.
    pub no_ring: Option<String>,
    /// Next serial number of every shard.
    pub next_sn: [SerialNumber; SHARDS],
    /// Oldest active serial number of every shard.
    pub oldest_active: [SerialNumber; SHARDS],
    /// Proofs by key that were asked for since the store was opened.
    pub proofs: u64,
    /// Bytes of undo records on disk: see [`Options::proof_window`](crate::Options::proof_window).
    pub undo_bytes: u64,
    /// States of different heights that are held, by views and iterators; the newest one always is. A view of a past
    /// height counts beside the state from which it looks back.
    pub views: usize,
    /// Bytes of memory of the speculative blocks that there are.
    pub speculation_bytes: u64,
    /// The height of the newest checkpoint, if there is one.
    pub checkpoint: Option<Height>,
    /// The height of the checkpoint that opening began with; `None` if it read the log instead, or the
    /// store was created.
    pub opened_from: Option<Height>,
    /// Bytes of log that opening found behind that checkpoint, or from the start of the log on.
    pub replayed_bytes: u64,
    /// How long each step of blocks took since the store was opened.
    pub steps: Steps,
    /// Manifest commits since the store was opened.
    pub commits: u64,
    /// Log bytes deleted by pruning since the store was opened.
    pub pruned_bytes: u64,
    /// What kept the rest of the log from being pruned when the last manifest was made; `None`
    /// before the first since the store was opened.
    pub prune_hold: Option<PruneHold>,
    /// The metadata engine.
    pub engine: &'static str,
    /// The hashing backend.
    pub hasher: Capabilities,
    /// How its device fares, if it has one.
    pub hasher_health: Health,
    /// Why the store stopped, if it did.
    pub poison: Option<String>,
}

/// Figures of an index in files, of all shards together: see [`IndexMode::Tiered`](crate::IndexMode::Tiered).
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{IndexMode, Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// let options = options.index(IndexMode::Tiered { memory_bytes: 64 << 20 });
/// let store = Store::create("/state", StoreParams::default(), options)?;
/// let index = store.stats().index.expect("it is in files");
/// assert!(index.memory_bytes < 64 << 20 && index.page_reads == 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct IndexStats {
    /// Bytes of memory that it was given, but for what has no choice.
    pub budget: u64,
    /// How many of these it may take now: fewer while [memory is scarce](crate::Options::watch_memory).
    pub budget_now: u64,
    /// How scarce memory is, if somebody looks.
    pub memory_level: MemoryLevel,
    /// Bytes of memory that it takes.
    pub memory_bytes: u64,
    /// Of these the bits that say which entries count, and the directories of pages: what has no choice.
    pub fixed_bytes: u64,
    /// Keys that were looked up.
    pub look_ups: u64,
    /// Pages of 4 KiB that look-ups read from files.
    pub page_reads: u64,
    /// Most reads of pages that were under way at a time.
    pub read_depth: u64,
    /// Pages that look-ups found in the cache.
    pub cache_hits: u64,
    /// Times that a filter spared a page.
    pub filter_saves: u64,
    /// Times that a filter let a key through in vain.
    pub filter_misses: u64,
    /// Parts of memory that were written to files.
    pub spills: u64,
    /// Files that were merged from others.
    pub merges: u64,
    /// Bytes of files written.
    pub bytes_written: u64,
    /// Records in memory.
    pub memory_records: u64,
    /// Files.
    pub files: u64,
    /// Bytes of these.
    pub file_bytes: u64,
    /// Records in them.
    pub file_records: u64,
    /// What blocks waited for, how often and for how long: they wait before memory grows over the budget, or look-ups
    /// become slow.
    pub waits: IndexWaits,
    /// Why what is in memory cannot be written, if it cannot.
    pub failing: Option<String>,
}

fn index(tiers: &Tiers) -> IndexStats {
    let Figures { budget, level, waits, failing } = tiers.figures();
    let mut all =
        IndexStats { budget, memory_level: level, waits, failing, ..IndexStats::default() };
    for index in &tiers.index {
        let one = index.stats();
        all.budget_now += one.memory.budget as u64;
        all.memory_bytes += one.memory.total() as u64;
        all.fixed_bytes += (one.memory.bits + one.memory.directories) as u64;
        all.look_ups += one.look_ups;
        all.page_reads += one.page_reads;
        all.read_depth = all.read_depth.max(one.read_depth);
        all.cache_hits += one.cache_hits;
        all.filter_saves += one.filter_saves;
        all.filter_misses += one.filter_misses;
        all.spills += one.spills;
        all.merges += one.merges;
        all.bytes_written += one.bytes_written;
        all.memory_records += one.memory_records;
        for tier in &one.tiers {
            all.files += tier.segments;
            all.file_bytes += tier.bytes;
            all.file_records += tier.records;
        }
    }
    all
}

pub(crate) fn collect(shared: &Shared) -> Stats {
    let (accepted, published, durable, poison) = shared.flow.look(|progress| {
        let poison = progress.poison.as_ref().map(ToString::to_string);
        (progress.accepted, progress.published, progress.durable, poison)
    });
    let state = shared.published.current();
    let next_sn = per_shard(|shard| state.next_sn(shard));
    let counters = &shared.counters;
    let many_reads = shared.log.many_reads();
    let (checkpoint, opened_from, replayed_bytes) = shared.checkpoints.figures();
    Stats {
        accepted,
        published,
        durable,
        keys: state.keys,
        entries: next_sn.iter().map(|sn| sn.0).sum(),
        index_bytes: shared.published.index_bytes(),
        index: shared.tiers.as_ref().map(index),
        tree_bytes: shared.published.tree_bytes(),
        log_start: shared.log.start(),
        log_end: shared.log.end(),
        log: shared.log.stats(),
        read_way: many_reads.way.name(),
        no_ring: many_reads.why,
        next_sn,
        oldest_active: per_shard(|shard| state.oldest_active(shard)),
        proofs: counters.proofs.load(Ordering::Relaxed),
        undo_bytes: shared.undo.bytes(),
        views: shared.published.held() + shared.pins.count(),
        speculation_bytes: shared.speculation.bytes(),
        checkpoint,
        opened_from,
        replayed_bytes,
        steps: shared.steps.read(),
        commits: counters.commits.load(Ordering::Relaxed),
        pruned_bytes: counters.pruned_bytes.load(Ordering::Relaxed),
        prune_hold: *shared.prune_hold.lock(),
        engine: shared.meta.read().as_ref().map_or("closed", |meta| meta.engine()),
        hasher: shared.hasher.tree.capabilities(),
        hasher_health: shared.hasher.tree.health(),
        poison,
    }
}
