//! What waits in streams, and what happens when it is forced.

use super::State;
use crate::{
    Code, code,
    driver::pinned::Pinned,
    machine::{self, Fault, Launch, POISON},
    ptx::Kernel,
};
use std::{
    hash::{DefaultHasher, Hasher},
    ops::Range,
    sync::Arc,
};

/// A piece of work; addresses of the host are plain numbers.
#[derive(Debug)]
pub(crate) enum Work {
    Upload {
        to: u64,
        from: usize,
        len: usize,
    },
    Download {
        from: u64,
        to: usize,
        len: usize,
    },
    Kernel {
        kernel: Arc<Kernel>,
        grid: u32,
        block: u32,
        parameters: Vec<u8>,
    },
    Free {
        address: u64,
    },
    /// The stream goes on when this many pieces of another one are done.
    Wait {
        stream: u64,
        number: u64,
    },
}

/// Work with what its source looked like when it was asked for.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) work: Work,
    sum: u64,
}

impl Work {
    /// Whether it touches an allocation; of a kernel: whether it points there.
    pub(super) fn touches(&self, allocation: &Range<u64>) -> bool {
        match self {
            Self::Upload { to, .. } => allocation.contains(to),
            Self::Download { from, .. } => allocation.contains(from),
            Self::Kernel { parameters, .. } => {
                let mut words = parameters.as_chunks().0.iter();
                words.any(|word| allocation.contains(&u64::from_le_bytes(*word)))
            }
            Self::Free { address } => allocation.contains(address),
            Self::Wait { .. } => false,
        }
    }

    /// Whether it reads or writes that memory of the host.
    pub(super) fn touches_host(&self, pinned: &Pinned) -> bool {
        match *self {
            Self::Upload { from: host, len, .. } | Self::Download { to: host, len, .. } => {
                pinned.holds(host, len)
            }
            _ => false,
        }
    }
}

fn sum(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

impl State {
    /// Puts work at the end of a stream.
    pub(crate) fn put(&mut self, stream: u64, work: Work) -> Result<(), Code> {
        self.stream(stream)?;
        let sum = self.check_host(&work)?;
        let stream = self.stream(stream)?;
        stream.waiting.push_back(Pending { work, sum });
        stream.put += 1;
        Ok(())
    }

    /// Checks the host side of a copy; poisons what it will overwrite.
    fn check_host(&mut self, work: &Work) -> Result<u64, Code> {
        let (address, len, is_download) = match *work {
            Work::Upload { from, len, .. } => (from, len, false),
            Work::Download { to, len, .. } => (to, len, true),
            _ => return Ok(0),
        };
        let Some(pinned) = self.pinned(address, len) else {
            self.violation(format!("copies {len} bytes at {address:#x}, which is not pinned"));
            return Err(code::INVALID_VALUE);
        };
        if !is_download {
            return Ok(sum(&pinned.read(address, len)));
        }
        if pinned.is_write_combined() {
            self.violation("downloads into write-combined memory: slow to read".into());
            return Err(code::INVALID_VALUE);
        }
        pinned.write(address, &vec![POISON; len]);
        Ok(0)
    }

    /// A piece of work that ends when the event does.
    pub(crate) fn wait_for(&mut self, stream: u64, event: u64) -> Result<(), Code> {
        match self.event(event)?.recorded {
            Some((other, number)) => self.put(stream, Work::Wait { stream: other, number }),
            None => Ok(()),
        }
    }

    /// Does everything that waits in a stream.
    pub(crate) fn synchronise(&mut self, stream: u64) -> Result<(), Code> {
        let put = self.stream(stream)?.put;
        self.force(stream, put)
    }

    /// Does everything that waits in the current context.
    pub(crate) fn synchronise_all(&mut self) -> Result<(), Code> {
        let device = self.current_device()?;
        let of_device = self.streams.iter().filter(|(_, stream)| stream.device == device);
        let all: Vec<u64> = of_device.map(|(&handle, _)| handle).collect();
        all.into_iter().try_for_each(|stream| self.synchronise(stream))
    }

    /// Does what an event waits for.
    pub(crate) fn synchronise_event(&mut self, event: u64) -> Result<(), Code> {
        match self.event(event)?.recorded {
            Some((stream, number)) => self.force(stream, number),
            None => Ok(()),
        }
    }

    /// Does one piece of what an event waits for; `NOT_READY` while there is more.
    pub(crate) fn query_event(&mut self, event: u64) -> Result<(), Code> {
        let Some((stream, number)) = self.event(event)?.recorded else { return Ok(()) };
        let Some(done) = self.streams.get(&stream).map(|stream| stream.done) else {
            return Ok(());
        };
        if done >= number {
            return Ok(());
        }
        if self.is_hung() {
            return Err(code::NOT_READY);
        }
        self.force(stream, done + 1)?;
        Err(code::NOT_READY)
    }

    /// Runs a stream until `number` pieces of it are done.
    fn force(&mut self, handle: u64, number: u64) -> Result<(), Code> {
        loop {
            let Some(stream) = self.streams.get_mut(&handle) else { return Ok(()) };
            let device = stream.device;
            if stream.done >= number {
                // Also after the context was hurt meanwhile.
                let context = self.devices[device].context.as_ref();
                return context.and_then(|context| context.error).map_or(Ok(()), Err);
            }
            let Some(pending) = stream.waiting.pop_front() else { return Ok(()) };
            stream.done += 1;
            if let Err(injected) = self.failure("execute") {
                self.hurt(device, injected);
            } else if let Err(fault) = self.execute(device, pending) {
                self.violation(fault.text);
                self.hurt(device, fault.code);
            }
        }
    }

    fn execute(&mut self, device: usize, Pending { work, sum }: Pending) -> Result<(), Fault> {
        match work {
            Work::Upload { to, from, len } => {
                let bytes = self.host_bytes(from, len)?;
                if self::sum(&bytes) != sum {
                    self.violation(format!(
                        "{len} bytes at {from:#x} changed after their upload was asked for"
                    ));
                }
                self.devices[device].memory.slice(to, len as u64)?.copy_from_slice(&bytes);
            }
            Work::Download { from, to, len } => {
                let bytes = self.devices[device].memory.slice(from, len as u64)?.to_vec();
                match self.pinned(to, len) {
                    Some(pinned) => pinned.write(to, &bytes),
                    None => return Err(gone(to)),
                }
            }
            Work::Kernel { kernel, grid, block, parameters } => {
                self.launches += 1;
                let backward = self.launches.is_multiple_of(2);
                let parameters = &parameters;
                let launch = Launch { kernel: &kernel, grid, block, parameters, backward };
                machine::run(&launch, &mut self.devices[device].memory)?;
            }
            Work::Free { address } => self.devices[device].memory.release(address),
            Work::Wait { stream, number } => {
                // Its error is the context's, found there.
                let _ = self.force(stream, number);
            }
        }
        Ok(())
    }

    fn host_bytes(&self, address: usize, len: usize) -> Result<Vec<u8>, Fault> {
        match self.pinned(address, len) {
            Some(pinned) => Ok(pinned.read(address, len)),
            None => Err(gone(address)),
        }
    }
}

fn gone(address: usize) -> Fault {
    let text = format!("a copy touches host memory at {address:#x}, which was freed meanwhile");
    Fault { code: code::ILLEGAL_ADDRESS, text }
}
