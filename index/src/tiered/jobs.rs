//! Spills and merges: what is due, doing it, letting it be seen.
//!
//! ```text
//!   work ──► Job ── step, step, .. ──► Done ── install ──► in the list
//!             │ claims the spill or the merge             inputs are gone from it
//!             └ dropped or failed at any point: the file it wrote is removed, the claim given back
//! ```

use super::age::Age;
use super::merge::{Lot, Merge, Source};
use super::policy::{self, LOWEST_TIER, UPPER_BITS};
use super::segment::{PAGE, Segment, SegmentId, SegmentWriter, Unfinished};
use super::stats::add;
use super::{Inner, State, TieredIndex, Tiers};
use crate::IndexError;
use hedgerow_types::SerialNumber;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Records that a step takes from its inputs: 1 MiB of them.
const SLICE: usize = 1 << 16;
/// Frozen ages that are spilled however small they are.
const MAX_FROZEN: usize = 4;

/// What others must know of a job that runs.
pub(super) struct Running {
    /// Records from this serial number on are void in what it writes.
    cut: AtomicU64,
    /// Memory that it takes.
    pub(super) bytes: usize,
}

impl Running {
    /// One that takes so many bytes of memory.
    pub(super) fn taking(bytes: usize) -> Self {
        Self { cut: AtomicU64::new(u64::MAX), bytes }
    }

    pub(super) fn cut_to(&self, cut: SerialNumber) {
        self.cut.fetch_min(cut.0, Ordering::Relaxed);
    }
}

/// What a job is to read.
#[derive(Clone)]
pub(super) enum Input {
    Ages(Vec<Age>),
    Segments(Vec<Arc<Segment>>),
}

/// A claim to the only spill, or the only merge, which is given back when it is dropped.
pub(super) struct Claim {
    pub(super) index: Arc<Inner>,
    pub(super) running: Arc<Running>,
    pub(super) spill: bool,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.index.state.lock();
        let State { spill, merge, .. } = &mut *state;
        // Once it was installed somebody else may hold the next one.
        let claimed = if self.spill { spill } else { merge };
        if claimed.as_ref().is_some_and(|it| Arc::ptr_eq(it, &self.running)) {
            *claimed = None;
        }
    }
}

/// A spill or a merge that is due. Dropped before it is done it leaves nothing behind.
pub struct Job {
    // Before the claim: its file goes first.
    begun: Option<(Merge, SegmentWriter)>,
    input: Input,
    /// Records of the inputs.
    records: u64,
    id: SegmentId,
    tier: u8,
    filter_bits: u32,
    /// Records that the filter is made for.
    filter_records: u64,
    dropped: usize,
    claim: Claim,
}

/// What a step of a job came to.
pub enum Step {
    /// It is to be continued: the next step takes the next slice of the key space.
    More(Box<Job>),
    /// All is written and durable.
    Done(Box<Done>),
}

/// A job that was done and is to be [installed](TieredIndex::install). Dropped instead it leaves nothing behind.
pub struct Done {
    pub(super) output: Option<(Segment, Unfinished)>,
    pub(super) input: Input,
    pub(super) tier: u8,
    pub(super) dropped: usize,
    pub(super) claim: Claim,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut it = f.debug_struct("Job");
        it.field("is_spill", &self.is_spill()).field("records", &self.records);
        it.field("tier", &self.tier).finish_non_exhaustive()
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Done").field("tier", &self.tier).finish_non_exhaustive()
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::More(job) => job.fmt(f),
            Self::Done(done) => done.fmt(f),
        }
    }
}

impl Job {
    /// Whether it writes memory ages to a segment, rather than segments to another.
    pub fn is_spill(&self) -> bool {
        self.claim.spill
    }

    /// Records that it reads: what it takes is in proportion.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Does all of it.
    ///
    /// # Errors
    /// As [`Job::step`].
    pub fn run(self) -> Result<Done, IndexError> {
        let mut job = self;
        loop {
            match job.step()? {
                Step::More(more) => job = *more,
                Step::Done(done) => return Ok(*done),
            }
        }
    }

    /// Does the next slice of it, about 65,536 records.
    ///
    /// # Errors
    /// [`IndexError::Disk`] and [`IndexError::Damaged`], of what is read or written. The file that it wrote is removed, its
    /// inputs stay what they were, and [`TieredIndex::work`] names the job again.
    pub fn step(mut self) -> Result<Step, IndexError> {
        let index = Arc::clone(&self.claim.index);
        let (mut merge, mut out) = match self.begun.take() {
            Some(begun) => begun,
            None => self.begin(&index)?,
        };
        let mut left = SLICE;
        while left > 0 {
            let Lot { taken, dropped } = merge.lot(&index.bits, |record| out.push(record))?;
            self.dropped += dropped;
            if taken == 0 {
                // Only now: the file is complete, or there is none.
                let output = out.finish()?;
                if let Some((segment, _)) = &output {
                    add(&index.counters.bytes_written, segment.file_len() as usize);
                }
                let Self { input, tier, dropped, claim, .. } = self;
                let done = Done { output, input, tier, dropped, claim };
                return Ok(Step::Done(Box::new(done)));
            }
            left = left.saturating_sub(taken);
        }
        self.begun = Some((merge, out));
        Ok(Step::More(Box::new(self)))
    }

    fn begin(&self, index: &Inner) -> Result<(Merge, SegmentWriter), IndexError> {
        let folder = &index.options.folder;
        let (records, bits) = (self.filter_records, self.filter_bits);
        let out = SegmentWriter::new(&index.vfs, folder, self.id, records, bits)?;
        let sources = match &self.input {
            Input::Ages(ages) => ages.iter().map(|age| Source::Age(age.records())).collect(),
            Input::Segments(list) => list.iter().map(|it| Source::Segment(it.scan())).collect(),
        };
        Ok((Merge::new(sources)?, out))
    }
}

impl TieredIndex {
    /// The next job that is due, if one is. A spill comes before a merge; one of each may run at a time.
    pub fn work(&self) -> Option<Job> {
        self.spill().or_else(|| self.merge())
    }

    /// The spill that is due, if one is: what whoever waits for memory waits for. Worth asking between the steps of a
    /// merge, of whichever index.
    pub fn spill(&self) -> Option<Job> {
        let index = &self.0;
        if let Some(mut editing) = index.editing.try_lock() {
            // The share may have become smaller since the last edit.
            index.freeze_full(&mut editing);
        }
        if index.frozen.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut state = index.state.lock();
        let shares = index.balance(&state);
        let frozen = index.frozen.load(Ordering::Relaxed);
        let due = 2 * frozen >= shares.age_records || state.frozen.len() >= MAX_FROZEN;
        if state.spill.is_some() || frozen == 0 || !due {
            return None;
        }
        let input = Input::Ages(state.frozen.clone());
        Some(self.job(&mut state, input, 0, frozen as u64))
    }

    fn merge(&self) -> Option<Job> {
        let index = &self.0;
        let mut state = index.state.lock();
        if state.merge.is_some() {
            return None;
        }
        let shares = index.balance(&state);
        let live = index.live.load(Ordering::Relaxed) as u64;
        let tiers = index.tiers();
        let choice = policy::choose(&tiers.sizes(), &shares, live)?;
        let inputs = choice.inputs.iter().filter_map(|place| tiers.segments.get(*place));
        let inputs: Vec<_> = inputs.cloned().collect();
        let records = inputs.iter().map(|it| it.records()).sum();
        Some(self.job(&mut state, Input::Segments(inputs), choice.tier, records))
    }

    fn job(&self, state: &mut State, input: Input, tier: u8, records: u64) -> Job {
        let index = &self.0;
        let id = index.segment_id(state.next_file);
        state.next_file += 1;
        let shares = index.balance(state);
        let spill = matches!(input, Input::Ages(_));
        // All that is alive and not in memory goes to the lowest tier: no more than there is now.
        let (filter_records, filter_bits) = if tier == LOWEST_TIER {
            let live = records.min(index.live.load(Ordering::Relaxed) as u64);
            (live, shares.lowest_bits(live))
        } else {
            (records, UPPER_BITS)
        };
        let scans = match &input {
            Input::Ages(_) => 0,
            Input::Segments(list) => list.len() * 17 * PAGE,
        };
        let filter = filter_records as usize * filter_bits as usize / 8;
        let bytes = filter + records as usize / 255 * 8 + 17 * PAGE + scans;
        let running = Arc::new(Running::taking(bytes));
        let claimed = Some(Arc::clone(&running));
        *(if spill { &mut state.spill } else { &mut state.merge }) = claimed;
        index.balance(state);
        let claim = Claim { index: Arc::clone(index), running, spill };
        let (begun, dropped) = (None, 0);
        Job { begun, input, records, id, tier, filter_bits, filter_records, dropped, claim }
    }

    /// Lets what a job wrote be seen in the place of its inputs. Files of segments that no snapshot names are removed; others
    /// wait for [`unlink`](TieredIndex::unlink). A file that cannot be removed waits as well.
    pub fn install(&self, done: Done) {
        let Done { output, input, tier, dropped, claim } = done;
        if !Arc::ptr_eq(&claim.index, &self.0) {
            return; // of another index: it leaves nothing behind
        }
        let index = &*self.0;
        let mut unlinked = Vec::new();
        let mut state = index.state.lock();
        let old = index.tiers();
        let replaced = |segment: &Arc<Segment>| match &input {
            Input::Ages(_) => false,
            Input::Segments(list) => list.iter().any(|it| Arc::ptr_eq(it, segment)),
        };
        let kept = old.segments.iter().zip(&old.numbers).filter(|(segment, _)| !replaced(segment));
        let (mut segments, mut numbers): (Vec<_>, Vec<_>) =
            kept.map(|(segment, tier)| (Arc::clone(segment), *tier)).unzip();
        if let Some((segment, mut file)) = output {
            segment.cut_to(SerialNumber(claim.running.cut.load(Ordering::Relaxed)));
            segments.push(Arc::new(segment));
            numbers.push(tier);
            file.keep();
        }
        // First it is in the list, then it is gone from memory: whoever finds it gone finds the list changed.
        let shape = old.shape + u64::from(claim.spill);
        *index.tiers.write() = Arc::new(Tiers { shape, segments, numbers });
        index.shape.store(shape, Ordering::Release);
        match &input {
            Input::Ages(ages) => {
                for (number, part) in index.parts.iter().enumerate() {
                    let mut part = part.write();
                    for spilled in ages.iter().filter_map(|age| age.parts.get(number)) {
                        part.forget(spilled);
                    }
                }
                let same = |a: &Age, b: &Age| match (a.parts.first(), b.parts.first()) {
                    (Some(a), Some(b)) => Arc::ptr_eq(a, b),
                    _ => false,
                };
                state.frozen.retain(|age| !ages.iter().any(|spilled| same(age, spilled)));
                let records = ages.iter().map(|age| age.records).sum();
                index.frozen.fetch_sub(records, Ordering::Relaxed);
                let held = |age: &Age| Some((Arc::downgrade(age.parts.first()?), age.heap_bytes()));
                state.held.extend(ages.iter().filter_map(held));
                add(&index.counters.spills, 1);
            }
            Input::Segments(list) => {
                // Under the lock, as a snapshot names them.
                let (named, unnamed): (Vec<_>, Vec<_>) = list.iter().partition(|it| it.is_named());
                state.retired.extend(named.iter().map(|it| it.id().name()));
                unlinked.extend(unnamed.iter().map(|it| it.id().name()));
                add(&index.counters.merges, 1);
            }
        }
        add(&index.counters.dropped, dropped);
        drop(state);
        // Large files take their time.
        for name in unlinked {
            if index.vfs.remove_file(&index.options.folder.join(&name)).is_err() {
                index.state.lock().retired.push(name);
            }
        }
        drop((input, claim));
        let mut state = index.state.lock();
        // Of what was spilled only what snapshots have is in memory still.
        state.held.retain(|(part, _)| part.strong_count() > 0);
        index.balance(&state);
    }
}
