//! `export`: all keys of the state, as blocks that `apply` reads.

use super::blocks::{WrittenBlock, WrittenPut};
use super::open_to_read;
use crate::error::CliError;
use crate::output::Output;
use clap::Args;
use hedgerow::{Height, Options};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Bytes of keys and values after which a block ends, whatever its number of operations.
pub(super) const BLOCK_BYTES: usize = 16 << 20;

/// Write all keys and values in the format that apply reads
///
/// Applied to a new store, they give the same keys and values. The root is another one: it commits
/// to the history, not only to the present.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Directory of the store
    pub(super) dir: PathBuf,
    /// File to write; standard output if not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Height of the first block written
    #[arg(long, value_name = "H", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=Height::MAX.0))]
    pub(super) first_height: u64,
    /// Most operations in a block
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN.saturating_add(9_999))]
    pub(super) block_ops: NonZeroUsize,
    /// Of a damaged store, write what can be read of its log, say what is missing, and fail if anything is
    #[arg(long)]
    salvage: bool,
}

pub(super) fn run(args: &ExportArgs, out: Output) -> Result<(), CliError> {
    if args.salvage {
        return super::salvage::run(args, out);
    }
    let store = open_to_read(&args.dir, Options::new(), out)?;
    let total = store.stats().keys;
    let bar = out.block_bar(Some(total.div_ceil(args.block_ops.get() as u64)));
    let mut sink = Sink::open(args)?;
    let mut height = args.first_height;
    let mut batch: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut bytes = 0;
    for pair in store.reader().iter() {
        let (key, value) = pair?;
        bytes += key.len() + value.len();
        batch.push((key, value));
        if batch.len() == args.block_ops.get() || bytes >= BLOCK_BYTES {
            sink.write(height, &batch)?;
            bar.inc(1);
            (height, bytes) = (height + 1, 0);
            batch.clear();
        }
    }
    if !batch.is_empty() {
        sink.write(height, &batch)?;
    }
    sink.finish()?;
    bar.finish_and_clear();
    Ok(store.close()?)
}

/// Where the blocks go.
pub(super) struct Sink<'a> {
    path: Option<&'a PathBuf>,
    writer: BufWriter<Box<dyn Write>>,
}

impl<'a> Sink<'a> {
    pub(super) fn open(args: &'a ExportArgs) -> Result<Self, CliError> {
        let path = args.output.as_ref();
        let writer: Box<dyn Write> = match path {
            None => Box::new(io::stdout().lock()),
            Some(path) => Box::new(File::create(path).map_err(|source| CliError::File {
                doing: "creating",
                path: path.clone(),
                source,
            })?),
        };
        Ok(Self { path, writer: BufWriter::new(writer) })
    }

    pub(super) fn write(
        &mut self,
        height: u64,
        pairs: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), CliError> {
        let ops = pairs.iter().map(|(key, value)| WrittenPut { key, value }).collect();
        let written = serde_json::to_writer(&mut self.writer, &WrittenBlock { height, ops })
            .map_err(io::Error::from)
            .and_then(|()| self.writer.write_all(b"\n"));
        written.map_err(|source| self.failed(source))
    }

    pub(super) fn finish(&mut self) -> Result<(), CliError> {
        self.writer.flush().map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> CliError {
        match self.path {
            None => CliError::Output(source),
            Some(path) => CliError::File { doing: "writing", path: path.clone(), source },
        }
    }
}
