//! Pruning: which old log and twig records may go, and in which order.
//!
//! ```text
//!   height h - keep_heights      its oldest active entries ──► first kept twig of every shard
//!                                                                    │ place of its first entry
//!                                                                    ▼
//!   log   [seg 0][seg 1][seg 2][seg 3 ...          cut = the earliest of them, down to a segment
//!          deleted ─────►│
//! ```
//!
//! Order: the twig file is synced, the caller sees to that, the manifest that holds the edge nodes and
//! the new start is committed, and only then files are deleted. Opening a store deletes again whatever its
//! manifest does not need.
//!
//! Whole twigs are kept from the first on that was not wholly inactive: a proof of an active entry
//! reads the entries of its group, and recovery the entries of its twig.

use crate::Error;
use crate::points;
use crate::shared::Shared;
use hedgerow_metadb::Manifest;
use hedgerow_types::{Height, LogPosition, SHARDS, SerialNumber, ShardId, TwigId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a committed manifest no longer needs.
#[derive(Debug)]
pub(crate) struct PruneIntent {
    log_start: LogPosition,
    first_kept: [TwigId; SHARDS],
}

/// What kept the rest of the log from being pruned when the last manifest was made.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// use hedgerow::PruneHold;
/// match store.prune()?.hold {
///     Some(PruneHold::View { height }) => println!("somebody holds a view of height {height}"),
///     other => assert_eq!(other, Some(PruneHold::FewHeights)),     // a new store
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum PruneHold {
    /// The store was opened with [`Options::keep_all`](crate::Options::keep_all).
    KeepAll,
    /// There are no more heights yet than are kept, see
    /// [`Options::keep_heights`](crate::Options::keep_heights).
    FewHeights,
    /// A [view](crate::View) or an iterator of this height is held, and it may still read old
    /// entries.
    View {
        /// The oldest height that is held.
        height: Height,
    },
    /// A [backup](crate::Reader::backup) is being made, which copies what is there.
    Backup,
    /// The log has one segment only, which is the one being written.
    OneSegment,
    /// The history does not reach back as far as heights are kept, because fewer were kept before.
    /// Later blocks end that.
    NoHistory {
        /// The height whose history row is missing.
        height: Height,
    },
    /// This entry, its shard's oldest active one as many heights ago as are kept, lies in the first
    /// segment that is left. It moves on when its shard compacts: when the shard is written to, and
    /// when it holds too much of the log of all shards
    /// ([`CompactionRule::spread`](crate::CompactionRule::spread)); never below the rule's threshold,
    /// or without a spread while the shard is at rest.
    OldestEntry {
        /// The shard.
        shard: ShardId,
        /// The entry.
        sn: SerialNumber,
    },
}

/// What [`Store::prune`](crate::Store::prune) came to.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use hedgerow::{Options, Store, StoreParams, disk::MemDisk};
/// # let options = Options::new().disk(std::sync::Arc::new(MemDisk::new()));
/// # let mut store = Store::create("/state", StoreParams::default(), options)?;
/// let report = store.prune()?;
/// assert_eq!(report.log_freed, 0);             // a new store has nothing to spare
/// assert_eq!(report.log_left, store.stats().log.bytes);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PruneReport {
    /// Bytes of log that were deleted.
    pub log_freed: u64,
    /// Bytes of twig records that were deleted.
    pub twigs_freed: u64,
    /// Bytes of log that are left.
    pub log_left: u64,
    /// Bytes of twig records that are left.
    pub twigs_left: u64,
    /// What keeps the rest.
    pub hold: Option<PruneHold>,
}

/// Prunings that somebody asked for, beside those that come with a manifest: by number.
#[derive(Debug, Default)]
pub(crate) struct Prunings {
    asked: AtomicU64,
    done: AtomicU64,
}

impl Prunings {
    /// Asks for one more.
    pub(crate) fn ask(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The last that was asked for, if it is not done.
    pub(crate) fn due(&self) -> Option<u64> {
        let asked = self.asked.load(Ordering::SeqCst);
        (asked > self.done.load(Ordering::SeqCst)).then_some(asked)
    }

    pub(crate) fn note_done(&self, number: u64) {
        self.done.fetch_max(number, Ordering::SeqCst);
    }

    pub(crate) fn is_done(&self, number: u64) -> bool {
        self.done.load(Ordering::SeqCst) >= number
    }
}

/// The pruning policy of an open store.
#[derive(Debug)]
pub(crate) struct Pruning {
    shared: Arc<Shared>,
    /// What could not be deleted yet.
    left: Option<PruneIntent>,
    /// It was said that pruning cannot act under the store's compaction rule.
    said: bool,
}

/// What `plan` comes to: what may go, and what keeps the rest.
struct Plan {
    log_start: Option<LogPosition>,
    first_kept: [TwigId; SHARDS],
    hold: PruneHold,
}

impl Plan {
    /// Nothing may go.
    fn held(hold: PruneHold) -> Self {
        Self { log_start: None, first_kept: [TwigId(0); SHARDS], hold }
    }
}

impl Pruning {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, left: None, said: false }
    }

    /// The first height whose history row is kept when `height` is the last one.
    pub(crate) fn history_from(&self, height: Height) -> Height {
        let rows = self.shared.options.history_rows();
        rows.map_or(Height(0), |rows| Height(height.next().0.saturating_sub(rows)))
    }

    /// Enters into `manifest`, which is about to be committed, what it no longer needs.
    pub(crate) fn plan(&mut self, manifest: &mut Manifest) -> Result<Option<PruneIntent>, Error> {
        let shared = &*self.shared;
        let mut plan = self.look(manifest)?;
        if plan.log_start.is_some() && !shared.pins.plan(&plan.first_kept) {
            // An older height has been held meanwhile. Once more, or else with the next manifest.
            plan = self.look(manifest)?;
            if plan.log_start.is_some() && !shared.pins.plan(&plan.first_kept) {
                plan = Plan::held(plan.hold);
            }
        }
        let Plan { log_start, first_kept, hold } = plan;
        *shared.prune_hold.lock() = Some(hold);
        let Some(log_start) = log_start else {
            self.say_if_useless(hold, manifest);
            return Ok(None);
        };
        for (shard, first) in ShardId::all().zip(first_kept) {
            let kept = &mut manifest.shards[shard.index()];
            kept.first_kept = first;
            // Everything below `first` was inactive as many heights ago as are kept: its nodes are
            // final.
            kept.edges = shared.published.edges(shard, first)?;
        }
        manifest.log_start = log_start;
        // What was taken back is over where it is pruned.
        manifest.dead.retain(|span| span.end > log_start);
        Ok(Some(PruneIntent { log_start, first_kept }))
    }

    /// What may go once `manifest` is committed, and what keeps the rest.
    fn look(&self, manifest: &Manifest) -> Result<Plan, Error> {
        let shared = &*self.shared;
        let held = |hold| Ok(Plan::held(hold));
        if shared.copies.any() {
            return held(PruneHold::Backup);
        }
        let Some(keep) = shared.options.look_back() else { return held(PruneHold::KeepAll) };
        let height = manifest.height.0.checked_sub(keep).map(Height);
        let first = manifest.params.first_height();
        let Some(height) = height.filter(|height| height.next() >= first) else {
            return held(PruneHold::FewHeights);
        };
        if shared.log.stats().segments < 2 {
            return held(PruneHold::OneSegment);
        }
        let row = match shared.history(height) {
            Ok(row) => row,
            Err(Error::HeightUnavailable { .. }) => return held(PruneHold::NoHistory { height }),
            Err(error) => return Err(error),
        };
        // Whoever takes a view from now on takes one that is at least as new as this manifest.
        let oldest_view = shared.published.oldest();
        let pinned = shared.pins.oldest();
        let mut cut = manifest.log_end;
        let mut first_kept = [TwigId(0); SHARDS];
        let mut hold = PruneHold::OneSegment;
        for shard in ShardId::all() {
            let mut sn = row.oldest_active[shard.index()];
            let mut oldest = PruneHold::OldestEntry { shard, sn };
            if oldest_view.oldest_active(shard).twig() < sn.twig() {
                sn = oldest_view.oldest_active(shard);
                oldest = PruneHold::View { height: oldest_view.height };
            }
            if let Some(pinned) = &pinned
                && pinned.oldest_active[shard.index()].twig() <= sn.twig()
            {
                sn = pinned.oldest_active[shard.index()];
                oldest = PruneHold::View { height: pinned.height };
            }
            // The youngest twig has no record yet; its entries are recent, so nothing is lost by
            // waiting until it has.
            let Some(record) = shared.twigs.get(shard, sn.twig())? else { return held(oldest) };
            first_kept[shard.index()] = sn.twig().max(manifest.shards[shard.index()].first_kept);
            if record.record < cut {
                (cut, hold) = (record.record, oldest);
            }
        }
        Ok(Plan { log_start: shared.log.prunable(cut), first_kept, hold })
    }

    /// Says once that pruning was asked for and the compaction rule never lets it begin.
    fn say_if_useless(&mut self, hold: PruneHold, manifest: &Manifest) {
        let PruneHold::OldestEntry { shard, .. } = hold else { return };
        let (rule, active) = (manifest.params.compaction(), manifest.shards[shard.index()].active);
        if active < rule.threshold() && !self.said {
            self.said = true;
            tracing::warn!(
                threshold = rule.threshold(),
                "nothing can be pruned (option keep_heights): shard {shard} has {active} entries, and \
                 the store's compaction rule moves none below its threshold",
            );
        }
    }

    /// Deletes what the committed manifest no longer needs. What cannot be deleted is tried again
    /// after the next commit, and when the store opens: it costs room and nothing else.
    pub(crate) fn carry_out(&mut self, intent: Option<PruneIntent>) {
        let Some(intent) = intent.or(self.left.take()) else { return };
        let shared = Arc::clone(&self.shared);
        // No copy begins meanwhile.
        let copies = shared.copies.hold_off();
        if copies.any() {
            self.left = Some(intent);
            return;
        }
        match self.delete(&intent) {
            Ok(freed) => {
                self.shared.counters.pruned_bytes.fetch_add(freed, Ordering::Relaxed);
            }
            Err(error) => {
                tracing::warn!(%error, "could not delete what was pruned; trying again later");
                self.left = Some(intent);
            }
        }
    }

    /// Deletes, and returns the bytes of log freed. A failure of one does not keep the other.
    fn delete(&self, intent: &PruneIntent) -> Result<u64, Error> {
        let shared = &*self.shared;
        // Before anything goes: whoever misses it learns that it was pruned.
        *shared.first_kept.lock() = intent.first_kept;
        shared.options.disk.at_point(points::PRUNE_BEGIN)?;
        let log = shared.log.prune_head(intent.log_start);
        shared.options.disk.at_point(points::PRUNE_LOG_REMOVED)?;
        let twigs = shared.twigs.file.prune(&intent.first_kept);
        shared.options.disk.at_point(points::PRUNE_DONE)?;
        twigs.and(log).map_err(Error::from)
    }
}
