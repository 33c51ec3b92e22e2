//! The cache of links changes nothing but speed: not when serial numbers are given twice, not with many neighbours that come
//! and go, whatever its size.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk, on, params};
use hedgerow::{Digest, Error, Height, Options, Speculative, Store};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;

fn store(link_cache_bytes: u64) -> Store {
    let options: Options = on(&disk()).link_cache_bytes(link_cache_bytes);
    Store::create(dir(), params(30, 1, 2), options).unwrap()
}

fn key(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// Puts these keys, with a value that tells the block.
fn put(store: &mut Store, keys: impl Iterator<Item = u64>, value: u64) -> Digest {
    let mut block = store.next_block().unwrap();
    keys.for_each(|number| block.put(key(number), key(value)).unwrap());
    block.commit().unwrap().root
}

const KEYS: u64 = 400;

fn even() -> impl Iterator<Item = u64> {
    (0..KEYS).filter(|number| number.is_multiple_of(2))
}

fn odd() -> impl Iterator<Item = u64> {
    (0..KEYS).filter(|number| !number.is_multiple_of(2))
}

/// The root after: all keys, the odd ones, the even ones.
fn without_detours() -> Digest {
    let mut store = store(0);
    put(&mut store, 0..KEYS, 1);
    put(&mut store, odd(), 3);
    put(&mut store, even(), 4)
}

/// A rollback gives the serial numbers of the entries of even keys to those of odd ones, which are active then.
#[test]
fn entries_that_were_taken_back_are_forgotten() {
    let _limit = Limit::new();
    let mut store = store(64 << 20);
    put(&mut store, 0..KEYS, 1);
    put(&mut store, even(), 2);
    store.rollback(Height(1)).unwrap();
    put(&mut store, odd(), 3);
    assert_eq!(put(&mut store, even(), 4), without_detours());
}

/// A block that is never accepted has entries of even keys with the serial numbers that odd ones get.
#[test]
fn speculative_entries_are_not_remembered() {
    let _limit = Limit::new();
    let mut store = store(64 << 20);
    put(&mut store, 0..KEYS, 1);
    let speculative = |store: &Store, parent: Option<&Speculative>, value: u64| {
        let mut block = store.speculate(parent).unwrap();
        even().for_each(|number| block.put(key(number), key(value)).unwrap());
        block.finish().unwrap()
    };
    let other = speculative(&store, None, 2);
    let above = speculative(&store, Some(&other), 5);
    put(&mut store, odd(), 3);
    assert_eq!(put(&mut store, even(), 4), without_detours());
    // Nor are those of the store believed by a block that follows another one.
    match store.speculate(Some(&above)) {
        Err(Error::Stale { .. }) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("a block on one that is stale"),
    }
}

/// Random puts and deletes of few keys, in one change set and in some, whatever the size of the cache.
#[test]
fn roots_do_not_depend_on_it() {
    let _limit = Limit::new();
    for seed in 0..4 {
        random(seed);
    }
}

fn random(seed: u64) {
    let mut stores = [0, 80, 16 * 80 * 40, 64 << 20].map(store);
    let mut rng = SplitMix64::new(seed);
    for _ in 0..60 {
        let ops: Vec<(u64, u64)> =
            (0..rng.below(60)).map(|_| (rng.below(300), rng.below(8))).collect();
        let roots = stores.each_mut().map(|store| {
            let mut block = store.next_block().unwrap();
            for &(number, what) in &ops {
                match what {
                    0 => block.next_change_set().unwrap(),
                    1 => block.delete(key(number)).unwrap(),
                    _ => block.put(key(number), key(what)).unwrap(),
                }
            }
            block.commit().unwrap().root
        });
        assert!(roots.iter().all(|root| *root == roots[0]), "seed {seed}: {roots:?}");
    }
}
