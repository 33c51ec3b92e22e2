//! The behaviour suite on every disk, decorated ones included.

use hedgerow_vfs::power_loss::PowerLossDisk;
use hedgerow_vfs::{
    Hook, HookedDisk, MemDisk, OpenMode, ReadOnlyDisk, RealDisk, Vfs, VfsErrorKind, conformance,
};
use std::{path::Path, sync::Arc};

fn hooked(inner: impl Vfs) -> HookedDisk {
    let hook: Hook = Arc::new(|_| Ok(()));
    HookedDisk::new(Arc::new(inner), hook)
}

#[test]
fn real_disk() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(&RealDisk, dir.path());
}

#[test]
fn mem_disk() {
    conformance::run(&MemDisk::new(), Path::new("/"));
    conformance::run(&MemDisk::new(), Path::new(""));
}

#[test]
fn power_loss_disk() {
    for of_256 in [0, 128] {
        let disk = PowerLossDisk::new(1);
        disk.short_calls(of_256);
        conformance::run(&disk, Path::new("/"));
        conformance::run(&PowerLossDisk::new(2), Path::new(""));
    }
}

/// All but locks, which are shared on a disk that is only read.
#[test]
fn read_only_disk() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, lower) = (temp.path().join("dir"), Arc::new(MemDisk::new()));
    std::fs::create_dir(&dir).unwrap();
    conformance::run_unlocked(&ReadOnlyDisk::new(Arc::new(RealDisk)), &dir);
    conformance::run_unlocked(&ReadOnlyDisk::new(lower.clone()), Path::new("/"));
    // Nothing of it came through.
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    assert!(lower.read_dir(Path::new("/")).unwrap().is_empty());
}

#[test]
fn hooked_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    conformance::run(&hooked(RealDisk), dir.path());
}

#[test]
fn hooked_mem_disk() {
    conformance::run(&hooked(MemDisk::new()), Path::new("/"));
}

#[test]
fn real_paths_exist_only_on_a_real_disk() {
    let path = Path::new("/x/y");
    assert_eq!(RealDisk.real_path(path).as_deref(), Some(path));
    assert_eq!(hooked(RealDisk).real_path(path).as_deref(), Some(path));
    assert_eq!(MemDisk::new().real_path(path), None);
}

#[test]
fn absolute_paths_are_those_of_the_process_on_a_real_disk_only() {
    let path = Path::new("x/y");
    let here = std::env::current_dir().unwrap();
    assert_eq!(RealDisk.absolute(path).unwrap(), here.join(path));
    assert_eq!(hooked(RealDisk).absolute(path).unwrap(), here.join(path));
    assert_eq!(MemDisk::new().absolute(path).unwrap(), path);
    assert_eq!(PowerLossDisk::new(1).absolute(path).unwrap(), path);
}

#[test]
fn files_are_told_apart_whatever_their_names() {
    let temp = tempfile::tempdir().unwrap();
    let disks: [(Arc<dyn Vfs>, &Path); 3] = [
        (Arc::new(RealDisk), temp.path()),
        (Arc::new(MemDisk::new()), Path::new("/")),
        (Arc::new(hooked(MemDisk::new())), Path::new("/")),
    ];
    for (disk, dir) in disks {
        if cfg!(not(unix)) && disk.real_path(dir).is_some() {
            continue; // The system cannot tell, and says so.
        }
        let (one, two) = (dir.join("one"), dir.join("two"));
        assert_eq!(disk.file_id(&one).unwrap_err().kind(), VfsErrorKind::NotFound);
        let file = disk.open(&one, OpenMode::CreateNew).unwrap();
        let other = disk.open(&two, OpenMode::CreateNew).unwrap();
        let id = file.id().unwrap();
        assert!(id.is_some());
        assert_ne!(other.id().unwrap(), id);
        assert_eq!(disk.file_id(&one).unwrap(), id);
        assert_eq!(disk.open(&one, OpenMode::Read).unwrap().id().unwrap(), id);
        disk.rename(&two, &one).unwrap();
        assert_eq!(disk.file_id(&one).unwrap(), other.id().unwrap());
        assert_eq!(file.id().unwrap(), id);
    }
}

/// A process that is being started has a copy of every open file, the lock's too.
#[cfg(unix)]
#[test]
fn a_lock_is_free_when_dropped_while_processes_are_started() {
    let dir = tempfile::tempdir().unwrap();
    let started = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..300 {
                std::process::Command::new("true").status().unwrap();
                started.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        });
        while started.load(std::sync::atomic::Ordering::Relaxed) < 300 {
            drop(RealDisk.lock_dir(dir.path()).unwrap());
        }
    });
}
