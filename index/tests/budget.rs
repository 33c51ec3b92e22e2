//! The budget of tiered indexes, as their allocator sees it: the most bytes of heap that the 16 of a store take at any
//! moment, through millions of edits, spills and merges beside them, look-ups, snapshots, blocks larger than memory,
//! and budgets that change meanwhile. At most a tenth more than they were given.
//!
//! ```text
//!   edits   block, block, ..  ──► wait while memory is full      one thread
//!   jobs    spill, merge, ..      wait until there are some      one thread, as in a store
//!   asker   look-ups                                             one thread
//! ```
#![expect(clippy::unwrap_used, reason = "a test's panic is its failure report")]

use hedgerow_index::{
    Edit, Index, LOWEST_TIER, Place, Snapshot, TieredIndex, TieredOptions, TieredStats,
};
use hedgerow_types::{KeyHash, LogPosition, SHARDS, SerialNumber, ShardId};
use hedgerow_vfs::{OneWayDisk, ReadWay};
use parking_lot::{Condvar, Mutex};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

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

const KEYS: u64 = 1_000_000;
/// Edits of a common block, and of one that does not fit into memory.
const BLOCK: usize = 10_000;
const LARGE: usize = 400_000;
const MIB: usize = 1 << 20;

/// splitmix64.
fn mix(n: u64) -> u64 {
    let mut x = n.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// A stand-in for SHA-256 of `n`.
fn key(n: u64) -> KeyHash {
    let mut bytes = [0; 32];
    for (i, word) in (0..).zip(bytes.chunks_exact_mut(8)) {
        word.copy_from_slice(&mix(4 * n + i).to_be_bytes());
    }
    KeyHash(bytes)
}

/// What the threads tell each other.
#[derive(Default)]
struct Turn {
    now: Mutex<Now>,
    changed: Condvar,
}

#[derive(Default)]
struct Now {
    due: bool,
    stop: bool,
    /// The thread that does the jobs is gone: nobody is to wait for it.
    ended: bool,
    /// Times that all that was due was done.
    passes: u64,
}

/// Says so when it is dropped, however that comes.
struct Ended<'a>(&'a Turn);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.now.lock().ended = true;
        self.0.changed.notify_all();
    }
}

struct World {
    index: Vec<TieredIndex>,
    turn: Turn,
    done: AtomicBool,
    /// Bytes in use before there was an index.
    before: usize,
}

impl World {
    fn new(folder: &Path, budget: usize, before: usize) -> Self {
        let options = |shard| TieredOptions {
            folder: folder.join("index"),
            store: [7; 16],
            shard,
            memory_bytes: budget / SHARDS,
        };
        // Read one by one: a ring of the real disk has memory of its own, and is the process's.
        let create = |shard| {
            TieredIndex::create(Arc::new(OneWayDisk::new(ReadWay::OneByOne)), options(shard))
                .unwrap()
        };
        let index = ShardId::all().map(create).collect();
        Self { index, turn: Turn::default(), done: AtomicBool::new(false), before }
    }

    fn work(&self) {
        let _ended = Ended(&self.turn);
        loop {
            {
                let mut now = self.turn.now.lock();
                while !now.due && !now.stop {
                    self.turn.changed.wait(&mut now);
                }
                if now.stop {
                    return;
                }
                now.due = false;
            }
            for index in &self.index {
                while let Some(job) = index.work() {
                    index.install(job.run().unwrap());
                    // Under the lock, so that nobody looks before it and waits after.
                    drop(self.turn.now.lock());
                    self.turn.changed.notify_all();
                }
            }
            self.turn.now.lock().passes += 1;
            self.turn.changed.notify_all();
        }
    }

    fn nudge(&self) {
        self.turn.now.lock().due = true;
        self.turn.changed.notify_all();
    }

    /// Waits while memory is full.
    fn wait(&self, index: &TieredIndex) {
        let mut now = self.turn.now.lock();
        while index.behind().is_full() {
            assert!(!now.ended, "no jobs are done");
            now.due = true;
            self.turn.changed.notify_all();
            self.turn.changed.wait(&mut now);
        }
    }

    /// Waits until all is done that is due.
    fn settle(&self) {
        let mut now = self.turn.now.lock();
        let enough = now.passes + 2;
        while now.passes < enough {
            assert!(!now.ended, "no jobs are done");
            now.due = true;
            self.turn.changed.notify_all();
            self.turn.changed.wait(&mut now);
        }
    }

    fn set_memory(&self, budget: usize) {
        self.index.iter().for_each(|index| index.set_memory(budget / SHARDS));
        self.settle();
        MOST.store(IN_USE.load(Relaxed), Relaxed);
    }

    fn ask(&self) {
        let (mut keys, mut found) = (Vec::with_capacity(200), Vec::with_capacity(1000));
        for round in 0_u64.. {
            if self.done.load(Relaxed) {
                return;
            }
            for (shard, index) in ShardId::all().zip(&self.index) {
                keys.clear();
                found.clear();
                let of_shard = |key: &KeyHash| key.shard() == shard;
                keys.extend((0..300).map(|i| key(mix(round << 20 | i) % KEYS)).filter(of_shard));
                keys.sort_unstable();
                index.candidates(&keys, &mut found).unwrap();
            }
        }
    }

    /// What the indexes took at most since the last time that this was asked, which is within the budget and a tenth more.
    fn check(&self, budget: usize, what: &str) -> usize {
        let most = MOST.swap(IN_USE.load(Relaxed), Relaxed).saturating_sub(self.before);
        let says: usize = self.index.iter().map(Index::heap_bytes).sum();
        println!("{what}: {most} bytes at most of {budget}; {says} reported now");
        assert!(most <= budget + budget / 10, "{what}: {most} bytes, {budget} given");
        most
    }

    fn stats(&self) -> Vec<TieredStats> {
        self.index.iter().map(TieredIndex::stats).collect()
    }
}

/// Who edits. All of its memory is there before the indexes are.
struct Writer {
    /// The number of each key's entry in its shard, and one more; 0 without one.
    now: Vec<u32>,
    next: [u32; SHARDS],
    edits: [Vec<Edit>; SHARDS],
    count: u64,
}

impl Writer {
    fn new() -> Self {
        let room = |_| Vec::with_capacity(LARGE / SHARDS + 5_000);
        let edits = std::array::from_fn(room);
        Self { now: vec![0; KEYS as usize], next: [0; SHARDS], edits, count: 0 }
    }

    /// A block of new keys as long as there are some, then of keys at random.
    fn block(&mut self, world: &World, edits: usize) {
        self.edits.iter_mut().for_each(Vec::clear);
        for _ in 0..edits {
            let n = if self.count < KEYS { self.count } else { mix(self.count) % KEYS };
            self.count += 1;
            let key = key(n);
            let shard = key.shard().index();
            let place = |sn: u32| Place {
                at: LogPosition(160 * u64::from(sn)),
                sn: SerialNumber(sn.into()),
            };
            self.next[shard] += 1;
            let new = self.next[shard];
            let old = std::mem::replace(&mut self.now[n as usize], new);
            let old = (old > 0).then(|| place(old));
            self.edits[shard].push(Edit { key, old, new: Some(place(new)) });
        }
        for (index, edits) in world.index.iter().zip(&self.edits) {
            index.apply_waiting(edits, &|| world.wait(index)).unwrap();
        }
        world.nudge();
    }

    /// Every key has one entry, where it was put last.
    fn check(&self, world: &World) {
        for (shard, index) in world.index.iter().enumerate() {
            let mut found = Vec::new();
            for n in (0..KEYS).step_by(501) {
                let key = key(n);
                if key.shard().index() == shard {
                    found.clear();
                    index.candidates(&[key], &mut found).unwrap();
                    let at = LogPosition(160 * u64::from(self.now[n as usize]));
                    assert_eq!(found, [(0, at)], "key {n}");
                }
            }
        }
    }
}

#[test]
fn a_tenth_over_the_budget_is_the_most_at_any_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new();
    let (large, small) = (32 * MIB, 16 * MIB);
    let before = IN_USE.load(Relaxed);
    MOST.store(before, Relaxed);
    let world = World::new(folder.path(), large, before);
    std::thread::scope(|scope| {
        scope.spawn(|| world.work());
        scope.spawn(|| world.ask());
        let writer = &mut writer;
        let snapshots = || world.index.iter().map(TieredIndex::snapshot).collect::<Vec<Snapshot>>();
        // A failure must not leave the others waiting for what never comes.
        let _end = End(&world);

        let count = KEYS as usize / BLOCK;
        (0..count).for_each(|_| writer.block(&world, BLOCK));
        world.check(large, "filled");
        (0..count / 2).for_each(|_| writer.block(&world, BLOCK));
        world.check(large, "updated");
        writer.block(&world, LARGE);
        world.check(large, "a large block");

        // Less, while there is work: then all of it is within that.
        world.set_memory(small);
        (0..count / 2).for_each(|_| writer.block(&world, BLOCK));
        world.check(small, "updated with half of it");
        writer.block(&world, LARGE);
        world.check(small, "a large block with half of it");
        for _ in 0..3 {
            let held = snapshots();
            (0..8).for_each(|_| writer.block(&world, BLOCK));
            drop(held);
            let retired = snapshots();
            for (index, snapshot) in world.index.iter().zip(&retired) {
                index.unlink(&snapshot.retired).unwrap();
            }
        }
        world.check(small, "snapshots that are held for a while");

        // More again: it is made use of.
        world.set_memory(2 * large);
        (0..count / 2).for_each(|_| writer.block(&world, BLOCK));
        let most = world.check(2 * large, "updated with four times that");
        assert!(most > small + small / 2, "{most} bytes");
        world.settle();
        writer.check(&world);
        // And far too little: what has no choice is taken, and all answers are right.
        world.set_memory(0);
        (0..10).for_each(|_| writer.block(&world, BLOCK));
        writer.check(&world);
    });
    let keys: usize = world.index.iter().map(Index::len).sum();
    assert_eq!(keys as u64, KEYS);
    for stats in world.stats() {
        assert!(stats.spills > 20 && stats.merges > 10, "{stats:?}");
        let lowest = |it: &&hedgerow_index::TierStats| it.tier == LOWEST_TIER;
        assert!(stats.tiers.iter().any(|it| lowest(&it)), "{stats:?}");
    }
}

/// Ends the threads, however the test ends.
struct End<'a>(&'a World);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Relaxed);
        self.0.turn.now.lock().stop = true;
        self.0.turn.changed.notify_all();
    }
}
