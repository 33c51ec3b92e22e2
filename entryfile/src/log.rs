//! The entry log: records are announced, written, synced, read and pruned.

#[cfg(doc)]
use crate::LogView;
use crate::read::cache::EntryCache;
use crate::record::frame::{ALIGN, NoEntry};
use crate::record::header::{RECORD_HEADER_LEN, RecordHeader, padded};
use crate::record::rollback::{Rollback, dead_until};
use crate::record::tail::{SharedTail, Tail};
use crate::segments::batch::Batch;
use crate::segments::files::{Longer, Segments};
use crate::segments::header::Format;
use crate::segments::listing::Listing;
use crate::segments::parts::SegmentPart;
use crate::segments::segment::{Extent, IoCounters, SegmentSize};
use crate::{Damage, LogError, Record, StoreId, StoredEntry};
use bytes::Bytes;
use hedgerow_types::{Height, LogPosition, ShardId};
use hedgerow_vfs::{ManyReads, Vfs, VfsFile};
use parking_lot::RwLock;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const FORMAT: Format = Format { magic: *b"HgrwLog\0", suffix: ".log" };

/// How a log is kept. May differ at every opening; nothing here changes what the log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Length from which a segment is followed by a new one; pruning frees whole segments. A segment
    /// ends with a record, so it exceeds this by up to a record. Default: a sixteenth of the log,
    /// at least 4 MiB and at most 256 MiB.
    pub segment_size: SegmentSize,
    /// Bound in bytes of the cache of entries read from disk, overhead included; 0 turns it off.
    /// Default 0: the system has a cache already, and asking ours in vain costs as much as asking it.
    pub cache_bytes: u64,
    /// Memory for records after they were written, what each takes beside its bytes included. Records
    /// that are not written yet are kept in any case. Default 16 MiB.
    pub tail_bytes: u64,
    /// Most bytes of segments that are mapped into memory, so that entries are read without a call of the
    /// system; 0 for none. See [`VfsFile::map`] for what that costs when a disk fails. Segments that grow no more are
    /// mapped, the newest first, whole or not at all; a disk that maps no files reads them as ever. Default 768 MiB.
    pub mapped_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        let segment_size = SegmentSize { least: 4 << 20, most: 256 << 20 };
        Self { segment_size, cache_bytes: 0, tail_bytes: 16 << 20, mapped_bytes: 768 << 20 }
    }
}

/// What a log has done since it was opened, and how large it is.
///
/// ```
/// use hedgerow_entryfile::{EntryLog, LogOptions, StoreId};
/// # use hedgerow_vfs::MemDisk;
/// # let (disk, dir) = (std::sync::Arc::new(MemDisk::new()), std::path::Path::new("/log"));
/// # let id = StoreId([7; 16]);
/// let log = EntryLog::create(disk, dir, id, LogOptions::default())?;
/// let before = log.stats();
/// log.sync()?;
/// let now = log.stats();
/// assert_eq!((now.segments, now.syncs > before.syncs), (1, true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LogStats {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Of these, bytes that were taken back by rollbacks.
    pub dead_bytes: u64,
    /// Number of segments.
    pub segments: u64,
    /// Memory of the records that are held, written or not.
    pub tail_bytes: u64,
    /// Bytes of the entry cache, overhead included.
    pub cache_bytes: u64,
    /// Bytes of segments that are mapped into memory: not the process's own, but of the system's cache of files, which
    /// gives them up when memory is wanted. What of them was read counts as resident (RSS) all the same.
    pub mapped_bytes: u64,
    /// Entries that were read from records in memory.
    pub entries_from_tail: u64,
    /// Entries that the cache had.
    pub entries_from_cache: u64,
    /// Entries that were read from disk, by position. Cursors and scans are not counted.
    pub entries_from_disk: u64,
    /// Reads of files, for whatever purpose.
    pub reads: u64,
    /// Bytes of these reads.
    pub bytes_read: u64,
    /// Writes to files.
    pub writes: u64,
    /// Bytes of these writes.
    pub bytes_written: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Batches of reads that the disk was given.
    pub batches: u64,
    /// Reads of them, and of these those that went through a ring, were told the system ahead, or were made
    /// by threads: what the system did not have in memory. The others were made one by one.
    pub reads_in_batches: u64,
    /// Through a ring.
    pub reads_by_ring: u64,
    /// Told the system ahead.
    pub reads_ahead: u64,
    /// By threads.
    pub reads_by_threads: u64,
    /// Most reads that were under way at a time, in one batch.
    pub read_depth: u64,
}

/// Bytes compared at a time.
const COMPARED: usize = 1 << 20;

/// The log of all entries of a store. Shared: any thread reads, one announces, one appends. See the
/// [crate documentation](crate).
#[derive(Debug)]
pub struct EntryLog {
    pub(crate) segments: Segments,
    pub(crate) tail: SharedTail,
    pub(crate) cache: EntryCache,
    /// Base of the first segment.
    start: AtomicU64,
    /// What was taken back, in order.
    dead: RwLock<Vec<Range<LogPosition>>>,
}

impl EntryLog {
    /// Makes an empty log in the directory `dir`, which is made if need be. It becomes durable with
    /// the first [`EntryLog::sync`].
    ///
    /// # Errors
    /// [`LogError::Exists`] if the directory holds a log; [`LogError::Io`].
    pub fn create(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        id: StoreId,
        options: LogOptions,
    ) -> Result<Self, LogError> {
        Ok(Self::new(Listing { vfs, dir, format: &FORMAT, id }.create()?, &options))
    }

    /// Opens the log in `dir`, of which the positions from `start` to `end` are to be kept: both
    /// must be what [`EntryLog::start`] and [`EntryLog::end`] said when they were made durable.
    ///
    /// What lies beyond `end` is cut off, durably; segments wholly below `start` are removed.
    /// Neither happens unless everything between is there. Headers of segments are checked here,
    /// records and entries when they are read.
    ///
    /// # Errors
    /// [`LogError::Short`], [`LogError::NoSegment`] or [`LogError::Overlap`] if the segments do not
    /// cover the log; [`LogError::Corrupt`] if one's header is damaged or another store's;
    /// [`LogError::Bounds`] if `start` and `end` cannot be those of a log; [`LogError::Io`].
    pub fn open(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        id: StoreId,
        options: LogOptions,
        start: LogPosition,
        end: LogPosition,
    ) -> Result<Self, LogError> {
        for bound in [start, end] {
            check_aligned(bound)?;
        }
        let listing = Listing { vfs, dir, format: &FORMAT, id };
        Ok(Self::new(listing.open_exactly(start.0, end.0)?, &options))
    }

    pub(crate) fn new(segments: Segments, options: &LogOptions) -> Self {
        let (start, last) = (segments.start(), segments.last());
        let tail = Tail::new(start, last, options.segment_size, options.tail_bytes);
        Self {
            start: AtomicU64::new(start),
            dead: RwLock::default(),
            segments: segments.mapping(options.mapped_bytes),
            tail: SharedTail::new(tail),
            cache: EntryCache::new(options.cache_bytes),
        }
    }

    /// The first position that the log has: that of its first segment's header.
    pub fn start(&self) -> LogPosition {
        LogPosition(self.start.load(Ordering::Acquire))
    }

    /// End of the last record that was written.
    pub fn end(&self) -> LogPosition {
        LogPosition(self.segments.end())
    }

    /// End of the last record that was announced.
    pub fn announced_end(&self) -> LogPosition {
        LogPosition(self.tail.end())
    }

    /// Where the next record must begin: at [`EntryLog::announced_end`], or 64 bytes further if a
    /// new segment begins there.
    pub fn next_position(&self) -> LogPosition {
        LogPosition(self.tail.read().next_position())
    }

    /// Makes a record readable from memory; it is written later, by [`EntryLog::append`].
    ///
    /// # Errors
    /// [`LogError::OutOfOrder`] unless it begins at [`EntryLog::next_position`];
    /// [`LogError::Failed`] after a failed write or sync.
    pub fn announce(&self, record: Arc<Record>) -> Result<(), LogError> {
        self.segments.check_writable()?;
        self.tail.announce(record, self.start().0, false)
    }

    /// As [`EntryLog::announce`], of a record whose place was found a while ago, by [`LogView::next_position`]. A
    /// segment may then end a record earlier or later than it would now: how long segments are follows from how long
    /// the log is, which may have been pruned since.
    ///
    /// # Errors
    /// As [`EntryLog::announce`].
    pub fn announce_placed(&self, record: Arc<Record>) -> Result<(), LogError> {
        self.segments.check_writable()?;
        self.tail.announce(record, self.start().0, true)
    }

    /// Writes the oldest record that was announced but not written. It is not durable before
    /// [`EntryLog::sync`].
    ///
    /// # Errors
    /// As [`EntryLog::append_many`].
    pub fn append(&self, record: &Record) -> Result<(), LogError> {
        self.append_all(&[record])
    }

    /// Writes the oldest records that were announced but not written, small ones together.
    ///
    /// # Errors
    /// [`LogError::OutOfOrder`] if they are not the oldest unwritten ones in order, and nothing was
    /// written. [`LogError::Io`] if the disk refused; then, and after any failed sync, every later
    /// announce, append and sync is answered with [`LogError::Failed`], while all that was
    /// announced stays readable.
    pub fn append_many(&self, records: &[Arc<Record>]) -> Result<(), LogError> {
        let records: Vec<&Record> = records.iter().map(Arc::as_ref).collect();
        self.append_all(&records)
    }

    fn append_all(&self, records: &[&Record]) -> Result<(), LogError> {
        self.segments.check_writable()?;
        {
            let tail = self.tail.read();
            let mut unwritten = tail.unwritten();
            for record in records {
                let expected = unwritten.next().map(|record| record.header());
                if expected != Some(record.header()) {
                    return Err(LogError::OutOfOrder {
                        expected: LogPosition(
                            expected.map_or(tail.next_position(), |header| header.position),
                        ),
                        got: record.position(),
                    });
                }
            }
        }
        self.segments.append(|batch| records.iter().try_for_each(|record| put(batch, record)))?;
        let dropped = self.tail.mark_written(records.len());
        drop(dropped);
        Ok(())
    }

    /// Makes all that was appended before the call durable, the names of new files included.
    ///
    /// # Errors
    /// [`LogError::Io`], which is latched; [`LogError::Failed`] if one was before.
    pub fn sync(&self) -> Result<(), LogError> {
        self.segments.sync()
    }

    /// Says which spans of the log were taken back: scans and cursors pass over them from now on. They ascend and
    /// do not touch, as [`with_dead_span`](crate::with_dead_span) has them.
    pub fn set_dead(&self, spans: &[Range<LogPosition>]) {
        *self.dead.write() = spans.to_vec();
    }

    /// The spans that were taken back and that the log still has, in order.
    pub fn dead(&self) -> Vec<Range<LogPosition>> {
        let start = self.start();
        let dead = self.dead.read();
        dead.iter().filter(|span| span.end > start).cloned().collect()
    }

    /// Writes a rollback record behind everything that was announced, all of which must be written, and makes it
    /// durable. Returns where it ends. Its span is dead once [`EntryLog::set_dead`] says so.
    ///
    /// # Errors
    /// [`LogError::OutOfOrder`] if a record is not written yet; as [`EntryLog::append_many`] and
    /// [`EntryLog::sync`].
    pub fn append_rollback(&self, rollback: &Rollback) -> Result<LogPosition, LogError> {
        self.segments.check_writable()?;
        let position = {
            let tail = self.tail.read();
            if let Some(record) = tail.unwritten().next() {
                let (expected, got) = (record.position(), LogPosition(tail.next_position()));
                return Err(LogError::OutOfOrder { expected, got });
            }
            tail.next_position()
        };
        let bytes = rollback.encode(position, self.segments.id);
        self.segments.append(|batch| {
            place(batch, position)?;
            batch.put(&bytes)
        })?;
        let end = position + bytes.len() as u64;
        self.tail.skip(position, end, self.start().0);
        self.segments.sync()?;
        Ok(LogPosition(end))
    }

    /// What the header of the record at `at` says.
    ///
    /// # Errors
    /// As [`EntryLog::scan`] for what is not the position of a record.
    pub fn record_head(&self, at: LogPosition) -> Result<RecordHead, LogError> {
        let head = |header: &RecordHeader| RecordHead {
            height: header.height,
            entries_before: header.entries_before,
            end: LogPosition(header.end()),
        };
        if let Some(record) = self.in_memory(at.0)? {
            if record.position() != at {
                return Err(LogError::NotAnEntry { at, what: Damage::Magic });
            }
            return Ok(head(record.header()));
        }
        Ok(head(&self.header_on_disk(at.0)?.0))
    }

    /// Where the record begins that follows `end`, which is the start of the log or the end of a record; `None`
    /// if none does.
    pub fn next_record(&self, end: LogPosition) -> Option<LogPosition> {
        self.record_after(end.0).map(LogPosition)
    }

    /// The position that [`EntryLog::prune_head`] with the same argument would make the start of
    /// the log; `None` if nothing would go.
    pub fn prunable(&self, upto: LogPosition) -> Option<LogPosition> {
        self.segments.boundary(upto.0).map(LogPosition)
    }

    /// Removes the segments that lie wholly below `upto`, never the last one, and returns the bytes
    /// freed. The caller has made the new start, [`EntryLog::prunable`], durable before.
    ///
    /// # Errors
    /// [`LogError::Io`], [`LogError::Moved`]; files that are left are tried again by the next call,
    /// whatever its argument, and when the log is opened with the new start.
    pub fn prune_head(&self, upto: LogPosition) -> Result<u64, LogError> {
        let boundary = self.segments.boundary(upto.0).unwrap_or(0);
        self.start.fetch_max(boundary, Ordering::AcqRel);
        self.segments.remove(|extent| extent.base < boundary)
    }

    /// Checks that what was written is what the names on the disk lead to: headers and lengths of all
    /// segments, and every byte of the records that are still in memory. What is read from the disk
    /// afterwards is read from what the names lead to now. Nobody may append meanwhile.
    ///
    /// # Errors
    /// [`LogError::Moved`], [`LogError::Short`], [`LogError::Overlap`] or [`LogError::Corrupt`] if
    /// not; [`LogError::Io`].
    pub fn check_files(&self) -> Result<(), LogError> {
        self.segments.check_files(Longer::Overlaps)?;
        let mut at = self.start().0;
        while let Some(record) = { self.tail.read().written_from(at).cloned() } {
            at = record.end().0;
            self.check_on_disk(&record)?;
        }
        Ok(())
    }

    /// Compares a written record with what is on the disk.
    fn check_on_disk(&self, record: &Record) -> Result<(), LogError> {
        let mut at = record.position().0;
        let extent = match self.extent(at) {
            Err(LogError::Pruned { .. }) => return Ok(()),
            other => other?,
        };
        let header = record.header().encode(self.segments.id);
        for bytes in [&header[..]].into_iter().chain(record.runs().iter().map(|run| &run[..])) {
            for part in bytes.chunks(COMPARED) {
                let mut found = vec![0; part.len()];
                self.read_disk(extent, at, &mut found)?;
                if let Some(offset) = found.iter().zip(part).position(|(a, b)| a != b) {
                    let (stored, computed) = (crc32c::crc32c(&found), crc32c::crc32c(part));
                    let what = Damage::Checksum { stored, computed };
                    return Err(self.segments.corrupt(at + offset as u64, what));
                }
                at += part.len() as u64;
            }
        }
        Ok(())
    }

    /// The files of the log between `start` and `end`, for a copy whose manifest says that the log reaches
    /// to `settled`. All of it must have been written, and must not be pruned until it is copied.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] if not all of it is there.
    pub fn parts(
        &self,
        start: LogPosition,
        settled: LogPosition,
        end: LogPosition,
    ) -> Result<Vec<SegmentPart>, LogError> {
        self.segments.parts(start.0, settled.0, end.0)
    }

    /// Opens the file of a part, to read it.
    ///
    /// # Errors
    /// [`LogError::Moved`] if its name leads elsewhere by now, [`LogError::Short`], [`LogError::Corrupt`];
    /// [`LogError::Io`].
    pub fn open_part(&self, part: &SegmentPart) -> Result<Arc<dyn VfsFile>, LogError> {
        self.segments.open_part(part)
    }

    /// What the log has done since it was opened, and how large it is.
    pub fn stats(&self) -> LogStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let extents = self.segments.extents();
        let IoCounters { reads, writes, bytes_written, syncs } = &self.segments.counters;
        let reads = reads.counts();
        LogStats {
            bytes: extents.iter().map(|extent| extent.end - extent.base).sum(),
            dead_bytes: self.dead_bytes(),
            segments: extents.len() as u64,
            tail_bytes: self.tail.read().bytes(),
            cache_bytes: self.cache.bytes(),
            mapped_bytes: self.segments.mapped_bytes(),
            entries_from_tail: reads.tail,
            entries_from_cache: reads.cache,
            entries_from_disk: reads.disk,
            reads: reads.reads,
            bytes_read: reads.bytes,
            writes: get(writes),
            bytes_written: get(bytes_written),
            syncs: get(syncs),
            batches: reads.batches,
            reads_in_batches: reads.in_batches,
            reads_by_ring: reads.by_ring,
            reads_ahead: reads.ahead,
            reads_by_threads: reads.by_threads,
            read_depth: reads.depth,
        }
    }

    fn dead_bytes(&self) -> u64 {
        let start = self.start();
        self.dead().iter().map(|span| span.end.0 - span.start.max(start).0).sum()
    }

    /// How the disk makes many reads that the system does not have in memory.
    pub fn many_reads(&self) -> ManyReads {
        self.segments.vfs.many_reads()
    }

    // What reading, walking and scanning have in common.

    /// Checks that something announced and not pruned can begin at `at`; `end` is the announced
    /// end.
    pub(crate) fn check_bounds(&self, at: u64, end: u64) -> Result<(), LogError> {
        check_aligned(LogPosition(at))?;
        let start = self.start();
        if at < start.0 {
            return Err(LogError::Pruned { at: LogPosition(at), start });
        }
        if at >= end {
            return Err(LogError::OutOfRange { at: LogPosition(at), end: LogPosition(end) });
        }
        Ok(())
    }

    /// Reads from the segment that covers `at`, which all of `buf` must lie in. A failure because
    /// the segment was pruned meanwhile says so.
    pub(crate) fn read_disk(
        &self,
        extent: Extent,
        at: u64,
        buf: &mut [u8],
    ) -> Result<(), LogError> {
        self.segments.read(extent, at, buf).map_err(|error| self.pruned_or(at, error))
    }

    /// Reads what was written at `at`, as far as the segment and `buf` go.
    pub(crate) fn read_written<'b>(
        &self,
        at: u64,
        buf: &'b mut [u8],
    ) -> Result<(Extent, &'b [u8]), LogError> {
        match self.segments.read_some(at, buf) {
            Ok(Some(read)) => Ok(read),
            Ok(None) => Err(self.not_written(at)),
            Err(error) => Err(self.pruned_or(at, error)),
        }
    }

    /// The segment that covers `at`, which was written.
    pub(crate) fn extent(&self, at: u64) -> Result<Extent, LogError> {
        self.segments.find(at).ok_or_else(|| self.not_written(at))
    }

    /// Why no segment covers `at`: pruned between the caller's check and now, or never written.
    fn not_written(&self, at: u64) -> LogError {
        let bounds = self.check_bounds(at, self.segments.end());
        bounds.err().unwrap_or_else(|| self.segments.corrupt(at, Damage::Header))
    }

    /// The error of a read at `at`, or that it was pruned meanwhile.
    pub(crate) fn pruned_or(&self, at: u64, error: LogError) -> LogError {
        let start = self.start();
        if at < start.0 { LogError::Pruned { at: LogPosition(at), start } } else { error }
    }

    /// The record in memory that covers `at`. `at` is checked against the log's bounds.
    pub(crate) fn in_memory(&self, at: u64) -> Result<Option<Arc<Record>>, LogError> {
        self.check_bounds(at, self.tail.end())?;
        Ok(self.tail.find(at))
    }

    /// The header of the record on disk at `at`, whose runs lie in the segment too, and that
    /// segment.
    pub(crate) fn header_on_disk(&self, at: u64) -> Result<(RecordHeader, Extent), LogError> {
        let extent = self.extent(at)?;
        let have = extent.end - at;
        let mut bytes = [0; RECORD_HEADER_LEN];
        if at < extent.content() || have < bytes.len() as u64 {
            return Err(self.segments.corrupt(at, Damage::Magic));
        }
        self.read_disk(extent, at, &mut bytes)?;
        let header = RecordHeader::decode(&bytes, at, self.segments.id);
        let header = header.map_err(|what| self.segments.corrupt(at, what))?;
        if header.record_len() > have {
            let what = Damage::Length { need: header.record_len(), have };
            return Err(self.segments.corrupt(at, what));
        }
        Ok((header, extent))
    }

    /// The error for what is wrong at `at`: with the file, or, if it was not written yet, with
    /// `at`.
    pub(crate) fn damaged(&self, at: u64, what: Damage) -> LogError {
        if at < self.segments.end() {
            self.segments.corrupt(at, what)
        } else {
            LogError::NotAnEntry { at: LogPosition(at), what }
        }
    }

    /// The run of `shard` in the record at `record`.
    pub(crate) fn locate_run(&self, record: u64, shard: ShardId) -> Result<RunLocation, LogError> {
        if let Some(found) = self.in_memory(record)? {
            return RunLocation::in_memory(&found, record, shard);
        }
        let (header, _) = self.header_on_disk(record)?;
        let (start, end) = header.run_bounds(shard);
        Ok(RunLocation { start, end, record_end: header.end(), bytes: None })
    }

    /// The end of the dead span that `at` lies in, `at` if it lies in none.
    pub(crate) fn behind_dead(&self, at: u64) -> u64 {
        dead_until(&self.dead.read(), at).unwrap_or(at)
    }

    /// The position of the record that follows the one that ends at `end`, `None` if `end` is the
    /// announced end.
    pub(crate) fn record_after(&self, end: u64) -> Option<u64> {
        // Nothing of what was taken back follows anything.
        let end = self.behind_dead(end);
        {
            let tail = self.tail.read();
            if end >= tail.end() {
                return None;
            }
            if let Some(position) = tail.record_after(end) {
                return Some(position);
            }
        }
        // On disk, since it is announced and not in memory; behind a header if a segment ends here.
        match self.segments.find(end) {
            Some(extent) if extent.base == end => Some(extent.content()),
            _ => Some(end),
        }
    }
}

/// What the header of a record says of its place in the history: see [`EntryLog::record_head`].
///
/// ```
/// use hedgerow_entryfile::RecordHead;
/// use hedgerow_types::{Height, LogPosition};
/// let head = RecordHead { height: Height(7), entries_before: 65_536, end: LogPosition(4096) };
/// assert_eq!(head.height.next(), Height(8));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// The block's height.
    pub height: Height,
    /// Entries of all shards before the block, active or not.
    pub entries_before: u64,
    /// The first position after the record.
    pub end: LogPosition,
}

/// Where a run lies; its bytes too if they are in memory.
#[derive(Clone, Debug)]
pub(crate) struct RunLocation {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) record_end: u64,
    pub(crate) bytes: Option<Bytes>,
}

impl RunLocation {
    /// The run of `shard` in a record in memory, which covers `at` and is to begin there.
    pub(crate) fn in_memory(record: &Record, at: u64, shard: ShardId) -> Result<Self, LogError> {
        if record.position().0 != at {
            let (at, what) = (LogPosition(at), Damage::Magic);
            return Err(LogError::NotAnEntry { at, what });
        }
        let (start, end) = record.header().run_bounds(shard);
        let bytes = Some(record.run(shard).clone());
        Ok(Self { start, end, record_end: record.end().0, bytes })
    }
}

fn check_aligned(at: LogPosition) -> Result<(), LogError> {
    if at.0.is_multiple_of(ALIGN as u64) { Ok(()) } else { Err(LogError::Misaligned(at)) }
}

/// Goes to where a record is to begin, in a new segment if that is where its position puts it.
fn place(batch: &mut Batch<'_>, at: u64) -> Result<(), LogError> {
    if at != batch.end() && batch.last().content() < batch.end() {
        batch.roll()?;
    }
    if at != batch.end() {
        let (expected, got) = (LogPosition(batch.end()), LogPosition(at));
        return Err(LogError::OutOfOrder { expected, got });
    }
    Ok(())
}

/// Writes a record where it belongs, in a new segment if that is where its position puts it.
fn put(batch: &mut Batch<'_>, record: &Record) -> Result<(), LogError> {
    place(batch, record.position().0)?;
    batch.put(&record.header().encode(batch.id()))?;
    record.runs().iter().try_for_each(|run| batch.put(run))?;
    batch.put(record.extra())?;
    let padding = padded(record.header().extra_len) as usize - record.extra().len();
    batch.put(&[0; ALIGN][..padding])
}

/// The entry in memory at `at`, which `record` covers.
pub(crate) fn entry_in_memory(record: &Record, at: u64) -> Result<StoredEntry, LogError> {
    record.entry_at(at).map_err(|none| none_in_memory(none, at))
}

/// The error for a record in memory that has no entry at `at`, which it covers.
pub(crate) fn none_in_memory(none: NoEntry, at: u64) -> LogError {
    none.at(at, |what| LogError::NotAnEntry { at: LogPosition(at), what })
}
