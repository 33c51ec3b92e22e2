//! Creating and opening: what is refused, what is kept, what is begun again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{disk, on, params};
use hedgerow::disk::{RealDisk, Vfs};
use hedgerow::{Durability, Error, Height, Options, Refused, Store, StoreParams};
use hedgerow_testkit::Limit;
use hedgerow_vfs::{OpenMode, VfsErrorKind};
use std::path::Path;
use std::sync::Arc;

fn put(store: &mut Store, key: &str, value: &str) {
    let height = store.height().next();
    let mut block = store.begin_block(height).unwrap();
    block.put(key, value).unwrap();
    block.commit().unwrap();
}

/// The same rules on the real disk and in memory.
fn on_both(test: impl Fn(&Path, &dyn Fn() -> Options)) {
    let temp = tempfile::tempdir().unwrap();
    test(&temp.path().join("store"), &|| Options::default().disk(Arc::new(RealDisk)));
    let disk = disk();
    test(Path::new("/store"), &|| on(&disk));
}

#[test]
fn create_open_and_open_or_create() {
    let _limit = Limit::new();
    on_both(|path, options| {
        assert!(matches!(Store::open(path, options()), Err(Error::NoStore(_))));
        let mut store = Store::create(path, StoreParams::default(), options()).unwrap();
        put(&mut store, "a", "1");
        // In use: by whatever name it is asked for.
        assert!(matches!(Store::open(path, options()), Err(Error::InUse { .. })));
        let again = Store::open_or_create(path, StoreParams::default(), options());
        assert!(matches!(again, Err(Error::InUse { .. })));
        let root = store.reader().root();
        store.close().unwrap();

        let create = Store::create(path, StoreParams::default(), options());
        assert!(matches!(create, Err(Error::NotEmpty(_))));
        let store = Store::open(path, options()).unwrap();
        assert_eq!(store.reader().root(), root);
        drop(store);
        let other = Store::open_or_create(path, params(1, 7, 10), options());
        assert!(matches!(other, Err(Error::Params(_))));
        let mut store = Store::open_or_create(path, StoreParams::default(), options()).unwrap();
        assert_eq!(store.reader().root(), root);
        put(&mut store, "b", "2");
    });
}

/// A reader keeps the files, not the right to write.
#[test]
fn readers_outlive_the_store() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create("/store", StoreParams::default(), on(&disk)).unwrap();
    put(&mut store, "a", "1");
    let reader = store.reader();
    store.close().unwrap();
    assert_eq!(reader.get("a").unwrap().unwrap(), b"1");
    assert!(matches!(reader.root_at(Height(1)), Err(Error::Closed)));
    // What the next owner of the directory does is not disturbed, also not by the reader's end.
    for _ in 0..3 {
        let mut store = Store::open("/store", on(&disk)).unwrap();
        put(&mut store, "a", "2");
        assert_eq!(reader.get("a").unwrap().unwrap(), b"1");
        store.check().unwrap();
    }
    let proven = reader.prove("a").unwrap();
    assert_eq!(proven.height, Height(1));
    drop(reader);
    let store = Store::open("/store", on(&disk)).unwrap();
    assert_eq!(store.reader().height(), Height(4));
    assert_eq!(store.reader().root_at(Height(1)).unwrap(), proven.root);
}

/// F-B13: nothing that is there is ever deleted.
#[test]
fn a_directory_with_something_else_is_left_alone() {
    let _limit = Limit::new();
    let disk = disk();
    disk.create_dir_all(Path::new("/store")).unwrap();
    let file = disk.open(Path::new("/store/precious"), OpenMode::CreateNew).unwrap();
    file.write_all_at(b"data", 0).unwrap();
    let create = Store::create("/store", StoreParams::default(), on(&disk));
    assert!(matches!(create, Err(Error::NotEmpty(_))));
    let create = Store::open_or_create("/store", StoreParams::default(), on(&disk));
    assert!(matches!(create, Err(Error::NotEmpty(_))));
    assert!(matches!(Store::open("/store", on(&disk)), Err(Error::NoStore(_))));
    assert!(disk.exists(Path::new("/store/precious")).unwrap());
}

/// Whatever operation a creation stops at, it can be begun again, and only by `open_or_create`.
#[test]
fn an_unfinished_creation_is_begun_again() {
    let _limit = Limit::new();
    use hedgerow_vfs::{Hook, HookedDisk, VfsCall};
    use std::sync::atomic::{AtomicUsize, Ordering};
    let mut finished = false;
    let mut stop_at = 1;
    while !finished {
        let inner = disk();
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let hook: Hook = Arc::new(move |call: &VfsCall<'_>| {
            if counter.fetch_add(1, Ordering::SeqCst) + 1 >= stop_at {
                return Err(call.error(std::io::Error::other("stopped here")));
            }
            Ok(())
        });
        let hooked: Arc<dyn Vfs> = Arc::new(HookedDisk::new(Arc::clone(&inner), hook));
        finished = Store::create("/store", StoreParams::default(), on(&hooked)).is_ok();
        // Whatever is there, nothing panics, and it becomes a store.
        match Store::open("/store", on(&inner)) {
            Ok(store) => drop(store),
            Err(Error::NoStore(_) | Error::Unfinished(_)) => {}
            Err(error) => panic!("stopped at operation {stop_at}: {error}"),
        }
        let mut store = Store::open_or_create("/store", StoreParams::default(), on(&inner))
            .unwrap_or_else(|error| panic!("stopped at operation {stop_at}: {error}"));
        put(&mut store, "a", "1");
        store.check().unwrap();
        stop_at += 1;
    }
    assert!(stop_at > 20, "creation takes more operations than {stop_at}");
}

#[test]
fn heights_are_consecutive() {
    let _limit = Limit::new();
    let disk = disk();
    let mut store = Store::create("/store", StoreParams::default(), on(&disk)).unwrap();
    for wrong in [0, 2, u64::MAX] {
        let begun = store.begin_block(Height(wrong));
        assert!(matches!(begun, Err(Error::WrongHeight { expected: Height(1), .. })));
    }
    let genesis = store.reader().root();
    // An empty block: the same root at the next height.
    let receipt = store.begin_block(Height(1)).unwrap().commit().unwrap();
    assert_eq!(receipt.root, genesis.1);
    assert_eq!(store.reader().height(), Height(1));
    assert_eq!(store.submit_tasks(Height(2), &[], []).unwrap().root().unwrap(), genesis.1);
    // An abandoned block takes no height.
    drop(store.begin_block(Height(3)).unwrap());
    assert_eq!(store.height(), Height(2));
}

#[test]
fn what_can_never_be_valid_is_refused() {
    let _limit = Limit::new();
    let disk = disk();
    let options = on(&disk).max_value_bytes(100);
    let mut store = Store::create("/store", StoreParams::default(), options).unwrap();
    let mut block = store.begin_block(Height(1)).unwrap();
    assert!(matches!(block.put("", "v"), Err(Error::Refused(Refused::KeyLength(0)))));
    assert!(matches!(block.put([1; 256], "v"), Err(Error::Refused(Refused::KeyLength(256)))));
    assert!(matches!(
        block.put("k", [0; 101]),
        Err(Error::Refused(Refused::ValueLength { len: 101, max: 100 }))
    ));
    let mut sentry = [0; 32];
    sentry[1] = 9;
    assert!(matches!(block.put(sentry, ""), Err(Error::Refused(Refused::SentryShape))));
    assert!(matches!(block.delete(""), Err(Error::Refused(Refused::KeyLength(0)))));
    assert!(matches!(block.get(""), Err(Error::Refused(Refused::KeyLength(0)))));
    let text = "a key must be 1 to 255 bytes long, this one has 256";
    assert_eq!(block.put([1; 256], "v").unwrap_err().to_string(), text);
    assert!(matches!(block.set_extra(vec![0; (1 << 20) + 1]), Err(Error::ExtraTooLarge(_))));
    // What is left of it is good.
    block.put(sentry, "value").unwrap();
    block.put("empty", "").unwrap();
    block.put([7; 255], [8; 100]).unwrap();
    block.delete(sentry).unwrap();
    block.delete("nowhere").unwrap();
    block.set_extra(vec![1, 2, 3]).unwrap();
    let receipt = block.commit().unwrap();
    assert_eq!((receipt.created, receipt.updated, receipt.deleted), (2, 0, 0));
    assert_eq!(receipt.absent_deletes, 2);
    let reader = store.reader();
    assert_eq!(reader.get("empty").unwrap(), Some(vec![]));
    let proven = reader.prove("empty").unwrap();
    assert_eq!(
        hedgerow_proof::verify(&proven.root, b"empty", &proven.proof).unwrap(),
        Some(&b""[..])
    );
    assert_eq!(reader.history(Height(1)).unwrap().extra, [1, 2, 3]);
    assert!(matches!(reader.history(Height(2)), Err(Error::HeightUnavailable { .. })));
    assert!(matches!(reader.get([0; 256]), Err(Error::Refused(Refused::KeyLength(256)))));
    assert_eq!(reader.get_many(&["empty", "none"]).unwrap(), [Some(vec![]), None]);
}

#[test]
fn options_that_cannot_work_are_refused() {
    let _limit = Limit::new();
    let disk = disk();
    for options in [
        on(&disk).max_in_flight(0),
        on(&disk).max_value_bytes(1 << 24),
        on(&disk).segment_bytes(0),
        on(&disk).keep_heights(0),
        on(&disk).keep_history(0),
    ] {
        let refused = Store::create("/store", StoreParams::default(), options);
        assert!(matches!(refused, Err(Error::Option { .. })));
    }
    let missing = disk.read_dir(Path::new("/store")).unwrap_err();
    assert_eq!(missing.kind(), VfsErrorKind::NotFound);
}

#[test]
fn history_is_kept_as_long_as_asked() {
    let _limit = Limit::new();
    let disk = disk();
    let options = || {
        on(&disk)
            .max_in_flight(2)
            .keep_history(3)
            .manifest_blocks(1)
            .durability(Durability::EachBlock)
    };
    let mut store = Store::create("/store", StoreParams::default(), options()).unwrap();
    let mut roots = vec![store.reader().root().1];
    for number in 0..8 {
        put(&mut store, &format!("k{number}"), "v");
        roots.push(store.reader().root().1);
    }
    for reopened in [false, true] {
        if reopened {
            store.close().unwrap();
            store = Store::open("/store", options()).unwrap();
        }
        // Rows go with the manifest, which follows.
        store.flush().unwrap();
        let reader = store.reader();
        for (height, root) in roots.iter().enumerate() {
            match reader.root_at(Height(height as u64)) {
                Ok(kept) => assert_eq!((kept, height >= 6), (*root, true), "height {height}"),
                Err(Error::HeightUnavailable { first, last, .. }) => {
                    assert!(height < 6, "height {height}");
                    assert_eq!((first, last), (Height(6), Height(8)));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A strict operation that does not fit is refused before anything changes.
#[test]
fn strict_operations_are_checked_first() {
    let _limit = Limit::new();
    use hedgerow::{Op, OpKind};
    let op = |kind, key: &str| Op { kind, key: key.into(), value: b"v".to_vec() };
    let disk = disk();
    let mut store = Store::create("/store", StoreParams::default(), on(&disk)).unwrap();
    put(&mut store, "there", "1");
    let root = store.reader().root();
    use OpKind::{Create, Delete, Read, Update};
    for change_sets in [
        vec![vec![op(Update, "gone")]],
        vec![vec![op(Delete, "gone")]],
        vec![vec![op(Create, "there")]],
        // Within a change set updates run before creates, creates before deletes (spec 6.1).
        vec![vec![op(Create, "new"), op(Update, "new")]],
        vec![vec![op(Delete, "there"), op(Create, "there")]],
        vec![vec![op(Create, "a"), op(Create, "b")], vec![op(Delete, "a")], vec![op(Update, "a")]],
    ] {
        let refused = store.submit_tasks(Height(2), &[change_sets], []);
        assert!(matches!(refused, Err(Error::Refused(Refused::InvalidOp { .. }))), "{refused:?}");
        assert_eq!((store.height(), store.reader().root()), (Height(1), root));
    }
    let refused = store.submit_tasks(Height(2), &[vec![vec![op(Create, "there")]]], []);
    assert_eq!(refused.unwrap_err().to_string(), "Create of a key that is present: 0x7468657265");
    // These are all fine (spec 6.3).
    let good = vec![
        vec![op(Update, "there"), op(Update, "there"), op(Read, "gone")],
        vec![op(Update, "there"), op(Delete, "there")],
        vec![op(Create, "new"), op(Delete, "new")],
        vec![op(Create, "there")],
    ];
    store.submit_tasks(Height(2), &[good], []).unwrap().root().unwrap();
    assert!(store.reader().get("there").unwrap().is_some());
    store.check().unwrap();
}
