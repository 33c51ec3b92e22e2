use super::*;
use std::collections::{BTreeMap, BTreeSet};

fn key(byte: u8) -> KeyHash {
    KeyHash([byte; 32])
}

/// What lies at a position, its serial number made up.
fn place(at: u64) -> Place {
    Place { at: LogPosition(at), sn: SerialNumber(at / 8 + 1) }
}

/// Where entry `entry` of a run comes to lie.
fn settled(entry: u32) -> Place {
    place(1_000_000 + 8 * u64::from(entry))
}

/// A draft with slots for these keys, of which some are present at a place.
fn draft(keys: &[(u8, Option<u64>)]) -> Draft {
    let mut draft = Draft::with_room(keys.len());
    for &(byte, at) in keys {
        draft.add(key(byte), at.map(place));
    }
    draft.note_present();
    draft
}

/// Blocks of random operations, through layers one above the other, beside a map.
#[test]
fn layers_answer_as_a_map_does() {
    for seed in 0_u64..400 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        let mut below = |end: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % end.max(1)
        };
        // Keys that share their first 8 bytes, in some, so that prefixes do not tell.
        let tied = below(3) == 0;
        let key = |number: usize| {
            let mut bytes = [0; 32];
            bytes[if tied { 8 } else { 0 }] = number as u8;
            KeyHash(bytes)
        };
        let universe = 2 + below(40);
        let mut now: BTreeMap<KeyHash, Place> = BTreeMap::from([(key(0), place(0))]);
        for number in 1..universe {
            if below(2) == 0 {
                now.insert(key(number), place(8 * number as u64));
            }
        }
        // What the index has: the state before all blocks, and then that after some of them.
        let mut states = vec![now.clone()];
        let mut layers: Vec<Layer> = Vec::new();
        for block in 0..3 {
            let before = now.clone();
            let asked: BTreeSet<usize> = (0..below(12)).map(|_| 1 + below(universe - 1)).collect();
            let mut known: BTreeSet<KeyHash> = asked.iter().map(|&number| key(number)).collect();
            for &number in &asked {
                known.extend(before.range(..key(number)).next_back().map(|(key, _)| *key));
            }
            let mut draft = Draft::with_room(known.len());
            for key in &known {
                draft.add(*key, before.get(key).copied());
            }
            draft.note_present();
            let slot_of = |of: &KeyHash| known.iter().position(|key| key == of);
            let mut entry = 0;
            let at = |entry: u32| place(8_000 * (block + 1) + 8 * u64::from(entry));
            for _ in 0..below(30) {
                entry += 1;
                if below(4) == 0 {
                    // Compaction moves any key that is there.
                    let present: Vec<KeyHash> = now.keys().copied().collect();
                    let moved = present[below(present.len())];
                    draft.compacted(moved, before.get(&moved).copied(), entry);
                    now.insert(moved, at(entry));
                    continue;
                }
                let asked: Vec<usize> = asked.iter().copied().collect();
                let Some(&number) = asked.get(below(asked.len())) else { continue };
                let (key, slot) = (key(number), slot_of(&key(number)).unwrap());
                let lower = now.range(..key).next_back().map(|(key, _)| *key).unwrap();
                let found = draft.before(slot).and_then(|slot| draft.key(slot).copied());
                assert_eq!(found, Some(lower), "seed {seed}: before {key}");
                let lower_slot = slot_of(&lower).unwrap();
                match (now.contains_key(&key), below(2)) {
                    (true, 0) => draft.moved(slot, entry),
                    (true, _) => {
                        draft.removed(slot);
                        draft.moved(lower_slot, entry);
                        now.remove(&key);
                        now.insert(lower, at(entry));
                        continue;
                    }
                    (false, _) => {
                        draft.created(slot, entry);
                        entry += 1;
                        draft.moved(lower_slot, entry);
                        now.insert(lower, at(entry));
                        entry -= 1;
                    }
                }
                now.insert(key, at(entry));
                entry += 1;
            }
            let layer = draft.settle(at, |_, _, _| {});
            // It names what differs, and is in order.
            let edits = layer.edits();
            assert!(edits.is_sorted_by(|a, b| a.key < b.key), "seed {seed}");
            let mut applied = before.clone();
            for Edit { key, old, new } in edits {
                assert_eq!(applied.get(&key).copied(), old, "seed {seed}: {key}");
                match new {
                    Some(new) => applied.insert(key, new),
                    None => applied.remove(&key),
                };
                assert_eq!(layer.place(&key), new, "seed {seed}: {key}");
                let expected = match new {
                    Some(new) => Now::At(new.at),
                    None => {
                        let before = now.range(..key).next_back().map(|(key, _)| *key);
                        Now::Gone { before: before.unwrap() }
                    }
                };
                assert_eq!(layer.get(&key), Some(expected), "seed {seed}: {key}");
            }
            assert_eq!(applied, now, "seed {seed}");
            layers.push(layer);
            states.push(now.clone());
        }
        // However far the index is, and in whatever order is asked.
        for index in &states {
            let mut walks: Vec<Walk> = layers.iter().map(Walk::of).collect();
            let mut again: Vec<Walk> = walks.clone();
            let order: Vec<usize> = match below(2) {
                0 => (1..universe).collect(),
                _ => (0..universe).map(|_| 1 + below(universe - 1)).collect(),
            };
            for number in order {
                let key = key(number);
                let of_layers = walks.iter_mut().rev().find_map(|walk| walk.get(&key));
                let found = match of_layers {
                    Some(Now::At(at)) => Some(at),
                    Some(Now::Gone { .. }) => None,
                    None => index.get(&key).map(|place| place.at),
                };
                assert_eq!(found, now.get(&key).map(|place| place.at), "seed {seed}: {key}");
                let mut before = *index.range(..key).next_back().unwrap().0;
                for walk in &mut again {
                    before = walk.predecessor(&key, before);
                }
                let expected = *now.range(..key).next_back().unwrap().0;
                assert_eq!(before, expected, "seed {seed}: before {key}");
            }
        }
    }
}

#[test]
fn predecessors_skip_what_was_removed_and_see_what_was_created() {
    // Before the block: 0, 10, 20, 30, 40.
    let mut draft = draft(&[
        (0, Some(0)),
        (10, Some(80)),
        (20, Some(160)),
        (30, Some(240)),
        (35, None),
        (40, Some(320)),
    ]);
    let before_40 = |draft: &Draft| draft.before(5).and_then(|slot| draft.key(slot).copied());
    for (gone, before) in [(3, 2), (2, 1), (1, 0)] {
        assert_eq!(draft.before(gone), Some(before));
        draft.removed(gone);
        draft.moved(before, before as u32);
        draft.removed(gone);
    }
    assert_eq!(before_40(&draft), Some(key(0)));
    draft.created(4, 9);
    assert_eq!(before_40(&draft), Some(key(35)));
    assert_eq!(draft.before(4), Some(0), "strictly below");
    draft.removed(4);
    assert_eq!(before_40(&draft), Some(key(0)));
    let layer = draft.settle(settled, |_, _, _| {});
    assert_eq!(layer.predecessor(&key(40), key(30)), key(0));
    assert_eq!(layer.get(&key(30)), Some(Now::Gone { before: key(0) }));
    assert_eq!(layer.get(&key(40)), None, "it was known, and nothing happened to it");
}

/// The example of the module's comment.
#[test]
fn the_key_before_another_through_two_layers() {
    let mut first = draft(&[(20, Some(160)), (25, None), (30, Some(240))]);
    first.removed(2);
    first.moved(0, 0);
    first.created(1, 1);
    let first = first.settle(settled, |_, _, _| {});
    let mut second = draft(&[(10, Some(80)), (20, Some(800)), (25, Some(808))]);
    second.removed(2);
    second.moved(1, 0);
    second.removed(1);
    second.moved(0, 1);
    let second = second.settle(settled, |_, _, _| {});
    for answer in [30, 25] {
        let between = first.predecessor(&key(40), key(answer));
        assert_eq!(between, key(25), "{answer}");
        assert_eq!(second.predecessor(&key(40), between), key(10));
    }
}

/// C8: keys deleted from above, one after the other, make a chain as long as they are many. A layer has
/// none: every look-up for the next blocks would walk it.
#[test]
fn a_layer_has_no_chains() {
    let hash = |number: u32| {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        KeyHash(bytes)
    };
    const COUNT: u32 = 100_000;
    let mut draft = Draft::default();
    for number in 0..=COUNT {
        draft.add(hash(number), Some(place(8 * u64::from(number))));
    }
    draft.note_present();
    for number in (1..=COUNT).rev() {
        assert_eq!(draft.before(number as usize), Some(number as usize - 1));
        draft.removed(number as usize);
    }
    draft.moved(0, 0);
    // One in the middle comes back: those above it end there.
    draft.created(COUNT as usize / 2, 1);
    let layer = draft.settle(settled, |_, _, _| {});
    for number in 1..=COUNT {
        let before = match number {
            _ if number == COUNT / 2 => continue,
            _ if number > COUNT / 2 => hash(COUNT / 2),
            _ => hash(0),
        };
        assert_eq!(layer.get(&hash(number)), Some(Now::Gone { before }), "{number}");
    }
    assert_eq!(layer.predecessor(&KeyHash::MAX, hash(COUNT)), hash(COUNT / 2));
}

/// What an update of its own made of a key is told, unless something else was the last word on it.
#[test]
fn those_that_were_updated_are_told() {
    let mut draft = draft(&[(1, Some(8)), (2, Some(16)), (3, Some(24)), (4, Some(32)), (5, None)]);
    for slot in [3, 1, 2, 0] {
        draft.updated(slot, slot as u32, key(100 + slot as u8));
    }
    draft.updated(3, 10, key(200));
    draft.moved(1, 11); // as a neighbour
    draft.compacted(key(3), None, 12);
    draft.created(4, 13);
    draft.compacted(key(9), Some(place(72)), 14);
    let mut told = Vec::new();
    draft.settle(settled, |key, next, place| told.push((*key, *next, place)));
    assert_eq!(told, [(key(1), key(100), settled(0)), (key(4), key(200), settled(10))]);
}

#[test]
fn edits_name_the_first_old_and_the_last_new_place() {
    let mut draft = draft(&[(1, None), (2, Some(16)), (3, None), (4, Some(32))]);
    draft.moved(1, 0);
    draft.moved(1, 1);
    draft.created(0, 2);
    draft.created(2, 3);
    draft.removed(2);
    // Compaction: of a key that is known, and of others, one of them twice.
    draft.compacted(key(2), Some(place(16)), 4);
    draft.compacted(key(9), Some(place(72)), 5);
    draft.compacted(key(0), Some(place(8)), 6);
    draft.compacted(key(9), None, 7);
    let edits: Vec<_> =
        draft.settle(settled, |_, _, _| {}).edits().iter().map(|e| (e.key, e.old, e.new)).collect();
    assert_eq!(
        edits,
        [
            (key(0), Some(place(8)), Some(settled(6))),
            (key(1), None, Some(settled(2))),
            (key(2), Some(place(16)), Some(settled(4))),
            (key(3), None, None),
            (key(9), Some(place(72)), Some(settled(7))),
        ]
    );
}
