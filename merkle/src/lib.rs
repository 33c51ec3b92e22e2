//! Twigs, active bits and upper trees of all 16 shards: the part of Hedgerow that turns entries
//! into roots (spec 8).
//!
//! ```text
//!   68                                state root
//!   64                 shard root 0 ... shard root 15
//!                         ▲
//!   13 ..          upper tree, one per shard
//!   12           ▲          ▲          ▲
//!              twig 0     twig 1     twig 2 = youngest
//!             ┌──┴──┐
//!   11     left    right
//!            ▲       ▲
//!    0     2048    2048 active bits (8 pages at level 8)
//!         entry
//!         hashes
//! ```
//!
//! A block appends entries to shards and deactivates others: [`Forest::apply`] computes the new
//! roots in one pass over all shards, one batch of hashes per level. What a filled twig's left tree
//! held is handed out once, as a [`FinishedTwig`] for the twig file; only the youngest twig's left
//! tree stays in memory. Twigs without active entries shrink to their root (*eviction*, by itself),
//! and those that the log no longer holds disappear ([`Forest::prune`]). Neither changes a root.
//!
//! ```text
//!  working  ── apply ──► roots, finished twigs, dirty ── copy ──► Published ── path, at any height ──► proofs
//!     ▲                                                   before ──► TreeUndo ───┘ that somebody holds
//!     └── restore ── from twig file, log, manifest
//! ```
//!
//! Everything lies in dense arrays: about 0.3 bytes per entry between the oldest active one and the
//! youngest, 64 bytes per twig before that. There is one procedure that hashes ([`Forest::apply`]
//! and [`Forest::restore`] share it), and every hash in it has the form
//! `out[p] = node(level, children[2 p], children[2 p + 1])`.
//!
//! Invariants:
//! * The roots depend on the entries and on which of them are active alone: not on how they were
//!   cut into blocks, on eviction or pruning, on restarts or on the backend.
//! * The *clean* root of spec 8.2 is the root; nothing here knows another.
//!
//! **Invariant (absence):** no files, blocks, keys, threads or clocks.
#![forbid(unsafe_code)]

mod apply;
mod dirty;
mod error;
mod finished;
mod flush;
mod left;
mod levels;
mod path;
mod published;
mod resident;
mod restore;
mod right;
mod row;
mod shard;
mod upper;
mod work;

pub use apply::{Applied, ShardChange};
pub use dirty::Dirty;
pub use error::MerkleError;
pub use finished::{
    FINISHED_NODES, FinishedTwig, GROUP_LEAVES, GroupPath, LeafGroups, left_path_in,
};
pub use path::{LeftPart, TreePath};
pub use published::{PastShard, Published, Replaced, TreeHead, TreeUndo, left_part_as_of};
pub use restore::ShardRestore;

use flush::StateHeap;
use hedgerow_hasher_api::{hash_node, null_table};
use hedgerow_types::{
    Digest, SHARDS, STATE_LEVELS, STATE_ROOT_LEVEL, SerialNumber, ShardId, TwigId,
};
use resident::Resident;
use shard::{ShardTree, SharedTree};
use work::ShardWork;

/// What a state commits to: the roots of the shards, and the state root over them.
///
/// ```
/// use hedgerow_hasher_api::hash_node;
/// let forest = hedgerow_merkle::Forest::new();
/// let roots = forest.roots();
/// let mut nodes = roots.shards.to_vec();
/// for level in 64..68 {
///     nodes = nodes.chunks(2).map(|pair| hash_node(level, &pair[0], &pair[1])).collect();
/// }
/// assert_eq!(nodes, [roots.state]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// The shard roots ([spec 8.2](hedgerow_types::spec)), by shard. A shard with a single twig has its twig root.
    pub shards: [Digest; SHARDS],
    /// The state root: the binary tree over the shard roots with levels 64..=67 below it.
    pub state: Digest,
}

impl Roots {
    fn of(state: &StateHeap) -> Self {
        Self { shards: std::array::from_fn(|shard| state[SHARDS + shard]), state: state[1] }
    }
}

/// The trees of all 16 shards. See the [crate documentation](crate).
///
/// Two forests are equal if they hold the same nodes.
#[derive(Debug)]
pub struct Forest {
    shards: [SharedTree; SHARDS],
    state: StateHeap,
    roots: Roots,
    works: [ShardWork; SHARDS],
    resident: Resident,
}

impl PartialEq for Forest {
    fn eq(&self, other: &Self) -> bool {
        self.shards == other.shards && self.state == other.state && self.roots == other.roots
    }
}

/// A clone holds the same nodes and no memory for work. It shares the trees of shards until one of the two
/// changes them.
impl Clone for Forest {
    fn clone(&self) -> Self {
        Self {
            shards: self.shards.clone(),
            state: self.state,
            roots: self.roots.clone(),
            works: Default::default(),
            resident: self.resident.of_clone(),
        }
    }
}

impl Default for Forest {
    fn default() -> Self {
        Self::new()
    }
}

impl Forest {
    /// A forest without entries: every shard has one empty twig.
    pub fn new() -> Self {
        let mut state = [Digest::ZERO; 2 * SHARDS];
        state[SHARDS..].fill(null_table().twig_root());
        for level in 0..STATE_LEVELS {
            for node in SHARDS >> (level + 1)..SHARDS >> level {
                let level = STATE_ROOT_LEVEL + level as u8;
                state[node] = hash_node(level, &state[2 * node], &state[2 * node + 1]);
            }
        }
        Self {
            shards: std::array::from_fn(|_| SharedTree::new(ShardTree::new())),
            state,
            roots: Roots::of(&state),
            works: Default::default(),
            resident: Resident::default(),
        }
    }

    fn refresh_roots(&mut self) {
        self.roots = Roots::of(&self.state);
    }

    fn shard(&self, shard: ShardId) -> &ShardTree {
        &self.shards[shard.index()]
    }

    /// The roots after the last block applied.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The serial number that the shard's next entry gets.
    pub fn next_sn(&self, shard: ShardId) -> SerialNumber {
        self.shard(shard).next_sn
    }

    /// The shard's oldest-active serial number: no entry below it is active.
    pub fn oldest_active(&self, shard: ShardId) -> SerialNumber {
        self.shard(shard).oldest_active
    }

    /// The first twig that is not pruned.
    pub fn first_kept_twig(&self, shard: ShardId) -> TwigId {
        self.shard(shard).upper.first_kept()
    }

    /// Whether the entry is active. Entries of evicted twigs and those to come are not.
    pub fn is_active(&self, shard: ShardId, sn: SerialNumber) -> bool {
        self.shard(shard).bits.is_active(sn)
    }

    /// Number of active entries of the shard.
    pub fn active_count(&self, shard: ShardId) -> u64 {
        self.shard(shard).bits.count()
    }

    /// Active bits of the twigs from that of [`oldest_active`](Self::oldest_active) to the
    /// youngest, 8 pages of 32 raw bytes per twig: [`ShardRestore::active_pages`].
    pub fn active_pages(&self, shard: ShardId) -> &[Digest] {
        self.shard(shard).bits.pages.live()
    }

    /// Roots of the left trees of the twigs from that of [`oldest_active`](Self::oldest_active) to before the
    /// youngest: what [`ShardRestore::left_roots`] ends with.
    pub fn left_roots(&self, shard: ShardId) -> impl Iterator<Item = &Digest> {
        let tree = self.shard(shard);
        let twigs = tree.next_sn.twig().0 - tree.oldest_active.twig().0;
        tree.joins.live().iter().step_by(2).take(usize::try_from(twigs).unwrap_or(usize::MAX))
    }

    /// Entry hashes of the shard's youngest twig: [`ShardRestore::youngest_leaves`].
    pub fn youngest_leaves(&self, shard: ShardId) -> &[Digest] {
        let tree = self.shard(shard);
        tree.open.leaves().get(..tree.next_sn.leaf()).unwrap_or_default()
    }

    /// The nodes left of `first_kept` that the tree right of it is computed with, by level: for
    /// every level L >= 12 at which `first_kept >> (L - 12)` is odd, (L, the node before that
    /// index). [`restore`](Self::restore) needs them once the twigs below `first_kept` are gone;
    /// they never change again.
    ///
    /// # Errors
    /// [`MerkleError::PruneTooFar`] beyond the oldest active twig, [`MerkleError::Pruned`] left of
    /// what is pruned already.
    pub fn edges(
        &self,
        shard: ShardId,
        first_kept: TwigId,
    ) -> Result<Vec<(u8, Digest)>, MerkleError> {
        self.shard(shard).edges(shard, first_kept)
    }

    /// Forgets the twigs left of `first_kept`: their entries have no [`path`](Self::path) from now
    /// on. No root changes. A `first_kept` that is pruned already changes nothing.
    ///
    /// # Errors
    /// [`MerkleError::PruneTooFar`] beyond the oldest active twig.
    pub fn prune(&mut self, shard: ShardId, first_kept: TwigId) -> Result<(), MerkleError> {
        self.shard(shard).check_first_kept(shard, first_kept)?;
        let tree = &mut self.shards[shard.index()];
        if first_kept > tree.upper.first_kept() {
            tree.upper.prune(first_kept);
        }
        Ok(())
    }

    /// Takes a block over from a forest that it was [applied](Self::apply) to: `then` is that forest after
    /// the block, and was equal to this one before it. Nothing is hashed.
    pub fn take_over(&mut self, then: &Self, dirty: &Dirty) {
        let trees = self.shards.iter_mut().zip(&then.shards).zip(&dirty.shards);
        for ((tree, then), dirty) in trees {
            if !dirty.pages.is_empty() || tree.differs_in_bounds(then) {
                tree.copy(then, dirty);
            }
        }
        self.state = then.state;
        self.refresh_roots();
        self.resident.fall_behind(dirty, &self.shards);
    }

    /// Gives memory back that is for blocks to come: for a forest that is kept as it is.
    pub fn shrink(&mut self) {
        self.shards.iter_mut().for_each(SharedTree::shrink);
        self.works = Default::default();
    }

    /// Heap bytes of the trees that this forest does not share with `other`, memory for work included.
    pub fn heap_bytes_beside(&self, other: &Self) -> usize {
        let trees = self.shards.iter().zip(&other.shards);
        let own = trees.filter(|(tree, other)| !tree.is_shared_with(other));
        own.map(|(tree, _)| tree.heap_bytes() + size_of::<ShardTree>()).sum::<usize>()
            + self.works.iter().map(ShardWork::heap_bytes).sum::<usize>()
    }

    /// Heap bytes of all arrays, slack and memory for work included.
    pub fn heap_bytes(&self) -> usize {
        self.shards.iter().map(|tree| tree.heap_bytes()).sum::<usize>()
            + self.works.iter().map(ShardWork::heap_bytes).sum::<usize>()
    }
}
