//! The state at an earlier height, from the newest one and the records of the blocks since.
//!
//! ```text
//!   log        ... │ record h │ h+1 │ ... │ H │         one scan of what came after h
//!                                │ what each deactivated: was active at h ─┐
//!                                │ which of its entries are active at H ──┐ │
//!                                ▼                                        │ │ sorted, by groups of 16
//!   bits of H   cut at the first serial number after h, deactivated       │ ▼
//!               ones set again ─► bits of h                               │ keys and places of h
//!   twig files  youngest twig of h, its leaves; left roots ┐              │ │
//!                                                          ▼              ▼ ▼
//!                                             Forest::restore       edits: where each key was at h,
//!                                                  │                and where it is at H
//!                                                  ▼
//!                                     roots: must be those of the history row of h
//! ```
//!
//! Nothing is changed here, neither in memory nor on the disk: what comes out is a value. What it takes is in
//! proportion to what the blocks changed, and a second tree.

use crate::Error;
use crate::hasher::Hashers;
use crate::opening::rebuild::each_entry;
use crate::shared::per_shard;
use hedgerow_entryfile::{EntryLog, RunCursor, ScannedRecord, TwigRecord};
use hedgerow_hasher_api::{BatchHasher, MessageGroup, Span, hash_message};
use hedgerow_hashers::CpuHasher;
use hedgerow_index::{Edit, Place};
use hedgerow_merkle::{Dirty, Forest, ShardRestore};
use hedgerow_metadb::{HistoryRow, Manifest, ShardManifest};
use hedgerow_state::{GROUP, OpenTwig, ShardState, ShardWriter, TwigBegins, TwigStore};
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, Height, KeyHash, LogPosition, SHARDS, SerialNumber, ShardId, TwigId};
use rayon::prelude::*;
use std::sync::Arc;

/// Bytes of keys that are hashed together.
const KEYS: usize = 1 << 20;

/// The newest state: all that was accepted is settled, and nobody changes it.
pub(crate) struct Newest<'a> {
    pub(crate) log: &'a EntryLog,
    pub(crate) twigs: &'a TwigStore,
    pub(crate) hasher: &'a Hashers,
    pub(crate) manifest: &'a Manifest,
    pub(crate) writers: &'a [&'a ShardWriter],
    pub(crate) forest: &'a Forest,
    pub(crate) open: &'a [OpenTwig],
}

/// The state at an earlier height, and what leads to it.
pub(crate) struct Back {
    pub(crate) height: Height,
    /// Where the record of that height ends.
    pub(crate) log_end: LogPosition,
    pub(crate) forest: Forest,
    pub(crate) open: Vec<OpenTwig>,
    pub(crate) writers: Vec<ShardWriter>,
    /// By shard, ascending by key: where a key was at that height, and where it is at the newest.
    pub(crate) edits: Vec<Vec<Edit>>,
    /// What differs in the tree.
    pub(crate) dirty: Dirty,
}

/// The state at `height`, which `row` is of.
///
/// # Errors
/// [`Error::RootMismatch`] if it does not come to the row's roots; [`Error::Corrupt`] if something that is needed is
/// missing or contradicts itself; a failed read.
pub(crate) fn state_at(
    newest: &Newest<'_>,
    height: Height,
    row: &HistoryRow,
) -> Result<Back, Error> {
    go_back(newest, height, row, true)
}

/// The same without its keys: [`Back::edits`] are empty, and no entry is read but for the leaves of the youngest twigs.
/// What it takes is a second tree, and 8 bytes for each entry that the blocks since deactivated or made.
///
/// # Errors
/// As [`state_at`].
pub(crate) fn tree_at(
    newest: &Newest<'_>,
    height: Height,
    row: &HistoryRow,
) -> Result<Back, Error> {
    go_back(newest, height, row, false)
}

fn go_back(
    newest: &Newest<'_>,
    height: Height,
    row: &HistoryRow,
    keys: bool,
) -> Result<Back, Error> {
    let Newest { log, hasher, manifest, writers, .. } = newest;
    let log_end = end_of(newest, height)?;
    let mut shards: Vec<ShardBack<'_>> = ShardId::all()
        .zip(*writers)
        .map(|(shard, writer)| ShardBack::new(newest, shard, writer, keys))
        .collect();
    let mut last = height;
    for record in log.scan(log_end, manifest.log_end) {
        let record = record?;
        if record.height() != last.next() {
            let (at, found) = (record.position(), record.height());
            return Err(Error::Corrupt(format!("the record at {at} is out of order: {found}")));
        }
        last = record.height();
        shards.par_iter_mut().try_for_each(|shard| shard.note(&record))?;
    }
    if last != manifest.height {
        let reason = format!("the log ends with height {last}, not {}", manifest.height);
        return Err(Error::Corrupt(reason));
    }
    let parts = shards.into_par_iter().map(|shard| {
        let oldest_active = row.oldest_active[shard.shard.index()];
        shard.end(oldest_active)
    });
    let parts: Vec<ShardPart> = parts.collect::<Result<_, Error>>()?;
    let (mut restored, mut open, mut back, mut edits) = (vec![], vec![], vec![], vec![]);
    let mut changed: [Vec<SerialNumber>; SHARDS] = Default::default();
    for (part, changed) in parts.into_iter().zip(&mut changed) {
        restored.push(part.restore);
        open.push(part.open);
        back.push(part.writer);
        edits.push(part.edits);
        *changed = part.changed;
    }
    let restored: [ShardRestore; SHARDS] =
        restored.try_into().map_err(|_| Error::Corrupt("a store has 16 shards".into()))?;
    let forest = Forest::restore(&*hasher.tree, restored)?;
    let roots = forest.roots();
    if roots.state != row.root || roots.shards != row.shard_roots {
        let (computed, recorded) = (roots.state, row.root);
        return Err(Error::RootMismatch { height, computed, recorded });
    }
    let dirty = Dirty::of_entries(changed);
    Ok(Back { height, log_end, forest, open, writers: back, edits, dirty })
}

/// Where the record of `height` ends: from the last record that a twig begins in and that is not above it, header by
/// header.
fn end_of(newest: &Newest<'_>, height: Height) -> Result<LogPosition, Error> {
    let Newest { log, twigs, manifest, writers, open, .. } = newest;
    let mut best: Option<(Height, LogPosition)> = None;
    let mut note = |at: LogPosition| {
        let head = log.record_head(at)?;
        if head.height <= height && best.is_none_or(|(best, _)| best < head.height) {
            best = Some((head.height, at));
        }
        Ok::<bool, Error>(head.height <= height)
    };
    for (shard, (writer, open)) in ShardId::all().zip(writers.iter().zip(*open)) {
        let youngest = writer.state.next_sn().twig();
        if let (record, [_, ..], _) = open.parts()
            && note(record)?
        {
            continue;
        }
        let kept = &manifest.shards[shard.index()];
        for twig in (kept.first_kept.0..youngest.0).rev() {
            let Some(record) = twigs.get(shard, TwigId(twig))? else { break };
            if record.record < log.start() || note(record.record)? {
                break;
            }
        }
    }
    let mut at = match best {
        Some((_, at)) => Some(at),
        None => log.next_record(manifest.log_start),
    };
    while let Some(record) = at {
        let head = log.record_head(record)?;
        if head.height == height {
            return Ok(head.end);
        }
        at = log.next_record(head.end).filter(|_| head.height < height);
    }
    Err(Error::Corrupt(format!("the record of height {height} is not in the log")))
}

/// What one shard comes to.
struct ShardPart {
    restore: ShardRestore,
    open: OpenTwig,
    writer: ShardWriter,
    edits: Vec<Edit>,
    /// Entries that are not what they were.
    changed: Vec<SerialNumber>,
}

/// Keys on their way to their hashes.
struct Keys<'a> {
    cpu: &'a CpuHasher,
    arena: Vec<u8>,
    spans: Vec<Span>,
    waiting: Vec<Place>,
    hashed: Vec<(KeyHash, Place)>,
}

impl<'a> Keys<'a> {
    fn new(cpu: &'a CpuHasher) -> Self {
        let (arena, spans, waiting, hashed) = Default::default();
        Self { cpu, arena, spans, waiting, hashed }
    }

    fn push(&mut self, entry: EntryRef<'_>, at: LogPosition) -> Result<(), Error> {
        let place = Place { at, sn: entry.serial_number() };
        if let Some(key_hash) = entry.sentry_key_hash() {
            self.hashed.push((key_hash, place));
            return Ok(());
        }
        let key = entry.key();
        self.spans.push(Span { offset: self.arena.len() as u32, len: key.len() as u32 });
        self.arena.extend_from_slice(key);
        self.waiting.push(place);
        if self.arena.len() >= KEYS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let mut out = vec![Digest::ZERO; self.spans.len()];
        let group = MessageGroup { arena: &self.arena, spans: &self.spans, out: &mut out };
        self.cpu.messages(&mut [group])?;
        let hashes = out.into_iter().map(|digest| KeyHash(digest.0));
        self.hashed.extend(hashes.zip(self.waiting.drain(..)));
        self.arena.clear();
        self.spans.clear();
        Ok(())
    }

    /// All of them, ascending.
    fn sorted(mut self) -> Result<Vec<(KeyHash, Place)>, Error> {
        self.flush()?;
        self.hashed.sort_unstable_by(|(a, _), (b, _)| {
            a.prefix_u64().cmp(&b.prefix_u64()).then_with(|| a.cmp(b))
        });
        Ok(self.hashed)
    }
}

struct ShardBack<'a> {
    log: &'a EntryLog,
    twigs: &'a TwigStore,
    forest: &'a Forest,
    shard: ShardId,
    kept: &'a ShardManifest,
    now: &'a ShardState,
    open: &'a OpenTwig,
    /// The first entry that came since.
    first: Option<SerialNumber>,
    /// Entries of that height that were deactivated since.
    gone: Vec<SerialNumber>,
    /// What came since and is active.
    came: Keys<'a>,
    /// Whether the keys are wanted.
    keys: bool,
}

impl<'a> ShardBack<'a> {
    fn new(newest: &Newest<'a>, shard: ShardId, writer: &'a ShardWriter, keys: bool) -> Self {
        Self {
            log: newest.log,
            twigs: newest.twigs,
            forest: newest.forest,
            shard,
            kept: &newest.manifest.shards[shard.index()],
            now: &writer.state,
            open: &newest.open[shard.index()],
            first: None,
            gone: Vec::new(),
            came: Keys::new(&newest.hasher.cpu),
            keys,
        }
    }

    fn corrupt(&self, what: impl std::fmt::Display) -> Error {
        Error::Corrupt(format!("shard {}: {what}", self.shard))
    }

    fn note(&mut self, record: &ScannedRecord) -> Result<(), Error> {
        for (at, entry) in record.entries(self.shard) {
            let first = *self.first.get_or_insert(entry.serial_number());
            self.gone.extend(entry.deactivated().filter(|sn| *sn < first));
            if self.keys && self.now.bits().is_active(entry.serial_number()) {
                self.came.push(entry, at)?;
            }
        }
        Ok(())
    }

    /// The record of a finished twig.
    fn record(&self, twig: TwigId) -> Result<Arc<TwigRecord>, Error> {
        let record = self.twigs.get(self.shard, twig)?;
        record.ok_or_else(|| {
            self.corrupt(format_args!(
                "the record of twig {twig} is missing; opening makes it anew"
            ))
        })
    }

    fn end(mut self, oldest_active: SerialNumber) -> Result<ShardPart, Error> {
        let next_sn = self.first.unwrap_or(self.now.next_sn());
        if self.kept.first_kept > oldest_active.twig() {
            return Err(self.corrupt("what that height needs was pruned"));
        }
        self.gone.sort_unstable();
        let open = self.open_at(next_sn)?;
        let begins = self.begins(next_sn, oldest_active)?;
        let gone = self.gone.iter().copied();
        let state = self.now.at(next_sn, oldest_active, gone, begins);
        let state = state.map_err(|misfit| misfit.of(self.shard))?;
        let restore = self.restore(&state)?;
        let cursor = self.cursor(&open, next_sn, oldest_active)?;
        let mut changed = std::mem::take(&mut self.gone);
        let newest = self.now.next_sn();
        let edits = if self.keys { self.edits(&changed)? } else { vec![] };
        changed.extend((next_sn.0..newest.0).map(SerialNumber));
        Ok(ShardPart { restore, open, writer: ShardWriter { state, cursor }, edits, changed })
    }

    fn open_at(&self, next_sn: SerialNumber) -> Result<OpenTwig, Error> {
        if next_sn.twig() == self.now.next_sn().twig() {
            return Ok(self.open.at(next_sn.leaf()));
        }
        Ok(OpenTwig::of_record(&*self.record(next_sn.twig())?, next_sn.leaf()))
    }

    /// Where the twigs begin from that of the oldest active entry on.
    fn begins(
        &self,
        next_sn: SerialNumber,
        oldest_active: SerialNumber,
    ) -> Result<TwigBegins, Error> {
        let twigs =
            (oldest_active.twig().0..).map(TwigId).take_while(|twig| twig.first() < next_sn);
        let mut known = self.now.begins().iter().peekable();
        let mut begins = Vec::new();
        for twig in twigs {
            while known.next_if(|(other, _)| *other < twig).is_some() {}
            let before = match known.next_if(|(other, _)| *other == twig) {
                Some((_, before)) => before,
                None if twig == self.now.next_sn().twig() => {
                    self.log.record_head(self.open.parts().0)?.entries_before
                }
                None => self.log.record_head(self.record(twig)?.record)?.entries_before,
            };
            begins.push((twig, before));
        }
        Ok(begins.into_iter().collect())
    }

    fn restore(&self, state: &ShardState) -> Result<ShardRestore, Error> {
        let (first_kept, oldest) = (self.kept.first_kept, state.oldest_active().twig());
        let youngest = state.next_sn().twig();
        // The tree has the left roots of what is active now; what was active before has records.
        let here = self.now.oldest_active().twig();
        let mut left_roots = Vec::new();
        for twig in first_kept.0..here.0.min(youngest.0) {
            left_roots.push(self.record(TwigId(twig))?.nodes[0]);
        }
        let from = first_kept.0.max(here.0);
        let skipped = (from - here.0) as usize;
        let wanted = youngest.0.saturating_sub(from) as usize;
        left_roots.extend(self.forest.left_roots(self.shard).skip(skipped).take(wanted));
        let mut active_pages = Vec::new();
        for twig in oldest.0..=youngest.0 {
            let bytes = state.bits().twig_bytes(TwigId(twig));
            active_pages.extend(bytes.as_chunks::<32>().0.iter().map(|page| Digest(*page)));
        }
        Ok(ShardRestore {
            first_kept,
            edges: self.kept.edges.clone(),
            left_roots,
            first_active: oldest,
            active_pages,
            youngest_leaves: self.leaves(state.next_sn())?,
            oldest_active: state.oldest_active(),
        })
    }

    /// The leaves of the youngest twig of that height.
    fn leaves(&self, next_sn: SerialNumber) -> Result<Vec<Digest>, Error> {
        let count = next_sn.leaf();
        if next_sn.twig() == self.now.next_sn().twig() {
            let leaves = self.forest.youngest_leaves(self.shard).get(..count);
            return Ok(leaves.ok_or_else(|| self.corrupt("leaves are missing"))?.to_vec());
        }
        let mut leaves = Vec::with_capacity(count.next_multiple_of(GROUP));
        if count > 0 {
            let record = self.record(next_sn.twig())?;
            for group in (0..count).step_by(GROUP) {
                let frames = self.log.read_group(&record, group)?;
                leaves.extend(frames.iter().map(|(_, frame)| frame.get().leaf(hash_message)));
            }
        }
        leaves.truncate(count);
        Ok(leaves)
    }

    /// Where compaction goes on: before the first entry of the twig of the oldest active one.
    fn cursor(
        &self,
        open: &OpenTwig,
        next_sn: SerialNumber,
        oldest_active: SerialNumber,
    ) -> Result<RunCursor, Error> {
        if oldest_active.twig() == next_sn.twig() {
            let (record, &[first, ..], _) = open.parts() else {
                return Err(self.corrupt("its oldest active entry is not there"));
            };
            return Ok(RunCursor::new(self.shard, record, first));
        }
        let record = self.record(oldest_active.twig())?;
        Ok(RunCursor::new(self.shard, record.record, record.groups[0]))
    }

    /// Where keys were, and where they are.
    fn edits(self, gone: &[SerialNumber]) -> Result<Vec<Edit>, Error> {
        let mut were = Keys::new(self.came.cpu);
        let youngest = self.now.next_sn().twig();
        each_entry(self.log, self.twigs, self.shard, self.open, youngest, gone, |at, entry| {
            were.push(entry, at)
        })?;
        let shard = self.shard;
        let (were, came) = (were.sorted()?, self.came.sorted()?);
        if were.len() != gone.len() {
            return Err(Error::Corrupt(format!(
                "shard {shard}: an entry of that height was pruned"
            )));
        }
        let mut edits = Vec::with_capacity(were.len().max(came.len()));
        let (mut were, mut came) = (were.into_iter().peekable(), came.into_iter().peekable());
        loop {
            let key = match (were.peek(), came.peek()) {
                (Some((old, _)), Some((new, _))) => *old.min(new),
                (Some((key, _)), None) | (None, Some((key, _))) => *key,
                (None, None) => return Ok(edits),
            };
            let old = were.next_if(|(other, _)| *other == key).map(|(_, place)| place);
            let new = came.next_if(|(other, _)| *other == key).map(|(_, place)| place);
            edits.push(Edit { key, old, new });
        }
    }
}

impl Back {
    /// By shard the serial number that the next entry gets.
    pub(crate) fn next_sn(&self) -> [SerialNumber; SHARDS] {
        per_shard(|shard| self.forest.next_sn(shard))
    }

    /// Active entries, sentries included.
    pub(crate) fn active(&self) -> u64 {
        self.writers.iter().map(|writer| writer.state.active()).sum()
    }
}
