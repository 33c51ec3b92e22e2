//! `coins stat`: figures of a set and of its store.

use super::failure::store_failed;
use super::{Bitcoins, CacheArgs, Named, open_to_ask};
use crate::error::CliError;
use crate::output::Output;
use crate::text::{Counted, as_text};
use clap::Args;
use hedgerow::Digest;
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// Print figures of a set
#[derive(Debug, Args)]
pub(super) struct StatArgs {
    /// Directory of the set
    dir: PathBuf,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Sizes in bytes. `height` and `block` are null before the first block, `durable` before the first flush.
#[derive(Serialize)]
struct StatReport {
    network: Option<String>,
    height: Option<u32>,
    block: Option<String>,
    /// Up to here the store has it; what is above is in the records of blocks.
    durable: Option<u32>,
    coins: u64,
    total_amount: Bitcoins,
    /// Of the last flush, which is this block of the store.
    store_height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    records: u64,
    record_bytes: u64,
    log_bytes: u64,
    index_bytes: usize,
    tree_bytes: usize,
}

impl fmt::Display for StatReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "network       {}", self.network.as_deref().unwrap_or("not known"))?;
        match (self.height, &self.block) {
            (Some(height), Some(block)) => {
                writeln!(f, "height        {height}\nblock         {block}")?
            }
            _ => writeln!(f, "height        none: there is no block yet")?,
        }
        match self.durable {
            Some(durable) => writeln!(f, "flushed       up to height {durable}")?,
            None => writeln!(f, "flushed       nothing yet")?,
        }
        writeln!(f, "coins         {}", HumanCount(self.coins))?;
        writeln!(f, "total amount  {} bitcoin", self.total_amount)?;
        writeln!(f, "root          {} of block {} of the store", self.root, self.store_height)?;
        let (records, bytes) = (Counted(self.records, "block"), HumanBytes(self.record_bytes));
        writeln!(f, "records       of {records}, {bytes}")?;
        writeln!(f, "log           {}", HumanBytes(self.log_bytes))?;
        writeln!(f, "index         {} of memory", HumanBytes(self.index_bytes as u64))?;
        write!(f, "trees         {} of memory", HumanBytes(self.tree_bytes as u64))
    }
}

pub(super) fn run(args: &StatArgs, out: Output) -> Result<(), CliError> {
    let store = open_to_ask(&args.dir, args.cache, out)?;
    let (stats, (store_height, root)) = (store.stats(), store.root());
    let (tip, view) = (store.tip(), store.view().map_err(store_failed)?);
    out.report(&StatReport {
        network: super::transfer::network_of(&store).map(|magic| Named(magic).to_string()),
        height: tip.map(|tip| tip.height),
        block: tip.map(|tip| tip.block.to_string()),
        durable: store.durable(),
        coins: view.coins(),
        total_amount: Bitcoins(view.total_amount()),
        store_height: store_height.0,
        root,
        records: stats.records,
        record_bytes: stats.record_bytes,
        log_bytes: stats.store.log.bytes,
        index_bytes: stats.store.index_bytes,
        tree_bytes: stats.store.tree_bytes,
    })
}
