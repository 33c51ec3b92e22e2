//! A store of the present format, checked in: written once, opened by every later build.
//!
//! ```text
//!   store/tests/golden/v4.bin.gz     its files
//!   store/tests/golden/v4.txt        SHA-256 of the log; heights and their roots
//!   store/tests/golden/v3.*          of version 3, which is refused: its manifest had no dead spans
//!   store/tests/golden/v2.*          of version 2, which is refused: its manifest had no first height
//! ```
//!
//! `packed/mod.rs` says what of it is left out.
//!
//! **When a format changes**, its version does, and this store must still open, or be refused by an
//! error that names both versions. Keep the old files and their test, and write new ones under the
//! new version's name:
//!
//! ```text
//!   cargo test -p hedgerow --test golden -- --ignored write_the_golden_store
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
mod packed;

use common::forge::store_id;
use common::{dir, disk, on, params};
use hedgerow::disk::Vfs;
use hedgerow::{Digest, Height, Options, Store};
use hedgerow_entryfile::{TwigFile, TwigFileOptions};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::LogPosition;
use packed::{KEPT_TWIGS, pack, unpack};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FOLDERS: [&str; 3] = ["meta", "log", "twigs"];
const KEYS: u64 = 200;
const HEIGHTS: u64 = 25;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn options(disk: &Arc<dyn Vfs>) -> Options {
    on(disk).segment_bytes(256 << 20)
}

/// The block of a height: the same for ever, and its effect on a model.
fn apply(store: &mut Store, model: &mut BTreeMap<String, String>, height: u64) -> String {
    let mut rng = SplitMix64::new(height);
    let mut block = store.begin_block(Height(height)).unwrap();
    for _ in 0..60 {
        let key = format!("key {}", rng.below(KEYS));
        let value = format!("{height} {}", "v".repeat(rng.below(60) as usize));
        if rng.below(4) == 0 {
            block.delete(&key).unwrap();
            model.remove(&key);
        } else {
            block.put(&key, &value).unwrap();
            model.insert(key, value);
        }
    }
    block.set_extra(format!("extra {height}")).unwrap();
    block.commit().unwrap().root.to_string()
}

/// Opens the store that was checked in, and asks it everything; then it goes on.
#[test]
fn the_golden_store_opens_and_goes_on() {
    let packed = std::fs::read(golden("v4.bin.gz")).unwrap();
    assert!(packed.len() < 300 << 10, "{} bytes are too many for a repository", packed.len());
    let text = std::fs::read_to_string(golden("v4.txt")).unwrap();
    let recorded: BTreeMap<u64, &str> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(' '))
        .map(|(height, root)| (height.parse().unwrap(), root))
        .collect();
    let (&next, root_of_next) = recorded.last_key_value().unwrap();
    let last = next - 1;

    let disk = disk();
    unpack(&disk, &dir(), &packed);
    assert_eq!(text.lines().next(), Some(&*digest_of_log(&disk)));
    {
        // Else a twig record that is no longer understood would be made again, and nobody told.
        let (options, end) = (TwigFileOptions::default(), LogPosition(u64::MAX));
        let folder = dir().join("twigs");
        let opened = TwigFile::open(Arc::clone(&disk), &folder, store_id(&disk), options, end);
        let (file, twigs) = opened.unwrap();
        assert_eq!((twigs.len(), file.stats().damaged), (KEPT_TWIGS, 0));
    }
    let mut store = Store::open(dir(), options(&disk)).unwrap();
    assert_eq!(store.reader().root().0, Height(last));
    // The model needs no store: it follows from the heights.
    let mut model = BTreeMap::new();
    {
        let other = common::disk();
        let mut other = Store::create(dir(), params(1, 1, 1), on(&other)).unwrap();
        for height in 1..=last {
            let root = apply(&mut other, &mut model, height);
            assert_eq!(recorded.get(&height).copied(), Some(&*root), "height {height}");
        }
    }
    ask(&mut store, &model, &recorded, last);
    let root = apply(&mut store, &mut model, next);
    assert_eq!(root, *root_of_next);
    ask(&mut store, &model, &recorded, next);
    store.close().unwrap();
    let mut store = Store::open(dir(), options(&disk)).unwrap();
    ask(&mut store, &model, &recorded, next);
}

/// Versions 2 and 3 were never released. Their stores are refused with both versions, and not a byte of them changes.
#[test]
fn older_golden_stores_are_refused() {
    for (name, versions) in [
        ("v2", "it has format version 2, this build of Hedgerow reads version 4"),
        ("v3", "it has format version 3, this build of Hedgerow reads version 4"),
    ] {
        let disk = disk();
        unpack(&disk, &dir(), &std::fs::read(golden(&format!("{name}.bin.gz"))).unwrap());
        let text = std::fs::read_to_string(golden(&format!("{name}.txt"))).unwrap();
        let error = Store::open(dir(), options(&disk)).unwrap_err().to_string();
        assert!(error.contains(versions), "{error}");
        assert_eq!(text.lines().next(), Some(&*digest_of_log(&disk)));
    }
}

fn ask(
    store: &mut Store,
    model: &BTreeMap<String, String>,
    recorded: &BTreeMap<u64, &str>,
    last: u64,
) {
    let report = store.check().unwrap();
    assert_eq!((report.height, report.keys), (Height(last), model.len() as u64));
    assert_eq!(report.twigs_missing, 0);
    let reader = store.reader();
    let root = reader.root().1;
    for key in (0..KEYS + 5).map(|number| format!("key {number}")) {
        let expected = model.get(&key).map(|value| value.as_bytes());
        assert_eq!(reader.get(&key).unwrap().as_deref(), expected, "{key}");
        let proven = reader.prove(&key).unwrap();
        assert_eq!(hedgerow_proof::verify(&root, key.as_bytes(), &proven.proof), Ok(expected));
    }
    for height in 1..=last {
        let row = reader.history(Height(height)).unwrap();
        assert_eq!(row.root.to_string(), recorded[&height], "height {height}");
        assert_eq!(row.extra, format!("extra {height}").into_bytes());
    }
}

/// Writes the golden store anew. Only for a new version of a format: see the first comment.
#[test]
#[ignore = "a recipe, which writes into the source tree; `the_golden_store_opens_and_goes_on` reads what it wrote"]
fn write_the_golden_store() {
    let disk = disk();
    let mut store = Store::create(dir(), params(1, 1, 1), options(&disk)).unwrap();
    let (mut model, mut text) = (BTreeMap::new(), String::new());
    for height in 1..=HEIGHTS {
        // It has blocks that were taken back, and came again.
        if height == HEIGHTS {
            let before = model.clone();
            (0..3).for_each(|more| drop(apply(&mut store, &mut model, height + more)));
            store.rollback(Height(height - 1)).unwrap();
            model = before;
        }
        writeln!(text, "{height} {}", apply(&mut store, &mut model, height)).unwrap();
    }
    store.close().unwrap();
    let (packed, digest) = (pack(&disk, &dir(), &FOLDERS), digest_of_log(&disk));
    let mut store = Store::open(dir(), options(&disk)).unwrap();
    let height = HEIGHTS + 1;
    writeln!(text, "{height} {}", apply(&mut store, &mut model, height)).unwrap();
    let text = format!("{digest}\n{text}");
    std::fs::create_dir_all(golden("")).unwrap();
    println!("{} bytes, {height} heights", packed.len());
    std::fs::write(golden("v4.bin.gz"), packed).unwrap();
    std::fs::write(golden("v4.txt"), text).unwrap();
}

fn digest_of_log(disk: &Arc<dyn Vfs>) -> String {
    let bytes = common::forge::read(disk, &dir().join("log/0000000000000000.log"));
    Digest(Sha256::digest(bytes).into()).to_string()
}
