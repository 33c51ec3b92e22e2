//! `coins prove`: that a coin is there, or that it is not, against the root of the last flush.

use super::failure::store_failed;
use super::{Bitcoins, CacheArgs, open_to_ask};
use crate::error::CliError;
use crate::exit::Kind;
use crate::outfile::{ForceArg, OutFile};
use crate::output::Output;
use crate::text::{Hex, as_text};
use clap::Args;
use hedgerow::Digest;
use hedgerow_coins::bitcoin::OutPoint;
use hedgerow_coins::{Coin, key_of};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// Write a proof of what the last flush has under the name of a coin: the coin, or none
///
/// `hedgerow verify --root HEX --key KEY FILE` checks it, with the key that is printed here.
#[derive(Debug, Args)]
pub(super) struct ProveArgs {
    /// Directory of the set
    dir: PathBuf,
    /// The coin: transaction id and number of the output
    #[arg(value_name = "TXID:VOUT")]
    outpoint: OutPoint,
    /// File to write the proof to, - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    force: ForceArg,
    #[command(flatten)]
    cache: CacheArgs,
}

/// A coin; its script in hex.
#[derive(Serialize)]
struct CoinReport {
    height: u32,
    coinbase: bool,
    amount: Bitcoins,
    script: String,
}

/// `height` is that of the last block of the flush, `store_height` that of the flush's block of the store; `coin` and
/// `value` are null if it is not there.
#[derive(Serialize)]
struct ProvenReport<'a> {
    outpoint: String,
    height: Option<u32>,
    store_height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    key: Hex<'a>,
    present: bool,
    value: Option<Hex<'a>>,
    coin: Option<CoinReport>,
    proof_bytes: usize,
}

impl fmt::Display for ProvenReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.coin {
            Some(CoinReport { height, coinbase, amount, script }) => {
                let coinbase = if *coinbase { ", of a coinbase" } else { "" };
                writeln!(
                    f,
                    "present: {amount} bitcoin of block {height}{coinbase}, script {script}"
                )?;
            }
            None => writeln!(f, "absent")?,
        }
        if let Some(height) = self.height {
            writeln!(f, "as of block {height}")?;
        }
        let Self { key, root, store_height, proof_bytes, .. } = self;
        writeln!(f, "key {key}\nheight {store_height} of the store, root {root}")?;
        write!(f, "proof of {proof_bytes} bytes")
    }
}

pub(super) fn run(args: &ProveArgs, out: Output) -> Result<(), CliError> {
    let store = open_to_ask(&args.dir, args.cache, out)?;
    let (height, key) = (store.durable(), key_of(&args.outpoint));
    let proven = store.prove(&args.outpoint).map_err(store_failed)?;
    let proof = proven.proof.as_bytes();
    // What the proof says is taken from the proof itself.
    let value = hedgerow_proof::verify(&proven.root, &key, proof).map_err(|source| {
        let (input, key) = ("the proof".to_owned(), Hex(&key).to_string());
        CliError::NotProved { input, key, root: proven.root, source }
    })?;
    let coin = value.map(Coin::decode).transpose().map_err(|source| CliError::Coins {
        doing: Some(format!("what is stored as {} is no coin", args.outpoint)),
        kind: Kind::Damaged,
        what_now: None,
        source: Some(Box::new(source)),
    })?;
    let report = ProvenReport {
        outpoint: args.outpoint.to_string(),
        height,
        store_height: proven.height.0,
        root: proven.root,
        key: Hex(&key),
        present: value.is_some(),
        value: value.map(Hex),
        coin: coin.map(|coin| CoinReport {
            height: coin.height(),
            coinbase: coin.is_coinbase(),
            amount: Bitcoins(coin.amount()),
            script: coin.script().to_hex_string(),
        }),
        proof_bytes: proof.len(),
    };
    match &args.output {
        Some(output) => {
            OutFile::write(output, args.force, proof)?;
            out.report_beside(output, &report)
        }
        None => out.report(&report),
    }
}
