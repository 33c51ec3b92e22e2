//! What the stages behind `submit` do: one hashes and publishes, one writes the log, one what follows it.
//! Their threads and channels are in `stages`.
//! The way of a block through them is drawn once, in `ARCHITECTURE.md`.
//!
//! While block h is hashed and synced, the caller resolves and updates block h + 1; while the manifest of h
//! is committed, the records of later blocks are synced.
//!
//! The log is the journal: a record holds all that is needed to take its block in again, so a block is
//! durable once its record is. The manifest follows after a number of blocks or bytes, which bounds what
//! opening has to take in again.
//!
//! A block that was [hashed ahead](HashedAhead), as a speculative one, goes the same way, and what was found
//! out then is taken over in place of the tree pass.
//!
//! Invariant: a manifest is committed after the records and twig records up to its height are synced and
//! its root is known; nothing is deleted before a manifest that no longer needs it is durable.

use crate::Error;
use crate::commit::checkpoint;
use crate::commit::making::HASHED_ALONE;
use crate::commit::prune::{PruneIntent, Pruning};
use crate::commit::stages::{self, CommitWork, HashWork, LogWork, WAITING};
use crate::history::undo::BlockUndo;
use crate::points;
use crate::read::published::{Next, State};
use crate::shared::{Shared, per_shard};
use crate::steps::Step;
use hashbrown::HashMap;
use hedgerow_entryfile::{EntryLog, LogError, Record, TwigRecord};
use hedgerow_hasher_api::{BatchHasher, Span};
use hedgerow_merkle::{Applied, Dirty, Forest, Roots, ShardChange, TreeUndo};
use hedgerow_metadb::{Commit, HistoryRow, Manifest};
use hedgerow_state::{Counts, Layer, OpenTwig, TwigBegins, TwigPlaces, run_position, twig_records};
use hedgerow_types::{
    Digest, Height, LogPosition, SENTRIES_PER_SHARD, SHARDS, SerialNumber, ShardId, TwigId,
};
use rayon::prelude::*;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

/// One shard's part of a block: what the tree needs beside the run.
#[derive(Debug)]
pub(crate) struct ShardPart {
    pub(crate) spans: Vec<Span>,
    pub(crate) first_sn: SerialNumber,
    pub(crate) deactivated: Vec<SerialNumber>,
    pub(crate) oldest_active: SerialNumber,
    pub(crate) active: u64,
}

/// An accepted block on its way to the disk.
#[derive(Debug)]
pub(crate) struct BlockDelta {
    pub(crate) height: Height,
    pub(crate) record: Arc<Record>,
    pub(crate) parts: Arc<Vec<ShardPart>>,
    pub(crate) layers: Arc<Vec<Layer>>,
    pub(crate) counts: Counts,
    /// What hashing it came to, if that is known already.
    pub(crate) ahead: Option<Arc<HashedAhead>>,
    /// Set when it is known, before the block is published.
    pub(crate) root: Arc<OnceLock<Digest>>,
    /// Where twigs begin after it, by shard, if a checkpoint of it is to be written.
    pub(crate) begins: Option<Vec<TwigBegins>>,
}

/// What the tree pass of a block came to.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    pub(crate) roots: Roots,
    /// What the tree has otherwise than before.
    pub(crate) dirty: Dirty,
    /// The records of the twigs that the block filled.
    pub(crate) twigs: Vec<Arc<TwigRecord>>,
    pub(crate) row: Arc<HistoryRow>,
}

/// A tree pass that was made before the block was accepted, on a forest of its own.
#[derive(Debug)]
pub(crate) struct HashedAhead {
    pub(crate) passed: Passed,
    /// The tree after it.
    pub(crate) forest: Forest,
}

/// Hashes a block, in the pool of the caller: the one way from a record and what it changes to roots, twig records and
/// the history row. `forest` and `open` are those before it, and then those after it.
///
/// # Errors
/// As [`Forest::apply_announcing`]. Then they are in no defined state.
#[inline(never)] // for `.ci/instructions`
pub(crate) fn pass(
    hasher: &dyn BatchHasher,
    (forest, open): (&mut Forest, &mut [OpenTwig]),
    record: &Record,
    parts: &[ShardPart],
    announce: &mut dyn FnMut(&Roots),
) -> Result<Passed, Error> {
    let change = |shard: ShardId| {
        let part = &parts[shard.index()];
        ShardChange {
            arena: record.run(shard),
            entries: &part.spans,
            deactivated: &part.deactivated,
            oldest_active: part.oldest_active,
        }
    };
    let changes: [ShardChange<'_>; SHARDS] = per_shard(change);
    let Applied { roots, finished, dirty } = forest.apply_announcing(hasher, &changes, announce)?;
    let mut places = note_runs(open, record, parts);
    let twigs = twig_records(finished, &mut places)?;
    let row = Arc::new(HistoryRow {
        root: roots.state,
        shard_roots: roots.shards,
        oldest_active: std::array::from_fn(|shard| parts[shard].oldest_active),
        extra: record.extra().to_vec(),
    });
    Ok(Passed { roots, dirty, twigs, row })
}

/// Notes where the entries of a block lie in the youngest twigs; returns those of the twigs that it filled.
fn note_runs(
    open: &mut [OpenTwig],
    record: &Record,
    parts: &[ShardPart],
) -> HashMap<(ShardId, TwigId), TwigPlaces> {
    let mut places = HashMap::new();
    for ((shard, open), part) in ShardId::all().zip(open).zip(parts) {
        let start = run_position(record, shard);
        for filled in open.note_run(record.position(), start, part.first_sn, &part.spans) {
            places.insert((shard, filled.twig), filled);
        }
    }
    places
}

/// What the hash stage hands on: what is still to be written of a block. Not its entries, so that many may
/// wait for a manifest.
#[derive(Debug)]
struct Hashed {
    height: Height,
    log_end: LogPosition,
    log_bytes: u64,
    /// Of each shard: the next serial number, the oldest active one, how many are active.
    shards: [(SerialNumber, SerialNumber, u64); SHARDS],
    roots: Roots,
    twigs: Vec<Arc<TwigRecord>>,
    row: Arc<HistoryRow>,
}

impl ShardPart {
    /// The serial number that the shard's next entry gets after the block.
    pub(crate) fn next_sn(&self) -> SerialNumber {
        self.first_sn.plus(self.spans.len() as u64)
    }

    /// Bytes of heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>()
            + self.deactivated.capacity() * size_of::<SerialNumber>()
    }
}

impl stages::Block for BlockDelta {
    fn height(&self) -> Height {
        self.height
    }
}

/// The running stages of a store.
pub(crate) type Pipeline = stages::Pipeline<BlockDelta>;

/// Starts the stages on the state `forest` with the youngest twigs `open`, as `behind` describes it.
pub(crate) fn start(
    shared: &Arc<Shared>,
    forest: Forest,
    open: Vec<OpenTwig>,
    behind: Unsettled,
) -> Result<Pipeline, Error> {
    let hash = HashStage { shared: Arc::clone(shared), forest, open };
    let pruning = Pruning::new(Arc::clone(shared));
    let log = LogStage { shared: Arc::clone(shared) };
    let commit = CommitStage { shared: Arc::clone(shared), pruning, behind, intent: None };
    Pipeline::start(&shared.flow, WAITING, hash, log, commit)
}

/// The newest durable state, as a manifest, and what the manifest on disk does not know yet.
#[derive(Debug)]
pub(crate) struct Unsettled {
    /// What is to be committed next.
    pub(crate) manifest: Manifest,
    /// The history rows that go with it.
    pub(crate) rows: Vec<(Height, Arc<HistoryRow>)>,
    /// Bytes of log since the last one.
    pub(crate) bytes: u64,
}

struct HashStage {
    shared: Arc<Shared>,
    /// The newest tree; the published one follows it.
    forest: Forest,
    open: Vec<OpenTwig>,
}

impl HashWork<BlockDelta> for HashStage {
    type Hashed = Hashed;

    fn hash(&mut self, block: Arc<BlockDelta>) -> Result<Hashed, Error> {
        let shared = &*Arc::clone(&self.shared);
        let first_kept = *shared.first_kept.lock();
        for (shard, first) in ShardId::all().zip(first_kept) {
            self.forest.prune(shard, first)?;
        }
        let passed = match &block.ahead {
            Some(ahead) => self.take_over(&block, ahead),
            None => self.pass(&block)?,
        };
        let Passed { roots, dirty, twigs, row } = passed;
        shared.twigs.take(&twigs);
        let record = &block.record;
        for (shard, part) in ShardId::all().zip(&*block.parts) {
            let start = run_position(record, shard);
            shared.twigs.note_open(shard, record.position(), start, part.first_sn, &part.spans);
        }
        let active: u64 = block.parts.iter().map(|part| part.active).sum();
        let keys = active - SHARDS as u64 * SENTRIES_PER_SHARD;
        // Not before: a block that cannot be published never happened.
        let kept = |before: &State, tree: &TreeUndo| {
            if shared.undo.is_on() {
                let place = (record.position(), record.end());
                let shard = |shard: ShardId| {
                    let part = &block.parts[shard.index()];
                    (part.first_sn, &part.deactivated[..])
                };
                let upper = per_shard(|shard| tree.upper(shard));
                shared.undo.note(BlockUndo::new(block.height, place, before.keys, shard, upper));
            }
            drop(shared.recent.lock().insert(block.height, Arc::clone(&row)));
        };
        // From here on readers see the block, all of it or nothing.
        shared.steps.time(Step::Publish, || {
            let edits: Vec<_> = match record.bytes_len() <= HASHED_ALONE {
                true => block.layers.iter().map(Layer::edits).collect(),
                false => {
                    shared.hash_pool.install(|| block.layers.par_iter().map(Layer::edits).collect())
                }
            };
            let next = Next {
                height: block.height,
                log_end: record.end(),
                keys,
                edits: &edits,
                forest: &self.forest,
                dirty: &dirty,
                tiers: shared.tiers.as_ref(),
            };
            shared.published.publish(&next, &shared.hash_pool, kept)
        })?;
        shared.steps.emitter.published(block.height, keys);
        if let Some(tiers) = &shared.tiers {
            tiers.nudge();
        }
        if let Some(begins) = &block.begins {
            checkpoint::begin(&self.shared, record.end(), &self.forest, &self.open, begins);
        }
        let (height, log_end, log_bytes) = (block.height, record.end(), record.bytes_len());
        let shards = std::array::from_fn(|shard| {
            let part = &block.parts[shard];
            (part.next_sn(), part.oldest_active, part.active)
        });
        Ok(Hashed { height, log_end, log_bytes, shards, roots, twigs, row })
    }
}

impl HashStage {
    /// Hashes a block.
    fn pass(&mut self, block: &BlockDelta) -> Result<Passed, Error> {
        let Self { shared, forest, open } = self;
        // Whoever wants nothing but the root need not wait for the nodes, which a device may still
        // be sending, nor for readers to see the block.
        let mut announce = |roots: &Roots| {
            block.root.get_or_init(|| roots.state);
            shared.flow.tell_root();
        };
        let tree = (forest, &mut open[..]);
        let hash = || pass(&*shared.hasher.tree, tree, &block.record, &block.parts, &mut announce);
        let alone = block.record.bytes_len() <= HASHED_ALONE;
        shared
            .steps
            .time(Step::Hash, || if alone { hash() } else { shared.hash_pool.install(hash) })
    }

    /// Takes over what was found out before.
    fn take_over(&mut self, block: &BlockDelta, ahead: &HashedAhead) -> Passed {
        let HashedAhead { passed, forest } = ahead;
        self.forest.take_over(forest, &passed.dirty);
        note_runs(&mut self.open, &block.record, &block.parts);
        passed.clone()
    }
}

impl Drop for HashStage {
    fn drop(&mut self) {
        let (forest, open) = (std::mem::take(&mut self.forest), std::mem::take(&mut self.open));
        self.shared.checkpoints.keep(forest, open);
    }
}

struct LogStage {
    shared: Arc<Shared>,
}

struct CommitStage {
    shared: Arc<Shared>,
    pruning: Pruning,
    behind: Unsettled,
    /// What the last manifest committed no longer needs.
    intent: Option<PruneIntent>,
}

impl LogWork<BlockDelta> for LogStage {
    fn append(&mut self, blocks: &[Arc<BlockDelta>]) -> Result<(), Error> {
        let records: Vec<_> = blocks.iter().map(|block| Arc::clone(&block.record)).collect();
        let Shared { log, options, steps, .. } = &*self.shared;
        options.disk.at_point(points::COMMIT_BEGIN)?;
        steps.time(Step::Write, || write(log, &records))?;
        options.disk.at_point(points::COMMIT_LOG_WRITTEN)?;
        steps.time(Step::Sync, || log.sync())?;
        Ok(options.disk.at_point(points::COMMIT_LOG_SYNCED)?)
    }
}

#[inline(never)] // for `.ci/instructions`
fn write(log: &EntryLog, records: &[Arc<Record>]) -> Result<(), LogError> {
    log.append_many(records)
}

impl CommitWork<Hashed> for CommitStage {
    fn commit(&mut self, ready: &[Hashed]) -> Result<(), Error> {
        self.shared.options.disk.at_point(points::COMMIT_DURABLE)?;
        if let Some(last) = ready.last() {
            self.shared.steps.emitter.durable(last.height);
        }
        self.write_twigs(ready)?;
        self.behind.note(ready);
        if self.is_due() {
            self.commit_manifest()?;
        }
        Ok(())
    }

    fn clean_up(&mut self) -> Result<(), Error> {
        self.shared.options.disk.at_point(points::COMMIT_DONE)?;
        // Only now: the manifest no longer needs it.
        self.pruning.carry_out(self.intent.take());
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let asked = shared.prunings.due();
        if !self.behind.rows.is_empty() || asked.is_some() {
            self.commit_manifest()?;
            self.pruning.carry_out(self.intent.take());
        }
        // Whoever asked looks again when the stage says that it has settled.
        asked.into_iter().for_each(|number| shared.prunings.note_done(number));
        Ok(())
    }
}

impl CommitStage {
    /// Whether so much is durable that the manifest has to say so.
    fn is_due(&self) -> bool {
        let Unsettled { rows, bytes, .. } = &self.behind;
        let options = &self.shared.options;
        rows.len() as u64 >= options.manifest_blocks || *bytes >= options.manifest_bytes()
    }

    /// Commits the manifest of the last block that is durable, and the history up to it: the phases of a
    /// commit. What the manifest no longer needs is deleted after it, by [`CommitWork::clean_up`].
    fn commit_manifest(&mut self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        shared.steps.time(Step::Manifest, || self.bring_manifest(&shared))
    }

    #[inline(never)] // for `.ci/instructions`
    fn bring_manifest(&mut self, shared: &Shared) -> Result<(), Error> {
        self.sync_twigs()?;
        // A copy that begins reads this manifest or the one before it, and what the one that it reads needs
        // stays.
        let _copies = shared.copies.hold_off();
        let (manifest, intent) = self.plan_manifest()?;
        self.write_manifest(&manifest)?;
        shared.undo.let_go(manifest.height, &shared.pins);
        self.note_settled(manifest);
        self.intent = intent;
        Ok(())
    }

    /// The twig records that blocks filled.
    fn write_twigs(&self, ready: &[Hashed]) -> Result<(), Error> {
        for hashed in ready {
            self.shared.twigs.write(&hashed.twigs)?;
        }
        Ok(self.shared.options.disk.at_point(points::COMMIT_TWIGS_WRITTEN)?)
    }

    /// Opening drops the twig records and undo records of blocks that the manifest does not know; all others must be
    /// there for good.
    fn sync_twigs(&self) -> Result<(), Error> {
        self.shared.twigs.file.sync()?;
        self.shared.undo.write_up_to(self.behind.manifest.height)?;
        Ok(self.shared.options.disk.at_point(points::MANIFEST_TWIGS_SYNCED)?)
    }

    /// What the manifest is to say, and what is not needed any more once it does.
    fn plan_manifest(&mut self) -> Result<(Manifest, Option<PruneIntent>), Error> {
        let mut manifest = self.behind.manifest.clone();
        // What was dropped is not there again when more is to be kept.
        if !self.shared.copies.any() {
            let history_from = self.pruning.history_from(manifest.height);
            manifest.history_from = manifest.history_from.max(history_from);
        }
        manifest.checkpoint = self.shared.checkpoints.name_for(manifest.height);
        let intent = self.pruning.plan(&mut manifest)?;
        if intent.is_some() {
            self.shared.options.disk.at_point(points::PRUNE_PLANNED)?;
        }
        Ok((manifest, intent))
    }

    /// One atomic commit.
    fn write_manifest(&self, manifest: &Manifest) -> Result<(), Error> {
        let rows = self.behind.rows.iter().map(|(height, row)| (*height, (**row).clone()));
        let rows: Vec<_> = rows.collect();
        let commit = Commit { manifest, rows: &rows, history_from: manifest.history_from };
        self.shared.with_meta(|meta| meta.commit(&commit))?;
        self.shared.checkpoints.note_named(manifest.checkpoint, self.shared.tiers.as_ref());
        Ok(self.shared.options.disk.at_point(points::MANIFEST_WRITTEN)?)
    }

    /// The manifest on disk says all that is durable.
    fn note_settled(&mut self, manifest: Manifest) {
        let Shared { counters, recent, .. } = &*self.shared;
        counters.commits.fetch_add(1, Ordering::Relaxed);
        {
            let mut recent = recent.lock();
            *recent = recent.split_off(&manifest.height.next());
        }
        self.behind = Unsettled { manifest, rows: Vec::new(), bytes: 0 };
    }
}

impl Unsettled {
    /// These blocks are durable as well.
    fn note(&mut self, ready: &[Hashed]) {
        let Some(last) = ready.last() else { return };
        let Self { manifest, rows, bytes } = self;
        manifest.height = last.height;
        manifest.log_end = last.log_end;
        manifest.state_root = last.roots.state;
        let parts = last.shards.iter().zip(&last.roots.shards);
        for (shard, (of, root)) in manifest.shards.iter_mut().zip(parts) {
            (shard.next_sn, shard.oldest_active, shard.active) = *of;
            shard.root = *root;
        }
        rows.extend(ready.iter().map(|hashed| (hashed.height, Arc::clone(&hashed.row))));
        *bytes += ready.iter().map(|hashed| hashed.log_bytes).sum::<u64>();
    }
}
