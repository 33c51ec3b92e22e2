//! `apply`: blocks from lines of JSON.
//!
//! ```text
//!   lines ─► begin_block, put, delete, submit ─► tickets ─► acknowledge: waits, prints
//!            this thread                         bounded    a thread of its own
//! ```
//!
//! While one block is hashed and synced, the next lines are read, as long as the store accepts
//! blocks. What was acknowledged as durable is durable, whatever happens to the process.

use super::blocks::{ReadBlock, ReadOp};
use super::open;
use crate::error::CliError;
use crate::input::{JsonLines, LineArgs};
use crate::output::Output;
use crate::text::as_text;
use clap::{Args, ValueEnum};
use hedgerow::{Digest, Durability, Height, Reader, Store, Ticket};
use indicatif::{HumanCount, ProgressBar};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// The library's default.
pub(super) const DEFAULT_MAX_VALUE_BYTES: usize = 64 << 10;
/// Tickets that wait to be acknowledged; beyond it, reading waits.
const TICKETS: usize = 256;

/// Apply blocks, one JSON object per line:
/// {"height":1,"ops":[["put","0x..","0x.."],["delete","0x.."]]}
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Directory of the store
    dir: PathBuf,
    /// File to read, `-` for standard input; a name that ends in .gz is unpacked
    #[arg(default_value = "-")]
    file: PathBuf,
    /// block: every block is durable before the next one is begun; pipelined: in the background
    #[arg(long, value_enum, default_value_t = DurabilityArg::Pipelined)]
    durability: DurabilityArg,
    /// Print a line as soon as a block is durable, instead of when its root is known
    #[arg(long)]
    ack: bool,
    /// Longest value in bytes that is accepted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_VALUE_BYTES)]
    max_value_bytes: usize,
    #[command(flatten)]
    keep: super::KeepArgs,
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
struct Applied {
    blocks: u64,
    operations: u64,
}

pub(super) fn run(args: &ApplyArgs, out: Output) -> Result<(), CliError> {
    let durability = args.durability.into();
    let options = args.keep.options().durability(durability).max_value_bytes(args.max_value_bytes);
    let mut store = open(&args.dir, options, out)?;
    let reader = store.reader();
    let bar = out.block_bar(None).with_message("applying");
    let acknowledger =
        Acknowledger { reader: store.reader(), out, ack: args.ack, bar: bar.clone() };

    let applied = thread::scope(|scope| {
        let (tickets, receive) = sync_channel(TICKETS);
        let printing = thread::Builder::new()
            .name("acknowledge".into())
            .spawn_scoped(scope, move || acknowledger.run(receive))
            .map_err(|error| CliError::Thread(format!("starting a thread: {error}")))?;
        let fed = JsonLines::open(&args.file, args.lines)
            .and_then(|lines| feed(&mut store, lines, durability, &tickets));
        drop(tickets);
        let printed = printing.join().unwrap_or_else(|_| {
            Err(CliError::Thread("the thread that acknowledges blocks failed".into()))
        });
        // A stop of the printer makes the feeder stop without an error of its own.
        fed.and_then(|applied| printed.map(|()| applied))
    });
    bar.finish_and_clear();
    let closed = store.close();
    let Applied { blocks, operations } = applied?;
    closed?;
    let (height, root) = reader.root();
    let (blocks, operations) = (HumanCount(blocks), HumanCount(operations));
    let end = format!("height {height}, root {root}");
    out.note(format_args!("applied {blocks} blocks, {operations} operations; {end}"))
}

/// Hands in block after block, until the input or the interest in it ends.
fn feed(
    store: &mut Store,
    mut lines: JsonLines,
    durability: Durability,
    tickets: &SyncSender<Ticket>,
) -> Result<Applied, CliError> {
    let mut applied = Applied::default();
    while let Some(ReadBlock { height, ops }) = lines.object()? {
        let what = |number: usize| format!("operation {} of block {height}", number + 1);
        let mut block = store
            .begin_block(Height(height))
            .map_err(|error| lines.refused(format!("block {height}"), error))?;
        for (number, op) in ops.iter().enumerate() {
            match op {
                ReadOp::Put(key, value) => block.put(key, value),
                ReadOp::Delete(key) => block.delete(key),
            }
            .map_err(|error| lines.refused(what(number), error))?;
        }
        let ticket =
            block.submit().map_err(|error| lines.refused(format!("block {height}"), error))?;
        if durability == Durability::EachBlock {
            ticket.durable()?;
        }
        if tickets.send(ticket).is_err() {
            break;
        }
        applied.blocks += 1;
        applied.operations += ops.len() as u64;
    }
    Ok(applied)
}

/// Waits for the blocks in order and says so.
struct Acknowledger {
    reader: Reader,
    out: Output,
    ack: bool,
    bar: ProgressBar,
}

impl Acknowledger {
    fn run(&self, tickets: Receiver<Ticket>) -> Result<(), CliError> {
        for ticket in tickets {
            let root = ticket.root()?;
            if self.ack {
                ticket.durable()?;
            }
            if self.ack || self.out.json() {
                let height = ticket.height();
                let durable = self.reader.durable_height() >= height;
                self.out.report(&Acknowledged { height: height.0, root, durable })?;
            }
            self.bar.inc(1);
        }
        Ok(())
    }
}
