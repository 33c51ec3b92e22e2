//! Shards of all depths side by side on a device: some end below its highest row, some go on above it,
//! some are pruned far to the right; they grow, shrink and are pruned.

use crate::device::Watched;
use crate::world::{Change, apply, apply_announcing, shard};
use hedgerow_hasher_api::ScalarHasher;
use hedgerow_hasher_device::Failure;
use hedgerow_merkle::{Forest, ShardRestore};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::{Digest, SHARDS, SerialNumber, TwigId};
use proptest::prelude::*;
use std::sync::atomic::Ordering;

/// One of some numbers.
fn one_of<const N: usize>(draws: &mut SplitMix64, from: [u64; N]) -> u64 {
    from[draws.below(N as u64) as usize]
}

/// Shards of 1 to 300 twigs, the first of them evicted perhaps, and what lies before them pruned.
fn forest(draws: &mut SplitMix64) -> Forest {
    let parts: [ShardRestore; SHARDS] = std::array::from_fn(|_| {
        let first_kept = one_of(draws, [0, 0, 0, 1, 5, 60, 63, 127]);
        let twigs = one_of(draws, [1, 1, 2, 3, 4, 5, 9, 17, 33, 70, 130, 300]);
        let evicted = draws.below(twigs);
        let first_active = TwigId(first_kept + evicted);
        let rows = 0..64 - first_kept.leading_zeros();
        ShardRestore {
            first_kept: TwigId(first_kept),
            edges: (rows.filter(|row| first_kept >> row & 1 == 1))
                .map(|row| (12 + row as u8, Digest([row as u8; 32])))
                .collect(),
            left_roots: (1..twigs).map(|twig| Digest([twig as u8; 32])).collect(),
            first_active,
            active_pages: (0..8 * (twigs - 1 - evicted))
                .map(|page| Digest([page as u8 | 1; 32]))
                .chain([Digest::ZERO; 8])
                .collect(),
            youngest_leaves: vec![],
            oldest_active: first_active.first(),
        }
    });
    Forest::restore(&ScalarHasher, parts).unwrap()
}

/// Appends, deactivations here and there or of all that is oldest.
fn block(draws: &mut SplitMix64, forest: &Forest) -> [Change; SHARDS] {
    std::array::from_fn(|i| {
        let (shard, mut change) = (shard(i), Change::default());
        let (oldest, next) = (forest.oldest_active(shard).0, forest.next_sn(shard).0);
        let to_third_twig = 3 * 2048 - next % 2048;
        let appends = one_of(draws, [0, 0, 1, 5, 300, 2048, to_third_twig]);
        (next..next + appends).for_each(|sn| change.push(&sn.to_le_bytes()));
        change.oldest_active = SerialNumber(oldest);
        let active = |sn: &SerialNumber| forest.is_active(shard, *sn);
        match draws.below(4) {
            0 => {}
            1 => {
                let end = oldest + draws.below(next - oldest + 1);
                change.deactivated = (oldest..end).map(SerialNumber).filter(active).collect();
                change.oldest_active = SerialNumber(end);
            }
            _ if oldest == next => {}
            _ => {
                let some = 0..draws.below(40);
                let some = some.map(|_| SerialNumber(oldest + draws.below(next - oldest)));
                change.deactivated = some.filter(active).collect();
                change.deactivated.sort_unstable();
                change.deactivated.dedup();
                if appends > 0 {
                    change.deactivated.push(SerialNumber(next + draws.below(appends)));
                }
            }
        }
        change
    })
}

fn history(seed: u64, check_one_of: u32, failure: Option<(u64, Failure)>) {
    let mut draws = SplitMix64::new(seed);
    let device = Watched::new(check_one_of, None);
    if let Some((call, failure)) = failure {
        device.inner.device().fail_at(call, failure);
    }
    let mut ours = forest(&mut draws);
    let mut plain = ours.clone();
    for round in 0..8 {
        let changes = block(&mut draws, &ours);
        // Some blocks pass the device by.
        let from = one_of(&mut draws, [0, 0, 0, u64::MAX]) as usize;
        device.worth_from.store(from, Ordering::Relaxed);
        let mut announced = vec![];
        let announce = &mut |roots: &_| announced.push(Clone::clone(roots));
        apply_announcing(&device.hasher, &mut ours, &changes, announce).unwrap();
        let roots = apply(&mut plain, &changes).unwrap().roots;
        assert_eq!(announced, [roots], "round {round}");
        assert!(ours == plain, "round {round}");
        for shard in (0..SHARDS).map(shard) {
            if draws.below(4) == 0 {
                let first_kept = ours.oldest_active(shard).twig();
                ours.prune(shard, first_kept).unwrap();
                plain.prune(shard, first_kept).unwrap();
            }
        }
    }
    if failure.is_none() {
        assert_eq!(device.condemned(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shards_of_all_depths_on_a_device(seed: u64, check_one_of in 0..4_u32) {
        history(seed, check_one_of, None);
    }

    #[test]
    fn shards_of_all_depths_on_a_device_that_fails(
        seed: u64, check_one_of in 0..4_u32, call in 0..700_u64, lost: bool,
    ) {
        let failure = if lost { Failure::Lost } else { Failure::Once };
        history(seed, check_one_of, Some((call, failure)));
    }
}
