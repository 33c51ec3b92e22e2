//! Proofs from the state after a speculative block.

use super::Stand;
use crate::{Error, Proven};
use hedgerow_hasher_api::hash_message;
use hedgerow_merkle::{LeftPart, left_path_in};
use hedgerow_proof::Proof;
use hedgerow_state::{GROUP, check_key};
use hedgerow_types::{Digest, KeyHash, SerialNumber, ShardId};
use std::sync::atomic::Ordering;

/// A proof against `root`, that of the state, that `key` has its value or is absent.
pub(super) fn by_key(stand: &Stand, root: Digest, key: &[u8]) -> Result<Proven, Error> {
    check_key(key)?;
    let key_hash = KeyHash(hash_message(key).0);
    stand.shared.counters.proofs.fetch_add(1, Ordering::Relaxed);
    let proof = stand.ask(|| {
        let entry = stand.locate(key, key_hash)?;
        prove(stand, key_hash.shard(), entry.get().serial_number(), entry.hashed_bytes())
    })?;
    Ok(Proven { height: stand.height, root, durable: false, proof })
}

/// A proof of an entry.
fn prove(stand: &Stand, shard: ShardId, sn: SerialNumber, entry: &[u8]) -> Result<Proof, Error> {
    let corrupt = |what: String| Error::Corrupt(format!("entry {sn} of shard {shard}: {what}"));
    let path = stand.forest.path(shard, sn)?;
    if !path.is_active() {
        return Err(corrupt("it is not active, and a speculative block leads to it".into()));
    }
    let left = match path.left {
        LeftPart::Here { siblings, .. } => siblings,
        LeftPart::Finished { twig, left_root } => {
            let Some(record) = stand.twigs().get(shard, twig)? else {
                return Err(corrupt("the record of its twig is damaged or gone".into()));
            };
            if left_root.is_some_and(|root| root != record.nodes[0]) {
                return Err(corrupt(
                    "the record of its twig has another root than the tree".into(),
                ));
            }
            let first = sn.leaf() - sn.leaf() % GROUP;
            let leaves = match record.group_leaves(first) {
                Some(leaves) => *leaves,
                None => {
                    let frames = stand.log().read_group(&record, first)?;
                    let mut leaves = [Digest::ZERO; GROUP];
                    for (leaf, (_, frame)) in leaves.iter_mut().zip(&frames) {
                        *leaf = frame.get().leaf(hash_message);
                    }
                    leaves
                }
            };
            left_path_in(&record.nodes, &leaves, sn.leaf())?
        }
        LeftPart::Filled { .. } => return Err(corrupt("its twig was filled later".into())),
    };
    Proof::assemble(entry, &left, &path.page.0, &path.right, &path.upper, &path.state)
        .map_err(|error| corrupt(format!("cannot assemble a proof: {error}")))
}
