//! The commands, one file per group.
//!
//! ```text
//!   create                     a new store
//!   keys     put get delete    one key; a put or delete is a block of its own
//!            history           its versions
//!   list                       all keys
//!   apply                      many blocks as lines of JSON (blocks: their format; steps: how long they took)
//!   export   import            a state as a file (exported: its format)
//!   proofs   root prove verify what the state commits to
//!   proof_sets                 the same of many keys, and of ranges
//!   proof_file  inspect        what a proof says, without a store
//!   inspect  stat check        figures, and the full check (watch: figures again and again)
//!   backup   restore prune     copies of a store, and giving disk back
//!   rollback                   back to an earlier height
//!   repair                     what follows from the log, derived anew at the operator's word
//!   index                      where the index of a store is, asked by all that write
//!   devices                    the hashing backends of this machine
//!   coins                      a set of Bitcoin's unspent coins, a store of its own
//!   replay                     recorded workloads, compared block by block
//!   generate completions man   what shells and man(1) know of the program
//! ```

mod apply;
mod backup;
mod blocks;
#[cfg(feature = "coins")]
mod coins;
mod create;
mod devices;
mod export;
mod exported;
mod generate;
mod import;
mod index;
mod inspect;
mod keys;
mod list;
mod proof_file;
mod proof_sets;
mod proofs;
mod repair;
pub(crate) mod replay;
mod rollback;
mod salvage;
mod steps;
mod watch;

use crate::error::CliError;
use crate::output::{Output, follow};
use clap::{Args, Subcommand};
use hedgerow::{
    CompactionRule, Error, Height, MetaError, Options, ReadOnlyStore, Reader, Stats, Store,
    StoreParams, View,
};
use std::num::NonZeroU64;
use std::path::Path;

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(create::CreateArgs),
    Put(keys::PutArgs),
    Get(keys::GetArgs),
    Delete(keys::DeleteArgs),
    History(keys::HistoryArgs),
    List(list::ListArgs),
    Apply(apply::ApplyArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Root(proofs::RootArgs),
    Prove(proofs::ProveArgs),
    Verify(proofs::VerifyArgs),
    Inspect(proof_file::InspectArgs),
    Stat(inspect::StatArgs),
    Check(inspect::CheckArgs),
    Rollback(rollback::RollbackArgs),
    Repair(repair::RepairArgs),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    Prune(backup::PruneArgs),
    #[cfg(feature = "coins")]
    Coins(coins::CoinsArgs),
    Devices(devices::DevicesArgs),
    Replay(replay::ReplayArgs),
    Completions(generate::CompletionsArgs),
    Man(generate::ManArgs),
}

/// Runs a command.
///
/// # Errors
/// Whatever kept it from doing what it says.
pub(crate) fn run(command: Command, out: Output) -> Result<(), CliError> {
    match command {
        Command::Create(args) => create::run(&args, out),
        Command::Put(args) => keys::put(&args, out),
        Command::Get(args) => keys::get(&args, out),
        Command::Delete(args) => keys::delete(&args, out),
        Command::History(args) => keys::history(&args, out),
        Command::List(args) => list::run(&args, out),
        Command::Apply(args) => apply::run(&args, out),
        Command::Export(args) => export::run(&args, out),
        Command::Import(args) => import::run(&args, out),
        Command::Root(args) => proofs::root(&args, out),
        Command::Prove(args) => proofs::prove(&args, out),
        Command::Verify(args) => proofs::verify(&args, out),
        Command::Inspect(args) => proof_file::run(&args, out),
        Command::Stat(args) => inspect::stat(&args, out),
        Command::Check(args) => inspect::check(&args, out),
        Command::Rollback(args) => rollback::run(&args, out),
        Command::Repair(args) => repair::run(&args, out),
        Command::Backup(args) => backup::backup(&args, out),
        Command::Restore(args) => backup::restore(&args, out),
        Command::Prune(args) => backup::prune(&args, out),
        #[cfg(feature = "coins")]
        Command::Coins(args) => coins::run(&args, out),
        Command::Devices(args) => devices::run(&args, out),
        Command::Replay(args) => replay::run(&args, out),
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
    }
}

/// Opens a store; a bar follows the reading of its log.
fn open(dir: &Path, options: Options, out: Output) -> Result<Store, CliError> {
    let bar = out.log_bar("opening");
    let store = Store::open(dir, options.on_progress(follow(&bar)));
    bar.finish_and_clear();
    Ok(store?)
}

/// What of the past a command that writes keeps: the same every time, or the shortest counts.
#[derive(Debug, Args)]
struct KeepArgs {
    /// Heights whose entries and history are kept; what is older is pruned. The library's default
    /// unless given
    #[arg(long, value_name = "N", conflicts_with = "keep_all")]
    keep_heights: Option<NonZeroU64>,

    /// An archive: nothing is pruned, and the disk it takes grows with every block
    #[arg(long)]
    keep_all: bool,
}

impl KeepArgs {
    fn options(&self) -> Options {
        match self.keep_heights {
            Some(heights) => Options::new().keep_heights(heights.get()).keep_history(heights.get()),
            None if self.keep_all => Options::new().keep_all(),
            None => Options::new(),
        }
    }
}

/// A store that is only read.
enum ToRead {
    /// Its last durable height, whoever writes meanwhile.
    Beside(Box<ReadOnlyStore>),
    /// Of an engine that lets nobody look while a store is open.
    Alone(Box<Store>),
}

impl ToRead {
    fn reader(&self) -> Reader {
        match self {
            Self::Beside(store) => store.reader(),
            Self::Alone(store) => store.reader(),
        }
    }

    fn stats(&self) -> Stats {
        match self {
            Self::Beside(store) => store.stats(),
            Self::Alone(store) => store.stats(),
        }
    }

    fn params(&self) -> &StoreParams {
        match self {
            Self::Beside(store) => store.params(),
            Self::Alone(store) => store.params(),
        }
    }

    fn close(self) -> Result<(), Error> {
        match self {
            Self::Beside(_) => Ok(()),
            Self::Alone(store) => store.close(),
        }
    }
}

/// Opens a store to read it, without writing or locking anything: beside a process that has it open, where
/// it cannot be written to, and by who may only read it.
fn open_to_read(dir: &Path, options: Options, out: Output) -> Result<ToRead, CliError> {
    let bar = out.log_bar("opening");
    let opened = Store::open_read_only(dir, options.clone().on_progress(follow(&bar)));
    bar.finish_and_clear();
    match opened {
        Err(Error::Meta(error)) if matches!(*error, MetaError::NotBeside { .. }) => {
            Ok(ToRead::Alone(Box::new(open(dir, options, out)?)))
        }
        other => Ok(ToRead::Beside(Box::new(other?))),
    }
}

/// The state at a height; the last one if none is given.
fn view_at(store: &ToRead, height: Option<u64>) -> Result<View, Error> {
    let reader = store.reader();
    height.map_or_else(|| Ok(reader.view()), |height| reader.at(Height(height)))
}

/// A compaction rule as `--compaction` takes it.
fn compaction_rule(text: &str) -> Result<CompactionRule, String> {
    match text {
        "default" => return Ok(CompactionRule::default()),
        "qmdb" => return Ok(CompactionRule::QMDB),
        _ => {}
    }
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [threshold, ratio, div] = parts[..] else {
        return Err("expected default, qmdb or THRESHOLD,RATIO,DIV".to_owned());
    };
    let bad = |what: &str, error: std::num::ParseIntError| format!("{what}: {error}");
    CompactionRule::new(
        threshold.parse().map_err(|error| bad("threshold", error))?,
        ratio.parse().map_err(|error| bad("ratio", error))?,
        div.parse().map_err(|error| bad("div", error))?,
    )
    .map_err(|error| error.to_string())
}
