//! The rows above the leaves on a device, for blocks that make many nodes dirty.
//!
//! ```text
//!  CPU      rows of all shards (always complete)          left trees, top levels, state tree
//!             │ changed pages, flipped bits, left roots      ▲ dirty nodes, once the top is known
//!             ▼                                              │
//!  device   pages ─► l1 ─► l2 ─► joins ─► twig roots ─► ... ─► top row, 64 places per shard
//! ```
//!
//! The device has a ring per shard and row: node `i` of a row lies at `i` modulo the ring's length.
//! Rings halve from row to row as the tree does, so that a parent finds its children by its place;
//! and they go on for ever, however far the tree moves to the right. A tree that outgrows its ring
//! is loaded anew into one twice as long.
//!
//! **Invariants:**
//! * The CPU's rows get every node that the device computes: proofs, pruning and publishing know
//!   nothing of the device.
//! * Whatever goes wrong here costs a block that is hashed on the CPU, never a root.

use crate::dirty::{Dirty, ShardDirty};
use crate::flush::{Batches, Hashing, Step};
use crate::right::{PAGES, page_of};
use crate::row::Row;
use crate::shard::ShardTree;
use crate::upper::level_of;
use crate::work::ShardWork;
use crate::{MerkleError, ShardChange};
use hedgerow_hasher_api::{BatchHasher, HashError, Residency, ResidentRows, Target, hash_node};
use hedgerow_types::{ACTIVE_BITS_LEVEL, Digest, SHARDS, TWIG_ROOT_LEVEL, TwigId};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Places per shard of the highest row on the device: above it, a level has too few nodes to be
/// worth a launch.
const TOP_PLACES: u64 = 64;
/// Smallest ring, in twigs.
const LEAST_RING: u64 = 2 * TOP_PLACES;

/// Rows as the device numbers them: pages, l1, l2, joins, then the upper tree from level 12 on.
const PAGES_ROW: usize = 0;
const JOINS_ROW: usize = 3;
const UPPER_ROWS: usize = 4;

/// A forest's rows on a device, if there is one. See the [module documentation](self).
#[derive(Debug, Default)]
pub(crate) struct Resident {
    mirror: Option<Mirror>,
    /// A device that could not take the rows or failed; it is not asked again.
    refused: Option<u64>,
}

/// What a block did, for the device to follow.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) changes: &'a [ShardChange<'a>; SHARDS],
    pub(crate) dirty: &'a Dirty,
}

impl Resident {
    /// Hashes everything above the dirty pages and the new left roots on the device of `hasher`,
    /// if it has one and the block is worth it. Returns whether the rows are done; if not, they are
    /// as they were or hold some of the new nodes, and `works` may be used up.
    pub(crate) fn flush(
        &mut self,
        hasher: &dyn BatchHasher,
        shards: &mut [ShardTree; SHARDS],
        works: &mut [ShardWork; SHARDS],
        block: Block<'_>,
    ) -> bool {
        let Some(device) = hasher.residency() else {
            self.mirror = None;
            return false;
        };
        let id = device.id();
        self.mirror.take_if(|mirror| mirror.device != id);
        if self.refused == Some(id) {
            return false;
        }
        let pages = block.dirty.shards.iter().map(|shard| shard.pages.len()).sum::<usize>();
        if pages < device.worth_from() {
            self.fall_behind(block.dirty, shards);
            return false;
        }
        let kept = self.mirror.take().filter(|mirror| mirror.ring.holds(shards));
        let fresh = kept.is_none();
        let done = kept.map_or_else(|| Ok(Mirror::open(device, shards)?), Ok).and_then(|mirror| {
            mirror.run(hasher, device, shards, works, (!fresh).then_some(block))
        });
        match done {
            Ok(mirror) => {
                self.mirror = Some(mirror);
                true
            }
            Err(error) => {
                if let MerkleError::Hash(error) = &error {
                    device.condemn(error);
                }
                self.refused = Some(id);
                false
            }
        }
    }
}

impl Resident {
    /// Notes what changed without the device. What has fallen too far behind is dropped: loading it
    /// anew costs no more.
    pub(crate) fn fall_behind(&mut self, dirty: &Dirty, shards: &[ShardTree; SHARDS]) {
        let Some(mirror) = &mut self.mirror else { return };
        mirror.behind.merge(dirty);
        let behind = mirror.behind.shards.iter().map(|shard| shard.pages.len()).sum::<usize>();
        let held = shards.iter().map(|tree| tree.bits.pages.live().len()).sum::<usize>();
        if behind > held / 4 {
            self.mirror = None;
        }
    }
}

/// Where nodes lie on the device.
#[derive(Clone, Copy, Debug)]
struct Ring {
    /// Twigs per shard, a power of two.
    twigs: u64,
}

impl Ring {
    /// One with room for the twigs of `shards` and half as many again.
    fn for_shards(shards: &[ShardTree; SHARDS]) -> Self {
        let most = shards.iter().map(twigs_held).max().unwrap_or(0);
        Self { twigs: (most + most / 2).next_power_of_two().max(LEAST_RING) }
    }

    /// Whether the twigs of `shards` fit. In the highest row, a sixteenth is what the ends of the
    /// row may take beyond the twigs' share: it begins at an even node and ends before one.
    fn holds(self, shards: &[ShardTree; SHARDS]) -> bool {
        shards.iter().all(|tree| twigs_held(tree) <= self.twigs / 16 * 15)
    }

    /// Rows of the upper tree on the device.
    const fn upper_rows(self) -> usize {
        (self.twigs / TOP_PLACES).ilog2() as usize + 1
    }

    const fn rows(self) -> usize {
        UPPER_ROWS + self.upper_rows()
    }

    /// Places per shard.
    const fn len(self, row: usize) -> u64 {
        match row {
            PAGES_ROW..=2 => self.twigs * (PAGES >> row),
            JOINS_ROW => 2 * self.twigs,
            _ => self.twigs >> (row - UPPER_ROWS),
        }
    }

    /// Place of a node in a row with `len` places per shard.
    const fn place_in(len: u64, shard: usize, index: u64) -> u32 {
        (shard as u64 * len + index % len) as u32 // `open` has checked that places fit
    }

    const fn place(self, row: usize, shard: usize, index: u64) -> u32 {
        Self::place_in(self.len(row), shard, index)
    }
}

/// Twigs between the oldest node and the youngest twig.
fn twigs_held(tree: &ShardTree) -> u64 {
    let oldest = tree.upper.rows().first().map_or(0, Row::base).min(tree.joins.base() / 2);
    tree.youngest().0 + 1 - oldest.min(tree.youngest().0)
}

fn row_of(tree: &ShardTree, row: usize) -> Option<&Row> {
    match row {
        PAGES_ROW => Some(&tree.bits.pages),
        1 => Some(&tree.bits.l1),
        2 => Some(&tree.bits.l2),
        JOINS_ROW => Some(&tree.joins),
        _ => tree.upper.rows().get(row - UPPER_ROWS),
    }
}

fn row_of_mut(tree: &mut ShardTree, row: usize) -> Option<&mut Row> {
    match row {
        PAGES_ROW => Some(&mut tree.bits.pages),
        1 => Some(&mut tree.bits.l1),
        2 => Some(&mut tree.bits.l2),
        JOINS_ROW => Some(&mut tree.joins),
        _ => tree.upper.rows_mut().get_mut(row - UPPER_ROWS),
    }
}

/// The row that the children of a step lie in, their level, and where the parents go.
fn ends_of(step: Step) -> (usize, u8, Target) {
    match step {
        Step::Pages => (PAGES_ROW, ACTIVE_BITS_LEVEL, Target::row(1)),
        Step::L1 => (1, ACTIVE_BITS_LEVEL + 1, Target::row(2)),
        Step::L2 => (2, ACTIVE_BITS_LEVEL + 2, Target { row: JOINS_ROW, stride: 2, offset: 1 }),
        Step::Joins => (JOINS_ROW, TWIG_ROOT_LEVEL - 1, Target::row(UPPER_ROWS)),
        Step::Upper(row) => (UPPER_ROWS + row, level_of(row), Target::row(UPPER_ROWS + row + 1)),
    }
}

/// Nodes of one row of all shards, gathered to be written.
#[derive(Default)]
struct Nodes {
    places: Vec<u32>,
    digests: Vec<Digest>,
}

impl Nodes {
    fn push(&mut self, place: u32, digest: Digest) {
        self.places.push(place);
        self.digests.push(digest);
    }

    fn write(&self, rows: &mut dyn ResidentRows, row: usize) -> Result<(), HashError> {
        if self.places.is_empty() { Ok(()) } else { rows.write(row, &self.places, &self.digests) }
    }
}

/// The rows on the device.
#[derive(Debug)]
struct Mirror {
    device: u64,
    /// Never locked: it makes a forest `Sync`, whose rows are used through `&mut` alone.
    rows: Mutex<Box<dyn ResidentRows>>,
    ring: Ring,
    /// Index after the last node that the device has, by row and shard.
    ends: Vec<[u64; SHARDS]>,
    /// What blocks changed that were hashed without the device.
    behind: Dirty,
    /// Nodes computed so far: which of them are checked.
    computed: u64,
}

fn rows(rows: &mut Mutex<Box<dyn ResidentRows>>) -> &mut dyn ResidentRows {
    &mut **rows.get_mut().unwrap_or_else(PoisonError::into_inner)
}

impl Mirror {
    /// Loads all rows as they are.
    fn open(device: &dyn Residency, shards: &[ShardTree; SHARDS]) -> Result<Self, HashError> {
        let ring = Ring::for_shards(shards);
        let too_long = || HashError::DoesNotFit {
            backend: "resident".into(),
            reason: "a row has more places than 32 bits name".into(),
        };
        // Bits are flipped by 32-bit words, 8 per page, that 32 bits name.
        if SHARDS as u64 * ring.len(PAGES_ROW) > u64::from(u32::MAX / 8) {
            return Err(too_long());
        }
        let lens = (0..ring.rows())
            .map(|row| u32::try_from(SHARDS as u64 * ring.len(row)).map_err(|_| too_long()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut rows = device.open(&lens)?;
        for row in 0..ring.rows() {
            for (shard, tree) in shards.iter().enumerate() {
                let Some(nodes) = row_of(tree, row) else { continue };
                let first = ring.place(row, shard, nodes.base());
                let to_end = (ring.len(row) - nodes.base() % ring.len(row)) as usize;
                let (now, wrapped) = nodes.live().split_at(to_end.min(nodes.live().len()));
                rows.write_run(row, first, now)?;
                rows.write_run(row, ring.place(row, shard, 0), wrapped)?;
            }
        }
        let mut mirror = Self {
            device: device.id(),
            rows: Mutex::new(rows),
            ring,
            ends: vec![[0; SHARDS]; ring.rows()],
            behind: Dirty::default(),
            computed: 0,
        };
        mirror.note_ends(shards);
        Ok(mirror)
    }

    fn note_ends(&mut self, shards: &[ShardTree; SHARDS]) {
        for (row, ends) in self.ends.iter_mut().enumerate() {
            for (end, tree) in ends.iter_mut().zip(shards) {
                *end = row_of(tree, row).map_or(0, Row::end);
            }
        }
    }

    /// Brings the device up to date, hashes, and brings the nodes back. `block`: what the device
    /// has not seen; `None` if the rows were just loaded.
    fn run(
        mut self,
        hasher: &dyn BatchHasher,
        device: &dyn Residency,
        shards: &mut [ShardTree; SHARDS],
        works: &mut [ShardWork; SHARDS],
        block: Option<Block<'_>>,
    ) -> Result<Self, MerkleError> {
        if let Some(block) = block {
            self.follow(shards, works, block)?;
        }
        self.note_ends(shards);
        let mut hashing = OnDevice {
            mirror: &mut self,
            cpu: Batches(hasher),
            hashed: vec![],
            asked: false,
            read: 0,
        };
        crate::flush::above_pages(&mut hashing, shards, works)?;
        let hashed = hashing.finish(shards)?;
        let checked = self.check(device.check_one_of(), shards, &hashed)?;
        device.hashed(checked);
        Ok(self)
    }

    /// Sends what is new since the last block that the device saw.
    fn follow(
        &mut self,
        shards: &[ShardTree; SHARDS],
        works: &[ShardWork; SHARDS],
        block: Block<'_>,
    ) -> Result<(), HashError> {
        self.append(shards)?;
        if self.behind.is_empty() {
            self.left_roots(shards, works)?;
            self.new_pages(shards, works)?;
            self.flips(shards, works, block)
        } else {
            let mut behind = std::mem::take(&mut self.behind);
            behind.merge(block.dirty);
            self.catch_up(shards, &behind)
        }
    }

    /// Nodes beyond those that the device has.
    fn append(&mut self, shards: &[ShardTree; SHARDS]) -> Result<(), HashError> {
        for (row, ends) in self.ends.iter().enumerate() {
            let mut new = Nodes::default();
            for (shard, (tree, &end)) in shards.iter().zip(ends).enumerate() {
                let Some(nodes) = row_of(tree, row) else { continue };
                for index in end.max(nodes.base())..nodes.end() {
                    if let Some(&node) = nodes.get(index) {
                        new.push(self.ring.place(row, shard, index), node);
                    }
                }
            }
            new.write(rows(&mut self.rows), row)?;
        }
        Ok(())
    }

    /// Left roots of the twigs that have new entries.
    fn left_roots(
        &mut self,
        shards: &[ShardTree; SHARDS],
        works: &[ShardWork; SHARDS],
    ) -> Result<(), HashError> {
        let mut roots = Nodes::default();
        for (shard, (tree, work)) in shards.iter().zip(works).enumerate() {
            if work.leaves.is_empty() {
                continue;
            }
            for twig in tree.open.first().0..=tree.open.last().0 {
                if let Some(root) = tree.open.root(TwigId(twig)) {
                    roots.push(self.ring.place(JOINS_ROW, shard, 2 * twig), root);
                }
            }
        }
        roots.write(rows(&mut self.rows), JOINS_ROW)
    }

    /// Pages that have bits of new entries.
    fn new_pages(
        &mut self,
        shards: &[ShardTree; SHARDS],
        works: &[ShardWork; SHARDS],
    ) -> Result<(), HashError> {
        let mut pages = Nodes::default();
        for (shard, (tree, work)) in shards.iter().zip(works).enumerate() {
            for page in self.old_pages_of_leaves(shard, work) {
                if let Some(&bits) = tree.bits.pages.get(page) {
                    pages.push(self.ring.place(PAGES_ROW, shard, page), bits);
                }
            }
        }
        pages.write(rows(&mut self.rows), PAGES_ROW)
    }

    /// Pages with bits of new entries that the device had before.
    fn old_pages_of_leaves(&self, shard: usize, work: &ShardWork) -> Range<u64> {
        let end = self.ends[PAGES_ROW][shard];
        match work.leaves.clone().next_back() {
            Some(last) => page_of(work.leaves.start)..(page_of(last) + 1).min(end),
            None => 0..0,
        }
    }

    /// Bits cleared in pages that were not sent whole.
    fn flips(
        &mut self,
        shards: &[ShardTree; SHARDS],
        works: &[ShardWork; SHARDS],
        block: Block<'_>,
    ) -> Result<(), HashError> {
        let mut flips = vec![];
        for (shard, (change, work)) in block.changes.iter().zip(works).enumerate() {
            let sent = self.old_pages_of_leaves(shard, work);
            let end = self.ends[PAGES_ROW][shard];
            let base = shards[shard].bits.pages.base();
            for sn in change.deactivated {
                let page = page_of(sn.0);
                if (base..end).contains(&page) && !sent.contains(&page) {
                    let place = self.ring.place(PAGES_ROW, shard, page);
                    flips.push((8 * place + (sn.0 as u32 & 255) / 32, 1_u32 << (sn.0 & 31)));
                }
            }
        }
        // One flip per word.
        flips.sort_unstable();
        flips.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 |= next.1;
            }
            same
        });
        if flips.is_empty() { Ok(()) } else { rows(&mut self.rows).flip(PAGES_ROW, &flips) }
    }

    /// Everything that `dirty` names, as it is now.
    fn catch_up(&mut self, shards: &[ShardTree; SHARDS], dirty: &Dirty) -> Result<(), HashError> {
        for (row, ends) in self.ends.iter().enumerate() {
            let mut nodes = Nodes::default();
            for (shard, (tree, dirty)) in shards.iter().zip(&dirty.shards).enumerate() {
                let Some(from) = row_of(tree, row) else { continue };
                for index in changed(dirty, row) {
                    if index < ends[shard]
                        && let Some(&node) = from.get(index)
                    {
                        nodes.push(self.ring.place(row, shard, index), node);
                    }
                }
            }
            nodes.write(rows(&mut self.rows), row)?;
        }
        Ok(())
    }

    /// Hashes some of the nodes again that came from the device; returns how many.
    fn check(
        &mut self,
        one_of: u32,
        shards: &[ShardTree; SHARDS],
        hashed: &[Hashed],
    ) -> Result<u64, MerkleError> {
        let mut checked = 0;
        for hashed in hashed {
            for &(shard, parent) in &hashed.parents {
                self.computed += 1;
                if one_of == 0 || !self.computed.is_multiple_of(u64::from(one_of)) {
                    continue;
                }
                checked += 1;
                let tree = &shards[shard as usize];
                let right = row_of(tree, hashed.children)
                    .zip(row_of(tree, hashed.to.row))
                    .is_some_and(|(children, parents)| {
                        let at = u64::from(hashed.to.stride) * parent + u64::from(hashed.to.offset);
                        let pair = children.get(2 * parent).zip(children.get(2 * parent + 1));
                        let node = pair.map(|(left, right)| hash_node(hashed.level, left, right));
                        node.as_ref() == parents.get(at)
                    });
                if !right {
                    let reason = format!("a wrong digest at level {}", hashed.level + 1);
                    return Err(HashError::Device { backend: "resident".into(), reason }.into());
                }
            }
        }
        Ok(checked)
    }
}

/// Indexes of the nodes of a row that the changed pages change, increasing.
fn changed(dirty: &ShardDirty, row: usize) -> Vec<u64> {
    let mut nodes = match row {
        PAGES_ROW..=2 => dirty.pages.iter().map(|page| page >> row).collect::<Vec<_>>(),
        JOINS_ROW => dirty.twigs().into_iter().flat_map(|twig| [2 * twig, 2 * twig + 1]).collect(),
        _ => dirty.twigs().into_iter().map(|twig| twig >> (row - UPPER_ROWS)).collect(),
    };
    nodes.dedup();
    nodes
}

/// Parents that the device was asked to hash.
struct Hashed {
    level: u8,
    children: usize,
    to: Target,
    /// (shard, index of the parent).
    parents: Vec<(u8, u64)>,
}

/// Rows hashed on the device up to the top row, on the CPU above it.
struct OnDevice<'a, 'b> {
    mirror: &'a mut Mirror,
    cpu: Batches<'b>,
    hashed: Vec<Hashed>,
    /// Whether all of them are on their way.
    asked: bool,
    /// How many of the last `hashed` have come back.
    read: usize,
}

impl OnDevice<'_, '_> {
    /// Asks for all nodes, those of the highest row first.
    fn ask(&mut self) -> Result<(), HashError> {
        self.asked = true;
        for hashed in self.hashed.iter().rev() {
            let row = hashed.to.row;
            let places = (hashed.parents.iter()).map(|&(shard, parent)| {
                self.mirror.ring.place(row, shard.into(), index_of(hashed.to, parent))
            });
            rows(&mut self.mirror.rows).read(row, &places.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Takes the next of the nodes asked for.
    fn take(&mut self, shards: &mut [ShardTree; SHARDS]) -> Result<(), HashError> {
        let Some(hashed) = self.hashed.iter().rev().nth(self.read) else { return Ok(()) };
        let mut digests = vec![Digest::ZERO; hashed.parents.len()];
        rows(&mut self.mirror.rows).take(&mut digests)?;
        for (&(shard, parent), digest) in hashed.parents.iter().zip(digests) {
            if let Some(row) = row_of_mut(&mut shards[usize::from(shard)], hashed.to.row) {
                row.set(index_of(hashed.to, parent), digest);
            }
        }
        self.read += 1;
        Ok(())
    }

    /// Takes all nodes not yet taken.
    fn finish(mut self, shards: &mut [ShardTree; SHARDS]) -> Result<Vec<Hashed>, HashError> {
        if !self.asked {
            self.ask()?;
        }
        while self.read < self.hashed.len() {
            self.take(shards)?;
        }
        Ok(self.hashed)
    }
}

/// Index in its row of the parent with this number.
fn index_of(to: Target, parent: u64) -> u64 {
    u64::from(to.stride) * parent + u64::from(to.offset)
}

impl Hashing for OnDevice<'_, '_> {
    fn hash(
        &mut self,
        step: Step,
        shards: &mut [ShardTree; SHARDS],
        works: &mut [ShardWork; SHARDS],
    ) -> Result<(), MerkleError> {
        let (children, level, to) = ends_of(step);
        if to.row >= self.mirror.ring.rows() {
            if !self.asked {
                self.ask()?;
                self.take(shards)?;
            }
            return self.cpu.hash(step, shards, works);
        }
        let len = self.mirror.ring.len(children) / 2;
        let mut parents = vec![];
        let mut places = vec![];
        for (shard, (tree, work)) in shards.iter().zip(&*works).enumerate() {
            let Some(row) = row_of(tree, children) else { continue };
            if row_of(tree, to.row).is_none() {
                continue; // the root was the row before
            }
            for &dirty in &work.dirty {
                let parent = row.base() / 2 + u64::from(dirty);
                parents.push((shard as u8, parent));
                places.push(Ring::place_in(len, shard, parent));
            }
        }
        if !places.is_empty() {
            rows(&mut self.mirror.rows).hash(level, children, &places, to)?;
            self.hashed.push(Hashed { level, children, to, parents });
        }
        Ok(())
    }
}
