//! Memory of the device and pinned memory of the host, and the copies between them.
//!
//! ```text
//!  PinnedBlock  idle ──copy──► unknown ──event recorded──► recorded ──event reached──► idle
//!                                 │                            │
//!                                 └── dropped: waits for the ──┴── dropped: waits for the event
//!                                     whole stream
//! ```
//!
//! A block that is dropped while a copy may still touch it waits; if the driver cannot say that the
//! copy is over, the block is leaked, and goes with its context. So are buffers. Of a device that hangs
//! everything is leaked.

use crate::{context::Shared, errors::refused};
use cudarc::driver::{CudaEvent, CudaStream, result, result::DriverError};
use hedgerow_hasher_api::HashError;
use hedgerow_hasher_device::{Buffer, check_range};
use std::{ffi::c_void, fmt, ptr::NonNull, slice, sync::Arc};

/// What is waited for, in errors.
const ALLOCATING: &str = "allocating device memory";
const FREEING: &str = "freeing device memory";
const PINNING: &str = "pinning host memory";
const UNPINNING: &str = "freeing pinned memory";

/// Memory on a [`CudaDevice`](crate::CudaDevice).
#[derive(Debug)]
pub struct CudaBuffer {
    address: u64,
    bytes: u64,
    shared: Arc<Shared>,
    /// The stream on which everything happens to it.
    stream: Arc<CudaStream>,
}

impl CudaBuffer {
    /// `bytes` bytes, more than 0. The context is current.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        stream: &Arc<CudaStream>,
        bytes: u64,
    ) -> Result<Self, HashError> {
        let len = usize::try_from(bytes).map_err(|_| refused(format!("no {bytes} bytes")))?;
        let address = if shared.context.has_async_alloc() {
            // SAFETY: the stream is alive; the memory is used on it alone, and written before it is
            // read, or what is read means nothing.
            let address = unsafe { result::malloc_async(stream.cu_stream(), len) };
            address.map_err(|error| shared.failed(ALLOCATING, error))?
        } else {
            // SAFETY: written before it is read, or what is read means nothing.
            shared.apart(ALLOCATING, move || unsafe { result::malloc_sync(len) })?
        };
        Ok(Self { address, bytes, shared: shared.clone(), stream: stream.clone() })
    }

    /// Where it lies in the device's memory.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Whether it belongs to this stream.
    pub(crate) fn is_of(&self, stream: &Arc<CudaStream>) -> bool {
        Arc::ptr_eq(&self.stream, stream)
    }

    /// Frees after everything that the stream has been given so far.
    fn free(&self) -> Result<(), HashError> {
        let (shared, address) = (&self.shared, self.address);
        let failed = |error| shared.failed(FREEING, error);
        shared.bind_even_if_lost().map_err(failed)?;
        if shared.context.has_async_alloc() {
            // SAFETY: allocated in `new`, freed once, after all its uses in stream order.
            return unsafe { result::free_async(address, self.stream.cu_stream()) }.map_err(failed);
        }
        let stream = Arc::clone(&self.stream);
        shared.apart(FREEING, move || {
            stream.synchronize()?;
            // SAFETY: allocated in `new`, freed once, and its only stream has nothing left to do.
            unsafe { result::free_sync(address) }
        })
    }
}

impl Buffer for CudaBuffer {
    fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for CudaBuffer {
    fn drop(&mut self) {
        // An error leaks it until its context ends; it is remembered if it ended the context.
        let hung = self.shared.is_hung() || (self.free().is_err() && self.shared.is_hung());
        if hung {
            std::mem::forget(Arc::clone(&self.stream));
        }
    }
}

/// What a block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Written by the host, once and in order: write-combined.
    Up,
    /// Read by the host.
    Down,
}

impl Way {
    /// Flags of `cuMemHostAlloc`. Reading write-combined memory is very slow.
    fn flags(self) -> u32 {
        match self {
            Self::Up => cudarc::driver::sys::CU_MEMHOSTALLOC_WRITECOMBINED,
            Self::Down => 0,
        }
    }
}

/// What may still touch a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    Nothing,
    /// A copy, over when the event is reached.
    Recorded,
    /// Perhaps a copy, over when the stream has nothing left to do.
    Unknown,
}

/// Pinned memory of the host that one copy at a time touches.
pub(crate) struct PinnedBlock {
    memory: NonNull<u8>,
    bytes: usize,
    pending: Pending,
    event: Arc<CudaEvent>,
    stream: Arc<CudaStream>,
    shared: Arc<Shared>,
}

/// Where pinned memory lies.
struct Pinned(NonNull<u8>);

// SAFETY: memory of the process, which only its block uses.
unsafe impl Send for Pinned {}

impl Pinned {
    /// At least 1 byte, made defined: undefined bytes could not be lent out.
    fn new(bytes: usize, flags: u32) -> Result<Option<Self>, DriverError> {
        // SAFETY: used as bytes only; made defined below.
        let memory = unsafe { result::malloc_host(bytes, flags) }?;
        Ok(NonNull::new(memory.cast::<u8>()).map(|memory| {
            // SAFETY: `bytes` bytes were just allocated there.
            unsafe { memory.write_bytes(0, bytes) };
            Self(memory)
        }))
    }

    /// Gives it back.
    ///
    /// # Safety
    /// Nothing uses it any more, and it was not given back before.
    unsafe fn free(self) -> Result<(), DriverError> {
        // SAFETY: the caller's promise; allocated by `new`.
        unsafe { result::free_host(self.0.as_ptr().cast::<c_void>()) }
    }
}

// SAFETY: the memory is the block's own, and the driver's objects may be used from any thread on
// which the context is current, which every method sees to.
unsafe impl Send for PinnedBlock {}

impl fmt::Debug for PinnedBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, pending, .. } = self;
        f.debug_struct("PinnedBlock").field("bytes", bytes).field("pending", pending).finish()
    }
}

impl PinnedBlock {
    /// At least `len` bytes, not 0. The context is current.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        stream: &Arc<CudaStream>,
        way: Way,
        len: usize,
    ) -> Result<Self, HashError> {
        let event = shared.context.new_event(None);
        let event = event.map_err(|error| shared.failed("cuEventCreate", error))?;
        let (event, bytes, flags) = (Arc::new(event), Self::bytes_for(len), way.flags());
        let pinned = shared.apart(PINNING, move || Pinned::new(bytes, flags))?;
        let Some(Pinned(memory)) = pinned else {
            return Err(refused("the driver pinned no memory".into()));
        };
        let (shared, stream) = (shared.clone(), stream.clone());
        Ok(Self { memory, bytes, pending: Pending::Nothing, event, stream, shared })
    }

    /// Bytes of a block for `len` bytes.
    pub(crate) fn bytes_for(len: usize) -> usize {
        len.max(LEAST_BLOCK).next_power_of_two()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether its copies go by this stream.
    pub(crate) fn is_of(&self, stream: &Arc<CudaStream>) -> bool {
        Arc::ptr_eq(&self.stream, stream)
    }

    /// Whether no copy touches it any more; asks the driver, and does not wait.
    pub(crate) fn is_idle(&mut self) -> Result<bool, HashError> {
        let idle = match self.pending {
            Pending::Nothing => true,
            Pending::Unknown => false,
            Pending::Recorded => {
                let reached = self.event.try_is_complete();
                reached.map_err(|error| self.shared.failed("cuEventQuery", error))?
            }
        };
        if idle {
            self.pending = Pending::Nothing;
        }
        Ok(idle)
    }

    /// Waits until no copy touches it.
    fn settle(&mut self, what: &str) -> Result<(), HashError> {
        if self.pending == Pending::Unknown {
            // Behind everything in the stream.
            let recorded = self.event.record(&self.stream);
            recorded.map_err(|error| self.shared.failed(what, error))?;
            self.pending = Pending::Recorded;
        }
        if self.pending == Pending::Recorded {
            self.shared.wait(what, || self.event.try_is_complete())?;
            self.pending = Pending::Nothing;
        }
        Ok(())
    }

    /// Lends its first `len` bytes to `write`, after copies that touch them, then copies them to the
    /// buffer at `offset`.
    pub(crate) fn upload(
        &mut self,
        to: &CudaBuffer,
        offset: u64,
        len: u64,
        write: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), HashError> {
        let len = self.checked_len(to, offset, len)?;
        self.settle("waiting for an upload")?;
        // SAFETY: `len` bytes of the allocation, defined since `new`, touched by nobody else: no
        // copy is pending, and `self` is borrowed.
        write(unsafe { slice::from_raw_parts_mut(self.memory.as_ptr(), len) });
        self.pending = Pending::Unknown;
        // SAFETY: the range lies in the buffer; the block stays until the copy is over, see `drop`,
        // and nobody writes it until then: `pending`.
        let asked = unsafe {
            let staged = slice::from_raw_parts(self.memory.as_ptr(), len);
            result::memcpy_htod_async(to.address + offset, staged, self.stream.cu_stream())
        };
        self.record(asked, "cuMemcpyHtoDAsync")
    }

    /// Copies `len` bytes of the buffer at `offset` to the block's start.
    pub(crate) fn download(
        &mut self,
        from: &CudaBuffer,
        offset: u64,
        len: u64,
    ) -> Result<(), HashError> {
        let len = self.checked_len(from, offset, len)?;
        self.settle("waiting for a download")?;
        self.pending = Pending::Unknown;
        // SAFETY: as in `upload`; nobody reads or writes the block until the copy is over.
        let asked = unsafe {
            let to = slice::from_raw_parts_mut(self.memory.as_ptr(), len);
            result::memcpy_dtoh_async(to, from.address + offset, self.stream.cu_stream())
        };
        self.record(asked, "cuMemcpyDtoHAsync")
    }

    /// Waits for its copy and lends its first `len` bytes.
    pub(crate) fn wait(&mut self, len: usize) -> Result<&[u8], HashError> {
        self.settle("waiting for a download")?;
        // SAFETY: inside the allocation, defined since `new`, and no copy is pending while `self`
        // is borrowed.
        Ok(unsafe { slice::from_raw_parts(self.memory.as_ptr(), len.min(self.bytes)) })
    }

    fn checked_len(&self, buffer: &CudaBuffer, offset: u64, len: u64) -> Result<usize, HashError> {
        check_range(offset, len, buffer.bytes)?;
        match usize::try_from(len) {
            Ok(len) if len <= self.bytes => Ok(len),
            _ => Err(HashError::Shape("a copy of more bytes than its block has")),
        }
    }

    /// Marks the end of a copy that was asked for.
    fn record(&mut self, asked: Result<(), DriverError>, call: &str) -> Result<(), HashError> {
        asked.map_err(|error| self.shared.failed(call, error))?;
        let recorded = self.event.record(&self.stream);
        recorded.map_err(|error| self.shared.failed("cuEventRecord", error))?;
        self.pending = Pending::Recorded;
        Ok(())
    }

    fn free(&mut self) -> Result<(), HashError> {
        let bound = self.shared.bind_even_if_lost();
        bound.map_err(|error| self.shared.failed(UNPINNING, error))?;
        self.settle(UNPINNING)?;
        let pinned = Pinned(self.memory);
        // SAFETY: freed once, and no copy touches it any more.
        self.shared.apart(UNPINNING, move || unsafe { pinned.free() })
    }
}

/// Smaller blocks are not worth the trouble: pinning is slow.
const LEAST_BLOCK: usize = 64 << 10;

impl Drop for PinnedBlock {
    fn drop(&mut self) {
        // An error leaks it until its context ends.
        let hung = self.shared.is_hung() || (self.free().is_err() && self.shared.is_hung());
        if hung {
            std::mem::forget((Arc::clone(&self.event), Arc::clone(&self.stream)));
        }
    }
}
