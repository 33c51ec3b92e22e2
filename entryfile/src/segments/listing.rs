//! Finding the segments of a directory when it is opened.
//!
//! ```text
//!            start                                   end
//!              ▼                                      ▼
//!  ┌─────┐  ┌─────┬─────┬─────┬─────┐        ┌──────────┄┄┄┄┐ ┌─────┐
//!  │ gone│  │ each begins where the │  ...   │          ┊cut ┊ │ gone│
//!  └─────┘  │ one before it ends    │        └──────────┄┄┄┄┘ └─────┘
//!   pruned, but              every header is checked         written, but never part
//!   still there                                              of a manifest
//! ```
//!
//! Order: everything that is needed is looked at first; nothing is cut or removed unless it all is
//! there. Then what lies beyond the end goes, then what lies below the start. Each step can be
//! interrupted by a crash and is done again at the next opening. Names that are not those of
//! segments are left alone.

use crate::segments::files::Segments;
use crate::segments::header::{Format, SEGMENT_HEADER_LEN};
use crate::segments::segment::{Extent, id_of, open_segment};
use crate::{Damage, LogError, StoreId};
use hedgerow_types::LogPosition;
use hedgerow_vfs::{FileId, OpenMode, Vfs, VfsFile};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the segments behind the end may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    /// What a process left: damage is damage.
    Left,
    /// What another process is just writing: the first that is not whole is where it stands.
    Moving,
}

/// What is intact of a segment that holds data which can be computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intact {
    /// The segment up to this position. The rest is ignored, and cut off if no segment follows.
    SegmentUpTo(u64),
    /// Everything up to this position; what follows, later segments included, must go.
    AllUpTo(u64),
}

/// The segments that hold a part of the log.
struct Covering {
    /// Of all segments that there are.
    bases: Vec<u64>,
    /// Which of them hold that part.
    kept: Range<usize>,
    table: Vec<Extent>,
    /// By base: which file of the disk each is.
    ids: BTreeMap<u64, FileId>,
    /// The last of the table, its file and the length of that.
    last: Extent,
    file: Arc<dyn VfsFile>,
    len: u64,
}

/// A segment that does not follow the one before it, and its file.
pub(crate) type Unconnected = (Extent, Arc<dyn VfsFile>);

/// The open file of a segment, and its length.
type FileAndLen = (Arc<dyn VfsFile>, u64);

/// Segments to be opened.
pub(crate) struct Listing<'a> {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) dir: &'a Path,
    pub(crate) format: &'static Format,
    pub(crate) id: StoreId,
}

impl Listing<'_> {
    /// Makes the directory, durably, and the first segment in it.
    ///
    /// # Errors
    /// [`LogError::Exists`] if it holds segments.
    pub(crate) fn create(self) -> Result<Segments, LogError> {
        self.make_dir()?;
        if let Some(&base) = self.bases()?.first() {
            return Err(LogError::Exists(self.path(base)));
        }
        Segments::create(self.vfs, self.dir, self.format, self.id)
    }

    /// Opens segments that must hold every byte from `start` to `end`, and drops all others.
    pub(crate) fn open_exactly(self, start: u64, end: u64) -> Result<Segments, LogError> {
        let Covering { bases, kept, table, ids, last, file, len } =
            self.covering(start, end, OpenMode::ReadWrite)?;
        self.remove(bases.get(kept.end..).unwrap_or_default().iter().rev())?;
        if len > last.end - last.base {
            cut(&*file, last.end - last.base)?;
        }
        self.remove(bases.get(..kept.start).unwrap_or_default().iter())?;
        Segments::new(self.vfs, self.dir, self.format, self.id, table, file, ids)
    }

    /// Opens, to be read only, segments that must hold every byte from `start` to `end`, and whatever
    /// follows without a gap. Returns the segments that follow with one beside them: those behind a gap,
    /// and those whose header never reached the disk.
    ///
    /// # Errors
    /// Behind `end` too, a header that is neither right nor missing is damage, unless what lies there is
    /// [moving](Behind::Moving).
    pub(crate) fn open_beyond(
        self,
        start: u64,
        end: u64,
        behind: Behind,
    ) -> Result<(Segments, Vec<Unconnected>), LogError> {
        let Covering { bases, kept, mut table, mut ids, mut last, mut file, len } =
            self.covering(start, end, OpenMode::Read)?;
        last.end = last.base.saturating_add(len);
        let mut unconnected = vec![];
        for &base in bases.get(kept.end..).unwrap_or_default() {
            let (opened, len, whole) = match self.open_segment(base, OpenMode::Read) {
                Ok((opened, len)) => (opened, len, true),
                Err(error) if behind == Behind::Moving && is_unusable(&error) => break,
                Err(error) if is_unusable(&error) => match self.without_header(base)? {
                    Some((opened, len)) => (opened, len, false),
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            };
            let extent = Extent { base, end: base.saturating_add(len) };
            if unconnected.is_empty() && base == last.end && whole {
                ids.extend(id_of(&*opened)?.map(|id| (base, id)));
                if let Some(open) = table.last_mut() {
                    *open = last;
                }
                table.push(extent);
                (last, file) = (extent, opened);
            } else {
                unconnected.push((extent, opened));
            }
        }
        if let Some(open) = table.last_mut() {
            *open = last;
        }
        let segments = Segments::new(self.vfs, self.dir, self.format, self.id, table, file, ids)?;
        Ok((segments, unconnected))
    }

    /// Looks at the segments that must hold every byte from `start` to `end`; the last one is opened
    /// as `mode` says.
    fn covering(&self, start: u64, end: u64, mode: OpenMode) -> Result<Covering, LogError> {
        let bounds = LogError::Bounds { start: LogPosition(start), end: LogPosition(end) };
        let bases = self.bases()?;
        let kept_from = bases.partition_point(|&base| base <= start).checked_sub(1);
        let Some(kept_from) = kept_from else {
            let start = LogPosition(start);
            return Err(LogError::NoSegment { dir: self.dir.to_owned(), start });
        };
        let kept_to = bases.partition_point(|&base| base < end);
        let kept = bases.get(kept_from..kept_to).unwrap_or_default();
        if kept.last().is_none_or(|&last| end - last < SEGMENT_HEADER_LEN as u64) {
            return Err(bounds);
        }

        let mut table = vec![];
        let mut ids = BTreeMap::new();
        let mut file = None;
        for (index, &base) in kept.iter().enumerate() {
            let next = kept.get(index + 1);
            let mode = if next.is_some() { OpenMode::Read } else { mode };
            let (opened, len) = self.open_segment(base, mode)?;
            let must_end = next.copied().unwrap_or(end);
            if let Some(missing) = (must_end - base).checked_sub(len).filter(|&bytes| bytes > 0) {
                return Err(LogError::Short { path: self.path(base), missing });
            }
            if next.is_some() && len > must_end - base {
                let excess = len - (must_end - base);
                return Err(LogError::Overlap { path: self.path(base), excess });
            }
            ids.extend(id_of(&*opened)?.map(|id| (base, id)));
            table.push(Extent { base, end: must_end });
            file = Some((opened, len));
        }
        let (Some((file, len)), Some(&last)) = (file, table.last()) else {
            return Err(bounds);
        };
        Ok(Covering { kept: kept_from..kept_to, bases, table, ids, last, file, len })
    }

    /// Opens whatever segments there are, for data that can be computed again: files without an
    /// intact header are removed, and if nothing is left a first segment is made. `inspect` is told
    /// each segment and its file, in order, and says what of it is intact.
    pub(crate) fn open_whatever(
        self,
        mut inspect: impl FnMut(Extent, &dyn VfsFile) -> Result<Intact, LogError>,
    ) -> Result<Segments, LogError> {
        self.make_dir()?;
        let mut table: Vec<Extent> = vec![];
        let mut ids = BTreeMap::new();
        let mut file = None;
        let bases = self.usable()?;
        for (index, &base) in bases.iter().enumerate() {
            let (opened, len) = self.open_segment(base, OpenMode::ReadWrite)?;
            let later = bases.get(index + 1..).unwrap_or_default();
            // What reaches into the next segment was never readable.
            let end = base.saturating_add(len).min(later.first().copied().unwrap_or(u64::MAX));
            let whole = Extent { base, end };
            ids.extend(id_of(&*opened)?.map(|id| (base, id)));
            let intact = inspect(whole, &*opened)?;
            let (Intact::SegmentUpTo(end) | Intact::AllUpTo(end)) = intact;
            table.push(Extent { base, end: end.clamp(whole.content().min(whole.end), whole.end) });
            file = Some((opened, len));
            if matches!(intact, Intact::AllUpTo(_)) {
                self.remove(later.iter().rev())?;
                break;
            }
        }
        match (file, table.last()) {
            (Some((file, len)), Some(last)) => {
                if len > last.end - last.base {
                    cut(&*file, last.end - last.base)?;
                }
                let segments =
                    Segments::new(self.vfs, self.dir, self.format, self.id, table, file, ids)?;
                Ok(segments.sync_inherited())
            }
            _ => Segments::create(self.vfs, self.dir, self.format, self.id),
        }
    }

    /// Bases of the segments with an intact header; the other files are removed. Before any is read:
    /// where a segment ends depends on which other there is.
    fn usable(&self) -> Result<Vec<u64>, LogError> {
        let mut usable = self.bases()?;
        let mut unusable = vec![];
        for &base in &usable {
            match self.open_segment(base, OpenMode::Read) {
                Ok(_) => {}
                Err(error) if is_unusable(&error) => unusable.push(base),
                Err(error) => return Err(error),
            }
        }
        self.remove(unusable.iter())?;
        usable.retain(|base| !unusable.contains(base));
        Ok(usable)
    }

    fn path(&self, base: u64) -> PathBuf {
        self.dir.join(self.format.file_name(base))
    }

    fn make_dir(&self) -> Result<(), LogError> {
        self.vfs.create_dir_all(self.dir).map_err(LogError::io("making a directory"))?;
        let parent = self.dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let synced = self.vfs.sync_dir(parent.unwrap_or(Path::new(".")));
        synced.map_err(LogError::io("syncing the name of a directory"))
    }

    /// Bases of all segment files, increasing.
    fn bases(&self) -> Result<Vec<u64>, LogError> {
        let names = self.vfs.read_dir(self.dir).map_err(LogError::io("listing segments"))?;
        let mut bases: Vec<u64> =
            names.iter().filter_map(|name| self.format.base_of(name)).collect();
        bases.sort_unstable();
        Ok(bases)
    }

    fn open_segment(&self, base: u64, mode: OpenMode) -> Result<FileAndLen, LogError> {
        open_segment(&*self.vfs, self.dir, self.format, self.id, base, mode)
    }

    /// The file of the segment at `base`, and its length, if its header is not there: a sector that was
    /// never written reads as zeros or lies beyond the end.
    fn without_header(&self, base: u64) -> Result<Option<FileAndLen>, LogError> {
        let io = LogError::io("opening a segment without a header");
        let file = self.vfs.open(&self.path(base), OpenMode::Read).map_err(&io)?;
        let mut header = [0; SEGMENT_HEADER_LEN];
        file.read_at_most(&mut header, 0).map_err(&io)?;
        let len = file.len().map_err(&io)?;
        Ok((header == [0; SEGMENT_HEADER_LEN] || len < SEGMENT_HEADER_LEN as u64)
            .then_some((file, len)))
    }

    fn remove<'b>(&self, bases: impl Iterator<Item = &'b u64>) -> Result<(), LogError> {
        let mut any = false;
        for &base in bases {
            let removed = self.vfs.remove_file(&self.path(base));
            removed.map_err(LogError::io("removing a segment outside the log"))?;
            any = true;
        }
        if any {
            let synced = self.vfs.sync_dir(self.dir);
            synced.map_err(LogError::io("syncing the removal of segments"))?;
        }
        Ok(())
    }
}

/// Whether the error means that the file holds nothing of use, as after a crash that came before
/// its header reached the disk, or under a name that is not its own; not that it could not be read,
/// belongs to somebody else, or was made by a newer version.
fn is_unusable(error: &LogError) -> bool {
    match error {
        LogError::Short { .. } => true,
        LogError::Corrupt { what, .. } => {
            let misnamed = matches!(what, Damage::Place { .. });
            misnamed || matches!(what, Damage::Magic | Damage::Checksum { .. })
        }
        _ => false,
    }
}

/// Cuts a file to `len` bytes, durably: what was cut must not come back after it was written anew.
fn cut(file: &dyn VfsFile, len: u64) -> Result<(), LogError> {
    file.set_len(len).map_err(LogError::io("cutting a segment to its durable length"))?;
    file.sync().map_err(LogError::io("syncing a segment that was cut"))
}
