//! `repair`: derives anew what can be derived from the log, at the operator's word.

use crate::error::CliError;
use crate::output::{Output, follow};
use crate::text::as_text;
use clap::Args;
use hedgerow::{Digest, Options, RepairReport, RepairWord, Store};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// Derive the roots and the twig records of a store that does not open from its log, on the CPU
///
/// For a store whose recorded root its log contradicts, because a device hashed wrong. Without --yes
/// or --root it says what it would change, and changes nothing. A log that is damaged, or that
/// contradicts more than roots, is refused. Whoever was told the old root was told a wrong one.
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// Directory of the store
    dir: PathBuf,
    /// Change whatever the log contradicts
    #[arg(long)]
    yes: bool,
    /// The same, but only if the log leads to this state root, 64 hex digits
    #[arg(long, value_name = "HEX", conflicts_with = "yes")]
    root: Option<Digest>,
    /// Threads to use; 0 stands for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

#[derive(Serialize)]
struct Repaired {
    height: u64,
    #[serde(serialize_with = "as_text")]
    old_root: Digest,
    #[serde(serialize_with = "as_text")]
    new_root: Digest,
    /// Shards whose root differed.
    shards: Vec<usize>,
    /// Whether the roots in the history row differed.
    history_row: bool,
    /// Twig records that were missing or differed.
    twigs: u64,
    /// Nodes that stand for pruned entries and cannot be derived.
    believed_nodes: u64,
    needed: bool,
    repaired: bool,
}

impl From<RepairReport> for Repaired {
    fn from(report: RepairReport) -> Self {
        Self {
            needed: report.is_needed(),
            height: report.height.0,
            old_root: report.recorded,
            new_root: report.derived,
            shards: report.shards.iter().map(|shard| shard.index()).collect(),
            history_row: report.row,
            twigs: report.twigs,
            believed_nodes: report.edges,
            repaired: report.repaired,
        }
    }
}

impl fmt::Display for Repaired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { height, old_root, new_root, shards, twigs, believed_nodes, .. } = self;
        if !self.needed {
            return write!(f, "nothing to repair at height {height}, root {new_root}");
        }
        writeln!(f, "height        {height}")?;
        writeln!(f, "old root      {old_root}")?;
        writeln!(f, "new root      {new_root}")?;
        writeln!(f, "shards        {} with another root: {shards:?}", shards.len())?;
        writeln!(
            f,
            "history row   {}",
            if self.history_row { "with other roots" } else { "right" }
        )?;
        writeln!(f, "twig records  {twigs} missing or different")?;
        if *believed_nodes > 0 {
            writeln!(f, "believed      {believed_nodes} nodes that stand for pruned entries")?;
        }
        let done = "repaired";
        let not_done = "nothing was changed; --root with the new root, or --yes, changes it";
        f.write_str(if self.repaired { done } else { not_done })
    }
}

pub(super) fn run(args: &RepairArgs, out: Output) -> Result<(), CliError> {
    let word = match args.root {
        Some(root) => RepairWord::Root(root),
        None if args.yes => RepairWord::Yes,
        None => RepairWord::Look,
    };
    let bar = out.log_bar("reading the log");
    let options = Options::new().threads(args.threads).on_progress(follow(&bar));
    let report = Store::repair(&args.dir, options, word);
    bar.finish_and_clear();
    out.report(&Repaired::from(report?))
}
