//! The kernels of `kernels/*.cu`, and how each [`Launch`] is given to the driver.
//!
//! ```text
//!  Nodes, Messages        a thread per node or message        128 per block
//!  Twigs                  a block per twig                    256
//!  Scatter, Gather        two threads per digest              256
//!  Flip                   a thread per word                   256
//! ```

use crate::{context::Shared, errors::failed, memory::CudaBuffer};
use cudarc::{
    driver::{
        CudaFunction, CudaStream, LaunchArgs, LaunchConfig, PushKernelArg, result::DriverError,
    },
    nvrtc::Ptx,
};
use hedgerow_hasher_api::HashError;
use hedgerow_hasher_device::{Launch, Parents};
use std::sync::Arc;

/// What `compile_kernels.py` makes of the sources.
const PTX: &str = include_str!("kernels/kernels.ptx");

/// Threads per block: what the kernels' `__launch_bounds__` say.
const HASHING_THREADS: u32 = 128;
const TWIG_THREADS: u32 = 256;
const MOVING_THREADS: u32 = 256;

/// The kernels in a context.
#[derive(Debug)]
pub(crate) struct Kernels {
    shared: Arc<Shared>,
    nodes: CudaFunction,
    messages: CudaFunction,
    twigs: CudaFunction,
    scatter: CudaFunction,
    gather: CudaFunction,
    flip: CudaFunction,
}

impl Kernels {
    /// Lets the driver compile them for the context's device.
    pub(crate) fn load(shared: &Arc<Shared>) -> Result<Self, HashError> {
        Self::loaded(shared).map_err(|error| failed("cannot load the kernels", error))
    }

    fn loaded(shared: &Arc<Shared>) -> Result<Self, DriverError> {
        let module = shared.context.load_module(Ptx::from_src(PTX))?;
        Ok(Self {
            shared: Arc::clone(shared),
            nodes: module.load_function("nodes")?,
            messages: module.load_function("messages")?,
            twigs: module.load_function("twigs")?,
            scatter: module.load_function("scatter")?,
            gather: module.load_function("gather")?,
            flip: module.load_function("flip")?,
        })
    }

    /// Puts a launch into the stream. It has been checked, and its buffers belong to the stream.
    pub(crate) fn launch(
        &self,
        stream: &CudaStream,
        launch: &Launch<'_, CudaBuffer>,
    ) -> Result<(), DriverError> {
        let threads = u64::from(launch.count());
        match *launch {
            Launch::Nodes { level, children, parents, count, out, out_stride, out_offset } => {
                let (list, first) = match parents {
                    Parents::Run { first } => (0, first),
                    Parents::List { places, first } => (places.address() + 4 * u64::from(first), 0),
                };
                let level = u32::from(level);
                let (children, out) = (children.address(), out.address());
                let mut arguments = stream.launch_builder(&self.nodes);
                arguments.arg(&level).arg(&children).arg(&list).arg(&first);
                arguments.arg(&count).arg(&out).arg(&out_stride).arg(&out_offset);
                run(&mut arguments, threads, HASHING_THREADS)
            }
            Launch::Messages { bytes, spans, count, out } => {
                let (bytes, spans, out) = (bytes.address(), spans.address(), out.address());
                let mut arguments = stream.launch_builder(&self.messages);
                arguments.arg(&bytes).arg(&spans).arg(&count).arg(&out);
                run(&mut arguments, threads, HASHING_THREADS)
            }
            Launch::Twigs { leaves, count: _, roots, inner } => {
                let (leaves, roots) = (leaves.address(), roots.address());
                let inner = inner.map_or(0, CudaBuffer::address);
                let mut arguments = stream.launch_builder(&self.twigs);
                arguments.arg(&leaves).arg(&roots).arg(&inner);
                run(&mut arguments, threads * u64::from(TWIG_THREADS), TWIG_THREADS)
            }
            Launch::Scatter { digests, places, count, out } => {
                let (digests, places, out) = (digests.address(), places.address(), out.address());
                let mut arguments = stream.launch_builder(&self.scatter);
                arguments.arg(&digests).arg(&places).arg(&count).arg(&out);
                run(&mut arguments, 2 * threads, MOVING_THREADS)
            }
            Launch::Gather { digests, places, count, out } => {
                let (digests, places, out) = (digests.address(), places.address(), out.address());
                let mut arguments = stream.launch_builder(&self.gather);
                arguments.arg(&digests).arg(&places).arg(&count).arg(&out);
                run(&mut arguments, 2 * threads, MOVING_THREADS)
            }
            Launch::Flip { flips, count, out } => {
                let (flips, out) = (flips.address(), out.address());
                let mut arguments = stream.launch_builder(&self.flip);
                arguments.arg(&flips).arg(&count).arg(&out);
                run(&mut arguments, threads, MOVING_THREADS)
            }
        }
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        // Unloading their module waits for the device. Each of them owns it.
        if self.shared.comes_to_rest() {
            let _ = self.shared.bind_even_if_lost();
        } else {
            std::mem::forget(self.nodes.clone());
        }
    }
}

/// Puts the kernel into its stream, with at least so many threads.
fn run(arguments: &mut LaunchArgs<'_>, threads: u64, block: u32) -> Result<(), DriverError> {
    // Items are at most `MOST_ITEMS`, so a grid always has room.
    let grid = u32::try_from(threads.div_ceil(block.into())).unwrap_or(u32::MAX);
    let config =
        LaunchConfig { grid_dim: (grid, 1, 1), block_dim: (block, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: number, order and sizes of the arguments are those of the kernel, checked above side
    // by side and by the tests, whose driver reads as many bytes as each parameter has. The driver
    // copies them before this returns. The kernel stays inside the buffers: `Launch::check` has
    // compared their sizes, and places inside them come from ourselves. Buffers are freed in stream
    // order, so after the kernel.
    unsafe { arguments.launch(config) }.map(|_| ())
}
