//! Where in the files things lie, read from docs/format.md without the store's code.
//!
//! ```text
//!   log      segment header │ record header │ frame: head key value next version serial │ ...
//!                                           │ or a stub: 0, serial, hash
//!   twigs    segment header │ record header │ nodes, groups, breaks, leaves if there are any │ ...
//!   redb     page of the header │ ... the manifest of the last height ... history rows ... │
//! ```

use std::ops::Range;

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 64;
const RECORD_HEADER: usize = 352;
const TWIG_HEADER: usize = 32;
const STUB: usize = 40;
const SHARDS: usize = 16;

/// A block's record in a segment of the log.
#[derive(Clone, Debug)]
pub(super) struct LogRecord {
    pub(super) height: u64,
    pub(super) start: usize,
    /// One behind its last byte.
    pub(super) end: usize,
    /// Where its frames lie.
    pub(super) frames: Vec<Range<usize>>,
}

impl LogRecord {
    pub(super) fn header(&self) -> Range<usize> {
        self.start..self.start + RECORD_HEADER
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(four) as usize)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The records of a segment of the log; `None` if it is not what it should be.
pub(super) fn log_records(bytes: &[u8]) -> Option<Vec<LogRecord>> {
    let mut records = Vec::new();
    let mut start = SEGMENT_HEADER;
    while start < bytes.len() {
        if bytes.get(start..start + 8)? != b"HgrwRec3" {
            return None;
        }
        let height = u64_at(bytes, start + 8)?;
        let lens = (0..SHARDS).map(|shard| u32_at(bytes, start + 80 + 16 * shard));
        let runs_end = start + RECORD_HEADER + lens.sum::<Option<usize>>()?;
        let end = runs_end + u32_at(bytes, start + 336)?.next_multiple_of(8);
        let mut frames = Vec::new();
        let mut at = start + RECORD_HEADER;
        while at < runs_end {
            let len = (hashed_len(bytes, at)? + 4).next_multiple_of(8);
            frames.push(at..at + len);
            at += len;
        }
        records.push(LogRecord { height, start, end, frames });
        start = end;
    }
    Some(records)
}

/// Bytes under the checksum of a frame.
fn hashed_len(bytes: &[u8], at: usize) -> Option<usize> {
    if *bytes.get(at)? == 0 {
        return Some(STUB);
    }
    let (key, value) = (usize::from(*bytes.get(at)?), u32_at(bytes, at)? >> 8);
    Some(53 + key + value + 8 * usize::from(*bytes.get(at + 4)?))
}

/// The key of the entry in a frame; none in a stub.
pub(super) fn key<'a>(bytes: &'a [u8], frame: &Range<usize>) -> Option<&'a [u8]> {
    let len = usize::from(*bytes.get(frame.start)?);
    bytes.get(frame.start + 5..frame.start + 5 + len)
}

/// The fields of the frame at `frame`, each with its name; none is empty.
pub(super) fn frame_fields(
    bytes: &[u8],
    frame: &Range<usize>,
) -> Vec<(&'static str, Range<usize>)> {
    let at = frame.start;
    let (Some(hashed), Some(key)) = (hashed_len(bytes, at), bytes.get(at)) else { return vec![] };
    if *key == 0 {
        let names = ["kind of a stub", "serial number", "hash of a stub", "checksum of a frame"];
        let ends = [0, 1, 8, STUB, STUB + 4].map(|end| at + end);
        let fields = names.into_iter().zip(ends.windows(2));
        let padding = ("padding of a frame", ends[4]..frame.end);
        return fields.map(|(name, ends)| (name, ends[0]..ends[1])).chain([padding]).collect();
    }
    let key = usize::from(*key);
    let dsns = 8 * usize::from(bytes[at + 4]);
    let value = hashed - 53 - key - dsns;
    let mut fields = Vec::new();
    let mut from = at;
    for (name, len) in [
        ("lengths of an entry", 5),
        ("key", key),
        ("value", value),
        ("next key hash", 32),
        ("version", 8),
        ("serial number", 8),
        ("deactivated serial numbers", dsns),
        ("checksum of a frame", 4),
        ("padding of a frame", frame.len() - hashed - 4),
    ] {
        if len > 0 {
            fields.push((name, from..from + len));
        }
        from += len;
    }
    fields
}

/// The records of a segment of the twig file: header and body of each.
pub(super) fn twig_records(bytes: &[u8]) -> Option<Vec<(Range<usize>, Range<usize>)>> {
    let mut records = Vec::new();
    let mut start = SEGMENT_HEADER;
    while start < bytes.len() {
        if bytes.get(start..start + 8)? != b"HgrwTwg1" {
            return None;
        }
        let body = start + TWIG_HEADER;
        let end = body + u32_at(bytes, start + 20)?;
        records.push((start..body, body..end));
        start = end;
    }
    Some(records)
}

/// Where the manifest of `height` lies in the database: the copy that counts is among these.
pub(super) fn manifests(bytes: &[u8], height: u64) -> Vec<Range<usize>> {
    let ours = |&at: &usize| u64_at(bytes, at + 56) == Some(height);
    places_of(bytes, b"HgrwMan1").filter(ours).filter_map(|at| manifest(bytes, at)).collect()
}

fn manifest(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let mut at = start + 136;
    for _ in 0..SHARDS {
        let edges: [u8; 2] = bytes.get(at + 64..at + 66)?.try_into().ok()?;
        at += 66 + 33 * usize::from(u16::from_le_bytes(edges));
    }
    (at + 4 <= bytes.len()).then_some(start..at + 4)
}

/// Where history rows lie in the database, also some that are not in the table any more.
pub(super) fn history_rows(bytes: &[u8]) -> Vec<Range<usize>> {
    let row = |at: usize| Some(at..at + 700 + u32_at(bytes, at + 12)?);
    let rows = places_of(bytes, b"HgrwHis1").filter_map(row);
    rows.filter(|row| row.end <= bytes.len()).collect()
}

fn places_of<'a>(bytes: &'a [u8], magic: &'a [u8; 8]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(8).enumerate().filter(move |(_, window)| window == magic).map(|(at, _)| at)
}
