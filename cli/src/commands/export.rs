//! `export`: all keys of the state, as blocks that `import` reads.

use super::exported::ExportWriter;
use super::open_to_read;
use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::outfile::{ForceArg, OutFile};
use crate::output::Output;
use clap::Args;
use hedgerow::{Height, Options};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Write all keys and values in the format that import reads
///
/// Imported, they give the same keys and values. The root is another one: it commits to the history,
/// not only to the present.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Directory of the store
    pub(super) dir: PathBuf,
    /// File to write, - for standard output; a name that ends in .gz or .zst is packed
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(super) output: PathBuf,
    #[command(flatten)]
    pub(super) force: ForceArg,
    /// Height of the first block written
    #[arg(long, value_name = "H", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=Height::MAX.0))]
    pub(super) first_height: u64,
    /// Most operations in a block
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN.saturating_add(9_999))]
    pub(super) block_ops: NonZeroUsize,
    /// Of a damaged store, write what can be read of its log, as blocks for apply; say what is missing, and
    /// fail if anything is
    #[arg(long)]
    salvage: bool,
}

pub(super) fn run(args: &ExportArgs, out: Output) -> Result<(), CliError> {
    if args.salvage {
        return super::salvage::run(args);
    }
    // Before the store is opened, which may take a while.
    let file = OutFile::create_packed(&args.output, args.force)?;
    let store = open_to_read(&args.dir, Options::new(), out)?;
    let interrupt = Interrupt::watch(out, || {})?;
    let total = store.stats().keys;
    let bar = out.block_bar(Some(total.div_ceil(args.block_ops.get() as u64)));
    let view = store.reader().view();
    let (state, block_ops) = ((view.height(), view.root()), args.block_ops.get());
    let mut export = ExportWriter::begin(file, state, args.first_height, block_ops)?;
    for pair in view.iter() {
        let (key, value) = pair?;
        if export.add(key, value)? {
            bar.inc(1);
            interrupt.check()?;
        }
    }
    export.finish()?;
    bar.finish_and_clear();
    Ok(store.close()?)
}
