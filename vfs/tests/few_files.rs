//! A process that may open no more files reads batches without a ring, and gets one when it may again. A
//! program of its own, since the limit is the whole process's.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is the failure report")]

use hedgerow_vfs::{HowRead, OneWayDisk, OpenMode, ReadAt, ReadWay, RealDisk, Vfs, VfsFile};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

fn rings() -> usize {
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let to = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    to.filter(|to| to.to_string_lossy().contains("io_uring")).count()
}

fn read(disk: &OneWayDisk, file: &dyn VfsFile) -> HowRead {
    let mut bufs = [[0; 16]; 100];
    let reads = bufs.iter_mut().enumerate();
    let mut reads: Vec<_> = reads.map(|(i, buf)| ReadAt::new(file, i as u64, buf)).collect();
    let how = disk.read_batch(&mut reads);
    reads.into_iter().for_each(|read| read.into_result().unwrap());
    for (i, buf) in bufs.iter().enumerate() {
        assert_eq!(buf[..], std::array::from_fn::<u8, 16, _>(|at| (i + at) as u8), "{i}");
    }
    how
}

#[test]
fn without_files_there_is_no_ring_and_no_error() {
    let temp = tempfile::tempdir().unwrap();
    let disk = OneWayDisk::new(ReadWay::Ring);
    let file = disk.open(&temp.path().join("file"), OpenMode::CreateNew).unwrap();
    file.write_all_at(&(0..200).collect::<Vec<u8>>(), 0).unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // No number is left below the limit.
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
    let how = read(&disk, &*file);
    assert_eq!((how.by_ring, how.reads()), (0, 100), "{how:?}");
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    if RealDisk.many_reads().way != ReadWay::Ring {
        println!("!!! NOT RUN: rings: {:?}", RealDisk.many_reads().why);
        return;
    }
    let how = read(&disk, &*file);
    assert_eq!(how.by_ring, 100, "{how:?}");
    // However many threads there are.
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| read(&disk, &*file));
        }
    });
    assert!((1..=16).contains(&rings()), "{}", rings());
}
