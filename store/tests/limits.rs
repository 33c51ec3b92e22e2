//! A process that may have little. Each test starts itself again, in a shell that has set the limit.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use hedgerow::{Error, Height, Options, RepairWord, Store, StoreParams};
use hedgerow_testkit::Limit;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The variable that tells the child where to work.
const PLACE: &str = "HEDGEROW_TEST_LIMITED_PLACE";

/// In the child, where to work. In the parent: runs the child, under this limit, and says how it went.
fn limited(test: &str, limit: &str) -> Option<PathBuf> {
    if let Some(place) = std::env::var_os(PLACE) {
        return Some(place.into());
    }
    let temp = tempfile::tempdir().unwrap();
    let script = format!("{limit} || exit 99; exec \"$0\" --exact {test} --nocapture");
    let mut child = Command::new("sh");
    child.args(["-c", &script]).arg(std::env::current_exe().unwrap()).env(PLACE, temp.path());
    let output = child.output().unwrap();
    if output.status.code() == Some(99) {
        eprintln!("SKIPPED: the shell cannot do {limit}");
        return None;
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "{limit}: {}: {said}", output.status);
    assert!(said.contains("1 passed"), "{said}");
    None
}

fn fill(store: &mut Store, blocks: u64) -> Result<(), Error> {
    for _ in 0..blocks {
        let height = store.height().next();
        let mut block = store.begin_block(height)?;
        for key in 0..20 {
            block.put(format!("key {height} {key}"), height.to_string())?;
        }
        block.commit()?;
    }
    store.flush()
}

/// A small store of so many blocks, and where it is.
fn filled(place: &Path, blocks: u64) -> (PathBuf, Store) {
    let path = place.join("store");
    let mut store = Store::create(&path, StoreParams::default(), small()).unwrap();
    fill(&mut store, blocks).unwrap();
    (path, store)
}

fn small() -> Options {
    Options::new().segment_bytes(2048).entry_cache_bytes(0).tail_bytes(0).threads(2)
}

fn read_all(store: &Store) {
    let reader = store.reader();
    for height in 1..=store.height().0 {
        for key in [0, 7, 19] {
            let value = reader.get(format!("key {height} {key}")).unwrap();
            assert_eq!(value.unwrap(), height.to_string().as_bytes());
        }
        reader.root_at(Height(height)).unwrap();
    }
    let pairs = reader.iter().inspect(|pair| assert!(pair.is_ok(), "{pair:?}"));
    assert_eq!(pairs.count() as u64, 20 * store.height().0);
}

/// There are several times as many segments as files may be open.
#[test]
fn few_open_files_are_enough() {
    let Some(place) = limited("few_open_files_are_enough", "ulimit -n 64") else { return };
    let _limit = Limit::new();
    let (path, mut store) = filled(&place, 150);
    assert!(std::fs::read_dir(path.join("log")).unwrap().count() > 128);
    read_all(&store);
    store.check().unwrap();
    store.close().unwrap();
    // Others of the process have the rest, and want it all the time.
    let taken: Vec<_> = (0..20).map(|_| std::fs::File::open(&path).unwrap()).collect();
    let mut store = Store::open(&path, small()).unwrap();
    read_all(&store);
    fill(&mut store, 30).unwrap();
    read_all(&store);
    store.check().unwrap();
    drop(taken);
}

/// Whatever is left of the files when it comes to open a store: it opens, or the error says what there
/// is too little of, and nothing is lost.
#[test]
fn too_few_open_files_are_an_error_that_names_the_limit() {
    let test = "too_few_open_files_are_an_error_that_names_the_limit";
    let Some(place) = limited(test, "ulimit -n 40") else { return };
    let _limit = Limit::new();
    let (path, store) = filled(&place, 20);
    let root = store.reader().root();
    store.close().unwrap();
    let mut taken = vec![];
    while let Ok(file) = std::fs::File::open(&path) {
        taken.push(file);
    }
    let mut refused = 0;
    let mut opened = 0;
    while taken.pop().is_some() {
        match Store::open(&path, small()) {
            Ok(store) => {
                assert_eq!(store.reader().root(), root);
                opened += 1;
            }
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains("ulimit -n"), "{said}");
                refused += 1;
            }
        }
        let created =
            Store::create(place.join(format!("{opened}")), StoreParams::default(), small());
        match created {
            Ok(_) => {}
            Err(Error::NotEmpty(_) | Error::InUse { .. }) => {}
            Err(error) => assert!(error.to_string().contains("ulimit -n"), "{error}"),
        }
    }
    assert!(refused > 2 && opened > 2, "{refused} {opened}");
    let mut store = Store::open(&path, small()).unwrap();
    read_all(&store);
    fill(&mut store, 5).unwrap();
    store.check().unwrap();
}

/// More threads than there is room for: an error that says so.
#[test]
fn too_little_address_space_is_an_error_that_names_the_limit() {
    let test = "too_little_address_space_is_an_error_that_names_the_limit";
    let Some(place) = limited(test, "ulimit -v 2000000") else { return };
    let _limit = Limit::new();
    let (path, store) = filled(&place, 3);
    store.close().unwrap();
    for options in [
        small().threads(10_000),
        small().threads(usize::MAX),
        small().entry_cache_bytes(u64::MAX),
        small().tail_bytes(3_000_000_000),
    ] {
        for error in [
            Store::open(&path, options.clone()).unwrap_err(),
            Store::create(place.join("new"), StoreParams::default(), options.clone()).unwrap_err(),
            Store::repair(&path, options.clone(), RepairWord::Look).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Limit { .. }), "{error}");
            assert!(error.to_string().contains("ulimit -v"), "{error}");
        }
    }
    assert!(!place.join("new").exists());
    read_all(&Store::open(&path, small()).unwrap());
}

/// Opening asks nothing of the caller's stack, and using a store little.
#[test]
fn a_small_stack_is_enough() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("store");
    let work = move |path: &Path| {
        let mut store = Store::create(path, StoreParams::default(), small()).unwrap();
        fill(&mut store, 5).unwrap();
        read_all(&store);
        store.reader().prove("key 1 1").unwrap();
        store.check().unwrap();
        store.close().unwrap();
        Store::repair(path, small(), RepairWord::Yes).unwrap();
        let store = Store::open(path, small()).unwrap();
        read_all(&store);
    };
    let thread = std::thread::Builder::new().stack_size(96 << 10);
    thread.spawn(move || work(&path)).unwrap().join().unwrap();
}
