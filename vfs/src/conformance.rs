//! The behaviour that every [`Vfs`] must show, as a suite to run on it.
//!
//! Each function checks one promise of the trait's documentation and panics with a message when it
//! is broken; [`run`] runs them all, each in a directory of its own.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a broken promise is reported to the test that runs this"
)]

use crate::{
    LOCK_FILE, OpenMode, ReadAt, TEMP_SUFFIX, Vfs, VfsError, VfsErrorKind, VfsFile, VfsOp,
    read_file, write_atomic,
};
use std::{fmt::Debug, path::Path, sync::Arc, thread};

/// Runs the whole suite in the existing directory `root`, which it leaves as it found it.
///
/// # Panics
/// If `vfs` breaks a promise.
pub fn run(vfs: &dyn Vfs, root: &Path) {
    run_unlocked(vfs, root);
    run_all(vfs, root, &[("locking", locking)]);
}

/// Runs the suite without what it says about locks, for a disk that gives none.
///
/// # Panics
/// If `vfs` breaks a promise.
pub fn run_unlocked(vfs: &dyn Vfs, root: &Path) {
    let checks: [(&str, Check); 14] = [
        ("opening", opening),
        ("reading_and_writing", reading_and_writing),
        ("lengths", lengths),
        ("read_only_handles", read_only_handles),
        ("handles_outlive_names", handles_outlive_names),
        ("directories", directories),
        ("renaming", renaming),
        ("linking", linking),
        ("removing", removing),
        ("whole_files", whole_files),
        ("many_threads", many_threads),
        ("mapping", mapping),
        ("many_reads", many_reads),
        ("many_reads_by_many_threads", many_reads_by_many_threads),
    ];
    run_all(vfs, root, &checks);
}

type Check = fn(&dyn Vfs, &Path);

fn run_all(vfs: &dyn Vfs, root: &Path, checks: &[(&str, Check)]) {
    let before = vfs.read_dir(root).unwrap();
    for (name, check) in checks {
        let dir = root.join(name);
        vfs.create_dir_all(&dir).unwrap();
        check(vfs, &dir);
        vfs.remove_dir_all(&dir).unwrap();
    }
    assert_eq!(vfs.read_dir(root).unwrap(), before);
}

#[track_caller]
fn fails<T: Debug>(result: Result<T, VfsError>, op: VfsOp, path: &Path, kind: VfsErrorKind) {
    match result {
        Ok(value) => panic!("{op} {} gave {value:?} instead of {kind:?}", path.display()),
        Err(error) => {
            assert_eq!((error.op(), error.kind()), (op, kind), "{error}");
            assert_eq!(error.path(), path, "{error}");
            let text = error.to_string();
            assert!(text.contains(path.to_str().unwrap()), "no path in: {text}");
        }
    }
}

fn put(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) {
    let file = vfs.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync().unwrap();
}

fn content(vfs: &dyn Vfs, path: &Path) -> Vec<u8> {
    read_file(vfs, path, 1 << 20).unwrap()
}

fn names(vfs: &dyn Vfs, dir: &Path) -> Vec<String> {
    let names = vfs.read_dir(dir).unwrap();
    names.into_iter().map(|name| name.into_string().unwrap()).collect()
}

fn opening(vfs: &dyn Vfs, dir: &Path) {
    let path = dir.join("file");
    assert!(!vfs.exists(&path).unwrap());
    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        fails(vfs.open(&path, mode), VfsOp::Open, &path, VfsErrorKind::NotFound);
    }
    let nowhere = dir.join("no/file");
    fails(vfs.open(&nowhere, OpenMode::CreateNew), VfsOp::Create, &nowhere, VfsErrorKind::NotFound);
    let file = vfs.open(&path, OpenMode::CreateNew).unwrap();
    assert_eq!(file.path(), path);
    assert_eq!(file.len().unwrap(), 0);
    assert!(vfs.exists(&path).unwrap());
    file.write_all_at(b"kept", 0).unwrap();
    fails(vfs.open(&path, OpenMode::CreateNew), VfsOp::Create, &path, VfsErrorKind::AlreadyExists);
    // Opening truncates nothing, and handles see each other's writes.
    let again = vfs.open(&path, OpenMode::ReadWrite).unwrap();
    assert_eq!(again.len().unwrap(), 4);
    again.write_all_at(b"K", 0).unwrap();
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"Kept");

    for mode in [OpenMode::Read, OpenMode::ReadWrite] {
        fails(vfs.open(dir, mode), VfsOp::Open, dir, VfsErrorKind::Other);
    }
    let below = path.join("x");
    fails(vfs.open(&below, OpenMode::Read), VfsOp::Open, &below, VfsErrorKind::Other);
}

fn reading_and_writing(vfs: &dyn Vfs, dir: &Path) {
    let path = dir.join("file");
    let file = vfs.open(&path, OpenMode::CreateNew).unwrap();
    let bytes: Vec<u8> = (0..10_000u32).map(|i| ((i * i) >> 3) as u8).collect();
    file.write_all_at(&bytes, 0).unwrap();
    file.sync().unwrap();

    let mut buf = vec![0; 5000];
    file.read_exact_at(&mut buf, 4090).unwrap();
    assert_eq!(buf, bytes[4090..9090]);
    file.read_exact_at(&mut buf, 5000).unwrap();
    assert_eq!(buf, bytes[5000..]);
    let error = file.read_exact_at(&mut buf, 5001);
    assert_eq!(error.as_ref().unwrap_err().offset(), Some(5001));
    fails(error, VfsOp::Read, &path, VfsErrorKind::Eof);
    fails(file.read_exact_at(&mut buf, 1 << 40), VfsOp::Read, &path, VfsErrorKind::Eof);
    assert!(file.read_exact_at(&mut buf, u64::MAX).is_err());

    assert_eq!(file.read_at_most(&mut buf, 9990).unwrap(), 10);
    assert_eq!(buf[..10], bytes[9990..]);
    assert_eq!(file.read_at_most(&mut buf, 5000).unwrap(), 5000);
    assert_eq!(file.read_at_most(&mut buf, 10_000).unwrap(), 0);
    assert_eq!(file.read_at_most(&mut buf, 1 << 40).unwrap(), 0);
    // Nothing is wanted, so nothing is missing.
    file.read_exact_at(&mut [], 20_000).unwrap();
    assert_eq!(file.read_at_most(&mut [], 0).unwrap(), 0);

    file.write_all_at(b"over", 4094).unwrap();
    file.read_exact_at(&mut buf[..6], 4093).unwrap();
    assert_eq!(&buf[1..5], b"over");
    assert_eq!((buf[0], buf[5]), (bytes[4093], bytes[4098]));
    // A gap reads as zeros; writing nothing beyond the end makes no file longer.
    file.write_all_at(b"far", 20_000).unwrap();
    assert_eq!(file.len().unwrap(), 20_003);
    let mut gap = vec![1; 10_000];
    file.read_exact_at(&mut gap, 10_000).unwrap();
    assert!(gap.iter().all(|&byte| byte == 0));
    file.write_all_at(&[], 30_000).unwrap();
    assert_eq!(file.len().unwrap(), 20_003);
    let error = file.write_all_at(b"beyond", u64::MAX - 2).unwrap_err();
    assert_eq!(error.op(), VfsOp::Write);
    assert_eq!(file.len().unwrap(), 20_003);
}

fn lengths(vfs: &dyn Vfs, dir: &Path) {
    let file = vfs.open(&dir.join("file"), OpenMode::CreateNew).unwrap();
    file.write_all_at(&[7; 9000], 0).unwrap();
    file.set_len(4100).unwrap();
    assert_eq!(file.len().unwrap(), 4100);
    // What was cut does not come back.
    file.set_len(9000).unwrap();
    let mut bytes = vec![1; 9000];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes[..4100].iter().all(|&byte| byte == 7));
    assert!(bytes[4100..].iter().all(|&byte| byte == 0));
    file.set_len(0).unwrap();
    assert_eq!(file.len().unwrap(), 0);
    assert!(file.set_len(u64::MAX).is_err());
    file.sync().unwrap();
}

fn read_only_handles(vfs: &dyn Vfs, dir: &Path) {
    let path = dir.join("file");
    put(vfs, &path, b"text");
    let file = vfs.open(&path, OpenMode::Read).unwrap();
    fails(file.write_all_at(b"x", 0), VfsOp::Write, &path, VfsErrorKind::Other);
    fails(file.set_len(1), VfsOp::SetLen, &path, VfsErrorKind::Other);
    assert_eq!(content(vfs, &path), b"text");
}

fn handles_outlive_names(vfs: &dyn Vfs, dir: &Path) {
    let (path, other) = (dir.join("file"), dir.join("other"));
    put(vfs, &path, b"text");
    let file = vfs.open(&path, OpenMode::ReadWrite).unwrap();
    vfs.rename(&path, &other).unwrap();
    file.write_all_at(b"T", 0).unwrap();
    assert_eq!(content(vfs, &other), b"Text");
    vfs.remove_file(&other).unwrap();
    file.write_all_at(b"!", 4).unwrap();
    let mut bytes = [0; 5];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"Text!");
    assert!(vfs.read_dir(dir).unwrap().is_empty());
}

fn directories(vfs: &dyn Vfs, dir: &Path) {
    let deep = dir.join("a/b/c");
    vfs.create_dir_all(&deep).unwrap();
    vfs.create_dir_all(&deep).unwrap();
    assert!(vfs.exists(&deep).unwrap());
    for name in ["z", "file10", "file9", "Z"] {
        put(vfs, &dir.join("a").join(name), b"");
    }
    assert_eq!(names(vfs, &dir.join("a")), ["Z", "b", "file10", "file9", "z"]);
    let none = dir.join("none");
    fails(vfs.read_dir(&none), VfsOp::ReadDir, &none, VfsErrorKind::NotFound);
    fails(vfs.sync_dir(&none), VfsOp::SyncDir, &none, VfsErrorKind::NotFound);
    let file = dir.join("a/z");
    fails(vfs.read_dir(&file), VfsOp::ReadDir, &file, VfsErrorKind::Other);
    fails(vfs.sync_dir(&file), VfsOp::SyncDir, &file, VfsErrorKind::Other);
    fails(vfs.create_dir_all(&file), VfsOp::CreateDirAll, &file, VfsErrorKind::AlreadyExists);
    let below = file.join("x");
    fails(vfs.create_dir_all(&below), VfsOp::CreateDirAll, &below, VfsErrorKind::Other);
    assert!(!vfs.exists(&none.join("x/y")).unwrap());
    vfs.sync_dir(&deep).unwrap();
    vfs.sync_dir(dir).unwrap();
}

fn renaming(vfs: &dyn Vfs, dir: &Path) {
    let (one, two) = (dir.join("one"), dir.join("two"));
    fails(vfs.rename(&one, &two), VfsOp::Rename, &one, VfsErrorKind::NotFound);
    put(vfs, &one, b"1");
    put(vfs, &two, b"2");
    vfs.rename(&one, &two).unwrap();
    assert_eq!(names(vfs, dir), ["two"]);
    assert_eq!(content(vfs, &two), b"1");
    vfs.rename(&two, &two).unwrap();
    assert_eq!(content(vfs, &two), b"1");
    let error = vfs.rename(&two, &dir.join("none/x"));
    assert_eq!(error.as_ref().unwrap_err().to(), Some(dir.join("none/x").as_path()));
    fails(error, VfsOp::Rename, &two, VfsErrorKind::NotFound);

    let (from, to) = (dir.join("from"), dir.join("to"));
    vfs.create_dir_all(&from.join("inner")).unwrap();
    put(vfs, &from.join("file"), b"f");
    fails(vfs.rename(&from, &from.join("inner/x")), VfsOp::Rename, &from, VfsErrorKind::Other);
    fails(vfs.rename(&from, &two), VfsOp::Rename, &from, VfsErrorKind::Other);
    fails(vfs.rename(&two, &from), VfsOp::Rename, &two, VfsErrorKind::Other);
    vfs.create_dir_all(&to.join("busy")).unwrap();
    fails(vfs.rename(&from, &to), VfsOp::Rename, &from, VfsErrorKind::Other);
    vfs.remove_dir_all(&to.join("busy")).unwrap();
    vfs.rename(&from, &to).unwrap();
    assert_eq!(names(vfs, &to), ["file", "inner"]);
    assert_eq!(names(vfs, dir), ["to", "two"]);
}

/// A disk may give no second names; if it does, both lead to one file.
fn linking(vfs: &dyn Vfs, dir: &Path) {
    let (one, two) = (dir.join("one"), dir.join("two"));
    put(vfs, &one, b"first");
    match vfs.hard_link(&one, &two) {
        Err(error) if error.io_error().kind() == std::io::ErrorKind::Unsupported => {
            fails(Err::<(), _>(error), VfsOp::HardLink, &one, VfsErrorKind::Other);
            assert_eq!(names(vfs, dir), ["one"]);
            return;
        }
        linked => linked.unwrap(),
    }
    assert_eq!(vfs.file_id(&one).unwrap(), vfs.file_id(&two).unwrap());
    vfs.open(&two, OpenMode::ReadWrite).unwrap().write_all_at(b"F", 0).unwrap();
    assert_eq!((content(vfs, &one), content(vfs, &two)), (b"First".into(), b"First".into()));
    let three = dir.join("three");
    put(vfs, &three, b"other");
    fails(vfs.hard_link(&one, &three), VfsOp::HardLink, &one, VfsErrorKind::AlreadyExists);
    fails(vfs.hard_link(&one, &one), VfsOp::HardLink, &one, VfsErrorKind::AlreadyExists);
    assert_eq!(content(vfs, &three), b"other");
    let none = dir.join("none");
    fails(vfs.hard_link(&none, &dir.join("x")), VfsOp::HardLink, &none, VfsErrorKind::NotFound);
    fails(vfs.hard_link(&one, &none.join("x")), VfsOp::HardLink, &one, VfsErrorKind::NotFound);
    assert_eq!(vfs.hard_link(&one, &none.join("x")).unwrap_err().to(), Some(&*none.join("x")));
    let inner = dir.join("dir");
    vfs.create_dir_all(&inner).unwrap();
    fails(vfs.hard_link(&inner, &none), VfsOp::HardLink, &inner, VfsErrorKind::Other);
    // The file lives as long as one of its names.
    vfs.remove_file(&one).unwrap();
    assert_eq!(content(vfs, &two), b"First");
    vfs.sync_dir(dir).unwrap();
}

fn removing(vfs: &dyn Vfs, dir: &Path) {
    let file = dir.join("file");
    fails(vfs.remove_file(&file), VfsOp::RemoveFile, &file, VfsErrorKind::NotFound);
    fails(vfs.remove_dir_all(&file), VfsOp::RemoveDirAll, &file, VfsErrorKind::NotFound);
    put(vfs, &file, b"x");
    fails(vfs.remove_dir_all(&file), VfsOp::RemoveDirAll, &file, VfsErrorKind::Other);
    vfs.remove_file(&file).unwrap();
    assert!(!vfs.exists(&file).unwrap());
    let tree = dir.join("tree");
    vfs.create_dir_all(&tree.join("a/b")).unwrap();
    put(vfs, &tree.join("a/file"), b"x");
    fails(vfs.remove_file(&tree), VfsOp::RemoveFile, &tree, VfsErrorKind::Other);
    vfs.remove_dir_all(&tree).unwrap();
    assert!(vfs.read_dir(dir).unwrap().is_empty());
}

fn locking(vfs: &dyn Vfs, dir: &Path) {
    let none = dir.join("none");
    fails(vfs.lock_dir(&none), VfsOp::LockDir, &none, VfsErrorKind::NotFound);
    let lock = vfs.lock_dir(dir).unwrap();
    assert_eq!(lock.path(), dir);
    assert_eq!(names(vfs, dir), [LOCK_FILE]);
    fails(vfs.lock_dir(dir), VfsOp::LockDir, dir, VfsErrorKind::InUse);
    thread::scope(|scope| {
        scope.spawn(|| fails(vfs.lock_dir(dir), VfsOp::LockDir, dir, VfsErrorKind::InUse));
    });
    // The locks of two directories have nothing to do with each other.
    let inner = dir.join("inner");
    vfs.create_dir_all(&inner).unwrap();
    let inner_lock = vfs.lock_dir(&inner).unwrap();
    drop(lock);
    let lock = vfs.lock_dir(dir).unwrap();
    fails(vfs.lock_dir(&inner), VfsOp::LockDir, &inner, VfsErrorKind::InUse);
    drop((lock, inner_lock));
    drop(vfs.lock_dir(dir).unwrap());
}

fn whole_files(vfs: &dyn Vfs, dir: &Path) {
    let path = dir.join("small");
    write_atomic(vfs, &path, b"first").unwrap();
    assert_eq!(content(vfs, &path), b"first");
    // A leftover of a crash is replaced, however long.
    put(vfs, &dir.join(format!("small{TEMP_SUFFIX}")), b"a long leftover");
    write_atomic(vfs, &path, b"2nd").unwrap();
    assert_eq!(content(vfs, &path), b"2nd");
    assert_eq!(names(vfs, dir), ["small"]);

    assert_eq!(read_file(vfs, &path, 3).unwrap(), b"2nd");
    fails(read_file(vfs, &path, 2), VfsOp::Read, &path, VfsErrorKind::Other);
    let none = dir.join("none");
    fails(read_file(vfs, &none, 2), VfsOp::Open, &none, VfsErrorKind::NotFound);
    assert!(write_atomic(vfs, &dir.join(".."), b"").is_err());
    let lost = dir.join("none/x");
    assert_eq!(write_atomic(vfs, &lost, b"").unwrap_err().kind(), VfsErrorKind::NotFound);
    // What cannot be replaced stays, and no temporary file does.
    let busy = dir.join("busy");
    vfs.create_dir_all(&busy.join("x")).unwrap();
    assert_eq!(write_atomic(vfs, &busy, b"").unwrap_err().op(), VfsOp::Rename);
    assert_eq!(names(vfs, dir), ["busy", "small"]);
}

fn many_threads(vfs: &dyn Vfs, dir: &Path) {
    const PART: usize = 3000;
    let path = dir.join("file");
    let file = vfs.open(&path, OpenMode::CreateNew).unwrap();
    thread::scope(|scope| {
        for part in 0..8u8 {
            let file = &file;
            scope.spawn(move || {
                let offset = u64::from(part) * PART as u64;
                file.write_all_at(&[part; PART], offset).unwrap();
                let mut bytes = [0xFF; PART];
                file.read_exact_at(&mut bytes, offset).unwrap();
                assert_eq!(bytes, [part; PART]);
            });
        }
    });
    let bytes = content(vfs, &path);
    assert_eq!(bytes.len(), 8 * PART);
    assert!(bytes.iter().enumerate().all(|(i, &byte)| usize::from(byte) == i / PART));
}

/// Bytes in which every place looks different.
fn pattern(number: u64, len: usize) -> Vec<u8> {
    let word = |i: u64| (i + 1 + (number << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    (0..).flat_map(word).take(len).collect()
}

/// Every read of a batch has the result that it has alone: the bytes, or the error to the letter.
fn same_as_alone(vfs: &dyn Vfs, wanted: &[(&Arc<dyn VfsFile>, u64, usize)]) {
    let mut bufs: Vec<Vec<u8>> = wanted.iter().map(|&(_, _, len)| vec![0xEE; len]).collect();
    let mut reads: Vec<ReadAt<'_>> = wanted
        .iter()
        .zip(&mut bufs)
        .map(|(&(file, offset, _), buf)| ReadAt::new(&**file, offset, buf))
        .collect();
    let how = vfs.read_batch(&mut reads);
    assert_eq!(how.reads(), wanted.len() as u64, "{how:?}");
    assert!(how.depth <= how.reads() && (how.depth > 0 || wanted.is_empty()), "{how:?}");
    let results: Vec<_> = reads.into_iter().map(ReadAt::into_result).collect();
    for ((&(file, offset, len), buf), result) in wanted.iter().zip(&bufs).zip(results) {
        let mut alone = vec![0x11; len];
        match (result, file.read_exact_at(&mut alone, offset)) {
            (Ok(()), Ok(())) => assert!(*buf == alone, "{len} bytes at {offset}"),
            (Err(batch), Err(alone)) => {
                assert_eq!(batch.to_string(), alone.to_string());
                let facts = |error: &VfsError| (error.op(), error.kind(), error.offset());
                assert_eq!(facts(&batch), facts(&alone));
            }
            (batch, alone) => panic!("{len} bytes at {offset}: {batch:?}, but alone {alone:?}"),
        }
    }
}

/// Whether a disk maps a file or not, it reads the same, errors included.
fn mapping(vfs: &dyn Vfs, dir: &Path) {
    let path = dir.join("file");
    let bytes: Vec<u8> =
        (0..200_000_u32).map(|i| ((u64::from(i) * u64::from(i)) >> 7) as u8).collect();
    put(vfs, &path, &bytes);
    let plain = vfs.open(&path, OpenMode::Read).unwrap();
    assert_eq!(plain.mapped_bytes(), 0);
    let promised = 150_000;
    let file = vfs.open(&path, OpenMode::Read).unwrap();
    let maps = file.map(promised);
    assert!(!maps || vfs.maps_files(), "{vfs:?} maps files and says that it does not");
    assert_eq!(file.mapped_bytes(), if maps { promised } else { 0 });
    // More than the file has is nothing that can be promised.
    let beyond = vfs.open(&path, OpenMode::Read).unwrap();
    assert!(!beyond.map(200_001));
    assert!(!vfs.open(&path, OpenMode::Read).unwrap().map(0));
    for file in [&file, &beyond] {
        for at in
            [0, 1, 4095, 65_535, 65_536, 131_000, 149_990, 150_000, 199_990, 200_000, u64::MAX]
        {
            for len in [0, 1, 10, 256, 5000, 20_000, 70_000] {
                let (mut one, mut other) = (vec![1; len], vec![2; len]);
                let found = (plain.read_at_most(&mut one, at), file.read_at_most(&mut other, at));
                match found {
                    (Ok(a), Ok(b)) => {
                        assert_eq!((a, one.get(..a)), (b, other.get(..b)), "{len} at {at}");
                    }
                    (Err(a), Err(b)) => assert_eq!(a.kind(), b.kind(), "{len} at {at}"),
                    (a, b) => panic!("{len} at {at}: {a:?} and {b:?}"),
                }
                let exact = (plain.read_exact_at(&mut one, at), file.read_exact_at(&mut other, at));
                assert_eq!(
                    exact.0.map_err(|e| e.kind()),
                    exact.1.map_err(|e| e.kind()),
                    "{len} at {at}"
                );
            }
        }
    }
    // What lies beyond the promise may change.
    let writer = vfs.open(&path, OpenMode::ReadWrite).unwrap();
    writer.write_all_at(&[77; 100], 150_000).unwrap();
    writer.set_len(150_100).unwrap();
    let mut found = [0; 200];
    file.read_exact_at(&mut found, 149_900).unwrap();
    assert!(found.starts_with(&bytes[149_900..150_000]) && found.ends_with(&[77; 100]));
    let beyond = file.read_exact_at(&mut found, 149_901).unwrap_err();
    assert_eq!(beyond.kind(), VfsErrorKind::Eof);
    vfs.remove_file(&path).unwrap();
    file.read_exact_at(&mut found, 1000).unwrap();
    assert_eq!(found[..], bytes[1000..1200]);
}

fn many_reads(vfs: &dyn Vfs, dir: &Path) {
    const LEN: usize = 700_000;
    let files: Vec<Arc<dyn VfsFile>> = (0..3)
        .map(|number| {
            let path = dir.join(number.to_string());
            put(vfs, &path, &pattern(number, LEN));
            vfs.open(&path, OpenMode::Read).unwrap()
        })
        .collect();
    same_as_alone(vfs, &[]);
    same_as_alone(vfs, &[(&files[1], 5, 300)]);
    // The end of the file in the middle of a batch, places that no file has, nothing at all, the same place
    // twice, and more bytes than fit anywhere at once.
    let end = LEN as u64;
    let odd = [
        (0, 0, 8),
        (1, end - 8, 8),
        (1, end - 7, 8),
        (2, end, 1),
        (2, end, 0),
        (0, end + 4096, 16),
        (0, u64::MAX, 8),
        (0, u64::MAX - 3, 2),
        (1, i64::MAX as u64, 8),
        (1, i64::MAX as u64 + 1, 8),
        (0, 0, 8),
        (2, 3, LEN - 3),
        (0, 1, 600_000),
        (2, 100_000, 300_000),
        (1, 1000, 0),
        (1, 4090, 12),
        (1, 0, LEN + 1),
    ];
    let odd: Vec<_> = odd.iter().map(|&(file, at, len)| (&files[file], at, len)).collect();
    same_as_alone(vfs, &odd);
    // More than any queue holds, one in a hundred of them beyond the end.
    let mut state = 1u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % below
    };
    let mut many: Vec<_> = (0..1500)
        .map(|_| (&files[random(3) as usize], random(end + end / 100), 1 + random(600) as usize))
        .collect();
    same_as_alone(vfs, &many);
    many.sort_by_key(|&(_, at, _)| at);
    same_as_alone(vfs, &many);

    // Cut short under the reader: what is gone is an error, the rest is there.
    let writer = vfs.open(&dir.join("1"), OpenMode::ReadWrite).unwrap();
    writer.set_len(350_000).unwrap();
    same_as_alone(vfs, &many);
    let mut cut = [0; 8];
    let read = [ReadAt::new(&*files[1], 349_993, &mut cut)];
    let mut twice =
        read.into_iter().chain([ReadAt::new(&*files[0], 8, &mut [])]).collect::<Vec<_>>();
    vfs.read_batch(&mut twice);
    fails(twice.remove(0).into_result(), VfsOp::Read, &dir.join("1"), VfsErrorKind::Eof);
    // What nobody read is no success.
    fails(
        ReadAt::new(&*files[0], 0, &mut [0]).into_result(),
        VfsOp::Read,
        &dir.join("0"),
        VfsErrorKind::Other,
    );
}

fn many_reads_by_many_threads(vfs: &dyn Vfs, dir: &Path) {
    let bytes = pattern(7, 200_000);
    let path = dir.join("file");
    put(vfs, &path, &bytes);
    let file = vfs.open(&path, OpenMode::Read).unwrap();
    thread::scope(|scope| {
        for first in 0..40usize {
            let (file, bytes) = (&file, &bytes);
            scope.spawn(move || {
                for round in 0..5 {
                    let mut bufs = vec![[0; 32]; 100];
                    let place = |i: usize| (first * 4001 + round * 1013 + i * 1999) % 199_968;
                    let reads = bufs.iter_mut().enumerate();
                    let mut reads: Vec<ReadAt<'_>> =
                        reads.map(|(i, buf)| ReadAt::new(&**file, place(i) as u64, buf)).collect();
                    vfs.read_batch(&mut reads);
                    reads.into_iter().for_each(|read| read.into_result().unwrap());
                    for (i, buf) in bufs.iter().enumerate() {
                        assert_eq!(buf[..], bytes[place(i)..place(i) + 32], "{first} {round} {i}");
                    }
                }
            });
        }
    });
}
