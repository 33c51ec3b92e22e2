//! Many small blocks, which is what a chain does all day: what each costs on the disk, what is held of
//! them, and what opening takes, is bounded by what is kept.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk};
use hedgerow::disk::Vfs;
use hedgerow::{Height, Options, Store, StoreParams};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::{Hook, HookedDisk, OpenMode, VfsOp};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

const FOLDERS: [&str; 3] = ["log", "meta", "twigs"];
/// Blocks after which the manifest is committed, unless somebody says otherwise.
const MANIFEST_BLOCKS: u64 = 64;

/// A disk that counts what a store writes and reads, by folder.
#[derive(Debug, Default)]
struct Counts {
    written: [AtomicU64; 3],
    read: [AtomicU64; 3],
    /// The process is gone: nothing it does reaches the disk any more.
    dead: AtomicBool,
}

impl Counts {
    fn on(self: &Arc<Self>, disk: &Arc<dyn Vfs>) -> Arc<dyn Vfs> {
        let counts = Arc::clone(self);
        let hook: Hook = Arc::new(move |call| {
            if counts.dead.load(Relaxed) && call.op.changes() {
                return Err(call.error(std::io::Error::other("dead")));
            }
            let which = match call.op {
                VfsOp::Write => &counts.written,
                VfsOp::Read => &counts.read,
                _ => return Ok(()),
            };
            let parent = call.path.parent().and_then(Path::file_name);
            let folder = FOLDERS.iter().position(|name| parent.is_some_and(|it| it == *name));
            if let (Some(folder), Some(len)) = (folder, call.len) {
                which[folder].fetch_add(len, Relaxed);
            }
            Ok(())
        });
        Arc::new(HookedDisk::new(Arc::clone(disk), hook))
    }

    fn written(&self) -> [u64; 3] {
        self.written.each_ref().map(|bytes| bytes.load(Relaxed))
    }

    fn read(&self) -> [u64; 3] {
        self.read.each_ref().map(|bytes| bytes.load(Relaxed))
    }
}

/// Bytes of the files of a folder whose names begin so.
fn held(disk: &Arc<dyn Vfs>, folder: &str, begin: &str) -> u64 {
    let folder = dir().join(folder);
    let names = disk.read_dir(&folder).unwrap().into_iter();
    names
        .filter(|name| name.to_str().unwrap().starts_with(begin))
        .map(|name| disk.open(&folder.join(name), OpenMode::Read).unwrap().len().unwrap())
        .sum()
}

/// Submits so many blocks of five updates of 2,000 keys.
fn blocks(store: &mut Store, rng: &mut SplitMix64, count: u64) {
    for _ in 0..count {
        let height = store.height().next();
        let mut block = store.begin_block(height).unwrap();
        for _ in 0..5 {
            block.put(format!("key {}", rng.below(2_000)), rng.next_u64().to_le_bytes()).unwrap();
        }
        block.submit().unwrap();
    }
    store.flush().unwrap();
}

/// Small caches, so that they are full soon; `counts` sees what happens to the disk.
fn options(disk: &Arc<dyn Vfs>, counts: &Arc<Counts>) -> Options {
    let options = Options::new().disk(counts.on(disk)).threads(1);
    options.tail_bytes(1 << 20).entry_cache_bytes(1 << 20)
}

/// Bytes per block of five operations: 2 KB of log, 2 KB of metadata, 150 bytes of twig records. Before
/// the log was the journal it was 36,982 bytes. What is held in memory is flat.
#[test]
fn a_small_block_costs_little_and_leaves_nothing_behind() {
    let _limit = Limit::new();
    let (disk, counts) = (disk(), Arc::new(Counts::default()));
    let options = || options(&disk, &counts).keep_heights(16).keep_history(64);
    let mut store = Store::create(dir(), StoreParams::default(), options()).unwrap();
    let mut rng = SplitMix64::new(5);
    blocks(&mut store, &mut rng, 500);
    let (mut memory, mut meta) = ([0; 2], [0; 2]);
    let (steps, mut twigs) = (12, 0);
    for step in 0..steps {
        let before = counts.written();
        blocks(&mut store, &mut rng, 512);
        let after = counts.written();
        let [log_bytes, meta_bytes, twig_bytes] =
            std::array::from_fn(|folder| (after[folder] - before[folder]) / 512);
        let stats = store.stats();
        println!(
            "{log_bytes} {meta_bytes} {twig_bytes} bytes per block; {} of tail, {} of cache, {} of index \
             and tree",
            stats.log.tail_bytes,
            stats.log.cache_bytes,
            stats.index_bytes + stats.tree_bytes
        );
        assert!((500..2_000).contains(&log_bytes), "{log_bytes}");
        assert!((50..2_000).contains(&meta_bytes), "{meta_bytes}");
        twigs += twig_bytes;
        let half = usize::from(step >= steps / 2);
        let bytes = stats.index_bytes + stats.tree_bytes;
        let held_now = bytes as u64 + stats.log.tail_bytes + stats.log.cache_bytes;
        memory[half] = memory[half].max(held_now);
        meta[half] = meta[half].max(held(&disk, "meta", ""));
    }
    // A record for every 2,048 entries of a shard.
    assert!((10 * steps..150 * steps).contains(&twigs), "{twigs}");
    // One commit of the manifest covers as many blocks as it may.
    let commits = store.stats().commits;
    assert!(commits <= (500 + steps * 512) / MANIFEST_BLOCKS + 2, "{commits} commits");
    assert!(memory[1] <= memory[0] + memory[0] / 20, "memory grew: {memory:?}");
    assert!(meta[1] <= meta[0], "metadata grew: {meta:?}");
    store.check().unwrap();
}

/// An archive keeps every height. Its history costs 708 bytes each, and neither the database nor what
/// opening reads and writes of it grows with them: not after a process that died, which has it written
/// once more.
#[test]
fn opening_an_archive_does_not_read_its_history() {
    let _limit = Limit::new();
    let (disk, counts) = (disk(), Arc::new(Counts::default()));
    let mut store =
        Store::create(dir(), StoreParams::default(), options(&disk, &counts).keep_all()).unwrap();
    let mut rng = SplitMix64::new(6);
    let mut database = [0; 2];
    let mut opened = vec![];
    for step in 0..4_u64 {
        blocks(&mut store, &mut rng, 3_000);
        let half = (step / 2) as usize;
        database[half] = database[half].max(held(&disk, "meta", "meta"));
        // The process dies; its blocks are durable, and the manifest does not know the last ones.
        let root = store.reader().root();
        let journal = store.height().0 - (store.height().0 / MANIFEST_BLOCKS) * MANIFEST_BLOCKS;
        counts.dead.store(true, Relaxed);
        drop(store);
        counts.dead.store(false, Relaxed);
        let (read, written) = (counts.read(), counts.written());
        store = Store::open(dir(), options(&disk, &counts).keep_all()).unwrap();
        let read: [u64; 3] = std::array::from_fn(|folder| counts.read()[folder] - read[folder]);
        let written: [u64; 3] =
            std::array::from_fn(|folder| counts.written()[folder] - written[folder]);
        println!("{} heights: opening read {read:?}, wrote {written:?}", store.height());
        assert_eq!(store.reader().root(), root);
        // Only the journal is written once more.
        assert!(written[0] <= (journal + MANIFEST_BLOCKS) * 2_000, "{written:?}");
        opened.push((read[1], written[1]));
    }
    let (early, late) = (opened[1], opened[3]);
    assert!(late.0 <= early.0 + early.0 / 4 && late.1 <= early.1 + early.1 / 4, "{opened:?}");
    assert!(late.1 <= 6 << 20, "{opened:?}");
    assert!(database[1] <= database[0] + (64 << 10) && database[1] <= 8 << 20, "{database:?}");
    let reader = store.reader();
    for height in (0..=store.height().0).step_by(37) {
        reader.root_at(Height(height)).unwrap();
    }
    let rows = held(&disk, "meta", "history-");
    assert!(rows > 4 * 2_048 * 700, "{rows}");
    assert!(rows <= store.height().0 * 709, "{rows}");
    let report = store.check().unwrap();
    assert_eq!(report.history_rows, store.height().0 + 1);
}
