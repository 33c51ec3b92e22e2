//! Pages of segments: from the cache, or from their files, many at once.

use super::segment::{PAGE, Page, Segment};
use super::stats::{Counters, add};
use crate::IndexError;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// Bytes that a page in the cache costs beside its own.
const OVERHEAD: usize = 128;
/// Pages that are read at once where they lie one after the other.
const RUN: usize = 64;

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

    /// Reads pages, which ascend, no two the same; `each` is told the place of each in `wanted`. Reads of pages that
    /// are not kept are made here and nowhere else: this is where they can be made in depth.
    ///
    /// `keep` says whether they are worth keeping.
    pub(crate) fn read_pages(
        &self,
        segments: &[Arc<Segment>],
        wanted: &[Wanted],
        keep: bool,
        counters: &Counters,
        mut each: impl FnMut(usize, &Page),
    ) -> Result<(), IndexError> {
        let (mut hits, mut place) = (0, 0);
        while let Some(&(number, page)) = wanted.get(place) {
            let Some(segment) = segments.get(number as usize) else { break };
            let file = segment.id().number;
            if let Some(page) = self.cache.get(&(file, page)) {
                each(place, &page);
                (place, hits) = (place + 1, hits + 1);
                continue;
            }
            // What follows it in the file comes with it, unless that is kept.
            let next = |i: &usize| {
                let want = wanted.get(place + i).copied();
                let follows = want == Some((number, page + *i as u32));
                follows && !self.cache.contains_key(&(file, page + *i as u32))
            };
            let count = 1 + (1..RUN).take_while(next).count();
            let read = segment.read(page..page + count as u32)?;
            add(&counters.page_reads, count);
            for (i, found) in read.into_iter().enumerate() {
                each(place + i, &found);
                if keep {
                    self.cache.insert((file, page + i as u32), Arc::new(found));
                }
            }
            place += count;
        }
        add(&counters.cache_hits, hits);
        Ok(())
    }
}
