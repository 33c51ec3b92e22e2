//! Making proofs ([spec 10](hedgerow_types::spec)) from a state that somebody holds.
//!
//! ```text
//!   entry ── published tree ─► TreePath ─┐
//!     │                                  ├─► EntryPath ─┐
//!     └── twig's record, log ─► left ────┘   EntryPath ─┼─► assemble ─► Proof
//!                                               ...     ┘
//! ```
//!
//! Who has an entry and a path from elsewhere, of an older state or of one that is not accepted yet, begins
//! in the middle: [`entry_path`], [`assemble`].

use crate::Error;
use crate::read::reader::Proven;
use crate::read::view::View;
use crate::shared::Shared;
use hedgerow_entryfile::{LogError, TwigRecord};
use hedgerow_hasher_api::hash_message;
use hedgerow_merkle::{LeftPart, MerkleError, TreePath, left_part_as_of, left_path_in};
use hedgerow_proof::{EntryPath, Proof, SerialPath};
use hedgerow_state::GROUP;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, KeyHash, SerialNumber, ShardId, TwigId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A proof that `key` has its value, or that it is absent.
pub(crate) fn by_key(view: &View, key: &[u8]) -> Result<Proven, Error> {
    let key_hash = KeyHash(hash_message(key).0);
    view.shared.counters.proofs.fetch_add(1, Ordering::Relaxed);
    let entry = view.locate(key, &key_hash)?;
    let path = path_of(view, key_hash.shard(), &entry.get())?;
    proven(view, assemble(&[path])?)
}

/// A proof that is made, with what it was made for.
fn proven(view: &View, proof: Proof) -> Result<Proven, Error> {
    view.shared.check_not_abandoned()?;
    let (height, root) = (view.height(), view.root());
    let durable = view.shared.flow.look(|progress| progress.durable) >= height;
    Ok(Proven { height, root, durable, proof })
}

/// An active entry of a view and its path.
///
/// # Errors
/// [`Error::Corrupt`] if it is not active in this view; a failed read.
pub(crate) fn path_of(
    view: &View,
    shard: ShardId,
    entry: &EntryRef<'_>,
) -> Result<EntryPath, Error> {
    let (sn, height) = (entry.serial_number(), view.height());
    let path = view.shared.published.path(&view.state, shard, sn)?;
    if !path.is_active() {
        return Err(Error::Corrupt(format!(
            "the index leads to entry {sn} of shard {shard}, which is not active at height {height}"
        )));
    }
    let Some((_, left)) = left_part(&view.shared, shard, sn, &path)? else {
        return Err(Error::Corrupt(format!(
            "entry {sn} of shard {shard} was pruned, and is active at height {height}"
        )));
    };
    Ok(entry_path(entry, path, left))
}

/// An entry, its path, and the siblings of its leaf in the left tree.
pub(crate) fn entry_path(entry: &EntryRef<'_>, path: TreePath, left: [Digest; 11]) -> EntryPath {
    let TreePath { page, right, upper, state, .. } = path;
    let entry = entry.hashed_bytes().to_vec();
    EntryPath { entry, left, page: page.0, right, upper, state }
}

/// One proof of all of these entries.
///
/// # Errors
/// [`Error::Corrupt`] if they are not of one tree.
pub(crate) fn assemble(paths: &[EntryPath]) -> Result<Proof, Error> {
    Proof::assemble(paths)
        .map_err(|error| Error::Corrupt(format!("cannot assemble a proof: {error}")))
}

/// The path of a serial number, active or not, against its shard's root.
pub(crate) fn by_serial(
    view: &View,
    shard: ShardId,
    sn: SerialNumber,
) -> Result<SerialPath, Error> {
    let View { shared, state } = view;
    let unavailable = |reason: String| Error::SerialUnavailable { shard, sn, reason };
    let path = match shared.published.path(state, shard, sn) {
        Ok(path) => path,
        Err(error @ (MerkleError::Pruned { .. } | MerkleError::OutOfRange { .. })) => {
            return Err(unavailable(error.to_string()));
        }
        Err(error) => return Err(error.into()),
    };
    let Some((leaf, left)) = left_part(shared, shard, sn, &path)? else {
        return Err(unavailable("it is pruned".into()));
    };
    shared.check_not_abandoned()?;
    let (page, right, upper) = (&path.page.0, &path.right, &path.upper);
    SerialPath::assemble(sn, leaf, &left, page, right, upper, path.shard_root)
        .map_err(|error| unavailable(error.to_string()))
}

/// The leaf and its 11 siblings: in memory for the youngest twig, else from the twig's record and
/// the entries of the leaf's group. `None` if the twig is pruned.
pub(crate) fn left_part(
    shared: &Shared,
    shard: ShardId,
    sn: SerialNumber,
    path: &TreePath,
) -> Result<Option<(Digest, [Digest; 11])>, Error> {
    let (twig, left_root, leaves) = match path.left {
        LeftPart::Here { leaf, siblings, .. } => return Ok(Some((leaf, siblings))),
        LeftPart::Finished { twig, left_root } => (twig, left_root, None),
        LeftPart::Filled { twig, leaves } => (twig, None, Some(leaves)),
    };
    let Some(record) = record_of(shared, shard, twig)? else { return Ok(None) };
    if left_root.is_some_and(|root| root != record.nodes[0]) {
        return Err(Error::Corrupt(format!(
            "the record of twig {twig} of shard {shard} has another root than the tree"
        )));
    }
    let group = |group: usize| group_leaves(shared, &record, group);
    let part = match leaves {
        None => group(sn.leaf() / GROUP).and_then(|leaves| {
            let siblings = left_path_in(&record.nodes, &leaves, sn.leaf())?;
            Ok((leaves[sn.leaf() % GROUP], siblings))
        }),
        Some(leaves) => left_part_as_of(&record.nodes, sn.leaf(), leaves, group),
    };
    match part {
        Err(Error::Log(LogError::Pruned { .. })) if shared.is_pruned(shard, twig) => Ok(None),
        part => part.map(Some),
    }
}

/// The record of a finished twig; `None` if it is pruned.
fn record_of(
    shared: &Shared,
    shard: ShardId,
    twig: TwigId,
) -> Result<Option<Arc<TwigRecord>>, Error> {
    match shared.twigs.get(shard, twig)? {
        None if !shared.is_pruned(shard, twig) => Err(Error::Corrupt(format!(
            "the record of twig {twig} of shard {shard} is damaged; opening the store rebuilds it"
        ))),
        record => Ok(record),
    }
}

/// The entry hashes of a group of a finished twig: the record's own, or those of what lies in the log. They
/// are checked against the group's node when the path is put together.
fn group_leaves(
    shared: &Shared,
    record: &TwigRecord,
    group: usize,
) -> Result<[Digest; GROUP], Error> {
    if let Some(leaves) = record.group_leaves(group * GROUP) {
        return Ok(*leaves);
    }
    let frames = shared.log.read_group(record, group * GROUP)?;
    let mut leaves = [Digest::ZERO; GROUP];
    for (leaf, (_, frame)) in leaves.iter_mut().zip(&frames) {
        *leaf = frame.get().leaf(hash_message);
    }
    Ok(leaves)
}
