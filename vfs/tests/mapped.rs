//! Files of which bytes are mapped: the same bytes, and what happens to those that go away.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is the failure report")]

use hedgerow_vfs::{OpenMode, ReadAt, RealDisk, Vfs, VfsErrorKind, VfsFile};
use proptest::prelude::*;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const LEN: u64 = 300_000;

fn byte(at: u64) -> u8 {
    ((at * at) >> 9) as u8
}

/// A file of `LEN` bytes, opened to be read, of which the first `len` are mapped.
fn mapped(path: &Path, len: u64) -> Arc<dyn VfsFile> {
    let file = RealDisk.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(&(0..LEN).map(byte).collect::<Vec<u8>>(), 0).unwrap();
    let file = RealDisk.open(path, OpenMode::Read).unwrap();
    // Linux older than 5.14 cannot say whether bytes can be had: then nothing here is tested.
    assert!(file.map(len), "this kernel maps no files as it is meant here");
    file
}

/// How many calls that read this process has made.
fn calls() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("syscr:")).unwrap();
    line.trim().parse().unwrap()
}

proptest! {
    #[test]
    fn batches_and_single_reads_give_the_bytes_of_the_file(
        promised in 1..=LEN,
        places in prop::collection::vec((0..LEN, 0_usize..70_000), 1..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let file = mapped(&dir.path().join("file"), promised);
        let mut bufs: Vec<_> = places.iter().map(|&(_, len)| vec![0; len]).collect();
        let of = places.iter().zip(&mut bufs);
        let mut reads: Vec<_> = of.map(|(&(at, _), buf)| ReadAt::new(&*file, at, buf)).collect();
        RealDisk.read_batch(&mut reads);
        let results: Vec<_> = reads.into_iter().map(ReadAt::into_result).collect();
        for ((&(at, len), buf), result) in places.iter().zip(&bufs).zip(results) {
            let fits = at + len as u64 <= LEN;
            prop_assert_eq!(result.is_ok(), fits);
            prop_assert!(!fits || buf.iter().zip(at..).all(|(&found, at)| found == byte(at)));
            let mut alone = vec![0; len];
            prop_assert_eq!(file.read_exact_at(&mut alone, at).is_ok(), fits);
            prop_assert!(!fits || alone == *buf);
        }
    }
}

#[test]
fn what_is_mapped_is_read_without_a_call() {
    let dir = tempfile::tempdir().unwrap();
    let file = mapped(&dir.path().join("file"), LEN - 1000);
    let mut buf = [0; 256];
    let before = calls();
    // Looking costs calls too: as many each time.
    let look = calls() - before;
    let before = calls();
    for at in (0..LEN - 2000).step_by(100) {
        file.read_exact_at(&mut buf, at).unwrap();
        assert_eq!(buf[9], byte(at + 9));
    }
    assert_eq!(calls() - before, look);
    // What was not promised is read by a call.
    let before = calls();
    (0..10).for_each(|_| file.read_exact_at(&mut buf, LEN - 300).unwrap());
    assert_eq!(calls() - before, look + 10);
}

#[test]
fn what_cannot_be_had_at_its_first_reading_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = mapped(&path, LEN);
    let mut buf = [0; 256];
    file.read_exact_at(&mut buf, 100).unwrap();
    RealDisk.open(&path, OpenMode::ReadWrite).unwrap().set_len(100_000).unwrap();
    // A page that was read before is still there, one that was not is gone, in a batch too.
    for _ in 0..3 {
        file.read_exact_at(&mut buf, 4096).unwrap();
        let error = file.read_exact_at(&mut buf, 200_000).unwrap_err();
        assert_eq!(error.kind(), VfsErrorKind::Eof);
        let mut bufs = [[0; 100]; 3];
        let [a, b, c] = &mut bufs;
        let mut reads = [
            ReadAt::new(&*file, 0, a),
            ReadAt::new(&*file, 250_000, b),
            ReadAt::new(&*file, 9000, c),
        ];
        RealDisk.read_batch(&mut reads);
        let went = reads.map(|read| read.into_result().map_err(|error| error.kind()));
        assert_eq!(went, [Ok(()), Err(VfsErrorKind::Eof), Ok(())]);
    }
}

/// Names the file that the child is to read.
const CUT: &str = "HEDGEROW_TEST_CUT_FILE";

/// What is documented: a file that somebody cuts after it was read ends the process that reads it again.
#[test]
fn what_was_read_and_is_cut_ends_the_process() {
    if let Some(path) = std::env::var_os(CUT) {
        let file = mapped(Path::new(&path), LEN);
        let mut buf = [0; 256];
        file.read_exact_at(&mut buf, 200_000).unwrap();
        RealDisk.open(Path::new(&path), OpenMode::ReadWrite).unwrap().set_len(1000).unwrap();
        let read = file.read_exact_at(&mut buf, 200_000);
        println!("it lives: {read:?}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_was_read_and_is_cut_ends_the_process", "--nocapture"])
        .env(CUT, dir.path().join("file"))
        .output()
        .unwrap();
    assert_eq!(child.status.signal(), Some(nix::libc::SIGBUS), "{child:?}");
}
