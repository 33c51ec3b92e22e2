//! Bitcoin's set of unspent coins under one root, with proofs: first an initial sync with the engine of the crate
//! `hedgerow-coins` (`sync.rs`), then real blocks as state changes of a store of one's own making.
//!
//! ```text
//!   store block 1   the coins that the Bitcoin blocks spend and that none of them creates
//!   store block 2   mainnet 300,025     spent coins deleted, new coins created
//!   store block 3   testnet3 928,828
//!   store block 4   testnet3 928,831    then: one coin proved present, one proved absent
//! ```
//!
//! A coin is one unspent output. Its key is the transaction's id (32 bytes, as hashed) and the
//! output's number (u32 little-endian); its value is the amount in satoshi (i64 little-endian) and
//! the script. A coin that is created and spent within one block never appears; one that block
//! 928,828 creates and 928,831 spends is in the store in between. Outputs that can never be spent
//! are coins too: what they are is for the application to say, not for the store.
//!
//! Reading the blocks, and what a coin's key and value are, is in `coins.rs`.
//!
//! Run it with `cargo run --release -p hedgerow-examples --bin bitcoin_utxo -- [DIRECTORY [BLOCKS]]`. The stores, the
//! snapshot and the proofs are left in the directory, which is empty or not there; without one they go to a temporary place.
//! BLOCKS is a file of the first blocks of a chain, such as a `blk00000.dat` of Bitcoin Core; without one the
//! initial sync is that of a regtest chain, which follows from rules.

mod coins;
mod sync;

use bitcoin::hex::DisplayHex;
use coins::{BLOCKS, BitcoinBlock, Change, Result, grouped, key, milliseconds, seed, value};
use hedgerow::{Digest, Options, Store, StoreParams};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let temporary;
    let dir = match env::args_os().nth(1) {
        Some(dir) => {
            fs::create_dir_all(&dir).map_err(|e| format!("creating {}: {e}", dir.display()))?;
            PathBuf::from(dir)
        }
        None => {
            temporary = tempfile::tempdir()?;
            temporary.path().to_owned()
        }
    };

    sync::run(&dir, env::args_os().nth(2).as_deref().map(Path::new))?;

    println!("Reading {} Bitcoin blocks and the coins that they spend", BLOCKS.len());
    let blocks: Vec<BitcoinBlock> = BLOCKS
        .into_iter()
        .map(|(chain, height)| BitcoinBlock::read(chain, height))
        .collect::<Result<_>>()?;
    let changes: Vec<Change> = blocks.iter().map(BitcoinBlock::change).collect();

    let path = dir.join("store");
    let mut store = Store::create(&path, StoreParams::default(), Options::default())?;
    println!("Store created in {}\n", path.display());
    println!(
        "{:<22}{:>7}{:>9}{:>9}{:>9}{:>10}{:>12}  root",
        "block", "txs", "created", "spent", "passing", "root ms", "durable ms"
    );
    apply(&mut store, "coins to be spent", None, &seed(&blocks, &changes)?)?;
    for (block, change) in blocks.iter().zip(&changes) {
        let name = format!("{} {}", block.chain, grouped(block.height));
        apply(&mut store, &name, Some(block.transactions), change)?;
    }
    println!("passing: created and spent within the block, so never in the store\n");

    let last = changes.last().ok_or("there are no blocks")?;
    let root = prove(&store, &dir, last)?;

    let height = store.height();
    let keys = store.stats().keys;
    store.close()?;
    let started = Instant::now();
    let store = Store::open(&path, Options::default())?;
    let took = milliseconds(started.elapsed());
    let reopened = store.reader().root();
    if reopened != (height, root) {
        return Err(format!("reopened at {reopened:?}, expected {:?}", (height, root)).into());
    }
    println!("\nReopened in {took} ms: height {height}, {} coins, the same root", grouped(keys));
    Ok(store.close()?)
}

/// Applies a change as the store's next block and prints its row of the table.
fn apply(
    store: &mut Store,
    name: &str,
    transactions: Option<usize>,
    change: &Change,
) -> Result<()> {
    let started = Instant::now();
    let mut block = store.begin_block(store.height().next())?;
    for outpoint in &change.spent {
        block.delete(key(outpoint))?;
    }
    for (outpoint, coin) in &change.created {
        block.put(key(outpoint), value(coin))?;
    }
    let ticket = block.submit()?;
    let receipt = ticket.receipt()?;
    let published = started.elapsed();
    ticket.durable()?;
    let durable = started.elapsed();
    // Every coin spent was there, and every coin created was new.
    let (created, spent) = (change.created.len() as u64, change.spent.len() as u64);
    if (receipt.created, receipt.deleted, receipt.updated) != (created, spent, 0) {
        return Err(
            format!("{name}: {receipt:?}, expected {created} created, {spent} deleted").into()
        );
    }
    println!(
        "{name:<22}{:>7}{:>9}{:>9}{:>9}{:>10}{:>12}  {}",
        transactions.map_or("-".to_owned(), |count| grouped(count as u64)),
        grouped(created),
        grouped(spent),
        grouped(change.passing as u64),
        milliseconds(published),
        milliseconds(durable),
        receipt.root
    );
    Ok(())
}

/// Proves that a coin that the change created is present and that one it spent is absent, and has
/// both proofs verified by somebody who knows the root alone. Returns the root.
fn prove(store: &Store, dir: &Path, change: &Change) -> Result<Digest> {
    let reader = store.reader();
    let (created, coin) = change.created.first_key_value().ok_or("no coin was created")?;
    let spent = change.spent.first().ok_or("no coin was spent")?;
    let (_, root) = reader.root();
    println!("Proofs under root {root}");
    for (outpoint, expected, file) in
        [(created, Some(value(coin)), "created.proof"), (spent, None, "spent.proof")]
    {
        let proven = reader.prove(key(outpoint))?;
        let path = dir.join(file);
        let failed = |doing, error| format!("{doing} {}: {error}", path.display());
        fs::write(&path, proven.proof.as_bytes()).map_err(|error| failed("writing", error))?;

        // The verifier's side: root, key, bytes.
        let bytes = fs::read(&path).map_err(|error| failed("reading", error))?;
        let started = Instant::now();
        let proved = hedgerow_proof::verify(&root, &key(outpoint), &bytes)?;
        let took = started.elapsed().as_secs_f64() * 1e6;
        if proved != expected.as_deref() {
            return Err(format!("{outpoint}: the proof says something else").into());
        }
        let says = match proved {
            Some(_) => format!("present, {} satoshi", grouped(coin.value.to_sat())),
            None => "absent (spent)".to_owned(),
        };
        println!("  coin {outpoint}: {says}");
        println!("    key 0x{}", key(outpoint).as_hex());
        println!("    {file}: {} bytes, verified in {took:.0} us", grouped(bytes.len() as u64));
    }
    Ok(root)
}
