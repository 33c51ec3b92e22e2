//! Host memory for copies, used again and again.
//!
//! ```text
//!  upload     free (mapped) ─ filled, unmapped ─ copied by the device ─ mapped again ─► free
//!             └─────────────────── together at most MOST_STAGED bytes ───────────────────┘
//!  download   free ─ copied to by the device ─ mapped ─ read ─ unmapped ─► free
//!             └ at most MOST_STAGED bytes                         ditto ┘
//! ```
//!
//! Sizes are powers of two, so that buffers fit later copies too.
//!
//! Uploads without end (the rows of a large tree) must not take as much staging as they have bytes. So
//! the queue submits what it has recorded when half of the bound is recorded, and a copy that finds
//! no room waits for the oldest submissions. Downloads that nobody has read belong to the caller, who
//! asked for them: only those that nobody uses are bounded.

use crate::{
    context::Shared,
    guard::{failed, scoped},
};
use hedgerow_hasher_api::HashError;
use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

/// Smallest staging buffer.
const LEAST: u64 = 4 << 10;
/// Bytes of staging that a queue has for uploads, more only for one that is larger by itself; and of
/// free staging that it keeps for downloads. Two chunks in flight need less, so that hashing batches
/// never waits here, and there is enough to fill one half while the device copies the other.
pub(crate) const MOST_STAGED: u64 = 64 << 20;
/// Free buffers of a kind that are kept. Two chunks in flight of the largest kind need four.
const KEPT: usize = 16;
/// Between two looks whether the device is still there.
const A_MOMENT: Duration = Duration::from_millis(20);

fn roomy(bytes: u64) -> u64 {
    bytes.max(LEAST).next_power_of_two()
}

/// Buffers that nobody uses, the oldest first.
#[derive(Debug, Default)]
struct Free {
    buffers: VecDeque<wgpu::Buffer>,
    bytes: u64,
}

impl Free {
    /// Takes the smallest with at least `bytes` bytes, if it is not far too large.
    fn take(&mut self, bytes: u64) -> Option<wgpu::Buffer> {
        let fits = |buffer: &wgpu::Buffer| (bytes..=4 * roomy(bytes)).contains(&buffer.size());
        let fitting = self.buffers.iter().enumerate().filter(|(_, buffer)| fits(buffer));
        let (at, _) = fitting.min_by_key(|(_, buffer)| buffer.size())?;
        let buffer = self.buffers.remove(at)?;
        self.bytes -= buffer.size();
        Some(buffer)
    }

    /// Frees the oldest; false: there is none.
    fn drop_oldest(&mut self) -> bool {
        let oldest = self.buffers.pop_front();
        self.bytes -= oldest.as_ref().map_or(0, wgpu::Buffer::size);
        oldest.is_some()
    }

    /// Keeps a buffer, and of the older ones as many as may be kept beside it.
    fn keep(&mut self, buffer: wgpu::Buffer) {
        self.bytes += buffer.size();
        self.buffers.push_back(buffer);
        while self.buffers.len() > KEPT || self.bytes > MOST_STAGED {
            self.drop_oldest();
        }
    }
}

/// Staging of uploads.
#[derive(Debug)]
pub(crate) struct Uploads {
    free: Free,
    /// In commands that are not submitted.
    recorded: Vec<wgpu::Buffer>,
    /// In commands that are submitted, the oldest first, each until it is mapped again.
    submitted: VecDeque<(wgpu::Buffer, wgpu::SubmissionIndex)>,
    recorded_bytes: u64,
    submitted_bytes: u64,
    returns: (Sender<Returned>, Receiver<Returned>),
    /// What `fill` writes to. Memory that wgpu maps may be written only, not lent as a slice.
    scratch: Vec<u8>,
}

/// A buffer that the device is done with, and whether it is mapped.
type Returned = (wgpu::Buffer, bool);

/// Returns a buffer when it is dropped, however wgpu ends the mapping, also without calling back: nobody
/// waits for it in vain.
struct Return {
    to: Sender<Returned>,
    buffer: wgpu::Buffer,
    mapped: bool,
}

impl Return {
    fn ended(mut self, mapped: bool) {
        self.mapped = mapped;
    }
}

impl Drop for Return {
    fn drop(&mut self) {
        // Nobody receives it if the queue is gone.
        let _ = self.to.send((self.buffer.clone(), self.mapped));
    }
}

impl Uploads {
    pub(crate) fn new() -> Self {
        Self {
            free: Free::default(),
            recorded: vec![],
            submitted: VecDeque::new(),
            recorded_bytes: 0,
            submitted_bytes: 0,
            returns: channel(),
            scratch: vec![],
        }
    }

    /// Bytes of all its buffers.
    pub(crate) fn held(&self) -> u64 {
        self.free.bytes + self.recorded_bytes + self.submitted_bytes
    }

    /// Whether what is recorded should be submitted before `len` bytes more.
    pub(crate) fn is_half_full(&self, len: u64) -> bool {
        !self.recorded.is_empty() && self.recorded_bytes + roomy(len) > MOST_STAGED / 2
    }

    /// A staging buffer whose first `len` bytes are filled, ready to be copied from. Waits for the
    /// device if all staging is in use.
    pub(crate) fn filled(
        &mut self,
        shared: &Shared,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<wgpu::Buffer, HashError> {
        let buffer = self.buffer(shared, len)?;
        let bytes = usize::try_from(len).map_err(failed)?;
        if self.scratch.len() < bytes {
            self.scratch.resize(bytes.next_power_of_two(), 0);
        }
        let scratch = &mut self.scratch[..bytes];
        fill(scratch);
        buffer.get_mapped_range_mut(..len).map_err(failed)?.copy_from_slice(scratch);
        scoped(&shared.device, || buffer.unmap())?;
        self.recorded_bytes += buffer.size();
        self.recorded.push(buffer.clone());
        Ok(buffer)
    }

    /// A mapped buffer of `len` bytes or more: a free one, or a new one as soon as there is room. One
    /// that is larger than the bound has no other beside it.
    fn buffer(&mut self, shared: &Shared, len: u64) -> Result<wgpu::Buffer, HashError> {
        let start = Instant::now();
        while let Ok(back) = self.returns.1.try_recv() {
            self.returned(back);
        }
        loop {
            if let Some(buffer) = self.free.take(len) {
                return Ok(buffer);
            }
            let fits = self.held() + roomy(len) <= MOST_STAGED;
            if !fits && (self.free.drop_oldest() || self.wait_for_oldest(shared)?) {
                if start.elapsed() > shared.patience {
                    return Err(shared.no_answer());
                }
                continue;
            }
            let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
            return shared.buffer(roomy(len), usage, true);
        }
    }

    /// Waits until the device is done with the oldest submission, at least with one buffer of it;
    /// false: nothing is submitted.
    fn wait_for_oldest(&mut self, shared: &Shared) -> Result<bool, HashError> {
        let Some((_, oldest)) = self.submitted.front() else { return Ok(false) };
        shared.poll(Some(oldest.clone()))?;
        // It comes within this poll, or within that of another thread, which may not have come to it
        // yet. The sender is our own, so that the channel does not end.
        match self.returns.1.recv_timeout(A_MOMENT) {
            Ok(back) => self.returned(back),
            Err(_) => shared.health.check(shared.health.uncaptured())?,
        }
        Ok(true)
    }

    fn returned(&mut self, (buffer, mapped): Returned) {
        // As a rule the first.
        let at = self.submitted.iter().position(|(submitted, _)| *submitted == buffer);
        if at.and_then(|at| self.submitted.remove(at)).is_some() {
            self.submitted_bytes -= buffer.size();
            if mapped {
                self.free.keep(buffer);
            }
        }
    }

    /// Asks for the buffers of the commands that were just submitted, when they are done.
    pub(crate) fn submitted(&mut self, submission: &wgpu::SubmissionIndex) {
        self.submitted_bytes += std::mem::take(&mut self.recorded_bytes);
        for buffer in self.recorded.drain(..) {
            self.submitted.push_back((buffer.clone(), submission.clone()));
            let to = self.returns.0.clone();
            let back = Return { to, buffer: buffer.clone(), mapped: false };
            buffer.map_async(wgpu::MapMode::Write, .., move |mapped| {
                back.ended(mapped.is_ok());
            });
        }
    }
}

/// Staging of downloads.
#[derive(Debug, Default)]
pub(crate) struct Downloads {
    free: Free,
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
    /// Bytes of those that nobody uses.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> u64 {
        self.free.bytes
    }

    /// A staging buffer to copy `len` bytes to.
    pub(crate) fn pending(&mut self, shared: &Shared, len: u64) -> Result<Pending, HashError> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let buffer = match self.free.take(len) {
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
        self.free.keep(buffer);
        Ok(())
    }
}

/// The answer comes within the poll that was done before, or within that of another thread, which
/// may not have come to it yet.
fn wait_for(shared: &Shared, mapped: &Receiver<Mapped>) -> Result<(), HashError> {
    let start = Instant::now();
    loop {
        match mapped.recv_timeout(A_MOMENT) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => return Err(failed(format!("a download failed: {error}"))),
            Err(RecvTimeoutError::Disconnected) => return Err(failed("a download was given up")),
            Err(RecvTimeoutError::Timeout) if start.elapsed() > shared.patience => {
                return Err(shared.no_answer());
            }
            Err(RecvTimeoutError::Timeout) => {
                shared.health.check(shared.health.uncaptured())?;
                shared.poll(None)?;
            }
        }
    }
}
