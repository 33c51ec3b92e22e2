//! A file of a [`Vfs`](hedgerow_vfs::Vfs) as redb wants it, and one that it can believe.
//!
//! ```text
//!   opening    header as read, but for one bit ──► redb takes it for a database that was not closed, and
//!                                                  verifies every page before it follows its numbers
//!   read       bytes at an offset ─── differ from what was read or written there ──► an error
//!   write      notes the checksum of what it writes
//! ```
//!
//! redb has checksums of its pages, but looks at them only in a repair. A page number that was damaged
//! under an open database, or in one that was closed in peace, leads it anywhere: to make room for a page
//! of 4 GiB, or to answer that a row is not there.

use ::redb::StorageBackend;
use hedgerow_vfs::{VfsError, VfsFile};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of redb's pages: its default, which is kept in the file.
pub(super) const PAGE_BYTES: u64 = 4096;

/// Offset in the file of the byte of redb's header that says how the last commit was made.
const HOW: u64 = 9;
/// The bit there that says that pages of the last commit need no verifying. Set when a database is closed.
const IN_PEACE: u8 = 4;

/// See the [module documentation](self). The lock methods stay unsupported: the store's directory is
/// locked by whoever opens it.
#[derive(Debug)]
pub(super) struct VfsBackend {
    file: Arc<dyn VfsFile>,
    opening: Arc<AtomicBool>,
    seen: Mutex<Seen>,
}

/// Whoever opens the database says when it is open.
pub(super) struct Opening(Arc<AtomicBool>);

impl Opening {
    pub(super) fn over(self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Length and checksum of what was read or written, by offset. No two overlap. A page of 4,096 bytes
/// costs some 30.
#[derive(Debug, Default)]
struct Seen(BTreeMap<u64, (u64, u32)>);

impl Seen {
    /// Forgets what overlaps with these bytes of the file.
    fn forget(&mut self, range: Range<u64>) {
        let before = self.0.range(..range.start).next_back();
        let reaches = before.filter(|(at, (len, _))| *at + len > range.start);
        if let Some(at) = reaches.map(|(at, _)| *at) {
            self.0.remove(&at);
        }
        while let Some((&at, _)) = self.0.range(range.clone()).next() {
            self.0.remove(&at);
        }
    }

    fn note(&mut self, offset: u64, bytes: &[u8]) {
        let len = bytes.len() as u64;
        self.forget(offset..offset.saturating_add(len));
        self.0.insert(offset, (len, crc32c::crc32c(bytes)));
    }

    /// Whether `bytes` can be what lies at `offset`.
    fn agrees(&self, offset: u64, bytes: &[u8]) -> bool {
        match self.0.get(&offset) {
            Some(&(len, crc)) if len == bytes.len() as u64 => crc == crc32c::crc32c(bytes),
            _ => true,
        }
    }
}

impl VfsBackend {
    pub(super) fn new(file: Arc<dyn VfsFile>) -> (Self, Opening) {
        let opening = Arc::new(AtomicBool::new(true));
        let backend = Self { file, opening: Arc::clone(&opening), seen: Mutex::default() };
        (backend, Opening(opening))
    }
}

/// Keeps the text, which names the file, and the kind, which redb's callers may look at.
fn io_error(error: VfsError) -> io::Error {
    io::Error::new(error.io_error().kind(), error)
}

impl StorageBackend for VfsBackend {
    /// In whole pages. redb changes the length by whole pages and refuses any other, but a crash can
    /// leave one in between. What was committed lies below both lengths, so below the border too.
    fn len(&self) -> io::Result<u64> {
        let len = self.file.len().map_err(io_error)?;
        Ok(len - len % PAGE_BYTES)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        // Held meanwhile: nobody writes there between.
        let mut seen = self.seen.lock();
        self.file.read_exact_at(out, offset).map_err(io_error)?;
        if !seen.agrees(offset, out) {
            let text = format!("{} bytes at offset {offset} are not what they were", out.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        seen.note(offset, out);
        if self.opening.load(Ordering::Relaxed)
            && let Some(how) = HOW.checked_sub(offset).and_then(|at| out.get_mut(at as usize))
        {
            *how &= !IN_PEACE;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.seen.lock().forget(len..u64::MAX);
        self.file.set_len(len).map_err(io_error)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync().map_err(io_error)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut seen = self.seen.lock();
        seen.forget(offset..offset.saturating_add(data.len() as u64));
        self.file.write_all_at(data, offset).map_err(io_error)?;
        seen.note(offset, data);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use hedgerow_vfs::{MemDisk, OpenMode, Vfs};
    use std::path::Path;

    #[test]
    fn what_was_read_or_written_must_stay() {
        let disk = MemDisk::new();
        let file = disk.open(Path::new("/file"), OpenMode::CreateNew).unwrap();
        file.write_all_at(&[7; 300], 0).unwrap();
        let (backend, opening) = VfsBackend::new(Arc::clone(&file));
        opening.over();
        let read = |offset, len| {
            let mut out = vec![0; len];
            backend.read(offset, &mut out).map(|()| out)
        };
        assert_eq!(read(0, 100).unwrap(), [7; 100]);
        backend.write(100, &[8; 100]).unwrap();
        file.write_all_at(&[9], 50).unwrap();
        file.write_all_at(&[9], 150).unwrap();
        assert_eq!(read(0, 100).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(100, 100).unwrap_err().kind(), io::ErrorKind::InvalidData);
        // What nobody has seen is what it is.
        assert_eq!(read(200, 100).unwrap(), [7; 100]);
        // Whoever writes over it, in part or as a whole, says what it is.
        backend.write(90, &[1; 20]).unwrap();
        assert_eq!(read(0, 90).unwrap()[50], 9);
        assert_eq!(read(110, 90).unwrap()[40], 9);
        backend.set_len(200).unwrap();
        backend.set_len(300).unwrap();
        assert_eq!(read(200, 100).unwrap(), [0; 100]);
        assert!(read(250, 100).is_err(), "beyond the end");
    }

    #[test]
    fn what_is_noted_never_overlaps() {
        let mut seen = Seen::default();
        for number in 0..10_000_u64 {
            let (offset, len) = (number * 7919 % 500, 1 + number * 104_729 % 60);
            seen.note(offset, &vec![number as u8; len as usize]);
            if number % 40 == 0 {
                seen.forget(offset / 2..offset);
            }
            let mut end = 0;
            for (&at, &(len, _)) in &seen.0 {
                assert!(at >= end, "{number}");
                end = at + len;
            }
        }
    }
}
