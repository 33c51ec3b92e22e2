//! Reading a group of 16 consecutive entries of a finished twig: what a proof needs below the nodes
//! that the twig file keeps.

use crate::log::EntryLog;
use crate::read::above::LogView;
use crate::read::stored::StoredFrame;
use crate::read::window::{Frame, Window};
use crate::twig::record::{GROUP_LEAVES, TwigRecord};
use crate::{Damage, LogError};
use hedgerow_types::LogPosition;

/// Bytes read at a time: most groups in one go.
const WINDOW: u64 = 4 << 10;

impl EntryLog {
    /// The 16 entries of the group that `leaf` (0..2048) of the twig belongs to, with their
    /// positions, in order; verified, serial numbers included. Of those that are not kept, the stubs.
    ///
    /// # Errors
    /// As [`EntryLog::read`]; [`LogError::Pruned`] if any of them was pruned.
    /// [`LogError::Malformed`] if the twig has no such leaf.
    pub fn read_group(
        &self,
        twig: &TwigRecord,
        leaf: usize,
    ) -> Result<Vec<(LogPosition, StoredFrame)>, LogError> {
        LogView::from(self).read_group(twig, leaf)
    }
}

impl LogView<'_> {
    /// See [`EntryLog::read_group`].
    ///
    /// # Errors
    /// As [`EntryLog::read_group`].
    pub fn read_group(
        &self,
        twig: &TwigRecord,
        leaf: usize,
    ) -> Result<Vec<(LogPosition, StoredFrame)>, LogError> {
        let log = self.log;
        let first_leaf = leaf - leaf % GROUP_LEAVES;
        let (start, breaks) =
            twig.group(leaf).ok_or(LogError::Malformed("a leaf that a twig does not have"))?;
        let mut frames = Vec::with_capacity(GROUP_LEAVES);
        let (mut at, mut limit) = (start.0, None);
        let mut window = Window::default();
        for leaf in first_leaf..first_leaf + GROUP_LEAVES {
            if let Some((_, position)) = breaks.iter().find(|(at, _)| usize::from(*at) == leaf) {
                (at, limit) = (position.0, None);
            }
            let end = match limit {
                Some(end) => end,
                None => {
                    let (end, in_memory) = self.frames_end(at)?;
                    window = in_memory.unwrap_or_default();
                    *limit.insert(end)
                }
            };
            let Frame { bytes, offset, len } = window.frame_at(log, at, end, WINDOW)?;
            let frame = StoredFrame::at(bytes, offset, at).map_err(|what| log.damaged(at, what))?;
            let expected = twig.twig.first().plus(leaf as u64).0;
            let found = frame.serial_number().0;
            if found != expected {
                return Err(log.damaged(at, Damage::SerialNumber { expected, found }));
            }
            frames.push((LogPosition(at), frame));
            at += len;
        }
        Ok(frames)
    }

    /// Where frames that follow the one at `at` end at the latest, and a window on them if they are
    /// in memory.
    fn frames_end(&self, at: u64) -> Result<(u64, Option<Window>), LogError> {
        let log = self.log;
        let above = self.record_above(at)?.cloned();
        let Some(record) = above.map_or_else(|| log.in_memory(at), |record| Ok(Some(record)))?
        else {
            return Ok((log.extent(at)?.end, None));
        };
        let (run, offset) = record.run_at(at).ok_or_else(|| log.damaged(at, Damage::Header))?;
        let base = at - offset as u64;
        Ok((base + run.len() as u64, Some(Window::on(base, run.clone()))))
    }
}
