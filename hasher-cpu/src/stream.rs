//! Streams of jobs as slices that a plan can choose kernels for.
//!
//! ```text
//!  jobs of all groups ──► ▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓│░░░░░░    hashed now │ ahead: fetched meanwhile
//!                         └─ window ─────┘           then what was ahead moves to the front
//! ```
//!
//! Jobs are references, so nothing that is hashed is copied. Messages of a window are put in order
//! of their number of blocks: a kernel hashes lots as long as their longest message. The window is
//! small enough that its messages stay in the cache from being fetched to being hashed.

use crate::{
    dispatch::Plan,
    kernel::{MessageJob, NodeJob},
};
use arrayvec::ArrayVec;

/// Nodes hashed in one go.
const NODES: usize = 96;
/// Nodes known ahead: as many as any kernel has lanes.
const NODES_AHEAD: usize = 32;
/// Messages that are sorted together, and as many ahead of them.
const WINDOW: usize = 512;

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
    let mut waiting = ArrayVec::<_, { 2 * WINDOW }>::new();
    jobs.for_each(|job| {
        waiting.push(job);
        if waiting.is_full() {
            let (now, ahead) = waiting.split_at_mut(WINDOW);
            window(plan, now, ahead);
            waiting.drain(..WINDOW);
        }
    });
    let first = waiting.len().min(WINDOW);
    let (now, ahead) = waiting.split_at_mut(first);
    window(plan, now, ahead);
    window(plan, ahead, &[]);
}

fn window(plan: &Plan, jobs: &mut [MessageJob<'_>], ahead: &[MessageJob<'_>]) {
    sort(jobs);
    plan.messages(jobs, ahead);
}

/// Block counts that are told apart by counting; longer messages share the first bucket.
const BUCKETS: usize = 32;

/// Sorts by decreasing number of blocks: a counting sort in place, each swap puts one job where it
/// belongs.
fn sort(jobs: &mut [MessageJob<'_>]) {
    let bucket = |job: &MessageJob<'_>| BUCKETS - (job.blocks() as usize).clamp(1, BUCKETS);
    let mut ends = [0; BUCKETS];
    for job in &*jobs {
        ends[bucket(job)] += 1;
    }
    let mut next = [0; BUCKETS];
    let mut start = 0;
    for (next, end) in next.iter_mut().zip(&mut ends) {
        *next = start;
        start += *end;
        *end = start;
    }
    for home in 0..BUCKETS {
        while next[home] < ends[home] {
            let place = next[home];
            let belongs = bucket(&jobs[place]);
            jobs.swap(place, next[belongs]);
            next[belongs] += 1;
        }
    }
    jobs[..ends[0]].sort_unstable_by_key(|job| std::cmp::Reverse(job.blocks()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_types::Digest;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn sorting_keeps_every_job(lens in prop::collection::vec(0_u32..5000, 0..700)) {
            let arena = [0; 5000];
            let mut out = vec![Digest::ZERO; lens.len()];
            let mut jobs: Vec<_> = (lens.iter().zip(&mut out))
                .map(|(&len, out)| MessageJob::new(&arena, len, out).unwrap())
                .collect();
            sort(&mut jobs);
            prop_assert!(jobs.is_sorted_by(|a, b| a.blocks() >= b.blocks()));
            let mut found: Vec<_> = jobs
                .iter_mut()
                .map(|job| (std::ptr::from_mut(job.out) as usize, job.message().len()))
                .collect();
            found.sort_unstable();
            drop(jobs);
            let base = out.as_ptr() as usize;
            let expected: Vec<_> = lens
                .iter()
                .enumerate()
                .map(|(i, &len)| (base + i * size_of::<Digest>(), len as usize))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
