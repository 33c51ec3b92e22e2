//! Who may have a directory of the real disk, by whatever name it is asked for.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use hedgerow_vfs::{DirLock, LOCK_FILE, OpenMode, RealDisk, Sharing, Vfs, VfsError, VfsErrorKind};
use std::fs;
use std::os::unix::fs::symlink;

#[track_caller]
fn in_use(result: Result<DirLock, VfsError>) {
    assert_eq!(result.map(drop).unwrap_err().kind(), VfsErrorKind::InUse);
}

#[test]
fn a_lock_is_the_directorys_and_not_a_names() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, link) = (temp.path().join("dir"), temp.path().join("link"));
    fs::create_dir(&dir).unwrap();
    symlink(&dir, &link).unwrap();
    let lock = RealDisk.lock_dir(&dir).unwrap();
    // The file that tells of the lock is gone; the lock is not.
    fs::remove_file(dir.join(LOCK_FILE)).unwrap();
    in_use(RealDisk.lock_dir(&dir));
    in_use(RealDisk.lock_dir(&link));
    for sharing in [Sharing::Exclusive, Sharing::Shared] {
        in_use(RealDisk.hold_dir(&dir, sharing));
        in_use(RealDisk.hold_dir(&link, sharing));
    }
    lock.check().unwrap();
    drop(lock);
    drop(RealDisk.lock_dir(&link).unwrap());
}

#[test]
fn held_directories_have_no_lock_file_and_readers_share_them() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let one = RealDisk.hold_dir(dir, Sharing::Shared).unwrap();
    let two = RealDisk.hold_dir(dir, Sharing::Shared).unwrap();
    in_use(RealDisk.hold_dir(dir, Sharing::Exclusive));
    in_use(RealDisk.lock_dir(dir));
    drop((one, two));
    let alone = RealDisk.hold_dir(dir, Sharing::Exclusive).unwrap();
    in_use(RealDisk.hold_dir(dir, Sharing::Shared));
    assert_eq!(fs::read_dir(dir).unwrap().count(), 0);
    drop(alone);
}

#[test]
fn a_path_that_leads_elsewhere_is_noticed() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, away) = (temp.path().join("dir"), temp.path().join("away"));
    fs::create_dir(&dir).unwrap();
    let lock = RealDisk.lock_dir(&dir).unwrap();
    let held = temp.path().join("held");
    fs::create_dir(&held).unwrap();
    let part = RealDisk.hold_dir(&held, Sharing::Exclusive).unwrap();
    lock.check().unwrap();
    part.check().unwrap();
    fs::rename(&dir, &away).unwrap();
    assert_eq!(lock.check().unwrap_err().kind(), VfsErrorKind::NotFound);
    fs::create_dir(&dir).unwrap();
    let error = lock.check().unwrap_err();
    assert!(error.to_string().contains("no longer leads"), "{error}");
    // Who comes by the path gets another directory; the one that is locked stays so.
    drop(RealDisk.lock_dir(&dir).unwrap());
    in_use(RealDisk.lock_dir(&away));
    fs::remove_dir(&held).unwrap();
    symlink(&dir, &held).unwrap();
    assert!(part.check().is_err());
}

/// A forked process has a copy of the lock. Whatever it does with it, the lock stays its parent's.
#[test]
#[expect(unsafe_code, reason = "forking")]
fn a_forked_process_does_not_release_the_lock() {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};
    let temp = tempfile::tempdir().unwrap();
    let lock = RealDisk.lock_dir(temp.path()).unwrap();
    let held = temp.path().join("held");
    fs::create_dir(&held).unwrap();
    let part = RealDisk.hold_dir(&held, Sharing::Exclusive).unwrap();
    // SAFETY: the child only closes files and ends.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop((lock, part));
            // SAFETY: ends the process without running what belongs to the parent.
            unsafe { nix::libc::_exit(7) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 7));
        }
    }
    in_use(RealDisk.lock_dir(temp.path()));
    in_use(RealDisk.hold_dir(&held, Sharing::Exclusive));
    drop((lock, part));
    drop(RealDisk.lock_dir(temp.path()).unwrap());
}

/// Whatever has the name of a file, opening it does not wait.
#[test]
fn a_pipe_is_no_file() {
    let temp = tempfile::tempdir().unwrap();
    let pipe = temp.path().join(LOCK_FILE);
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: no mkfifo here");
    }
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        let error = RealDisk.open(&pipe, mode).unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
    RealDisk.lock_dir(temp.path()).unwrap_err();
}
