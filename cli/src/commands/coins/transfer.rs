//! `coins export`, `coins import`: a set as a snapshot of Bitcoin Core's `dumptxoutset`.

use super::digest::DigestReport;
use super::failure::{store_failed, transfer_failed};
use super::{CacheArgs, Named, NetworkArg, open_to_ask};
use crate::error::CliError;
use crate::input::name_of;
use crate::interrupt::Interrupt;
use crate::outfile::{ForceArg, OutFile, is_dash};
use crate::output::{CoinBar, Output};
use crate::text::{Counted, as_text};
use clap::Args;
use hedgerow::Digest;
use hedgerow_coins::bitcoin::Network;
use hedgerow_coins::bitcoin::p2p::Magic;
use hedgerow_coins::{
    CoinStore, SetDigest, SnapshotError, SnapshotImport, SnapshotReader, TransferError,
    TransferProgress, network_of_genesis,
};
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

/// Write the set as a snapshot, as Bitcoin Core's `dumptxoutset` does
///
/// The same set gives the same bytes.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// Directory of the set
    dir: PathBuf,
    /// File to write, - for standard output
    file: PathBuf,
    /// The network, if the set does not say it
    #[arg(long, value_enum)]
    network: Option<NetworkArg>,
    #[command(flatten)]
    force: ForceArg,
    #[command(flatten)]
    cache: CacheArgs,
}

/// Make a new set from a snapshot, if it is the one that you expect
///
/// Nothing is left of it if the snapshot is another one, or not whole. At least one of its two digests must be given, from a source
/// that you trust: from Bitcoin Core's source, or from the `gettxoutsetinfo` of a node of your own.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Directory of the new set, empty or not there
    dir: PathBuf,
    /// The snapshot, - for standard input
    file: PathBuf,
    /// Its hash_serialized_3 (`txoutset_hash` of `dumptxoutset`), 64 hex digits as Bitcoin Core shows it
    #[arg(long, value_name = "HEX", required_unless_present = "muhash")]
    hash: Option<SetDigest>,
    /// Its MuHash, 64 hex digits as Bitcoin Core shows it
    #[arg(long, value_name = "HEX")]
    muhash: Option<SetDigest>,
    /// Height of the snapshot's block. That of its youngest coin unless given, which it is but for a block that paid to nobody
    #[arg(long, value_name = "N")]
    height: Option<u32>,
    /// Keep no MuHash
    #[arg(long)]
    no_muhash: bool,
    #[command(flatten)]
    cache: CacheArgs,
}

/// `{"height", "block", "network", "coins", "bytes", "hash_serialized_3"}`
#[derive(Serialize)]
struct Exported {
    height: Option<u32>,
    block: Option<String>,
    network: String,
    coins: u64,
    bytes: u64,
    hash_serialized_3: String,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (coins, bytes) = (Counted(self.coins, "coin"), Counted(self.bytes, "byte"));
        let height = self.height.unwrap_or_default();
        let block = self.block.as_deref().unwrap_or_default();
        writeln!(f, "exported {coins}, {bytes}, of {}", self.network)?;
        write!(f, "block {height} {block}\nhash_serialized_3 {}", self.hash_serialized_3)
    }
}

/// The fields of `digest`, and `{"dir", "network", "store_height", "root"}`.
#[derive(Serialize)]
struct Imported {
    dir: String,
    network: String,
    #[serde(flatten)]
    digest: DigestReport,
    store_height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, network, digest, store_height, root } = self;
        writeln!(f, "imported into {dir}, of {network}\n{digest}")?;
        write!(f, "height {store_height} of the store, root {root}")
    }
}

/// The network of a set, by what its last flush says or by its first block.
pub(super) fn network_of(store: &CoinStore) -> Option<Magic> {
    store.network().or_else(|| {
        // Nothing is flushed yet, so that there are records of all blocks.
        let first = store.record(0).ok()?.tip.block;
        network_of_genesis(&first).map(Magic::from)
    })
}

pub(super) fn export(args: &ExportArgs, out: Output) -> Result<(), CliError> {
    // Before the store is opened, which may take a while.
    let mut file = OutFile::create(&args.file, args.force)?;
    let store = open_to_ask(&args.dir, args.cache, out)?;
    let interrupt = Interrupt::watch(out, || {})?;
    let given = args.network.map(|network| Magic::from(Network::from(network)));
    let network = match (network_of(&store), given) {
        (Some(known), Some(given)) if known != given => {
            let (known, given) = (Named(known), Named(given));
            let reason = format!("the set is of the network {known}, not of {given}");
            return Err(CliError::Arguments(reason));
        }
        (None, None) => {
            let reason = "the set does not say of which network it is: --network says it";
            return Err(CliError::Arguments(reason.to_owned()));
        }
        (known, given) => given.or(known).unwrap_or(Magic::BITCOIN),
    };
    let view = store.view().map_err(store_failed)?;
    let bar = out.coin_bar("exporting", view.coins());
    let mut writer = Writer { file: &mut file, bytes: 0, failed: None };
    let written = view.export_with(&mut writer, network, follow(&bar, &interrupt));
    let written = written.map(|(_, hash)| hash);
    bar.finish();
    let (bytes, failed) = (writer.bytes, writer.failed.take());
    let hash = match (written, failed) {
        // As the file has it.
        (Err(_), Some(failed)) => return Err(failed),
        (Err(error), None) => return Err(transfer_failed(error)),
        (Ok(hash), _) => hash,
    };
    file.finish()?;
    let exported = Exported {
        height: view.tip().map(|tip| tip.height),
        block: view.tip().map(|tip| tip.block.to_string()),
        network: Named(network).to_string(),
        coins: view.coins(),
        bytes,
        hash_serialized_3: hash.to_string(),
    };
    out.report_beside(&args.file, &exported)
}

/// A file as what a snapshot is written to.
struct Writer<'a> {
    file: &'a mut OutFile,
    bytes: u64,
    failed: Option<CliError>,
}

impl Write for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.file.put(|writer| writer.write_all(bytes)) {
            Ok(()) => {
                self.bytes += bytes.len() as u64;
                Ok(bytes.len())
            }
            Err(error) => {
                self.failed = Some(error);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Moves a bar, and ends it if somebody wants that.
fn follow(bar: &CoinBar, interrupt: &Interrupt) -> impl FnMut(TransferProgress) -> ControlFlow<()> {
    move |TransferProgress { read, written, .. }| {
        bar.at(read, written);
        if interrupt.asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

pub(super) fn import(args: &ImportArgs, out: Output) -> Result<(), CliError> {
    let input: Box<dyn Read> = if is_dash(&args.file) {
        Box::new(io::stdin().lock())
    } else {
        let failed = |source| CliError::File { doing: "opening", path: args.file.clone(), source };
        Box::new(File::open(&args.file).map_err(failed)?)
    };
    let unread = |error: SnapshotError| {
        let CliError::Coins { kind, what_now, source, .. } = transfer_failed(error.into()) else {
            return CliError::Interrupted;
        };
        CliError::Coins { doing: Some(name_of(&args.file)), kind, what_now, source }
    };
    let snapshot = SnapshotReader::new(input).map_err(unread)?;
    let interrupt = Interrupt::watch(out, || {})?;
    let header = snapshot.header();
    let mut import = SnapshotImport::new();
    if let Some(hash) = args.hash {
        import = import.hash_serialized(hash);
    }
    if let Some(muhash) = args.muhash {
        import = import.muhash(muhash);
    }
    if let Some(height) = args.height {
        import = import.height(height);
    }
    let options = args.cache.options().muhash(!args.no_muhash);
    let bar = out.coin_bar("importing", header.coins);
    let store = import.run_with(&args.dir, options, snapshot, follow(&bar, &interrupt));
    bar.finish();
    let store = store.map_err(|error| match error {
        TransferError::Snapshot(error) => unread(error),
        error => transfer_failed(error),
    })?;
    let digest = store.digest().map_err(store_failed)?;
    // It was compared, or it is asked for.
    let hash = match args.hash {
        Some(hash) => hash,
        None => store.hash_serialized().map_err(store_failed)?,
    };
    let (store_height, root) = store.root();
    store.close().map_err(store_failed)?;
    out.report(&Imported {
        dir: args.dir.display().to_string(),
        network: Named(header.network).to_string(),
        digest: DigestReport::new(&digest, hash),
        store_height: store_height.0,
        root,
    })
}
