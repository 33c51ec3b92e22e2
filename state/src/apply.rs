//! A block on all shards: every one of them updated, or none.

use crate::{Error, Files, ShardDelta, ShardPlan, ShardWriter, spread, undo, update_shard};
use hedgerow_types::{CompactionRule, Height};
use rayon::prelude::*;

/// Applies a block's operations to all shards, in the pool of the caller, and moves the oldest entries of
/// any as far as the rule says.
///
/// # Errors
/// The first shard's that fails; then all of them are as they were.
pub fn apply(
    shards: &mut [ShardWriter],
    plans: &[ShardPlan],
    height: Height,
    rule: &CompactionRule,
    files: Files<'_>,
) -> Result<Vec<ShardDelta>, Error> {
    let before = shards.iter().map(|writer| writer.next_sn.0).sum();
    let work = shards.par_iter_mut().zip(plans);
    let results: Vec<Result<ShardDelta, Error>> =
        work.map(|(writer, plan)| update_shard(writer, plan, height, rule, files)).collect();
    let failed = results.iter().find_map(|result| result.as_ref().err()).cloned();
    if let Some(error) = failed {
        for (writer, delta) in shards.iter_mut().zip(results) {
            if let Ok(delta) = delta {
                undo(writer, delta);
            }
        }
        return Err(error);
    }
    let mut deltas: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
    match spread(shards, &mut deltas, before, rule, files) {
        Ok(()) => Ok(deltas),
        Err(error) => {
            shards.iter_mut().zip(deltas).for_each(|(writer, delta)| undo(writer, delta));
            Err(error)
        }
    }
}
