//! Bytes of a file that will not change, read without a system call.
//!
//! ```text
//!   file      ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓░░░░░░░░ beyond the promise: read as ever
//!   chunks    │ 64 KiB │ 64 KiB │ 64 KiB │ 64 KiB │ ...   │
//!                 1        0         1       0        was the system asked for it, and did it answer?
//!                 │        └─► asked now: an error is an answer too, and the file is read as ever
//!                 └─► copied
//! ```
//!
//! The price of a mapping is that a byte which cannot be had is no error but a signal that ends the process, SIGBUS. So
//! nothing is looked at before the system was asked once to have its chunk ready (`MADV_POPULATE_READ`, Linux 5.14),
//! and that call says what went wrong: a device that fails, a file that somebody cut. Then the file is read by calls, whose
//! errors are values. The next read of that chunk asks again.
//!
//! What is left is a page that was ready once, that the system gave up for want of memory, and that cannot be had
//! again: the device failed since, or somebody cut the file since. That read ends the process. Nothing of Hedgerow
//! cuts or writes a file that is mapped; another program that does so to a locked store ends the process that reads it.
//!
//! # Invariants
//!
//! * Only bytes below the length that was promised, and that the file had when it was mapped, are copied.
//! * No reference to a mapped byte leaves this module: bytes are copied, then checked by whoever wanted them.
//! * Long reads are not answered here: a call costs them little, and the system reads ahead for calls.
//!
//! Unsafe code: the mapping itself, and the processor's instruction that fetches memory ahead.

use memmap2::{Advice, Mmap, MmapOptions};
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whether this system can map files as it is meant here.
pub(crate) const AVAILABLE: bool = true;
/// Bytes that the system is asked for at a time.
const CHUNK: usize = 64 << 10;
/// Longest read that is answered from the mapping.
const LONGEST: usize = 16 << 10;
/// Bytes that the processor fetches at a time.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// The first bytes of a file, mapped. See the [module documentation](self).
#[derive(Debug)]
pub(crate) struct Mapping {
    map: Mmap,
    /// A bit per chunk: the system has had it ready.
    ready: Box<[AtomicU64]>,
}

impl Mapping {
    /// Maps the first `len` bytes, of which the caller promises that they stay as they are while the file is
    /// open. `None` if the file is shorter, or the system does not do it or cannot be asked for chunks.
    pub(crate) fn new(file: &File, len: u64) -> Option<Self> {
        let bytes = usize::try_from(len).ok().filter(|bytes| *bytes > 0)?;
        if file.metadata().ok()?.len() < len {
            return None;
        }
        // SAFETY: the memory is the mapping's own for as long as it lives, and it is only read. That somebody
        // changes the file meanwhile is against the caller's promise. Were it broken, what is copied from here is
        // bytes, of which every value is valid, and no reference to them is kept; a page that is no longer
        // there ends the process by a signal, which is not undefined behaviour.
        let map = unsafe { MmapOptions::new().len(bytes).map(file) }.ok()?;
        // A page that the system has given up is read by itself again. Not everywhere known, and not needed.
        let _ = map.advise(Advice::Random);
        let words = bytes.div_ceil(CHUNK).div_ceil(64);
        let ready = (0..words).map(|_| AtomicU64::new(0)).collect();
        let this = Self { map, ready };
        // A kernel that does not know the question cannot answer it.
        this.is_ready_or_asked(file, 0).then_some(this)
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Fills `buf` with the bytes at `offset` of `file`, whose mapping this is, or says that it must be read by calls.
    #[inline]
    pub(crate) fn read(&self, file: &File, buf: &mut [u8], offset: u64) -> bool {
        if buf.len() > LONGEST {
            return false;
        }
        let Some((from, bytes)) = self.range(offset, buf.len()) else { return false };
        if !self.chunks_of(from, bytes.len()).all(|chunk| self.is_ready_or_asked(file, chunk)) {
            return false;
        }
        buf.copy_from_slice(bytes);
        true
    }

    /// Has the processor fetch the bytes at `offset`, which are read soon, if their chunks are ready.
    #[inline]
    pub(crate) fn fetch(&self, offset: u64, len: usize) {
        let Some((from, bytes)) = self.range(offset, len.min(LONGEST)) else { return };
        if self.chunks_of(from, bytes.len()).all(|chunk| self.is_ready(chunk)) {
            fetch(bytes);
        }
    }

    /// The bytes at `offset`, as far as they are mapped. Nothing looks at them before they are ready.
    #[inline]
    fn range(&self, offset: u64, len: usize) -> Option<(usize, &[u8])> {
        let from = usize::try_from(offset).ok()?;
        let bytes = self.map.get(from..from.checked_add(len)?)?;
        Some((from, bytes))
    }

    /// The chunks of `len` bytes from `from` on.
    #[inline]
    fn chunks_of(&self, from: usize, len: usize) -> std::ops::Range<usize> {
        if len == 0 { 0..0 } else { from / CHUNK..(from + len - 1) / CHUNK + 1 }
    }

    #[inline]
    fn is_ready(&self, chunk: usize) -> bool {
        let word = self.ready.get(chunk / 64).map_or(0, |word| word.load(Ordering::Relaxed));
        word >> (chunk % 64) & 1 == 1
    }

    #[inline]
    fn is_ready_or_asked(&self, file: &File, chunk: usize) -> bool {
        self.is_ready(chunk) || self.ask(file, chunk)
    }

    /// Asks the system to have a chunk ready. Two threads may ask at once: that costs one of them a call.
    #[cold]
    fn ask(&self, file: &File, chunk: usize) -> bool {
        let from = chunk.saturating_mul(CHUNK);
        let len = CHUNK.min(self.map.len().saturating_sub(from));
        // All of it in one read of the device, rather than page after page.
        crate::depth::ahead::tell(file, from as u64, len);
        let ready = len > 0 && self.map.advise_range(Advice::PopulateRead, from, len).is_ok();
        if ready && let Some(word) = self.ready.get(chunk / 64) {
            word.fetch_or(1 << (chunk % 64), Ordering::Relaxed);
        }
        ready
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn fetch(bytes: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    let mut lines =
        bytes.chunks(LINE).map(<[u8]>::as_ptr).chain(bytes.last().map(|last| last as *const u8));
    lines.by_ref().for_each(|line| {
        // SAFETY: a prefetch reads nothing that the program sees and never faults, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
    });
}

/// Only some processors can be told so in stable Rust.
#[cfg(not(target_arch = "x86_64"))]
fn fetch(_bytes: &[u8]) {}
