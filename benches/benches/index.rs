//! The index: look-ups and edits, one by one and in batches, at 1 and 10 million
//! random keys over 16 shards. Prints the bytes per key that each size costs.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hedgerow_index::{Edit, Place, ShardIndex};
use hedgerow_types::{KeyHash, LogPosition, SHARDS, SerialNumber};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Keys of one block, updated or created.
const BATCH: usize = 50_000;
/// Bytes between entries in the log that is pretended.
const ENTRY: u64 = 160;

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

/// The indexes of a store with the keys `0..keys`, key `n` at `n * ENTRY`.
struct Store {
    keys: u64,
    shards: Vec<ShardIndex>,
}

impl Store {
    fn new(keys: u64) -> Self {
        let mut entries = vec![Vec::new(); SHARDS];
        for n in 0..keys {
            let key = key(n);
            entries[key.shard().index()].push((key.prefix_u64(), LogPosition(n * ENTRY)));
        }
        let begin = Instant::now();
        let shards: Vec<ShardIndex> = entries
            .into_iter()
            .map(|entries| ShardIndex::build(entries).unwrap_or_default())
            .collect();
        let took = begin.elapsed();
        let mut store = Self { keys: 0, shards };
        println!(
            "index::build/keys={keys}: {took:?} on one core, {:.2} bytes per key",
            store.cost()
        );
        // As a store is that lives: filled by inserts.
        store.shards = (0..SHARDS).map(|_| ShardIndex::new()).collect();
        let begin = Instant::now();
        for n in 0..keys {
            store.insert(n);
        }
        let took = begin.elapsed();
        store.keys = keys;
        println!(
            "index::grow/keys={keys}: {took:?} on one core, {:.2} bytes per key",
            store.cost()
        );
        store
    }

    fn cost(&self) -> f64 {
        let bytes: usize = self.shards.iter().map(ShardIndex::heap_bytes).sum();
        let keys: usize = self.shards.iter().map(ShardIndex::len).sum();
        bytes as f64 / keys as f64
    }

    fn shard(&self, key: &KeyHash) -> &ShardIndex {
        &self.shards[key.shard().index()]
    }

    fn insert(&mut self, n: u64) {
        let key = key(n);
        let done = self.shards[key.shard().index()].insert(&key, LogPosition(n * ENTRY));
        assert_eq!(done, Ok(()));
    }

    /// The keys of these numbers, sorted, as a batch for each shard.
    fn by_shard(numbers: impl Iterator<Item = u64>) -> Vec<Vec<(KeyHash, u64)>> {
        let mut keys: Vec<(KeyHash, u64)> = numbers.map(|n| (key(n), n)).collect();
        keys.sort_unstable();
        let mut shards = vec![Vec::new(); SHARDS];
        for (key, n) in keys {
            shards[key.shard().index()].push((key, n));
        }
        shards
    }

    fn apply(&mut self, edits: &[Vec<Edit>]) {
        for (shard, edits) in self.shards.iter_mut().zip(edits) {
            assert_eq!(shard.apply(edits), Ok(()));
        }
    }
}

/// Numbers below `keys` in random order.
fn random(keys: u64) -> impl FnMut() -> u64 {
    let mut n = 0;
    move || {
        n += 1;
        key(n ^ 0x5555_5555).prefix_u64() % keys
    }
}

fn edits(batch: &[Vec<(KeyHash, u64)>], edit: impl Fn(u64) -> (u64, u64)) -> Vec<Vec<Edit>> {
    let place = |n: u64| {
        (n != u64::MAX).then_some(Place { at: LogPosition(n * ENTRY), sn: SerialNumber(n) })
    };
    let of_shard = |keys: &Vec<(KeyHash, u64)>| {
        keys.iter()
            .map(|&(key, n)| {
                let (old, new) = edit(n);
                Edit { key, old: place(old), new: place(new) }
            })
            .collect()
    };
    batch.iter().map(of_shard).collect()
}

fn inverse(edits: &[Vec<Edit>]) -> Vec<Vec<Edit>> {
    edits.iter().map(|edits| edits.iter().rev().map(Edit::inverse).collect()).collect()
}

fn one_by_one(c: &mut Criterion, store: &mut Store) {
    let keys = store.keys;
    let mut next = random(keys);
    let mut group = c.benchmark_group("index");
    group.bench_function(format!("candidates/keys={keys}"), |b| {
        b.iter_batched(
            || key(next()),
            |key| black_box(store.shard(&key).candidates(&key).next()),
            BatchSize::NumIterations(10_000),
        )
    });
    // Edits: timed in one go, taken back untimed.
    const EDITS: u64 = 10_000;
    let each = |total: Duration, done: u64, iters: u64| total.mul_f64(iters as f64 / done as f64);
    group.bench_function(format!("insert/keys={keys}"), |b| {
        b.iter_custom(|iters| {
            let (mut total, mut done) = (Duration::ZERO, 0);
            while done < iters {
                let first = keys + next();
                let new: Vec<KeyHash> = (first..first + EDITS).map(key).collect();
                let begin = Instant::now();
                for (n, key) in (first..).zip(&new) {
                    let shard = &mut store.shards[key.shard().index()];
                    assert_eq!(shard.insert(key, LogPosition(n * ENTRY)), Ok(()));
                }
                total += begin.elapsed();
                for (n, key) in (first..).zip(&new) {
                    assert!(store.shards[key.shard().index()].remove(key, LogPosition(n * ENTRY)));
                }
                done += EDITS;
            }
            each(total, done, iters)
        })
    });
    group.bench_function(format!("replace/keys={keys}"), |b| {
        b.iter_custom(|iters| {
            let (mut total, mut done) = (Duration::ZERO, 0);
            while done < iters {
                let first = next() % (keys - EDITS);
                let some: Vec<KeyHash> = (first..first + EDITS).map(key).collect();
                let mut replace = |key: &KeyHash, old: u64, new: u64| {
                    let (old, new) = (LogPosition(old * ENTRY), LogPosition(new * ENTRY));
                    store.shards[key.shard().index()].replace(key, old, new)
                };
                let begin = Instant::now();
                for (n, key) in (first..).zip(&some) {
                    assert_eq!(replace(key, n, keys + n), Ok(true));
                }
                total += begin.elapsed();
                for (n, key) in (first..).zip(&some) {
                    assert_eq!(replace(key, keys + n, n), Ok(true));
                }
                done += EDITS;
            }
            each(total, done, iters)
        })
    });
    group.finish();
}

fn batches(c: &mut Criterion, store: &mut Store) {
    let keys = store.keys;
    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.sample_size(20);

    // Every time another batch: caches hold of the index what they can.
    let spread = keys / BATCH as u64;
    let mut turn = 0;
    let mut numbers = move || {
        turn = (turn + 1) % spread;
        (0..BATCH as u64).map(move |i| i * spread + turn)
    };
    let mut out = Vec::with_capacity(2 * BATCH);
    group.bench_function(format!("candidates_many/keys={keys}"), |b| {
        b.iter_batched(
            || {
                let of_shard =
                    |keys: Vec<(KeyHash, u64)>| keys.into_iter().map(|(key, _)| key).collect();
                let asked: Vec<Vec<KeyHash>> =
                    Store::by_shard(numbers()).into_iter().map(of_shard).collect();
                asked
            },
            |asked| {
                out.clear();
                for (shard, keys) in store.shards.iter().zip(&asked) {
                    shard.candidates_many(keys, &mut out);
                }
                assert!(out.len() >= BATCH); // ties are possible
                asked
            },
            BatchSize::PerIteration,
        )
    });
    let mut timed = |name: &str, edit: &dyn Fn(u64) -> (u64, u64), base: u64| {
        group.bench_function(format!("apply/{name}/keys={keys}"), |b| {
            b.iter_custom(|iters| {
                let mut total = Duration::ZERO;
                for _ in 0..iters {
                    let batch = Store::by_shard(numbers().map(|n| base + n));
                    let edits = edits(&batch, edit);
                    let begin = Instant::now();
                    store.apply(&edits);
                    total += begin.elapsed();
                    store.apply(&inverse(&edits));
                }
                total
            })
        });
    };
    timed("updates", &|n| (n, keys + n), 0);
    timed("creates", &|n| (u64::MAX, n), keys);
    timed("deletes", &|n| (n, u64::MAX), 0);
    group.finish();
}

fn index(c: &mut Criterion) {
    for keys in [1_000_000, 10_000_000] {
        let mut store = Store::new(keys);
        one_by_one(c, &mut store);
        batches(c, &mut store);
    }
}

criterion_group!(benches, index);
criterion_main!(benches);
