//! `coins digest`: what everybody who has the same set knows it by.

use super::failure::store_failed;
use super::{Bitcoins, CacheArgs, open_to_ask};
use crate::error::CliError;
use crate::output::Output;
use clap::Args;
use hedgerow_coins::{CoinDigest, SetDigest};
use indicatif::HumanCount;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// Print what the set is known by: the same of everybody who is at the same block
///
/// The fields have the names, the digests the form, and the amount the unit (bitcoin) that they have in Bitcoin Core's
/// `gettxoutsetinfo`. hash_serialized_3 goes through all coins.
#[derive(Debug, Args)]
pub(super) struct DigestArgs {
    /// Directory of the set
    dir: PathBuf,
    #[command(flatten)]
    cache: CacheArgs,
}

/// `{"height", "block", "coins", "total_amount", "muhash", "hash_serialized_3"}`; height and block of a set before the first
/// block are null.
#[derive(Serialize)]
pub(super) struct DigestReport {
    pub(super) height: Option<u32>,
    pub(super) block: Option<String>,
    coins: u64,
    total_amount: Bitcoins,
    muhash: Option<String>,
    hash_serialized_3: String,
}

impl DigestReport {
    pub(super) fn new(digest: &CoinDigest, hash: SetDigest) -> Self {
        Self {
            height: digest.tip.map(|tip| tip.height),
            block: digest.tip.map(|tip| tip.block.to_string()),
            coins: digest.coins,
            total_amount: Bitcoins(digest.total_amount),
            muhash: digest.muhash.map(|muhash| muhash.to_string()),
            hash_serialized_3: hash.to_string(),
        }
    }
}

impl fmt::Display for DigestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { height, block, coins, total_amount, muhash, hash_serialized_3 } = self;
        match (height, block) {
            (Some(height), Some(block)) => {
                writeln!(f, "height             {height}\nblock              {block}")?;
            }
            _ => writeln!(f, "height             none: there is no block yet")?,
        }
        writeln!(f, "coins              {}", HumanCount(*coins))?;
        writeln!(f, "total amount       {total_amount} bitcoin")?;
        if let Some(muhash) = muhash {
            writeln!(f, "muhash             {muhash}")?;
        }
        write!(f, "hash_serialized_3  {hash_serialized_3}")
    }
}

pub(super) fn run(args: &DigestArgs, out: Output) -> Result<(), CliError> {
    let store = open_to_ask(&args.dir, args.cache, out)?;
    let digest = store.digest().map_err(store_failed)?;
    let bar = out.spinner("going through all coins");
    let hash = store.hash_serialized().map_err(store_failed);
    bar.finish_and_clear();
    out.report(&DigestReport::new(&digest, hash?))
}
