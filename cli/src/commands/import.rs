//! `import`: a new store from an export.
//!
//! ```text
//!   export ─► read ─► check ─► blocks ─► DIR.importing.XXXX
//!                       │                     │ closed
//!                       └─ the last line ─► renamed to DIR
//! ```
//!
//! Whether an export is whole is known at its end. So the store is made beside its place, and gets its
//! name when all is there; else nothing is left of it.

use super::apply::{self, DEFAULT_MAX_VALUE_BYTES};
use super::blocks::ExportLine;
use super::create::ParamArgs;
use super::exported::{ExportCheck, Exported};
use crate::error::CliError;
use crate::input::{Event, JsonLines, LineArgs, bytes_of};
use crate::interrupt::Interrupt;
use crate::outfile::{is_dash, sync_dir};
use crate::output::{InputBar, Output};
use crate::text::{Counted, as_text};
use clap::Args;
use hedgerow::{Digest, Error, Height, Store};
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
    /// The export, - for standard input; a name that ends in .gz is unpacked
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
    let mut check = ExportCheck::default();
    let mut store: Option<Store> = None;
    let mut blocks = 0;
    let create =
        |first| args.params.create(dir, first, |it| it.max_value_bytes(args.max_value_bytes));
    let of: Exported = loop {
        let event = events.recv();
        interrupt.check()?;
        let (place, line) = match event {
            Ok(Event::Object(place, line)) => (place, line),
            Ok(Event::End(place)) => break check.end(&place)?,
            Ok(Event::Failed(error)) => return Err(error),
            // Only a signal sends one, and the reader ends with an event.
            Ok(Event::Stop) | Err(_) => return Err(CliError::Interrupted),
        };
        let Some(block) = check.line(&place, line)? else { continue };
        let store = match &mut store {
            Some(store) => store,
            None => store.insert(create(Height(block.height))?),
        };
        apply::submit(store, &place, &block)?.root()?;
        blocks += 1;
        bar.block(block.height);
    };
    let store = match store {
        Some(store) => store,
        // An export of no keys has no block.
        None => create(Height(1))?,
    };
    let (reader, keys) = (store.reader(), store.stats().keys);
    let (height, root) = reader.root();
    store.close()?;
    Ok(Imported {
        dir: String::new(),
        height: height.0,
        root,
        keys,
        blocks,
        exported_height: of.height,
        exported_root: of.root,
    })
}

/// Gives the finished store its name.
fn rename(from: &Path, dir: &Path) -> io::Result<()> {
    match fs::remove_dir(dir) {
        // Somebody has put something there meanwhile, or nothing was there: the renaming says.
        Ok(()) | Err(_) => fs::rename(from, dir),
    }
}
