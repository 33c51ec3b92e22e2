//! One shard's part of a rebuild: its entries, record after record.

use super::Source;
use super::resume::{Base, unusable};
use crate::Error;
use hedgerow_entryfile::{RunCursor, ScannedRecord, TwigRecord};
use hedgerow_hasher_api::{BatchHasher, Span};
use hedgerow_index::{ShardIndex, Stem};
use hedgerow_merkle::{FinishedTwig, ShardRestore};
use hedgerow_metadb::ShardManifest;
use hedgerow_state::checkpoint::Checkpoint;
use hedgerow_state::{ActiveBits, OpenTwig, TwigBegins, run_position};
use hedgerow_types::entry::HEADER_LEN;
use hedgerow_types::{Digest, KeyHash, LogPosition, SerialNumber, ShardId, TWIG_LEAVES, TwigId};
use std::sync::Arc;

/// What one run asks to be hashed, and what came of it.
#[derive(Default)]
pub(super) struct RunWork {
    first_sn: SerialNumber,
    spans: Vec<Span>,
    pub(super) leaf_spans: Vec<Span>,
    pub(super) leaves: Vec<Digest>,
    pub(super) key_spans: Vec<Span>,
    pub(super) keys: Vec<Digest>,
    /// Which entries of `seen` the keys belong to.
    key_of: Vec<usize>,
}

/// What the index has to know of an entry, if it is still active at the end.
#[derive(Clone, Copy)]
struct Seen {
    sn: SerialNumber,
    /// The first 8 bytes of its key hash.
    prefix: u64,
    at: LogPosition,
}

/// Dead entries that may be among those [`seen`](ShardScan::seen), beside a quarter of the active ones.
const DEAD_SEEN: u64 = 4096;

pub(crate) struct ShardScan {
    pub(crate) shard: ShardId,
    pub(crate) part: ShardManifest,
    /// Left roots of the twigs from the first kept one up to the youngest, as far as known.
    left_roots: Vec<Option<Digest>>,
    /// From the twig `bits_from` on.
    pub(crate) bits: ActiveBits,
    bits_from: TwigId,
    /// The entries from the oldest active twig on, in order, but for those that are known to be dead.
    seen: Vec<Seen>,
    /// How many there were, the dead ones too.
    noted: u64,
    /// How many entries are active so far.
    active: u64,
    /// Leaves of the twig that is being read, if it needs them.
    leaves: Vec<Digest>,
    pub(crate) open: OpenTwig,
    /// From the oldest active twig on.
    pub(super) begun: TwigBegins,
    /// Serial number of the next entry, once one was read.
    next: Option<SerialNumber>,
    pub(crate) twigs: Vec<Arc<TwigRecord>>,
    /// The keys of the checkpoint that this began with.
    base: Option<Base>,
}

/// What a run of the journal brings to its shard.
#[derive(Default)]
pub(crate) struct JournalRun {
    pub(crate) first_sn: SerialNumber,
    pub(crate) spans: Vec<Span>,
    pub(crate) deactivated: Vec<SerialNumber>,
    pub(crate) key_spans: Vec<Span>,
    pub(crate) keys: Vec<Digest>,
    /// Which entries of `seen` the keys belong to.
    key_of: Vec<usize>,
    /// Which entries of `seen` replaced one that the checkpoint has, of the same key.
    own: Vec<usize>,
}

impl ShardScan {
    pub(super) fn new(
        source: &Source<'_>,
        shard: ShardId,
        part: &ShardManifest,
    ) -> Result<Self, Error> {
        let youngest = part.next_sn.twig();
        let oldest = part.oldest_active.twig();
        // `Manifest::validate` has bounded their number by the length of the log.
        let mut left_roots = Vec::new();
        for twig in part.first_kept.0..youngest.0 {
            let record = match source.twigs {
                Some(twigs) => twigs.get(shard, TwigId(twig))?,
                None => None,
            };
            left_roots.push(record.map(|record| record.nodes[0]));
        }
        let bits_from = if source.twigs.is_some() { oldest } else { part.first_kept };
        Ok(Self {
            shard,
            part: part.clone(),
            left_roots,
            bits: ActiveBits::starting_at(bits_from),
            bits_from,
            seen: Vec::new(),
            noted: 0,
            active: 0,
            leaves: Vec::new(),
            open: OpenTwig::default(),
            begun: TwigBegins::default(),
            next: None,
            twigs: Vec::new(),
            base: None,
        })
    }

    /// A shard as a checkpoint has it.
    pub(super) fn resume(
        source: &Source<'_>,
        checkpoint: &Checkpoint,
        shard: ShardId,
    ) -> Result<Self, Error> {
        let (said, now) = (checkpoint.head().shard(shard), &source.manifest.shards[shard.index()]);
        let state = checkpoint.shard(shard).map_err(unusable)?;
        let (oldest, youngest) = (said.oldest_active.twig(), said.next_sn.twig());
        // What was pruned since, while it was active then, comes from the checkpoint alone.
        let (first_kept, edges) = if now.first_kept <= oldest {
            (now.first_kept, now.edges.clone())
        } else {
            (oldest, state.edges)
        };
        let part = ShardManifest {
            next_sn: said.next_sn,
            oldest_active: said.oldest_active,
            active: said.active,
            root: said.root,
            first_kept,
            edges,
        };
        let mut scan = Self::new(source, shard, &part)?;
        let checked = scan.left_roots.iter_mut().zip(first_kept.0..youngest.0);
        for (left_root, twig) in checked {
            let copied =
                twig.checked_sub(oldest.0).and_then(|at| state.left_roots.get(at as usize));
            match (*left_root, copied) {
                (Some(read), Some(copied)) if read != *copied => {
                    return Err(Error::Corrupt(format!(
                        "shard {shard}: the record of twig {twig} and the checkpoint differ"
                    )));
                }
                // A record that is missing, and not pruned, is made again from the entries.
                (None, _) if twig >= now.first_kept.0 => {
                    return Err(Error::Corrupt(format!(
                        "shard {shard}: the record of twig {twig} is missing"
                    )));
                }
                (None, copied) => *left_root = copied.copied(),
                (Some(_), _) => {}
            }
        }
        scan.active = state.bits.count();
        scan.noted = said.next_sn.0 - oldest.first().0;
        scan.bits = state.bits;
        scan.leaves = state.leaves;
        scan.begun = state.begins;
        scan.next = Some(said.next_sn);
        scan.base = Some(Base::new(checkpoint.keys(shard), said.next_sn, &state.open));
        scan.open = state.open;
        Ok(scan)
    }

    /// The first entry that the scan has to see.
    fn first_needed(&self) -> SerialNumber {
        let first = self.part.first_kept.0;
        let missing = self.left_roots.iter().position(Option::is_none);
        let missing = missing.map_or(self.part.next_sn.twig().0, |at| first + at as u64);
        TwigId(missing.min(self.part.oldest_active.twig().0)).first()
    }

    /// The record from which the scan has to begin for this shard's sake.
    pub(super) fn scan_from(&self, source: &Source<'_>) -> Result<LogPosition, Error> {
        let Some(twigs) = source.twigs else { return Ok(source.manifest.log_start) };
        for twig in (self.part.first_kept.0..=self.first_needed().twig().0).rev() {
            if let Some(record) = twigs.get(self.shard, TwigId(twig))? {
                return Ok(record.record);
            }
        }
        Ok(source.manifest.log_start)
    }

    pub(crate) fn corrupt(&self, what: impl std::fmt::Display) -> Error {
        Error::Corrupt(format!("shard {}: {what}", self.shard))
    }

    /// Whether the leaves of this twig are needed.
    fn needs_leaves(&self, twig: TwigId) -> bool {
        let Some(number) = twig.0.checked_sub(self.part.first_kept.0) else { return false };
        self.left_roots.get(number as usize).is_none_or(Option::is_none)
    }

    /// Reads the shard's entries of a record: serial numbers, active bits, places.
    pub(super) fn read_run(&mut self, record: &ScannedRecord) -> Result<RunWork, Error> {
        let mut work = RunWork::default();
        let start = run_position(record.record(), self.shard);
        let oldest = self.part.oldest_active.twig();
        work.spans.reserve(record.record().entries(self.shard) as usize);
        for (at, entry) in record.entries(self.shard) {
            let offset = (at.0 - start.0) as u32;
            let span = Span { offset, len: entry.hashed_bytes().len() as u32 };
            let sn = entry.serial_number();
            // Before anything is sized by it: a checksum says nothing about the number being true.
            if sn >= self.part.next_sn {
                let next = self.part.next_sn;
                return Err(self.corrupt(format_args!("entry {sn}, the manifest ends at {next}")));
            }
            if self.next.is_some_and(|next| next != sn) {
                return Err(self.corrupt(format_args!("entry {sn} is out of order")));
            }
            self.next = Some(sn.plus(1));
            if work.spans.is_empty() {
                work.first_sn = sn;
            }
            work.spans.push(span);
            if self.needs_leaves(sn.twig()) {
                work.leaf_spans.push(span);
            }
            if sn.twig() < self.bits_from {
                continue;
            }
            self.bits.set(sn);
            self.active += 1;
            let bits_from = self.bits_from;
            for gone in entry.deactivated().filter(|gone| gone.twig() >= bits_from) {
                if !self.bits.clear(gone) {
                    return Err(
                        self.corrupt(format_args!("entry {sn} replaces {gone}, not active"))
                    );
                }
                self.active -= 1;
            }
            if sn.twig() < oldest {
                continue;
            }
            let sentry = entry.sentry_key_hash();
            if sentry.is_none() {
                work.key_of.push(self.seen.len());
                let (offset, len) = (span.offset + HEADER_LEN as u32, entry.key().len() as u32);
                work.key_spans.push(Span { offset, len });
            }
            let prefix = sentry.map_or(0, |key_hash| key_hash.prefix_u64());
            self.seen.push(Seen { sn, prefix, at });
            self.noted += 1;
        }
        if let (false, Some(next)) = (work.spans.is_empty(), self.next) {
            self.note_begun(work.first_sn, next, record);
        }
        work.leaves = vec![Digest::ZERO; work.leaf_spans.len()];
        work.keys = vec![Digest::ZERO; work.key_spans.len()];
        Ok(work)
    }

    fn note_begun(&mut self, from: SerialNumber, to: SerialNumber, record: &ScannedRecord) {
        self.begun.note(from, to, record.record().entries_before());
        self.begun.drop_before(self.part.oldest_active.twig());
    }

    /// Serial number of the next entry.
    pub(crate) fn next_sn(&self) -> SerialNumber {
        self.next.unwrap_or(self.part.next_sn)
    }

    /// Reads the shard's entries of a record of the journal.
    pub(crate) fn journal_run(&mut self, record: &ScannedRecord) -> Result<JournalRun, Error> {
        let mut run = JournalRun { first_sn: self.next_sn(), ..JournalRun::default() };
        let start = run_position(record.record(), self.shard);
        for (at, entry) in record.entries(self.shard) {
            let offset = (at.0 - start.0) as u32;
            run.spans.push(Span { offset, len: entry.hashed_bytes().len() as u32 });
            let sn = entry.serial_number();
            if sn != self.next_sn() {
                return Err(self.corrupt(format_args!("entry {sn} is out of order")));
            }
            self.next = Some(sn.plus(1));
            self.bits.set(sn);
            self.active += 1;
            for gone in entry.deactivated() {
                if !self.bits.clear(gone) {
                    return Err(
                        self.corrupt(format_args!("entry {sn} replaces {gone}, not active"))
                    );
                }
                self.active -= 1;
                run.deactivated.push(gone);
            }
            if let Some(base) = &mut self.base
                && base.note(entry.deactivated())
            {
                run.own.push(self.seen.len());
            }
            let sentry = entry.sentry_key_hash();
            if sentry.is_none() {
                run.key_of.push(self.seen.len());
                let (offset, len) = (offset + HEADER_LEN as u32, entry.key().len() as u32);
                run.key_spans.push(Span { offset, len });
            }
            let prefix = sentry.map_or(0, |key_hash| key_hash.prefix_u64());
            self.seen.push(Seen { sn, prefix, at });
        }
        self.note_begun(run.first_sn, self.next_sn(), record);
        run.keys = vec![Digest::ZERO; run.key_spans.len()];
        Ok(run)
    }

    /// Takes the key hashes of a run of the journal.
    pub(crate) fn take_keys(&mut self, run: &JournalRun) {
        for (number, digest) in run.key_of.iter().zip(&run.keys) {
            self.seen[*number].prefix = KeyHash(digest.0).prefix_u64();
        }
        if let Some(base) = &mut self.base {
            let stem = |number: &usize| Stem::of_prefix(self.seen[*number].prefix);
            base.replaced.extend(run.own.iter().map(stem));
        }
        self.forget_dead();
    }

    /// What died meanwhile is dropped from time to time, so that of all that was ever written little
    /// more is held than what is active.
    fn forget_dead(&mut self) {
        if self.seen.len() as u64 > self.active + self.active / 4 + DEAD_SEEN {
            let bits = &self.bits;
            self.seen.retain(|seen| bits.is_active(seen.sn));
        }
    }

    /// Takes the hashes of a run, and makes the records of twigs that it finished.
    pub(super) fn take_hashes(
        &mut self,
        hasher: &dyn BatchHasher,
        record: &ScannedRecord,
        work: RunWork,
    ) -> Result<(), Error> {
        for (number, digest) in work.key_of.iter().zip(&work.keys) {
            self.seen[*number].prefix = KeyHash(digest.0).prefix_u64();
        }
        self.forget_dead();
        let start = run_position(record.record(), self.shard);
        let filled = self.open.note_run(record.position(), start, work.first_sn, &work.spans);
        let mut leaves = work.leaves.into_iter();
        for places in filled {
            if !self.needs_leaves(places.twig) {
                continue;
            }
            self.leaves.extend(leaves.by_ref().take(TWIG_LEAVES - self.leaves.len()));
            if self.leaves.len() != TWIG_LEAVES {
                return Err(
                    self.corrupt(format_args!("twig {} begins before the log", places.twig))
                );
            }
            let twig = FinishedTwig::from_leaves(hasher, self.shard, places.twig, &self.leaves)?;
            self.leaves.clear();
            let number = (places.twig.0 - self.part.first_kept.0) as usize;
            if let Some(root) = self.left_roots.get_mut(number) {
                *root = Some(twig.left_root());
            }
            self.twigs.push(Arc::new(places.into_record(self.shard, twig.nodes)?));
        }
        self.leaves.extend(leaves);
        Ok(())
    }

    /// What the forest is restored from.
    pub(super) fn restore(&mut self) -> Result<ShardRestore, Error> {
        let part = &self.part;
        if let Some(sn) =
            self.bits.next_active(SerialNumber(0)).filter(|&sn| sn < part.oldest_active)
        {
            let oldest = part.oldest_active;
            return Err(self.corrupt(format_args!(
                "entry {sn} is active, the manifest says that none below {oldest} is"
            )));
        }
        self.bits.drop_before(part.oldest_active.twig());
        if self.next != Some(part.next_sn) {
            return Err(self.corrupt("the log does not end at the manifest's serial number"));
        }
        if self.bits.count() != part.active {
            return Err(self.corrupt(format_args!(
                "{} active entries, the manifest says {}",
                self.bits.count(),
                part.active
            )));
        }
        let (oldest, youngest) = (part.oldest_active.twig(), part.next_sn.twig());
        if self.noted != part.next_sn.0 - oldest.first().0
            || self.leaves.len() != part.next_sn.leaf()
        {
            return Err(self.corrupt("the log begins after an entry that is still needed"));
        }
        let left_roots = self.left_roots.iter().copied().collect::<Option<Vec<_>>>();
        let left_roots = left_roots.ok_or_else(|| self.corrupt("a finished twig is missing"))?;
        let mut active_pages = Vec::new();
        for twig in oldest.0..=youngest.0 {
            let bytes = self.bits.twig_bytes(TwigId(twig));
            active_pages.extend(bytes.as_chunks::<32>().0.iter().map(|page| Digest(*page)));
        }
        Ok(ShardRestore {
            first_kept: part.first_kept,
            edges: part.edges.clone(),
            left_roots,
            first_active: oldest,
            active_pages,
            youngest_leaves: self.leaves.clone(),
            oldest_active: part.oldest_active,
        })
    }

    /// Active entries into the index.
    pub(super) fn index(&mut self, source: &Source<'_>) -> Result<ShardIndex, Error> {
        let bits = &self.bits;
        let seen = std::mem::take(&mut self.seen).into_iter();
        let active = seen.filter(|seen| bits.is_active(seen.sn));
        let index = match self.base.take() {
            Some(base) => {
                let fresh = active.map(|seen| (Stem::of_prefix(seen.prefix), seen.at)).collect();
                base.index(source, self.shard, bits, fresh)?
            }
            None => ShardIndex::build(active.map(|seen| (seen.prefix, seen.at)).collect())
                .map_err(|error| self.corrupt(format_args!("index: {error}")))?,
        };
        if index.len() as u64 != bits.count() {
            return Err(self.corrupt("the index has other keys than there are active entries"));
        }
        Ok(index)
    }

    /// Where compaction goes on: before the first entry of the twig of the oldest active one.
    pub(super) fn cursor_at(
        &self,
        source: &Source<'_>,
        oldest_active: SerialNumber,
    ) -> Result<Option<RunCursor>, Error> {
        let (shard, twig) = (self.shard, oldest_active.twig());
        let made = self.twigs.iter().find(|record| record.twig == twig).cloned();
        let record = match (made, source.twigs) {
            (Some(record), _) => Some(record),
            (None, Some(twigs)) => twigs.get(shard, twig)?,
            (None, None) => None,
        };
        let cursor = match (record, self.open.parts()) {
            (Some(record), _) => RunCursor::new(shard, record.record, record.groups[0]),
            (None, (record, &[first, ..], _)) => RunCursor::new(shard, record, first),
            (None, _) => return Ok(None),
        };
        // A record that is whole may still lead elsewhere: then it is made again.
        match cursor.clone().next(source.log)? {
            Some((_, entry)) if entry.get().serial_number() == twig.first() => Ok(Some(cursor)),
            _ => Err(self.corrupt(format_args!("twig {twig} does not begin where it is said to"))),
        }
    }
}
