//! What can still be read of a log that is damaged: entries that verify themselves, wherever they lie.
//!
//! ```text
//!   │ header │ e │ e │ damaged │ e │ e │  header  │ e │ e │
//!            run of a whole record     │ damaged  │
//!                    │                      │
//!                    │ its own length leads │ the next frame or header that is whole is looked for,
//!                    │ to a whole frame:    │ at multiples of 8
//!                    │ its bytes are shown, │
//!                    ▼ as a guess           ▼
//!               Lost, guess            Lost
//! ```
//!
//! What was taken back is no longer there: rollback records say which spans of the log that are, and are looked
//! for beforehand ([`find_dead`]), since they stand behind what they take back.
//!
//! Nothing is opened but the files, and nothing is changed. What is shown as an entry has the checksum of
//! its bytes and of its place. No root says that it is the truth: bytes that somebody wrote into a value
//! may look like an entry too, which matters only where what was around them is damaged.

use crate::log::FORMAT;
use crate::record::frame::{self, ALIGN, MIN_FRAME_LEN};
use crate::record::header::{RECORD_HEADER_LEN, RecordHeader};
use crate::record::rollback::{ROLLBACK_LEN, Rollback, dead_until, with_dead_span};
use crate::record::stub::FrameRef;
use crate::segments::header::{HEADER, SEGMENT_HEADER_LEN};
use crate::{LogError, StoreId};
use hedgerow_types::LogPosition;
use hedgerow_types::entry::EntryRef;
use hedgerow_vfs::{OpenMode, Vfs, VfsError};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;

/// Bytes that are read at a time; less where that fails.
const PIECE: usize = 1 << 20;
const SMALL_PIECE: usize = 4 << 10;
/// Longest frame that is looked for where nobody says that one begins: every place is tried.
const LONGEST_FOUND: usize = 1 << 20;

/// What lies in a damaged log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Salvaged<'a> {
    /// An entry that verifies itself.
    Entry(EntryRef<'a>),
    /// Bytes that hold nothing that does.
    Lost {
        /// Where they begin.
        at: LogPosition,
        /// How many there are.
        bytes: u64,
        /// What they would say, were there no checksum. Some of it is wrong.
        guess: Option<EntryRef<'a>>,
    },
}

/// Shows whatever is left of the log in `dir`, but for what lies in `dead` spans, in the order of the log. `show` says
/// whether to go on. Returns where the first segment begins and the last one ends, or where it was told to stop: what is
/// missing before and behind them, nobody can tell from what is left.
///
/// # Errors
/// [`LogError::NoSegment`] if there is no segment of a log; [`LogError::Io`] if the directory cannot be
/// listed. Files that cannot be read are lost.
pub fn salvage(
    vfs: &dyn Vfs,
    dir: &Path,
    dead: &[Range<LogPosition>],
    show: &mut dyn FnMut(Salvaged<'_>) -> bool,
) -> Result<Range<LogPosition>, LogError> {
    walk(vfs, dir, dead, &mut |found| match found {
        Found::Salvaged(found) => show(found),
        Found::Rollback(..) => true,
    })
}

/// The parts of the log in `dir` that were taken back, as the rollback records in it say, up to the position
/// `until` if that is given: rollbacks behind the end that a manifest names never happened. In order, apart from
/// each other.
///
/// # Errors
/// As [`salvage`].
pub fn find_dead(
    vfs: &dyn Vfs,
    dir: &Path,
    until: Option<LogPosition>,
) -> Result<Vec<Range<LogPosition>>, LogError> {
    let mut dead = Vec::new();
    walk(vfs, dir, &[], &mut |found| {
        if let Found::Rollback(rollback, end) = found
            && until.is_none_or(|until| end <= until)
        {
            dead = with_dead_span(&dead, rollback.dead_from..end);
        }
        true
    })?;
    Ok(dead)
}

/// What a walk comes to.
enum Found<'a> {
    Salvaged(Salvaged<'a>),
    /// A rollback record, and where it ends.
    Rollback(Rollback, LogPosition),
}

type Show<'s> = dyn FnMut(Found<'_>) -> bool + 's;

fn walk(
    vfs: &dyn Vfs,
    dir: &Path,
    dead: &[Range<LogPosition>],
    show: &mut Show<'_>,
) -> Result<Range<LogPosition>, LogError> {
    let names = vfs.read_dir(dir).map_err(LogError::io("listing segments"))?;
    let mut bases: Vec<u64> = names.iter().filter_map(|name| FORMAT.base_of(name)).collect();
    bases.sort_unstable();
    let none = LogError::NoSegment { dir: dir.to_owned(), start: LogPosition(0) };
    let Some(start) = bases.first().copied() else { return Err(none) };
    let mut end = start;
    let up_to = |end| Ok(LogPosition(start)..LogPosition(end));
    let mut id = None;
    for base in bases {
        // What is missing of a dead span is missed by nobody.
        end = dead_until(dead, end).map_or(end, |dead| dead.min(base).max(end));
        if base > end && !lost(end, base - end, None, show) {
            return up_to(end);
        }
        let Ok(bytes) = read(vfs, &dir.join(FORMAT.file_name(base))) else {
            // As much as is certain; up to the next segment it is lost as well.
            end = base + HEADER;
            if !lost(base, HEADER, None, show) {
                return up_to(base);
            }
            continue;
        };
        let own = own_id(&bytes, base);
        id = id.or(own);
        let segment = Segment { bytes: &bytes, base, id: own.or(id), dead };
        if !segment.walk(show) {
            return up_to(base);
        }
        end = base + bytes.len() as u64;
    }
    up_to(end)
}

/// The store that a segment's header says it is of, if that is intact.
fn own_id(bytes: &[u8], base: u64) -> Option<StoreId> {
    let header = bytes.first_chunk::<SEGMENT_HEADER_LEN>()?;
    let id = StoreId(*header.get(16..)?.first_chunk()?);
    FORMAT.check_header(header, id, base).is_ok().then_some(id)
}

fn lost(at: u64, bytes: u64, guess: Option<EntryRef<'_>>, show: &mut Show<'_>) -> bool {
    bytes == 0 || show(Found::Salvaged(Salvaged::Lost { at: LogPosition(at), bytes, guess }))
}

/// The bytes of a file; zeros where they cannot be read.
fn read(vfs: &dyn Vfs, path: &Path) -> Result<Vec<u8>, VfsError> {
    let file = vfs.open(path, OpenMode::Read)?;
    let len = file.len()?;
    let mut bytes = Vec::new();
    let room = usize::try_from(len).ok().filter(|&len| bytes.try_reserve_exact(len).is_ok());
    let Some(len) = room else {
        let reason = std::io::Error::new(ErrorKind::OutOfMemory, format!("{len} bytes"));
        return Err(VfsError::new(hedgerow_vfs::VfsOp::Read, path, None, reason));
    };
    bytes.resize(len, 0);
    for (number, piece) in bytes.chunks_mut(PIECE).enumerate() {
        let at = (number * PIECE) as u64;
        if file.read_exact_at(piece, at).is_ok() {
            continue;
        }
        for (number, piece) in piece.chunks_mut(SMALL_PIECE).enumerate() {
            if file.read_exact_at(piece, at + (number * SMALL_PIECE) as u64).is_err() {
                piece.fill(0);
            }
        }
    }
    Ok(bytes)
}

struct Segment<'a> {
    bytes: &'a [u8],
    base: u64,
    id: Option<StoreId>,
    dead: &'a [Range<LogPosition>],
}

impl Segment<'_> {
    /// Shows all of it; says whether to go on.
    fn walk(&self, show: &mut Show<'_>) -> bool {
        let mut at = SEGMENT_HEADER_LEN.min(self.bytes.len());
        while at < self.bytes.len() {
            if let Some(end) = dead_until(self.dead, self.base + at as u64) {
                at = self.offset(end);
                continue;
            }
            if let Some(rollback) = self.rollback(at) {
                at += ROLLBACK_LEN;
                if !show(Found::Rollback(rollback, LogPosition(self.base + at as u64))) {
                    return false;
                }
                continue;
            }
            let next = match self.record(at) {
                Some(header) => {
                    let runs = at + RECORD_HEADER_LEN;
                    let len: u64 = header.run_lens.iter().map(|&len| u64::from(len)).sum();
                    let to = runs.saturating_add(len as usize).min(self.bytes.len());
                    if self.frames(runs.min(to), to, show).is_none() {
                        return false;
                    }
                    self.offset(header.end())
                }
                // To the next record, wherever that is.
                None => match self.frames(at, self.dead_from(at), show) {
                    Some(next) => next,
                    None => return false,
                },
            };
            at = next.max(at + 1).next_multiple_of(ALIGN);
        }
        true
    }

    /// Where a position lies in the segment, at most at its end.
    fn offset(&self, position: u64) -> usize {
        let offset = position.saturating_sub(self.base);
        usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len())
    }

    /// Where the next dead span begins behind `at`; the end of the segment if none does.
    fn dead_from(&self, at: usize) -> usize {
        let behind = self.dead.partition_point(|span| span.start.0 <= self.base + at as u64);
        self.dead.get(behind).map_or(self.bytes.len(), |span| self.offset(span.start.0))
    }

    fn rollback(&self, at: usize) -> Option<Rollback> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Rollback::decode(bytes, self.base + at as u64, self.id?)
    }

    /// Whether a record begins there, of a block or of a rollback.
    fn begins(&self, at: usize) -> bool {
        self.record(at).is_some() || self.rollback(at).is_some()
    }

    fn record(&self, at: usize) -> Option<RecordHeader> {
        let header = self.bytes.get(at..)?.first_chunk()?;
        RecordHeader::decode(header, self.base + at as u64, self.id?).ok()
    }

    fn frame(&self, at: usize, to: usize) -> Option<(FrameRef<'_>, usize)> {
        let bytes = self.bytes.get(at..to)?;
        let frame = frame::check(bytes, self.base + at as u64).ok()?;
        let covered = frame::covered_len(bytes).ok()?;
        Some((frame, frame::frame_len(covered)))
    }

    /// Shows the frames from `at` on. Ends at `to`, or where a record begins, and says where; `None` if
    /// that is enough.
    fn frames(&self, mut at: usize, to: usize, show: &mut Show<'_>) -> Option<usize> {
        while at < to {
            let place = self.base + at as u64;
            let (go_on, len) = match self.frame(at, to) {
                Some((FrameRef::Entry(entry), len)) => {
                    (show(Found::Salvaged(Salvaged::Entry(entry))), len)
                }
                Some((FrameRef::Stub(_), len)) => (lost(place, len as u64, None, show), len),
                None if self.begins(at) => return Some(at),
                None => match self.guess(at, to) {
                    Some((guess, len)) => (lost(place, len as u64, Some(guess), show), len),
                    None => {
                        let len = self.nothing(at, to);
                        (lost(place, len as u64, None, show), len)
                    }
                },
            };
            if !go_on {
                return None;
            }
            at += len;
        }
        Some(to)
    }

    /// A damaged frame whose length leads to another one, or to the end.
    fn guess(&self, at: usize, to: usize) -> Option<(EntryRef<'_>, usize)> {
        let (frame, len) = frame::peek(self.bytes.get(at..to)?)?;
        let next = at + len;
        let leads = next == to || self.frame(next, to).is_some() || self.begins(next);
        frame.entry().filter(|_| leads).map(|entry| (entry, len))
    }

    /// How many bytes from `at` on hold nothing.
    fn nothing(&self, at: usize, to: usize) -> usize {
        let mut next = at + ALIGN;
        while next < to {
            let within = to.min(next.saturating_add(LONGEST_FOUND));
            let begins = within - next >= MIN_FRAME_LEN
                && (self.frame(next, within).is_some() || self.begins(next));
            if begins {
                break;
            }
            next += ALIGN;
        }
        next.min(to) - at
    }
}
