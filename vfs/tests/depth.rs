//! Many reads at once on the real disk: every way of making them, errors of the system among them, and how
//! they are counted. The suite that they all pass is `conformance`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]

use hedgerow_vfs::{
    Hook, HookedDisk, HowRead, ManyReads, MemDisk, OneWayDisk, OpenMode, ReadAt, ReadOnlyDisk,
    ReadWay, RealDisk, StillDisk, Vfs, VfsError, VfsErrorKind, VfsFile, conformance,
};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const WAYS: [ReadWay; 4] = [ReadWay::OneByOne, ReadWay::Threads, ReadWay::Ahead, ReadWay::Ring];

/// Whether there are rings here; says so if not.
fn rings() -> bool {
    match RealDisk.many_reads() {
        ManyReads { way: ReadWay::Ring, .. } => true,
        other => {
            println!("!!! NOT RUN: rings: {:?}", other.why);
            false
        }
    }
}

/// 40 reads of 16 bytes each, and how they went.
fn read(vfs: &dyn Vfs, file: &dyn VfsFile) -> (HowRead, Vec<Result<[u8; 16], VfsError>>) {
    let mut bufs = [[0; 16]; 40];
    let reads = bufs.iter_mut().enumerate();
    let mut reads: Vec<_> = reads.map(|(i, buf)| ReadAt::new(file, i as u64 * 100, buf)).collect();
    let how = vfs.read_batch(&mut reads);
    let results: Vec<_> = reads.into_iter().map(ReadAt::into_result).collect();
    (how, results.into_iter().zip(bufs).map(|(result, buf)| result.map(|()| buf)).collect())
}

fn file(vfs: &dyn Vfs, path: &Path) -> Arc<dyn VfsFile> {
    let file = vfs.open(path, OpenMode::CreateNew).unwrap();
    let bytes: Vec<u8> = (0..4000u32).map(|i| (i / 100) as u8).collect();
    file.write_all_at(&bytes, 0).unwrap();
    file
}

#[test]
fn every_way_passes_the_suite() {
    for way in WAYS {
        let dir = tempfile::tempdir().unwrap();
        conformance::run(&OneWayDisk::new(way), dir.path());
    }
    let dir = tempfile::tempdir().unwrap();
    conformance::run(&OneWayDisk::without_ring("as if it were forbidden"), dir.path());
}

#[test]
fn a_read_is_counted_by_the_way_that_it_took() {
    let temp = tempfile::tempdir().unwrap();
    let file = file(&RealDisk, &temp.path().join("file"));
    for way in WAYS {
        let disk = OneWayDisk::new(way);
        assert_eq!(disk.many_reads().way, way);
        let (how, results) = read(&disk, &*file);
        for (i, result) in results.into_iter().enumerate() {
            assert_eq!(result.unwrap(), [i as u8; 16]);
        }
        let HowRead { one_by_one, by_threads, ahead, by_ring, depth } = how;
        let (all, expected) = match way {
            ReadWay::OneByOne => (one_by_one, depth == 1),
            ReadWay::Threads => (by_threads, (1..=8).contains(&depth)),
            ReadWay::Ahead if cfg!(any(target_os = "linux", target_os = "freebsd")) => {
                (ahead, depth == 40)
            }
            ReadWay::Ahead => (one_by_one, depth == 1),
            ReadWay::Ring if rings() => (by_ring, (1..=40).contains(&depth)),
            ReadWay::Ring => continue,
        };
        assert!(all == 40 && how.reads() == 40 && expected, "{way}: {how:?}");
    }
}

/// An error of the system itself: nobody can read what no memory is at.
#[cfg(target_os = "linux")]
#[test]
fn an_error_in_the_middle_of_a_batch_is_that_read_s_own() {
    let temp = tempfile::tempdir().unwrap();
    let good = file(&RealDisk, &temp.path().join("file"));
    let bad = RealDisk.open(Path::new("/proc/self/mem"), OpenMode::Read).unwrap();
    let alone = bad.read_exact_at(&mut [0; 16], 0).unwrap_err();
    assert_eq!(alone.io_error().raw_os_error(), Some(5), "{alone}");
    for way in WAYS {
        let mut bufs = [[0; 16]; 40];
        let of = |i: usize| if i % 7 == 3 { &*bad } else { &*good };
        let reads = bufs.iter_mut().enumerate();
        let mut reads: Vec<_> =
            reads.map(|(i, buf)| ReadAt::new(of(i), i as u64 * 8, buf)).collect();
        let how = OneWayDisk::new(way).read_batch(&mut reads);
        assert_eq!(how.reads(), 40, "{way}: {how:?}");
        for (i, read) in reads.into_iter().enumerate() {
            match read.into_result() {
                Err(error) if i % 7 == 3 => {
                    let same = alone.to_string().replace("offset 0", &format!("offset {}", i * 8));
                    assert_eq!(error.to_string(), same, "{way}");
                }
                other => assert!(other.is_ok() && i % 7 != 3, "{way} {i}: {other:?}"),
            }
        }
    }
}

/// Whoever looks at every read sees every read, and fails the one that he means.
#[test]
fn a_hook_is_asked_for_every_read_of_a_batch() {
    let temp = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let hook: Hook = {
        let asked = Arc::clone(&asked);
        Arc::new(move |call| match call.offset {
            Some(1700) => Err(call.error(io::Error::from_raw_os_error(5))),
            Some(_) if call.op == hedgerow_vfs::VfsOp::Read => {
                asked.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            _ => Ok(()),
        })
    };
    let disk = HookedDisk::new(Arc::new(OneWayDisk::new(ReadWay::Ring)), hook);
    let file = file(&disk, &temp.path().join("file"));
    let (how, results) = read(&disk, &*file);
    assert_eq!((how.one_by_one, how.reads(), asked.load(Ordering::Relaxed)), (40, 40, 39));
    for (i, result) in results.into_iter().enumerate() {
        assert_eq!(result.is_err(), i == 17, "{i}: {result:?}");
    }
    assert_eq!(disk.many_reads().way, ReadWay::OneByOne);
}

/// A file of another disk, and one behind a hook, are read as their disk reads them.
#[test]
fn files_that_are_not_the_disk_s_own_are_read_too() {
    let temp = tempfile::tempdir().unwrap();
    let mem = MemDisk::new();
    let other = file(&mem, Path::new("/file"));
    let hooked = HookedDisk::new(Arc::new(RealDisk), Arc::new(|_| Ok(())));
    let hooked = file(&hooked, &temp.path().join("file"));
    for way in WAYS {
        for file in [&other, &hooked] {
            let (how, results) = read(&OneWayDisk::new(way), &**file);
            assert_eq!(how.by_ring + how.ahead, 0, "{way}: {how:?}");
            assert!(results.iter().all(Result::is_ok), "{way}");
        }
    }
}

/// Disks that show another one pass batches on, as far as nothing is different.
#[test]
fn disks_in_front_of_another_pass_batches_on() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    drop(file(&RealDisk, &path));
    let inner: Arc<dyn Vfs> = Arc::new(OneWayDisk::new(ReadWay::Threads));
    let (still, read_only) = (StillDisk::new(Arc::clone(&inner)), ReadOnlyDisk::new(inner));
    let disks: [&dyn Vfs; 2] = [&still, &read_only];
    for disk in disks {
        let file = disk.open(&path, OpenMode::Read).unwrap();
        let (how, results) = read(disk, &*file);
        assert_eq!((how.by_threads, disk.many_reads().way), (40, ReadWay::Threads), "{disk:?}");
        assert!(results.iter().all(Result::is_ok), "{disk:?}");
    }
    // It has grown for others, and what was changed here is seen here.
    let grown = RealDisk.open(&path, OpenMode::ReadWrite).unwrap();
    grown.write_all_at(&[9; 100], 4000).unwrap();
    let file = still.open(&path, OpenMode::Read).unwrap();
    let mut buf = [[0; 16]; 2];
    let [one, two] = &mut buf;
    let mut reads = [ReadAt::new(&*file, 4000, one), ReadAt::new(&*file, 3984, two)];
    still.read_batch(&mut reads);
    let [beyond, last] = reads.map(ReadAt::into_result);
    assert_eq!(beyond.unwrap_err().kind(), VfsErrorKind::Eof);
    last.unwrap();
    let file = read_only.open(&path, OpenMode::ReadWrite).unwrap();
    file.write_all_at(&[77; 16], 300).unwrap();
    let (_, results) = read(&read_only, &*file);
    assert_eq!(results[3].as_ref().unwrap(), &[77; 16]);
    assert_eq!(results[4].as_ref().unwrap(), &[4; 16]);
}
