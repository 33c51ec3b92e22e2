//! `export --salvage`: what can be read of a damaged store, and, loudly, what cannot.

use super::export::{BLOCK_BYTES, ExportArgs, Sink};
use crate::error::CliError;
use crate::output::Output;
use hedgerow::{Options, SalvageReport, Store};
use std::fmt::Write;

/// Parts of the log that are named one by one.
const NAMED: usize = 10;

pub(super) fn run(args: &ExportArgs, _out: Output) -> Result<(), CliError> {
    let mut sink = Sink::open(args)?;
    let mut height = args.first_height;
    let mut batch: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    let mut written = Ok(());
    let report = Store::salvage(&args.dir, Options::new(), |key, value| {
        bytes += key.len() + value.len();
        batch.push((key.to_vec(), value.to_vec()));
        if batch.len() == args.block_ops.get() || bytes >= BLOCK_BYTES {
            written = sink.write(height, &batch);
            (height, bytes) = (height + 1, 0);
            batch.clear();
        }
        written.is_ok()
    });
    written?;
    let report = report?;
    if !batch.is_empty() {
        sink.write(height, &batch)?;
    }
    sink.finish()?;
    if report.is_whole() { Ok(()) } else { Err(CliError::Salvaged(missing(&report))) }
}

/// What is missing, for people.
fn missing(report: &SalvageReport) -> String {
    let SalvageReport { keys, expected, left_out, parts, bytes, lost, .. } = report;
    let mut text = format!("{keys} keys were written, and some are missing");
    let mut line = |line: std::fmt::Arguments<'_>| {
        // A string takes everything.
        let _ = write!(text, "\n  {line}");
    };
    if let Some((height, keys)) = expected {
        line(format_args!("at height {height} there were {keys} keys"));
    }
    line(format_args!("{parts} parts of the log are lost, {bytes} bytes"));
    for part in lost.iter().take(NAMED) {
        let of = part.key.as_ref().map_or(String::new(), |key| {
            format!(", it seems, of key {}", String::from_utf8_lossy(key).escape_debug())
        });
        line(format_args!("{} bytes at log position {}{of}", part.bytes, part.at.0));
    }
    if *parts > NAMED as u64 {
        line(format_args!("and {} more", parts - NAMED as u64));
    }
    line(format_args!(
        "{left_out} keys were left out because what is lost seems to have changed them"
    ));
    line(format_args!(
        "nothing was verified against a root; where it cannot be told what a lost part changed, a key has \
         an older value, or is there though it was deleted"
    ));
    text
}
