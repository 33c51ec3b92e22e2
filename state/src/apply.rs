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
//! other once per block. Of a small block all is one task.

use crate::resolve::{ShardPlan, resolve, spread_keys};
use crate::{
    ActiveBits, BlockOps, Error, Files, HeldWriter, ShardDelta, ShardView, spread, update_shard,
};
use hedgerow_entryfile::LogView;
use hedgerow_hasher_api::BatchHasher;
use hedgerow_types::{CompactionRule, Height, KeyHash, ShardId};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a block is applied with.
#[derive(Clone, Copy, Debug)]
pub struct Tools<'a> {
    /// Hashes the keys.
    pub hasher: &'a dyn BatchHasher,
    /// Reads old entries.
    pub files: Files<'a>,
    /// Says when entries are moved.
    pub rule: &'a CompactionRule,
    /// On the thread of the caller, shard after shard, and not in its pool: for blocks so small that waking others would
    /// cost more.
    pub alone: bool,
}

/// How long a block took to be applied. Shards are at both parts at once, so what they take together is divided as the
/// time of their threads is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// On key hashes, look-ups, old entries.
    pub resolve: Duration,
    /// On new entries and what they change; `None` if it did not come to that.
    pub update: Option<Duration>,
}

/// The time of the shards' threads, in nanoseconds.
#[derive(Debug, Default)]
struct Threads {
    resolve: AtomicU64,
    update: AtomicU64,
    /// A shard could not be resolved.
    unresolved: AtomicBool,
}

impl Threads {
    /// Does what belongs to a part, and takes its time.
    fn time<T>(part: &AtomicU64, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        part.fetch_add(begun.elapsed().as_nanos() as u64, Ordering::Relaxed);
        done
    }

    /// What a block spent whose key hashes were there after `hashed`, and whose shards after `shards`; the rest of `all` is
    /// the update's.
    fn spent(self, hashed: Duration, shards: Duration, all: Duration) -> Spent {
        if self.unresolved.into_inner() {
            return Spent { resolve: all, update: None };
        }
        let (resolve, update) = (self.resolve.into_inner(), self.update.into_inner());
        let share = resolve as f64 / resolve.saturating_add(update).max(1) as f64;
        let resolve = hashed + shards.saturating_sub(hashed).mul_f64(share);
        Spent { resolve, update: Some(all.saturating_sub(resolve)) }
    }
}

/// Applies a block's operations to all shards, in the pool of the caller, and moves the oldest entries of
/// any as far as the rule says. `views` are the shards' as of the last block. `spent` is set whatever comes of it.
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
    spent: &mut Spent,
) -> Result<Vec<ShardDelta>, Error> {
    let begun = Instant::now();
    let Tools { hasher, files, rule, alone } = tools;
    let before = shards.iter().map(|writer| writer.look().state.next_sn().0).sum();
    let keys = spread_keys(ops, hasher).inspect_err(|_| spent.resolve = begun.elapsed())?;
    let hashed = begun.elapsed();
    let threads = Threads::default();
    let one = |writer: &mut W, view: &ShardView<'_>, keys: Vec<(KeyHash, u32)>| {
        if keys.is_empty() {
            return Ok(ShardDelta::none(writer.look(), before));
        }
        let state = &writer.look().state;
        let shard = (state.shard(), state.bits());
        let resolve = || resolve_shard(ops, keys, *view, shard, (files.log, hasher));
        let plan = Threads::time(&threads.resolve, resolve)
            .inspect_err(|_| threads.unresolved.store(true, Ordering::Relaxed))?;
        let writer = writer.change();
        let update = || update_shard(writer, plan, height, rule, files, before);
        Threads::time(&threads.update, update)
    };
    let results: Vec<Result<ShardDelta, Error>> = if alone {
        let work = shards.iter_mut().zip(views).zip(keys);
        work.map(|((writer, view), keys)| one(writer, view, keys)).collect()
    } else {
        let work = shards.par_iter_mut().zip(views).zip(keys);
        work.map(|((writer, view), keys)| one(writer, view, keys)).collect()
    };
    let resolved = begun.elapsed();
    let result = end_block(shards, results, before, (rule, files));
    *spent = threads.spent(hashed, resolved, begun.elapsed());
    result
}

/// By this name, and those of the other steps, `.ci/instructions` counts instructions: it must not be inlined.
#[inline(never)]
fn resolve_shard(
    ops: &BlockOps,
    keys: Vec<(KeyHash, u32)>,
    view: ShardView<'_>,
    shard: (ShardId, &ActiveBits),
    tools: (LogView<'_>, &dyn BatchHasher),
) -> Result<ShardPlan, Error> {
    resolve(ops, keys, view, shard, tools)
}

/// What concerns all shards, after each was done by itself; if anything failed, nothing was done.
#[inline(never)]
fn end_block<W: HeldWriter>(
    shards: &mut [W],
    results: Vec<Result<ShardDelta, Error>>,
    before: u64,
    (rule, files): (&CompactionRule, Files<'_>),
) -> Result<Vec<ShardDelta>, Error> {
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
