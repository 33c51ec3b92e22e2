//! The format that `apply` and `import` read and `export` writes: one block a line.
//!
//! ```text
//!   {"height":7,"ops":[["put","0x616c696365","0x313030"],["put","bob","20"],["delete","carol"]]}
//! ```
//!
//! Keys and values are `0x` and hex digits, or plain strings, which stand for their UTF-8 bytes.
//! Heights are consecutive. What counts is the last operation on a key (the net effect of the
//! block); deleting an absent key changes nothing. `export` adds a first and a last line
//! ([`exported`](super::exported)), by which `import` tells whether all is there.

use super::exported::{Exported, Totals};
use crate::text::{self, Hex};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// A block as it is read.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "AnyLine")]
pub(super) struct ReadBlock {
    pub(super) height: u64,
    pub(super) ops: Vec<ReadOp>,
}

/// A line of an export, which has two more kinds of them: see [`exported`](super::exported).
#[derive(Debug, Deserialize)]
#[serde(try_from = "AnyLine")]
pub(super) enum ExportLine {
    First(Exported),
    Block(ReadBlock),
    Last(Exported, Totals),
}

/// All fields that a line may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyLine {
    height: Option<u64>,
    ops: Option<Vec<ReadOp>>,
    export: Option<Exported>,
    end: Option<Totals>,
}

impl TryFrom<AnyLine> for ExportLine {
    type Error = &'static str;

    fn try_from(line: AnyLine) -> Result<Self, Self::Error> {
        match line {
            AnyLine { height: None, ops: None, export: Some(of), end: None } => Ok(Self::First(of)),
            AnyLine { height: None, ops: None, export: Some(of), end: Some(totals) } => {
                Ok(Self::Last(of, totals))
            }
            AnyLine { height: Some(height), ops: Some(ops), export: None, end: None } => {
                Ok(Self::Block(ReadBlock { height, ops }))
            }
            AnyLine { height: None, export: None, .. } => Err("missing field `height`"),
            AnyLine { ops: None, export: None, .. } => Err("missing field `ops`"),
            _ => Err("neither a block nor the first or last line of an export"),
        }
    }
}

impl TryFrom<AnyLine> for ReadBlock {
    type Error = &'static str;

    fn try_from(line: AnyLine) -> Result<Self, Self::Error> {
        match ExportLine::try_from(line)? {
            ExportLine::Block(block) => Ok(block),
            _ => Err("this is an export, which `hedgerow import` reads into a new store"),
        }
    }
}

/// An operation as it is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadOp {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
}

impl ReadOp {
    /// Bytes of key and value.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Put(key, value) => key.len() + value.len(),
            Self::Delete(key) => key.len(),
        }
    }
}

impl<'de> Deserialize<'de> for ReadOp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OpVisitor;
        impl<'de> Visitor<'de> for OpVisitor {
            type Value = ReadOp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"["put", key, value] or ["delete", key]"#)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ReadOp, A::Error> {
                let kind = seq.next_element::<Cow<'_, str>>()?;
                let op = match kind.as_deref() {
                    Some("put") => {
                        let key = bytes(&mut seq, &self, 1, "key")?;
                        ReadOp::Put(key, bytes(&mut seq, &self, 2, "value")?)
                    }
                    Some("delete") => ReadOp::Delete(bytes(&mut seq, &self, 1, "key")?),
                    Some(other) => {
                        let reason = format!("unknown operation {other:?}, expected put or delete");
                        return Err(A::Error::custom(reason));
                    }
                    None => return Err(A::Error::invalid_length(0, &self)),
                };
                // What is too much, the parser refuses.
                Ok(op)
            }
        }

        fn bytes<'de, A: SeqAccess<'de>>(
            seq: &mut A,
            expected: &OpVisitor,
            place: usize,
            what: &str,
        ) -> Result<Vec<u8>, A::Error> {
            let Some(text) = seq.next_element::<Cow<'_, str>>()? else {
                return Err(A::Error::invalid_length(place, expected));
            };
            text::parse(&text).map_err(|error| {
                let shown: String = text.chars().take(80).collect();
                A::Error::custom(format!("{what} {shown:?}: {error}"))
            })
        }

        deserializer.deserialize_seq(OpVisitor)
    }
}

/// A block as it is written.
#[derive(Serialize)]
pub(super) struct WrittenBlock<'a> {
    pub(super) height: u64,
    pub(super) ops: Vec<WrittenPut<'a>>,
}

/// A put as it is written: always in hex, so that nothing depends on what the bytes look like.
pub(super) struct WrittenPut<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl Serialize for WrittenPut<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(3)?;
        tuple.serialize_element("put")?;
        tuple.serialize_element(&Hex(self.key))?;
        tuple.serialize_element(&Hex(self.value))?;
        tuple.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ReadBlock, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn both_forms_of_bytes_are_read() {
        let block = read(r#"{"height":3,"ops":[["put","0x00fF","a\"\u00e4"],["delete",""]]}"#);
        let ops = vec![
            ReadOp::Put(vec![0, 255], "a\"\u{e4}".as_bytes().to_vec()),
            ReadOp::Delete(Vec::new()),
        ];
        assert_eq!(block, Ok(ReadBlock { height: 3, ops }));
    }

    #[test]
    fn what_is_written_reads_back() {
        let pairs: [(&[u8], &[u8]); 2] = [(b"0x", b""), (&[0, 1, 255], b"text")];
        let ops = pairs.iter().map(|&(key, value)| WrittenPut { key, value }).collect();
        let text = serde_json::to_string(&WrittenBlock { height: 9, ops });
        let ops = pairs.iter().map(|(key, value)| ReadOp::Put(key.to_vec(), value.to_vec()));
        let block = ReadBlock { height: 9, ops: ops.collect() };
        assert_eq!(read(&text.expect("JSON")), Ok(block));
    }

    /// Fuzzed: lines that are damaged, cut, put together anew; what is read is written and read back.
    #[test]
    fn any_line_is_refused_or_reads_back() {
        use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
        static TRIED: AtomicU64 = AtomicU64::new(0);
        static READ: AtomicU64 = AtomicU64::new(0);
        const LINES: [&str; 6] = [
            r#"{"export":{"version":1,"height":3,"root":"00"}}"#,
            r#"{"export":{"version":1,"height":3,"root":"00"},"end":{"blocks":1,"keys":3,"digest":""}}"#,
            r#"{"height":3,"ops":[["put","0x00ff","a\"\u00e4"],["delete",""]]}"#,
            r#"{"height":18446744073709551615,"ops":[]}"#,
            r#"{"ops":[["put","","0x"],["put","a","b"],["delete","0x00"]],"height":1}"#,
            r#"[[[[[[[[[[[[[[[[{"height":{"ops":"\ud83d\ude00"#,
        ];
        type Input = (u8, u8, Vec<(u16, u8)>, Option<u16>);
        bolero::check!().with_iterations(100_000).with_type::<Input>().for_each(
            |(first, second, patches, cut)| {
                let line = |number: &u8| LINES[usize::from(*number) % LINES.len()].as_bytes();
                let mut bytes = line(first).to_vec();
                if let Some(cut) = cut.filter(|cut| cut % 4 == 0) {
                    bytes.truncate(usize::from(cut) % (bytes.len() + 1));
                    bytes.extend(line(second));
                }
                for (at, value) in patches.iter().take(3) {
                    let at = usize::from(*at) % bytes.len();
                    bytes[at] = *value;
                }
                TRIED.fetch_add(1, Relaxed);
                let read_as_export = serde_json::from_slice::<ExportLine>(&bytes);
                let Ok(block) = serde_json::from_slice::<ReadBlock>(&bytes) else { return };
                // Whatever is a block for apply is one for import.
                assert!(matches!(read_as_export, Ok(ExportLine::Block(same)) if same == block));
                READ.fetch_add(1, Relaxed);
                let puts = block.ops.iter().filter_map(|op| match op {
                    ReadOp::Put(key, value) => Some(WrittenPut { key, value }),
                    ReadOp::Delete(_) => None,
                });
                let written = WrittenBlock { height: block.height, ops: puts.collect() };
                let text = serde_json::to_string(&written).expect("JSON");
                let again = read(&text).expect("what is written is read");
                assert_eq!(again.height, block.height);
                let puts = block.ops.iter().filter(|op| matches!(op, ReadOp::Put(..)));
                assert!(again.ops.iter().eq(puts));
            },
        );
        let (tried, read) = (TRIED.load(Relaxed), READ.load(Relaxed));
        println!("FUZZED line of operations: {tried} inputs, {read} read");
        assert!(0 < read && read < tried);
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for (text, reason) in [
            (r#"{"height":1}"#, "missing field `ops`"),
            (r#"{"height":-1,"ops":[]}"#, "expected u64"),
            (r#"{"height":1,"ops":[],"op":[]}"#, "unknown field"),
            (r#"{"height":1,"ops":[[]]}"#, "invalid length 0"),
            (r#"{"height":1,"ops":[["put","a"]]}"#, "invalid length 2"),
            (r#"{"height":1,"ops":[["delete","a","b"]]}"#, "trailing characters"),
            (r#"{"height":1,"ops":[["set","a","b"]]}"#, "unknown operation \"set\""),
            (
                r#"{"height":1,"ops":[["delete","0xa"]]}"#,
                "key \"0xa\": odd number of hex digits: 1",
            ),
            (r#"{"height":1,"ops":[["put","a","0xgg"]]}"#, "value \"0xgg\": not a hex digit"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
