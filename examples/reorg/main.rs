//! A reorganisation: two branches of three blocks each, both known with their roots and proofs before the node
//! decides between them.
//!
//! ```text
//!   store block 1   the coins that the Bitcoin blocks spend and that none of them creates
//!      ├─► mainnet 300,025  ─► testnet3 928,828 ─► testnet3 928,831     the branch that came first
//!      └─► testnet3 928,828 ─► testnet3 928,831 ─► mainnet 300,025      its rival, which becomes the chain
//! ```
//!
//! Real blocks, in two orders: the coins are the same after either branch, the roots are not, since a root commits to
//! the blocks. Nothing is written for a branch until it is accepted, and accepting computes nothing again; the branch
//! that is not chosen is gone when its blocks are dropped.
//!
//! Run it with `cargo run --release -p hedgerow-examples --bin reorg`.

#[path = "../bitcoin_utxo/coins.rs"]
mod coins;

use coins::{BLOCKS, BitcoinBlock, Change, Result, grouped, key, milliseconds, seed, value};
use hedgerow::{Digest, Error, Options, Speculative, Store, StoreParams};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

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
    let dir = tempfile::tempdir()?;
    let blocks: Vec<BitcoinBlock> = BLOCKS
        .into_iter()
        .map(|(chain, height)| BitcoinBlock::read(chain, height))
        .collect::<Result<_>>()?;
    let changes: Vec<Change> = blocks.iter().map(BitcoinBlock::change).collect();
    let seed = seed(&blocks, &changes)?;
    let mut store = seeded(&dir.path().join("store"), &seed)?;
    println!("{} coins in store block 1, root {}", grouped(store.stats().keys), root(&store));

    // Both branches, as blocks that nobody has to have decided on.
    let first = branch(&store, "first", &blocks, &changes, [0, 1, 2])?;
    let rival = branch(&store, "rival", &blocks, &changes, [1, 2, 0])?;
    let bytes = store.stats().speculation_bytes;
    println!("\nSix speculative blocks take {} bytes of memory; the log has none", grouped(bytes));
    if root(&store) == tip(&first)?.root() || tip(&first)?.root() == tip(&rival)?.root() {
        return Err("a root that cannot be".into());
    }

    // What a wallet asks before it is decided: is the coin there, in the one and in the other?
    let last = changes.last().ok_or("there are no blocks")?;
    let (created, coin) = last.created.first_key_value().ok_or("no coin was created")?;
    for (name, branch) in [("first", &first), ("rival", &rival)] {
        let block = tip(branch)?;
        let proven = block.prove(key(created))?;
        let proved = hedgerow_proof::verify(&block.root(), &key(created), &proven.proof)?;
        if proved != Some(&value(coin)[..]) {
            return Err(format!("the proof of the branch {name} says something else").into());
        }
        println!("Proved under the root of the branch {name}: coin {created} is there");
    }

    // The rival wins.
    let started = Instant::now();
    let root_of_rival = tip(&rival)?.root();
    for block in rival {
        store.accept(block)?;
    }
    let accepted = started.elapsed();
    store.flush()?;
    let took = milliseconds(accepted);
    println!("\nThe rival is the chain: three blocks accepted in {took} ms, and durable now");
    if root(&store) != root_of_rival {
        return Err("the chain has another root than the branch".into());
    }
    for block in &first {
        if !matches!(block.get(key(created)), Err(Error::Stale { .. })) {
            return Err("a block of the first branch still answers".into());
        }
    }
    drop(first);

    // Somebody who never heard of the first branch comes to the same.
    let mut other = seeded(&dir.path().join("other"), &seed)?;
    for number in [1, 2, 0] {
        let change = changes.get(number).ok_or("there are fewer blocks")?;
        let mut block = other.next_block()?;
        for (key, value) in puts_and_deletes(change) {
            match value {
                Some(value) => block.put(key, value)?,
                None => block.delete(key)?,
            }
        }
        block.commit()?;
    }
    if root(&other) != root(&store) {
        return Err("a node that had only the rival has another root".into());
    }
    println!("A node that never had the first branch has the same root {}", root(&store));
    store.check()?;
    other.close()?;
    Ok(store.close()?)
}

/// A store with the coins to be spent.
fn seeded(path: &Path, seed: &Change) -> Result<Store> {
    let mut store = Store::create(path, StoreParams::default(), Options::default())?;
    let mut block = store.next_block()?;
    for (outpoint, coin) in &seed.created {
        block.put(key(outpoint), value(coin))?;
    }
    block.commit()?;
    Ok(store)
}

fn root(store: &Store) -> Digest {
    store.reader().root().1
}

/// The last block of a branch.
fn tip(branch: &[Speculative]) -> Result<&Speculative> {
    branch.last().ok_or_else(|| "an empty branch".into())
}

/// What a Bitcoin block does, as operations on keys.
fn puts_and_deletes(change: &Change) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
    let deletes = change.spent.iter().map(|outpoint| (key(outpoint), None));
    let puts = change.created.iter().map(|(outpoint, coin)| (key(outpoint), Some(value(coin))));
    deletes.chain(puts)
}

/// Makes a branch of speculative blocks on the store's last block.
fn branch(
    store: &Store,
    name: &str,
    blocks: &[BitcoinBlock],
    changes: &[Change],
    order: [usize; 3],
) -> Result<Vec<Speculative>> {
    println!("\nThe branch {name}");
    let mut branch: Vec<Speculative> = Vec::new();
    for number in order {
        let (Some(bitcoin), Some(change)) = (blocks.get(number), changes.get(number)) else {
            return Err("there are fewer blocks".into());
        };
        let mut block = store.speculate(branch.last())?;
        for (key, value) in puts_and_deletes(change) {
            match value {
                Some(value) => block.put(key, value)?,
                None => block.delete(key)?,
            }
        }
        let block = block.finish()?;
        let receipt = block.receipt();
        let (created, spent) = (change.created.len() as u64, change.spent.len() as u64);
        if (receipt.created, receipt.deleted, receipt.updated) != (created, spent, 0) {
            return Err(format!("{receipt:?}, expected {created} and {spent} deleted").into());
        }
        println!(
            "  height {} {:<18} {:>6} txs {:>6} created {:>6} spent  root {}",
            block.height(),
            format!("{} {}", bitcoin.chain, grouped(bitcoin.height)),
            grouped(bitcoin.transactions as u64),
            grouped(created),
            grouped(spent),
            block.root(),
        );
        branch.push(block);
    }
    Ok(branch)
}
