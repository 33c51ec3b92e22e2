//! A store of coins of the present format, checked in: written once, opened by every later build.
//!
//! ```text
//!   coins/tests/golden/v1.bin.gz     its files
//!   coins/tests/golden/v1.txt        height, coins, satoshi, MuHash, serialized hash of each block;
//!                                    "root", block of the store below, its root, for each flush
//!
//!   height   1 ── 4   5   6   7   8   9   10'  10  │  11   12
//!                 │           │   │       │        │       │
//!            flush 1    made up   flush 2 │        │       flush 3
//!                                taken back        └─ up to here it is recorded
//! ```
//!
//! `store/tests/packed/mod.rs` says what of it is left out.
//!
//! **When a format changes**, its version does, and this store must still open, or be refused by an error that names both
//! versions. Keep the old files and their test, and write new ones under the new version's name:
//!
//! ```text
//!   cargo test -p hedgerow-coins --test golden -- --ignored write_the_golden_coins
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod chains;
#[path = "../../store/tests/packed/mod.rs"]
mod packed;

use chains::{Made, Set, check, check_proofs, connect, hash_of, muhash_of};
use hedgerow::disk::{MemDisk, Vfs};
use hedgerow::{Height, Options, Store};
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Txid};
use hedgerow_coins::{
    BlockEffect, Coin, CoinOptions, CoinStore, Flush, FlushPoint, Position, Tip, regtest,
};
use packed::{pack, unpack};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/coins";
const EVERY: u32 = 4;
/// The last recorded block, which is above the last recorded flush.
const LAST: u32 = 10;
/// Where the next flush is.
const NEXT: u32 = 12;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn disk() -> Arc<dyn Vfs> {
    Arc::new(MemDisk::new())
}

fn options(disk: &Arc<dyn Vfs>) -> CoinOptions {
    let below = Options::new().segment_bytes(256 << 20).checkpoint_bytes(0).threads(1);
    // Small, so that there are several files of records.
    CoinOptions::new()
        .cache_bytes(1 << 20)
        .segment_bytes(700)
        .undo_blocks(9)
        .flush(Flush::Every(EVERY))
        .network(Magic::REGTEST)
        .disk(Arc::clone(disk))
        .store(below)
}

/// A block that spends two coinbases, and creates a coin of every stored form.
fn made_up(regtest: &[BlockEffect]) -> BlockEffect {
    let scripts = [
        "76a9142b4569203694fc997e13f2c0a1383b9e16c77a0d88ac",
        "a9142b4569203694fc997e13f2c0a1383b9e16c77a0d87",
        "210279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798ac",
        "410479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8ac",
        "00142b4569203694fc997e13f2c0a1383b9e16c77a0d",
        "51202b4569203694fc997e13f2c0a1383b9e16c77a0d2b4569203694fc997e13f2c0",
        "",
        &"51".repeat(90),
    ];
    let coin = |(number, script): (u32, &&str)| {
        let name = OutPoint { txid: Txid::from_byte_array([7; 32]), vout: number * 255 };
        let amount = Amount::from_sat(123 * 10_u64.pow(number));
        let script = ScriptBuf::from_hex(script).unwrap();
        (name, Coin::new(7, number % 2 == 0, amount, script).unwrap())
    };
    let spent = regtest[..2].iter().map(|block| block.created[0].0).collect();
    BlockEffect { spent, created: (0..).zip(&scripts).map(coin).collect(), passing: 0 }
}

/// The blocks up to [`NEXT`], and the one that is taken back.
fn blocks() -> (Vec<Made>, Made) {
    let mut chain: Vec<Made> = Vec::new();
    let mut add = |block: BlockHash, effect: BlockEffect| {
        let mut set = chain.last().map_or_else(Set::new, |last: &Made| Set::clone(&last.set));
        effect.spent.iter().for_each(|name| assert!(set.remove(name).is_some()));
        set.extend(effect.created.iter().cloned());
        let tip = Tip { height: chain.len() as u32 + 1, block };
        chain.push(Made { tip, effect, set: Arc::new(set) });
        chain.last().unwrap().clone()
    };
    let mut effects = Vec::new();
    for (height, block) in (1..).zip(regtest::chain().take(NEXT as usize)) {
        let mut effect = BlockEffect::of(&block, height).unwrap();
        if height == 7 {
            effect = made_up(&effects);
        }
        effects.push(effect.clone());
        match height {
            7 => add(BlockHash::from_byte_array([7; 32]), effect),
            // Coins that were flushed.
            9 => {
                let spent = [7, 2].map(|number: usize| effects[6].created[number].0).to_vec();
                add(block.block_hash(), BlockEffect { spent, ..effect })
            }
            // One that was not.
            10 => {
                let spent = vec![effects[8].created[0].0];
                add(block.block_hash(), BlockEffect { spent, ..effect })
            }
            _ => add(block.block_hash(), effect),
        };
    }
    let mut fork = chain[9].clone();
    fork.tip.block = BlockHash::from_byte_array([10; 32]);
    fork.effect.spent = vec![effects[4].created[0].0];
    (chain, fork)
}

/// Makes the store, up to the last recorded block.
fn make(disk: &Arc<dyn Vfs>) {
    let (chain, fork) = blocks();
    let mut store = CoinStore::open(DIR, options(disk)).unwrap();
    for made in &chain[..9] {
        connect(&mut store, made);
    }
    connect(&mut store, &fork);
    store.disconnect(10).unwrap();
    connect(&mut store, &chain[9]);
    store.close().unwrap();
}

/// What every block and every flush is known by, in words.
fn text(roots: &BTreeMap<u64, String>) -> String {
    let mut text = String::new();
    for Made { tip, set, .. } in blocks().0 {
        let total: Amount = set.values().map(Coin::amount).sum();
        let (muhash, hash) = (muhash_of(&set), hash_of(&set));
        writeln!(text, "{} {} {} {muhash} {hash}", tip.height, set.len(), total.to_sat()).unwrap();
    }
    for (number, root) in roots {
        writeln!(text, "root {number} {root}").unwrap();
    }
    text
}

/// The root of the last flush.
fn root_of(store: &CoinStore) -> (u64, String) {
    let (number, root) = store.root();
    (number.0, root.to_string())
}

/// A store of its own, with what was recorded.
fn recorded() -> (Arc<dyn Vfs>, String) {
    let packed = std::fs::read(golden("v1.bin.gz")).unwrap();
    assert!(packed.len() < 60 << 10, "{} bytes are too many for a repository", packed.len());
    let disk = disk();
    unpack(&disk, Path::new(DIR), &packed);
    (disk, std::fs::read_to_string(golden("v1.txt")).unwrap())
}

/// Opens the store that was checked in, and asks it everything; then it goes on, and back, and on again.
#[test]
fn the_golden_coins_open_and_go_on() {
    let (disk, expected) = recorded();
    let (chain, _) = blocks();
    let at = |height: u32| &chain[height as usize - 1];
    let mut store = CoinStore::open(DIR, options(&disk)).unwrap();
    let (mut roots, mut flushed) = (BTreeMap::new(), store.flushed().unwrap());
    roots.extend([root_of(&store)]);
    assert_eq!((flushed.tip, store.durable()), (at(8).tip, Some(8)));
    check_proofs(&store, &at(8).set, "opened");
    check(&store, Some(at(LAST).tip), &at(LAST).set, "opened");
    for made in &chain[LAST as usize..] {
        connect(&mut store, made);
    }
    store.wait_durable(NEXT).unwrap();
    roots.extend([root_of(&store)]);
    check(&store, Some(at(NEXT).tip), &at(NEXT).set, "gone on");
    // Below the recorded flushes too, as far as what is kept reaches.
    for height in (4..=NEXT).rev() {
        let record = store.disconnect(height).unwrap();
        assert_eq!((record.tip, &record.created), (at(height).tip, &at(height).effect.created));
        let spent: Vec<_> = record.spent.iter().map(|(name, _)| *name).collect();
        assert_eq!(spent, at(height).effect.spent);
        check(&store, Some(at(height - 1).tip), &at(height - 1).set, "gone back");
        if store.root().0.0 > 0 {
            roots.extend([root_of(&store)]);
        }
    }
    for made in &chain[3..] {
        connect(&mut store, made);
    }
    store.wait_durable(NEXT).unwrap();
    flushed.tip = at(NEXT).tip;
    assert_eq!(store.flushed().map(|point| point.tip), Some(flushed.tip));
    check(&store, Some(at(NEXT).tip), &at(NEXT).set, "on again");
    assert_eq!(text(&roots), expected);
    assert_eq!(roots.last_key_value().map(|(at, root)| (*at, root.clone())), Some(root_of(&store)));
    store.close().unwrap();
    let store = CoinStore::open(DIR, options(&disk)).unwrap();
    check(&store, Some(at(NEXT).tip), &at(NEXT).set, "opened again");
}

/// What there is in a directory, by name; files of which nobody reads anything left out.
fn names(disk: &Arc<dyn Vfs>, folder: &str) -> Vec<String> {
    let dir = Path::new(DIR).join(folder);
    let names = disk.read_dir(&dir).unwrap().into_iter();
    let mut names: Vec<String> = names.map(|name| name.to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// What is written today has the recorded bytes: records of blocks, what flushes say of themselves, coins.
#[test]
fn what_is_written_now_has_the_recorded_bytes() {
    let (old, _) = recorded();
    let new = disk();
    make(&new);
    assert_eq!(names(&new, ""), ["blocks", "store"]);
    let files = names(&new, "blocks");
    assert!(files.len() > 2 && files[0] == "00000001.rec", "{files:?}");
    assert_eq!(names(&old, "blocks"), files);
    for name in files {
        let path = Path::new(DIR).join("blocks").join(&name);
        let read = |disk: &Arc<dyn Vfs>| hedgerow_vfs::read_file(&**disk, &path, 1 << 20).unwrap();
        assert!(read(&old) == read(&new), "{name}");
    }
    let below = |disk: &Arc<dyn Vfs>| {
        let options = Options::new().disk(Arc::clone(disk)).checkpoint_bytes(0).threads(1);
        Store::open(Path::new(DIR).join("store"), options).unwrap()
    };
    let (old, new) = (below(&old), below(&new));
    assert_eq!(old.reader().root(), new.reader().root());
    for number in 1..=2 {
        let extra = |store: &Store| store.reader().history(Height(number)).unwrap().extra.clone();
        assert_eq!(extra(&old), extra(&new), "flush {number}");
        let point = FlushPoint::decode(&extra(&old)).unwrap();
        let height = EVERY * number as u32;
        assert_eq!((point.tip.height, point.flush), (height, Flush::Every(EVERY)));
        assert!(point.muhash.is_some() && point.records > Position::START);
        assert_eq!(point.network, Some(Magic::REGTEST));
    }
    let coins = |store: &Store| -> Vec<(Vec<u8>, Vec<u8>)> {
        let view = store.reader().view();
        let mut coins: Vec<_> = view
            .iter()
            .map(|pair| {
                let (key, value) = pair.unwrap();
                (key.as_slice().to_vec(), value.to_vec())
            })
            .collect();
        coins.sort();
        coins
    };
    let (old, new) = (coins(&old), coins(&new));
    assert_eq!(old.len(), blocks().0[7].set.len());
    assert_eq!(old, new);
}

/// Writes the golden store anew. Only for a new version of a format: see the first comment.
#[test]
#[ignore = "a recipe, which writes into the source tree; `the_golden_coins_open_and_go_on` reads what it wrote"]
fn write_the_golden_coins() {
    let disk = disk();
    make(&disk);
    let folders = ["store/meta", "store/log", "store/twigs", "store/undo", "blocks"];
    let packed = pack(&disk, Path::new(DIR), &folders);
    let (mut store, mut roots) =
        (CoinStore::open(DIR, options(&self::disk())).unwrap(), BTreeMap::new());
    for made in blocks().0 {
        connect(&mut store, &made);
        if made.tip.height % EVERY == 0 {
            store.wait_durable(made.tip.height).unwrap();
            roots.extend([root_of(&store)]);
        }
    }
    println!("{} bytes", packed.len());
    std::fs::create_dir_all(golden("")).unwrap();
    std::fs::write(golden("v1.bin.gz"), packed).unwrap();
    std::fs::write(golden("v1.txt"), text(&roots)).unwrap();
}
