//! The batch hasher that runs on any device.

use crate::{
    Device, Limits,
    cut::{ChunkLimits, Cursor},
    left_trees::{LeftTrees, TWIG_BYTES},
    messages::Messages,
    nodes::{NODE_BYTES, NodeGroup, Nodes},
    pipeline::{Slot, Work},
};
use hedgerow_hasher_api::{
    BatchHasher, Capabilities, HashError, IndexedPairGroup, LeftTreeGroup, MessageGroup, PairGroup,
    Residency, check_all,
};
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// Largest buffer of a chunk: the children of 262,144 parents fill any device, and two chunks in
/// flight need no memory worth mentioning.
const CHUNK_BYTES: u64 = 16 << 20;

/// Queues that are kept with their buffers for the next calls. More callers at once get one each,
/// that is dropped afterwards.
const KEPT_SLOTS: usize = 4;

/// A [`BatchHasher`] on a [`Device`]. See the [module documentation](super).
///
/// Every call has a queue of its own, so callers do not wait for each other's results.
#[derive(Debug)]
pub struct DeviceHasher<D: Device> {
    device: D,
    chunk: ChunkLimits,
    slots: Mutex<Vec<Slot<D::Queue>>>,
    /// See [`Residency`](crate::Residency).
    pub(crate) id: u64,
    pub(crate) resident_from: usize,
}

/// Numbers the hashers of a process.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Dirty pages from which rows on the device are worth their transfers: an estimate, for devices
/// that nobody measured.
const RESIDENT_FROM: usize = 50_000;

impl<D: Device> DeviceHasher<D> {
    /// A hasher on `device`.
    ///
    /// # Errors
    /// [`HashError::Device`] if the device's limits are too small to be of use.
    pub fn new(device: D) -> Result<Self, HashError> {
        Self::with_chunk_bytes(device, CHUNK_BYTES)
    }

    /// A hasher whose chunks have at most `bytes` bytes in their largest buffer. The digests are
    /// the same; this is for tests and measurements. At least [`Limits::LEAST_BUFFER`].
    ///
    /// # Errors
    /// [`HashError::Device`] if the device's limits are too small to be of use.
    pub fn with_chunk_bytes(device: D, bytes: u64) -> Result<Self, HashError> {
        let limits = device.limits();
        if limits.buffer_bytes < Limits::LEAST_BUFFER || limits.max_count == 0 {
            let reason = format!("its limits are too small: {limits:?}");
            return Err(HashError::Device { backend: device.capabilities().name, reason });
        }
        let chunk = ChunkLimits::new(limits, bytes);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Ok(Self { device, chunk, slots: Mutex::default(), id, resident_from: RESIDENT_FROM })
    }

    /// The same hasher, keeping rows for blocks of so many dirty pages or more.
    #[must_use]
    pub fn resident_from(self, dirty_pages: usize) -> Self {
        Self { resident_from: dirty_pages, ..self }
    }

    /// The device.
    pub const fn device(&self) -> &D {
        &self.device
    }

    /// Does `work` on a slot of its own. A slot that saw an error is not used again.
    fn run(&self, work: &mut impl Work<D::Queue>) -> Result<(), HashError> {
        let kept = self.slots.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut slot = match kept {
            Some(slot) => slot,
            None => Slot::new(self.device.queue()?, self.chunk.bytes),
        };
        slot.run(work)?;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() < KEPT_SLOTS {
            slots.push(slot);
        }
        Ok(())
    }

    fn nodes<G: NodeGroup>(&self, level: u8, groups: &mut [G]) -> Result<(), HashError> {
        if groups.iter().all(|group| group.len() == 0) {
            return Ok(());
        }
        let most = self.chunk.items_of(NODE_BYTES);
        self.run(&mut Nodes { level, groups, most, cursor: Cursor::default() })
    }
}

impl<D: Device> BatchHasher for DeviceHasher<D> {
    fn capabilities(&self) -> Capabilities {
        self.device.capabilities()
    }

    fn residency(&self) -> Option<&dyn Residency> {
        Some(self)
    }

    fn messages(&self, groups: &mut [MessageGroup<'_>]) -> Result<(), HashError> {
        check_all(groups, MessageGroup::check)?;
        if groups.iter().all(|group| group.spans.is_empty()) {
            return Ok(());
        }
        self.run(&mut Messages::new(groups, self.chunk))
    }

    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError> {
        check_all(groups, PairGroup::check)?;
        self.nodes(level, groups)
    }

    fn indexed_pairs(
        &self,
        level: u8,
        groups: &mut [IndexedPairGroup<'_>],
    ) -> Result<(), HashError> {
        check_all(groups, IndexedPairGroup::check)?;
        self.nodes(level, groups)
    }

    fn left_trees(&self, groups: &mut [LeftTreeGroup<'_>]) -> Result<(), HashError> {
        check_all(groups, LeftTreeGroup::check)?;
        if groups.iter().all(|group| group.changed.is_empty()) {
            return Ok(());
        }
        let most = self.chunk.items_of(TWIG_BYTES);
        self.run(&mut LeftTrees { groups, most, cursor: Cursor::default() })
    }
}
