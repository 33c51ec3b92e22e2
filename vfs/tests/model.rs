//! Random operations on all disks side by side: they must agree in every answer, errors included;
//! file contents also with a plain vector.

#![expect(clippy::unwrap_used, reason = "a panic is the failure report")]

use hedgerow_vfs::power_loss::PowerLossDisk;
use hedgerow_vfs::{
    MemDisk, OpenMode, ReadOnlyDisk, RealDisk, Vfs, VfsError, VfsErrorKind, read_file,
};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug)]
enum FileOp {
    Write { offset: u64, len: usize, byte: u8 },
    Read { offset: u64, len: usize },
    SetLen(u64),
}

fn file_op() -> impl Strategy<Value = FileOp> {
    let (offset, len) = (0..20_000u64, 0..9000usize);
    prop_oneof![
        (offset.clone(), len.clone(), any::<u8>()).prop_map(|(offset, len, byte)| FileOp::Write {
            offset,
            len,
            byte
        }),
        (offset.clone(), len).prop_map(|(offset, len)| FileOp::Read { offset, len }),
        offset.prop_map(FileOp::SetLen),
    ]
}

#[derive(Clone, Debug)]
enum TreeOp {
    Create(PathBuf),
    Open(PathBuf),
    CreateDirAll(PathBuf),
    ReadDir(PathBuf),
    Exists(PathBuf),
    RemoveFile(PathBuf),
    RemoveDirAll(PathBuf),
    Rename(PathBuf, PathBuf),
    SyncDir(PathBuf),
    LockDir(PathBuf),
}

fn path() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "LOCK"]), 1..4)
        .prop_map(|names| names.into_iter().collect())
}

fn tree_op() -> impl Strategy<Value = TreeOp> {
    prop_oneof![
        3 => path().prop_map(TreeOp::Create),
        1 => path().prop_map(TreeOp::Open),
        3 => path().prop_map(TreeOp::CreateDirAll),
        1 => path().prop_map(TreeOp::ReadDir),
        1 => path().prop_map(TreeOp::Exists),
        1 => path().prop_map(TreeOp::RemoveFile),
        1 => path().prop_map(TreeOp::RemoveDirAll),
        3 => (path(), path()).prop_map(|(from, to)| TreeOp::Rename(from, to)),
        1 => path().prop_map(TreeOp::SyncDir),
        1 => path().prop_map(TreeOp::LockDir),
    ]
}

/// What a caller can see of an operation: its answer as text, or the kind of its error.
fn answer(vfs: &dyn Vfs, root: &Path, op: &TreeOp) -> Result<String, VfsErrorKind> {
    let text = |done: Result<(), VfsError>| done.map(|()| String::new());
    let done = match op {
        TreeOp::Create(path) => text(vfs.open(&root.join(path), OpenMode::CreateNew).map(drop)),
        TreeOp::Open(path) => text(vfs.open(&root.join(path), OpenMode::ReadWrite).map(drop)),
        TreeOp::CreateDirAll(path) => text(vfs.create_dir_all(&root.join(path))),
        TreeOp::ReadDir(path) => vfs.read_dir(&root.join(path)).map(|names| format!("{names:?}")),
        TreeOp::Exists(path) => vfs.exists(&root.join(path)).map(|found| found.to_string()),
        TreeOp::RemoveFile(path) => text(vfs.remove_file(&root.join(path))),
        TreeOp::RemoveDirAll(path) => text(vfs.remove_dir_all(&root.join(path))),
        TreeOp::Rename(from, to) => text(vfs.rename(&root.join(from), &root.join(to))),
        TreeOp::SyncDir(path) => text(vfs.sync_dir(&root.join(path))),
        TreeOp::LockDir(path) => text(vfs.lock_dir(&root.join(path)).map(drop)),
    };
    done.map_err(|error| error.kind())
}

/// Every path below `dir`, with a mark behind directories.
fn listing(vfs: &dyn Vfs, dir: &Path, prefix: &str, out: &mut Vec<String>) {
    for name in vfs.read_dir(dir).unwrap() {
        let path = dir.join(&name);
        let shown = format!("{prefix}{}", name.to_str().unwrap());
        if vfs.read_dir(&path).is_ok() {
            out.push(format!("{shown}/"));
            listing(vfs, &path, &format!("{shown}/"), out);
        } else {
            out.push(shown);
        }
    }
}

proptest! {
    #[test]
    fn files_are_vectors_of_bytes(ops in prop::collection::vec(file_op(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let real = RealDisk.open(&dir.path().join("f"), OpenMode::CreateNew).unwrap();
        let mem = MemDisk::new().open(Path::new("f"), OpenMode::CreateNew).unwrap();
        let power = PowerLossDisk::new(3);
        power.short_calls(100);
        let lossy = power.open(Path::new("f"), OpenMode::CreateNew).unwrap();
        power.sync_dir(Path::new("")).unwrap();
        let mut model: Vec<u8> = Vec::new();
        for op in &ops {
            match *op {
                FileOp::Write { offset, len, byte } => {
                    let bytes: Vec<u8> = (0..len).map(|i| byte.wrapping_add(i as u8)).collect();
                    let end = offset as usize + len;
                    if len > 0 {
                        model.resize(model.len().max(end), 0);
                        model[offset as usize..end].copy_from_slice(&bytes);
                    }
                    for file in [&real, &mem, &lossy] {
                        file.write_all_at(&bytes, offset).unwrap();
                    }
                }
                FileOp::Read { offset, len } => {
                    let there = model.get(offset as usize..).unwrap_or_default();
                    let there = &there[..there.len().min(len)];
                    for file in [&real, &mem, &lossy] {
                        let mut buf = vec![0xA5; len];
                        prop_assert_eq!(file.read_at_most(&mut buf, offset).unwrap(), there.len());
                        prop_assert_eq!(&buf[..there.len()], there);
                        let exact = file.read_exact_at(&mut buf, offset);
                        let kind = exact.err().map(|error| error.kind());
                        let expected = (there.len() < len).then_some(VfsErrorKind::Eof);
                        prop_assert_eq!(kind, expected);
                    }
                }
                FileOp::SetLen(len) => {
                    model.resize(len as usize, 0);
                    for file in [&real, &mem, &lossy] {
                        file.set_len(len).unwrap();
                    }
                }
            }
            for file in [&real, &mem, &lossy] {
                prop_assert_eq!(file.len().unwrap(), model.len() as u64);
            }
        }
        // Whatever was written in whatever order: once synced, all of it is there for good.
        lossy.sync().unwrap();
        let after = read_file(&power.power_cycle(1), Path::new("f"), 1 << 20).unwrap();
        prop_assert_eq!(after, model);
    }

    #[test]
    #[cfg(unix)]
    fn all_disks_answer_alike(ops in prop::collection::vec(tree_op(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let (mem, lossy) = (MemDisk::new(), PowerLossDisk::new(4));
        let root = Path::new("/");
        for op in &ops {
            let real = answer(&RealDisk, dir.path(), op);
            prop_assert_eq!(&answer(&mem, root, op), &real, "memory, disk: after {:?}", op);
            prop_assert_eq!(&answer(&lossy, root, op), &real, "power loss, disk: after {:?}", op);
        }
        let (mut in_memory, mut on_disk) = (Vec::new(), Vec::new());
        listing(&mem, root, "", &mut in_memory);
        listing(&RealDisk, dir.path(), "", &mut on_disk);
        prop_assert_eq!(&in_memory, &on_disk);
        let mut in_a_copy = Vec::new();
        listing(&lossy.settled_copy(5), root, "", &mut in_a_copy);
        prop_assert_eq!(in_a_copy, on_disk);
    }

    /// What is done through a disk that is only read has the effects that it would have, and leaves
    /// no trace underneath.
    #[test]
    fn a_read_only_disk_keeps_changes_to_itself(
        before in prop::collection::vec(tree_op(), 0..30),
        after in prop::collection::vec(tree_op(), 1..40),
    ) {
        let root = Path::new("/");
        let (lower, twin) = (MemDisk::new(), MemDisk::new());
        for op in &before {
            let _ = (answer(&lower, root, op), answer(&twin, root, op));
        }
        let mut untouched = Vec::new();
        listing(&lower, root, "", &mut untouched);
        let upper = ReadOnlyDisk::new(Arc::new(lower.clone()));
        for op in after.iter().filter(|op| !matches!(op, TreeOp::LockDir(_))) {
            let expected = answer(&twin, root, op);
            prop_assert_eq!(answer(&upper, root, op), expected, "after {:?}", op);
        }
        let (mut seen, mut expected, mut still) = (Vec::new(), Vec::new(), Vec::new());
        listing(&upper, root, "", &mut seen);
        listing(&twin, root, "", &mut expected);
        listing(&lower, root, "", &mut still);
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(still, untouched);
    }

    #[test]
    fn a_file_of_a_read_only_disk_is_changed_in_memory(
        len in 0..20_000usize,
        ops in prop::collection::vec((file_op(), any::<bool>()), 1..40),
    ) {
        let lower = MemDisk::new();
        let content: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
        let base = lower.open(Path::new("f"), OpenMode::CreateNew).unwrap();
        base.write_all_at(&content, 0).unwrap();
        let upper = ReadOnlyDisk::new(Arc::new(lower.clone()));
        let open = || upper.open(Path::new("f"), OpenMode::ReadWrite).unwrap();
        let (mut model, mut file) = (content.clone(), open());
        for (op, reopen) in &ops {
            if *reopen {
                drop(std::mem::replace(&mut file, open()));
            }
            match *op {
                FileOp::Write { offset, len, byte } => {
                    let end = offset as usize + len;
                    if len > 0 {
                        model.resize(model.len().max(end), 0);
                        model[offset as usize..end].fill(byte);
                    }
                    file.write_all_at(&vec![byte; len], offset).unwrap();
                }
                FileOp::SetLen(len) => {
                    model.resize(len as usize, 0);
                    file.set_len(len).unwrap();
                }
                FileOp::Read { offset, len } => {
                    let there = model.get(offset as usize..).unwrap_or_default();
                    let there = &there[..there.len().min(len)];
                    let mut buf = vec![0xA5; len];
                    prop_assert_eq!(file.read_at_most(&mut buf, offset).unwrap(), there.len());
                    prop_assert_eq!(&buf[..there.len()], there);
                }
            }
            prop_assert_eq!(file.len().unwrap(), model.len() as u64);
        }
        drop(file);
        prop_assert_eq!(read_file(&upper, Path::new("f"), 1 << 20).unwrap(), model);
        prop_assert_eq!(read_file(&lower, Path::new("f"), 1 << 20).unwrap(), content);
    }
}
