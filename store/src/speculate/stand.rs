//! The state after a block, as the next ones are made on it.
//!
//! ```text
//!   published state      links: the blocks since then, oldest first
//!    │                    │
//!    │ index, log, twigs  ├─ layers    where keys are        ► above the index
//!    │                    ├─ record    entries               ► above the log
//!    │                    └─ twigs     records of twigs      ► above the twig file
//!    │
//!    └─ forest, writers, open twigs: of each shard the published state's, or that of the last link that touched it
//! ```
//!
//! What a link holds stays right when its block is accepted: index, log and twig file then come to say the same. So a
//! link is dropped when its block is published, and not before.

use super::{Charge, Speculative, Token};
use crate::commit::making::{self, Made};
use crate::commit::pipeline::{HashedAhead, pass};
use crate::shared::Shared;
use crate::speculate::block::Inner;
use crate::steps::Step;
use crate::{Error, MAX_EXTRA_BYTES};
use hedgerow_entryfile::{Fill, LogView, Record, StoredEntry, TwigRecord};
use hedgerow_hasher_api::hash_message;
use hedgerow_index::IndexError;
use hedgerow_merkle::Forest;
use hedgerow_state::{
    BlockOps, Files, Layer, OpenTwig, ShardView, ShardWriter, TwigView, candidates, check_key,
    find_enclosing, find_entry, is_entry_of,
};
use hedgerow_types::{CompactionRule, Height, KeyHash, LogPosition};
use std::sync::Arc;

/// A speculative block, as those that follow it need it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) token: Token,
    pub(super) height: Height,
    pub(super) record: Arc<Record>,
    pub(super) layers: Arc<Vec<Layer>>,
    pub(super) twigs: Vec<Arc<TwigRecord>>,
    pub(super) charge: Charge,
}

/// See the [module documentation](self).
#[derive(Clone, Debug)]
pub(crate) struct Stand {
    pub(super) shared: Arc<Shared>,
    rule: CompactionRule,
    /// The state below the links: published.
    base: Token,
    pub(super) height: Height,
    pub(super) links: Vec<Arc<Link>>,
    /// Those of the links.
    records: Vec<Arc<Record>>,
    /// Those of the links, by shard and twig.
    twigs: Vec<Arc<TwigRecord>>,
    pub(super) forest: Forest,
    pub(super) writers: Vec<Arc<ShardWriter>>,
    open: Vec<OpenTwig>,
}

impl Stand {
    /// The published state, which is the last accepted one, with the writers after it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if they are not of one height.
    pub(crate) fn on_published(
        shared: &Arc<Shared>,
        height: Height,
        writers: &[Arc<ShardWriter>],
        rule: CompactionRule,
    ) -> Result<Self, Error> {
        let state = shared.published.current();
        let forest = shared.published.forest(&state).filter(|_| state.height == height);
        let Some(forest) = forest else {
            return Err(Error::Corrupt(format!("the tree is not that of height {height}")));
        };
        Ok(Self {
            shared: Arc::clone(shared),
            rule,
            base: shared.speculation.tip(),
            height,
            links: Vec::new(),
            records: Vec::new(),
            twigs: Vec::new(),
            forest,
            writers: writers.to_vec(),
            open: shared.twigs.open_twigs(),
        })
    }

    /// # Errors
    /// [`Error::Stale`] unless the last accepted state is this one, or one that it follows from.
    pub(super) fn check(&self) -> Result<(), Error> {
        let tip = self.shared.speculation.tip();
        if tip == self.base || self.links.iter().rev().any(|link| link.token == tip) {
            return Ok(());
        }
        Err(Error::Stale { height: self.height })
    }

    /// The same without the links whose blocks are published.
    pub(super) fn without_published(&self) -> Self {
        // A good one's links are accepted if anything is at their height.
        let published = self.shared.published.height();
        let gone = self.links.partition_point(|link| link.height <= published);
        let mut stand = self.clone();
        if let Some(last) = gone.checked_sub(1).and_then(|last| self.links.get(last)) {
            stand.base = last.token;
            stand.links.drain(..gone);
            stand.records.drain(..gone);
            let twigs = stand.links.iter().flat_map(|link| &link.twigs);
            stand.twigs = twigs.cloned().collect();
            stand.sort_twigs();
        }
        stand
    }

    fn sort_twigs(&mut self) {
        self.twigs.sort_unstable_by_key(|record| (record.shard, record.twig));
    }

    fn push(&mut self, link: Link) {
        self.records.push(Arc::clone(&link.record));
        self.twigs.extend(link.twigs.iter().cloned());
        self.sort_twigs();
        self.links.push(Arc::new(link));
    }

    /// The log, and the records of the links above it.
    pub(super) fn log(&self) -> LogView<'_> {
        LogView::above(&self.shared.log, &self.records)
    }

    /// The records of finished twigs.
    pub(super) fn twigs(&self) -> TwigView<'_> {
        TwigView::above(&self.shared.twigs, &self.twigs)
    }

    /// Keys that have a value.
    pub(super) fn active(&self) -> u64 {
        self.writers.iter().map(|writer| writer.state.active()).sum()
    }

    /// Asks index, log or tree, which may come to be those of another state meanwhile.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::Closed`]; those of `ask`.
    pub(super) fn ask<T>(&self, ask: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.check()?;
        // What it needs, and all later ones, is not pruned meanwhile.
        let _held = self.shared.published.current();
        let answer = ask();
        self.check()?;
        self.shared.check_not_abandoned()?;
        answer
    }

    /// Looks a key up, with the layers of its shard above the index.
    fn look<T>(
        &self,
        key_hash: KeyHash,
        look: impl FnOnce(ShardView<'_>, LogView<'_>) -> Result<T, hedgerow_state::Error>,
    ) -> Result<T, Error> {
        let shard = key_hash.shard();
        let layers: Vec<&Layer> =
            self.links.iter().filter_map(|link| link.layers.get(shard.index())).collect();
        let view =
            ShardView { index: self.shared.published.index(shard), layers: &layers, links: None };
        Ok(look(view, self.log())?)
    }

    /// The entry of a key, if it is present.
    pub(super) fn entry_of(&self, key: &[u8]) -> Result<Option<StoredEntry>, Error> {
        check_key(key)?;
        let key_hash = KeyHash(hash_message(key).0);
        self.ask(|| self.look(key_hash, |view, log| find_entry(key, key_hash, view, log)))
    }

    /// The entry of a key, or else the one before it.
    pub(super) fn locate(&self, key: &[u8], key_hash: KeyHash) -> Result<StoredEntry, Error> {
        self.look(key_hash, |view, log| match find_entry(key, key_hash, view, log)? {
            Some(entry) => Ok(entry),
            None => find_enclosing(key_hash, view, log),
        })
    }

    /// The values of keys.
    pub(super) fn values_of<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
    ) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let mut hashes = Vec::with_capacity(keys.len());
        for (number, key) in keys.iter().enumerate() {
            check_key(key.as_ref())?;
            hashes.push((KeyHash(hash_message(key.as_ref()).0), number));
        }
        // Shard by shard, and ascending.
        hashes.sort_unstable();
        self.ask(|| {
            let (mut positions, mut whose) = (Vec::<LogPosition>::new(), Vec::<usize>::new());
            for of_shard in hashes.chunk_by(|(a, _), (b, _)| a.shard() == b.shard()) {
                let Some(&(first, _)) = of_shard.first() else { continue };
                let hashes: Vec<KeyHash> = of_shard.iter().map(|(hash, _)| *hash).collect();
                let found = self.look(first, |view, _| {
                    candidates(&hashes, view).map_err(|error: IndexError| error.into())
                })?;
                for (number, at) in found {
                    let Some(&(_, key)) = of_shard.get(number as usize) else { continue };
                    positions.push(at);
                    whose.push(key);
                }
            }
            let mut values = vec![None; keys.len()];
            self.log().visit_many(&positions, Fill::Cache, |number, entry| {
                let Some(&key) = whose.get(number) else { return };
                if keys.get(key).is_some_and(|key| is_entry_of(entry, key.as_ref()))
                    && let Some(value) = values.get_mut(key)
                {
                    *value = Some(entry.value().to_vec());
                }
            })?;
            Ok(values)
        })
    }

    /// Makes and hashes the block of these operations, which follows this state.
    ///
    /// # Errors
    /// See [`SpeculativeBlock::finish`](super::SpeculativeBlock::finish).
    pub(super) fn then(&self, ops: &BlockOps, extra: &[u8]) -> Result<Speculative, Error> {
        let shared = &self.shared;
        let height = self.height.next();
        if height > Height::MAX {
            return Err(Error::WrongHeight { given: height, expected: height });
        }
        if extra.len() > MAX_EXTRA_BYTES {
            return Err(Error::ExtraTooLarge(extra.len()));
        }
        shared.flow.check()?;
        // Nothing is begun for which there is no room for certain.
        drop(Charge::new(shared, 1)?);
        self.ask(|| {
            let (made, writers) = self.make(height, ops, extra)?;
            let (mut forest, mut open) = (self.forest.clone(), self.open.clone());
            let hash = || {
                let tree = (&mut forest, &mut open[..]);
                pass(&*shared.hasher.tree, tree, &made.record, &made.parts, &mut |_| {})
            };
            let passed = shared.steps.time(Step::Hash, || shared.hash_pool.install(hash))?;
            forest.shrink();
            let ahead = HashedAhead { passed, forest };
            self.finished(made, ahead, writers, open)
        })
    }

    fn make(
        &self,
        height: Height,
        ops: &BlockOps,
        extra: &[u8],
    ) -> Result<(Made, Vec<Arc<ShardWriter>>), Error> {
        let Self { shared, rule, .. } = self;
        let layers: Vec<&[Layer]> = self.links.iter().map(|link| &link.layers[..]).collect();
        let files = Files { log: self.log(), twigs: self.twigs() };
        let mut writers = self.writers.clone();
        // No links: serial numbers of speculative entries are those of others too.
        let above = (&layers[..], None, files);
        let deltas = making::apply(shared, &mut writers, above, (height, ops), rule)?;
        let position = self.log().next_position();
        let more = (extra.to_vec(), &mut [][..]);
        let made = making::make(shared, &mut writers, position, height, deltas, more)?;
        Ok((made, writers))
    }

    /// A block that is made and hashed, and the state after it.
    fn finished(
        &self,
        made: Made,
        ahead: HashedAhead,
        writers: Vec<Arc<ShardWriter>>,
        open: Vec<OpenTwig>,
    ) -> Result<Speculative, Error> {
        let Made { record, parts, layers, counts } = made;
        let layers_bytes: usize = layers.iter().map(Layer::heap_bytes).sum();
        let twigs_bytes: usize = ahead.passed.twigs.iter().map(|twig| twig.memory()).sum();
        let link_bytes = record.memory() + (size_of::<Link>() + layers_bytes + twigs_bytes) as u64;
        let of_writer = |(after, before): (&Arc<ShardWriter>, &Arc<ShardWriter>)| {
            if Arc::ptr_eq(after, before) {
                return 0;
            }
            size_of::<ShardWriter>() + after.state.heap_bytes() + after.cursor.memory()
        };
        let inner_bytes = ahead.forest.heap_bytes_beside(&self.forest)
            + ahead.passed.dirty.heap_bytes()
            + writers.iter().zip(&self.writers).map(of_writer).sum::<usize>()
            + parts.iter().map(|part| size_of_val(part) + part.heap_bytes()).sum::<usize>()
            + open.iter().map(|open| size_of_val(open) + open.heap_bytes()).sum::<usize>()
            + self.records.len() * (size_of::<Arc<Link>>() + size_of::<Arc<Record>>())
            + self.twigs.len() * size_of::<Arc<TwigRecord>>()
            + 2 * size_of::<Forest>()
            + size_of::<Inner>()
            + record.extra().len();
        let mut charge = Charge::new(&self.shared, link_bytes + inner_bytes as u64)?;
        let link = Link {
            token: self.shared.speculation.new_token(),
            height: record.height(),
            record: Arc::clone(&record),
            layers: Arc::clone(&layers),
            twigs: ahead.passed.twigs.clone(),
            charge: charge.split_off(link_bytes),
        };
        let mut after = Self {
            height: link.height,
            forest: ahead.forest.clone(),
            writers,
            open,
            ..self.clone()
        };
        after.push(link);
        let ahead = Arc::new(ahead);
        Ok(Speculative::new(Inner { after, record, parts, layers, counts, ahead, charge }))
    }
}
