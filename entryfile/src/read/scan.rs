//! Reading the log record by record, whole and verified: what recovery does.

use crate::log::EntryLog;
use crate::record::header::RECORD_HEADER_LEN;
use crate::record::stub::FrameRef;
use crate::{Damage, LogError, Record};
use bytes::Bytes;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Height, LogPosition, SHARDS, ShardId};

/// A record whose every checksum was verified.
#[derive(Clone, Debug)]
pub struct ScannedRecord {
    /// [`Record::check`] accepts it.
    record: Record,
}

impl ScannedRecord {
    /// Where its header begins.
    pub fn position(&self) -> LogPosition {
        self.record.position()
    }

    /// The first position after it.
    pub fn end(&self) -> LogPosition {
        self.record.end()
    }

    /// The block's height.
    pub fn height(&self) -> Height {
        self.record.height()
    }

    /// The new entries of `shard` with their positions, in serial-number order: all of them, unless
    /// the scan was told to accept stubs, which are not among these.
    pub fn entries(&self, shard: ShardId) -> impl Iterator<Item = (LogPosition, EntryRef<'_>)> {
        self.frames(shard).filter_map(|(at, frame)| Some((at, frame.entry()?)))
    }

    /// The new entries of `shard` with their positions, in serial-number order; of those that are not
    /// kept, the stubs.
    pub fn frames(&self, shard: ShardId) -> impl Iterator<Item = (LogPosition, FrameRef<'_>)> {
        self.record.run_frames(shard)
    }

    /// The record itself.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// Iterates over the records of a part of the log, in order. Holds one record in memory at a time.
///
/// An error ends the iteration and is its last item: it never looks like the end of the input,
/// which is `None` without an error before it.
#[derive(Debug)]
pub struct RecordScan<'a> {
    log: &'a EntryLog,
    /// Where to begin, or the end of the record before.
    at: u64,
    to: u64,
    /// Whether records with stubs will do.
    stubs: bool,
    over: bool,
}

impl EntryLog {
    /// The records from `from` to `to`, announced ones included, each read whole and verified.
    ///
    /// `from` is the position of a record, [`EntryLog::start`] or the end of a record; `to` is the
    /// end of a record at or after it. Anything else is answered with an error by the iterator.
    /// A record with a stub is [`LogError::NotKept`], see [`RecordScan::with_stubs`].
    pub fn scan(&self, from: LogPosition, to: LogPosition) -> RecordScan<'_> {
        RecordScan { log: self, at: from.0, to: to.0, stubs: false, over: false }
    }

    /// The record at `at`, from memory or disk, unverified but for its header.
    fn load_record(&self, at: u64) -> Result<Record, LogError> {
        if let Some(record) = self.in_memory(at)? {
            if record.position().0 != at {
                return Err(LogError::NotAnEntry { at: LogPosition(at), what: Damage::Magic });
            }
            return Ok((*record).clone());
        }
        let (header, extent) = self.header_on_disk(at)?;
        let runs_at = at + RECORD_HEADER_LEN as u64;
        let runs_len = header.record_len() - RECORD_HEADER_LEN as u64;
        let have = extent.end - runs_at;
        // `header_on_disk` has checked that the segment is that long.
        let mut bytes = vec![
            0;
            usize::try_from(runs_len).map_err(|_| {
                self.damaged(at, Damage::Length { need: runs_len, have })
            })?
        ];
        self.read_disk(extent, runs_at, &mut bytes)?;
        let bytes = Bytes::from(bytes);
        let mut offset = 0;
        let mut take = |len: u32| {
            let part = bytes.slice(offset..offset + len as usize);
            offset += len as usize;
            part
        };
        let runs: [Bytes; SHARDS] = header.run_lens.map(&mut take);
        let extra = take(header.extra_len);
        // What is left is there to make the length a multiple of 8.
        if bytes.slice(offset..).iter().any(|&byte| byte != 0) {
            return Err(self.damaged(runs_at + offset as u64, Damage::Padding));
        }
        Ok(Record::unchecked(header, runs, extra))
    }
}

impl RecordScan<'_> {
    /// The same scan, which accepts records with stubs: for those who need no more than hashes, or who
    /// tell the two apart by [`ScannedRecord::frames`].
    #[must_use]
    pub fn with_stubs(self) -> Self {
        Self { stubs: true, ..self }
    }

    fn next_record(&mut self) -> Result<Option<ScannedRecord>, LogError> {
        if self.log.behind_dead(self.at) >= self.to {
            return Ok(None);
        }
        let Some(position) = self.log.record_after(self.at) else {
            let (at, end) = (LogPosition(self.to), self.log.announced_end());
            return Err(LogError::OutOfRange { at, end });
        };
        // A segment without a record yet: nothing follows its header.
        if position >= self.to {
            return Ok(None);
        }
        let record = self.log.load_record(position)?;
        if record.end().0 > self.to {
            let (need, have) = (record.bytes_len(), self.to - position);
            return Err(self.log.damaged(position, Damage::Length { need, have }));
        }
        let stub = record.check().map_err(|(at, what)| self.log.damaged(at, what))?;
        if let Some((at, stub)) = stub.filter(|_| !self.stubs) {
            return Err(LogError::NotKept { at: LogPosition(at), stub });
        }
        self.at = record.end().0;
        Ok(Some(ScannedRecord { record }))
    }
}

impl Iterator for RecordScan<'_> {
    type Item = Result<ScannedRecord, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let next = self.next_record().transpose();
        self.over = !matches!(next, Some(Ok(_)));
        next
    }
}

impl std::iter::FusedIterator for RecordScan<'_> {}
