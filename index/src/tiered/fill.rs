//! Filling an index in key order: records go straight to one segment of the lowest tier.
//!
//! ```text
//!   edits, ascending ─► held     all records of the newest stem        replaced here, put in order here
//!                         │ a higher stem
//!                         ▼
//!                       the segment ── end ──► installed as a spill is
//! ```
//!
//! Nothing is frozen, spilled or merged on the way. What is put in is not found before the end: nobody asks
//! meanwhile. What was in memory before stays there, and is replaced as ever.
//!
//! The file is written under the lock of those who edit, of whom there are no others.

use super::jobs::{Claim, Done, Input, Running};
use super::policy::LOWEST_TIER;
use super::record::Record;
use super::segment::{PAGE, SegmentWriter};
use super::stats::add;
use super::{Editing, Inner, TieredIndex};
use crate::{Edit, IndexError, Stem};
use std::sync::Arc;

/// What is being filled.
pub(super) struct Filling {
    writer: SegmentWriter,
    /// Records of one stem, above all that were written.
    held: Vec<Record>,
    /// What it takes.
    running: Arc<Running>,
}

impl Filling {
    fn push(&mut self, record: Record) -> Result<(), IndexError> {
        if self.held.first().is_some_and(|held| held.stem != record.stem) {
            self.write()?;
        }
        self.held.push(record);
        Ok(())
    }

    fn write(&mut self) -> Result<(), IndexError> {
        self.held.sort_unstable();
        self.held.drain(..).try_for_each(|record| self.writer.push(record))
    }
}

impl Inner {
    /// Edits of an index that is being filled.
    pub(super) fn fill(&self, edits: &[Edit], editing: &mut Editing) -> Result<(), IndexError> {
        let Some(filling) = &mut editing.filling else { return Ok(()) };
        let bits = self.bits.read();
        let mut next = editing.next;
        for edit in edits {
            if let Some(old) = edit.old {
                if !bits.clear(old.sn) {
                    return Err(IndexError::Missing { key: edit.key, at: old.at });
                }
                filling.held.retain(|record| record.at != old.at);
            }
            if let Some(new) = edit.new {
                let record = Record::new(Stem::of(&edit.key), new)?;
                if record.sn.0 < editing.next {
                    return Err(IndexError::Number { sn: record.sn });
                }
                if !bits.set(record.sn) {
                    return Err(IndexError::Occupied { at: record.at });
                }
                filling.push(record)?;
                next = next.max(record.sn.0 + 1);
            }
            self.count(edit.old.is_some(), edit.new.is_some());
        }
        editing.next = next;
        Ok(())
    }
}

impl TieredIndex {
    /// From here on, until [`end_filling`](TieredIndex::end_filling), edits come in the order of their keys, from one batch
    /// to the next too, but that the newest key may be moved again. They are written to a segment at once, and are
    /// not found before the end. After an error the index is to be thrown away.
    ///
    /// # Errors
    /// [`IndexError::Disk`].
    pub fn begin_filling(&self) -> Result<(), IndexError> {
        let index = &*self.0;
        let mut editing = index.editing.lock();
        let (id, running) = {
            let mut state = index.state.lock();
            let id = index.segment_id(state.next_file);
            state.next_file += 1;
            let running = Arc::new(Running::taking(17 * PAGE));
            state.filling = Some(Arc::clone(&running));
            index.balance(&state);
            (id, running)
        };
        // The lowest tier is asked last, and nearly every key is there: no filter.
        let writer = SegmentWriter::new(&index.vfs, &index.options.folder, id, 0, 0)?;
        editing.filling = Some(Filling { writer, held: Vec::new(), running });
        Ok(())
    }

    /// Makes what was filled in durable and lets it be found.
    ///
    /// # Errors
    /// [`IndexError::Disk`]; [`IndexError::Damaged`] if it was not in order.
    pub fn end_filling(&self) -> Result<(), IndexError> {
        let mut editing = self.0.editing.lock();
        let Some(mut filling) = editing.filling.take() else { return Ok(()) };
        filling.write()?;
        let Filling { writer, running, .. } = filling;
        self.0.state.lock().filling = None;
        let claim = Claim { index: Arc::clone(&self.0), running, spill: true };
        let output = writer.finish()?;
        if let Some((segment, _)) = &output {
            add(&self.0.counters.bytes_written, segment.file_len() as usize);
        }
        let (input, dropped) = (Input::Ages(Vec::new()), 0);
        self.install(Done { output, input, tier: LOWEST_TIER, dropped, claim });
        Ok(())
    }
}
