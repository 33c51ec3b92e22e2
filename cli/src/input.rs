//! Input, line by line: a file, a packed one, or standard input. A line is read into memory as a whole, so
//! it has a limit; a small packed file may hold a very long one.
//!
//! ```text
//!   JsonLines::object    the next object, when the caller asks for it
//!   JsonLines::read_on   a thread reads ahead by an object ─► events: object, end, failure, stop
//! ```

use crate::error::CliError;
use crate::outfile::is_dash;
use crate::packing::unpacked;
use clap::Args;
use hedgerow_types::MAX_KEY_LEN;
use indicatif::ProgressBar;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;

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

/// Stack of the thread that reads ahead.
const STACK_BYTES: usize = 2 << 20;

/// What standard input is called.
pub(crate) const STANDARD_INPUT: &str = "standard input";

/// What messages call an input: the file's name, as a rule.
pub(crate) fn name_of(path: &Path) -> String {
    if is_dash(path) { STANDARD_INPUT.to_owned() } else { path.display().to_string() }
}

/// Bytes of a file of lines as it is on disk; `None` for standard input and what has no length.
pub(crate) fn bytes_of(path: &Path) -> Option<u64> {
    let metadata = fs::metadata(path).ok().filter(|metadata| metadata.is_file());
    metadata.filter(|_| !is_dash(path)).map(|metadata| metadata.len())
}

/// A line of an input, for messages.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    input: Arc<str>,
    line: u64,
}

impl Place {
    /// Something is wrong with this line.
    pub(crate) fn bad(&self, reason: impl Into<String>) -> CliError {
        CliError::Line { input: self.input.to_string(), line: self.line, reason: reason.into() }
    }

    /// The store does not accept what this line asks for.
    pub(crate) fn refused(&self, what: impl Into<String>, source: hedgerow::Error) -> CliError {
        let (input, line) = (self.input.to_string(), self.line);
        CliError::Refused { input, line, what: what.into(), source: Box::new(source) }
    }

    /// Something is wrong with the input as a whole.
    pub(crate) fn incomplete(&self, reason: impl Into<String>) -> CliError {
        CliError::Input { input: self.input.to_string(), reason: reason.into() }
    }
}

/// Longest line of a file of keys: a key in hex, and some more to tell that it is too long.
const MAX_KEY_LINE_BYTES: u64 = 1 << 10;

/// The keys of a file, one a line, as they are given as arguments; blank lines are passed over. `-` is standard
/// input.
///
/// # Errors
/// [`CliError::File`]; [`CliError::Line`] for a line that is no key, [`CliError::Input`] if there is none.
pub(crate) fn keys_of(path: &Path) -> Result<Vec<Vec<u8>>, CliError> {
    let input: Arc<str> = name_of(path).into();
    let mut reader: Box<dyn BufRead> = if is_dash(path) {
        Box::new(BufReader::new(io::stdin()))
    } else {
        let failed = |source| CliError::File { doing: "opening", path: path.to_owned(), source };
        Box::new(BufReader::new(File::open(path).map_err(failed)?))
    };
    let mut place = Place { input, line: 0 };
    let (mut keys, mut line) = (Vec::new(), Vec::new());
    loop {
        line.clear();
        place.line += 1;
        let read = reader.by_ref().take(MAX_KEY_LINE_BYTES).read_until(b'\n', &mut line);
        let read = read.map_err(|source| CliError::Reading {
            input: place.input.to_string(),
            line: place.line,
            source,
        })?;
        if read == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        let text = std::str::from_utf8(text).map_err(|error| place.bad(error.to_string()))?;
        let key = crate::text::parse(text).map_err(|error| place.bad(error.to_string()))?;
        if key.is_empty() || key.len() > MAX_KEY_LEN {
            return Err(place.bad(format!("a key has 1 to {MAX_KEY_LEN} bytes")));
        }
        keys.push(key);
    }
    if keys.is_empty() { Err(place.incomplete("there is no key in it")) } else { Ok(keys) }
}

/// What comes from a thread that reads ahead.
pub(crate) enum Event<T> {
    /// An object.
    Object(Place, T),
    /// The input has ended; nothing follows.
    End(Place),
    /// The input cannot be read on; nothing follows.
    Failed(CliError),
    /// Somebody else wants to end it.
    Stop,
}

/// Lines of JSON, one object each; blank lines are passed over.
pub(crate) struct JsonLines {
    /// Where in the input it is.
    place: Place,
    reader: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    max_line_bytes: u64,
}

impl JsonLines {
    /// Opens a file; `-` is standard input. What a name ending in `.gz` or `.zst` leads to is unpacked.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub(crate) fn open(path: &Path, limit: LineArgs) -> Result<Self, CliError> {
        Self::followed(path, limit, &ProgressBar::hidden())
    }

    /// The same; `bar` moves with the bytes that are read of a file.
    ///
    /// # Errors
    /// [`CliError::File`].
    pub(crate) fn followed(
        path: &Path,
        limit: LineArgs,
        bar: &ProgressBar,
    ) -> Result<Self, CliError> {
        let reader: Box<dyn BufRead + Send> = if is_dash(path) {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, io::stdin()))
        } else {
            let file = File::open(path).map_err(|source| CliError::File {
                doing: "opening",
                path: path.to_owned(),
                source,
            })?;
            unpacked(path, bar.wrap_read(file))
        };
        let LineArgs { max_line_bytes } = limit;
        let place = Place { input: name_of(path).into(), line: 0 };
        Ok(Self { place, reader, buffer: Vec::new(), max_line_bytes })
    }

    /// Reads on in a thread of its own, as far ahead as `events` has room, and ends with it. Whoever
    /// waits for an event can be woken up by another one, also while the input has nothing to give.
    ///
    /// # Errors
    /// [`CliError::Thread`].
    pub(crate) fn read_on<T: DeserializeOwned + Send + 'static>(
        mut self,
        events: SyncSender<Event<T>>,
    ) -> Result<(), CliError> {
        let reading = move || loop {
            let (event, last) = match self.object() {
                Ok(Some(object)) => (Event::Object(self.place.clone(), object), false),
                Ok(None) => (Event::End(self.place.clone()), true),
                Err(error) => (Event::Failed(error), true),
            };
            if events.send(event).is_err() || last {
                return;
            }
        };
        // Nobody waits for its end: it may be waiting for a line that never comes.
        let thread = thread::Builder::new().name("read".into()).stack_size(STACK_BYTES);
        match thread.spawn(reading) {
            Ok(_) => Ok(()),
            Err(error) => Err(CliError::no_thread(&error)),
        }
    }

    /// The next object, or `None` at the end.
    ///
    /// # Errors
    /// [`CliError::Line`] if the input cannot be read, or the line is too long or not such an object.
    pub(crate) fn object<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CliError> {
        loop {
            self.buffer.clear();
            self.place.line += 1;
            // One more than may be there: the end of the line.
            let mut some = self.reader.by_ref().take(self.max_line_bytes.saturating_add(1));
            let read = some.read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|source| CliError::Reading {
                input: self.place.input.to_string(),
                line: self.place.line,
                source,
            })? as u64;
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
        self.place.bad(reason)
    }

    /// Something is wrong with the input as a whole.
    pub(crate) fn incomplete(&self, reason: impl Into<String>) -> CliError {
        self.place.incomplete(reason)
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
