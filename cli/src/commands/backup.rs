//! `backup`, `restore`, `prune`: copies of a store, and giving disk back.
//!
//! ```text
//!   backup  DIR TARGET      full segments get a second name, the rest is copied   ┐ opened and
//!     │                     a store that nobody has open is held; if it is in use │ checked
//!     └ in use ───────────► its last durable height, beside whoever writes        │
//!   restore BACKUP DIR      everything is copied                                  ┘
//! ```
//!
//! A program that has a store open can make backups itself (`Reader::backup` of the library), of the height
//! that is published, and without having its log read once more.

use super::index::{IndexArgs, as_it_is};
use crate::error::CliError;
use crate::output::{Output, follow};
use crate::text::as_text;
use clap::Args;
use hedgerow::{
    BackupOptions, BackupReport, Digest, Error, MetaError, Options, PruneHold, PruneReport, Store,
};
use indicatif::HumanBytes;
use serde::Serialize;
use std::fmt;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

/// Copy a store, with its root and its history, also while another process writes to it
///
/// If another process has the store open, the copy is of the last height of which its files say that it is
/// durable, and that process does not notice. Otherwise it is of the last height, and nobody opens the store
/// for writing meanwhile.
///
/// The target is an empty directory, or one that is not there yet; what an earlier backup left there that
/// was cut short is replaced. On one file system, files that never change again are shared (hard links):
/// that takes no room, and is no protection from the loss of the disk. The store stays as it is.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Directory of the store
    dir: PathBuf,
    /// Directory to make the backup in
    target: PathBuf,
    /// Copy everything, and share nothing
    #[arg(long)]
    copy: bool,
    #[command(flatten)]
    how: HowArgs,
}

/// Make a store from a backup, with its root and its history
///
/// The directory is an empty one, or is not there yet; what an earlier attempt left there that was cut short
/// is replaced. Everything is copied: the backup stays as it is.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Directory of the backup
    backup: PathBuf,
    /// Directory of the new store
    dir: PathBuf,
    /// Share files that never change again with the backup, where both are on one file system
    #[arg(long)]
    link: bool,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Debug, Args)]
struct HowArgs {
    /// Do not open and check the copy
    #[arg(long)]
    no_check: bool,
    /// Threads to use; 0 stands for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

/// `{"height", "root", "history_from", "linked_bytes", "copied_bytes", "checked", "in_use"}`
#[derive(Serialize)]
struct Copied {
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    history_from: u64,
    linked_bytes: u64,
    copied_bytes: u64,
    checked: bool,
    /// Whether another process had the store open.
    in_use: bool,
}

impl Copied {
    fn new(report: BackupReport, in_use: bool) -> Self {
        Self {
            in_use,
            height: report.height.0,
            root: report.root,
            history_from: report.history_from.0,
            linked_bytes: report.linked_bytes,
            copied_bytes: report.copied_bytes,
            checked: report.checked.is_some(),
        }
    }
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { height, root, history_from, linked_bytes, copied_bytes, checked, in_use } = self;
        let (linked, copied) = (HumanBytes(*linked_bytes), HumanBytes(*copied_bytes));
        writeln!(f, "{copied} copied, {linked} shared, history from height {history_from}")?;
        if *in_use {
            writeln!(
                f,
                "the store is in use: this is its last height that is known to be durable"
            )?;
        }
        let state = if *checked { "checked" } else { "not checked" };
        write!(f, "{state}: height {height}, root {root}")
    }
}

pub(super) fn backup(args: &BackupArgs, out: Output) -> Result<(), CliError> {
    copy(&args.dir, &args.target, !args.copy, &args.how, out, true)
}

pub(super) fn restore(args: &RestoreArgs, out: Output) -> Result<(), CliError> {
    copy(&args.backup, &args.dir, args.link, &args.how, out, false)
}

/// Copies a store that nobody has open, or, if that is asked for, one that somebody has.
fn copy(
    from: &Path,
    to: &Path,
    link: bool,
    how: &HowArgs,
    out: Output,
    beside: bool,
) -> Result<(), CliError> {
    let bar = out.log_bar("reading the log");
    // The copy has its index where the store has it.
    let options = || as_it_is(from, Options::new().threads(how.threads).on_progress(follow(&bar)));
    let how = BackupOptions::new().link(link).check(!how.no_check);
    let (report, in_use) = match Store::restore(from, to, options(), how) {
        // One of the two. If it is the target, it is so still.
        Err(error @ Error::InUse { .. }) if beside => {
            let report = match Store::open_read_only(from, options()) {
                Ok(mut store) => store.backup(to, how),
                // What its engine keeps cannot be read by another process.
                Err(Error::Meta(it)) if matches!(*it, MetaError::NotBeside { .. }) => Err(error),
                Err(error) => Err(error),
            };
            (report, true)
        }
        other => (other, false),
    };
    bar.finish_and_clear();
    out.report(&Copied::new(report?, in_use))
}

/// Delete what old heights alone need, and say what keeps the rest
///
/// A store does the same while blocks are applied. This is for one that takes no blocks for a while, or is
/// to keep less than before. It cannot be undone.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Directory of the store
    dir: PathBuf,
    /// Heights whose entries and history are kept. The library's default unless given
    #[arg(long, value_name = "N")]
    keep_heights: Option<NonZeroU64>,
    #[command(flatten)]
    index: IndexArgs,
}

/// `{"log_freed", "twigs_freed", "log_bytes", "twigs_bytes", "held_by"}`
#[derive(Serialize)]
struct Pruned {
    log_freed: u64,
    twigs_freed: u64,
    log_bytes: u64,
    twigs_bytes: u64,
    held_by: Option<String>,
}

impl From<PruneReport> for Pruned {
    fn from(report: PruneReport) -> Self {
        Self {
            log_freed: report.log_freed,
            twigs_freed: report.twigs_freed,
            log_bytes: report.log_left,
            twigs_bytes: report.twigs_left,
            held_by: report.hold.map(held_by),
        }
    }
}

fn held_by(hold: PruneHold) -> String {
    match hold {
        PruneHold::KeepAll => "nothing is to be pruned".into(),
        PruneHold::FewHeights => "there are no more heights than are kept".into(),
        PruneHold::Backup => "a backup is being made".into(),
        PruneHold::View { height } => format!("the state of height {height} is being read"),
        PruneHold::OneSegment => "what is left is the last segment, which is written to".into(),
        PruneHold::NoHistory { height } => {
            format!("the history of height {height} is not there; later blocks end that")
        }
        PruneHold::OldestEntry { shard, sn } => format!(
            "entry {sn} of shard {shard} was active then; it moves on when blocks are applied"
        ),
        other => format!("{other:?}"),
    }
}

impl fmt::Display for Pruned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = HumanBytes;
        let (log, twigs) = (bytes(self.log_freed), bytes(self.twigs_freed));
        writeln!(f, "freed         {log} of log, {twigs} of twig records")?;
        let (log, twigs) = (bytes(self.log_bytes), bytes(self.twigs_bytes));
        write!(f, "left          {log} of log, {twigs} of twig records")?;
        self.held_by.iter().try_for_each(|why| write!(f, "\nheld because  {why}"))
    }
}

pub(super) fn prune(args: &PruneArgs, out: Output) -> Result<(), CliError> {
    let options = match args.keep_heights {
        Some(n) => Options::new().keep_heights(n.get()).keep_history(n.get()),
        None => Options::new(),
    };
    let options = args.index.apply(&args.dir, options)?;
    let mut store = super::open(&args.dir, options, out)?;
    let report = store.prune();
    let closed = store.close();
    let report = report?;
    closed?;
    out.report(&Pruned::from(report))
}
