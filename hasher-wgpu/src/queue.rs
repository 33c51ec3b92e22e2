//! A queue: commands recorded in order, submitted when asked or when they hold much staging.
//!
//! Every queue records commands of its own; all submit to the one queue that wgpu has. wgpu puts the
//! barriers between commands that use the same buffer.

use crate::{
    context::Shared,
    guard::{failed, scoped},
    launch::Bound,
    pipelines::Pipelines,
    staging::{Downloads, Pending, Uploads},
};
use hedgerow_hasher_api::HashError;
use hedgerow_hasher_device::{Buffer, Launch, Queue, check_range};
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// Memory on a GPU.
#[derive(Debug)]
pub struct WgpuBuffer {
    pub(crate) buffer: wgpu::Buffer,
    queue: QueueId,
}

/// Who made a buffer or a download. wgpu does not notice those of another instance.
type QueueId = u64;

impl Buffer for WgpuBuffer {
    fn bytes(&self) -> u64 {
        self.buffer.size()
    }
}

/// Bytes on their way from a GPU.
#[derive(Debug)]
pub struct WgpuDownload {
    pending: Pending,
    submission: Submission,
    queue: QueueId,
}

/// Known once the commands are submitted.
type Submission = Arc<OnceLock<wgpu::SubmissionIndex>>;

/// A queue of a [`WgpuDevice`](crate::WgpuDevice).
#[derive(Debug)]
pub struct WgpuQueue {
    shared: Arc<Shared>,
    pipelines: Arc<Pipelines>,
    id: QueueId,
    /// Errors that were there before this queue.
    seen: u64,
    /// The first submission that failed: what came after it is worthless.
    broken: Option<HashError>,
    encoder: Option<wgpu::CommandEncoder>,
    submission: Submission,
    uploads: Uploads,
    downloads: Downloads,
    /// Bound where a kernel has an operand that a launch does not use.
    unused: wgpu::Buffer,
}

/// Buffers that kernels use.
const STORAGE: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_SRC)
    .union(wgpu::BufferUsages::COPY_DST);

impl WgpuQueue {
    pub(crate) fn new(shared: &Arc<Shared>, pipelines: &Arc<Pipelines>) -> Result<Self, HashError> {
        static QUEUES: AtomicU64 = AtomicU64::new(0);
        let seen = shared.health.uncaptured();
        shared.health.check(seen)?;
        let id = QUEUES.fetch_add(1, Ordering::Relaxed);
        let unused = shared.buffer(32, STORAGE, false)?;
        Ok(Self {
            shared: Arc::clone(shared),
            pipelines: Arc::clone(pipelines),
            id,
            seen,
            broken: None,
            encoder: None,
            submission: Submission::default(),
            uploads: Uploads::new(),
            downloads: Downloads::default(),
            unused,
        })
    }

    fn check(&self) -> Result<(), HashError> {
        self.shared.health.check(self.seen)?;
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// Bytes of staging for uploads.
    #[cfg(test)]
    pub(crate) fn staged(&self) -> u64 {
        self.uploads.held()
    }

    /// Bytes of free staging for downloads.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> u64 {
        self.downloads.kept()
    }

    fn mine(&self, queue: QueueId) -> Result<(), HashError> {
        if queue == self.id {
            Ok(())
        } else {
            Err(HashError::Shape("a buffer or download of another queue"))
        }
    }

    /// Records commands. What wgpu finds wrong with them it may say now or when they are submitted.
    fn record(
        &mut self,
        commands: impl FnOnce(&mut wgpu::CommandEncoder),
    ) -> Result<(), HashError> {
        let device = &self.shared.device;
        scoped(device, || {
            let descriptor = wgpu::CommandEncoderDescriptor::default();
            commands(
                self.encoder.get_or_insert_with(|| device.create_command_encoder(&descriptor)),
            );
        })?;
        self.check()
    }
}

impl Queue for WgpuQueue {
    type Buffer = WgpuBuffer;
    type Download = WgpuDownload;

    fn allocate(&mut self, bytes: u64) -> Result<WgpuBuffer, HashError> {
        self.check()?;
        if bytes == 0 || bytes > self.shared.limits.buffer_bytes {
            return Err(HashError::Shape("a buffer of no bytes or too many"));
        }
        // Kernels see digests as pairs of 16 bytes.
        let buffer = self.shared.buffer(bytes.next_multiple_of(32), STORAGE, false)?;
        Ok(WgpuBuffer { buffer, queue: self.id })
    }

    fn upload(
        &mut self,
        to: &WgpuBuffer,
        offset: u64,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), HashError> {
        self.check()?;
        self.mine(to.queue)?;
        check_range(offset, len, to.bytes())?;
        if self.uploads.is_half_full(len) {
            self.flush()?;
        }
        let staging = self.uploads.filled(&self.shared, len, fill)?;
        self.record(|encoder| {
            encoder.copy_buffer_to_buffer(&staging, 0, &to.buffer, offset, len);
        })
    }

    fn launch(&mut self, launch: Launch<'_, WgpuBuffer>) -> Result<(), HashError> {
        self.check()?;
        launch.check(self.shared.limits)?;
        launch.buffers().try_for_each(|buffer| self.mine(buffer.queue))?;
        if launch.count() == 0 {
            return Ok(());
        }
        let (shared, pipelines) = (Arc::clone(&self.shared), Arc::clone(&self.pipelines));
        let unused = self.unused.clone();
        let bound = Bound::new(&pipelines, &launch.map(|buffer| &buffer.buffer), &unused);
        self.record(|encoder| bound.dispatch(&shared.device, encoder))
    }

    fn download(
        &mut self,
        from: &WgpuBuffer,
        offset: u64,
        len: u64,
    ) -> Result<WgpuDownload, HashError> {
        self.check()?;
        self.mine(from.queue)?;
        check_range(offset, len, from.bytes())?;
        let pending = self.downloads.pending(&self.shared, len)?;
        self.record(|encoder| {
            encoder.copy_buffer_to_buffer(&from.buffer, offset, &pending.buffer, 0, len);
        })?;
        let submission = Arc::clone(&self.submission);
        Ok(WgpuDownload { pending, submission, queue: self.id })
    }

    fn flush(&mut self) -> Result<(), HashError> {
        self.check()?;
        let Some(encoder) = self.encoder.take() else { return Ok(()) };
        let Shared { device, queue, .. } = &*self.shared;
        let (submission, uploads, downloads) =
            (std::mem::take(&mut self.submission), &mut self.uploads, &mut self.downloads);
        let submitted = scoped(device, || {
            let index = queue.submit([encoder.finish()]);
            uploads.submitted(&index);
            // Nobody else sets it.
            let _ = submission.set(index);
            downloads.submitted();
        });
        self.broken = submitted.err();
        self.check()
    }

    fn wait(
        &mut self,
        download: WgpuDownload,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<(), HashError> {
        let WgpuDownload { pending, submission, queue } = download;
        self.mine(queue)?;
        if submission.get().is_none() {
            self.flush()?;
        }
        self.check()?;
        let Some(submission) = submission.get() else {
            return Err(failed("a download was never submitted"));
        };
        self.shared.poll(Some(submission.clone()))?;
        self.check()?;
        self.downloads.read(&self.shared, pending, read)
    }
}
