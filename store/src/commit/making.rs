//! From a block's operations to its record, and what it changes: the one way of every block, whoever makes it and
//! whatever becomes of it.
//!
//! ```text
//!   operations ─► apply ─► 16 ShardDeltas ─► make ─► record, at its position in the log
//!                   │                          ├───► parts: what the tree needs beside it
//!                   ▼                          └───► layers: where keys are now
//!           writers after it
//! ```
//!
//! Nobody sees any of it: that a block is taken in is for the caller to do.

use crate::Error;
use crate::commit::pipeline::ShardPart;
use crate::shared::Shared;
use crate::steps::Step;
use bytes::Bytes;
use hedgerow_entryfile::{BlockState, Record, RunCursor, place_run};
use hedgerow_index::Place;
use hedgerow_state::{
    self as state, BlockOps, Counts, Draft, Files, HeldWriter, Layer, Links, ShardDelta, ShardView,
    Spent, Tools, run_position,
};
use hedgerow_types::{CompactionRule, Height, LogPosition, SHARDS, ShardId};
use rayon::prelude::*;
use std::sync::Arc;

/// Operations up to which one thread applies a block, key hashes included: handing over takes some 10 us, and as much
/// of other threads that look for more.
const APPLIED_ALONE: usize = 256;

/// Bytes of a block's entries up to which one thread hashes it and finds the edits of the index. No call is then so large
/// that a backend of the CPU would want others (some 2,000 compressions).
pub(crate) const HASHED_ALONE: u64 = 48 << 10;

/// Bytes of a block's entries below which one thread gives them their places: it takes less time than
/// waking others.
const PLACED_ALONE: usize = 1 << 20;

/// A block that is made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) record: Arc<Record>,
    pub(crate) parts: Arc<Vec<ShardPart>>,
    pub(crate) layers: Arc<Vec<Layer>>,
    pub(crate) counts: Counts,
}

/// What a block does to the shards, done to these writers. `layers` are those of the blocks before it, oldest first,
/// that the index may not have; `links` what is remembered of the state before it, if anything.
///
/// # Errors
/// As [`state::apply`]. Then the writers are as they were.
pub(crate) fn apply<W: HeldWriter>(
    shared: &Shared,
    writers: &mut [W],
    (layers, links, files): (&[&[Layer]], Option<&[Links]>, Files<'_>),
    (height, ops): (Height, &BlockOps),
    rule: &CompactionRule,
) -> Result<Vec<ShardDelta>, Error> {
    // The index may be on its way from one height to a later one: the layers make what it says that
    // of the last of these blocks.
    let layers: Vec<Vec<&Layer>> =
        (0..SHARDS).map(|shard| layers.iter().map(|layers| &layers[shard]).collect()).collect();
    let views = ShardId::all().zip(&layers);
    let views: Vec<_> = views
        .map(|(shard, layers)| {
            let links = links.and_then(|links| links.get(shard.index()));
            ShardView { index: shared.published.index(shard), layers, links }
        })
        .collect();
    let alone = ops.ops().len() <= APPLIED_ALONE;
    let tools = Tools { hasher: &shared.hasher.cpu, files, rule, alone };
    let mut spent = Spent::default();
    let mut apply = || state::apply(writers, &views, ops, height, tools, &mut spent);
    let applied = if alone { apply() } else { shared.pool.install(apply) };
    shared.steps.note_spent(&spent, applied.is_err());
    Ok(applied?)
}

/// Makes the record of a block at a position of the log. `writers` are those after it. `links` are told what it made
/// of keys that it updated: those of its writer, or none.
///
/// # Errors
/// [`Error::Log`] if the record would be longer than one may be. Then the writers are ahead of the log.
pub(crate) fn make<W: HeldWriter>(
    shared: &Shared,
    writers: &mut [W],
    position: LogPosition,
    height: Height,
    deltas: Vec<ShardDelta>,
    (extra, links): (Vec<u8>, &mut [Links]),
) -> Result<Made, Error> {
    let record = || put_together(shared, writers, (position, height), deltas, (extra, links));
    shared.steps.time(Step::Record, record)
}

#[inline(never)] // for `.ci/instructions`
fn put_together<W: HeldWriter>(
    shared: &Shared,
    writers: &mut [W],
    (position, height): (LogPosition, Height),
    deltas: Vec<ShardDelta>,
    (extra, links): (Vec<u8>, &mut [Links]),
) -> Result<Made, Error> {
    let before = deltas.first().map_or(0, |delta| delta.entries_before);
    let mut counts = Counts::default();
    let mut drafts = Vec::with_capacity(SHARDS);
    let mut parts = Vec::with_capacity(SHARDS);
    let mut runs: [Vec<u8>; SHARDS] = Default::default();
    let mut entries = [0; SHARDS];
    for (shard, delta) in deltas.into_iter().enumerate() {
        counts.add(&delta.counts);
        entries[shard] = delta.spans.len() as u32;
        runs[shard] = delta.run;
        drafts.push(delta.draft);
        parts.push(ShardPart {
            spans: delta.spans,
            first_sn: delta.first_sn,
            deactivated: delta.deactivated,
            oldest_active: delta.oldest_active,
            active: delta.active,
        });
    }
    let state = BlockState {
        oldest_active: std::array::from_fn(|shard| parts[shard].oldest_active),
        entries_before: before,
        durable: shared.flow.look(|progress| progress.durable),
        published: shared.state_root(),
        extra: Bytes::from(extra),
    };
    place(shared, position, &mut runs)?;
    let runs = runs.map(Bytes::from);
    let record = Arc::new(Record::new(position, height, runs, entries, state)?);
    let layers = settle(shared, &record, &parts, drafts, links);
    for (shard, (part, writer)) in ShardId::all().zip(parts.iter().zip(writers)) {
        let start = run_position(&record, shard);
        // The cursor follows when compaction came as far as this block's own entries: the
        // place where it stood may be pruned before it is needed again.
        if let Some(own) = part.oldest_active.0.checked_sub(part.first_sn.0) {
            let at = match part.spans.get(own as usize) {
                Some(span) => start.plus(u64::from(span.offset)),
                None => start.plus(record.run(shard).len() as u64),
            };
            writer.change().cursor = RunCursor::new(shard, record.position(), at);
        }
    }
    Ok(Made { record, parts: Arc::new(parts), layers: Arc::new(layers), counts })
}

/// Where the block leaves keys, shard by shard; what was updated is put into `links`, one per shard or none.
fn settle(
    shared: &Shared,
    record: &Record,
    parts: &[ShardPart],
    drafts: Vec<Draft>,
    links: &mut [Links],
) -> Vec<Layer> {
    type Work<'a> = (((ShardId, &'a ShardPart), Draft), Option<&'a mut Links>);
    let settle = |(((shard, part), draft), links): Work<'_>| {
        let start = run_position(record, shard);
        let place = |entry: u32| Place {
            at: start.plus(u64::from(part.spans[entry as usize].offset)),
            sn: part.first_sn.plus(u64::from(entry)),
        };
        let Some(links) = links else { return draft.settle(place, |_, _, _| {}) };
        draft.settle(place, |key, next, place| links.put(key, next, place.sn, place.at))
    };
    let links = links.iter_mut().map(Some).chain(std::iter::repeat_with(|| None));
    let mut work: Vec<_> = ShardId::all().zip(parts).zip(drafts).zip(links).collect();
    if record.bytes_len() < PLACED_ALONE as u64 {
        return work.into_iter().map(settle).collect();
    }
    shared.pool.install(|| work.par_drain(..).map(settle).collect())
}

/// Binds the entries of a block to their places, which are known once all its runs are there.
fn place(shared: &Shared, record: LogPosition, runs: &mut [Vec<u8>; SHARDS]) -> Result<(), Error> {
    let lens = runs.each_ref().map(Vec::len);
    let place = |(shard, run): (ShardId, &mut Vec<u8>)| {
        place_run(run, Record::run_start(record, &lens, shard)).map_err(|what| {
            Error::Corrupt(format!("shard {shard}: a run that was just made: {what}"))
        })
    };
    let few = lens.iter().sum::<usize>() < PLACED_ALONE;
    let mut work: Vec<_> = ShardId::all().zip(runs).collect();
    if few {
        return work.into_iter().try_for_each(|run| place(run).map(drop));
    }
    shared.pool.install(|| work.par_drain(..).try_for_each(|run| place(run).map(drop)))
}
