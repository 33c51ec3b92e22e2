//! The update stage: what a block's operations do to one shard (spec 6.3 and 7).
//!
//! ```text
//!  ShardPlan (operations in order, entries as of the block's start)
//!      │
//!      ▼          append(key, value, next, version, [deactivated])
//!  Builder ──────► run ▓entry▓entry▓entry…   spans   active bits   layer
//!      │                 ▲
//!      └── compaction ───┘  moves the oldest active entry: found through the bits, read through the
//!                           cursor, or from the run itself if this block wrote it
//!      ▼
//!  ShardDelta   ◄── `spread.rs`: when all shards are done, the oldest entries of any may be moved too
//! ```
//!
//! Shards are independent, so that all 16 run in parallel; inside one, everything is sequential and
//! depends on nothing but the shard's state and its operations.
//!
//! The shard's state is changed entry by entry while the run is made, through the steps of which
//! [`ShardState::take`] is made too: whoever takes [`ShardDelta::change`] into the old state has the new one.
//! An error takes everything back: the writer's view of the shard is then as it was before the block. When
//! one shard fails, [`ShardWriter::take_back`] does the same to those that succeeded.

use crate::keys::key_hash_of;
use crate::layer::{Draft, Here};
use crate::ops::Kind;
use crate::resolve::{Found, Known, Link, ShardPlan};
use crate::shard::{RunChange, ShardState, Undo};
use crate::twigs::{TwigStore, TwigView};
use crate::{Error, OpKind, Refused};
use hedgerow_entryfile::{
    EntryLog, LogError, LogView, RunCursor, StoredEntry, frame_len, push_frame,
};
use hedgerow_hasher_api::Span;
use hedgerow_index::Place;
use hedgerow_types::entry::{EntryFields, EntryRef};
use hedgerow_types::{CompactionRule, Height, KeyHash, LogPosition, SerialNumber, Version};
use std::sync::Arc;

/// Where old entries are read from.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a> {
    /// The log, and above it the records of the blocks that the one at hand follows and that are not in it.
    pub log: LogView<'a>,
    /// Where the entries of finished twigs are.
    pub twigs: TwigView<'a>,
}

impl<'a> Files<'a> {
    /// Those of a store, with nothing above them.
    pub fn of(log: &'a EntryLog, twigs: &'a TwigStore) -> Self {
        Self { log: log.into(), twigs: twigs.into() }
    }
}

/// What the writer knows of one shard: the state after the last accepted block.
#[derive(Clone, Debug)]
pub struct ShardWriter {
    /// Serial numbers, active bits, where twigs begin.
    pub state: ShardState,
    /// Stands at or before the oldest active entry.
    pub cursor: RunCursor,
}

/// How many operations of each kind a block came to, and what they wrote beside their own entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Keys created.
    pub created: u64,
    /// Keys given a new value.
    pub updated: u64,
    /// Keys removed.
    pub deleted: u64,
    /// Removals of keys that were absent.
    pub absent_deletes: u64,
    /// Bytes of log of entries that were written again because a neighbour came or went.
    pub neighbour_bytes: u64,
    /// Bytes of log of entries that compaction moved.
    pub moved_bytes: u64,
}

impl Counts {
    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        self.created += other.created;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.absent_deletes += other.absent_deletes;
        self.neighbour_bytes += other.neighbour_bytes;
        self.moved_bytes += other.moved_bytes;
    }
}

/// What a block did to one shard.
#[derive(Debug)]
pub struct ShardDelta {
    pub(crate) undo: Undo,
    /// Where the cursor stood.
    pub(crate) cursor: RunCursor,
    /// The new entries, framed, in serial-number order.
    pub run: Vec<u8>,
    /// The hashed bytes of each entry within `run`.
    pub spans: Vec<Span>,
    /// Serial number of the first new entry.
    pub first_sn: SerialNumber,
    /// Entries that became inactive, new ones included.
    pub deactivated: Vec<SerialNumber>,
    /// Where keys are now, to be [settled](Draft::settle).
    pub draft: Draft,
    /// No entry below this serial number is active after the block.
    pub oldest_active: SerialNumber,
    /// Active entries after the block.
    pub active: u64,
    /// Entries of all shards before the block.
    pub entries_before: u64,
    /// What the operations came to.
    pub counts: Counts,
}

impl ShardDelta {
    /// What a block does to a shard of which it names no key: nothing, so far.
    pub(crate) fn none(writer: &ShardWriter, entries_before: u64) -> Self {
        let state = &writer.state;
        Self {
            undo: state.begin(),
            cursor: writer.cursor.clone(),
            run: Vec::new(),
            spans: Vec::new(),
            first_sn: state.next_sn(),
            deactivated: Vec::new(),
            draft: Draft::default(),
            oldest_active: state.oldest_active(),
            active: state.active(),
            entries_before,
            counts: Counts::default(),
        }
    }

    /// The change that [`ShardState::take`] takes: what update did to the shard's state.
    pub fn change(&self) -> RunChange<'_> {
        RunChange {
            first_sn: self.first_sn,
            entries: self.spans.len() as u64,
            deactivated: &self.deactivated,
            oldest_active: self.oldest_active,
            entries_before: self.entries_before,
        }
    }
}

/// A shard's writer in somebody's hand: his own, or shared with others who want it as it is.
///
/// ```
/// # use hedgerow_entryfile::RunCursor;
/// # use hedgerow_types::{LogPosition, ShardId};
/// use hedgerow_state::{HeldWriter, ShardState, ShardWriter};
/// use std::sync::Arc;
/// # let shard = ShardId::all().next().expect("there are 16");
/// # let cursor = RunCursor::new(shard, LogPosition(64), LogPosition(416));
/// let mut mine = Arc::new(ShardWriter { state: ShardState::empty(shard), cursor });
/// let others = Arc::clone(&mine);
/// mine.change().state.complete();              // a copy, made now
/// assert!(!Arc::ptr_eq(&mine, &others));
/// ```
pub trait HeldWriter: Send {
    /// The writer as it is.
    fn look(&self) -> &ShardWriter;

    /// The writer, to be changed: nobody else sees that.
    fn change(&mut self) -> &mut ShardWriter;
}

impl HeldWriter for ShardWriter {
    fn look(&self) -> &ShardWriter {
        self
    }

    fn change(&mut self) -> &mut ShardWriter {
        self
    }
}

impl HeldWriter for Arc<ShardWriter> {
    fn look(&self) -> &ShardWriter {
        self
    }

    fn change(&mut self) -> &mut ShardWriter {
        Arc::make_mut(self)
    }
}

impl ShardWriter {
    /// Takes back what the last block did to the shard.
    pub fn take_back(&mut self, delta: ShardDelta) {
        self.state.undo(delta.undo, &delta.deactivated);
        self.cursor = delta.cursor;
    }
}

/// Applies the operations of `plan` to the shard; `entries_before` of all shards precede the block. The run is
/// not ended yet: entries may be moved until [`ShardState::end`].
///
/// # Errors
/// A failed read of an old entry, an entry that contradicts the state, or a run of more than 4 GiB.
/// The shard is then as it was before.
#[inline(never)] // for `.ci/instructions`
pub(crate) fn update_shard(
    writer: &mut ShardWriter,
    mut plan: ShardPlan,
    height: Height,
    rule: &CompactionRule,
    files: Files<'_>,
    entries_before: u64,
) -> Result<ShardDelta, Error> {
    let first_sn = writer.state.next_sn();
    let (undo, cursor) = (writer.state.begin(), writer.cursor.clone());
    let mut builder = Builder {
        writer,
        files,
        rule,
        first_sn,
        run: Vec::with_capacity(plan.run_bytes()),
        spans: Vec::with_capacity(2 * plan.ops.len()),
        deactivated: Vec::with_capacity(2 * plan.ops.len()),
        draft: std::mem::take(&mut plan.draft),
        counts: Counts::default(),
        scratch: Vec::new(),
    };
    let done = plan.ops.iter().try_for_each(|op| {
        let version = Version::new(height, op.change_set).ok_or(Refused::TooManyChangeSets)?;
        builder.apply(op.kind, plan.known(op), plan.key_of(op), plan.value_of(op), version)
    });
    if let Err(error) = done {
        builder.writer.state.undo(undo, &builder.deactivated);
        builder.writer.cursor = cursor;
        return Err(error);
    }
    Ok(ShardDelta {
        undo,
        cursor,
        run: builder.run,
        spans: builder.spans,
        first_sn,
        deactivated: builder.deactivated,
        draft: builder.draft,
        oldest_active: builder.writer.state.oldest_active(),
        active: builder.writer.state.active(),
        entries_before,
        counts: builder.counts,
    })
}

/// Appends the shard's oldest active entry again.
pub(crate) fn move_oldest(
    writer: &mut ShardWriter,
    delta: &mut ShardDelta,
    rule: &CompactionRule,
    files: Files<'_>,
) -> Result<(), Error> {
    let mut builder = Builder {
        writer,
        files,
        rule,
        first_sn: delta.first_sn,
        run: std::mem::take(&mut delta.run),
        spans: std::mem::take(&mut delta.spans),
        deactivated: std::mem::take(&mut delta.deactivated),
        draft: std::mem::take(&mut delta.draft),
        counts: delta.counts,
        scratch: Vec::new(),
    };
    let moved = builder.compact();
    let Builder { writer, run, spans, deactivated, draft, counts, .. } = builder;
    (delta.run, delta.spans, delta.deactivated) = (run, spans, deactivated);
    (delta.draft, delta.counts, delta.oldest_active) =
        (draft, counts, writer.state.oldest_active());
    moved
}

/// Where a key's current entry is.
#[derive(Clone, Copy)]
enum Current<'p> {
    /// Number of the entry in this block's run.
    Here(u32),
    /// As it was at the start of the block.
    Before(&'p Link),
}

/// As [`Current`], for an entry that will be copied.
#[derive(Clone, Copy)]
enum Whole<'p> {
    Here(u32),
    Before(&'p Found),
}

struct Builder<'a> {
    writer: &'a mut ShardWriter,
    files: Files<'a>,
    rule: &'a CompactionRule,
    first_sn: SerialNumber,
    run: Vec<u8>,
    spans: Vec<Span>,
    deactivated: Vec<SerialNumber>,
    draft: Draft,
    counts: Counts,
    /// Holds an entry of the run while its copy is appended to the run.
    scratch: Vec<u8>,
}

impl Builder<'_> {
    fn apply(
        &mut self,
        kind: Kind,
        state: Known<'_>,
        key: &[u8],
        value: &[u8],
        version: Version,
    ) -> Result<(), Error> {
        let current = match self.draft.now(state.slot) {
            Some(Here::In(entry)) => Some(Current::Here(entry)),
            Some(Here::Gone) => None,
            None => state.entry.map(Current::Before),
        };
        match (kind, current) {
            (Kind::Strict(OpKind::Read), _) => Ok(()),
            (Kind::Put | Kind::Strict(OpKind::Update), Some(current)) => {
                self.update(state, current, key, value, version)
            }
            (Kind::Put | Kind::Strict(OpKind::Create), None) => {
                self.create(state, key, value, version)
            }
            (Kind::Remove | Kind::Strict(OpKind::Delete), Some(current)) => {
                self.delete(state, current, version)
            }
            (Kind::Remove, None) => {
                self.counts.absent_deletes += 1;
                Ok(())
            }
            (Kind::Strict(op), _) => Err(Refused::InvalidOp { op, key: key.to_vec() }.into()),
        }
    }

    fn update(
        &mut self,
        state: Known<'_>,
        current: Current<'_>,
        key: &[u8],
        value: &[u8],
        version: Version,
    ) -> Result<(), Error> {
        let Link { next_key_hash, sn, .. } = self.link(current)?;
        let entry = self.append(key, value, next_key_hash, version, &[sn])?;
        self.draft.updated(state.slot, entry, next_key_hash);
        self.counts.updated += 1;
        if self.compactible() {
            self.compact()?;
        }
        Ok(())
    }

    fn create(
        &mut self,
        state: Known<'_>,
        key: &[u8],
        value: &[u8],
        version: Version,
    ) -> Result<(), Error> {
        let (before, before_slot, current) = self.predecessor(state)?;
        let (next, before_sn) = self.link_of(current)?;
        if !(before < state.key_hash && state.key_hash < next) {
            return Err(self.corrupt("the entry before a new key does not enclose it"));
        }
        let entry = self.append(key, value, next, version, &[])?;
        self.draft.created(state.slot, entry);
        let (again, _) = self.rewrite(current, state.key_hash, Some(version), &[before_sn])?;
        self.draft.moved(before_slot, again);
        self.counts.created += 1;
        // Tested once, after both entries, then moved twice (spec 6.3).
        if self.compactible() {
            self.compact()?;
            self.compact()?;
        }
        Ok(())
    }

    fn delete(
        &mut self,
        state: Known<'_>,
        current: Current<'_>,
        version: Version,
    ) -> Result<(), Error> {
        let (_, before_slot, before_current) = self.predecessor(state)?;
        let Link { next_key_hash: next, sn, .. } = self.link(current)?;
        let (link, before_sn) = self.link_of(before_current)?;
        if link != state.key_hash {
            return Err(self.corrupt("the entry before a key does not lead to it"));
        }
        let (again, _) = self.rewrite(before_current, next, Some(version), &[sn, before_sn])?;
        self.draft.moved(before_slot, again);
        self.draft.removed(state.slot);
        self.counts.deleted += 1;
        Ok(())
    }

    fn compactible(&self) -> bool {
        let state = &self.writer.state;
        self.rule.compactible(state.oldest_active(), state.next_sn(), state.active())
    }

    /// Appends the oldest active entry again (spec 7).
    fn compact(&mut self) -> Result<(), Error> {
        let Some(sn) = self.writer.state.first_active() else {
            return Err(self.corrupt("nothing is active"));
        };
        if sn >= self.first_sn {
            let entry = (sn.0 - self.first_sn.0) as u32;
            let key_hash = key_hash_of(self.entry_here(entry)?);
            let next = self.entry_here(entry)?.next_key_hash();
            let (again, old) = self.rewrite(Whole::Here(entry), next, None, &[sn])?;
            self.draft.compacted(key_hash, old, again);
        } else {
            let (at, entry) = self.find(sn)?;
            let key_hash = key_hash_of(entry.get());
            let next = entry.get().next_key_hash();
            let found = Found { key_hash, at, entry };
            let (again, old) = self.rewrite(Whole::Before(&found), next, None, &[sn])?;
            self.draft.compacted(key_hash, old, again);
        }
        self.writer.state.pass(sn.plus(1));
        Ok(())
    }

    /// The entry `sn`, the oldest active one, which an earlier block wrote.
    fn find(&mut self, sn: SerialNumber) -> Result<(LogPosition, StoredEntry), Error> {
        let Files { log, twigs } = self.files;
        let mut found = self.writer.cursor.next_where(log, |found| found >= sn);
        if let Err(LogError::Pruned { .. }) = found {
            // The cursor stands behind the last entry that was moved, and all of that run may be
            // pruned while `sn`, which comes next, is not. Then its twig is a finished one:
            // pruning keeps everything from the record of such a twig's first entry on.
            let shard = self.writer.state.shard();
            let Some(twig) = twigs.get(shard, sn.twig())? else {
                return Err(self.corrupt("the oldest active entry was pruned"));
            };
            self.writer.cursor = RunCursor::new(shard, twig.record, twig.groups[0]);
            found = self.writer.cursor.next_where(log, |found| found >= sn);
        }
        match found? {
            Some((at, entry)) if entry.get().serial_number() == sn => Ok((at, entry)),
            _ => Err(self.corrupt("the oldest active entry is not in the log")),
        }
    }

    /// The key hash before `state`'s key now, its slot, and its entry.
    fn predecessor<'p>(&self, state: Known<'p>) -> Result<(KeyHash, usize, Whole<'p>), Error> {
        let found = self.draft.before(state.slot);
        let Some((slot, before)) = found.and_then(|slot| Some((slot, *self.draft.key(slot)?)))
        else {
            return Err(self.corrupt("no entry before a key"));
        };
        match (self.draft.now(slot), state.before) {
            (Some(Here::In(entry)), _) => Ok((before, slot, Whole::Here(entry))),
            (None, Some(at_start)) if before == at_start.key_hash => {
                Ok((before, slot, Whole::Before(at_start)))
            }
            _ => Err(self.corrupt("the entry before a key cannot be found")),
        }
    }

    fn link(&self, current: Current<'_>) -> Result<Link, Error> {
        match current {
            Current::Before(link) => Ok(*link),
            Current::Here(entry) => {
                let entry = self.entry_here(entry)?;
                let (next_key_hash, sn) = (entry.next_key_hash(), entry.serial_number());
                Ok(Link { at: LogPosition(0), next_key_hash, sn })
            }
        }
    }

    /// Next key hash and serial number of an entry.
    fn link_of(&self, current: Whole<'_>) -> Result<(KeyHash, SerialNumber), Error> {
        let entry = match current {
            Whole::Here(entry) => self.entry_here(entry)?,
            Whole::Before(found) => found.entry.get(),
        };
        Ok((entry.next_key_hash(), entry.serial_number()))
    }

    fn entry_here(&self, entry: u32) -> Result<EntryRef<'_>, Error> {
        let bytes = self.spans.get(entry as usize).and_then(|span| span.of(&self.run));
        let parsed = bytes.and_then(|bytes| EntryRef::parse(bytes).ok());
        parsed.ok_or_else(|| self.corrupt("an entry of this block cannot be read back"))
    }

    /// Appends a copy of `current` with another next key hash; `version` None keeps the version. Returns its number, and
    /// where `current` was if it is not of this block.
    fn rewrite(
        &mut self,
        current: Whole<'_>,
        next: KeyHash,
        version: Option<Version>,
        deactivated: &[SerialNumber],
    ) -> Result<(u32, Option<Place>), Error> {
        let kept = version.is_none();
        let (old, entry) = match current {
            Whole::Before(found) => {
                let old = found.entry.get();
                let version = version.unwrap_or(old.version());
                let entry = self.append(old.key(), old.value(), next, version, deactivated)?;
                (Some(Place { at: found.at, sn: old.serial_number() }), entry)
            }
            Whole::Here(entry) => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                scratch.extend_from_slice(self.entry_here(entry)?.hashed_bytes());
                let old = EntryRef::parse(&scratch)
                    .map_err(|_| self.corrupt("an entry of this block cannot be read back"))?;
                let version = version.unwrap_or(old.version());
                let entry = self.append(old.key(), old.value(), next, version, deactivated)?;
                self.scratch = scratch;
                (None, entry)
            }
        };
        let len = self.spans.get(entry as usize).map_or(0, |span| frame_len(span.len as usize));
        let bytes = match kept {
            true => &mut self.counts.moved_bytes,
            false => &mut self.counts.neighbour_bytes,
        };
        *bytes += len as u64;
        Ok((entry, old))
    }

    /// Appends an entry, sets its active bit and clears those that it deactivates. Returns its
    /// number in the run.
    fn append(
        &mut self,
        key: &[u8],
        value: &[u8],
        next_key_hash: KeyHash,
        version: Version,
        deactivated: &[SerialNumber],
    ) -> Result<u32, Error> {
        let serial_number = self.writer.state.next_sn();
        let fields = EntryFields { key, value, next_key_hash, version, serial_number, deactivated };
        let span = push_frame(&mut self.run, &fields).map_err(|_| Refused::BlockTooLarge)?;
        for &sn in deactivated {
            if !self.writer.state.retire(sn) {
                return Err(self.corrupt("an entry that is replaced was not active"));
            }
            self.deactivated.push(sn);
        }
        if !self.writer.state.push() {
            return Err(self.corrupt("a new entry lies before the oldest active one"));
        }
        let number = self.spans.len() as u32;
        self.spans.push(Span { offset: span.offset, len: span.len });
        Ok(number)
    }

    fn corrupt(&self, what: &str) -> Error {
        Error::Corrupt(format!("shard {}: {what}", self.writer.state.shard()))
    }
}
