//! The write-back cache: blocks of coins through it, look-ups, flushes; and how often each rule of eviction would have
//! kept what is wanted next, which it prints first.
//!
//! The coins are made up: 200 transactions a block, 2.2 spent and 2.4 new coins each, ages of what is spent as of
//! a wallet's (a third within a block, most within a hundred, a long tail).
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hedgerow_cache::{Backing, Cache, CacheOptions, MapBacking, NetEffect, Op};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;

/// New and spent coins of a block.
const CREATED: usize = 480;
const SPENT: usize = 440;

type Outpoint = [u8; 36];
type Script = Box<[u8]>;

/// Numbers of which each is made of the one before (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// From 0 on, below 1.
    fn part(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// A block: what it spends, then what it makes.
struct CoinBlock {
    spent: Vec<u64>,
    created: Vec<u64>,
}

/// Makes blocks that could follow each other.
struct Chain {
    numbers: Numbers,
    /// Unspent coins of each block.
    unspent: Vec<Vec<u64>>,
    coins: u64,
}

impl Chain {
    fn new(seed: u64) -> Self {
        Self { numbers: Numbers(seed), unspent: Vec::new(), coins: 0 }
    }

    /// Blocks ago, from 0: a third at once, the others evenly over the logarithm up to 50,000.
    fn age(&mut self) -> usize {
        if self.numbers.part() < 0.33 { 0 } else { 50_000_f64.powf(self.numbers.part()) as usize }
    }

    fn block(&mut self) -> CoinBlock {
        let created: Vec<_> = (self.coins..self.coins + CREATED as u64).collect();
        self.coins += CREATED as u64;
        let mut spent = Vec::with_capacity(SPENT);
        while spent.len() < SPENT && self.unspent.len() > 3 {
            let age = self.age();
            let Some(from) = self.unspent.len().checked_sub(1 + age) else { continue };
            let coins = &mut self.unspent[from];
            if !coins.is_empty() {
                spent.push(coins.swap_remove(self.numbers.below(coins.len())));
            }
        }
        self.unspent.push(created.clone());
        CoinBlock { spent, created }
    }
}

/// A rule that says which of at most so many keys go.
trait Rule {
    /// Whether the key is there; it was asked for.
    fn touch(&mut self, key: u64) -> bool;
    fn insert(&mut self, key: u64, block: usize, amount: u64);
    fn remove(&mut self, key: u64);
}

/// By a number: the smallest or the greatest goes.
struct ByTurn {
    turns: HashMap<u64, u64>,
    keys: BTreeMap<u64, u64>,
    next: u64,
    most: usize,
    newest_goes: bool,
    touch_renews: bool,
}

impl ByTurn {
    fn new(most: usize, newest_goes: bool, touch_renews: bool) -> Self {
        Self {
            turns: HashMap::new(),
            keys: BTreeMap::new(),
            next: 0,
            most,
            newest_goes,
            touch_renews,
        }
    }
}

impl Rule for ByTurn {
    fn touch(&mut self, key: u64) -> bool {
        let there = self.turns.contains_key(&key);
        if there && self.touch_renews {
            self.insert(key, 0, 0);
        }
        there
    }

    fn insert(&mut self, key: u64, _: usize, _: u64) {
        self.remove(key);
        if self.keys.len() >= self.most {
            let gone = if self.newest_goes { self.keys.pop_last() } else { self.keys.pop_first() };
            if let Some((_, key)) = gone {
                self.turns.remove(&key);
            }
        }
        self.next += 1;
        self.turns.insert(key, self.next);
        self.keys.insert(self.next, key);
    }

    fn remove(&mut self, key: u64) {
        if let Some(turn) = self.turns.remove(&key) {
            self.keys.remove(&turn);
        }
    }
}

/// The reference's "dynamic": from 110 % down to 90 %, keys that are at least 100 blocks old; the very old first, then small
/// amounts, then the older.
struct Dynamic {
    keys: HashMap<u64, (usize, u64)>,
    most: usize,
    now: usize,
}

impl Rule for Dynamic {
    fn touch(&mut self, key: u64) -> bool {
        self.keys.contains_key(&key)
    }

    fn insert(&mut self, key: u64, block: usize, amount: u64) {
        self.now = self.now.max(block);
        self.keys.insert(key, (block, amount));
        if self.keys.len() * 10 > self.most * 11 {
            let age = |block: &usize| self.now - block;
            let old = self.keys.iter().filter(|(_, (block, _))| age(block) >= 100);
            let mut old: Vec<_> = old
                .map(|(key, (block, amount))| (age(block) <= 10_000, *amount, *block, *key))
                .collect();
            old.sort_unstable();
            let mut gone: Vec<_> = old.into_iter().map(|old| old.3).collect();
            // If too few are old: the oldest, so that it is kept within the limit as the others are.
            if self.keys.len() - gone.len() > self.most {
                let mut all: Vec<_> =
                    self.keys.iter().map(|(key, (block, _))| (*block, *key)).collect();
                all.sort_unstable();
                gone = all.into_iter().map(|all| all.1).collect();
            }
            gone.truncate(self.keys.len() - self.most * 9 / 10);
            for key in gone {
                self.keys.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: u64) {
        self.keys.remove(&key);
    }
}

/// A well-kept crate: CLOCK-Pro with what it remembers of what went.
struct Quick(quick_cache::unsync::Cache<u64, ()>);

impl Rule for Quick {
    fn touch(&mut self, key: u64) -> bool {
        self.0.get(&key).is_some()
    }

    fn insert(&mut self, key: u64, _: usize, _: u64) {
        self.0.insert(key, ());
    }

    fn remove(&mut self, key: u64) {
        self.0.remove(&key);
    }
}

fn rules(most: usize) -> Vec<(&'static str, Box<dyn Rule>)> {
    vec![
        ("least recently used", Box::new(ByTurn::new(most, false, true)) as Box<dyn Rule>),
        ("fifo", Box::new(ByTurn::new(most, false, false))),
        ("lifo", Box::new(ByTurn::new(most, true, false))),
        ("dynamic", Box::new(Dynamic { keys: HashMap::new(), most, now: 0 })),
        ("quick_cache", Box::new(Quick(quick_cache::unsync::Cache::new(most)))),
    ]
}

/// Prints which part of the spent coins each rule would have kept.
fn print_rules() {
    const BLOCKS: usize = 4_000;
    for most in [10_000, 40_000, 160_000] {
        for (name, mut rule) in rules(most) {
            let mut chain = Chain::new(7);
            let mut amounts = Numbers(9);
            let (mut hits, mut all) = (0_u64, 0_u64);
            for block in 0..BLOCKS {
                let coins = chain.block();
                let counts = block > BLOCKS / 4;
                for coin in coins.spent {
                    hits += u64::from(rule.touch(coin) && counts);
                    all += u64::from(counts);
                    rule.remove(coin);
                }
                for coin in coins.created {
                    rule.insert(coin, block, amounts.next() % 1_000_000);
                }
            }
            println!(
                "cache::rule/coins={most}: {:5.1} % of what is spent, {name}",
                percent(hits, all)
            );
        }
    }
    // Keys that are read again and again, the first ones more often; now and then a scan of what nobody wants.
    for scans in [false, true] {
        for (name, mut rule) in rules(20_000) {
            let mut numbers = Numbers(11);
            let (mut hits, mut all) = (0_u64, 0_u64);
            for turn in 0..1_500_000_u64 {
                let scan = scans && turn % 300_000 < 60_000;
                let key = if scan {
                    1_000_000_000 + turn
                } else {
                    200_000_f64.powf(numbers.part()) as u64
                };
                let hit = rule.touch(key);
                if !hit {
                    rule.insert(key, (turn / 1_000) as usize, 1);
                }
                hits += u64::from(hit && !scan);
                all += u64::from(!scan);
            }
            println!(
                "cache::rule/skewed,scans={scans}: {:5.1} % of reads, {name}",
                percent(hits, all)
            );
        }
    }
}

fn percent(part: u64, of: u64) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
}

/// Takes what it is given and has none of it: what is measured is the cache.
struct Sink;

impl Backing for Sink {
    type Key = Outpoint;
    type Value = Script;
    type Tag = u64;
    type Error = Infallible;

    fn get_many(&self, keys: &[Outpoint]) -> Result<Vec<Option<Script>>, Infallible> {
        Ok(keys.iter().map(|_| Some(script())).collect())
    }

    fn apply(&self, net: &NetEffect<'_, Self>) -> Result<(), Infallible> {
        black_box(net.iter().count());
        Ok(())
    }
}

fn script() -> Script {
    vec![7; 33].into()
}

fn outpoint(coin: u64) -> Outpoint {
    let mut key = [0; 36];
    key[..8].copy_from_slice(&Numbers(coin).next().to_le_bytes());
    key[8..16].copy_from_slice(&coin.to_le_bytes());
    key
}

fn options(limit_bytes: u64) -> CacheOptions {
    CacheOptions { limit_bytes, ..CacheOptions::default() }
}

/// Blocks one after the other, with a flush now and then; per coin that is spent or made.
fn blocks(c: &mut Criterion) {
    print_rules();
    let mut group = c.benchmark_group("cache::connect");
    group.throughput(Throughput::Elements((CREATED + SPENT) as u64));
    for megabytes in [8, 64] {
        let cache = Cache::new(Arc::new(Sink), None, options(megabytes << 20)).expect("a thread");
        let mut chain = Chain::new(7);
        let mut connected = 0_u64;
        let mut connect = |block: CoinBlock| {
            let spent: Vec<_> = block.spent.iter().map(|coin| outpoint(*coin)).collect();
            black_box(cache.get_many(&spent)).expect("read");
            let spent = spent.into_iter().map(|key| (key, Op::Remove));
            let created = block.created.iter().map(|coin| (outpoint(*coin), Op::Create(script())));
            black_box(cache.write(&mut spent.chain(created).collect())).expect("written");
            connected += 1;
            if connected.is_multiple_of(50) {
                cache.close_epoch(connected).expect("closed");
            }
        };
        for _ in 0..2_000 {
            let block = chain.block();
            connect(block);
        }
        group.bench_function(format!("limit={megabytes}MiB"), |bench| {
            bench.iter_batched(|| chain.block(), &mut connect, BatchSize::PerIteration);
        });
        let stats = cache.stats();
        let known = stats.dirty_hits + stats.flushing_hits + stats.clean_hits;
        println!(
            "cache::connect/limit={megabytes}MiB: {:.1} % of look-ups known, {:.1} % of operations vanished, {:.0} bytes a \
             clean coin",
            percent(known, known + stats.misses),
            percent(stats.vanished * 2, stats.operations),
            stats.used_bytes as f64
                / (stats.clean_keys + stats.dirty_keys + stats.flushing_keys) as f64,
        );
    }
    group.finish();
}

/// Keys that are known, one by one and many at once; per key.
fn reads(c: &mut Criterion) {
    const KEYS: u64 = 100_000;
    let cache = Cache::new(Arc::new(Sink), None, options(64 << 20)).expect("a thread");
    let keys: Vec<_> = (0..KEYS).map(outpoint).collect();
    cache.get_many(&keys).expect("read");
    let mut numbers = Numbers(3);
    let mut group = c.benchmark_group("cache::get");
    group.bench_function("one", |bench| {
        bench.iter(|| black_box(cache.get(&keys[numbers.below(keys.len())])));
    });
    let many: Vec<_> = (0..1_000).map(|_| keys[numbers.below(keys.len())]).collect();
    group.throughput(Throughput::Elements(many.len() as u64));
    group.bench_function("many=1000", |bench| bench.iter(|| black_box(cache.get_many(&many))));
    group.finish();
}

/// An epoch of 100,000 keys: written, closed and flushed to a map; per key.
fn flushes(c: &mut Criterion) {
    const KEYS: u64 = 100_000;
    let mut group = c.benchmark_group("cache::flush");
    group.sample_size(10).throughput(Throughput::Elements(KEYS));
    let cache =
        Cache::new(Arc::new(MapBacking::default()), None, options(64 << 20)).expect("a thread");
    let mut tag = 0_u64;
    group.bench_function("keys=100000", |bench| {
        bench.iter_batched(
            || (0..KEYS).map(|coin| (outpoint(coin), Op::Put(script()))).collect::<Vec<_>>(),
            |mut ops| {
                tag += 1;
                black_box(cache.write(&mut ops)).expect("written");
                cache.flush(tag).expect("flushed")
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    let stats = cache.stats();
    println!(
        "cache::flush: closing {:?}, applying {:?}, settling {:?}",
        stats.closing.mean(),
        stats.applying.mean(),
        stats.settling.mean()
    );
}

criterion_group!(benches, blocks, reads, flushes);
criterion_main!(benches);
