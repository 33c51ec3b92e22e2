//! The log as the journal of the store: the records behind the end that the manifest names.
//!
//! ```text
//!                      manifest's end             end of the journal
//!                            ▼                           ▼
//!  ───────── record ─ record │ record ─ record ─ record │ what was never whole
//!   durable, and so is the   │ read, checked, written   │ cut
//!   manifest that says it    │ once more, synced        │
//! ```
//!
//! A block is durable once its record is: the manifest follows now and then. What opening finds behind
//! the manifest's end is therefore taken in again, as long as it is whole:
//!
//! * The record that follows the last whole one was torn by the crash, or it was whole and is damaged.
//!   A sector that was not written reads as zeros or lies beyond the end of the file, and no two writes
//!   of a record share one ([`Batch`](crate::segments::batch::Batch)). So a record in
//!   which nothing is missing, and that is not right, is damaged. So is one that another record calls
//!   durable, wherever behind it that lies. Damage is an error: cutting would lose what was promised.
//!   What does not even look like the header of that record is nobody's, and is cut.
//! * A [rollback record](super::rollback) is cut like what was never whole: no manifest names it, so that nothing
//!   was taken back.
//! * What is whole was perhaps never on the medium. The system forgets that a page is dirty when writing
//!   it fails, and a process that opens the store after that finds it all the same. So it is written
//!   again before anybody builds on it: the same bytes in the same place, or a file as a whole under
//!   its own name.
//!
//! Who looks while another process writes ([`EntryLog::find_durable`]) believes less: the records up to
//! the height that a later one calls durable. What follows them may be whole, and yet be lost when the
//! power goes; if it is not whole, it is just being written.
//!
//! Order: [`EntryLog::find_journal`] looks, [`EntryLog::renew_journal`] writes again, and then
//! [`EntryLog::open`] with the journal's end cuts the rest.

use crate::log::{EntryLog, FORMAT, LogOptions};
use crate::record::frame::ALIGN;
use crate::record::header::{MAGIC, RECORD_HEADER_LEN, RecordHeader};
use crate::segments::listing::{Behind, Listing, Unconnected};
use crate::segments::segment::Extent;
use crate::{Damage, LogError, StoreId};
use hedgerow_types::{Height, LogPosition};
use hedgerow_vfs::{OpenMode, Vfs, VfsFile, renew_file};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// What a disk writes as a whole, in bytes.
const SECTOR: u64 = 512;
/// Bytes that are copied at a time.
const COPY: usize = 1 << 20;

/// The whole records behind the manifest's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Where they end; the manifest's end if there are none.
    pub end: LogPosition,
    /// Height of the last one; the manifest's if there are none.
    pub height: Height,
}

impl EntryLog {
    /// Looks for whole records behind `end` in the log in `dir`, whose record before `end` has the
    /// height `last`. Changes nothing.
    ///
    /// # Errors
    /// As [`EntryLog::open`] for what lies between `start` and `end`; [`LogError::Corrupt`] if a record
    /// behind it is damaged, and not just torn; [`LogError::Io`].
    pub fn find_journal(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        id: StoreId,
        start: LogPosition,
        end: LogPosition,
        last: Height,
    ) -> Result<Journal, LogError> {
        let listing = Listing { vfs, dir, format: &FORMAT, id };
        let (segments, unconnected) = listing.open_beyond(start.0, end.0, Behind::Left)?;
        let options = LogOptions { cache_bytes: 0, tail_bytes: 0, ..LogOptions::default() };
        let log = Self::new(segments, &options);
        let mut journal = Journal { end, height: last };
        let reach = log.end();
        let mut wrong = None;
        // Whole is whole, also without the bytes of some entries.
        for record in log.scan(end, reach).with_stubs() {
            match record {
                Ok(record) if record.height() == journal.height.next() => {
                    journal = Journal { end: record.end(), height: record.height() };
                }
                Ok(record) => {
                    let what = Damage::Height(record.height());
                    return Err(log.segments.corrupt(record.position().0, what));
                }
                Err(LogError::Corrupt { what, .. }) => wrong = Some(what),
                Err(error) => return Err(error),
            }
        }
        // A rollback that no manifest names never happened.
        if wrong.is_some() && log.unnamed_rollback(journal.end.0)?.is_some() {
            return Ok(journal);
        }
        if wrong.is_some() || !unconnected.is_empty() {
            log.check_not_durable(&journal, &unconnected)?;
        }
        if let Some(what) = wrong {
            log.check_torn(&journal, what)?;
        }
        Ok(journal)
    }

    /// As [`EntryLog::find_journal`], while another process may be writing: the records behind `end` up to the
    /// greatest height of which one says that it was durable.
    ///
    /// # Errors
    /// As [`EntryLog::open`] for what lies between `start` and `end`; [`LogError::Io`]. What was pruned
    /// meanwhile is missing, and no damage.
    pub fn find_durable(
        vfs: Arc<dyn Vfs>,
        dir: &Path,
        id: StoreId,
        start: LogPosition,
        end: LogPosition,
        last: Height,
    ) -> Result<Journal, LogError> {
        let listing = Listing { vfs, dir, format: &FORMAT, id };
        let (segments, _) = listing.open_beyond(start.0, end.0, Behind::Moving)?;
        let options = LogOptions { cache_bytes: 0, tail_bytes: 0, ..LogOptions::default() };
        let log = Self::new(segments, &options);
        let mut journal = Journal { end, height: last };
        let mut whole = journal;
        // Those behind the journal that are whole and of which nobody says yet that they are durable.
        let mut waiting = VecDeque::new();
        for record in log.scan(end, log.end()).with_stubs() {
            let record = match record {
                Ok(record) if record.height() == whole.height.next() => record,
                Ok(_) | Err(LogError::Corrupt { .. }) => break,
                Err(error) => return Err(error),
            };
            whole = Journal { end: record.end(), height: record.height() };
            waiting.push_back(whole);
            let durable = record.record().durable();
            while let Some(next) = waiting.pop_front_if(|next| next.height <= durable) {
                journal = next;
            }
        }
        Ok(journal)
    }

    /// Checks that no record behind the journal says that the one which should follow it was durable.
    /// All that lies there is searched: where records begin is known only to those before them.
    fn check_not_durable(
        &self,
        journal: &Journal,
        unconnected: &[Unconnected],
    ) -> Result<(), LogError> {
        let lost = journal.height.next();
        let at = self.record_after(journal.end.0).unwrap_or(journal.end.0);
        let later = self.segments.extents().into_iter().filter(|extent| extent.end > at);
        for extent in later {
            let from = at.max(extent.content());
            self.search(extent.end, from, lost, at, |at, buf| self.read_disk(extent, at, buf))?;
        }
        for (extent, file) in unconnected {
            self.search(extent.end, extent.content(), lost, at, |at, buf| {
                let read = file.read_exact_at(buf, at - extent.base);
                read.map_err(LogError::io("reading a segment behind the log"))
            })?;
        }
        Ok(())
    }

    /// Looks for headers of records between `from` and `end`. It is an error, at `at`, if one says that
    /// the block `lost` was durable.
    fn search(
        &self,
        end: u64,
        mut from: u64,
        lost: Height,
        at: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let mut buf = vec![];
        while end.saturating_sub(from) >= RECORD_HEADER_LEN as u64 {
            buf.resize((end - from).min(COPY as u64) as usize, 0);
            read(from, &mut buf)?;
            let places = buf.len() - RECORD_HEADER_LEN + 1;
            for offset in (0..places).step_by(ALIGN) {
                let header = buf.get(offset..).and_then(<[u8]>::first_chunk);
                let Some(header) = header.filter(|header| header.starts_with(&MAGIC)) else {
                    continue;
                };
                let found = RecordHeader::decode(header, from + offset as u64, self.segments.id);
                if found.is_ok_and(|header| header.durable >= lost) {
                    return Err(self.segments.corrupt(at, Damage::Durable { height: lost }));
                }
            }
            from += (places as u64).next_multiple_of(ALIGN as u64);
        }
        Ok(())
    }

    /// Whether the record that follows the journal, of which `what` is wrong, is what a crash leaves.
    fn check_torn(&self, journal: &Journal, what: Damage) -> Result<(), LogError> {
        let lost = journal.height.next();
        let at = self.record_after(journal.end.0).unwrap_or(journal.end.0);
        let extent = self.extent(at)?;
        let head_end = at + RECORD_HEADER_LEN as u64;
        if head_end > extent.end {
            return Ok(());
        }
        let mut header = [0; RECORD_HEADER_LEN];
        self.read_disk(extent, at, &mut header)?;
        let end = match RecordHeader::decode(&header, at, self.segments.id) {
            Ok(header) => header.end(),
            Err(_) if RecordHeader::resembles(&header, at, lost) => head_end,
            Err(_) => return Ok(()),
        };
        if end > extent.end || self.lacks_a_sector(extent, at, end)? {
            return Ok(());
        }
        Err(self.segments.corrupt(at, what))
    }

    /// Whether some sector's part of the bytes from `at` to `end` is all zeros.
    fn lacks_a_sector(&self, extent: Extent, at: u64, end: u64) -> Result<bool, LogError> {
        let mut buf = [0; SECTOR as usize];
        let mut from = at;
        while from < end {
            let offset = from - extent.base;
            let to = end.min(extent.base + (offset / SECTOR + 1) * SECTOR);
            let part = &mut buf[..(to - from) as usize];
            self.read_disk(extent, from, part)?;
            if part.iter().all(|&byte| byte == 0) {
                return Ok(true);
            }
            from = to;
        }
        Ok(false)
    }

    /// Writes what lies between `end` and the end of `journal` once more, and syncs it.
    ///
    /// # Errors
    /// [`LogError::Io`]; then nothing may be built on what is there.
    pub fn renew_journal(
        vfs: &dyn Vfs,
        dir: &Path,
        start: LogPosition,
        end: LogPosition,
        journal: &Journal,
    ) -> Result<(), LogError> {
        if journal.end == end {
            return Ok(());
        }
        let io = LogError::io("writing the journal once more");
        let mut bases: Vec<u64> = vfs
            .read_dir(dir)
            .map_err(&io)?
            .iter()
            .filter_map(|name| FORMAT.base_of(name))
            .filter(|base| (start.0..journal.end.0).contains(base))
            .collect();
        bases.sort_unstable();
        for (index, &base) in bases.iter().enumerate() {
            let next = bases.get(index + 1).copied().unwrap_or(u64::MAX);
            let to = journal.end.0.min(next) - base;
            let path = dir.join(FORMAT.file_name(base));
            if base >= end.0 {
                renew_file(vfs, &path, to).map_err(&io)?;
            } else if next > end.0 {
                let file = vfs.open(&path, OpenMode::ReadWrite).map_err(&io)?;
                write_again(&*file, end.0 - base, to).map_err(&io)?;
            }
        }
        Ok(())
    }
}

/// Writes the bytes from `from` to `to` again, where they are, and syncs them.
fn write_again(file: &dyn VfsFile, from: u64, to: u64) -> Result<(), hedgerow_vfs::VfsError> {
    let mut buf = vec![0; COPY];
    let mut at = from;
    while at < to {
        let len = (to - at).min(COPY as u64) as usize;
        file.read_exact_at(&mut buf[..len], at)?;
        file.write_all_at(&buf[..len], at)?;
        at += len as u64;
    }
    file.sync()
}
