//! What survives on a disk that loses power, and how calls fail there.

#![expect(clippy::unwrap_used, reason = "a panic is the failure report")]

use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use hedgerow_vfs::{OpenMode, Vfs, VfsErrorKind, VfsFile, VfsOp, read_file, write_atomic};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

const SECTOR: usize = 512;
const SEEDS: u64 = 300;

fn root() -> &'static Path {
    Path::new("/")
}

/// A disk with the durable directory `/d`.
fn disk(seed: u64) -> PowerLossDisk {
    let disk = PowerLossDisk::new(seed);
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk.sync_dir(root()).unwrap();
    disk
}

/// A durable file of `len` bytes.
fn durable(disk: &PowerLossDisk, path: &str, byte: u8, len: usize) -> Arc<dyn VfsFile> {
    let file = disk.open(Path::new(path), OpenMode::CreateNew).unwrap();
    file.write_all_at(&vec![byte; len], 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    file
}

fn content(disk: &PowerLossDisk, path: &str) -> Vec<u8> {
    read_file(disk, Path::new(path), 1 << 30).unwrap()
}

#[test]
fn what_was_synced_survives_and_sectors_are_whole() {
    let (mut kept, mut mixed, mut between) = (0, 0, 0);
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable(&disk, "/d/file", 1, 8 * SECTOR);
        // Twice over the middle, from within one sector to within another.
        for byte in [2, 3] {
            file.write_all_at(&vec![byte; 4 * SECTOR], 700).unwrap();
        }
        assert_eq!(content(&disk, "/d/file")[700], 3, "visible at once");
        let after = content(&disk.power_cycle(seed), "/d/file");
        assert_eq!(after.len(), 8 * SECTOR);
        let whole = |byte: u8| {
            let mut bytes = vec![1; 8 * SECTOR];
            if byte > 1 {
                bytes[700..700 + 4 * SECTOR].fill(byte);
            }
            bytes
        };
        let versions = [whole(1), whole(2), whole(3)];
        let mut seen = BTreeSet::new();
        for (number, sector) in after.chunks(SECTOR).enumerate() {
            let range = number * SECTOR..(number + 1) * SECTOR;
            let version = versions.iter().rposition(|whole| whole[range.clone()] == *sector);
            let version = version.unwrap_or_else(|| panic!("sector {number} is torn"));
            if (1..6).contains(&number) {
                seen.insert(version);
            }
        }
        kept += usize::from(seen == BTreeSet::from([2]));
        mixed += usize::from(seen.len() > 1);
        between += usize::from(seen.contains(&1));
    }
    assert!(kept > 10 && mixed > 10 && between > 10, "{kept} {mixed} {between}");
}

#[test]
fn lengths_are_any_between() {
    let mut lens = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable(&disk, "/d/file", 1, 1000);
        file.write_all_at(&[2; 5000], 1000).unwrap();
        file.set_len(3000).unwrap();
        let after = content(&disk.power_cycle(seed), "/d/file");
        assert!((1000..=6000).contains(&after.len()), "{}", after.len());
        assert!(after[..1000].iter().all(|&byte| byte == 1));
        assert!(after[1000..].iter().all(|&byte| byte == 2 || byte == 0));
        lens.insert(after.len());
    }
    assert!(lens.contains(&1000) && lens.contains(&6000) && lens.contains(&3000));
    assert!(lens.len() > 20, "{lens:?}");
}

#[test]
fn names_survive_once_their_directory_is_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk(seed);
        durable(&disk, "/d/old", 1, 10);
        durable(&disk, "/d/gone", 2, 10);
        let new = disk.open(Path::new("/d/new"), OpenMode::CreateNew).unwrap();
        new.write_all_at(&[3; 10], 0).unwrap();
        new.sync().unwrap();
        disk.remove_file(Path::new("/d/gone")).unwrap();
        let after = disk.power_cycle(seed);
        assert_eq!(content(&after, "/d/old"), [1; 10]);
        let has = |name: &str| after.exists(Path::new(name)).unwrap();
        if has("/d/new") {
            assert_eq!(content(&after, "/d/new"), [3; 10], "its bytes were synced");
        }
        outcomes.insert((has("/d/new"), has("/d/gone")));

        let disk = self::disk(seed);
        disk.create_dir_all(Path::new("/d/sub")).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        assert!(disk.power_cycle(seed).exists(Path::new("/d/sub")).unwrap());
    }
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
}

#[test]
fn a_rename_happens_or_does_not() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk(seed);
        durable(&disk, "/d/file", 1, 10);
        durable(&disk, "/d/other", 2, 10);
        disk.rename(Path::new("/d/other"), Path::new("/d/file")).unwrap();
        let after = disk.power_cycle(seed);
        let file = content(&after, "/d/file");
        let other = after.exists(Path::new("/d/other")).unwrap();
        assert!((file == [1; 10] && other) || (file == [2; 10] && !other));
        outcomes.insert(other);
    }
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn a_second_name_survives_once_its_directory_is_synced() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable(&disk, "/d/file", 1, 10);
        disk.hard_link(Path::new("/d/file"), Path::new("/d/other")).unwrap();
        let after = disk.settled_copy(seed);
        after
            .open(Path::new("/d/other"), OpenMode::ReadWrite)
            .unwrap()
            .write_all_at(&[2], 0)
            .unwrap();
        assert_eq!(content(&after, "/d/file")[0], 2, "one file, also after a power cycle");
        file.write_all_at(&[3], 0).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.hard_link(Path::new("/d/file"), Path::new("/d/third")).unwrap();
        disk.remove_file(Path::new("/d/file")).unwrap();
        let after = disk.power_cycle(seed);
        assert_eq!(content(&after, "/d/other")[0], 3);
        outcomes.insert(after.exists(Path::new("/d/third")).unwrap());
    }
    assert_eq!(outcomes.len(), 2);
}

#[test]
fn an_atomic_replacement_leaves_the_old_content_or_the_new() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let path = Path::new("/d/file");
        write_atomic(&disk, path, b"old").unwrap();
        let calls = disk.trace().changes;
        disk.plan(Fault::once(Calls::Changes, seed % (calls + 2), FaultKind::PowerOff));
        let replaced = write_atomic(&disk, path, b"new");
        let after = content(&disk.power_cycle(seed), "/d/file");
        assert!(after == b"new" || (after == b"old" && replaced.is_err()), "{after:?}");
        outcomes.insert((after, replaced.is_ok()));
    }
    assert_eq!(outcomes.len(), 3, "{outcomes:?}");
}

#[test]
fn a_failed_sync_is_forgotten_by_the_system() {
    let (mut lost, mut saved) = (0, 0);
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let file = durable(&disk, "/d/file", 1, 4 * SECTOR);
        file.write_all_at(&[2; 4 * SECTOR], 0).unwrap();
        disk.plan(Fault::once(Calls::Of(VfsOp::Sync, String::new()), 0, FaultKind::Eio));
        assert_eq!(file.sync().unwrap_err().kind(), VfsErrorKind::Other);
        // It stays visible, and later syncs succeed without saving it; writing it again does.
        assert_eq!(content(&disk, "/d/file"), [2; 4 * SECTOR]);
        file.write_all_at(&[3; SECTOR], 0).unwrap();
        file.sync().unwrap();
        let after = content(&disk.power_cycle(seed), "/d/file");
        assert_eq!(after[..SECTOR], [3; SECTOR]);
        for sector in after[SECTOR..].chunks(SECTOR) {
            assert!(sector == [1; SECTOR] || sector == [2; SECTOR]);
            *if sector == [1; SECTOR] { &mut lost } else { &mut saved } += 1;
        }
    }
    assert!(lost > 100 && saved > 100, "{lost} {saved}");
}

#[test]
fn calls_fail_as_planned() {
    let disk = disk(5);
    let file = durable(&disk, "/d/file", 1, 100);
    let writes = || Calls::Of(VfsOp::Write, "file".into());
    disk.plan(Fault::once(writes(), 1, FaultKind::Full));
    file.write_all_at(&[2; 50], 0).unwrap();
    let error = file.write_all_at(&[3; 50], 0).unwrap_err();
    assert_eq!((error.op(), error.kind()), (VfsOp::Write, VfsErrorKind::Full));
    file.write_all_at(&[4; 50], 0).unwrap();

    disk.plan(Fault::from_then_on(Calls::Point("here".into()), 1, FaultKind::PowerOff));
    disk.at_point("here").unwrap();
    disk.at_point("there").unwrap();
    disk.at_point("here").unwrap_err();
    assert!(disk.is_off());
    assert!(file.len().is_err() && disk.read_dir(root()).is_err());
    let trace = disk.trace();
    assert_eq!((trace.points["here"], trace.last_point()), (2, Some("here")));
    assert_eq!(trace.failed.len(), 2, "what fails after the power went is not listed");
    assert_eq!(trace.failed[0].point, None);

    let again = disk.power_cycle(1);
    assert!(!again.is_off());
    assert!(again.lock_dir(Path::new("/d")).is_ok());
}

#[test]
fn early_stops_of_calls_are_nobodys_affair() {
    let disk = disk(6);
    disk.short_calls(200);
    let file = durable(&disk, "/d/file", 0, 0);
    let bytes: Vec<u8> = (0..20_000u32).map(|i| (i / 7) as u8).collect();
    file.write_all_at(&bytes, 3).unwrap();
    let mut read = vec![0; bytes.len()];
    file.read_exact_at(&mut read, 3).unwrap();
    assert_eq!(read, bytes);
    assert_eq!(disk.trace().calls, 8, "one call each, however often it stops early");
}

#[test]
fn calls_are_held_back() {
    let disk = disk(7);
    let file = durable(&disk, "/d/file", 1, 100);
    let held = disk.hold(Calls::Of(VfsOp::Sync, String::new()));
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| file.sync());
        assert!(held.reached());
        file.write_all_at(&[2; 100], 0).unwrap();
        assert!(!sync.is_finished());
        drop(held);
        sync.join().unwrap().unwrap();
    });
}

#[test]
fn claims_of_durability_are_checked() {
    let disk = disk(8);
    disk.claim("here", "/d");
    let file = durable(&disk, "/d/file", 1, 100);
    disk.at_point("here").unwrap();
    assert!(disk.trace().broken.is_empty());
    let steps: [&dyn Fn(); 4] = [
        &|| file.write_all_at(b"x", 50).unwrap(),
        &|| file.set_len(20).unwrap(),
        &|| drop(disk.open(Path::new("/d/new"), OpenMode::CreateNew).unwrap()),
        &|| disk.rename(Path::new("/d/new"), Path::new("/d/newer")).unwrap(),
    ];
    for (number, step) in steps.iter().enumerate() {
        step();
        disk.at_point("there").unwrap();
        disk.at_point("here").unwrap();
        assert_eq!(disk.trace().broken.len(), number + 1);
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.at_point("here").unwrap();
        assert_eq!(disk.trace().broken.len(), number + 1);
    }
    disk.remove_file(Path::new("/d/newer")).unwrap();
    disk.at_point("here").unwrap();
    assert_eq!(disk.trace().broken.len(), steps.len());
}

/// The same calls and the same seed: the same accidents.
#[test]
fn everything_follows_from_the_seed() {
    let run = |seed| {
        let disk = disk(seed);
        let file = durable(&disk, "/d/file", 1, 50 * SECTOR);
        file.write_all_at(&[2; 40 * SECTOR], 5).unwrap();
        disk.open(Path::new("/d/other"), OpenMode::CreateNew).unwrap();
        let after = disk.power_cycle(9);
        (disk.trace().digest, content(&after, "/d/file"), after.read_dir(Path::new("/d")).unwrap())
    };
    let distinct: BTreeSet<_> = (0..20).map(run).collect();
    assert!(distinct.len() > 5);
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
}
