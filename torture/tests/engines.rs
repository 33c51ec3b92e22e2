//! Power loss with the manifest in RocksDB or sled, which keep files of their own on a real disk: the log,
//! the twig file, the lock and all names around them lose what was not synced. Runs for the engines that
//! were compiled in, apart from redb, which is on the lossy disk itself (`torture crash`).
#![allow(clippy::panic, reason = "a test fails by panicking")]
#![cfg(any(feature = "rocksdb", feature = "sled"))]

use hedgerow::Engine;
use hedgerow_torture::crash::{CYCLES_PER_SESSION, Reach, Session};
use std::path::Path;

/// Of each engine.
const SESSIONS: u64 = 6;

fn survives(name: &str) {
    let engine: Engine = name.parse().unwrap_or_else(|error| panic!("{error}"));
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("beside-{name}"));
    let mut reach = Reach::default();
    for seed in 1..=SESSIONS {
        let outcome = Session::run_beside(seed, CYCLES_PER_SESSION, engine, &place);
        reach.merge(&outcome.reach);
        if let Err(what) = outcome.result {
            panic!("{name}, seed {seed}: {what}");
        }
    }
    println!("{name}: seeds 1 to {SESSIONS}\n{reach}");
    assert_eq!(reach.cycles(), SESSIONS * CYCLES_PER_SESSION);
}

#[test]
#[cfg(feature = "rocksdb")]
fn files_around_rocksdb() {
    survives("rocksdb");
}

#[test]
#[cfg(feature = "sled")]
fn files_around_sled() {
    survives("sled");
}
