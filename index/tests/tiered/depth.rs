//! Pages that are read many at once, in every way that a disk has.

use crate::world::{Keys, World, options, work};
use hedgerow_index::{Index, TieredIndex, TieredOptions};
use hedgerow_vfs::{MemDisk, OneWayDisk, ReadWay, Vfs};
use std::sync::Arc;

/// Large batches over files of several tiers, little of them kept: the answers are the same, whatever was under way
/// together.
#[test]
fn every_way_of_reading_gives_the_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    for way in [ReadWay::OneByOne, ReadWay::Threads, ReadWay::Ahead, ReadWay::Ring] {
        let disk: Arc<dyn Vfs> = Arc::new(OneWayDisk::new(way));
        let folder = dir.path().join(way.name());
        let options = TieredOptions { folder, ..options(400 << 10) };
        let index = TieredIndex::create(disk, options).unwrap();
        let mut world = World::new(3, Keys::Spread(60_000));
        for _ in 0..12 {
            index.apply(&world.block(8000, 10)).unwrap();
            work(&index, 100).unwrap();
        }
        let before = index.stats();
        world.check(&index, 3);
        // Every second page or so: each is a read of its own.
        let some: Vec<_> = world.keys.keys().copied().step_by(500).collect();
        index.candidates(&some, &mut vec![]).unwrap();
        let stats = index.stats();
        assert!(stats.page_reads - before.page_reads > 300, "{way}: {stats:?}");
        match way {
            ReadWay::OneByOne => assert_eq!(stats.read_depth, 1),
            ReadWay::Threads | ReadWay::Ahead => assert!(stats.read_depth > 1, "{way}: {stats:?}"),
            // It counts those that were not answered at once, and the system has all of them in memory.
            ReadWay::Ring => assert!(stats.read_depth > 0),
        }
    }
}

/// A disk that knows no better reads one after the other.
#[test]
fn a_plain_disk_reads_one_by_one() {
    let disk: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let index = TieredIndex::create(disk, options(0)).unwrap();
    let mut world = World::new(4, Keys::Spread(20_000));
    for _ in 0..5 {
        index.apply(&world.block(5000, 10)).unwrap();
        work(&index, 100).unwrap();
    }
    world.check(&index, 5);
    assert_eq!(index.stats().read_depth, 1);
}
