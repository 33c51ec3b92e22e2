//! What the hashing benches hash, and the hashers that they compare.
//!
//! ```text
//!   Nodes      children  a b c d e f ...        parents are node(LEVEL, a, b), node(LEVEL, c, d), ...
//!              preimages [3 a b] [3 c d] ...    the same, 65 bytes each, as one message after another
//!   Messages   arena     ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓ slack  back to back, with spans
//!   Tree       leaves    a b c d e f ...        and room for every level above
//! ```
//!
//! All bytes are random and the same in every run.

use crate::workload::Random;
use hedgerow::hasher::Tuning;
use hedgerow_hasher_api::{
    BatchHasher, HashError, HookedHasher, MESSAGE_SLACK, MessageGroup, PairGroup, Residency,
    ResidentRows, Span,
};
use hedgerow_hasher_cpu::{CpuHasher, UnknownOrMissingKernel};
use hedgerow_types::{Digest, node};
use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};
use std::{
    ops::RangeInclusive,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Batch sizes of nodes: below, at and above lane counts, a block's worth, and out of the caches.
pub const NODE_BATCHES: [usize; 7] = [1, 8, 16, 64, 1024, 65_536, 1_000_000];
/// Batch sizes of messages: a small block and a large one, and out of the caches.
pub const MESSAGE_BATCHES: [usize; 4] = [256, 1024, 16_384, 262_144];
/// The level of all children but a tree's.
pub const LEVEL: u8 = 3;
/// Bytes of an entry in the benches, its key and value being short.
pub const ENTRY_LENS: RangeInclusive<u32> = 60..=300;
/// Bytes of a key in the benches.
pub const KEY_LEN: u32 = 32;
/// Leaves of the tree in the benches: 32 MB, and as much again above them.
pub const TREE_LEAVES: usize = 1 << 20;

/// Hashers by the names that [`Options`](hedgerow::Options) knows them by.
pub type Hashers = Vec<(String, CpuHasher)>;

/// The CPU backend on one thread: on that of the caller, therefore.
///
/// # Errors
/// The pool of one thread could not be made.
pub fn on_one_thread(hasher: CpuHasher) -> Result<CpuHasher, ThreadPoolBuildError> {
    Ok(hasher.on_pool(Arc::new(ThreadPoolBuilder::new().num_threads(1).build()?)))
}

/// The CPU backend pinned to each of its kernels, on one thread, and what this CPU cannot run.
///
/// # Errors
/// As [`on_one_thread`].
pub fn pinned_kernels() -> Result<(Hashers, Vec<UnknownOrMissingKernel>), ThreadPoolBuildError> {
    let (mut hashers, mut missing) = (vec![], vec![]);
    for kernel in CpuHasher::kernels() {
        match CpuHasher::pinned(kernel.name) {
            Ok(hasher) => hashers.push((format!("cpu:{}", kernel.name), on_one_thread(hasher)?)),
            Err(error) => missing.push(error),
        }
    }
    Ok((hashers, missing))
}

/// Every usable device of this build, hardware or software, with its name; guarded, unchecked. A
/// name without a colon stands for one of the others and is left out.
pub fn devices() -> Vec<(String, Arc<dyn BatchHasher>)> {
    let names = hedgerow::hasher::names().into_iter().filter(|name| name.contains(':'));
    let named = names.filter(|name| !name.starts_with("cpu:"));
    named
        .filter_map(|name| {
            let unchecked = Tuning { check_one_of: 0, ..Tuning::default() };
            let hasher = hedgerow::hasher::by_name_tuned(&name, unchecked).ok()?;
            hasher.capabilities().is_device.then_some((name, hasher))
        })
        .collect()
}

/// A device without rows: every level of a tree goes there and back.
pub fn without_rows(device: Arc<dyn BatchHasher>) -> HookedHasher {
    HookedHasher::new(device, |call, device| call.hash(device)).with_residency(None)
}

/// A device whose trees' rows stay on it for blocks of any size, and what became of that.
pub fn with_rows(device: Arc<dyn BatchHasher>) -> (HookedHasher, Arc<AlwaysRows>) {
    let (blocks, refused) = (AtomicU64::new(0), OnceLock::new());
    let rows = Arc::new(AlwaysRows { device: Arc::clone(&device), blocks, refused });
    let residency = device.residency().is_some().then(|| Arc::clone(&rows) as Arc<dyn Residency>);
    let hooked = HookedHasher::new(device, |call, device| call.hash(device));
    (hooked.with_residency(residency), rows)
}

/// See [`with_rows`].
#[derive(Debug)]
pub struct AlwaysRows {
    device: Arc<dyn BatchHasher>,
    /// Blocks that were hashed in rows.
    blocks: AtomicU64,
    /// Why the first block that was not hashed in rows was not.
    refused: OnceLock<String>,
}

impl AlwaysRows {
    /// Why blocks were not hashed in rows: the device has no room for them, or it failed. `None`: all
    /// were.
    pub fn refused(&self) -> Option<String> {
        let none = || "no block was hashed in rows".to_owned();
        let refused = self.refused.get().cloned().or(self.device.health().quarantined);
        refused.or_else(|| (self.blocks.load(Ordering::Relaxed) == 0).then(none))
    }
}

impl Residency for AlwaysRows {
    fn id(&self) -> u64 {
        self.device.residency().map_or(u64::MAX, Residency::id)
    }

    fn worth_from(&self) -> usize {
        0
    }

    fn check_one_of(&self) -> u32 {
        0
    }

    fn open(&self, lens: &[u32]) -> Result<Box<dyn ResidentRows>, HashError> {
        match self.device.residency() {
            Some(device) => device.open(lens),
            None => Err(HashError::Shape("the device keeps no rows")),
        }
    }

    fn condemn(&self, error: &HashError) {
        // Only the first is of interest.
        let _ = self.refused.set(error.to_string());
        if let Some(device) = self.device.residency() {
            device.condemn(error);
        }
    }

    fn hashed(&self, checked: u64) {
        self.blocks.fetch_add(1, Ordering::Relaxed);
        if let Some(device) = self.device.residency() {
            device.hashed(checked);
        }
    }
}

/// A batch of nodes, children adjacent.
#[derive(Debug)]
pub struct Nodes {
    /// Two per node.
    pub children: Vec<Digest>,
}

impl Nodes {
    /// `count` nodes.
    pub fn new(count: usize) -> Self {
        Self { children: digests(2 * count) }
    }

    /// The 65 bytes that each node hashes.
    pub fn preimages(&self) -> Vec<[u8; node::NODE_PREIMAGE_LEN]> {
        let (pairs, _) = self.children.as_chunks();
        pairs.iter().map(|[left, right]| node::preimage(LEVEL, left, right)).collect()
    }

    /// Hashes the nodes.
    ///
    /// # Errors
    /// Those of [`BatchHasher::pairs`].
    pub fn hash(&self, hasher: &dyn BatchHasher, out: &mut [Digest]) -> Result<(), HashError> {
        hasher.pairs(LEVEL, &mut [PairGroup { children: &self.children, out }])
    }
}

/// A batch of messages, back to back.
#[derive(Debug)]
pub struct Messages {
    /// Where they lie, with slack behind the last.
    pub arena: Vec<u8>,
    /// One per message.
    pub spans: Vec<Span>,
}

impl Messages {
    /// `count` entries of [`ENTRY_LENS`] bytes, all lengths equally likely.
    pub fn entries(count: usize) -> Self {
        let mut random = Random::new(1);
        let lens = u64::from(ENTRY_LENS.end() - ENTRY_LENS.start() + 1);
        // Of a range that is not empty there is always a number.
        let mut len = || random.below(lens).map_or(0, |longer| longer as u32);
        Self::new((0..count).map(|_| ENTRY_LENS.start() + len()))
    }

    /// `count` keys of [`KEY_LEN`] bytes.
    pub fn keys(count: usize) -> Self {
        Self::new(std::iter::repeat_n(KEY_LEN, count))
    }

    fn new(lens: impl Iterator<Item = u32>) -> Self {
        let mut offset = 0;
        let spans = lens.map(|len| {
            let span = Span { offset, len };
            offset += len;
            span
        });
        let spans = spans.collect();
        let mut arena = vec![];
        Random::new(2).append_to(&mut arena, offset as usize + MESSAGE_SLACK);
        Self { arena, spans }
    }

    /// The messages one by one.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().filter_map(|span| span.of(&self.arena))
    }

    /// Hashes the messages, in one group.
    ///
    /// # Errors
    /// Those of [`BatchHasher::messages`].
    pub fn hash(&self, hasher: &dyn BatchHasher, out: &mut [Digest]) -> Result<(), HashError> {
        hasher.messages(&mut [MessageGroup { arena: &self.arena, spans: &self.spans, out }])
    }
}

/// Leaves of a tree of which every level is kept.
#[derive(Debug)]
pub struct Tree {
    /// The leaves: a power of two.
    pub leaves: Vec<Digest>,
}

impl Tree {
    /// A tree over `leaves` leaves, or over the next power of two.
    pub fn new(leaves: usize) -> Self {
        Self { leaves: digests(leaves.next_power_of_two()) }
    }

    /// Nodes above the leaves.
    pub fn nodes(&self) -> usize {
        self.leaves.len() - 1
    }

    /// Room for the levels above the leaves, the root's last.
    pub fn levels(&self) -> Vec<Vec<Digest>> {
        let levels = 1..=self.leaves.len().ilog2();
        levels.map(|level| vec![Digest::ZERO; self.leaves.len() >> level]).collect()
    }

    /// Hashes all levels.
    ///
    /// # Errors
    /// Those of [`BatchHasher::pairs`].
    pub fn hash(
        &self,
        hasher: &dyn BatchHasher,
        levels: &mut [Vec<Digest>],
    ) -> Result<(), HashError> {
        let mut children = &self.leaves;
        for (level, parents) in (0..).zip(levels) {
            hasher.pairs(level, &mut [PairGroup { children, out: parents }])?;
            children = parents;
        }
        Ok(())
    }

    /// Hashes all levels as one would without a batch hasher: builds each node's 65 bytes and calls
    /// `digest` on them, level by level.
    pub fn hash_one_by_one(
        &self,
        digest: impl Fn(&[u8; node::NODE_PREIMAGE_LEN]) -> Digest,
        levels: &mut [Vec<Digest>],
    ) {
        let mut children = &self.leaves;
        for (level, parents) in (0..).zip(levels) {
            for ([left, right], parent) in children.as_chunks().0.iter().zip(parents.iter_mut()) {
                *parent = digest(&node::preimage(level, left, right));
            }
            children = parents;
        }
    }
}

fn digests(count: usize) -> Vec<Digest> {
    let mut bytes = vec![];
    Random::new(3).append_to(&mut bytes, count * size_of::<Digest>());
    bytes.as_chunks().0.iter().map(|bytes| Digest(*bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_hasher_api::{ScalarHasher, hash_message};

    #[test]
    fn preimages_are_what_the_hasher_hashes() {
        let nodes = Nodes::new(5);
        let mut out = vec![Digest::ZERO; 5];
        nodes.hash(&ScalarHasher, &mut out).unwrap();
        let expected: Vec<_> =
            nodes.preimages().iter().map(|preimage| hash_message(preimage)).collect();
        assert_eq!(out, expected);
    }

    #[test]
    fn messages_lie_in_their_arena_and_have_their_lengths() {
        let entries = Messages::entries(5000);
        let lens: Vec<_> = entries.iter().map(|entry| entry.len() as u32).collect();
        assert_eq!(lens.len(), 5000);
        assert_eq!((lens.iter().min(), lens.iter().max()), (Some(&60), Some(&300)));
        let end = lens.iter().sum::<u32>() as usize;
        assert_eq!(entries.arena.len(), end + MESSAGE_SLACK);
        assert!(Messages::keys(3).iter().all(|key| key.len() == 32));
    }

    #[test]
    fn a_tree_hashes_the_same_at_once_and_one_by_one() {
        let tree = Tree::new(100);
        let (mut at_once, mut one_by_one) = (tree.levels(), tree.levels());
        tree.hash(&ScalarHasher, &mut at_once).unwrap();
        tree.hash_one_by_one(|preimage| hash_message(preimage), &mut one_by_one);
        assert_eq!(at_once, one_by_one);
        assert_eq!(at_once.iter().map(Vec::len).sum::<usize>(), tree.nodes());
        assert_eq!(at_once.last().map(Vec::len), Some(1));
    }

    #[test]
    fn every_kernel_is_pinned_or_missing() {
        let (hashers, missing) = pinned_kernels().unwrap();
        assert_eq!(hashers.len() + missing.len(), CpuHasher::kernels().len());
        assert!(hashers.iter().any(|(name, _)| name == "cpu:portable"));
    }
}
