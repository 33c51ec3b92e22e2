//! A tiered index from what a snapshot named, and a snapshot of one.
//!
//! ```text
//!   snapshot   freeze the mutable age ─► list of segments, records of frozen ages      of one state
//!              both are made durable with the active bits of that state, in one manifest
//!              unlink what it retired: no manifest that is left names it
//!   open       list, records, bits ─► an index that answers as that one did
//! ```

use super::age::{Age, Part};
use super::bits::Bits;
use super::merge::{Merge, Source};
use super::pages::Pages;
use super::policy::Shares;
use super::record::{MAX_NUMBER, Record};
use super::segment::{Segment, SegmentId};
use super::{Counters, Editing, Inner, State, TieredIndex, TieredOptions, Tiers};
use crate::shared::{PART_GROUPS, part_of};
use crate::slot::GROUPS;
use crate::{IndexError, Place};
use hedgerow_types::SerialNumber;
use hedgerow_vfs::{Vfs, VfsErrorKind};
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

/// A segment in the list of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Number of its file, from which its name follows.
    pub number: u64,
    /// Its tier: when it is merged with which others. What it answers does not depend on it.
    pub tier: u8,
    /// Length of its file.
    pub len: u64,
    /// The checksum of its head, which has those of all else.
    pub digest: u32,
    /// Records from this serial number on are void.
    pub cut: SerialNumber,
}

/// What a tiered index is made of at one state, beside its active bits: see [`TieredIndex::snapshot`].
pub struct Snapshot {
    /// The segments.
    pub segments: Vec<SegmentEntry>,
    /// Files that earlier snapshots may name and this one does not. Once this one is durable, and none before it
    /// will be opened again, they are for [`TieredIndex::unlink`].
    pub retired: Vec<String>,
    frozen: Vec<Age>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut it = f.debug_struct("Snapshot");
        it.field("segments", &self.segments).field("retired", &self.retired);
        it.field("records", &self.len()).finish_non_exhaustive()
    }
}

impl Snapshot {
    /// Number of records in memory, those that occur twice counted twice.
    pub fn len(&self) -> usize {
        self.frozen.iter().map(|age| age.records).sum()
    }

    /// Whether there is no record in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records in memory, ascending, each once; some of them dead. They can be taken at any time, while the index is
    /// edited.
    pub fn records(&self) -> SnapshotRecords {
        let sources = self.frozen.iter().map(|age| Source::Age(age.records())).collect();
        SnapshotRecords(Merge::new(sources).ok())
    }
}

/// The records that a tiered index has in memory, see [`Snapshot::records`].
pub struct SnapshotRecords(Option<Merge>);

impl fmt::Debug for SnapshotRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotRecords").finish_non_exhaustive()
    }
}

impl Iterator for SnapshotRecords {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        self.0.as_mut()?.next().ok()? // memory has no errors
    }
}

impl TieredIndex {
    /// An empty index. The folder is made if it is not there.
    ///
    /// # Errors
    /// As [`TieredIndex::open`].
    pub fn create(vfs: Arc<dyn Vfs>, options: TieredOptions) -> Result<Self, IndexError> {
        Self::open(vfs, options, &[], std::iter::empty(), std::iter::empty())
    }

    /// The index that a snapshot named: its `segments` and `records`, and `bits`, the active bits of the same state as words of
    /// 64, each with the number of its first entry, a multiple of 64. Heads, directories and filters are read and
    /// checked, pages when they are asked for. Files that the list does not name are left alone.
    ///
    /// # Errors
    /// [`IndexError::Disk`]; [`IndexError::Damaged`] with the file's name if a segment is missing, is not whole or is another one;
    /// [`IndexError::Position`] and [`IndexError::Number`] of a record or a bit that cannot be.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        options: TieredOptions,
        segments: &[SegmentEntry],
        records: impl IntoIterator<Item = Record>,
        bits: impl IntoIterator<Item = (SerialNumber, u64)>,
    ) -> Result<Self, IndexError> {
        // One that is there is not touched: it may be on a medium that cannot be written to.
        if !vfs.exists(&options.folder)? {
            vfs.create_dir_all(&options.folder)?;
            if let Some(parent) = options.folder.parent().filter(|it| !it.as_os_str().is_empty()) {
                vfs.sync_dir(parent)?;
            }
        }
        let mut active = Bits::default();
        let mut next = 0;
        for (first, word) in bits {
            active.set_word(first, word)?;
            if word != 0 {
                next = first.0 + 64 - u64::from(word.leading_zeros());
            }
        }
        let shard = options.shard.index() as u8;
        let (mut list, mut numbers) = (Vec::new(), Vec::new());
        for entry in segments {
            let SegmentEntry { number, tier, len, digest, cut } = *entry;
            let id = SegmentId { store: options.store, shard, number };
            let segment = Segment::open(&vfs, &options.folder, id, len, digest);
            let segment = segment.map_err(|error| missing(error, &options, id))?;
            segment.cut_to(cut);
            segment.name();
            list.push(Arc::new(segment));
            numbers.push(tier);
        }
        // Behind whatever is there, in the list or not.
        let mut next_file = segments.iter().map(|it| it.number + 1).max().unwrap_or(0);
        for name in vfs.read_dir(&options.folder)? {
            let number = name.to_str().and_then(|it| SegmentId::number_in(it, shard));
            next_file = next_file.max(number.map_or(0, |number| number.saturating_add(1)));
        }
        let mut parts: Vec<Part> = (0..GROUPS / PART_GROUPS).map(Part::new).collect();
        let mut count = 0;
        for Record { stem, at, sn } in records {
            // Dead ones would be void words in the way of numbers to come.
            let record = Record::new(stem, Place { at, sn })?;
            if active.get(sn) {
                count += usize::from(parts[part_of(stem.group())].mutable.insert(record));
            }
        }
        let memory = options.memory_bytes;
        let shares = Shares::new(memory, 0);
        let inner = Inner {
            vfs,
            options,
            editing: Mutex::new(Editing {
                next: next.min(MAX_NUMBER),
                floors: VecDeque::new(),
                filling: None,
            }),
            state: Mutex::new(State {
                frozen: Vec::new(),
                next_file,
                spill: None,
                merge: None,
                filling: None,
                retired: Vec::new(),
                held: Vec::new(),
            }),
            parts: parts.into_iter().map(RwLock::new).collect(),
            live: AtomicUsize::new(usize::try_from(active.count()).unwrap_or(usize::MAX)),
            bits: RwLock::new(active),
            tiers: RwLock::new(Arc::new(Tiers { shape: 0, segments: list, numbers })),
            shape: AtomicU64::new(0),
            pages: Pages::new(shares.left.max(super::MIN_CACHE)),
            counters: Counters::default(),
            mutable: AtomicUsize::new(count),
            frozen: AtomicUsize::new(0),
            memory: AtomicUsize::new(memory),
            age_records: AtomicUsize::new(shares.age_records),
        };
        let index = Self(Arc::new(inner));
        index.set_memory(memory);
        Ok(index)
    }

    /// Takes in what a run of the log brought, when a store is opened: the records of its entries, and the numbers of those
    /// that they replaced, of which some may never have been in the index. Nobody asks meanwhile.
    ///
    /// # Errors
    /// [`IndexError::Position`] and [`IndexError::Number`], of a record that cannot be or does not follow those before: then
    /// nothing was taken in.
    pub fn load(&self, records: &[Record], gone: &[SerialNumber]) -> Result<(), IndexError> {
        self.0.load(records, gone)
    }

    /// Does the jobs that are due until writers need not wait any more, here and now.
    ///
    /// # Errors
    /// As [`Job::step`](crate::Job::step).
    pub fn catch_up(&self) -> Result<(), IndexError> {
        while self.behind().is_late() {
            let Some(job) = self.work() else { return Ok(()) };
            self.install(job.run()?);
        }
        Ok(())
    }

    /// What the index is made of now. To be called while nobody edits it, so that it is of one state. Takes no time to speak
    /// of: what was mutable is frozen, and copied by nobody.
    pub fn snapshot(&self) -> Snapshot {
        let inner = &*self.0;
        let mut editing = inner.editing.lock();
        let mut state = inner.state.lock();
        inner.freeze(&mut editing, &mut state);
        inner.balance(&state);
        let tiers = inner.tiers();
        let entry = |(segment, tier): (&Arc<Segment>, &u8)| {
            segment.name();
            SegmentEntry {
                number: segment.id().number,
                tier: *tier,
                len: segment.file_len(),
                digest: segment.digest(),
                cut: segment.cut(),
            }
        };
        Snapshot {
            segments: tiers.segments.iter().zip(&tiers.numbers).map(entry).collect(),
            retired: state.retired.clone(),
            frozen: state.frozen.clone(),
        }
    }

    /// Removes files that a snapshot said are retired. To be called when that snapshot is durable and none before it will be
    /// opened again.
    ///
    /// # Errors
    /// [`IndexError::Disk`]: the first that cannot be removed. It and those after it remain retired.
    pub fn unlink(&self, retired: &[String]) -> Result<(), IndexError> {
        for name in retired {
            if !self.0.state.lock().retired.contains(name) {
                continue;
            }
            remove(&self.0, name)?;
            self.0.state.lock().retired.retain(|it| it != name);
        }
        Ok(())
    }

    /// Removes the files of this shard that are neither in the list, nor retired, nor being written: what a crash, or a job that
    /// failed on a failing disk, left behind. Returns how many.
    ///
    /// # Errors
    /// [`IndexError::Disk`].
    pub fn remove_strays(&self) -> Result<usize, IndexError> {
        let inner = &*self.0;
        let mut count = 0;
        let names = inner.vfs.read_dir(&inner.options.folder)?;
        for name in names.iter().filter_map(|name| name.to_str()) {
            let Some(number) = SegmentId::number_in(name, inner.segment_id(0).shard) else {
                continue;
            };
            let state = inner.state.lock();
            let listed = inner.tiers().segments.iter().any(|it| it.id().number == number);
            let running = state.running().next().is_some();
            if listed || running || state.retired.iter().any(|it| it == name) {
                continue;
            }
            drop(state);
            remove(inner, name)?;
            count += 1;
        }
        Ok(count)
    }
}

/// Removes a file that may be gone already.
fn remove(inner: &Inner, name: &str) -> Result<(), IndexError> {
    match inner.vfs.remove_file(&inner.options.folder.join(name)) {
        Err(error) if error.kind() != VfsErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// A file of the list that is not there is damage.
pub(super) fn missing(error: IndexError, options: &TieredOptions, id: SegmentId) -> IndexError {
    match error {
        IndexError::Disk(error) if error.kind() == VfsErrorKind::NotFound => {
            IndexError::Damaged { file: options.folder.join(id.name()), what: "it is missing" }
        }
        other => other,
    }
}
