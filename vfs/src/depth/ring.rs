//! A ring: a queue of reads that the kernel works on at once, and a queue of its answers (io_uring).
//!
//! ```text
//!                    ┌── entries: file, offset, address, length ──► kernel ──┐
//!   wanted reads ────┤                                                       ├──► answers ──► copied to
//!                    └── arena: the bytes go here, one place per read ◄──────┘                the readers
//! ```
//!
//! # Why this is sound
//!
//! The kernel writes to the addresses in the entries, at any time between the submission of an entry and
//! its answer. All these addresses lie in the arena, which the ring owns, which nothing in Rust refers to
//! while reads are in flight, and which is never freed with one in flight: should the kernel refuse to say
//! when it is done, the ring and its arena are leaked. So nobody else's memory is at stake, whatever the
//! kernel, a signal or a panic does. The bytes are copied out afterwards; that costs a hundredth of
//! a read from a device. Files need not outlive their reads: the kernel holds its own reference from the
//! submission on.

use super::ReadAt;
use crate::real::RealFile;
use io_uring::{IoUring, Probe, opcode, types};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

/// Reads that are in flight at a time, at most.
const ENTRIES: usize = 256;
/// Bytes that they have together, at most. Pages that nobody used take no memory.
const ARENA: usize = 512 << 10;
/// Longest read that a ring takes.
pub(super) const LONGEST: usize = ARENA;
/// How often the kernel may say "not now" in a row before it is given up.
const PATIENCE: usize = 1000;

/// A read that a ring is to make.
pub(super) struct Wanted<'w, 'r> {
    pub(super) file: &'w RealFile,
    /// Its offset is not negative as a signed number, which would mean something else.
    pub(super) read: &'w mut ReadAt<'r>,
    /// Whether all of its bytes are there.
    pub(super) done: bool,
}

/// What became of some reads.
pub(super) struct Wave {
    /// How many were answered, from the first on; not all of them need be done.
    pub(super) taken: usize,
    /// How many of these were not answered at once.
    pub(super) depth: usize,
}

/// See the [module documentation](self).
pub(super) struct Ring {
    ring: ManuallyDrop<IoUring>,
    arena: NonNull<u8>,
    /// Entries that the kernel may have taken and has not answered.
    in_flight: usize,
    /// Where the bytes of each read begin.
    starts: Vec<usize>,
}

// SAFETY: the pointer is to memory that the ring alone owns.
unsafe impl Send for Ring {}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}

fn arena() -> Option<Layout> {
    Layout::from_size_align(ARENA, 4096).ok()
}

impl Ring {
    /// # Errors
    /// If the kernel has no rings, forbids them, or has no room for one.
    pub(super) fn new() -> io::Result<Self> {
        // Answers need no interrupt of our own thread, which waits for them; older kernels do not know that.
        let ring = IoUring::builder().dontfork().setup_coop_taskrun().build(ENTRIES as u32);
        let ring = match ring {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                IoUring::builder().dontfork().build(ENTRIES as u32)
            }
            other => other,
        }?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        // Without the second, answers can be lost.
        if !probe.is_supported(opcode::Read::CODE) || !ring.params().is_feature_nodrop() {
            let text = "io_uring of this kernel is too old";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let layout = arena().ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the layout is not empty.
        let arena = NonNull::new(unsafe { alloc_zeroed(layout) });
        let arena = arena.ok_or(io::ErrorKind::OutOfMemory)?;
        let starts = Vec::with_capacity(ENTRIES);
        Ok(Self { ring: ManuallyDrop::new(ring), arena, in_flight: 0, starts })
    }

    /// Makes as many of the first reads of `wanted` as there is room for, at once, and waits for all of
    /// them. No read is longer than [`LONGEST`].
    ///
    /// # Errors
    /// If the ring is of no use any more: it must be dropped. What is done is done.
    pub(super) fn read(&mut self, wanted: &mut [Wanted<'_, '_>]) -> io::Result<Wave> {
        let mut used = 0;
        self.starts.clear();
        for (number, want) in wanted.iter().take(ENTRIES).enumerate() {
            let len = want.read.len();
            if len > ARENA - used {
                break;
            }
            // SAFETY: `used + len` is at most `ARENA`.
            let to = unsafe { self.arena.add(used) };
            let file = types::Fd(want.file.file().as_raw_fd());
            let entry = opcode::Read::new(file, to.as_ptr(), len as u32)
                .offset(want.read.offset())
                .build()
                .user_data(number as u64);
            // SAFETY: `len` bytes from `to` on lie in the arena, apart from those of the other entries; it
            // lives until this entry was answered (see above). The file is open until it was submitted:
            // `wanted` borrows it, and what is not submitted below never is.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                break;
            }
            self.in_flight += 1;
            self.starts.push(used);
            used += len;
        }
        let taken = self.starts.len();
        self.submit(wanted)?;
        let depth = self.in_flight;
        let mut refused = 0;
        while self.in_flight > 0 {
            let waited = self.ring.submit_and_wait(self.in_flight);
            self.not_now(waited.map(drop), &mut refused)?;
            self.take_answers(wanted);
        }
        Ok(Wave { taken, depth })
    }

    /// Hands all entries to the kernel, and takes what it answers at once.
    fn submit(&mut self, wanted: &mut [Wanted<'_, '_>]) -> io::Result<()> {
        let mut refused = 0;
        loop {
            let submitted = self.ring.submit();
            self.not_now(submitted.map(drop), &mut refused)?;
            self.take_answers(wanted);
            if self.ring.submission().is_empty() {
                return Ok(());
            }
            // It stops at an entry that it does not like, and goes on at the next call.
            refused += 1;
            if refused > PATIENCE {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }

    /// Lets pass what is no failure, a number of times.
    fn not_now(&self, result: io::Result<()>, refused: &mut usize) -> io::Result<()> {
        let Err(error) = result else { return Ok(()) };
        if error.kind() == io::ErrorKind::Interrupted {
            return Ok(());
        }
        *refused += 1;
        let busy = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ResourceBusy);
        if !busy || *refused > PATIENCE {
            return Err(error);
        }
        std::thread::yield_now();
        Ok(())
    }

    fn take_answers(&mut self, wanted: &mut [Wanted<'_, '_>]) {
        for answer in self.ring.completion() {
            self.in_flight = self.in_flight.saturating_sub(1);
            let number = usize::try_from(answer.user_data()).unwrap_or(usize::MAX);
            let (Some(want), Some(&start)) = (wanted.get_mut(number), self.starts.get(number))
            else {
                continue;
            };
            let buf = want.read.buf();
            if usize::try_from(answer.result()) != Ok(buf.len()) {
                // An error, or less than was wanted: the caller asks again.
                continue;
            }
            // SAFETY: these bytes of the arena were zeroed when it was made, the kernel is done with them,
            // and `buf`, which is somebody else's memory, does not overlap them.
            unsafe {
                let from = self.arena.add(start).as_ptr();
                std::ptr::copy_nonoverlapping(from, buf.as_mut_ptr(), buf.len());
            }
            want.done = true;
        }
    }

    /// What the kernel has taken and not answered.
    fn taken_by_kernel(&mut self) -> usize {
        self.in_flight.saturating_sub(self.ring.submission().len())
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.taken_by_kernel() > 0 {
            // The kernel may still write to the arena. Leaked, both.
            return;
        }
        // SAFETY: dropped here and nowhere else. Entries that were not submitted never will be.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        if let Some(layout) = arena() {
            // SAFETY: allocated with this layout; nothing is in flight, so that nobody writes to it.
            unsafe { dealloc(self.arena.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{OpenMode, RealDisk, Vfs};

    fn rings() -> usize {
        let files = std::fs::read_dir("/proc/self/fd").unwrap();
        let to = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        to.filter(|to| to.to_string_lossy().contains("io_uring")).count()
    }

    #[test]
    fn a_ring_takes_what_it_has_room_for_and_leaves_nothing_behind() {
        let ring = Ring::new();
        if let Err(error) = ring {
            println!("!!! NOT RUN: a ring: {error}");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("file"), OpenMode::CreateNew).unwrap();
        let bytes: Vec<u8> = (0..LONGEST as u32 + 9).map(|i| (i % 251) as u8).collect();
        file.write_all_at(&bytes, 0).unwrap();
        let own: &RealFile = file.own().unwrap().downcast_ref().unwrap();
        let mut ring = ring.unwrap();
        // As many as there are entries; as many bytes as there is room for; one that is as long as can be.
        for (len, count, taken) in [(10, 1000, ENTRIES), (LONGEST / 3, 4, 3), (LONGEST, 2, 1)] {
            let mut bufs = vec![vec![0; len]; count];
            let mut reads: Vec<_> =
                (0..).zip(&mut bufs).map(|(i, buf)| ReadAt::new(&*file, i % 9, buf)).collect();
            let mut wanted: Vec<_> =
                reads.iter_mut().map(|read| Wanted { file: own, read, done: false }).collect();
            assert_eq!(ring.read(&mut wanted).unwrap().taken, taken);
            let done: Vec<bool> = wanted.iter().map(|want| want.done).collect();
            assert!((0..count).all(|i| done[i] == (i < taken)), "{done:?}");
            for (i, buf) in bufs.iter().enumerate().take(taken) {
                assert!(buf[..] == bytes[i % 9..i % 9 + len], "{i}");
            }
            assert_eq!(ring.in_flight, 0);
        }
        // Beyond the end, and partly beyond: answered, and not done.
        let mut bufs = [[0; 8]; 3];
        let at = [bytes.len() as u64, bytes.len() as u64 - 1, 0];
        let mut reads: Vec<_> =
            at.iter().zip(&mut bufs).map(|(&at, buf)| ReadAt::new(&*file, at, buf)).collect();
        let mut wanted: Vec<_> =
            reads.iter_mut().map(|read| Wanted { file: own, read, done: false }).collect();
        assert_eq!(ring.read(&mut wanted).unwrap().taken, 3);
        assert_eq!(wanted.iter().map(|want| want.done).collect::<Vec<_>>(), [false, false, true]);
        // Rings of other tests come and go; a hundred do not.
        for _ in 0..100 {
            drop(Ring::new());
        }
        drop(ring);
        assert!(rings() < 50, "{}", rings());
    }
}
