//! Files that do not hold what was written to them: an error, or no difference. Never another answer.

use crate::world::{Keys, Saved, World, create, options, work};
use hedgerow_index::{GROUPS, Index, IndexError, Stem};
use hedgerow_types::{KeyHash, LogPosition};
use hedgerow_vfs::power_loss::PowerLossDisk;
use hedgerow_vfs::{OpenMode, Vfs};
use std::path::PathBuf;
use std::sync::Arc;

/// A store's worth of segments, in several tiers, as a snapshot names them.
fn segments() -> (PowerLossDisk, Saved, World) {
    let disk = PowerLossDisk::new(1);
    let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
    let index = create(&vfs, 0);
    let mut world = World::new(6, Keys::Spread(2500));
    for number in 0.. {
        index.apply(&world.block(150, 10)).unwrap();
        work(&index, 20).unwrap();
        let segments: u64 = index.stats().tiers.iter().map(|it| it.segments).sum();
        if number > 40 && segments > 3 {
            break;
        }
    }
    let saved = Saved::new(&index, &world);
    assert!(saved.snapshot.segments.len() > 2, "{:?}", saved.snapshot);
    (disk, saved, world)
}

fn path(number: u64) -> PathBuf {
    options(0).folder.join(format!("03-{number:08}.idx"))
}

/// Opens and asks everything. The number of questions that got an error; any other answer than the right one panics.
fn errors(vfs: &Arc<dyn Vfs>, saved: &Saved, world: &World, file: &PathBuf) -> usize {
    let expect = |error: IndexError| match error {
        IndexError::Damaged { file: told, .. } => assert_eq!(&told, file),
        other => panic!("{other}"),
    };
    let index = match saved.open(vfs, 0) {
        Ok(index) => index,
        Err(error) => {
            expect(error);
            return usize::MAX;
        }
    };
    let mut count = 0;
    for (key, place) in world.keys.iter().step_by(3) {
        let mut found: Vec<LogPosition> = vec![];
        match index.candidates_of(key, &mut |at| found.push(at)) {
            Ok(()) => assert!(found.contains(&place.at)),
            Err(error) => {
                expect(error);
                count += 1;
            }
        }
        let mut below = vec![];
        match index.at_or_below(&[Stem::of(key)], &mut below) {
            Ok(()) => assert!(below.contains(&(0, Stem::of(key), place.at))),
            Err(error) => {
                expect(error);
                count += 1;
            }
        }
    }
    for group in (0..GROUPS).step_by(97) {
        let mut found = vec![];
        let last = KeyHash::MAX;
        let bounds = (Stem::first_of(group), Stem::last_of(group));
        let within = |key: &KeyHash| (bounds.0..=bounds.1).contains(&Stem::of(key));
        match index.group(group, &mut found) {
            Ok(()) => {
                let keys = world.keys.range(..=last).filter(|(key, _)| within(key));
                assert_eq!(found.len(), keys.count());
            }
            Err(error) => {
                expect(error);
                count += 1;
            }
        }
    }
    count
}

#[test]
fn every_page_of_every_file_flipped() {
    let (disk, saved, world) = segments();
    let whole: Arc<dyn Vfs> = Arc::new(disk.settled_copy(1));
    assert_eq!(errors(&whole, &saved, &world, &PathBuf::new()), 0);
    let mut met = 0;
    for entry in &saved.snapshot.segments {
        let path = path(entry.number);
        // A byte of each page, and of each 512 of what follows the pages; another one each time.
        for (turn, start) in (0..entry.len).step_by(512).enumerate() {
            let turn = turn as u64;
            if turn % 8 != (turn / 8) % 8 && start + 4096 < entry.len {
                continue;
            }
            let offset = (start + turn * 37 % 512).min(entry.len - 1);
            let copy = disk.settled_copy(2);
            copy.flip(&path, offset, 1 << (turn % 8)).unwrap();
            let vfs: Arc<dyn Vfs> = Arc::new(copy);
            met += usize::from(errors(&vfs, &saved, &world, &path) > 0);
        }
    }
    assert!(met > 20, "{met}");
}

#[test]
fn every_byte_of_a_head_flipped() {
    let (disk, saved, world) = segments();
    let entry = &saved.snapshot.segments[0];
    for offset in (0..100).chain([200, 4000, 4091, 4092, 4095]) {
        let copy = disk.settled_copy(2);
        copy.flip(&path(entry.number), offset, 0x40).unwrap();
        let vfs: Arc<dyn Vfs> = Arc::new(copy);
        assert_eq!(errors(&vfs, &saved, &world, &path(entry.number)), usize::MAX, "{offset}");
    }
}

#[test]
fn cut_missing_and_exchanged_files() {
    let (disk, saved, world) = segments();
    let list = &saved.snapshot.segments;
    let (a, b) = (path(list[0].number), path(list[1].number));
    for len in [0, 1, 4095, 4096, list[0].len - 1, list[0].len + 1] {
        let vfs: Arc<dyn Vfs> = Arc::new(disk.settled_copy(2));
        vfs.open(&a, OpenMode::ReadWrite).unwrap().set_len(len).unwrap();
        assert_eq!(errors(&vfs, &saved, &world, &a), usize::MAX, "{len}");
    }
    let vfs: Arc<dyn Vfs> = Arc::new(disk.settled_copy(2));
    vfs.remove_file(&a).unwrap();
    assert_eq!(errors(&vfs, &saved, &world, &a), usize::MAX);
    let vfs: Arc<dyn Vfs> = Arc::new(disk.settled_copy(2));
    vfs.rename(&b, &a).unwrap();
    assert!(saved.open(&vfs, 0).is_err());
    // A page of another place, and one of another file, each with a checksum that was right where it was.
    for (from, page) in [(&a, 2_u64), (&b, 1)] {
        let vfs: Arc<dyn Vfs> = Arc::new(disk.settled_copy(2));
        let mut bytes = vec![0; 4096];
        let source = vfs.open(from, OpenMode::Read).unwrap();
        source.read_exact_at(&mut bytes, 4096 * page).unwrap();
        let file = vfs.open(&a, OpenMode::ReadWrite).unwrap();
        file.write_all_at(&bytes, 4096).unwrap();
        assert!(errors(&vfs, &saved, &world, &a) > 0);
    }
}

/// A merge of a damaged file fails, however often it is tried, and leaves its inputs.
#[test]
fn a_merge_of_what_is_damaged_fails() {
    let (disk, saved, world) = segments();
    let entry = &saved.snapshot.segments[0];
    for page in 1..3 {
        let copy = disk.settled_copy(2);
        copy.flip(&path(entry.number), 4096 * page + 100, 4).unwrap();
        let vfs: Arc<dyn Vfs> = Arc::new(copy);
        let index = saved.open(&vfs, 0).unwrap();
        let mut world = world.clone();
        let mut failed = 0;
        for _ in 0..40 {
            index.apply(&world.block(150, 10)).unwrap();
            while let Some(job) = index.work() {
                match job.run() {
                    Ok(done) => index.install(done),
                    Err(error) => {
                        assert!(matches!(error, IndexError::Damaged { .. }), "{error}");
                        failed += 1;
                        break;
                    }
                }
            }
        }
        assert!(failed > 0);
        assert!(index.snapshot().segments.contains(entry));
    }
}
