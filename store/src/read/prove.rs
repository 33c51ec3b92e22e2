//! Making proofs ([spec 10](hedgerow_types::spec)) from a state that somebody holds.

use crate::Error;
use crate::read::reader::Proven;
use crate::read::view::View;
use hedgerow_entryfile::{LogError, TwigRecord};
use hedgerow_hasher_api::hash_message;
use hedgerow_merkle::{LeftPart, MerkleError, TreePath, left_part_as_of, left_path_in};
use hedgerow_proof::{Proof, SerialPath};
use hedgerow_state::GROUP;
use hedgerow_types::{Digest, KeyHash, SerialNumber, ShardId, TwigId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A proof that `key` has its value, or that it is absent.
pub(crate) fn by_key(view: &View, key: &[u8]) -> Result<Proven, Error> {
    let View { shared, .. } = view;
    let key_hash = KeyHash(hash_message(key).0);
    let shard = key_hash.shard();
    shared.counters.proofs.fetch_add(1, Ordering::Relaxed);
    let entry = view.locate(key, &key_hash)?;
    let entry = entry.get();
    let sn = entry.serial_number();
    let (height, root) = (view.height(), view.root());
    let (path, left) = whole_path(view, shard, sn)?;
    if !path.is_active() {
        return Err(Error::Corrupt(format!(
            "the index leads to entry {sn} of shard {shard}, which is not active at height {height}"
        )));
    }
    let Some((_, left)) = left else {
        return Err(Error::Corrupt(format!(
            "entry {sn} of shard {shard} was pruned, and is active at height {height}"
        )));
    };
    let proof = Proof::assemble(
        entry.hashed_bytes(),
        &left,
        &path.page.0,
        &path.right,
        &path.upper,
        &path.state,
    )
    .map_err(|error| Error::Corrupt(format!("cannot assemble a proof: {error}")))?;
    shared.check_not_abandoned()?;
    let durable = shared.flow.look(|progress| progress.durable) >= height;
    Ok(Proven { height, root, durable, proof })
}

/// The path of a serial number, active or not, against its shard's root.
pub(crate) fn by_serial(
    view: &View,
    shard: ShardId,
    sn: SerialNumber,
) -> Result<SerialPath, Error> {
    let View { shared, .. } = view;
    let unavailable = |reason: String| Error::SerialUnavailable { shard, sn, reason };
    let (path, left) = match whole_path(view, shard, sn) {
        Err(Error::Merkle(
            error @ (MerkleError::Pruned { .. } | MerkleError::OutOfRange { .. }),
        )) => return Err(unavailable(error.to_string())),
        other => other?,
    };
    let Some((leaf, left)) = left else {
        return Err(unavailable("it is pruned".into()));
    };
    shared.check_not_abandoned()?;
    let (page, right, upper) = (&path.page.0, &path.right, &path.upper);
    SerialPath::assemble(sn, leaf, &left, page, right, upper, path.shard_root)
        .map_err(|error| unavailable(error.to_string()))
}

/// A leaf and its 11 siblings.
type Left = (Digest, [Digest; 11]);

/// The path of an entry, and its left part; `None` for that if its twig is pruned.
fn whole_path(
    view: &View,
    shard: ShardId,
    sn: SerialNumber,
) -> Result<(TreePath, Option<Left>), Error> {
    let View { shared, state } = view;
    loop {
        let rollbacks = shared.published.rollbacks();
        let path = shared.published.path(state, shard, sn)?;
        let left = left_part(view, shard, sn, &path);
        // The tree went back between the two: the twig is not the one that the path was made for.
        if left.is_err() && rollbacks != shared.published.rollbacks() && !state.is_rolled_back() {
            continue;
        }
        return Ok((path, left?));
    }
}

/// The leaf and its 11 siblings: in memory for the youngest twig, else from the twig's record and
/// the entries of the leaf's group. `None` if the twig is pruned.
fn left_part(
    view: &View,
    shard: ShardId,
    sn: SerialNumber,
    path: &TreePath,
) -> Result<Option<Left>, Error> {
    let shared = &view.shared;
    let (twig, left_root, leaves) = match path.left {
        LeftPart::Here { leaf, siblings, .. } => return Ok(Some((leaf, siblings))),
        LeftPart::Finished { twig, left_root } => (twig, left_root, None),
        LeftPart::Filled { twig, leaves } => (twig, None, Some(leaves)),
    };
    let Some(record) = record_of(view, shard, twig)? else { return Ok(None) };
    if left_root.is_some_and(|root| root != record.nodes[0]) {
        return Err(Error::Corrupt(format!(
            "the record of twig {twig} of shard {shard} has another root than the tree"
        )));
    }
    let group = |group: usize| group_leaves(view, &record, group);
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
fn record_of(view: &View, shard: ShardId, twig: TwigId) -> Result<Option<Arc<TwigRecord>>, Error> {
    match view.shared.twigs.get(shard, twig)? {
        None if !view.shared.is_pruned(shard, twig) => Err(Error::Corrupt(format!(
            "the record of twig {twig} of shard {shard} is damaged; opening the store rebuilds it"
        ))),
        record => Ok(record),
    }
}

/// The entry hashes of a group of a finished twig: the record's own, or those of what lies in the log. They
/// are checked against the group's node when the path is put together.
fn group_leaves(view: &View, record: &TwigRecord, group: usize) -> Result<[Digest; GROUP], Error> {
    if let Some(leaves) = record.group_leaves(group * GROUP) {
        return Ok(*leaves);
    }
    let frames = view.shared.log.read_group(record, group * GROUP)?;
    let mut leaves = [Digest::ZERO; GROUP];
    for (leaf, (_, frame)) in leaves.iter_mut().zip(&frames) {
        *leaf = frame.get().leaf(hash_message);
    }
    Ok(leaves)
}
