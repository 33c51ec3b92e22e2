//! `list`: all keys and their values, in the order of the key hashes.

use super::open_to_read;
use crate::error::CliError;
use crate::outfile::{ForceArg, OutFile};
use crate::output::Output;
use crate::text::{Hex, Shown};
use clap::Args;
use hedgerow::Options;
use serde::Serialize;
use std::io;
use std::path::PathBuf;

/// Print keys and values, a pair a line, in the order of the key hashes
///
/// A tab stands between key and value. With --json a line is {"key":"0x..","value":"0x.."}.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Directory of the store
    dir: PathBuf,
    /// Most keys that are printed
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print no values
    #[arg(long)]
    keys_only: bool,
    /// File to write, - for standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    #[command(flatten)]
    force: ForceArg,
}

/// `{"key", "value"}`; without the value under `--keys-only`.
#[derive(Serialize)]
struct Pair<'a> {
    key: Hex<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Hex<'a>>,
}

pub(super) fn run(args: &ListArgs, out: Output) -> Result<(), CliError> {
    let mut file = OutFile::create(&args.output, args.force)?;
    let store = open_to_read(&args.dir, Options::new(), out)?;
    for pair in store.reader().iter().take(args.limit.unwrap_or(usize::MAX)) {
        let (key, value) = pair?;
        let value = Some(&value).filter(|_| !args.keys_only);
        file.put(|writer| {
            if out.json() {
                let pair = Pair { key: Hex(&key), value: value.map(|value| Hex(value)) };
                serde_json::to_writer(&mut *writer, &pair).map_err(io::Error::from)?;
            } else {
                write!(writer, "{}", Shown(&key))?;
                value.map_or(Ok(()), |value| write!(writer, "\t{}", Shown(value)))?;
            }
            writer.write_all(b"\n")
        })?;
    }
    file.finish()?;
    Ok(store.close()?)
}
