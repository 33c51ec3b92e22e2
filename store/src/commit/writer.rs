//! The single writer: takes a block's operations through resolve and update, gives its record a
//! place and hands it to the stages.
//!
//! Everything up to the record's announcement can refuse the block and leaves no trace.

use crate::commit::checkpoint;
use crate::commit::flow::Milestone;
use crate::commit::making::{self, Made};
use crate::commit::pipeline::{BlockDelta, Pipeline};
use crate::commit::stages::PanicGuard;
use crate::read::published::in_index;
use crate::shared::Shared;
use crate::speculate::{Speculative, Stand, Token};
use crate::steps::Step;
use crate::ticket::Ticket;
use crate::{Durability, Error};
use hedgerow_entryfile::{LogError, StoredEntry};
use hedgerow_hasher_api::hash_message;
use hedgerow_state::{
    self as state, BlockOps, Files, LastPair, Layer, Links, LoadBlock, ShardDelta, ShardView,
    ShardWriter, TwigBegins, find_entry,
};
use hedgerow_types::{CompactionRule, Height, KeyHash, LogPosition, SHARDS};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

/// Most extra data that one block can carry, in bytes.
pub const MAX_EXTRA_BYTES: usize = 1 << 20;

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

/// What is waited for when a block is taken in.
#[derive(Clone, Copy, Debug)]
enum Until {
    Accepted,
    Durable,
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) pipeline: Pipeline,
    rule: CompactionRule,
    /// Last accepted height.
    pub(super) height: Height,
    /// Shared with speculative blocks, which copy what they change.
    pub(super) shards: Vec<Arc<ShardWriter>>,
    /// Blocks that are accepted and, as far as the writer knows, not published; oldest first.
    pub(super) layers: VecDeque<(Height, Arc<Vec<Layer>>)>,
    /// What is remembered of the keys of the last blocks, by shard; of the state after the last accepted one.
    pub(super) links: Vec<Links>,
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
        let (layers, shards) = (VecDeque::new(), shards.into_iter().map(Arc::new).collect());
        let (loading, said) = (false, false);
        let bytes = shared.options.link_cache_bytes / SHARDS as u64;
        let links = (0..SHARDS).map(|_| Links::new(bytes)).collect();
        Self { shared, pipeline, rule, height, shards, layers, links, loading, said, log_bytes }
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

    /// What a speculative block stands on that follows the last accepted one. Waits until that is published.
    pub(crate) fn stand(&self) -> Result<Stand, Error> {
        self.shared
            .flow
            .wait_for(Milestone::Published, |at| (at.published >= at.accepted).then_some(()))?;
        Stand::on_published(&self.shared, self.height, &self.shards, self.rule)
    }

    /// Takes a speculative block in, as it is.
    pub(crate) fn accept(&mut self, block: &Speculative) -> Result<Ticket, Error> {
        let height = self.height.next();
        self.shared.flow.check()?;
        block.check_of(&self.shared)?;
        if block.height() != height {
            return Err(Error::WrongHeight { given: block.height(), expected: height });
        }
        self.wait_for_room()?;
        let flow = Arc::clone(&self.shared.flow);
        let _guard = PanicGuard { name: "accept", flow: &flow };
        let Some(accepted) = block.accepted() else {
            return Err(Error::Corrupt("a speculative block without a record".into()));
        };
        let record = Arc::clone(&accepted.record);
        if let Err(error) = self.shared.log.announce_placed(Arc::clone(&record)) {
            return Err(self.stop_with(error.into()));
        }
        self.shards = accepted.writers;
        let root = OnceLock::from(accepted.ahead.passed.roots.state);
        let block = BlockDelta {
            begins: self.begins_if_due(record.bytes_len()),
            height,
            record,
            parts: accepted.parts,
            layers: accepted.layers,
            counts: accepted.counts,
            ahead: Some(accepted.ahead),
            root: Arc::new(root),
        };
        self.hand_on(block, accepted.token, Until::Accepted)
    }

    /// The current entry of a key: that of the last accepted block.
    pub(crate) fn get(&mut self, key: &[u8]) -> Result<Option<StoredEntry>, Error> {
        self.drop_published_layers();
        let key_hash = KeyHash(hash_message(key).0);
        let shard = key_hash.shard().index();
        let layers = self.layers.iter().map(|(_, layers)| &layers[shard]);
        let layers: Vec<&Layer> = layers.collect();
        let view = ShardView {
            index: self.shared.published.index(key_hash.shard()),
            layers: &layers,
            links: None,
        };
        Ok(find_entry(key, key_hash, view, (&self.shared.log).into())?)
    }

    /// Takes a block in. Waits while too much is in flight, not for hashing or the disk.
    /// Takes `extra` only if it accepts the block.
    pub(crate) fn submit(&mut self, ops: &BlockOps, extra: &mut Vec<u8>) -> Result<Ticket, Error> {
        self.take(extra, Until::Accepted, |writer, height| writer.apply(height, ops))
    }

    /// Takes a block in and waits until it is durable.
    pub(crate) fn commit(&mut self, ops: &BlockOps, extra: &mut Vec<u8>) -> Result<Ticket, Error> {
        self.take(extra, Until::Durable, |writer, height| writer.apply(height, ops))
    }

    /// Takes a block of a stream in, which is that of puts of its pairs. `stream` is what came before it, and
    /// comes to be what comes before the next one.
    pub(crate) fn load(
        &mut self,
        ops: &BlockOps,
        stream: &mut Stream,
        extra: &mut Vec<u8>,
    ) -> Result<Ticket, Error> {
        let ticket = self.take(extra, Until::Accepted, |writer, height| {
            if stream.in_order {
                let Self { shared, shards, rule, .. } = writer;
                let Stream { key_hashes, last, sentries, .. } = &*stream;
                let block = LoadBlock { ops, key_hashes, last: last.as_ref(), sentries };
                let load = || shared.pool.install(|| state::load(shards, block, height, rule));
                let loaded = shared.steps.time(Step::Update, load)?;
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
        self.shared
            .flow
            .wait_for(Milestone::Published, |at| (at.published >= at.accepted).then_some(()))?;
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
        until: Until,
        apply: impl FnOnce(&mut Self, Height) -> Result<Vec<ShardDelta>, Error>,
    ) -> Result<Ticket, Error> {
        let height = self.height.next();
        self.check_begin(height)?;
        if extra.len() > MAX_EXTRA_BYTES {
            return Err(Error::ExtraTooLarge(extra.len()));
        }
        self.wait_for_room()?;
        // A panic below, which would be a bug, must not leave a half-updated writer in use.
        let flow = Arc::clone(&self.shared.flow);
        let _guard = PanicGuard { name: "submit", flow: &flow };
        let deltas = apply(self, height)?;
        // From here on the writer's view of the shards is that after the block.
        let block = match self.record(height, deltas, std::mem::take(extra)) {
            Ok(block) => block,
            Err(error) => return Err(self.stop_with(error)),
        };
        let token = self.shared.speculation.new_token();
        self.hand_on(block, token, until)
    }

    /// Waits while too much is in flight.
    fn wait_for_room(&mut self) -> Result<(), Error> {
        let Shared { flow, options, tiers, steps, .. } = &*self.shared;
        steps.time(Step::Wait, || {
            flow.wait_for_room(options.max_in_flight, options.max_in_flight_bytes as u64)?;
            tiers.as_ref().map_or(Ok(()), |tiers| tiers.wait())
        })?;
        self.drop_published_layers();
        Ok(())
    }

    /// Stops the store, whose writer is ahead of its log.
    fn stop_with(&self, error: Error) -> Error {
        let flow = &self.shared.flow;
        // The log stage may have failed a moment ago and be about to say so: then its
        // failure is the cause, not that the log takes no more.
        let cause = match error {
            Error::Log(LogError::Failed(first)) => Error::Log((*first).clone()),
            other => other,
        };
        flow.poison(cause.clone());
        flow.check().err().unwrap_or(cause)
    }

    /// Hands a block to the stages, which the log has; the state after it is the one that `token` names.
    fn hand_on(&mut self, block: BlockDelta, token: Token, until: Until) -> Result<Ticket, Error> {
        let height = block.height;
        let block = Arc::new(block);
        self.height = height;
        self.layers.push_back((height, Arc::clone(&block.layers)));
        let log_bytes = block.record.bytes_len();
        let Shared { flow, steps, .. } = &*self.shared;
        steps.emitter.accepted(height, &block.counts, log_bytes);
        let ticket = Ticket::new(flow, height, block.counts, log_bytes, &block.root);
        // Before readers can see it: what does not follow it is stale then.
        self.shared.speculation.move_to(token);
        match until {
            Until::Accepted => self.pipeline.accept(&block, log_bytes)?,
            Until::Durable => self.pipeline.accept_and_wait(&block, log_bytes)?,
        }
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
        let Self { shared, rule, shards, layers, links, .. } = self;
        let layers: Vec<&[Layer]> = layers.iter().map(|(_, layers)| &layers[..]).collect();
        let files = Files::of(&shared.log, &shared.twigs);
        making::apply(shared, shards, (&layers, Some(links), files), (height, ops), rule)
    }

    /// Gives the block's entries their place in the log; they are readable from then on.
    fn record(
        &mut self,
        height: Height,
        deltas: Vec<ShardDelta>,
        extra: Vec<u8>,
    ) -> Result<BlockDelta, Error> {
        let position = self.shared.log.next_position();
        let more = (extra, &mut self.links[..]);
        let made = making::make(&self.shared, &mut self.shards, position, height, deltas, more)?;
        self.shared.log.announce(Arc::clone(&made.record))?;
        let Made { record, parts, layers, counts } = made;
        Ok(BlockDelta {
            begins: self.begins_if_due(record.bytes_len()),
            height,
            record,
            parts,
            layers,
            counts,
            ahead: None,
            root: Arc::new(OnceLock::new()),
        })
    }

    /// Where twigs begin, if a checkpoint is to be written now that the log is longer by so many bytes.
    fn begins_if_due(&mut self, bytes: u64) -> Option<Vec<TwigBegins>> {
        self.log_bytes += bytes;
        let active = self.shards.iter().map(|shard| shard.state.active()).sum();
        let due = !self.loading
            && self.shared.checkpoints.is_due(self.log_bytes, active, self.shared.tiers.is_some());
        if due {
            self.log_bytes = 0;
        }
        due.then(|| self.begins())
    }

    /// Longest value that a put accepts.
    pub(crate) fn max_value_bytes(&self) -> usize {
        self.shared.options.max_value_bytes
    }
}
