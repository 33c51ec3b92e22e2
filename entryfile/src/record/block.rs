//! The record: what one block adds to the log.
//!
//! ```text
//!  position                                                                                end
//!  │ header, 352 bytes │ run of shard 0 │ run of shard 1 │ ... │ run of shard 15 │ extra │
//!
//!  header  see `header`
//!  run     frame of the shard's first new entry │ frame of its second │ ...      (may be empty)
//!  extra   what the application gave with the block, then zeros to a multiple of 8
//! ```
//!
//! A record holds all that is needed to take the block in again after a crash, so that the log is the
//! journal of the store: a block is durable once its record is. What it says of heights gone by tells
//! a record that is damaged from one that was never whole, and a state that was computed wrongly from a
//! right one.
//!
//! Invariants:
//! * The header's checksum covers its first 344 bytes; the entries carry their own.
//! * Every part is a multiple of 8 bytes long, and the position is a multiple of 8.
//! * A run is immutable once its record exists. Its serial numbers are consecutive.
//! * In memory the runs of a short record share one buffer, which is as long as they are: sixteen
//!   small ones of their own would take several times as much.

use crate::record::frame::{self, ALIGN, MIN_FRAME_LEN, NoEntry};
use crate::record::header::{RECORD_HEADER_LEN, RecordHeader, check_counts, padded};
use crate::record::stub::{FrameRef, Stub};
use crate::{Damage, LogError, StoredEntry};
use bytes::Bytes;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, Height, LogPosition, SHARDS, SerialNumber, ShardId};

/// Records with fewer bytes of runs have them in one buffer.
const GATHERED: usize = 64 << 10;
/// What a record takes in memory beside its bytes: itself, its buffer's and its own reference count,
/// and what the allocator adds.
const MEMORY_OVERHEAD: u64 = size_of::<Record>() as u64 + 128;

/// What a record says beside its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockState {
    /// Serial number of each shard below which nothing is active after the block.
    pub oldest_active: [SerialNumber; SHARDS],
    /// Entries of all shards before the block, active or not.
    pub entries_before: u64,
    /// A height that was durable when the record was made.
    pub durable: Height,
    /// A height that was published then, and its state root.
    pub published: (Height, Digest),
    /// What the application gave with the block.
    pub extra: Bytes,
}

/// Short runs in one buffer, long ones as they are.
fn gather(runs: [Bytes; SHARDS]) -> [Bytes; SHARDS] {
    let len: usize = runs.iter().map(Bytes::len).sum();
    if len > GATHERED {
        return runs;
    }
    let mut buffer = Vec::with_capacity(len);
    runs.iter().for_each(|run| buffer.extend_from_slice(run));
    let buffer = Bytes::from(buffer);
    let mut at = 0;
    runs.map(|run| {
        let begin = at;
        at += run.len();
        buffer.slice(begin..at)
    })
}

/// One block's record: its place in the log and the runs of its new entries. Immutable and shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    header: RecordHeader,
    runs: [Bytes; SHARDS],
    extra: Bytes,
}

impl Record {
    /// The record whose header begins at `position`.
    ///
    /// `runs` holds each shard's new entries as frames back to back, in serial-number order, each run
    /// bound to its [place](Record::run_start) by [`place_run`](crate::place_run); `entries` says how
    /// many; `state` is what else there is to say.
    ///
    /// # Errors
    /// [`LogError::Misaligned`] for the position; [`LogError::Malformed`] if a run's length is not
    /// a multiple of 8, exceeds 4 GiB or cannot hold as many entries, if the extra data exceeds
    /// 4 GiB, or if the record would reach beyond the last position.
    pub fn new(
        position: LogPosition,
        height: Height,
        runs: [Bytes; SHARDS],
        entries: [u32; SHARDS],
        state: BlockState,
    ) -> Result<Self, LogError> {
        if !position.0.is_multiple_of(ALIGN as u64) {
            return Err(LogError::Misaligned(position));
        }
        let mut run_lens = [0; SHARDS];
        for ((len, run), &count) in run_lens.iter_mut().zip(&runs).zip(&entries) {
            *len = u32::try_from(run.len())
                .map_err(|_| LogError::Malformed("a run of more than 4 GiB"))?;
            check_counts(run.len(), count)
                .map_err(|_| LogError::Malformed("a run does not hold its number of entries"))?;
        }
        let BlockState { oldest_active, entries_before, durable, published, extra } = state;
        let extra_len = u32::try_from(extra.len())
            .map_err(|_| LogError::Malformed("extra data of more than 4 GiB"))?;
        let header = RecordHeader {
            position: position.0,
            height,
            run_lens,
            entries,
            oldest_active,
            entries_before,
            durable,
            published,
            extra_len,
            extra_crc: crc32c::crc32c(&extra),
        };
        if position.0.checked_add(header.record_len()).is_none() {
            return Err(LogError::Malformed("a record beyond the last log position"));
        }
        Ok(Self { header, runs: gather(runs), extra })
    }

    /// A record as it was read: its parts may contradict each other, see [`Record::check`].
    pub(crate) fn unchecked(header: RecordHeader, runs: [Bytes; SHARDS], extra: Bytes) -> Self {
        Self { header, runs, extra }
    }

    /// Where the run of `shard` begins in a record at `position` whose runs have these lengths in
    /// bytes: computable before the record exists.
    pub fn run_start(
        position: LogPosition,
        run_lens: &[usize; SHARDS],
        shard: ShardId,
    ) -> LogPosition {
        let before: u64 = run_lens[..shard.index()].iter().map(|&len| len as u64).sum();
        LogPosition(position.0.saturating_add(RECORD_HEADER_LEN as u64 + before))
    }

    /// Where the header begins.
    pub fn position(&self) -> LogPosition {
        LogPosition(self.header.position)
    }

    /// The first position after the record.
    pub fn end(&self) -> LogPosition {
        LogPosition(self.header.end())
    }

    /// The block's height; 0 for the genesis record.
    pub fn height(&self) -> Height {
        self.header.height
    }

    /// The frames of the new entries of `shard`.
    pub fn run(&self, shard: ShardId) -> &Bytes {
        &self.runs[shard.index()]
    }

    /// How many entries the run of `shard` has.
    pub fn entries(&self, shard: ShardId) -> u32 {
        self.header.entries[shard.index()]
    }

    /// What the application gave with the block.
    pub fn extra(&self) -> &Bytes {
        &self.extra
    }

    /// Serial number of each shard below which nothing is active after the block.
    pub fn oldest_active(&self) -> &[SerialNumber; SHARDS] {
        &self.header.oldest_active
    }

    /// Entries of all shards before the block, active or not.
    pub fn entries_before(&self) -> u64 {
        self.header.entries_before
    }

    /// A height that was durable when the record was made.
    pub fn durable(&self) -> Height {
        self.header.durable
    }

    /// A height that was published when the record was made, and its state root.
    pub fn published(&self) -> (Height, Digest) {
        self.header.published
    }

    /// Length in bytes on disk, header included.
    pub fn bytes_len(&self) -> u64 {
        self.header.record_len()
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> u64 {
        self.bytes_len() + MEMORY_OVERHEAD
    }

    pub(crate) fn header(&self) -> &RecordHeader {
        &self.header
    }

    pub(crate) fn runs(&self) -> &[Bytes; SHARDS] {
        &self.runs
    }

    /// The run that `at` lies in, and the offset there. `None` if it lies in the header or outside.
    pub(crate) fn run_at(&self, at: u64) -> Option<(&Bytes, usize)> {
        let mut offset = at.checked_sub(self.header.position + RECORD_HEADER_LEN as u64)?;
        for run in &self.runs {
            match offset.checked_sub(run.len() as u64) {
                Some(beyond) => offset = beyond,
                None => return Some((run, offset as usize)),
            }
        }
        None
    }

    /// The entry whose frame begins at `at`.
    pub(crate) fn entry_at(&self, at: u64) -> Result<StoredEntry, NoEntry> {
        let (run, offset) = self.run_at(at).ok_or(Damage::Header)?;
        StoredEntry::in_frame(run, offset, at)
    }

    /// As [`Record::entry_at`], borrowed.
    pub(crate) fn entry_ref_at(&self, at: u64) -> Result<EntryRef<'_>, NoEntry> {
        let (run, offset) = self.run_at(at).ok_or(Damage::Header)?;
        frame::check_entry(run.get(offset..).unwrap_or_default(), at)
    }

    /// Checks the extra data, every frame and the number of entries of every run. The error says where.
    /// Returns the first stub and its position, if there is one.
    pub(crate) fn check(&self) -> Result<Option<(u64, Stub)>, (u64, Damage)> {
        let mut first_stub = None;
        let (stored, computed) = (self.header.extra_crc, crc32c::crc32c(&self.extra));
        if stored != computed {
            let at = self.header.end() - padded(self.header.extra_len);
            return Err((at, Damage::Checksum { stored, computed }));
        }
        for shard in ShardId::all() {
            let (start, end) = self.header.run_bounds(shard);
            let (run, mut at, mut found) = (self.run(shard), start, 0);
            while at < end {
                let rest = run.get((at - start) as usize..).unwrap_or_default();
                let frame = frame::check(rest, at).map_err(|what| (at, what))?;
                let len = match frame {
                    FrameRef::Entry(entry) => frame::frame_len(entry.hashed_bytes().len()),
                    FrameRef::Stub(stub) => {
                        first_stub.get_or_insert((at, stub));
                        MIN_FRAME_LEN
                    }
                };
                at += len as u64;
                found += 1;
            }
            let named = self.entries(shard);
            if found != named {
                return Err((start, Damage::Count { named, found }));
            }
        }
        Ok(first_stub)
    }

    /// What the frames of `shard` hold, with their positions, in serial-number order, without looking
    /// at their checksums; ends early if the run is not one of intact frames.
    pub(crate) fn run_frames(
        &self,
        shard: ShardId,
    ) -> impl Iterator<Item = (LogPosition, FrameRef<'_>)> {
        let (mut at, _) = self.header.run_bounds(shard);
        let mut rest = &self.runs[shard.index()][..];
        std::iter::from_fn(move || {
            let (frame, len) = frame::peek(rest)?;
            let position = LogPosition(at);
            rest = rest.get(len..)?;
            at += len as u64;
            Some((position, frame))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_contradict_themselves_are_refused() {
        let make = |position, run: usize, count| {
            let runs = std::array::from_fn(|_| Bytes::from(vec![0; run]));
            let state = BlockState { extra: Bytes::from_static(b"more"), ..BlockState::default() };
            Record::new(LogPosition(position), Height(1), runs, [count; SHARDS], state)
        };
        assert!(make(64, 128, 2).is_ok());
        assert!(make(64, 0, 0).is_ok());
        assert!(matches!(make(65, 128, 2), Err(LogError::Misaligned(_))));
        for (run, count) in [(129, 1), (0, 1), (64, 0), (128, 3)] {
            assert!(matches!(make(64, run, count), Err(LogError::Malformed(_))), "{run} {count}");
        }
        assert!(matches!(make(u64::MAX - 7, 64, 1), Err(LogError::Malformed(_))));
    }
}
