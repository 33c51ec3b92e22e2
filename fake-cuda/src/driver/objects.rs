//! Contexts, modules, streams, events: their making and their end.

use super::{CURRENT, State, Work, pinned::Pinned, work::Pending};
use crate::{
    Code, code,
    ptx::{self, Kernel, Module},
};
use std::{collections::VecDeque, sync::Arc};

/// The primary context of a device.
#[derive(Debug)]
pub(super) struct Context {
    handle: u64,
    retained: u64,
    /// An execution failed: every further call answers this.
    pub(super) error: Option<Code>,
}

/// Work in order, of which nothing has happened yet.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) device: usize,
    pub(super) waiting: VecDeque<Pending>,
    /// Pieces of work ever put in, and how many of them are done.
    pub(super) put: u64,
    pub(super) done: u64,
}

/// A point in a stream: everything before the `number`-th piece of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    device: usize,
    pub(super) recorded: Option<(u64, u64)>,
}

/// How a kernel is launched.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) shared_bytes: u32,
    pub(crate) parameters: Vec<u8>,
}

impl State {
    pub(crate) fn device(&self, ordinal: i32) -> Result<usize, Code> {
        let ordinal = usize::try_from(ordinal).map_err(|_| code::INVALID_DEVICE)?;
        if ordinal < self.devices.len() { Ok(ordinal) } else { Err(code::INVALID_DEVICE) }
    }

    /// The device whose context is current on this thread.
    pub(crate) fn current_device(&self) -> Result<usize, Code> {
        let current = CURRENT.get();
        let is_current = |device: &super::Device| {
            device.context.as_ref().is_some_and(|context| context.handle == current)
        };
        self.devices.iter().position(is_current).ok_or(code::INVALID_CONTEXT)
    }

    pub(crate) fn current_context(&self) -> u64 {
        CURRENT.get()
    }

    pub(crate) fn set_current(&mut self, handle: u64) -> Result<(), Code> {
        let exists =
            self.devices.iter().flat_map(|device| &device.context).any(|c| c.handle == handle);
        if handle != 0 && !exists {
            return Err(self.stale("context", handle));
        }
        CURRENT.set(handle);
        Ok(())
    }

    pub(crate) fn retain_context(&mut self, device: usize) -> u64 {
        let fresh = self.handle();
        let context = self.devices[device].context.get_or_insert(Context {
            handle: fresh,
            retained: 0,
            error: None,
        });
        context.retained += 1;
        context.handle
    }

    /// The last release ends everything in the context.
    pub(crate) fn release_context(&mut self, device: usize) -> Result<(), Code> {
        let Some(context) = &mut self.devices[device].context else {
            return Err(code::INVALID_CONTEXT);
        };
        context.retained -= 1;
        if context.retained > 0 {
            return Ok(());
        }
        self.devices[device].context = None;
        self.devices[device].memory.release_all();
        for pinned in self.pinned.values_mut().filter(|pinned| pinned.device() == device) {
            pinned.release();
        }
        self.streams.retain(|_, stream| stream.device != device);
        self.events.retain(|_, event| event.device != device);
        self.modules.retain(|_, (of, _)| *of != device);
        Ok(())
    }

    /// An execution in this device's context failed.
    pub(super) fn hurt(&mut self, device: usize, error: Code) {
        if let Some(context) = &mut self.devices[device].context {
            context.error.get_or_insert(error);
        }
        for stream in self.streams.values_mut().filter(|stream| stream.device == device) {
            stream.waiting.clear();
            stream.done = stream.put;
        }
    }

    pub(crate) fn load_module(&mut self, text: &str) -> Result<u64, Code> {
        let device = self.current_device()?;
        let module: Module = ptx::module(text).map_err(|what| {
            self.violation(what);
            code::INVALID_PTX
        })?;
        // CUDA 12.1 reads PTX 8.1, and so on.
        let newest =
            80 + (self.version % 1000) / 10 + 10 * (self.version / 1000).saturating_sub(12);
        if module.version > newest {
            return Err(code::UNSUPPORTED_PTX_VERSION);
        }
        if module.target > self.devices[device].model.capability {
            return Err(code::INVALID_PTX);
        }
        let handle = self.handle();
        self.modules.insert(handle, (device, Arc::new(module)));
        Ok(handle)
    }

    pub(crate) fn unload_module(&mut self, handle: u64) -> Result<(), Code> {
        if self.modules.remove(&handle).is_none() {
            return Err(self.stale("module", handle));
        }
        self.functions.retain(|_, (module, _)| *module != handle);
        Ok(())
    }

    pub(crate) fn function(&mut self, module: u64, name: &str) -> Result<u64, Code> {
        let Some((_, found)) = self.modules.get(&module) else {
            return Err(self.stale("module", module));
        };
        let kernel = found.kernels.get(name).cloned().ok_or(code::NOT_FOUND)?;
        let handle = self.handle();
        self.functions.insert(handle, (module, Arc::new(kernel)));
        Ok(handle)
    }

    /// The kernel of a function handle.
    pub(crate) fn kernel(&mut self, function: u64) -> Result<Arc<Kernel>, Code> {
        match self.functions.get(&function) {
            Some((_, kernel)) => Ok(kernel.clone()),
            None => Err(self.stale("function", function)),
        }
    }

    pub(crate) fn create_stream(&mut self) -> Result<u64, Code> {
        let device = self.current_device()?;
        let handle = self.handle();
        let stream = Stream { device, waiting: VecDeque::new(), put: 0, done: 0 };
        self.streams.insert(handle, stream);
        Ok(handle)
    }

    /// What waits in the stream still happens.
    pub(crate) fn destroy_stream(&mut self, handle: u64) -> Result<(), Code> {
        let finished = self.synchronise(handle);
        self.streams.remove(&handle);
        finished
    }

    pub(crate) fn create_event(&mut self) -> Result<u64, Code> {
        let device = self.current_device()?;
        let handle = self.handle();
        self.events.insert(handle, Event { device, recorded: None });
        Ok(handle)
    }

    pub(crate) fn event(&mut self, handle: u64) -> Result<Event, Code> {
        match self.events.get(&handle) {
            Some(event) => Ok(*event),
            None => Err(self.stale("event", handle)),
        }
    }

    pub(crate) fn destroy_event(&mut self, handle: u64) -> Result<(), Code> {
        self.event(handle)?;
        self.events.remove(&handle);
        Ok(())
    }

    pub(crate) fn record(&mut self, event: u64, stream: u64) -> Result<(), Code> {
        let device = self.event(event)?.device;
        let put = self.stream(stream)?.put;
        self.events.insert(event, Event { device, recorded: Some((stream, put)) });
        Ok(())
    }

    /// A stream of the current context.
    pub(super) fn stream(&mut self, handle: u64) -> Result<&mut Stream, Code> {
        let device = self.current_device()?;
        if self.streams.get(&handle).is_none_or(|stream| stream.device != device) {
            return Err(self.stale("stream of this context", handle));
        }
        self.streams.get_mut(&handle).ok_or(code::INVALID_HANDLE)
    }

    /// Checks what a launch asks for as the driver would.
    pub(crate) fn launch(
        &mut self,
        stream: u64,
        kernel: Arc<Kernel>,
        arguments: Arguments,
    ) -> Result<(), Code> {
        let Arguments { grid, block, shared_bytes, parameters } = arguments;
        let most = kernel.max_threads.unwrap_or(1024).min(1024);
        let flat = grid[1..] == [1, 1] && block[1..] == [1, 1] && shared_bytes == 0;
        let grid_fits = (1..=i32::MAX as u32).contains(&grid[0]);
        if !flat || !grid_fits || !(1..=most).contains(&block[0]) {
            let what = format!("launch of {}: grid {grid:?}, block {block:?}", kernel.name);
            self.violation(format!("{what}, {shared_bytes} bytes of shared memory"));
            return Err(code::INVALID_VALUE);
        }
        self.put(stream, Work::Kernel { kernel, grid: grid[0], block: block[0], parameters })
    }

    pub(crate) fn allocate(&mut self, len: u64) -> Result<u64, Code> {
        if len == 0 {
            return Err(code::INVALID_VALUE);
        }
        let device = self.current_device()?;
        self.devices[device].memory.allocate(len).ok_or(code::OUT_OF_MEMORY)
    }

    /// Allocates on a device with memory pools.
    pub(crate) fn allocate_in_order(&mut self, len: u64, stream: u64) -> Result<u64, Code> {
        let device = self.stream(stream)?.device;
        if !self.devices[device].model.pools {
            self.violation("allocates in stream order on a device without memory pools".into());
            return Err(code::INVALID_VALUE);
        }
        self.allocate(len)
    }

    /// The current device, if `address` is where a live allocation of it begins.
    pub(crate) fn owner(&mut self, address: u64) -> Result<usize, Code> {
        let device = self.current_device()?;
        if self.devices[device].memory.is_base(address) {
            return Ok(device);
        }
        self.violation(format!("frees {address:#x}, where no live allocation begins"));
        Err(code::INVALID_VALUE)
    }

    /// Frees at once. No work that waits may touch it.
    pub(crate) fn free(&mut self, address: u64) -> Result<(), Code> {
        let device = self.owner(address)?;
        let allocation = self.devices[device].memory.extent(address);
        let streams = self.streams.values().filter(|stream| stream.device == device);
        let mut waiting = streams.flat_map(|stream| &stream.waiting);
        if waiting.any(|pending| pending.work.touches(&allocation)) {
            self.violation(format!("frees {address:#x}, which waiting work uses"));
        }
        self.devices[device].memory.release(address);
        Ok(())
    }

    pub(crate) fn pin(&mut self, len: usize, flags: u32) -> Result<usize, Code> {
        let device = self.current_device()?;
        let pinned = Pinned::new(device, len, flags).ok_or(code::OUT_OF_MEMORY)?;
        let address = pinned.address();
        self.pinned.insert(address, pinned);
        Ok(address)
    }

    /// Frees pinned memory. No copy that waits may touch it.
    pub(crate) fn unpin(&mut self, address: usize) -> Result<(), Code> {
        let Some(pinned) = self.pinned.get(&address).filter(|pinned| pinned.is_live()) else {
            self.violation(format!("frees host memory at {address:#x}, which is not pinned"));
            return Err(code::INVALID_VALUE);
        };
        let mut waiting = self.streams.values().flat_map(|stream| &stream.waiting);
        if waiting.any(|pending| pending.work.touches_host(pinned)) {
            self.violation(format!("frees host memory at {address:#x}, which waiting copies use"));
        }
        if let Some(pinned) = self.pinned.get_mut(&address) {
            pinned.release();
        }
        Ok(())
    }

    /// The pinned memory around a range of the host.
    pub(super) fn pinned(&self, address: usize, len: usize) -> Option<&Pinned> {
        let (_, pinned) = self.pinned.range(..=address).next_back()?;
        (pinned.is_live() && pinned.holds(address, len)).then_some(pinned)
    }
}
