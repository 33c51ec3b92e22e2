//! What opening a store costs in memory, and what many small blocks do, as the allocator sees it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hedgerow::disk::{OneWayDisk, ReadWay};
use hedgerow::{CompactionRule, Options, Store, StoreParams};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One test at a time: there is one allocator.
static ALONE: Mutex<()> = Mutex::new(());

/// The system's allocator, with a count of the bytes in use and of the most that were.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn more(bytes: usize) {
    let now = IN_USE.fetch_add(bytes, Relaxed) + bytes;
    MOST.fetch_max(now, Relaxed);
}

// SAFETY: every call is handed to `System` as it came; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same; `ptr` is from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        more(new_size);
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `realloc`, which is the same; `ptr` is from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes in use at most while a store is opened, beyond what was in use before.
fn opening(dir: &Path) -> usize {
    let before = IN_USE.load(Relaxed);
    MOST.store(before, Relaxed);
    let store = Store::open(dir, Options::new().threads(1)).unwrap();
    let most = MOST.load(Relaxed) - before;
    drop(store);
    most
}

/// C1: entries that were replaced long ago are still in the log when nothing compacts. Opening reads
/// them all and keeps nothing of them but their bits and their part of the tree, under one byte each.
/// It was 16 bytes of every entry ever written.
#[test]
fn opening_keeps_nothing_of_dead_entries() {
    let _limit = Limit::new();
    let _alone = ALONE.lock();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("store");
    let params = StoreParams::default().with_compaction(CompactionRule::QMDB);
    let mut rng = SplitMix64::new(1);
    let mut measured = [(0, 0); 2];
    for (blocks, measured) in [20, 220].into_iter().zip(&mut measured) {
        let mut store =
            Store::open_or_create(&dir, params, Options::new().threads(1).keep_all()).unwrap();
        for _ in 0..blocks {
            let height = store.height().next();
            let mut block = store.begin_block(height).unwrap();
            for _ in 0..5_000 {
                block.put(format!("key {}", rng.below(20_000)), "value").unwrap();
            }
            block.submit().unwrap();
        }
        store.flush().unwrap();
        let entries = store.stats().entries as usize;
        store.close().unwrap();
        *measured = (entries, opening(&dir));
    }
    let [(few, little), (many, more)] = measured;
    println!("{few} entries: {little} bytes at most; {many} entries: {more} bytes");
    let dead = many - few;
    assert!(dead > 900_000, "{dead} more entries");
    // The cache of twig records fills meanwhile; it has a bound of its own.
    let cache = 4 << 20;
    let each = more.saturating_sub(little + cache) as f64 / dead as f64;
    assert!(each < 2.0, "{each:.1} bytes for each dead entry");
}

/// Bytes in use after half of the blocks, and after all: five updates each, of few keys.
fn small_blocks(blocks: u64, options: Options) -> [usize; 2] {
    let dir = tempfile::tempdir().unwrap();
    let before = IN_USE.load(Relaxed);
    let options = options.threads(1).entry_cache_bytes(0).keep_heights(16).keep_history(32);
    // A ring for reads at once is the process's, and is made by whoever first meets a slow read.
    let options = options.disk(Arc::new(OneWayDisk::new(ReadWay::OneByOne)));
    let mut store =
        Store::create(dir.path().join("store"), StoreParams::default(), options).unwrap();
    let mut rng = SplitMix64::new(2);
    let mut in_use = [0; 2];
    for number in 1..=blocks {
        let height = store.height().next();
        let mut block = store.begin_block(height).unwrap();
        for _ in 0..5 {
            block.put(format!("key {}", rng.below(500)), rng.next_u64().to_le_bytes()).unwrap();
        }
        block.submit().unwrap();
        if number == blocks / 2 || number == blocks {
            store.flush().unwrap();
            // A checkpoint may be on its way still: what stays is the least that is seen for a while.
            let seen = (0..100).map(|_| {
                std::thread::sleep(Duration::from_millis(3));
                IN_USE.load(Relaxed)
            });
            in_use[usize::from(number == blocks)] = seen.min().unwrap_or_default() - before;
        }
    }
    in_use
}

/// The youngest part of the log is held in memory, within a bound that counts what it takes there: of a
/// record of few entries that is more than its bytes. It was 5 KB for a record of 1.3.
#[test]
fn small_blocks_take_the_memory_that_the_tail_may_have() {
    let _limit = Limit::new();
    let _alone = ALONE.lock();
    let tail = 1 << 20;
    // What is allocated once in the life of a process, whoever comes first.
    small_blocks(2, Options::new());
    let [without_half, without] = small_blocks(3_000, Options::new().tail_bytes(0));
    let [half, all] = small_blocks(3_000, Options::new().tail_bytes(tail as u64));
    println!(
        "{without_half}, then {without} bytes without a tail; with {tail} bytes of it {half}, then {all}"
    );
    // Trees and bits grow with the entries; the tail was full at half, and must not grow with the blocks.
    let (held_half, held) = (half.saturating_sub(without_half), all.saturating_sub(without));
    assert!(held > tail / 2, "a tail was held: {held}");
    assert!(held <= tail + tail / 4, "{held} bytes");
    assert!(held <= held_half + tail / 8, "the tail grew: {held_half}, then {held}");
}
