//! The bound on memory, as the allocator sees it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use hedgerow_cache::{Backing, Cache, CacheOptions, Error, NetEffect, Op};
use hedgerow_testkit::Limit;
use peak_alloc::PeakAlloc;
use std::convert::Infallible;
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Outpoints, say.
type Key = [u8; 36];

/// A backing that holds nothing and has everything: values of a length that the key says.
#[derive(Debug)]
struct Made;

fn made(key: &Key) -> Box<[u8]> {
    let len = match key[0] % 16 {
        0 => 1_000,
        1 => 0,
        small => usize::from(small) * 4,
    };
    vec![key[0]; len].into()
}

impl Backing for Made {
    type Key = Key;
    type Value = Box<[u8]>;
    type Tag = u64;
    type Error = Infallible;

    fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Box<[u8]>>>, Infallible> {
        Ok(keys.iter().map(|key| Some(made(key))).collect())
    }

    fn apply(&self, net: &NetEffect<'_, Self>) -> Result<(), Infallible> {
        assert_eq!(net.iter().count() as u64, net.len());
        Ok(())
    }
}

fn key(number: u32) -> Key {
    let mut key = [0; 36];
    // Multiplied by an odd number: each once, in no order.
    key[..4].copy_from_slice(&number.wrapping_mul(0x9E37_79B1).to_le_bytes());
    key[32..].copy_from_slice(&number.to_le_bytes());
    key
}

const LIMIT: u64 = 8 << 20;
/// Keys of a write: what the test itself holds is small beside the limit.
const AT_ONCE: u32 = 250;

/// Reads, writes, deletions, undos and flushes of far more than there is room for: what is allocated stays below the limit,
/// 5 % more, and most of it is used. Only what the cache counts is asserted to be exact.
#[test]
fn the_limit_is_kept() {
    let _limit = Limit::new();
    let before = ALLOCATOR.current_usage();
    let options = CacheOptions { limit_bytes: LIMIT, ..CacheOptions::default() };
    let cache = Cache::new(Arc::new(Made), None, options).unwrap();
    ALLOCATOR.reset_peak_usage();
    let most = before + (LIMIT + LIMIT / 20) as usize;
    let (mut next, mut tag, mut refused, mut fullest) = (0_u32, 0_u64, 0, 0);
    let check = |cache: &Cache<Made>| {
        let stats = cache.stats();
        assert!(stats.used_bytes <= LIMIT, "{stats:?}");
        let peak = ALLOCATOR.peak_usage();
        assert!(peak <= most, "{peak} bytes at once, {before} before, {stats:?}");
        stats.used_bytes
    };
    let mut write = |cache: &Cache<Made>, mut ops: Vec<_>| loop {
        match cache.write(&mut ops) {
            Ok(undo) => break Some(undo),
            Err(Error::Full { .. }) => {
                refused += 1;
                tag += 1;
                // Sometimes with the flush under way.
                let epoch = cache.close_epoch(tag).unwrap();
                if tag % 2 == 0 {
                    cache.wait(epoch).unwrap();
                }
            }
            Err(error) => panic!("{error}"),
        }
    };
    for round in 0..2_000_u32 {
        let keys: Vec<_> = (next..next + AT_ONCE).map(key).collect();
        next += AT_ONCE;
        let phase = round / 400;
        match phase {
            // Only reads, then only writes, then both with deletions, then undos between, then reads again.
            0 | 4 => drop(cache.get_many(&keys).unwrap()),
            1 => {
                drop(write(&cache, keys.iter().map(|key| (*key, Op::Create(made(key)))).collect()))
            }
            2 => {
                let read = keys.iter().map(|key| (*key, Op::Remove));
                let old = (next - 100 * AT_ONCE..next - 99 * AT_ONCE).map(|n| (key(n), Op::Delete));
                drop(write(&cache, read.chain(old).collect()));
            }
            _ => {
                let undo =
                    write(&cache, keys.iter().map(|key| (*key, Op::Put(made(key)))).collect());
                if round % 2 == 0 {
                    // Unless the epoch was closed meanwhile, which it was not.
                    cache.undo(undo.unwrap()).unwrap();
                }
            }
        }
        fullest = fullest.max(check(&cache));
    }
    tag += 10;
    cache.flush(tag).unwrap();
    check(&cache);
    // It was full of each kind, and what it counts is what there is: nothing less, and little more.
    assert!(refused > 2, "{refused}");
    assert!(fullest > LIMIT - LIMIT / 50, "{fullest}");
    let (used, allocated) = (cache.stats().used_bytes, ALLOCATOR.current_usage() - before);
    assert!(allocated as u64 <= used + used / 50, "{allocated} allocated, {used} counted");
    assert!(allocated as u64 >= used - used / 6, "{allocated} allocated, {used} counted");
    // Small again: the memory goes back.
    cache.set_limit(LIMIT / 8);
    let allocated = (ALLOCATOR.current_usage() - before) as u64;
    assert!(allocated <= LIMIT / 8 + LIMIT / 8 / 20, "{allocated}");
    drop(cache);
    assert!(ALLOCATOR.current_usage() <= before + 100_000);
}
