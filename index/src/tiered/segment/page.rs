//! A page of records.
//!
//! ```text
//!   offset 0      4        6         8                  8 + 4 g             8 + 4 g + 16 n    4096
//!          ┌──────┬────────┬─────────┬──────────────────┬───────────────────┬─────────────────┐
//!          │ CRC  │ g (u16)│ n (u16) │ g x group (u16), │ n x record (16)   │ zeros           │
//!          │      │        │         │     end (u16)    │                   │                 │
//!          └──────┴────────┴─────────┴──────────────────┴───────────────────┴─────────────────┘
//! ```
//!
//! Little-endian. `end` is the number of the page's records up to the end of the group. Records ascend by
//! stem, position and number. The CRC32C covers the file's salt, the number of the page and the rest of its
//! bytes: a page of another file, or of another place in this one, is damage. 255 records if they are of one
//! group, 204 if each is of another.

use crate::GROUPS;
use crate::Stem;
use crate::slot::InBucket;
use crate::tiered::record::{Packed, Record};
use std::ops::Range;

/// Bytes of a page.
pub(crate) const PAGE: usize = 4096;
const HEAD: usize = 8;
const GROUP: usize = 4;
const RECORD: usize = 16;

/// What the checksums of a file are bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt(u32);

impl Salt {
    /// Of file `number` of a shard of a store.
    pub(crate) fn new(store: [u8; 16], shard: u8, number: u64) -> Self {
        let crc = crc32c::crc32c_append(crc32c::crc32c(&store), &[shard]);
        Self(crc32c::crc32c_append(crc, &number.to_le_bytes()))
    }

    /// The checksum of part `part` of the file.
    pub(crate) fn checksum(self, part: u64, bytes: &[u8]) -> u32 {
        let bound = crc32c::crc32c_append(self.0, &part.to_le_bytes());
        crc32c::crc32c_append(bound, bytes)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 2).map_or(0, |it| usize::from(u16::from_le_bytes([it[0], it[1]])))
}

/// Fills a page.
#[derive(Default)]
pub(crate) struct PageBuilder {
    groups: Vec<(u16, u16)>,
    records: Vec<u8>,
}

impl PageBuilder {
    fn count(&self) -> usize {
        self.records.len() / RECORD
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Appends a record, which follows the last one. False if there is no room.
    pub(crate) fn push(&mut self, record: Record) -> bool {
        let group = record.stem.group() as u16;
        let new = self.groups.last().is_none_or(|last| last.0 != group);
        let groups = self.groups.len() + usize::from(new);
        if HEAD + GROUP * groups + self.records.len() + RECORD > PAGE {
            return false;
        }
        if new {
            self.groups.push((group, 0));
        }
        self.records.extend_from_slice(&record.pack().0);
        let count = self.count() as u16;
        if let Some(last) = self.groups.last_mut() {
            last.1 = count;
        }
        true
    }

    /// Appends the page to `out` and empties the builder. Returns the page's checksum.
    pub(crate) fn finish(&mut self, salt: Salt, number: u64, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.groups.len() as u16).to_le_bytes());
        out.extend_from_slice(&(self.count() as u16).to_le_bytes());
        for (group, end) in &self.groups {
            out.extend_from_slice(&group.to_le_bytes());
            out.extend_from_slice(&end.to_le_bytes());
        }
        out.extend_from_slice(&self.records);
        out.resize(start + PAGE, 0);
        let crc = salt.checksum(number, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        self.groups.clear();
        self.records.clear();
        crc
    }
}

/// A page that was read and found whole.
#[derive(Debug)]
pub(crate) struct Page(Box<[u8]>);

impl Page {
    /// Looks a page over.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(bytes: &[u8], salt: Salt, number: u64) -> Result<Self, &'static str> {
        let Some((crc, rest)) = bytes.split_at_checked(4).filter(|_| bytes.len() == PAGE) else {
            return Err("a page is too short");
        };
        if salt.checksum(number, rest).to_le_bytes() != crc {
            return Err("a page has another checksum");
        }
        let page = Self(bytes.into());
        let (groups, count) = (u16_at(bytes, 4), u16_at(bytes, 6));
        let fits = HEAD + GROUP * groups + RECORD * count <= PAGE;
        let mut last = None;
        let mut end = 0;
        let sound =
            fits && page.groups().all(|(group, range)| {
                let follows = last.is_none_or(|last| last < group) && group < GROUPS;
                (last, end) = (Some(group), range.end);
                follows && !range.is_empty()
            }) && end == count;
        if sound { Ok(page) } else { Err("the groups of a page contradict each other") }
    }

    /// The checksum that it carries.
    pub(crate) fn checksum(&self) -> u32 {
        self.0.get(..4).map_or(0, |it| u32::from_le_bytes([it[0], it[1], it[2], it[3]]))
    }

    /// The groups that have records here, and the numbers of those, ascending.
    fn groups(&self) -> impl DoubleEndedIterator<Item = (usize, Range<usize>)> + '_ {
        (0..u16_at(&self.0, 4)).map(|i| {
            let at = HEAD + GROUP * i;
            let start = if i == 0 { 0 } else { u16_at(&self.0, at - 2) };
            (u16_at(&self.0, at), start..u16_at(&self.0, at + 2))
        })
    }

    fn slots(&self, range: Range<usize>) -> &[[u8; RECORD]] {
        let base = HEAD + GROUP * u16_at(&self.0, 4);
        let bytes = self.0.get(base + RECORD * range.start..base + RECORD * range.end);
        bytes.unwrap_or_default().as_chunks().0
    }

    /// All records, ascending.
    pub(crate) fn records(&self) -> impl DoubleEndedIterator<Item = Record> + '_ {
        self.groups().flat_map(|(group, range)| {
            self.slots(range).iter().map(move |slot| Packed(*slot).of_group(group))
        })
    }

    /// The records of a group, ascending.
    pub(crate) fn group_records(&self, number: usize) -> impl Iterator<Item = Record> + '_ {
        let of = self.groups().find(|(group, _)| *group >= number);
        let range = of.filter(|(group, _)| *group == number).map_or(0..0, |(_, range)| range);
        self.slots(range).iter().map(move |slot| Packed(*slot).of_group(number))
    }

    /// The records of a stem.
    pub(crate) fn ties(&self, stem: Stem) -> impl Iterator<Item = Record> + '_ {
        let of = self.groups().find(|(group, _)| *group >= stem.group());
        let slots = match of {
            Some((group, range)) if group == stem.group() => self.slots(range),
            _ => &[],
        };
        let start = slots.partition_point(|slot| Packed(*slot).fragment() < stem.fragment());
        let rest = slots.get(start..).unwrap_or_default().iter().map(|slot| Packed(*slot));
        let ties = rest.take_while(move |slot| slot.fragment() == stem.fragment());
        ties.map(move |slot| slot.of_group(stem.group()))
    }

    /// The records of stems up to `from`, descending.
    pub(crate) fn downwards(&self, from: Stem) -> impl Iterator<Item = Record> + '_ {
        let groups = self.groups().rev().filter(move |(group, _)| *group <= from.group());
        groups.flat_map(move |(group, range)| {
            let slots = self.slots(range);
            let end = if group == from.group() {
                slots.partition_point(|slot| Packed(*slot).fragment() <= from.fragment())
            } else {
                slots.len()
            };
            let below = slots.get(..end).unwrap_or_default();
            below.iter().rev().map(move |slot| Packed(*slot).of_group(group))
        })
    }
}
