//! Executes kernels: a grid block by block, a block warp by warp from barrier to barrier.
//!
//! ```text
//!  grid    block 0   block 1   ...                in order, or backward every other launch
//!            │
//!            ├ warp 0 ─────► barrier ╎ ─────►     a warp runs until all its lanes wait or are done;
//!            ├ warp 1 ─────► barrier ╎ ─────►     when all warps wait at the same barrier, it opens
//!            └ warp 2 ─────► barrier ╎ ─────►
//!                                    ╎
//!             shared memory: epoch 1 ╎ epoch 2    a word touched by two threads in one epoch, one
//!                                    ╎            of them writing: a race
//! ```
//!
//! In global memory the epoch is the launch: our kernels never hand data from thread to thread there.

mod alu;
mod memory;
#[cfg(test)]
mod tests;
mod warp;

pub(crate) use memory::Memory;

use crate::{Code, code, ptx::Kernel};
use memory::Words;
use warp::{Stop, Warp};

/// Lanes of a warp.
const LANES: usize = 32;

/// What fresh memory and registers hold: no small number, no valid place.
pub(crate) const POISON: u8 = 0xdb;

/// Why the execution of a kernel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What a driver would answer.
    pub(crate) code: Code,
    pub(crate) text: String,
}

impl Fault {
    fn new(code: Code, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// A kernel with its arguments.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) grid: u32,
    pub(crate) block: u32,
    pub(crate) parameters: &'a [u8],
    /// Whether blocks and warps run in descending order.
    pub(crate) backward: bool,
}

/// What the lanes of a warp can reach.
struct Environment<'a> {
    launch: &'a Launch<'a>,
    shared: &'a mut Words,
    global: &'a mut Memory,
    block: u32,
}

/// Runs a whole grid.
///
/// # Errors
/// The first fault; what was written before it stays.
pub(crate) fn run(launch: &Launch<'_>, global: &mut Memory) -> Result<(), Fault> {
    global.new_epoch();
    let mut shared = Words::new(launch.kernel.shared_bytes);
    let count = (launch.block as usize).div_ceil(LANES);
    let mut warps: Vec<Warp> =
        (0..count).map(|warp| Warp::new(launch.kernel, (warp * LANES) as u32)).collect();
    for block in ordered(launch.grid, launch.backward) {
        shared.poison();
        for warp in &mut warps {
            warp.reset(launch.block);
        }
        let mut environment = Environment { launch, shared: &mut shared, global, block };
        run_block(&mut environment, &mut warps).map_err(|fault| Fault {
            text: format!("kernel {}, block {block}: {}", launch.kernel.name, fault.text),
            ..fault
        })?;
    }
    Ok(())
}

fn ordered(count: u32, backward: bool) -> impl Iterator<Item = u32> {
    (0..count).map(move |i| if backward { count - 1 - i } else { i })
}

/// Runs the warps of a block from barrier to barrier until all are done.
fn run_block(environment: &mut Environment<'_>, warps: &mut [Warp]) -> Result<(), Fault> {
    loop {
        environment.shared.new_epoch();
        let mut stops = Vec::with_capacity(warps.len());
        for warp in ordered(warps.len() as u32, environment.launch.backward) {
            stops.push(warps[warp as usize].run(environment)?);
        }
        let first = stops[0];
        if stops.iter().any(|&stop| stop != first) {
            return Err(Fault::new(
                code::LAUNCH_FAILED,
                "divergent barrier: some warps of a block wait where others do not",
            ));
        }
        if first == Stop::Done {
            return Ok(());
        }
    }
}
