//! The undo file: undo records of the last blocks, one after the other, found by height.
//!
//! ```text
//!  <base>.undo    │ header │ h │ h+1 │ h+2 │ ...          appended when blocks are durable
//!                           ▲           ▲
//!  in memory      first ────┘    places ┘ of every height from the first on: without a gap up to the last
//! ```
//!
//! Derived data, with the rules of the [twig file](crate::TwigFile), and these:
//!
//! * What counts is without a gap up to the newest block: a state is looked back from at the newest end. So
//!   opening is told the height and the end of the log of the newest block that it may know, and
//!   forgets everything if the last record is not that block's, and what lies before a gap.
//! * A record takes the place of an earlier one of its height, and of all above it.
//! * Opening reads heads only. A section is checked when it is read, and if it is damaged, that height and all
//!   before it are forgotten.
//!
//! **Invariant:** no record describes a block that was not durable: it is appended after that, and a block that was
//! durable stays what it is.

use crate::segments::files::Segments;
use crate::segments::header::Format;
use crate::segments::listing::{Intact, Listing};
use crate::segments::segment::{Extent, SegmentSize};
use crate::undo::record::{EncodedUndo, HEAD_LEN, UndoHead, UndoSection};
use crate::{LogError, StoreId};
use hedgerow_types::{Height, LogPosition, ShardId};
use hedgerow_vfs::{Vfs, VfsFile};
use parking_lot::RwLock;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const FORMAT: Format = Format { magic: *b"HgrwUndo", suffix: ".undo" };

/// How an undo file is kept. May differ at every opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoFileOptions {
    /// Length from which a segment is followed by a new one. Default: a sixteenth of the file, at least 256 KiB, at
    /// most 64 MiB.
    pub segment_size: SegmentSize,
    /// Bound in bytes of the cache of sections. Default 32 MiB; 0 turns it off.
    pub cache_bytes: u64,
}

impl Default for UndoFileOptions {
    fn default() -> Self {
        let segment_size = SegmentSize { least: 256 << 10, most: 64 << 20 };
        Self { segment_size, cache_bytes: 32 << 20 }
    }
}

/// What an undo file has done since it was opened, and how large it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UndoFileStats {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Heights that have a record.
    pub heights: u64,
    /// Sections that were found damaged since it was opened.
    pub damaged: u64,
    /// Bytes written to files.
    pub bytes_written: u64,
}

/// What of a record is cached.
#[derive(Clone, Debug)]
enum Part {
    Head(Arc<UndoHead>),
    Section(Arc<UndoSection>),
}

/// Height, and the shard, or [`HEAD`].
type Key = (Height, u8);
/// In a [`Key`]: the head.
const HEAD: u8 = u8::MAX;

#[derive(Clone, Copy, Debug)]
struct RealBytes;

impl Weighter<Key, Part> for RealBytes {
    fn weight(&self, _: &Key, part: &Part) -> u64 {
        match part {
            Part::Head(_) => size_of::<UndoHead>() as u64 + 128,
            Part::Section(section) => section.weight(),
        }
    }
}

/// The undo records of a store. Shared: any thread reads, one appends and removes. See the
/// [crate documentation](crate).
#[derive(Debug)]
pub struct UndoFile {
    segments: Segments,
    segment_size: SegmentSize,
    id: StoreId,
    known: RwLock<Known>,
    cache: Option<Cache<Key, Part, RealBytes>>,
    damaged: AtomicU64,
}

/// What the segments hold.
#[derive(Debug, Default)]
struct Known {
    /// The first height that counts, if there is any.
    first: Height,
    /// Position of the record of each height from the first on.
    places: VecDeque<u64>,
    /// Where the log ended with the last one.
    end: LogPosition,
    /// By base: the greatest height that a segment has a record of.
    greatest: BTreeMap<u64, Height>,
}

impl Known {
    /// The height after the last one that counts.
    fn next(&self) -> Height {
        Height(self.first.0.saturating_add(self.places.len() as u64))
    }

    fn place(&self, height: Height) -> Option<u64> {
        let number = usize::try_from(height.0.checked_sub(self.first.0)?).ok()?;
        self.places.get(number).copied()
    }

    /// Takes a record in that lies at `at`. Returns the heights that count no more.
    fn add(&mut self, base: u64, at: u64, head: &UndoHead) {
        let greatest = self.greatest.entry(base).or_insert(head.height);
        *greatest = (*greatest).max(head.height);
        self.forget_from(head.height);
        // What went before must have ended where this one begins, or before.
        if self.next() != head.height || self.end > head.position {
            self.places.clear();
        }
        if self.places.is_empty() {
            self.first = head.height;
        }
        self.places.push_back(at);
        self.end = head.end;
    }

    /// Forgets this height and all above.
    fn forget_from(&mut self, height: Height) {
        let kept = height.0.saturating_sub(self.first.0);
        if let Ok(kept) = usize::try_from(kept)
            && kept < self.places.len()
        {
            self.places.truncate(kept);
            // Where that ended is not known: the next record says where it begins.
            self.end = LogPosition(0);
        }
    }

    /// Forgets all heights before this one.
    fn forget_before(&mut self, height: Height) {
        while self.first < height && self.places.pop_front().is_some() {
            self.first = self.first.next();
        }
    }
}

impl UndoFile {
    /// Opens the undo file in `dir`, which is made if need be, of a store whose newest block is that of `height`, the
    /// record of which ends at `log_end`.
    ///
    /// # Errors
    /// [`LogError::Io`]; [`LogError::Corrupt`] if a segment is another store's or of an unknown
    /// format version. Damage is not an error.
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        id: StoreId,
        options: &UndoFileOptions,
        height: Height,
        log_end: LogPosition,
    ) -> Result<Self, LogError> {
        let mut known = Known::default();
        let mut last = None;
        let listing = Listing { vfs, dir, format: &FORMAT, id };
        let segments = listing.open_whatever(|extent, file| {
            let mut at = extent.content();
            while let Some(head) = head_at(extent, file, at, id)? {
                if head.height <= height {
                    known.add(extent.base, at, &head);
                    last = Some((head.height, head.end));
                } else {
                    // It is made again with its block.
                    let greatest = known.greatest.entry(extent.base).or_insert(head.height);
                    *greatest = (*greatest).max(head.height);
                }
                at += head.record_len();
            }
            Ok(Intact::SegmentUpTo(at))
        })?;
        if last != Some((height, log_end)) {
            known.places.clear();
        }
        let bytes = options.cache_bytes;
        let items = usize::try_from(bytes / 1024).unwrap_or(usize::MAX);
        Ok(Self {
            segments,
            segment_size: options.segment_size,
            id,
            known: RwLock::new(known),
            cache: (bytes > 0).then(|| Cache::with_weighter(items, bytes, RealBytes)),
            damaged: AtomicU64::new(0),
        })
    }

    /// The heights that have a record: the first and the last.
    pub fn heights(&self) -> Option<(Height, Height)> {
        let known = self.known.read();
        let last = known.next().0.checked_sub(1)?;
        (!known.places.is_empty()).then_some((known.first, Height(last)))
    }

    /// Writes records, of heights that follow each other. The first takes the place of what there was of its height and
    /// of all above; if it does not follow the height before, what there was counts no more. Durable after
    /// [`UndoFile::sync`].
    ///
    /// # Errors
    /// [`LogError::Io`], after which nothing more is written ([`LogError::Failed`]).
    pub fn append(&self, records: &[Arc<EncodedUndo>]) -> Result<(), LogError> {
        if records.is_empty() {
            return Ok(());
        }
        let start = self.segments.start();
        let places = self.segments.append(|batch| {
            let put = |record: &Arc<EncodedUndo>| {
                let held = batch.end().saturating_sub(start);
                if batch.last().is_full(self.segment_size.full_at(held)) {
                    batch.roll()?;
                }
                let place = (batch.last().base, batch.end());
                batch.put(record.bytes())?;
                Ok(place)
            };
            records.iter().map(put).collect::<Result<Vec<_>, LogError>>()
        })?;
        let mut known = self.known.write();
        for (record, (base, at)) in records.iter().zip(places) {
            let (from, to) = (record.head().height, known.next());
            self.uncache(from, to);
            known.add(base, at, record.head());
        }
        Ok(())
    }

    /// Takes heights out of the cache.
    fn uncache(&self, from: Height, to: Height) {
        let Some(cache) = &self.cache else { return };
        for height in (from.0..to.0).map(Height) {
            cache.remove(&(height, HEAD));
            ShardId::all().for_each(|shard| _ = cache.remove(&(height, shard.index() as u8)));
        }
    }

    /// The records of heights above this one count no more.
    pub fn forget_above(&self, height: Height) {
        let mut known = self.known.write();
        let (from, to) = (height.next(), known.next());
        self.uncache(from, to);
        known.forget_from(from);
    }

    /// The records of heights before this one count no more.
    pub fn forget_before(&self, height: Height) {
        self.known.write().forget_before(height);
    }

    /// No record counts any more.
    pub fn forget_all(&self) {
        self.known.write().places.clear();
    }

    /// The head of the record of a height; `None` if there is none, or it is damaged.
    ///
    /// # Errors
    /// [`LogError::Io`] if it could not be read.
    pub fn head(&self, height: Height) -> Result<Option<Arc<UndoHead>>, LogError> {
        if let Some(Part::Head(head)) = self.cached((height, HEAD)) {
            return Ok(Some(head));
        }
        let Some(at) = self.known.read().place(height) else { return Ok(None) };
        let head = self.read(height, at, |extent| {
            let mut bytes = [0; HEAD_LEN];
            if extent.end.saturating_sub(at) < HEAD_LEN as u64 {
                return Ok(None);
            }
            self.segments.read(extent, at, &mut bytes)?;
            let head = UndoHead::decode(&bytes, self.id);
            Ok(head.filter(|head| head.height == height).map(Arc::new))
        })?;
        if let Some(head) = &head {
            self.cache((height, HEAD), at, Part::Head(Arc::clone(head)));
        }
        Ok(head)
    }

    /// What the block of a height replaced in a shard; `None` if that is not known, or damaged.
    ///
    /// # Errors
    /// [`LogError::Io`] if it could not be read.
    pub fn section(
        &self,
        height: Height,
        shard: ShardId,
    ) -> Result<Option<Arc<UndoSection>>, LogError> {
        let key = (height, shard.index() as u8);
        if let Some(Part::Section(section)) = self.cached(key) {
            return Ok(Some(section));
        }
        let Some(head) = self.head(height)? else { return Ok(None) };
        let Some(at) = self.known.read().place(height) else { return Ok(None) };
        let (offset, len) = head.section_at(shard);
        let section = self.read(height, at, |extent| {
            let from = at.saturating_add(offset);
            if extent.end.saturating_sub(from) < u64::from(len) {
                return Ok(None);
            }
            let mut bytes = vec![0; len as usize];
            self.segments.read(extent, from, &mut bytes)?;
            Ok(head.section(shard, bytes.into()).map(Arc::new))
        })?;
        if let Some(section) = &section {
            self.cache(key, at, Part::Section(Arc::clone(section)));
        }
        Ok(section)
    }

    fn cached(&self, key: Key) -> Option<Part> {
        let found = self.cache.as_ref()?.get(&key)?;
        // What is forgotten may still be cached.
        self.known.read().place(key.0).map(|_| found)
    }

    /// Caches what was read at `at`, unless that was replaced meanwhile.
    fn cache(&self, key: Key, at: u64, part: Part) {
        let Some(cache) = &self.cache else { return };
        let known = self.known.read();
        if known.place(key.0) == Some(at) {
            cache.insert(key, part);
        }
    }

    /// Reads a part of the record at `at`. If it is damaged, the height and all before it are forgotten.
    fn read<T>(
        &self,
        height: Height,
        at: u64,
        read: impl FnOnce(Extent) -> Result<Option<T>, LogError>,
    ) -> Result<Option<T>, LogError> {
        let found = match self.segments.find(at) {
            Some(extent) => read(extent),
            None => Ok(None),
        };
        if matches!(found, Ok(Some(_))) {
            return found;
        }
        let mut known = self.known.write();
        if known.place(height) != Some(at) {
            return Ok(None); // forgotten while it was looked for
        }
        if found.is_ok() {
            self.damaged.fetch_add(1, Ordering::Relaxed);
            known.forget_before(height.next());
        }
        found
    }

    /// Makes everything that was appended before the call durable, the names of new files included.
    ///
    /// # Errors
    /// [`LogError::Io`], which is latched; [`LogError::Failed`] if one was before.
    pub fn sync(&self) -> Result<(), LogError> {
        self.segments.sync()
    }

    /// Removes the segments that hold only records which count no more, never the last one, and returns the bytes
    /// freed.
    ///
    /// # Errors
    /// [`LogError::Io`], [`LogError::Moved`]; the next call tries again what was left.
    pub fn remove_files(&self) -> Result<u64, LogError> {
        let last = self.segments.last().base;
        let mut gone = vec![];
        {
            let mut known = self.known.write();
            let first = if known.places.is_empty() { Height(u64::MAX) } else { known.first };
            for extent in self.segments.extents() {
                let needed = known.greatest.get(&extent.base).is_some_and(|it| *it >= first);
                if extent.base != last && !needed {
                    known.greatest.remove(&extent.base);
                    gone.push(extent.base);
                }
            }
        }
        if gone.is_empty() {
            return Ok(0);
        }
        self.segments.remove(|extent| gone.contains(&extent.base))
    }

    /// What the undo file has done since it was opened, and how large it is.
    pub fn stats(&self) -> UndoFileStats {
        let extents = self.segments.extents();
        UndoFileStats {
            bytes: extents.iter().map(|extent| extent.end - extent.base).sum(),
            segments: extents.len() as u64,
            heights: self.known.read().places.len() as u64,
            damaged: self.damaged.load(Ordering::Relaxed),
            bytes_written: self.segments.counters.bytes_written.load(Ordering::Relaxed),
        }
    }
}

/// The head at a position of a segment that is being opened, if it and the record behind it are there.
fn head_at(
    extent: Extent,
    file: &dyn VfsFile,
    at: u64,
    id: StoreId,
) -> Result<Option<UndoHead>, LogError> {
    let left = extent.end.saturating_sub(at);
    if left < HEAD_LEN as u64 {
        return Ok(None);
    }
    let mut bytes = [0; HEAD_LEN];
    let read = file.read_exact_at(&mut bytes, at - extent.base);
    read.map_err(LogError::io("reading the undo file"))?;
    Ok(UndoHead::decode(&bytes, id).filter(|head| head.record_len() <= left))
}
