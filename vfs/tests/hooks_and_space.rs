//! What only one kind of disk does: hooks that fail or hold back, a full disk in memory.

use hedgerow_vfs::{
    Hook, HookedDisk, MemDisk, OpenMode, Vfs, VfsErrorKind, VfsOp, read_file, write_atomic,
};
use parking_lot::Mutex;
use std::{
    io,
    path::Path,
    sync::{Arc, mpsc},
    thread,
};

/// A disk over `inner` whose operations of kind `op` fail while `on`.
fn failing(inner: &MemDisk, op: VfsOp, on: &Arc<Mutex<bool>>) -> HookedDisk {
    let on = Arc::clone(on);
    let hook: Hook = Arc::new(move |call| {
        if call.op == op && *on.lock() {
            return Err(call.error(io::Error::other("injected")));
        }
        Ok(())
    });
    HookedDisk::new(Arc::new(inner.clone()), hook)
}

#[test]
fn a_failed_step_of_an_atomic_write_keeps_the_old_content() {
    let path = Path::new("/file");
    for op in [VfsOp::RemoveFile, VfsOp::Create, VfsOp::Write, VfsOp::Sync, VfsOp::Rename] {
        let mem = MemDisk::new();
        write_atomic(&mem, path, b"old").unwrap();
        let on = Arc::new(Mutex::new(true));
        let disk = failing(&mem, op, &on);
        let error = write_atomic(&disk, path, b"new").unwrap_err();
        assert_eq!((error.op(), error.kind()), (op, VfsErrorKind::Other));
        assert!(error.to_string().ends_with("injected"), "{error}");
        assert_eq!(read_file(&mem, path, 10).unwrap(), b"old");
        assert_eq!(mem.read_dir(Path::new("/")).unwrap(), ["file"], "after a failed {op:?}");
        *on.lock() = false;
        write_atomic(&disk, path, b"new").unwrap();
        assert_eq!(read_file(&mem, path, 10).unwrap(), b"new");
    }
    // The content is in place but not known to be durable.
    let mem = MemDisk::new();
    let disk = failing(&mem, VfsOp::SyncDir, &Arc::new(Mutex::new(true)));
    assert_eq!(write_atomic(&disk, path, b"new").unwrap_err().op(), VfsOp::SyncDir);
    assert_eq!(read_file(&mem, path, 10).unwrap(), b"new");
}

#[test]
fn a_hook_sees_every_operation_before_it_happens() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mem = MemDisk::new();
    let hook: Hook = {
        let (seen, mem) = (Arc::clone(&seen), mem.clone());
        Arc::new(move |call| {
            let before = read_file(&mem, Path::new("d/f"), 100).map_or(0, |bytes| bytes.len());
            seen.lock().push((call.op, call.path.to_owned(), call.offset, call.len, before));
            Ok(())
        })
    };
    let disk = HookedDisk::new(Arc::new(mem), hook);
    let (dir, path) = (Path::new("d"), Path::new("d/f"));
    disk.create_dir_all(dir).unwrap();
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(&[1; 20], 4).unwrap();
    file.read_exact_at(&mut [0; 2], 7).unwrap();
    file.set_len(8).unwrap();
    file.sync().unwrap();
    disk.rename(path, Path::new("d/g")).unwrap();
    let expected = [
        (VfsOp::CreateDirAll, dir, None, None, 0),
        (VfsOp::Create, path, None, None, 0),
        (VfsOp::Write, path, Some(4), Some(20), 0),
        (VfsOp::Read, path, Some(7), Some(2), 24),
        (VfsOp::SetLen, path, None, Some(8), 24),
        (VfsOp::Sync, path, None, None, 8),
        (VfsOp::Rename, path, None, None, 8),
    ];
    let expected = expected.map(|(op, path, offset, len, n)| (op, path.to_owned(), offset, len, n));
    assert_eq!(*seen.lock(), expected);
}

#[test]
fn an_operation_held_back_does_not_hold_up_others() {
    let (arrived, wait_arrived) = mpsc::channel();
    let (release, wait_release) = mpsc::channel::<()>();
    let wait_release = Mutex::new(wait_release);
    let hook: Hook = Arc::new(move |call| {
        if call.op == VfsOp::Sync {
            arrived.send(()).unwrap();
            wait_release.lock().recv().unwrap();
        }
        Ok(())
    });
    let disk = HookedDisk::new(Arc::new(MemDisk::new()), hook);
    let file = disk.open(Path::new("f"), OpenMode::CreateNew).unwrap();
    thread::scope(|scope| {
        let syncing = scope.spawn(|| file.sync());
        wait_arrived.recv().unwrap();
        file.write_all_at(b"meanwhile", 0).unwrap();
        assert_eq!(read_file(&disk, Path::new("f"), 9).unwrap(), b"meanwhile");
        assert!(!syncing.is_finished());
        release.send(()).unwrap();
        syncing.join().unwrap().unwrap();
    });
}

#[test]
fn a_full_disk_says_so_and_takes_writes_again_once_there_is_room() {
    let disk = MemDisk::with_capacity(3 * 4096);
    let (a, b) = (Path::new("a"), Path::new("b"));
    let file = disk.open(a, OpenMode::CreateNew).unwrap();
    file.write_all_at(&[1; 2 * 4096], 0).unwrap();
    let other = disk.open(b, OpenMode::CreateNew).unwrap();
    let error = other.write_all_at(&[2; 2 * 4096], 0).unwrap_err();
    assert_eq!((error.kind(), error.op()), (VfsErrorKind::Full, VfsOp::Write));
    assert_eq!(disk.used_bytes(), 3 * 4096);
    // What has its page already can still be overwritten.
    file.write_all_at(&[3; 2 * 4096], 0).unwrap();
    // A name is not what holds the room, a handle does too.
    disk.remove_file(a).unwrap();
    assert_eq!(disk.used_bytes(), 3 * 4096);
    drop(file);
    assert_eq!(disk.used_bytes(), 4096);
    other.write_all_at(&[2; 2 * 4096], 0).unwrap();
    other.set_len(1).unwrap();
    assert_eq!(disk.used_bytes(), 4096);
    disk.set_capacity(0);
    assert_eq!(other.write_all_at(&[1], 5000).unwrap_err().kind(), VfsErrorKind::Full);
    drop(other);
    disk.remove_file(b).unwrap();
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn a_clone_is_the_same_disk_and_holes_take_no_room() {
    let disk = MemDisk::new();
    let clone = disk.clone();
    let file = disk.open(Path::new("f"), OpenMode::CreateNew).unwrap();
    file.set_len(1 << 50).unwrap();
    file.write_all_at(&[1], 1 << 49).unwrap();
    assert_eq!(clone.used_bytes(), 4096);
    let lock = disk.lock_dir(Path::new("/")).unwrap();
    assert_eq!(clone.lock_dir(Path::new("/")).unwrap_err().kind(), VfsErrorKind::InUse);
    drop(lock);
    let _held = clone.lock_dir(Path::new("/")).unwrap();
}

#[test]
fn a_file_too_long_to_hold_is_refused_before_it_allocates() {
    let disk = MemDisk::new();
    let file = disk.open(Path::new("f"), OpenMode::CreateNew).unwrap();
    file.set_len(i64::MAX as u64).unwrap();
    let error = read_file(&disk, Path::new("f"), u64::MAX).unwrap_err();
    assert!(error.to_string().contains("no memory"), "{error}");
}
