//! Batch SHA-256 on the CPU.
//!
//! ```text
//!  groups of a call   A ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓   B ▓▓   C   D ▓▓▓▓▓▓▓
//!                       │       │       │            │         │
//!  divide             A₁▓▓▓▓▓▓│A₂▓▓▓▓▓▓│A₃▓▓▓▓▓▓│A₄▓▓▓ B▓▓│D▓▓▓▓▓▓▓      pieces, in order
//!                       └─────┘ └─────┘ └─────┘ └────────┘ └─────┘
//!  share                share 0 share 1 share 2  share 3   share 4      equal cost, any core
//!                          │
//!  stream               all messages of the share, across groups, so that lanes fill
//!                          │
//!  dispatch, kernel     lots of messages side by side ──► digests
//! ```
//!
//! Layers, each ignorant of the next:
//!
//! * `detect`: which instructions this CPU has; the proof of it that a kernel needs.
//! * `kernel`: hashes lots of nodes or messages on the calling thread. One file per instruction
//!   set, and the only files with unsafe code.
//! * `dispatch`: which kernel hashes how many messages, measured at first use (as streams of jobs)
//!   or pinned.
//! * `stream`: turns streams of jobs into lots; messages of equal length go together.
//! * `divide`: how a group of each shape is cut in two without copying or overlapping.
//! * `parallel`: cuts the groups of a call into shares of equal cost and runs them on a thread
//!   pool, if the call is large enough to be worth it.
//!
//! Cost is counted in compressions: runs of the block function over 64 bytes. A node costs 2, a
//! message of `n` bytes `(n + 9) / 64` rounded up.
#![deny(unsafe_code)]

mod detect;
mod dispatch;
mod divide;
#[allow(unsafe_code, reason = "intrinsics: their loads and stores, and calls that need a feature")]
mod kernel;
mod parallel;
mod stream;
#[cfg(test)]
mod tests;

pub use dispatch::{KernelInfo, KernelSpeed, PlannedRange, UnknownOrMissingKernel};
use divide::{Cost, Divide, IndexedPairPiece};
use hedgerow_hasher_api::{
    BatchHasher, Capabilities, HashError, IndexedPairGroup, MessageGroup, PairGroup, check_all,
};

use dispatch::Plan;
use kernel::NodeJob;
use parallel::Grain;
use rayon::ThreadPool;
use std::sync::Arc;

/// Hashes batches on the CPU: the calling thread for small ones, a thread pool for large ones.
///
/// Cloning shares the pool.
#[derive(Clone, Debug)]
pub struct CpuHasher {
    plan: PlanRef,
    /// `None`: the pool that the caller runs in, or the global one.
    pool: Option<Arc<ThreadPool>>,
    grain: Grain,
}

#[derive(Clone, Debug)]
enum PlanRef {
    Calibrated(&'static Plan),
    Pinned(Arc<Plan>),
}

impl Default for CpuHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl CpuHasher {
    /// A hasher that spreads large batches over the rayon pool it is called from; over the global
    /// one if it is called from outside any.
    ///
    /// The first hasher of a process measures for about a third of a millisecond which
    /// instructions this CPU hashes fastest with.
    pub fn new() -> Self {
        Self { plan: PlanRef::Calibrated(Plan::calibrated()), pool: None, grain: Grain::default() }
    }

    /// A hasher that uses one kernel for everything: `avx512x32`, `avx512x16`, `avx512x8`, `avx2`, `shani4`,
    /// `shani2`, `shani1`, `sha2`, `portable`, or another of [`kernels`](Self::kernels). The
    /// digests are the same; this is for measurements and for mistrust.
    ///
    /// # Errors
    /// [`UnknownOrMissingKernel`] if there is none of this name or this CPU cannot run it.
    pub fn pinned(kernel: &str) -> Result<Self, UnknownOrMissingKernel> {
        let plan = PlanRef::Pinned(Arc::new(Plan::pinned(kernel)?));
        Ok(Self { plan, pool: None, grain: Grain::default() })
    }

    /// All kernels that can be [pinned](Self::pinned), those too that this CPU cannot run.
    pub fn kernels() -> Vec<KernelInfo> {
        dispatch::kernels()
    }

    /// Which kernel hashes batches of which size: all sizes from 1 on, in order. Digests do not
    /// depend on it.
    pub fn planned(&self) -> &[PlannedRange] {
        self.plan().ranges()
    }

    /// What the plan was made from: the speed of every kernel that was measured on this machine.
    /// Nothing if the hasher is [pinned](Self::pinned).
    pub fn measured(&self) -> &[KernelSpeed] {
        self.plan().measured()
    }

    /// A hasher that spreads large batches over `pool`. With a pool of one thread everything runs
    /// on the calling thread.
    pub fn with_pool(pool: Arc<ThreadPool>) -> Self {
        Self { pool: Some(pool), ..Self::new() }
    }

    /// The same hasher on `pool`, see [`with_pool`](Self::with_pool).
    #[must_use]
    pub fn on_pool(self, pool: Arc<ThreadPool>) -> Self {
        Self { pool: Some(pool), ..self }
    }

    /// The same hasher on the calling thread alone, however large a batch is.
    #[must_use]
    pub fn on_this_thread(self) -> Self {
        Self { grain: Grain::ONE_THREAD, ..self }
    }

    fn plan(&self) -> &Plan {
        match &self.plan {
            PlanRef::Calibrated(plan) => plan,
            PlanRef::Pinned(plan) => plan,
        }
    }

    fn threads(&self) -> usize {
        match &self.pool {
            _ if self.grain.is_one_thread() => 1,
            Some(pool) => pool.current_num_threads(),
            None if rayon::current_thread_index().is_some() => rayon::current_num_threads(),
            // Asking rayon here would start its global pool, or panic if the process may not start
            // so many threads; it would have about as many.
            None => std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Runs `work` over all `pieces`, which cost `cost` together, on one thread or many.
    fn spread<P: Divide + Send>(
        &self,
        cost: Cost,
        pieces: impl Iterator<Item = P>,
        work: impl Fn(&mut dyn Iterator<Item = P>) + Sync,
    ) {
        parallel::spread(self.pool.as_deref(), self.grain, cost, pieces, &work);
    }
}

impl BatchHasher for CpuHasher {
    fn capabilities(&self) -> Capabilities {
        let lanes = self.plan().lanes();
        let name = match &self.plan {
            PlanRef::Calibrated(_) => "cpu".into(),
            PlanRef::Pinned(plan) => format!("cpu:{}", plan.kernel_for_many()),
        };
        Capabilities {
            name,
            device: self.plan().description().into(),
            lanes,
            full_speed_batch: lanes.max(self.grain.full_speed_nodes(self.threads())),
            is_device: false,
        }
    }

    fn messages(&self, groups: &mut [MessageGroup<'_>]) -> Result<(), HashError> {
        check_all(groups, MessageGroup::check)?;
        let cost = groups.iter().map(|group| divide::cost_of_messages(group.spans)).sum();
        let pieces = groups.iter_mut().map(|MessageGroup { arena, spans, out }| MessageGroup {
            arena,
            spans,
            out,
        });
        let plan = self.plan();
        self.spread(cost, pieces, |pieces| {
            stream::messages(plan, pieces.flat_map(divide::message_jobs));
        });
        Ok(())
    }

    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError> {
        check_all(groups, PairGroup::check)?;
        let plan = self.plan();
        if let [PairGroup { children, out: [out] }] = groups
            && let ([children], _) = children.as_chunks()
        {
            // One node takes no longer than the way through everything below.
            plan.nodes(level, &mut [NodeJob { children, out }], &[]);
            return Ok(());
        }
        let cost = groups.iter().map(|group| divide::cost_of_nodes(group.out.len())).sum();
        let pieces =
            groups.iter_mut().map(|PairGroup { children, out }| PairGroup { children, out });
        self.spread(cost, pieces, |pieces| {
            stream::nodes(plan, level, pieces.flat_map(divide::pair_jobs));
        });
        Ok(())
    }

    fn indexed_pairs(
        &self,
        level: u8,
        groups: &mut [IndexedPairGroup<'_>],
    ) -> Result<(), HashError> {
        check_all(groups, IndexedPairGroup::check)?;
        let cost = groups.iter().map(|group| divide::cost_of_nodes(group.parents.len())).sum();
        let pieces = groups.iter_mut().map(IndexedPairPiece::whole);
        let plan = self.plan();
        self.spread(cost, pieces, |pieces| {
            stream::nodes(plan, level, pieces.flat_map(IndexedPairPiece::jobs));
        });
        Ok(())
    }
}
