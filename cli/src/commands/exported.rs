//! An export: all keys of a state as lines, and two lines by which a reader knows that it has all.
//!
//! ```text
//!   {"export":{"version":1,"height":900,"root":"..."}}         the state that was exported
//!   {"height":1,"ops":[["put","0x..","0x.."], ...]}            blocks, see blocks
//!   ...
//!   {"export":{...},"end":{"blocks":12,"keys":115000,"digest":"..."}}
//! ```
//!
//! The digest is SHA-256 over all pairs in their order: length of the key as 1 byte, key, length of
//! the value as 4 bytes with the lowest first, value. It finds what counts do not. An export does not
//! lead to the root that it names, which commits to the history too: the root says where it came from.

use super::blocks::{ExportLine, ReadBlock, ReadOp, WrittenBlock, WrittenPut};
use crate::error::CliError;
use crate::input::Place;
use crate::outfile::OutFile;
use crate::text::Counted;
use hedgerow::{Digest, Height};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use std::io;

/// The version of the format.
const VERSION: u32 = 1;

/// Bytes of keys and values after which a block ends, whatever its number of operations.
pub(super) const BLOCK_BYTES: usize = 16 << 20;

/// What was exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exported {
    version: u32,
    pub(super) height: u64,
    #[serde(serialize_with = "write_digest", deserialize_with = "read_digest")]
    pub(super) root: Digest,
}

/// How much there is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Totals {
    pub(super) blocks: u64,
    pub(super) keys: u64,
    #[serde(serialize_with = "write_digest", deserialize_with = "read_digest")]
    digest: Digest,
}

fn write_digest<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(digest)
}

fn read_digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// The first line.
#[derive(Serialize)]
struct FirstLine {
    export: Exported,
}

/// The last line.
#[derive(Serialize)]
struct LastLine {
    export: Exported,
    end: Totals,
}

/// Counts what goes by.
#[derive(Default)]
struct Tally {
    blocks: u64,
    keys: u64,
    digest: Sha256,
}

impl Tally {
    fn pair(&mut self, key: &[u8], value: &[u8]) {
        self.keys += 1;
        // Keys have at most 255 bytes and values less than 2^24.
        self.digest.update([key.len() as u8]);
        self.digest.update(key);
        self.digest.update((value.len() as u32).to_le_bytes());
        self.digest.update(value);
    }

    fn totals(self) -> Totals {
        let Self { blocks, keys, digest } = self;
        Totals { blocks, keys, digest: Digest(digest.finalize().into()) }
    }
}

/// Writes an export.
pub(super) struct ExportWriter {
    out: OutFile,
    of: Exported,
    /// Height of the next block.
    next: u64,
    block_ops: usize,
    batch: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
    tally: Tally,
}

impl ExportWriter {
    /// Begins an export of the state of a height. Blocks have at most `block_ops` operations, the
    /// first the height `first`.
    ///
    /// # Errors
    /// As [`OutFile::put`].
    pub(super) fn begin(
        mut out: OutFile,
        (height, root): (Height, Digest),
        first: u64,
        block_ops: usize,
    ) -> Result<Self, CliError> {
        let of = Exported { version: VERSION, height: height.0, root };
        line(&mut out, &FirstLine { export: of })?;
        let (batch, bytes, tally) = (Vec::new(), 0, Tally::default());
        Ok(Self { out, of, next: first, block_ops, batch, bytes, tally })
    }

    /// Adds a pair; whether a block has become full by it.
    ///
    /// # Errors
    /// As [`OutFile::put`].
    pub(super) fn add(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<bool, CliError> {
        self.tally.pair(&key, &value);
        self.bytes += key.len() + value.len();
        self.batch.push((key, value));
        let full = self.batch.len() >= self.block_ops || self.bytes >= BLOCK_BYTES;
        if full {
            self.block()?;
        }
        Ok(full)
    }

    fn block(&mut self) -> Result<(), CliError> {
        let ops = self.batch.iter().map(|(key, value)| WrittenPut { key, value }).collect();
        line(&mut self.out, &WrittenBlock { height: self.next, ops })?;
        self.next += 1;
        self.tally.blocks += 1;
        self.batch.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Writes the last line. Without it the export is refused.
    ///
    /// # Errors
    /// As [`OutFile::finish`].
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        if !self.batch.is_empty() {
            self.block()?;
        }
        line(&mut self.out, &LastLine { export: self.of, end: self.tally.totals() })?;
        self.out.finish()
    }
}

/// One object as a line.
pub(super) fn line(out: &mut OutFile, object: &impl Serialize) -> Result<(), CliError> {
    out.put(|writer| {
        serde_json::to_writer(&mut *writer, object).map_err(io::Error::from)?;
        writer.write_all(b"\n")
    })
}

/// Checks an export while it is read.
#[derive(Default)]
pub(super) struct ExportCheck {
    of: Option<Exported>,
    tally: Tally,
    ended: bool,
}

impl ExportCheck {
    /// Takes the next line; gives back its block if it has one.
    ///
    /// # Errors
    /// [`CliError::Line`] if it cannot be the next line of an export.
    pub(super) fn line(
        &mut self,
        place: &Place,
        line: ExportLine,
    ) -> Result<Option<ReadBlock>, CliError> {
        if self.ended {
            return Err(place.bad("there is more after the last line of the export"));
        }
        match (self.of, line) {
            (None, ExportLine::First(of)) if of.version == VERSION => self.of = Some(of),
            (None, ExportLine::First(Exported { version, .. })) => {
                return Err(place.bad(format!(
                    "an export of version {version}; this program reads version {VERSION}"
                )));
            }
            (None, _) => {
                let words = "not the first line of an export; `hedgerow apply` takes plain blocks";
                return Err(place.bad(words));
            }
            (Some(_), ExportLine::Block(block)) => {
                self.block(place, &block)?;
                return Ok(Some(block));
            }
            (Some(of), ExportLine::Last(also, totals)) => {
                let seen = std::mem::take(&mut self.tally).totals();
                if also != of || totals != seen {
                    let count =
                        |it: &Totals| (Counted(it.blocks, "block"), Counted(it.keys, "key"));
                    let ((blocks, keys), (said, said_keys)) = (count(&seen), count(&totals));
                    return Err(place.bad(format!(
                        "the export is not whole: its last line speaks of {said} with {said_keys} at \
                         height {}, digest {}; it has {blocks} with {keys} at height {}, digest {}",
                        also.height, totals.digest, of.height, seen.digest
                    )));
                }
                self.ended = true;
            }
            (Some(_), ExportLine::First(_)) => {
                return Err(place.bad("the first line of an export, once more"));
            }
        }
        Ok(None)
    }

    fn block(&mut self, place: &Place, block: &ReadBlock) -> Result<(), CliError> {
        self.tally.blocks += 1;
        for op in &block.ops {
            match op {
                ReadOp::Put(key, value) => self.tally.pair(key, value),
                ReadOp::Delete(_) => return Err(place.bad("an export deletes nothing")),
            }
        }
        Ok(())
    }

    /// The input has ended: what it was an export of.
    ///
    /// # Errors
    /// [`CliError::Input`] if the last line has not come.
    pub(super) fn end(self, place: &Place) -> Result<Exported, CliError> {
        match self.of {
            Some(of) if self.ended => Ok(of),
            _ => Err(place.incomplete("the export was cut short: its last line is missing")),
        }
    }
}
