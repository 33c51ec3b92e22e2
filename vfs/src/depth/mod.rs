//! Many reads at once.
//!
//! ```text
//!   read_batch(&mut [ReadAt])
//!      │
//!      ├── every disk, by default:  one read after the other
//!      │
//!      └── the real disk (`real`):  one after the other, a clock beside it ── slow, or slow lately
//!                                                                                  │
//!               all of the rest at once, by the best that the system has: ◄────────┘
//!                 ring     a queue of reads in the kernel, io_uring     Linux, if it lets us
//!                 ahead    the system is told what will be read         Linux, FreeBSD
//!                 threads  a few of them read                           anywhere
//! ```
//!
//! What the system has in memory is read one by one: asking for it in a batch costs the same, since the time
//! goes into finding the page and copying from it. What comes from a device takes a hundred times as long,
//! and a device serves many reads in the time of one. Which of the two it is, time tells.
//!
//! # Invariants
//!
//! * Every read has its own result, the one that it would have had alone: what did not go well by a ring is
//!   read once more by itself, and that counts.
//! * Nothing is in flight when a batch returns.
//! * Nobody waits for another batch: rings and threads are bounded, and whoever finds none left does without.
//!
//! **Invariant (absence):** nothing here knows what is read. Unsafe code is in `ring` alone.

#[cfg_attr(
    not(any(target_os = "linux", target_os = "android", target_os = "freebsd")),
    path = "no_ahead.rs"
)]
pub(crate) mod ahead;
pub(crate) mod real;
#[cfg_attr(
    not(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
    )),
    path = "no_ring.rs"
)]
#[allow(unsafe_code, reason = "the kernel is given an address to write to")]
mod ring;
mod rings;
mod threads;

use crate::{Vfs, VfsError, VfsFile, VfsOp};
use std::{fmt, io};

/// One read of a batch: which bytes of which file, where they go, and how it went.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use hedgerow_vfs::{OpenMode, ReadAt, RealDisk, Vfs};
/// let file = RealDisk.open(&dir.path().join("file"), OpenMode::CreateNew)?;
/// file.write_all_at(b"of many places", 0)?;
/// let (mut one, mut other) = ([0; 2], [0; 6]);
/// let mut reads = [ReadAt::new(&*file, 0, &mut one), ReadAt::new(&*file, 8, &mut other)];
/// RealDisk.read_batch(&mut reads);
/// reads.into_iter().try_for_each(ReadAt::into_result)?;
/// assert_eq!((&one, &other), (b"of", b"places"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReadAt<'a> {
    file: &'a dyn VfsFile,
    offset: u64,
    buf: &'a mut [u8],
    result: Option<Result<(), VfsError>>,
}

impl<'a> ReadAt<'a> {
    /// A read that fills `buf` from the bytes at `offset` of `file`.
    pub fn new(file: &'a dyn VfsFile, offset: u64, buf: &'a mut [u8]) -> Self {
        Self { file, offset, buf, result: None }
    }

    /// The file.
    pub fn file(&self) -> &'a dyn VfsFile {
        self.file
    }

    /// Offset of the first byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Where the bytes go.
    pub fn buf(&mut self) -> &mut [u8] {
        self.buf
    }

    /// Number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "a read of nothing is a read too")]
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Reads it now, by itself.
    pub fn read_alone(&mut self) {
        self.result = Some(self.file.read_exact_at(self.buf, self.offset));
    }

    /// Says how it went: for a disk that has read it in another way.
    pub fn set_result(&mut self, result: Result<(), VfsError>) {
        self.result = Some(result);
    }

    /// How it went; `None` before it was read.
    pub fn result(&self) -> Option<&Result<(), VfsError>> {
        self.result.as_ref()
    }

    /// How it went. A read that the disk left out is an error.
    ///
    /// # Errors
    /// Those of [`VfsFile::read_exact_at`].
    pub fn into_result(self) -> Result<(), VfsError> {
        self.result.unwrap_or_else(|| {
            let reason = io::Error::other("the disk left this read of a batch out");
            Err(VfsError::new(VfsOp::Read, self.file.path(), Some(self.offset), reason))
        })
    }
}

/// A way of reading many places.
///
/// ```
/// use hedgerow_vfs::{MemDisk, ReadWay, Vfs};
/// assert_eq!(MemDisk::new().many_reads().way, ReadWay::OneByOne);
/// assert_eq!(ReadWay::Ring.to_string(), "ring");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadWay {
    /// One read after the other.
    OneByOne,
    /// By a few threads.
    Threads,
    /// The system is told of all of them, and then they are read one after the other.
    Ahead,
    /// By a queue in the kernel: io_uring.
    Ring,
}

impl ReadWay {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneByOne => "one by one",
            Self::Threads => "threads",
            Self::Ahead => "ahead",
            Self::Ring => "ring",
        }
    }
}

impl fmt::Display for ReadWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a disk reads many places that the system does not have in memory.
///
/// ```
/// use hedgerow_vfs::{RealDisk, ReadWay, Vfs};
/// let reads = RealDisk.many_reads();
/// assert_eq!(reads.why.is_none(), reads.way == ReadWay::Ring);   // else it says why not
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManyReads {
    /// The way.
    pub way: ReadWay,
    /// Why not by a ring, if not.
    pub why: Option<String>,
}

impl ManyReads {
    /// One after the other, because `why`.
    pub fn one_by_one(why: &str) -> Self {
        Self { way: ReadWay::OneByOne, why: Some(why.to_owned()) }
    }
}

/// How the reads of a batch were made.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// use hedgerow_vfs::{OpenMode, ReadAt, RealDisk, Vfs};
/// let file = RealDisk.open(&dir.path().join("file"), OpenMode::CreateNew)?;
/// file.write_all_at(b"of many places", 0)?;
/// let (mut one, mut other) = ([0; 2], [0; 6]);
/// let mut reads = [ReadAt::new(&*file, 0, &mut one), ReadAt::new(&*file, 8, &mut other)];
/// let how = RealDisk.read_batch(&mut reads);
/// assert_eq!(how.reads(), 2);
/// assert!(how.depth >= 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HowRead {
    /// Reads that were made one after the other.
    pub one_by_one: u64,
    /// Reads that threads made.
    pub by_threads: u64,
    /// Reads of which the system was told before.
    pub ahead: u64,
    /// Reads that went through a ring.
    pub by_ring: u64,
    /// Most reads that were under way at a time: of a ring, those that were not answered at once; of what
    /// was told ahead, all; threads.
    pub depth: u64,
}

impl HowRead {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            one_by_one: self.one_by_one + other.one_by_one,
            by_threads: self.by_threads + other.by_threads,
            ahead: self.ahead + other.ahead,
            by_ring: self.by_ring + other.by_ring,
            depth: self.depth.max(other.depth),
        }
    }

    /// Reads, by whatever way.
    pub fn reads(self) -> u64 {
        self.one_by_one + self.by_threads + self.ahead + self.by_ring
    }
}

/// Has `inner` make the reads of those files for which `under` knows the file of `inner` that has the same
/// bytes, and makes the others one by one.
pub(crate) fn forward<'a>(
    reads: &mut [ReadAt<'a>],
    inner: &dyn Vfs,
    under: impl Fn(&ReadAt<'a>) -> Option<&'a dyn VfsFile>,
) -> HowRead {
    let mut how = HowRead::default();
    let (mut below, mut results) =
        (Vec::with_capacity(reads.len()), Vec::with_capacity(reads.len()));
    for read in reads {
        match under(read) {
            Some(file) => {
                below.push(ReadAt::new(file, read.offset, read.buf));
                results.push(&mut read.result);
            }
            None => how = how.and(one_by_one(std::slice::from_mut(read))),
        }
    }
    how = how.and(inner.read_batch(&mut below));
    for (read, result) in below.into_iter().zip(results) {
        *result = Some(read.into_result());
    }
    how
}

/// Reads one after the other: what a disk does that knows no better.
pub(crate) fn one_by_one(reads: &mut [ReadAt<'_>]) -> HowRead {
    reads.iter_mut().for_each(ReadAt::read_alone);
    HowRead {
        one_by_one: reads.len() as u64,
        depth: reads.len().min(1) as u64,
        ..HowRead::default()
    }
}
