//! The lowest part of paths: leaves, and their siblings in the left trees of their twigs.
//!
//! ```text
//!   paths     youngest twig ──────────────────────────────────────────────────► in memory
//!             finished twig ─► the twig's record: nodes from level 4 up, places ─┐
//!                                   │ each group once                            ├─► leaf and 11 siblings
//!                                   ▼                                            │
//!                              log: 16 entries of each group ─► all hashed ──────┘
//!                                   side by side in memory      together, then level by level
//! ```
//!
//! One path is a batch of one. A batch is hashed on the calling thread by the CPU, whatever backend hashes the tree: it is
//! small, and who asks is not to wait for who commits.

use crate::Error;
use crate::shared::Shared;
use hedgerow_entryfile::{Leaves, LogError, LogView, TwigGroup, TwigRecord};
use hedgerow_hasher_api::{BatchHasher, MessageGroup, Span};
use hedgerow_hashers::CpuHasher;
use hedgerow_merkle::{LeafGroups, LeftPart, MerkleError, TreePath, left_part_as_of};
use hedgerow_state::{GROUP, TwigView};
use hedgerow_types::{Digest, ShardId, TwigId};
use std::sync::Arc;

/// Groups of a batch: as many as are hashed at full speed, and their bytes stay in the core's cache until then.
const BATCH_GROUPS: usize = 32;
/// Bytes of a batch, unless one group has more.
const BATCH_BYTES: usize = 256 << 10;

/// Where the left parts of paths are read from: of what is published, or of that and speculative blocks above it.
#[derive(Clone, Copy)]
pub(crate) struct Files<'a> {
    /// Knows what is pruned.
    pub(crate) shared: &'a Shared,
    pub(crate) log: LogView<'a>,
    pub(crate) twigs: TwigView<'a>,
}

impl<'a> From<&'a Shared> for Files<'a> {
    fn from(shared: &'a Shared) -> Self {
        Self { shared, log: LogView::from(&shared.log), twigs: TwigView::from(&shared.twigs) }
    }
}

/// A leaf and its siblings of the levels 0..=10.
pub(crate) type LeafPath = (Digest, [Digest; 11]);

/// The left part of each of these paths: in memory for the youngest twig, else from the twig's record and the entries of
/// the leaf's group. `None` if the twig is pruned. Paths that are neighbours in the order of shard and serial number share
/// what is read, if they come in that order.
pub(crate) fn left_parts(
    files: Files<'_>,
    paths: &[TreePath],
) -> Result<Vec<Option<LeafPath>>, Error> {
    let mut parts = vec![None; paths.len()];
    let mut batch = Batch::default();
    // A record of which more than one group is wanted.
    let mut record: Option<Arc<TwigRecord>> = None;
    for (number, path) in paths.iter().enumerate() {
        let (shard, leaf) = (path.shard, path.sn.leaf());
        let (twig, left_root) = match &path.left {
            LeftPart::Here { leaf, siblings, .. } => {
                parts[number] = Some((*leaf, **siblings));
                continue;
            }
            LeftPart::Filled { twig, leaves } => {
                parts[number] = filled(files, shard, *twig, leaf, *leaves)?;
                continue;
            }
            LeftPart::Finished { twig, left_root } => (*twig, *left_root),
        };
        if batch.shares_last(shard, twig, leaf) {
            batch.want(number, leaf);
            continue;
        }
        let of_twig = |record: &Arc<TwigRecord>| (record.shard, record.twig) == (shard, twig);
        let next = paths.get(number + 1).map(|next| (next.shard, next.sn.twig()));
        record = record.filter(of_twig);
        if record.is_none() && next == Some((shard, twig)) {
            record = record_of(files, shard, twig)?;
        }
        let group = match &record {
            Some(record) => record.group_of(leaf),
            None => found(files, shard, twig, files.twigs.group(shard, twig, leaf)?)?,
        };
        let Some(group) = group else { continue };
        if left_root.is_some_and(|root| root != group.left_root) {
            return Err(Error::Corrupt(format!(
                "the record of twig {twig} of shard {shard} has another root than the tree"
            )));
        }
        match batch.add(files.log, shard, group) {
            Ok(()) => batch.want(number, leaf),
            Err(LogError::Pruned { .. }) if files.shared.is_pruned(shard, twig) => {}
            Err(error) => return Err(error.into()),
        }
        if batch.is_full() {
            batch.hash(files, &mut parts)?;
        }
    }
    batch.hash(files, &mut parts)?;
    Ok(parts)
}

/// Groups that were read and are hashed together.
#[derive(Default)]
struct Batch {
    read: Leaves,
    groups: Vec<(ShardId, TwigGroup)>,
    /// Which part is made of which leaf of a group, 0 to 15.
    wanted: Vec<(usize, usize, usize)>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.groups.len() >= BATCH_GROUPS || self.read.bytes().len() >= BATCH_BYTES
    }

    /// Whether the group that was added last is that of a leaf.
    fn shares_last(&self, shard: ShardId, twig: TwigId, leaf: usize) -> bool {
        let group = self.groups.last().map(|(shard, group)| (*shard, group.twig, group.number));
        group == Some((shard, twig, leaf / GROUP))
    }

    /// Reads the leaves of a group, unless its record has their hashes.
    fn add(&mut self, log: LogView<'_>, shard: ShardId, group: TwigGroup) -> Result<(), LogError> {
        match &group.leaves {
            Some(leaves) => leaves.iter().for_each(|leaf| self.read.push_hash(*leaf)),
            None => log.read_leaves(&group, &mut self.read)?,
        }
        self.groups.push((shard, group));
        Ok(())
    }

    /// Notes that a part is to be made of a leaf of the group that was added last.
    fn want(&mut self, part: usize, leaf: usize) {
        self.wanted.push((part, self.groups.len().saturating_sub(1), leaf % GROUP));
    }

    /// Makes the parts that are wanted, and is empty then.
    fn hash(&mut self, files: Files<'_>, parts: &mut [Option<LeafPath>]) -> Result<(), Error> {
        if self.groups.is_empty() {
            return Ok(());
        }
        let here = &files.shared.hasher.here;
        let groups = LeafGroups::hash(here, hash_leaves(here, &self.read)?)?;
        for (part, number, leaf) in self.wanted.drain(..) {
            let (Some(path), Some((_, group))) =
                (groups.path(number, leaf), self.groups.get(number))
            else {
                continue;
            };
            if path.node != group.node {
                // If it is the log that is damaged, this is the error.
                files.log.check_leaves(group)?;
                return Err(MerkleError::GroupMismatch { group: group.number }.into());
            }
            let mut siblings = [Digest::ZERO; 11];
            let both = path.siblings.iter().chain(&group.siblings);
            siblings.iter_mut().zip(both).for_each(|(to, sibling)| *to = *sibling);
            if let Some(part) = parts.get_mut(part) {
                *part = Some((path.leaf, siblings));
            }
        }
        self.read.clear();
        self.groups.clear();
        Ok(())
    }
}

/// The hashes of leaves that were read, with room for the nodes above them.
fn hash_leaves(here: &CpuHasher, read: &Leaves) -> Result<Vec<Digest>, MerkleError> {
    let spans: Vec<Span> =
        read.spans().map(|span| Span { offset: span.offset, len: span.len }).collect();
    let mut leaves = Vec::with_capacity(2 * spans.len());
    leaves.resize(spans.len(), Digest::ZERO);
    let group = MessageGroup { arena: read.bytes(), spans: &spans, out: &mut leaves };
    here.messages(&mut [group])?;
    for (number, hash) in read.hashes() {
        if let Some(leaf) = leaves.get_mut(*number) {
            *leaf = *hash;
        }
    }
    Ok(leaves)
}

/// The left part in a twig that is filled now and had so many leaves then.
fn filled(
    files: Files<'_>,
    shard: ShardId,
    twig: TwigId,
    leaf: usize,
    leaves: usize,
) -> Result<Option<LeafPath>, Error> {
    let Some(record) = record_of(files, shard, twig)? else { return Ok(None) };
    let part = left_part_as_of(&record.nodes, leaf, leaves, |group| {
        let mismatch = MerkleError::GroupMismatch { group };
        let group = record.group_of(group * GROUP).ok_or(mismatch.clone())?;
        if group.leaves.is_none() {
            files.log.check_leaves(&group)?;
        }
        let mut batch = Batch::default();
        batch.add(files.log, shard, group)?;
        let leaves = hash_leaves(&files.shared.hasher.here, &batch.read)?;
        leaves.first_chunk().copied().ok_or(Error::from(mismatch))
    });
    match part {
        Err(Error::Log(LogError::Pruned { .. })) if files.shared.is_pruned(shard, twig) => Ok(None),
        part => part.map(Some),
    }
}

/// The record of a finished twig; `None` if it is pruned.
fn record_of(
    files: Files<'_>,
    shard: ShardId,
    twig: TwigId,
) -> Result<Option<Arc<TwigRecord>>, Error> {
    found(files, shard, twig, files.twigs.get(shard, twig)?)
}

/// What was found of a finished twig's record; `None` if it is pruned.
fn found<T>(
    files: Files<'_>,
    shard: ShardId,
    twig: TwigId,
    found: Option<T>,
) -> Result<Option<T>, Error> {
    match found {
        None if !files.shared.is_pruned(shard, twig) => Err(Error::Corrupt(format!(
            "the record of twig {twig} of shard {shard} is damaged; opening the store rebuilds it"
        ))),
        found => Ok(found),
    }
}
