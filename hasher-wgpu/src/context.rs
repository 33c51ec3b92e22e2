//! What everything of a device has in common: wgpu's objects, and waiting for them.

use crate::guard::{Health, failed, scoped};
use hedgerow_hasher_api::HashError;
use hedgerow_hasher_device::Limits;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

/// What a device, its queues and their staging share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) device: wgpu::Device,
    pub(crate) queue: wgpu::Queue,
    pub(crate) health: Arc<Health>,
    pub(crate) limits: Limits,
    /// How long a wait may take.
    pub(crate) patience: Duration,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // wgpu waits for all of a queue's work when it drops it.
        if self.health.is_hung() {
            std::mem::forget((self.device.clone(), self.queue.clone()));
        }
    }
}

impl Shared {
    /// A buffer.
    ///
    /// # Errors
    /// [`HashError::Device`] if there is no memory.
    pub(crate) fn buffer(
        &self,
        bytes: u64,
        usage: wgpu::BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<wgpu::Buffer, HashError> {
        if bytes > self.device.limits().max_buffer_size {
            return Err(failed(format!("a buffer of {bytes} bytes is too large")));
        }
        scoped(&self.device, || {
            self.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: bytes,
                usage,
                mapped_at_creation,
            })
        })
    }

    /// Lets wgpu see what the device has done, and waits for `submission` if there is one, as long as
    /// anybody should wait for a device; then it is lost.
    ///
    /// wgpu 30 panics here if the device is lost in the meantime, and offers no other way to wait. It
    /// does so after its work is done and without a lock, so that going on is safe.
    pub(crate) fn poll(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), HashError> {
        let poll = match submission {
            Some(_) => {
                wgpu::PollType::Wait { submission_index: submission, timeout: Some(self.patience) }
            }
            None => wgpu::PollType::Poll,
        };
        match catch_unwind(AssertUnwindSafe(|| self.device.poll(poll))) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(wgpu::PollError::Timeout)) => Err(self.no_answer()),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(failed("wgpu panicked while it waited for the device")),
        }
    }

    /// The error of a wait that took too long. The device is lost.
    pub(crate) fn no_answer(&self) -> HashError {
        self.health.no_answer(self.patience)
    }
}
