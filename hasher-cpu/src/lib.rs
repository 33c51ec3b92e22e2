//! Batch SHA-256 on the CPU.
//!
//! ```text
//!  groups of a call   A ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓   B ▓▓   C   D ▓▓▓▓▓▓▓
//!                       │       │       │            │         │
//!  divide             A₁▓▓▓▓▓▓│A₂▓▓▓▓▓▓│A₃▓▓▓▓▓▓│A₄▓▓▓ B▓▓│D▓▓▓▓▓▓▓      pieces, in order
//!                       └─────┘ └─────┘ └─────┘ └────────┘ └─────┘
//!  share                share 0 share 1 share 2  share 3   share 4      equal cost, any core
//!                          │
//!  kernel               a stream of messages of known shape ──► digests
//! ```
//!
//! Three layers, each ignorant of the next:
//!
//! * `kernel`: hashes a stream of nodes or messages on the calling thread. One file per
//!   instruction set. A kernel sees all messages of a share, across groups, so that its lanes fill.
//! * `divide`: how a group of each shape is cut in two without copying or overlapping.
//! * `parallel`: cuts the groups of a call into shares of equal cost and runs them on a thread
//!   pool, if the call is large enough to be worth it.
//!
//! Cost is counted in compressions: runs of the block function over 64 bytes. A node costs 2, a
//! message of `n` bytes `(n + 9) / 64` rounded up.
#![forbid(unsafe_code)]

mod divide;
mod kernel;
mod parallel;
#[cfg(test)]
mod tests;

use divide::{Cost, Divide, IndexedPairPiece};
use hedgerow_hasher_api::{
    BatchHasher, Capabilities, HashError, IndexedPairGroup, MessageGroup, PairGroup, check_all,
};
use kernel::{Kernel, Sha2Kernel};
use parallel::Grain;
use rayon::ThreadPool;
use std::sync::Arc;

/// Hashes batches on the CPU: the calling thread for small ones, a thread pool for large ones.
///
/// Cloning shares the pool.
#[derive(Clone, Debug, Default)]
pub struct CpuHasher {
    kernel: Sha2Kernel,
    /// `None`: the pool that the caller runs in, or the global one.
    pool: Option<Arc<ThreadPool>>,
    grain: Grain,
}

impl CpuHasher {
    /// A hasher that spreads large batches over the rayon pool it is called from; over the global
    /// one if it is called from outside any.
    pub fn new() -> Self {
        Self::default()
    }

    /// A hasher that spreads large batches over `pool`. With a pool of one thread everything runs
    /// on the calling thread.
    pub fn with_pool(pool: Arc<ThreadPool>) -> Self {
        Self { pool: Some(pool), ..Self::default() }
    }

    fn threads(&self) -> usize {
        match &self.pool {
            Some(pool) => pool.current_num_threads(),
            None => rayon::current_num_threads(),
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
        let lanes = self.kernel.lanes();
        Capabilities {
            name: "cpu".into(),
            device: self.kernel.device(),
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
        self.spread(cost, pieces, |pieces| {
            self.kernel.messages(pieces.flat_map(divide::message_jobs));
        });
        Ok(())
    }

    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError> {
        check_all(groups, PairGroup::check)?;
        let cost = groups.iter().map(|group| divide::cost_of_nodes(group.out.len())).sum();
        let pieces =
            groups.iter_mut().map(|PairGroup { children, out }| PairGroup { children, out });
        self.spread(cost, pieces, |pieces| {
            self.kernel.nodes(level, pieces.flat_map(divide::pair_jobs));
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
        self.spread(cost, pieces, |pieces| {
            self.kernel.nodes(level, pieces.flat_map(IndexedPairPiece::jobs));
        });
        Ok(())
    }
}
