//! Reading a group of 16 consecutive entries of a finished twig: what a proof needs below the nodes
//! that the twig file keeps.

use crate::log::EntryLog;
use crate::read::above::LogView;
use crate::read::stored::{StoredEntry, StoredFrame};
use crate::read::window::{Frame, Window};
use crate::twig::record::{GROUP_LEAVES, TwigRecord};
use crate::{Damage, LogError};
use hedgerow_types::{LogPosition, TwigId};
use std::ops::RangeInclusive;

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

    /// See [`LogView::read_leaf`].
    ///
    /// # Errors
    /// As [`LogView::read_leaf`].
    pub fn read_leaf(
        &self,
        twig: TwigId,
        group: (LogPosition, &[(u16, LogPosition)]),
        leaf: usize,
    ) -> Result<StoredEntry, LogError> {
        LogView::from(self).read_leaf(twig, group, leaf)
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
        let group =
            twig.group(leaf).ok_or(LogError::Malformed("a leaf that a twig does not have"))?;
        let mut frames = Vec::with_capacity(GROUP_LEAVES);
        let first = leaf - leaf % GROUP_LEAVES;
        let leaves = first..=first + GROUP_LEAVES - 1;
        self.visit_leaves(twig.twig, group, leaves, |at, frame| frames.push((at, frame)))?;
        Ok(frames)
    }

    /// The entry of the leaf `leaf` of a twig, finished or not: `group` says where its group of 16 begins,
    /// and which leaves of it do not directly follow the one before. Verified, its serial number included.
    ///
    /// # Errors
    /// As [`EntryLog::read`]; [`LogError::Pruned`] if it, or an entry before it in its group, was pruned.
    pub fn read_leaf(
        &self,
        twig: TwigId,
        group: (LogPosition, &[(u16, LogPosition)]),
        leaf: usize,
    ) -> Result<StoredEntry, LogError> {
        // What lies before the last break need not be read.
        let (start, breaks) = group;
        let last = breaks.iter().rfind(|(at, _)| usize::from(*at) <= leaf);
        let (first, start) = match last {
            Some(&(at, position)) => (usize::from(at), position),
            None => (leaf - leaf % GROUP_LEAVES, start),
        };
        let mut found = None;
        self.visit_leaves(twig, (start, &[]), first..=leaf, |at, frame| found = Some((at, frame)))?;
        match found {
            Some((_, StoredFrame::Entry(entry))) => Ok(entry),
            Some((at, StoredFrame::Stub(stub))) => Err(LogError::NotKept { at, stub }),
            None => Err(LogError::Malformed("a leaf that a twig does not have")),
        }
    }

    /// Shows the frames of some leaves of a twig, the first of which is at `start`; of `breaks` those count
    /// that are among them.
    fn visit_leaves(
        &self,
        twig: TwigId,
        (start, breaks): (LogPosition, &[(u16, LogPosition)]),
        leaves: RangeInclusive<usize>,
        mut show: impl FnMut(LogPosition, StoredFrame),
    ) -> Result<(), LogError> {
        let log = self.log;
        let (mut at, mut limit) = (start.0, None);
        let mut window = Window::default();
        for leaf in leaves {
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
            let expected = twig.first().plus(leaf as u64).0;
            let found = frame.serial_number().0;
            if found != expected {
                return Err(log.damaged(at, Damage::SerialNumber { expected, found }));
            }
            show(LogPosition(at), frame);
            at += len;
        }
        Ok(())
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
