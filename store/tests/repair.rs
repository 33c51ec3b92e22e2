//! A wrong root that was committed, and what an operator can do about it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::forge::{change_manifest, files, read, with_meta, write};
use common::{copy, dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::hasher::{BatchHasher, by_name};
use hedgerow::{Digest, Error, Height, Options, RepairWord, Store};
use hedgerow_hasher_api::HookedHasher;
use hedgerow_metadb::{HistoryRow, Manifest};
use hedgerow_testkit::Limit;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const LAST: u64 = 5;

/// A hasher that falsifies one of 300 digests of the tree while it is told to.
fn liar(lies: &Arc<AtomicBool>) -> Arc<dyn BatchHasher> {
    let (lies, count) = (Arc::clone(lies), AtomicU64::new(0));
    Arc::new(HookedHasher::new(by_name("cpu").unwrap(), move |call, cpu| {
        call.hash(cpu)?;
        if call.is_tree() && lies.load(Ordering::Relaxed) {
            call.for_each_digest(|digest| {
                if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(300) {
                    digest.0[5] ^= 0x40;
                }
            });
        }
        Ok(())
    }))
}

/// What a block at a height puts.
fn values(height: u64) -> BTreeMap<String, String> {
    (0..900).map(|n| (format!("key {}", n * height % 1009), format!("{height}"))).collect()
}

fn apply(store: &mut Store, height: u64) -> Digest {
    let mut block = store.begin_block(Height(height)).unwrap();
    for (key, value) in values(height) {
        block.put(key, value).unwrap();
    }
    let root = block.submit().unwrap().root().unwrap();
    store.flush().unwrap();
    root
}

/// A store of which the blocks from a height on were hashed wrong, and its last root.
fn store(options: impl Fn(&Arc<dyn Vfs>) -> Options, lies_from: u64) -> (Arc<dyn Vfs>, Digest) {
    let (disk, lies) = (disk(), Arc::new(AtomicBool::new(false)));
    let options = options(&disk).hasher(liar(&lies));
    let mut store = Store::create(dir(), params(1, 1, 1), options).unwrap();
    let mut root = Digest::ZERO;
    for height in 1..=LAST {
        lies.store(height >= lies_from, Ordering::Relaxed);
        root = apply(&mut store, height);
    }
    store.close().unwrap();
    (disk, root)
}

/// All that a repair may change, and the log.
type Contents = (Manifest, Vec<Option<HistoryRow>>, Vec<Vec<u8>>, Vec<Vec<u8>>);

fn contents(disk: &Arc<dyn Vfs>) -> Contents {
    let all = |folder| files(disk, folder).iter().map(|path| read(disk, path)).collect();
    with_meta(disk, |meta| {
        let rows = (0..=LAST).map(|height| meta.history(Height(height)).unwrap()).collect();
        (meta.manifest().unwrap().unwrap(), rows, all("log"), all("twigs"))
    })
}

fn repair(disk: &Arc<dyn Vfs>, word: RepairWord) -> Result<hedgerow::RepairReport, Error> {
    Store::repair(dir(), on(disk), word)
}

/// The store opens, is what its blocks made of it, and goes on.
fn check_whole(disk: &Arc<dyn Vfs>, root: Digest) {
    let mut store = Store::open(dir(), on(disk)).unwrap();
    assert_eq!(store.reader().root(), (Height(LAST), root));
    assert_eq!(store.check().unwrap().twigs_missing, 0);
    let mut model = BTreeMap::new();
    (1..=LAST).for_each(|height| model.extend(values(height)));
    for (key, value) in model {
        let reader = store.reader();
        assert_eq!(reader.get(&key).unwrap().unwrap(), value.as_bytes());
        let proof = reader.prove(&key).unwrap().proof;
        let proved = hedgerow_proof::verify(&root, key.as_bytes(), &proof).unwrap();
        assert_eq!(proved, Some(value.as_bytes()));
    }
    apply(&mut store, LAST + 1);
    store.check().unwrap();
}

#[test]
fn a_wrong_root_that_was_committed_is_mended_at_the_operators_word() {
    let _limit = Limit::new();
    let (honest, right) = store(on, u64::MAX);
    for lies_from in [1, 3, LAST] {
        let (disk, wrong) = store(on, lies_from);
        assert_ne!(wrong, right);
        // The fault: nothing opens it.
        let refused = Store::open(dir(), on(&disk)).unwrap_err();
        assert!(matches!(refused, Error::RootMismatch { .. }), "{refused}");

        let before = contents(&disk);
        let seen = repair(&disk, RepairWord::Look).unwrap();
        assert_eq!((seen.height, seen.recorded, seen.derived), (Height(LAST), wrong, right));
        assert!(seen.is_needed() && !seen.repaired && seen.row && !seen.shards.is_empty());
        assert_eq!(seen.edges, 0);
        for other in [wrong, Digest([7; 32])] {
            let refused = repair(&disk, RepairWord::Root(other)).unwrap_err();
            let expected = matches!(
                refused,
                Error::UnexpectedRoot { computed, expected }
                    if (computed, expected) == (right, other)
            );
            assert!(expected, "{refused}");
        }
        assert!(contents(&disk) == before, "looking changed something");

        let word = if lies_from == 3 { RepairWord::Yes } else { RepairWord::Root(right) };
        let done = repair(&disk, word).unwrap();
        assert_eq!(done, hedgerow::RepairReport { repaired: true, ..seen });
        let after = contents(&disk);
        assert!(after.2 == before.2, "the log was written");
        // What was committed earlier stays as it was told.
        assert!(after.1[..LAST as usize] == before.1[..LAST as usize]);
        let again = repair(&disk, RepairWord::Yes).unwrap();
        assert!(!again.is_needed() && !again.repaired, "{again:?}");
        check_whole(&disk, right);
    }
    let nothing = repair(&honest, RepairWord::Yes).unwrap();
    assert!(!nothing.is_needed() && !nothing.repaired && nothing.twigs_right > 0, "{nothing:?}");
    check_whole(&honest, right);
}

/// Nodes that stand for pruned entries are believed, and the report says so.
#[test]
fn what_was_pruned_cannot_be_derived() {
    let _limit = Limit::new();
    let pruning = |disk: &Arc<dyn Vfs>| on(disk).keep_heights(1).segment_bytes(1);
    let disk = {
        let disk = disk();
        let mut store = Store::create(dir(), params(1, 1, 1), pruning(&disk)).unwrap();
        let mut height = 0;
        while store.stats().log_start.0 == 0 {
            height += 1;
            assert!(height < 500, "nothing was pruned");
            apply(&mut store, height);
        }
        store.close().unwrap();
        disk
    };
    change_manifest(&disk, |manifest, row| {
        manifest.shards[3].root.0[0] ^= 1;
        row.root.0[0] ^= 1;
    });
    Store::open(dir(), pruning(&disk)).unwrap_err();
    let done = repair(&disk, RepairWord::Yes).unwrap();
    assert!(done.repaired && done.row && done.edges > 0, "{done:?}");
    assert_eq!(done.shards.iter().map(|shard| shard.index()).collect::<Vec<_>>(), [3]);
    assert_eq!(done.derived, done.recorded);
    let mut store = Store::open(dir(), pruning(&disk)).unwrap();
    store.check().unwrap();
}

#[test]
fn what_is_no_root_is_not_repaired() {
    let _limit = Limit::new();
    type Change = fn(&mut Manifest, &mut HistoryRow);
    let changes: [(&str, Change); 7] = [
        ("height ahead", |manifest, _| manifest.height.0 += 1),
        ("next ahead", |manifest, _| manifest.shards[4].next_sn.0 += 1),
        ("next behind", |manifest, _| manifest.shards[4].next_sn.0 -= 1),
        ("active fewer", |manifest, _| manifest.shards[4].active -= 1),
        ("oldest active ahead", |manifest, row| {
            manifest.shards[4].active -= 1;
            manifest.shards[4].oldest_active.0 += 1;
            row.oldest_active[4].0 += 1;
        }),
        ("edges", |manifest, _| manifest.shards[4].edges.push((12, Digest([7; 32])))),
        ("oldest active of the row", |_, row| row.oldest_active[15].0 += 1),
    ];
    let (whole, root) = store(on, u64::MAX);
    for (what, change) in changes {
        let disk = copy(&whole);
        change_manifest(&disk, |manifest, row| {
            change(manifest, row);
            manifest.state_root.0[9] ^= 1;
        });
        let before = contents(&disk);
        for word in [RepairWord::Look, RepairWord::Yes, RepairWord::Root(root)] {
            match repair(&disk, word) {
                Err(Error::Corrupt(_) | Error::Log(_) | Error::Merkle(_)) => {}
                other => panic!("{what}: {other:?}"),
            }
        }
        assert!(contents(&disk) == before, "{what}: something was changed");
    }
    // Roots are.
    let changes: [(&str, Change); 4] = [
        ("state root", |manifest, _| manifest.state_root.0[3] ^= 1),
        ("shard root", |manifest, _| manifest.shards[9].root.0[3] ^= 1),
        ("root of the row", |_, row| row.root.0[0] ^= 1),
        ("shard root of the row", |_, row| row.shard_roots[15].0[0] ^= 1),
    ];
    for (what, change) in changes {
        let disk = copy(&whole);
        change_manifest(&disk, change);
        let done = repair(&disk, RepairWord::Root(root)).unwrap();
        assert!(done.repaired && done.twigs == 0, "{what}: {done:?}");
        check_whole(&disk, root);
    }
}

#[test]
fn a_damaged_log_is_not_repaired() {
    let _limit = Limit::new();
    let (whole, _) = store(on, LAST);
    let path = files(&whole, "log").pop().unwrap();
    let bytes = read(&whole, &path);
    // Behind the genesis record, in entries and in a record's header.
    for at in [bytes.len() - 30, bytes.len() - 20_000, bytes.len() - 200_000] {
        let disk = copy(&whole);
        write(&disk, &path, at as u64, &[bytes[at] ^ 4]);
        let before = contents(&disk);
        let refused = repair(&disk, RepairWord::Yes).unwrap_err();
        assert!(matches!(refused, Error::Log(_) | Error::Corrupt(_)), "{at}: {refused:?}");
        assert!(contents(&disk) == before, "{at}");
    }
}

#[test]
fn twig_records_are_made_again() {
    let _limit = Limit::new();
    let (disk, root) = store(on, u64::MAX);
    for path in files(&disk, "twigs") {
        disk.remove_file(&path).unwrap();
    }
    let done = repair(&disk, RepairWord::Yes).unwrap();
    assert!(done.repaired && done.twigs > 0 && done.twigs_right == 0, "{done:?}");
    assert!(done.shards.is_empty() && !done.row && done.derived == root);
    check_whole(&disk, root);
}

#[test]
fn where_there_is_no_store_nothing_is_repaired() {
    let disk = disk();
    assert!(matches!(repair(&disk, RepairWord::Yes), Err(Error::NoStore(_))));
    let (disk, _) = store(on, u64::MAX);
    let _open = Store::open(dir(), on(&disk)).unwrap();
    assert!(matches!(repair(&disk, RepairWord::Yes), Err(Error::InUse { .. })));
}
