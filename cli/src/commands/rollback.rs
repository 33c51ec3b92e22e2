//! `rollback`: back to an earlier height.

use super::KeepArgs;
use super::index::IndexArgs;
use crate::error::CliError;
use crate::output::Output;
use crate::text::as_text;
use clap::Args;
use hedgerow::{Digest, Height};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// Take the last blocks back: the store goes to an earlier height
///
/// Afterwards it is as if it had never had the blocks above, in every root and proof. It can go back 128 blocks, unless
/// less is kept; what is refused says how far. The log of the blocks stays on the disk until it is pruned.
#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    /// Directory of the store
    dir: PathBuf,
    /// The height to go back to
    height: u64,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    index: IndexArgs,
}

/// `{"height", "root", "taken_back", "dead_bytes"}`
#[derive(Serialize)]
struct RolledBack {
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    /// Blocks.
    taken_back: u64,
    /// Bytes of the log that belong to no block any more.
    dead_bytes: u64,
}

impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { height, root, taken_back, .. } = self;
        write!(f, "{taken_back} blocks taken back: height {height}, root {root}")
    }
}

pub(super) fn run(args: &RollbackArgs, out: Output) -> Result<(), CliError> {
    let options = args.index.apply(&args.dir, args.keep.options())?;
    let mut store = super::open(&args.dir, options, out)?;
    let before = store.height();
    let done = store.rollback(Height(args.height));
    let (height, root) = store.reader().root();
    let dead_bytes = store.stats().log.dead_bytes;
    let closed = store.close();
    done?;
    closed?;
    let taken_back = before.0 - height.0;
    out.report(&RolledBack { height: height.0, root, taken_back, dead_bytes })
}
