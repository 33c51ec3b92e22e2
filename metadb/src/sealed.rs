//! History rows that have come to rest: files of their own beside the database, for a store that keeps
//! much history.
//!
//! ```text
//!   meta.redb                  the manifest, and the rows of the last heights: at most some 4,200
//!   history-0000000000.rows    heights    0 to 2047, written once, when height 4096 was there
//!   history-0000000001.rows    heights 2048 to 4095
//!
//!   offset  bytes   a file
//!        0      8   magic "HgrwHisF"
//!        8      2   format version, 1
//!       10      4   number of rows, n
//!       14      8   height of the first one
//!       22     16   store id
//!       38      4   CRC32C of everything before
//!       42  8(n+1)  where each row begins in the file, and where the last one ends
//!        .      .   the rows, back to back, each with its own checksum and height
//! ```
//!
//! A row costs its bytes and eight. What has to be written once more after an unclean end, and what is
//! read to find out how large the database ought to be, are the rows in the database: a number that
//! does not grow.
//!
//! Invariants:
//! * A file is complete, synced and has its name for good before a commit takes its rows out of the
//!   database. Until then it means nothing and may be written again.
//! * A file never changes under its name. It answers for heights below the first in the database only.
//! * A file goes after the commit that no longer needs any of its rows.

use crate::MetaError;
use crate::codec::{CRC_LEN, DecodeError, FRAME_HEAD_LEN, InvalidField, Reader, Writer};
use crate::history::{HistoryRow, MAX_ROW_LEN};
use hedgerow_types::Height;
use hedgerow_vfs::{OpenMode, TEMP_SUFFIX, Vfs, VfsError, VfsErrorKind, VfsFile};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Heights of a file, and the fewest that stay in the database above it.
pub(crate) const ROWS: u64 = 2048;

const MAGIC: [u8; 8] = *b"HgrwHisF";
const VERSION: u16 = 1;
const PREFIX: &str = "history-";
const SUFFIX: &str = ".rows";
const HEADER_LEN: usize = FRAME_HEAD_LEN + 4 + 8 + 16 + CRC_LEN;
/// Bytes written at a time.
const WRITTEN: usize = 1 << 20;

/// Reads a row of the database, as bytes.
pub(crate) type RowOf<'a> = &'a dyn Fn(Height) -> Result<Option<Vec<u8>>, MetaError>;

/// The files of one database.
#[derive(Debug)]
pub(crate) struct Sealed {
    vfs: Arc<dyn Vfs>,
    dir: PathBuf,
    /// Number of the lowest file; `u64::MAX` if there is none. `None`: nobody has looked yet.
    lowest: Mutex<Option<u64>>,
}

impl Sealed {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, dir: &Path) -> Self {
        Self { vfs, dir: dir.to_owned(), lowest: Mutex::new(None) }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{PREFIX}{number:010}{SUFFIX}"))
    }

    /// Numbers of the files that there are, increasing.
    fn numbers(&self) -> Result<Vec<u64>, VfsError> {
        let number = |name: &str| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?.parse().ok();
        let names = self.vfs.read_dir(&self.dir)?;
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| name.to_str().and_then(number)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Writes the rows from `first` to the end of its file, durably; says where they end, or `None` if
    /// one is missing, which is damage and not for us to find.
    pub(crate) fn write(
        &self,
        id: [u8; 16],
        first: Height,
        row_of: RowOf<'_>,
    ) -> Result<Option<Height>, MetaError> {
        let number = first.0 / ROWS;
        let path = self.path(number);
        let temp = {
            let mut name = path.clone().into_os_string();
            name.push(TEMP_SUFFIX);
            PathBuf::from(name)
        };
        let end = Height((number + 1) * ROWS);
        let written = self.prepare(&temp, id, first..end, row_of);
        match written {
            Ok(true) => {
                self.vfs.rename(&temp, &path)?;
                self.vfs.sync_dir(&self.dir)?;
                let mut lowest = self.lowest.lock();
                *lowest = lowest.map(|lowest| lowest.min(number));
                Ok(Some(end))
            }
            incomplete => {
                // A leftover means nothing and is replaced next time.
                let _ = self.vfs.remove_file(&temp);
                incomplete.map(|_| None)
            }
        }
    }

    /// Writes the file under its temporary name; `false` if a row is missing.
    fn prepare(
        &self,
        temp: &Path,
        id: [u8; 16],
        heights: std::ops::Range<Height>,
        row_of: RowOf<'_>,
    ) -> Result<bool, MetaError> {
        match self.vfs.remove_file(temp) {
            Err(error) if error.kind() != VfsErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let file = self.vfs.open(temp, OpenMode::CreateNew)?;
        let rows = heights.end.0 - heights.start.0;
        let mut at = HEADER_LEN as u64 + 8 * (rows + 1);
        let (mut begins, mut buffer, mut buffered_at) = (vec![at], Vec::new(), at);
        for height in (heights.start.0..heights.end.0).map(Height) {
            let Some(row) = row_of(height)? else { return Ok(false) };
            at += row.len() as u64;
            begins.push(at);
            buffer.extend_from_slice(&row);
            if buffer.len() >= WRITTEN {
                file.write_all_at(&buffer, buffered_at)?;
                (buffered_at, buffer) = (at, Vec::new());
            }
        }
        file.write_all_at(&buffer, buffered_at)?;
        let mut head = Writer::new(MAGIC, VERSION, HEADER_LEN);
        head.u32(rows as u32); // at most ROWS
        head.u64(heights.start.0);
        head.raw(&id);
        let mut head = head.finish();
        begins.iter().for_each(|begin| head.extend_from_slice(&begin.to_le_bytes()));
        file.write_all_at(&head, 0)?;
        file.sync()?;
        Ok(true)
    }

    /// The row of a height that is below all in the database; `None` if no file has it.
    pub(crate) fn read(
        &self,
        id: [u8; 16],
        height: Height,
    ) -> Result<Option<HistoryRow>, MetaError> {
        let path = self.path(height.0 / ROWS);
        let damaged = |reason| MetaError::History { path: path.clone(), height, reason };
        let Some(file) = self.open(&path)? else { return Ok(None) };
        let first = read_head(&*file, id, height.0 / ROWS)?.map_err(damaged)?;
        let Some(number) = height.0.checked_sub(first.0) else { return Ok(None) };
        let places = read_at(&*file, HEADER_LEN as u64 + 8 * number, 16)?;
        let place = |at: usize| {
            let bytes = places.get(at..)?.first_chunk::<8>()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let what = "a row's place";
        let (Some(begin), Some(end)) = (place(0), place(8)) else {
            return Err(damaged(DecodeError::Truncated { what, wanted: 16, left: places.len() }));
        };
        let len = end.saturating_sub(begin);
        let rule = "a row is not as long";
        InvalidField::unless(len <= MAX_ROW_LEN as u64, what, end, rule)
            .map_err(|reason| damaged(reason.into()))?;
        let row = read_at(&*file, begin, len as usize)?;
        HistoryRow::decode(&row, height).map(Some).map_err(damaged)
    }

    /// The lowest height from `from` on that a file has.
    pub(crate) fn first(&self, id: [u8; 16], from: Height) -> Result<Option<Height>, MetaError> {
        let Some(number) = self.numbers()?.into_iter().find(|number| *number >= from.0 / ROWS)
        else {
            return Ok(None);
        };
        let path = self.path(number);
        let Some(file) = self.open(&path)? else { return Ok(None) };
        let first = read_head(&*file, id, number)?;
        let first = first.map_err(|reason| MetaError::History { path, height: from, reason })?;
        Ok(Some(first.max(from)))
    }

    /// Removes the files of which no row is at or above `from`. What cannot be removed costs room and
    /// nothing else; the next call tries again.
    pub(crate) fn remove_below(&self, from: Height) {
        let needed = from.0 / ROWS;
        let mut lowest = self.lowest.lock();
        if lowest.is_some_and(|lowest| lowest >= needed) {
            return;
        }
        let Ok(numbers) = self.numbers() else { return };
        let (gone, kept): (Vec<u64>, Vec<u64>) =
            numbers.into_iter().partition(|number| *number < needed);
        if gone.iter().all(|&number| self.vfs.remove_file(&self.path(number)).is_ok()) {
            *lowest = Some(kept.first().copied().unwrap_or(u64::MAX));
        }
    }

    fn open(&self, path: &Path) -> Result<Option<Arc<dyn VfsFile>>, VfsError> {
        match self.vfs.open(path, OpenMode::Read) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == VfsErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// As much of `len` bytes as the file has at `at`.
fn read_at(file: &dyn VfsFile, at: u64, len: usize) -> Result<Vec<u8>, VfsError> {
    let mut bytes = vec![0; len];
    let read = file.read_at_most(&mut bytes, at)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// The height of the first row of the file of this number.
fn read_head(
    file: &dyn VfsFile,
    id: [u8; 16],
    number: u64,
) -> Result<Result<Height, DecodeError>, VfsError> {
    Ok(decode_head(&read_at(file, 0, HEADER_LEN)?, id, number))
}

fn decode_head(bytes: &[u8], id: [u8; 16], number: u64) -> Result<Height, DecodeError> {
    let is = InvalidField::unless;
    let mut fields = Reader::new(bytes, MAGIC, VERSION)?;
    let rows = u64::from(fields.u32("the number of rows")?);
    let first = fields.u64("the first height")?;
    let found: [u8; 16] = fields.array("the store id")?;
    fields.finish()?;
    is(first / ROWS == number, "the first height", first, "the file's name says otherwise")?;
    let rule = "the rows of a file go on to its last height";
    is(rows == ROWS - first % ROWS, "the number of rows", rows, rule)?;
    let begin = u64::from_le_bytes(*found.first_chunk().unwrap_or(&[0; 8]));
    is(found == id, "the store id", begin, "the file is another store's")?;
    Ok(Height(first))
}
