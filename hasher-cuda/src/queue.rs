//! A queue is a stream, with blocks of pinned memory that go round.
//!
//! ```text
//!  upload     block ◄─ idle blocks ◄──────────────┐        written, copied, event recorded
//!               └────► its copy is over ──────────┘        together at most MOST_STAGED bytes
//!  download   block ◄─ read blocks ◄──────────────┐        copied, event recorded
//!               └────► waited for and read ───────┘
//! ```

use crate::{
    context::Shared,
    errors::refused,
    kernels::Kernels,
    memory::{CudaBuffer, PinnedBlock, Way},
};
use cudarc::driver::CudaStream;
use hedgerow_hasher_api::HashError;
use hedgerow_hasher_device::{Launch, Limits, Queue};
use std::{fmt, sync::Arc};

/// Work of a [`CudaDevice`](crate::CudaDevice), in order.
pub struct CudaQueue {
    shared: Arc<Shared>,
    limits: Limits,
    stream: Arc<CudaStream>,
    /// Blocks for uploads, those of the oldest uploads first.
    staging: Vec<PinnedBlock>,
    /// Idle blocks for downloads.
    spare: Vec<PinnedBlock>,
    /// The last to go.
    kernels: Arc<Kernels>,
}

/// Pinned memory that a queue has for uploads, more only for one that is larger by itself. Two chunks
/// in flight need less, and it is some milliseconds of a bus: who has filled it has kept the device busy.
/// It is memory that the system cannot use for anything else.
const MOST_STAGED: usize = 64 << 20;

/// Blocks for downloads that are kept for the next ones: a tree asks for two dozen lists of nodes at
/// once. Their bytes are bounded like those of uploads.
const SPARE_BLOCKS: usize = 32;

/// Bytes on their way from a [`CudaDevice`](crate::CudaDevice).
#[derive(Debug)]
pub struct CudaDownload {
    block: PinnedBlock,
    len: usize,
}

impl fmt::Debug for CudaQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { staging, spare, .. } = self;
        f.debug_struct("CudaQueue").field("staging", staging).field("spare", spare).finish()
    }
}

impl CudaQueue {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        kernels: &Arc<Kernels>,
        limits: Limits,
    ) -> Result<Self, HashError> {
        shared.bind()?;
        let context = Arc::clone(&shared.context);
        // The first one of a context waits for all that the context does.
        let stream = shared.apart("cuStreamCreate", move || context.new_stream())?;
        let (shared, kernels) = (Arc::clone(shared), Arc::clone(kernels));
        Ok(Self { shared, limits, stream, staging: vec![], spare: vec![], kernels })
    }

    fn mine(&self, buffer: &CudaBuffer) -> Result<(), HashError> {
        match buffer.is_of(&self.stream) {
            true => Ok(()),
            false => Err(HashError::Shape("a buffer of another queue")),
        }
    }

    /// A block for an upload of `len` bytes: an idle one, or a new one if there is room, or the oldest
    /// that is large enough, whose copy the upload then waits for.
    fn staging_block(&mut self, len: usize) -> Result<PinnedBlock, HashError> {
        // One that is larger than the bound is kept for its like only.
        self.staging.retain(|block| block.bytes() <= MOST_STAGED.max(PinnedBlock::bytes_for(len)));
        for i in 0..self.staging.len() {
            if self.staging[i].bytes() >= len && self.staging[i].is_idle()? {
                return Ok(self.staging.remove(i));
            }
        }
        let mut staged: usize = self.staging.iter().map(PinnedBlock::bytes).sum();
        while !self.staging.is_empty() && staged + PinnedBlock::bytes_for(len) > MOST_STAGED {
            let enough = self.staging.iter().position(|block| block.bytes() >= len);
            let oldest = self.staging.remove(enough.unwrap_or(0));
            if enough.is_some() {
                return Ok(oldest);
            }
            // Dropped, it waits for its copy.
            staged -= oldest.bytes();
        }
        PinnedBlock::new(&self.shared, &self.stream, Way::Up, len)
    }
}

impl Drop for CudaQueue {
    fn drop(&mut self) {
        if self.shared.is_hung() {
            std::mem::forget(Arc::clone(&self.stream));
            return;
        }
        // For the stream, if this is its last owner.
        let _ = self.shared.bind_even_if_lost();
    }
}

impl Queue for CudaQueue {
    type Buffer = CudaBuffer;
    type Download = CudaDownload;

    fn allocate(&mut self, bytes: u64) -> Result<CudaBuffer, HashError> {
        self.shared.bind()?;
        if bytes == 0 || bytes > self.limits.buffer_bytes {
            return Err(HashError::Shape("a buffer of no bytes or too many"));
        }
        CudaBuffer::new(&self.shared, &self.stream, bytes)
    }

    fn upload(
        &mut self,
        to: &CudaBuffer,
        offset: u64,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), HashError> {
        self.shared.bind()?;
        self.mine(to)?;
        let mut block = self.staging_block(block_len(len)?)?;
        block.upload(to, offset, len, fill)?;
        self.staging.push(block);
        Ok(())
    }

    fn launch(&mut self, launch: Launch<'_, CudaBuffer>) -> Result<(), HashError> {
        self.shared.bind()?;
        launch.check(self.limits)?;
        let mut mine = Ok(());
        launch.map(|buffer| {
            mine = mine.clone().and_then(|()| self.mine(buffer));
            buffer
        });
        mine?;
        if launch.count() == 0 {
            return Ok(());
        }
        let launched = self.kernels.launch(&self.stream, &launch);
        launched.map_err(|error| self.shared.failed("cuLaunchKernel", error))
    }

    fn download(
        &mut self,
        from: &CudaBuffer,
        offset: u64,
        len: u64,
    ) -> Result<CudaDownload, HashError> {
        self.shared.bind()?;
        self.mine(from)?;
        let block_len = block_len(len)?;
        let fitting = self.spare.iter().enumerate().filter(|(_, block)| block.bytes() >= block_len);
        let smallest = fitting.min_by_key(|(_, block)| block.bytes()).map(|(spare, _)| spare);
        let mut block = match smallest {
            Some(spare) => self.spare.remove(spare),
            None => PinnedBlock::new(&self.shared, &self.stream, Way::Down, block_len)?,
        };
        block.download(from, offset, len)?;
        Ok(CudaDownload { block, len: block_len })
    }

    fn wait(
        &mut self,
        download: CudaDownload,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<(), HashError> {
        self.shared.bind()?;
        let CudaDownload { mut block, len } = download;
        if !block.is_of(&self.stream) {
            return Err(HashError::Shape("a download of another queue"));
        }
        read(block.wait(len)?);
        if block.bytes() <= MOST_STAGED {
            self.spare.push(block);
        }
        while self.spare.len() > SPARE_BLOCKS
            || self.spare.iter().map(PinnedBlock::bytes).sum::<usize>() > MOST_STAGED
        {
            self.spare.remove(0);
        }
        Ok(())
    }
}

/// A length that memory of the host can have, not 0.
fn block_len(len: u64) -> Result<usize, HashError> {
    match usize::try_from(len) {
        Ok(0) => Err(HashError::Shape("a copy of no bytes")),
        Ok(len) if len <= isize::MAX as usize / 2 => Ok(len),
        _ => Err(refused(format!("no {len} bytes of host memory"))),
    }
}
