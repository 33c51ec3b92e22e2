//! One host algorithm for every device: what a device must offer, and the hasher that runs on it.
//!
//! ```text
//!  BatchHasher
//!      ▲ implements
//!  DeviceHasher<D>     cuts calls into chunks, packs them into staging, keeps two in flight,
//!      │ uses          scatters the digests back
//!      ▼
//!  Device, Queue       one Queue:  upload ─► launch ─► download ─► ... in the order given
//!      ▲                                                   │
//!      │ implement                                         └─ wait: blocks, as does an upload
//!      │                                                           while all staging is in use
//!  a GPU backend, or HostDevice (feature `conformance`): the CPU that pretends to be a bad device
//! ```
//!
//! A backend is buffers, copies and the kernels of [`Launch`]. It knows no groups, no chunks and no
//! tree; whoever drives it knows no device. Digests are 32 bytes as hashed; all other numbers in
//! buffers are little-endian `u32`.
//!
//! **Invariants:**
//! * A device that fails gives an `Err`, never a panic; [`HashError::DeviceLost`] once it is gone
//!   for good, then from every call. A new backend can be made meanwhile.
//! * Every wait for a device ends: one that does not answer for some time ([`PATIENCE`] by default) is
//!   lost. What it may still use is leaked then, and dropping things of it waits for nothing.
//! * Nothing that a device still uses is freed: buffers, downloads and queues may be dropped at any
//!   time, with work under way.
//! * Every launch passes [`Launch::check`], every copy [`check_range`], before the device sees it, so
//!   that no kernel leaves its buffers unless the *contents* of a buffer (places, spans) say so; those
//!   come from us.
//!
//! A new backend implements [`Device`], [`Buffer`] and [`Queue`]. With the feature `conformance` its tests
//! are two lines: `conformance::run` of this crate for its kernels, and that of hasher-api for the
//! [`DeviceHasher`] on top. hasher-api keeps the traits that a tree asks for rows by, `Residency` and
//! `ResidentRows`; here they are implemented, once.
//!
//! **Invariant (absence):** nothing here knows a driver, a tree or a file.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `conformance` | the suite that every device must pass, and `HostDevice`; for tests |
#![forbid(unsafe_code)]

mod cut;
mod hasher;
mod launch;
mod left_trees;
mod messages;
mod nodes;
mod pipeline;
mod resident;

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(any(test, feature = "conformance"))]
mod host;
#[cfg(test)]
mod tests;

pub use cut::runs;
pub use hasher::DeviceHasher;
#[cfg(any(test, feature = "conformance"))]
pub use host::{Failure, HostBuffer, HostDevice, HostDownload, HostQueue};
pub use launch::{Launch, Parents, TWIG_INNER, check_range};

use hedgerow_hasher_api::{Capabilities, HashError};
use std::{fmt, time::Duration};

/// Something with memory of its own that hashes: a GPU.
///
/// All methods may be called from several threads at once.
pub trait Device: Send + Sync + fmt::Debug + 'static {
    /// Its queues.
    type Queue: Queue;

    /// What it is: `name` of the backend, `device` with the adapter's name and driver.
    fn capabilities(&self) -> Capabilities;

    /// How much it takes at once.
    fn limits(&self) -> Limits;

    /// A queue of its own, independent of the others.
    ///
    /// # Errors
    /// [`HashError::Device`], [`HashError::DeviceLost`].
    fn queue(&self) -> Result<Self::Queue, HashError>;
}

/// How long a backend waits for a device that does nothing of what it was given, before it takes it
/// for lost: a thousand times what a batch takes, and less than an operator waits.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How much a device takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the largest buffer that a kernel can address, a multiple of 4. At least
    /// [`Limits::LEAST_BUFFER`].
    pub buffer_bytes: u64,
    /// Most items of one [`Launch`], at least 1. More are cut by the caller, see [`runs`].
    pub max_count: u32,
}

impl Limits {
    /// A device whose buffers do not hold the leaves of one twig is of no use.
    pub const LEAST_BUFFER: u64 = 32 * hedgerow_types::TWIG_LEAVES as u64;
}

/// Memory on a device. Dropping it while the device uses it is safe.
pub trait Buffer: Send + fmt::Debug {
    /// Its size; at least what was asked for.
    fn bytes(&self) -> u64;
}

/// Work of a device in the order given. Everything but [`wait`](Self::wait) and, when very much is
/// under way, [`upload`](Self::upload) returns without waiting for the device, and errors of the device
/// may show at any later call.
///
/// Buffers and downloads belong to the queue that made them. Offsets and lengths are in bytes and
/// multiples of 4, lengths not 0. After an `Err` the contents of all buffers of the queue are unspecified; drop
/// the queue.
///
/// # Errors
/// All methods: [`HashError::Device`] if the device failed, [`HashError::DeviceLost`] if it is
/// gone, [`HashError::Shape`] if a range fails [`check_range`] or a launch [`Launch::check`].
pub trait Queue: Send + fmt::Debug {
    /// Memory on the device.
    type Buffer: Buffer;
    /// Bytes on their way back to the host.
    type Download: Send + fmt::Debug;

    /// A buffer of `bytes` bytes, more than 0. Its contents are unspecified.
    fn allocate(&mut self, bytes: u64) -> Result<Self::Buffer, HashError>;

    /// Copies `len` bytes to the buffer at `offset`. `fill` is called once, before this returns,
    /// and writes them into staging memory of `len` bytes: each byte at most once, in order, and
    /// never read, for the memory may be write-combined. What it does not write is unspecified.
    ///
    /// A queue bounds its staging memory: where the copies that are under way fill it, this lets the
    /// device begin with the work given so far, as [`flush`](Self::flush) does, and waits for the
    /// oldest of them.
    fn upload(
        &mut self,
        to: &Self::Buffer,
        offset: u64,
        len: u64,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), HashError>;

    /// Runs a kernel.
    fn launch(&mut self, launch: Launch<'_, Self::Buffer>) -> Result<(), HashError>;

    /// Starts to copy `len` bytes at `offset` to the host, as they are after the work given so far.
    fn download(
        &mut self,
        from: &Self::Buffer,
        offset: u64,
        len: u64,
    ) -> Result<Self::Download, HashError>;

    /// Lets the device begin with all work given so far. A queue may collect work until here or
    /// until the next [`wait`](Self::wait); one that does not has nothing to do.
    fn flush(&mut self) -> Result<(), HashError> {
        Ok(())
    }

    /// Waits for `download` and shows its bytes to `read`, once, if it succeeded. Downloads may be
    /// waited for in any order.
    fn wait(
        &mut self,
        download: Self::Download,
        read: &mut dyn FnMut(&[u8]),
    ) -> Result<(), HashError>;
}
