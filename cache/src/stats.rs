//! What the cache has done and holds.
//!
//! ```text
//!   reads    hits (clean, open, flushing)   misses = loads + absent
//!   flushes  closing │ applying │ settling            each: how many, together, the longest
//!   waits    for room
//! ```

use crate::state::State;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What the cache has done since it was made, and what it holds ([`Cache::stats`](crate::Cache::stats)). Nothing is decided by
/// these numbers; with threads at work they need not agree with each other.
///
/// ```
/// use hedgerow_cache::{Cache, CacheOptions, MapBacking, Op};
/// use std::sync::Arc;
///
/// let map = MapBacking::default();
/// map.insert(1, 10);
/// let cache = Cache::new(Arc::new(map), None, CacheOptions::default()).unwrap();
/// cache.get_many(&[1, 2]).unwrap();
/// cache.get(&1).unwrap();
/// cache.write(&mut vec![(3, Op::Put(30))]).unwrap();
/// cache.flush(1).unwrap();
///
/// let stats = cache.stats();
/// assert_eq!((stats.misses, stats.loads, stats.absent, stats.clean_hits), (2, 1, 1, 1));
/// assert_eq!((stats.puts_flushed, stats.applying.count), (1, 1));
/// assert!(stats.used_bytes <= stats.limit_bytes);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CacheStats {
    /// Bytes that it may take.
    pub limit_bytes: u64,
    /// Bytes that it takes: slots, index, what keys and values hold beside, and what is promised to writes under way.
    pub used_bytes: u64,
    /// Keys that the open epoch has written.
    pub dirty_keys: u64,
    /// Keys of closed epochs that are not durable.
    pub flushing_keys: u64,
    /// Keys whose value lies below, and can be evicted.
    pub clean_keys: u64,
    /// Number of the open epoch.
    pub open_epoch: u64,
    /// Number of the last durable epoch; 0 before there is one.
    pub durable_epoch: u64,
    /// Closed epochs that are not durable.
    pub closed_epochs: u64,
    /// Look-ups that found a clean value.
    pub clean_hits: u64,
    /// Look-ups that found what the open epoch has written, deletions too.
    pub dirty_hits: u64,
    /// Look-ups that found what a closed epoch has written, deletions too.
    pub flushing_hits: u64,
    /// Look-ups for which the backing was asked.
    pub misses: u64,
    /// Those of them for which it had a value.
    pub loads: u64,
    /// Those of them for which it had none.
    pub absent: u64,
    /// Calls of the backing that failed.
    pub failed_reads: u64,
    /// Clean values that were evicted.
    pub evictions: u64,
    /// Writes, and operations in them.
    pub writes: u64,
    /// Operations in them.
    pub operations: u64,
    /// Operations that left nothing to write: the key was born and gone within an epoch.
    pub vanished: u64,
    /// Writes that were taken back.
    pub undone: u64,
    /// Values that were flushed.
    pub puts_flushed: u64,
    /// Deletions that were flushed.
    pub deletes_flushed: u64,
    /// Flushes that failed.
    pub failed_flushes: u64,
    /// Closing an epoch: all parts are held.
    pub closing: Timing,
    /// The backing's part of a flush.
    pub applying: Timing,
    /// Making what was flushed clean.
    pub settling: Timing,
    /// Waits of writes until a flush leaves them room.
    pub waiting_for_room: Timing,
}

/// How often something took how long.
///
/// ```
/// let timing = hedgerow_cache::Timing::default();
/// assert_eq!((timing.count, timing.mean()), (0, None));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Timing {
    /// How often.
    pub count: u64,
    /// All together.
    pub sum: Duration,
    /// The longest.
    pub max: Duration,
}

impl Timing {
    /// The mean, if it was at all.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let nanos = self.sum.as_nanos().checked_div(u128::from(self.count))?;
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Timer {
    count: AtomicU64,
    sum_nanos: AtomicU64,
    max_nanos: AtomicU64,
}

impl Timer {
    pub(crate) fn since(&self, start: Instant) {
        let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Relaxed);
        self.sum_nanos.fetch_add(nanos, Relaxed);
        self.max_nanos.fetch_max(nanos, Relaxed);
    }

    pub(crate) fn read(&self) -> Timing {
        Timing {
            count: self.count.load(Relaxed),
            sum: Duration::from_nanos(self.sum_nanos.load(Relaxed)),
            max: Duration::from_nanos(self.max_nanos.load(Relaxed)),
        }
    }
}

/// Counts for [`CacheStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) clean_hits: AtomicU64,
    pub(crate) dirty_hits: AtomicU64,
    pub(crate) flushing_hits: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) loads: AtomicU64,
    pub(crate) absent: AtomicU64,
    pub(crate) failed_reads: AtomicU64,
    pub(crate) evictions: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) operations: AtomicU64,
    pub(crate) vanished: AtomicU64,
    pub(crate) undone: AtomicU64,
    pub(crate) puts_flushed: AtomicU64,
    pub(crate) deletes_flushed: AtomicU64,
    pub(crate) failed_flushes: AtomicU64,
    pub(crate) closing: Timer,
    pub(crate) applying: Timer,
    pub(crate) settling: Timer,
    pub(crate) waiting_for_room: Timer,
}

pub(crate) fn add(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.fetch_add(more, Relaxed);
    }
}

impl Counters {
    /// What counts the look-ups that found a key in this state.
    pub(crate) const fn hits(&self, state: State) -> &AtomicU64 {
        match state {
            State::Unknown | State::Clean => &self.clean_hits,
            State::Dirty | State::Fresh | State::Deleted => &self.dirty_hits,
            State::Flushing | State::FlushingDeleted => &self.flushing_hits,
        }
    }

    pub(crate) fn read(&self) -> CacheStats {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        CacheStats {
            clean_hits: of(&self.clean_hits),
            dirty_hits: of(&self.dirty_hits),
            flushing_hits: of(&self.flushing_hits),
            misses: of(&self.misses),
            loads: of(&self.loads),
            absent: of(&self.absent),
            failed_reads: of(&self.failed_reads),
            evictions: of(&self.evictions),
            writes: of(&self.writes),
            operations: of(&self.operations),
            vanished: of(&self.vanished),
            undone: of(&self.undone),
            puts_flushed: of(&self.puts_flushed),
            deletes_flushed: of(&self.deletes_flushed),
            failed_flushes: of(&self.failed_flushes),
            closing: self.closing.read(),
            applying: self.applying.read(),
            settling: self.settling.read(),
            waiting_for_room: self.waiting_for_room.read(),
            ..CacheStats::default()
        }
    }
}
