//! The same blocks through every kind of index.

use crate::world::{Keys, World, create, for_seeds, work};
use hedgerow_index::{Edit, Index, SharedIndex};
use hedgerow_types::SerialNumber;
use hedgerow_vfs::{MemDisk, Vfs};
use std::sync::Arc;

/// What is done between blocks.
type Between<'a> = &'a mut dyn FnMut(&mut World);

fn blocks(
    index: &dyn Index,
    world: &mut World,
    count: usize,
    edits: u64,
    deletes: u64,
    between: Between<'_>,
) {
    for number in 0..count {
        let before = world.clone();
        let size = 1 + world.rng.below(2 * edits);
        let block = world.block(size, deletes);
        index.apply(&block).unwrap();
        // Some blocks are taken back, and others come in their place.
        if world.rng.one_in(5) {
            between(world);
            index.take_back(&block).unwrap();
            let rng = world.rng.clone();
            *world = before;
            world.rng = rng;
            world.check(index, 17);
        }
        // And now and then several at once, as what they came to.
        if world.rng.one_in(6) {
            let (before, cut) = (world.clone(), SerialNumber(world.next_sn + 1));
            for _ in 0..=world.rng.below(4) {
                let block = world.block(1 + edits, deletes);
                index.apply(&block).unwrap();
                between(world);
            }
            index.roll_back(&world.since(&before), cut).unwrap();
            let rng = world.rng.clone();
            *world = before;
            world.rng = rng;
            world.check(index, 13);
        }
        between(world);
        if number % 5 == 0 || number + 1 == count {
            let every = 1 + world.rng.below(5) as usize;
            world.check(index, every);
        }
    }
    world.check(index, 1);
}

/// Every kind of index, each with its own world of the same seed.
fn everyone(seed: u64, keys: Keys, count: usize, edits: u64, deletes: u64) {
    let mut world = World::new(seed, keys);
    blocks(&SharedIndex::default(), &mut world, count, edits, deletes, &mut |_| {});
    for (memory, lazy) in [(0, 1), (600 << 10, 3), (8 << 20, 2), (0, 8)] {
        let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let index = create(&vfs, memory);
        let mut world = World::new(seed, keys);
        let mut rng = world.rng.clone();
        // Jobs are done one at a time, now and then, so that tiers come in all stages.
        blocks(&index, &mut world, count, edits, deletes, &mut |_| {
            if rng.one_in(lazy) {
                work(&index, 1 + rng.below(3) as usize).unwrap();
            }
        });
        work(&index, 1000).unwrap();
        world.check(&index, 1);
        let stats = index.stats();
        assert!(memory > 1 << 20 || stats.spills > 0 && stats.merges > 0, "{stats:?}");
        // Down to nothing.
        let keys: Vec<_> = world.keys.keys().copied().collect();
        let edits: Vec<Edit> = keys.into_iter().map(|key| world.edit(key, false)).collect();
        index.apply(&edits).unwrap();
        world.check(&index, 1);
        work(&index, 1000).unwrap();
        world.check(&index, 1);
    }
}

#[test]
fn ties() {
    for_seeds(0..3, |seed| everyone(seed, Keys::Ties, 60, 150, 25));
}

#[test]
fn deletions() {
    for_seeds(10..13, |seed| everyone(seed, Keys::Spread(3000), 60, 200, 55));
}

#[test]
fn re_creations() {
    // Few keys, so that each comes and goes many times and lies dead in every tier.
    for_seeds(20..23, |seed| everyone(seed, Keys::Spread(150), 120, 150, 45));
}

#[test]
fn updates() {
    for_seeds(30..33, |seed| everyone(seed, Keys::Spread(4000), 50, 300, 5));
}

#[test]
fn crowds() {
    for_seeds(40..42, |seed| everyone(seed, Keys::Crowded(3000), 50, 300, 20));
}

#[test]
fn a_batch_that_does_not_fit_changes_nothing() {
    for_seeds(50..55, |seed| {
        let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let tiered = create(&vfs, 0);
        let shared = SharedIndex::default();
        for index in [&tiered as &dyn Index, &shared] {
            let mut world = World::new(seed, Keys::Spread(500));
            for _ in 0..30 {
                let block = world.block(100, 30);
                index.apply(&block).unwrap();
                work(&tiered, 2).unwrap();
                let before = world.clone();
                let mut wrong = world.block(60, 30);
                world = before.clone();
                let at = world.rng.below(wrong.len() as u64) as usize;
                // What is replaced was replaced before.
                let gone = block.iter().find_map(|edit| edit.old);
                let Some(old) = gone else { continue };
                wrong[at].old = Some(old);
                assert!(index.apply(&wrong).is_err());
                world.check(index, 7);
            }
        }
    });
}
