//! One shard's part of a rebuild: its entries, record after record.

use super::Source;
use super::index::Indexed;
use super::resume::{Base, unusable};
use super::sums::Sums;
use crate::Error;
use crate::read::published::in_index;
use hedgerow_entryfile::{RunCursor, ScannedRecord, TwigRecord};
use hedgerow_hasher_api::Span;
use hedgerow_index::{Record, ShardIndex, Stem, TieredIndex};
use hedgerow_merkle::{FinishedTwig, ShardRestore};
use hedgerow_metadb::ShardManifest;
use hedgerow_state::checkpoint::Checkpoint;
use hedgerow_state::{
    Misfit, OpenTwig, RunChange, ShardState, TwigPlaces, TwigStore, run_position, twig_agrees,
};
use hedgerow_types::entry::HEADER_LEN;
use hedgerow_types::{Digest, KeyHash, LogPosition, SerialNumber, ShardId, TWIG_LEAVES, TwigId};
use std::sync::Arc;

/// Records that an index in files takes in before it is looked whether memory is full.
const PIECE: usize = 1024;

/// What a run brought to its shard, and what of it is to be hashed.
#[derive(Default)]
pub(crate) struct RunWork {
    pub(crate) spans: Vec<Span>,
    pub(crate) deactivated: Vec<SerialNumber>,
    /// The twigs that it filled.
    pub(crate) filled: Vec<TwigPlaces>,
    pub(super) leaf_spans: Vec<Span>,
    pub(super) leaves: Vec<Digest>,
    pub(super) key_spans: Vec<Span>,
    pub(super) keys: Vec<Digest>,
    /// Which entries of `seen` the keys belong to.
    key_of: Vec<usize>,
    /// Which entries of `seen` replaced one that the checkpoint has, of the same key.
    own: Vec<usize>,
}

/// Twig records beside those that are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ComparedTwigs {
    /// Those that agree.
    pub(crate) same: u64,
    /// Those that are not kept, or unreadable.
    pub(crate) missing: u64,
    /// The first that differs.
    pub(crate) different: Option<(ShardId, TwigId)>,
}

impl ComparedTwigs {
    fn note(&mut self, kept: &TwigStore, fresh: &TwigRecord) -> Result<(), Error> {
        match kept.get(fresh.shard, fresh.twig)? {
            Some(kept) if twig_agrees(&kept, fresh) => self.same += 1,
            Some(_) => {
                self.different.get_or_insert((fresh.shard, fresh.twig));
            }
            None => self.missing += 1,
        }
        Ok(())
    }

    /// With those of another shard.
    pub(super) fn and(self, other: &Self) -> Self {
        let (same, missing) = (self.same + other.same, self.missing + other.missing);
        Self { same, missing, different: self.different.or(other.different) }
    }
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

/// The left sides of the twigs of a shard, until there is a tree to take entries in.
struct Left {
    /// Left roots of the twigs from the first kept one up to the youngest, as far as known.
    roots: Vec<Option<Digest>>,
    /// Leaves of the twig that is being read, if it needs them.
    leaves: Vec<Digest>,
}

pub(crate) struct ShardScan {
    pub(crate) shard: ShardId,
    pub(crate) part: ShardManifest,
    pub(crate) state: ShardState,
    /// The first entry that was read, or is the checkpoint's.
    first: Option<SerialNumber>,
    /// `None` from the manifest's end on, or the checkpoint's.
    left: Option<Left>,
    /// The entries from the oldest active twig on, in order, but for those that are known to be dead; those of
    /// the last run only, if there is an index that takes them in.
    seen: Vec<Seen>,
    /// The index, if it takes in run after run.
    tiered: Option<TieredIndex>,
    /// Whether it may write what memory has no room for.
    spills: bool,
    /// What the log has to say of an index that is there.
    sums: Option<Sums>,
    pub(super) open: OpenTwig,
    pub(crate) twigs: Vec<Arc<TwigRecord>>,
    /// What comparing twig records with those that are kept came to.
    pub(super) compared: ComparedTwigs,
    /// The keys of the checkpoint that this began with.
    base: Option<Base>,
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
        let from = if source.twigs.is_some() { oldest } else { part.first_kept };
        let state = ShardState::from_twig(shard, from);
        let tiered = match source.checkpoint {
            Some(_) => None, // it comes with the bits
            None => source.index.open(source, shard, state.bits())?,
        };
        Ok(Self {
            shard,
            part: part.clone(),
            state,
            spills: source.index.is_writable(),
            tiered,
            sums: source.index.sums(shard),
            first: None,
            left: Some(Left { roots: left_roots, leaves: Vec::new() }),
            seen: Vec::new(),
            open: OpenTwig::default(),
            twigs: Vec::new(),
            compared: ComparedTwigs::default(),
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
        let mut roots = scan.left.take().map_or_else(Vec::new, |left| left.roots);
        let checked = roots.iter_mut().zip(first_kept.0..youngest.0);
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
        scan.left = Some(Left { roots, leaves: state.leaves });
        let (next_sn, oldest_active) = (said.next_sn, said.oldest_active);
        let (bits, begins) = (state.bits, state.begins);
        scan.tiered = source.index.open(source, shard, &bits)?;
        scan.state = ShardState::from_parts(shard, next_sn, oldest_active, bits, begins);
        scan.first = Some(oldest.first());
        if scan.tiered.is_none() {
            scan.base = Some(Base::new(checkpoint.keys(shard), said.next_sn, &state.open));
        }
        scan.open = state.open;
        Ok(scan)
    }

    /// The first entry that the scan has to see.
    fn first_needed(&self) -> SerialNumber {
        let first = self.part.first_kept.0;
        let roots = self.left.iter().flat_map(|left| &left.roots);
        let missing = roots.into_iter().position(Option::is_none);
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
        let Some(left) = &self.left else { return false };
        let Some(number) = twig.0.checked_sub(self.part.first_kept.0) else { return false };
        left.roots.get(number as usize).is_none_or(Option::is_none)
    }

    /// Takes in the shard's entries of a record: what becomes of the state, where they lie, what is to be
    /// hashed.
    pub(super) fn read_run(&mut self, record: &ScannedRecord) -> Result<RunWork, Error> {
        let mut work = RunWork::default();
        let start = run_position(record.record(), self.shard);
        let seen_from = self.part.oldest_active.twig();
        let mut next = self.first.map(|_| self.state.next_sn());
        work.spans.reserve(record.record().entries(self.shard) as usize);
        for (at, entry) in record.entries(self.shard) {
            let offset = (at.0 - start.0) as u32;
            let span = Span { offset, len: entry.hashed_bytes().len() as u32 };
            let sn = entry.serial_number();
            // Before anything is sized by it: a checksum says nothing about the number being true.
            if self.left.is_some() && sn >= self.part.next_sn {
                let next = self.part.next_sn;
                return Err(self.corrupt(format_args!("entry {sn}, the manifest ends at {next}")));
            }
            if next.is_some_and(|next| next != sn) {
                return Err(self.corrupt(format_args!("entry {sn} is out of order")));
            }
            next = Some(sn.plus(1));
            if self.first.is_none() {
                self.first = Some(sn);
                self.state.skip_to(sn);
            }
            work.spans.push(span);
            for gone in entry.deactivated() {
                if gone >= sn {
                    return Err(self.not_active(sn, gone));
                }
                work.deactivated.push(gone);
            }
            if self.needs_leaves(sn.twig()) {
                work.leaf_spans.push(span);
            }
            if sn.twig() < seen_from {
                continue;
            }
            if let Some(base) = &mut self.base
                && base.note(entry.deactivated())
            {
                work.own.push(self.seen.len());
            }
            let sentry = entry.sentry_key_hash();
            if sentry.is_none() {
                work.key_of.push(self.seen.len());
                let (offset, len) = (span.offset + HEADER_LEN as u32, entry.key().len() as u32);
                work.key_spans.push(Span { offset, len });
            }
            let prefix = sentry.map_or(0, |key_hash| key_hash.prefix_u64());
            self.seen.push(Seen { sn, prefix, at });
        }
        let first_sn = self.state.next_sn();
        self.take(record, first_sn, &work)?;
        work.filled = self.open.note_run(record.position(), start, first_sn, &work.spans);
        work.leaves = vec![Digest::ZERO; work.leaf_spans.len()];
        work.keys = vec![Digest::ZERO; work.key_spans.len()];
        Ok(work)
    }

    fn take(
        &mut self,
        record: &ScannedRecord,
        first_sn: SerialNumber,
        work: &RunWork,
    ) -> Result<(), Error> {
        if self.first.is_none() {
            return Ok(()); // no entry yet, so that it is not known with which one the runs begin
        }
        let oldest_active = record.record().oldest_active()[self.shard.index()];
        let run = RunChange {
            first_sn,
            entries: work.spans.len() as u64,
            deactivated: &work.deactivated,
            oldest_active,
            entries_before: record.record().entries_before(),
        };
        match self.state.take(&run) {
            Ok(_) => Ok(()),
            Err(Misfit::NotActive { number, sn: gone }) => {
                let mut replaced = 0;
                let by = record.entries(self.shard).find(|(_, entry)| {
                    replaced += entry.deactivated().len();
                    replaced > number
                });
                Err(match by {
                    Some((_, entry)) => self.not_active(entry.serial_number(), gone),
                    None => Misfit::NotActive { number, sn: gone }.of(self.shard).into(),
                })
            }
            Err(Misfit::OldestActive { said, .. }) => {
                let who = match self.left {
                    Some(_) => format!("the record of height {}", record.height()),
                    None => "the journal".to_owned(),
                };
                Err(self.corrupt(format_args!("{who} says that nothing below {said} is active")))
            }
            Err(refused) => Err(refused.of(self.shard).into()),
        }
    }

    fn not_active(&self, by: SerialNumber, gone: SerialNumber) -> Error {
        self.corrupt(format_args!("entry {by} replaces {gone}, not active"))
    }

    /// Takes the key hashes of a run.
    pub(super) fn take_keys(&mut self, run: &RunWork) -> Result<(), Error> {
        for (number, digest) in run.key_of.iter().zip(&run.keys) {
            self.seen[*number].prefix = KeyHash(digest.0).prefix_u64();
        }
        let record =
            |seen: Seen| Record { stem: Stem::of_prefix(seen.prefix), at: seen.at, sn: seen.sn };
        if let Some(sums) = &mut self.sums {
            self.seen.drain(..).map(record).for_each(|record| sums.take(&record));
            return Ok(());
        }
        if let Some(index) = &self.tiered {
            let records: Vec<_> = self.seen.drain(..).map(record).collect();
            // Piece by piece: a block may be larger than the memory that the index has.
            for records in records.chunks(PIECE) {
                index.load(records, &[]).map_err(in_index)?;
                if self.spills {
                    index.catch_up().map_err(in_index)?;
                }
            }
            index.load(&[], &run.deactivated).map_err(in_index)?;
            return Ok(());
        }
        if let Some(base) = &mut self.base {
            let stem = |number: &usize| Stem::of_prefix(self.seen[*number].prefix);
            base.replaced.extend(run.own.iter().map(stem));
        }
        self.forget_dead();
        Ok(())
    }

    /// What died meanwhile is dropped from time to time, so that of all that was ever written little
    /// more is held than what is active.
    fn forget_dead(&mut self) {
        let (bits, active) = (self.state.bits(), self.state.active());
        if self.seen.len() as u64 > active + active / 4 + DEAD_SEEN {
            self.seen.retain(|seen| bits.is_active(seen.sn));
        }
    }

    /// Takes the leaves of a run, and makes the records of twigs that it finished.
    pub(super) fn take_leaves(&mut self, source: &Source<'_>, work: RunWork) -> Result<(), Error> {
        let needed: Vec<_> =
            work.filled.into_iter().filter(|places| self.needs_leaves(places.twig)).collect();
        let Some(left) = &mut self.left else { return Ok(()) };
        let mut leaves = work.leaves.into_iter();
        for places in needed {
            left.leaves.extend(leaves.by_ref().take(TWIG_LEAVES - left.leaves.len()));
            if left.leaves.len() != TWIG_LEAVES {
                let reason = format!("twig {} begins before the log", places.twig);
                return Err(self.corrupt(reason));
            }
            let twig = FinishedTwig::from_leaves(
                &*source.hasher.tree,
                self.shard,
                places.twig,
                &left.leaves,
            )?;
            left.leaves.clear();
            let number = (places.twig.0 - self.part.first_kept.0) as usize;
            if let Some(root) = left.roots.get_mut(number) {
                *root = Some(twig.left_root());
            }
            let record = places.into_record(self.shard, twig.nodes)?;
            let needed = match source.compared {
                Some(kept) => {
                    self.compared.note(kept, &record)?;
                    record.twig == self.part.oldest_active.twig()
                }
                None => true,
            };
            if needed {
                self.twigs.push(Arc::new(record));
            }
        }
        left.leaves.extend(leaves);
        Ok(())
    }

    /// What the forest is restored from. From here on all of the shard is known.
    pub(super) fn restore(&mut self) -> Result<ShardRestore, Error> {
        let (part, state) = (&self.part, &self.state);
        let oldest = part.oldest_active;
        if let Some(sn) = state.bits().next_active(SerialNumber(0)).filter(|&sn| sn < oldest) {
            return Err(self.corrupt(format_args!(
                "entry {sn} is active, the manifest says that none below {oldest} is"
            )));
        }
        if self.first.is_none() || state.next_sn() != part.next_sn {
            return Err(self.corrupt("the log does not end at the manifest's serial number"));
        }
        if state.active() != part.active {
            return Err(self.corrupt(format_args!(
                "{} active entries, the manifest says {}",
                state.active(),
                part.active
            )));
        }
        if state.oldest_active() != oldest {
            let said = state.oldest_active();
            return Err(self.corrupt(format_args!(
                "the manifest says that nothing below {oldest} is active, the log says below {said}"
            )));
        }
        let (oldest, youngest) = (oldest.twig(), part.next_sn.twig());
        let Left { roots, leaves } =
            self.left.take().ok_or_else(|| self.corrupt("restored twice"))?;
        if self.first.is_none_or(|first| first > oldest.first())
            || leaves.len() != part.next_sn.leaf()
        {
            return Err(self.corrupt("the log begins after an entry that is still needed"));
        }
        let left_roots = roots.into_iter().collect::<Option<Vec<_>>>();
        let left_roots = left_roots.ok_or_else(|| self.corrupt("a finished twig is missing"))?;
        self.state.complete();
        let mut active_pages = Vec::new();
        for twig in oldest.0..=youngest.0 {
            let bytes = self.state.bits().twig_bytes(TwigId(twig));
            active_pages.extend(bytes.as_chunks::<32>().0.iter().map(|page| Digest(*page)));
        }
        Ok(ShardRestore {
            first_kept: self.part.first_kept,
            edges: self.part.edges.clone(),
            left_roots,
            first_active: oldest,
            active_pages,
            youngest_leaves: leaves,
            oldest_active: self.part.oldest_active,
        })
    }

    /// The sums, if they are all that is asked, once the index agrees on what counts.
    pub(super) fn sums(&mut self) -> Result<Option<Sums>, Error> {
        let sums = self.sums.take();
        sums.iter().try_for_each(|sums| sums.agree_on(self.state.bits()))?;
        Ok(sums)
    }

    /// Active entries into the index.
    pub(super) fn index(&mut self, source: &Source<'_>) -> Result<Indexed, Error> {
        let index = match self.tiered.take() {
            Some(index) => Indexed::Tiered(index),
            None => Indexed::Memory(self.list(source)?),
        };
        if index.len() as u64 != self.state.active() {
            return Err(self.corrupt("the index has other keys than there are active entries"));
        }
        Ok(index)
    }

    /// The index of what was listed.
    fn list(&mut self, source: &Source<'_>) -> Result<ShardIndex, Error> {
        let bits = self.state.bits();
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
