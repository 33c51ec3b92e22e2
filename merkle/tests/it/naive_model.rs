//! Random histories against brute force: after every step the roots, bits and counters, now and
//! then the published twin, and the paths of every serial number.

use crate::device::HASHERS;
use crate::world::{Plan, World};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::SHARDS;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Block(Vec<Plan>),
    Publish,
    Prune { shard: usize, part: u8 },
    Restore,
}

/// Few shards get most of the history, so that some have many twigs and some one.
fn shards() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(3_usize), 3 => Just(4), 2 => Just(15), 1 => 0..SHARDS]
}

fn appends() -> impl Strategy<Value = usize> {
    prop_oneof![
        2 => Just(0_usize),
        3 => 1..20_usize,
        2 => 200..2047_usize,
        3 => prop_oneof![Just(2047_usize), Just(2048), Just(2049)],
        2 => 2050..7000_usize,
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let kill_below = option::of(any::<u8>());
    (shards(), appends(), vec(any::<u16>(), 0..12), kill_below, any::<bool>()).prop_map(
        |(shard, appends, kill, kill_below, move_oldest)| Plan {
            shard,
            appends,
            kill,
            kill_below,
            move_oldest,
        },
    )
}

fn block() -> impl Strategy<Value = Step> {
    vec(plan(), 0..4).prop_map(|mut plans| {
        plans.sort_by_key(|plan| plan.shard);
        plans.dedup_by_key(|plan| plan.shard);
        Step::Block(plans)
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => block(),
        2 => Just(Step::Publish),
        2 => (shards(), any::<u8>()).prop_map(|(shard, part)| Step::Prune { shard, part }),
        1 => Just(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_forest_equals_brute_force(hasher in 0..HASHERS, steps in vec(step(), 1..14)) {
        let mut world = World::on(crate::device::hasher(hasher));
        for step in steps {
            match step {
                Step::Block(plans) => world.block(&plans),
                Step::Publish => world.publish(),
                Step::Prune { shard, part } => world.prune(shard, part),
                Step::Restore => world.restore(),
            }
        }
        world.publish();
        world.restore();
        for shard in 0..SHARDS {
            let long = world.model[shard].leaves.len() > 6000;
            world.check_paths(shard, if long { 7 } else { 1 });
            world.check_past(shard, 3, &mut SplitMix64::new(shard as u64));
        }
    }
}

/// One long history of one shard, evicted and pruned as it goes: every serial number's path.
#[test]
fn every_serial_number_of_a_pruned_shard_has_its_path_or_is_pruned() {
    let mut world = World::new();
    let plan = |appends, kill_below| Plan {
        shard: 9,
        appends,
        kill: (0..40).map(|i| i * 1601).collect(),
        kill_below,
        move_oldest: true,
    };
    for appends in [5000, 2048 - 5000 % 2048, 2047, 1, 1, 6000, 0] {
        world.block(&[plan(appends, Some(60))]);
        world.publish();
    }
    assert!(world.oldest[9] > 3 * 2048, "twigs must be evicted: {}", world.oldest[9]);
    world.check_paths(9, 1);
    world.prune(9, 200);
    world.publish();
    world.check_paths(9, 1);
    world.restore();
    world.block(&[plan(3000, None)]);
    world.publish();
    world.check_paths(9, 1);
    world.check_past(9, 40, &mut SplitMix64::new(9));
}

/// The youngest twig of a height that somebody holds goes on, is filled, evicted: its paths stay, at
/// every number of leaves that it had.
#[test]
fn a_twig_is_what_it_was_at_every_height() {
    let mut world = World::new();
    let plan = |appends, kill_below| Plan {
        shard: 4,
        appends,
        kill: (0..5).map(|i| i * 577).collect(),
        kill_below,
        move_oldest: true,
    };
    for appends in [1, 14, 1, 1, 15, 100, 1000, 900, 15, 1, 1, 2047, 1, 2048, 300] {
        world.block(&[plan(appends, None)]);
        world.publish();
    }
    world.block(&[plan(4000, Some(255))]);
    world.publish();
    assert!(world.oldest[4] > 2 * 2048, "twigs must be evicted: {}", world.oldest[4]);
    world.check_past(4, 150, &mut SplitMix64::new(4));
}

/// Neither roots nor nodes depend on how the history is cut into blocks.
#[test]
fn cutting_blocks_differently_changes_nothing() {
    let history = |cuts: &[(usize, &[u16])]| {
        let mut world = World::new();
        for &(appends, kill) in cuts {
            world.block(&[2, 11].map(|shard| Plan {
                shard,
                appends,
                kill: kill.to_vec(),
                kill_below: None,
                move_oldest: false,
            }));
            world.publish();
        }
        world
    };
    let whole = history(&[(7000, &[5, 900, 4098, 0, 6995])]);
    for cuts in [
        &[(7000, &[][..]), (0, &[5, 900]), (0, &[4098, 0, 6995])][..],
        &[(2047, &[5, 900]), (1, &[]), (4952, &[4098, 0, 6995])],
        &[(4100, &[5]), (1, &[900, 4098]), (2043, &[]), (856, &[0]), (0, &[6995])],
    ] {
        let cut = history(cuts);
        assert_eq!(cut.working.roots(), whole.working.roots());
        assert!(cut.working == whole.working);
        assert!(cut.finished == whole.finished);
    }
}
