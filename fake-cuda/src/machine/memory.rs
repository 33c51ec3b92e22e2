//! Memory whose every access is checked.

use super::{Fault, POISON};
use crate::code;
use std::ops::Range;

/// Bytes, and who touched which word in which epoch.
#[derive(Debug)]
pub(super) struct Words {
    bytes: Vec<u8>,
    tags: Vec<Tag>,
    epoch: u32,
}

/// The last threads on a word: epoch in the high half, thread in the low one.
#[derive(Clone, Copy, Debug, Default)]
struct Tag {
    writer: u64,
    reader: u64,
}

/// Stands for several readers.
const MANY: u32 = u32::MAX;

const fn tag(epoch: u32, thread: u32) -> u64 {
    (epoch as u64) << 32 | thread as u64
}

impl Words {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes: vec![POISON; bytes], tags: Vec::new(), epoch: 0 }
    }

    pub(super) fn poison(&mut self) {
        self.bytes.fill(POISON);
    }

    /// What was touched until now no longer matters.
    pub(super) fn new_epoch(&mut self) {
        self.epoch += 1;
    }

    /// The bytes for a thread to read.
    pub(super) fn read(&mut self, thread: u32, at: u64, len: u64) -> Result<&[u8], Fault> {
        let range = self.tagged(at, len)?;
        let now = tag(self.epoch, thread);
        let epoch = u64::from(self.epoch);
        for word in &mut self.tags[range.start / 4..range.end.div_ceil(4)] {
            if word.writer >> 32 == epoch && word.writer != now {
                return Err(race("reads what another wrote", thread, word.writer));
            }
            let other = word.reader >> 32 == epoch && word.reader != now;
            word.reader = if other { tag(self.epoch, MANY) } else { now };
        }
        Ok(&self.bytes[range])
    }

    /// The bytes for a thread to write.
    pub(super) fn write(&mut self, thread: u32, at: u64, len: u64) -> Result<&mut [u8], Fault> {
        let range = self.tagged(at, len)?;
        let now = tag(self.epoch, thread);
        let epoch = u64::from(self.epoch);
        for word in &mut self.tags[range.start / 4..range.end.div_ceil(4)] {
            for (other, what) in [
                (word.writer, "writes what another wrote"),
                (word.reader, "writes what another read"),
            ] {
                if other >> 32 == epoch && other != now {
                    return Err(race(what, thread, other));
                }
            }
            word.writer = now;
        }
        Ok(&mut self.bytes[range])
    }

    fn tagged(&mut self, at: u64, len: u64) -> Result<Range<usize>, Fault> {
        if self.tags.is_empty() {
            self.tags = vec![Tag::default(); self.bytes.len().div_ceil(4)];
        }
        self.range(at, len)
    }

    fn range(&self, at: u64, len: u64) -> Result<Range<usize>, Fault> {
        let end = at.checked_add(len).filter(|&end| end <= self.bytes.len() as u64);
        let Some(end) = end else {
            let text = format!("{len} bytes at {at:#x} of {:#x}: out of bounds", self.bytes.len());
            return Err(Fault::new(code::ILLEGAL_ADDRESS, text));
        };
        Ok(at as usize..end as usize)
    }
}

fn race(what: &str, thread: u32, other: u64) -> Fault {
    let other = match other as u32 {
        MANY => "several".into(),
        other => format!("thread {other}"),
    };
    let text = format!("race: thread {thread} {what} ({other}), and no barrier between them");
    Fault::new(code::LAUNCH_FAILED, text)
}

/// Refuses an address that is no multiple of the access's size.
pub(super) fn check_alignment(address: u64, len: u64) -> Result<(), Fault> {
    if address.is_multiple_of(len) {
        return Ok(());
    }
    let text = format!("{len} bytes at {address:#x}: misaligned");
    Err(Fault::new(code::MISALIGNED_ADDRESS, text))
}

/// All allocations of a device that ever were. Addresses are never used twice, and there is
/// unmapped space between any two.
#[derive(Debug)]
pub(crate) struct Memory {
    allocations: Vec<Allocation>,
    /// Bytes that can still be allocated.
    free: u64,
    next: u64,
    /// The allocation that was used last: the next access is likely there.
    recent: usize,
    epoch: u32,
}

#[derive(Debug)]
struct Allocation {
    base: u64,
    len: u64,
    /// `None`: freed.
    words: Option<Words>,
}

impl Memory {
    /// Where the first allocation of device 0 lies.
    const BASE: u64 = 0x7_0000_0000;
    /// Between two allocations, at least.
    const GAP: u64 = 4096;

    pub(crate) fn new(device: usize, bytes: u64) -> Self {
        let next = Self::BASE + ((device as u64) << 40);
        Self { allocations: Vec::new(), free: bytes, next, recent: 0, epoch: 0 }
    }

    /// Allocations that live.
    pub(crate) fn live(&self) -> usize {
        self.allocations.iter().filter(|allocation| allocation.words.is_some()).count()
    }

    /// The address of `len` poisoned bytes, or `None` if there are not as many.
    pub(crate) fn allocate(&mut self, len: u64) -> Option<u64> {
        self.free = self.free.checked_sub(len)?;
        // A multiple of 256, as the driver promises, and of nothing more.
        let base = self.next;
        self.next = (base + len + Self::GAP).next_multiple_of(512) + 256;
        let words = Some(Words::new(len as usize));
        self.allocations.push(Allocation { base, len, words });
        Some(base)
    }

    /// Whether an allocation begins at this address and lives.
    pub(crate) fn is_base(&self, address: u64) -> bool {
        self.allocations.iter().any(|a| a.base == address && a.words.is_some())
    }

    /// The addresses of the allocation that begins at this one.
    pub(crate) fn extent(&self, address: u64) -> Range<u64> {
        let found = self.allocations.iter().find(|a| a.base == address);
        found.map_or(0..0, |a| a.base..a.base + a.len)
    }

    /// Frees everything: the context ends.
    pub(crate) fn release_all(&mut self) {
        for allocation in &mut self.allocations {
            if allocation.words.take().is_some() {
                self.free += allocation.len;
            }
        }
    }

    /// Frees the allocation that begins at this address. The address stays its own.
    pub(crate) fn release(&mut self, address: u64) {
        if let Some(allocation) = self.allocations.iter_mut().find(|a| a.base == address)
            && allocation.words.take().is_some()
        {
            self.free += allocation.len;
        }
    }

    /// Forgets which threads touched what: a new launch.
    pub(super) fn new_epoch(&mut self) {
        self.epoch += 1;
    }

    pub(super) fn read(&mut self, thread: u32, address: u64, len: u64) -> Result<&[u8], Fault> {
        let (words, offset) = self.find(address, len)?;
        words.read(thread, offset, len)
    }

    pub(super) fn write(
        &mut self,
        thread: u32,
        address: u64,
        len: u64,
    ) -> Result<&mut [u8], Fault> {
        let (words, offset) = self.find(address, len)?;
        words.write(thread, offset, len)
    }

    /// The bytes that a copy reads or writes.
    ///
    /// # Errors
    /// A fault unless they lie in one live allocation.
    pub(crate) fn slice(&mut self, address: u64, len: u64) -> Result<&mut [u8], Fault> {
        let (words, offset) = self.find(address, len)?;
        let range = words.range(offset, len)?;
        Ok(&mut words.bytes[range])
    }

    fn find(&mut self, address: u64, len: u64) -> Result<(&mut Words, u64), Fault> {
        // Also what lies just behind it, for the message.
        let inside = |a: &Allocation| (a.base..a.base + a.len + Self::GAP).contains(&address);
        if !self.allocations.get(self.recent).is_some_and(inside) {
            // They are sorted by address: it only grows.
            let after = self.allocations.partition_point(|a| a.base <= address);
            self.recent = after.saturating_sub(1);
        }
        let illegal = |what: String| {
            Fault::new(code::ILLEGAL_ADDRESS, format!("{len} bytes at {address:#x}: {what}"))
        };
        let Some(allocation) = self.allocations.get_mut(self.recent).filter(|a| inside(a)) else {
            return Err(illegal("no allocation".into()));
        };
        let offset = address - allocation.base;
        if offset + len > allocation.len {
            let what = format!("byte {offset} of an allocation of {}", allocation.len);
            return Err(illegal(format!("out of bounds, {what}")));
        }
        let Some(words) = &mut allocation.words else { return Err(illegal("freed".into())) };
        words.epoch = self.epoch;
        Ok((words, offset))
    }
}
