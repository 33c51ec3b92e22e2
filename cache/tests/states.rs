//! The table of states: every row and column, on a real cache.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Below, DiskError, Key, OPTIONS, TestCache, cache_over, value, write};
use hedgerow_cache::{Cache, CacheOptions, Error, Event, Op, State, Transition};
use hedgerow_testkit::Limit;
use std::sync::Arc;

const KEY: Key = 1;
const OLD: u8 = 1;
const NEW: u8 = 2;
const BELOW: u8 = 3;

/// Brings `KEY` of a new cache into a state; the flush of what is closed is held back.
fn in_state(state: State, keep_deleted: bool) -> (Arc<Below>, TestCache) {
    // Fresh is only what is not below.
    let values = (state != State::Fresh).then(|| (KEY, value(BELOW)));
    let below = Below::with(values);
    let cache =
        Cache::new(Arc::clone(&below), None, CacheOptions { keep_deleted, ..OPTIONS }).unwrap();
    match state {
        State::Unknown => {}
        State::Clean => assert_eq!(cache.get(&KEY).unwrap(), Some(value(BELOW))),
        State::Dirty => write(&cache, KEY, Op::Put(value(OLD))),
        State::Fresh => write(&cache, KEY, Op::Create(value(OLD))),
        State::Deleted => write(&cache, KEY, Op::Delete),
        State::Flushing | State::FlushingDeleted => {
            below.hold_applies(true);
            write(
                &cache,
                KEY,
                if state == State::Flushing { Op::Put(value(OLD)) } else { Op::Delete },
            );
            cache.close_epoch(1).unwrap();
            below.wait_held();
        }
    }
    assert_eq!(cache.state(&KEY), state);
    (below, cache)
}

/// What a read finds in a state.
fn reads(state: State) -> Option<Vec<u8>> {
    match state {
        State::Unknown | State::Clean => Some(value(BELOW)),
        State::Dirty | State::Fresh | State::Flushing => Some(value(OLD)),
        State::Deleted | State::FlushingDeleted => None,
    }
}

fn op(event: Event) -> Option<Op<Vec<u8>>> {
    match event {
        Event::Put => Some(Op::Put(value(NEW))),
        Event::Create => Some(Op::Create(value(NEW))),
        Event::Insert => Some(Op::Insert(value(NEW))),
        Event::Delete => Some(Op::Delete),
        Event::Remove => Some(Op::Remove),
        _ => None,
    }
}

const OPS: [Event; 5] = [Event::Put, Event::Create, Event::Insert, Event::Delete, Event::Remove];

/// Every state and operation, and back again by undo; and what then goes down.
#[test]
fn operations_follow_the_table() {
    let _limit = Limit::new();
    for (state, event) in State::ALL.into_iter().flat_map(|s| OPS.map(|e| (s, e))) {
        for keep in [false, true] {
            let at = format!("{event:?} in {state:?}");
            let (below, cache) = in_state(state, keep);
            let mut ops = vec![(KEY, op(event).unwrap())];
            // What the key is when a closed epoch deleted it, and nothing else is known.
            let beneath = if state == State::FlushingDeleted { state } else { State::Unknown };
            let expected: Result<State, Error<DiskError>> = match state.after(event) {
                Transition::To(state) => Ok(state),
                Transition::Stays => Ok(state),
                Transition::Below => Ok(beneath),
                Transition::Exists => Err(Error::Exists { at: 0 }),
                Transition::Missing => Err(Error::Missing { at: 0 }),
                // It is below.
                Transition::AskBelow if event == Event::Insert => Err(Error::Exists { at: 0 }),
                Transition::AskBelow => Ok(State::Deleted),
            };
            match (cache.write(&mut ops), expected) {
                (Ok(undo), Ok(next)) => {
                    assert_eq!(ops, [], "{at}");
                    assert_eq!(cache.state(&KEY), next, "{at}");
                    let written = op(event).unwrap().value().cloned();
                    assert_eq!(cache.get(&KEY).unwrap(), written, "{at}");
                    cache.undo(undo).unwrap();
                    let asked = state.after(event) == Transition::AskBelow;
                    assert_eq!(cache.state(&KEY), if asked { State::Clean } else { state }, "{at}");
                    assert_eq!(cache.get(&KEY).unwrap(), reads(state), "{at}");
                }
                (Err(error), Err(expected)) => {
                    assert_eq!(error.to_string(), expected.to_string(), "{at}");
                    assert_eq!(ops, [(KEY, op(event).unwrap())], "{at}: the write is still there");
                    assert_eq!(cache.state(&KEY), state, "{at}");
                    assert_eq!(cache.get(&KEY).unwrap(), reads(state), "{at}");
                }
                (got, expected) => panic!("{at}: {got:?}, not {expected:?}"),
            }
            below.hold_applies(false);
            cache.flush(9).unwrap();
            assert!(cache.is_durable());
            assert_eq!(below.look().values.get(&KEY).cloned(), reads(state), "{at}");
        }
    }
}

/// The same, with what was written flushed, not undone: the effect says fresh and old only where it is so (the
/// backing asserts that), and what is clean then is what is below.
#[test]
fn every_operation_goes_down() {
    let _limit = Limit::new();
    for (state, event) in State::ALL.into_iter().flat_map(|s| OPS.map(|e| (s, e))) {
        for keep in [false, true] {
            let (below, cache) = in_state(state, keep);
            // A create of what is unknown and below is a lie, which nobody can find out.
            if (state, event) == (State::Unknown, Event::Create) {
                below.look().values.clear();
            }
            let wanted = match cache.write(&mut vec![(KEY, op(event).unwrap())]) {
                Ok(_) => op(event).unwrap().value().cloned(),
                Err(_) => reads(state),
            };
            below.hold_applies(false);
            cache.flush(9).unwrap();
            assert_eq!(below.look().values.get(&KEY).cloned(), wanted, "{event:?} in {state:?}");
            let last = below.look().applied.last().cloned().unwrap();
            let vanished = state == State::Fresh && matches!(event, Event::Delete | Event::Remove);
            assert!(!vanished || last.effects.is_empty(), "{event:?} in {state:?}");
            let known = cache.state(&KEY);
            assert!(
                matches!(known, State::Clean | State::Unknown),
                "{known} after {event:?} in {state:?}"
            );
            assert_eq!(cache.get(&KEY).unwrap(), wanted);
        }
    }
}

#[test]
fn the_other_events_follow_the_table() {
    let _limit = Limit::new();
    for state in State::ALL {
        let next = |event| match state.after(event) {
            Transition::To(next) => next,
            Transition::Below => State::Unknown,
            other => {
                assert_eq!(other, Transition::Stays);
                state
            }
        };
        let (_below, cache) = in_state(state, false);
        cache.get(&KEY).unwrap();
        assert_eq!(cache.state(&KEY), next(Event::Load), "load in {state:?}");
        _below.hold_applies(false);

        let (_below, cache) = in_state(state, false);
        cache.evict_clean();
        assert_eq!(cache.state(&KEY), next(Event::Evict), "evict in {state:?}");
        _below.hold_applies(false);

        let (below, cache) = in_state(state, false);
        below.hold_applies(true);
        let epoch = cache.close_epoch(5).unwrap();
        assert_eq!(cache.state(&KEY), next(Event::Close), "close in {state:?}");
        let closed = cache.state(&KEY);
        below.hold_applies(false);
        cache.wait(epoch).unwrap();
        let durable = match closed.after(Event::Durable) {
            Transition::To(next) => next,
            Transition::Below => State::Unknown,
            _ => closed,
        };
        assert_eq!(cache.state(&KEY), durable, "durable after {closed:?}");
    }
}

/// A key of a closed epoch that the open one has written too: the older goes, the newer stays.
#[test]
fn durable_beneath_a_newer_value() {
    let _limit = Limit::new();
    for old in [State::Flushing, State::FlushingDeleted] {
        for event in [Event::Put, Event::Delete] {
            let (below, cache) = in_state(old, true);
            write(&cache, KEY, op(event).unwrap());
            // A deletion of what is deleted already leaves nothing above it.
            let above = cache.state(&KEY);
            let state = if above == State::FlushingDeleted { State::Unknown } else { above };
            below.hold_applies(false);
            cache.wait_durable(&1).unwrap();
            assert_eq!(cache.state(&KEY), state, "{event:?} over {old:?}");
            assert_eq!(cache.get(&KEY).unwrap(), op(event).unwrap().value().cloned());
            assert_eq!(below.look().values.get(&KEY).cloned(), reads(old));
            cache.flush(2).unwrap();
            assert_eq!(below.look().values.get(&KEY).cloned(), op(event).unwrap().value().cloned());
        }
    }
}

/// Within a write, operations come in their order, whatever they are; a refused one leaves nothing.
#[test]
fn a_write_is_all_or_nothing() {
    let below = Below::with([(1, value(1))]);
    let cache = cache_over(&below);
    let many = |last: Op<Vec<u8>>| {
        vec![
            (1, Op::Remove),
            (1, Op::Insert(value(5))),
            (2, Op::Insert(value(6))),
            (2, Op::Remove),
            (3, Op::Put(value(7))),
            (3, Op::Put(value(8))),
            (4, last),
        ]
    };
    let mut refused = many(Op::Remove);
    assert!(matches!(cache.write(&mut refused), Err(Error::Missing { at: 6 })));
    assert_eq!(refused, many(Op::Remove));
    assert_eq!(cache.stats().dirty_keys, 0);
    assert_eq!(cache.get_many(&[1, 2, 3, 4]).unwrap(), [Some(value(1)), None, None, None]);
    // 2 is created and gone: what was not below was asked for once, and by nobody again.
    let undo = cache.write(&mut many(Op::Create(value(9)))).unwrap();
    assert_eq!(undo.keys().count(), 7);
    let all = [Some(value(5)), None, Some(value(8)), Some(value(9))];
    assert_eq!(cache.get_many(&[1, 2, 3, 4]).unwrap(), all);
    cache.undo(undo).unwrap();
    assert_eq!(cache.get_many(&[1, 2, 3, 4]).unwrap(), [Some(value(1)), None, None, None]);
    cache.flush(1).unwrap();
    assert_eq!(below.look().applied.last().unwrap().effects.len(), 0);
}
