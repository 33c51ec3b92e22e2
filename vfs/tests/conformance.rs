//! The behaviour suite on every disk, decorated ones included.

use hedgerow_vfs::power_loss::PowerLossDisk;
use hedgerow_vfs::{Hook, HookedDisk, MemDisk, RealDisk, Vfs, conformance};
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
