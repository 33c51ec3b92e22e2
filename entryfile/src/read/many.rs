//! Reading what a batch wants from disk: many places, in as few reads as make sense, many of them at once.
//!
//! ```text
//!   positions, sorted    e  e e    e      e     e e          e         │ e   e  ...
//!   groups              └──────┘  └─┘    └─┘   └────┘       └─┘        │
//!   files                segment 0 │ segment 1       │ segment 2       │ next round
//!                        one batch of the disk, then all of them shown │
//! ```
//!
//! Where a file is mapped, reading is no call: then only what overlaps is read together, and less at first.
//!
//! A round is bounded in reads, in bytes and in files that it keeps open. Whatever stands in the way of
//! a group (its segment is gone, no more files may be open) ends the round before it: it is then the first
//! of the next one, with nothing else open, and only there it is an error.

use crate::LogError;
use crate::StoredEntry;
use crate::log::EntryLog;
use crate::read::entries::{Fill, MAPPED_AT_FIRST, SHOWN_IN_PLACE, Visit};
use crate::record::frame;
use crate::segments::files::Pinned;
use crate::segments::segment::Extent;
use hedgerow_vfs::ReadAt;

/// Bytes read for an entry before its length is known: enough for most. A longer one takes a second read,
/// and lines of memory that nobody wants cost a tenth of a read each.
pub(crate) const SPECULATIVE: usize = 256;
/// Entries at most this far apart, end of the first read to begin of the next, are read together:
/// copying the bytes between costs no more than another system call.
const MAX_GAP: u64 = 4 << 10;
/// The same where reads are no calls: neighbours are joined only if their first reads overlap.
const NO_GAP: u64 = 0;
/// Longest read that neighbours are joined into.
const MAX_JOINED: u64 = 256 << 10;
/// Reads of a round: enough for a device, and their bytes stay in the core's cache until they are shown.
const ROUND_READS: usize = 256;
/// Bytes of a round, unless one group has more.
const ROUND_BYTES: usize = 512 << 10;

/// Neighbours that are read together.
struct Group {
    first: u64,
    /// Bytes from there on.
    len: usize,
    /// How many positions.
    count: usize,
    /// Which of the round's files.
    file: usize,
    extent: Extent,
}

/// What is read together.
#[derive(Default)]
struct Round<'s> {
    groups: Vec<Group>,
    files: Vec<Pinned<'s>>,
    bytes: usize,
    positions: usize,
}

impl EntryLog {
    /// Reads the entries at the positions of `order`, neighbours together, and shows them.
    pub(crate) fn visit_disk(
        &self,
        order: &[(u64, u32)],
        fill: Fill,
        visit: &mut Visit<'_>,
    ) -> Result<(), LogError> {
        let mut buffer = vec![];
        let mut round = Round::default();
        let mut rest = order;
        while !rest.is_empty() {
            self.gather(&mut round, rest)?;
            if buffer.len() < round.bytes {
                buffer = vec![0; round.bytes.next_power_of_two()];
            }
            let (now, later) = rest.split_at(round.positions);
            self.read_round(&round, &mut buffer, now, fill, visit)?;
            rest = later;
        }
        Ok(())
    }

    /// Makes a round of the first positions of `order`, of which there are some: at least one of them.
    fn gather<'s>(&'s self, round: &mut Round<'s>, order: &[(u64, u32)]) -> Result<(), LogError> {
        round.groups.clear();
        round.files.clear();
        (round.bytes, round.positions) = (0, 0);
        let mut rest = order;
        while let Some(&(first, _)) = rest.first()
            && round.groups.len() < ROUND_READS
        {
            let place = match self.place(round, first) {
                Ok(Some(place)) => place,
                Ok(None) => break,
                Err(error) if round.groups.is_empty() => return Err(error),
                Err(_) => break,
            };
            let (file, extent) = place;
            let calls = round.files.get(file).is_none_or(|file| !file.file().reads_without_calls());
            let (gap, at_first) =
                if calls { (MAX_GAP, SPECULATIVE) } else { (NO_GAP, MAPPED_AT_FIRST) };
            let mut read_end = first;
            let joined = rest.iter().take_while(|&&(position, _)| {
                let joins = position <= read_end.saturating_add(gap)
                    && position < extent.end
                    && position - first <= MAX_JOINED;
                if joins {
                    read_end = position.saturating_add(at_first as u64).min(extent.end);
                }
                joins
            });
            let count = joined.count().max(1);
            // At most MAX_JOINED + SPECULATIVE bytes.
            let len = (read_end - first) as usize;
            if !round.groups.is_empty() && round.bytes + len > ROUND_BYTES {
                break;
            }
            round.groups.push(Group { first, len, count, file, extent });
            round.bytes += len;
            round.positions += count;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// The segment that covers `first`, and which of the round's files it is; `None` if the round has as many
    /// files as it may.
    fn place<'s>(
        &'s self,
        round: &mut Round<'s>,
        first: u64,
    ) -> Result<Option<(usize, Extent)>, LogError> {
        // Positions ascend: it is the last one's segment, or a later one.
        if let Some(Group { file, extent, .. }) = round.groups.last()
            && first < extent.end
        {
            return Ok(Some((*file, *extent)));
        }
        let extent = self.extent(first)?;
        if round.files.last().is_none_or(|last| last.base() != extent.base) {
            let pinned = self.segments.pin(extent.base, round.files.len());
            match pinned.map_err(|error| self.pruned_or(first, error))? {
                Some(file) => round.files.push(file),
                None => return Ok(None),
            }
        }
        Ok(Some((round.files.len() - 1, extent)))
    }

    /// Reads the groups of a round and shows their entries, whose positions are `order`.
    fn read_round(
        &self,
        round: &Round<'_>,
        buffer: &mut [u8],
        order: &[(u64, u32)],
        fill: Fill,
        visit: &mut Visit<'_>,
    ) -> Result<(), LogError> {
        let mut left = &mut *buffer;
        let mut reads = Vec::with_capacity(round.groups.len());
        for group in &round.groups {
            let (bytes, others) =
                std::mem::take(&mut left).split_at_mut_checked(group.len).unwrap_or_default();
            left = others;
            if let Some(file) = round.files.get(group.file) {
                reads.push(ReadAt::new(file.file(), group.first - file.base(), bytes));
            }
        }
        let results = self.segments.read_batch(reads);
        let (mut at, mut rest) = (0, order);
        for (group, result) in round.groups.iter().zip(results) {
            result.map_err(|error| self.pruned_or(group.first, error))?;
            let bytes = buffer.get(at..at + group.len).unwrap_or_default();
            let (entries, others) = rest.split_at_checked(group.count).unwrap_or_default();
            for &(position, slot) in entries {
                self.show_one(round, group, bytes, (position, slot), fill, visit)?;
            }
            (at, rest) = (at + group.len, others);
        }
        Ok(())
    }

    /// Shows one entry of a group, of which `bytes` were read.
    fn show_one(
        &self,
        round: &Round<'_>,
        group: &Group,
        bytes: &[u8],
        (position, slot): (u64, u32),
        fill: Fill,
        visit: &mut Visit<'_>,
    ) -> Result<(), LogError> {
        let here = bytes.get((position - group.first) as usize..).unwrap_or_default();
        match frame::check_entry(here, position) {
            Ok(entry) => {
                visit(slot, entry);
                if fill == Fill::Cache {
                    self.cache.insert(position, StoredEntry::copied(entry));
                }
            }
            // Longer than what was read, damaged, or not kept.
            Err(_) => {
                // By the file that the round keeps open: there may be no room for another.
                let more = |at, rest: &mut [u8]| match round.files.get(group.file) {
                    Some(file) => self.segments.read_pinned(file, at, rest),
                    None => self.segments.read(group.extent, at, rest),
                };
                let more =
                    |at, rest: &mut [u8]| more(at, rest).map_err(|error| self.pruned_or(at, error));
                let mut buf = [0; SHOWN_IN_PLACE];
                if let Some(whole) = lengthen(&mut buf, here, (position, group.extent.end))
                    && let Some(rest) = whole.get_mut(here.len()..)
                {
                    more(position + here.len() as u64, rest)?;
                    if let Ok(entry) = frame::check_entry(whole, position) {
                        visit(slot, entry);
                        if fill == Fill::Cache {
                            self.cache.insert(position, StoredEntry::copied(entry));
                        }
                        return Ok(());
                    }
                }
                let entry = self.complete(group.extent, position, here, more)?;
                visit(slot, entry.get());
                if fill == Fill::Cache {
                    self.cache.insert(position, entry);
                }
            }
        }
        Ok(())
    }
}

/// The frame at `position` of which `here` are the first bytes, the rest to be read, if it is longer than these, `buf` has
/// room for it, and it ends where the segment does or before.
fn lengthen<'b>(
    buf: &'b mut [u8; SHOWN_IN_PLACE],
    here: &[u8],
    (position, end): (u64, u64),
) -> Option<&'b mut [u8]> {
    let need = frame::frame_len(frame::covered_len(here).ok()?);
    let fits = need > here.len() && position.saturating_add(need as u64) <= end;
    let whole = buf.get_mut(..need).filter(|_| fits)?;
    whole.get_mut(..here.len())?.copy_from_slice(here);
    Some(whole)
}
