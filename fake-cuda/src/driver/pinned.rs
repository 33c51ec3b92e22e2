//! Memory of the host that copies may touch while nobody waits.

#![allow(unsafe_code, reason = "host memory that the program also writes, through raw pointers")]

use crate::machine::POISON;
use std::{
    alloc::{Layout, alloc, dealloc},
    ptr,
};

/// `cuMemHostAlloc`'s flag for memory that is fast to write and must not be read.
const WRITE_COMBINED: u32 = 4;

/// One allocation. When it is freed it stays known, so that later uses are seen.
#[derive(Debug)]
pub(crate) struct Pinned {
    /// Whose context it ends with.
    device: usize,
    address: usize,
    layout: Layout,
    flags: u32,
    live: bool,
}

impl Pinned {
    /// `len` bytes of poison at the start of a page.
    pub(super) fn new(device: usize, len: usize, flags: u32) -> Option<Self> {
        let layout = Layout::from_size_align(len, 4096).ok().filter(|_| len > 0)?;
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc(layout) };
        if memory.is_null() {
            return None;
        }
        // SAFETY: `len` bytes were just allocated there.
        unsafe { ptr::write_bytes(memory, POISON, len) };
        let address = memory.expose_provenance();
        Some(Self { device, address, layout, flags, live: true })
    }

    pub(super) fn device(&self) -> usize {
        self.device
    }

    pub(super) fn address(&self) -> usize {
        self.address
    }

    pub(super) fn bytes(&self) -> usize {
        self.layout.size()
    }

    pub(super) fn is_live(&self) -> bool {
        self.live
    }

    pub(super) fn is_write_combined(&self) -> bool {
        self.flags & WRITE_COMBINED != 0
    }

    pub(super) fn holds(&self, address: usize, len: usize) -> bool {
        let end = self.address + self.layout.size();
        self.address <= address && address.checked_add(len).is_some_and(|last| last <= end)
    }

    /// Gives the memory back.
    pub(super) fn release(&mut self) {
        if std::mem::replace(&mut self.live, false) {
            let memory = ptr::with_exposed_provenance_mut(self.address);
            // SAFETY: allocated with this layout, and `live` is true only once.
            unsafe { dealloc(memory, self.layout) };
        }
    }

    /// A copy of bytes that [`holds`](Self::holds) says are here; nothing if they are not.
    pub(super) fn read(&self, address: usize, len: usize) -> Vec<u8> {
        if !self.live || !self.holds(address, len) {
            return Vec::new();
        }
        let mut bytes = vec![0; len];
        // SAFETY: live and inside the allocation, initialised since it was made. A program that
        // writes it at this moment breaks the rules that this driver is there to check.
        unsafe {
            let from = ptr::with_exposed_provenance::<u8>(address);
            ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len);
        }
        bytes
    }

    /// Overwrites bytes that [`holds`](Self::holds) says are here.
    pub(super) fn write(&self, address: usize, bytes: &[u8]) {
        if !self.live || !self.holds(address, bytes.len()) {
            return;
        }
        // SAFETY: as in `read`.
        unsafe {
            let to = ptr::with_exposed_provenance_mut::<u8>(address);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }
}
