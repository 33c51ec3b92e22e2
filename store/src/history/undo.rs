//! Undo records on their way to the undo file, and there.
//!
//! ```text
//!   hash stage     note, before readers see the block ──► pending ─┐
//!   commit stage   write and sync, before a manifest ───► file     ├─► who looks back from a state of height N
//!                  let_go after it, of what no proof       │       │   finds those of h+1 .. N
//!                  needs                                   ▼ ──────┘
//!   opening        what the manifest knows is there; the journal's blocks make theirs again (`replay`), and those of
//!                  the window that lack one (`missing_undo`)
//! ```
//!
//! A proof against the root of a height h is made from the tree of a newer state, the *anchor*, and what the blocks
//! after h up to that state replaced: see [`PastShard`](hedgerow_merkle::PastShard). The path that comes out is
//! folded and compared with the roots in the history row before it is given out: a record that is wrong and has the
//! right checksum leads to an error, never to a wrong proof.
//!
//! Records are derived from the log, and what is damaged or missing is no error: without it there are no proofs against
//! the roots before it. Failing to write is one, as for the twig file. What is held of them in memory is bounded: those
//! of the blocks that the manifest does not know yet, and the cache of the file.
//!
//! What is missing within the window is made again when the store opens (`opening/missing_undo.rs`). A section that is
//! damaged is met by who reads it: then a [mark](crate::read::given_up) is left for the next opening.

use crate::Error;
use crate::history::pins::Pins;
use crate::read::given_up::Mark;
use hedgerow_entryfile::{
    EncodedUndo, LogError, ShardUndoParts, StoreId, UndoFile, UndoHead, UndoSection,
};
use hedgerow_merkle::Replaced;
use hedgerow_types::even::sort_even;
use hedgerow_types::rows::NodeRows;
use hedgerow_types::{Digest, Height, LogPosition, SHARDS, SerialNumber, ShardId};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// What a block replaced, on its way to the file.
#[derive(Debug)]
pub(crate) struct BlockUndo {
    pub(crate) height: Height,
    /// Where its record lies in the log.
    pub(crate) place: (LogPosition, LogPosition),
    /// Keys that had a value before it.
    pub(crate) keys: u64,
    /// By shard: the next serial number before it, and what it deactivated of what was there, in any order.
    pub(crate) shards: [(SerialNumber, Vec<SerialNumber>); SHARDS],
    /// By shard and row: the nodes that it replaced.
    pub(crate) upper: [Arc<NodeRows>; SHARDS],
    encoded: OnceLock<Result<Arc<EncodedUndo>, LogError>>,
}

impl BlockUndo {
    /// What a block replaced: `shards` says the serial number of its first entry in each, and what it
    /// deactivated.
    pub(crate) fn new<'a>(
        height: Height,
        place: (LogPosition, LogPosition),
        keys: u64,
        shard: impl Fn(ShardId) -> (SerialNumber, &'a [SerialNumber]),
        upper: [Arc<NodeRows>; SHARDS],
    ) -> Arc<Self> {
        let shards = crate::shared::per_shard(|of| {
            let (first_sn, deactivated) = shard(of);
            // Nearly all of them: a block deactivates few of its own.
            let mut old = Vec::with_capacity(deactivated.len());
            old.extend(deactivated.iter().copied().filter(|sn| *sn < first_sn));
            (first_sn, old)
        });
        let encoded = OnceLock::new();
        Arc::new(Self { height, place, keys, shards, upper, encoded })
    }

    /// As a record. Made when it is first asked for, by whoever asks: readers see the block before.
    fn encoded(&self, id: StoreId) -> Result<Arc<EncodedUndo>, LogError> {
        let encode = || {
            let sorted = self.shards.each_ref().map(|(_, deactivated)| {
                let mut sorted = deactivated.clone();
                sort_even(&mut sorted, |sn| sn.0);
                sorted
            });
            let parts: [ShardUndoParts<'_>; SHARDS] = std::array::from_fn(|shard| ShardUndoParts {
                next_sn: self.shards[shard].0,
                deactivated: &sorted[shard],
                upper: &self.upper[shard],
            });
            EncodedUndo::new(id, self.height, self.place, self.keys, &parts).map(Arc::new)
        };
        self.encoded.get_or_init(encode).clone()
    }
}

/// What a block replaced in one shard, as the tree asks it.
#[derive(Debug)]
pub(crate) struct Section(Arc<UndoSection>);

impl Replaced for Section {
    fn upper(&self, row: usize, index: u64) -> Option<Digest> {
        self.0.upper(row, index)
    }

    fn deactivated(
        &self,
        from: SerialNumber,
        to: SerialNumber,
        each: &mut dyn FnMut(SerialNumber),
    ) {
        self.0.deactivated(from, to).for_each(each);
    }
}

/// See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct UndoStore {
    file: UndoFile,
    id: StoreId,
    /// How many blocks are to have one.
    window: u64,
    pending: RwLock<BTreeMap<Height, Arc<BlockUndo>>>,
    /// Left when a record turns out to be damaged; `None` if nothing may be written.
    mark: Option<Arc<Mark>>,
}

impl UndoStore {
    /// Those of a file, of which those of the last `window` blocks are to be kept.
    pub(crate) fn new(file: UndoFile, id: StoreId, window: u64, mark: Option<Arc<Mark>>) -> Self {
        Self { file, id, window, pending: RwLock::default(), mark }
    }

    /// Whether blocks get records.
    pub(crate) fn is_on(&self) -> bool {
        self.window > 0
    }

    /// The first block whose record is kept when that of `newest` is the last one.
    pub(crate) fn wanted_from(&self, newest: Height) -> Height {
        Height(newest.0.saturating_add(1).saturating_sub(self.window))
    }

    /// The first height that has a record; from there on all have one, up to the newest published.
    pub(crate) fn first(&self) -> Option<Height> {
        let pending = self.pending.read();
        let first_pending = pending.first_key_value().map(|(height, _)| *height);
        match (self.file.heights(), first_pending) {
            (Some((first, last)), Some(pending)) if pending <= last.next() => Some(first),
            (_, Some(pending)) => Some(pending),
            (Some((first, _)), None) => Some(first),
            (None, None) => None,
        }
    }

    /// The last height that has a record in the file.
    pub(crate) fn last(&self) -> Option<Height> {
        self.file.heights().map(|(_, last)| last)
    }

    /// The record of a block that readers are about to see.
    pub(crate) fn note(&self, undo: Arc<BlockUndo>) {
        self.pending.write().insert(undo.height, undo);
    }

    /// Appends records to the file, without syncing it.
    pub(crate) fn write(&self, undos: &[Arc<BlockUndo>]) -> Result<(), Error> {
        if undos.is_empty() {
            return Ok(());
        }
        let records: Result<Vec<_>, _> = undos.iter().map(|undo| undo.encoded(self.id)).collect();
        self.file.append(&records?)?;
        let mut pending = self.pending.write();
        undos.iter().for_each(|undo| _ = pending.remove(&undo.height));
        Ok(())
    }

    /// Writes the records of the blocks up to `height`, durably: all of them at once, so that a small block does not
    /// cost a write.
    pub(crate) fn write_up_to(&self, height: Height) -> Result<(), Error> {
        if !self.is_on() {
            return Ok(());
        }
        let undos: Vec<_> =
            self.pending.read().range(..=height).map(|(_, undo)| Arc::clone(undo)).collect();
        self.write(&undos)?;
        Ok(self.file.sync()?)
    }

    /// Lets go of what no proof needs when `newest` is the last block that is durable. What cannot be removed is tried
    /// again the next time.
    pub(crate) fn let_go(&self, newest: Height, pins: &Pins) {
        if self.is_on() {
            pins.let_undo_go(self.wanted_from(newest), |first| self.file.forget_before(first));
        }
        if let Err(error) = self.file.remove_files() {
            tracing::warn!(%error, "could not remove old undo records; trying again later");
        }
    }

    /// What was there counts no more.
    pub(crate) fn forget_all(&self) {
        self.file.forget_all();
    }

    /// Opening takes the blocks of the journal in, from the state of the height `base` to that of `end`; of what was
    /// there counts what the manifest knows, which is that of `settled`. Returns the first block whose record is to be
    /// written again.
    pub(crate) fn begin_replay(&self, base: Height, settled: Height, end: Height) -> Height {
        // Of an attempt before this one.
        self.forget_above(settled);
        let first = base.next().max(self.wanted_from(end));
        if self.first().is_some_and(|known| known <= first) {
            return settled.next();
        }
        // Nothing, or less than what passes by again.
        self.forget_all();
        first
    }

    /// Records above a height count no more.
    pub(crate) fn forget_above(&self, height: Height) {
        self.file.forget_above(height);
    }

    fn pending(&self, height: Height) -> Option<Arc<BlockUndo>> {
        self.pending.read().get(&height).map(Arc::clone)
    }

    /// The head of the record of a block, if there is a good one.
    ///
    /// # Errors
    /// A failed read.
    pub(crate) fn head(&self, height: Height) -> Result<Option<UndoHead>, Error> {
        if let Some(pending) = self.pending(height) {
            return Ok(Some(pending.encoded(self.id)?.head().clone()));
        }
        let head = self.file.head(height)?.map(|head| (*head).clone());
        if head.is_none() {
            self.note_damage();
        }
        Ok(head)
    }

    /// Leaves the mark if the file was found damaged anywhere: the next opening makes the records again.
    fn note_damage(&self) {
        if let Some(mark) = &self.mark
            && self.file.stats().damaged > 0
        {
            mark.leave("an undo record is damaged");
        }
    }

    /// Reads every record. Returns whether all are whole; if not, the next opening makes them again.
    ///
    /// # Errors
    /// A failed read.
    pub(crate) fn check(&self) -> Result<bool, Error> {
        let Some((first, last)) = self.file.heights() else { return Ok(true) };
        let before = self.file.stats().damaged;
        for height in (first.0..=last.0).map(Height) {
            for shard in ShardId::all() {
                self.file.section(height, shard)?;
            }
        }
        self.note_damage();
        Ok(self.file.stats().damaged == before)
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// A failed sync.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        Ok(self.file.sync()?)
    }

    /// What the blocks after `height` up to `anchor` replaced in a shard, oldest first; `None` if that is not known of
    /// all of them.
    ///
    /// # Errors
    /// A failed read.
    pub(crate) fn sections(
        &self,
        height: Height,
        anchor: Height,
        shard: ShardId,
    ) -> Result<Option<Vec<Section>>, Error> {
        let mut sections = Vec::new();
        for height in (height.next().0..=anchor.0).map(Height) {
            let section = match self.pending(height) {
                Some(pending) => pending.encoded(self.id)?.section(shard).map(Arc::new),
                None => self.file.section(height, shard)?,
            };
            let Some(section) = section else {
                self.note_damage();
                tracing::warn!(
                    %height,
                    "an undo record is damaged: no proofs against the roots of the heights before it"
                );
                return Ok(None);
            };
            sections.push(Section(section));
        }
        Ok(Some(sections))
    }

    /// Bytes of the files.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.stats().bytes
    }
}
