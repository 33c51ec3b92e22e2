//! A store opened by a relative path, and a process that goes elsewhere. Alone in its file: the current
//! directory is the process's.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hedgerow::{Height, Options, Store, StoreParams};
use hedgerow_testkit::Limit;
use std::env::set_current_dir;

fn fill(store: &mut Store, value: &str, blocks: u64) {
    for _ in 0..blocks {
        let height = store.height().next();
        let mut block = store.begin_block(height).unwrap();
        for key in 0..40 {
            block.put(format!("key {key}"), format!("{value} {height} {key}").repeat(9)).unwrap();
        }
        block.commit().unwrap();
    }
    store.flush().unwrap();
}

/// Wherever the process goes, and whatever lies under the same name there, the store is where it was.
#[test]
fn a_relative_path_means_the_same_for_ever() {
    let _limit = Limit::new();
    // Nothing in memory: every read opens a file by its name.
    let options =
        || Options::new().segment_bytes(20_000).entry_cache_bytes(0).tail_bytes(0).threads(1);
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, value) in [(&two, "theirs"), (&one, "ours")] {
        set_current_dir(dir).unwrap();
        let mut store = Store::create("store", StoreParams::default(), options()).unwrap();
        fill(&mut store, value, 12);
        store.close().unwrap();
    }
    let mut store = Store::open("store", options().keep_heights(2)).unwrap();
    let root = store.reader().root();
    set_current_dir(&two).unwrap();
    let reader = store.reader();
    for key in 0..40 {
        let value = reader.get(format!("key {key}")).unwrap().unwrap();
        assert_eq!(value, format!("ours 12 {key}").repeat(9).into_bytes());
    }
    assert_eq!(reader.root_at(Height(12)).unwrap(), root.1);
    fill(&mut store, "ours", 12);
    store.check().unwrap();
    let ours = store.reader().root();
    store.close().unwrap();

    let mut theirs = Store::open("store", options()).unwrap();
    theirs.check().unwrap();
    assert_eq!(theirs.height(), Height(12));
    assert!(theirs.reader().get("key 1").unwrap().unwrap().starts_with(b"theirs 12 1"));
    drop(theirs);
    set_current_dir(&one).unwrap();
    let mut store = Store::open("store", options()).unwrap();
    assert_eq!(store.reader().root(), ours);
    store.check().unwrap();
    // Nor does it matter if where it is has a relative name only, and is gone from under the process.
    set_current_dir(&two).unwrap();
    set_current_dir("store").unwrap();
    let theirs = Store::open(".", options()).unwrap();
    set_current_dir(&one).unwrap();
    assert!(theirs.reader().get("key 1").unwrap().unwrap().starts_with(b"theirs 12 1"));
}
