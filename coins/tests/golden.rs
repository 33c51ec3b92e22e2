//! What a store of coins writes beside the store below, checked in: written once, read by every later build.
//!
//! ```text
//!   coins/tests/golden/blocks-1.rec    records of five blocks and one that was disconnected
//!   coins/tests/golden/flush-1.bin     what the flush at block 3 says of itself, with a MuHash
//! ```
//!
//! What the store below writes is in its own golden store. **When a format changes**, its version does: keep the old files and
//! their test, and write new ones under the new version's number:
//!
//! ```text
//!   cargo test -p hedgerow-coins --test golden -- --ignored write_the_golden_files
//! ```
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use hedgerow::disk::{MemDisk, OpenMode, Vfs};
use hedgerow::{Height, Options, Store, StoreParams};
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::bitcoin::{Amount, BlockHash, OutPoint, ScriptBuf, Txid};
use hedgerow_coins::{
    BlockEffect, Coin, CoinOptions, CoinStore, CoinStoreError, Flush, FlushPoint, MuHash,
    write_element,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/coins";
const RECORDS: &str = "/coins/blocks/00000001.rec";
/// The last block that is connected; 3 is flushed.
const TIP: u32 = 5;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn name(height: u32, vout: u32) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array([height as u8; 32]), vout }
}

fn hash(height: u32) -> BlockHash {
    BlockHash::from_byte_array([0x80 | height as u8; 32])
}

/// The block of a height: the same for ever. It spends the first two coins of the block before, and creates four.
fn block(height: u32) -> BlockEffect {
    let scripts = [
        "76a9142b4569203694fc997e13f2c0a1383b9e16c77a0d88ac",
        "51",
        "",
        "00142b4569203694fc997e13f2c0a1383b9e16c77a0d",
    ];
    let coin = |(vout, script): (u32, &str)| {
        let amount = Amount::from_sat(u64::from(height) * 1_000_000 + u64::from(vout));
        let coin = Coin::new(height, vout == 0, amount, ScriptBuf::from_hex(script).unwrap());
        (name(height, vout), coin.unwrap())
    };
    let spent = if height > 1 { vec![name(height - 1, 1), name(height - 1, 0)] } else { vec![] };
    BlockEffect { spent, created: (0..).zip(scripts).map(coin).collect(), passing: 0 }
}

fn options(disk: &Arc<dyn Vfs>) -> CoinOptions {
    let options = CoinOptions::new().flush(Flush::Every(3)).cache_bytes(1 << 20);
    let store = Options::new().segment_bytes(1 << 20).threads(1);
    options.network(Magic::REGTEST).store(store).disk(Arc::clone(disk))
}

/// Writes everything: five blocks, after a sixth that was taken back.
fn written() -> Arc<dyn Vfs> {
    let disk: Arc<dyn Vfs> = Arc::new(MemDisk::new());
    let mut store = CoinStore::open(DIR, options(&disk)).unwrap();
    for height in 1..=4 {
        store.connect(height, hash(height), &block(height)).unwrap();
    }
    store.disconnect(4).unwrap();
    for height in 4..=TIP {
        store.connect(height, hash(height), &block(height)).unwrap();
    }
    store.close().unwrap();
    disk
}

fn read(disk: &Arc<dyn Vfs>, path: &str) -> Vec<u8> {
    let file = disk.open(Path::new(path), OpenMode::Read).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// What the flush says of itself.
fn extra(disk: &Arc<dyn Vfs>) -> Vec<u8> {
    let options = Options::new().disk(Arc::clone(disk)).rollback_window(289);
    let store = Store::open_or_create("/coins/store", StoreParams::default(), options).unwrap();
    assert_eq!(store.height(), Height(1));
    store.reader().history(Height(1)).unwrap().extra.to_vec()
}

#[test]
fn what_is_written_is_what_was_always_written() {
    let disk = written();
    assert!(read(&disk, RECORDS) == std::fs::read(golden("blocks-1.rec")).unwrap());
    assert!(extra(&disk) == std::fs::read(golden("flush-1.bin")).unwrap());
}

/// The flush as it was written then.
#[test]
fn the_golden_flush_is_understood() {
    let point = FlushPoint::decode(&std::fs::read(golden("flush-1.bin")).unwrap()).unwrap();
    assert_eq!((point.tip.height, point.tip.block, point.coins), (3, hash(3), 8));
    let amounts = 2 + 3 + 1_000_000 * 2 + 2 + 3 + 2_000_000 * 2 + 1 + 2 + 3 + 3_000_000 * 4;
    assert_eq!(point.total_amount, Amount::from_sat(amounts));
    assert_eq!((point.flush, point.network), (Flush::Every(3), Some(Magic::REGTEST)));
    let mut product = MuHash::new();
    let mut element = Vec::new();
    for (name, coin) in (1..=3).flat_map(|height| block(height).created) {
        let spent = (2..=3).any(|height| block(height).spent.contains(&name));
        element.clear();
        write_element(&name, &coin, &mut element);
        if !spent {
            product.insert(&element);
        }
    }
    assert_eq!(point.muhash.unwrap().digest(), product.digest());
}

/// Records as they were written then are connected to the flush, and go on; cut, they are connected as far as they are whole.
#[test]
fn the_golden_records_are_connected_again() {
    let golden = std::fs::read(golden("blocks-1.rec")).unwrap();
    for (cut, tip) in [(0, TIP), (1, TIP - 1)] {
        let disk = written();
        let file = disk.open(Path::new(RECORDS), OpenMode::ReadWrite).unwrap();
        file.set_len(0).unwrap();
        file.write_all_at(&golden[..golden.len() - cut], 0).unwrap();
        drop(file);
        let mut store = CoinStore::open(DIR, options(&disk)).unwrap();
        assert_eq!((store.height(), store.durable()), (Some(tip), Some(3)));
        assert_eq!(store.stats().reconnected, u64::from(tip) - 3);
        for height in 1..=tip {
            let record = store.record(height).unwrap();
            assert_eq!(record.created, block(height).created);
            assert!(record.spent.iter().map(|(name, _)| *name).eq(block(height).spent));
        }
        for height in (1..=tip).rev() {
            store.disconnect(height).unwrap();
        }
        assert!(matches!(store.disconnect(1), Err(CoinStoreError::NoBlock)));
        assert_eq!(store.digest().unwrap().coins, 0);
    }
}

#[test]
#[ignore = "writes the golden files"]
fn write_the_golden_files() {
    let disk = written();
    std::fs::write(golden("blocks-1.rec"), read(&disk, RECORDS)).unwrap();
    std::fs::write(golden("flush-1.bin"), extra(&disk)).unwrap();
}
