//! `--skip-applied`: an input is read again from its beginning, and what the store has is passed over.
//!
//! ```text
//!   height   1 ... 90   91 ... 100   │ 101 ...
//!            passed     compared     │ applied       the store is at height 100
//! ```
//!
//! The store keeps no blocks, but the last of them left their values there: each key that they wrote
//! must have the value that the last operation on it gave. So much of the end of what is passed over
//! is held in memory until the store's height is reached. Heights must be consecutive.

use super::super::blocks::{ReadBlock, ReadOp};
use crate::error::CliError;
use crate::input::Place;
use crate::text::Shown;
use hedgerow::Reader;
use std::collections::{HashSet, VecDeque};

/// Bytes of keys and values that are held to be compared; one block always is.
const HELD_BYTES: usize = 16 << 20;

/// Passes over blocks.
pub(super) struct Skip {
    reader: Reader,
    /// The store's height when it was opened.
    until: u64,
    last: Option<u64>,
    count: u64,
    held: VecDeque<Held>,
    held_bytes: usize,
}

/// A block that was passed over.
struct Held {
    place: Place,
    block: ReadBlock,
    bytes: usize,
}

impl Skip {
    pub(super) fn new(reader: Reader) -> Self {
        let until = reader.height().0;
        Self { reader, until, last: None, count: 0, held: VecDeque::new(), held_bytes: 0 }
    }

    /// Blocks that were passed over.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Takes the next block of the input; gives it back if the store does not have it yet.
    ///
    /// # Errors
    /// [`CliError::Line`] if the input is not the one that the store was made from.
    pub(super) fn take(
        &mut self,
        place: &Place,
        block: ReadBlock,
    ) -> Result<Option<ReadBlock>, CliError> {
        if block.height > self.until {
            return Ok(Some(block));
        }
        match self.last {
            Some(last) if block.height != last + 1 => {
                return Err(place.bad(format!("block {} follows block {last}", block.height)));
            }
            _ => self.last = Some(block.height),
        }
        self.count += 1;
        let reached = block.height == self.until;
        let bytes = block.ops.iter().map(ReadOp::bytes).sum();
        self.held.push_back(Held { place: place.clone(), block, bytes });
        self.held_bytes += bytes;
        while self.held_bytes > HELD_BYTES && self.held.len() > 1 {
            let Some(oldest) = self.held.pop_front() else { break };
            self.held_bytes -= oldest.bytes;
        }
        if reached {
            self.compare()?;
            self.held.clear();
        }
        Ok(None)
    }

    /// What is held against the store, the newest first: the last operation on a key counts.
    fn compare(&self) -> Result<(), CliError> {
        let mut seen = HashSet::new();
        for Held { place, block, .. } in self.held.iter().rev() {
            for op in block.ops.iter().rev() {
                let (key, wanted) = match op {
                    ReadOp::Put(key, value) => (key, Some(value)),
                    ReadOp::Delete(key) => (key, None),
                };
                if !seen.insert(key) {
                    continue;
                }
                let found = self.reader.get(key)?;
                if found.as_ref() != wanted {
                    let here = said(wanted.map(Vec::as_slice));
                    let there = said(found.as_deref());
                    return Err(place.bad(format!(
                        "the store was not made from this input: block {} leaves key {} {here}, in \
                         the store it is {there}",
                        block.height,
                        Shown(key)
                    )));
                }
            }
        }
        Ok(())
    }
}

/// What a key is, in a message.
fn said(value: Option<&[u8]>) -> String {
    let Some(value) = value else { return "absent".to_owned() };
    let text = Shown(value).to_string();
    match text.char_indices().nth(40) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}... of {} bytes", &text[..end], value.len()),
    }
}
