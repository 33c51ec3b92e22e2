//! Files of an index that are damaged, or whole and wrong: no answer comes of them, a check says what is wrong with
//! which file, and the next opening makes the index anew.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::forge::{change_index_page, files, index_pages, read, write};
use common::twin::Twin;
use common::{TIERED, dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{Error, Options, Store};
use hedgerow_testkit::Limit;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of a page.
const PAGE: u64 = 4096;
const AGAIN: &str = "the next opening makes the index anew from the log";

fn tiered(disk: &Arc<dyn Vfs>) -> Options {
    on(disk).index(TIERED).threads(1).checkpoint_bytes(400_000).manifest_blocks(4)
}

/// A store that was closed in peace, with most of its index in files.
fn closed() -> (Arc<dyn Vfs>, Twin) {
    let disk = disk();
    let mut twin = Twin::new(30, 10_000);
    let mut store = Store::create(dir(), params(100, 1, 2), tiered(&disk)).unwrap();
    (0..10).for_each(|_| twin.block(&mut [&mut store], 1_500));
    store.check().unwrap();
    store.close().unwrap();
    (disk, twin)
}

fn segments(disk: &Arc<dyn Vfs>) -> Vec<PathBuf> {
    let mut files = files(disk, "index");
    files.retain(|path| path.extension().is_some_and(|it| it == "idx"));
    files
}

/// The index was given up: opening reads the log, and all is well again, now and later.
fn is_made_anew(disk: &Arc<dyn Vfs>, twin: &Twin) {
    for round in 0..2 {
        let mut store = Store::open(dir(), tiered(disk)).unwrap();
        assert_eq!(store.stats().opened_from.is_some(), round == 1, "round {round}");
        twin.compare(&store);
        store.check().unwrap();
        store.close().unwrap();
    }
}

type Forgery = (&'static [&'static str], fn(&mut [u8; 4], &mut [u8; 6], &mut [u8; 6]));

/// With the right checksums: records missing, elsewhere, of another key, counting for others.
#[test]
fn a_check_finds_what_no_checksum_tells() {
    let _limit = Limit::new();
    let (disk, twin) = closed();
    let forgeries: [Forgery; 4] = [
        (&["is missing"], |_, _, sn| *sn = [0xFF; 6]),
        (&["the log has it at"], |_, at, _| at[0] ^= 1),
        (&["leave out a key", "under another key"], |fragment, _, _| fragment[0] ^= 1),
        (&["the log has it at", "is missing"], |_, _, sn| sn[0] ^= 1),
    ];
    for (number, (said, forgery)) in forgeries.into_iter().enumerate() {
        let copy = common::copy(&disk);
        let mut forged = Vec::new();
        for path in segments(&copy) {
            let segment = read(&copy, &path);
            for page in 0..index_pages(&segment) {
                if let Some(bytes) = change_index_page(&segment, page, forgery) {
                    write(&copy, &path, PAGE * (1 + page as u64), &bytes);
                    forged.push(path.clone());
                }
            }
        }
        assert!(!forged.is_empty(), "no page could be forged");
        let mut store = Store::open(dir(), tiered(&copy)).unwrap();
        assert!(store.stats().opened_from.is_some(), "opening noticed nothing, as is meant");
        let error = store.check().unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Error::Index(_))
                && said.iter().any(|said| text.contains(said))
                && text.contains(AGAIN),
            "{number}: {text}"
        );
        let names = forged.iter().any(|path| text.contains(&*path.to_string_lossy()));
        // Of what is not there no file is to blame.
        assert_eq!(names, !text.contains("is missing"), "{text}");
        store.close().unwrap();
        is_made_anew(&copy, &twin);
    }
}

/// At rest, and while the store is open.
#[test]
fn a_damaged_page_is_an_error_and_the_next_opening_does_without() {
    let _limit = Limit::new();
    let (disk, twin) = closed();
    for at_rest in [true, false] {
        let copy = common::copy(&disk);
        let path = segments(&copy).into_iter().next().unwrap();
        let damage = || {
            let segment = read(&copy, &path);
            for page in 0..index_pages(&segment) as u64 {
                write(&copy, &path, PAGE * (1 + page) + 100, &[0xA5; 8]);
            }
        };
        if at_rest {
            damage();
        }
        let store = Store::open(dir(), tiered(&copy)).unwrap();
        assert!(store.stats().opened_from.is_some());
        if !at_rest {
            damage();
        }
        // Nothing is wrong, and something is an error.
        let reader = store.reader();
        let mut errors = 0;
        for number in 0..twin.keys {
            let key = format!("key {number}").into_bytes();
            match reader.get(&key) {
                Ok(value) => assert_eq!(value, twin.pairs.get(&key).cloned()),
                Err(error @ Error::Index(_)) => {
                    let text = error.to_string();
                    let names = text.contains(&*path.to_string_lossy());
                    assert!(names && text.contains(AGAIN), "{text}");
                    errors += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(errors > 0);
        // Who reads beside is not led astray either: he has an index of his own.
        let beside = Store::open_read_only(dir(), on(&copy).threads(1)).unwrap();
        assert!(beside.stats().opened_from.is_none());
        let key = twin.pairs.keys().next().unwrap();
        assert_eq!(beside.reader().get(key).unwrap().as_ref(), twin.pairs.get(key));
        store.close().unwrap();
        is_made_anew(&copy, &twin);
    }
}

/// Who may not write leaves no mark, and promises nothing.
#[test]
fn who_only_reads_leaves_no_mark() {
    let _limit = Limit::new();
    let (disk, twin) = closed();
    for path in segments(&disk) {
        let segment = read(&disk, &path);
        for page in 0..index_pages(&segment) as u64 {
            write(&disk, &path, PAGE * (1 + page) + 100, &[0xA5; 8]);
        }
    }
    let before = disk.read_dir(&dir().join("index")).unwrap();
    let mut store = Store::open(dir(), tiered(&disk).read_only()).unwrap();
    let reader = store.reader();
    let asked = twin.pairs.keys().filter_map(|key| reader.get(key).err());
    let errors: Vec<String> = asked.map(|error| error.to_string()).collect();
    assert!(!errors.is_empty() && errors.iter().all(|text| !text.contains(AGAIN)));
    assert!(!store.check().unwrap_err().to_string().contains(AGAIN));
    drop(store);
    assert_eq!(disk.read_dir(&dir().join("index")).unwrap(), before);
    // Who writes meets it as well.
    let mut store = Store::open(dir(), tiered(&disk)).unwrap();
    assert!(store.check().unwrap_err().to_string().contains(AGAIN));
    store.close().unwrap();
    is_made_anew(&disk, &twin);
}
