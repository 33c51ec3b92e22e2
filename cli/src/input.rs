//! Input, line by line: a file, a gzip file, or standard input. A line is read into memory as a whole,
//! so it has a limit; a small gzip file may hold a very long one.

use crate::error::CliError;
use clap::Args;
use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// Bytes read from the system at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Longest line unless told otherwise: twice what `export` writes at most, with its own limits.
const DEFAULT_MAX_LINE_BYTES: u64 = 128 << 20;

/// What the commands that read lines can be told about them.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct LineArgs {
    /// Longest line in bytes that is read
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_LINE_BYTES)]
    max_line_bytes: u64,
}

/// Lines of JSON, one object each; blank lines are passed over.
pub(crate) struct JsonLines {
    /// What messages call the input.
    name: String,
    reader: Box<dyn BufRead>,
    line: u64,
    buffer: Vec<u8>,
    max_line_bytes: u64,
}

impl JsonLines {
    /// Opens a file; `-` is standard input. A name that ends in `.gz` is unpacked.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub(crate) fn open(path: &Path, limit: LineArgs) -> Result<Self, CliError> {
        let (name, reader): (_, Box<dyn BufRead>) = if path.as_os_str() == "-" {
            let stdin = BufReader::with_capacity(BUFFER_BYTES, io::stdin());
            ("standard input".to_owned(), Box::new(stdin))
        } else {
            let file = File::open(path).map_err(|source| CliError::File {
                doing: "opening",
                path: path.to_owned(),
                source,
            })?;
            let reader: Box<dyn BufRead> = if path.extension().is_some_and(|ext| ext == "gz") {
                Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(file)))
            } else {
                Box::new(BufReader::with_capacity(BUFFER_BYTES, file))
            };
            (path.display().to_string(), reader)
        };
        let LineArgs { max_line_bytes } = limit;
        Ok(Self { name, reader, line: 0, buffer: Vec::new(), max_line_bytes })
    }

    /// The next object, or `None` at the end.
    ///
    /// # Errors
    /// [`CliError::Line`] if the input cannot be read, or the line is too long or not such an object.
    pub(crate) fn object<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CliError> {
        loop {
            self.buffer.clear();
            self.line += 1;
            // One more than may be there: the end of the line.
            let mut some = self.reader.by_ref().take(self.max_line_bytes.saturating_add(1));
            let read = some.read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|error| self.bad(error.to_string()))? as u64;
            if read == 0 {
                return Ok(None);
            }
            if read > self.max_line_bytes && self.buffer.last() != Some(&b'\n') {
                let max = self.max_line_bytes;
                return Err(self.bad(format!(
                    "the line is longer than {max} bytes, the limit (--max-line-bytes)"
                )));
            }
            let line = self.buffer.trim_ascii();
            if !line.is_empty() {
                let parsed = serde_json::from_slice(line);
                return parsed.map(Some).map_err(|error| self.bad(describe(&error)));
            }
        }
    }

    /// Something is wrong with the line that was read last.
    pub(crate) fn bad(&self, reason: impl Into<String>) -> CliError {
        CliError::Line { input: self.name.clone(), line: self.line, reason: reason.into() }
    }

    /// The store does not accept what the line that was read last asks for.
    pub(crate) fn refused(&self, what: impl Into<String>, source: hedgerow::Error) -> CliError {
        let (input, line) = (self.name.clone(), self.line);
        CliError::Refused { input, line, what: what.into(), source: Box::new(source) }
    }

    /// Something is wrong with the input as a whole.
    pub(crate) fn incomplete(&self, reason: impl Into<String>) -> CliError {
        CliError::Input { input: self.name.clone(), reason: reason.into() }
    }
}

/// The parser's message without its line number, which counts within our line.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(reason) => format!("{reason} (column {})", error.column()),
        None => text,
    }
}
