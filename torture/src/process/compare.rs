//! An open store against the reference: root, values, proofs, history, and what `check` says.

use super::blocks::{KEYS, Plan, key};
use super::reference::Reference;
use super::{Doing, Failure, fail};
use hedgerow::{Error, Height, Reader, Store};
use hedgerow_testkit::recipe::SplitMix64;

/// Keys of which proofs are compared.
const PROOFS: u64 = 8;
/// Kept heights of which rows are compared: the last ones, and as many of the others.
const ROWS: u64 = 100;

/// What of it is to be compared.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rows of this height and later ones must be there.
    pub kept_from: u64,
    /// For the choice of keys.
    pub seed: u64,
}

/// Compares what readers see with the reference, which goes to the reader's height. Returns that.
///
/// # Errors
/// The first difference.
pub fn published(
    reader: &Reader,
    reference: &mut Reference,
    extent: Extent,
) -> Result<u64, Failure> {
    let (height, root) = reader.root();
    reference.go_to(height.0);
    let wanted = reference.root(height.0);
    if wanted != Some(root) {
        return fail(format!("height {height} has root {root}, not {wanted:?}"));
    }
    values(reader, reference, extent.seed)?;
    history(reader, reference, extent)?;
    Ok(height.0)
}

fn values(reader: &Reader, reference: &mut Reference, seed: u64) -> Result<(), Failure> {
    let (height, root) = reader.root();
    let model = reference.model();
    let mut wanted = model.iter();
    for pair in reader.iter() {
        let (key, value) = pair.doing("iterating")?;
        if wanted.next() != Some((&key[..], &value[..])) {
            return fail(format!("iterating at height {height}: {key:02x?} was not to come"));
        }
    }
    if let Some((key, _)) = wanted.next() {
        return fail(format!("iterating at height {height}: {key:02x?} is missing"));
    }
    let mut draws = SplitMix64::new(seed);
    for _ in 0..PROOFS {
        // Some keys beyond the last: never written.
        let key = key(draws.below(KEYS + KEYS / 8));
        let value = reader.get(&key).doing(format!("get of {key:02x?}"))?;
        if value.as_deref() != model.get(&key) {
            return fail(format!("get of {key:02x?} at height {height}: a wrong value"));
        }
        let proven = reader.prove(&key).doing(format!("proof of {key:02x?}"))?;
        let verified = hedgerow_proof::verify(&root, &key, proven.proof.as_bytes())
            .doing(format!("verifying the proof of {key:02x?} at height {height}"))?;
        if verified != model.get(&key) {
            return fail(format!("proof of {key:02x?} at height {height}: a wrong value"));
        }
    }
    Ok(())
}

fn history(reader: &Reader, reference: &mut Reference, extent: Extent) -> Result<(), Failure> {
    let height = reference.height();
    let shard_roots = reference.model().roots();
    let kept = extent.kept_from.min(height);
    let mut draws = SplitMix64::new(extent.seed);
    let others: Vec<u64> = (0..ROWS).map(|_| draws.below(height + 1)).collect();
    for at in (height.saturating_sub(ROWS)..=height).chain(others).chain([kept]) {
        let row = match reader.history(Height(at)) {
            Ok(row) => row,
            Err(Error::HeightUnavailable { .. }) if at < extent.kept_from => continue,
            Err(error) => return fail(format!("history of height {at}: {error}")),
        };
        if Some(row.root) != reference.root(at) {
            return fail(format!("history of height {at}: root {}", row.root));
        }
        let extra = if at == 0 { Vec::new() } else { Plan::new(reference.seed(), at).extra };
        if row.extra != extra {
            return fail(format!("history of height {at}: other extra data"));
        }
        if at == height && row.shard_roots != shard_roots {
            return fail(format!("history of height {at}: other shard roots"));
        }
    }
    Ok(())
}

/// Runs the store's own check and compares what it found.
///
/// # Errors
/// What it complains about.
pub fn check(store: &mut Store, reference: &mut Reference) -> Result<(), Failure> {
    let report = store.check().doing("check")?;
    let (keys, root) = (reference.model().len(), reference.root(reference.height()));
    if (report.height.0, Some(report.root), report.keys) != (reference.height(), root, keys) {
        return fail(format!("check says {report:?}; there are {keys} keys"));
    }
    // Opening made again what was missing, and every commit writes its own.
    if report.twigs_missing > 0 {
        return fail(format!("check says {report:?}: records of twigs are missing"));
    }
    Ok(())
}
