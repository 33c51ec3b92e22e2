//! The twig file: records of finished twigs, appended in any order, found by shard and twig.
//!
//! ```text
//!  <base>.twigs   │ header │ record │ record │ record ...      records of all shards mixed
//!                                       ▲
//!  in memory      (shard, twig) ────────┘  position of the youngest intact record
//! ```
//!
//! Derived data, so the rules differ from the log's:
//!
//! * It is written on the way of a commit but not synced; [`TwigFile::sync`] comes before pruning
//!   of the log relies on it.
//! * Whatever is short, torn or damaged is not an error: the twig is missing, and its record is
//!   appended again once it was computed from the log. A record wins over earlier ones of the same
//!   twig.
//! * Failing to read is an error, as everywhere: it says nothing about what is there.
//!
//! **Invariant:** no record in it describes entries beyond the end of the log. The file is not
//! synced with the log, so after a crash it may know twigs of blocks that are lost; these records
//! are cut off, durably, when it is opened. Blocks that take the place of lost ones fill the same
//! twigs with other entries, and an old record must never come back for them.

use crate::record::rollback::dead_until;
use crate::segments::files::{Longer, Segments};
use crate::segments::header::Format;
use crate::segments::listing::{Intact, Listing};
use crate::segments::parts::SegmentPart;
use crate::segments::segment::{Extent, SegmentSize};
use crate::twig::record::{self, TwigBody, TwigGroup, TwigHeader, TwigRecord};
use crate::{Damage, LogError, StoreId};
use hedgerow_types::{LogPosition, SHARDS, ShardId, TwigId};
use hedgerow_vfs::{Vfs, VfsFile};
use parking_lot::RwLock;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const FORMAT: Format = Format { magic: *b"HgrwTwgs", suffix: ".twigs" };
/// Bytes read at a time while opening.
const SCAN_WINDOW: usize = 1 << 20;

/// Of the records that are read for one of their groups, one of so many is put into the cache: what is asked for often
/// gets there soon, and what is asked for once seldom drives out another.
const KEPT_ONE_OF: u64 = 8;

/// How a twig file is kept. May differ at every opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwigFileOptions {
    /// Length from which a segment is followed by a new one. Default: a sixteenth of the file, at
    /// least 512 KiB, about 55 twigs, and at most 64 MiB, about 7,000.
    pub segment_size: SegmentSize,
    /// Bound in bytes of the cache of records. Default 16 MiB, about 1,700 twigs; 0 turns it off.
    pub cache_bytes: u64,
    /// Most bytes of segments that are mapped into memory, as in
    /// [`LogOptions::mapped_bytes`](crate::LogOptions::mapped_bytes). Default 256 MiB.
    pub mapped_bytes: u64,
}

impl Default for TwigFileOptions {
    fn default() -> Self {
        let segment_size = SegmentSize { least: 512 << 10, most: 64 << 20 };
        Self { segment_size, cache_bytes: 16 << 20, mapped_bytes: 256 << 20 }
    }
}

/// What a twig file has done since it was opened, and how large it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TwigFileStats {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Twigs that have a record.
    pub twigs: u64,
    /// Records that were found damaged or torn, when opening and since.
    pub damaged: u64,
    /// Bytes of segments that are mapped into memory, as in
    /// [`LogStats::mapped_bytes`](crate::LogStats::mapped_bytes).
    pub mapped_bytes: u64,
    /// Reads of files, without those of opening.
    pub reads: u64,
    /// Bytes written to files.
    pub bytes_written: u64,
    /// Syncs of files.
    pub syncs: u64,
}

#[derive(Clone, Copy, Debug)]
struct RealBytes;

impl Weighter<(ShardId, TwigId), Arc<TwigRecord>> for RealBytes {
    fn weight(&self, _: &(ShardId, TwigId), record: &Arc<TwigRecord>) -> u64 {
        let arrays = size_of_val(&*record.nodes) + size_of_val(&*record.groups);
        let leaves = record.leaves.as_deref().map_or(0, size_of_val);
        (arrays + leaves + size_of_val(&*record.breaks) + size_of::<TwigRecord>() + 128) as u64
    }
}

/// What of the log belongs to the state: which twigs can be finished.
///
/// ```
/// use hedgerow_entryfile::LiveLog;
/// use hedgerow_types::LogPosition;
/// // All of it up to there.
/// let live = LiveLog::from(LogPosition(4096));
/// assert_eq!((live.start, live.end, live.dead), (LogPosition(0), LogPosition(4096), &[][..]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LiveLog<'a> {
    /// Where it begins: what lies below may be gone.
    pub start: LogPosition,
    /// Where it ends.
    pub end: LogPosition,
    /// What was taken back, in order: see [`EntryLog::set_dead`](crate::EntryLog::set_dead).
    pub dead: &'a [Range<LogPosition>],
}

impl From<LogPosition> for LiveLog<'_> {
    /// All up to there.
    fn from(end: LogPosition) -> Self {
        Self { start: LogPosition(0), end, dead: &[] }
    }
}

impl LiveLog<'_> {
    /// Whether a record is not that of a twig which is there: it was finished by what was taken back, or lies below
    /// the start, where what was taken back is not known any more.
    fn is_dead(&self, record: &TwigRecord) -> bool {
        record.record < self.start || dead_until(self.dead, record.last_position().0).is_some()
    }
}

/// Finished twigs of a store. Shared: any thread reads, one appends and prunes. See the
/// [crate documentation](crate).
#[derive(Debug)]
pub struct TwigFile {
    segments: Segments,
    segment_size: SegmentSize,
    known: RwLock<Known>,
    cache: Option<Cache<(ShardId, TwigId), Arc<TwigRecord>, RealBytes>>,
    damaged: AtomicU64,
    /// Groups that were asked for and not found in the cache.
    missed: AtomicU64,
}

/// What the segments hold.
#[derive(Debug, Default)]
struct Known {
    /// Position of the record of each twig.
    twigs: [BTreeMap<TwigId, u64>; SHARDS],
    /// By base: the greatest twig of each shard that a segment has a record of.
    greatest: BTreeMap<u64, [Option<TwigId>; SHARDS]>,
}

impl Known {
    fn add(&mut self, base: u64, at: u64, shard: ShardId, twig: TwigId) {
        self.twigs[shard.index()].insert(twig, at);
        let greatest = &mut self.greatest.entry(base).or_default()[shard.index()];
        *greatest = (*greatest).max(Some(twig));
    }
}

impl TwigFile {
    /// Makes an empty twig file in the directory `dir`, which is made if need be.
    ///
    /// # Errors
    /// [`LogError::Exists`] if the directory holds a twig file; [`LogError::Io`].
    pub fn create(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        id: StoreId,
        options: TwigFileOptions,
    ) -> Result<Self, LogError> {
        let segments = Listing { vfs, dir, format: &FORMAT, id }.create()?;
        Ok(Self::new(segments, Known::default(), 0, &options))
    }

    /// Opens the twig file in `dir`, reads all of it, and says which twigs have a record, by shard
    /// and twig. Records of twigs that reach to the end of the `live` log or beyond are
    /// dropped, with all that was appended after the first of them; so are those of twigs that were finished in a
    /// dead span of it, or begin before its start. What is torn is cut off; a
    /// directory or files that are missing are an empty twig file.
    ///
    /// # Errors
    /// [`LogError::Io`]; [`LogError::Corrupt`] if a segment is another store's or of an unknown
    /// format version, or a newer version made a record. Damage is not an error.
    pub fn open<'a>(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        id: StoreId,
        options: TwigFileOptions,
        live: impl Into<LiveLog<'a>>,
    ) -> Result<(Self, Vec<(ShardId, TwigId)>), LogError> {
        let live = &live.into();
        let mut known = Known::default();
        let mut damaged = 0;
        let listing = Listing { vfs, dir, format: &FORMAT, id };
        let segments = listing.open_whatever(|extent, file| {
            let (window, window_at) = (vec![], 0);
            let mut scan = TwigScan { extent, file, live, damaged: 0, window, window_at };
            let intact = scan.run(&mut known).map_err(|stop| match stop {
                Stop::Read(error) => error,
                Stop::Newer { at, what } => {
                    let path = dir.join(FORMAT.file_name(extent.base));
                    let (offset, at) = (at - extent.base, LogPosition(at));
                    LogError::Corrupt { path, offset, at, what }
                }
            });
            damaged += scan.damaged;
            intact
        })?;
        let found = ShardId::all()
            .flat_map(|shard| known.twigs[shard.index()].keys().map(move |&twig| (shard, twig)))
            .collect();
        Ok((Self::new(segments, known, damaged, &options), found))
    }

    fn new(segments: Segments, known: Known, damaged: u64, options: &TwigFileOptions) -> Self {
        let bytes = options.cache_bytes;
        let items = usize::try_from(bytes / 9_500).unwrap_or(usize::MAX);
        Self {
            segments: segments.mapping(options.mapped_bytes),
            segment_size: options.segment_size,
            known: RwLock::new(known),
            cache: (bytes > 0).then(|| Cache::with_weighter(items, bytes, RealBytes)),
            damaged: AtomicU64::new(damaged),
            missed: AtomicU64::new(0),
        }
    }

    /// Writes records; each is readable afterwards and takes the place of an earlier one of its
    /// twig. Durable after [`TwigFile::sync`].
    ///
    /// # Errors
    /// [`LogError::Malformed`] if one contradicts itself, and nothing was written; [`LogError::Io`],
    /// after which nothing more is written ([`LogError::Failed`]).
    pub fn append(&self, records: &[Arc<TwigRecord>]) -> Result<(), LogError> {
        if records.is_empty() {
            return Ok(());
        }
        let encoded: Result<Vec<_>, _> = records.iter().map(|record| record.encode()).collect();
        let encoded = encoded?;
        let start = self.segments.start();
        let places = self.segments.append(|batch| {
            encoded
                .iter()
                .map(|bytes| {
                    let held = batch.end().saturating_sub(start);
                    if batch.last().is_full(self.segment_size.full_at(held)) {
                        batch.roll()?;
                    }
                    let place = (batch.last().base, batch.end());
                    batch.put(bytes)?;
                    Ok(place)
                })
                .collect::<Result<Vec<_>, LogError>>()
        })?;
        let mut known = self.known.write();
        for (record, (base, at)) in records.iter().zip(places) {
            known.add(base, at, record.shard, record.twig);
        }
        drop(known);
        if let Some(cache) = &self.cache {
            for record in records {
                cache.remove(&(record.shard, record.twig));
            }
        }
        Ok(())
    }

    /// The record of a twig; `None` if there is none or it is damaged, which
    /// [`TwigFileStats::damaged`] counts.
    ///
    /// # Errors
    /// [`LogError::Io`] if it could not be read.
    pub fn get(&self, shard: ShardId, twig: TwigId) -> Result<Option<Arc<TwigRecord>>, LogError> {
        if let Some(record) = self.cache.as_ref().and_then(|cache| cache.get(&(shard, twig))) {
            return Ok(Some(record));
        }
        let decoded = |header: &TwigHeader, body: &[u8]| {
            Some(Arc::new(TwigRecord::decode(header, body).ok()?))
        };
        let Some((at, record)) = self.read_with(shard, twig, decoded)? else { return Ok(None) };
        self.keep(at, &record);
        Ok(Some(record))
    }

    /// What the record of a twig says of the group that `leaf` (0..2048) belongs to; `None` as for
    /// [`TwigFile::get`]. One of some calls puts the record into the cache.
    ///
    /// # Errors
    /// As [`TwigFile::get`]; [`LogError::Malformed`] if a twig has no such leaf.
    pub fn group(
        &self,
        shard: ShardId,
        twig: TwigId,
        leaf: usize,
    ) -> Result<Option<TwigGroup>, LogError> {
        let beyond = || LogError::Malformed("a leaf that a twig does not have");
        if let Some(record) = self.cache.as_ref().and_then(|cache| cache.get(&(shard, twig))) {
            return record.group_of(leaf).ok_or_else(beyond).map(Some);
        }
        let keep = self.cache.is_some()
            && self.missed.fetch_add(1, Ordering::Relaxed).is_multiple_of(KEPT_ONE_OF);
        let found = self.read_with(shard, twig, |header, body| {
            let group = TwigBody::check(header, body).ok()?.group(twig, leaf);
            let record = if keep { TwigRecord::decode(header, body).ok() } else { None };
            Some((group, record))
        })?;
        let Some((at, (group, record))) = found else { return Ok(None) };
        if let Some(record) = record {
            self.keep(at, &Arc::new(record));
        }
        group.ok_or_else(beyond).map(Some)
    }

    /// Puts a record, which lies at `at`, into the cache: not if it was replaced meanwhile, for the cache would keep
    /// the old one.
    fn keep(&self, at: u64, record: &Arc<TwigRecord>) {
        let known = self.known.read();
        let (shard, twig) = (record.shard, record.twig);
        if let Some(cache) = &self.cache
            && known.twigs[shard.index()].get(&twig) == Some(&at)
        {
            cache.insert((shard, twig), Arc::clone(record));
        }
    }

    /// What `decode` makes of the record of a twig, and where that lies; `None` if there is none, or it is damaged: then
    /// `decode` says so, or is not asked.
    fn read_with<T>(
        &self,
        shard: ShardId,
        twig: TwigId,
        decode: impl Fn(&TwigHeader, &[u8]) -> Option<T>,
    ) -> Result<Option<(u64, T)>, LogError> {
        loop {
            let Some(at) = self.position(shard, twig) else { return Ok(None) };
            match self.read_at(at, shard, twig, &decode) {
                Ok(Some(found)) => return Ok(Some((at, found))),
                Ok(None) => {
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                    return Ok(None);
                }
                // Pruned while it was looked for.
                Err(_) if self.position(shard, twig) != Some(at) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn position(&self, shard: ShardId, twig: TwigId) -> Option<u64> {
        self.known.read().twigs[shard.index()].get(&twig).copied()
    }

    /// What `decode` makes of the record at `at`, `None` if it is damaged.
    fn read_at<T>(
        &self,
        at: u64,
        shard: ShardId,
        twig: TwigId,
        decode: impl Fn(&TwigHeader, &[u8]) -> Option<T>,
    ) -> Result<Option<T>, LogError> {
        // Nearly always all of it.
        let mut first = vec![0; record::TYPICAL_LEN];
        let Some((extent, first)) = self.segments.read_some(at, &mut first)? else {
            return Ok(None);
        };
        let Some((header, begun)) = first.split_first_chunk() else { return Ok(None) };
        let Ok(header) = TwigHeader::decode(header) else { return Ok(None) };
        let have = extent.end - at;
        let len = header.body_len as usize;
        if header.shard != shard
            || header.twig != twig
            || u64::from(header.body_len) > have.saturating_sub(record::HEADER_LEN as u64)
        {
            return Ok(None);
        }
        if let Some(body) = begun.get(..len) {
            return Ok(decode(&header, body));
        }
        let mut body = vec![0; len];
        let Some((known, rest)) = body.split_at_mut_checked(begun.len()) else { return Ok(None) };
        known.copy_from_slice(begun);
        self.segments.read(extent, at + first.len() as u64, rest)?;
        Ok(decode(&header, &body))
    }

    /// Forgets the records of the twigs of each shard from the one given on: what finished them was taken back. In the
    /// file they stay; opening leaves them out, see [`LiveLog`].
    pub fn forget_from(&self, first: &[TwigId; SHARDS]) {
        let mut known = self.known.write();
        for ((shard, twigs), first) in ShardId::all().zip(&mut known.twigs).zip(first) {
            let gone = twigs.split_off(first);
            if let Some(cache) = &self.cache {
                gone.keys().for_each(|&twig| _ = cache.remove(&(shard, twig)));
            }
        }
    }

    /// Makes everything that was appended before the call durable, the names of new files included.
    ///
    /// # Errors
    /// [`LogError::Io`], which is latched; [`LogError::Failed`] if one was before.
    pub fn sync(&self) -> Result<(), LogError> {
        self.segments.sync()
    }

    /// Checks that what was written is what the names on the disk lead to, as far as lengths and
    /// headers tell. What is read afterwards is read from there.
    ///
    /// # Errors
    /// [`LogError::Moved`], [`LogError::Short`] or [`LogError::Corrupt`] if not; [`LogError::Io`].
    pub fn check_files(&self) -> Result<(), LogError> {
        self.segments.check_files(Longer::Ignored)
    }

    /// Removes the segments all of whose records are of twigs below `first_kept` of their shard,
    /// never the last one, and returns the bytes freed. What else is below may stay readable.
    ///
    /// # Errors
    /// [`LogError::Io`], [`LogError::Moved`]; the next call tries again what was left.
    pub fn prune(&self, first_kept: &[TwigId; SHARDS]) -> Result<u64, LogError> {
        let last = self.segments.last().base;
        let mut gone = vec![];
        {
            let mut known = self.known.write();
            for extent in self.segments.extents() {
                let greatest = known.greatest.get(&extent.base);
                let needed = greatest.is_some_and(|greatest| {
                    greatest.iter().zip(first_kept).any(|(twig, kept)| *twig >= Some(*kept))
                });
                if extent.base != last && !needed {
                    gone.push(extent);
                }
            }
            let is_gone = |at: u64| gone.iter().any(|extent| extent.base <= at && at < extent.end);
            for (twigs, first_kept) in known.twigs.iter_mut().zip(first_kept) {
                let below: Vec<TwigId> = twigs
                    .range(..first_kept)
                    .filter(|&(_, &at)| is_gone(at))
                    .map(|(&twig, _)| twig)
                    .collect();
                below.iter().for_each(|twig| _ = twigs.remove(twig));
            }
            gone.iter().for_each(|extent| _ = known.greatest.remove(&extent.base));
        }
        self.segments.remove(|extent| gone.iter().any(|other| other.base == extent.base))
    }

    /// The files as they are now, for a copy: records that are appended later are not in it.
    pub fn parts(&self) -> Vec<SegmentPart> {
        self.segments.all_parts()
    }

    /// Opens the file of a part, to read it.
    ///
    /// # Errors
    /// As [`EntryLog::open_part`](crate::EntryLog::open_part).
    pub fn open_part(&self, part: &SegmentPart) -> Result<Arc<dyn VfsFile>, LogError> {
        self.segments.open_part(part)
    }

    /// What the twig file has done since it was opened, and how large it is.
    pub fn stats(&self) -> TwigFileStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let extents = self.segments.extents();
        TwigFileStats {
            bytes: extents.iter().map(|extent| extent.end - extent.base).sum(),
            segments: extents.len() as u64,
            twigs: self.known.read().twigs.iter().map(|twigs| twigs.len() as u64).sum(),
            damaged: get(&self.damaged),
            mapped_bytes: self.segments.mapped_bytes(),
            reads: self.segments.counters.reads.counts().reads,
            bytes_written: get(&self.segments.counters.bytes_written),
            syncs: get(&self.segments.counters.syncs),
        }
    }
}

/// Looks at every record of a segment that is being opened.
struct TwigScan<'a> {
    extent: Extent,
    file: &'a dyn VfsFile,
    live: &'a LiveLog<'a>,
    damaged: u64,
    /// Some bytes of the segment, and the position where they begin.
    window: Vec<u8>,
    window_at: u64,
}

/// Why a segment was not looked at to its end.
enum Stop {
    /// It could not be read.
    Read(LogError),
    /// A newer version made the record there.
    Newer { at: u64, what: Damage },
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        Self::Read(error)
    }
}

impl TwigScan<'_> {
    /// Notes intact records in `known`, and says where they end. A record whose header is intact
    /// but whose body is not is passed over; a header that is not is the end.
    fn run(&mut self, known: &mut Known) -> Result<Intact, Stop> {
        let mut at = self.extent.content();
        while let Some((header, _)) = self.bytes(at, record::HEADER_LEN)?.split_first_chunk() {
            let header = match TwigHeader::decode(header) {
                Ok(header) => header,
                Err(what @ Damage::Newer { .. }) => return Err(Stop::Newer { at, what }),
                Err(_) => break,
            };
            let len = record::HEADER_LEN + header.body_len as usize;
            let Some(body) = self.bytes(at, len)?.get(record::HEADER_LEN..len) else { break };
            match TwigRecord::decode(&header, body) {
                Ok(record) if record.last_position() >= self.live.end => {
                    return Ok(Intact::AllUpTo(at));
                }
                Ok(record) if self.live.is_dead(&record) => {}
                Ok(record) => known.add(self.extent.base, at, record.shard, record.twig),
                Err(_) => self.damaged += 1,
            }
            at += len as u64;
        }
        self.damaged += u64::from(at < self.extent.end);
        Ok(Intact::SegmentUpTo(at))
    }

    /// The bytes of the segment from `at` on: `len` of them or more, less at its end.
    fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8], LogError> {
        let left = usize::try_from(self.extent.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = len.min(left);
        let held = |this: &Self| at.checked_sub(this.window_at).map(|offset| offset as usize);
        if held(self).is_none_or(|offset| offset + len > self.window.len()) {
            self.window.resize(len.max(SCAN_WINDOW).min(left), 0);
            let read = self.file.read_exact_at(&mut self.window, at - self.extent.base);
            read.map_err(LogError::io("reading the twig file"))?;
            self.window_at = at;
        }
        Ok(held(self).and_then(|offset| self.window.get(offset..)).unwrap_or_default())
    }
}
