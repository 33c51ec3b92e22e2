//! The rollback record: what takes blocks back, as one more record of the log.
//!
//! ```text
//!   log     │ record h │ record h+1 │ ... │ record H │ rollback │ record h+1' │ ...
//!                      └────────── dead span ───────────────────┘
//!
//!   offset   0      8  magic "HgrwBck1"
//!            8      8  height h: that of the state from which the log goes on
//!           16      8  position of this record, a multiple of 8
//!           24      8  where the dead span begins: the end of the record of h
//!           32      8  height H: that of the last block before it
//!           40     16  zero
//!           56      4  crc32c of bytes 0 to 55 ^ crc32c of the store's id
//!           60      4  zero
//! ```
//!
//! Bytes that were synced are never rewritten, so the records of the blocks that are taken back stay where they
//! are. From the end of `h` to the end of the rollback record the log is **dead**: nothing there belongs to the
//! state any more. The manifest names the dead spans; the rollback record says the same to who has no manifest.
//!
//! A rollback record that no manifest names never happened: it is cut when the log is opened, like a record that
//! was not written to its end. That is certain because nothing is appended behind it before the manifest that
//! names its span is durable.

use crate::log::EntryLog;
use crate::record::frame::ALIGN;
use crate::segments::segment::Extent;
use crate::{Damage, LogError, StoreId};
use hedgerow_types::{Height, LogPosition};
use std::ops::Range;

/// Bytes of a rollback record.
pub const ROLLBACK_LEN: usize = 64;
const CRC_AT: usize = ROLLBACK_LEN - 8;
const MAGIC: [u8; 8] = *b"HgrwBck1";

/// What a rollback record says.
///
/// ```
/// use hedgerow_entryfile::Rollback;
/// use hedgerow_types::{Height, LogPosition};
/// // Blocks 8 to 10 are taken back; the record of height 7 ends at 4096.
/// let rollback = Rollback { from: Height(10), to: Height(7), dead_from: LogPosition(4096) };
/// assert!(rollback.to < rollback.from);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// The last height before it.
    pub from: Height,
    /// The height from whose state the log goes on.
    pub to: Height,
    /// Where the dead span begins: the end of the record of `to`.
    pub dead_from: LogPosition,
}

impl Rollback {
    /// Its bytes at `position` of the log of the store `id`.
    pub(crate) fn encode(&self, position: u64, id: StoreId) -> [u8; ROLLBACK_LEN] {
        let mut out = [0; ROLLBACK_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.to.0.to_le_bytes());
        out[16..24].copy_from_slice(&position.to_le_bytes());
        out[24..32].copy_from_slice(&self.dead_from.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.from.0.to_le_bytes());
        let crc = crc_in(id, &out);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The rollback record in `bytes`, which were read at `position` of the log of the store `id`; `None` if
    /// they are none.
    pub(crate) fn decode(bytes: &[u8; ROLLBACK_LEN], position: u64, id: StoreId) -> Option<Self> {
        let (words, _) = bytes.as_chunks::<8>();
        let word = |number: usize| u64::from_le_bytes(words[number]);
        let stored = u32::from_le_bytes([bytes[56], bytes[57], bytes[58], bytes[59]]);
        let zeros = bytes[40..56].iter().chain(&bytes[60..]).all(|&byte| byte == 0);
        let (to, from, dead_from) = (Height(word(1)), Height(word(4)), LogPosition(word(3)));
        let sound = bytes.starts_with(&MAGIC)
            && zeros
            && stored == crc_in(id, bytes)
            && word(2) == position
            && to < from
            && dead_from.0 < position
            && dead_from.0.is_multiple_of(ALIGN as u64);
        sound.then_some(Self { from, to, dead_from })
    }
}

fn crc_in(id: StoreId, bytes: &[u8; ROLLBACK_LEN]) -> u32 {
    crc32c::crc32c(&bytes[..CRC_AT]) ^ crc32c::crc32c(&id.0)
}

/// The spans with one more: what it holds goes into it.
///
/// ```
/// use hedgerow_entryfile::with_dead_span;
/// use hedgerow_types::LogPosition;
/// let span = |from, to| LogPosition(from)..LogPosition(to);
/// let spans = with_dead_span(&[span(8, 64), span(800, 864)], span(720, 960));
/// assert_eq!(spans, [span(8, 64), span(720, 960)]);
/// ```
pub fn with_dead_span(
    spans: &[Range<LogPosition>],
    span: Range<LogPosition>,
) -> Vec<Range<LogPosition>> {
    let mut merged = span;
    let mut kept = Vec::with_capacity(spans.len() + 1);
    for other in spans {
        if other.end < merged.start || other.start > merged.end {
            kept.push(other.clone());
        } else {
            merged = merged.start.min(other.start)..merged.end.max(other.end);
        }
    }
    let at = kept.partition_point(|other| other.start < merged.start);
    kept.insert(at, merged);
    kept
}

/// The end of the dead span that a position lies in; spans ascend and do not touch.
pub(crate) fn dead_until(spans: &[Range<LogPosition>], at: u64) -> Option<u64> {
    let behind = spans.partition_point(|span| span.start.0 <= at);
    let span = spans.get(behind.checked_sub(1)?)?;
    (at < span.end.0).then_some(span.end.0)
}

impl EntryLog {
    /// The rollback record at `at`, which is written; `None` if there is none.
    pub(crate) fn rollback_at(&self, at: u64) -> Result<Option<(Rollback, u64)>, LogError> {
        let Some(extent) = self.segments.find(at) else { return Ok(None) };
        let Extent { end, .. } = extent;
        if at < extent.content() || end - at < ROLLBACK_LEN as u64 {
            return Ok(None);
        }
        let mut bytes = [0; ROLLBACK_LEN];
        self.read_disk(extent, at, &mut bytes)?;
        let found = Rollback::decode(&bytes, at, self.segments.id);
        Ok(found.map(|rollback| (rollback, at + ROLLBACK_LEN as u64)))
    }

    /// Where a rollback record stands that is the first thing behind `end`, `None` if there is another or
    /// nothing.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] if something whole follows it: then a manifest named it once, which is newer than
    /// the one that is asked about. [`LogError::Io`].
    pub(crate) fn unnamed_rollback(&self, end: u64) -> Result<Option<Rollback>, LogError> {
        let Some(at) = self.record_after(end) else { return Ok(None) };
        let Some((rollback, end)) = self.rollback_at(at)? else { return Ok(None) };
        if let Some(next) = self.record_after(end) {
            let follows = match self.header_on_disk(next) {
                Ok(_) => true,
                Err(LogError::Corrupt { .. }) => self.rollback_at(next)?.is_some(),
                Err(error) => return Err(error),
            };
            if follows {
                return Err(self.segments.corrupt(at, Damage::Rollback { to: rollback.to }));
            }
        }
        Ok(Some(rollback))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: StoreId = StoreId([5; 16]);

    #[test]
    fn what_is_encoded_decodes_and_every_flipped_bit_is_noticed() {
        let rollback = Rollback { from: Height(10), to: Height(7), dead_from: LogPosition(64) };
        let mut bytes = rollback.encode(4096, ID);
        assert_eq!(Rollback::decode(&bytes, 4096, ID), Some(rollback));
        assert_eq!(Rollback::decode(&bytes, 4104, ID), None);
        assert_eq!(Rollback::decode(&bytes, 4096, StoreId([6; 16])), None);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Rollback::decode(&bytes, 4096, ID), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn spans_stay_apart_and_in_order() {
        let span = |from, to| LogPosition(from)..LogPosition(to);
        let spans = with_dead_span(&[], span(80, 160));
        let spans = with_dead_span(&spans, span(240, 320));
        assert_eq!(spans, [span(80, 160), span(240, 320)]);
        assert_eq!(with_dead_span(&spans, span(160, 400)), [span(80, 400)], "what touches is one");
        assert_eq!(with_dead_span(&spans, span(200, 400)), [span(80, 160), span(200, 400)]);
        assert_eq!(with_dead_span(&spans, span(8, 400)), [span(8, 400)]);
        for (at, end) in
            [(79, None), (80, Some(160)), (159, Some(160)), (160, None), (240, Some(320))]
        {
            assert_eq!(dead_until(&spans, at), end, "{at}");
        }
        assert_eq!(dead_until(&[], 7), None);
    }
}
