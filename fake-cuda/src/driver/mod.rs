//! The driver's objects and what may be done with them; one [`State`] per process.
//!
//! ```text
//!  call ──► enter: counted; injected failure? initialised? context current and unhurt?
//!             │
//!             ▼
//!           streams   [upload][kernel][wait ●][download]     nothing runs when it is asked for
//!                                          ╎
//!           force ────────────────────────►┘                 synchronise, event: runs up to there
//! ```

mod objects;
mod pinned;
#[cfg(test)]
mod tests;
mod work;

pub(crate) use objects::{Arguments, Event};
pub(crate) use pinned::Pinned;
pub(crate) use work::Work;

use crate::{
    Code, code,
    machine::Memory,
    ptx::{Kernel, Module},
};
use objects::{Context, Stream};
use std::{
    cell::Cell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    thread,
};

/// What a device is made to look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    pub(crate) name: &'static str,
    /// Compute capability, 10 times the major number plus the minor.
    pub(crate) capability: u32,
    /// Whether memory can be allocated in stream order.
    pub(crate) pools: bool,
    pub(crate) bytes: u64,
}

/// One of each kind: with and without memory pools, and one too old for the kernels.
const MODELS: [Model; 3] = [
    Model { name: "Fake device with pools", capability: 90, pools: true, bytes: 1 << 30 },
    Model { name: "Fake device without pools", capability: 75, pools: false, bytes: 1 << 28 },
    Model { name: "Fake device, too old", capability: 52, pools: false, bytes: 1 << 28 },
];

impl Model {
    /// `cuDeviceGetAttribute`; `None` for what nobody has asked for yet.
    pub(crate) fn attribute(&self, attribute: u32) -> Option<i32> {
        let value = match attribute {
            // Threads per block, warp size, multiprocessors, compute mode (default).
            1 => 1024,
            10 => 32,
            16 => 8,
            20 => 0,
            // Threads per multiprocessor.
            39 => 2048,
            75 => self.capability / 10,
            76 => self.capability % 10,
            // Memory pools.
            115 => self.pools.into(),
            _ => return None,
        };
        i32::try_from(value).ok()
    }
}

/// A device and its primary context.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) model: Model,
    pub(crate) memory: Memory,
    context: Option<Context>,
}

/// A failure that the test asked for.
#[derive(Debug)]
struct Failure {
    name: String,
    /// Calls of this name until it fails, itself included.
    remaining: u64,
    code: Code,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) version: u32,
    pub(crate) devices: Vec<Device>,
    initialised: bool,
    streams: BTreeMap<u64, Stream>,
    events: BTreeMap<u64, Event>,
    modules: BTreeMap<u64, (usize, Arc<Module>)>,
    functions: BTreeMap<u64, (u64, Arc<Kernel>)>,
    pinned: BTreeMap<usize, Pinned>,
    next_handle: u64,
    launches: u64,
    failures: Vec<Failure>,
    /// Calls until no work of any stream is done any more; 0: the device hangs.
    until_hang: Option<u64>,
    calls: BTreeMap<String, u64>,
    violations: Vec<String>,
}

/// The newest driver version that this one claims to be, and its devices.
pub(crate) const DEFAULT: (u32, usize) = (12_080, MODELS.len());

static STATE: LazyLock<Mutex<State>> = LazyLock::new(|| Mutex::new(State::new(DEFAULT)));

thread_local! {
    /// Handle of the calling thread's context; 0: none.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// What a call must find before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    /// `cuInit` has been called.
    Driver,
    /// A context is current, and no execution in it has failed.
    Context,
}

/// Calls that return only when work of the device is done, or may.
const WAITING: [&str; 10] = [
    "cuCtxSynchronize",
    "cuDevicePrimaryCtxRelease_v2",
    "cuEventSynchronize",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemHostAlloc",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuStreamSynchronize",
];

/// Runs one call of the driver and gives its result code.
pub(crate) fn enter(
    name: &'static str,
    needs: Needs,
    call: impl FnOnce(&mut State) -> Result<(), Code>,
) -> Code {
    if with(|state| state.hangs(name)) == Some(true) {
        // Whoever waits for a device that hangs never hears of it again.
        loop {
            thread::park();
        }
    }
    with(|state| {
        let result =
            state.failure(name).and_then(|()| state.check(name, needs)).and_then(|()| call(state));
        result.err().unwrap_or(code::SUCCESS)
    })
    .unwrap_or(code::LAUNCH_FAILED)
}

/// Works on the state. `None` after a panic, which must not leave the library.
pub(crate) fn with<T>(work: impl FnOnce(&mut State) -> T) -> Option<T> {
    let locked = || {
        let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut state)
    };
    catch_unwind(AssertUnwindSafe(locked)).ok()
}

impl State {
    fn new((version, devices): (u32, usize)) -> Self {
        let device = |(number, model): (usize, Model)| Device {
            model,
            memory: Memory::new(number, model.bytes),
            context: None,
        };
        Self {
            version,
            devices: MODELS.into_iter().take(devices).enumerate().map(device).collect(),
            initialised: false,
            streams: BTreeMap::new(),
            events: BTreeMap::new(),
            modules: BTreeMap::new(),
            functions: BTreeMap::new(),
            pinned: BTreeMap::new(),
            next_handle: 0x1000,
            launches: 0,
            failures: Vec::new(),
            until_hang: None,
            calls: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    /// A driver of another version, with the first `devices` devices, nothing living in it.
    pub(crate) fn configure(&mut self, version: u32, devices: usize) {
        *self = Self { next_handle: self.next_handle, ..Self::new((version, devices)) };
    }

    /// The `nth` call of `name` from now on answers `code`. `execute` is the running of a piece of
    /// work on a stream.
    pub(crate) fn fail(&mut self, name: String, nth: u64, code: Code) {
        self.failures.push(Failure { name, remaining: nth, code });
    }

    /// After so many calls the device hangs: no work of any stream is done, and calls that wait for
    /// it do not return.
    pub(crate) fn hang_after(&mut self, calls: u64) {
        self.until_hang = Some(calls);
    }

    /// Whether the device hangs.
    pub(crate) fn is_hung(&self) -> bool {
        self.until_hang == Some(0)
    }

    /// Whether the call of this name that begins now never returns.
    fn hangs(&mut self, name: &str) -> bool {
        let hangs = self.is_hung();
        self.until_hang = self.until_hang.map(|calls| calls.saturating_sub(1));
        hangs && WAITING.contains(&name)
    }

    /// Forgets failures that did not happen, counts and violations.
    pub(crate) fn forget(&mut self) {
        self.failures.clear();
        self.calls.clear();
        self.violations.clear();
    }

    /// Calls since they were last forgotten, one name and number per line.
    pub(crate) fn calls(&self) -> String {
        self.calls.iter().map(|(name, count)| format!("{name} {count}\n")).collect()
    }

    /// Violations since they were last forgotten, one per line.
    pub(crate) fn violations(&self) -> String {
        self.violations.iter().map(|violation| format!("{violation}\n")).collect()
    }

    /// Failures that have not happened, one per line.
    pub(crate) fn planned(&self) -> String {
        self.failures
            .iter()
            .map(|failure| format!("{} {}\n", failure.name, failure.remaining))
            .collect()
    }

    /// What lives, one kind and number per line.
    pub(crate) fn live(&self) -> String {
        let memory: usize = self.devices.iter().map(|device| device.memory.live()).sum();
        let contexts = self.devices.iter().filter(|device| device.context.is_some()).count();
        let pinned = || self.pinned.values().filter(|pinned| pinned.is_live());
        format!(
            "contexts {contexts}\nevents {}\nmemory {memory}\nmodules {}\npinned {}\npinned_bytes {}\nstreams {}\n",
            self.events.len(),
            self.modules.len(),
            pinned().count(),
            pinned().map(Pinned::bytes).sum::<usize>(),
            self.streams.len(),
        )
    }

    /// Counts a call; fails if the test asked for it.
    fn failure(&mut self, name: &str) -> Result<(), Code> {
        match self.calls.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.calls.insert(name.into(), 1);
            }
        }
        let mut hit = None;
        self.failures.retain_mut(|failure| {
            if failure.name == name {
                failure.remaining = failure.remaining.saturating_sub(1);
                if failure.remaining == 0 {
                    hit = Some(failure.code);
                    return false;
                }
            }
            true
        });
        hit.map_or(Ok(()), Err)
    }

    fn check(&mut self, name: &str, needs: Needs) -> Result<(), Code> {
        if needs != Needs::Nothing && !self.initialised {
            self.violation(format!("{name} before cuInit"));
            return Err(code::NOT_INITIALIZED);
        }
        if needs == Needs::Context {
            let Ok(device) = self.current_device() else {
                self.violation(format!("{name} without a current context"));
                return Err(code::INVALID_CONTEXT);
            };
            if let Some(error) = self.devices[device].context.as_ref().and_then(|c| c.error) {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Notes what no program may do.
    pub(crate) fn violation(&mut self, what: String) {
        eprintln!("fake CUDA driver: VIOLATION: {what}");
        self.violations.push(what);
    }

    pub(crate) fn initialise(&mut self) {
        self.initialised = true;
    }

    fn handle(&mut self) -> u64 {
        self.next_handle += 0x10;
        self.next_handle
    }

    /// Refuses a handle that is not alive.
    fn stale(&mut self, what: &str, handle: u64) -> Code {
        self.violation(format!("{handle:#x} is no live {what}"));
        code::INVALID_HANDLE
    }
}
