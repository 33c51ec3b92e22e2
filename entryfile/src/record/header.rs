//! The header of a record: all that is needed to find its runs.
//!
//! ```text
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
//! ```
//!
//! Its checksum covers the first 344 bytes; what they say of the runs is compared with what there is.

use crate::record::frame::{ALIGN, MIN_FRAME_LEN};
use crate::{Damage, Record, StoreId};
use hedgerow_types::{Digest, Height, LogPosition, SHARDS, SerialNumber, ShardId};

/// Bytes before the first run of a record.
pub const RECORD_HEADER_LEN: usize = SHARDS_AT + SHARDS * 16 + 16;
const SHARDS_AT: usize = 80;
const EXTRA_AT: usize = RECORD_HEADER_LEN - 16;
const CRC_AT: usize = RECORD_HEADER_LEN - 8;
pub(crate) const MAGIC: [u8; 8] = *b"HgrwRec3";

const _: () = assert!(RECORD_HEADER_LEN == 352 && RECORD_HEADER_LEN.is_multiple_of(ALIGN));

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

/// Whether a run of `len` bytes can hold `entries` entries.
pub(crate) fn check_counts(len: usize, entries: u32) -> Result<(), Damage> {
    let least = (entries as u64) * MIN_FRAME_LEN as u64;
    if !len.is_multiple_of(ALIGN) || (len == 0) != (entries == 0) || (len as u64) < least {
        return Err(Damage::Length { need: least, have: len as u64 });
    }
    Ok(())
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
}
