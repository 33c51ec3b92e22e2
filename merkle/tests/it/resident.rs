//! Rows on a device: the same nodes as on the CPU, whatever the device does.

use crate::device::{Lie, Watched};
use crate::world::{Change, apply, apply_announcing, apply_with, shard};
use hedgerow_hasher_api::ScalarHasher;
use hedgerow_hasher_device::Failure;
use hedgerow_merkle::{Forest, MerkleError, ShardRestore};
use hedgerow_types::{Digest, SHARDS, SerialNumber, TwigId};
use std::sync::atomic::Ordering;

/// A forest whose shards 2 and 9 have many twigs, all of them active.
fn forest(first_kept: u64, twigs: u64) -> Forest {
    let mut parts: [ShardRestore; SHARDS] = std::array::from_fn(|_| ShardRestore {
        active_pages: vec![Digest::ZERO; 8],
        ..ShardRestore::default()
    });
    for i in [2, 9] {
        let levels = 64 - first_kept.leading_zeros();
        parts[i] = ShardRestore {
            first_kept: TwigId(first_kept),
            edges: (0..levels)
                .filter(|row| first_kept >> row & 1 == 1)
                .map(|row| (12 + row as u8, Digest([row as u8; 32])))
                .collect(),
            left_roots: (1..twigs).map(|twig| Digest([twig as u8; 32])).collect(),
            first_active: TwigId(first_kept),
            active_pages: (0..8 * (twigs - 1))
                .map(|page| Digest([page as u8 | 1; 32]))
                .chain([Digest::ZERO; 8])
                .collect(),
            youngest_leaves: vec![],
            oldest_active: TwigId(first_kept).first(),
        };
    }
    Forest::restore(&ScalarHasher, parts).unwrap()
}

/// A block that appends to shard 2 and deactivates an entry of every `step`-th page of shard 9.
fn block(forest: &Forest, appends: u64, step: u64) -> [Change; SHARDS] {
    let mut changes: [Change; SHARDS] = Default::default();
    for (i, change) in changes.iter_mut().enumerate() {
        change.oldest_active = forest.oldest_active(shard(i));
    }
    for n in 0..appends {
        changes[2].push(&(forest.next_sn(shard(2)).0 + n).to_le_bytes());
    }
    let pages = (forest.oldest_active(shard(9)).0..forest.next_sn(shard(9)).0).step_by(256);
    for page in pages.step_by(step as usize) {
        let entries = (page..page + 256).map(SerialNumber);
        // Two of a word, if there are.
        let active = entries.filter(|&sn| forest.is_active(shard(9), sn)).take(2);
        changes[9].deactivated.extend(active);
    }
    changes
}

#[test]
fn rows_follow_a_growing_forest_around_their_ring() {
    // Node indexes far beyond the ring's length, at all places of it.
    for first_kept in [0, 77, 128, 1000, (1 << 39) + 11] {
        let device = Watched::new(1, None);
        let mut ours = forest(first_kept, 70);
        let mut plain = ours.clone();
        for round in 0..12 {
            let changes = block(&ours, 9 * 2048 + 100 * round, 1 + round % 5);
            let applied = apply_with(&device.hasher, &mut ours, &changes).unwrap();
            assert_eq!(applied.roots, apply(&mut plain, &changes).unwrap().roots, "{round}");
            assert!(ours == plain, "round {round}");
            if round == 5 {
                let oldest = forest_oldest(&mut ours, &mut plain, 40);
                for forest in [&mut ours, &mut plain] {
                    forest.prune(shard(2), TwigId(oldest)).unwrap();
                }
            }
        }
        assert_eq!(device.condemned(), 0);
        // At first, when the ring is full, and after a block of another backend.
        assert_eq!(device.opened(), 3);
    }
}

/// Deactivates the oldest `twigs` twigs of shard 2 in both forests; returns the first active one.
fn forest_oldest(ours: &mut Forest, plain: &mut Forest, twigs: u64) -> u64 {
    let mut changes = block(ours, 0, u64::MAX);
    changes[9].deactivated.clear();
    let first = ours.oldest_active(shard(2)).0;
    let end = first + 2048 * twigs;
    let active = (first..end).map(SerialNumber).filter(|&sn| ours.is_active(shard(2), sn));
    changes[2].deactivated = active.collect();
    changes[2].oldest_active = SerialNumber(end);
    apply(plain, &changes).unwrap();
    // On the CPU: the device hears of it with the next block, or is loaded anew.
    apply(ours, &changes).unwrap();
    end / 2048
}

#[test]
fn small_blocks_stay_on_the_cpu_and_the_device_catches_up() {
    let device = Watched::new(1, None);
    let mut ours = forest(5, 100);
    let mut plain = ours.clone();
    for round in 0..10_usize {
        // Two small blocks after every large one.
        device.worth_from.store(if round % 3 == 0 { 0 } else { usize::MAX }, Ordering::Relaxed);
        let calls = device.inner.device().calls();
        let changes = block(&ours, 700, 3);
        apply_with(&device.hasher, &mut ours, &changes).unwrap();
        apply(&mut plain, &changes).unwrap();
        assert!(ours == plain, "round {round}");
        assert_eq!(device.inner.device().calls() > calls, round % 3 == 0, "round {round}");
    }
    assert_eq!((device.opened(), device.condemned()), (1, 0));
}

#[test]
fn a_device_that_fails_at_any_call_costs_no_root() {
    let start = forest(5, 70);
    let mut plain = start.clone();
    let blocks: Vec<_> = (0..2)
        .map(|round| {
            let changes = block(&plain, 600, 2 + round);
            apply(&mut plain, &changes).unwrap();
            changes
        })
        .collect();
    for failure in [Failure::Once, Failure::Lost] {
        let mut failed_after_root = 0;
        for call in 0.. {
            let device = Watched::new(7, None);
            device.inner.device().fail_at(call, failure);
            let mut ours = start.clone();
            for changes in &blocks {
                let mut announced = vec![];
                let applied = apply_announcing(&device.hasher, &mut ours, changes, &mut |roots| {
                    announced.push((roots.clone(), device.condemned()));
                });
                let roots = applied.unwrap().roots;
                let [(early, condemned)] = &announced[..] else { panic!("{announced:?}") };
                assert_eq!(early, &roots, "call {call}");
                failed_after_root += device.condemned() - condemned;
            }
            assert!(ours == plain, "call {call}");
            if device.inner.device().failure_pending() {
                assert!(call > 60, "{call} calls");
                assert_eq!(device.condemned(), 0);
                break;
            }
            // Made once, asked no more.
            assert_eq!(device.opened(), 1);
        }
        // The rows of two blocks, of which those that a root needs came before.
        assert!(failed_after_root >= 10, "{failed_after_root}");
    }
}

#[test]
fn a_wrong_digest_is_found_and_costs_no_root() {
    let start = forest(5, 70);
    let changes = block(&start, 600, 1);
    let mut plain = start.clone();
    apply(&mut plain, &changes).unwrap();
    // Two reads for the samples of every step, then the nodes of every step.
    let reads = (0..).map(Lie::Reads).take_while(|&lie| {
        let device = Watched::new(1, Some(lie));
        let mut ours = start.clone();
        let mut early = None;
        let announce = &mut |roots: &_| early = Some(Clone::clone(roots));
        apply_announcing(&device.hasher, &mut ours, &changes, announce).unwrap();
        assert_eq!(early.as_ref(), Some(plain.roots()), "{lie:?}");
        assert!(ours == plain, "{lie:?}");
        // Another device is given a chance.
        device.id.fetch_add(1, Ordering::Relaxed);
        let changes = block(&ours, 10, 1);
        apply_with(&device.hasher, &mut ours, &changes).unwrap();
        assert_eq!(device.opened(), 2);
        device.condemned() > 0
    });
    assert!(reads.count() >= 15);
    // Nobody looks: the wrong root shows that the device was believed.
    let device = Watched::new(0, Some(Lie::Reads(0)));
    let mut ours = start.clone();
    let applied = apply_with(&device.hasher, &mut ours, &changes).unwrap();
    assert_ne!(&applied.roots, plain.roots());
}

/// What the device was sent arrived wrong: its nodes are hashed right, from wrong children.
#[test]
fn nodes_that_went_wrong_on_their_way_up_are_found() {
    let start = forest(5, 70);
    let writes = (0..).map(Lie::Write).take_while(|&lie| {
        let device = Watched::new(1, Some(lie));
        let mut ours = start.clone();
        let mut plain = start.clone();
        for round in 0..3 {
            let changes = block(&plain, 600, 1 + round);
            apply_with(&device.hasher, &mut ours, &changes).unwrap();
            apply(&mut plain, &changes).unwrap();
            assert!(ours == plain, "{lie:?} round {round}");
        }
        device.condemned() > 0
    });
    // New pages and left roots of the second and the third block.
    assert!(writes.count() >= 4);
}

/// A digest that goes wrong on its way down is found if it, its parent or its child is a sample; what
/// the root needs always is.
#[test]
fn a_sample_vouches_for_its_children_too() {
    let start = forest(5, 40);
    let changes = block(&start, 300, 1);
    let mut plain = start.clone();
    apply(&mut plain, &changes).unwrap();
    let (mut hidden, mut found) = (0, 0);
    loop {
        let device = Watched::new(4, Some(Lie::Digest(hidden + found)));
        let mut ours = start.clone();
        let roots = apply_with(&device.hasher, &mut ours, &changes).unwrap().roots;
        assert_eq!(&roots, plain.roots(), "{hidden} hidden, {found} found");
        if device.condemned() > 0 {
            assert!(ours == plain);
            found += 1;
        } else if ours != plain {
            hidden += 1;
        } else {
            break;
        }
    }
    // A quarter of the nodes are samples, each of them read apart with two children.
    assert!(2 * found > 5 * hidden, "{hidden} hidden, {found} found");
}

/// All over the blocks: not the same places in every one.
#[test]
fn one_of_so_many_nodes_is_a_sample() {
    let device = Watched::new(100, None);
    let mut ours = forest(5, 70);
    const BLOCKS: u64 = 100;
    for n in 0..BLOCKS {
        let mut changes = block(&ours, 0, u64::MAX);
        let sn = ours.oldest_active(shard(9)).0 + 256 * n;
        let sn = (sn..).map(SerialNumber).find(|&sn| ours.is_active(shard(9), sn)).unwrap();
        changes[9].deactivated = vec![sn];
        apply_with(&device.hasher, &mut ours, &changes).unwrap();
    }
    // l1, l2, l3, twig root, level 13, which is the last row.
    let (nodes, last) = (5 * BLOCKS, BLOCKS);
    let checked = device.checked.load(Ordering::Relaxed);
    assert!((last + 1..=last + nodes / 100).contains(&checked), "{checked}");
}

/// What the root needs does not wait behind all other nodes.
#[test]
fn what_the_root_needs_is_sent_for_first() {
    let device = Watched::new(0, None);
    let mut ours = forest(5, 70);
    let changes = block(&ours, 300, 1);
    let mut before_root = String::new();
    let announce = &mut |_: &_| before_root = std::mem::take(&mut *device.log.lock().unwrap());
    apply_announcing(&device.hasher, &mut ours, &changes, announce).unwrap();
    let steps = before_root.trim_start_matches('h');
    assert_eq!((before_root.len() - steps.len(), steps), (5, "rfrrrrft"));
    assert_eq!(*device.log.lock().unwrap(), "tttt");
}

/// A way to a wrong root: nothing is checked, and the device fails when its root is known.
#[test]
fn a_wrong_root_that_was_announced_stops_the_forest() {
    let start = forest(5, 70);
    let changes = block(&start, 600, 1);
    let calls = {
        let device = Watched::new(0, Some(Lie::Reads(0)));
        apply_with(&device.hasher, &mut start.clone(), &changes).unwrap();
        device.inner.device().calls()
    };
    let device = Watched::new(0, Some(Lie::Reads(0)));
    device.inner.device().fail_at(calls - 1, Failure::Once);
    let mut ours = start.clone();
    let mut announced = vec![];
    let result = apply_announcing(&device.hasher, &mut ours, &changes, &mut |roots| {
        announced.push(roots.state)
    });
    let mut plain = start.clone();
    let right = apply(&mut plain, &changes).unwrap().roots.state;
    assert_eq!(announced.len(), 1);
    let wrong = MerkleError::WrongRoot { announced: announced[0], right };
    assert_eq!(result.unwrap_err(), wrong);
    assert_ne!(announced[0], right);
}

/// What has changed beyond a quarter of the pages is loaded anew.
#[test]
fn rows_that_fall_far_behind_are_dropped() {
    let device = Watched::new(1, None);
    let mut ours = forest(5, 70);
    let mut plain = ours.clone();
    for round in 0..6 {
        let large = round % 5 == 0;
        device.worth_from.store(if large { 0 } else { usize::MAX }, Ordering::Relaxed);
        let changes = block(&ours, 700, 1);
        apply_with(&device.hasher, &mut ours, &changes).unwrap();
        apply(&mut plain, &changes).unwrap();
        assert!(ours == plain, "round {round}");
    }
    assert_eq!((device.opened(), device.condemned()), (2, 0));
}
