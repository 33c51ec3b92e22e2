//! A budget that changes while there is work.

use crate::world::{Keys, World, create, for_seeds, work};
use hedgerow_index::{Index, LOWEST_TIER, Late};
use hedgerow_vfs::{MemDisk, Vfs};
use std::cell::Cell;
use std::sync::Arc;

#[test]
fn any_budget_at_any_time_gives_the_same_answers() {
    for_seeds(0..4, |seed| {
        let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let index = create(&vfs, 1 << 20);
        let mut world = World::new(seed, Keys::Spread(3000));
        for _ in 0..60 {
            let block = world.block(200, 20);
            index.apply(&block).unwrap();
            if world.rng.one_in(3) {
                let bytes = [0, 300 << 10, 1 << 20, 2 << 20, 16 << 20];
                index.set_memory(bytes[world.rng.below(5) as usize]);
            }
            work(&index, world.rng.below(4) as usize).unwrap();
            world.check(&index, 11);
        }
        world.check(&index, 1);
    });
}

/// What it says it takes is within what it was given, at all times, once that is more than what has no choice.
#[test]
fn what_is_taken_is_within_the_budget() {
    const BUDGET: usize = 2 << 20;
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, BUDGET);
    let mut world = World::new(9, Keys::Spread(120_000));
    let mut most = 0;
    for _ in 0..40 {
        let block = world.block(4000, 10);
        index.apply(&block).unwrap();
        while let Some(job) = index.work() {
            most = most.max(index.heap_bytes());
            let done = job.run().unwrap();
            most = most.max(index.heap_bytes());
            index.install(done);
        }
        let keys: Vec<_> = world.keys.keys().copied().take(500).collect();
        index.candidates(&keys, &mut vec![]).unwrap();
        most = most.max(index.heap_bytes());
    }
    world.check(&index, 50);
    let stats = index.stats();
    assert!(most <= BUDGET + BUDGET / 10, "{most} bytes: {stats:?}");
    assert!(
        stats.tiers.iter().any(|it| it.tier == LOWEST_TIER && it.records > 50_000),
        "{stats:?}"
    );
    // A smaller one: what is kept goes at once, and what is frozen as jobs run.
    index.set_memory(BUDGET / 2);
    work(&index, 100).unwrap();
    assert!(index.heap_bytes() <= BUDGET / 2 + BUDGET / 20, "{:?}", index.stats());
    world.check(&index, 50);
}

/// Who edits and does no jobs is told so.
#[test]
fn late_jobs_are_told() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, 0);
    let mut world = World::new(1, Keys::Spread(3000));
    assert!(!index.behind().is_late());
    while !index.behind().is_late() {
        index.apply(&world.block(100, 0)).unwrap();
    }
    assert!(index.stats().memory_records > 256);
    work(&index, 100).unwrap();
    assert!(!index.behind().is_late());
    world.check(&index, 10);
    // Spills alone: memory has room, and there come to be too many segments.
    while index.behind().late() != Some(Late::Merges) {
        index.apply(&world.block(100, 0)).unwrap();
        if let Some(job) = index.work()
            && job.is_spill()
        {
            index.install(job.run().unwrap());
        }
        assert_ne!(index.behind().late(), Some(Late::Memory));
    }
    work(&index, 100).unwrap();
    assert!(!index.behind().is_late());
    world.check(&index, 10);
}

/// With filters, a key that is there costs little more than one page, and one that is not much less. A key that was
/// replaced costs one more until its old record meets a merge: by how much depends on how long that is ago.
#[test]
fn a_key_costs_one_page() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    // Enough for filters, and next to nothing for pages: all reads are from files.
    let index = create(&vfs, 3 << 20);
    let mut world = World::new(2, Keys::Spread(100_000));
    let pages = |keys: &[_]| {
        index.drop_pages();
        let before = index.stats();
        for key in keys {
            index.candidates_of(key, &mut |_| {}).unwrap();
        }
        let after = index.stats();
        let asked = after.page_reads + after.cache_hits - before.page_reads - before.cache_hits;
        asked as f64 / keys.len() as f64
    };
    let (mut present, mut times) = (0.0, 0);
    for block in 0..75 {
        index.apply(&world.block(2000, 0)).unwrap();
        work(&index, 100).unwrap();
        if block >= 25 {
            let keys: Vec<_> = world.keys.keys().copied().step_by(20).collect();
            present += pages(&keys);
            times += 1;
        }
    }
    let present = present / f64::from(times);
    let mut rng = world.rng.clone();
    let keys: Vec<_> = (0..4000).map(|_| crate::world::key(rng.below(1 << 44), 1)).collect();
    let absent = pages(&keys);
    assert!(present <= 1.1, "{present} pages for a key, {:?}", index.stats());
    assert!(absent <= 0.1, "{absent} pages for no key, {:?}", index.stats());
}

/// What does not fit into memory waits for jobs in the midst of it, is undone or taken back as a whole wherever it is by then,
/// and its numbers are used anew.
#[test]
fn a_block_that_is_larger_than_memory_is_one_block() {
    for_seeds(70..74, |seed| {
        let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let index = create(&vfs, 0);
        let mut world = World::new(seed, Keys::Spread(4000));
        let most = Cell::new(0);
        // One job at a time, of whatever kind, until there is room.
        let wait = || {
            while index.behind().is_full() {
                assert_eq!(work(&index, 1).unwrap(), 1);
            }
        };
        let small_step = || {
            let behind = index.behind();
            most.set(most.get().max(behind.frozen_records + behind.mutable_records));
            wait();
        };
        for round in 0..8 {
            // What is undone goes over the budget: no error may come of it, and so nobody waits.
            wait();
            let before = world.clone();
            let block = world.block(6000, 10);
            let spills = index.stats().spills;
            index.apply_waiting(&block, &small_step).unwrap();
            assert!(index.stats().spills > spills + 5, "{:?}", index.stats());
            world.check(&index, 13);
            match round % 4 {
                // The next block comes with the same numbers.
                1 => {
                    index.take_back(&block).unwrap();
                    (world.keys, world.next_sn) = (before.keys, before.next_sn);
                    world.check(&index, 13);
                }
                // One that does not fit, at its end.
                2 => {
                    wait();
                    let before = world.clone();
                    let mut wrong = world.block(6000, 10);
                    let Some(old) = block.iter().find_map(|edit| edit.old) else { continue };
                    wrong.last_mut().unwrap().old = Some(old);
                    let spills = index.stats().spills;
                    assert!(index.apply_waiting(&wrong, &small_step).is_err());
                    assert!(index.stats().spills > spills + 5);
                    (world.keys, world.next_sn) = (before.keys, before.next_sn);
                    world.check(&index, 13);
                }
                _ => {}
            }
        }
        world.check(&index, 1);
        let behind = index.behind();
        // So many edits come between two looks at what is full.
        assert!(most.get() <= behind.memory_share + 2 * 32, "{} {behind:?}", most.get());
    });
}

/// While nobody spills, a block goes over the budget, and takes no more than its records.
#[test]
fn a_large_block_that_nobody_spills_makes_few_ages() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, 0);
    let mut world = World::new(75, Keys::Spread(100_000));
    let asked = Cell::new(0);
    let block = world.block(100_000, 0);
    index.apply_waiting(&block, &|| asked.set(asked.get() + 1)).unwrap();
    assert!(asked.get() > 0);
    let behind = index.behind();
    assert!(behind.is_full() && behind.late() == Some(Late::Memory), "{behind:?}");
    let memory = index.stats().memory;
    let records = behind.frozen_records + behind.mutable_records;
    // Three ages have their groups.
    assert!(memory.ages <= 3 * 100_000 + records * 20, "{memory:?} {behind:?}");
    work(&index, 100).unwrap();
    world.check(&index, 50);
}
