//! Opening from a checkpoint: the same state as from the log, sooner; and from the log, whatever is wrong with
//! the checkpoint.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::disks::log_waits;
use common::{Gate, dir, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{Digest, Height, Options, Progress, Stats, Store};
use hedgerow_testkit::generate::{BlockGen, GenShape};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_testkit::{Limit, Model};
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use hedgerow_vfs::{OpenMode, VfsOp};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const SEED: u64 = 0x00C4_EC40;

fn checkpoints() -> PathBuf {
    dir().join("checkpoints")
}

/// The checkpoint's file.
fn file(disk: &PowerLossDisk) -> PathBuf {
    let names = disk.read_dir(&checkpoints()).unwrap();
    let [name] = &names[..] else { panic!("{names:?}") };
    checkpoints().join(name)
}

fn options(disk: &PowerLossDisk) -> Options {
    on(&(Arc::new(disk.clone()) as Arc<dyn Vfs>)).segment_bytes(200_000).manifest_blocks(3)
}

/// Hands in so many blocks, some with operations of one interface and some of the other.
fn go_on(store: &mut Store, blocks: &mut BlockGen, model: &mut Model, count: usize) {
    for number in 0..count {
        let block = if number % 2 == 0 {
            let block = blocks.strict();
            model.apply(&block);
            let tasks = common::tasks(&block);
            store.submit_tasks(Height(block.height), &tasks, vec![]).unwrap()
        } else {
            let (height, change_sets) = blocks.net();
            model.apply_net(height, &change_sets);
            let mut block = store.begin_block(Height(height)).unwrap();
            common::fill(&mut block, &change_sets).unwrap();
            block.submit().unwrap()
        };
        assert_eq!(block.root().unwrap(), model.state_root(), "height {}", model.height());
    }
    store.flush().unwrap();
}

/// The store has what the model has, and its index is what the log says.
fn compare(store: &mut Store, model: &Model, keys: &[Vec<u8>]) {
    let reader = store.reader();
    assert_eq!(reader.height().0, model.height());
    for key in keys {
        assert_eq!(reader.get(key).unwrap().as_deref(), model.get(key), "{key:?}");
    }
    store.check().unwrap();
}

fn generator(seed: u64) -> BlockGen {
    let shape =
        GenShape { keys: 3_000, keys_per_change_set: 700, change_sets: 2, ..GenShape::default() };
    BlockGen::new(seed, shape)
}

/// Random blocks, checkpoints as often as possible, and the process gone at any time: what opens is the
/// same state, from a checkpoint.
#[test]
fn what_opens_from_a_checkpoint_is_what_the_log_says() {
    let _limit = Limit::new();
    for (number, rule) in [(1, 4, 5), (1, 1, 1), (4_097, 7, 10)].into_iter().enumerate() {
        let seed = SEED + number as u64;
        println!("seed {seed}");
        let mut rng = SplitMix64::new(seed);
        let mut disk = PowerLossDisk::new(seed);
        let params = params(rule.0, rule.1, rule.2);
        let (mut blocks, mut model) =
            (generator(seed), Model::without_history(params.compaction()));
        let often = |disk: &PowerLossDisk| options(disk).checkpoint_bytes(1 + 300_000 * (seed % 2));
        let mut store = Store::create(dir(), params, often(&disk)).unwrap();
        let mut from_one = 0;
        for life in 0..8 {
            go_on(&mut store, &mut blocks, &mut model, 1 + rng.below(9) as usize);
            if life % 3 == 2 {
                store.close().unwrap();
            } else {
                // What is being written of a checkpoint is left half done.
                disk.power_off();
                drop(store);
            }
            disk = disk.process_death();
            store = Store::open(dir(), often(&disk)).unwrap();
            from_one += u32::from(store.stats().opened_from.is_some());
            compare(&mut store, &model, blocks.keys());
        }
        assert!(from_one > 4, "seed {seed}: {from_one} of 8");
    }
}

/// A store that was closed, its root, and the model of it.
fn closed(seed: u64) -> (PowerLossDisk, Model, BlockGen) {
    let disk = PowerLossDisk::new(seed);
    let params = params(1, 4, 5);
    let (mut blocks, mut model) = (generator(seed), Model::without_history(params.compaction()));
    let mut store = Store::create(dir(), params, options(&disk)).unwrap();
    go_on(&mut store, &mut blocks, &mut model, 9);
    store.close().unwrap();
    (disk.process_death(), model, blocks)
}

/// Closing leaves a checkpoint of the last height, and opening reads nothing of the log.
#[test]
fn a_store_that_was_closed_opens_from_its_last_height() {
    let _limit = Limit::new();
    let (disk, mut model, mut blocks) = closed(SEED);
    let mut store = Store::open(dir(), options(&disk)).unwrap();
    let stats = store.stats();
    assert_eq!((stats.opened_from, stats.checkpoint), (Some(Height(9)), Some(Height(9))));
    compare(&mut store, &model, blocks.keys());
    go_on(&mut store, &mut blocks, &mut model, 5);
    compare(&mut store, &model, blocks.keys());
    // Few bytes since: closing writes no other one, and the old one is good for what it has.
    let before = store.stats().checkpoint;
    store.close().unwrap();
    let store = Store::open(dir(), options(&disk)).unwrap();
    assert_eq!(store.stats().opened_from, store.stats().checkpoint);
    assert!(store.stats().opened_from >= before);
    assert_eq!(store.reader().root().1, model.state_root());
}

/// Whatever byte of it changes, and however much of it is missing: opening reads the log instead, or the
/// byte meant nothing.
#[test]
fn damage_costs_time_and_nothing_else() {
    let _limit = Limit::new();
    let (disk, mut model, blocks) = closed(SEED);
    let path = file(&disk);
    let len = disk.open(&path, OpenMode::Read).unwrap().len().unwrap();
    let mut rng = SplitMix64::new(SEED);
    let (mut head, mut rest) = ((0..1616).step_by(37).collect::<Vec<_>>(), vec![len - 1]);
    rest.extend((0..40).map(|_| rng.below(len)));
    head.extend(rest);
    for at in head {
        let copy = disk.settled_copy(at);
        copy.flip(&path, at, 1 << rng.below(8)).unwrap();
        let store = Store::open(dir(), options(&copy)).unwrap();
        assert_eq!(store.stats().opened_from, None, "byte {at}");
        assert_eq!(store.reader().root().1, model.state_root(), "byte {at}");
    }
    for cut in [0, 1, 1359, 65_536, len - 1] {
        let copy = disk.settled_copy(cut);
        copy.open(&path, OpenMode::ReadWrite).unwrap().set_len(cut).unwrap();
        let store = Store::open(dir(), options(&copy)).unwrap();
        assert_eq!(store.stats().opened_from, None, "{cut} bytes");
        assert_eq!(store.reader().root().1, model.state_root(), "{cut} bytes");
    }
    let copy = disk.settled_copy(0);
    copy.remove_file(&path).unwrap();
    let mut store = Store::open(dir(), options(&copy)).unwrap();
    assert_eq!(store.stats().opened_from, None);
    compare(&mut store, &model, blocks.keys());
}

/// What opening reports on its way, of a store that is then good.
fn reports(disk: &PowerLossDisk, root: Digest) -> (Vec<Progress>, Stats) {
    let seen = Arc::new(Mutex::new(Vec::<Progress>::new()));
    let noted = Arc::clone(&seen);
    let options = options(disk).checkpoint_bytes(0).on_progress(move |progress| {
        noted.lock().unwrap().push(progress);
    });
    let store = Store::open(dir(), options).unwrap();
    assert_eq!(store.reader().root().1, root);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let (mut last, first) = (0, seen[0].total_bytes);
    for progress in &seen {
        assert!(progress.scanned_bytes > last, "{seen:?}");
        assert!(progress.scanned_bytes <= progress.total_bytes, "{seen:?}");
        assert!(progress.total_bytes >= first, "{seen:?}");
        last = progress.scanned_bytes;
    }
    assert_eq!(seen.last().unwrap().total_bytes, last, "it ends at the total");
    (seen, store.stats())
}

/// Opening reports the bytes of the checkpoint and of the log behind it under one total.
#[test]
fn a_checkpoint_is_part_of_the_progress() {
    let _limit = Limit::new();
    let (disk, mut model, mut blocks) = closed(SEED);
    let mut store = Store::open(dir(), options(&disk).checkpoint_bytes(0)).unwrap();
    go_on(&mut store, &mut blocks, &mut model, 3);
    store.close().unwrap();
    let len = disk.open(&file(&disk), OpenMode::Read).unwrap().len().unwrap();
    let pages = len.div_ceil(64 << 10);
    let (seen, stats) = reports(&disk, model.state_root());
    assert_eq!(stats.opened_from, Some(Height(9)));
    assert!(stats.replayed_bytes > 0);
    // All but the checksums of its pages and its head.
    let total = len - 4 * pages - 1_616 + stats.replayed_bytes;
    assert!(seen.iter().all(|progress| progress.total_bytes == total), "{total}: {seen:?}");
    assert!(seen.len() as u64 > pages, "{pages} pages: {seen:?}");
}

/// If the checkpoint is damaged, what was read of it stays read, and the log is read in addition.
#[test]
fn a_damaged_checkpoint_makes_the_progress_longer() {
    let _limit = Limit::new();
    let (disk, mut model, _) = closed(SEED);
    let root = model.state_root();
    let path = file(&disk);
    let len = disk.open(&path, OpenMode::Read).unwrap().len().unwrap();
    let without = disk.settled_copy(0);
    without.remove_file(&path).unwrap();
    let log_bytes = reports(&without, root).0[0].total_bytes;
    for at in [70_000, len / 2, len - 1] {
        let copy = disk.settled_copy(at);
        copy.flip(&path, at, 1).unwrap();
        let (seen, stats) = reports(&copy, root);
        assert_eq!(stats.opened_from, None, "byte {at}");
        let totals: Vec<_> = seen.chunk_by(|a, b| a.total_bytes == b.total_bytes).collect();
        let [of_checkpoint @ .., of_log] = &totals[..] else { panic!("{seen:?}") };
        assert!(of_checkpoint.len() < 2, "{seen:?}");
        // The damage may be in the first page that is read.
        let in_vain = of_checkpoint.first().and_then(|told| told.last());
        let in_vain = in_vain.map_or(0, |progress| progress.scanned_bytes);
        assert!(in_vain < len && (at < len - 1 || in_vain > 0), "byte {at}: {seen:?}");
        assert_eq!(of_log[0].total_bytes, in_vain + log_bytes, "byte {at}: {seen:?}");
    }
}

/// A checkpoint of another store, or of another height of this one, is none.
#[test]
fn a_checkpoint_of_something_else_is_not_believed() {
    let _limit = Limit::new();
    let (disk, mut model, _) = closed(SEED);
    let (other, _, _) = closed(SEED + 1);
    let path = file(&disk);
    let read = |disk: &PowerLossDisk| {
        let file = disk.open(&file(disk), OpenMode::Read).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    };
    let theirs = read(&other);
    let ours = disk.open(&path, OpenMode::ReadWrite).unwrap();
    ours.set_len(theirs.len() as u64).unwrap();
    ours.write_all_at(&theirs, 0).unwrap();
    let store = Store::open(dir(), options(&disk)).unwrap();
    assert_eq!(store.stats().opened_from, None);
    assert_eq!(store.reader().root().1, model.state_root());
}

/// A twig record that is damaged is made again: opening does not rely on the checkpoint for what it cannot
/// tell.
#[test]
fn damaged_twig_records_are_made_again() {
    let _limit = Limit::new();
    let (disk, mut model, _) = closed(SEED);
    let twigs = dir().join("twigs");
    let name = disk.read_dir(&twigs).unwrap().remove(0);
    disk.flip(&twigs.join(name), 9_000, 1).unwrap();
    let mut store = Store::open(dir(), options(&disk)).unwrap();
    assert_eq!(store.stats().opened_from, None);
    assert_eq!(store.reader().root().1, model.state_root());
    assert_eq!(store.check().unwrap().twigs_missing, 0);
}

/// Without room for a checkpoint the store goes on, and says so to nobody but the log of events.
#[test]
fn a_checkpoint_that_cannot_be_written_keeps_nobody() {
    let _limit = Limit::new();
    for kind in [FaultKind::Full, FaultKind::Eio] {
        let disk = PowerLossDisk::new(SEED);
        let params = params(1, 4, 5);
        let (mut blocks, mut model) =
            (generator(SEED), Model::without_history(params.compaction()));
        let often = options(&disk).checkpoint_bytes(1);
        let mut store = Store::create(dir(), params, often).unwrap();
        for op in [VfsOp::Write, VfsOp::Sync] {
            disk.plan(Fault::from_then_on(Calls::Of(op, "checkpoints".into()), 0, kind));
        }
        go_on(&mut store, &mut blocks, &mut model, 6);
        assert_eq!(store.stats().checkpoint, None);
        assert!(!disk.trace().failed.is_empty());
        compare(&mut store, &model, blocks.keys());
        store.close().unwrap();
        let disk = disk.process_death();
        let store = Store::open(dir(), options(&disk)).unwrap();
        assert_eq!(store.stats().opened_from, None);
        assert_eq!(store.reader().root().1, model.state_root());
    }
}

/// One that failed is made up for on closing, however little was written since.
#[test]
fn what_could_not_be_written_is_written_on_closing() {
    let _limit = Limit::new();
    let disk = PowerLossDisk::new(SEED);
    let params = params(1, 4, 5);
    let (mut blocks, mut model) = (generator(SEED), Model::without_history(params.compaction()));
    // Genesis is more than that: the first block asks for one, and no other does.
    let often = options(&disk).checkpoint_bytes(2 << 20);
    let mut store = Store::create(dir(), params, often).unwrap();
    let writes = Calls::Of(VfsOp::Write, "checkpoints".into());
    disk.plan(Fault::from_then_on(writes, 0, FaultKind::Full));
    go_on(&mut store, &mut blocks, &mut model, 4);
    while disk.trace().failed.is_empty() {
        std::thread::yield_now();
    }
    disk.plan_nothing();
    assert_eq!(store.stats().checkpoint, None);
    store.close().unwrap();
    let mut store = Store::open(dir(), options(&disk.process_death())).unwrap();
    assert_eq!(store.stats().opened_from, Some(Height(4)));
    compare(&mut store, &model, blocks.keys());
}

/// A damaged one is replaced when the store closes, though no block came.
#[test]
fn a_damaged_one_is_replaced_on_closing() {
    let _limit = Limit::new();
    let (disk, mut model, _) = closed(SEED);
    disk.flip(&file(&disk), 70_000, 1).unwrap();
    for opened_from in [None, Some(Height(9)), Some(Height(9))] {
        let store = Store::open(dir(), options(&disk)).unwrap();
        assert_eq!(store.stats().opened_from, opened_from);
        assert_eq!(store.reader().root().1, model.state_root());
        store.close().unwrap();
    }
}

/// A checkpoint may be whole before its block is durable. The manifest of an earlier height does not name it.
#[test]
fn what_is_not_durable_is_not_named() {
    let _limit = Limit::new();
    let gate = Arc::new(Gate::default());
    let disk = log_waits(VfsOp::Sync, &gate);
    let often = on(&disk).checkpoint_bytes(1).manifest_blocks(1).max_in_flight(4);
    let mut store = Store::create(dir(), params(1, 4, 5), often).unwrap();
    gate.close();
    for height in 1..=3 {
        let mut block = store.begin_block(Height(height)).unwrap();
        block.put("key", height.to_string()).unwrap();
        block.submit().unwrap().root().unwrap();
        while store.stats().checkpoint != Some(Height(height)) {
            std::thread::yield_now();
        }
    }
    assert_eq!(store.reader().durable_height(), Height(0));
    gate.open();
    store.flush().unwrap();
    store.close().unwrap();
    let mut store = Store::open(dir(), on(&disk)).unwrap();
    assert_eq!(store.stats().opened_from, Some(Height(3)));
    store.check().unwrap();
}

/// No checkpoints on demand, and an old one is still good.
#[test]
fn an_option_turns_them_off() {
    let _limit = Limit::new();
    let (disk, mut model, mut blocks) = closed(SEED);
    let mut store = Store::open(dir(), options(&disk).checkpoint_bytes(0)).unwrap();
    go_on(&mut store, &mut blocks, &mut model, 9);
    assert!(store.stats().log_end.0 > 1 << 20);
    store.close().unwrap();
    let mut store = Store::open(dir(), options(&disk).checkpoint_bytes(0)).unwrap();
    assert_eq!(store.stats().opened_from, Some(Height(9)));
    assert_eq!(store.reader().root().1, model.state_root());
    compare(&mut store, &model, blocks.keys());
}
