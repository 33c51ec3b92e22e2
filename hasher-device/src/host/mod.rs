//! The CPU that pretends to be a device, and a hostile one: what a driver may do, it does.
//!
//! ```text
//!        upload, launch, download ──► a list          nothing happens ...
//!                          wait ──► done in order     ... until a download is waited for, and then
//!                                   up to it          only what lies before it
//! ```
//!
//! * Fresh buffers and staging memory are full of noise, another each time.
//! * Everything is checked when it is done: bounds of places, spans and flips too, and that places
//!   are distinct. A violation is an `Err`.
//! * Any call can be made to fail, see [`HostDevice::fail_at`]. The work done inside `wait` counts as
//!   calls too: real devices report failures late.

mod memory;
mod run;

use crate::{Buffer, Device, Launch, Limits, Queue, check_range};
use hedgerow_hasher_api::{Capabilities, HashError};
use memory::{Memory, noise};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// How an injected failure ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// One call fails, those after it do not.
    Once,
    /// The device is gone: all calls after it fail too, with [`HashError::DeviceLost`].
    Lost,
}

/// The CPU as a [`Device`], for tests. Clones are the same device.
#[derive(Clone, Debug)]
pub struct HostDevice {
    limits: Limits,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    fail_at: Option<(u64, Failure)>,
    lost: bool,
}

impl HostDevice {
    /// A device with these limits.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Arc::default() }
    }

    /// Calls so far, the deferred ones as they are done.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Lets the `n`-th call from now fail; 0 is the next one. Replaces what was asked for before.
    pub fn fail_at(&self, n: u64, failure: Failure) {
        let mut state = self.state();
        state.fail_at = Some((state.calls + n, failure));
    }

    /// Whether the failure that was asked for has not happened.
    pub fn failure_pending(&self) -> bool {
        self.state().fail_at.is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call of the driver.
    fn call(&self, what: &str) -> Result<(), HashError> {
        let mut state = self.state();
        let call = state.calls;
        state.calls += 1;
        if let Some((_, failure)) = state.fail_at.take_if(|(at, _)| *at == call) {
            if failure == Failure::Once {
                return Err(failed(&format!("{what}: injected failure at call {call}")));
            }
            state.lost = true;
        }
        if state.lost {
            return Err(HashError::DeviceLost { backend: NAME.into(), reason: what.into() });
        }
        Ok(())
    }
}

const NAME: &str = "host";

fn failed(reason: &str) -> HashError {
    HashError::Device { backend: NAME.into(), reason: reason.into() }
}

impl Device for HostDevice {
    type Queue = HostQueue;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: NAME.into(),
            device: "the CPU as a device, for tests".into(),
            lanes: 1,
            full_speed_batch: 1,
            is_device: true,
        }
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn queue(&self) -> Result<HostQueue, HashError> {
        static QUEUES: AtomicU64 = AtomicU64::new(0);
        self.call("queue")?;
        let id = QUEUES.fetch_add(1, Ordering::Relaxed);
        Ok(HostQueue { device: self.clone(), id, begun: 0, waiting: VecDeque::new() })
    }
}

/// Memory of a [`HostDevice`].
#[derive(Clone, Debug)]
pub struct HostBuffer {
    memory: Memory,
    queue: u64,
    bytes: u64,
}

impl Buffer for HostBuffer {
    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// A download from a [`HostDevice`].
#[derive(Debug)]
pub struct HostDownload {
    to: Memory,
    queue: u64,
    /// Which of the deferred steps brings it.
    step: u64,
}

/// A queue of a [`HostDevice`].
#[derive(Debug)]
pub struct HostQueue {
    device: HostDevice,
    id: u64,
    /// Steps taken from the front of the list so far.
    begun: u64,
    waiting: VecDeque<Step>,
}

/// Work that waits to be done.
#[derive(Debug)]
enum Step {
    Copy { from: HostBuffer, from_offset: u64, to: HostBuffer, to_offset: u64, bytes: u64 },
    Launch(run::Owned),
}

impl HostQueue {
    fn mine(&self, buffer: &HostBuffer) -> Result<(), HashError> {
        if buffer.queue == self.id {
            Ok(())
        } else {
            Err(HashError::Shape("a buffer of another queue"))
        }
    }

    fn wrap(&self, bytes: Vec<u8>) -> HostBuffer {
        HostBuffer { bytes: bytes.len() as u64, memory: Memory::new(bytes), queue: self.id }
    }

    /// Defers a copy, if it is a legal one.
    fn defer_copy(
        &mut self,
        (from, from_offset): (&HostBuffer, u64),
        (to, to_offset): (&HostBuffer, u64),
        bytes: u64,
    ) -> Result<(), HashError> {
        for buffer in [from, to] {
            self.mine(buffer)?;
        }
        check_range(from_offset, bytes, from.bytes)?;
        check_range(to_offset, bytes, to.bytes)?;
        let (from, to) = (from.clone(), to.clone());
        self.waiting.push_back(Step::Copy { from, from_offset, to, to_offset, bytes });
        Ok(())
    }

    /// Does the deferred steps up to and with `last`.
    fn force(&mut self, last: u64) -> Result<(), HashError> {
        while self.begun <= last {
            let Some(step) = self.waiting.pop_front() else {
                return Err(failed("the step is not there: an earlier one failed"));
            };
            self.begun += 1;
            match step {
                Step::Copy { from, from_offset, to, to_offset, bytes } => {
                    self.device.call("deferred copy")?;
                    let bytes = from.memory.read(from_offset, bytes)?;
                    to.memory.write(to_offset, &bytes)?;
                }
                Step::Launch(launch) => {
                    self.device.call("deferred launch")?;
                    run::run(&launch)?;
                }
            }
        }
        Ok(())
    }
}

impl Queue for HostQueue {
    type Buffer = HostBuffer;
    type Download = HostDownload;

    fn allocate(&mut self, bytes: u64) -> Result<HostBuffer, HashError> {
        self.device.call("allocate")?;
        if bytes == 0 || bytes > self.device.limits.buffer_bytes {
            return Err(HashError::Shape("a buffer of no bytes or too many"));
        }
        Ok(self.wrap(noise(bytes)))
    }

    fn upload(
        &mut self,
        to: &HostBuffer,
        offset: u64,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), HashError> {
        self.device.call("upload")?;
        check_range(offset, len, to.bytes)?;
        let mut staging = noise(len);
        fill(&mut staging);
        let staging = self.wrap(staging);
        self.defer_copy((&staging, 0), (to, offset), len)
    }

    fn launch(&mut self, launch: Launch<'_, HostBuffer>) -> Result<(), HashError> {
        self.device.call("launch")?;
        launch.check(self.device.limits)?;
        let owned = run::Owned::new(&launch);
        owned.buffers().try_for_each(|buffer| self.mine(buffer))?;
        self.waiting.push_back(Step::Launch(owned));
        Ok(())
    }

    fn download(
        &mut self,
        from: &HostBuffer,
        offset: u64,
        len: u64,
    ) -> Result<HostDownload, HashError> {
        self.device.call("download")?;
        check_range(offset, len, from.bytes)?;
        let to = self.wrap(noise(len));
        self.defer_copy((from, offset), (&to, 0), len)?;
        let step = self.begun + self.waiting.len() as u64 - 1;
        Ok(HostDownload { to: to.memory, queue: self.id, step })
    }

    fn flush(&mut self) -> Result<(), HashError> {
        self.device.call("flush")
    }

    fn wait(
        &mut self,
        download: HostDownload,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<(), HashError> {
        self.device.call("wait")?;
        if download.queue != self.id {
            return Err(HashError::Shape("a download of another queue"));
        }
        self.force(download.step)?;
        download.to.show(read);
        Ok(())
    }
}
