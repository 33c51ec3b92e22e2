//! The youngest part of the log, in memory.
//!
//! ```text
//!                 oldest                                                youngest
//!  VecDeque      │ R  R  R  R  R  R  R  R  R  R │ R  R  R │
//!                  written, kept while they fit   announced,   ▲
//!                  into `tail_bytes`              not written  end, where the next record goes
//!  log  ──────────────────────────────────────────┤ (or 64 bytes further, after a new header)
//!                                       written end
//! ```
//!
//! A record is readable from the moment it is announced. Once written it stays for a while, because
//! what was written last is what is read soonest; the oldest go first, those not written never go.
//!
//! Most of a log is older. Where the tail begins and ends is known without its lock, so that a read of
//! what it does not have takes none.

use crate::segments::header::SEGMENT_HEADER_LEN;
use crate::segments::segment::{Extent, SegmentSize};
use crate::{LogError, Record};
use hedgerow_types::LogPosition;
use parking_lot::{RwLock, RwLockReadGuard};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The tail, as all threads share it.
#[derive(Debug)]
pub(crate) struct SharedTail {
    tail: RwLock<Tail>,
    /// Where the oldest record in memory begins. What lies before it is written. It only grows.
    from: AtomicU64,
    /// End of the youngest record.
    end: AtomicU64,
}

impl SharedTail {
    pub(crate) fn new(tail: Tail) -> Self {
        let (from, end) = (AtomicU64::new(tail.from()), AtomicU64::new(tail.end()));
        Self { tail: RwLock::new(tail), from, end }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Tail> {
        self.tail.read()
    }

    /// End of the youngest record.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Whether nothing at or before `at` is in memory: then it is written.
    pub(crate) fn is_after(&self, at: u64) -> bool {
        at < self.from.load(Ordering::Acquire)
    }

    /// The record that covers `at`, if it is in memory.
    pub(crate) fn find(&self, at: u64) -> Option<Arc<Record>> {
        if self.is_after(at) {
            return None;
        }
        self.tail.read().find(at).cloned()
    }

    /// See [`Tail::announce`].
    pub(crate) fn announce(
        &self,
        record: Arc<Record>,
        start: u64,
        placed: bool,
    ) -> Result<(), LogError> {
        let mut tail = self.tail.write();
        tail.announce(record, start, placed)?;
        // The beginning first: whoever sees the new end must find the record.
        self.from.store(tail.from(), Ordering::Release);
        self.end.store(tail.end(), Ordering::Release);
        Ok(())
    }

    /// See [`Tail::skip`].
    pub(crate) fn skip(&self, position: u64, end: u64, start: u64) {
        let mut tail = self.tail.write();
        tail.skip(position, end, start);
        self.from.store(tail.from(), Ordering::Release);
        self.end.store(tail.end(), Ordering::Release);
    }

    /// See [`Tail::mark_written`].
    pub(crate) fn mark_written(&self, count: usize) -> Vec<Arc<Record>> {
        let mut tail = self.tail.write();
        let dropped = tail.mark_written(count);
        self.from.store(tail.from(), Ordering::Release);
        dropped
    }
}

#[derive(Debug)]
pub(crate) struct Tail {
    items: VecDeque<Item>,
    /// How many of the youngest are not written.
    unwritten: usize,
    /// What the records take in memory, each with what it costs beside its bytes: of many small ones
    /// that is the greater part.
    bytes: u64,
    /// Bound of `bytes` as far as written records go.
    limit: u64,
    /// The segment that the next record extends, as it will be once all records are written.
    last: Extent,
    segment_size: SegmentSize,
    /// Length at which `last` is full. Decided once for each segment, so that where the next record
    /// goes does not change while it is made.
    full_at: u64,
}

#[derive(Debug)]
struct Item {
    record: Arc<Record>,
    /// Base of the segment that the record lies in.
    segment: u64,
}

impl Tail {
    /// Nothing in memory; the log on disk begins at `start`, `last` is its last segment.
    pub(crate) fn new(start: u64, last: Extent, segment_size: SegmentSize, limit: u64) -> Self {
        let full_at = segment_size.full_at(last.end.saturating_sub(start));
        Self { items: VecDeque::new(), unwritten: 0, bytes: 0, limit, last, segment_size, full_at }
    }

    /// End of the youngest record.
    pub(crate) fn end(&self) -> u64 {
        self.last.end
    }

    /// Where the oldest record in memory begins; without one, where the next one is going to at the
    /// earliest.
    fn from(&self) -> u64 {
        self.items.front().map_or(self.last.end, |item| item.record.position().0)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where the next record begins. A new segment is begun when the last one is full.
    pub(crate) fn next_position(&self) -> u64 {
        if self.last.is_full(self.full_at) {
            self.last.end.saturating_add(SEGMENT_HEADER_LEN as u64)
        } else {
            self.last.end
        }
    }

    /// Where a record begins that follows others, of which those that are not taken in yet are going to be:
    /// their beginnings and ends. The log begins at `start` now.
    pub(crate) fn position_after(
        &self,
        records: impl Iterator<Item = (u64, u64)>,
        start: u64,
    ) -> u64 {
        let Self { last, segment_size, full_at, .. } = *self;
        let mut after = Self::new(start, last, segment_size, 0);
        after.full_at = full_at;
        for (position, end) in records.filter(|(_, end)| *end > last.end) {
            after.skip(position, end, start);
        }
        after.next_position()
    }

    /// Takes a record in, where [`next_position`](Self::next_position) says, or for one that is `placed` said;
    /// the log begins at `start` now.
    pub(crate) fn announce(
        &mut self,
        record: Arc<Record>,
        start: u64,
        placed: bool,
    ) -> Result<(), LogError> {
        let (expected, got) = (self.next_position(), record.position().0);
        let (here, in_new) =
            (self.last.end, self.last.end.saturating_add(SEGMENT_HEADER_LEN as u64));
        if got != expected && !(placed && (got == here || got == in_new)) {
            let (expected, got) = (LogPosition(expected), LogPosition(got));
            return Err(LogError::OutOfOrder { expected, got });
        }
        self.skip(got, record.end().0, start);
        self.bytes += record.memory();
        self.unwritten += 1;
        self.items.push_back(Item { record, segment: self.last.base });
        Ok(())
    }

    /// What lies from `position`, where the next record was to begin, up to `end` is not in memory.
    pub(crate) fn skip(&mut self, position: u64, end: u64, start: u64) {
        if position != self.last.end {
            self.last.base = self.last.end;
            self.full_at = self.segment_size.full_at(self.last.base.saturating_sub(start));
        }
        self.last.end = end;
    }

    /// The oldest records that were not written, as many as there are.
    pub(crate) fn unwritten(&self) -> impl ExactSizeIterator<Item = &Arc<Record>> {
        let from = self.items.len() - self.unwritten.min(self.items.len());
        self.items.range(from..).map(|item| &item.record)
    }

    /// The oldest record at or after `at` that is written.
    pub(crate) fn written_from(&self, at: u64) -> Option<&Arc<Record>> {
        let index = self.items.partition_point(|item| item.record.position().0 < at);
        let written = self.items.len() - self.unwritten.min(self.items.len());
        self.items.get(index).filter(|_| index < written).map(|item| &item.record)
    }

    /// The `count` oldest records that were not written are now; returns records that need no
    /// longer be kept, for the caller to drop outside its lock.
    pub(crate) fn mark_written(&mut self, count: usize) -> Vec<Arc<Record>> {
        self.unwritten = self.unwritten.saturating_sub(count);
        let mut dropped = vec![];
        while self.bytes > self.limit && self.items.len() > self.unwritten {
            let Some(item) = self.items.pop_front() else { break };
            self.bytes -= item.record.memory();
            dropped.push(item.record);
        }
        dropped
    }

    /// The record that covers `at`, if it is in memory.
    pub(crate) fn find(&self, at: u64) -> Option<&Arc<Record>> {
        let index = self.items.partition_point(|item| item.record.position().0 <= at);
        let record = &self.items.get(index.checked_sub(1)?)?.record;
        (at < record.end().0).then_some(record)
    }

    /// The record that begins at `end`, where one ended, or right after a segment's header there;
    /// if it is in memory.
    pub(crate) fn record_after(&self, end: u64) -> Option<u64> {
        let index = self.items.partition_point(|item| item.record.position().0 < end);
        let item = self.items.get(index)?;
        let position = item.record.position().0;
        let after_header = item.segment == end && position == end + SEGMENT_HEADER_LEN as u64;
        (position == end || after_header).then_some(position)
    }
}
