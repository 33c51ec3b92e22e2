//! `import`: a new store from an export.
//!
//! ```text
//!   export ─► read ─► check ─► pairs ─► Store::import into DIR.importing.XXXX
//!                       │                                │ closed
//!                       └─ the last line ─────────► renamed to DIR
//! ```
//!
//! Whether an export is whole is known at its end. So the store is made beside its place, and gets its
//! name when all is there; else nothing is left of it.
//!
//! Every export is in the order of the hashes of its keys, as it comes from a view, so that one bulk load takes it in. What
//! is not in that order was made by somebody else, and is for `apply`.

use super::apply::DEFAULT_MAX_VALUE_BYTES;
use super::blocks::{ExportLine, ReadOp};
use super::create::ParamArgs;
use super::exported::{ExportCheck, Exported};
use crate::error::CliError;
use crate::input::{Event, JsonLines, LineArgs, Place, bytes_of};
use crate::interrupt::Interrupt;
use crate::outfile::{is_dash, sync_dir};
use crate::output::{InputBar, Output};
use crate::text::{Counted, as_text};
use clap::Args;
use hedgerow::{Digest, Error, Height, Refused, Store};
use serde::Serialize;
use std::fmt;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

/// Make a new store from an export
///
/// Nothing is left of it unless the export is whole. The new store has the same keys and values; its
/// root is another one, for the root commits to the history too.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Directory of the new store, empty or not there
    dir: PathBuf,
    /// The export, - for standard input; a name that ends in .gz or .zst is unpacked
    #[arg(default_value = "-")]
    file: PathBuf,
    #[command(flatten)]
    params: ParamArgs,
    /// Longest value in bytes that is accepted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_VALUE_BYTES)]
    max_value_bytes: usize,
    #[command(flatten)]
    lines: LineArgs,
}

/// `{"dir", "height", "root", "keys", "blocks", "exported_height", "exported_root"}`
#[derive(Serialize)]
struct Imported {
    dir: String,
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    keys: u64,
    blocks: u64,
    exported_height: u64,
    #[serde(serialize_with = "as_text")]
    exported_root: Digest,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, height, root, exported_height, exported_root, .. } = self;
        let (keys, blocks) = (Counted(self.keys, "key"), Counted(self.blocks, "block"));
        writeln!(f, "imported {keys} in {blocks} into {dir}; height {height}, root {root}")?;
        write!(f, "they were exported at height {exported_height}, root {exported_root}")
    }
}

pub(super) fn run(args: &ImportArgs, out: Output) -> Result<(), CliError> {
    let failed = |source| CliError::File { doing: "writing", path: args.dir.clone(), source };
    // As the system sees it: `.` has no name to put another one beside.
    let dir = std::path::absolute(&args.dir).map_err(failed)?;
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    };
    refuse_full(&dir)?;
    let bar = InputBar::new(out, "importing", bytes_of(&args.file));
    let lines = JsonLines::followed(&args.file, args.lines, &bar.bytes)?;
    fs::create_dir_all(parent).map_err(failed)?;
    let mut prefix = name.to_owned();
    prefix.push(".importing.");
    // Removed again when it is dropped, unless it was given its name.
    let beside = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).map_err(failed)?;

    let (events, receive) = sync_channel(1);
    let stop = events.clone();
    let interrupt = Interrupt::watch(out, move || _ = stop.try_send(Event::Stop))?;
    if is_dash(&args.file) && io::stdin().is_terminal() {
        out.say("waiting for an export from the terminal; Ctrl-D ends it");
    }
    lines.read_on(events)?;
    let made = fill(args, &beside.path().join("store"), &receive, &interrupt, &bar);
    bar.finish();
    let mut imported = made?;
    imported.dir = args.dir.display().to_string();
    rename(&beside.path().join("store"), &dir).map_err(failed)?;
    sync_dir(parent).map_err(failed)?;
    out.report(&imported)
}

/// A store is imported where nothing is, as it is created.
fn refuse_full(dir: &Path) -> Result<(), CliError> {
    match fs::read_dir(dir) {
        Ok(mut names) => match names.next() {
            None => Ok(()),
            Some(_) => Err(Error::NotEmpty(dir.to_owned()).into()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(CliError::File { doing: "opening", path: dir.to_owned(), source }),
    }
}

/// Makes the store.
fn fill(
    args: &ImportArgs,
    dir: &Path,
    events: &Receiver<Event<ExportLine>>,
    interrupt: &Interrupt,
    bar: &InputBar,
) -> Result<Imported, CliError> {
    let mut pairs = Pairs {
        events,
        interrupt,
        bar,
        check: ExportCheck::default(),
        block: Vec::new().into_iter(),
        height: None,
        operation: 0,
        place: None,
        of: None,
    };
    // An export of no keys has no block.
    let first = pairs.next_block()?.unwrap_or(1);
    let (params, options) = args.params.both(dir, Height(first))?;
    let options = options.max_value_bytes(args.max_value_bytes);
    let store = Store::import(dir, params, options, &mut pairs)
        .map_err(|error: CliError| pairs.named(error))?;
    let of = pairs.end()?;
    let (reader, keys) = (store.reader(), store.stats().keys);
    let (height, root) = reader.root();
    store.close()?;
    Ok(Imported {
        dir: String::new(),
        height: height.0,
        root,
        keys,
        blocks: height.0 + 1 - first,
        exported_height: of.height,
        exported_root: of.root,
    })
}

/// A key and its value.
type Pair = (Vec<u8>, Vec<u8>);

/// The pairs of an export, which end without an error only if it is whole.
struct Pairs<'a> {
    events: &'a Receiver<Event<ExportLine>>,
    interrupt: &'a Interrupt,
    bar: &'a InputBar,
    check: ExportCheck,
    /// What is left of the block that was read last, its height, and the number of the last operation taken.
    block: std::vec::IntoIter<ReadOp>,
    height: Option<u64>,
    operation: usize,
    place: Option<Place>,
    /// What it is an export of, once all of it was read.
    of: Option<Exported>,
}

impl Pairs<'_> {
    /// Reads the next block and returns its height; `None` at the end of a whole export.
    fn next_block(&mut self) -> Result<Option<u64>, CliError> {
        if self.of.is_some() {
            return Ok(None);
        }
        loop {
            let event = self.events.recv();
            self.interrupt.check()?;
            let (place, line) = match event {
                Ok(Event::Object(place, line)) => (place, line),
                Ok(Event::End(place)) => {
                    self.of = Some(std::mem::take(&mut self.check).end(&place)?);
                    return Ok(None);
                }
                Ok(Event::Failed(error)) => return Err(error),
                // Only a signal sends one, and the reader ends with an event.
                Ok(Event::Stop) | Err(_) => return Err(CliError::Interrupted),
            };
            let Some(block) = self.check.line(&place, line)? else { continue };
            if let Some(expected) = self.height.map(|height| Height(height).next()) {
                let given = Height(block.height);
                if given != expected {
                    let wrong = Error::WrongHeight { given, expected };
                    return Err(place.refused(format!("block {given}"), wrong));
                }
            }
            (self.height, self.operation) = (Some(block.height), 0);
            (self.block, self.place) = (block.ops.into_iter(), Some(place));
            self.bar.block(block.height);
            return Ok(self.height);
        }
    }

    fn pair(&mut self) -> Result<Option<Pair>, CliError> {
        loop {
            match self.block.next() {
                Some(ReadOp::Put(key, value)) => {
                    self.operation += 1;
                    return Ok(Some((key, value)));
                }
                // Refused where it was checked.
                Some(ReadOp::Delete(_)) => {}
                None if self.next_block()?.is_none() => return Ok(None),
                None => {}
            }
        }
    }

    /// Says where in the input it is what the store does not accept.
    fn named(&self, error: CliError) -> CliError {
        let (CliError::Store(source), Some(place)) = (&error, &self.place) else { return error };
        let height = self.height.unwrap_or_default();
        match &**source {
            // Seen a little later.
            Error::Refused(Refused::OutOfOrder(_) | Refused::Twice(_)) => {
                let what = "an export has each key once, in the order of the hashes; `hedgerow \
                            apply` takes blocks in any order: up to this line";
                place.refused(what, (**source).clone())
            }
            Error::Refused(_) => {
                let what = format!("operation {} of block {height}", self.operation);
                place.refused(what, (**source).clone())
            }
            _ => error,
        }
    }

    /// What it was an export of.
    fn end(mut self) -> Result<Exported, CliError> {
        self.next_block()?;
        // The end was seen.
        self.of.ok_or(CliError::Interrupted)
    }
}

impl Iterator for Pairs<'_> {
    type Item = Result<Pair, CliError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pair().transpose()
    }
}

/// Gives the finished store its name.
fn rename(from: &Path, dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        // Somebody has put something there meanwhile, or nothing was there: the renaming says.
        Ok(()) | Err(_) => fs::rename(from, dir),
    }
}
