//! What readers see of the trees: the newest state, and through it every state that somebody holds.
//!
//! ```text
//!  TreeHead h        TreeHead h+1        TreeHead h+2        roots, counters: small, never changed
//!      │ TreeUndo h+1     │ TreeUndo h+2      │
//!      └─ old nodes ──────┴─ old nodes ───────┤             one per block, as long as anybody looks back
//!                                             ▼             beyond it
//!                                        Published           all nodes of the newest state, a lock per shard
//!                                             ▲
//!  working Forest ── apply(h+2) ── Dirty ── copy
//! ```
//!
//! Publishing a block is three steps, in this order: [`Published::before`] collects the nodes that the
//! block replaces; the caller lets readers see them; [`Published::copy`] brings the nodes up to date,
//! shard by shard. A reader of height h takes a shard's nodes first and looks for older values after, in
//! the undo of h + 1, h + 2, ... : the first that names a node has it as it was at h. So it gets the
//! path of its own height, however far publishing has come meanwhile.
//!
//! Of a height whose head nobody kept there may be something on disk ([`Replaced`]): the nodes of the upper trees that
//! blocks replaced, and which entries they deactivated. That is enough for a path ([`Published::past_path`]): pages
//! follow from the newer ones and the entries that were deactivated since, and the rest of the right tree from the
//! pages.
//!
//! What is dropped here leaves nothing to undo. An evicted twig has no active entry, so its right tree is
//! the null tree unless an undo says otherwise. A pruned twig is gone, for readers of older heights too:
//! whoever holds such a height sees to it that nothing which it needs is pruned.
//!
//! The left tree of the youngest twig only ever grows. As it was with fewer leaves it is made again: what
//! lies right of them is null, and one node per level, above the last of them, is hashed anew.

use crate::dirty::ShardDirty;
use crate::finished::{FINISHED_NODES, GROUP_LEAVES, group_node};
use crate::flush::StateHeap;
use crate::left::OpenTwigs;
use crate::path::{LeftPart, TreePath};
use crate::resident::Resident;
use crate::right::{PAGES, page_of};
use crate::row::Row;
use crate::shard::{ShardTree, SharedTree};
use crate::upper::{level_of, levels_above_twigs};
use crate::{Dirty, Forest, MerkleError, Roots};
use hedgerow_hasher_api::{hash_node, null_table};
use hedgerow_types::rows::NodeRows;
use hedgerow_types::{
    Digest, SHARDS, STATE_LEVELS, STATE_ROOT_LEVEL, SerialNumber, ShardId, TWIG_LEAVES, TwigId,
};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use std::ops::Deref;
use std::sync::Arc;

/// Levels of a left tree above its leaves.
const LEFT_LEVELS: usize = 11;

/// The part of a state that is small: roots and counters. With [`Published`] and the [`TreeUndo`]s of the
/// blocks after it, it is the whole tree of its height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeHead {
    roots: Roots,
    state: StateHeap,
    next_sn: [SerialNumber; SHARDS],
    oldest_active: [SerialNumber; SHARDS],
}

impl TreeHead {
    /// The roots of this height.
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The serial number that a shard's next entry got.
    pub fn next_sn(&self, shard: ShardId) -> SerialNumber {
        self.next_sn[shard.index()]
    }

    /// A shard's oldest-active serial number: no entry below it was active.
    pub fn oldest_active(&self, shard: ShardId) -> SerialNumber {
        self.oldest_active[shard.index()]
    }
}

/// The nodes that one block replaced, as they were before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeUndo {
    shards: [ShardUndo; SHARDS],
}

/// The replaced nodes of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ShardUndo {
    /// Those of the active bits: pages, l1, l2.
    bits: NodeRows,
    /// By row, from the twig roots upward.
    upper: Arc<NodeRows>,
}

impl TreeUndo {
    /// The nodes of a shard's upper tree that the block replaced: by row, from the twig roots up, each with its
    /// index in the row, ascending.
    pub fn upper(&self, shard: ShardId) -> Arc<NodeRows> {
        self.shards.get(shard.index()).map(|undo| Arc::clone(&undo.upper)).unwrap_or_default()
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.bits.heap_bytes() + shard.upper.heap_bytes()).sum()
    }
}

/// Where a node of a path is.
#[derive(Clone, Copy, Debug)]
enum Place {
    Page(u64),
    L1(u64),
    L2(u64),
    Upper(usize, u64),
}

impl ShardUndo {
    fn get(&self, place: Place) -> Option<Digest> {
        match place {
            Place::Page(index) => self.bits.get(0, index),
            Place::L1(index) => self.bits.get(1, index),
            Place::L2(index) => self.bits.get(2, index),
            Place::Upper(row, index) => self.upper.get(row, index),
        }
    }
}

impl ShardTree {
    /// The nodes that a block with this `dirty` replaces, as far as there are any.
    fn before(&self, dirty: &ShardDirty) -> ShardUndo {
        // Takes the nodes of a row, and leads on to their parents.
        let take = |to: &mut NodeRows, row: &Row, indexes: &mut Vec<u64>| {
            to.push_row(indexes.iter().filter_map(|&index| Some((index, *row.get(index)?))));
            indexes.iter_mut().for_each(|index| *index >>= 1);
            indexes.dedup();
        };
        // Pages have few twigs in common when they are few.
        let mut indexes = dirty.pages.clone();
        let mut bits = NodeRows::with_capacity(3 * indexes.len(), 3);
        for row in [&self.bits.pages, &self.bits.l1, &self.bits.l2] {
            take(&mut bits, row, &mut indexes);
        }
        let (mut twigs, rows) = (dirty.twigs(), self.upper.rows());
        // A row has half of the nodes below it, or as many as they become fewer.
        let mut upper = NodeRows::with_capacity(twigs.len() * rows.len().min(4), rows.len());
        rows.iter().for_each(|row| take(&mut upper, row, &mut twigs));
        ShardUndo { bits, upper: Arc::new(upper) }
    }

    /// A node of the newest state; of what is not held, what it was while nothing was active below it.
    /// `None` if it is pruned.
    fn node(&self, place: Place) -> Option<Digest> {
        let null = null_table();
        match place {
            Place::Page(index) => self.bits.pages.get(index).copied().or(Some(Digest::ZERO)),
            Place::L1(index) => self.bits.l1.get(index).copied().or(Some(null.active_l1)),
            Place::L2(index) => self.bits.l2.get(index).copied().or(Some(null.active_l2)),
            Place::Upper(row, index) => self.upper.node(row, index),
        }
    }
}

/// The nodes of the newest state, as readers of any height share them. See the
/// [module's picture](TreeHead).
#[derive(Debug)]
pub struct Published {
    shards: [RwLock<SharedTree>; SHARDS],
}

/// Whether the nodes are those of the working forest.
impl PartialEq<Forest> for Published {
    fn eq(&self, other: &Forest) -> bool {
        self.shards.iter().zip(&other.shards).all(|(mine, other)| *mine.read() == *other)
    }
}

impl Published {
    /// The nodes that a block replaces, before it is [copied](Self::copy).
    pub fn before(&self, dirty: &Dirty) -> TreeUndo {
        let mut undo = TreeUndo::default();
        for ((undo, shard), dirty) in undo.shards.iter_mut().zip(&self.shards).zip(&dirty.shards) {
            *undo = shard.read().before(dirty);
        }
        undo
    }

    /// Makes the nodes those of `from`. `dirty` holds everything that was changed in `from` since they
    /// were last equal; what was pruned needs no mention.
    pub fn copy(&self, from: &Forest, dirty: &Dirty) {
        for ((shard, from), dirty) in self.shards.iter().zip(&from.shards).zip(&dirty.shards) {
            let mut shard = shard.write();
            if !dirty.pages.is_empty() || shard.differs_in_bounds(from) {
                shard.copy(from, dirty);
            }
        }
    }

    /// Makes the nodes those of `from`, all of them: of a forest that does not follow from these.
    pub fn replace(&self, from: &Forest) {
        for (shard, from) in self.shards.iter().zip(&from.shards) {
            // Copied before the lock is taken, and let go of after it.
            let mut tree = from.clone();
            std::mem::swap(&mut *shard.write(), &mut tree);
        }
    }

    /// The tree of a shard, which nobody changes meanwhile.
    fn read(&self, shard: ShardId) -> MappedRwLockReadGuard<'_, ShardTree> {
        RwLockReadGuard::map(self.shards[shard.index()].read(), |tree| &**tree)
    }

    /// The newest state as a forest of its own, which blocks can be applied to: it shares the trees of shards
    /// until either changes them, and keeps nothing on a device. `None` if `head` is not that of the newest state.
    /// Nobody publishes meanwhile.
    pub fn forest(&self, head: &TreeHead) -> Option<Forest> {
        let shards: [SharedTree; SHARDS] = self.shards.each_ref().map(|tree| tree.read().clone());
        let ends = head.next_sn.iter().zip(&head.oldest_active).zip(&head.roots.shards);
        let newest = shards.iter().zip(ends).all(|(tree, ((next_sn, oldest_active), root))| {
            (tree.next_sn, tree.oldest_active, tree.root()) == (*next_sn, *oldest_active, *root)
        });
        newest.then(|| Forest {
            shards,
            state: head.state,
            roots: head.roots.clone(),
            works: Default::default(),
            resident: Resident::apart(),
        })
    }

    /// As [`Forest::edges`], of the newest state.
    ///
    /// # Errors
    /// As [`Forest::edges`].
    pub fn edges(
        &self,
        shard: ShardId,
        first_kept: TwigId,
    ) -> Result<Vec<(u8, Digest)>, MerkleError> {
        self.read(shard).edges(shard, first_kept)
    }

    /// The path from an entry to the state root at the height of `head`. `undos` are those of the blocks
    /// after it, oldest first, up to the newest published at least; they are asked for only after the
    /// nodes of the newest state were read.
    ///
    /// # Errors
    /// As [`Forest::path`]; [`MerkleError::Pruned`] also if it was pruned since.
    pub fn path<'u>(
        &self,
        head: &TreeHead,
        undos: impl IntoIterator<Item = &'u TreeUndo>,
        shard: ShardId,
        sn: SerialNumber,
    ) -> Result<TreePath, MerkleError> {
        path_in(self.read(shard), head, undos, shard, sn)
    }

    /// The path from an entry to the state root at a height before that of `head`, for which nobody kept a
    /// head: `past` says what blocks in between replaced. `undos` as for [`path`](Self::path).
    ///
    /// What comes out is a path of that height if what `past` says is right: fold it
    /// ([`TreePath::fold`]) and compare.
    ///
    /// # Errors
    /// As [`path`](Self::path).
    pub fn past_path<'u, R: Replaced>(
        &self,
        past: &PastShard<'_, R>,
        undos: impl IntoIterator<Item = &'u TreeUndo>,
        shard: ShardId,
        sn: SerialNumber,
    ) -> Result<TreePath, MerkleError> {
        past_path_in(self.read(shard), past, undos, shard, sn)
    }

    /// Heap bytes of all arrays, slack included.
    pub fn heap_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().heap_bytes()).sum()
    }
}

/// What a block replaced in one shard, as far as it is kept when its [`TreeUndo`] is not.
pub trait Replaced {
    /// The node that had this index in a row of the upper tree, counted from the twig roots up, before the
    /// block; `None` if the block did not replace it.
    fn upper(&self, row: usize, index: u64) -> Option<Digest>;

    /// The entries from `from` to before `to` that the block deactivated, of those that were there before it.
    fn deactivated(&self, from: SerialNumber, to: SerialNumber, each: &mut dyn FnMut(SerialNumber));
}

/// A shard at a past height, for [`Published::past_path`].
#[derive(Debug)]
pub struct PastShard<'r, R> {
    /// The roots of that height.
    pub roots: &'r Roots,
    /// The next serial number of the shard at that height.
    pub next_sn: SerialNumber,
    /// What the blocks after it replaced, oldest first, up to the height whose undos follow.
    pub blocks: &'r [R],
}

/// Makes nodes what they were before the blocks of `undos`, oldest first. Asks for the first undo only now.
fn look_back<'u>(
    nodes: &mut [Digest],
    places: impl Iterator<Item = Place> + Clone,
    undos: impl IntoIterator<Item = &'u TreeUndo>,
    shard: ShardId,
) {
    let mut open: Vec<bool> = Vec::new();
    for undo in undos {
        open.resize(nodes.len(), true);
        let undo = &undo.shards[shard.index()];
        let nodes = nodes.iter_mut().zip(places.clone()).zip(&mut open);
        for ((node, place), open) in nodes.filter(|(_, open)| **open) {
            if let Some(was) = undo.get(place) {
                (*node, *open) = (was, false);
            }
        }
    }
}

/// Nodes of the newest state, and the left part of a path when `next` was the next serial number.
fn nodes_in(
    tree: impl Deref<Target = ShardTree>,
    places: impl Iterator<Item = Place>,
    shard: ShardId,
    sn: SerialNumber,
    next: SerialNumber,
) -> Result<(LeftPart, Vec<Digest>), MerkleError> {
    let twig = sn.twig();
    let pruned = MerkleError::Pruned { shard, twig };
    if twig > next.twig() {
        return Err(MerkleError::OutOfRange { shard, sn });
    }
    if twig < tree.upper.first_kept() {
        return Err(pruned);
    }
    let mut nodes = Vec::with_capacity(PAGES as usize + levels_above_twigs(next.twig()));
    for place in places {
        nodes.push(tree.node(place).ok_or(pruned.clone())?);
    }
    Ok((tree.left_part(sn, next), nodes))
}

/// A node right of the youngest twig was null, whatever came since.
fn null_right_of(youngest: TwigId, nodes: &mut [Digest], places: impl Iterator<Item = Place>) {
    for (node, place) in nodes.iter_mut().zip(places) {
        if let Place::Upper(row, index) = place
            && index > youngest.0 >> row
        {
            *node = null_table().upper[usize::from(level_of(row))];
        }
    }
}

/// The siblings of a twig's root when `youngest` was the youngest twig.
fn upper_places(twig: TwigId, youngest: TwigId) -> impl Iterator<Item = Place> + Clone {
    (0..levels_above_twigs(youngest)).map(move |row| Place::Upper(row, (twig.0 >> row) ^ 1))
}

/// See [`Published::past_path`].
fn past_path_in<'u, R: Replaced>(
    tree: impl Deref<Target = ShardTree>,
    past: &PastShard<'_, R>,
    undos: impl IntoIterator<Item = &'u TreeUndo>,
    shard: ShardId,
    sn: SerialNumber,
) -> Result<TreePath, MerkleError> {
    let PastShard { roots, next_sn: next, blocks } = *past;
    let twig = sn.twig();
    let pages = twig.0.saturating_mul(PAGES)..twig.0.saturating_add(1).saturating_mul(PAGES);
    let upper_of = upper_places(twig, next.twig());
    let places = pages.map(Place::Page).chain(upper_of.clone());
    let (left, mut nodes) = nodes_in(tree, places.clone(), shard, sn, next)?;
    look_back(&mut nodes, places, undos, shard);
    let out_of_range = MerkleError::OutOfRange { shard, sn };
    let Some((pages, upper)) = nodes.split_first_chunk_mut::<{ PAGES as usize }>() else {
        return Err(out_of_range);
    };
    for (node, place) in upper.iter_mut().zip(upper_of.clone()) {
        let Place::Upper(row, index) = place else { continue };
        if let Some(was) = blocks.iter().find_map(|block| block.upper(row, index)) {
            *node = was;
        }
    }
    null_right_of(next.twig(), upper, upper_of);
    // The order of the blocks does not matter: what is active once and then not, is never active again.
    let first = twig.first();
    for block in blocks {
        block.deactivated(first, next.min(twig.next().first()), &mut |sn| set_bit(pages, sn));
    }
    clear_from(pages, next.0.saturating_sub(first.0));
    let node = |level: u8, nodes: &[Digest], index: usize| match nodes.get(2 * index..2 * index + 2)
    {
        Some([left, right]) => hash_node(level, left, right),
        _ => Digest::ZERO,
    };
    let [l1_0, l1_1, l1_2, l1_3] = std::array::from_fn(|index| node(8, pages, index));
    let l1 = [l1_0, l1_1, l1_2, l1_3];
    let l2: [Digest; 2] = std::array::from_fn(|index| node(9, &l1, index));
    let page = sn.leaf() / (TWIG_LEAVES / pages.len());
    let (Some(own), Some(neighbour), Some(l1), Some(l2)) =
        (pages.get(page), pages.get(page ^ 1), l1.get((page >> 1) ^ 1), l2.get((page >> 2) ^ 1))
    else {
        return Err(out_of_range);
    };
    let state = state_siblings(&roots.shards, shard);
    Ok(TreePath {
        shard,
        sn,
        left,
        page: *own,
        right: [*neighbour, *l1, *l2],
        upper: upper.to_vec(),
        state,
        shard_root: roots.shards[shard.index()],
        state_root: roots.state,
    })
}

/// Sets the active bit of an entry in the pages of its twig.
fn set_bit(pages: &mut [Digest; PAGES as usize], sn: SerialNumber) {
    let leaf = sn.leaf();
    if let Some(byte) = pages.get_mut(leaf / 256).and_then(|page| page.0.get_mut(leaf % 256 / 8)) {
        *byte |= 1 << (leaf % 8);
    }
}

/// Clears the active bits from the leaf `first` of a twig on.
fn clear_from(pages: &mut [Digest; PAGES as usize], first: u64) {
    let bytes = pages.iter_mut().flat_map(|page| &mut page.0);
    for (number, byte) in (0..).zip(bytes) {
        // Leaves of this byte that stay.
        let stay = first.saturating_sub(8 * number).min(8);
        *byte &= (0xff_u16 >> (8 - stay)) as u8;
    }
}

/// The siblings of a shard's root up to those below the state root.
fn state_siblings(shards: &[Digest; SHARDS], shard: ShardId) -> [Digest; STATE_LEVELS] {
    let mut row = shards.to_vec();
    let mut index = shard.index();
    let mut siblings = [Digest::ZERO; STATE_LEVELS];
    for (level, sibling) in (STATE_ROOT_LEVEL..).zip(&mut siblings) {
        *sibling = row.get(index ^ 1).copied().unwrap_or_default();
        row = row.as_chunks::<2>().0.iter().map(|[a, b]| hash_node(level, a, b)).collect();
        index >>= 1;
    }
    siblings
}

/// See [`Published::path`]. Reads `tree` and lets go of it before it asks for the first undo.
fn path_in<'u>(
    tree: impl Deref<Target = ShardTree>,
    head: &TreeHead,
    undos: impl IntoIterator<Item = &'u TreeUndo>,
    shard: ShardId,
    sn: SerialNumber,
) -> Result<TreePath, MerkleError> {
    let (twig, next) = (sn.twig(), head.next_sn(shard));
    let page = page_of(sn.0);
    let right = [
        Place::Page(page),
        Place::Page(page ^ 1),
        Place::L1((page >> 1) ^ 1),
        Place::L2((page >> 2) ^ 1),
    ];
    let places = right.into_iter().chain(upper_places(twig, next.twig()));
    let (left, mut nodes) = nodes_in(tree, places.clone(), shard, sn, next)?;
    null_right_of(next.twig(), &mut nodes, places.clone());
    look_back(&mut nodes, places, undos, shard);
    let heap = SHARDS + shard.index();
    let Some(&[page, neighbour, l1, l2]) = nodes.first_chunk() else {
        return Err(MerkleError::OutOfRange { shard, sn });
    };
    nodes.drain(..right.len());
    Ok(TreePath {
        shard,
        sn,
        left,
        page,
        right: [neighbour, l1, l2],
        upper: nodes,
        state: std::array::from_fn(|level| head.state[(heap >> level) ^ 1]),
        shard_root: head.roots.shards[shard.index()],
        state_root: head.roots.state,
    })
}

impl Forest {
    /// The path from an entry, or from a leaf of the youngest twig that is not occupied yet, to the
    /// state root. The left part of a finished twig is left open: see [`LeftPart`].
    ///
    /// # Errors
    /// [`MerkleError::OutOfRange`] beyond the youngest twig, [`MerkleError::Pruned`] in a twig left
    /// of [`first_kept_twig`](Self::first_kept_twig).
    pub fn path(&self, shard: ShardId, sn: SerialNumber) -> Result<TreePath, MerkleError> {
        path_in(&*self.shards[shard.index()], &self.head(), [], shard, sn)
    }

    /// The nodes of this state that `dirty` names, as what a block would have replaced: with them, later nodes lead
    /// to this state's paths.
    pub fn before(&self, dirty: &Dirty) -> TreeUndo {
        let mut undo = TreeUndo::default();
        for ((undo, shard), dirty) in undo.shards.iter_mut().zip(&self.shards).zip(&dirty.shards) {
            *undo = shard.before(dirty);
        }
        undo
    }

    /// Roots and counters of this state.
    pub fn head(&self) -> TreeHead {
        TreeHead {
            roots: self.roots.clone(),
            state: self.state,
            next_sn: std::array::from_fn(|shard| self.shards[shard].next_sn),
            oldest_active: std::array::from_fn(|shard| self.shards[shard].oldest_active),
        }
    }

    /// A copy of all nodes for readers.
    pub fn publish(&self) -> Published {
        Published { shards: std::array::from_fn(|shard| RwLock::new(self.shards[shard].apart())) }
    }
}

impl ShardTree {
    /// Leaf to left root as it was when `next` was the next serial number; the twig of `sn` existed.
    fn left_part(&self, sn: SerialNumber, next: SerialNumber) -> LeftPart {
        let twig = sn.twig();
        if twig < next.twig() {
            // One that is evicted is not in memory any more.
            return LeftPart::Finished { twig, left_root: self.joins.get(2 * twig.0).copied() };
        }
        // As it is now: a tree that is open is complete, what lies right of its leaves is null.
        let leaves = if next == self.next_sn { TWIG_LEAVES } else { next.leaf() };
        match self.open.part_at(twig, sn.leaf(), leaves) {
            Some((leaf, siblings, left_root)) => {
                LeftPart::Here { leaf, siblings: Box::new(siblings), left_root }
            }
            None => LeftPart::Filled { twig, leaves: next.leaf() },
        }
    }
}

impl OpenTwigs {
    /// The leaf, its siblings and the left root of the youngest twig, as they were with the first
    /// `leaves` of its leaves; `None` if `twig` is not the youngest.
    fn part_at(
        &self,
        twig: TwigId,
        leaf: usize,
        leaves: usize,
    ) -> Option<(Digest, [Digest; LEFT_LEVELS], Digest)> {
        if twig != self.first() {
            return None;
        }
        let mut node = |level: usize, index: usize| self.node(level, index);
        part_at(leaf, leaves, &mut node)
    }
}

/// The leaf, the siblings at the levels 0..=10 and the root of a left tree as they were with the first
/// `leaves` leaves, from its nodes as they are with more; `None` if one of them is not there.
fn part_at(
    leaf: usize,
    leaves: usize,
    node: &mut dyn FnMut(usize, usize) -> Option<Digest>,
) -> Option<(Digest, [Digest; LEFT_LEVELS], Digest)> {
    let mut siblings = [Digest::ZERO; LEFT_LEVELS];
    for (level, sibling) in siblings.iter_mut().enumerate() {
        *sibling = node_at(level, (leaf >> level) ^ 1, leaves, node)?;
    }
    Some((node_at(0, leaf, leaves, node)?, siblings, node_at(LEFT_LEVELS, 0, leaves, node)?))
}

/// One node of a left tree as it was with the first `leaves` leaves.
fn node_at(
    level: usize,
    index: usize,
    leaves: usize,
    node: &mut dyn FnMut(usize, usize) -> Option<Digest>,
) -> Option<Digest> {
    if (index + 1) << level <= leaves {
        return node(level, index);
    }
    if index << level >= leaves {
        return null_table().left.get(level).copied();
    }
    // Above the last leaf; so is at most one of the children.
    let below = level.checked_sub(1)?;
    let left = node_at(below, 2 * index, leaves, node)?;
    let right = node_at(below, 2 * index + 1, leaves, node)?;
    Some(hash_node(below as u8, &left, &right))
}

/// The hash of a leaf and its siblings at the levels 0..=10, in a twig that is filled now, as they were
/// when it had `leaves` leaves: for a [`LeftPart::Filled`]. `nodes` are those of the twig's record, and
/// `group` returns the hashes of the 16 entries of a group, of which at most two are asked for.
///
/// # Errors
/// What `group` returns; [`MerkleError::GroupMismatch`] if the entries of a group do not hash to its
/// node, or if `leaf` is not a leaf of a twig.
pub fn left_part_as_of<E: From<MerkleError>>(
    nodes: &[Digest; FINISHED_NODES],
    leaf: usize,
    leaves: usize,
    mut group: impl FnMut(usize) -> Result<[Digest; GROUP_LEAVES], E>,
) -> Result<(Digest, [Digest; LEFT_LEVELS]), E> {
    const GROUP_LEVEL: usize = GROUP_LEAVES.trailing_zeros() as usize;
    let of = |leaf: usize| MerkleError::GroupMismatch { group: leaf / GROUP_LEAVES };
    if leaf >= TWIG_LEAVES || leaves > TWIG_LEAVES {
        return Err(of(leaf).into());
    }
    // The group of the leaf, and that of the last leaf there was.
    let mut read: Vec<(usize, [Digest; GROUP_LEAVES])> = Vec::with_capacity(2);
    for number in [leaf / GROUP_LEAVES, leaves / GROUP_LEAVES] {
        let wanted =
            number * GROUP_LEAVES < leaves && read.iter().all(|(known, _)| *known != number);
        if wanted {
            let hashes = group(number)?;
            if group_node(&hashes) != nodes[FINISHED_NODES / 2 + number] {
                return Err(MerkleError::GroupMismatch { group: number }.into());
            }
            read.push((number, hashes));
        }
    }
    let mut node = |level: usize, index: usize| {
        if level >= GROUP_LEVEL {
            // A heap: the nodes of level 11 - d begin at 2^d - 1.
            return nodes.get((1 << (LEFT_LEVELS - level)) - 1 + index).copied();
        }
        let number = (index << level) / GROUP_LEAVES;
        let hashes = read.iter().find(|(known, _)| *known == number).map(|(_, hashes)| hashes)?;
        let first = (index << level) % GROUP_LEAVES;
        subtree(hashes.get(first..first + (1 << level))?)
    };
    let part = part_at(leaf, leaves, &mut node).ok_or_else(|| of(leaf))?;
    Ok((part.0, part.1))
}

/// The root over leaves, a power of two of them.
fn subtree(leaves: &[Digest]) -> Option<Digest> {
    if let [leaf] = leaves {
        return Some(*leaf);
    }
    let (left, right) = leaves.split_at(leaves.len() / 2);
    let below = left.len().checked_ilog2()? as u8;
    Some(hash_node(below, &subtree(left)?, &subtree(right)?))
}

/// Twigs have whole pages: what the places of a path rely on.
const _: () = assert!(PAGES == 8 && STATE_LEVELS == 4);
