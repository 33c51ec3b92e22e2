//! Wrong input is an error, never a panic and never a wrong root.

use crate::world::{Change, Plan, World, apply, shard};
use hedgerow_hasher_api::{HashError, HookedHasher, ScalarHasher, Span};
use hedgerow_merkle::{Forest, MerkleError, ShardChange, ShardRestore, left_path_in};
use hedgerow_testkit::naive;
use hedgerow_types::{Digest, SHARDS, SerialNumber, TwigId};
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Shard 4 with 3 twigs and a bit, the first twig and a bit of it inactive.
fn world() -> World {
    let mut world = World::new();
    let plan = Plan { shard: 4, appends: 7000, kill: vec![], kill_below: None, move_oldest: false };
    world.block(std::slice::from_ref(&plan));
    world.block(&[Plan { appends: 0, kill_below: Some(80), move_oldest: true, ..plan }]);
    assert!((2048..4096).contains(&world.oldest[4]), "{}", world.oldest[4]);
    world
}

/// What shard 4 of `world` answers to this change.
fn refused(world: &World, change: impl FnOnce(&mut Change)) -> MerkleError {
    let mut changes: [Change; SHARDS] = std::array::from_fn(|i| Change {
        oldest_active: SerialNumber(world.oldest[i]),
        ..Change::default()
    });
    change(&mut changes[4]);
    apply(&mut world.working.clone(), &changes).unwrap_err()
}

#[test]
fn blocks_that_contradict_the_tree_are_refused() {
    let world = world();
    let shard = shard(4);
    let oldest = world.oldest[4];
    let sn = SerialNumber;
    let kill = |n| refused(&world, |c| c.deactivated.push(SerialNumber(n)));
    assert_eq!(kill(7000), MerkleError::OutOfRange { shard, sn: sn(7000) });
    assert_eq!(kill(u64::MAX), MerkleError::OutOfRange { shard, sn: sn(u64::MAX) });
    assert_eq!(kill(5), MerkleError::Evicted { shard, sn: sn(5) });
    assert_eq!(kill(oldest - 1), MerkleError::AlreadyInactive { shard, sn: sn(oldest - 1) });
    let twice = refused(&world, |c| c.deactivated = vec![sn(6999), sn(6999)]);
    assert_eq!(twice, MerkleError::AlreadyInactive { shard, sn: sn(6999) });
    let new_twice = refused(&world, |c| {
        c.push(b"new");
        c.deactivated = vec![sn(7000), sn(7000)];
    });
    assert_eq!(new_twice, MerkleError::AlreadyInactive { shard, sn: sn(7000) });

    let back = refused(&world, |c| c.oldest_active = sn(oldest - 1));
    assert_eq!(back, MerkleError::OldestActive { shard, sn: sn(oldest - 1) });
    let beyond = refused(&world, |c| c.oldest_active = sn(7001));
    assert_eq!(beyond, MerkleError::OldestActive { shard, sn: sn(7001) });
    for passed in [oldest + 1, 4096, 7000] {
        let active = refused(&world, |c| c.oldest_active = sn(passed));
        assert_eq!(active, MerkleError::StillActive { shard, sn: sn(oldest) });
    }
    let stray = refused(&world, |c| c.entries.push(Span { offset: 0, len: 9 }));
    assert!(matches!(stray, MerkleError::Hash(HashError::Shape(_))));
}

#[test]
fn pruning_stops_at_the_oldest_active_twig() {
    let mut world = world();
    let shard = shard(4);
    let too_far =
        MerkleError::PruneTooFar { shard, first_kept: TwigId(2), first_active: TwigId(1) };
    assert_eq!(world.working.edges(shard, TwigId(2)), Err(too_far.clone()));
    assert_eq!(world.working.prune(shard, TwigId(2)), Err(too_far));
    world.working.prune(shard, TwigId(1)).unwrap();
    world.working.prune(shard, TwigId(0)).unwrap();
    assert_eq!(world.working.first_kept_twig(shard), TwigId(1));
    let pruned = MerkleError::Pruned { shard, twig: TwigId(0) };
    assert_eq!(world.working.edges(shard, TwigId(0)), Err(pruned));
    world.check();
}

/// A backend that does nothing special about left trees and refuses the call with this number.
fn failing(call: usize) -> HookedHasher {
    let left = AtomicUsize::new(call);
    let hooked = HookedHasher::new(Arc::new(ScalarHasher), move |call, inner| {
        if left.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(HashError::Device { backend: "test".into(), reason: "gone".into() });
        }
        call.hash(inner)
    });
    hooked.level_by_level()
}

#[test]
fn a_failing_hasher_fails_the_block_whichever_call_it_is() {
    let world = world();
    let mut changes: [ShardChange<'_>; SHARDS] =
        std::array::from_fn(|i| ShardChange::none(SerialNumber(world.oldest[i])));
    changes[4].arena = b"entry";
    changes[4].entries = &[Span { offset: 0, len: 5 }];
    // 1 + 11 + 2 + 1 + 1 + 2 + 4 calls: the left trees in the 11 that a backend inherits, and the
    // shard has 4 twigs.
    for calls in 0..22 {
        let failed = world.working.clone().apply(&failing(calls), &changes);
        assert!(matches!(failed, Err(MerkleError::Hash(HashError::Device { .. }))), "{calls}");
    }
    world.working.clone().apply(&failing(22), &changes).unwrap();
}

#[test]
fn finished_twigs_check_their_groups() {
    let world = world();
    let nodes = &world.finished[&(4, 2)].nodes;
    let leaves = &world.model[4].leaves[2 * 2048..3 * 2048];
    let left = naive::left_levels(leaves);
    for leaf in 0..2048 {
        let group: [Digest; 16] = leaves[leaf / 16 * 16..][..16].try_into().unwrap();
        let siblings = left_path_in(nodes, &group, leaf).unwrap();
        let expected: [Digest; 11] = std::array::from_fn(|l| left[l][(leaf >> l) ^ 1]);
        assert_eq!(siblings, expected, "leaf {leaf}");

        let mut wrong = group;
        wrong[leaf * 7 % 16].0[leaf % 32] ^= 1;
        let mismatch = Err(MerkleError::GroupMismatch { group: leaf / 16 });
        assert_eq!(left_path_in(nodes, &wrong, leaf), mismatch);
        assert_eq!(
            left_path_in(nodes, &group, (leaf + 16) % 2048).unwrap_err(),
            MerkleError::GroupMismatch { group: (leaf + 16) % 2048 / 16 }
        );
    }
    let group: [Digest; 16] = leaves[..16].try_into().unwrap();
    for beyond in [2048, 2049, usize::MAX] {
        assert!(left_path_in(nodes, &group, beyond).is_err());
    }
}

type Spoil = fn(&mut ShardRestore);

fn truncate<T>(list: &mut Vec<T>) {
    list.truncate(list.len() - 1);
}

#[test]
fn parts_that_contradict_each_other_are_not_restored() {
    let mut world = world();
    world.prune(4, 255);
    let good = world.restore_parts();
    assert!(Forest::restore(&ScalarHasher, good.clone()).unwrap() == world.working);
    let spoil: [(&str, Spoil); 12] = [
        ("edge missing", |r| truncate(&mut r.edges)),
        ("edge too many", |r| r.edges.push((13, Digest::ZERO))),
        ("edge level", |r| r.edges[0].0 = 13),
        ("left root missing", |r| truncate(&mut r.left_roots)),
        ("left root too many", |r| r.left_roots.push(Digest::ZERO)),
        ("page missing", |r| truncate(&mut r.active_pages)),
        ("twig of pages too many", |r| r.active_pages.extend([Digest::ZERO; 8])),
        ("first active", |r| r.first_active = TwigId(2)),
        ("first kept", |r| r.first_kept = TwigId(u64::MAX)),
        ("oldest active", |r| r.oldest_active = SerialNumber(5)),
        ("full youngest twig", |r| r.youngest_leaves = vec![Digest::ZERO; 2048]),
        ("an entry fewer than active bits", |r| truncate(&mut r.youngest_leaves)),
    ];
    for (what, spoil) in spoil {
        let mut parts = good.clone();
        spoil(&mut parts[4]);
        assert!(Forest::restore(&ScalarHasher, parts).is_err(), "{what}");
    }
    let mut parts = good.clone();
    parts[4].oldest_active.0 += 1;
    let sn = good[4].oldest_active;
    let active = Err(MerkleError::StillActive { shard: shard(4), sn });
    assert_eq!(Forest::restore(&ScalarHasher, parts).map(drop), active);
    // What cannot be seen shows in the root.
    let mut parts = good;
    parts[4].edges[0].1.0[0] ^= 1;
    let restored = Forest::restore(&ScalarHasher, parts).unwrap();
    assert_ne!(restored.roots(), world.working.roots());
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..6_u64, 1 => any::<u64>(), 1 => (0..64_u32).prop_map(|shift| 1 << shift)]
}

fn parts() -> impl Strategy<Value = ShardRestore> {
    let digest = any::<[u8; 32]>().prop_map(Digest);
    (
        number(),
        vec((10..20_u8, digest), 0..3),
        0..5_usize,
        number(),
        0..5_usize,
        prop_oneof![0..3_usize, 2040..2060_usize],
        prop_oneof![number(), (0..12_000_u64)],
    )
        .prop_map(|(first_kept, edges, left_roots, first_active, pages, leaves, oldest)| {
            ShardRestore {
                first_kept: TwigId(first_kept),
                edges,
                left_roots: vec![Digest::ZERO; left_roots],
                first_active: TwigId(first_active),
                active_pages: vec![Digest::ZERO; pages * 8],
                youngest_leaves: vec![Digest::ZERO; leaves],
                oldest_active: SerialNumber(oldest),
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn restoring_anything_never_panics(parts in parts(), sn in number()) {
        let mut all: [ShardRestore; SHARDS] = std::array::from_fn(|_| ShardRestore {
            active_pages: vec![Digest::ZERO; 8],
            ..ShardRestore::default()
        });
        all[11] = parts;
        if let Ok(forest) = Forest::restore(&ScalarHasher, all) {
            let next = forest.next_sn(shard(11));
            let _ = forest.path(shard(11), SerialNumber(sn));
            let _ = forest.edges(shard(11), TwigId(sn));
            let _ = forest.is_active(shard(11), SerialNumber(sn));
            assert_eq!(forest.path(shard(11), next).unwrap().state_root, forest.roots().state);
        }
    }
}
