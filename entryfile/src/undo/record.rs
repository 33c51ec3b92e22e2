//! An undo record: what one block replaced in the trees of the shards, above their twigs.
//!
//! ```text
//!  offset  bytes
//!       0      8   magic "HgrwUnd1"
//!       8      8   height of the block
//!      16      8   where its record begins in the log
//!      24      8   where that ends
//!      32      8   keys that had a value before it
//!      40   16 x   shard: next serial number before it (8), length of the section (4), CRC32C of the section (4)
//!     296      4   zero
//!     300      4   CRC32C of the 300 bytes before, xor that of the store's id
//!     304          16 sections, in the order of the shards
//!
//!  section         n 4 │ r 4 │ r x nodes of the row 4 │ n x serial number 8 │ of each row: index 8, digest 32 ...
//!                              rows from the twig roots   deactivated by the     nodes that it replaced, as
//!                              up                         block, ascending,      they were, ascending
//!                                                         below the next one
//!                                                         before it
//! ```
//!
//! All numbers are little-endian. Everything in a section has a fixed width, so that a serial number and a node are
//! found in it as it is.

use crate::{LogError, StoreId};
use bytes::Bytes;
use hedgerow_types::rows::NodeRows;
use hedgerow_types::{Digest, Height, LogPosition, SHARDS, SerialNumber, ShardId};
use std::ops::Range;

const MAGIC: [u8; 8] = *b"HgrwUnd1";
/// Bytes of a head.
pub(crate) const HEAD_LEN: usize = 304;
const SHARDS_AT: usize = 40;
const SHARD_LEN: usize = 16;
const ZERO_AT: usize = SHARDS_AT + SHARDS * SHARD_LEN;
const CRC_AT: usize = ZERO_AT + 4;
const _: () = assert!(CRC_AT + 4 == HEAD_LEN);
/// Bytes of a node and its index.
const NODE_LEN: usize = 8 + 32;
/// Most rows of a tree above the twig roots, those included.
const MAX_ROWS: usize = 64;

/// What a block replaced in one shard, to be encoded.
#[derive(Clone, Copy, Debug)]
pub struct ShardUndoParts<'a> {
    /// The next serial number before the block.
    pub next_sn: SerialNumber,
    /// The entries that it deactivated and that were there before it, ascending.
    pub deactivated: &'a [SerialNumber],
    /// By row, from the twig roots up: the nodes that it replaced.
    pub upper: &'a NodeRows,
}

/// The head of an undo record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndoHead {
    /// The height of the block.
    pub height: Height,
    /// Where its record begins in the log.
    pub position: LogPosition,
    /// Where that ends.
    pub end: LogPosition,
    /// Keys that had a value before it.
    pub keys: u64,
    /// By shard, the next serial number before it.
    pub next_sn: [SerialNumber; SHARDS],
    /// By shard: length and checksum of the section.
    sections: [(u32, u32); SHARDS],
}

/// What a block replaced in one shard.
#[derive(Clone, Debug)]
pub struct UndoSection {
    bytes: Bytes,
    deactivated: Range<usize>,
    /// By row.
    upper: Vec<Range<usize>>,
}

/// An undo record as bytes, and its head.
#[derive(Clone, Debug)]
pub struct EncodedUndo {
    head: UndoHead,
    bytes: Bytes,
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

impl UndoHead {
    /// The head in these bytes, of a store.
    pub(crate) fn decode(bytes: &[u8; HEAD_LEN], id: StoreId) -> Option<Self> {
        let stored = u32_at(bytes, CRC_AT)?;
        let computed = crc32c::crc32c(bytes.get(..CRC_AT)?) ^ crc32c::crc32c(&id.0);
        if !bytes.starts_with(&MAGIC) || stored != computed || u32_at(bytes, ZERO_AT)? != 0 {
            return None;
        }
        let mut next_sn = [SerialNumber(0); SHARDS];
        let mut sections = [(0, 0); SHARDS];
        for (number, (next, section)) in next_sn.iter_mut().zip(&mut sections).enumerate() {
            let at = SHARDS_AT + number * SHARD_LEN;
            *next = SerialNumber(u64_at(bytes, at)?);
            *section = (u32_at(bytes, at + 8)?, u32_at(bytes, at + 12)?);
        }
        Some(Self {
            height: Height(u64_at(bytes, 8)?),
            position: LogPosition(u64_at(bytes, 16)?),
            end: LogPosition(u64_at(bytes, 24)?),
            keys: u64_at(bytes, 32)?,
            next_sn,
            sections,
        })
    }

    fn encode(&self, id: StoreId, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        let numbers = [self.height.0, self.position.0, self.end.0, self.keys];
        numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        for (next, (len, crc)) in self.next_sn.iter().zip(&self.sections) {
            out.extend_from_slice(&next.0.to_le_bytes());
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(&crc.to_le_bytes());
        }
        out.extend_from_slice(&[0; 4]);
        let crc = crc32c::crc32c(out.get(start..).unwrap_or_default()) ^ crc32c::crc32c(&id.0);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// Bytes of the whole record.
    pub(crate) fn record_len(&self) -> u64 {
        HEAD_LEN as u64 + self.sections.iter().map(|(len, _)| u64::from(*len)).sum::<u64>()
    }

    /// Where the section of a shard begins in the record, and its length.
    pub(crate) fn section_at(&self, shard: ShardId) -> (u64, u32) {
        let before = self.sections.iter().take(shard.index());
        let before = before.map(|(len, _)| u64::from(*len)).sum::<u64>();
        let len = self.sections.get(shard.index()).map_or(0, |(len, _)| *len);
        (HEAD_LEN as u64 + before, len)
    }

    /// The section of a shard in these bytes; `None` if they are damaged.
    pub(crate) fn section(&self, shard: ShardId, bytes: Bytes) -> Option<UndoSection> {
        let (_, stored) = self.sections.get(shard.index())?;
        if *stored != crc32c::crc32c(&bytes) {
            return None;
        }
        UndoSection::decode(bytes)
    }
}

impl EncodedUndo {
    /// A record of the block of `height`, whose record lies from `position` to `end` in the log; `keys` had a
    /// value before it.
    ///
    /// # Errors
    /// [`LogError::Malformed`] if the parts cannot be those of a block.
    pub fn new(
        id: StoreId,
        height: Height,
        (position, end): (LogPosition, LogPosition),
        keys: u64,
        parts: &[ShardUndoParts<'_>; SHARDS],
    ) -> Result<Self, LogError> {
        let malformed = LogError::Malformed("what a block replaced is more than a record can hold");
        let mut sections = [(0, 0); SHARDS];
        let len = |part: &ShardUndoParts<'_>| {
            let ShardUndoParts { deactivated, upper, .. } = part;
            8 + 4 * upper.len() + 8 * deactivated.len() + NODE_LEN * upper.nodes().len()
        };
        let mut bytes = Vec::with_capacity(HEAD_LEN + parts.iter().map(len).sum::<usize>());
        bytes.resize(HEAD_LEN, 0);
        for (section, part) in sections.iter_mut().zip(parts) {
            let start = bytes.len();
            let count = |len: usize| u32::try_from(len).map_err(|_| malformed.clone());
            if part.upper.len() > MAX_ROWS {
                return Err(malformed);
            }
            bytes.extend_from_slice(&count(part.deactivated.len())?.to_le_bytes());
            bytes.extend_from_slice(&count(part.upper.len())?.to_le_bytes());
            for row in part.upper.iter() {
                bytes.extend_from_slice(&count(row.len())?.to_le_bytes());
            }
            for sn in part.deactivated {
                bytes.extend_from_slice(&sn.0.to_le_bytes());
            }
            for (index, node) in part.upper.nodes() {
                bytes.extend_from_slice(&index.to_le_bytes());
                bytes.extend_from_slice(&node.0);
            }
            let made = bytes.get(start..).unwrap_or_default();
            *section = (count(made.len())?, crc32c::crc32c(made));
        }
        let next_sn = parts.each_ref().map(|part| part.next_sn);
        let head = UndoHead { height, position, end, keys, next_sn, sections };
        let mut encoded = Vec::with_capacity(HEAD_LEN);
        head.encode(id, &mut encoded);
        bytes.splice(..HEAD_LEN, encoded);
        Ok(Self { head, bytes: bytes.into() })
    }

    /// Its head.
    pub fn head(&self) -> &UndoHead {
        &self.head
    }

    /// All of it.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The section of a shard.
    pub fn section(&self, shard: ShardId) -> Option<UndoSection> {
        let (at, len) = self.head.section_at(shard);
        let at = usize::try_from(at).ok()?;
        let end = at.checked_add(len as usize).filter(|end| *end <= self.bytes.len())?;
        UndoSection::decode(self.bytes.slice(at..end))
    }
}

impl UndoSection {
    /// `None` if the bytes contradict themselves.
    fn decode(bytes: Bytes) -> Option<Self> {
        let (count, rows) = (u32_at(&bytes, 0)? as usize, u32_at(&bytes, 4)? as usize);
        if rows > MAX_ROWS {
            return None;
        }
        let first = 8 + 4 * rows;
        let deactivated = first..first.checked_add(count.checked_mul(8)?)?;
        let mut upper = Vec::with_capacity(rows);
        let mut at = deactivated.end;
        for row in 0..rows {
            let count = u32_at(&bytes, 8 + 4 * row)? as usize;
            let end = at.checked_add(count.checked_mul(NODE_LEN)?)?;
            upper.push(at..end);
            at = end;
        }
        if at != bytes.len() {
            return None;
        }
        let this = Self { bytes, deactivated, upper };
        let (sns, _) = this.bytes.get(this.deactivated.clone())?.as_chunks::<8>();
        let ascends = sns.is_sorted_by(|a, b| u64::from_le_bytes(*a) < u64::from_le_bytes(*b));
        let rows = this.upper.iter().all(|row| {
            let (nodes, _) = this.nodes(row).as_chunks::<NODE_LEN>();
            nodes.is_sorted_by(|a, b| u64_at(a, 0) < u64_at(b, 0))
        });
        (ascends && rows).then_some(this)
    }

    fn nodes(&self, row: &Range<usize>) -> &[u8] {
        self.bytes.get(row.clone()).unwrap_or_default()
    }

    /// The entries from `from` to before `to` that the block deactivated, of those that were there before it,
    /// ascending.
    pub fn deactivated(
        &self,
        from: SerialNumber,
        to: SerialNumber,
    ) -> impl Iterator<Item = SerialNumber> + '_ {
        let bytes = self.bytes.get(self.deactivated.clone()).unwrap_or_default();
        let (sns, _) = bytes.as_chunks::<8>();
        let first = sns.partition_point(|sn| u64::from_le_bytes(*sn) < from.0);
        let sns = sns.get(first..).unwrap_or_default().iter();
        sns.map(|sn| SerialNumber(u64::from_le_bytes(*sn))).take_while(move |sn| *sn < to)
    }

    /// What the node was before the block that has this index in a row, counted from the twig roots up; `None`
    /// if the block did not replace it.
    pub fn upper(&self, row: usize, index: u64) -> Option<Digest> {
        let (nodes, _) = self.nodes(self.upper.get(row)?).as_chunks::<NODE_LEN>();
        let found = nodes.binary_search_by_key(&Some(index), |node| u64_at(node, 0)).ok()?;
        nodes.get(found)?.last_chunk().map(|digest| Digest(*digest))
    }

    /// Bytes of heap.
    pub(crate) fn weight(&self) -> u64 {
        let rows = self.upper.capacity() * size_of::<Range<usize>>();
        (self.bytes.len() + rows + size_of::<Self>() + 128) as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    fn example() -> EncodedUndo {
        let sns: Vec<_> = [3, 4, 9_000].map(SerialNumber).to_vec();
        let rows = [vec![(1, Digest([7; 32])), (4, Digest([8; 32]))], vec![(0, Digest([9; 32]))]];
        let (rows, none) = (NodeRows::from_iter(rows), NodeRows::default());
        let parts: [ShardUndoParts<'_>; SHARDS] = std::array::from_fn(|shard| ShardUndoParts {
            next_sn: SerialNumber(10_000 + shard as u64),
            deactivated: if shard == 2 { &sns } else { &[] },
            upper: if shard == 2 { &rows } else { &none },
        });
        let place = (LogPosition(64), LogPosition(640));
        EncodedUndo::new(StoreId([5; 16]), Height(12), place, 77, &parts).unwrap()
    }

    #[test]
    fn what_goes_in_comes_out() {
        let made = example();
        let (head, _) = made.bytes().split_first_chunk().unwrap();
        let head = UndoHead::decode(head, StoreId([5; 16])).unwrap();
        assert_eq!(&head, made.head());
        assert_eq!(
            (head.height, head.keys, head.record_len()),
            (Height(12), 77, made.bytes.len() as u64)
        );
        assert_eq!(head.next_sn[3], SerialNumber(10_003));
        for shard in ShardId::all() {
            let (at, len) = head.section_at(shard);
            let bytes = made.bytes.slice(at as usize..at as usize + len as usize);
            let section = head.section(shard, bytes).unwrap();
            let all = |from, to| {
                let found = section.deactivated(SerialNumber(from), SerialNumber(to));
                found.map(|sn| sn.0).collect::<Vec<_>>()
            };
            if shard.index() == 2 {
                assert_eq!((all(0, 10_000), all(4, 9_000)), (vec![3, 4, 9_000], vec![4]));
                assert_eq!(section.upper(0, 4), Some(Digest([8; 32])));
                assert_eq!((section.upper(0, 2), section.upper(2, 0)), (None, None));
            } else {
                assert_eq!((all(0, u64::MAX), section.upper(0, 0)), (vec![], None));
            }
        }
    }

    /// No flipped bit is taken for what was written, and nothing panics.
    #[test]
    fn what_is_damaged_is_noticed() {
        let made = example();
        for bit in 0..8 * made.bytes.len() {
            let mut bytes = made.bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Some(head) = UndoHead::decode(bytes.first_chunk().unwrap(), StoreId([5; 16]))
            else {
                continue;
            };
            assert!(bit / 8 >= HEAD_LEN);
            let bad = ShardId::all().any(|shard| {
                let (at, len) = head.section_at(shard);
                let section = bytes[at as usize..at as usize + len as usize].to_vec();
                head.section(shard, section.into()).is_none()
            });
            assert!(bad, "bit {bit}");
        }
        assert!(UndoHead::decode(made.bytes.first_chunk().unwrap(), StoreId([6; 16])).is_none());
    }
}
