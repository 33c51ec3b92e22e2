//! `put`, `get`, `delete`, `history`: one key. A put or a delete is a block of its own, at the next height.

use super::{open, open_to_read, view_at};
use crate::error::CliError;
use crate::output::Output;
use crate::text::{BytesArg, Hex, Shown, as_text};
use clap::Args;
use hedgerow::{Block, Digest, Durability, Error, Options, Receipt};
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// Give a key a value, as a block of its own
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// Directory of the store
    dir: PathBuf,
    /// The key: 0x and hex digits, or plain text
    key: BytesArg,
    /// The value, in the same form
    value: BytesArg,
    /// Longest value in bytes that is accepted
    #[arg(long, value_name = "N", default_value_t = super::apply::DEFAULT_MAX_VALUE_BYTES)]
    max_value_bytes: usize,
    #[command(flatten)]
    keep: super::KeepArgs,
    #[command(flatten)]
    index: super::index::IndexArgs,
}

/// Print the value of a key; prints "absent" on standard error, and exits with 3, if it has none
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Directory of the store
    dir: PathBuf,
    /// The key: 0x and hex digits, or plain text
    key: BytesArg,
    /// Height of the state; the last one if not given
    #[arg(long, value_name = "H")]
    at: Option<u64>,
}

/// Print every version of a key that is still on disk, newest first
///
/// A line has the height of the block that wrote or removed the key, a tab, and the value, or "absent" without one. The oldest
/// begins with <= if the block before it is pruned: then the key has had that value since this height or longer.
/// With --json a line is {"height":7,"exact":true,"present":true,"value":"0x.."}.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Directory of the store
    dir: PathBuf,
    /// The key: 0x and hex digits, or plain text
    key: BytesArg,
    /// Height from which to look back; the last one if not given
    #[arg(long, value_name = "H")]
    at: Option<u64>,
    /// Most versions that are printed
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Remove a key, as a block of its own
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Directory of the store
    dir: PathBuf,
    /// The key: 0x and hex digits, or plain text
    key: BytesArg,
    #[command(flatten)]
    keep: super::KeepArgs,
    #[command(flatten)]
    index: super::index::IndexArgs,
}

/// `{"height", "root", "created", "updated", "deleted", "absent_deletes", "durable"}`
#[derive(Serialize)]
struct Done {
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    created: u64,
    updated: u64,
    deleted: u64,
    absent_deletes: u64,
    durable: bool,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self { created: 1.., .. } => "created",
            Self { updated: 1.., .. } => "updated",
            Self { deleted: 1.., .. } => "deleted",
            _ => "was absent, nothing to delete",
        };
        write!(f, "{what}; height {}, root {}", self.height, self.root)
    }
}

/// `{"height", "key", "present", "value"}`; the value of an absent key is null.
#[derive(Serialize)]
struct Found<'a> {
    height: u64,
    key: Hex<'a>,
    present: bool,
    value: Option<Hex<'a>>,
    #[serde(skip)]
    shown: Shown<'a>,
}

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.fmt(f)
    }
}

pub(super) fn put(args: &PutArgs, out: Output) -> Result<(), CliError> {
    let options = args.keep.options().max_value_bytes(args.max_value_bytes);
    let options = args.index.apply(&args.dir, options)?;
    one_block(&args.dir, options, out, |block| block.put(&args.key.0, &args.value.0))
}

pub(super) fn delete(args: &DeleteArgs, out: Output) -> Result<(), CliError> {
    let options = args.index.apply(&args.dir, args.keep.options())?;
    one_block(&args.dir, options, out, |block| block.delete(&args.key.0))
}

fn one_block(
    dir: &Path,
    options: Options,
    out: Output,
    fill: impl FnOnce(&mut Block<'_>) -> Result<(), Error>,
) -> Result<(), CliError> {
    let mut store = open(dir, options.durability(Durability::EachBlock), out)?;
    let next = store.height().next();
    let mut block = store.begin_block(next)?;
    fill(&mut block)?;
    let receipt = block.commit()?;
    store.close()?;
    let Receipt { height, root, created, updated, deleted, absent_deletes, .. } = receipt;
    // The commit of a durable block and the close went well.
    let durable = true;
    let height = height.0;
    out.report(&Done { height, root, created, updated, deleted, absent_deletes, durable })
}

pub(super) fn get(args: &GetArgs, out: Output) -> Result<(), CliError> {
    let store = open_to_read(&args.dir, Options::new(), out)?;
    let view = view_at(&store, args.at)?;
    let value = view.get(&args.key.0)?;
    if value.is_none() {
        // Not on standard output, where it could be taken for a value.
        out.say("absent");
    }
    let found = value.as_deref();
    let answer = Found {
        height: view.height().0,
        key: Hex(&args.key.0),
        present: found.is_some(),
        value: found.map(Hex),
        shown: Shown(found.unwrap_or_default()),
    };
    if answer.present || out.json() {
        out.report(&answer)?;
    }
    if answer.present { Ok(()) } else { Err(CliError::Absent) }
}

/// `{"height", "exact", "present", "value"}`; the value of a removed key is null.
#[derive(Serialize)]
struct Version<'a> {
    height: u64,
    exact: bool,
    present: bool,
    value: Option<Hex<'a>>,
}

impl fmt::Display for Version<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_before = if self.exact { "" } else { "<=" };
        write!(f, "{or_before}{}\t", self.height)?;
        match self.value {
            Some(Hex(value)) => Shown(value).fmt(f),
            None => f.write_str("absent"),
        }
    }
}

pub(super) fn history(args: &HistoryArgs, out: Output) -> Result<(), CliError> {
    let store = open_to_read(&args.dir, Options::new(), out)?;
    let versions = view_at(&store, args.at)?.key_history(&args.key.0)?;
    for version in versions.take(args.limit.unwrap_or(usize::MAX)) {
        let version = version?;
        let value = version.value.as_deref();
        out.report(&Version {
            height: version.height.0,
            exact: version.is_exact,
            present: value.is_some(),
            value: value.map(Hex),
        })?;
    }
    Ok(store.close()?)
}
