//! A store whose index is in files answers as one whose index is in memory, through spills, merges, checkpoints,
//! power loss and changes of the budget.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::forge::with_meta;
use common::twin::{Pairs, Twin};
use common::{TIERED, dir, disk, on, params};
use hedgerow::disk::{RealDisk, Vfs};
use hedgerow::{
    BackupOptions, Error, IndexMode, IndexStats, MemoryFigures, MemoryLevel, MemoryWatch, Options,
    Store, WaitReason, Waited,
};
use hedgerow_testkit::Limit;
use hedgerow_types::SHARDS;
use hedgerow_vfs::power_loss::{Calls, PowerLossDisk};
use hedgerow_vfs::{Hook, HookedDisk, Sharing, VfsErrorKind, VfsOp};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

type Damage<'a> = &'a dyn Fn(&Arc<dyn Vfs>, &Path);

fn tiered(disk: &Arc<dyn Vfs>) -> Options {
    on(disk).index(TIERED).threads(1).checkpoint_bytes(400_000).manifest_blocks(4)
}

fn index(store: &Store) -> IndexStats {
    store.stats().index.unwrap()
}

#[test]
fn it_answers_as_one_in_memory_through_spills_merges_and_reopening() {
    let _limit = Limit::new();
    let (disk, other) = (disk(), disk());
    let params = || params(100, 1, 2);
    let mut twin = Twin::new(14, 12_000);
    let mut store = Store::create(dir(), params(), tiered(&disk)).unwrap();
    let mut memory =
        Store::create(dir(), params(), on(&other).index(IndexMode::Memory).threads(1)).unwrap();
    for round in 0..4 {
        for _ in 0..8 {
            twin.block(&mut [&mut store, &mut memory], 2_000);
        }
        twin.compare(&store);
        store.check().unwrap();
        let stats = index(&store);
        assert!(stats.spills > 0 && stats.files > 0, "{stats:?}");
        assert!(stats.page_reads + stats.cache_hits > 0, "{stats:?}");
        store.close().unwrap();
        store = Store::open(dir(), tiered(&disk)).unwrap();
        assert!(store.stats().opened_from.is_some(), "round {round}");
        twin.compare(&store);
    }
    assert!(index(&store).files > 0);
    // Elsewhere, and back.
    store.close().unwrap();
    store = Store::open(dir(), on(&disk).index(IndexMode::Memory).threads(1)).unwrap();
    assert!(store.stats().index.is_none() && store.stats().opened_from.is_none());
    assert!(disk.read_dir(&dir().join("index")).unwrap().is_empty());
    twin.compare(&store);
    twin.block(&mut [&mut store, &mut memory], 100);
    store.close().unwrap();
    store = Store::open(dir(), tiered(&disk)).unwrap();
    twin.block(&mut [&mut store, &mut memory], 2_000);
    twin.compare(&store);
    store.check().unwrap();
}

/// On a real disk, where directories are locked.
#[test]
fn a_store_may_be_opened_with_either_index() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let real: Arc<dyn Vfs> = Arc::new(RealDisk);
    let mut twin = Twin::new(20, 8_000);
    let mut store = Store::create(&path, params(100, 1, 2), tiered(&real)).unwrap();
    for round in 0..4 {
        (0..4).for_each(|_| twin.block(&mut [&mut store], 1_500));
        twin.compare(&store);
        store.close().unwrap();
        let mode = if round % 2 == 0 { IndexMode::Memory } else { TIERED };
        store = Store::open(&path, tiered(&real).index(mode)).unwrap();
        assert_eq!(store.stats().index.is_some(), mode == TIERED);
    }
    store.close().unwrap();
    // The directory of the index is locked from the first opening on that has one.
    let path = temp.path().join("another");
    Store::create(&path, params(100, 1, 2), tiered(&real).index(IndexMode::Memory)).unwrap();
    assert!(!path.join("index").exists());
    let mut store = Store::open(&path, tiered(&real)).unwrap();
    let held = real.hold_dir(&path.join("index"), Sharing::Exclusive).unwrap_err();
    assert_eq!(held.kind(), VfsErrorKind::InUse);
    store.check().unwrap();
}

#[test]
fn an_older_view_stays_what_it_is() {
    let _limit = Limit::new();
    let disk = disk();
    let mut twin = Twin::new(15, 8_000);
    let mut store = Store::create(dir(), params(100, 1, 2), tiered(&disk)).unwrap();
    (0..4).for_each(|_| twin.block(&mut [&mut store], 2_000));
    let (view, then) = (store.reader().view(), twin.pairs.clone());
    for _ in 0..8 {
        twin.block(&mut [&mut store], 2_000);
        store.flush().unwrap();
    }
    for number in 0..twin.keys {
        let key = format!("key {number}").into_bytes();
        assert_eq!(view.get(&key).unwrap(), then.get(&key).cloned(), "key {number}");
    }
    let all: Pairs = view.iter().map(Result::unwrap).collect();
    assert!(all == then);
    drop(view);
    twin.compare(&store);
}

/// Power goes at some call or other: the store opens with a state of its own, and goes on.
#[test]
fn power_loss_at_any_time_leaves_a_state_that_was() {
    let _limit = Limit::new();
    for seed in 0..12 {
        println!("seed {seed}");
        let disk = PowerLossDisk::new(seed);
        let on_disk: Arc<dyn Vfs> = Arc::new(disk.clone());
        let mut twin = Twin::new(seed, 6_000);
        let options = || tiered(&on_disk).checkpoint_bytes(200_000);
        let mut store = Store::create(dir(), params(100, 1, 2), options()).unwrap();
        let mut states = vec![twin.pairs.clone()];
        for _ in 0..4 + seed % 9 {
            twin.block(&mut [&mut store], 1_500);
            states.push(twin.pairs.clone());
        }
        let durable = store.reader().durable_height().0;
        let survivor = disk.power_cycle(seed);
        let looked_at: Arc<dyn Vfs> = Arc::new(survivor.settled_copy(seed));
        let on_copy: Arc<dyn Vfs> = Arc::new(survivor);
        drop(store);
        let named = with_meta(&looked_at, |meta| meta.manifest().unwrap().unwrap().checkpoint);
        let mut store = Store::open(dir(), tiered(&on_copy)).unwrap();
        let height = store.height().0;
        assert!(height >= durable, "{height} {durable}");
        // D-B1, U-B2: what a manifest names is there as long as it does; else the log would be read.
        assert_eq!(store.stats().opened_from, named.map(|name| name.height));
        twin.pairs = states[height as usize].clone();
        twin.compare(&store);
        (0..3).for_each(|_| twin.block(&mut [&mut store], 1_500));
        twin.compare(&store);
        store.check().unwrap();
        store.close().unwrap();
        let store = Store::open(dir(), tiered(&on_copy)).unwrap();
        twin.compare(&store);
    }
}

/// U-B2, and U-6 without its defect: what cannot be written stays in memory; blocks are refused before memory grows
/// without end; and once the disk is well, all goes on.
#[test]
fn u_b2_a_failing_disk_loses_nothing_and_memory_does_not_grow() {
    let _limit = Limit::new();
    let inner = disk();
    let full = Arc::new(AtomicBool::new(false));
    let hook: Hook = {
        let full = Arc::clone(&full);
        Arc::new(move |call| {
            let index = call.path.parent().is_some_and(|it| it.ends_with("index"));
            if full.load(Ordering::SeqCst) && index && call.op == VfsOp::Write {
                return Err(call.error(io::ErrorKind::StorageFull.into()));
            }
            Ok(())
        })
    };
    let disk: Arc<dyn Vfs> = Arc::new(HookedDisk::new(Arc::clone(&inner), hook));
    let mut twin = Twin::new(16, 20_000);
    let mut store = Store::create(dir(), params(100, 1, 2), tiered(&disk)).unwrap();
    (0..3).for_each(|_| twin.block(&mut [&mut store], 2_000));
    full.store(true, Ordering::SeqCst);
    let mut refused = None;
    for number in 0..200 {
        let mut block = store.next_block().unwrap();
        let (key, value) = (format!("key {number}"), b"of a full disk".to_vec());
        block.put(&key, &value).unwrap();
        for other in 0..1_500 {
            block.put(format!("key {}", 1000 + other), &value).unwrap();
        }
        match block.commit() {
            Ok(_) => {
                twin.pairs.insert(key.into_bytes(), value.clone());
                for other in 0..1_500 {
                    twin.pairs.insert(format!("key {}", 1000 + other).into_bytes(), value.clone());
                }
            }
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let Some(Error::Disk(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.io_error().kind(), io::ErrorKind::StorageFull);
    let stats = index(&store);
    assert!(stats.failing.is_some() && stats.waits.disk_failing.times > 0, "{stats:?}");
    twin.compare(&store);
    full.store(false, Ordering::SeqCst);
    let height = store.height();
    while store.height() == height {
        // The thread tries again within a second.
        let mut block = store.next_block().unwrap();
        block.put("well", "again").unwrap();
        match block.commit() {
            Ok(_) => {}
            Err(Error::Disk(_)) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    twin.pairs.insert(b"well".to_vec(), b"again".to_vec());
    (0..3).for_each(|_| twin.block(&mut [&mut store], 2_000));
    store.check().unwrap();
    let reader = store.reader();
    for (key, value) in &twin.pairs {
        assert_eq!(reader.get(key).unwrap().as_ref(), Some(value));
    }
}

/// U-B1: whatever becomes of the budget, an older record is not found before a younger one.
#[test]
fn u_b1_the_budget_may_change_at_any_time() {
    let _limit = Limit::new();
    let disk = disk();
    let mut twin = Twin::new(17, 10_000);
    let mut store = Store::create(dir(), params(100, 1, 2), tiered(&disk)).unwrap();
    for round in 0..24_u64 {
        let bytes = [4 << 20, 64 << 20, 5 << 20, 256 << 20][(round % 4) as usize];
        store.set_index_memory(bytes).unwrap();
        assert_eq!(index(&store).budget, bytes);
        twin.block(&mut [&mut store], 1_500);
    }
    twin.compare(&store);
    store.check().unwrap();
    let refused = store.set_index_memory(1 << 20);
    assert!(matches!(refused, Err(Error::Option { option: "index", .. })));
    store.close().unwrap();
    let few = on(&disk).index(IndexMode::Tiered { memory_bytes: 1 << 20 });
    assert!(matches!(Store::open(dir(), few), Err(Error::Option { option: "index", .. })));
    let store = Store::open(dir(), on(&disk).index(IndexMode::Memory)).unwrap();
    let refused = store.set_index_memory(64 << 20);
    assert!(matches!(refused, Err(Error::Option { option: "index", .. })));
}

/// U-B1, and U-6 without its defect: scarcity of memory is a number of bytes. It decides neither what is found nor which
/// tier a record is in.
#[test]
fn u_b1_pressure_never_reorders_tiers() {
    let _limit = Limit::new();
    let (disk, other) = (disk(), disk());
    let available = Arc::new(AtomicU64::new(1000));
    let watch = {
        let available = Arc::clone(&available);
        MemoryWatch::new(move || {
            Some(MemoryFigures { limit: 1000, available: available.load(Ordering::SeqCst) })
        })
    };
    let budget = 16 << 20;
    let options = || {
        let mode = IndexMode::Tiered { memory_bytes: budget };
        tiered(&disk).index(mode).watch_memory(watch.clone())
    };
    let mut twin = Twin::new(21, 10_000);
    let mut store = Store::create(dir(), params(100, 1, 2), options()).unwrap();
    let mut memory =
        Store::create(dir(), params(100, 1, 2), on(&other).index(IndexMode::Memory).threads(1))
            .unwrap();
    use MemoryLevel::{Critical, Elevated, Emergency, None as Enough};
    for (round, (now, level, quarters)) in [
        (1000, Enough, 4),
        (190, Elevated, 3),
        (240, Elevated, 3),
        (10, Emergency, 1),
        (60, Emergency, 1),
        (90, Critical, 2),
        (10, Emergency, 1),
        (1000, Enough, 4),
        (99, Critical, 2),
        (160, Elevated, 3),
        (10, Emergency, 1),
    ]
    .into_iter()
    .enumerate()
    {
        available.store(now, Ordering::SeqCst);
        for _ in 0..3 {
            twin.block(&mut [&mut store, &mut memory], 1_500);
        }
        // Some pass or other of the thread looks.
        while index(&store).memory_level != level {
            std::thread::yield_now();
        }
        let stats = index(&store);
        assert_eq!((stats.budget, stats.budget_now), (budget, budget / 4 * quarters), "{round}");
        twin.compare(&store);
        if round % 3 == 2 {
            // A budget that is given meanwhile: the same part of it.
            store.set_index_memory(budget / 2).unwrap();
            assert_eq!(index(&store).budget_now, budget / 8 * quarters);
            store.set_index_memory(budget).unwrap();
            store.check().unwrap();
            store.close().unwrap();
            store = Store::open(dir(), options()).unwrap();
            twin.compare(&store);
        }
    }
    let stats = index(&store);
    assert!(stats.spills > 0 && stats.files > 0, "{stats:?}");
    store.check().unwrap();
}

/// Writers are slowed down before memory grows over the budget, and it can be seen why.
#[test]
fn a_writer_waits_for_a_slow_disk_and_says_so() {
    let _limit = Limit::new();
    let disk = PowerLossDisk::new(22);
    let on_disk: Arc<dyn Vfs> = Arc::new(disk.clone());
    let mut twin = Twin::new(22, 20_000);
    let options = tiered(&on_disk).checkpoint_bytes(0);
    let mut store = Store::create(dir(), params(100, 1, 2), options).unwrap();
    let reader = store.reader();
    let figures = || reader.stats().index.unwrap();
    twin.block(&mut [&mut store], 2_000);
    store.flush().unwrap();
    let before = figures().waits;
    assert_eq!(before.disk_failing, Waited::default());
    let held = disk.hold(Calls::Of(VfsOp::Sync, "/index/".into()));
    let blocks = 12;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            // The last is larger than all memory.
            (0..blocks).for_each(|_| twin.block(&mut [&mut store], 2_000));
            twin.block(&mut [&mut store], 30_000);
        });
        while figures().waits.now != Some(WaitReason::MemoryFull) {
            assert!(!writer.is_finished(), "it did not wait");
            std::thread::yield_now();
        }
        let stats = figures();
        let records = stats.memory_records;
        // Two ages of 256 records in a shard at least, in all 16 at most, and what was on its way.
        assert!((2 * 256..2 * 16 * 256 + 6_000).contains(&records), "{stats:?}");
        assert!(stats.failing.is_none() && stats.waits.disk_failing.times == 0, "{stats:?}");
        drop(held);
        writer.join().unwrap();
    });
    store.flush().unwrap();
    let waits = figures().waits;
    assert_eq!(waits.now, None);
    assert!(waits.memory_full.times > before.memory_full.times, "{waits:?}");
    assert!(waits.memory_full.time > before.memory_full.time, "{waits:?}");
    assert_eq!(waits.times(), waits.memory_full.times + waits.merges_behind.times);
    twin.compare(&store);
    store.check().unwrap();
}

/// What there is of the index is derived: lost or damaged, it is made again from the log.
#[test]
fn lost_or_damaged_files_make_opening_slower_and_nothing_else() {
    let _limit = Limit::new();
    let disk = disk();
    let mut twin = Twin::new(18, 10_000);
    let mut store = Store::create(dir(), params(100, 1, 2), tiered(&disk)).unwrap();
    (0..10).for_each(|_| twin.block(&mut [&mut store], 1_500));
    store.close().unwrap();
    let folder = dir().join("index");
    let files = |disk: &Arc<dyn Vfs>| disk.read_dir(&folder).unwrap();
    let damages: [Damage<'_>; 3] = [
        &|disk, path| disk.remove_file(path).unwrap(),
        &|disk, path| {
            let file = disk.open(path, hedgerow_vfs::OpenMode::ReadWrite).unwrap();
            file.set_len(file.len().unwrap() / 2).unwrap();
        },
        &|disk, path| {
            let file = disk.open(path, hedgerow_vfs::OpenMode::ReadWrite).unwrap();
            file.write_all_at(&[0xFF; 8], 16).unwrap();
        },
    ];
    for damage in damages {
        let copy = common::copy(&disk);
        let name = files(&copy).into_iter().next().unwrap();
        damage(&copy, &folder.join(name));
        let mut store = Store::open(dir(), tiered(&copy)).unwrap();
        assert_eq!(store.stats().opened_from, None);
        twin.compare(&store);
        store.check().unwrap();
        store.close().unwrap();
        let store = Store::open(dir(), tiered(&copy)).unwrap();
        assert!(store.stats().opened_from.is_some());
        twin.compare(&store);
    }
    // Without the folder.
    let copy = common::copy(&disk);
    copy.remove_dir_all(&folder).unwrap();
    let store = Store::open(dir(), tiered(&copy)).unwrap();
    twin.compare(&store);
}

/// Who only reads has the index that is there, and writes nothing.
#[test]
fn a_reader_takes_the_index_that_is_there() {
    let _limit = Limit::new();
    let disk = disk();
    let mut twin = Twin::new(19, 10_000);
    let mut store = Store::create(dir(), params(100, 1, 2), tiered(&disk)).unwrap();
    (0..10).for_each(|_| twin.block(&mut [&mut store], 1_500));
    let mut beside = Store::open_read_only(dir(), on(&disk).threads(1)).unwrap();
    (0..10).for_each(|_| twin.block(&mut [&mut store], 1_500));
    store.flush().unwrap();
    beside.refresh().unwrap();
    store.close().unwrap();
    let before: Vec<_> = disk.read_dir(&dir().join("index")).unwrap();
    for options in [on(&disk), tiered(&disk)] {
        let store = Store::open(dir(), options.read_only()).unwrap();
        assert!(store.stats().index.is_some() && store.stats().opened_from.is_some());
        twin.compare(&store);
    }
    assert_eq!(disk.read_dir(&dir().join("index")).unwrap(), before);
    beside.refresh().unwrap();
    let reader = beside.reader();
    for (key, value) in &twin.pairs {
        assert_eq!(reader.get(key).unwrap().as_ref(), Some(value));
    }
}

/// A backup has the files of the index that its checkpoint names, and opens from them; beside a writer too.
#[test]
fn a_backup_has_the_index() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name);
    let real: Arc<dyn Vfs> = Arc::new(RealDisk);
    let mut twin = Twin::new(21, 10_000);
    let mut store = Store::create(path("store"), params(100, 1, 2), tiered(&real)).unwrap();
    (0..10).for_each(|_| twin.block(&mut [&mut store], 1_500));
    store.flush().unwrap();
    let report = store.reader().backup(path("linked"), BackupOptions::new()).unwrap();
    assert!(report.checked.is_some() && report.linked_files > SHARDS as u64, "{report:?}");
    // Closed, so that the last height is known to be durable by who looks.
    store.close().unwrap();
    let mut beside = Store::open_read_only(path("store"), tiered(&real)).unwrap();
    beside.backup(path("copied"), BackupOptions::new().link(false).check(false)).unwrap();
    drop(beside);
    store = Store::open(path("store"), tiered(&real)).unwrap();
    let then = twin.pairs.clone();
    // What the store merges away later stays in the copies.
    (0..10).for_each(|_| twin.block(&mut [&mut store], 1_500));
    store.check().unwrap();
    store.close().unwrap();
    let now = std::mem::replace(&mut twin.pairs, then);
    for name in ["linked", "copied"] {
        let mut copy = Store::open(path(name), tiered(&real)).unwrap();
        assert!(copy.stats().opened_from.is_some(), "{name}");
        twin.compare(&copy);
        copy.check().unwrap();
        copy.close().unwrap();
    }
    twin.pairs = now;
    let store = Store::open(path("store"), tiered(&real)).unwrap();
    twin.compare(&store);
}
