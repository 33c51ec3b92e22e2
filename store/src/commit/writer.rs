//! The single writer: takes a block's operations through resolve and update, gives its record a
//! place and hands it to the stages.
//!
//! Everything up to the record's announcement can refuse the block and leaves no trace.

use crate::commit::checkpoint;
use crate::commit::pipeline::{BlockDelta, Pipeline, ShardPart};
use crate::commit::stages::PanicGuard;
use crate::hasher;
use crate::read::published::in_index;
use crate::shared::Shared;
use crate::ticket::Ticket;
use crate::{Durability, Error};
use bytes::Bytes;
use hedgerow_entryfile::{BlockState, LogError, Record, RunCursor, StoredEntry, place_run};
use hedgerow_hasher_api::hash_message;
use hedgerow_index::Place;
use hedgerow_state::{
    self as state, BlockOps, Counts, Files, LastPair, Layer, LoadBlock, Now, ShardDelta, ShardView,
    ShardWriter, Tools, TwigBegins, is_entry_of, newest, run_position,
};
use hedgerow_types::{CompactionRule, Height, KeyHash, LogPosition, SHARDS, ShardId};
use rayon::prelude::*;
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

/// Most extra data that one block can carry, in bytes.
pub const MAX_EXTRA_BYTES: usize = 1 << 20;

/// Bytes of a block's entries below which one thread gives them their places: it takes less time than
/// waking others.
const PLACED_ALONE: usize = 1 << 20;

/// A stream of pairs that is taken in block by block, see [`Writer::load`].
#[derive(Debug)]
pub(crate) struct Stream {
    /// The hashes of the keys of the block at hand, which ascend and are above all before.
    pub(crate) key_hashes: Vec<KeyHash>,
    /// The last pair of the block before.
    pub(crate) last: Option<LastPair>,
    /// Where the sentries of each shard begin in the log.
    pub(crate) sentries: [LogPosition; SHARDS],
    /// No entry has been moved so far.
    pub(crate) in_order: bool,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) pipeline: Pipeline,
    rule: CompactionRule,
    /// Last accepted height.
    pub(super) height: Height,
    pub(super) shards: Vec<ShardWriter>,
    /// Blocks that are accepted and, as far as the writer knows, not published; oldest first.
    pub(super) layers: VecDeque<(Height, Arc<Vec<Layer>>)>,
    /// No checkpoint is begun: what is made may be thrown away.
    pub(crate) loading: bool,
    /// It was said that handing in does not wait.
    said: bool,
    /// Bytes of log since the last checkpoint that was asked for: one that fails is not asked for again at
    /// once.
    pub(super) log_bytes: u64,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        pipeline: Pipeline,
        rule: CompactionRule,
        height: Height,
        shards: Vec<ShardWriter>,
        log_bytes: u64,
    ) -> Self {
        let layers = VecDeque::new();
        let (loading, said) = (false, false);
        Self { shared, pipeline, rule, height, shards, layers, loading, said, log_bytes }
    }

    /// Writes a checkpoint, after the stages have ended and if it is worth while, and names it.
    pub(crate) fn checkpoint_at_close(&self) -> Result<(), Error> {
        checkpoint::at_close(&self.shared, &self.begins())
    }

    pub(super) fn begins(&self) -> Vec<TwigBegins> {
        self.shards.iter().map(|shard| shard.state.begins().clone()).collect()
    }

    /// Says once that a block which is only handed in is not waited for, to whoever asked for blocks
    /// that are.
    pub(crate) fn say_that_nobody_waits(&mut self) {
        if self.shared.options.durability == Durability::EachBlock && !self.said {
            self.said = true;
            tracing::info!(
                "option durability: a block that is submitted is not waited for; its ticket says when \
                 it is durable",
            );
        }
    }

    /// Checks that a block at `height` can begin.
    pub(crate) fn check_begin(&self, height: Height) -> Result<(), Error> {
        self.shared.flow.check()?;
        let expected = self.height.next();
        if height != expected || height > Height::MAX {
            return Err(Error::WrongHeight { given: height, expected });
        }
        Ok(())
    }

    /// Last accepted height.
    pub(crate) fn height(&self) -> Height {
        self.height
    }

    /// The current entry of a key: that of the last accepted block.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<StoredEntry>, Error> {
        self.drop_published_layers();
        let key_hash = KeyHash(hash_message(key).0);
        let shard = key_hash.shard().index();
        let layers = self.layers.iter().map(|(_, layers)| &layers[shard]);
        let candidates: Vec<_> = match newest(layers, &key_hash) {
            Some(Now::At(at)) => vec![at],
            Some(_) => return Ok(None),
            None => {
                let mut found = Vec::new();
                let index = self.shared.published.index(key_hash.shard());
                index.candidates(&[key_hash], &mut found).map_err(in_index)?;
                found.into_iter().map(|(_, at)| at).collect()
            }
        };
        for at in candidates {
            let entry = self.shared.log.read(at)?;
            if is_entry_of(entry.get(), key) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Takes a block in. Waits while too much is in flight, not for hashing or the disk.
    /// Takes `extra` only if it accepts the block.
    pub(crate) fn submit(&mut self, ops: &BlockOps, extra: &mut Vec<u8>) -> Result<Ticket, Error> {
        self.take(extra, |writer, height| writer.apply(height, ops))
    }

    /// Takes a block of a stream in, which is that of puts of its pairs. `stream` is what came before it, and
    /// comes to be what comes before the next one.
    pub(crate) fn load(&mut self, ops: &BlockOps, stream: &mut Stream) -> Result<Ticket, Error> {
        let ticket = self.take(&mut vec![], |writer, height| {
            if stream.in_order {
                let Self { shared, shards, rule, .. } = writer;
                let Stream { key_hashes, last, sentries, .. } = &*stream;
                let block = LoadBlock { ops, key_hashes, last: last.as_ref(), sentries };
                let loaded = shared.pool.install(|| state::load(shards, block, height, rule))?;
                if let Some(deltas) = loaded {
                    return Ok(deltas);
                }
                stream.in_order = false;
                // From here on the index is asked: what was filled in has to be found.
                writer.end_filling()?;
            }
            writer.apply(height, ops)
        })?;
        stream.last = self.last_pair(ops, &stream.key_hashes)?;
        Ok(ticket)
    }

    /// Lets what the blocks of a stream brought be found, in an index in files.
    pub(crate) fn end_filling(&self) -> Result<(), Error> {
        let Some(tiers) = &self.shared.tiers else { return Ok(()) };
        self.shared.flow.wait_for(|at| (at.published >= at.accepted).then_some(()))?;
        tiers.index.iter().try_for_each(|index| index.end_filling()).map_err(in_index)
    }

    /// The last pair of a block of a stream that was taken in.
    fn last_pair(&self, ops: &BlockOps, key_hashes: &[KeyHash]) -> Result<Option<LastPair>, Error> {
        let (Some(op), Some(&key_hash)) = (ops.ops().last(), key_hashes.last()) else {
            return Ok(None);
        };
        let layers = self.layers.back().map(|(_, layers)| &layers[key_hash.shard().index()]);
        let Some(place) = layers.and_then(|layer| layer.place(&key_hash)) else {
            return Err(Error::Corrupt("a key that was just written has no place".into()));
        };
        let (key, value) = (ops.key(op).to_vec(), ops.value(op).to_vec());
        Ok(Some(LastPair { key_hash, key, value, place }))
    }

    /// Takes a block in, of which `apply` makes what it does to the shards.
    fn take(
        &mut self,
        extra: &mut Vec<u8>,
        apply: impl FnOnce(&mut Self, Height) -> Result<Vec<ShardDelta>, Error>,
    ) -> Result<Ticket, Error> {
        let height = self.height.next();
        self.check_begin(height)?;
        if extra.len() > MAX_EXTRA_BYTES {
            return Err(Error::ExtraTooLarge(extra.len()));
        }
        let options = &self.shared.options;
        let bytes = options.max_in_flight_bytes as u64;
        self.shared.flow.wait_for_room(options.max_in_flight, bytes)?;
        if let Some(tiers) = &self.shared.tiers {
            tiers.wait()?;
        }
        self.drop_published_layers();
        // A panic below, which would be a bug, must not leave a half-updated writer in use.
        let flow = Arc::clone(&self.shared.flow);
        let _guard = PanicGuard { name: "submit", flow: &flow };
        let deltas = apply(self, height)?;
        // From here on the writer's view of the shards is that after the block.
        let block = match self.record(height, deltas, std::mem::take(extra)) {
            Ok(block) => Arc::new(block),
            Err(error) => {
                // The log stage may have failed a moment ago and be about to say so: then its
                // failure is the cause, not that the log takes no more.
                let cause = match error {
                    Error::Log(LogError::Failed(first)) => Error::Log((*first).clone()),
                    other => other,
                };
                flow.poison(cause.clone());
                return Err(flow.check().err().unwrap_or(cause));
            }
        };
        self.height = height;
        self.layers.push_back((height, Arc::clone(&block.layers)));
        let log_bytes = block.record.bytes_len();
        let ticket = Ticket::new(&flow, height, block.counts, log_bytes, &block.root);
        self.pipeline.accept(&block, log_bytes)?;
        Ok(ticket)
    }

    /// Brings the manifest to the last block, and waits until that is done.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        self.pipeline.settle()
    }

    /// Ends the stages after what they have.
    pub(crate) fn stop(&mut self) -> Result<(), Error> {
        self.pipeline.stop()
    }

    /// Leaves the stages alone, which run in another process.
    pub(crate) fn forget(&mut self) {
        self.pipeline.forget();
    }

    fn drop_published_layers(&mut self) {
        let published = self.shared.flow.look(|progress| progress.published);
        while self.layers.front().is_some_and(|&(height, _)| height <= published) {
            self.layers.pop_front();
        }
    }

    /// What the block does to the shards, done to the writer's view of them.
    fn apply(&mut self, height: Height, ops: &BlockOps) -> Result<Vec<ShardDelta>, Error> {
        let Self { shared, rule, shards, layers, .. } = self;
        // The index may be on its way from one height to a later one: the layers make what it says that
        // of the last accepted block.
        let layers: Vec<Vec<&Layer>> = (0..SHARDS)
            .map(|shard| layers.iter().map(|(_, layers)| &layers[shard]).collect())
            .collect();
        let views = ShardId::all().zip(&layers);
        let views: Vec<_> = views
            .map(|(shard, layers)| ShardView { index: shared.published.index(shard), layers })
            .collect();
        let files = Files { log: &shared.log, twigs: &shared.twigs };
        let tools = Tools { hasher: hasher::trusted(), files, rule };
        Ok(shared.pool.install(|| state::apply(shards, &views, ops, height, tools))?)
    }

    /// Gives the block's entries their place in the log; they are readable from then on.
    fn record(
        &mut self,
        height: Height,
        deltas: Vec<ShardDelta>,
        extra: Vec<u8>,
    ) -> Result<BlockDelta, Error> {
        let log = &self.shared.log;
        let before = deltas.first().map_or(0, |delta| delta.entries_before);
        let mut counts = Counts::default();
        let mut layers = Vec::with_capacity(SHARDS);
        let mut parts = Vec::with_capacity(SHARDS);
        let mut runs: [Vec<u8>; SHARDS] = Default::default();
        let mut entries = [0; SHARDS];
        for (shard, delta) in deltas.into_iter().enumerate() {
            counts.add(&delta.counts);
            entries[shard] = delta.spans.len() as u32;
            runs[shard] = delta.run;
            layers.push(delta.layer);
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
            durable: self.shared.flow.look(|progress| progress.durable),
            published: self.shared.state_root(),
            extra: Bytes::from(extra),
        };
        let position = log.next_position();
        self.place(position, &mut runs)?;
        let runs = runs.map(Bytes::from);
        let record = Arc::new(Record::new(position, height, runs, entries, state)?);
        for (shard, (layer, part)) in ShardId::all().zip(layers.iter_mut().zip(&parts)) {
            let start = run_position(&record, shard);
            layer.settle(|entry| Place {
                at: start.plus(u64::from(part.spans[entry as usize].offset)),
                sn: part.first_sn.plus(u64::from(entry)),
            });
            // The cursor follows when compaction came as far as this block's own entries: the
            // place where it stood may be pruned before it is needed again.
            let writer = &mut self.shards[shard.index()];
            if let Some(own) = part.oldest_active.0.checked_sub(part.first_sn.0) {
                let at = match part.spans.get(own as usize) {
                    Some(span) => start.plus(u64::from(span.offset)),
                    None => start.plus(record.run(shard).len() as u64),
                };
                writer.cursor = RunCursor::new(shard, record.position(), at);
            }
        }
        log.announce(Arc::clone(&record))?;
        self.log_bytes += record.bytes_len();
        let active = self.shards.iter().map(|shard| shard.state.active()).sum();
        let due = !self.loading
            && self.shared.checkpoints.is_due(self.log_bytes, active, self.shared.tiers.is_some());
        if due {
            self.log_bytes = 0;
        }
        Ok(BlockDelta {
            begins: due.then(|| self.begins()),
            height,
            record,
            parts,
            layers: Arc::new(layers),
            counts,
            root: Arc::new(OnceLock::new()),
        })
    }

    /// Binds the entries of a block to their places, which are known once all its runs are there.
    fn place(&self, record: LogPosition, runs: &mut [Vec<u8>; SHARDS]) -> Result<(), Error> {
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
        self.shared.pool.install(|| work.par_drain(..).try_for_each(|run| place(run).map(drop)))
    }

    /// Longest value that a put accepts.
    pub(crate) fn max_value_bytes(&self) -> usize {
        self.shared.options.max_value_bytes
    }
}
