//! The files of a log or a twig file, for somebody who copies them while they are in use.
//!
//! ```text
//!   log     start                          settled                end
//!             ▼                               ▼                    ▼
//!   │ part, fixed │ part, fixed │ part           │ part            │┄┄┄ written later
//!                               └ the last one with bytes before `settled`: opening may append to it
//! ```
//!
//! A part is **fixed** if neither the log nor any other that has the same bytes up to `settled` will
//! ever write to it or cut it. Bytes are appended to the last segment only; opening cuts the last one
//! of those that hold the manifest's log and its journal, and writes the journal again, which begins in
//! the last segment with bytes before the manifest's end. Manifests only go forward. So a segment before
//! that one is never changed again: it is read, and in the end its name is removed.

use crate::LogError;
use crate::segments::files::Segments;
use crate::segments::segment::Extent;
use hedgerow_types::LogPosition;
use hedgerow_vfs::VfsFile;
use std::sync::Arc;

/// A segment as a copy has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentPart {
    /// The position at which it begins.
    base: u64,
    /// Bytes of its file that belong to the copy, its header included.
    pub len: u64,
    /// Whether its file is never changed again, so that a second name for it is as good as a copy.
    pub fixed: bool,
}

impl Segments {
    /// The segments with bytes between `start` and `end`, which are written; the manifest says that the
    /// log reaches to `settled`.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] if not all of it is there.
    pub(crate) fn parts(
        &self,
        start: u64,
        settled: u64,
        end: u64,
    ) -> Result<Vec<SegmentPart>, LogError> {
        let extents: Vec<Extent> = self.extents();
        let wanted = extents.iter().filter(|extent| extent.end > start && extent.base < end);
        let parts: Vec<_> = wanted
            .map(|extent| SegmentPart {
                base: extent.base,
                len: extent.end.min(end) - extent.base,
                // The next one begins where it ends, and has bytes before `settled` too.
                fixed: extent.end < settled,
            })
            .collect();
        let covered = parts.first().is_some_and(|first| first.base <= start)
            && parts.last().is_some_and(|last| last.base + last.len == end);
        if covered {
            return Ok(parts);
        }
        let at = LogPosition(start);
        Err(LogError::OutOfRange { at, end: LogPosition(self.end()) })
    }

    /// All of them as they are now; none is fixed.
    pub(crate) fn all_parts(&self) -> Vec<SegmentPart> {
        let part =
            |extent: Extent| SegmentPart { base: extent.base, len: extent.len(), fixed: false };
        self.extents().into_iter().map(part).collect()
    }

    /// Opens the file of a part, which is the one that was there when the segments were opened.
    ///
    /// # Errors
    /// [`LogError::Moved`], [`LogError::Short`], [`LogError::Corrupt`] if its header is damaged;
    /// [`LogError::Io`].
    pub(crate) fn open_part(&self, part: &SegmentPart) -> Result<Arc<dyn VfsFile>, LogError> {
        let (file, len) = self.open(part.base)?;
        match part.len.checked_sub(len).filter(|&missing| missing > 0) {
            Some(missing) => Err(LogError::Short { path: self.path(part.base), missing }),
            None => Ok(file),
        }
    }
}
