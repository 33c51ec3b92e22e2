//! The power goes at calls all through the life of a store whose index is in files, with as little memory as there may be:
//! in spills, merges, checkpoints, manifests and removals. What opens is the state after some block, all durable ones
//! included, and it goes on from there.
//!
//! Jobs run on a thread of their own, so that the n-th call is not the same one in every run: all of them together are
//! what is met.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{TIERED, dir, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{Error, Options, Store};
use hedgerow_testkit::Limit;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use std::collections::BTreeMap;
use std::sync::Arc;

type Pairs = BTreeMap<String, u64>;

const KEYS: u64 = 3_000;
const BLOCKS: u64 = 28;

/// Of how many calls one is taken. `HEDGEROW_TIERED_CALLS=1` takes all.
fn step() -> usize {
    std::env::var("HEDGEROW_TIERED_CALLS").map_or(61, |step| step.parse().unwrap())
}

fn options(disk: &Arc<dyn Vfs>) -> Options {
    on(disk).index(TIERED).threads(1).checkpoint_bytes(60_000).manifest_blocks(2).keep_heights(1)
}

/// What the block of a height does: `None` deletes.
fn changes(height: u64) -> Vec<(String, Option<u64>)> {
    let mut rng = SplitMix64::new(height);
    let key = |rng: &mut SplitMix64| format!("key {}", rng.below(KEYS));
    (0..700).map(|_| (key(&mut rng), (rng.below(5) > 0).then(|| rng.next_u64()))).collect()
}

/// The states of all heights.
fn states(blocks: u64) -> Vec<Pairs> {
    let mut states = vec![Pairs::new()];
    for height in 1..=blocks {
        let mut state = states[states.len() - 1].clone();
        for (key, value) in changes(height) {
            match value {
                Some(value) => drop(state.insert(key, value)),
                None => drop(state.remove(&key)),
            }
        }
        states.push(state);
    }
    states
}

fn write(store: &mut Store, blocks: u64) -> Result<(), Error> {
    for _ in 0..blocks {
        let mut block = store.next_block()?;
        for (key, value) in changes(block.height().0) {
            match value {
                Some(value) => block.put(&key, value.to_le_bytes())?,
                None => block.delete(&key)?,
            }
        }
        block.commit()?;
    }
    store.flush()
}

/// Writes until the end or the power is gone; the height that was durable by then.
fn live(disk: &Arc<dyn Vfs>) -> u64 {
    let Ok(mut store) = Store::open(dir(), options(disk)) else { return 0 };
    let written = write(&mut store, BLOCKS);
    let durable = store.reader().durable_height().0;
    let closed = written.and_then(|()| store.close());
    if closed.is_ok() { BLOCKS } else { durable }
}

fn compare(store: &Store, state: &Pairs, what: &str) {
    let all: Pairs = store
        .reader()
        .iter()
        .map(|pair| {
            let (key, value) = pair.unwrap();
            (String::from_utf8(key).unwrap(), u64::from_le_bytes(value.try_into().unwrap()))
        })
        .collect();
    assert!(all == *state, "{what}");
    for number in (0..KEYS).step_by(37) {
        let key = format!("key {number}");
        let value = store.reader().get(&key).unwrap();
        assert_eq!(value, state.get(&key).map(|value| value.to_le_bytes().to_vec()), "{what}");
    }
}

#[test]
fn the_power_goes_in_spills_merges_checkpoints_and_manifests() {
    let _limit = Limit::new();
    let states = states(BLOCKS + 6);
    let seed = 23;
    let empty = PowerLossDisk::new(seed);
    let created: Arc<dyn Vfs> = Arc::new(empty.clone());
    Store::create(dir(), params(100, 1, 2), options(&created)).unwrap().close().unwrap();
    // Without a crash: so many calls, and everything is met that is to be met.
    let whole = empty.settled_copy(seed);
    assert_eq!(live(&(Arc::new(whole.clone()) as Arc<dyn Vfs>)), BLOCKS);
    let trace = whole.trace();
    for point in hedgerow::disk::POINTS {
        if point.starts_with("index") || point.starts_with("checkpoint") {
            assert!(trace.points.get(point).is_some_and(|times| *times > 1), "{point} {trace:?}");
        }
    }
    let calls = trace.changes as usize;
    let (mut cycles, mut from_checkpoints) = (0, 0);
    for call in (0..calls).step_by(step()) {
        let what = format!("power loss at call {call} of {calls}");
        let disk = empty.settled_copy(seed);
        disk.plan(Fault::once(Calls::Changes, call as u64, FaultKind::PowerOff));
        let durable = live(&(Arc::new(disk.clone()) as Arc<dyn Vfs>));
        let on_disk: Arc<dyn Vfs> = Arc::new(disk.power_cycle(call as u64));
        let mut store =
            Store::open(dir(), options(&on_disk)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let height = store.height().0;
        assert!(
            (durable..=BLOCKS).contains(&height),
            "{what}: {durable} durable, {height} came back"
        );
        compare(&store, &states[height as usize], &what);
        write(&mut store, 6).unwrap();
        compare(&store, &states[height as usize + 6], &what);
        store.check().unwrap_or_else(|error| panic!("{what}: {error}"));
        store.close().unwrap();
        let store = Store::open(dir(), options(&on_disk)).unwrap();
        compare(&store, &states[height as usize + 6], &what);
        cycles += 1;
        from_checkpoints += u64::from(store.stats().opened_from.is_some());
    }
    println!("{cycles} of {calls} calls, {from_checkpoints} opened from a checkpoint");
    assert!(cycles > 5 && from_checkpoints > 0);
}
