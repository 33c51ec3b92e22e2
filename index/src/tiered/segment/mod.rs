//! A segment: sorted records of one shard in a file that never changes.
//!
//! ```text
//!   page    0       1 .. n                  then
//!           ┌──────┬─────────┬───┬─────────┬─────────────────┬──────────────┐
//!           │ head │ records │ … │ records │ directory, 8 n  │ filter, 8 w  │
//!           └──────┴─────────┴───┴─────────┴─────────────────┴──────────────┘
//!             4096    4096         4096
//!
//!   asked for a stem:   filter (memory) ─no─► nothing       directory (memory) ─► exactly one page, read
//! ```
//!
//! The head is written last: what a writer left half done has none. It has the checksums of everything else,
//! so that its own, which whoever lists segments keeps, stands for the whole file.
//!
//! ```text
//!   head    0   8   magic "HgrwIdx1"
//!           8   2   format version, 1
//!          10   1   shard
//!          11   1   probes of the filter
//!          12   4   zero
//!          16  16   store id
//!          32   8   number of the file
//!          40   8   records
//!          48   8   pages of records, n
//!          56   8   words of the filter, w
//!          64   8   least stem
//!          72   8   greatest stem
//!          80   4   CRC32C of the checksums of the pages, in order
//!          84   4   CRC32C of the directory
//!          88   4   CRC32C of the filter
//!          92       zero
//!        4092   4   CRC32C of the head: its digest
//!
//!   directory, per page   stem of its first record << 20 | 1 if that stem is also the last of the page before
//! ```
//!
//! All little-endian. The checksums of head, directory and filter are bound to store, shard and file as those of
//! pages are, with numbers of parts that no page has.

mod filter;
mod page;
mod read;
mod write;

pub(crate) use page::{PAGE, Page};
pub(crate) use read::{Scan, Segment};
pub(crate) use write::{SegmentWriter, Unfinished};

use crate::{IndexError, Stem};
use page::Salt;
use std::path::Path;

const MAGIC: [u8; 8] = *b"HgrwIdx1";
const VERSION: u16 = 1;
/// Numbers of the parts that are no pages, for their checksums.
const HEAD_PART: u64 = u64::MAX;
const DIRECTORY_PART: u64 = u64::MAX - 1;
const FILTER_PART: u64 = u64::MAX - 2;
const PAGES_PART: u64 = u64::MAX - 3;

/// Which file of which shard of which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentId {
    pub(crate) store: [u8; 16],
    pub(crate) shard: u8,
    pub(crate) number: u64,
}

impl SegmentId {
    fn salt(&self) -> Salt {
        Salt::new(self.store, self.shard, self.number)
    }

    /// Name of the file.
    pub(crate) fn name(&self) -> String {
        format!("{:02}-{:08}.idx", self.shard, self.number)
    }

    /// The number in the name of a file of `shard`; `None` if it is no such name.
    pub(crate) fn number_in(name: &str, shard: u8) -> Option<u64> {
        let number = name.strip_prefix(&format!("{shard:02}-"))?.strip_suffix(".idx")?;
        let digits = number.len() >= 8 && number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse().ok().filter(|_| digits)
    }
}

/// What the head of a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Head {
    id: SegmentId,
    probes: u8,
    records: u64,
    pages: u64,
    words: u64,
    first: Stem,
    last: Stem,
    pages_crc: u32,
    directory_crc: u32,
    filter_crc: u32,
}

impl Head {
    fn encode(&self) -> ([u8; PAGE], u32) {
        let mut out = Vec::with_capacity(PAGE);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[self.id.shard, self.probes, 0, 0, 0, 0]);
        out.extend_from_slice(&self.id.store);
        let (first, last) = (self.first.get(), self.last.get());
        for number in [self.id.number, self.records, self.pages, self.words, first, last] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for crc in [self.pages_crc, self.directory_crc, self.filter_crc] {
            out.extend_from_slice(&crc.to_le_bytes());
        }
        let mut bytes = [0; PAGE];
        bytes[..out.len()].copy_from_slice(&out);
        let digest = self.id.salt().checksum(HEAD_PART, &bytes[..PAGE - 4]);
        bytes[PAGE - 4..].copy_from_slice(&digest.to_le_bytes());
        (bytes, digest)
    }

    /// The head of the file that `id` names, and its digest.
    fn decode(bytes: &[u8; PAGE], id: SegmentId) -> Result<(Self, u32), &'static str> {
        let u64_at = |at: usize| u64::from_le_bytes(bytes.get(at..).map_or([0; 8], first_chunk));
        let u32_at = |at: usize| u32::from_le_bytes(bytes.get(at..).map_or([0; 4], first_chunk));
        if bytes[..8] != MAGIC {
            return Err("it does not begin as a segment");
        }
        if bytes[8..10] != VERSION.to_le_bytes() {
            return Err("it has another version");
        }
        let digest = u32_at(PAGE - 4);
        if id.salt().checksum(HEAD_PART, &bytes[..PAGE - 4]) != digest {
            return Err("its head has another checksum");
        }
        let (Some(first), Some(last)) = (Stem::new(u64_at(64)), Stem::new(u64_at(72))) else {
            return Err("its stems are none");
        };
        let head = Self {
            id,
            probes: bytes[11],
            records: u64_at(40),
            pages: u64_at(48),
            words: u64_at(56),
            first,
            last,
            pages_crc: u32_at(80),
            directory_crc: u32_at(84),
            filter_crc: u32_at(88),
        };
        // Every field counts: what is encoded from them is what was read.
        if head.encode().0 != *bytes || head.pages >= 1 << 32 || head.words >= 1 << 40 {
            return Err("its head contradicts itself");
        }
        Ok((head, digest))
    }

    fn directory_at(&self) -> u64 {
        PAGE as u64 * (1 + self.pages)
    }

    fn file_len(&self) -> u64 {
        self.directory_at() + 8 * self.pages + 8 * self.words
    }
}

fn first_chunk<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

fn damaged(file: &Path, what: &'static str) -> IndexError {
    IndexError::Damaged { file: file.to_owned(), what }
}
