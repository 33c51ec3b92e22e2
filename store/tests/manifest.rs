//! The manifest can be derived from the log's records, and `check` compares the two: a manifest or
//! history that is whole, valid and untrue is found, whichever of its numbers it is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::forge::{change_manifest, files, read};
use common::{copy, dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{Digest, Error, Height, Store};
use hedgerow_metadb::{HistoryRow, Manifest};
use hedgerow_vfs::OpenMode;
use std::sync::Arc;

const LAST: u64 = 6;

fn store() -> Arc<dyn Vfs> {
    let disk = disk();
    let mut store = Store::create(dir(), params(1, 1, 1), on(&disk)).unwrap();
    for height in 1..=LAST {
        let mut block = store.begin_block(Height(height)).unwrap();
        for key in 0..20 {
            block.put(format!("key {key}"), format!("{height}")).unwrap();
        }
        block.commit().unwrap();
    }
    let report = store.check().unwrap();
    assert_eq!((report.height, report.history_rows), (Height(LAST), LAST + 1));
    store.close().unwrap();
    disk
}

fn open_and_check(disk: &Arc<dyn Vfs>) -> Result<(), Error> {
    Store::open(dir(), on(disk))?.check().map(drop)
}

#[test]
fn an_untrue_manifest_is_found_whatever_it_says() {
    type Change = fn(&mut Manifest, &mut HistoryRow);
    let changes: [(&str, Change); 14] = [
        ("height ahead", |manifest, _| manifest.height.0 += 1),
        ("height behind", |manifest, _| manifest.height.0 -= 1),
        ("log end", |manifest, _| manifest.log_end.0 -= 8),
        ("log start", |manifest, _| manifest.log_start.0 += 64),
        ("state root", |manifest, _| manifest.state_root.0[3] ^= 1),
        ("shard root", |manifest, _| manifest.shards[9].root.0[3] ^= 1),
        ("next ahead", |manifest, _| manifest.shards[4].next_sn.0 += 1),
        ("next behind", |manifest, _| manifest.shards[4].next_sn.0 -= 1),
        ("active fewer", |manifest, _| manifest.shards[4].active -= 1),
        ("oldest active ahead", |manifest, row| {
            manifest.shards[4].active -= 1;
            manifest.shards[4].oldest_active.0 += 1;
            row.oldest_active[4].0 += 1;
        }),
        ("edges", |manifest, _| manifest.shards[4].edges.push((12, Digest([7; 32])))),
        ("root of the row", |_, row| row.root.0[0] ^= 1),
        ("shard root of the row", |_, row| row.shard_roots[15].0[0] ^= 1),
        ("oldest active of the row", |_, row| row.oldest_active[15].0 += 1),
    ];
    let whole = store();
    // Opened from a checkpoint, and from the log.
    for ((what, change), checkpoint) in
        changes.into_iter().flat_map(|change| [(change, true), (change, false)])
    {
        let disk = copy(&whole);
        change_manifest(&disk, |manifest, row| {
            change(manifest, row);
            let height = manifest.height;
            manifest.checkpoint.take_if(|named| !checkpoint || named.height > height);
        });
        match open_and_check(&disk) {
            Err(
                Error::Corrupt(_) | Error::RootMismatch { .. } | Error::Log(_) | Error::Merkle(_),
            ) => {}
            other => panic!("{what}, checkpoint {checkpoint}: {other:?}"),
        }
    }
    // The forger itself changes nothing.
    change_manifest(&whole, |_, _| {});
    open_and_check(&whole).unwrap();
}

/// A row that is gone between the first and the last is damage, to `check` too.
#[test]
fn a_missing_history_row_is_found() {
    let whole = store();
    for gone in 0..=LAST {
        let disk = copy(&whole);
        let path = &files(&disk, "meta")[0];
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("meta.redb");
        std::fs::write(&outside, read(&disk, path)).unwrap();
        {
            let db = redb::Database::open(&outside).unwrap();
            let transaction = db.begin_write().unwrap();
            let table = redb::TableDefinition::<u64, &[u8]>::new("history");
            assert!(transaction.open_table(table).unwrap().remove(gone).unwrap().is_some());
            transaction.commit().unwrap();
        }
        disk.remove_file(path).unwrap();
        let file = disk.open(path, OpenMode::CreateNew).unwrap();
        file.write_all_at(&std::fs::read(&outside).unwrap(), 0).unwrap();
        // To readers too; the other rows are there.
        let store = Store::open(dir(), on(&disk)).unwrap();
        for height in 0..=LAST {
            let row = store.reader().root_at(Height(height));
            match row {
                Ok(_) => assert_ne!(height, gone),
                Err(Error::Corrupt(reason)) => {
                    assert_eq!(height, gone);
                    assert!(reason.contains("is missing") && reason.contains("meta"), "{reason}");
                }
                Err(error) => panic!("{gone}: {error}"),
            }
        }
        let beyond = store.reader().root_at(Height(LAST + 1));
        assert!(matches!(beyond, Err(Error::HeightUnavailable { .. })), "{beyond:?}");
        drop(store);
        match open_and_check(&disk) {
            Err(Error::Corrupt(reason)) => {
                assert!(reason.contains(&format!("height {gone} is missing")), "{gone}: {reason}");
            }
            other => panic!("{gone}: {other:?}"),
        }
    }
}
