//! Every decoder of outside bytes here: stored coins, snapshots, files of blocks, products, what flushes say of themselves. No
//! input makes one panic or take memory that the input does not have; what decodes encodes to the same bytes. Those of the
//! records of blocks are beside their private decoders, in `src/store/records/log/tests.rs`.
//!
//! They stand with this crate, not in `fuzz`, because nobody else needs the parser of Bitcoin's blocks. Run for hours with
//! `cargo bolero test -p hedgerow-coins --test fuzz snapshot -T 1h`; a failure prints the seed (`BOLERO_RANDOM_SEED`).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "../../fuzz/tests/common/mod.rs"]
mod fuzzing;

use bolero::check;
use common::{Coins, snapshot_of};
use fuzzing::{Count, Damage};
use hedgerow_coins::bitcoin::consensus::encode::{deserialize, serialize, serialize_hex};
use hedgerow_coins::bitcoin::constants::genesis_block;
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::bitcoin::{Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Txid};
use hedgerow_coins::{
    BlockEffect, BlockFiles, Coin, Flush, FlushPoint, MAX_HEIGHT, MUHASH_LEN, MuHash, Position,
    SnapshotHeader, SnapshotReader, Tip, regtest,
};

/// Coins of every form, by hand: keys of the genesis coinbase and the generator of the curve.
fn samples() -> Vec<Coin> {
    let scripts = [
        "76a9142b4569203694fc997e13f2c0a1383b9e16c77a0d88ac",
        "a9142b4569203694fc997e13f2c0a1383b9e16c77a0d87",
        "210279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798ac",
        "4104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac",
        "410479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8ac",
        "00142b4569203694fc997e13f2c0a1383b9e16c77a0d",
        "",
    ];
    let mut coins = Vec::new();
    for (number, script) in (0..).zip(scripts) {
        let script = ScriptBuf::from_hex(script).unwrap();
        let amount = Amount::from_sat(123 * 10_u64.pow(number));
        coins.push(Coin::new(number * 12_345, number % 2 == 0, amount, script).unwrap());
    }
    coins
}

#[test]
fn coin() {
    static COUNT: Count = Count::new("stored coin");
    let encoded = |coin: &Coin| {
        let mut bytes = Vec::new();
        coin.encode(&mut bytes);
        bytes
    };
    let mut samples: Vec<Vec<u8>> = samples().iter().map(encoded).collect();
    // In full, what has a form of its own: height, amount, 25 bytes that pay to a key's hash.
    let script = ScriptBuf::from_hex("76a9142b4569203694fc997e13f2c0a1383b9e16c77a0d88ac").unwrap();
    samples.push([&[2, 1, 25 + 6][..], script.as_bytes()].concat());
    check!().with_iterations(200_000).with_type::<(bool, Damage, Vec<u8>)>().for_each(
        |(real, damage, noise)| {
            let bytes = if *real { damage.apply(&samples) } else { noise.clone() };
            let decoded = Coin::decode(&bytes);
            if let Ok(coin) = &decoded {
                assert_eq!(encoded(coin), bytes);
            }
            COUNT.note(decoded.is_ok());
        },
    );
    COUNT.finish();
}

#[test]
fn snapshot() {
    static COUNT: Count = Count::new("snapshot");
    let coins = samples();
    let outpoint = |number: u8, vout| OutPoint { txid: Txid::from_byte_array([number; 32]), vout };
    let sets: [Coins; 3] = [
        Coins::new(),
        coins.iter().zip(0..).map(|(coin, number)| (outpoint(number, 0), coin.clone())).collect(),
        coins
            .iter()
            .zip([0, 1, 127, 128, 255, 256, 16_512])
            .map(|(coin, vout)| (outpoint(9, vout), coin.clone()))
            .collect(),
    ];
    let samples = sets.map(|set| {
        let block = BlockHash::from_byte_array([7; 32]);
        let coins = set.len() as u64;
        snapshot_of(&set, SnapshotHeader { network: Magic::REGTEST, block, coins })
    });
    check!().with_iterations(200_000).with_type::<Damage>().for_each(|damage| {
        let bytes = damage.apply(&samples);
        let Ok(reader) = SnapshotReader::new(&bytes[..]) else { return COUNT.note(false) };
        let header = reader.header();
        let read: Result<Vec<(OutPoint, Coin)>, _> = reader.collect();
        if let Ok(read) = &read {
            let in_order = read.windows(2).all(|pair| pair[0].0 < pair[1].0);
            assert!(in_order && read.len() as u64 == header.coins);
            // Of the numbers that the file may have in two orders, one is written.
            if read.iter().all(|(outpoint, _)| outpoint.vout < 16_512) {
                assert_eq!(snapshot_of(&read.iter().cloned().collect(), header), bytes);
            }
        }
        COUNT.note(read.is_ok());
    });
    COUNT.finish();
}

#[test]
fn product() {
    static COUNT: Count = Count::new("product");
    let mut set = MuHash::new();
    let empty = set.to_bytes().to_vec();
    set.insert(b"in");
    set.remove(b"out");
    // Near the modulus: all ones are above it.
    let samples = [set.to_bytes().to_vec(), empty, vec![0xff; MUHASH_LEN]];
    check!().with_iterations(20_000).with_type::<Damage>().for_each(|damage| {
        let bytes = damage.apply(&samples);
        let Ok(bytes) = <[u8; MUHASH_LEN]>::try_from(bytes) else { return };
        let decoded = MuHash::from_bytes(&bytes);
        if let Ok(product) = &decoded {
            assert_eq!(product.to_bytes(), bytes);
        }
        COUNT.note(decoded.is_ok());
    });
    COUNT.finish();
}

#[test]
fn flush_point() {
    static COUNT: Count = Count::new("flush point");
    let mut product = MuHash::new();
    product.insert(b"in");
    let tip = |height| Tip { height, block: BlockHash::from_byte_array([7; 32]) };
    let bare = FlushPoint::new(tip(0));
    let mut full = FlushPoint::new(tip((1 << 31) - 1));
    (full.coins, full.total_amount) = (u64::MAX, Amount::MAX_MONEY);
    full.flush = Flush::Every(1_000);
    full.records = Position { segment: 3, offset: 1 << 20 };
    full.network = Some(Magic::BITCOIN);
    let mut kept = full.clone();
    kept.muhash = Some(product);
    let points = [bare, full, kept];
    let samples: Vec<Vec<u8>> = points.iter().map(FlushPoint::encode).collect();
    check!().with_iterations(100_000).with_type::<Damage>().for_each(|damage| {
        let number = usize::from(damage.sample) % samples.len();
        let bytes = damage.apply(&samples);
        let decoded = FlushPoint::decode(&bytes);
        if let Ok(point) = &decoded {
            assert_eq!(point.encode(), bytes);
            // Each byte says something, and there is none too many or too few.
            assert_eq!(*point == points[number], bytes == samples[number]);
            assert!(bytes.len() == samples[0].len() || point.muhash.is_some());
            assert!(point.tip.height <= MAX_HEIGHT && point.total_amount <= Amount::MAX_MONEY);
        }
        COUNT.note(decoded.is_ok());
    });
    COUNT.finish();
}

/// Files of every form: what is read of them is blocks that follow each other.
#[test]
fn block_file() {
    static COUNT: Count = Count::new("file of blocks");
    let blocks: Vec<Block> = regtest::chain().take(3).collect();
    let genesis = genesis_block(Network::Regtest).block_hash();
    let record = |block: &Block| {
        let bytes = serialize(block);
        [&Magic::REGTEST.to_bytes()[..], &(bytes.len() as u32).to_le_bytes(), &bytes].concat()
    };
    let samples = [
        blocks.iter().flat_map(record).collect(),
        blocks.iter().map(|block| serialize_hex(block) + "\n").collect::<String>().into_bytes(),
        serialize(&blocks[0]),
        b"BZh91AY&SY".to_vec(),
        b"BZh9\x17\x72\x45\x38\x50\x90\0\0\0\0".to_vec(),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blocks");
    check!().with_iterations(20_000).with_type::<Damage>().for_each(|damage| {
        std::fs::write(&path, damage.apply(&samples)).unwrap();
        let files = BlockFiles::open([&path]);
        COUNT.note(files.is_ok());
        let mut previous = genesis;
        for block in files.into_iter().flat_map(|files| files.chain_after(genesis)) {
            let Ok(block) = block else { break };
            assert_eq!(block.header.prev_blockhash, previous);
            previous = block.block_hash();
        }
    });
    COUNT.finish();
}

/// Blocks whose transactions nobody checked.
#[test]
fn effect() {
    static COUNT: Count = Count::new("effect of a block");
    let samples: Vec<Vec<u8>> = regtest::chain().take(3).map(|block| serialize(&block)).collect();
    check!().with_iterations(50_000).with_type::<Damage>().for_each(|damage| {
        let Ok(block) = deserialize::<Block>(&damage.apply(&samples)) else {
            return COUNT.note(false);
        };
        let effect = BlockEffect::of(&block, 7);
        if let Ok(effect) = &effect {
            let outputs: usize = block.txdata.iter().map(|tx| tx.output.len()).sum();
            assert!(effect.created.len() + effect.passing as usize <= outputs);
        }
        COUNT.note(effect.is_ok());
    });
    COUNT.finish();
}
