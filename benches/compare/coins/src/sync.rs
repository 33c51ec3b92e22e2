//! The run: blocks are made and connected; then the set is read from the disk and compared.

use crate::engine::{Engine, Failure, Opener};
use crate::report::Report;
use hedgerow_benches::spending::{MadeCoin, Outpoint, Spending};
use hedgerow_benches::usage::{Meter, disk_bytes, peak_memory};
use hedgerow_coins::bitcoin::hashes::Hash;
use hedgerow_coins::bitcoin::{Amount, OutPoint, ScriptBuf, Txid};
use hedgerow_coins::{BlockEffect, Coin, MuHash, SetDigest, write_element};
use nix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::{Duration, Instant};

/// Coins that are multiplied into a MuHash at once.
const MULTIPLIED_AT_ONCE: usize = 1 << 15;

/// What is synced.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Blocks.
    pub blocks: u32,
    /// Transactions of each.
    pub transactions: u32,
    /// What all of it follows from.
    pub seed: u64,
}

/// What is known of a set: number of coins, their amounts together, MuHash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetFigures {
    /// Coins.
    pub coins: u64,
    /// In satoshi.
    pub total_amount: u64,
    /// MuHash of all of them.
    pub muhash: SetDigest,
}

/// Adds up coins.
struct Adder {
    coins: u64,
    total_amount: u64,
    product: MuHash,
    waiting: Vec<(OutPoint, Coin)>,
}

impl Adder {
    const fn new() -> Self {
        Self { coins: 0, total_amount: 0, product: MuHash::new(), waiting: Vec::new() }
    }

    fn add(&mut self, outpoint: OutPoint, coin: Coin) {
        self.coins += 1;
        self.total_amount += coin.amount().to_sat();
        self.waiting.push((outpoint, coin));
        if self.waiting.len() >= MULTIPLIED_AT_ONCE {
            self.multiply();
        }
    }

    fn multiply(&mut self) {
        let element = |(outpoint, coin): &(OutPoint, Coin), out: &mut Vec<u8>| {
            write_element(outpoint, coin, out)
        };
        self.product.combine(&MuHash::net(&self.waiting, &[], element));
        self.waiting.clear();
    }

    fn figures(mut self) -> SetFigures {
        self.multiply();
        SetFigures {
            coins: self.coins,
            total_amount: self.total_amount,
            muhash: self.product.digest(),
        }
    }
}

fn outpoint((txid, vout): Outpoint) -> OutPoint {
    OutPoint { txid: Txid::from_byte_array(txid), vout }
}

fn coin(height: u32, made: MadeCoin) -> Result<(OutPoint, Coin), Failure> {
    let MadeCoin { outpoint: name, coinbase, amount, script } = made;
    let coin = Coin::new(height, coinbase, Amount::from_sat(amount), ScriptBuf::from_bytes(script));
    let coin = coin.map_err(|error| Failure::Wrong(error.to_string()))?;
    Ok((outpoint(name), coin))
}

/// CPU time of this thread, to the nanosecond.
fn thread_time() -> Result<Duration, Failure> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(std::io::Error::from)?;
    Ok(Duration::from(time))
}

/// The set as the blocks themselves say it must be.
///
/// # Errors
/// A coin that cannot be in a set.
pub fn expected(spending: &Spending) -> Result<SetFigures, Failure> {
    let mut adder = Adder::new();
    for (height, made) in spending.unspent() {
        let (outpoint, coin) = coin(height, made)?;
        adder.add(outpoint, coin);
    }
    Ok(adder.figures())
}

/// The set as an engine has it on the disk.
///
/// # Errors
/// A failed read.
pub fn found(engine: &dyn Engine) -> Result<SetFigures, Failure> {
    let mut adder = Adder::new();
    engine.each(&mut |outpoint, coin| {
        adder.add(outpoint, coin);
        Ok(())
    })?;
    Ok(adder.figures())
}

/// Syncs a workload with the engine that `open` makes in `dir`, and compares what is on the disk afterwards with what the blocks
/// say.
///
/// # Errors
/// What the engine says; a set that is not as it must be.
pub fn run(
    name: &str,
    open: &Opener<'_>,
    dir: &Path,
    workload: Workload,
) -> Result<Report, Failure> {
    let Workload { blocks, transactions, seed } = workload;
    let mut engine = open(dir)?;
    let mut spending = Spending::with_transactions(seed, transactions);
    let (mut created, mut spent, mut spent_amount) = (0, 0, 0);
    let (mut working, mut making) = (Duration::ZERO, Duration::ZERO);
    let meter = Meter::read().map_err(Failure::Io)?;
    for _ in 0..blocks {
        let before = thread_time()?;
        let Some(block) = spending.next() else { break };
        let height = block.height;
        let effect = BlockEffect {
            spent: block.spent.into_iter().map(outpoint).collect(),
            created: block
                .made
                .into_iter()
                .map(|made| coin(height, made))
                .collect::<Result<_, _>>()?,
            passing: 0,
        };
        created += effect.created.len() as u64;
        spent += effect.spent.len() as u64;
        making += thread_time()?.saturating_sub(before);

        let begin = Instant::now();
        let inputs = engine.inputs(&effect.spent)?;
        engine.connect(height, &effect)?;
        working += begin.elapsed();

        let before = thread_time()?;
        for (outpoint, input) in effect.spent.iter().zip(inputs) {
            let missing =
                || Failure::Wrong(format!("{outpoint} is spent at {height}, and not there"));
            spent_amount += input.ok_or_else(missing)?.amount().to_sat();
        }
        drop(effect);
        making += thread_time()?.saturating_sub(before);
    }
    let begin = Instant::now();
    engine.finish()?;
    working += begin.elapsed();
    let cost = meter.since().map_err(Failure::Io)?;
    let peak = peak_memory();
    let figures = engine.figures();
    let kept = engine.stands_at()?;
    engine.close()?;
    let bytes = disk_bytes(dir)?;

    let set = expected(&spending)?;
    let engine = open(dir)?;
    check(&*engine, set, workload, kept)?;
    engine.close()?;
    Ok(Report::new(
        name,
        workload,
        (created, spent, spent_amount),
        (cost, working, making),
        peak,
        bytes,
        figures,
        set,
    ))
}

/// Compares.
fn check(
    engine: &dyn Engine,
    set: SetFigures,
    workload: Workload,
    (height, kept): (Option<u32>, Option<String>),
) -> Result<(), Failure> {
    let wrong = |what: &str, is: String, must: String| {
        Err(Failure::Wrong(format!("{what} is {is}, and must be {must}")))
    };
    let (opened_at, opened_with) = engine.stands_at()?;
    if height != Some(workload.blocks) || opened_at != height {
        return wrong(
            "the height before and after opening anew",
            format!("{height:?}, {opened_at:?}"),
            workload.blocks.to_string(),
        );
    }
    let found = found(engine)?;
    if found != set {
        return wrong("the set on the disk", format!("{found:?}"), format!("{set:?}"));
    }
    for muhash in [kept, opened_with].into_iter().flatten() {
        if muhash != set.muhash.to_string() {
            return wrong("the MuHash that was kept", muhash, set.muhash.to_string());
        }
    }
    Ok(())
}
