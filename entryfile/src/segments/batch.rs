//! Writing into the last segment, and beginning new ones.

use crate::segments::files::{Segments, UNSYNCED_FILES};
use crate::segments::segment::{Extent, new_file};
use crate::{LogError, StoreId};
use hedgerow_vfs::VfsFile;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a write ends at, but for the last of a batch, in bytes of the file: a multiple of what a disk
/// writes as a whole.
const WHOLE: u64 = 4096;
/// Pieces of at least this many bytes are written as they lie; shorter ones are gathered.
const WRITE_DIRECT: usize = 64 << 10;
/// Gathered bytes are written out when there are this many.
const WRITE_GATHERED: usize = 256 << 10;

/// Bytes on their way into the last segment, and into new ones.
///
/// Small pieces are gathered and written together, large ones are written as they lie, so that
/// neither many system calls nor copies of large runs are made.
///
/// ```text
///  pieces   ├─┼──┼───────────────────────────────┼─┤
///  writes   ├─────┼──────────────────────────┼─────┤     ┊ multiples of WHOLE
///           ┊     ┊  ...                     ┊  gathered
/// ```
///
/// The writes between pieces end where a page does. The system may take a page to the disk between two
/// writes and lose it after the second: were the page that of both, it would hold the first one's bytes
/// and then zeros, which nobody can tell from damage to bytes that are zero by nature.
pub(crate) struct Batch<'a> {
    segments: &'a Segments,
    pub(crate) file: Arc<dyn VfsFile>,
    /// `end` counts what is gathered too.
    pub(crate) last: Extent,
    /// Segments before the last one that this batch has completed, with their files unless these are
    /// synced already.
    pub(crate) closed: Vec<(Extent, Option<Arc<dyn VfsFile>>)>,
    pub(crate) gathered: Vec<u8>,
}

impl<'a> Batch<'a> {
    /// Appends to `file`, that of the segment `last`; `gathered` is empty and kept for its allocation.
    pub(crate) fn new(
        segments: &'a Segments,
        last: Extent,
        file: Arc<dyn VfsFile>,
        gathered: Vec<u8>,
    ) -> Self {
        Self { segments, last, file, closed: vec![], gathered }
    }

    /// Where the next byte goes.
    pub(crate) fn end(&self) -> u64 {
        self.last.end
    }

    /// The segment it goes to.
    pub(crate) fn last(&self) -> Extent {
        self.last
    }

    /// Whose it is.
    pub(crate) fn id(&self) -> StoreId {
        self.segments.id
    }

    /// Begins a new segment here.
    pub(crate) fn roll(&mut self) -> Result<(), LogError> {
        self.flush()?;
        let Segments { vfs, dir, format, id, counters, .. } = self.segments;
        self.segments.check_dir()?;
        let (file, extent) = self
            .segments
            .with_room(|| new_file(&**vfs, dir, format, *id, self.last.end, counters))?;
        self.segments.note(extent.base, &*file)?;
        let last = std::mem::replace(&mut self.last, extent);
        self.closed.push((last, Some(std::mem::replace(&mut self.file, file))));
        // One call may fill any number of segments; not all of them can stay open.
        if let Some(at) = self.closed.len().checked_sub(UNSYNCED_FILES)
            && let Some((_, file)) = self.closed.get_mut(at)
            && let Some(file) = file.take()
        {
            self.segments.sync_file(&*file)?;
        }
        Ok(())
    }

    /// Appends `bytes`.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        let mut rest = bytes;
        if bytes.len() >= WRITE_DIRECT {
            let offset = self.last.end - self.last.base;
            let (head, behind) = rest.split_at((offset.next_multiple_of(WHOLE) - offset) as usize);
            self.gather(head);
            self.flush()?;
            let (direct, tail) = behind.split_at(behind.len() - behind.len() % WHOLE as usize);
            self.write_at(self.last.end, direct)?;
            self.last.end += direct.len() as u64;
            rest = tail;
        }
        self.gather(rest);
        if self.gathered.len() >= WRITE_GATHERED { self.flush_pages() } else { Ok(()) }
    }

    fn gather(&mut self, bytes: &[u8]) {
        self.gathered.extend_from_slice(bytes);
        self.last.end += bytes.len() as u64;
    }

    /// Writes out what is gathered.
    pub(crate) fn flush(&mut self) -> Result<(), LogError> {
        self.flush_but(0)
    }

    /// Writes out what is gathered, up to the last end of a page.
    fn flush_pages(&mut self) -> Result<(), LogError> {
        self.flush_but(((self.last.end - self.last.base) % WHOLE) as usize)
    }

    /// Writes out what is gathered but for the last `kept` bytes; there are more.
    fn flush_but(&mut self, kept: usize) -> Result<(), LogError> {
        let written = self.gathered.len() - kept;
        self.write_at(self.last.end - self.gathered.len() as u64, &self.gathered[..written])?;
        self.gathered.drain(..written);
        Ok(())
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), LogError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let offset = at - self.last.base;
        self.file.write_all_at(bytes, offset).map_err(LogError::io("appending to a segment"))?;
        let counters = &self.segments.counters;
        counters.writes.fetch_add(1, Ordering::Relaxed);
        counters.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}
