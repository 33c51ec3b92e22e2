//! `apply`: blocks from lines of JSON.
//!
//! ```text
//!   lines ─► read    a thread of its own, a block ahead
//!              │ events ◄── Ctrl-C, SIGTERM, a failure of the store
//!              ▼
//!            feed    begin_block, put, delete, submit; or skip: passes over what is there
//!              │ tickets, bounded
//!              ▼
//!            acknowledge   a thread of its own: waits, prints
//! ```
//!
//! While one block is hashed and synced, the next lines are read, as long as the store accepts
//! blocks. What was acknowledged as durable is durable, whatever happens to the process.
//!
//! However it ends, the store is closed at a whole block, and the message says at which.

mod skip;

use super::blocks::{ReadBlock, ReadOp};
use super::open;
use super::steps::StepsReport;
use crate::error::{CliError, Stopped};
use crate::input::{Event, JsonLines, LineArgs, Place, bytes_of, name_of};
use crate::interrupt::Interrupt;
use crate::outfile::is_dash;
use crate::output::{InputBar, Output};
use crate::text::{Counted, as_text};
use clap::{Args, ValueEnum};
use hedgerow::{Digest, Durability, Height, Reader, Store, Ticket};
use serde::Serialize;
use skip::Skip;
use std::fmt;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// The library's default.
pub(super) const DEFAULT_MAX_VALUE_BYTES: usize = 64 << 10;
/// Tickets that wait to be acknowledged; beyond it, reading waits.
const TICKETS: usize = 256;

/// Apply blocks, one JSON object per line:
/// {"height":1,"ops":[["put","0x..","0x.."],["delete","0x.."]]}
///
/// Ctrl-C and SIGTERM end it after the block in hand. Whatever ends it, the store is whole and a message says at
/// which height; the same input with --skip-applied goes on from there.
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Directory of the store
    dir: PathBuf,
    /// File to read, - for standard input; a name that ends in .gz or .zst is unpacked
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Pass over blocks that the store has already. As far as the input of the last of them can be
    /// compared with the store, it is
    #[arg(long)]
    skip_applied: bool,
    /// block: every block is durable before the next one is begun; pipelined: in the background
    #[arg(long, value_enum, default_value_t = DurabilityArg::Pipelined)]
    durability: DurabilityArg,
    /// Print a line as soon as a block is durable, instead of when its root is known
    #[arg(long)]
    ack: bool,
    /// Longest value in bytes that is accepted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_VALUE_BYTES)]
    max_value_bytes: usize,
    /// Say at the end how long each step of the blocks took
    #[arg(long)]
    stats: bool,
    #[command(flatten)]
    keep: super::KeepArgs,
    #[command(flatten)]
    index: super::index::IndexArgs,
    #[command(flatten)]
    lines: LineArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DurabilityArg {
    Block,
    Pipelined,
}

impl From<DurabilityArg> for Durability {
    fn from(arg: DurabilityArg) -> Self {
        match arg {
            DurabilityArg::Block => Self::EachBlock,
            DurabilityArg::Pipelined => Self::Pipelined,
        }
    }
}

/// `{"height", "root", "durable"}`: with `--json` for every block, else only with `--ack`.
#[derive(Serialize)]
struct Acknowledged {
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    durable: bool,
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.durable { "durable" } else { "published" };
        write!(f, "{state} {} {}", self.height, self.root)
    }
}

/// What was applied.
#[derive(Default)]
pub(super) struct Applied {
    pub(super) blocks: u64,
    pub(super) operations: u64,
    skipped: u64,
}

pub(super) fn run(args: &ApplyArgs, out: Output) -> Result<(), CliError> {
    let durability = args.durability.into();
    let options = args.keep.options().durability(durability).max_value_bytes(args.max_value_bytes);
    let options = args.index.apply(&args.dir, options)?;
    let bar = InputBar::new(out, "applying", bytes_of(&args.file));
    let lines = JsonLines::followed(&args.file, args.lines, &bar.bytes)?;
    let mut store = open(&args.dir, options, out)?;
    let reader = store.reader();
    let (events, receive) = sync_channel(1);
    let (stop, failed) = (events.clone(), events.clone());
    // If there is no room for it, nobody waits for an event; the flag is looked at after each.
    let interrupt = Interrupt::watch(out, move || _ = stop.try_send(Event::Stop))?;
    if is_dash(&args.file) && std::io::stdin().is_terminal() {
        out.say("waiting for blocks from the terminal, one JSON object a line; Ctrl-D ends them");
    }
    lines.read_on(events)?;
    let acknowledger =
        Acknowledger { reader: store.reader(), out, ack: args.ack, bar: bar.clone() };
    let skip = args.skip_applied.then(|| Skip::new(store.reader()));

    let mut applied = Applied::default();
    let ended = thread::scope(|scope| {
        let (tickets, to_print) = sync_channel(TICKETS);
        let printing = thread::Builder::new()
            .name("acknowledge".into())
            .spawn_scoped(scope, move || {
                let printed = acknowledger.run(to_print);
                if printed.is_err() {
                    let _ = failed.try_send(Event::Stop);
                }
                printed
            })
            .map_err(|error| CliError::no_thread(&error))?;
        let feeder = Feeder { store: &mut store, interrupt, durability, tickets };
        let fed = feeder.run(&receive, skip, &mut applied);
        let printed = printing.join().unwrap_or_else(|_| {
            Err(CliError::Thread("the thread that acknowledges blocks failed".into()))
        });
        // A stop of the printer makes the feeder stop without an error of its own.
        fed.and(printed)
    });
    bar.finish();
    // History ends with the store.
    let durable = reader.durable_height();
    let durable_root = reader.root_at(durable).ok();
    let closed = store.close().map_err(CliError::from);
    let (durable, durable_root) = match &closed {
        Ok(()) => (reader.root().0, Some(reader.root().1)),
        Err(_) => (durable, durable_root),
    };
    let steps = StepsReport::new(reader.stats().steps);
    let Applied { blocks, operations, skipped } = applied;
    let stats = if args.stats { out.report(&steps) } else { Ok(()) };
    if let Err(source) = ended.and(closed).and(stats) {
        let resume = format!(
            "`hedgerow apply --skip-applied {} {}` goes on from there",
            args.dir.display(),
            if is_dash(&args.file) { "-".to_owned() } else { name_of(&args.file) },
        );
        let at = Stopped { blocks, height: durable.0, root: durable_root, resume };
        return Err(CliError::Stopped { source: Box::new(source), at });
    }
    let (height, root) = reader.root();
    let (blocks, operations) = (Counted(blocks, "block"), Counted(operations, "operation"));
    let end = format!("height {height}, root {root}");
    if args.skip_applied {
        let skipped = Counted(skipped, "block");
        out.note(format_args!("passed over {skipped} that the store had already"))?;
    }
    out.note(format_args!("applied {blocks}, {operations}; {end}"))
}

/// Hands in blocks.
struct Feeder<'a> {
    store: &'a mut Store,
    interrupt: Interrupt,
    durability: Durability,
    tickets: SyncSender<Ticket>,
}

impl Feeder<'_> {
    /// Block after block, until the input or the interest in it ends.
    fn run(
        self,
        events: &Receiver<Event<ReadBlock>>,
        mut skip: Option<Skip>,
        applied: &mut Applied,
    ) -> Result<(), CliError> {
        loop {
            // Nobody sends any more: the reader has said why before.
            let Ok(event) = events.recv() else { return Ok(()) };
            self.interrupt.check()?;
            let (place, block) = match event {
                Event::Object(place, block) => (place, block),
                Event::End(_) => {
                    applied.skipped = skip.map_or(0, |skip| skip.count());
                    return Ok(());
                }
                Event::Failed(error) => return Err(error),
                // The printer has failed; its own error is told.
                Event::Stop => return Ok(()),
            };
            let block = match &mut skip {
                Some(skip) => match skip.take(&place, block)? {
                    Some(block) => block,
                    None => continue,
                },
                None => block,
            };
            let ticket = submit(self.store, &place, &block)?;
            if self.durability == Durability::EachBlock {
                ticket.durable()?;
            }
            if self.tickets.send(ticket).is_err() {
                return Ok(());
            }
            applied.blocks += 1;
            applied.operations += block.ops.len() as u64;
        }
    }
}

/// Hands in a block; what is wrong with it is wrong with its line.
pub(super) fn submit(
    store: &mut Store,
    place: &Place,
    ReadBlock { height, ops }: &ReadBlock,
) -> Result<Ticket, CliError> {
    let what = |number: usize| format!("operation {} of block {height}", number + 1);
    let mut block = store
        .begin_block(Height(*height))
        .map_err(|error| place.refused(format!("block {height}"), error))?;
    for (number, op) in ops.iter().enumerate() {
        match op {
            ReadOp::Put(key, value) => block.put(key, value),
            ReadOp::Delete(key) => block.delete(key),
        }
        .map_err(|error| place.refused(what(number), error))?;
    }
    block.submit().map_err(|error| place.refused(format!("block {height}"), error))
}

/// Waits for the blocks in order and says so.
struct Acknowledger {
    reader: Reader,
    out: Output,
    ack: bool,
    bar: InputBar,
}

impl Acknowledger {
    fn run(&self, tickets: Receiver<Ticket>) -> Result<(), CliError> {
        for ticket in tickets {
            let root = ticket.root()?;
            if self.ack {
                ticket.durable()?;
            }
            let height = ticket.height();
            if self.ack || self.out.json() {
                let durable = self.reader.durable_height() >= height;
                self.out.report(&Acknowledged { height: height.0, root, durable })?;
            }
            self.bar.block(height.0);
        }
        Ok(())
    }
}
