//! A block on all shards: every one of them changed, or none.
//!
//! ```text
//!  operations ─► key hashes, 16 lists ─┬─► shard 0: resolve ─► update ─┐
//!                                      ├─► shard 1: resolve ─► update ─┼─► spread ─► 16 ShardDeltas
//!                                      └─► ...                         ┘     │
//!                                               any error ◄──────────────────┘
//!                                                  └─► what was done is taken back
//! ```
//!
//! One task per shard does all of it: what it needs stays in the cache of its core, and tasks wait for each
//! other once per block.

use crate::resolve::{resolve, spread_keys};
use crate::{BlockOps, Error, Files, HeldWriter, ShardDelta, ShardView, spread, update_shard};
use hedgerow_hasher_api::BatchHasher;
use hedgerow_types::{CompactionRule, Height};
use rayon::prelude::*;

/// What a block is applied with.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    /// Hashes the keys.
    pub hasher: &'a dyn BatchHasher,
    /// Reads old entries.
    pub files: Files<'a>,
    /// Says when entries are moved.
    pub rule: &'a CompactionRule,
}

/// Applies a block's operations to all shards, in the pool of the caller, and moves the oldest entries of
/// any as far as the rule says. `views` are the shards' as of the last block.
///
/// # Errors
/// The first shard's that fails: [`Error::Refused`] for a strict operation that does not fit the state or a
/// block that is too large, a failed read, or what contradicts itself. Then all of them are as they were.
pub fn apply<W: HeldWriter>(
    shards: &mut [W],
    views: &[ShardView<'_>],
    ops: &BlockOps,
    height: Height,
    tools: Tools<'_>,
) -> Result<Vec<ShardDelta>, Error> {
    let Tools { hasher, files, rule } = tools;
    let before = shards.iter().map(|writer| writer.look().state.next_sn().0).sum();
    let keys = spread_keys(ops, hasher)?;
    let work = shards.par_iter_mut().zip(views).zip(keys);
    let results: Vec<Result<ShardDelta, Error>> = work
        .map(|((writer, view), keys)| {
            if keys.is_empty() {
                return Ok(ShardDelta::none(writer.look(), before));
            }
            let plan = resolve(ops, keys, *view, writer.look().state.shard(), files.log)?;
            update_shard(writer.change(), &plan, height, rule, files, before)
        })
        .collect();
    let failed = results.iter().find_map(|result| result.as_ref().err()).cloned();
    if let Some(error) = failed {
        take_back(shards.iter_mut().zip(results.into_iter().map(Result::ok)));
        return Err(error);
    }
    let mut deltas: Vec<_> = results.into_iter().filter_map(Result::ok).collect();
    match spread(shards, &mut deltas, before, rule, files) {
        Ok(()) => {
            let ended = shards.iter_mut().zip(&mut deltas);
            for (writer, delta) in ended.filter(|(_, delta)| !delta.spans.is_empty()) {
                writer.change().state.end(&mut delta.undo, before);
            }
            Ok(deltas)
        }
        Err(error) => {
            take_back(shards.iter_mut().zip(deltas.into_iter().map(Some)));
            Err(error)
        }
    }
}

/// Takes back what was done to the shards, if it is anything.
fn take_back<'w, W: HeldWriter + 'w>(done: impl Iterator<Item = (&'w mut W, Option<ShardDelta>)>) {
    for (writer, delta) in done {
        if let Some(delta) = delta.filter(|delta| !delta.spans.is_empty()) {
            writer.change().take_back(delta);
        }
    }
}
