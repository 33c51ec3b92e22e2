//! An index that is filled in key order holds what one that took the same edits holds.

use crate::world::{create, key, work};
use hedgerow_index::{Edit, GROUPS, Index, IndexError, LOWEST_TIER, Place, SharedIndex, Stem};
use hedgerow_types::{KeyHash, LogPosition, SerialNumber};
use hedgerow_vfs::{MemDisk, Vfs};
use std::sync::Arc;

fn place(number: u64) -> Place {
    Place { at: LogPosition(8 * number), sn: SerialNumber(number) }
}

/// All that an index holds.
fn all(index: &dyn Index) -> Vec<(Stem, LogPosition)> {
    let mut found = vec![];
    (0..GROUPS).for_each(|group| index.group(group, &mut found).unwrap());
    found
}

/// Keys in ascending order, some with equal stems; each is written, and again when the next one comes, so that the
/// places of equal stems do not ascend. Some were in memory before. A batch ends anywhere.
#[test]
fn what_is_filled_in_is_what_is_applied() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let (filled, other) = (create(&vfs, 0), SharedIndex::default());
    let stem = |i: u64| i / 3 * ((1 << 44) / 1_000);
    let keys: Vec<KeyHash> = (0..3_000).map(|i| key(stem(i), (i % 3) as u8)).collect();
    let before: Vec<Edit> = (0..300)
        .map(|i| Edit { key: keys[10 * i], old: None, new: Some(place(i as u64)) })
        .collect();
    filled.apply(&before).unwrap();
    other.apply(&before).unwrap();

    filled.begin_filling().unwrap();
    let mut number = 300;
    let mut last: Option<(KeyHash, Place)> = None;
    for keys in keys.chunks(700) {
        let mut edits: Vec<Edit> = vec![];
        for key in keys {
            let (new, again) = (place(number), place(number + 1));
            number += 2;
            // The key before is in another place by now.
            if let Some((before, old)) = last {
                match edits.last_mut() {
                    Some(edit) => edit.new = Some(again),
                    None => edits.push(Edit { key: before, old: Some(old), new: Some(again) }),
                }
            }
            let was = before.iter().find(|edit| edit.key == *key).and_then(|edit| edit.new);
            edits.push(Edit { key: *key, old: was, new: Some(new) });
            last = Some((*key, new));
        }
        filled.apply(&edits).unwrap();
        other.apply(&edits).unwrap();
    }
    filled.end_filling().unwrap();
    assert_eq!(filled.len(), 3_000);
    assert!(all(&filled) == all(&other), "the indexes differ");
    let stats = filled.stats();
    assert_eq!(
        (stats.tiers.len(), stats.tiers[0].tier, stats.tiers[0].segments),
        (1, LOWEST_TIER, 1)
    );
    assert_eq!(stats.tiers[0].records, 3_000);

    // It goes on as any, and what it replaces is replaced.
    let (key, old) = last.unwrap();
    let edit = [Edit { key, old: Some(old), new: Some(place(number)) }];
    filled.apply(&edit).unwrap();
    other.apply(&edit).unwrap();
    while filled.work().is_some() {
        work(&filled, 10).unwrap();
    }
    assert!(all(&filled) == all(&other), "the indexes differ");
}

#[test]
fn what_is_not_in_order_is_an_error() {
    let vfs: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let edit = |stem, number| Edit { key: key(stem, 0), old: None, new: Some(place(number)) };
    let index = create(&vfs, 0);
    index.begin_filling().unwrap();
    index.apply(&[edit(7, 0), edit(5, 1), edit(9, 2)]).unwrap_err();
    let index = create(&vfs, 1);
    index.begin_filling().unwrap();
    index.apply(&[edit(7, 5)]).unwrap();
    let again = index.apply(&[edit(8, 5)]);
    assert!(matches!(again, Err(IndexError::Number { .. })), "{again:?}");
    let missing = Edit { old: Some(place(3)), ..edit(9, 6) };
    assert!(matches!(index.apply(&[missing]), Err(IndexError::Missing { .. })));
}
