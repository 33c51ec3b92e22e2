//! The recorded workloads of QMDB and skippydb, through both interfaces: block by block the shard
//! roots, serial numbers and proofs that were recorded (spec 6 to 10).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk, on, tasks};
use hedgerow::hasher::{Tuning, by_name_tuned};
use hedgerow::{Digest, Error, Height, Options, SerialPath, Store, StoreParams};
use hedgerow_testkit::Limit;
use hedgerow_testkit::ops::{OpKind, RecordedBlock};
use hedgerow_testkit::vectors::{BlockRow, ProofKind, RecordedSet, set};

/// Compares the published state with a recorded row.
fn compare(store: &Store, row: &BlockRow, context: &str) {
    let history = store.reader().history(Height(row.h)).unwrap();
    assert_eq!(history.shard_roots, row.clean_roots, "{context}: shard roots at height {}", row.h);
    let oldest = history.oldest_active.map(|sn| sn.0);
    assert_eq!(oldest, row.oldest_active_sn, "{context}: oldest active at height {}", row.h);
    let stats = store.stats();
    assert_eq!(stats.published, Height(row.h));
    let next = stats.next_sn.map(|sn| sn.0);
    assert_eq!(next, row.next_sn, "{context}: next serial numbers at height {}", row.h);
}

/// Replays the first `blocks` blocks of a set, reopening after every `reopen` blocks.
fn replay(set: &RecordedSet, blocks: usize, reopen: Option<u64>, options: impl Fn() -> Options) {
    let context = format!("{} {}", set.stream, set.params);
    let params = StoreParams::default().with_compaction(set.rule);
    let mut rows = set.blocks();
    let mut store = Store::create(dir(), params, options()).unwrap();
    compare(&store, &rows.next().unwrap(), &context);
    let mut count = 0;
    for (block, row) in set.ops().zip(rows).take(blocks) {
        let ticket = store.submit_tasks(Height(block.height), &tasks(&block), []).unwrap();
        ticket.root().unwrap();
        compare(&store, &row, &context);
        count += 1;
        if reopen.is_some_and(|every| block.height % every == 0) {
            store.close().unwrap();
            store = Store::open(dir(), options()).unwrap();
            compare(&store, &row, &format!("{context}, reopened"));
        }
    }
    assert!(count > 0);
    if count as u64 == set.last_height {
        compare_proofs(&store, set);
    }
    let report = store.check().unwrap();
    assert_eq!(report.twigs_missing, 0);
}

/// The proofs that were recorded after the last block.
fn compare_proofs(store: &Store, set: &RecordedSet) {
    let reader = store.reader();
    let (_, root) = reader.root();
    for vector in set.proofs() {
        let path = reader.prove_serial(vector.shard, vector.sn).unwrap();
        assert_eq!(path.to_bytes(), vector.proof, "{:?}", vector.kind);
        let decoded = SerialPath::decode(&vector.proof).unwrap();
        decoded.verify(&vector.shard_root).unwrap();
        match vector.kind {
            ProofKind::Inclusion { key } => {
                let proven = reader.prove(&key).unwrap();
                let value = hedgerow_proof::verify(&root, &key, &proven.proof).unwrap();
                assert_eq!(value.map(<[u8]>::to_vec), reader.get(&key).unwrap());
                assert!(value.is_some());
            }
            ProofKind::Exclusion { absent_key } => {
                let proven = reader.prove(&absent_key).unwrap();
                let value = hedgerow_proof::verify(&root, &absent_key, &proven.proof).unwrap();
                assert_eq!(value, None);
            }
            ProofKind::Inactive | ProofKind::BySerialNumber => {}
        }
    }
}

fn all(stream: &str, sets: &[&str], blocks: usize, reopen: Option<u64>) {
    for params in sets {
        let disk = disk();
        replay(&set(stream, params), blocks, reopen, || on(&disk).max_value_bytes(1 << 16));
    }
}

const MIXED: [&str; 4] = ["default", "t1_7_10", "t1_1_1", "t4300_3_4"];

#[test]
fn mixed() {
    let _limit = Limit::new();
    all("mixed", &MIXED, usize::MAX, None);
}

#[test]
fn mixed_reopened() {
    let _limit = Limit::new();
    all("mixed", &MIXED, usize::MAX, Some(7));
}

#[test]
fn big_values() {
    let _limit = Limit::new();
    all("bigval", &["default", "t1_1_1"], usize::MAX, None);
    all("bigval", &["default", "t1_1_1"], usize::MAX, Some(5));
}

/// The long streams in part: `.ci/replay` runs all of them.
#[test]
fn the_beginning_of_the_long_streams() {
    let _limit = Limit::new();
    all("big", &["t6000_1_2"], 40, Some(9));
    all("prune", &["t1_1_1"], 150, Some(31));
}

/// A small tail, a tiny cache and many segments change no root.
#[test]
fn options_change_nothing() {
    let _limit = Limit::new();
    for threads in [1, 3] {
        let disk = disk();
        replay(&set("mixed", "t1_7_10"), 30, Some(4), || {
            on(&disk)
                .threads(threads)
                .tail_bytes(0)
                .entry_cache_bytes(0)
                .segment_bytes(40_000)
                .max_in_flight(1)
                .hasher(hedgerow::hasher::by_name("scalar").unwrap())
        });
    }
}

/// Every backend that this machine has, pinned in turn, comes to the recorded roots.
#[test]
fn every_backend() {
    let _limit = Limit::new();
    let names = hedgerow::hasher::names();
    assert!(names.len() >= 4, "{names:?}");
    println!("backends here: {}", names.join(", "));
    for name in names {
        let disk = disk();
        // Devices keep the rows of every block, however small, and are checked often.
        let tuning = Tuning { check_one_of: 7, resident_from: Some(0) };
        let hasher = by_name_tuned(&name, tuning).unwrap();
        let options = || on(&disk).hasher(hasher.clone());
        replay(&set("mixed", "t1_1_1"), 12, Some(5), options);
        assert_eq!(hasher.health().quarantined, None, "{name}");
    }
}

/// A backend that does not exist or cannot run here is refused, and nothing is created.
#[test]
fn no_backend_no_store() {
    let _limit = Limit::new();
    let unusable = hedgerow::hasher::available().into_iter().filter(|backend| !backend.is_usable());
    let unusable: Vec<_> = unusable.map(|backend| backend.name).collect();
    assert!(!unusable.is_empty(), "no CPU runs the kernels of both architectures");
    for name in unusable.iter().map(String::as_str).chain(["cpu:abacus", "abacus", ""]) {
        assert!(hedgerow::hasher::by_name(name).is_err(), "{name}");
        let disk = disk();
        let options = on(&disk).hasher_named(name);
        let refused = Store::open_or_create(dir(), StoreParams::default(), options);
        assert!(matches!(refused, Err(Error::Option { option: "hasher", .. })), "{name}");
        // A later choice counts.
        let scalar = hedgerow::hasher::by_name("scalar").unwrap();
        let options = on(&disk).hasher_named(name).hasher(scalar);
        let store = Store::create(dir(), StoreParams::default(), options).unwrap();
        assert_eq!(store.stats().hasher.name, "scalar");
    }
}

/// With pruning on, the roots are the recorded ones, and pruning goes on after restarts (F-B7).
#[test]
fn pruned() {
    let _limit = Limit::new();
    let disk = disk();
    let set = set("prune", "t1_1_1");
    replay(&set, 400, Some(77), || on(&disk).keep_heights(10).segment_bytes(200_000));
    let store = Store::open(dir(), on(&disk)).unwrap();
    let stats = store.stats();
    assert!(stats.log_start.0 > stats.log_end.0 / 3, "pruned too little: {stats:?}");
    assert_eq!(stats.log.bytes, stats.log_end.0 - stats.log_start.0);
}

/// Streams without duplicate keys inside a change set come to the same roots as puts and deletes.
#[test]
fn both_interfaces_agree() {
    let _limit = Limit::new();
    let recorded = set("mixed", "t1_7_10");
    let (strict_disk, net_disk) = (disk(), disk());
    let params = StoreParams::default().with_compaction(recorded.rule);
    let mut strict = Store::create(dir(), params, on(&strict_disk)).unwrap();
    let mut net = Store::create(dir(), params, on(&net_disk)).unwrap();
    let mut operations = 0;
    for block in recorded.ops() {
        let block = without_duplicates(block, &strict);
        let expected: Digest =
            strict.submit_tasks(Height(block.height), &tasks(&block), []).unwrap().root().unwrap();
        let mut puts = net.begin_block(Height(block.height)).unwrap();
        for (number, change_set) in block.change_sets().enumerate() {
            if number > 0 {
                puts.next_change_set().unwrap();
            }
            for op in change_set {
                operations += 1;
                match op.kind {
                    OpKind::Delete => puts.delete(&op.key).unwrap(),
                    _ => puts.put(&op.key, &op.value).unwrap(),
                }
            }
        }
        assert_eq!(puts.commit().unwrap().root, expected, "height {}", block.height);
    }
    assert!(operations > 10_000);
}

/// The block with the first operation per key and change set, as far as they stay valid.
fn without_duplicates(mut block: RecordedBlock, store: &Store) -> RecordedBlock {
    let reader = store.reader();
    let mut present = std::collections::HashMap::new();
    for change_set in block.tasks.iter_mut().flatten() {
        let mut seen = std::collections::HashSet::new();
        change_set.retain(|op| {
            let here = present
                .entry(op.key.clone())
                .or_insert_with(|| reader.get(&op.key).unwrap().is_some());
            let valid = match op.kind {
                OpKind::Read => false,
                OpKind::Create => !*here,
                OpKind::Update | OpKind::Delete => *here,
            };
            let keep = valid && seen.insert(op.key.clone());
            if keep {
                *here = op.kind != OpKind::Delete;
            }
            keep
        });
    }
    block
}
