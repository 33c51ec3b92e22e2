//! `coins connect`: the blocks of files, in the order of their chain, into a set.
//!
//! ```text
//!   files ─► looked through for headers ─► chain after the tip ─► thread that reads ahead ─► blocks ─► CoinStore
//! ```
//!
//! Whatever ends it early, what was connected stays.

use super::failure::{files_failed, store_failed, while_doing};
use super::transfer::network_of;
use super::{Bitcoins, CacheArgs, NetworkArg, STORE, open};
use crate::error::{CliError, Stopped};
use crate::exit::Kind;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::text::{Counted, as_text};
use clap::Args;
use hedgerow::Digest;
use hedgerow_coins::bitcoin::constants::genesis_block;
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::bitcoin::{Block, Network};
use hedgerow_coins::{
    BlockChain, BlockEffect, BlockFileError, BlockFiles, CoinStore, CoinStoreError, Flush,
};
use indicatif::{HumanCount, ProgressBar};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Blocks that are read ahead.
const AHEAD: usize = 8;
/// Time between two changes of what is shown.
const SHOWN: Duration = Duration::from_millis(200);

/// Connect the blocks of files to a set, or begin one with them
///
/// A file may be a blkNNNNN.dat of Bitcoin Core (masked by its xor.dat or not), one block, blocks in hex, one a line, or any of
/// these packed by bzip2; blocks may be in any order within a file and over the files. The chain with the most work after the
/// set's last block is connected: given the same files again, it goes on where it was. Blocks are not validated beyond what
/// the set needs.
#[derive(Debug, Args)]
pub(super) struct ConnectArgs {
    /// Directory of the set; if there is none, it is begun
    dir: PathBuf,
    /// Files of blocks
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The network, if the files do not say it
    #[arg(long, value_enum)]
    network: Option<NetworkArg>,
    /// Last height to be connected
    #[arg(long, value_name = "H")]
    up_to: Option<u32>,
    /// Flush after each block whose height N divides, and never else, so that the roots depend on the chain alone. When memory
    /// asks, and at the end, unless given
    #[arg(long, value_name = "N")]
    flush_every: Option<NonZeroU32>,
    /// Most megabytes (2^20 bytes) that packed files and hex may come to, all files together: they wait in a temporary file
    #[arg(long, value_name = "N", default_value_t = BlockFiles::UNPACKED_BYTES >> 20, value_parser = clap::value_parser!(u64).range(..=1 << 24))]
    unpack_mb: u64,
    /// Keep no MuHash
    #[arg(long)]
    no_muhash: bool,
    #[command(flatten)]
    cache: CacheArgs,
}

/// What was connected, and what the set is then. `durable` is the height of the last flush, `store_height` and `root` are its
/// block of the store. `stale` blocks are on branches with less work, `others` do not come after the tip.
#[derive(Serialize)]
struct ConnectedReport {
    blocks: u64,
    spent: u64,
    created: u64,
    stale: u64,
    others: u64,
    height: Option<u32>,
    block: Option<String>,
    durable: Option<u32>,
    coins: u64,
    total_amount: Bitcoins,
    store_height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
}

impl fmt::Display for ConnectedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (spent, created) = (Counted(self.spent, "coin"), HumanCount(self.created));
        let blocks = Counted(self.blocks, "block");
        writeln!(f, "connected {blocks}: {spent} spent, {created} created")?;
        if self.stale > 0 {
            writeln!(f, "left out {} on branches with less work", Counted(self.stale, "block"))?;
        }
        if self.blocks == 0 && self.others > 0 {
            let others = Counted(self.others, "block");
            writeln!(f, "no block follows the set's last one, of {others} in the files")?;
        }
        match (self.height, &self.block) {
            (Some(height), Some(block)) => writeln!(f, "height {height}, block {block}")?,
            _ => writeln!(f, "there is no block yet")?,
        }
        writeln!(f, "{}, {} bitcoin", Counted(self.coins, "coin"), self.total_amount)?;
        match self.durable {
            Some(durable) => write!(f, "flushed up to height {durable}, root {}", self.root),
            None => write!(f, "nothing is flushed yet"),
        }
    }
}

pub(super) fn run(args: &ConnectArgs, out: Output) -> Result<(), CliError> {
    let looking = out.spinner("looking through the files");
    let files = BlockFiles::open_with(&args.files, args.unpack_mb << 20);
    looking.finish_and_clear();
    let files = files.map_err(files_failed)?;
    let given = args.network.map(Network::from);
    let network = match (files.network(), given) {
        (Some(found), Some(given)) if found != given => {
            let (found, given) = (found.to_core_arg(), given.to_core_arg());
            let reason = format!("the blocks are of the network {found}, not of {given}");
            return Err(CliError::Arguments(reason));
        }
        (found, given) => given.or(found),
    };
    if network.is_none() && !args.dir.join(STORE).is_dir() {
        return Err(no_network());
    }
    let every = |blocks: NonZeroU32| Flush::Every(blocks.get());
    let flush = args.flush_every.map_or(Flush::WhenFull, every);
    let mut options = args.cache.options().flush(flush).muhash(!args.no_muhash);
    if let Some(network) = network {
        options = options.network(network);
    }
    let mut store = open(&args.dir, options, out)?;
    let interrupt = Interrupt::watch(out, || {})?;
    let before = match store.tip() {
        Some(tip) => tip.block,
        None => {
            let known = network_of(&store).and_then(|magic: Magic| Network::try_from(magic).ok());
            let network = known.ok_or_else(no_network)?;
            // It does nothing, but for saying what the set is of.
            let genesis = genesis_block(network).block_hash();
            store.connect(0, genesis, &BlockEffect::default()).map_err(store_failed)?;
            genesis
        }
    };
    let chain = files.chain_after(before);
    let (stale, others) = (chain.stale() as u64, chain.others() as u64);
    let first = store.height().map_or(0, |height| height.saturating_add(1));
    let most =
        args.up_to.map_or(u64::MAX, |last| (u64::from(last) + 1).saturating_sub(first.into()));
    let total = (chain.blocks() as u64).min(most);
    let bar = out.block_bar(Some(total));
    let mut feeder =
        Feeder { store: &mut store, interrupt, bar, connected: 0, spent: 0, created: 0 };
    let ended = read_ahead(chain).and_then(|blocks| feeder.run(first, &blocks, total));
    feeder.bar.finish_and_clear();
    let (blocks, spent, created) = (feeder.connected, feeder.spent, feeder.created);
    let flushing = out.spinner("flushing");
    let report = finish(store);
    flushing.finish_and_clear();
    match (ended, report) {
        (Ok(()), Ok(after)) => {
            out.report(&ConnectedReport { blocks, spent, created, stale, others, ..after })
        }
        (Err(source), Ok(after)) => {
            let resume = "the same command goes on from there".to_owned();
            let at = Stopped {
                blocks,
                height: after.height.unwrap_or_default().into(),
                root: Some(after.root),
                resume,
            };
            Err(CliError::Stopped { source: Box::new(source), at })
        }
        // It says what is the matter with the store.
        (Err(error), Err(_)) | (Ok(()), Err(error)) => Err(error),
    }
}

/// Flushes what may be flushed, and closes the set.
fn finish(mut store: CoinStore) -> Result<ConnectedReport, CliError> {
    let durable = store.flush().map_err(store_failed)?;
    let (tip, (store_height, root)) = (store.tip(), store.root());
    let view = store.view().map_err(store_failed)?;
    let (coins, total_amount) = (view.coins(), Bitcoins(view.total_amount()));
    drop(view);
    store.close().map_err(store_failed)?;
    Ok(ConnectedReport {
        blocks: 0,
        spent: 0,
        created: 0,
        stale: 0,
        others: 0,
        height: tip.map(|tip| tip.height),
        block: tip.map(|tip| tip.block.to_string()),
        durable,
        coins,
        total_amount,
        store_height: store_height.0,
        root,
    })
}

/// Blocks of a chain, read and checked in a thread of its own.
fn read_ahead(chain: BlockChain) -> Result<Receiver<Result<Block, BlockFileError>>, CliError> {
    let (send, blocks) = sync_channel(AHEAD);
    let reading = move || {
        for block in chain {
            if send.send(block).is_err() {
                return;
            }
        }
    };
    match thread::Builder::new().name("read".into()).spawn(reading) {
        Ok(_) => Ok(blocks),
        Err(error) => Err(CliError::no_thread(&error)),
    }
}

/// Hands blocks in.
struct Feeder<'a> {
    store: &'a mut CoinStore,
    interrupt: Interrupt,
    bar: ProgressBar,
    connected: u64,
    spent: u64,
    created: u64,
}

impl Feeder<'_> {
    fn run(
        &mut self,
        first: u32,
        blocks: &Receiver<Result<Block, BlockFileError>>,
        total: u64,
    ) -> Result<(), CliError> {
        let began = Instant::now();
        let mut shown = began;
        for height in first.. {
            if self.connected == total {
                return Ok(());
            }
            self.interrupt.check()?;
            // The reader ends with the last block, or with an error.
            let Ok(block) = blocks.recv() else { return Err(reader_ended()) };
            let block = block.map_err(files_failed)?;
            let done = self.store.connect_block(height, &block).map_err(|error| match error {
                // Whatever it is, it is not this block's fault.
                CoinStoreError::Flush(_) | CoinStoreError::Stopped => store_failed(error),
                error => while_doing(format!("block {height} {}", block.block_hash()))(error),
            })?;
            self.connected += 1;
            self.spent += done.spent;
            self.created += done.created;
            if shown.elapsed() >= SHOWN {
                shown = Instant::now();
                self.show(height, began.elapsed());
            }
        }
        Ok(())
    }

    fn show(&self, height: u32, elapsed: Duration) {
        let cache = self.store.stats().cache;
        let seconds = elapsed.as_secs_f64().max(1e-3);
        let blocks = HumanCount((self.connected as f64 / seconds) as u64);
        let coins = HumanCount(((self.spent + self.created) as f64 / seconds) as u64);
        let full = cache.used_bytes.saturating_mul(100) / cache.limit_bytes.max(1);
        let hits = cache.clean_hits + cache.dirty_hits + cache.flushing_hits;
        let found = hits.saturating_mul(100) / (hits + cache.misses).max(1);
        let rates = format!("{blocks} blocks/s, {coins} coins/s");
        let cache = format!("cache {full} % full, {found} % found in it");
        self.bar.set_message(format!("connecting {height}: {rates}; {cache}"));
        self.bar.set_position(self.connected);
    }
}

fn no_network() -> CliError {
    let reason = "the blocks do not say of which network they are: --network says it";
    CliError::Arguments(reason.to_owned())
}

fn reader_ended() -> CliError {
    CliError::Coins {
        doing: Some("the thread that reads blocks ended too early".to_owned()),
        kind: Kind::Failed,
        what_now: None,
        source: None,
    }
}
