//! What the tiered index did, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a tiered index has done since it was opened, and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TieredStats {
    /// Stems looked up, single keys and batches alike.
    pub look_ups: u64,
    /// Pages that look-ups read from files.
    pub page_reads: u64,
    /// Most reads of pages that were under way at a time.
    pub read_depth: u64,
    /// Pages that look-ups found in the cache.
    pub cache_hits: u64,
    /// Times that a filter spared a page.
    pub filter_saves: u64,
    /// Times that a filter let a stem through which its segment did not have.
    pub filter_misses: u64,
    /// Memory ages that were written to segments.
    pub spills: u64,
    /// Merges that were installed.
    pub merges: u64,
    /// Records that were dead when a spill or a merge met them.
    pub dropped: u64,
    /// Bytes of segments written.
    pub bytes_written: u64,
    /// Records in memory.
    pub memory_records: u64,
    /// The segments, tier by tier from the newest: how many, their records, bytes of their files.
    pub tiers: Vec<TierStats>,
    /// What takes the memory.
    pub memory: MemoryStats,
}

/// One tier of a tiered index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TierStats {
    /// Number of the tier; the lowest has [`LOWEST_TIER`](crate::LOWEST_TIER).
    pub tier: u8,
    /// Segments.
    pub segments: u64,
    /// Records, dead ones included.
    pub records: u64,
    /// Bytes of files.
    pub bytes: u64,
}

/// Bytes of memory of a tiered index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// The budget.
    pub budget: usize,
    /// Bits that say which entries count.
    pub bits: usize,
    /// Memory ages.
    pub ages: usize,
    /// Directories of segments.
    pub directories: usize,
    /// Filters of segments.
    pub filters: usize,
    /// Filters and directories of segments that are being written, and the pages of their inputs.
    pub jobs: usize,
    /// Pages that are kept.
    pub cache: usize,
}

impl MemoryStats {
    /// All of them together.
    pub const fn total(&self) -> usize {
        self.bits + self.ages + self.directories + self.filters + self.jobs + self.cache
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) look_ups: AtomicU64,
    pub(crate) page_reads: AtomicU64,
    pub(crate) read_depth: AtomicU64,
    pub(crate) cache_hits: AtomicU64,
    pub(crate) filter_saves: AtomicU64,
    pub(crate) filter_misses: AtomicU64,
    pub(crate) spills: AtomicU64,
    pub(crate) merges: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
}

pub(crate) fn add(counter: &AtomicU64, count: usize) {
    if count > 0 {
        counter.fetch_add(count as u64, Relaxed);
    }
}

impl Counters {
    pub(crate) fn read(&self) -> TieredStats {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        TieredStats {
            look_ups: get(&self.look_ups),
            page_reads: get(&self.page_reads),
            read_depth: get(&self.read_depth),
            cache_hits: get(&self.cache_hits),
            filter_saves: get(&self.filter_saves),
            filter_misses: get(&self.filter_misses),
            spills: get(&self.spills),
            merges: get(&self.merges),
            dropped: get(&self.dropped),
            bytes_written: get(&self.bytes_written),
            ..TieredStats::default()
        }
    }
}
