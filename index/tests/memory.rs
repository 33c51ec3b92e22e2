//! What the index costs, as its allocator sees it: bytes per key, and the largest single request
//! while it grows (a pause proportional to the index would show there).
//!
//! `cargo test --release -p hedgerow-index --test memory -- --ignored --nocapture` measures 10
//! million keys, and how long single inserts take on the way.

#![expect(clippy::unwrap_used, reason = "a test's panic is its failure report")]

use hedgerow_index::{MAX_BUCKET_SLOTS, ShardIndex};
use hedgerow_types::{KeyHash, LogPosition, SHARDS, ShardId};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The system's allocator, with a count of the bytes in use and of the largest request.
struct Counting;

thread_local! {
    /// Whether requests of this thread count for `LARGEST`: the harness has threads of its own.
    static COUNTS: Cell<bool> = const { Cell::new(false) };
}

fn count_request(size: usize) {
    if COUNTS.get() {
        LARGEST.fetch_max(size, Relaxed);
    }
}

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);
/// One measurement at a time: the counters are the process's.
static MEASURING: Mutex<()> = Mutex::new(());

// SAFETY: every call is handed to `System` as it came; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        count_request(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same; `ptr` is from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        IN_USE.fetch_add(new_size, Relaxed);
        IN_USE.fetch_sub(layout.size(), Relaxed);
        count_request(new_size);
        // SAFETY: the caller keeps the contract of `realloc`, which is the same; `ptr` is from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A stand-in for SHA-256 of `n`: uniform, and cheap (splitmix64).
fn key(n: u64) -> KeyHash {
    let mut bytes = [0; 32];
    for (i, word) in bytes.chunks_exact_mut(8).enumerate() {
        let mut x = (4 * n + i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word.copy_from_slice(&(x ^ (x >> 31)).to_be_bytes());
    }
    KeyHash(bytes)
}

fn position(n: u64) -> LogPosition {
    LogPosition(160 * n)
}

/// The 16 shards of a store, and what the allocator says of them.
struct Measured {
    shards: Vec<ShardIndex>,
    before: usize,
}

impl Measured {
    fn new() -> Self {
        let before = IN_USE.load(Relaxed);
        let mut shards = Vec::with_capacity(SHARDS);
        shards.resize_with(SHARDS, ShardIndex::new);
        COUNTS.set(true);
        LARGEST.store(0, Relaxed);
        Self { shards, before }
    }

    fn insert(&mut self, n: u64) {
        let key = key(n);
        self.shards[key.shard().index()].insert(&key, position(n)).unwrap();
    }

    fn keys(&self) -> usize {
        self.shards.iter().map(ShardIndex::len).sum()
    }

    /// Bytes in use per key. Checks that the index's own account agrees.
    fn bytes_per_key(&self, when: &str) -> f64 {
        let shell = SHARDS * size_of::<ShardIndex>();
        let counted = IN_USE.load(Relaxed) - self.before - shell;
        let reported: usize = self.shards.iter().map(ShardIndex::heap_bytes).sum();
        assert!(
            reported.abs_diff(counted) * 20 <= counted,
            "{when}: heap_bytes {reported}, allocator {counted}"
        );
        let per_key = counted as f64 / self.keys() as f64;
        println!("{when}: {} keys, {per_key:.2} bytes per key, reported {reported}", self.keys());
        per_key
    }
}

#[test]
fn keys_cost_at_most_13_bytes() {
    let _alone = MEASURING.lock().unwrap();
    let mut measured = Measured::new();
    for n in 0..1_000_000 {
        measured.insert(n);
    }
    assert!(measured.bytes_per_key("inserted one by one") <= 13.0);
    // One bucket and its room, and the slot that splits it.
    let bound = 10 * (MAX_BUCKET_SLOTS * 9 / 8 + 2);
    assert!(LARGEST.load(Relaxed) <= bound, "an insert requested {LARGEST:?} bytes");

    drop(measured);

    let mut measured = Measured::new();
    for shard in ShardId::all() {
        let entries = (0..1_000_000)
            .filter(|&n| key(n).shard() == shard)
            .map(|n| (key(n).prefix_u64(), position(n)))
            .collect();
        measured.shards[shard.index()] = ShardIndex::build(entries).unwrap();
    }
    assert!(measured.bytes_per_key("built at once") <= 12.0);
}

/// One shard as it is in a store of 100 million keys: groups have directories.
#[test]
fn a_shard_of_a_large_store_costs_no_more() {
    let _alone = MEASURING.lock().unwrap();
    let mut measured = Measured::new();
    measured.shards.truncate(1);
    let count = 100_000_000 / SHARDS as u64 / 8;
    // An eighth of the groups gets the keys, so that they are as full as they would be.
    let fold = |n: u64| {
        let mut key = key(n);
        key.0[0] &= 0x01;
        key
    };
    for n in 0..count {
        measured.shards[0].insert(&fold(n), position(n)).unwrap();
    }
    assert!(measured.bytes_per_key("1500 keys per group") <= 12.0);
    let bound = 10 * (MAX_BUCKET_SLOTS * 9 / 8 + 2);
    assert!(LARGEST.load(Relaxed) <= bound, "an insert requested {LARGEST:?} bytes");

    for n in (0..count).filter(|n| n % 4 != 0) {
        assert!(measured.shards[0].remove(&fold(n), position(n)));
    }
    assert!(measured.bytes_per_key("three of four removed") <= 13.0);
}

#[test]
#[ignore = "a measurement of half a minute; .ci/run runs it"]
fn growth_to_ten_million_keys() {
    let _alone = MEASURING.lock().unwrap();
    const KEYS: u64 = 10_000_000;
    const ROUNDS: usize = 3;
    // Each round does exactly the same. Of every insert the fastest round counts: what the index
    // itself takes long for recurs, an interruption by the system does not.
    let mut nanos = vec![u32::MAX; KEYS as usize];
    for _ in 0..ROUNDS {
        let mut measured = Measured::new();
        let begin = Instant::now();
        for (n, fastest) in (0..).zip(&mut nanos) {
            let key = key(n);
            let shard = &mut measured.shards[key.shard().index()];
            let start = Instant::now();
            shard.insert(&key, position(n)).unwrap();
            *fastest = (*fastest).min(start.elapsed().as_nanos() as u32);
        }
        println!("10 million inserts in {:?}; resident: {}", begin.elapsed(), resident());
        assert!(measured.bytes_per_key("inserted one by one") <= 13.0);
    }
    nanos.sort_unstable();
    let at = |share: f64| {
        let i = (share * (KEYS - 1) as f64) as usize;
        Duration::from_nanos(u64::from(nanos[i]))
    };
    println!(
        "fastest of {ROUNDS} rounds: median {:?}, p99 {:?}, p99.9 {:?}, p99.99 {:?}, \
         p99.999 {:?}, max {:?}; largest request {} bytes",
        at(0.5),
        at(0.99),
        at(0.999),
        at(0.9999),
        at(0.99999),
        at(1.0),
        LARGEST.load(Relaxed),
    );
}

/// The process's resident memory, where the system tells.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("unknown").to_owned()
}
