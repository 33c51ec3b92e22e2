//! A shared index answers as the one that it was cut from, and loses nothing under threads.

use super::place;
use crate::{Edit, GROUPS, Index, IndexError, ShardIndex, SharedIndex, Stem};
use hedgerow_types::{KeyHash, LogPosition};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// A key hash of few groups and fragments, so that there are ties and neighbours across parts.
fn key(group: u16, fragment: u32, rest: u8) -> KeyHash {
    let prefix = u64::from(group) << 48 | u64::from(fragment) << 16 | u64::from(rest);
    let mut bytes = [rest; 32];
    bytes[..8].copy_from_slice(&prefix.to_be_bytes());
    KeyHash(bytes)
}

fn any_key() -> impl Strategy<Value = KeyHash> {
    let group = prop_oneof![Just(0), Just(255), Just(256), Just(257), Just(4095), 0_u16..4096];
    let fragment = prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()];
    (group, fragment, 0_u8..3).prop_map(|(group, fragment, rest)| key(group, fragment, rest))
}

proptest! {
    #[test]
    fn cut_into_parts_it_answers_the_same(
        keys in proptest::collection::vec(any_key(), 0..80),
        asked in proptest::collection::vec(any_key(), 0..80),
    ) {
        let mut whole = ShardIndex::new();
        let shared = SharedIndex::default();
        for (i, key) in keys.iter().enumerate() {
            let at = LogPosition(8 * i as u64);
            whole.insert(key, at).unwrap();
            shared.apply(&[Edit { key: *key, old: None, new: Some(place(at)) }]).unwrap();
        }
        let cut = SharedIndex::from(whole.clone());
        let positions: Vec<_> = whole.positions().collect();
        for shared in [shared, cut] {
            prop_assert_eq!(shared.len(), whole.len());
            prop_assert_eq!(&shared.positions(), &positions);
            let (mut found, mut expected) = (vec![], vec![]);
            shared.candidates(&asked, &mut found).unwrap();
            whole.candidates_many(&asked, &mut expected);
            prop_assert_eq!(&found, &expected);
            found.clear();
            for (number, key) in (0..).zip(&asked) {
                shared.candidates_of(key, &mut |at| found.push((number, at))).unwrap();
            }
            prop_assert_eq!(found, expected);
            let stems: Vec<_> = asked.iter().map(Stem::of).collect();
            let (mut found, mut expected) = (vec![], vec![]);
            shared.at_or_below(&stems, &mut found).unwrap();
            for (number, key) in (0..).zip(&asked) {
                if let Some(ties) = whole.predecessor_candidates(key).next() {
                    expected.extend(ties.positions().map(|at| (number, ties.stem(), at)));
                }
            }
            prop_assert_eq!(found, expected);
            let (mut found, mut expected) = (vec![], vec![]);
            (0..GROUPS).for_each(|group| shared.group(group, &mut found).unwrap());
            for ties in whole.groups() {
                expected.extend(ties.positions().map(|at| (ties.stem(), at)));
            }
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn edits_are_taken_back_if_one_does_not_fit(
        keys in proptest::collection::btree_set(any_key(), 1..60),
        wrong in any::<prop::sample::Index>(),
    ) {
        let mut edits: Vec<_> = keys.iter().enumerate().map(|(i, key)| {
            Edit { key: *key, old: None, new: Some(place(LogPosition(8 * i as u64))) }
        }).collect();
        let shared = SharedIndex::default();
        shared.apply(&edits).unwrap();
        let before = shared.positions();
        for edit in &mut edits {
            *edit = Edit { old: edit.new, new: edit.new.map(|new| place(new.at.plus(1 << 20))), ..*edit };
        }
        let number = wrong.index(edits.len());
        edits[number].old = Some(place(LogPosition(1 << 30)));
        let missing = IndexError::Missing { key: edits[number].key, at: LogPosition(1 << 30) };
        prop_assert_eq!(shared.apply(&edits), Err(missing));
        prop_assert_eq!(shared.positions(), before);
    }
}

/// Whoever asks while a key moves finds it in one of the two places, always.
#[test]
fn a_key_that_moves_is_never_lost() {
    const KEYS: u16 = 4096;
    let keys: Vec<_> = (0..KEYS).map(|group| key(group, 7, 0)).collect();
    let edits = |from: Option<u64>, to: u64| -> Vec<Edit> {
        let at = |base: u64, i: usize| place(LogPosition(base + 8 * i as u64));
        let edit = |(i, key): (usize, &KeyHash)| Edit {
            key: *key,
            old: from.map(|from| at(from, i)),
            new: Some(at(to, i)),
        };
        keys.iter().enumerate().map(edit).collect()
    };
    let shared = SharedIndex::default();
    shared.apply(&edits(None, 0)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for step in 0..2 {
            let (shared, keys, done) = (&shared, &keys, &done);
            scope.spawn(move || {
                let mut rounds = 0;
                while !done.load(Ordering::Relaxed) || rounds < 3 {
                    let mut found = vec![];
                    if step == 0 {
                        shared.candidates(keys, &mut found).unwrap();
                    } else {
                        let mut all = vec![];
                        (0..GROUPS).for_each(|group| shared.group(group, &mut all).unwrap());
                        found.extend((0..).zip(all).map(|(number, (_, at))| (number, at)));
                    }
                    assert_eq!(found.len(), keys.len());
                    for (expected, (number, at)) in (0..).zip(found) {
                        assert_eq!((number, at.0 % (1 << 20)), (expected, 8 * u64::from(expected)));
                    }
                    rounds += 1;
                }
            });
        }
        for step in 0..50 {
            shared.apply(&edits(Some(step << 20), (step + 1) << 20)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
}
