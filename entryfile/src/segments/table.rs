//! Which segments there are, for readers, who take no lock.
//!
//! ```text
//!   end ──────────────────────────────────────────────────┐ moves last
//!                                                         ▼
//!   list ──► │ base_0, file │ base_1, file │ base_2, file │     replaced as a whole when a segment is
//!                                                               begun or removed, and never changed
//! ```
//!
//! Only the last segment grows, and then only `end` moves. A reader looks at `end` first and then at the
//! list, which is then at least as new. A list that is newer says itself how far it reached.

use crate::segments::handles::Handle;
use crate::segments::header::HEADER;
use crate::segments::segment::Extent;
use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The segments of one directory, by base, increasing, never none.
#[derive(Debug)]
pub(crate) struct Table {
    list: ArcSwap<List>,
    end: AtomicU64,
    /// Held by whoever replaces the list.
    editing: Mutex<()>,
}

#[derive(Debug)]
struct List {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug)]
struct Segment {
    base: u64,
    /// Where it ends. The next one may begin later, if damage was left out between them; the last one may
    /// have grown since the list was made.
    end: u64,
    file: Arc<Handle>,
}

impl List {
    /// Where the last segment ended when this list was made.
    fn end(&self) -> u64 {
        self.segments.last().map_or(HEADER, |last| last.end)
    }
}

/// The segments as they were at a moment.
pub(crate) struct Snapshot {
    list: Guard<Arc<List>>,
    end: u64,
}

impl Table {
    pub(crate) fn new(extents: &[Extent]) -> Self {
        let list = List { segments: extents.iter().map(Segment::new).collect() };
        let end = AtomicU64::new(list.end());
        Self { list: ArcSwap::from_pointee(list), end, editing: Mutex::new(()) }
    }

    pub(crate) fn look(&self) -> Snapshot {
        let end = self.end.load(Ordering::Acquire);
        let list = self.list.load();
        let end = end.max(list.end());
        Snapshot { list, end }
    }

    /// The last segment ends at the first of these ends, and the others follow it. All bytes of them
    /// were written.
    pub(crate) fn grow(&self, extents: impl IntoIterator<Item = Extent>) {
        let _one_at_a_time = self.editing.lock();
        let mut segments = self.list.load().segments.clone();
        let before = segments.len();
        for extent in extents {
            match segments.last_mut() {
                Some(last) if last.base == extent.base => last.end = extent.end,
                _ => segments.push(Segment::new(&extent)),
            }
        }
        let list = List { segments };
        let end = list.end();
        if list.segments.len() > before {
            self.list.store(Arc::new(list));
        }
        self.end.store(end, Ordering::Release);
    }

    /// Takes out the segments for which `goes` says so, but never the last one. Returns them.
    pub(crate) fn remove(&self, goes: impl Fn(&Extent) -> bool) -> Vec<(Extent, Arc<Handle>)> {
        let _one_at_a_time = self.editing.lock();
        let now = self.look();
        let (mut kept, mut gone) = (vec![], vec![]);
        for (extent, segment) in now.extents().zip(&now.list.segments) {
            if extent.base == now.last().base || !goes(&extent) {
                kept.push(Segment { end: extent.end, ..segment.clone() });
            } else {
                gone.push((extent, Arc::clone(&segment.file)));
            }
        }
        if !gone.is_empty() {
            self.list.store(Arc::new(List { segments: kept }));
        }
        gone
    }
}

impl Segment {
    fn new(extent: &Extent) -> Self {
        Self { base: extent.base, end: extent.end, file: Arc::default() }
    }
}

impl Snapshot {
    /// Where the segment at a place of the list ends.
    fn end_of(&self, place: usize) -> u64 {
        let is_last = place + 1 == self.list.segments.len();
        self.list.segments.get(place).filter(|_| !is_last).map_or(self.end, |it| it.end)
    }

    /// The segment that covers `at`, and its file.
    pub(crate) fn find(&self, at: u64) -> Option<(Extent, &Arc<Handle>)> {
        let segments = &self.list.segments;
        let place = segments.partition_point(|segment| segment.base <= at).checked_sub(1)?;
        let Segment { base, file, .. } = segments.get(place)?;
        let end = self.end_of(place);
        (at < end).then_some((Extent { base: *base, end }, file))
    }

    /// The first segment's base.
    pub(crate) fn start(&self) -> u64 {
        self.list.segments.first().map_or(0, |segment| segment.base)
    }

    /// The last segment.
    pub(crate) fn last(&self) -> Extent {
        let base = self.list.segments.last().map_or(0, |segment| segment.base);
        Extent { base, end: self.end }
    }

    /// The greatest base at or below `upto`, unless it is the first.
    pub(crate) fn boundary(&self, upto: u64) -> Option<u64> {
        let segments = &self.list.segments;
        let place = segments.partition_point(|segment| segment.base <= upto).checked_sub(1)?;
        segments.get(place).filter(|_| place > 0).map(|segment| segment.base)
    }

    /// All segments with their files, in order.
    pub(crate) fn handles(&self) -> impl Iterator<Item = (Extent, &Arc<Handle>)> {
        self.extents().zip(self.list.segments.iter().map(|segment| &segment.file))
    }

    /// The length of the segment at `base` if it is to be mapped, where `most` bytes may be: none that still grows,
    /// and the newest of the others, which have the most entries that are asked for.
    pub(crate) fn mappable(&self, base: u64, most: u64) -> Option<u64> {
        let segments = &self.list.segments;
        let place = segments.binary_search_by_key(&base, |segment| segment.base).ok()?;
        let newer = segments.get(place..segments.len().checked_sub(1)?)?;
        let len = |segment: &Segment| segment.end.saturating_sub(segment.base);
        let all = newer.iter().map(len).fold(0, u64::saturating_add);
        newer.first().map(len).filter(|_| all <= most)
    }

    /// All segments, in order.
    pub(crate) fn extents(&self) -> impl Iterator<Item = Extent> {
        let segments = self.list.segments.iter().enumerate();
        segments.map(|(place, segment)| Extent { base: segment.base, end: self.end_of(place) })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn extents(table: &Table) -> Vec<(u64, u64)> {
        table.look().extents().map(|extent| (extent.base, extent.end)).collect()
    }

    fn extent(base: u64, end: u64) -> Extent {
        Extent { base, end }
    }

    #[test]
    fn what_was_left_out_between_segments_is_not_covered() {
        let table = Table::new(&[extent(0, 100), extent(300, 400)]);
        table.grow([extent(300, 500), extent(500, 600)]);
        table.remove(|_| false);
        assert_eq!(extents(&table), [(0, 100), (300, 500), (500, 600)]);
        let now = table.look();
        assert!(now.find(99).is_some() && now.find(100).is_none() && now.find(299).is_none());
        assert_eq!(now.boundary(299), None);
    }

    #[test]
    fn the_newest_that_grow_no_more_are_mapped() {
        let table = Table::new(&[extent(0, 100), extent(300, 400), extent(400, 430)]);
        table.grow([extent(400, 450), extent(450, 1000)]);
        let now = table.look();
        let mapped = |most| [0, 300, 400, 450, 500].map(|base| now.mappable(base, most));
        assert_eq!(mapped(49), [None; 5]);
        assert_eq!(mapped(50), [None, None, Some(50), None, None]);
        assert_eq!(mapped(149), [None, None, Some(50), None, None]);
        assert_eq!(mapped(249), [None, Some(100), Some(50), None, None]);
        assert_eq!(mapped(u64::MAX), [Some(100), Some(100), Some(50), None, None]);
        table.remove(|extent| extent.base < 400);
        table.remove(|_| true);
        assert_eq!(table.look().mappable(450, u64::MAX), None);
    }

    #[test]
    fn segments_end_where_the_next_one_begins() {
        let table = Table::new(&[extent(0, 64)]);
        table.grow([extent(0, 100)]);
        assert_eq!(extents(&table), [(0, 100)]);
        table.grow([extent(0, 120), extent(120, 300), extent(300, 400)]);
        assert_eq!(extents(&table), [(0, 120), (120, 300), (300, 400)]);
        let now = table.look();
        let found = |at| now.find(at).map(|(extent, _)| extent.base);
        assert_eq!([0, 119, 120, 299, 300, 399].map(found), [0, 0, 120, 120, 300, 300].map(Some));
        assert_eq!((found(400), found(u64::MAX)), (None, None));
        assert_eq!(
            [0, 119, 120, 500].map(|at| now.boundary(at)),
            [None, None, Some(120), Some(300)]
        );
        assert_eq!((now.start(), now.last()), (0, extent(300, 400)));
    }

    #[test]
    fn the_last_segment_stays_and_what_was_seen_stays_seen() {
        let table = Table::new(&[extent(0, 100), extent(100, 200)]);
        table.grow([extent(100, 250)]);
        let before = table.look();
        let gone = table.remove(|_| true);
        assert_eq!(gone.iter().map(|(extent, _)| extent.base).collect::<Vec<_>>(), [0]);
        assert_eq!(extents(&table), [(100, 250)]);
        assert_eq!(before.find(5).unwrap().0, extent(0, 100));
        table.grow([extent(100, 260), extent(260, 330)]);
        assert_eq!(extents(&table), [(100, 260), (260, 330)]);
        assert_eq!(before.last(), extent(100, 250));
    }

    #[test]
    fn an_end_that_was_looked_at_too_early_does_not_cut_a_newer_list() {
        let table = Table::new(&[extent(0, 100)]);
        table.grow([extent(0, 100), extent(100, 300)]);
        // As for a reader who came between the list and the end.
        table.end.store(100, Ordering::Release);
        assert_eq!(extents(&table), [(0, 100), (100, 300)]);
        assert_eq!(table.look().last(), extent(100, 300));
    }
}
