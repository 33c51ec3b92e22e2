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
//! Order (design, rule 2): the twig file is synced, the caller sees to that, the manifest that holds the
//! edge nodes and the new start is committed, and only then files are deleted. Opening a store deletes again whatever
//! its manifest does not need.
//!
//! Whole twigs are kept from the first on that was not wholly inactive: a proof of an active entry
//! reads the entries of its group, and recovery the entries of its twig.

use crate::Error;
use crate::points;
use crate::shared::Shared;
use hedgerow_metadb::Manifest;
use hedgerow_types::{Height, LogPosition, SHARDS, ShardId, TwigId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a committed manifest no longer needs.
#[derive(Debug)]
pub(crate) struct PruneIntent {
    log_start: LogPosition,
    first_kept: [TwigId; SHARDS],
}

/// The pruning policy of an open store.
#[derive(Debug)]
pub(crate) struct Pruning {
    shared: Arc<Shared>,
    /// What could not be deleted yet.
    left: Option<PruneIntent>,
}

impl Pruning {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, left: None }
    }

    /// The first height whose history row is kept when `height` is the last one.
    pub(crate) fn history_from(&self, height: Height) -> Height {
        let options = &self.shared.options;
        let Some(keep) = options.keep_history else { return Height(0) };
        // Pruning looks `keep_heights` heights back.
        let keep = keep.max(options.keep_heights.map_or(0, |heights| heights.saturating_add(1)));
        Height(height.next().0.saturating_sub(keep))
    }

    /// Enters into `manifest`, which is about to be committed, what it no longer needs.
    pub(crate) fn plan(&self, manifest: &mut Manifest) -> Result<Option<PruneIntent>, Error> {
        let shared = &*self.shared;
        let Some(keep) = shared.options.keep_heights else { return Ok(None) };
        // While a block is resolved, others in flight may become durable: what it reads must stay.
        let keep = keep.max(shared.options.max_in_flight as u64);
        let Some(height) = manifest.height.0.checked_sub(keep) else { return Ok(None) };
        if shared.pins.load(Ordering::SeqCst) > 0 || shared.log.stats().segments < 2 {
            return Ok(None);
        }
        let row = match shared.history(Height(height)) {
            Ok(row) => row,
            // Opened with a longer history than was kept before: prune once it is there.
            Err(Error::HeightUnavailable { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut cut = manifest.log_end;
        let mut first_kept = [TwigId(0); SHARDS];
        for shard in ShardId::all() {
            let twig = row.oldest_active[shard.index()].twig();
            // The youngest twig has no record yet; its entries are recent, so nothing is lost by
            // waiting until it has.
            let Some(record) = shared.twigs.get(shard, twig)? else { return Ok(None) };
            first_kept[shard.index()] = twig.max(manifest.shards[shard.index()].first_kept);
            cut = cut.min(record.record);
        }
        let Some(log_start) = shared.log.prunable(cut) else { return Ok(None) };
        let published = shared.published.read();
        for shard in ShardId::all() {
            let kept = &mut manifest.shards[shard.index()];
            let first = first_kept[shard.index()];
            kept.first_kept = first;
            // Everything below `first` was inactive `keep` heights ago: its nodes are final.
            kept.edges = published.forest.edges(shard, first)?;
        }
        manifest.log_start = log_start;
        Ok(Some(PruneIntent { log_start, first_kept }))
    }

    /// Deletes what the committed manifest no longer needs. What cannot be deleted is tried again
    /// after the next commit, and when the store opens: it costs room and nothing else.
    pub(crate) fn carry_out(&mut self, intent: Option<PruneIntent>) {
        let Some(intent) = intent.or(self.left.take()) else { return };
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
