//! An initial sync: a chain from its first block on, through the engine that a node would use.
//!
//! ```text
//!   blocks ─► CoinStore ─► a flush at every 50th height          digests as Bitcoin Core shows them
//!                │
//!                ├─ the last blocks taken back, and connected again: the same root, as if it had not happened
//!                ├─ a coin proved present, a spent one proved absent
//!                └─ snapshot ─► another store, which goes on where this one is
//! ```

use crate::coins::{Result, grouped, milliseconds};
use hedgerow_coins::bitcoin::constants::genesis_block;
use hedgerow_coins::bitcoin::{Block, Network, OutPoint};
use hedgerow_coins::{
    BlockEffect, BlockFiles, Coin, CoinOptions, CoinStore, Flush, SnapshotImport, SnapshotReader,
    key_of, regtest,
};
use std::fs::File;
use std::path::Path;
use std::time::Instant;

/// Blocks between two flushes.
const FLUSH_EVERY: u32 = 50;
/// Blocks that a reorganisation takes back.
const DEEP: u32 = 20;
/// Of the regtest chain that is made from rules: what Bitcoin Core 31.99 publishes of block 100.
const PUBLISHED: (u32, &str) =
    (100, "771d773b5c27b6f35f598ce764652a2cf28fbc268341eb1827844e416c629c7d");

/// Connects the blocks of a file, or those of a chain that is made from rules.
pub(crate) fn run(dir: &Path, file: Option<&Path>) -> Result<()> {
    let (network, blocks) = match file {
        Some(file) => {
            println!("Initial sync from {}", file.display());
            let files = BlockFiles::open([file])?;
            let network = files.network().ok_or("the file does not say which network's it is")?;
            let chain = files.chain_after(genesis_block(network).block_hash());
            (network, chain.collect::<Result<Vec<Block>, _>>()?)
        }
        None => {
            println!("Initial sync of 100 blocks of a regtest chain, which follows from rules");
            (Network::Regtest, regtest::chain().take(100).collect())
        }
    };
    let path = dir.join("coins");
    let options = CoinOptions::new().flush(Flush::Every(FLUSH_EVERY)).network(network);
    let mut store = CoinStore::open(&path, options.clone())?;
    println!("{:>8}{:>9}{:>9}{:>9}  root", "height", "created", "spent", "coins");
    let started = Instant::now();
    // A coin that the last flush has, and one that it has no more.
    let (mut there, mut spent, mut spent_last) = (None, None, None);
    for (height, block) in (1..).zip(&blocks) {
        spent_last = BlockEffect::of(block, height)?.spent.first().copied().or(spent_last);
        let done = store.connect_block(height, block)?;
        if height.is_multiple_of(FLUSH_EVERY) {
            store.wait_durable(height)?;
            let coinbase = block.coinbase().ok_or("a block without a coinbase")?;
            there = Some(OutPoint { txid: coinbase.compute_txid(), vout: 0 });
            spent = spent_last;
            let (created, gone, coins) = (done.created, done.spent, store.digest()?.coins);
            println!("{height:>8}{created:>9}{gone:>9}{coins:>9}  {}", store.root().1);
        }
    }
    let took = milliseconds(started.elapsed());
    let tip = store.tip().ok_or("there are no blocks")?;
    let digest = store.digest()?;
    let hash = store.hash_serialized()?;
    println!("{} blocks in {took} ms, up to {tip}", grouped(blocks.len() as u64));
    println!("  coins              {}, {}", grouped(digest.coins), digest.total_amount);
    println!("  muhash             {}", digest.muhash.ok_or("no MuHash is kept")?);
    println!("  hash_serialized_3  {hash}");
    if file.is_none() && (tip.height, hash.to_string().as_str()) != PUBLISHED {
        return Err("Bitcoin Core has another hash for this chain".into());
    }

    // The chain goes another way, and comes back.
    let root = store.root();
    let back = DEEP.min(tip.height - 1);
    for height in (tip.height - back + 1..=tip.height).rev() {
        store.disconnect(height)?;
    }
    let from = tip.height - back + 1;
    for (height, block) in (1..).zip(&blocks).skip(from as usize - 1) {
        store.connect_block(height, block)?;
    }
    store.flush()?;
    if (store.root(), store.digest()?) != (root, digest) {
        return Err("blocks that were taken back have left a trace".into());
    }
    println!("  {back} blocks taken back and connected again: the same root");

    let flushed = store.durable().unwrap_or_default();
    for (outpoint, is_there) in [(there, true), (spent, false)] {
        let Some(outpoint) = outpoint else { continue };
        let proven = store.prove(&outpoint)?;
        // The verifier's side: root, key, bytes.
        let value =
            hedgerow_proof::verify(&proven.root, &key_of(&outpoint), proven.proof.as_bytes())?;
        let coin = value.map(Coin::decode).transpose()?;
        if coin.is_some() != is_there {
            return Err(format!("{outpoint}: the proof says something else").into());
        }
        let says = coin.map_or("absent".to_owned(), |coin| format!("present, {}", coin.amount()));
        println!("  coin {outpoint} as of block {flushed}: {says}");
    }

    // Somebody else begins with the set instead of the blocks, and knows its hash from elsewhere.
    let snapshot = dir.join("snapshot.dat");
    store.view()?.export(File::create(&snapshot)?, network.magic())?;
    let copy = dir.join("copy");
    let reader = SnapshotReader::new(File::open(&snapshot)?)?;
    let copy = SnapshotImport::new().hash_serialized(hash).run(copy, options, reader)?;
    if copy.digest()? != digest {
        return Err("the copy is another set".into());
    }
    let bytes = std::fs::metadata(&snapshot)?.len();
    println!(
        "  snapshot of {} bytes, in Bitcoin Core's format; imported: the same set\n",
        grouped(bytes)
    );
    copy.close()?;
    Ok(store.close()?)
}
