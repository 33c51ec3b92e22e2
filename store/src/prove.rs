//! Making proofs (spec 10) from the published state.

use crate::Error;
use crate::reader::{Proven, Reader, again};
use crate::shared::Shared;
use crate::twigs::GROUP;
use hedgerow_entryfile::LogError;
use hedgerow_hasher_api::hash_message;
use hedgerow_merkle::{LeftPart, MerkleError, TreePath, left_path_in};
use hedgerow_proof::{Proof, SerialPath};
use hedgerow_types::{Digest, Height, KeyHash, SerialNumber, ShardId};
use std::sync::atomic::Ordering;

/// A proof that `key` has its value, or that it is absent.
pub(crate) fn by_key(shared: &Shared, key: &[u8]) -> Result<Proven, Error> {
    let key_hash = KeyHash(hash_message(key).0);
    let shard = key_hash.shard();
    shared.counters.proofs.fetch_add(1, Ordering::Relaxed);
    let mut met = None;
    again(|| {
        loop {
            let entry = Reader::locate(shared, key, &key_hash)?;
            let entry = entry.get();
            let sn = entry.serial_number();
            // An entry that is active now says the same now, whichever state it was found in.
            let (height, root, path) = {
                let published = shared.published.read();
                if !published.forest.is_active(shard, sn) {
                    no_race(&mut met, published.height, shard, sn)?;
                    shared.counters.proof_retries.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                (published.height, published.roots().state, published.forest.path(shard, sn)?)
            };
            let Some((_, left)) = left_part(shared, shard, sn, &path)? else {
                // Pruned meanwhile, so replaced meanwhile.
                no_race(&mut met, height, shard, sn)?;
                shared.counters.proof_retries.fetch_add(1, Ordering::Relaxed);
                continue;
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
            return Ok(Proven { height, root, durable, proof });
        }
    })
}

/// Notes an entry that the index led to and that is not active in the state of `height`, or pruned.
///
/// # Errors
/// [`Error::Corrupt`] if the index led to the same one again and the state is the same: then no block
/// came between, and asking again would go on for ever.
fn no_race(
    met: &mut Option<(Height, SerialNumber)>,
    height: Height,
    shard: ShardId,
    sn: SerialNumber,
) -> Result<(), Error> {
    if met.replace((height, sn)) == Some((height, sn)) {
        return Err(Error::Corrupt(format!(
            "the index leads to entry {sn} of shard {shard}, which is not active at height {height}"
        )));
    }
    Ok(())
}

/// The path of a serial number, active or not, against its shard's root.
pub(crate) fn by_serial(
    shared: &Shared,
    shard: ShardId,
    sn: SerialNumber,
) -> Result<SerialPath, Error> {
    let unavailable = |reason: String| Error::SerialUnavailable { shard, sn, reason };
    let path = {
        let published = shared.published.read();
        match published.forest.path(shard, sn) {
            Ok(path) => path,
            Err(error @ (MerkleError::Pruned { .. } | MerkleError::OutOfRange { .. })) => {
                return Err(unavailable(error.to_string()));
            }
            Err(error) => return Err(error.into()),
        }
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
fn left_part(
    shared: &Shared,
    shard: ShardId,
    sn: SerialNumber,
    path: &TreePath,
) -> Result<Option<(Digest, [Digest; 11])>, Error> {
    let (twig, left_root) = match &path.left {
        LeftPart::Here { leaf, siblings, .. } => return Ok(Some((*leaf, *siblings))),
        LeftPart::Finished { twig, left_root } => (*twig, *left_root),
    };
    let Some(record) = shared.twigs.get(shard, twig)? else {
        if shared.is_pruned(shard, twig) {
            return Ok(None);
        }
        return Err(Error::Corrupt(format!(
            "the record of twig {twig} of shard {shard} is damaged; opening the store rebuilds it"
        )));
    };
    if left_root.is_some_and(|root| root != record.nodes[0]) {
        return Err(Error::Corrupt(format!(
            "the record of twig {twig} of shard {shard} has another root than the tree"
        )));
    }
    let entries = match shared.log.read_group(&record, sn.leaf()) {
        Err(LogError::Pruned { .. }) if shared.is_pruned(shard, twig) => return Ok(None),
        entries => entries?,
    };
    let mut leaves = [Digest::ZERO; GROUP];
    for (leaf, (_, entry)) in leaves.iter_mut().zip(&entries) {
        *leaf = hash_message(entry.get().hashed_bytes());
    }
    let siblings = left_path_in(&record.nodes, &leaves, sn.leaf())?;
    Ok(Some((leaves[sn.leaf() % GROUP], siblings)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C11: a look-up that a block overtook begins again; one that nothing overtook ends.
    #[test]
    fn the_same_entry_in_the_same_state_is_no_race() {
        let shard = ShardId::from_top_bits(0);
        let mut met = None;
        for (height, sn) in [(1, 5), (2, 5), (2, 6), (3, 6), (4, 5)] {
            no_race(&mut met, Height(height), shard, SerialNumber(sn)).unwrap();
        }
        let twice = no_race(&mut met, Height(4), shard, SerialNumber(5));
        assert!(matches!(twice, Err(Error::Corrupt(_))), "{twice:?}");
    }
}
