//! The log as blocks see it that are not in it yet: their records lie above its end.
//!
//! ```text
//!   log      ├─ segment ─┤├─ segment ────┤ end
//!   above                                  R h+1 │ R h+2 │ R h+3      in memory, where they will lie
//!            ◄──────── the log's ────────►◄──── the records' ────►
//!                                         ▲ the first one's position decides
//! ```
//!
//! A record above the log has its place already, so that its entries are read by position as any others.
//! Whoever puts such a record into the log changes no answer: what was read from the record is then read
//! from the record, and from the log by others, and it is the same.
//!
//! Without records above it, a [`LogView`] is the log, and costs nothing.

use crate::log::{EntryLog, RunLocation, entry_in_memory, none_in_memory};
use crate::read::entries::{Fill, Results};
use crate::segments::header::SEGMENT_HEADER_LEN;
use crate::{Damage, LogError, Record, StoredEntry};
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{LogPosition, ShardId};
use std::sync::Arc;

/// The log, and records above it. See the [module's picture](crate).
///
/// ```
/// use hedgerow_entryfile::{EntryLog, LogOptions, LogView, StoreId};
/// # use hedgerow_vfs::MemDisk;
/// # let (disk, dir) = (std::sync::Arc::new(MemDisk::new()), std::path::Path::new("/log"));
/// let log = EntryLog::create(disk, dir, StoreId([7; 16]), LogOptions::default())?;
/// let view = LogView::above(&log, &[]);        // nothing above it: the log itself
/// assert_eq!(view.next_position(), log.next_position());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LogView<'a> {
    pub(crate) log: &'a EntryLog,
    /// In the order of their positions, one behind the other.
    above: &'a [Arc<Record>],
}

impl<'a> From<&'a EntryLog> for LogView<'a> {
    fn from(log: &'a EntryLog) -> Self {
        Self { log, above: &[] }
    }
}

impl<'a> LogView<'a> {
    /// The log and the records that lie above it, each where the [next](Self::next_position) record was to
    /// begin after those before it. What the log has at these positions is not looked at.
    pub fn above(log: &'a EntryLog, above: &'a [Arc<Record>]) -> Self {
        Self { log, above }
    }

    /// Where a record begins that follows all of these.
    pub fn next_position(&self) -> LogPosition {
        let records = self.above.iter().map(|record| (record.position().0, record.end().0));
        LogPosition(self.log.tail.read().position_after(records, self.log.start().0))
    }

    /// Whether what lies at `at` is above the log.
    fn is_above(&self, at: LogPosition) -> bool {
        self.above.first().is_some_and(|first| first.position() <= at)
    }

    /// The record above the log that covers `at`, which [is above](Self::is_above) it.
    fn record_at(&self, at: LogPosition) -> Result<&'a Arc<Record>, LogError> {
        let number = self.above.partition_point(|record| record.end() <= at);
        let end = self.above.last().map_or(LogPosition(0), |last| last.end());
        let record = self.above.get(number).ok_or(LogError::OutOfRange { at, end })?;
        if record.position() <= at {
            return Ok(record);
        }
        Err(LogError::NotAnEntry { at, what: Damage::Header })
    }

    /// As [`record_at`](Self::record_at), of what may lie in the log; `None` if it does.
    pub(crate) fn record_above(&self, at: u64) -> Result<Option<&'a Arc<Record>>, LogError> {
        let at = LogPosition(at);
        if self.is_above(at) { self.record_at(at).map(Some) } else { Ok(None) }
    }

    /// The entry at `at`: see [`EntryLog::read`].
    ///
    /// # Errors
    /// As [`EntryLog::read`].
    pub fn read(&self, at: LogPosition) -> Result<StoredEntry, LogError> {
        match self.record_above(at.0)? {
            Some(record) => entry_in_memory(record, at.0),
            None => self.log.read(at),
        }
    }

    /// Shows the entry at `at`: see [`EntryLog::show`].
    ///
    /// # Errors
    /// As [`EntryLog::read`].
    pub fn show<T>(
        &self,
        at: LogPosition,
        show: impl FnOnce(EntryRef<'_>) -> T,
    ) -> Result<T, LogError> {
        match self.record_above(at.0)? {
            Some(record) => {
                record.entry_ref_at(at.0).map(show).map_err(|none| none_in_memory(none, at.0))
            }
            None => self.log.show(at, show),
        }
    }

    /// The entries at `at`: see [`EntryLog::read_many`].
    ///
    /// # Errors
    /// As [`EntryLog::read`], for any of the positions.
    pub fn read_many(&self, at: &[LogPosition]) -> Result<Vec<StoredEntry>, LogError> {
        let mut results = Results::new(at.len());
        self.visit_many(at, Fill::Nothing, |slot, entry| results.copy(slot, entry))?;
        results.finish()
    }

    /// Shows the entries at `at`: see [`EntryLog::visit_many`].
    ///
    /// # Errors
    /// As [`EntryLog::read`], for any of the positions; some may have been shown already.
    pub fn visit_many(
        &self,
        at: &[LogPosition],
        fill: Fill,
        mut visit: impl FnMut(usize, EntryRef<'_>),
    ) -> Result<(), LogError> {
        if self.above.is_empty() {
            return self.log.visit_many(at, fill, visit);
        }
        let (mut in_log, mut slots) = (Vec::with_capacity(at.len()), Vec::with_capacity(at.len()));
        let mut above = Vec::new();
        for (slot, &at) in at.iter().enumerate() {
            if self.is_above(at) {
                above.push((at, slot));
            } else {
                in_log.push(at);
                slots.push(slot);
            }
        }
        self.log.visit_many(&in_log, fill, |number, entry| {
            if let Some(&slot) = slots.get(number) {
                visit(slot, entry);
            }
        })?;
        above.sort_unstable();
        for (at, slot) in above {
            let entry = self.record_at(at)?.entry_ref_at(at.0);
            visit(slot, entry.map_err(|none| none_in_memory(none, at.0))?);
        }
        Ok(())
    }

    /// The run of `shard` in the record at `record`.
    pub(crate) fn locate_run(&self, record: u64, shard: ShardId) -> Result<RunLocation, LogError> {
        match self.record_above(record)? {
            Some(found) => RunLocation::in_memory(found, record, shard),
            None => self.log.locate_run(record, shard),
        }
    }

    /// The position of the record that follows the one that ends at `end`; `None` if there is none.
    pub(crate) fn record_after(&self, end: u64) -> Option<u64> {
        let number = self.above.partition_point(|record| record.position().0 < end);
        let above = self.above.get(number).map(|record| record.position().0);
        // Behind a header if a segment ends here: between the two there is no room for a record.
        let follows = |position: &u64| position - end <= SEGMENT_HEADER_LEN as u64;
        above.filter(follows).or_else(|| self.log.record_after(end))
    }
}
