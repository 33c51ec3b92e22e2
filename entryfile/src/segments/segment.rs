//! One segment: how long it gets, what it covers, how its file is made and opened.

use crate::LogError;
use crate::segments::counters::Reads;
use crate::segments::header::{Format, HEADER, SEGMENT_HEADER_LEN, StoreId};
use hedgerow_types::LogPosition;
use hedgerow_vfs::{FileId, OpenMode, Vfs, VfsFile};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long segments get before they are followed by a new one. Pruning frees whole segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSize {
    /// Length in bytes in a small log.
    pub least: u64,
    /// Length in bytes in a large one.
    pub most: u64,
}

/// A segment gets this part of all segments together, between [`SegmentSize`]'s bounds.
const SEGMENTS_HELD: u64 = 16;

impl SegmentSize {
    /// The same length always.
    pub const fn fixed(bytes: u64) -> Self {
        Self { least: bytes, most: bytes }
    }

    /// Length in bytes at which a segment is full that was begun when all held `held` bytes.
    pub fn full_at(self, held: u64) -> u64 {
        (held / SEGMENTS_HELD).min(self.most).max(self.least)
    }
}

/// The positions that one file covers, its header included. Never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) base: u64,
    pub(crate) end: u64,
}

impl Extent {
    /// Bytes that it covers: as many as its file has.
    pub(crate) fn len(&self) -> u64 {
        self.end - self.base
    }

    /// Position of the first byte after the header.
    pub(crate) fn content(&self) -> u64 {
        self.base + HEADER
    }

    /// As much of `buf` as this has bytes from `at` on.
    pub(crate) fn part_of<'b>(&self, at: u64, buf: &'b mut [u8]) -> &'b mut [u8] {
        let have = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buf.len().min(have);
        buf.get_mut(..len).unwrap_or_default()
    }

    /// Whether this has grown to `segment_size` bytes and the next record begins a new segment. A
    /// segment without a record never has.
    pub(crate) fn is_full(&self, segment_size: u64) -> bool {
        self.end > self.content() && self.len() >= segment_size
    }
}

/// Numbers for people, see [`LogStats`](crate::LogStats).
#[derive(Debug, Default)]
pub(crate) struct IoCounters {
    pub(crate) reads: Reads,
    pub(crate) writes: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) syncs: AtomicU64,
}

/// Creates the segment at `base`, which then holds its header.
pub(crate) fn new_file(
    vfs: &dyn Vfs,
    dir: &Path,
    format: &Format,
    id: StoreId,
    base: u64,
    counters: &IoCounters,
) -> Result<(Arc<dyn VfsFile>, Extent), LogError> {
    let opened = vfs.open(&dir.join(format.file_name(base)), OpenMode::CreateNew);
    let file = opened.map_err(LogError::io("creating a segment"))?;
    let written = file.write_all_at(&format.encode_header(id, base), 0);
    written.map_err(LogError::io("writing a segment's header"))?;
    counters.writes.fetch_add(1, Ordering::Relaxed);
    counters.bytes_written.fetch_add(HEADER, Ordering::Relaxed);
    Ok((file, Extent { base, end: base + HEADER }))
}

/// Which file it is, if the disk can tell.
pub(crate) fn id_of(file: &dyn VfsFile) -> Result<Option<FileId>, LogError> {
    file.id().map_err(LogError::io("asking which file a segment is"))
}

/// Opens the segment at `base` and checks its header. Returns its length, at least a header's.
pub(crate) fn open_segment(
    vfs: &dyn Vfs,
    dir: &Path,
    format: &Format,
    id: StoreId,
    base: u64,
    mode: OpenMode,
) -> Result<(Arc<dyn VfsFile>, u64), LogError> {
    let path = dir.join(format.file_name(base));
    let file = vfs.open(&path, mode).map_err(LogError::io("opening a segment"))?;
    let len = file.len().map_err(LogError::io("opening a segment"))?;
    let mut header = [0; SEGMENT_HEADER_LEN];
    if let Some(missing) = HEADER.checked_sub(len).filter(|&bytes| bytes > 0) {
        return Err(LogError::Short { path, missing });
    }
    let read = file.read_exact_at(&mut header, 0);
    read.map_err(LogError::io("reading a segment's header"))?;
    format.check_header(&header, id, base).map_err(|what| {
        let at = LogPosition(base);
        LogError::Corrupt { path, offset: 0, at, what }
    })?;
    Ok((file, len))
}
