//! One thread or many: a parameter, not a second path.
//!
//! The pieces of a call are cut, in order, into shares of equal cost. A share takes as many pieces
//! as it has room for, so one huge group becomes many shares and many small groups become few.
//! There are more shares than threads, so that a thread which is late leaves its last shares to
//! the others; but no share is so small that handing it over costs more than hashing it.

use crate::divide::{Cost, Divide};
use rayon::{ThreadPool, prelude::*};

/// From which size work is shared, and how finely.
///
/// Measured (2 cores, Xeon): a call handed to a pool costs 5 µs more than its hashing if it comes
/// from outside the pool, under 1 µs from inside, and each further share 0.1 µs. So a call of 33 µs
/// gains on two cores either way, and a share of 8 µs costs little. The numbers below are these
/// times at 16 ns per compression, the speed of AVX-512 there; slower kernels share a little later
/// than they might.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grain {
    /// Cost of a call below which it stays on the calling thread.
    pub(crate) parallel_from: Cost,
    /// Cost below which a share is not cut further.
    pub(crate) share: Cost,
    /// Shares per thread, if they are large enough.
    pub(crate) shares_per_thread: usize,
}

impl Default for Grain {
    fn default() -> Self {
        Self { parallel_from: 2048, share: 512, shares_per_thread: 4 }
    }
}

impl Grain {
    /// No call is large enough to be shared.
    pub(crate) const ONE_THREAD: Self =
        Self { parallel_from: Cost::MAX, share: Cost::MAX, shares_per_thread: 1 };

    pub(crate) fn is_one_thread(&self) -> bool {
        self.parallel_from == Cost::MAX
    }

    /// Nodes that keep `threads` threads busy.
    pub(crate) fn full_speed_nodes(&self, threads: usize) -> usize {
        let cost =
            if threads > 1 { self.parallel_from.max(self.share * threads as Cost) } else { 1 };
        usize::try_from(cost.div_ceil(2)).unwrap_or(usize::MAX)
    }

    /// Cost of one share of a call that costs `total`.
    fn share_of(&self, total: Cost, threads: usize) -> Cost {
        let shares = (threads * self.shares_per_thread).max(1) as Cost;
        total.div_ceil(shares).max(self.share)
    }
}

/// Runs `work` over all `pieces`, which cost `total` together: on the calling thread, or in shares
/// on `pool` (`None`: the current one). Returns when all is done.
pub(crate) fn spread<P: Divide + Send>(
    pool: Option<&ThreadPool>,
    grain: Grain,
    total: Cost,
    mut pieces: impl Iterator<Item = P>,
    work: &(impl Fn(&mut dyn Iterator<Item = P>) + Sync),
) {
    if total < grain.parallel_from {
        return work(&mut pieces);
    }
    let threads = pool.map_or_else(rayon::current_num_threads, ThreadPool::current_num_threads);
    if threads == 1 {
        return work(&mut pieces);
    }
    let shares = cut(pieces, grain.share_of(total, threads));
    let run = || {
        let shares = shares.into_par_iter().with_max_len(1);
        shares.for_each(|share| work(&mut share.into_iter()));
    };
    match pool {
        Some(pool) => pool.install(run),
        None => run(),
    }
}

/// Cuts `pieces` into shares that cost `size`, the last one less; a share exceeds its size by less
/// than its last item.
fn cut<P: Divide>(pieces: impl Iterator<Item = P>, size: Cost) -> Vec<Vec<P>> {
    let mut shares = vec![];
    let mut share = vec![];
    let mut room = size;
    for piece in pieces {
        let mut left = Some(piece);
        while let Some(piece) = left {
            let (front, cost, rest) = piece.divide(room);
            share.push(front);
            room = room.saturating_sub(cost);
            if room == 0 {
                shares.push(std::mem::take(&mut share));
                room = size;
            }
            left = rest;
        }
    }
    if !share.is_empty() {
        shares.push(share);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rayon::ThreadPoolBuilder;
    use std::sync::Mutex;
    use std::thread::{self, ThreadId};

    /// Items that are their own cost.
    impl Divide for &[Cost] {
        fn divide(self, room: Cost) -> (Self, Cost, Option<Self>) {
            let mut cost = 0;
            for (i, item) in self.iter().enumerate() {
                cost += item;
                if cost >= room && i + 1 < self.len() {
                    return (&self[..=i], cost, Some(&self[i + 1..]));
                }
            }
            (self, cost, None)
        }
    }

    /// Spreads `groups` and returns the threads that worked and the number of shares.
    fn workers(pool: &ThreadPool, grain: Grain, groups: &[&[Cost]]) -> (Vec<ThreadId>, usize) {
        let seen = Mutex::new(vec![]);
        let total = groups.iter().flat_map(|group| group.iter()).sum();
        spread(Some(pool), grain, total, groups.iter().copied(), &|pieces| {
            assert!(pieces.count() > 0);
            seen.lock().unwrap().push(thread::current().id());
        });
        let mut threads = seen.into_inner().unwrap();
        let shares = threads.len();
        threads.sort_by_key(|id| format!("{id:?}"));
        threads.dedup();
        (threads, shares)
    }

    fn pool(threads: usize) -> ThreadPool {
        ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
    }

    #[test]
    fn small_calls_and_pools_of_one_stay_on_the_calling_thread() {
        let here = thread::current().id();
        let small = [1; 2047];
        assert_eq!(workers(&pool(4), Grain::default(), &[&small]), (vec![here], 1));
        let large = [1; 100_000];
        assert_eq!(workers(&pool(1), Grain::default(), &[&large]), (vec![here], 1));
        assert_eq!(workers(&pool(4), Grain::ONE_THREAD, &[&large]), (vec![here], 1));
        let (threads, shares) = workers(&pool(4), Grain::default(), &[&large]);
        assert!(!threads.contains(&here));
        assert_eq!(shares, 16);
    }

    #[test]
    fn one_huge_group_and_many_small_ones_make_shares_of_equal_cost() {
        let items = [2; 32_000];
        let huge: &[&[Cost]] = &[&[], &items, &[2, 2]];
        let small: Vec<&[Cost]> = items.chunks(2000).collect();
        let tiny: Vec<&[Cost]> = items.chunks(1).collect();
        for groups in [huge, &small, &tiny] {
            let size = Grain::default().share_of(64_000, 4);
            let shares = cut(groups.iter().copied(), size);
            let cost = |share: &Vec<&[Cost]>| share.iter().flat_map(|p| p.iter()).sum::<Cost>();
            assert!(shares[..16].iter().all(|share| cost(share) == size), "{size}");
            assert!(shares.len() <= 17);
        }
    }

    #[test]
    fn full_speed_needs_a_share_per_thread() {
        let grain = Grain::default();
        assert_eq!(grain.full_speed_nodes(1), 1);
        assert_eq!(grain.full_speed_nodes(2), 1024);
        assert_eq!(grain.full_speed_nodes(64), 16_384);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn shares_hold_every_item_once_in_order(
            groups in prop::collection::vec(prop::collection::vec(1_u64..50, 0..40), 0..20),
            size in 1_u64..200,
        ) {
            let shares = cut(groups.iter().map(Vec::as_slice), size);
            let items: Vec<Cost> = shares.iter().flatten().flat_map(|p| p.iter()).copied().collect();
            prop_assert_eq!(items, groups.concat());
            for (i, share) in shares.iter().enumerate() {
                let costs: Vec<Cost> = share.iter().flat_map(|p| p.iter()).copied().collect();
                let cost: Cost = costs.iter().sum();
                prop_assert!(cost < size + costs.last().unwrap_or(&1));
                prop_assert!(cost >= size || i + 1 == shares.len());
            }
        }
    }
}
