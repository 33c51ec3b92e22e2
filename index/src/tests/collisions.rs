//! Key hashes that nobody could mine: equal stems in any number, at every place where a search, a
//! split or a merge could go wrong.

use super::lookup::KeyHashAt;
use super::model::{Model, key};
use crate::{IndexError, MAX_BUCKET_SLOTS, MAX_POSITION, ShardIndex};
use hedgerow_types::{KeyHash, LogPosition};

/// Numbers of ties around the sizes at which buckets change shape.
const COUNTS: [u64; 9] = [1, 2, 3, 7, 63, 255, 256, 257, 600];

/// The fragments at which ties can stand: the ends and somewhere in between.
const FRAGMENTS: [u32; 5] = [0, 1, 0x8000_0000, u32::MAX - 1, u32::MAX];

/// Ties alone, with tails ascending and descending in time.
#[test]
fn ties_of_one_fragment() {
    for fragment in FRAGMENTS {
        for count in COUNTS {
            for down in [false, true] {
                let mut model = Model::default();
                for n in 0..count {
                    let tail = if down { count - n } else { n };
                    model.put(key(3, fragment, tail));
                }
                model.check();
                let some = [0, 1, count / 2, count - 1, count, count + 1];
                for tail in some {
                    model.check_key(&key(3, fragment, tail));
                }
                model.check_key(&key(3, fragment.wrapping_add(1), 0));
                model.check_key(&key(4, 0, 0));
                // Update all: every slot passes its ties.
                for tail in 0..count {
                    model.put(key(3, fragment, tail));
                }
                model.check();
                for tail in 0..=count {
                    model.delete(key(3, fragment, tail));
                }
                model.check();
                assert!(model.index.is_empty());
            }
        }
    }
}

/// A run of ties with single keys below, above and on both sides, entering before or after them.
#[test]
fn ties_among_other_keys() {
    for count in COUNTS {
        for (below, above) in [(0, 1), (1, 0), (1, 1), (200, 1), (1, 200), (300, 300)] {
            for ties_first in [false, true] {
                let ties = (0..count).map(|tail| key(9, 1 << 20, tail));
                let others = (0..below)
                    .map(|n| key(9, (1 << 20) - 1 - n, 5))
                    .chain((0..above).map(|n| key(9, (1 << 20) + 1 + n, 5)));
                let mut model = Model::default();
                if ties_first {
                    ties.clone().chain(others.clone()).for_each(|key| model.put(key));
                } else {
                    others.clone().chain(ties.clone()).for_each(|key| model.put(key));
                }
                model.check();
                for n in [0, 1, 2, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (1 << 20) + 2, u32::MAX] {
                    model.check_key(&key(9, n, 0));
                    model.check_key(&key(9, n, count / 2));
                    model.check_key(&key(9, n, u64::MAX));
                }
                if ties_first {
                    ties.for_each(|key| model.delete(key));
                } else {
                    others.for_each(|key| model.delete(key));
                }
                model.check_all_keys_of_few();
            }
        }
    }
}

/// Two runs side by side, each longer than a bucket, filled alternately and emptied alternately.
#[test]
fn two_long_runs_side_by_side() {
    let mut model = Model::default();
    let count = 3 * MAX_BUCKET_SLOTS as u64;
    for tail in 0..count {
        model.put(key(0, 41, tail));
        model.put(key(0, 42, count - tail));
    }
    model.check();
    model.check_key(&key(0, 42, 0));
    model.check_key(&key(0, 42, 1));
    model.check_key(&key(0, 41, 0));
    model.check_key(&key(0, 43, 0));
    for tail in 0..count {
        model.delete(key(0, 41, count - 1 - tail));
        model.delete(key(0, 42, count - tail));
        if tail % 97 == 0 {
            model.check();
        }
    }
    assert!(model.index.is_empty());
}

/// Every fragment has exactly two keys, so that a cut at a bucket's middle would part a pair.
#[test]
fn pairs_are_never_parted() {
    let mut model = Model::default();
    for n in 0..1000_u32 {
        let fragment = n.reverse_bits() >> 4;
        model.put(key(1, fragment, 1));
        model.put(key(1, fragment, 2));
        if n.is_power_of_two() {
            model.check();
        }
    }
    model.check_all_keys();
}

/// Keys whose order is opposite to that of their positions, and the other way round.
#[test]
fn the_tail_decides_not_the_position() {
    for (low_at, high_at) in [(8, 16), (16, 8)] {
        let (low, high) = (key(2, 77, 1), key(2, 77, 2));
        let mut index = ShardIndex::new();
        index.insert(&high, LogPosition(high_at)).unwrap();
        index.insert(&low, LogPosition(low_at)).unwrap();
        let log = |at: LogPosition| if at.0 == low_at { low } else { high };
        let log = Told(log);
        assert_eq!(index.get(&low, &log), Ok(Some(LogPosition(low_at))));
        assert_eq!(index.get(&high, &log), Ok(Some(LogPosition(high_at))));
        assert_eq!(index.get(&key(2, 77, 3), &log), Ok(None), "equal stem, another key");
        assert_eq!(index.predecessor(&low, &log), Ok(None));
        assert_eq!(index.predecessor(&high, &log), Ok(Some(LogPosition(low_at))));
        assert_eq!(index.predecessor(&key(2, 77, 3), &log), Ok(Some(LogPosition(high_at))));
        assert_eq!(index.predecessor(&key(2, 78, 0), &log), Ok(Some(LogPosition(high_at))));
        assert_eq!(index.predecessor(&KeyHash::MAX, &log), Ok(Some(LogPosition(high_at))));
    }
}

struct Told<F>(F);

impl<F: Fn(LogPosition) -> KeyHash> KeyHashAt for Told<F> {
    type Error = std::convert::Infallible;

    fn key_hash_at(&self, at: LogPosition) -> Result<KeyHash, Self::Error> {
        Ok(self.0(at))
    }
}

/// One candidate is read all the same, and a failed read is neither "found" nor "not found".
#[test]
fn failed_reads_pass_through() {
    let mut model = Model::default();
    model.put(key(5, 10, 1));
    model.put(key(5, 20, 1));
    model.put(key(5, 20, 2));
    let at = model.map[&key(5, 10, 1)];
    model.log.broken = Some(at);
    assert_eq!(model.index.get(&key(5, 10, 1), &model.log), Err(at));
    assert_eq!(model.index.get(&key(5, 10, 9), &model.log), Err(at), "it might be this key");
    assert_eq!(model.index.get(&key(5, 11, 1), &model.log), Ok(None), "no candidate");
    assert_eq!(model.index.predecessor(&key(5, 10, 9), &model.log), Err(at));
    assert_eq!(model.index.predecessor(&key(5, 11, 0), &model.log), Ok(Some(at)), "no tie");
    for broken in [key(5, 20, 1), key(5, 20, 2)].map(|key| model.map[&key]) {
        model.log.broken = Some(broken);
        assert_eq!(model.index.predecessor(&key(5, 21, 0), &model.log), Err(broken));
        assert_eq!(model.index.predecessor(&key(5, 20, 2), &model.log), Err(broken));
    }
}

/// The predecessor of the first key of a group is in a group below, across empty ones.
#[test]
fn predecessors_cross_groups_and_buckets() {
    let mut model = Model::default();
    assert_eq!(model.index.predecessor(&KeyHash::MAX, &model.log), Ok(None));
    model.put(key(0, 0, 0));
    model.put(key(0xFFF, u32::MAX, u64::MAX));
    for n in 0..2000 {
        model.put(key(0x800, n * 3, 0));
    }
    for n in (0..6000).step_by(7) {
        model.check_key(&key(0x800, n, 0));
        model.check_key(&key(0x800, n, 1));
    }
    for group in [0, 1, 0x7FF, 0x800, 0x801, 0xFFF] {
        model.check_key(&key(group, 0, 0));
        model.check_key(&key(group, 0, 1));
        model.check_key(&key(group, u32::MAX, 0));
    }
    model.check();
}

/// What cannot be indexed is refused, and nothing changes.
#[test]
fn positions_are_never_truncated() {
    let mut index = ShardIndex::new();
    let (k, at) = (key(1, 1, 1), LogPosition(64));
    index.insert(&k, at).unwrap();
    for bad in [1, 63, 65, 68, MAX_POSITION.0 + 1, MAX_POSITION.0 + 8 + 64, u64::MAX - 7, u64::MAX]
    {
        let bad = LogPosition(bad);
        let refused = IndexError::Position { at: bad };
        assert_eq!(index.insert(&k, bad), Err(refused.clone()));
        assert_eq!(index.replace(&k, at, bad), Err(refused.clone()));
        assert_eq!(index.replace(&k, bad, at), Ok(false));
        assert!(!index.remove(&k, bad));
        let entries = vec![(k.prefix_u64(), at), (k.prefix_u64(), bad)];
        assert_eq!(ShardIndex::build(entries).err(), Some(refused));
        assert!(index.positions().eq([at]));
    }
    assert_eq!(index.replace(&k, at, MAX_POSITION), Ok(true));
    assert!(index.candidates(&k).eq([MAX_POSITION]));
    assert_eq!(index.len(), 1);
}

/// A position is indexed once per stem.
#[test]
fn occupied_positions_are_refused() {
    let mut index = ShardIndex::new();
    let (a, b) = (LogPosition(8), LogPosition(16));
    let refused = IndexError::Occupied { at: b };
    index.insert(&key(1, 1, 1), a).unwrap();
    index.insert(&key(1, 1, 2), b).unwrap();
    assert_eq!(index.insert(&key(1, 1, 3), b), Err(refused.clone()));
    assert_eq!(index.replace(&key(1, 1, 1), a, b), Err(refused.clone()));
    assert_eq!(index.replace(&key(1, 1, 2), b, b), Ok(true));
    assert!(index.positions().eq([a, b]));
    assert_eq!(index.len(), 2);
    let prefix = key(1, 1, 1).prefix_u64();
    let twice = ShardIndex::build(vec![(prefix, b), (prefix + 1, a), (prefix + 2, b)]);
    assert_eq!(twice.err(), Some(refused));
}

impl Model {
    /// All keys if they are few, else some.
    fn check_all_keys_of_few(&self) {
        if self.map.len() < 300 {
            self.check_all_keys();
        } else {
            self.check();
        }
    }
}
