//! What Bitcoin Core publishes of sets, computed here: a regtest chain made from rules, and real blocks where they are.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Coins, connect, hash_of, real, snapshot_of};
use hedgerow_coins::bitcoin::consensus::encode::deserialize_partial;
use hedgerow_coins::bitcoin::constants::genesis_block;
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::hex::DisplayHex;
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::bitcoin::{Amount, Network, OutPoint, TxOut};
use hedgerow_coins::{
    BlockEffect, BlockFiles, Coin, MuHash, SnapshotHeader, SnapshotReader, key_of, outpoint_of,
    regtest,
};
use sha2::{Digest, Sha256};

/// Bitcoin Core 31.99, `test/functional/rpc_dumptxoutset.py`; the MuHash is not published, an independent program computed it.
#[test]
fn a_regtest_chain_made_from_rules() {
    let (mut set, mut product) = (Coins::new(), MuHash::new());
    let mut tip = None;
    for (height, block) in (1..).zip(regtest::chain().take(100)) {
        assert_eq!(connect(&mut set, &mut product, &block, height), 0);
        assert_eq!(block.bip34_block_height().unwrap_or(u64::from(height)), u64::from(height));
        tip = Some(block.block_hash());
    }
    let block = tip.unwrap();
    let tip = "220aee93f0f5409631f35488898258f0930952bd620063cb4d7d87f7c28a8f50";
    assert_eq!(block.to_string(), tip);
    let total: Amount = set.values().map(Coin::amount).sum();
    assert_eq!((set.len(), total), (100, Amount::from_int_btc(5_000)));
    let hash = "771d773b5c27b6f35f598ce764652a2cf28fbc268341eb1827844e416c629c7d";
    assert_eq!(hash_of(&set).to_string(), hash);
    let muhash = "e3edb1ec3a51c50591e501fb0cedbd23accd3cfbe4dd057877a46760c20bcab1";
    assert_eq!(product.digest().to_string(), muhash);

    let header = SnapshotHeader { network: Magic::REGTEST, block, coins: 100 };
    let file = snapshot_of(&set, header);
    assert_eq!(file.len(), 5_788);
    let sha256 = "e8c59b1bc1f19061c67eb7a392f4ea17eea83af58646ea2909e270546699c36c";
    assert_eq!(Sha256::digest(&file).as_hex().to_string(), sha256);
    let read: Coins =
        SnapshotReader::new(&file[..]).unwrap().up_to(100).collect::<Result<_, _>>().unwrap();
    assert_eq!(read, set);
}

/// Coins, spends, both digests after these blocks of a file.
fn after(name: &str, blocks: usize) -> Option<(usize, usize, String, String)> {
    let path = real(name)?;
    let files = BlockFiles::open([path]).unwrap();
    let genesis = genesis_block(files.network().unwrap()).block_hash();
    let (mut set, mut product) = (Coins::new(), MuHash::new());
    let mut spends = 0;
    for (height, block) in (1..).zip(files.chain_after(genesis).take(blocks)) {
        spends += connect(&mut set, &mut product, &block.unwrap(), height);
    }
    Some((spends, set.len(), product.digest().to_string(), hash_of(&set).to_string()))
}

#[test]
fn mainnet_and_regtest_blocks() {
    let rows = [
        (
            "blocks1-256.bz2",
            255,
            (7, 260),
            "60e29020ee287387a5b311fa9d665e232d41fb14f6243342cf1bdd967cc82117",
            "507108bd18e2319f0a7102cfa1c7ffea10c9b1a47ff061d8098bc51a92e40241",
        ),
        (
            "blocks1-256.bz2",
            170,
            (1, 171),
            "b497ee695f714fb45632085fda981c5828816d0e181d55be45227654db948e30",
            "7105b60f83d299f471759ec2c7900a2f15b61573b94dea3c94060e925fcf1417",
        ),
        (
            "regtest206.txt",
            206,
            (26, 230),
            "99fe6181ed22d50f27486264ed5d1f538c9343042db64a088248bcc9912a869a",
            "6f596a9fb79023e72ac6c2423e9dff4991f49994c0a55d1a2124ce03a98e9d74",
        ),
    ];
    for (name, blocks, (spends, coins), muhash, hash) in rows {
        if let Some(found) = after(name, blocks) {
            assert_eq!(found, (spends, coins, muhash.to_owned(), hash.to_owned()), "{name}");
            println!("TESTED {name} after {blocks} blocks");
        }
    }
}

/// Blocks of thousands of inputs: each input spends, all that was spent comes back from its stored form.
#[test]
fn whole_blocks_with_what_they_spend() {
    for (height, path, undo) in common::examples() {
        let files = BlockFiles::open([&path]).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let header: hedgerow_coins::bitcoin::block::Header = deserialize_partial(&bytes).unwrap().0;
        let chain: Vec<_> = files.chain_after(header.prev_blockhash).collect();
        let [Ok(block)] = &chain[..] else { panic!("{chain:?}") };
        let effect = BlockEffect::of(block, height).unwrap();

        let mut undo = &undo[..];
        let mut spends = 0;
        while !undo.is_empty() {
            let (output, len): (TxOut, usize) = deserialize_partial(undo).unwrap();
            undo = &undo[len..];
            spends += 1;
            let coin = Coin::new(height - 1, false, output.value, output.script_pubkey).unwrap();
            let mut stored = Vec::new();
            coin.encode(&mut stored);
            assert_eq!(Coin::decode(&stored), Ok(coin));
        }
        assert_eq!(effect.spent.len() as u64 + effect.passing, spends);
        for (outpoint, coin) in &effect.created {
            let mut stored = Vec::new();
            coin.encode(&mut stored);
            assert_eq!(Coin::decode(&stored).as_ref(), Ok(coin));
            assert_eq!(outpoint_of(&key_of(outpoint)), *outpoint);
        }
        assert_eq!(effect.created.iter().filter(|(_, coin)| coin.is_coinbase()).count(), {
            let outputs = &block.txdata[0].output;
            outputs.iter().filter(|output| !output.script_pubkey.is_op_return()).count()
        });
    }
}

#[test]
fn the_key_is_the_encoding_of_the_outpoint() {
    let txid = hedgerow_coins::bitcoin::Txid::from_byte_array(std::array::from_fn(|i| i as u8));
    let outpoint = OutPoint { txid, vout: 0x0102_0304 };
    let encoded = hedgerow_coins::bitcoin::consensus::serialize(&outpoint);
    assert_eq!(key_of(&outpoint)[..], encoded);
    assert_eq!(genesis_block(Network::Regtest).txdata.len(), 1);
}
