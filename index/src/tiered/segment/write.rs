//! Writing a segment: pages as they fill, then directory and filter, then the head.

use super::filter::Filter;
use super::page::PageBuilder;
use super::page::Salt;
use super::read::{Directory, Segment};
use super::{DIRECTORY_PART, FILTER_PART, Head, PAGE, PAGES_PART, SegmentId, damaged};
use crate::tiered::record::Record;
use crate::{IndexError, Stem};
use hedgerow_vfs::{OpenMode, Vfs, VfsFile};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are written at once.
const CHUNK: usize = 16 * PAGE;

/// A segment that is being written. Dropped before it is finished it removes its file.
pub(crate) struct SegmentWriter {
    vfs: Arc<dyn Vfs>,
    folder: PathBuf,
    id: SegmentId,
    file: Arc<dyn VfsFile>,
    filter: Filter,
    page: PageBuilder,
    /// Pages that are full and not written.
    full: Vec<u8>,
    /// Where they go.
    offset: u64,
    directory: Vec<u64>,
    pages_crc: u32,
    records: u64,
    first: Option<Stem>,
    last: Option<Record>,
    /// Whether the file goes when this is dropped.
    unfinished: Unfinished,
}

/// Removes a file when it is dropped, unless it was kept.
pub(crate) struct Unfinished {
    vfs: Arc<dyn Vfs>,
    path: Option<PathBuf>,
}

impl Unfinished {
    pub(crate) fn keep(&mut self) {
        self.path = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // It is in no list: what cannot be removed now is when strays are.
            let _ = self.vfs.remove_file(&path);
        }
    }
}

impl SegmentWriter {
    /// Begins the file that `id` names, for at most `records` records, with so many bits of filter for each.
    pub(crate) fn new(
        vfs: &Arc<dyn Vfs>,
        folder: &Path,
        id: SegmentId,
        records: u64,
        filter_bits: u32,
    ) -> Result<Self, IndexError> {
        let path = folder.join(id.name());
        let file = vfs.open(&path, OpenMode::CreateNew)?;
        let unfinished = Unfinished { vfs: Arc::clone(vfs), path: Some(path) };
        Ok(Self {
            vfs: Arc::clone(vfs),
            folder: folder.to_owned(),
            id,
            file,
            filter: Filter::new(records, filter_bits, id.salt().checksum(FILTER_PART, &[])),
            page: PageBuilder::default(),
            full: Vec::with_capacity(CHUNK),
            offset: PAGE as u64,
            directory: Vec::new(),
            pages_crc: 0,
            records: 0,
            first: None,
            last: None,
            unfinished,
        })
    }

    /// Appends a record, which is above the last one.
    pub(crate) fn push(&mut self, record: Record) -> Result<(), IndexError> {
        if self.last.is_some_and(|last| last >= record) {
            return Err(damaged(self.file.path(), "what is written to it does not ascend"));
        }
        if !self.page.push(record) {
            self.end_page()?;
            self.page.push(record);
        }
        let new_stem = self.last.is_none_or(|last| last.stem != record.stem);
        if self.directory.len() as u64 == self.pages_done() {
            self.directory.push(record.stem.get() << 20 | u64::from(!new_stem));
        }
        if new_stem {
            self.filter.insert(record.stem);
        }
        self.first.get_or_insert(record.stem);
        self.last = Some(record);
        self.records += 1;
        Ok(())
    }

    fn pages_done(&self) -> u64 {
        (self.offset + self.full.len() as u64) / PAGE as u64 - 1
    }

    fn end_page(&mut self) -> Result<(), IndexError> {
        let crc = self.page.finish(self.id.salt(), self.pages_done() + 1, &mut self.full);
        self.pages_crc = crc32c::crc32c_append(self.pages_crc, &crc.to_le_bytes());
        if self.full.len() >= CHUNK {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), IndexError> {
        self.file.write_all_at(&self.full, self.offset)?;
        self.offset += self.full.len() as u64;
        self.full.clear();
        Ok(())
    }

    /// Ends the file and makes it durable, name and all. The file goes when what is returned beside the segment is
    /// dropped, unless it is told to keep it. `None` if it has no record: then there is no file.
    pub(crate) fn finish(mut self) -> Result<Option<(Segment, Unfinished)>, IndexError> {
        let (Some(first), Some(last)) = (self.first, self.last) else { return Ok(None) };
        if !self.page.is_empty() {
            self.end_page()?;
        }
        self.flush()?;
        let salt = self.id.salt();
        let (directory, filter) = (&self.directory[..], self.filter.words());
        let directory_crc = write_words(&*self.file, directory, self.offset, salt, DIRECTORY_PART)?;
        let after = self.offset + 8 * directory.len() as u64;
        let filter_crc = write_words(&*self.file, filter, after, salt, FILTER_PART)?;
        let head = Head {
            id: self.id,
            probes: self.filter.probes(),
            records: self.records,
            pages: directory.len() as u64,
            words: filter.len() as u64,
            first,
            last: last.stem,
            pages_crc: salt.checksum(PAGES_PART, &self.pages_crc.to_le_bytes()),
            directory_crc,
            filter_crc,
        };
        let (bytes, digest) = head.encode();
        self.file.write_all_at(&bytes, 0)?;
        self.file.sync()?;
        self.vfs.sync_dir(&self.folder)?;
        let directory = Directory::new(self.directory);
        let segment = Segment::new(self.file, head, digest, directory, self.filter);
        Ok(Some((segment, self.unfinished)))
    }
}

/// Writes words, and returns the checksum of that part of the file. Part by part: a filter is as large as the memory that
/// it may take, and has no room beside it.
fn write_words(
    file: &dyn VfsFile,
    words: &[u64],
    mut at: u64,
    salt: Salt,
    part: u64,
) -> Result<u32, IndexError> {
    let mut crc = salt.checksum(part, &[]);
    let mut bytes = Vec::with_capacity(CHUNK.min(8 * words.len()));
    for words in words.chunks(CHUNK / 8) {
        bytes.clear();
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        crc = crc32c::crc32c_append(crc, &bytes);
        file.write_all_at(&bytes, at)?;
        at += bytes.len() as u64;
    }
    Ok(crc)
}
