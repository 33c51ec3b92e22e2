//! The files of records: appended to, synced before a flush, cut when they are opened, deleted when they are needless.
//!
//! ```text
//!   connect, disconnect ──► append ──► last segment          sync ──► every segment that has more than was synced
//!                              │ full: the next one                     and the directory, if it has new names
//!                              ▼
//!                            chain: height ──► where its record is      prune ──► segments before the chain's first record
//! ```
//!
//! # Invariants
//!
//! * Behind what was appended last there is nothing, or what a failed write has left, which goes before the next one.
//! * After a sync has failed nothing is appended or synced any more: nobody knows what is on the disk. What is opened and
//!   not called durable by a flush is written once more before anything rests on it.

use super::record::{Step, decode_connect, encode_disconnect};
use super::{Draft, Position, Record, RecordsDefect, RecordsError};
use crate::store::{Bytes, CoinStoreError, Key, Tip};
use hedgerow::disk::{OpenMode, Vfs, VfsError, VfsErrorKind, VfsFile};
use hedgerow_vfs::{TEMP_SUFFIX, renew_file};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"HGCBLOCK";
const VERSION: u32 = 1;
const HEADER_LEN: u64 = 24;
/// Length and checksum.
const FRAME_LEN: u64 = 8;
/// Longest body. A block spends some 100,000 coins at most, each of some 10,000 bytes at most.
const MOST_BODY: u32 = 1 << 30;
const SUFFIX: &str = ".rec";
/// Most bytes that are kept for the next record.
const MOST_MEMORY: usize = 4 << 20;
/// Bytes that are written once more at once.
const REWRITTEN_AT_ONCE: u64 = 1 << 20;

/// The records of the blocks of a store of coins. Any thread may sync; one appends.
#[derive(Debug)]
pub(crate) struct Records {
    disk: Arc<dyn Vfs>,
    dir: PathBuf,
    /// A segment that has so many gets no more records.
    segment_bytes: u64,
    inner: Mutex<Inner>,
    /// Held while files are synced.
    syncing: Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    segments: VecDeque<Segment>,
    /// Connected blocks, in order.
    chain: VecDeque<Entry>,
    /// Of the segment that is made next.
    next: u64,
    /// The directory has names that are not synced.
    names: bool,
    /// The last segment may have bytes behind its last record.
    torn: bool,
    /// A sync has failed.
    failed: Option<VfsError>,
    /// For the next record.
    memory: Vec<u8>,
    /// The block that the chain's first one follows or, if it has none, that the next one must follow; not known before the
    /// first record.
    base: Option<Option<Tip>>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    file: Arc<dyn VfsFile>,
    /// Bytes up to the end of its last record.
    len: u64,
    synced: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tip: Tip,
    at: Position,
}

/// What a segment holds.
struct Scanned {
    /// Up to the end of its last whole record.
    len: u64,
    /// What is wrong with what follows, if anything does.
    defect: Option<RecordsDefect>,
}

impl Records {
    /// Opens the records in a directory, or begins them, below a store that stands at the block `at` and
    /// whose last flush was told that records are durable up to `durable`.
    pub(crate) fn open(
        disk: Arc<dyn Vfs>,
        dir: &Path,
        segment_bytes: u64,
        durable: Position,
        at: Option<Tip>,
    ) -> Result<Self, CoinStoreError> {
        if !disk.exists(dir)? {
            disk.create_dir_all(dir)?;
            if let Some(parent) = dir.parent() {
                disk.sync_dir(parent)?;
            }
        }
        let inner = Inner {
            segments: VecDeque::new(),
            chain: VecDeque::new(),
            next: durable.segment.saturating_add(1),
            names: false,
            torn: false,
            failed: None,
            memory: Vec::new(),
            base: None,
        };
        let (dir, inner, syncing) = (dir.to_owned(), Mutex::new(inner), Mutex::new(()));
        let records = Self { disk, dir, segment_bytes, inner, syncing };
        records.scan(durable)?;
        records.check_tip(at)?;
        Ok(records)
    }

    /// Removes all records.
    pub(crate) fn remove(disk: &dyn Vfs, dir: &Path) -> Result<(), CoinStoreError> {
        if disk.exists(dir)? {
            disk.remove_dir_all(dir)?;
            if let Some(parent) = dir.parent() {
                disk.sync_dir(parent)?;
            }
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:08}{SUFFIX}"))
    }

    fn damage(&self, at: Position, what: RecordsDefect) -> CoinStoreError {
        RecordsError { path: self.path(at.segment), at, what }.into()
    }

    /// Reads all segments, and cuts what was never durable.
    fn scan(&self, durable: Position) -> Result<(), CoinStoreError> {
        let mut inner = self.inner.lock();
        let mut numbers: Vec<u64> = Vec::new();
        for name in self.disk.read_dir(&self.dir)? {
            if name.to_str().is_some_and(|name| name.ends_with(TEMP_SUFFIX)) {
                self.disk.remove_file(&self.dir.join(&name))?;
            }
            let number: Option<u64> =
                name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        let mut end = None;
        let mut numbers = numbers.into_iter().peekable();
        while let Some(number) = numbers.next() {
            let file = self.disk.open(&self.path(number), OpenMode::ReadWrite)?;
            let scanned = self.scan_segment(&mut inner, number, &*file)?;
            let at = Position { segment: number, offset: scanned.len };
            end = Some(at);
            let last = numbers.peek().is_none();
            // Or all records of one are gone that was full.
            let gap = numbers
                .peek()
                .is_some_and(|next| *next != number.saturating_add(1) || scanned.len <= HEADER_LEN);
            let defect = scanned.defect.or(gap.then_some(RecordsDefect::Short));
            let whole = scanned.len >= HEADER_LEN;
            if let Some(defect) = defect {
                if at < durable {
                    return Err(self.damage(at, defect));
                }
                // Never durable, and nothing behind it can be used. Later files first: what is left is always a beginning.
                let mut later: Vec<u64> = numbers.by_ref().collect();
                if !whole {
                    later.insert(0, number);
                }
                for needless in later.into_iter().rev() {
                    self.disk.remove_file(&self.path(needless))?;
                }
                if whole {
                    file.set_len(scanned.len)?;
                    file.sync()?;
                }
                self.disk.sync_dir(&self.dir)?;
            }
            if whole {
                let file = self.believed(file, at, durable)?;
                let (len, synced) = (scanned.len, scanned.len);
                inner.segments.push_back(Segment { number, file, len, synced });
                // The number of one that was removed comes again: segments have no gaps.
                inner.next = inner.next.max(number.saturating_add(1));
            }
            if last {
                break;
            }
        }
        match end {
            Some(end) if end < durable => Err(self.damage(end, RecordsDefect::Short)),
            _ => Ok(()),
        }
    }

    /// A segment of which everything up to its end `at` is on the medium: what lies behind what a flush has called
    /// durable may be left by a sync that failed, in the system's memory alone, and no other sync would write it. It is
    /// written once more.
    fn believed(
        &self,
        file: Arc<dyn VfsFile>,
        at: Position,
        durable: Position,
    ) -> Result<Arc<dyn VfsFile>, CoinStoreError> {
        if at <= durable {
            return Ok(file);
        }
        if at.segment != durable.segment {
            // Its name and its header too.
            let path = self.path(at.segment);
            drop(file);
            renew_file(&*self.disk, &path, at.offset)?;
            return Ok(self.disk.open(&path, OpenMode::ReadWrite)?);
        }
        let mut bytes = Vec::new();
        let mut offset = durable.offset;
        while offset < at.offset {
            let len = (at.offset - offset).min(REWRITTEN_AT_ONCE);
            bytes.resize(len as usize, 0);
            file.read_exact_at(&mut bytes, offset)?;
            file.write_all_at(&bytes, offset)?;
            offset += len;
        }
        file.sync()?;
        Ok(file)
    }

    /// Reads the records of a segment into the chain.
    fn scan_segment(
        &self,
        inner: &mut Inner,
        number: u64,
        file: &dyn VfsFile,
    ) -> Result<Scanned, CoinStoreError> {
        let end = file.len()?;
        let header = header_of(number);
        let mut found = [0; HEADER_LEN as usize];
        if end < HEADER_LEN || {
            file.read_exact_at(&mut found, 0)?;
            found != header
        } {
            return Ok(Scanned { len: 0, defect: Some(RecordsDefect::Header) });
        }
        let mut offset = HEADER_LEN;
        let mut body = Vec::new();
        while offset < end {
            let at = Position { segment: number, offset };
            let step = match read_body(file, at, end, &mut body)? {
                Ok(()) => Step::of(&body),
                Err(defect) => return Ok(Scanned { len: offset, defect: Some(defect) }),
            };
            let Some(step) = step else {
                // Its checksum is right: nobody but us has written it.
                return Err(self.damage(at, RecordsDefect::Body));
            };
            let last = inner.chain.back().map(|last| last.tip);
            let follows = match step {
                Step::Connect { tip, parent } => match last {
                    Some(last) => {
                        parent == Some(last) && tip.height == last.height.saturating_add(1)
                    }
                    None => inner.base.is_none_or(|base| parent == base),
                },
                // Without any, of a block whose record was pruned.
                Step::Disconnect(tip) => last.is_none_or(|last| last == tip),
            };
            if !follows {
                // Power loss may take the end of one file, record by record, and leave the next one: then this was never
                // durable.
                let (Step::Connect { tip, .. } | Step::Disconnect(tip)) = step;
                let defect = Some(RecordsDefect::Chain(tip.height));
                return Ok(Scanned { len: offset, defect });
            }
            match step {
                Step::Connect { tip, parent } => {
                    if inner.chain.is_empty() {
                        inner.base = Some(parent);
                    }
                    inner.chain.push_back(Entry { tip, at });
                }
                Step::Disconnect(_) => {
                    if inner.chain.pop_back().is_none() {
                        inner.base = None;
                    }
                }
            }
            offset += FRAME_LEN + body.len() as u64;
        }
        Ok(Scanned { len: offset, defect: None })
    }

    /// Whether a store that stands at this block can go on with these records.
    fn check_tip(&self, at: Option<Tip>) -> Result<(), CoinStoreError> {
        let inner = self.inner.lock();
        let Some(first) = inner.chain.front() else { return Ok(()) };
        let known = inner.chain.iter().any(|entry| Some(entry.tip) == at);
        if known || self.read_entry(&inner, first)?.parent == at {
            return Ok(());
        }
        let height = at.map_or(0, |tip| tip.height);
        Err(self.damage(first.at, RecordsDefect::Tip(height)))
    }

    /// Appends that a block was connected to its parent, and spent these coins with this amount; whatever else the chain has
    /// above the parent is disconnected.
    pub(crate) fn connect<'a>(
        &self,
        draft: &Draft,
        spent: impl ExactSizeIterator<Item = (&'a Key, &'a Bytes)>,
        spent_amount: u64,
    ) -> Result<(), CoinStoreError> {
        let parent = draft.parent();
        let mut inner = self.inner.lock();
        while let Some(last) = inner.chain.back().filter(|last| Some(last.tip) != parent).copied() {
            // What was taken back, and could not be said so then.
            self.append_disconnect(&mut inner, &last.tip)?;
        }
        let mut frame = std::mem::take(&mut inner.memory);
        frame.clear();
        frame.resize(FRAME_LEN as usize, 0);
        draft.encode(spent, spent_amount, &mut frame);
        let at = self.append(&mut inner, &mut frame)?;
        if frame.capacity() <= MOST_MEMORY {
            inner.memory = frame;
        }
        inner.chain.push_back(Entry { tip: draft.tip(), at });
        Ok(())
    }

    /// Appends that the last block was disconnected.
    pub(crate) fn disconnect(&self, height: u32) -> Result<(), CoinStoreError> {
        let mut inner = self.inner.lock();
        match inner.chain.back().map(|last| last.tip) {
            Some(tip) if tip.height == height => self.append_disconnect(&mut inner, &tip),
            _ => Err(CoinStoreError::NoRecord { height }),
        }
    }

    fn append_disconnect(&self, inner: &mut Inner, tip: &Tip) -> Result<(), CoinStoreError> {
        let mut frame = vec![0; FRAME_LEN as usize];
        encode_disconnect(tip, &mut frame);
        self.append(inner, &mut frame)?;
        inner.chain.pop_back();
        Ok(())
    }

    /// Appends a record: the body behind room for length and checksum. Returns where it is.
    fn append(&self, inner: &mut Inner, frame: &mut [u8]) -> Result<Position, CoinStoreError> {
        if let Some(failed) = &inner.failed {
            return Err(failed.clone().into());
        }
        if inner.torn {
            if let Some(last) = inner.segments.back() {
                last.file.set_len(last.len)?;
            }
            inner.torn = false;
        }
        if inner.segments.back().is_none_or(|last| last.len >= self.segment_bytes) {
            self.begin_segment(inner)?;
        }
        let Some(last) = inner.segments.back_mut() else {
            return Err(CoinStoreError::NoRecord { height: 0 });
        };
        let at = Position { segment: last.number, offset: last.len };
        let body = frame.get(FRAME_LEN as usize..).unwrap_or_default();
        let len = match u32::try_from(body.len()) {
            Ok(len) if len <= MOST_BODY => len,
            _ => {
                let (needed, limit) = (body.len() as u64, u64::from(MOST_BODY));
                return Err(CoinStoreError::BlockTooLarge { needed, limit });
            }
        };
        let checksum = checksum_of(at, body);
        if let Some((first, _)) = frame.split_first_chunk_mut::<4>() {
            *first = len.to_le_bytes();
        }
        if let Some(second) = frame.get_mut(4..8) {
            second.copy_from_slice(&checksum.to_le_bytes());
        }
        if let Err(error) = last.file.write_all_at(frame, last.len) {
            inner.torn = true;
            return Err(error.into());
        }
        last.len += frame.len() as u64;
        Ok(at)
    }

    fn begin_segment(&self, inner: &mut Inner) -> Result<(), CoinStoreError> {
        let number = inner.next;
        let path = self.path(number);
        let file = match self.disk.open(&path, OpenMode::CreateNew) {
            // Left by an attempt that failed: there is nothing in it that counts.
            Err(error) if error.kind() == VfsErrorKind::AlreadyExists => {
                self.disk.remove_file(&path)?;
                self.disk.open(&path, OpenMode::CreateNew)?
            }
            other => other?,
        };
        inner.names = true;
        file.write_all_at(&header_of(number), 0)?;
        inner.next = number.saturating_add(1);
        inner.segments.push_back(Segment { number, file, len: HEADER_LEN, synced: 0 });
        Ok(())
    }

    /// Makes everything that was appended durable.
    pub(crate) fn sync(&self) -> Result<(), CoinStoreError> {
        let _alone = self.syncing.lock();
        let (files, names) = {
            let inner = self.inner.lock();
            if let Some(failed) = &inner.failed {
                return Err(failed.clone().into());
            }
            let unsynced = |segment: &&Segment| segment.synced < segment.len;
            let file = |segment: &Segment| (segment.number, Arc::clone(&segment.file), segment.len);
            let files: Vec<_> = inner.segments.iter().filter(unsynced).map(file).collect();
            (files, inner.names)
        };
        let synced = files
            .iter()
            .try_for_each(|(_, file, _)| file.sync())
            .and_then(|()| if names { self.disk.sync_dir(&self.dir) } else { Ok(()) });
        let mut inner = self.inner.lock();
        if let Err(error) = synced {
            inner.failed = Some(error.clone());
            return Err(error.into());
        }
        for (number, _, len) in files {
            if let Some(segment) = inner.segments.iter_mut().find(|one| one.number == number) {
                segment.synced = len;
            }
        }
        let made = inner.segments.iter().any(|segment| segment.synced == 0);
        inner.names = inner.names && made;
        Ok(())
    }

    /// The end of what was appended.
    pub(crate) fn end(&self) -> Position {
        let inner = self.inner.lock();
        inner
            .segments
            .back()
            .map_or(Position { segment: inner.next.saturating_sub(1), offset: 0 }, |last| {
                Position { segment: last.number, offset: last.len }
            })
    }

    /// The height of the chain's first record.
    pub(crate) fn first(&self) -> Option<u32> {
        self.inner.lock().chain.front().map(|entry| entry.tip.height)
    }

    /// The height of the chain's last record.
    pub(crate) fn last(&self) -> Option<u32> {
        self.inner.lock().chain.back().map(|entry| entry.tip.height)
    }

    /// Whether there is a record of each block above a height up to another block.
    pub(crate) fn has_all(&self, above: Option<u32>, up_to: Option<Tip>) -> bool {
        let Some(up_to) = up_to else { return true };
        if above == Some(up_to.height) {
            return true;
        }
        let inner = self.inner.lock();
        let first = inner.chain.front().map(|entry| entry.tip.height);
        let begins = match above {
            Some(above) => first.is_some_and(|first| first <= above.saturating_add(1)),
            // The first block that there can be.
            None => first.is_some_and(|first| first <= 1),
        };
        begins && inner.chain.iter().any(|entry| entry.tip == up_to)
    }

    /// The record of a connected block.
    pub(crate) fn read(&self, height: u32) -> Result<Record, CoinStoreError> {
        let inner = self.inner.lock();
        let first = inner.chain.front().map_or(0, |entry| entry.tip.height);
        let place = height.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| inner.chain.get(place)) {
            Some(entry) => self.read_entry(&inner, entry),
            None => Err(CoinStoreError::NoRecord { height }),
        }
    }

    fn read_entry(&self, inner: &Inner, entry: &Entry) -> Result<Record, CoinStoreError> {
        let of = |segment: &&Segment| segment.number == entry.at.segment;
        let Some(segment) = inner.segments.iter().find(of) else {
            return Err(self.damage(entry.at, RecordsDefect::Short));
        };
        let mut body = Vec::new();
        read_body(&*segment.file, entry.at, segment.len, &mut body)?
            .map_err(|defect| self.damage(entry.at, defect))?;
        decode_connect(&body)
            .filter(|record| record.tip == entry.tip)
            .ok_or_else(|| self.damage(entry.at, RecordsDefect::Body))
    }

    /// Forgets blocks up to a height, and deletes the segments that have no others: one after the other, durably, so that
    /// power loss brings back none but the last one deleted. What cannot be deleted now is deleted later.
    pub(crate) fn prune(&self, height: u32) {
        let mut inner = self.inner.lock();
        while inner.chain.front().is_some_and(|entry| entry.tip.height <= height) {
            inner.chain.pop_front();
        }
        let Some(needed) = inner.chain.front().map(|entry| entry.at.segment) else { return };
        while let Some(first) = inner.segments.front().filter(|first| first.number < needed)
            && inner.failed.is_none()
        {
            match self.disk.remove_file(&self.path(first.number)) {
                Ok(()) => {}
                // An attempt that failed removed it all the same.
                Err(error) if error.kind() == VfsErrorKind::NotFound => {}
                Err(_) => return,
            }
            if let Err(error) = self.disk.sync_dir(&self.dir) {
                inner.failed = Some(error);
                return;
            }
            inner.segments.pop_front();
        }
    }

    /// Records of connected blocks, and bytes of all.
    pub(crate) fn figures(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        let bytes = inner.segments.iter().map(|segment| segment.len).sum();
        (inner.chain.len() as u64, bytes)
    }
}

fn header_of(number: u64) -> [u8; HEADER_LEN as usize] {
    let mut header = [0; HEADER_LEN as usize];
    let fields = MAGIC.into_iter().chain(VERSION.to_le_bytes()).chain(number.to_le_bytes());
    for (into, byte) in header.iter_mut().zip(fields) {
        *into = byte;
    }
    let (fields, checksum) = header.split_at_mut(HEADER_LEN as usize - 4);
    checksum.copy_from_slice(&crc32c::crc32c(fields).to_le_bytes());
    header
}

fn checksum_of(at: Position, body: &[u8]) -> u32 {
    let place = crc32c::crc32c(&at.segment.to_le_bytes());
    let place = crc32c::crc32c_append(place, &at.offset.to_le_bytes());
    crc32c::crc32c_append(place, body)
}

/// Reads the body of the record at a place into `body`; the file's records end at `end`.
fn read_body(
    file: &dyn VfsFile,
    at: Position,
    end: u64,
    body: &mut Vec<u8>,
) -> Result<Result<(), RecordsDefect>, CoinStoreError> {
    let left = end.saturating_sub(at.offset);
    if left < FRAME_LEN {
        return Ok(Err(RecordsDefect::Short));
    }
    let mut frame = [0; FRAME_LEN as usize];
    file.read_exact_at(&mut frame, at.offset)?;
    let [a, b, c, d, checksum @ ..] = frame;
    let len = u32::from_le_bytes([a, b, c, d]);
    if len > MOST_BODY || u64::from(len) > left - FRAME_LEN {
        return Ok(Err(RecordsDefect::Short));
    }
    body.clear();
    body.resize(len as usize, 0);
    file.read_exact_at(body, at.offset + FRAME_LEN)?;
    let right = checksum_of(at, body) == u32::from_le_bytes(checksum);
    Ok(if right { Ok(()) } else { Err(RecordsDefect::Checksum) })
}

#[cfg(test)]
mod tests;
