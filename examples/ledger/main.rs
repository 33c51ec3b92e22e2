//! A ledger: accounts, transfers that may be refused, blocks, a proof for a customer, and a crash.
//!
//! ```text
//!   chain of blocks (from consensus)          store
//!   ┌────┬────┬────┬────┐   apply one by one  height 1, 2, ...   each with the chain's id of its block
//!   │ id │ id │ id │ .. │ ──────────────────► balance of each account
//!   └────┴────┴────┴────┘        ▲
//!              which is the next one? ◄────── height, and the id that the store has for it
//! ```
//!
//! What to copy: [`apply`], how a block of the application becomes a block of the store and who decides what is
//! refused; and [`resume`], how a node finds out with which block to go on, whatever happened to it before.
//!
//! Run it with `cargo run --release -p hedgerow-examples --bin ledger`. A second process, which this one
//! starts, ends in the middle of its work: that is the crash.

use hedgerow::{Digest, Height, Options, Store, StoreParams, Ticket};
use std::path::Path;
use std::process::Command;
use std::{env, error::Error};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// What the process that is to crash ends with.
const CRASHED: i32 = 17;

/// A block as the chain has it: its id (a hash in real life), new money, transfers.
struct ChainBlock {
    id: String,
    issue: Vec<(&'static str, u64)>,
    transfers: Vec<Transfer>,
}

#[derive(Clone, Debug, PartialEq)]
struct Transfer {
    from: &'static str,
    to: &'static str,
    amount: u64,
}

/// The blocks that the network agreed on. The second has a transfer that cannot be.
fn chain() -> Vec<ChainBlock> {
    let transfer = |from, to, amount| Transfer { from, to, amount };
    let issue = vec![("alice", 100), ("bob", 20)];
    let mut blocks = vec![
        ChainBlock { id: "genesis".into(), issue, transfers: vec![] },
        ChainBlock {
            id: "block-2".into(),
            issue: vec![],
            transfers: vec![transfer("alice", "carol", 30), transfer("bob", "carol", 21)],
        },
    ];
    for number in 3..=60 {
        let transfers = vec![transfer("carol", "bob", 1), transfer("bob", "alice", 1)];
        // Carol's 30 are gone after 30 of these: then the first transfer is refused each time.
        blocks.push(ChainBlock { id: format!("block-{number}"), issue: vec![], transfers });
    }
    blocks
}

fn account(name: &str) -> String {
    format!("account/{name}")
}

/// A balance is 8 bytes, little-endian; an account that is absent has nothing.
fn balance(value: Option<&[u8]>) -> Result<u64> {
    match value {
        None => Ok(0),
        Some(bytes) => Ok(u64::from_le_bytes(bytes.try_into()?)),
    }
}

/// Makes a block of the chain the store's next block. Returns its ticket and the transfers that were refused.
fn apply(store: &mut Store, from_chain: &ChainBlock) -> Result<(Ticket, Vec<Transfer>)> {
    let mut block = store.next_block()?;
    for (name, amount) in &from_chain.issue {
        let has = balance(block.get(account(name))?.as_deref())?;
        block.put(account(name), (has + amount).to_le_bytes())?;
    }
    let mut refused = vec![];
    for transfer in &from_chain.transfers {
        // `get` sees what this block did so far. What may be done is the application's to say, not the store's.
        let from = balance(block.get(account(transfer.from))?.as_deref())?;
        let Some(left) = from.checked_sub(transfer.amount) else {
            refused.push(transfer.clone());
            continue;
        };
        block.put(account(transfer.from), left.to_le_bytes())?;
        // After the sender's, for whoever sends to himself.
        let to = balance(block.get(account(transfer.to))?.as_deref())?;
        block.put(account(transfer.to), (to + transfer.amount).to_le_bytes())?;
    }
    // In no root, but kept with the block, durable with it and never without it.
    block.set_extra(from_chain.id.as_bytes())?;
    Ok((block.submit()?, refused))
}

/// Which block of the chain comes next, by its place. The store has a prefix of what was submitted: all that was
/// durable, perhaps more, and no block in part.
fn resume(store: &Store, chain: &[ChainBlock]) -> Result<usize> {
    let Height(height) = store.height();
    let next = usize::try_from(height)?;
    if let Some(last) = next.checked_sub(1) {
        let row = store.reader().history(Height(height))?;
        if chain.get(last).is_none_or(|block| block.id.as_bytes() != row.extra) {
            return Err(format!("height {height} of this store is no block of this chain").into());
        }
    }
    Ok(next)
}

/// Everything of the chain that the store lacks; waits until it is durable.
fn catch_up(store: &mut Store, chain: &[ChainBlock]) -> Result<()> {
    let mut last = None;
    for block in &chain[resume(store, chain)?..] {
        last = Some(apply(store, block)?.0);
    }
    // A block is durable after all before it.
    Ok(last.map_or(Ok(()), |ticket| ticket.durable())?)
}

fn main() -> Result<()> {
    let chain = chain();
    let open =
        |path: &Path| Store::open_or_create(path, StoreParams::default(), Options::default());
    if let Some(path) = env::args_os().nth(1) {
        // The process that crashes: it begins like any other, and nobody closes the store.
        let mut store = open(path.as_ref())?;
        for block in &chain[resume(&store, &chain)?..40] {
            apply(&mut store, block)?;
        }
        std::process::exit(CRASHED);
    }
    let temporary = tempfile::tempdir()?;
    let path = temporary.path().join("ledger");

    let mut store = open(&path)?;
    let (genesis, _) = apply(&mut store, &chain[0])?;
    println!("{:?}", genesis.receipt()?);
    let (second, refused) = apply(&mut store, &chain[1])?;
    let receipt = second.receipt()?;
    println!("{receipt:?}\nrefused: {refused:?}");
    assert_eq!((receipt.created, receipt.updated), (1, 1), "carol's account, alice's balance");
    assert_eq!(refused, [Transfer { from: "bob", to: "carol", amount: 21 }]);

    // A customer has the root from the chain's header, and a proof from anybody. Absence is proved too.
    let proof = store.reader().prove(account("carol"))?.proof;
    let root: Digest = receipt.root;
    let says = hedgerow_proof::verify(&root, account("carol").as_bytes(), proof.as_bytes())?;
    assert_eq!(balance(says)?, 30);
    let absent = store.reader().prove(account("dave"))?.proof;
    assert_eq!(hedgerow_proof::verify(&root, account("dave").as_bytes(), &absent)?, None);
    println!("proved: carol has 30, dave has no account");

    second.durable()?; // only now may the node tell anybody that it has the block
    store.close()?;
    let store = open(&path)?;
    assert_eq!(store.reader().root(), (Height(2), root), "closed and opened again");
    store.close()?;

    let crashed = Command::new(env::current_exe()?).arg(&path).status()?;
    assert_eq!(crashed.code(), Some(CRASHED), "the other process ends as it should not");
    let mut store = open(&path)?;
    let next = resume(&store, &chain)?;
    assert!((2..=40).contains(&next), "what was durable is there, what was never submitted is not");
    println!("after the crash the store has {next} blocks of 40; going on with {}", chain[next].id);
    catch_up(&mut store, &chain)?;

    // No trace of it in the root: it is that of a node which never crashed. And no money was lost.
    let mut other = open(&temporary.path().join("other"))?;
    catch_up(&mut other, &chain)?;
    assert_eq!(store.reader().root(), other.reader().root());
    let view = store.reader().view();
    let mut total = 0;
    for pair in view.iter() {
        total += balance(Some(&pair?.1))?;
    }
    assert_eq!(total, 120);
    println!("height {}, root {}, {total} in all", view.height(), view.root());
    other.close()?;
    Ok(store.close()?)
}
