//! Every decoder of outside bytes here: stored coins, snapshots, files of blocks, products. No input makes one panic or
//! take memory that the input does not have; what decodes encodes to the same bytes.
//!
//! They stand with this crate, not in `fuzz`, because nobody else needs the parser of Bitcoin's blocks. Run for hours with
//! `cargo bolero test -p hedgerow-coins --test fuzz snapshot -T 1h`; a failure prints the seed (`BOLERO_RANDOM_SEED`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bolero::{TypeGenerator, check};
use common::{Coins, snapshot_of};
use hedgerow_coins::bitcoin::consensus::encode::{deserialize, serialize, serialize_hex};
use hedgerow_coins::bitcoin::constants::genesis_block;
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::bitcoin::{Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Txid};
use hedgerow_coins::{
    BlockEffect, BlockFiles, Coin, MUHASH_LEN, MuHash, SnapshotHeader, SnapshotReader, regtest,
};
use std::cell::Cell;

/// What is done to real bytes.
#[derive(Clone, Debug, TypeGenerator)]
struct Damage {
    sample: u8,
    patches: Vec<(u16, u8)>,
    cut: Option<u16>,
    tail: Option<Vec<u8>>,
}

impl Damage {
    fn apply(&self, samples: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = samples[usize::from(self.sample) % samples.len()].clone();
        for (at, value) in self.patches.iter().take(3) {
            let at = usize::from(*at) % bytes.len();
            bytes[at] = *value;
        }
        if let Some(cut) = self.cut.filter(|cut| cut % 4 == 0) {
            bytes.truncate(usize::from(cut) % (bytes.len() + 1));
        }
        if let Some(tail) = self.tail.as_ref().filter(|tail| tail.len() % 4 == 1) {
            bytes.extend(tail);
        }
        bytes
    }
}

/// Counts inputs and those that decoded; both kinds must have been there.
#[derive(Default)]
struct Count {
    tried: Cell<u64>,
    decoded: Cell<u64>,
}

impl Count {
    fn note(&self, decoded: bool) {
        self.tried.set(self.tried.get() + 1);
        self.decoded.set(self.decoded.get() + u64::from(decoded));
    }

    fn finish(&self, what: &str) {
        let (tried, decoded) = (self.tried.get(), self.decoded.get());
        println!("FUZZED {what}: {tried} inputs, {decoded} decoded");
        assert!(tried > decoded && decoded > 0, "{what}: {decoded} of {tried}");
    }
}

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
    let count = Count::default();
    let encoded = |coin: &Coin| {
        let mut bytes = Vec::new();
        coin.encode(&mut bytes);
        bytes
    };
    let samples: Vec<Vec<u8>> = samples().iter().map(encoded).collect();
    check!().with_iterations(200_000).with_type::<(bool, Damage, Vec<u8>)>().for_each(
        |(real, damage, noise)| {
            let bytes = if *real { damage.apply(&samples) } else { noise.clone() };
            let decoded = Coin::decode(&bytes);
            if let Ok(coin) = &decoded {
                assert_eq!(encoded(coin), bytes);
            }
            count.note(decoded.is_ok());
        },
    );
    count.finish("coin");
}

#[test]
fn snapshot() {
    let count = Count::default();
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
        let Ok(reader) = SnapshotReader::new(&bytes[..]) else { return count.note(false) };
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
        count.note(read.is_ok());
    });
    count.finish("snapshot");
}

#[test]
fn product() {
    let count = Count::default();
    let mut set = MuHash::new();
    let empty = set.to_bytes().to_vec();
    set.insert(b"in");
    set.remove(b"out");
    // Near the modulus: all ones are above it.
    let samples = [set.to_bytes().to_vec(), empty, vec![0xff; MUHASH_LEN]];
    check!().with_iterations(20_000).with_type::<(u8, Vec<(u16, u8)>)>().for_each(
        |(sample, patches)| {
            let damage =
                Damage { sample: *sample, patches: patches.clone(), cut: None, tail: None };
            let bytes: [u8; MUHASH_LEN] = damage.apply(&samples).try_into().unwrap();
            let decoded = MuHash::from_bytes(&bytes);
            if let Ok(product) = &decoded {
                assert_eq!(product.to_bytes(), bytes);
            }
            count.note(decoded.is_ok());
        },
    );
    count.finish("product");
}

/// Files of every form: what is read of them is blocks that follow each other.
#[test]
fn block_file() {
    let count = Count::default();
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
        count.note(files.is_ok());
        let mut previous = genesis;
        for block in files.into_iter().flat_map(|files| files.chain_after(genesis)) {
            let Ok(block) = block else { break };
            assert_eq!(block.header.prev_blockhash, previous);
            previous = block.block_hash();
        }
    });
    count.finish("file of blocks");
}

/// Blocks whose transactions nobody checked.
#[test]
fn effect() {
    let count = Count::default();
    let samples: Vec<Vec<u8>> = regtest::chain().take(3).map(|block| serialize(&block)).collect();
    check!().with_iterations(50_000).with_type::<Damage>().for_each(|damage| {
        let Ok(block) = deserialize::<Block>(&damage.apply(&samples)) else {
            return count.note(false);
        };
        let effect = BlockEffect::of(&block, 7);
        if let Ok(effect) = &effect {
            let outputs: usize = block.txdata.iter().map(|tx| tx.output.len()).sum();
            assert!(effect.created.len() + effect.passing as usize <= outputs);
        }
        count.note(effect.is_ok());
    });
    count.finish("effect of a block");
}
