//! Reading neighbouring leaves of a twig: the group of 16 that a proof needs below the nodes that the twig file keeps.
//!
//! ```text
//!   leaves     0   1   2   3   4   5 │ 6   7   8   9  10  11  12  13  14  15
//!   log       ├─ stretch ────────────┤     ├─ stretch ─────────────────────┤ the next group, if it follows
//!              one read               break: elsewhere                        one read
//!   bytes     │ stretch │ stretch │ ...                 side by side, as they lie in the log; of other groups too
//! ```
//!
//! A stretch is read to its end at once where that is known, else as much as most take. The entries stay where they
//! are: a hasher is shown the bytes and where each lies. What is hashed anyway needs no checksum, since the hashes must
//! come to the group's node, which is known; only if they do not, checksums tell what is damaged. All else is checked
//! frame by frame. In either case a frame has the serial number of its leaf.

use crate::log::EntryLog;
use crate::read::above::LogView;
use crate::read::stored::{StoredEntry, StoredFrame};
use crate::record::frame::{self, EntrySpan};
use crate::record::stub::{FrameRef, Stub};
use crate::segments::segment::Extent;
use crate::twig::record::{GROUP_LEAVES, TwigGroup, TwigRecord};
use crate::{Damage, LogError, Record};
use bytes::Bytes;
use hedgerow_types::{Digest, LogPosition, SerialNumber, TwigId};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Bytes read at a time of a stretch whose end is not known: most groups in one go.
const WINDOW: u64 = 4 << 10;
/// Most that is read at once because a stretch is said to be so long; then as much as a frame takes.
const MOST_AT_ONCE: u64 = 256 << 10;

/// Frames of leaves that were read, their bytes side by side. See the [module's picture](crate).
///
/// ```
/// use hedgerow_entryfile::{EntryLog, Leaves, LogError, LogView, TwigRecord};
/// # fn example(log: &EntryLog, record: &TwigRecord) -> Result<(), LogError> {
/// let mut leaves = Leaves::default();
/// let group = record.group_of(35).ok_or(LogError::Malformed("no such leaf"))?;
/// LogView::from(log).read_leaves(&group, &mut leaves)?;       // of the leaves 32 to 47
/// for span in leaves.spans() {
///     let entry = &leaves.bytes()[span.offset as usize..][..span.len as usize];
///     println!("{} bytes to hash", entry.len());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Leaves {
    bytes: Vec<u8>,
    frames: Vec<Leaf>,
    hashes: Vec<(usize, Digest)>,
}

/// What is verified of frames, beside their serial numbers.
#[derive(Clone, Copy)]
enum Check {
    /// All.
    Checksums,
    /// Nothing: whoever hashes them notices.
    ByWhoHashes,
}

/// A frame among [`Leaves`].
#[derive(Clone, Copy, Debug)]
struct Leaf {
    at: u64,
    /// Its hashed bytes; none of what is not kept.
    span: EntrySpan,
}

impl Leaves {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The bytes that they lie in.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the hashed bytes of each entry lie; nothing for one whose hash is known.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = EntrySpan> {
        self.frames.iter().map(|leaf| leaf.span)
    }

    /// Those whose hashes are known, by number: only a stub is kept of them, or somebody [said](Self::push_hash) so.
    pub fn hashes(&self) -> &[(usize, Digest)] {
        &self.hashes
    }

    /// Adds a leaf whose hash is known.
    pub fn push_hash(&mut self, hash: Digest) {
        self.push(0, Err(hash));
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.truncate(0, 0);
    }

    /// Forgets those from the number `len` on.
    fn truncate(&mut self, len: usize, bytes: usize) {
        self.frames.truncate(len);
        self.bytes.truncate(bytes);
        self.hashes.retain(|(number, _)| *number < len);
    }

    fn push(&mut self, at: u64, frame: Result<EntrySpan, Digest>) {
        let span = frame.unwrap_or_else(|hash| {
            self.hashes.push((self.frames.len(), hash));
            EntrySpan { offset: 0, len: 0 }
        });
        self.frames.push(Leaf { at, span });
    }

    /// Each with its position, as slices of one allocation; `first` is the serial number of the first.
    fn into_frames(
        self,
        first: SerialNumber,
    ) -> impl Iterator<Item = Result<(LogPosition, StoredFrame), Damage>> {
        let (bytes, mut hashes) = (Bytes::from(self.bytes), self.hashes.into_iter().peekable());
        self.frames.into_iter().enumerate().map(move |(number, Leaf { at, span })| {
            let frame = match hashes.next_if(|(known, _)| *known == number) {
                Some((_, hash)) => {
                    StoredFrame::Stub(Stub { serial_number: first.plus(number as u64), hash })
                }
                None => {
                    let start = span.offset as usize;
                    let entry = bytes.slice(start..start + span.len as usize);
                    StoredFrame::Entry(StoredEntry::checked(entry)?)
                }
            };
            Ok((LogPosition(at), frame))
        })
    }
}

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
        let view = LogView::from(self);
        let group =
            twig.group_of(leaf).ok_or(LogError::Malformed("a leaf that a twig does not have"))?;
        let mut leaves = Leaves::default();
        view.append_group(&group, Check::Checksums, &mut leaves)?;
        let first = twig.twig.first().plus(group.first_leaf() as u64);
        let frames = leaves.into_frames(first).collect::<Result<_, Damage>>();
        frames.map_err(|what| self.damaged(group.start.0, what))
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
    /// Adds the 16 leaves of a group of a finished twig to `leaves`, in order, their serial numbers verified, for
    /// whoever hashes them. **Their checksums are not looked at**: the hashes must come to the group's
    /// [node](TwigGroup::node), and if they do not, [`check_leaves`](Self::check_leaves) says why. On an error nothing is
    /// added.
    ///
    /// # Errors
    /// As [`EntryLog::read`], but for [`LogError::NotKept`]; [`LogError::Pruned`] if any of them was pruned.
    pub fn read_leaves(&self, group: &TwigGroup, leaves: &mut Leaves) -> Result<(), LogError> {
        let (frames, bytes) = (leaves.frames.len(), leaves.bytes.len());
        let read = self.append_group(group, Check::ByWhoHashes, leaves).or_else(|_| {
            // What is wrong, if anything is.
            leaves.truncate(frames, bytes);
            self.append_group(group, Check::Checksums, leaves)
        });
        if read.is_err() {
            leaves.truncate(frames, bytes);
        }
        read
    }

    /// Reads the 16 leaves of a group of a finished twig, and verifies their checksums and serial numbers.
    ///
    /// # Errors
    /// As [`read_leaves`](Self::read_leaves).
    pub fn check_leaves(&self, group: &TwigGroup) -> Result<(), LogError> {
        self.append_group(group, Check::Checksums, &mut Leaves::default())
    }

    fn append_group(
        &self,
        group: &TwigGroup,
        check: Check,
        leaves: &mut Leaves,
    ) -> Result<(), LogError> {
        let first = group.first_leaf();
        let range = first..=first + GROUP_LEAVES - 1;
        let places = (group.start, &group.breaks[..], group.end);
        self.append_leaves(group.twig, places, range, check, leaves)
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
        let mut leaves = Leaves::default();
        let places = (start, &[][..], None);
        self.append_leaves(twig, places, first..=leaf, Check::Checksums, &mut leaves)?;
        match leaves.into_frames(twig.first().plus(first as u64)).last() {
            Some(Ok((_, StoredFrame::Entry(entry)))) => Ok(entry),
            Some(Ok((at, StoredFrame::Stub(stub)))) => Err(LogError::NotKept { at, stub }),
            Some(Err(what)) => Err(self.log.damaged(start.0, what)),
            None => Err(LogError::Malformed("a leaf that a twig does not have")),
        }
    }

    /// Adds some leaves of a twig, the first of which is at `start`; of `breaks` those count that are among them. The
    /// last one ends at `end`, if that is known.
    fn append_leaves(
        &self,
        twig: TwigId,
        (start, breaks, end): (LogPosition, &[(u16, LogPosition)], Option<LogPosition>),
        range: RangeInclusive<usize>,
        check: Check,
        leaves: &mut Leaves,
    ) -> Result<(), LogError> {
        let mut at = start.0;
        let mut breaks = breaks.iter().filter(|(leaf, _)| range.contains(&usize::from(*leaf)));
        let mut next = breaks.next();
        let mut stretch: Option<Stretch> = None;
        for leaf in range.clone() {
            if let Some((_, position)) = next.filter(|(at, _)| usize::from(*at) == leaf) {
                (at, stretch) = (position.0, None);
                next = breaks.next();
            }
            let stretch = match &mut stretch {
                Some(stretch) => stretch,
                None => {
                    let end = end.filter(|_| next.is_none());
                    let len = end.and_then(|end| end.0.checked_sub(at)).unwrap_or(WINDOW);
                    stretch.insert(self.stretch(at, len.min(MOST_AT_ONCE), &mut leaves.bytes)?)
                }
            };
            let len = stretch.frame_at(self.log, at, &mut leaves.bytes)?;
            let offset = stretch.offset(at);
            let damaged = |what| self.log.damaged(at, what);
            let bytes = leaves.bytes.get(offset..).unwrap_or_default();
            let frame = match check {
                Check::Checksums => frame::check(bytes, at).map_err(damaged)?,
                Check::ByWhoHashes => frame::peek(bytes).ok_or_else(|| damaged(Damage::Header))?.0,
            };
            let (expected, found) = (twig.first().plus(leaf as u64).0, frame.serial_number().0);
            if found != expected {
                return Err(damaged(Damage::SerialNumber { expected, found }));
            }
            let frame = match frame {
                FrameRef::Entry(entry) => {
                    let len = entry.hashed_bytes().len();
                    Ok(span(offset, len).ok_or(LogError::Malformed("leaves of more than 4 GiB"))?)
                }
                FrameRef::Stub(stub) => Err(stub.hash),
            };
            leaves.push(at, frame);
            at += len;
        }
        Ok(())
    }

    /// Begins a stretch at `at`, and reads so many bytes of it, if there are so many.
    fn stretch(&self, at: u64, len: u64, bytes: &mut Vec<u8>) -> Result<Stretch, LogError> {
        let log = self.log;
        let first = bytes.len();
        let above = self.record_above(at)?.cloned();
        let in_memory = above.map_or_else(|| log.in_memory(at), |record| Ok(Some(record)))?;
        if let Some(record) = in_memory {
            let (run, offset) = record.run_at(at).ok_or_else(|| log.damaged(at, Damage::Header))?;
            let limit = at + run.len().saturating_sub(offset) as u64;
            let stretch = Stretch { at, first, limit, source: Source::Memory(record) };
            stretch.read_to(log, at.saturating_add(len), bytes)?;
            return Ok(stretch);
        }
        bytes.resize(first.saturating_add(len as usize), 0);
        let buf = bytes.get_mut(first..).unwrap_or_default();
        let (extent, read) = log.read_written(at, buf)?;
        let read = read.len();
        bytes.truncate(first + read);
        Ok(Stretch { at, first, limit: extent.end, source: Source::Disk(extent) })
    }
}

fn span(offset: usize, len: usize) -> Option<EntrySpan> {
    Some(EntrySpan { offset: u32::try_from(offset).ok()?, len: u32::try_from(len).ok()? })
}

/// Frames that lie one after the other, the last bytes of some that were read.
struct Stretch {
    at: u64,
    /// Where its bytes begin among those that were read.
    first: usize,
    /// Where frames end at the latest.
    limit: u64,
    source: Source,
}

enum Source {
    /// A record that covers it.
    Memory(Arc<Record>),
    /// The segment that it lies in.
    Disk(Extent),
}

impl Stretch {
    /// Where the byte at `at` is, or would be, among those that were read.
    fn offset(&self, at: u64) -> usize {
        self.first.saturating_add((at - self.at) as usize)
    }

    /// Sees to it that the frame at `at` was read as a whole, and returns its length. It is not checked, except that it
    /// ends before the limit.
    fn frame_at(&self, log: &EntryLog, at: u64, bytes: &mut Vec<u8>) -> Result<u64, LogError> {
        let mut need = frame::MIN_FRAME_LEN as u64;
        loop {
            let left = self.limit.saturating_sub(at);
            if need > left {
                return Err(log.damaged(at, Damage::Length { need, have: left }));
            }
            let have = bytes.get(self.offset(at)..).unwrap_or_default();
            if (have.len() as u64) < need {
                let before = bytes.len();
                self.read_to(log, at.saturating_add(need.max(WINDOW)), bytes)?;
                if bytes.len() > before {
                    continue;
                }
                return Err(log.damaged(at, Damage::Length { need, have: left }));
            }
            let covered = frame::covered_len(have).map_err(|what| log.damaged(at, what))?;
            let frame_len = frame::frame_len(covered) as u64;
            if frame_len <= have.len() as u64 {
                return Ok(frame_len);
            }
            need = frame_len;
        }
    }

    /// Reads on up to `end`, or as far as it goes.
    fn read_to(&self, log: &EntryLog, end: u64, bytes: &mut Vec<u8>) -> Result<(), LogError> {
        let from = self.at + (bytes.len() - self.first) as u64;
        let end = end.min(self.limit);
        match &self.source {
            Source::Memory(record) => {
                let run = record.run_at(from);
                let (run, offset) = run.ok_or_else(|| log.damaged(from, Damage::Header))?;
                let len = end.saturating_sub(from) as usize;
                let rest = run.get(offset..).unwrap_or_default();
                bytes.extend_from_slice(rest.get(..len).unwrap_or(rest));
                Ok(())
            }
            Source::Disk(extent) => {
                let read = bytes.len();
                bytes.resize(read.saturating_add(end.saturating_sub(from) as usize), 0);
                log.read_disk(*extent, from, bytes.get_mut(read..).unwrap_or_default())
            }
        }
    }
}
