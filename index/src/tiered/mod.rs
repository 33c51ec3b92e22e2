//! The tiered index: the newest records in memory, the rest in sorted segments on disk, within a budget.
//!
//! ```text
//!   edits ─► mutable age ─freeze─► frozen ages ─spill─► tier 0  ▪ ▪ ▪
//!            memory, 16 parts      memory               tier 1  ▪▪▪ ▪▪▪         segments: files,
//!                                                       lowest  ▪▪▪▪▪▪▪▪▪       merged into larger ones
//!
//!   a record    stem, position, serial number: never wrong, held once or more, anywhere
//!   the bits    whether the entry of that serial number is the current one of its key
//!
//!   look-up     all records of the stem, in whatever tier   ∩   bits
//! ```
//!
//! That a record says where an entry was written, which never changes, and that the bits alone say whether it
//! counts, is what all else rests on (docs/adr/0003-tiered-index.md): there are no tombstones, no order of tiers,
//! and merges may drop what is dead whenever they meet it.
//!
//! # Who waits for whom
//!
//! ```text
//!   editing   one who edits, freezes or takes a snapshot
//!     └► state     lists of ages, claims of jobs, numbers of files
//!          └► part 0 .. 15     who asks or edits a key of it
//!               └► bits (write: blocks come and go), tiers (which segments)
//! ```
//!
//! Locks are taken downwards only. None is held while a file is read or written, but for `editing` by who waits for room in
//! the midst of a block: no job needs it. So an answer is put together in two
//! steps: pages of the segments that were in the list a moment ago; then, under the lock of the key's part, memory
//! and bits. A record that was in memory at the first step and is not at the second has been spilled: then the
//! number of the list's *shape* has changed, and the answer is begun again. A merge changes nothing that an old list
//! does not have too.
//!
//! # What is due
//!
//! There are no threads here. [`TieredIndex::work`] names the next job, [`Job::run`] does it, whoever runs it, and
//! [`TieredIndex::install`] lets it be seen. A job that fails or is dropped removes what it wrote and changes nothing: it
//! is named again. One spill and one merge may run at a time.
//!
//! # Invariants
//!
//! * A record whose bit is set is in the mutable age, in a frozen one or in a segment of the list.
//! * What is in the list is durable, name and all. What a snapshot names is not removed until a later one that does not name
//!   it is durable.
//! * Serial numbers that are put in are above all before them, but for those that were taken back; records of those are
//!   void (`cut`) in everything that existed then.
//! * An error is never "no such key".

mod age;
mod audit;
mod bits;
mod edit;
mod fill;
mod jobs;
mod merge;
mod open;
mod pages;
mod policy;
mod read;
mod record;
mod segment;
mod stats;

pub use audit::Audited;
pub use jobs::{Done, Job, Step};
pub use open::{SegmentEntry, Snapshot, SnapshotRecords};
pub use policy::LOWEST_TIER;
pub use record::Record;
pub use stats::{MemoryStats, TierStats, TieredStats};

use crate::shared::PART_GROUPS;
use crate::slot::GROUPS;
use crate::{Edit, Index, IndexError, Stem};
use age::{Age, Frozen, Part};
use bits::Bits;
use hedgerow_types::{KeyHash, LogPosition, SerialNumber, ShardId};
use hedgerow_vfs::Vfs;
use jobs::Running;
use pages::Pages;
use parking_lot::{Mutex, RwLock};
use policy::{Shares, Size};
use segment::{Segment, SegmentId};
use stats::Counters;
use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// Batches that can be taken back one after the other without their numbers being all but forgotten.
const FLOORS: usize = 64;
/// Pages that are kept at the least.
const MIN_CACHE: usize = 16 * segment::PAGE;

/// Where a tiered index is, and how much memory it may take.
#[derive(Clone, Debug)]
pub struct TieredOptions {
    /// The folder of its files; other shards may have theirs in the same.
    pub folder: PathBuf,
    /// The store's id, to which files are bound.
    pub store: [u8; 16],
    /// The shard.
    pub shard: ShardId,
    /// Bytes for everything: edits, frozen ages, filters, directories, bits and pages that are kept. What has
    /// no choice is taken all the same: the bits, the directories, and some 200 KiB.
    pub memory_bytes: usize,
}

/// How far jobs are behind edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Records in frozen ages, which wait for a spill.
    pub frozen_records: usize,
    /// Records in the mutable age.
    pub mutable_records: usize,
    /// How many of both there may be within the budget: then writers should wait for a spill.
    pub memory_share: usize,
    /// Segments above the lowest tier.
    pub segments: usize,
    /// How many there are at most when merges keep up: more, and look-ups become slow.
    pub segments_share: usize,
}

/// What writers should wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// Memory is full of records that are to be spilled.
    Memory,
    /// There are so many segments that look-ups become slow: they are to be merged.
    Merges,
}

impl Behind {
    /// What writers should wait for, if they should.
    pub const fn late(&self) -> Option<Late> {
        if self.is_full() {
            Some(Late::Memory)
        } else if self.segments > self.segments_share {
            Some(Late::Merges)
        } else {
            None
        }
    }

    /// Whether there is no room in memory for more records, and a spill would make some.
    pub const fn is_full(&self) -> bool {
        self.frozen_records + self.mutable_records >= self.memory_share
            && 4 * self.frozen_records >= self.memory_share
    }

    /// Whether writers should wait.
    pub const fn is_late(&self) -> bool {
        self.late().is_some()
    }
}

/// The segments that are asked.
struct Tiers {
    /// Changes when records go from memory to a segment.
    shape: u64,
    segments: Vec<Arc<Segment>>,
    /// The tier of each.
    numbers: Vec<u8>,
}

impl Tiers {
    fn sizes(&self) -> Vec<Size> {
        let size = |(segment, tier): (&Arc<Segment>, &u8)| Size {
            tier: *tier,
            records: segment.records(),
            filter_bytes: segment.filter_bytes(),
        };
        self.segments.iter().zip(&self.numbers).map(size).collect()
    }
}

/// What one who edits has to himself.
struct Editing {
    /// Serial numbers that are put in are at least this.
    next: u64,
    /// What `next` was before each of the last batches.
    floors: VecDeque<u64>,
    /// It is being filled in key order.
    filling: Option<fill::Filling>,
}

struct State {
    frozen: Vec<Age>,
    /// The number of the next file.
    next_file: u64,
    spill: Option<Arc<Running>>,
    merge: Option<Arc<Running>>,
    /// What is being filled in key order.
    filling: Option<Arc<Running>>,
    /// Files that some snapshot names and the list does not any more.
    retired: Vec<String>,
    /// Ages that were spilled while a snapshot had them: a part of each, and the bytes of all.
    held: Vec<(Weak<Frozen>, usize)>,
}

struct Inner {
    vfs: Arc<dyn Vfs>,
    options: TieredOptions,
    editing: Mutex<Editing>,
    state: Mutex<State>,
    parts: Box<[RwLock<Part>]>,
    bits: RwLock<Bits>,
    tiers: RwLock<Arc<Tiers>>,
    /// That of `tiers`.
    shape: AtomicU64,
    pages: Pages,
    counters: Counters,
    /// Keys.
    live: AtomicUsize,
    /// Records of the mutable age; changed by whoever has `editing`.
    mutable: AtomicUsize,
    /// Records of the frozen ages; changed by whoever has `state`.
    frozen: AtomicUsize,
    /// The budget, and what of it the mutable age may have.
    memory: AtomicUsize,
    age_records: AtomicUsize,
}

/// The index of one shard, most of it in files: newest records in memory, the rest in sorted segments that are merged into
/// larger ones. Made by [`create`](TieredIndex::create) or [`open`](TieredIndex::open), asked and edited through [`Index`];
/// whoever owns it runs its jobs: [`work`](TieredIndex::work), [`Job::run`], [`install`](TieredIndex::install). Handles are cheap to
/// clone and lead to the same index.
#[derive(Clone)]
pub struct TieredIndex(Arc<Inner>);

impl fmt::Debug for TieredIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut it = f.debug_struct("TieredIndex");
        it.field("shard", &self.0.options.shard).field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Inner {
    fn tiers(&self) -> Arc<Tiers> {
        Arc::clone(&self.tiers.read())
    }

    fn segment_id(&self, number: u64) -> SegmentId {
        let shard = self.options.shard.index() as u8;
        SegmentId { store: self.options.store, shard, number }
    }

    /// Shares the budget anew.
    fn balance(&self, state: &State) -> Shares {
        let tiers = self.tiers();
        let directories: usize = tiers.segments.iter().map(|it| it.directory_bytes()).sum();
        let filters: usize = tiers.segments.iter().map(|it| it.filter_bytes()).sum();
        let jobs: usize = state.running().map(|it| it.bytes).sum();
        let taken = self.bits.read().heap_bytes() + directories;
        let shares = Shares::new(self.memory.load(Ordering::Relaxed), taken);
        self.age_records.store(shares.age_records, Ordering::Relaxed);
        // Ages that snapshots froze early hold few records, but have their groups all the same.
        let groups = state.frozen.len().saturating_sub(1) * age::AGE_BYTES;
        let others = filters + jobs + groups + state.held_bytes();
        self.pages.set_bytes(shares.left.saturating_sub(others).max(MIN_CACHE));
        shares
    }

    /// Freezes the mutable age, if it has any record.
    fn freeze(&self, _: &mut Editing, state: &mut State) {
        let records = self.mutable.load(Ordering::Relaxed);
        if records == 0 {
            return;
        }
        let parts = self.parts.iter().enumerate().map(|(i, part)| part.write().freeze(i));
        state.frozen.push(Age { parts: parts.collect(), records });
        self.frozen.fetch_add(records, Ordering::Relaxed);
        self.mutable.store(0, Ordering::Relaxed);
    }

    /// Freezes the mutable age if it is as large as one may be.
    fn freeze_full(&self, editing: &mut Editing) {
        if self.mutable.load(Ordering::Relaxed) >= self.age_records.load(Ordering::Relaxed) {
            self.freeze(editing, &mut self.state.lock());
        }
    }

    fn behind(&self) -> Behind {
        let tiers = self.tiers();
        let upper = tiers.numbers.iter().filter(|tier| **tier != LOWEST_TIER);
        let highest = upper.clone().max().copied().unwrap_or(0);
        Behind {
            frozen_records: self.frozen.load(Ordering::Relaxed),
            mutable_records: self.mutable.load(Ordering::Relaxed),
            memory_share: 2 * self.age_records.load(Ordering::Relaxed),
            segments: upper.count(),
            segments_share: 2 * policy::FAN_IN * (usize::from(highest) + 1),
        }
    }
}

impl State {
    fn running(&self) -> impl Iterator<Item = &Arc<Running>> {
        self.spill.iter().chain(&self.merge).chain(&self.filling)
    }

    /// Bytes of ages that were spilled and that a snapshot has still.
    fn held_bytes(&self) -> usize {
        let held = self.held.iter().filter(|(part, _)| part.strong_count() > 0);
        held.map(|(_, bytes)| bytes).sum()
    }
}

impl TieredIndex {
    /// Gives the index another budget. It is kept to as jobs run; pages go at once. Waits for nobody.
    pub fn set_memory(&self, bytes: usize) {
        let inner = &*self.0;
        inner.memory.store(bytes, Ordering::Relaxed);
        inner.balance(&inner.state.lock());
        // Whoever edits now looks at the new share himself, and so does who asks for work.
        if let Some(mut editing) = inner.editing.try_lock() {
            inner.freeze_full(&mut editing);
        }
    }

    /// As [`Index::apply`], for as many edits as there may be: `wait` is called before memory would grow over the budget,
    /// while a part of the edits is in the index. It returns when [memory is not full](Behind::is_full) any more, or
    /// if nothing is gained by waiting: then the rest of the edits goes over the budget. Jobs can be done meanwhile,
    /// by it or by others; nobody can edit or take a [snapshot](TieredIndex::snapshot).
    ///
    /// # Errors
    /// As [`Index::apply`].
    pub fn apply_waiting(&self, edits: &[Edit], wait: &dyn Fn()) -> Result<(), IndexError> {
        self.0.apply(edits, wait)
    }

    /// Forgets the pages that are kept, so that what is asked next is read from files: for measuring.
    pub fn drop_pages(&self) {
        self.0.pages.clear();
    }

    /// How far jobs are behind.
    pub fn behind(&self) -> Behind {
        self.0.behind()
    }

    /// What it has done, and what it is.
    pub fn stats(&self) -> TieredStats {
        let inner = &*self.0;
        let mut stats = inner.counters.read();
        let tiers = inner.tiers();
        for (segment, tier) in tiers.segments.iter().zip(&tiers.numbers) {
            let place = match stats.tiers.iter().position(|it| it.tier == *tier) {
                Some(place) => place,
                None => {
                    stats.tiers.push(TierStats { tier: *tier, ..TierStats::default() });
                    stats.tiers.len() - 1
                }
            };
            let it = &mut stats.tiers[place];
            it.segments += 1;
            it.records += segment.records();
            it.bytes += segment.file_len();
        }
        stats.tiers.sort_by_key(|it| it.tier);
        let behind = inner.behind();
        stats.memory_records = (behind.frozen_records + behind.mutable_records) as u64;
        stats.memory = self.memory_stats();
        stats
    }

    fn memory_stats(&self) -> MemoryStats {
        let inner = &*self.0;
        let tiers = inner.tiers();
        let state = inner.state.lock();
        let ages: usize = state.frozen.iter().map(Age::heap_bytes).sum();
        let mutable: usize = inner.parts.iter().map(|part| part.read().mutable.heap_bytes()).sum();
        MemoryStats {
            budget: inner.memory.load(Ordering::Relaxed),
            bits: inner.bits.read().heap_bytes(),
            ages: ages + mutable + state.held_bytes(),
            directories: tiers.segments.iter().map(|it| it.directory_bytes()).sum(),
            filters: tiers.segments.iter().map(|it| it.filter_bytes()).sum(),
            jobs: state.running().map(|it| it.bytes).sum(),
            cache: inner.pages.bytes(),
        }
    }
}

impl Index for TieredIndex {
    fn candidates(
        &self,
        keys: &[KeyHash],
        out: &mut Vec<(u32, LogPosition)>,
    ) -> Result<(), IndexError> {
        self.0.candidates(keys, out)
    }

    fn candidates_of(
        &self,
        key: &KeyHash,
        each: &mut dyn FnMut(LogPosition),
    ) -> Result<(), IndexError> {
        let mut found = Vec::new();
        self.0.candidates(std::slice::from_ref(key), &mut found)?;
        found.iter().for_each(|(_, at)| each(*at));
        Ok(())
    }

    fn at_or_below(
        &self,
        stems: &[Stem],
        out: &mut Vec<(u32, Stem, LogPosition)>,
    ) -> Result<(), IndexError> {
        self.0.at_or_below(stems, out)
    }

    fn group(&self, group: usize, out: &mut Vec<(Stem, LogPosition)>) -> Result<(), IndexError> {
        self.0.group(group, out)
    }

    fn apply(&self, edits: &[Edit]) -> Result<(), IndexError> {
        self.0.apply(edits, &|| {})
    }

    fn take_back(&self, applied: &[Edit]) -> Result<(), IndexError> {
        self.0.take_back(applied)
    }

    fn roll_back(&self, changed: &[Edit], cut: SerialNumber) -> Result<(), IndexError> {
        self.0.roll_back(changed, cut)
    }

    fn len(&self) -> usize {
        self.0.live.load(Ordering::Relaxed)
    }

    fn heap_bytes(&self) -> usize {
        self.memory_stats().total()
    }
}

const _: () = assert!(GROUPS.is_multiple_of(PART_GROUPS));
