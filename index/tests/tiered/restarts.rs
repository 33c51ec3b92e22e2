//! A snapshot, and an index opened from it.

use crate::world::{Keys, Saved, World, create, files, for_seeds, work};
use hedgerow_index::Index;
use hedgerow_vfs::{MemDisk, Vfs};
use std::sync::Arc;

#[test]
fn opened_it_answers_as_it_did_and_goes_on() {
    for_seeds(0..4, |seed| {
        let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
        let mut index = create(&vfs, 0);
        let keys = if seed % 2 == 0 { Keys::Spread(1500) } else { Keys::Ties };
        let mut world = World::new(seed, keys);
        for _ in 0..12 {
            for _ in 0..world.rng.below(8) {
                index.apply(&world.block(150, 30)).unwrap();
                work(&index, world.rng.below(3) as usize).unwrap();
            }
            let saved = Saved::new(&index, &world);
            let then = world.clone();
            // It goes on; what it writes now is in no list.
            for _ in 0..world.rng.below(4) {
                index.apply(&world.block(150, 30)).unwrap();
                work(&index, 3).unwrap();
            }
            world.check(&index, 5);
            index = saved.open(&vfs, 0).unwrap();
            let rng = world.rng.clone();
            world = then;
            world.rng = rng;
            world.check(&index, 1);
            index.remove_strays().unwrap();
            let listed: Vec<_> = index.snapshot().segments;
            assert_eq!(files(&vfs).len(), listed.len(), "{:?}", files(&vfs));
            world.check(&index, 3);
        }
    });
}

/// Records of a snapshot are those of its moment, however much is edited while they are taken.
#[test]
fn a_snapshot_stays_what_it_was() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, 0);
    let mut world = World::new(4, Keys::Spread(1000));
    for _ in 0..10 {
        index.apply(&world.block(100, 30)).unwrap();
        work(&index, 1).unwrap();
    }
    let snapshot = index.snapshot();
    let (then, bits) = (world.clone(), world.bits());
    let first: Vec<_> = snapshot.records().collect();
    for _ in 0..20 {
        index.apply(&world.block(100, 30)).unwrap();
        work(&index, 10).unwrap();
    }
    let again: Vec<_> = snapshot.records().collect();
    assert_eq!(first, again);
    assert!(first.is_sorted_by(|a, b| a < b));
    let opened = Saved { snapshot, records: again, bits }.open(&vfs, 0).unwrap();
    then.check(&opened, 1);
    world.check(&index, 1);
}

/// Files go when no snapshot names them, and not before.
#[test]
fn files_stay_as_long_as_a_snapshot_names_them() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = create(&vfs, 0);
    let mut world = World::new(5, Keys::Spread(2000));
    let grow = |world: &mut World| {
        for _ in 0..30 {
            index.apply(&world.block(150, 10)).unwrap();
            work(&index, 10).unwrap();
        }
    };
    grow(&mut world);
    // No snapshot yet: nothing is kept for one.
    assert_eq!(files(&vfs).len(), index.snapshot().segments.len());
    let saved = Saved::new(&index, &world);
    let then = world.clone();
    grow(&mut world);
    let next = Saved::new(&index, &world);
    for entry in &saved.snapshot.segments {
        assert!(files(&vfs).iter().any(|name| name.contains(&format!("{:08}", entry.number))));
    }
    then.check(&saved.open(&vfs, 0).unwrap(), 3);
    assert!(!next.snapshot.retired.is_empty());
    index.unlink(&next.snapshot.retired).unwrap();
    assert_eq!(files(&vfs).len(), next.snapshot.segments.len());
    index.unlink(&next.snapshot.retired).unwrap(); // again: nothing
    assert!(index.snapshot().retired.is_empty());
    world.check(&index, 3);
    world.check(&next.open(&vfs, 0).unwrap(), 3);
    assert!(saved.open(&vfs, 0).is_err(), "its files are gone: an error, not an empty index");
}

/// Shards have their files in one folder and leave each other's alone.
#[test]
fn shards_share_a_folder() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let open = |shard: usize| {
        let shard = hedgerow_types::ShardId::new(shard).unwrap();
        let options = hedgerow_index::TieredOptions { shard, ..crate::world::options(0) };
        hedgerow_index::TieredIndex::create(Arc::clone(&vfs), options).unwrap()
    };
    let (one, other) = (open(1), open(12));
    let mut worlds = [World::new(1, Keys::Spread(900)), World::new(2, Keys::Spread(900))];
    for _ in 0..20 {
        for (index, world) in [&one, &other].into_iter().zip(&mut worlds) {
            index.apply(&world.block(100, 10)).unwrap();
            work(index, 10).unwrap();
            index.remove_strays().unwrap();
        }
    }
    worlds[0].check(&one, 3);
    worlds[1].check(&other, 3);
}
