//! Walking one shard's entries through the log: what compaction does.
//!
//! ```text
//!  record h                           record h+1                       record h+2 (in memory only)
//!  │hdr│..│ a  b  c  d │..........│   │hdr│...│ e  f │...........│     │hdr│..│ g │....│
//!            ▲                                                                  │
//!            └─ b ─ c ─ d ──────────────────────► e ─ f ────────────────────►  g ─► None, for now
//! ```
//!
//! The cursor reads windows, not entries, and knows from the serial numbers, which are consecutive,
//! that it has missed nothing: stepping over an entry whose checksum nobody looked at cannot lead
//! it astray.

use crate::log::RunLocation;
use crate::read::above::LogView;
use crate::read::window::{Frame, Window};
use crate::record::frame;
use crate::{Damage, LogError, StoredEntry};
use hedgerow_types::{LogPosition, SerialNumber, ShardId};

/// Bytes that a cursor reads at a time, unless the run ends before or an entry is longer.
const WINDOW: u64 = 64 << 10;

/// A place in one shard's entries, from which it moves forward in the order of the log, which is
/// that of serial numbers. Remembers a window of what it read; a clone shares it.
#[derive(Clone, Debug)]
pub struct RunCursor {
    shard: ShardId,
    record: u64,
    at: u64,
    /// Of the record at `record`; found when it is needed.
    run: Option<RunLocation>,
    window: Window,
    /// Serial number of the entry at `at`, once an entry has been seen.
    expected: Option<SerialNumber>,
}

impl RunCursor {
    /// A cursor on the entry of `shard` at `at`, which the record at `record` holds. `at` may also
    /// be the end of that record's run: the cursor then stands before the first entry after it.
    pub fn new(shard: ShardId, record: LogPosition, at: LogPosition) -> Self {
        let window = Window::default();
        Self { shard, record: record.0, at: at.0, run: None, window, expected: None }
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// The record that the cursor stands in. Right after an entry was returned, this is the record
    /// that holds it: the cursor moves to the next record only to return an entry from there, or
    /// when it has looked and found none yet.
    pub fn record(&self) -> LogPosition {
        LogPosition(self.record)
    }

    /// The entry that the cursor stands before, or the end of a run. Together with
    /// [`RunCursor::record`] it makes an equal cursor.
    pub fn position(&self) -> LogPosition {
        LogPosition(self.at)
    }

    /// Bytes of the log that it remembers. Clones share them, and a record in memory may be where they lie.
    pub fn memory(&self) -> usize {
        self.window.len()
    }

    /// The next entry and its position, its checksum verified. `None` at the announced end of the
    /// log; when more has been announced, there may be a next entry again.
    ///
    /// # Errors
    /// [`LogError`] if the log cannot be read or is damaged, or the cursor was made for a place
    /// that is none ([`LogError::NotInRun`]) or is [pruned](LogError::Pruned);
    /// [`LogError::NotKept`] if only the hash of the next entry is kept. The cursor stays where it
    /// was.
    pub fn next<'l>(
        &mut self,
        log: impl Into<LogView<'l>>,
    ) -> Result<Option<(LogPosition, StoredEntry)>, LogError> {
        self.next_where(log, |_| true)
    }

    /// The next entry whose serial number `keep` accepts. Others are stepped over at the cost of a
    /// look at their header; their checksums are not verified, but their serial numbers must be the
    /// next ones. Whether they are kept does not matter.
    ///
    /// # Errors
    /// As [`RunCursor::next`].
    pub fn next_where<'l>(
        &mut self,
        log: impl Into<LogView<'l>>,
        mut keep: impl FnMut(SerialNumber) -> bool,
    ) -> Result<Option<(LogPosition, StoredEntry)>, LogError> {
        let view = log.into();
        let log = view.log;
        loop {
            let run = match &self.run {
                Some(run) => (run.end, run.record_end),
                None => self.enter(view)?,
            };
            let (run_end, record_end) = run;
            while self.at < run_end {
                let at = self.at;
                let Frame { bytes, offset, len } =
                    self.window.frame_at(log, at, run_end, WINDOW)?;
                let rest = bytes.get(offset..).unwrap_or_default();
                let corrupt = |what| log.damaged(at, what);
                let found = frame::peek_serial_number(rest).ok_or_else(|| {
                    corrupt(Damage::Length { need: len, have: rest.len() as u64 })
                })?;
                let kept = keep(found);
                // An entry that is returned is verified first, so that a damaged one is called so.
                let entry = if kept {
                    Some(
                        StoredEntry::in_frame(bytes, offset, at)
                            .map_err(|none| none.at(at, corrupt))?,
                    )
                } else {
                    None
                };
                if let Some(expected) = self.expected.filter(|&expected| expected != found) {
                    let (expected, found) = (expected.0, found.0);
                    return Err(corrupt(Damage::SerialNumber { expected, found }));
                }
                self.expected = Some(SerialNumber(found.0.wrapping_add(1)));
                self.at = at + len;
                if let Some(entry) = entry {
                    return Ok(Some((LogPosition(at), entry)));
                }
            }
            let Some(next) = view.record_after(record_end) else { return Ok(None) };
            let run = view.locate_run(next, self.shard)?;
            self.record = next;
            self.at = run.start;
            self.go_to(run);
        }
    }

    /// Finds the run that the cursor was said to stand in. Returns where it and its record end.
    fn enter(&mut self, log: LogView<'_>) -> Result<(u64, u64), LogError> {
        let run = log.locate_run(self.record, self.shard)?;
        if self.at < run.start || self.at > run.end {
            let (at, record) = (self.position(), self.record());
            return Err(LogError::NotInRun { at, record, shard: self.shard });
        }
        let ends = (run.end, run.record_end);
        self.go_to(run);
        Ok(ends)
    }

    fn go_to(&mut self, mut run: RunLocation) {
        if let Some(bytes) = run.bytes.take() {
            self.window = Window::on(run.start, bytes);
        }
        self.run = Some(run);
    }
}
