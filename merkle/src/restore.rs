//! A forest computed anew from what is kept on disk.
//!
//! ```text
//!               first_kept ........ first_active .............. youngest
//!  edges        left of it
//!  left_roots   ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■ ■           from the twig file
//!  active_pages                     ▦ ▦ ▦ ▦ ▦ ▦ ▦ ▦ ▦ ▦ ▦ ▦ ▦ ▦           8 per twig
//!  youngest_leaves                                            ······
//! ```
//!
//! The arrays are built from these, everything in them is declared dirty, and then the roots come
//! out of the same procedure that hashes a block.

use crate::flush::flush;
use crate::shard::{ShardTree, SharedTree};
use crate::upper::{edge_places, level_of};
use crate::work::ShardWork;
use crate::{Forest, MerkleError};
use hedgerow_hasher_api::{BatchHasher, null_table};
use hedgerow_types::{
    ACTIVE_PAGES_PER_TWIG, Digest, SHARDS, SerialNumber, ShardId, TWIG_LEAVES, TwigId,
};

/// What one shard is restored from. The next serial number follows from it: the youngest twig is
/// `first_kept + left_roots.len()` and holds `youngest_leaves.len()` entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardRestore {
    /// The first twig not pruned; 0 if nothing is.
    pub first_kept: TwigId,
    /// [`Forest::edges`] of `first_kept`: (level, node), by level.
    pub edges: Vec<(u8, Digest)>,
    /// Roots of the left trees of the twigs `first_kept .. youngest`, all of them filled.
    pub left_roots: Vec<Digest>,
    /// The twig of `oldest_active`.
    pub first_active: TwigId,
    /// Active bits of the twigs `first_active ..= youngest`, 8 pages of 32 raw bytes per twig:
    /// entry `i` of a twig has bit `i % 8` of byte `i / 8` of its 256 bytes (spec 8.1).
    pub active_pages: Vec<Digest>,
    /// Entry hashes of the youngest twig, fewer than 2048.
    pub youngest_leaves: Vec<Digest>,
    /// Below this serial number no entry is active.
    pub oldest_active: SerialNumber,
}

impl ShardRestore {
    fn build(&self, shard: ShardId, work: &mut ShardWork) -> Result<ShardTree, MerkleError> {
        let wrong = |reason| MerkleError::Restore { shard, reason };
        let youngest = self.first_kept.0.checked_add(self.left_roots.len() as u64);
        let youngest = TwigId(youngest.ok_or(MerkleError::TooManyTwigs { shard })?);
        ShardTree::check_size(shard, self.first_kept, youngest)?;
        if self.first_active < self.first_kept || self.first_active > youngest {
            return Err(wrong("the first active twig is not among the twigs"));
        }
        if self.youngest_leaves.len() >= TWIG_LEAVES {
            return Err(wrong("the youngest twig has more leaves than fit"));
        }
        let next_sn = youngest.first().plus(self.youngest_leaves.len() as u64);
        if self.oldest_active.twig() != self.first_active || self.oldest_active > next_sn {
            return Err(wrong("the oldest active entry is not in the first active twig"));
        }
        let active_twigs = (youngest.0 - self.first_active.0 + 1) as usize;
        if self.active_pages.len() != active_twigs * ACTIVE_PAGES_PER_TWIG {
            return Err(wrong("8 pages of active bits per active twig"));
        }

        let null = null_table();
        let mut tree = ShardTree::bare(self.first_kept, self.first_active, youngest, null);
        tree.next_sn = next_sn;
        tree.oldest_active = self.oldest_active;
        tree.bits.load(&self.active_pages, null);
        let leaves = youngest.first().0..next_sn.0;
        let stray = next_sn.0..youngest.next().first().0;
        if tree.bits.first_active(stray).is_some() {
            return Err(wrong("an entry that does not exist is active"));
        }
        let below = self.first_active.first().0..self.oldest_active.0;
        if let Some(sn) = tree.bits.first_active(below) {
            return Err(MerkleError::StillActive { shard, sn });
        }
        tree.open.leaves_mut(&leaves).copy_from_slice(&self.youngest_leaves);
        for &left_root in &self.left_roots {
            tree.joins.extend(&[left_root, null.active_l3]);
        }
        tree.grow_to(youngest, null);
        self.place_edges(&mut tree).ok_or(wrong("the edges are not those of the first twig"))?;

        work.mark_entries(&tree.bits, tree.first_active().first().0..youngest.next().first().0);
        work.leaves = leaves;
        work.collect();
        Ok(tree)
    }

    fn place_edges(&self, tree: &mut ShardTree) -> Option<()> {
        let mut edges = self.edges.iter();
        for (row, index) in edge_places(self.first_kept) {
            let &(level, node) = edges.next()?;
            if level != level_of(row) {
                return None;
            }
            *tree.upper.rows_mut().get_mut(row)?.get_mut(index)? = node;
        }
        edges.next().is_none().then_some(())
    }
}

impl Forest {
    /// Computes a forest from what is kept of every shard.
    ///
    /// # Errors
    /// [`MerkleError::Restore`], [`StillActive`](MerkleError::StillActive) or
    /// [`TooManyTwigs`](MerkleError::TooManyTwigs) if the parts of a shard contradict each other;
    /// [`Hash`](MerkleError::Hash) if the backend failed. That the roots are those that were stored
    /// is for the caller to check.
    pub fn restore(
        hasher: &dyn BatchHasher,
        from: [ShardRestore; SHARDS],
    ) -> Result<Self, MerkleError> {
        let mut forest = Self::new();
        let trees = forest.shards.iter_mut().zip(&mut forest.works);
        for ((shard, (tree, work)), from) in ShardId::all().zip(trees).zip(from) {
            *tree = SharedTree::new(from.build(shard, work)?);
        }
        flush(hasher, &mut forest.shards, &mut forest.works, &mut forest.state)?;
        forest.shards.iter_mut().for_each(|tree| tree.settle());
        forest.refresh_roots();
        forest.works = Default::default(); // a restored forest may be huge, a block's work is not
        Ok(forest)
    }
}
