//! What the tests share: sets made from blocks, coins of every kind, and where real blocks are.
#![allow(dead_code, reason = "every test uses its own part")]

use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use hedgerow_coins::bitcoin::{Amount, Block, OutPoint, ScriptBuf, Txid};
use hedgerow_coins::{
    BlockEffect, Coin, MuHash, SerializedHash, SetDigest, SnapshotHeader, SnapshotWriter,
    may_overwrite, write_element,
};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

/// A set of coins, in order.
pub(crate) type Coins = BTreeMap<OutPoint, Coin>;

/// Does to a set and its product what a block does. Returns how many coins of the set it spends.
pub(crate) fn connect(set: &mut Coins, product: &mut MuHash, block: &Block, height: u32) -> usize {
    let effect = BlockEffect::of(block, height).unwrap();
    let spent: Vec<(OutPoint, Coin)> =
        effect.spent.iter().map(|outpoint| (*outpoint, set.remove(outpoint).unwrap())).collect();
    for (outpoint, coin) in &effect.created {
        let over = set.insert(*outpoint, coin.clone());
        assert!(over.is_none() || may_overwrite(height, &block.block_hash()));
    }
    product.combine(&MuHash::net(&effect.created, &spent, |(outpoint, coin), out| {
        write_element(outpoint, coin, out);
    }));
    spent.len() + effect.passing as usize
}

/// Its `hash_serialized_3`.
pub(crate) fn hash_of(set: &Coins) -> SetDigest {
    let mut hash = SerializedHash::new();
    for (outpoint, coin) in set {
        hash.push(outpoint, coin).unwrap();
    }
    hash.digest()
}

/// The snapshot of a set.
pub(crate) fn snapshot_of(set: &Coins, header: SnapshotHeader) -> Vec<u8> {
    let mut writer = SnapshotWriter::new(Vec::new(), header).unwrap();
    for (outpoint, coin) in set {
        writer.push(outpoint, coin).unwrap();
    }
    writer.finish().unwrap()
}

/// A file of the folder with real blocks: `HEDGEROW_BITCOIN_DATA`, else `shared/data/bitcoin` beside the workspace.
/// Where it is not, that is said loudly.
pub(crate) fn real(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/bitcoin");
    let folder = env::var_os("HEDGEROW_BITCOIN_DATA").map_or(beside, PathBuf::from);
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    println!("!!! NOT RUN: there is no {}; HEDGEROW_BITCOIN_DATA names its folder", path.display());
    None
}

/// The real blocks of the example, as raw files: height, path, the outputs that they spend.
pub(crate) fn examples() -> Vec<(u32, PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bitcoin_utxo");
    [300_025, 928_828, 928_831]
        .into_iter()
        .map(|height| {
            let undo = std::fs::read(folder.join(format!("block{height}-undo.raw"))).unwrap();
            (height, folder.join(format!("block{height}.raw")), undo)
        })
        .collect()
}

/// Scripts of every form that coins are stored in.
pub(crate) fn scripts() -> impl Strategy<Value = ScriptBuf> {
    let hash = || prop::array::uniform20(any::<u8>());
    let key = prop::array::uniform32(1_u8..).prop_map(|bytes| {
        // Above the order of the curve there are few.
        let secret =
            SecretKey::from_slice(&bytes).unwrap_or(SecretKey::from_slice(&[1; 32]).unwrap());
        PublicKey::from_secret_key(&Secp256k1::signing_only(), &secret)
    });
    let pay = |key: &[u8]| [&[key.len() as u8], key, &[0xac]].concat();
    prop_oneof![
        hash().prop_map(|hash| [&[0x76, 0xa9, 0x14][..], &hash, &[0x88, 0xac]].concat()),
        hash().prop_map(|hash| [&[0xa9, 0x14][..], &hash, &[0x87]].concat()),
        key.clone().prop_map(move |key| pay(&key.serialize())),
        key.prop_map(move |key| pay(&key.serialize_uncompressed())),
        hash().prop_map(|hash| [&[0, 20][..], &hash].concat()),
        prop::collection::vec(any::<u8>(), 0..300),
        (9_990_usize..=10_000).prop_map(|len| vec![0x51; len]),
    ]
    .prop_map(ScriptBuf::from_bytes)
    .prop_filter("no coin", |script| !script.is_op_return())
}

/// Coins.
pub(crate) fn coins() -> impl Strategy<Value = Coin> {
    let amount = (0..=Amount::MAX_MONEY.to_sat(), 0_u32..16)
        .prop_map(|(amount, zeros)| amount / 10_u64.pow(zeros) * 10_u64.pow(zeros));
    (0_u32..1 << 31, any::<bool>(), amount, scripts()).prop_map(
        |(height, coinbase, amount, script)| {
            Coin::new(height, coinbase, Amount::from_sat(amount), script).unwrap()
        },
    )
}

/// Sets in which some transactions have several coins, and some have numbers beyond 16,511.
pub(crate) fn sets() -> impl Strategy<Value = Coins> {
    let vout = prop_oneof![0_u32..4, 100_u32..300, 16_500_u32..16_530, 0_u32..111_111];
    let outpoint = (any::<[u8; 2]>(), vout).prop_map(|([first, last], vout)| {
        let mut txid = [0; 32];
        (txid[0], txid[31]) = (first & 3, last & 1);
        OutPoint { txid: Txid::from_byte_array(txid), vout }
    });
    prop::collection::btree_map(outpoint, coins(), 0..40)
}
