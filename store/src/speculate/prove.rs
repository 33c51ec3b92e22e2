//! Proofs from the state after a speculative block.

use super::Stand;
use crate::read::left::{Files, left_parts};
use crate::read::prove::{Paths, of_paths};
use crate::{Error, Proven};
use hedgerow_hasher_api::hash_message;
use hedgerow_merkle::TreePath;
use hedgerow_state::check_key;
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
            entries.push((key_hash.shard(), stand.locate(key.as_ref(), key_hash)?));
        }
        of_paths(entries, |places| paths_of(stand, places))
    })?;
    Ok(Proven { height: stand.height, root, durable: false, proof })
}

/// The paths of entries.
fn paths_of(stand: &Stand, places: &[(ShardId, SerialNumber)]) -> Result<Paths, Error> {
    let corrupt = |path: &TreePath, what: &str| {
        Error::Corrupt(format!("entry {} of shard {}: {what}", path.sn, path.shard))
    };
    let paths = places.iter().map(|&(shard, sn)| stand.forest.path(shard, sn));
    let paths = paths.collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = paths.iter().find(|path| !path.is_active()) {
        return Err(corrupt(path, "it is not active, and a speculative block leads to it"));
    }
    let files = Files { shared: &stand.shared, log: stand.log(), twigs: stand.twigs() };
    let lefts = left_parts(files, &paths)?;
    if let Some((path, _)) = paths.iter().zip(&lefts).find(|(_, left)| left.is_none()) {
        return Err(corrupt(path, "it was pruned, and a speculative block leads to it"));
    }
    Ok((paths, lefts))
}
