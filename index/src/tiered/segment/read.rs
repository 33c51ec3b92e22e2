//! Reading a segment: what stays in memory, single pages, and all records in order.

use super::filter::Filter;
use super::{
    DIRECTORY_PART, FILTER_PART, Head, PAGE, PAGES_PART, Page, SegmentId, damaged, first_chunk,
};
use crate::tiered::record::Record;
use crate::{IndexError, Stem};
use hedgerow_types::SerialNumber;
use hedgerow_vfs::{OpenMode, Vfs, VfsError, VfsErrorKind, VfsFile};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Pages that are read at once by whoever reads many in order.
const RUN: u32 = 16;

/// Where stems lie: the first of each page.
#[derive(Debug)]
pub(super) struct Directory(Box<[u64]>);

impl Directory {
    pub(super) fn new(firsts: Vec<u64>) -> Self {
        Self(firsts.into_boxed_slice())
    }

    fn first(&self, page: usize) -> Option<Stem> {
        Stem::new(self.0.get(page)? >> 20)
    }

    /// Whether the first stem of a page is the last of the page before.
    fn goes_on(&self, page: usize) -> bool {
        self.0.get(page).is_some_and(|word| word & 1 == 1)
    }

    /// The number of pages whose first stems are at most `stem`: guessed, as keys are uniform, then searched.
    fn up_to(&self, stem: Stem) -> usize {
        let scaled = (u128::from(stem.get()) * self.0.len() as u128) >> 44;
        crate::search::partition_point_near(&self.0, scaled as usize, |word| {
            word >> 20 <= stem.get()
        })
    }

    /// The pages that may hold a stem.
    fn pages_of(&self, stem: Stem) -> Range<u32> {
        let end = self.up_to(stem);
        let last = end.saturating_sub(1);
        // A page that begins with the stem may go on with what the one before ends with.
        let start = if self.first(last) == Some(stem) { self.start_of(last) } else { last };
        start as u32..end as u32
    }

    /// The pages that hold a stem, if any does, and all between the first stem of the first of them and it.
    fn pages_down_from(&self, stem: Stem) -> Range<u32> {
        let end = self.up_to(stem);
        self.start_of(end.saturating_sub(1)) as u32..end as u32
    }

    /// The page at or before this one that has all of its own first stem.
    fn start_of(&self, mut page: usize) -> usize {
        while page > 0 && self.goes_on(page) {
            page -= 1;
        }
        page
    }
}

/// A segment that can be asked.
#[derive(Debug)]
pub(crate) struct Segment {
    file: Arc<dyn VfsFile>,
    head: Head,
    digest: u32,
    directory: Directory,
    filter: Filter,
    /// Records from this serial number on are void: it may be used anew.
    cut: AtomicU64,
    /// Whether a snapshot names it, so that its file must stay when it is merged.
    named: AtomicBool,
}

impl Segment {
    pub(super) fn new(
        file: Arc<dyn VfsFile>,
        head: Head,
        digest: u32,
        directory: Directory,
        filter: Filter,
    ) -> Self {
        let (cut, named) = (AtomicU64::new(u64::MAX), AtomicBool::new(false));
        Self { file, head, digest, directory, filter, cut, named }
    }

    /// Opens the file that `id` names: reads and checks head, directory and filter.
    ///
    /// # Errors
    /// [`IndexError::Disk`]; [`IndexError::Damaged`] if it is another file than the one with `digest`, is not whole
    /// or contradicts itself.
    pub(crate) fn open(
        vfs: &Arc<dyn Vfs>,
        folder: &Path,
        id: SegmentId,
        len: u64,
        digest: u32,
    ) -> Result<Self, IndexError> {
        let file = vfs.open(&folder.join(id.name()), OpenMode::Read)?;
        let wrong = |what| damaged(file.path(), what);
        if file.len()? != len || len < PAGE as u64 {
            return Err(wrong("it has another length"));
        }
        let mut bytes = [0; PAGE];
        file.read_exact_at(&mut bytes, 0)?;
        let (head, found) = Head::decode(&bytes, id).map_err(wrong)?;
        if found != digest {
            return Err(wrong("it is another one"));
        }
        if head.file_len() != len || head.records == 0 || head.pages == 0 {
            return Err(wrong("its head contradicts its length"));
        }
        let salt = id.salt();
        let words = |at: u64, count: u64, part: u64, crc: u32, what| {
            let mut words = Vec::with_capacity(count as usize); // part of the file's length
            let (mut at, mut found) = (at, salt.checksum(part, &[]));
            let mut bytes = vec![0; (8 * count as usize).min(RUN as usize * PAGE)];
            while words.len() < count as usize {
                let len = bytes.len().min(8 * (count as usize - words.len()));
                let bytes = &mut bytes[..len];
                file.read_exact_at(bytes, at)?;
                found = crc32c::crc32c_append(found, bytes);
                let read = bytes.chunks_exact(8).map(|it| u64::from_le_bytes(first_chunk(it)));
                words.extend(read);
                at += bytes.len() as u64;
            }
            if found != crc {
                return Err(wrong(what));
            }
            Ok(words)
        };
        let at = head.directory_at();
        let what = "its directory has another checksum";
        let firsts: Vec<u64> = words(at, head.pages, DIRECTORY_PART, head.directory_crc, what)?;
        let what = "its filter has another checksum";
        let at = at + 8 * head.pages;
        let filter = words(at, head.words, FILTER_PART, head.filter_crc, what)?;
        let directory = Directory::new(firsts);
        let sound = directory.0.is_sorted_by_key(|word| word >> 20)
            && directory.first(0) == Some(head.first)
            && !directory.goes_on(0)
            && directory.first(directory.0.len() - 1).is_some_and(|it| it <= head.last);
        if !sound {
            return Err(wrong("its directory contradicts itself"));
        }
        let salt = salt.checksum(FILTER_PART, &[]);
        let filter = Filter::from_words(filter, head.probes, salt);
        let filter = filter.ok_or_else(|| wrong("its filter is none"))?;
        Ok(Self::new(file, head, digest, directory, filter))
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.head.id
    }

    pub(crate) fn digest(&self) -> u32 {
        self.digest
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.head.file_len()
    }

    pub(crate) fn records(&self) -> u64 {
        self.head.records
    }

    /// Bytes of memory of the directory.
    pub(crate) fn directory_bytes(&self) -> usize {
        self.directory.0.len() * 8
    }

    /// Bytes of memory of the filter.
    pub(crate) fn filter_bytes(&self) -> usize {
        self.filter.heap_bytes()
    }

    /// Whether a snapshot named it.
    pub(crate) fn is_named(&self) -> bool {
        self.named.load(Relaxed)
    }

    pub(crate) fn name(&self) {
        self.named.store(true, Relaxed);
    }

    pub(crate) fn cut(&self) -> SerialNumber {
        SerialNumber(self.cut.load(Relaxed))
    }

    pub(crate) fn cut_to(&self, cut: SerialNumber) {
        self.cut.fetch_min(cut.0, Relaxed);
    }

    /// Whether one of its records is not void.
    pub(crate) fn holds(&self, record: &Record) -> bool {
        record.sn < self.cut()
    }

    /// Whether a stem lies between its least and its greatest.
    pub(crate) fn spans(&self, stem: Stem) -> bool {
        (self.head.first..=self.head.last).contains(&stem)
    }

    /// Whether it may have something between two stems.
    pub(crate) fn overlaps(&self, from: Stem, to: Stem) -> bool {
        self.head.first <= to && from <= self.head.last
    }

    /// False only if it has no record of the stem.
    pub(crate) fn may_have(&self, stem: Stem) -> bool {
        self.filter.may_have(stem)
    }

    /// The pages that may hold a stem: one, unless many records have it.
    pub(crate) fn pages_of(&self, stem: Stem) -> Range<u32> {
        self.directory.pages_of(stem)
    }

    /// The pages that hold a stem, if any does, and all between the first stem of the first of them and it: one, unless
    /// many records have one stem. None if all stems are greater.
    pub(crate) fn pages_down_from(&self, stem: Stem) -> Range<u32> {
        self.directory.pages_down_from(stem)
    }

    /// The pages that hold what lies between two stems.
    pub(crate) fn pages_between(&self, from: Stem, to: Stem) -> Range<u32> {
        self.pages_of(from).start..self.directory.up_to(to) as u32
    }

    /// The first stem of a page.
    pub(crate) fn first_of(&self, page: u32) -> Stem {
        self.directory.first(page as usize).unwrap_or(self.head.last)
    }

    /// The file that a page lies in, and where.
    pub(crate) fn place_of(&self, page: u32) -> (&dyn VfsFile, u64) {
        (&*self.file, PAGE as u64 * (1 + u64::from(page)))
    }

    /// The error for a page that could not be read.
    pub(crate) fn unreadable(&self, error: VfsError) -> IndexError {
        match error.kind() {
            // Its length was what it should be: the file was cut since.
            VfsErrorKind::Eof => damaged(self.file.path(), "it ends too early"),
            _ => error.into(),
        }
    }

    /// Looks over what was read for a page.
    pub(crate) fn page(&self, number: u32, bytes: &[u8]) -> Result<Page, IndexError> {
        let page = Page::new(bytes, self.head.id.salt(), 1 + u64::from(number));
        page.map_err(|what| damaged(self.file.path(), what))
    }

    /// Reads pages that lie one after the other.
    pub(crate) fn read(&self, pages: Range<u32>) -> Result<Vec<Page>, IndexError> {
        let mut bytes = vec![0; PAGE * pages.len()];
        let (file, offset) = self.place_of(pages.start);
        file.read_exact_at(&mut bytes, offset).map_err(|error| self.unreadable(error))?;
        pages.zip(bytes.chunks_exact(PAGE)).map(|(number, it)| self.page(number, it)).collect()
    }

    /// The error of what is wrong with it.
    pub(crate) fn damaged(&self, what: &'static str) -> IndexError {
        damaged(self.file.path(), what)
    }

    /// All its records in order.
    pub(crate) fn scan(self: &Arc<Self>) -> Scan {
        Scan {
            segment: Arc::clone(self),
            pages: Vec::new().into_iter(),
            records: Vec::new().into_iter(),
            next: 0,
            crc: 0,
            count: 0,
            last: None,
        }
    }
}

/// Reads a segment from its beginning to its end. It ends without an error only if every record was there.
pub(crate) struct Scan {
    segment: Arc<Segment>,
    pages: std::vec::IntoIter<Page>,
    records: std::vec::IntoIter<Record>,
    /// The page after those that were read.
    next: u32,
    crc: u32,
    count: u64,
    last: Option<Record>,
}

impl Scan {
    /// The next record that is not void.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, IndexError> {
        loop {
            let Some(record) = self.records.next() else {
                if !self.next_page()? {
                    return Ok(None);
                }
                continue;
            };
            if self.last.is_some_and(|last| last >= record) {
                return Err(self.damaged("its records do not ascend"));
            }
            self.last = Some(record);
            self.count += 1;
            if self.segment.holds(&record) {
                return Ok(Some(record));
            }
        }
    }

    fn next_page(&mut self) -> Result<bool, IndexError> {
        let head = &self.segment.head;
        if self.pages.as_slice().is_empty() {
            let end = (self.next + RUN).min(head.pages as u32);
            self.pages = self.segment.read(self.next..end)?.into_iter();
            self.next = end;
        }
        if let Some(page) = self.pages.next() {
            self.crc = crc32c::crc32c_append(self.crc, &page.checksum().to_le_bytes());
            self.records = page.records().collect::<Vec<_>>().into_iter();
            return Ok(true);
        }
        let crc = head.id.salt().checksum(PAGES_PART, &self.crc.to_le_bytes());
        if self.count != head.records || crc != head.pages_crc {
            return Err(self.damaged("its pages are others than its head says"));
        }
        Ok(false)
    }

    fn damaged(&self, what: &'static str) -> IndexError {
        damaged(self.segment.file.path(), what)
    }
}
