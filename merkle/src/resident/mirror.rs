//! The rows on the device, and what a block sends to them.
//!
//! ```text
//!  new nodes at the ends   ── append ──────┐
//!  left roots, new pages   ── write ───────┤ 36 bytes each
//!  cleared bits            ── flip ────────┤ 8 bytes a word
//!                                          ▼
//!  everything that blocks without the device changed   (catch_up)
//! ```

use super::ring::{JOINS_ROW, PAGES_ROW, Ring, UPPER_ROWS, row_of};
use crate::ShardChange;
use crate::dirty::{Dirty, ShardDirty};
use crate::right::page_of;
use crate::row::Row;
use crate::shard::SharedTree;
use crate::work::ShardWork;
use hedgerow_hasher_api::{HashError, Residency, ResidentRows};
use hedgerow_types::{Digest, SHARDS, TwigId};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// What a block did, for the device to follow.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    pub(crate) changes: &'a [ShardChange<'a>; SHARDS],
    pub(crate) dirty: &'a Dirty,
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
pub(super) struct Mirror {
    pub(super) device: u64,
    /// Never locked: it makes a forest `Sync`, whose rows are used through `&mut` alone.
    pub(super) rows: Mutex<Box<dyn ResidentRows>>,
    pub(super) ring: Ring,
    /// Index after the last node that the device has, by row and shard.
    ends: Vec<[u64; SHARDS]>,
    /// What blocks changed that were hashed without the device.
    pub(super) behind: Dirty,
    /// Nodes computed so far: which of them are checked.
    pub(super) computed: u64,
}

pub(super) fn rows(rows: &mut Mutex<Box<dyn ResidentRows>>) -> &mut dyn ResidentRows {
    &mut **rows.get_mut().unwrap_or_else(PoisonError::into_inner)
}

impl Mirror {
    /// Loads all rows as they are.
    pub(super) fn open(
        device: &dyn Residency,
        shards: &[SharedTree; SHARDS],
    ) -> Result<Self, HashError> {
        let ring = Ring::for_shards(shards);
        let mut rows = device.open(&ring.lens()?)?;
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

    pub(super) fn note_ends(&mut self, shards: &[SharedTree; SHARDS]) {
        for (row, ends) in self.ends.iter_mut().enumerate() {
            for (end, tree) in ends.iter_mut().zip(shards) {
                *end = row_of(tree, row).map_or(0, Row::end);
            }
        }
    }

    /// Sends what is new since the last block that the device saw.
    pub(super) fn follow(
        &mut self,
        shards: &[SharedTree; SHARDS],
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
    fn append(&mut self, shards: &[SharedTree; SHARDS]) -> Result<(), HashError> {
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
        shards: &[SharedTree; SHARDS],
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
        shards: &[SharedTree; SHARDS],
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
        shards: &[SharedTree; SHARDS],
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
    fn catch_up(&mut self, shards: &[SharedTree; SHARDS], dirty: &Dirty) -> Result<(), HashError> {
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
