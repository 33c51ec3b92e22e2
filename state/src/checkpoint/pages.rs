//! A file as a stream of bytes in pages, each with its own checksum.
//!
//! ```text
//!   page        0               1                      last
//!   offset      0               65536                              file length
//!               ┌──────────┬───┐┌──────────┬───┐      ┌─────┬───┐
//!               │ 65532    │CRC││ 65532    │CRC│ ...  │     │CRC│
//!               └──────────┴───┘└──────────┴───┘      └─────┴───┘
//!   stream      0 ......... 65531 65532 ......
//! ```
//!
//! The CRC32C of a page covers the file's salt, the number of the page and its bytes: a page of another
//! file, or of another place in this one, is damage.

use super::CheckpointError;
use hedgerow_vfs::VfsFile;
use std::fmt;
use std::sync::Arc;

/// Bytes of a page in the file.
pub(super) const PAGE: usize = 64 << 10;
/// Bytes of its checksum.
const CRC: usize = 4;
/// Bytes of the stream that a page holds.
const HELD: usize = PAGE - CRC;

/// What the checksums of a file are bound to: a store's id and a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Salt(u32);

impl Salt {
    pub(super) fn new(store: [u8; 16], height: u64) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(&store), &height.to_le_bytes()))
    }

    fn checksum(self, page: u64, bytes: &[u8]) -> [u8; CRC] {
        let bound = crc32c::crc32c_append(self.0, &page.to_le_bytes());
        crc32c::crc32c_append(bound, bytes).to_le_bytes()
    }
}

/// Length of a file that holds so many bytes of stream.
pub(super) const fn file_len(stream: u64) -> u64 {
    stream + stream.div_ceil(HELD as u64) * CRC as u64
}

/// Writes a stream.
pub(super) struct PageWriter<'a> {
    file: &'a dyn VfsFile,
    salt: Salt,
    page: u64,
    bytes: Vec<u8>,
}

impl<'a> PageWriter<'a> {
    pub(super) fn new(file: &'a dyn VfsFile, salt: Salt) -> Self {
        Self { file, salt, page: 0, bytes: Vec::with_capacity(PAGE) }
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), CheckpointError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(HELD - self.bytes.len()));
            self.bytes.extend_from_slice(now);
            if self.bytes.len() == HELD {
                self.end_page()?;
            }
            bytes = later;
        }
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), CheckpointError> {
        let crc = self.salt.checksum(self.page, &self.bytes);
        self.bytes.extend_from_slice(&crc);
        self.file.write_all_at(&self.bytes, self.page * PAGE as u64)?;
        self.bytes.clear();
        self.page += 1;
        Ok(())
    }

    /// Writes what is left, and syncs the file.
    pub(super) fn finish(mut self) -> Result<(), CheckpointError> {
        if !self.bytes.is_empty() {
            self.end_page()?;
        }
        Ok(self.file.sync()?)
    }
}

/// Who is told how many bytes were read.
#[derive(Clone)]
pub(super) struct Follower(pub(super) Arc<dyn Fn(u64) + Send + Sync>);

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").finish_non_exhaustive()
    }
}

/// Reads a part of a stream, from its beginning to its end.
#[derive(Debug)]
pub(super) struct PageReader {
    file: Arc<dyn VfsFile>,
    salt: Salt,
    file_len: u64,
    /// Where the next byte lies in the stream, and where the part ends.
    at: u64,
    end: u64,
    /// The page that holds it, once it was read.
    page: Vec<u8>,
    number: Option<u64>,
    /// Who is told of each page that is read through, and of the rest at the end.
    follower: Option<Follower>,
    /// Where the next byte lay when that was told last.
    told: u64,
}

impl PageReader {
    /// The bytes of the stream from `at` to before `end`, of a file of `file_len` bytes.
    pub(super) fn new(
        file: &Arc<dyn VfsFile>,
        salt: Salt,
        file_len: u64,
        at: u64,
        end: u64,
    ) -> Self {
        let file = Arc::clone(file);
        let (page, number, follower) = (Vec::new(), None, None);
        Self { file, salt, file_len, at, end, page, number, follower, told: at }
    }

    /// The same, and somebody is told.
    pub(super) fn followed_by(self, follower: Option<Follower>) -> Self {
        Self { follower, ..self }
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.end - self.at
    }

    /// The next bytes, at least one if any are left, as many as lie in one page and at most `most`.
    pub(super) fn some(&mut self, most: usize) -> Result<&[u8], CheckpointError> {
        let (number, from) = (self.at / HELD as u64, (self.at % HELD as u64) as usize);
        if self.number != Some(number) {
            self.load(number)?;
        }
        let left = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let held = self.page.len().saturating_sub(CRC);
        let to = held.min(from.saturating_add(left.min(most)));
        let Some(bytes) = self.page.get(from..to).filter(|bytes| !bytes.is_empty() || left == 0)
        else {
            return Err(CheckpointError::Damaged("it ends too early"));
        };
        self.at += bytes.len() as u64;
        if let Some(Follower(tell)) = &self.follower
            && self.at > self.told
            && (to == held || self.at == self.end)
        {
            tell(self.at - self.told);
            self.told = self.at;
        }
        Ok(bytes)
    }

    fn load(&mut self, number: u64) -> Result<(), CheckpointError> {
        self.number = None;
        let offset = number * PAGE as u64;
        let len = self.file_len.saturating_sub(offset).min(PAGE as u64) as usize;
        if len <= CRC {
            return Err(CheckpointError::Damaged("it ends too early"));
        }
        self.page.resize(len, 0);
        self.file.read_exact_at(&mut self.page, offset)?;
        let (bytes, crc) = self.page.split_at(len - CRC);
        if self.salt.checksum(number, bytes) != crc {
            return Err(CheckpointError::Damaged("a page has another checksum"));
        }
        self.number = Some(number);
        Ok(())
    }

    /// Fills `out`.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<(), CheckpointError> {
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            if self.left() == 0 {
                return Err(CheckpointError::Damaged("a part of it ends too early"));
            }
            let bytes = self.some(rest.len())?;
            let len = bytes.len();
            rest[..len].copy_from_slice(bytes);
            filled += len;
        }
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CheckpointError> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, CheckpointError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, CheckpointError> {
        self.array().map(u16::from_le_bytes)
    }
}
