//! The record: what one block adds to the log.
//!
//! ```text
//!  position                                                                        end
//!  │ header, 160 bytes │ run of shard 0 │ run of shard 1 │ ... │ run of shard 15 │
//!
//!  header  offset  0        8        16         24                          152        156
//!                 ┌────────┬────────┬──────────┬───────────────────────────┬──────────┬──────┐
//!                 │ magic  │ height │ position │ 16 x (bytes, entries) u32 │ crc32c   │ zero │
//!                 └────────┴────────┴──────────┴───────────────────────────┴──────────┴──────┘
//!                   8        8        8          128                         4          4
//!
//!  run     frame of the shard's first new entry │ frame of its second │ ...      (may be empty)
//! ```
//!
//! Invariants:
//! * The header's checksum covers its first 152 bytes; the entries carry their own.
//! * Every part is a multiple of 8 bytes long, and the position is a multiple of 8.
//! * A run is immutable once its record exists. Its serial numbers are consecutive.

use crate::frame::{self, ALIGN, MIN_FRAME_LEN};
use crate::{Damage, LogError, StoredEntry};
use bytes::Bytes;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Height, LogPosition, SHARDS, ShardId};

/// Bytes before the first run of a record.
pub const RECORD_HEADER_LEN: usize = 24 + SHARDS * 8 + 8;
const CRC_AT: usize = RECORD_HEADER_LEN - 8;
const MAGIC: [u8; 8] = *b"HgrwRec1";

const _: () = assert!(RECORD_HEADER_LEN == 160 && RECORD_HEADER_LEN.is_multiple_of(ALIGN));

/// The header of a record: all that is needed to find its runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) position: u64,
    pub(crate) height: Height,
    /// Length of each run in bytes.
    pub(crate) run_lens: [u32; SHARDS],
    /// Entries in each run.
    pub(crate) entries: [u32; SHARDS],
}

impl RecordHeader {
    pub(crate) fn encode(&self) -> [u8; RECORD_HEADER_LEN] {
        let mut out = [0; RECORD_HEADER_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.height.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.position.to_le_bytes());
        let (pairs, _) = out[24..CRC_AT].as_chunks_mut::<8>();
        for (pair, (len, count)) in pairs.iter_mut().zip(self.run_lens.iter().zip(&self.entries)) {
            pair[..4].copy_from_slice(&len.to_le_bytes());
            pair[4..].copy_from_slice(&count.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header in `bytes`, which were read at `position`.
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_LEN], position: u64) -> Result<Self, Damage> {
        let u32_at = |at: usize| {
            let mut field = [0; 4];
            field.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(field)
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..8] != MAGIC {
            return Err(Damage::Magic);
        }
        let (stored, computed) = (u32_at(CRC_AT), crc32c::crc32c(&bytes[..CRC_AT]));
        if stored != computed {
            return Err(Damage::Checksum { stored, computed });
        }
        if u32_at(CRC_AT + 4) != 0 {
            return Err(Damage::Padding);
        }
        if u64_at(16) != position {
            return Err(Damage::Place { named: u64_at(16) });
        }
        let header = Self {
            position,
            height: Height(u64_at(8)),
            run_lens: std::array::from_fn(|shard| u32_at(24 + 8 * shard)),
            entries: std::array::from_fn(|shard| u32_at(28 + 8 * shard)),
        };
        for (&len, &named) in header.run_lens.iter().zip(&header.entries) {
            check_counts(len as usize, named)?;
        }
        Ok(header)
    }

    /// Length in bytes of the record, header included. At most 160 + 16 * 4 GiB.
    pub(crate) fn record_len(&self) -> u64 {
        RECORD_HEADER_LEN as u64 + self.run_lens.iter().map(|&len| u64::from(len)).sum::<u64>()
    }

    /// Position of the first byte after the record.
    pub(crate) fn end(&self) -> u64 {
        self.position.saturating_add(self.record_len())
    }

    /// Where the run of `shard` begins and ends.
    pub(crate) fn run_bounds(&self, shard: ShardId) -> (u64, u64) {
        let lens = self.run_lens.map(|len| len as usize);
        let start = Record::run_start(LogPosition(self.position), &lens, shard).0;
        (start, start.saturating_add(u64::from(self.run_lens[shard.index()])))
    }
}

/// Whether a run of `len` bytes can hold `entries` entries.
fn check_counts(len: usize, entries: u32) -> Result<(), Damage> {
    let least = (entries as u64) * MIN_FRAME_LEN as u64;
    if !len.is_multiple_of(ALIGN) || (len == 0) != (entries == 0) || (len as u64) < least {
        return Err(Damage::Length { need: least, have: len as u64 });
    }
    Ok(())
}

/// One block's record: its place in the log and the runs of its new entries. Immutable and shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    header: RecordHeader,
    runs: [Bytes; SHARDS],
}

impl Record {
    /// The record whose header begins at `position`.
    ///
    /// `runs` holds each shard's new entries as frames back to back, in serial-number order;
    /// `entries` says how many.
    ///
    /// # Errors
    /// [`LogError::Misaligned`] for the position; [`LogError::Malformed`] if a run's length is not
    /// a multiple of 8, exceeds 4 GiB or cannot hold as many entries, or if the record would reach
    /// beyond the last position.
    pub fn new(
        position: LogPosition,
        height: Height,
        runs: [Bytes; SHARDS],
        entries: [u32; SHARDS],
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
        let header = RecordHeader { position: position.0, height, run_lens, entries };
        if position.0.checked_add(header.record_len()).is_none() {
            return Err(LogError::Malformed("a record beyond the last log position"));
        }
        Ok(Self { header, runs })
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

    /// Length in bytes on disk, header included.
    pub fn bytes_len(&self) -> u64 {
        self.header.record_len()
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
    pub(crate) fn entry_at(&self, at: u64) -> Result<StoredEntry, Damage> {
        let (run, offset) = self.run_at(at).ok_or(Damage::Header)?;
        StoredEntry::in_frame(run, offset)
    }

    /// As [`Record::entry_at`], borrowed.
    pub(crate) fn entry_ref_at(&self, at: u64) -> Result<EntryRef<'_>, Damage> {
        let (run, offset) = self.run_at(at).ok_or(Damage::Header)?;
        frame::check(run.get(offset..).unwrap_or_default())
    }

    /// Checks every frame and the number of entries of every run. The error says where.
    pub(crate) fn check(&self) -> Result<(), (u64, Damage)> {
        for shard in ShardId::all() {
            let (start, end) = self.header.run_bounds(shard);
            let (run, mut at, mut found) = (self.run(shard), start, 0);
            while at < end {
                let rest = run.get((at - start) as usize..).unwrap_or_default();
                let entry = frame::check(rest).map_err(|what| (at, what))?;
                at += frame::frame_len(entry.hashed_bytes().len()) as u64;
                found += 1;
            }
            let named = self.entries(shard);
            if found != named {
                return Err((start, Damage::Count { named, found }));
            }
        }
        Ok(())
    }

    /// The entries of `shard` with their positions, in serial-number order, without looking at
    /// their checksums; ends early if the run is not one of intact frames.
    pub(crate) fn run_entries(
        &self,
        shard: ShardId,
    ) -> impl Iterator<Item = (LogPosition, EntryRef<'_>)> {
        let (mut at, _) = self.header.run_bounds(shard);
        let mut rest = &self.runs[shard.index()][..];
        std::iter::from_fn(move || {
            let (entry, _) = EntryRef::parse_prefix(rest).ok()?;
            let len = frame::frame_len(entry.hashed_bytes().len());
            let position = LogPosition(at);
            rest = rest.get(len..)?;
            at += len as u64;
            Some((position, entry))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_back_and_every_flipped_bit_is_noticed() {
        let header = RecordHeader {
            position: 64,
            height: Height(7),
            run_lens: std::array::from_fn(|i| 128 * i as u32),
            entries: std::array::from_fn(|i| i as u32),
        };
        let mut bytes = header.encode();
        assert_eq!(RecordHeader::decode(&bytes, 64), Ok(header));
        assert_eq!(RecordHeader::decode(&bytes, 72), Err(Damage::Place { named: 64 }));
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(RecordHeader::decode(&bytes, 64).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn every_changed_byte_of_a_header_is_noticed() {
        let bytes = RecordHeader {
            position: 64,
            height: Height(7),
            run_lens: [128; SHARDS],
            entries: [2; SHARDS],
        };
        let bytes = bytes.encode();
        for byte in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut damaged = bytes;
                damaged[byte] ^= flip;
                let damage = RecordHeader::decode(&damaged, 64).unwrap_err();
                match byte {
                    0..8 => assert_eq!(damage, Damage::Magic),
                    156.. => assert_eq!(damage, Damage::Padding),
                    _ => assert!(matches!(damage, Damage::Checksum { .. }), "{damage}"),
                }
            }
        }
    }

    #[test]
    fn records_that_contradict_themselves_are_refused() {
        let make = |position, run: usize, count| {
            let runs = std::array::from_fn(|_| Bytes::from(vec![0; run]));
            Record::new(LogPosition(position), Height(1), runs, [count; SHARDS])
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
