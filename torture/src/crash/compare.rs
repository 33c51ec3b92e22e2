//! The store as readers see it, against the model.

use super::reach::Reach;
use hedgerow::{Digest, Error, Height, Reader, Store};
use hedgerow_testkit::Model;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::ShardId;
use std::collections::BTreeMap;

/// Keys of each height that are asked for later.
const SAMPLES: u64 = 6;

/// Earlier heights that are asked for after a cycle.
const EARLIER: u64 = 4;

/// What is known of one height gone by.
#[derive(Clone, Debug)]
pub(super) struct PastRow {
    pub(super) root: Digest,
    pub(super) extra: Vec<u8>,
    /// Some keys, and the values that they had.
    samples: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl PastRow {
    /// That of the height at which the model is.
    pub(super) fn of(
        root: Digest,
        model: &Model,
        extra: Vec<u8>,
        keys: &[Vec<u8>],
        rng: &mut SplitMix64,
    ) -> Self {
        let mut sample = |_| {
            let key = keys[rng.below(keys.len() as u64) as usize].clone();
            let value = model.get(&key).map(<[u8]>::to_vec);
            (key, value)
        };
        Self { root, extra, samples: (0..SAMPLES).map(&mut sample).collect() }
    }
}

/// What is known about heights gone by.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// By height.
    pub(super) rows: BTreeMap<u64, PastRow>,
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
    reach: &mut Reach,
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
    earlier(&reader, model.height(), past, rng, reach)?;
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

/// Some of the heights gone by, as far as they can be had: values, proofs against their roots, and proofs of the past
/// against the newest root.
fn earlier(
    reader: &Reader,
    height: u64,
    past: &Past,
    rng: &mut SplitMix64,
    reach: &mut Reach,
) -> Result<(), String> {
    let (_, newest) = reader.root();
    let from = past.kept_from.min(height);
    for _ in 0..EARLIER {
        let at = from + rng.below(height - from + 1);
        let Some(PastRow { root, samples, .. }) = past.rows.get(&at) else { continue };
        let view = match reader.at(Height(at)) {
            Ok(view) => view,
            Err(Error::HeightUnavailable { .. }) => {
                reach.count("earlier heights: pruned");
                continue;
            }
            Err(error) => return Err(format!("the view of height {at}: {error}")),
        };
        if view.root() != *root {
            return Err(format!("the view of height {at} has the root {}", view.root()));
        }
        for (key, value) in samples {
            let here = format!("{key:?} at height {at}");
            let found = view.get(key).map_err(|error| format!("{here}: {error}"))?;
            if found != *value {
                return Err(format!("{here} is {found:?}, it was {value:?}"));
            }
            reach.count("earlier heights: values");
            match view.prove(key) {
                Ok(proven) => {
                    let proved = hedgerow_proof::verify(root, key, proven.proof.as_bytes());
                    if proved != Ok(value.as_deref()) {
                        return Err(format!("{here} is proved to be {proved:?}"));
                    }
                    reach.count("earlier heights: proofs against their roots");
                }
                Err(Error::HeightUnavailable { .. }) => {
                    reach.count("earlier heights: without proofs");
                }
                Err(error) => return Err(format!("proving {here}: {error}")),
            }
            let proven = reader
                .prove_past(key, Height(at))
                .map_err(|error| format!("proving {here} against the newest root: {error}"))?;
            let proof = proven.proof.as_bytes();
            let proved = hedgerow_proof::verify_past(&newest, key, Height(at), proof)
                .map_err(|error| format!("the proof of {here} of the past: {error}"))?;
            if proved.value() != value.as_deref() {
                return Err(format!("{here} is proved of the past to be {:?}", proved.value()));
            }
            reach.count("earlier heights: proofs of the past");
        }
    }
    Ok(())
}

fn history(reader: &Reader, model: &Model, past: &Past) -> Result<(), String> {
    let height = model.height();
    for (&at, PastRow { root, extra, .. }) in past.rows.range(past.kept_from..=height) {
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
