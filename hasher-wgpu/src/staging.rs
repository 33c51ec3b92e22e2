//! Host memory for copies, used again and again.
//!
//! ```text
//!  upload     free (mapped) ─ filled, unmapped ─ copied by the device ─ mapped again ─► free
//!  download   free ─ copied to by the device ─ mapped ─ read ─ unmapped ─► free
//! ```
//!
//! Sizes are powers of two, so that buffers fit later copies too.

use crate::{
    device::Shared,
    guard::{failed, poll, scoped},
};
use hedgerow_hasher_api::HashError;
use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::Duration,
};

/// Smallest staging buffer.
const LEAST: u64 = 4 << 10;
/// Free buffers of a kind that are kept. Two chunks in flight of the largest kind need four.
const KEPT: usize = 16;

fn roomy(bytes: u64) -> u64 {
    bytes.max(LEAST).next_power_of_two()
}

/// Takes the smallest of `free` with at least `bytes` bytes, if it is not far too large.
fn take(free: &mut Vec<wgpu::Buffer>, bytes: u64) -> Option<wgpu::Buffer> {
    let fits = |buffer: &wgpu::Buffer| (bytes..=4 * roomy(bytes)).contains(&buffer.size());
    let (at, _) = free.iter().enumerate().filter(|(_, b)| fits(b)).min_by_key(|(_, b)| b.size())?;
    Some(free.swap_remove(at))
}

fn keep(free: &mut Vec<wgpu::Buffer>, buffer: wgpu::Buffer) {
    if free.len() >= KEPT {
        free.remove(0);
    }
    free.push(buffer);
}

/// Staging of uploads.
#[derive(Debug)]
pub(crate) struct Uploads {
    free: Vec<wgpu::Buffer>,
    /// In commands that are not submitted.
    recorded: Vec<wgpu::Buffer>,
    mapped: (Sender<wgpu::Buffer>, Receiver<wgpu::Buffer>),
    /// What `fill` writes to. Memory that wgpu maps may be written only, not lent as a slice.
    scratch: Vec<u8>,
}

impl Uploads {
    pub(crate) fn new() -> Self {
        Self { free: vec![], recorded: vec![], mapped: channel(), scratch: vec![] }
    }

    /// A staging buffer whose first `len` bytes are filled, ready to be copied from.
    pub(crate) fn filled(
        &mut self,
        shared: &Shared,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<wgpu::Buffer, HashError> {
        while let Ok(buffer) = self.mapped.1.try_recv() {
            keep(&mut self.free, buffer);
        }
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let buffer = match take(&mut self.free, len) {
            Some(buffer) => buffer,
            None => shared.buffer(roomy(len), usage, true)?,
        };
        let bytes = usize::try_from(len).map_err(failed)?;
        if self.scratch.len() < bytes {
            self.scratch.resize(bytes.next_power_of_two(), 0);
        }
        let scratch = &mut self.scratch[..bytes];
        fill(scratch);
        buffer.get_mapped_range_mut(..len).map_err(failed)?.copy_from_slice(scratch);
        scoped(&shared.device, || buffer.unmap())?;
        self.recorded.push(buffer.clone());
        Ok(buffer)
    }

    /// Asks for the buffers of the commands that were just submitted, when they are done.
    pub(crate) fn submitted(&mut self) {
        for buffer in self.recorded.drain(..) {
            let (sender, again) = (self.mapped.0.clone(), buffer.clone());
            buffer.map_async(wgpu::MapMode::Write, .., move |mapped| {
                if mapped.is_ok() {
                    // Nobody receives it if the queue is gone.
                    let _ = sender.send(again);
                }
            });
        }
    }
}

/// Staging of downloads.
#[derive(Debug, Default)]
pub(crate) struct Downloads {
    free: Vec<wgpu::Buffer>,
    /// In commands that are not submitted.
    recorded: Vec<(wgpu::Buffer, u64, Sender<Mapped>)>,
}

type Mapped = Result<(), wgpu::BufferAsyncError>;

/// A staging buffer on its way to be mapped.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) buffer: wgpu::Buffer,
    len: u64,
    mapped: Receiver<Mapped>,
}

impl Downloads {
    /// A staging buffer to copy `len` bytes to.
    pub(crate) fn pending(&mut self, shared: &Shared, len: u64) -> Result<Pending, HashError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let buffer = match take(&mut self.free, len) {
            Some(buffer) => buffer,
            None => shared.buffer(roomy(len), usage, false)?,
        };
        let (sender, mapped) = channel();
        self.recorded.push((buffer.clone(), len, sender));
        Ok(Pending { buffer, len, mapped })
    }

    /// Asks for the buffers of the commands that were just submitted, when they are done.
    pub(crate) fn submitted(&mut self) {
        for (buffer, len, sender) in self.recorded.drain(..) {
            buffer.map_async(wgpu::MapMode::Read, ..len, move |mapped| {
                // Nobody receives it if the download is gone.
                let _ = sender.send(mapped);
            });
        }
    }

    /// Shows the bytes of a download whose commands are done.
    pub(crate) fn read(
        &mut self,
        shared: &Shared,
        pending: Pending,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<(), HashError> {
        let Pending { buffer, len, mapped } = pending;
        wait_for(shared, &mapped)?;
        read(&buffer.get_mapped_range(..len).map_err(failed)?);
        scoped(&shared.device, || buffer.unmap())?;
        keep(&mut self.free, buffer);
        Ok(())
    }
}

/// The answer comes within the poll that was done before, or within that of another thread, which
/// may not have come to it yet.
fn wait_for(shared: &Shared, mapped: &Receiver<Mapped>) -> Result<(), HashError> {
    loop {
        match mapped.recv_timeout(Duration::from_millis(20)) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => return Err(failed(format!("a download failed: {error}"))),
            Err(RecvTimeoutError::Disconnected) => return Err(failed("a download was given up")),
            Err(RecvTimeoutError::Timeout) => {
                shared.health.check(shared.health.uncaptured())?;
                poll(&shared.device, None)?;
            }
        }
    }
}
