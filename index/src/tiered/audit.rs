//! What whoever checks an index against the entries asks of it.
//!
//! ```text
//!   check_files   head, directory and filter of every segment, again from the file of its name
//!   word          which entries count
//!   audit         a group's records that count, each once, from the pages themselves;
//!                 of those in a segment: does the filter let them through, does the directory lead to them?
//! ```
//!
//! Nothing is taken from the cache, and nothing kept.

use super::segment::Segment;
use super::{TieredIndex, record::Record};
use crate::shared::part_of;
use crate::{IndexError, Stem};
use hedgerow_types::SerialNumber;
use hedgerow_vfs::VfsErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

/// A record that counts, and where it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Audited {
    /// The record.
    pub record: Record,
    /// The number of the segment that has it, whose path is [`TieredIndex::file`]; `None` if it is in memory.
    pub file: Option<u64>,
}

impl TieredIndex {
    /// The path of a segment.
    pub fn file(&self, number: u64) -> PathBuf {
        self.0.options.folder.join(self.0.segment_id(number).name())
    }

    /// Which of the 64 entries from `first` on, a multiple of 64, count.
    pub fn word(&self, first: SerialNumber) -> u64 {
        self.0.bits.read().word(first)
    }

    /// How many entries count.
    pub fn counting(&self) -> u64 {
        self.0.bits.read().count()
    }

    /// Reads head, directory and filter of every segment again, from the files that the names lead to.
    ///
    /// # Errors
    /// As [`TieredIndex::open`].
    pub fn check_files(&self) -> Result<(), IndexError> {
        let inner = &*self.0;
        for segment in &inner.tiers().segments {
            let (id, folder) = (segment.id(), &inner.options.folder);
            let (len, digest) = (segment.file_len(), segment.digest());
            let Err(error) = Segment::open(&inner.vfs, folder, id, len, digest) else { continue };
            let is_gone =
                matches!(&error, IndexError::Disk(it) if it.kind() == VfsErrorKind::NotFound);
            let listed = || inner.tiers().segments.iter().any(|it| Arc::ptr_eq(it, segment));
            // One that was merged meanwhile is gone for good.
            if !is_gone || listed() {
                return Err(super::open::missing(error, &inner.options, id));
            }
        }
        Ok(())
    }

    /// The records of a group that count, ascending, each once, appended to `out`: what look-ups of keys of the
    /// group can find.
    ///
    /// # Errors
    /// [`IndexError::Disk`]; [`IndexError::Damaged`], also of a segment that has a record which a look-up would not find.
    pub fn audit(&self, group: usize, out: &mut Vec<Audited>) -> Result<(), IndexError> {
        let inner = &*self.0;
        let Some(part) = inner.parts.get(part_of(group)) else { return Ok(()) };
        let (low, high) = (Stem::first_of(group), Stem::last_of(group));
        loop {
            let tiers = inner.tiers();
            let mut stored = Vec::new();
            for segment in tiers.segments.iter().filter(|it| it.overlaps(low, high)) {
                let pages = segment.pages_between(low, high);
                let read = segment.read(pages.clone())?;
                for (number, page) in pages.zip(&read) {
                    let records = page.group_records(group).filter(|record| segment.holds(record));
                    stored.extend(records.map(|record| (record, segment, number)));
                }
            }
            let part = part.read();
            if inner.shape.load(std::sync::atomic::Ordering::Acquire) != tiers.shape {
                continue;
            }
            let from = out.len();
            {
                let bits = inner.bits.read();
                part.group(group, |record| {
                    if bits.get(record.sn) {
                        out.push(Audited { record, file: None });
                    }
                });
                stored.retain(|(record, segment, _)| bits.get(record.sn) && segment.holds(record));
            }
            drop(part);
            for (record, segment, page) in stored {
                if !segment.spans(record.stem) || !segment.may_have(record.stem) {
                    return Err(segment.damaged("its filter or its bounds leave out a key"));
                }
                if !segment.pages_of(record.stem).contains(&page) {
                    return Err(segment.damaged("its directory leads past a key"));
                }
                out.push(Audited { record, file: Some(segment.id().number) });
            }
            out[from..].sort_unstable();
            let mut last = None;
            let mut place = 0;
            out.retain(|it| {
                place += 1;
                place <= from || last.replace(it.record) != Some(it.record)
            });
            return Ok(());
        }
    }
}
