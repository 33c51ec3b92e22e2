//! Streams of jobs as slices that a plan can choose kernels for.
//!
//! ```text
//!  nodes      ──► ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓│░░░░░░    hashed now │ ahead: fetched meanwhile
//!                                            then what was ahead moves to the front
//!
//!  messages   ──►  1 block   ▓▓▓▓▓▓          a bucket that is full is hashed
//!                  2 blocks  ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓
//!                  ...                       what is left at the end: longest first
//!                  8 or more ▓▓
//! ```
//!
//! Jobs are references, so nothing that is hashed is copied. A lot takes as long as its longest
//! message, so messages are hashed with others of as many blocks. A message is fetched from memory
//! when it comes and waits in its bucket meanwhile; all that wait are a few hundred, so they are
//! still in the cache when they are hashed.

use crate::{
    dispatch::Plan,
    kernel::{MessageJob, NodeJob},
};
use arrayvec::ArrayVec;
use std::cmp::Reverse;

/// Nodes hashed in one go.
const NODES: usize = 96;
/// Nodes known ahead: as many as any kernel has lanes.
const NODES_AHEAD: usize = 32;
/// Messages of a bucket: as many as any kernel has lanes.
const BUCKET: usize = 32;
/// Numbers of blocks that are told apart; longer messages share the last bucket.
const BUCKETS: usize = 8;

/// Hashes nodes whose children have level `level`.
pub(crate) fn nodes<'a>(plan: &Plan, level: u8, jobs: impl Iterator<Item = NodeJob<'a>>) {
    let mut waiting = ArrayVec::<_, { NODES + NODES_AHEAD }>::new();
    jobs.for_each(|job| {
        waiting.push(job);
        if waiting.is_full() {
            let (now, ahead) = waiting.split_at_mut(NODES);
            plan.nodes(level, now, ahead);
            waiting.drain(..NODES);
        }
    });
    plan.nodes(level, &mut waiting, &[]);
}

/// Hashes messages.
pub(crate) fn messages<'a>(plan: &Plan, jobs: impl Iterator<Item = MessageJob<'a>>) {
    let mut jobs = jobs.inspect(MessageJob::fetch);
    // Those of a small batch need no buckets.
    let mut few: ArrayVec<_, BUCKET> = jobs.by_ref().take(BUCKET).collect();
    match jobs.next().filter(|_| few.is_full()) {
        Some(next) => many_messages(plan, few.into_iter().chain([next]).chain(jobs)),
        None => {
            few.sort_unstable_by_key(|job| Reverse(job.blocks()));
            plan.messages(&mut few);
        }
    }
}

fn many_messages<'a>(plan: &Plan, jobs: impl Iterator<Item = MessageJob<'a>>) {
    let mut buckets = [const { ArrayVec::<MessageJob<'a>, BUCKET>::new_const() }; BUCKETS];
    jobs.for_each(|job| {
        let bucket = &mut buckets[(job.blocks() as usize).clamp(1, BUCKETS) - 1];
        bucket.push(job);
        if bucket.is_full() {
            longest_first(bucket);
            plan.messages(bucket);
            bucket.clear();
        }
    });
    let mut rest = ArrayVec::<_, { BUCKETS * BUCKET }>::new();
    if let Some(longest) = buckets.last_mut() {
        longest_first(longest);
    }
    for bucket in buckets.iter_mut().rev() {
        rest.extend(bucket.drain(..));
    }
    plan.messages(&mut rest);
}

/// Puts the messages of a bucket in order. Only the last bucket has anything to do.
fn longest_first(bucket: &mut [MessageJob<'_>]) {
    if bucket.first().is_some_and(|job| job.blocks() as usize >= BUCKETS) {
        bucket.sort_unstable_by_key(|job| Reverse(job.blocks()));
    }
}
