//! Proofs from the state after a speculative block.

use super::Stand;
use crate::read::prove::{assemble, entry_path};
use crate::{Error, Proven};
use hedgerow_hasher_api::hash_message;
use hedgerow_merkle::{LeftPart, left_path_in};
use hedgerow_proof::EntryPath;
use hedgerow_state::{GROUP, check_key};
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, KeyHash, SerialNumber, ShardId};
use std::sync::atomic::Ordering;

/// A proof against `root`, that of the state, that `key` has its value or is absent.
pub(super) fn by_key(stand: &Stand, root: Digest, key: &[u8]) -> Result<Proven, Error> {
    by_keys(stand, root, &[key])
}

/// One proof against `root`, that of the state, of all these keys, of which there is one at least.
pub(super) fn by_keys<K: AsRef<[u8]>>(
    stand: &Stand,
    root: Digest,
    keys: &[K],
) -> Result<Proven, Error> {
    keys.iter().try_for_each(|key| check_key(key.as_ref()))?;
    stand.shared.counters.proofs.fetch_add(1, Ordering::Relaxed);
    let proof = stand.ask(|| {
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            let key_hash = KeyHash(hash_message(key.as_ref()).0);
            let entry = stand.locate(key.as_ref(), key_hash)?;
            entries.push((key_hash.shard(), entry.get().serial_number(), entry));
        }
        entries.sort_unstable_by_key(|(shard, sn, _)| (*shard, *sn));
        entries.dedup_by_key(|(shard, sn, _)| (*shard, *sn));
        let paths: Result<Vec<_>, Error> = entries
            .iter()
            .map(|(shard, sn, entry)| path_of(stand, *shard, *sn, entry.get()))
            .collect();
        assemble(&paths?)
    })?;
    Ok(Proven { height: stand.height, root, durable: false, proof })
}

/// An entry and its path.
fn path_of(
    stand: &Stand,
    shard: ShardId,
    sn: SerialNumber,
    entry: EntryRef<'_>,
) -> Result<EntryPath, Error> {
    let corrupt = |what: String| Error::Corrupt(format!("entry {sn} of shard {shard}: {what}"));
    let path = stand.forest.path(shard, sn)?;
    if !path.is_active() {
        return Err(corrupt("it is not active, and a speculative block leads to it".into()));
    }
    let left = match &path.left {
        LeftPart::Here { siblings, .. } => *siblings,
        LeftPart::Finished { twig, left_root } => {
            let Some(record) = stand.twigs().get(shard, *twig)? else {
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
    Ok(entry_path(&entry, path, left))
}
