//! Reading entries by position: one, or many at once.
//!
//! ```text
//!  position ──► tail ──► cache ──► disk: 256 bytes (160 if mapped), and the rest if the entry is longer
//!
//!  many     ──► sorted ──► tail ──► cache ──► neighbours on disk in one read, many reads at once (`many`):
//!
//!               │e│  gap  │e│e│   gap   │e│            gap too large     │e│
//!               └──────── one read ───────┘                              └─┘ another
//! ```
//!
//! Entries are shown to a visitor while their bytes are at hand: in a record in memory, or in the buffer
//! that they were read to. Of a batch those that are kept are copied next to each other into one
//! allocation, so that they keep nothing alive but each other.
//!
//! A read of what is not in the tail, with no cache, takes no lock and writes to no memory that other
//! threads read.

use crate::log::{EntryLog, entry_in_memory, none_in_memory};
use crate::read::above::LogView;
use crate::read::many::SPECULATIVE;
use crate::record::frame::{self, NoEntry};
use crate::segments::segment::Extent;
use crate::{LogError, Record, StoredEntry};
use bytes::Bytes;
use hedgerow_types::LogPosition;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::even::sort_even;
use std::sync::Arc;

/// Room made for each entry in a batch of results; a batch of longer ones grows it.
const TYPICAL: usize = 160;
/// Entries longer than this get an allocation of their own in a batch of results.
const OWN_ALLOCATION: usize = 64 << 10;

/// Bytes read for an entry before its length is known, where files are mapped: reading on is no call then, and each line
/// of memory that nobody wants costs a tenth of a read.
pub(crate) const MAPPED_AT_FIRST: usize = 160;
/// Entries up to this length are shown where they were read to.
pub(crate) const SHOWN_IN_PLACE: usize = 512;

/// What a batched read leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Entries read from disk enter the cache.
    Cache,
    /// The cache stays as it is: for reads that are not expected to be repeated.
    Nothing,
}

impl EntryLog {
    /// The entry at `at`: from memory, from the cache, or from disk, after which it is cached.
    ///
    /// # Errors
    /// [`LogError::Pruned`] below the start of the log, [`LogError::OutOfRange`] beyond its
    /// announced end, [`LogError::Misaligned`]; [`LogError::NotAnEntry`] or [`LogError::Corrupt`]
    /// if no intact entry begins there; [`LogError::NotKept`] if only its hash is kept;
    /// [`LogError::Io`].
    pub fn read(&self, at: LogPosition) -> Result<StoredEntry, LogError> {
        let counters = &self.segments.counters.reads;
        if let Some(record) = self.in_memory(at.0)? {
            counters.count_tail(1);
            return entry_in_memory(&record, at.0);
        }
        if let Some(entry) = self.cache.get(at.0) {
            counters.count_cache(1);
            return Ok(entry);
        }
        self.show_from_disk(at.0, StoredEntry::copied)
    }

    /// Shows the entry at `at` while its bytes are at hand, for those who need only a part of it: from
    /// memory, from the cache, or from disk, after which it is cached.
    ///
    /// # Errors
    /// As [`EntryLog::read`].
    pub fn show<T>(
        &self,
        at: LogPosition,
        show: impl FnOnce(EntryRef<'_>) -> T,
    ) -> Result<T, LogError> {
        let counters = &self.segments.counters.reads;
        if let Some(record) = self.in_memory(at.0)? {
            let entry = record.entry_ref_at(at.0);
            counters.count_tail(1);
            return entry.map(show).map_err(|none| none_in_memory(none, at.0));
        }
        if let Some(entry) = self.cache.get(at.0) {
            counters.count_cache(1);
            return Ok(show(entry.get()));
        }
        self.show_from_disk(at.0, show)
    }

    fn show_from_disk<T>(
        &self,
        at: u64,
        show: impl FnOnce(EntryRef<'_>) -> T,
    ) -> Result<T, LogError> {
        let mut buf = [0; SHOWN_IN_PLACE];
        let first = if self.segments.maps() { MAPPED_AT_FIRST } else { SPECULATIVE };
        let (extent, first) = self.read_first(at, first, &mut buf)?;
        let shown = match frame::check_entry(first, at) {
            Ok(entry) => {
                if self.cache.is_on() {
                    self.cache.insert(at, StoredEntry::copied(entry));
                }
                show(entry)
            }
            // Longer than what was read, damaged, or not kept.
            Err(_) => {
                let entry =
                    self.complete(extent, at, first, |at, rest| self.read_disk(extent, at, rest))?;
                let shown = show(entry.get());
                self.cache.insert(at, entry);
                shown
            }
        };
        self.segments.counters.reads.count_disk(1);
        Ok(shown)
    }

    /// Reads so many bytes at `at`, or as many as the segment has, and the rest of the frame there, if `buf` has room for
    /// it.
    fn read_first<'b>(
        &self,
        at: u64,
        len: usize,
        buf: &'b mut [u8; SHOWN_IN_PLACE],
    ) -> Result<(Extent, &'b [u8]), LogError> {
        let (extent, read) = self.read_written(at, buf.get_mut(..len).unwrap_or_default())?;
        let read = read.len();
        let covered = frame::covered_len(buf.get(..read).unwrap_or_default());
        let need = covered.map_or(read, frame::frame_len);
        let ends = at.saturating_add(need as u64) <= extent.end;
        if let Some(rest) = buf.get_mut(read..need)
            && ends
            && !rest.is_empty()
        {
            self.read_disk(extent, at + read as u64, rest)?;
            return Ok((extent, buf.get(..need).unwrap_or_default()));
        }
        Ok((extent, buf.get(..read).unwrap_or_default()))
    }

    /// The entries at `at`, in that order, which may be any and have duplicates. The cache is
    /// asked but not filled.
    ///
    /// # Errors
    /// As [`EntryLog::read`], for any of the positions.
    pub fn read_many(&self, at: &[LogPosition]) -> Result<Vec<StoredEntry>, LogError> {
        LogView::from(self).read_many(at)
    }

    /// Shows the entries at `at`, any and with duplicates, each with its number in `at`, in the
    /// order of the log: for those who need only a part of them, while the bytes are at hand.
    ///
    /// # Errors
    /// As [`EntryLog::read`], for any of the positions; some may have been shown already.
    pub fn visit_many(
        &self,
        at: &[LogPosition],
        fill: Fill,
        mut visit: impl FnMut(usize, EntryRef<'_>),
    ) -> Result<(), LogError> {
        let visit: &mut Visit<'_> = &mut |slot, entry| visit(slot as usize, entry);
        check_count(at.len())?;
        let mut order: Vec<(u64, u32)> = at.iter().map(|at| at.0).zip(0..).collect();
        sort_even(&mut order, |&(position, _)| position);
        self.visit_memory(&mut order, visit)?;
        if self.cache.is_on() {
            let before = order.len();
            order.retain(|&(position, slot)| match self.cache.get(position) {
                Some(entry) => {
                    visit(slot, entry.get());
                    false
                }
                None => true,
            });
            self.segments.counters.reads.count_cache(before - order.len());
        }
        self.visit_disk(&order, fill, visit)?;
        self.segments.counters.reads.count_disk(order.len());
        Ok(())
    }

    /// Shows what records in memory cover and leaves the rest in `order`. Checks all positions.
    fn visit_memory(
        &self,
        order: &mut Vec<(u64, u32)>,
        visit: &mut Visit<'_>,
    ) -> Result<(), LogError> {
        let (Some(&(first, _)), Some(&(last, _))) = (order.first(), order.last()) else {
            return Ok(());
        };
        let mut records: Vec<Arc<Record>> = vec![];
        let end = self.tail.end();
        self.check_bounds(first, end)?;
        self.check_bounds(last, end)?;
        if !self.tail.is_after(last) {
            let tail = self.tail.read();
            let mut known_end = 0;
            for &(position, _) in &*order {
                if position >= known_end
                    && let Some(record) = tail.find(position)
                {
                    known_end = record.end().0;
                    records.push(Arc::clone(record));
                }
            }
        }
        let mut records = records.iter().peekable();
        let before = order.len();
        let mut result = Ok(());
        order.retain(|&(position, slot)| {
            while records.peek().is_some_and(|record| record.end().0 <= position) {
                records.next();
            }
            match records.peek() {
                Some(record) if record.position().0 <= position && result.is_ok() => {
                    match record.entry_ref_at(position) {
                        Ok(entry) => visit(slot, entry),
                        Err(none) => result = Err(none_in_memory(none, position)),
                    }
                    false
                }
                _ => true,
            }
        });
        self.segments.counters.reads.count_tail(before - order.len());
        result
    }

    /// The entry at `at` in an allocation of its own; `first` holds its first bytes, or all, and
    /// `read` is asked for more if need be.
    pub(crate) fn complete(
        &self,
        extent: Extent,
        at: u64,
        first: &[u8],
        read: impl FnOnce(u64, &mut [u8]) -> Result<(), LogError>,
    ) -> Result<StoredEntry, LogError> {
        let corrupt = |what| self.segments.corrupt(at, what);
        let no_entry = |none: NoEntry| none.at(at, corrupt);
        let covered = frame::covered_len(first).map_err(corrupt)?;
        let need = frame::frame_len(covered);
        if need <= first.len() {
            let entry = frame::check_entry(first, at).map_err(no_entry)?;
            let bytes = Bytes::copy_from_slice(entry.hashed_bytes());
            return StoredEntry::checked(bytes).map_err(corrupt);
        }
        let have = extent.end.saturating_sub(at);
        if need as u64 > have {
            return Err(corrupt(crate::Damage::Length { need: need as u64, have }));
        }
        let mut bytes = vec![0; need];
        let (known, rest) = bytes.split_at_mut(first.len());
        known.copy_from_slice(first);
        read(at + known.len() as u64, rest)?;
        frame::check_entry(&bytes, at).map_err(no_entry)?;
        bytes.truncate(covered);
        StoredEntry::checked(bytes.into()).map_err(corrupt)
    }
}

/// Reads of a batch are numbered with 32 bits.
fn check_count(reads: usize) -> Result<(), LogError> {
    match u32::try_from(reads) {
        Ok(_) => Ok(()),
        Err(_) => Err(LogError::Malformed("a batch of 2^32 reads or more")),
    }
}

/// Is shown an entry and whose it is.
pub(crate) type Visit<'a> = dyn FnMut(u32, EntryRef<'_>) + 'a;

/// Results of a batched read while they come in.
pub(crate) struct Results {
    /// Entries that have an allocation of their own; then all.
    slots: Vec<Option<StoredEntry>>,
    /// Hashed bytes of short entries, back to back.
    arena: Vec<u8>,
    /// Whose they are: slot, first byte, end.
    spans: Vec<(usize, usize, usize)>,
}

impl Results {
    /// Room for so many.
    pub(crate) fn new(entries: usize) -> Self {
        let arena = Vec::with_capacity(entries.saturating_mul(TYPICAL));
        Self { slots: vec![None; entries], arena, spans: vec![] }
    }

    fn put(&mut self, slot: usize, entry: StoredEntry) {
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Some(entry);
        }
    }

    pub(crate) fn copy(&mut self, slot: usize, entry: EntryRef<'_>) {
        if entry.hashed_bytes().len() > OWN_ALLOCATION {
            self.put(slot, StoredEntry::copied(entry));
            return;
        }
        let start = self.arena.len();
        self.arena.extend_from_slice(entry.hashed_bytes());
        self.spans.push((slot, start, self.arena.len()));
    }

    pub(crate) fn finish(mut self) -> Result<Vec<StoredEntry>, LogError> {
        let arena = Bytes::from(std::mem::take(&mut self.arena));
        for (slot, start, end) in std::mem::take(&mut self.spans) {
            let entry = StoredEntry::checked(arena.slice(start..end))
                .map_err(|_| LogError::Malformed("an entry that changed while it was copied"))?;
            self.put(slot, entry);
        }
        self.slots
            .into_iter()
            .map(|slot| slot.ok_or(LogError::Malformed("a position that was not read")))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_as_many_reads_as_can_be_numbered() {
        for reads in [0, 1, u32::MAX as usize] {
            assert!(check_count(reads).is_ok(), "{reads}");
        }
        #[cfg(target_pointer_width = "64")]
        for reads in [1_usize << 32, (1 << 32) + 1, usize::MAX] {
            assert!(matches!(check_count(reads), Err(LogError::Malformed(_))), "{reads}");
        }
    }
}
