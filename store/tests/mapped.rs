//! Files that are mapped change no answer: stores that map everything, little and nothing take the same blocks,
//! rollbacks, prunings and openings side by side, while readers read.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::params;
use hedgerow::disk::{RealDisk, Vfs};
use hedgerow::{Height, Options, Store};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const KEYS: u64 = 1500;

fn key(number: u64) -> String {
    format!("key {number}")
}

fn value(seed: u64, number: u64) -> String {
    let len = SplitMix64::new(seed ^ number).next_u64() % 400;
    format!("{seed} {}", "v".repeat(len as usize))
}

fn options(mapped: Option<u64>) -> Options {
    let options = Options::new().segment_bytes(20_000).tail_bytes(0).threads(2).keep_heights(6);
    let options = options.rollback_window(6).keep_history(20);
    match mapped {
        Some(bytes) => options.mapped_bytes(bytes),
        None => options,
    }
}

/// Everything, the default; some segments; nothing.
const MAPPED: [Option<u64>; 3] = [None, Some(200_000), Some(0)];

type State = BTreeMap<u64, u64>;

fn check(store: &Store, state: &State, at: u64) {
    let reader = store.reader();
    for number in (0..KEYS).skip(at as usize % 7).step_by(7) {
        let expected = state.get(&number).map(|&seed| value(seed, number).into_bytes());
        let found = reader.get(key(number)).unwrap().map(|value| value.to_vec());
        assert_eq!(found, expected, "{number}");
    }
}

fn block(store: &mut Store, state: &mut State, seed: u64) {
    let mut rng = SplitMix64::new(seed);
    let mut block = store.next_block().unwrap();
    for _ in 0..200 {
        let number = rng.next_u64() % KEYS;
        if rng.next_u64().is_multiple_of(8) {
            block.delete(key(number)).unwrap();
            state.remove(&number);
        } else {
            block.put(key(number), value(seed, number)).unwrap();
            state.insert(number, seed);
        }
    }
    block.submit().unwrap().root().unwrap();
}

fn run(seed: u64) {
    let params = params(50, 1, 1);
    let places: Vec<_> = MAPPED.map(|_| tempfile::tempdir().unwrap()).into();
    let path = |place: &tempfile::TempDir| place.path().join("state");
    let create = |(place, mapped): (&_, Option<u64>)| {
        Store::create(path(place), params, options(mapped)).unwrap()
    };
    let mut stores: Vec<Store> = places.iter().zip(MAPPED).map(create).collect();
    let mut states = vec![State::new()];
    let mut rng = SplitMix64::new(seed);
    let mut most_mapped = 0;
    for step in 0..60 {
        match rng.next_u64() % 10 {
            0 if states.len() > 8 => {
                let back = 1 + rng.next_u64() % 4;
                states.truncate(states.len() - back as usize);
                let height = Height(states.len() as u64 - 1);
                stores.iter_mut().for_each(|store| store.rollback(height).unwrap());
            }
            1 => {
                stores.drain(..).for_each(|store| store.close().unwrap());
                let open = |(place, mapped): (&_, Option<u64>)| {
                    Store::open(path(place), options(mapped)).unwrap()
                };
                stores = places.iter().zip(MAPPED).map(open).collect();
            }
            _ => {
                let mut state = states.last().unwrap().clone();
                let before = state.clone();
                for store in &mut stores {
                    state = before.clone();
                    block(store, &mut state, seed * 1000 + step);
                }
                states.push(state);
            }
        }
        let roots: Vec<_> = stores.iter().map(|store| store.reader().root()).collect();
        assert!(roots.iter().all(|root| *root == roots[0]), "seed {seed} step {step}: {roots:?}");
        stores.iter().for_each(|store| check(store, states.last().unwrap(), step));
        let mapped: Vec<_> = stores.iter().map(|store| store.stats().log.mapped_bytes).collect();
        assert!(mapped[1] <= 150_000 && mapped[2] == 0, "seed {seed} step {step}: {mapped:?}");
        most_mapped = mapped[0].max(most_mapped);
    }
    for store in &mut stores {
        store.flush().unwrap();
        store.check().unwrap();
    }
    let maps = RealDisk.maps_files();
    assert_eq!(most_mapped > 200_000, maps, "seed {seed}: {most_mapped} bytes were mapped at most");
    if !maps {
        println!("!!! NOT RUN: what is mapped: this system maps no files");
    }
}

#[test]
fn stores_that_map_all_some_and_nothing_agree() {
    let _limit = Limit::new();
    for seed in 0..2 {
        run(seed);
    }
}

/// Whoever reads while segments are mapped, lose their room and go reads what is right, or that it is gone.
#[test]
fn readers_read_on_while_mapped_segments_go() {
    let _limit = Limit::new();
    for mapped in MAPPED {
        let place = tempfile::tempdir().unwrap();
        let path: &Path = &place.path().join("state");
        let params = params(50, 1, 1);
        let mut store = Store::create(path, params, options(mapped)).unwrap();
        let mut state = State::new();
        let over = AtomicBool::new(false);
        let reader = store.reader();
        thread::scope(|scope| {
            for thread in 0..3_u64 {
                let (reader, over) = (reader.clone(), &over);
                scope.spawn(move || {
                    let mut rng = SplitMix64::new(thread);
                    while !over.load(Ordering::Relaxed) {
                        let number = rng.next_u64() % KEYS;
                        let Some(found) = reader.get(key(number)).unwrap() else { continue };
                        let found = String::from_utf8(found.to_vec()).unwrap();
                        let seed = found.split(' ').next().unwrap().parse().unwrap();
                        assert_eq!(found, value(seed, number));
                    }
                });
            }
            for seed in 0..150 {
                block(&mut store, &mut state, seed);
                if seed % 40 == 39 {
                    let height = Height(store.height().0 - 3);
                    store.rollback(height).unwrap();
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        drop(reader);
        store.close().unwrap();
    }
}
