//! Input, line by line: a file, a gzip file, or standard input.

use crate::error::CliError;
use flate2::read::MultiGzDecoder;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// Bytes read from the system at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// Lines of JSON, one object each; blank lines are passed over.
pub(crate) struct JsonLines {
    /// What messages call the input.
    name: String,
    reader: Box<dyn BufRead>,
    line: u64,
    buffer: Vec<u8>,
}

impl JsonLines {
    /// Opens a file; `-` is standard input. A name that ends in `.gz` is unpacked.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub(crate) fn open(path: &Path) -> Result<Self, CliError> {
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
        Ok(Self { name, reader, line: 0, buffer: Vec::new() })
    }

    /// The next object, or `None` at the end.
    ///
    /// # Errors
    /// [`CliError::Line`] if the input cannot be read, or the line is not such an object.
    pub(crate) fn object<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CliError> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let read = self.reader.read_until(b'\n', &mut self.buffer);
            if read.map_err(|error| self.bad(error.to_string()))? == 0 {
                return Ok(None);
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
