//! Batches: what [`ShardIndex::apply`] and [`ShardIndex::candidates_many`] do at their edges.

use super::model::key;
use super::place;
use crate::{Edit, IndexError, ShardIndex};
use hedgerow_types::LogPosition;

const A: LogPosition = LogPosition(8);
const B: LogPosition = LogPosition(16);
const C: LogPosition = LogPosition(24);

#[test]
fn empty_batches_do_nothing() {
    let mut index = ShardIndex::new();
    let mut out = vec![(9, A)];
    index.apply(&[]).unwrap();
    index.apply(&[Edit { key: key(0, 0, 0), old: None, new: None }; 40]).unwrap();
    index.candidates_many(&[], &mut out);
    index.candidates_many(&[key(0, 0, 0); 40], &mut out);
    assert!(index.is_empty());
    assert_eq!(out, [(9, A)], "what was in `out` stays");
}

#[test]
fn edits_of_one_key_apply_in_order() {
    let key = key(1, 2, 3);
    let mut index = ShardIndex::new();
    let edit =
        |old: Option<_>, new: Option<_>| Edit { key, old: old.map(place), new: new.map(place) };
    index
        .apply(&[
            edit(None, Some(A)),
            edit(Some(A), Some(B)),
            edit(Some(B), None),
            edit(None, Some(C)),
            edit(Some(C), Some(A)),
        ])
        .unwrap();
    assert!(index.candidates(&key).eq([A]));
    let wrong = [edit(Some(A), Some(B)), edit(Some(B), None), edit(Some(A), Some(C))];
    assert_eq!(index.apply(&wrong), Err(IndexError::Missing { key, at: A }));
    assert!(index.candidates(&key).eq([A]));
    assert_eq!(index.len(), 1);
}

/// The index cannot tell ties apart, but their positions can.
#[test]
fn ties_may_exchange_places_within_a_batch() {
    let (low, high) = (key(1, 2, 3), key(1, 2, 4));
    let mut index = ShardIndex::new();
    index.insert(&low, A).unwrap();
    index.insert(&high, B).unwrap();
    index
        .apply(&[
            Edit { key: low, old: Some(place(A)), new: Some(place(C)) },
            Edit { key: high, old: Some(place(B)), new: Some(place(A)) },
            Edit { key: low, old: Some(place(C)), new: Some(place(B)) },
        ])
        .unwrap();
    assert!(index.candidates(&low).eq([A, B]));
    let occupied = Edit { key: high, old: Some(place(A)), new: Some(place(B)) };
    let first = Edit { key: key(9, 9, 9), old: None, new: Some(place(C)) };
    assert_eq!(index.apply(&[first, occupied]), Err(IndexError::Occupied { at: B }));
    assert_eq!(index.len(), 2);
    assert_eq!(index.candidates(&first.key).len(), 0);
}

/// Numbers of keys go on through the windows that a batch is worked in, ties included.
#[test]
fn candidates_carry_the_numbers_of_their_keys() {
    let mut index = ShardIndex::new();
    for n in 0..100_u32 {
        for tie in 0..u64::from(n % 3) {
            index
                .insert(&key(n as u16 % 5, n, tie), LogPosition(8 * (u64::from(n) + 1000 * tie)))
                .unwrap();
        }
    }
    for order in [1_u32, 7, 93] {
        let asked: Vec<u32> = (0..100).map(|i| i * order % 100).collect();
        let keys: Vec<_> = asked.iter().map(|&n| key(n as u16 % 5, n, 77)).collect();
        let mut out = Vec::new();
        index.candidates_many(&keys, &mut out);
        let expected: Vec<(u32, LogPosition)> = (0..)
            .zip(&asked)
            .flat_map(|(number, &n)| {
                (0..u64::from(n % 3))
                    .map(move |tie| (number, LogPosition(8 * (u64::from(n) + 1000 * tie))))
            })
            .collect();
        assert_eq!(out, expected);
    }
}
