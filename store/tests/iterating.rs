//! What iterating costs, in entries read: as much as is there, also where much was, and no more when
//! the state turns out to be damaged.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::forge::{Frame, files, frames, read, seal, write};
use common::{dir, disk, on};
use hedgerow::disk::Vfs;
use hedgerow::{CompactionRule, Error, Height, KeyHash, Store, StoreParams};
use hedgerow_testkit::Limit;
use hedgerow_testkit::generate::{adversarial_keys, collisions};
use hedgerow_testkit::model::key_hash;
use hedgerow_types::entry::{EntryFields, EntryRef};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Entries that were read, from wherever.
fn entries_read(store: &Store) -> u64 {
    let log = store.stats().log;
    log.entries_from_tail + log.entries_from_cache + log.entries_from_disk
}

/// Iterates, and returns the keys and the number of entries that were read for it.
fn iterate(store: &Store) -> (Vec<Vec<u8>>, u64) {
    let before = entries_read(store);
    let keys = store.reader().iter().map(|pair| pair.unwrap().0).collect();
    (keys, entries_read(store) - before)
}

fn numbered(numbers: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    numbers.map(|i| format!("key {i}").into_bytes()).collect()
}

/// Puts or deletes these keys, in blocks of 20,000.
fn write_keys(store: &mut Store, keys: &[Vec<u8>], value: Option<&str>) {
    for keys in keys.chunks(20_000) {
        let height = store.height().next();
        let mut block = store.begin_block(height).unwrap();
        for key in keys {
            match value {
                Some(value) => block.put(key, value).unwrap(),
                None => block.delete(key).unwrap(),
            }
        }
        block.commit().unwrap();
    }
}

/// A store that was emptied read all 65,536 sentries for an iteration over nothing: a thousand of them
/// took 28 s. An entry is read for each key, and one for the sentry before them.
#[test]
fn an_iteration_costs_what_is_there() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    assert_eq!(iterate(&store), (vec![], 0), "a fresh store");
    let mut keys = numbered(0..200_000);
    keys.extend(adversarial_keys());
    write_keys(&mut store, &keys, Some("value"));
    let (found, cost) = iterate(&store);
    assert_eq!(found.len(), keys.len());
    assert!(cost <= found.len() as u64 + 65_536, "{cost} reads for {} keys", found.len());

    // Some are left, in groups of their own, side by side, and tied with others.
    let mut left: Vec<_> = collisions().into_iter().flat_map(|group| group.keys).collect();
    left.extend(numbered(0..40));
    let gone: Vec<_> = keys.iter().filter(|key| !left.contains(key)).cloned().collect();
    write_keys(&mut store, &gone, None);
    let (found, cost) = iterate(&store);
    left.sort_by_key(|key| key_hash(key));
    assert_eq!(found, left);
    assert!(cost <= 2 * left.len() as u64, "{cost} reads for {} keys", left.len());

    write_keys(&mut store, &left, None);
    for _ in 0..1_000 {
        assert_eq!(iterate(&store), (vec![], 0), "all deleted");
    }
    // A proof of an absent key reads the sentry before it and its group of 16, whatever was there.
    let before = entries_read(&store);
    for key in &keys[..1_000] {
        store.reader().prove(key).unwrap();
    }
    let cost = entries_read(&store) - before;
    assert!(cost <= 20 * 1_000, "{cost} reads for 1,000 proofs");
    write_keys(&mut store, &keys[..1], Some("again"));
    assert_eq!(iterate(&store), (keys[..1].to_vec(), 2));
    store.check().unwrap();
}

/// Any set of keys comes out in the order of its hashes, chunks and groups wherever they end.
#[test]
fn what_comes_out_is_what_is_there() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create(dir(), StoreParams::default(), on(&disk)).unwrap();
    let mut there = BTreeMap::new();
    for (number, keys) in [
        numbered(0..1),
        numbered(0..300),
        adversarial_keys(),
        numbered(300..17_000),
        numbered(17_000..60_000),
    ]
    .into_iter()
    .enumerate()
    {
        write_keys(&mut store, &keys, Some("value"));
        there.extend(keys.iter().map(|key| (key_hash(key), key.clone())));
        if number == 3 {
            write_keys(&mut store, &numbered(0..250), None);
            there.retain(|_, key| !numbered(0..250).contains(key));
        }
        let (found, _) = iterate(&store);
        assert!(found.iter().eq(there.values()), "{number}");
    }
}

/// The entry at a frame with another next key hash, and the checksum that goes with it.
fn lead_elsewhere(segment: &[u8], frame: Frame, next_key_hash: KeyHash) -> Vec<u8> {
    let old = EntryRef::parse(&segment[frame.at..][..frame.len]).unwrap();
    let deactivated: Vec<_> = old.deactivated().collect();
    let mut forged = Vec::new();
    let fields = EntryFields {
        key: old.key(),
        value: old.value(),
        next_key_hash,
        version: old.version(),
        serial_number: old.serial_number(),
        deactivated: &deactivated,
    };
    fields.encode(&mut forged).unwrap();
    seal(segment, frame.at, &mut forged);
    forged
}

/// C17: a broken link is reported when it is met; what is read for it is a chunk, not the rest of the
/// shard.
#[test]
fn a_broken_link_is_reported_where_it_is() {
    let _limit = Limit::new();
    let disk: Arc<dyn Vfs> = disk();
    let never = StoreParams::default().with_compaction(CompactionRule::QMDB);
    let options = on(&disk).segment_bytes(1 << 30).tail_bytes(0).entry_cache_bytes(0);
    let mut store = Store::create(dir(), never, options).unwrap();
    write_keys(&mut store, &numbered(0..100_000), Some("value"));
    store.flush().unwrap();
    let (all, whole) = iterate(&store);

    // The first key of the state, whose entry is the last one that was written for it.
    let path = &files(&disk, "log")[0];
    let segment = read(&disk, path);
    let of_key = |frame: &&Frame| {
        let entry = EntryRef::parse(&segment[frame.at..][..frame.len]).unwrap();
        entry.key() == all[0] && !entry.is_sentry()
    };
    let frames = frames(&segment);
    let frame = frames.iter().rfind(of_key).unwrap();
    write(&disk, path, frame.at as u64, &lead_elsewhere(&segment, *frame, KeyHash([9; 32])));

    let before = entries_read(&store);
    let mut iter = store.reader().iter();
    assert_eq!(iter.next().unwrap().unwrap().0, all[0]);
    let reported = iter.next().unwrap();
    assert!(matches!(&reported, Err(Error::Corrupt(_))), "{reported:?}");
    assert!(iter.next().is_none());
    let cost = entries_read(&store) - before;
    assert!(cost <= 1_100, "{cost} of {whole} entries were read");
    assert_eq!(store.height(), Height(5));
}
