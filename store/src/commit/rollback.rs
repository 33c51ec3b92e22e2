//! Rollback: the store goes back to an earlier height, and on from there.
//!
//! ```text
//!   1 settle     every block is durable and the manifest says so; the stages end
//!   2 look       the state at the height (opening/back.rs): its roots are those of the history row, or nothing is done
//!   3 record     one more record of the log, synced: from h on all before this is dead
//!   4 commit     one atomic commit of the metadata: height, shards, dead spans, no rows above h     ◄── the moment
//!   5 memory     readers see h; trees, index, twig records and writers are those of h; the stages start
//! ```
//!
//! What fails before 3 leaves the store as it was, and running. From there on a failure stops it, and whoever opens
//! it next finds the one height or the other: before 4 a record that no manifest names, which is cut; after it the
//! new manifest, which leads past the dead span. Records that other data keep of blocks (undo records, say) are cut
//! in [`Writer::forget_blocks`].

use crate::Error;
use crate::commit::checkpoint;
use crate::commit::pipeline::{self, Unsettled};
use crate::commit::stages::PanicGuard;
use crate::commit::writer::Writer;
use crate::error::Kept;
use crate::opening::back::{Back, Newest, state_at};
use crate::points;
use crate::read::published::Earlier;
use crate::shared::Shared;
use hedgerow_entryfile::{Rollback, with_dead_span};
use hedgerow_merkle::Forest;
use hedgerow_metadb::{Commit, HistoryRow, MAX_DEAD_SPANS, Manifest};
use hedgerow_state::{Links, OpenTwig, ShardWriter};
use hedgerow_types::{Height, SENTRIES_PER_SHARD, SHARDS, ShardId};
use std::sync::Arc;

/// What the stages work on.
type Tree = (Forest, Vec<OpenTwig>);

impl Writer {
    /// See [`Store::rollback`](crate::Store::rollback).
    pub(crate) fn roll_back(&mut self, height: Height) -> Result<(), Error> {
        self.settle()?;
        let newest = self.height;
        if height == newest {
            return Ok(());
        }
        let first = self.first_to_roll_back_to(height)?;
        if !(first..newest).contains(&height) {
            let kept = Kept::Rollback;
            return Err(Error::HeightUnavailable { height, first, last: newest, kept });
        }
        let shared = Arc::clone(&self.shared);
        // What is copied is of the newest state, whose history is still needed.
        let _copies = shared.copies.wait_for_none();
        let _guard = PanicGuard { name: "rollback", flow: &shared.flow };
        self.pipeline.stop()?;
        shared.flow.check()?;
        shared.checkpoints.wait();
        let Some((forest, open)) = shared.checkpoints.take_end() else {
            return Err(Error::Corrupt("the stages ended without a tree".into()));
        };
        let manifest = shared.with_meta(|meta| meta.manifest())?;
        let manifest = manifest.ok_or_else(|| Error::Corrupt("the manifest is gone".into()))?;
        let looked = shared.pool.install(|| {
            let row = shared.history(height)?;
            let writers: Vec<&ShardWriter> = self.shards.iter().map(|writer| &**writer).collect();
            let newest = Newest {
                log: &shared.log,
                twigs: &shared.twigs,
                hasher: &shared.hasher,
                manifest: &manifest,
                writers: &writers,
                forest: &forest,
                open: &open,
            };
            let back = state_at(&newest, height, &row)?;
            let planned = plan(&shared, &manifest, &back, &row)?;
            Ok((back, planned))
        });
        match looked {
            Ok((back, planned)) => {
                drop((forest, open));
                let done = self.carry_out(manifest, planned, back);
                done.inspect_err(|error| shared.flow.poison(error.clone()))
            }
            Err(error) => {
                self.start((forest, open), manifest)?;
                Err(error)
            }
        }
    }

    /// The lowest height that can be gone back to; `wanted` or less if that can be.
    fn first_to_roll_back_to(&self, wanted: Height) -> Result<Height, Error> {
        let shared = &*self.shared;
        let window = shared.options.blocks_to_take_back();
        let (manifest, movable) =
            shared.with_meta(|meta| Ok((meta.manifest()?, meta.first_to_take_back()?)))?;
        let Some(manifest) = manifest else {
            return Err(Error::Corrupt("the manifest is gone".into()));
        };
        let first = Height(self.height.0.saturating_sub(window))
            .max(manifest.history_from)
            .max(Height(manifest.params.first_height().0 - 1))
            .max(movable.unwrap_or_default());
        // Heights further back than pruning looks may have lost twigs, if a rollback came since.
        let is_whole = |height: Height| {
            let row = shared.history(height)?;
            let mut parts = manifest.shards.iter().zip(&row.oldest_active);
            Ok::<bool, Error>(parts.all(|(part, oldest)| part.first_kept <= oldest.twig()))
        };
        let mut first = if (first..self.height).contains(&wanted) { wanted } else { first };
        while first < self.height && !is_whole(first)? {
            first = first.next();
        }
        Ok(first)
    }

    /// Makes it durable, and then true.
    fn carry_out(
        &mut self,
        old: Manifest,
        mut manifest: Manifest,
        back: Back,
    ) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let disk = &shared.options.disk;
        disk.at_point(points::ROLLBACK_BEGIN)?;
        let record = Rollback { from: old.height, to: back.height, dead_from: back.log_end };
        manifest.log_end = shared.log.append_rollback(&record)?;
        let span = back.log_end..manifest.log_end;
        manifest.dead = with_dead_span(&manifest.dead, span);
        disk.at_point(points::ROLLBACK_RECORDED)?;
        let commit = Commit { manifest: &manifest, rows: &[], history_from: manifest.history_from };
        shared.with_meta(|meta| meta.commit(&commit))?;
        disk.at_point(points::ROLLBACK_COMMITTED)?;

        shared.log.set_dead(&manifest.dead);
        let (height, named) = (back.height, manifest.checkpoint);
        let lost_checkpoint = shared.checkpoints.forget_above(height, named, manifest.log_start);
        let cut = back.next_sn();
        let keys = back.active() - SHARDS as u64 * SENTRIES_PER_SHARD;
        let earlier = Earlier {
            height: back.height,
            dead_from: back.log_end,
            log_end: manifest.log_end,
            keys,
            edits: &back.edits,
            cut: &cut,
            forest: &back.forest,
            dirty: &back.dirty,
        };
        // No speculative block follows the state that is gone back to: the log goes on elsewhere.
        shared.speculation.move_to(shared.speculation.new_token());
        shared.published.begin_rollback();
        shared.pins.roll_back(height);
        shared.published.roll_back(&earlier, &shared.hash_pool)?;
        self.forget_blocks(&back);
        shared.published.end_rollback();
        let Back { height, forest, open, writers, .. } = back;
        self.shards = writers.into_iter().map(Arc::new).collect();
        self.height = height;
        self.layers.clear();
        // Other entries get the serial numbers that were taken back.
        self.links.iter_mut().for_each(Links::clear);
        shared.flow.roll_back(height);
        shared.steps.emitter.rolled_back(height, keys);
        if lost_checkpoint && !self.loading && shared.checkpoints.is_wanted() {
            self.log_bytes = 0;
            checkpoint::begin(&shared, manifest.log_end, &forest, &open, &self.begins());
        }
        if let Some(tiers) = &shared.tiers {
            tiers.nudge();
        }
        self.start((forest, open), manifest)
    }

    /// What is kept of single blocks beside the log goes, of those above the state that was gone back to. Only what
    /// is found by height or by twig: what names positions finds them in a dead span when the store opens.
    fn forget_blocks(&self, back: &Back) {
        let Shared { twigs, undo, .. } = &*self.shared;
        let next_sn = back.next_sn();
        // First what takes the place of the records.
        for ((shard, next_sn), open) in ShardId::all().zip(next_sn).zip(&back.open) {
            twigs.set_open(shard, next_sn, open.clone());
        }
        twigs.forget_from(&next_sn.map(|sn| sn.twig()));
        undo.forget_above(back.height);
        let mut recent = self.shared.recent.lock();
        recent.retain(|height, _| *height <= back.height);
    }

    /// Starts the stages on a tree that the manifest on disk describes.
    fn start(&mut self, (forest, open): Tree, manifest: Manifest) -> Result<(), Error> {
        let behind = Unsettled { manifest, rows: vec![], bytes: 0 };
        let started = pipeline::start(&self.shared, forest, open, behind);
        self.pipeline = started.inspect_err(|error| self.shared.flow.poison(error.clone()))?;
        Ok(())
    }
}

/// The manifest of the state that is gone back to, but for the end of its log and the new dead span.
fn plan(shared: &Shared, old: &Manifest, back: &Back, row: &HistoryRow) -> Result<Manifest, Error> {
    let mut manifest = old.clone();
    manifest.height = back.height;
    manifest.state_root = row.root;
    manifest.checkpoint = old.checkpoint.filter(|it| it.height <= back.height);
    let parts = manifest.shards.iter_mut().zip(&back.writers).zip(&row.shard_roots);
    for ((part, writer), root) in parts {
        part.next_sn = writer.state.next_sn();
        part.oldest_active = writer.state.oldest_active();
        part.active = writer.state.active();
        part.root = *root;
    }
    let spans = with_dead_span(&old.dead, back.log_end..shared.log.next_position()).len();
    if spans > MAX_DEAD_SPANS {
        return Err(Error::TooManyRollbacks { most: MAX_DEAD_SPANS });
    }
    Ok(manifest)
}
