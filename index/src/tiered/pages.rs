//! Pages of segments: from the cache, or from their files, many at once.
//!
//! ```text
//!   wanted    5  6  9 │ 2  3  4  8       ascending, by segment
//!   cache     ·  ·  ▓ │ ·  ▓  ·  ·
//!   reads     └──┘      └┘    └┘ └┘      one batch of the disk
//!   shown     5  6  9   2  3  4  8       in the order in which they are wanted
//! ```

use super::segment::{PAGE, Page, Segment};
use super::stats::{Counters, add};
use crate::IndexError;
use hedgerow_vfs::{ReadAt, Vfs};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that a page in the cache costs beside its own.
const OVERHEAD: usize = 128;
/// Most pages that are read at once: as many bytes as a ring of the real disk takes.
const AT_ONCE: usize = 128;
/// Most pages that are held until they are shown, those from the cache with them.
const HELD: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct RealBytes;

impl Weighter<(u64, u32), Arc<Page>> for RealBytes {
    fn weight(&self, _: &(u64, u32), _: &Arc<Page>) -> u64 {
        (PAGE + OVERHEAD) as u64
    }
}

/// A page that is wanted: the place of its segment in the list at hand, and its number.
pub(crate) type Wanted = (u32, u32);

/// The pages that are kept.
pub(crate) struct Pages {
    cache: Cache<(u64, u32), Arc<Page>, RealBytes>,
}

impl Pages {
    pub(crate) fn new(bytes: usize) -> Self {
        let items = bytes / (PAGE + OVERHEAD);
        Self { cache: Cache::with_weighter(items, bytes as u64, RealBytes) }
    }

    pub(crate) fn set_bytes(&self, bytes: usize) {
        if self.cache.capacity() != bytes as u64 {
            self.cache.set_capacity(bytes as u64);
        }
    }

    pub(crate) fn clear(&self) {
        self.cache.clear();
    }

    pub(crate) fn bytes(&self) -> usize {
        self.cache.weight() as usize
    }

    /// Reads pages, which ascend, no two the same; `each` is told the place of each in `wanted`, in order. Pages that
    /// are not kept are read here and nowhere else, as many at once as `disk` can.
    ///
    /// `keep` says whether they are worth keeping.
    pub(crate) fn read_pages(
        &self,
        disk: &dyn Vfs,
        segments: &[Arc<Segment>],
        wanted: &[Wanted],
        keep: bool,
        counters: &Counters,
        mut each: impl FnMut(usize, &Page),
    ) -> Result<(), IndexError> {
        let mut hits = 0;
        let mut batch = Batch::default();
        for (place, &(number, page)) in wanted.iter().enumerate() {
            let Some(segment) = segments.get(number as usize) else { break };
            match self.cache.get(&(segment.id().number, page)) {
                Some(found) => {
                    hits += 1;
                    if batch.reads.is_empty() {
                        each(place, &found);
                        continue;
                    }
                    batch.slots.push((place, Some(found)));
                }
                None => batch.miss(place, segment, page),
            }
            if batch.pages == AT_ONCE || batch.slots.len() == HELD {
                self.read_batch(disk, &mut batch, keep, counters, &mut each)?;
            }
        }
        add(&counters.cache_hits, hits);
        self.read_batch(disk, &mut batch, keep, counters, &mut each)
    }

    /// Reads what is missing, shows all, and empties the batch.
    fn read_batch(
        &self,
        disk: &dyn Vfs,
        batch: &mut Batch<'_>,
        keep: bool,
        counters: &Counters,
        each: &mut impl FnMut(usize, &Page),
    ) -> Result<(), IndexError> {
        if batch.reads.is_empty() {
            return Ok(());
        }
        batch.bytes.resize((batch.pages * PAGE).max(batch.bytes.len()), 0);
        let mut left = &mut batch.bytes[..];
        let mut reads = Vec::with_capacity(batch.reads.len());
        for read in &batch.reads {
            let len = read.count as usize * PAGE;
            let (bytes, others) =
                std::mem::take(&mut left).split_at_mut_checked(len).unwrap_or_default();
            left = others;
            let (file, offset) = read.segment.place_of(read.first);
            reads.push(ReadAt::new(file, offset, bytes));
        }
        let how = disk.read_batch(&mut reads);
        counters.read_depth.fetch_max(how.depth, Relaxed);
        for (read, result) in batch.reads.iter().zip(reads) {
            result.into_result().map_err(|error| read.segment.unreadable(error))?;
        }
        add(&counters.page_reads, batch.pages);
        let numbers = batch.reads.iter().flat_map(|read| {
            let pages = read.first..read.first + read.count;
            pages.map(|page| (read.segment, page))
        });
        let mut found = numbers.zip(batch.bytes.chunks_exact(PAGE));
        for (place, kept) in batch.slots.drain(..) {
            if let Some(page) = kept {
                each(place, &page);
            } else if let Some(((segment, number), bytes)) = found.next() {
                let page = segment.page(number, bytes)?;
                each(place, &page);
                if keep {
                    self.cache.insert((segment.id().number, number), Arc::new(page));
                }
            }
        }
        batch.reads.clear();
        batch.pages = 0;
        Ok(())
    }
}

/// Pages that lie one after the other and are read together.
struct Read<'a> {
    segment: &'a Segment,
    first: u32,
    count: u32,
}

/// What is read at once.
#[derive(Default)]
struct Batch<'a> {
    /// What is to be shown, in order: the place of each in what was wanted, and the page if it was kept.
    slots: Vec<(usize, Option<Arc<Page>>)>,
    reads: Vec<Read<'a>>,
    /// Pages of all reads.
    pages: usize,
    /// Room for them; kept for its allocation.
    bytes: Vec<u8>,
}

impl<'a> Batch<'a> {
    /// A page is not kept. It comes with the one before where that lies before it in its file too.
    fn miss(&mut self, place: usize, segment: &'a Segment, page: u32) {
        self.slots.push((place, None));
        self.pages += 1;
        match self.reads.last_mut() {
            Some(last)
                if std::ptr::eq(last.segment, segment) && last.first + last.count == page =>
            {
                last.count += 1;
            }
            _ => self.reads.push(Read { segment, first: page, count: 1 }),
        }
    }
}
