//! Stores whose first block has another height than 1.
//!
//! ```text
//!   first height f:   state f - 1 (new store) ─► block f ─► block f + 1 ─► ... at most Height::MAX
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{Error, FirstHeightError, Height, Options, Store, StoreParams};
use hedgerow_testkit::Limit;
use std::path::Path;
use std::sync::Arc;

/// Blocks of a store's life.
const BLOCKS: u64 = 60;

fn starting_at(first: Height) -> StoreParams {
    params(1, 1, 1).with_first_height(first).unwrap()
}

fn options(disk: &Arc<dyn Vfs>) -> Options {
    on(disk).segment_bytes(300_000).keep_heights(5).manifest_blocks(7)
}

fn write(store: &mut Store, number: u64) {
    let mut block = store.next_block().unwrap();
    for key in 0..4_000 {
        block.put(format!("{key}"), format!("{number} {key}")).unwrap();
    }
    block.put(format!("block {number}"), [0; 2_000]).unwrap();
    block.commit().unwrap();
}

#[test]
fn a_store_begins_at_any_height() {
    let _limit = Limit::new();
    for first in [Height(1), Height(2), Height(900_000), Height(Height::MAX.0 - BLOCKS + 1)] {
        let before = Height(first.0 - 1);
        let disk = disk();
        let mut store = Store::create(dir(), starting_at(first), options(&disk)).unwrap();
        assert_eq!(store.height(), before);
        assert_eq!(store.reader().root().0, before);
        let genesis = store.reader().root_at(before).unwrap();
        let wrong = store.begin_block(first.next()).unwrap_err();
        assert!(matches!(wrong, Error::WrongHeight { expected, .. } if expected == first));

        for number in 0..BLOCKS / 2 {
            write(&mut store, number);
        }
        store.flush().unwrap();
        assert!(store.stats().log_start.0 > 0, "{first}: nothing was pruned");
        assert!(store.check().is_ok());
        let root = store.reader().root();
        let lost = store.reader().history(Height(before.0.saturating_sub(1)));
        assert!(before.0 == 0 || matches!(lost, Err(Error::HeightUnavailable { .. })));
        store.close().unwrap();

        // From a checkpoint, and from the log.
        for checkpoint in [true, false] {
            let checkpoints = disk.read_dir(&dir().join("checkpoints")).unwrap();
            if !checkpoint {
                for file in checkpoints {
                    disk.remove_file(&dir().join("checkpoints").join(file)).unwrap();
                }
            }
            let store = Store::open(dir(), options(&disk).checkpoint_bytes(0)).unwrap();
            assert_eq!(store.stats().opened_from.is_some(), checkpoint, "{first}");
            assert_eq!(store.reader().root(), root);
            assert_eq!(store.params().first_height(), first);
            store.close().unwrap();
        }
        let other = Store::open_or_create(dir(), params(1, 1, 1), options(&disk));
        assert_eq!(matches!(other, Err(Error::Params(_))), first != Height(1));
        drop(other);

        let mut store = Store::open(dir(), options(&disk)).unwrap();
        for number in BLOCKS / 2..BLOCKS {
            write(&mut store, number);
        }
        assert_eq!(store.height(), Height(before.0 + BLOCKS));
        let proven = store.reader().prove("7").unwrap();
        let root = store.reader().root().1;
        let value = hedgerow_proof::verify(&root, b"7", proven.proof.as_bytes()).unwrap();
        assert_eq!(value, Some(&b"59 7"[..]));
        assert_ne!(root, genesis);
        if store.height() == Height::MAX {
            let wrong = store.next_block().unwrap_err();
            assert!(matches!(wrong, Error::WrongHeight { .. }), "{wrong}");
        }
        store.close().unwrap();
    }
}

/// The sentries have no height in them, the entries of blocks have theirs.
#[test]
fn a_new_store_has_the_same_root_at_any_height_and_a_block_has_not() {
    let _limit = Limit::new();
    let roots = [Height(1), Height(77)].map(|first| {
        let disk = disk();
        let mut store = Store::create(Path::new("/new"), starting_at(first), on(&disk)).unwrap();
        let genesis = store.reader().root().1;
        write(&mut store, 0);
        (genesis, store.reader().root().1)
    });
    assert_eq!(roots[0].0, roots[1].0);
    assert_ne!(roots[0].1, roots[1].1);
}

#[test]
fn some_heights_cannot_be_the_first() {
    for height in [Height(0), Height(Height::MAX.0 + 1), Height(u64::MAX)] {
        let refused = StoreParams::default().with_first_height(height);
        assert_eq!(refused, Err(FirstHeightError(height)));
    }
    let text = FirstHeightError(Height(0)).to_string();
    assert_eq!(text, "height 0 cannot be the first of a store: 1 to 549755813887 can");
}
