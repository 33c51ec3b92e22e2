//! A window on a stretch of frames that are read one after the other.

use crate::log::EntryLog;
use crate::record::frame;
use crate::{Damage, LogError};
use bytes::Bytes;

/// Bytes of the log in memory: part of a run read from disk, or a whole run of a record in memory.
/// Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    base: u64,
    bytes: Bytes,
}

impl Window {
    /// A window on bytes that are in memory anyway.
    pub(crate) fn on(base: u64, bytes: Bytes) -> Self {
        Self { base, bytes }
    }

    /// Bytes that it holds.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The window's bytes, and the offset there at which a whole frame begins, the one at `at`. If
    /// need be the window moves there: it then holds `size` bytes or one frame, but never reaches
    /// beyond `limit`, where the frames end. The frame is not checked, except that it ends before
    /// `limit`.
    pub(crate) fn frame_at(
        &mut self,
        log: &EntryLog,
        at: u64,
        limit: u64,
        size: u64,
    ) -> Result<Frame<'_>, LogError> {
        let mut need = frame::MIN_FRAME_LEN as u64;
        loop {
            let left = limit.saturating_sub(at);
            if need > left {
                return Err(log.damaged(at, Damage::Length { need, have: left }));
            }
            if !self.holds(at, need) {
                self.load(log, at, need.max(size).min(left))?;
            }
            let offset = (at - self.base) as usize;
            let rest = self.bytes.get(offset..).unwrap_or_default();
            let covered = frame::covered_len(rest).map_err(|what| log.damaged(at, what))?;
            let frame_len = frame::frame_len(covered) as u64;
            if frame_len <= need || self.holds(at, frame_len) && frame_len <= left {
                return Ok(Frame { bytes: &self.bytes, offset, len: frame_len });
            }
            need = frame_len;
        }
    }

    fn holds(&self, at: u64, len: u64) -> bool {
        let held = self.bytes.len() as u64;
        at.checked_sub(self.base).is_some_and(|offset| offset <= held && len <= held - offset)
    }

    /// Reads `len` bytes at `at`, which must be on disk.
    fn load(&mut self, log: &EntryLog, at: u64, len: u64) -> Result<(), LogError> {
        let extent = log.extent(at)?;
        let have = extent.end - at;
        if len > have {
            return Err(log.damaged(at, Damage::Length { need: len, have }));
        }
        // No longer than the segment that holds it, or than the longest entry. The old buffer if nobody
        // else looks at it: a new one is pages that the system has to find and to clear.
        let old = std::mem::take(&mut self.bytes);
        let mut bytes = old.try_into_mut().unwrap_or_default();
        bytes.resize(len as usize, 0);
        log.read_disk(extent, at, &mut bytes)?;
        *self = Self { base: at, bytes: bytes.freeze() };
        Ok(())
    }
}

/// A frame in a window, whole but not checked.
pub(crate) struct Frame<'a> {
    pub(crate) bytes: &'a Bytes,
    pub(crate) offset: usize,
    /// Length of the frame.
    pub(crate) len: u64,
}
