//! `coins`: a set of Bitcoin's unspent coins.
//!
//! ```text
//!   connect   block files ─► blocks in order ─► CoinStore          digest, stat    CoinStore ─► what it is known by
//!   import    snapshot ─► compared ─► CoinStore                    export          CoinStore ─► snapshot
//!                                                                  prove           CoinStore ─► proof against the root
//! ```
//!
//! **Invariant:** what only asks flushes nothing: the roots of a store depend on `connect` and `import` alone.

mod connect;
mod digest;
mod failure;
mod prove;
mod stat;
mod transfer;

use super::Output;
use crate::error::CliError;
use crate::exit::Kind;
use crate::output::follow;
use clap::{Args, Subcommand, ValueEnum};
use failure::store_failed;
use hedgerow::Options;
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::bitcoin::{Amount, Network};
use hedgerow_coins::{CoinOptions, CoinStore, Flush};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt;
use std::path::Path;

/// Keep a set of Bitcoin's unspent coins: from blocks or from a snapshot, with digests and proofs
///
/// The directory of a set is one of its own: the store that `hedgerow` otherwise works on is in its directory store/.
#[derive(Debug, Args)]
pub(crate) struct CoinsArgs {
    #[command(subcommand)]
    command: CoinsCommand,
}

#[derive(Debug, Subcommand)]
enum CoinsCommand {
    Connect(connect::ConnectArgs),
    Digest(digest::DigestArgs),
    Export(transfer::ExportArgs),
    Import(transfer::ImportArgs),
    Prove(prove::ProveArgs),
    Stat(stat::StatArgs),
}

pub(super) fn run(args: &CoinsArgs, out: Output) -> Result<(), CliError> {
    match &args.command {
        CoinsCommand::Connect(args) => connect::run(args, out),
        CoinsCommand::Digest(args) => digest::run(args, out),
        CoinsCommand::Export(args) => transfer::export(args, out),
        CoinsCommand::Import(args) => transfer::import(args, out),
        CoinsCommand::Prove(args) => prove::run(args, out),
        CoinsCommand::Stat(args) => stat::run(args, out),
    }
}

/// What every command that opens a set can be told.
#[derive(Clone, Copy, Debug, Args)]
struct CacheArgs {
    /// Megabytes (2^20 bytes) of memory for coins that wait for a flush, and for those that were read
    #[arg(long, value_name = "N", default_value_t = 450, value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    cache_mb: u64,
}

impl CacheArgs {
    fn options(self) -> CoinOptions {
        CoinOptions::new().cache_bytes(self.cache_mb << 20)
    }
}

/// A network by the name that Bitcoin Core gives its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum NetworkArg {
    Main,
    Test,
    Testnet4,
    Signet,
    Regtest,
}

impl From<NetworkArg> for Network {
    fn from(arg: NetworkArg) -> Self {
        match arg {
            NetworkArg::Main => Self::Bitcoin,
            NetworkArg::Test => Self::Testnet,
            NetworkArg::Testnet4 => Self::Testnet4,
            NetworkArg::Signet => Self::Signet,
            NetworkArg::Regtest => Self::Regtest,
        }
    }
}

/// The name of a network, or the bytes that begin its messages.
struct Named(Magic);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Network::try_from(self.0) {
            Ok(network) => f.write_str(network.to_core_arg()),
            Err(_) => self.0.fmt(f),
        }
    }
}

/// Opens a set, or begins one; a bar follows the reading of its store's log.
fn open(dir: &Path, options: CoinOptions, out: Output) -> Result<CoinStore, CliError> {
    let bar = out.log_bar("opening");
    let options = options.store(Options::new().on_progress(follow(&bar)));
    let store = CoinStore::open(dir, options);
    bar.finish_and_clear();
    store.map_err(store_failed)
}

/// Opens a set that is there, to ask it: nothing is flushed, whatever there is to flush.
fn open_to_ask(dir: &Path, cache: CacheArgs, out: Output) -> Result<CoinStore, CliError> {
    if !dir.join(STORE).is_dir() {
        return Err(CliError::Coins {
            doing: Some(format!("there is no set of coins in {}", dir.display())),
            kind: Kind::NoStore,
            what_now: Some("`hedgerow coins connect` and `hedgerow coins import` make one"),
            source: None,
        });
    }
    open(dir, cache.options().flush(Flush::Every(u32::MAX)), out)
}

/// The directory of a set's store.
const STORE: &str = "store";

/// An amount as Bitcoin Core shows it: in bitcoin, with eight decimals.
#[derive(Clone, Copy)]
struct Bitcoins(Amount);

impl fmt::Display for Bitcoins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = Amount::ONE_BTC.to_sat();
        let satoshi = self.0.to_sat();
        write!(f, "{}.{:08}", satoshi / one, satoshi % one)
    }
}

impl Serialize for Bitcoins {
    /// A number with all its decimals, which no binary fraction has.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(self.to_string())
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}
