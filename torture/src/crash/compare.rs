//! The store as readers see it, against the model.

use hedgerow::{Digest, Height, Store};
use hedgerow_testkit::Model;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::ShardId;
use std::collections::BTreeMap;

/// What is known about heights gone by.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// Root and extra data by height.
    pub(super) rows: BTreeMap<u64, (Digest, Vec<u8>)>,
    /// Rows below may have been dropped.
    pub(super) kept_from: u64,
}

/// Compares everything that readers can see.
///
/// # Errors
/// What differs.
pub(super) fn compare(
    store: &mut Store,
    model: &mut Model,
    past: &Past,
    keys: &[Vec<u8>],
    rng: &mut SplitMix64,
    thoroughly: bool,
) -> Result<(), String> {
    let (height, root) = (model.height(), model.state_root());
    let reader = store.reader();
    let found = reader.root();
    if found != (Height(height), root) {
        return Err(format!("the state is {found:?}, it should be {:?}", (height, root)));
    }
    for key in keys {
        let value = reader.get(key).map_err(|error| format!("get {key:?}: {error}"))?;
        if value.as_deref() != model.get(key) {
            return Err(format!("key {key:?} is {value:?}, it should be {:?}", model.get(key)));
        }
    }
    history(&reader, model, past)?;
    for _ in 0..4 {
        let key = &keys[rng.below(keys.len() as u64) as usize];
        let proven = reader.prove(key).map_err(|error| format!("prove {key:?}: {error}"))?;
        let value = hedgerow_proof::verify(&root, key, proven.proof.as_bytes())
            .map_err(|error| format!("the proof of {key:?} does not verify: {error}"))?;
        if value != model.get(key) {
            return Err(format!("{key:?} is proved to be {value:?}"));
        }
    }
    if thoroughly {
        let mut expected = model.iter();
        for pair in reader.iter() {
            let (key, value) = pair.map_err(|error| format!("iterating: {error}"))?;
            if expected.next() != Some((&key[..], &value[..])) {
                return Err(format!("the iterator gives {key:?}, which is not next"));
            }
        }
        if expected.next().is_some() {
            return Err("the iterator ends too early".into());
        }
        let report = store.check().map_err(|error| format!("check: {error}"))?;
        if (report.height.0, report.root, report.keys) != (height, root, model.len()) {
            return Err(format!("check reports {report:?}"));
        }
    }
    Ok(())
}

fn history(reader: &hedgerow::Reader, model: &Model, past: &Past) -> Result<(), String> {
    let height = model.height();
    for (&at, (root, extra)) in past.rows.range(past.kept_from..=height) {
        let row = reader.history(Height(at));
        let row = row.map_err(|error| format!("the history of height {at}: {error}"))?;
        if (row.root, &row.extra) != (*root, extra) {
            return Err(format!("the history of height {at} is {row:?}"));
        }
        if at == height {
            let differs = |shard: &ShardId| {
                row.oldest_active[shard.index()] != model.oldest_active_sn(*shard)
            };
            if let Some(shard) = ShardId::all().find(differs) {
                return Err(format!("compaction of shard {shard} is elsewhere"));
            }
        }
    }
    if let Ok(root) = reader.root_at(Height(height + 1)) {
        return Err(format!("height {} does not exist and has the root {root}", height + 1));
    }
    Ok(())
}
