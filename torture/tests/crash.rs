//! A little of what `torture crash` and `torture faults` do at length.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use hedgerow_testkit::limit::Limit;
use hedgerow_torture::crash::{Session, every_creation};
use hedgerow_torture::faults;

/// Enough to meet some of everything.
const CYCLES: u64 = 8;

/// A session of crashes, run again: nothing is lost, and it makes the same calls in the same order. Without
/// that a failure could not be replayed.
#[test]
fn the_same_seed_survives_the_same_calls() {
    let _limit = Limit::new();
    let seed = (1..).find(|&seed| Session::is_in_step(seed)).unwrap();
    let [first, again] = [(); 2].map(|()| {
        let outcome = Session::run(seed, CYCLES);
        if let Err(what) = &outcome.result {
            panic!("seed {seed}: {what}\nreplay: torture crash --replay {seed}");
        }
        assert_eq!(outcome.digests.len() as u64, CYCLES);
        outcome.digests
    });
    assert_eq!(first, again, "seed {seed}");
}

/// Some calls fail, one at a time.
#[test]
fn calls_that_fail() {
    let _limit = Limit::new();
    let summary = faults::run(faults::Strides { changes: 97, all: 2_000, first: 13 }).unwrap();
    if let Some((line, what)) = summary.failures.first() {
        panic!("{what}\nreplay: {line}");
    }
    assert!(summary.runs > 10, "{} runs", summary.runs);
    assert!(summary.reach.of("an error") > 5);
}

/// A creation that died is finished by the next attempt, for good.
#[test]
fn every_creation_that_dies_is_finished_by_the_next() {
    let _limit = Limit::new();
    let (ways, lost) = every_creation(1).unwrap();
    assert!(lost.is_empty(), "{} of {ways}:\n{}", lost.len(), lost.join("\n"));
}
