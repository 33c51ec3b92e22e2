//! What the store's tests share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "every test uses its own part, and fails by panicking"
)]

pub(crate) mod disks;
pub(crate) mod forge;
pub(crate) mod said;
pub(crate) mod twin;
pub(crate) mod written;

use hedgerow::disk::{MemDisk, Vfs};
use hedgerow::hasher::{Guarded, Thresholds, by_name};
use hedgerow::{
    Block, CompactionRule, Error, Height, IndexMode, Op, OpKind, Options, Receipt, Store,
    StoreParams, Task,
};
use hedgerow_hasher_device::{DeviceHasher, HostDevice, Limits};
use hedgerow_testkit::Model;
use hedgerow_testkit::generate::BlockGen;
use hedgerow_testkit::model::NetChangeSet;
use hedgerow_testkit::ops::{OpKind as RecordedKind, RecordedBlock};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::{OpenMode, VfsErrorKind};
use parking_lot::{Condvar, Mutex};
use proptest::prelude::*;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A device that is the CPU in disguise, guarded; it keeps rows for blocks of any size.
pub(crate) fn guarded(device: HostDevice, check_one_of: u32) -> Guarded {
    let device = DeviceHasher::new(device).unwrap().resident_from(0);
    let cpu = by_name("cpu").unwrap();
    Guarded::new(Arc::new(device), cpu, Thresholds::ALL, check_one_of)
}

/// A device without limits to speak of.
pub(crate) fn host_device() -> HostDevice {
    HostDevice::new(Limits { buffer_bytes: 1 << 30, max_count: u32::MAX })
}

/// Where the tests put their store on an in-memory disk.
pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/store")
}

/// A fresh in-memory disk.
pub(crate) fn disk() -> Arc<dyn Vfs> {
    Arc::new(MemDisk::new())
}

/// Parameters with this compaction rule.
pub(crate) fn params(threshold: u64, ratio: u32, div: u32) -> StoreParams {
    StoreParams::default().with_compaction(CompactionRule::new(threshold, ratio, div).unwrap())
}

/// A recorded block as tasks of the low-level interface.
pub(crate) fn tasks(block: &RecordedBlock) -> Vec<Task> {
    let op = |op: &hedgerow_testkit::ops::Op| Op {
        kind: match op.kind {
            RecordedKind::Read => OpKind::Read,
            RecordedKind::Update => OpKind::Update,
            RecordedKind::Create => OpKind::Create,
            RecordedKind::Delete => OpKind::Delete,
        },
        key: op.key.clone(),
        value: op.value.clone(),
    };
    let change_set = |ops: &Vec<_>| ops.iter().map(op).collect();
    block.tasks.iter().map(|task| task.iter().map(change_set).collect()).collect()
}

/// Puts the change sets of a block of the user's API into it.
pub(crate) fn fill(block: &mut Block<'_>, change_sets: &[NetChangeSet]) -> Result<(), Error> {
    for (number, change_set) in change_sets.iter().enumerate() {
        if number > 0 {
            block.next_change_set()?;
        }
        for (key, value) in change_set {
            match value {
                Some(value) => block.put(key, value)?,
                None => block.delete(key)?,
            }
        }
    }
    Ok(())
}

/// Hands in a block of the user's API.
pub(crate) fn apply_net(
    store: &mut Store,
    height: u64,
    change_sets: &[NetChangeSet],
) -> Result<Receipt, Error> {
    let mut block = store.begin_block(Height(height))?;
    fill(&mut block, change_sets)?;
    block.commit()
}

/// Names where the index of the tests' stores is: `tiered` for files, with next to no memory; else in memory.
const INDEX: &str = "HEDGEROW_TEST_INDEX";

/// The least memory that an index in files may have.
pub(crate) const TIERED: IndexMode = IndexMode::Tiered { memory_bytes: 4 << 20 };

/// Options on this disk.
pub(crate) fn on(disk: &Arc<dyn Vfs>) -> Options {
    let options = Options::default().disk(Arc::clone(disk));
    match std::env::var(INDEX) {
        Err(_) => options,
        Ok(name) if name == "tiered" => options.index(TIERED),
        Ok(other) => panic!("{INDEX} is {other:?}, and may be \"tiered\""),
    }
}

/// A disk with a copy of the store on `from`.
pub(crate) fn copy(from: &Arc<dyn Vfs>) -> Arc<dyn Vfs> {
    let to = disk();
    for folder in ["meta", "log", "twigs", "checkpoints", "index"] {
        let folder = dir().join(folder);
        if !from.exists(&folder).unwrap() {
            continue;
        }
        to.create_dir_all(&folder).unwrap();
        for name in from.read_dir(&folder).unwrap() {
            let path = folder.join(name);
            let bytes = match hedgerow_vfs::read_file(&**from, &path, 1 << 30) {
                Ok(bytes) => bytes,
                // An index in files is merged meanwhile.
                Err(error)
                    if error.kind() == VfsErrorKind::NotFound && folder.ends_with("index") =>
                {
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            to.open(&path, OpenMode::CreateNew).unwrap().write_all_at(&bytes, 0).unwrap();
        }
    }
    to
}

/// Longer than anything here takes: a wait that long has failed.
const LONG: Duration = Duration::from_secs(120);

/// A gate that operations wait at while it is closed.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
    /// Operations that came to the closed gate.
    waiting: AtomicUsize,
}

impl Gate {
    pub(crate) fn pass(&self) {
        let mut closed = self.closed.lock();
        if *closed {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            self.changed.notify_all();
        }
        while *closed {
            assert!(!self.changed.wait_for(&mut closed, LONG).timed_out(), "gate never opened");
        }
    }

    pub(crate) fn close(&self) {
        *self.closed.lock() = true;
    }

    pub(crate) fn open(&self) {
        *self.closed.lock() = false;
        self.changed.notify_all();
    }

    /// Waits until something waits at the gate.
    pub(crate) fn reached(&self) {
        let mut closed = self.closed.lock();
        while self.waiting.load(Ordering::SeqCst) == 0 {
            assert!(!self.changed.wait_for(&mut closed, LONG).timed_out(), "gate never reached");
        }
    }
}

/// Passes the time that a store of its own takes for many blocks: what has not happened elsewhere by
/// then is held back, not late.
pub(crate) fn keep_busy() {
    let disk = disk();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    for height in 1..=30 {
        let mut block = store.begin_block(Height(height)).unwrap();
        for key in 0..200 {
            block.put(format!("{key}"), format!("{height}")).unwrap();
        }
        block.commit().unwrap();
    }
    store.flush().unwrap();
}

/// Rules of all kinds: that never move anything here, that always do, of one shard and of all.
pub(crate) fn rules() -> impl Strategy<Value = CompactionRule> {
    prop_oneof![
        Just(CompactionRule::QMDB),
        Just(CompactionRule::default()),
        Just(CompactionRule::new(4200, 1, 2).unwrap()),
        Just(CompactionRule::new(1, 1, 1).unwrap()),
        Just(CompactionRule::new(4097, 7, 10).unwrap()),
        Just(CompactionRule::new(4100, 3, 4).unwrap()),
        // Of every block: nothing else moves; and on top of what moves in any case.
        Just(CompactionRule::QMDB.with_spread(1)),
        Just(CompactionRule::default().with_spread(1)),
    ]
}

/// One more block on store and model, in either of the two interfaces.
pub(crate) fn apply_any(
    rng: &mut SplitMix64,
    blocks: &mut BlockGen,
    model: &mut Model,
    store: &mut Store,
) {
    if rng.below(2) == 0 {
        let block = blocks.strict();
        model.apply(&block);
        let ticket = store.submit_tasks(Height(block.height), &tasks(&block), []).unwrap();
        ticket.root().unwrap();
    } else {
        let (height, change_sets) = blocks.net();
        model.apply_net(height, &change_sets);
        apply_net(store, height, &change_sets).unwrap();
    }
}
