//! `export --salvage`: what can be read of a damaged store, and, loudly, what cannot.

use super::blocks::{WrittenBlock, WrittenPut};
use super::export::ExportArgs;
use super::exported::{BLOCK_BYTES, line};
use crate::error::CliError;
use crate::outfile::OutFile;
use crate::text::Counted;
use hedgerow::{Options, SalvageReport, Store};
use std::fmt::Write;

/// Parts of the log that are named one by one.
const NAMED: usize = 10;

/// Plain blocks, without the lines by which an export is known to be whole: it may not be.
struct Blocks {
    out: OutFile,
    next: u64,
    batch: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
}

impl Blocks {
    fn write(&mut self) -> Result<(), CliError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let ops = self.batch.iter().map(|(key, value)| WrittenPut { key, value }).collect();
        line(&mut self.out, &WrittenBlock { height: self.next, ops })?;
        self.next += 1;
        self.batch.clear();
        self.bytes = 0;
        Ok(())
    }
}

pub(super) fn run(args: &ExportArgs) -> Result<(), CliError> {
    let out = OutFile::create_packed(&args.output, args.force)?;
    let mut blocks = Blocks { out, next: args.first_height, batch: Vec::new(), bytes: 0 };
    let mut written = Ok(());
    let report = Store::salvage(&args.dir, Options::new(), |key, value| {
        blocks.bytes += key.len() + value.len();
        blocks.batch.push((key.to_vec(), value.to_vec()));
        if blocks.batch.len() == args.block_ops.get() || blocks.bytes >= BLOCK_BYTES {
            written = blocks.write();
        }
        written.is_ok()
    });
    written?;
    let report = report?;
    blocks.write()?;
    blocks.out.finish()?;
    if report.is_whole() { Ok(()) } else { Err(CliError::Salvaged(missing(&report))) }
}

fn were(keys: u64) -> String {
    format!("{} {}", Counted(keys, "key"), if keys == 1 { "was" } else { "were" })
}

/// What is missing, for people.
fn missing(report: &SalvageReport) -> String {
    let SalvageReport { keys, expected, left_out, parts, bytes, lost, .. } = report;
    let mut text = format!("{} written, and some are missing", were(*keys));
    let mut line = |line: std::fmt::Arguments<'_>| {
        // A string takes everything.
        let _ = write!(text, "\n  {line}");
    };
    if let Some((height, keys)) = expected {
        line(format_args!("at height {height} there were {}", Counted(*keys, "key")));
    }
    let are = if *parts == 1 { "is" } else { "are" };
    let (lost_parts, lost_bytes) = (Counted(*parts, "part"), Counted(*bytes, "byte"));
    line(format_args!("{lost_parts} of the log {are} lost, {lost_bytes}"));
    for part in lost.iter().take(NAMED) {
        let of = part.key.as_ref().map_or(String::new(), |key| {
            format!(", it seems, of key {}", String::from_utf8_lossy(key).escape_debug())
        });
        line(format_args!("{} bytes at log position {}{of}", part.bytes, part.at.0));
    }
    if *parts > NAMED as u64 {
        line(format_args!("and {} more", parts - NAMED as u64));
    }
    line(format_args!("{} left out: what is lost seems to have changed that", were(*left_out)));
    line(format_args!(
        "nothing was verified against a root; where it cannot be told what a lost part changed, a key has \
         an older value, or is there though it was deleted"
    ));
    text
}
