//! Proofs from the state after a speculative block.

use super::Stand;
use crate::read::prove::{Files, entry_path, left_part, of_paths};
use crate::{Error, Proven};
use hedgerow_hasher_api::hash_message;
use hedgerow_proof::EntryPath;
use hedgerow_state::check_key;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, KeyHash, ShardId};
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
        of_paths(entries, |shard, entry| path_of(stand, shard, entry))
    })?;
    Ok(Proven { height: stand.height, root, durable: false, proof })
}

/// An entry and its path.
fn path_of(stand: &Stand, shard: ShardId, entry: EntryRef<'_>) -> Result<EntryPath, Error> {
    let sn = entry.serial_number();
    let corrupt = |what: &str| Error::Corrupt(format!("entry {sn} of shard {shard}: {what}"));
    let path = stand.forest.path(shard, sn)?;
    if !path.is_active() {
        return Err(corrupt("it is not active, and a speculative block leads to it"));
    }
    let files = Files { shared: &stand.shared, log: stand.log(), twigs: stand.twigs() };
    let Some((_, left)) = left_part(files, shard, sn, &path)? else {
        return Err(corrupt("it was pruned, and a speculative block leads to it"));
    };
    Ok(entry_path(&entry, path, left))
}
