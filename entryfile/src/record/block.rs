//! The record: what one block adds to the log.
//!
//! ```text
//!  position                                                                                end
//!  │ header, 352 bytes │ run of shard 0 │ run of shard 1 │ ... │ run of shard 15 │ extra │
//!
//!  header  offset  bytes
//!               0      8  magic
//!               8      8  height
//!              16      8  position
//!              24      8  entries of all shards before this block
//!              32      8  a height that was durable when the record was made
//!              40      8  a height that was published then
//!              48     32  the state root of that height
//!         80 + 16s     16  shard s: bytes of its run u32, entries in it u32, oldest active entry u64
//!             336      4  bytes of the extra data
//!             340      4  crc32c of the extra data
//!             344      4  crc32c of bytes 0 to 343 ^ crc32c of the store's id
//!             348      4  zero
//!
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
use crate::record::stub::{FrameRef, Stub};
use crate::{Damage, LogError, StoreId, StoredEntry};
use bytes::Bytes;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, Height, LogPosition, SHARDS, SerialNumber, ShardId};

/// Bytes before the first run of a record.
pub const RECORD_HEADER_LEN: usize = SHARDS_AT + SHARDS * 16 + 16;
const SHARDS_AT: usize = 80;
const EXTRA_AT: usize = RECORD_HEADER_LEN - 16;
const CRC_AT: usize = RECORD_HEADER_LEN - 8;
pub(crate) const MAGIC: [u8; 8] = *b"HgrwRec3";

/// Records with fewer bytes of runs have them in one buffer.
const GATHERED: usize = 64 << 10;
/// What a record takes in memory beside its bytes: itself, its buffer's and its own reference count,
/// and what the allocator adds.
const MEMORY_OVERHEAD: u64 = size_of::<Record>() as u64 + 128;

const _: () = assert!(RECORD_HEADER_LEN == 352 && RECORD_HEADER_LEN.is_multiple_of(ALIGN));

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

/// The header of a record: all that is needed to find its runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) position: u64,
    pub(crate) height: Height,
    /// Length of each run in bytes.
    pub(crate) run_lens: [u32; SHARDS],
    /// Entries in each run.
    pub(crate) entries: [u32; SHARDS],
    pub(crate) oldest_active: [SerialNumber; SHARDS],
    pub(crate) entries_before: u64,
    pub(crate) durable: Height,
    pub(crate) published: (Height, Digest),
    pub(crate) extra_len: u32,
    pub(crate) extra_crc: u32,
}

impl RecordHeader {
    /// Its bytes in the log of the store `id`.
    pub(crate) fn encode(&self, id: StoreId) -> [u8; RECORD_HEADER_LEN] {
        let mut out = [0; RECORD_HEADER_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.height.0.to_le_bytes());
        out[16..24].copy_from_slice(&self.position.to_le_bytes());
        out[24..32].copy_from_slice(&self.entries_before.to_le_bytes());
        out[32..40].copy_from_slice(&self.durable.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.published.0.0.to_le_bytes());
        out[48..80].copy_from_slice(&self.published.1.0);
        let (parts, _) = out[SHARDS_AT..EXTRA_AT].as_chunks_mut::<16>();
        for (shard, part) in parts.iter_mut().enumerate() {
            part[..4].copy_from_slice(&self.run_lens[shard].to_le_bytes());
            part[4..8].copy_from_slice(&self.entries[shard].to_le_bytes());
            part[8..].copy_from_slice(&self.oldest_active[shard].0.to_le_bytes());
        }
        out[EXTRA_AT..EXTRA_AT + 4].copy_from_slice(&self.extra_len.to_le_bytes());
        out[EXTRA_AT + 4..CRC_AT].copy_from_slice(&self.extra_crc.to_le_bytes());
        let crc = crc_in(id, &out);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header in `bytes`, which were read at `position` of the log of the store `id`.
    pub(crate) fn decode(
        bytes: &[u8; RECORD_HEADER_LEN],
        position: u64,
        id: StoreId,
    ) -> Result<Self, Damage> {
        let u32_at = |at: usize| {
            let mut field = [0; 4];
            field.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(field)
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if bytes[..8] != MAGIC {
            return Err(Damage::Magic);
        }
        let (stored, computed) = (u32_at(CRC_AT), crc_in(id, bytes));
        if stored != computed {
            return Err(Damage::Checksum { stored, computed });
        }
        if u32_at(CRC_AT + 4) != 0 {
            return Err(Damage::Padding);
        }
        if u64_at(16) != position {
            return Err(Damage::Place { named: u64_at(16) });
        }
        let mut root = Digest::ZERO;
        root.0.copy_from_slice(&bytes[48..80]);
        let header = Self {
            position,
            height: Height(u64_at(8)),
            run_lens: std::array::from_fn(|shard| u32_at(SHARDS_AT + 16 * shard)),
            entries: std::array::from_fn(|shard| u32_at(SHARDS_AT + 16 * shard + 4)),
            oldest_active: std::array::from_fn(|shard| {
                SerialNumber(u64_at(SHARDS_AT + 16 * shard + 8))
            }),
            entries_before: u64_at(24),
            durable: Height(u64_at(32)),
            published: (Height(u64_at(40)), root),
            extra_len: u32_at(EXTRA_AT),
            extra_crc: u32_at(EXTRA_AT + 4),
        };
        for (&len, &named) in header.run_lens.iter().zip(&header.entries) {
            check_counts(len as usize, named)?;
        }
        Ok(header)
    }

    /// Whether `bytes`, which are no header, are one with few fields changed: that of the block of
    /// `height` at `position`.
    pub(crate) fn resembles(
        bytes: &[u8; RECORD_HEADER_LEN],
        position: u64,
        height: Height,
    ) -> bool {
        let named =
            bytes[8..16] == height.0.to_le_bytes() && bytes[16..24] == position.to_le_bytes();
        bytes[..8] == MAGIC || named
    }

    /// Length in bytes of the record, header included. At most 352 + 17 * 4 GiB.
    pub(crate) fn record_len(&self) -> u64 {
        let runs: u64 = self.run_lens.iter().map(|&len| u64::from(len)).sum();
        RECORD_HEADER_LEN as u64 + runs + padded(self.extra_len)
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

/// The checksum of a header. The store's id, which nobody outside knows, is part of it: a value that
/// looks like a header is not taken for one when a damaged log is searched for them.
fn crc_in(id: StoreId, header: &[u8; RECORD_HEADER_LEN]) -> u32 {
    crc32c::crc32c(&header[..CRC_AT]) ^ crc32c::crc32c(&id.0)
}

/// Bytes that extra data of `len` bytes takes up.
pub(crate) fn padded(len: u32) -> u64 {
    u64::from(len).next_multiple_of(ALIGN as u64)
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

    const ID: StoreId = StoreId([5; 16]);

    fn header(entries: [u32; SHARDS]) -> RecordHeader {
        RecordHeader {
            position: 64,
            height: Height(7),
            run_lens: entries.map(|count| 128 * count),
            entries,
            oldest_active: std::array::from_fn(|i| SerialNumber(1000 + i as u64)),
            entries_before: 1 << 40,
            durable: Height(5),
            published: (Height(6), Digest([9; 32])),
            extra_len: 13,
            extra_crc: 0x1234_5678,
        }
    }

    #[test]
    fn headers_are_read_back_and_every_flipped_bit_is_noticed() {
        let header = header(std::array::from_fn(|i| i as u32));
        let mut bytes = header.encode(ID);
        assert_eq!(RecordHeader::decode(&bytes, 64, ID), Ok(header));
        assert_eq!(RecordHeader::decode(&bytes, 72, ID), Err(Damage::Place { named: 64 }));
        let other = RecordHeader::decode(&bytes, 64, StoreId([6; 16]));
        assert!(matches!(other, Err(Damage::Checksum { .. })), "{other:?}");
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(RecordHeader::decode(&bytes, 64, ID).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn every_changed_byte_of_a_header_is_noticed() {
        let bytes = header([2; SHARDS]).encode(ID);
        for byte in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut damaged = bytes;
                damaged[byte] ^= flip;
                let damage = RecordHeader::decode(&damaged, 64, ID).unwrap_err();
                match byte {
                    0..8 => assert_eq!(damage, Damage::Magic),
                    348.. => assert_eq!(damage, Damage::Padding),
                    _ => assert!(matches!(damage, Damage::Checksum { .. }), "{damage}"),
                }
            }
        }
    }

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
