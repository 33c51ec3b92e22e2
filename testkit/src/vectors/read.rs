//! Finding, unpacking and decoding the files.

use flate2::read::MultiGzDecoder;
use hedgerow_types::{Digest, KeyHash, SerialNumber, hex};
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name)
}

/// The bytes of a file, unpacked if its name ends in `.gz`.
fn open(name: &str) -> Box<dyn BufRead + Send> {
    let path = path(name);
    let file = File::open(&path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    if name.ends_with(".gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    }
}

pub(super) fn json<T: DeserializeOwned>(name: &str) -> T {
    let mut text = String::new();
    open(name).read_to_string(&mut text).unwrap_or_else(|e| panic!("read {name}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("parse {name}: {e}"))
}

/// One value per line.
pub(super) fn json_lines<T: DeserializeOwned>(
    name: &str,
) -> impl Iterator<Item = T> + Send + use<T> {
    let name = name.to_owned();
    open(&name).lines().map(move |line| {
        let line = line.unwrap_or_else(|e| panic!("read {name}: {e}"));
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("parse {name}: {e}"))
    })
}

/// A value that the recordings write as text: bytes as hex, serial numbers as decimal digits.
pub(super) trait FromText: Sized {
    fn from_text(value: &Value) -> Option<Self>;
}

impl FromText for Vec<u8> {
    fn from_text(value: &Value) -> Option<Self> {
        hex::decode(value.as_str()?).ok()
    }
}

impl FromText for Digest {
    fn from_text(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

impl FromText for KeyHash {
    fn from_text(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
}

impl FromText for SerialNumber {
    fn from_text(value: &Value) -> Option<Self> {
        value.as_u64().or_else(|| value.as_str()?.parse().ok()).map(SerialNumber)
    }
}

impl FromText for Vec<Digest> {
    fn from_text(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(Digest::from_text).collect()
    }
}

impl FromText for Vec<SerialNumber> {
    fn from_text(value: &Value) -> Option<Self> {
        value.as_array()?.iter().map(SerialNumber::from_text).collect()
    }
}

impl<T: FromText, const N: usize> FromText for [T; N]
where
    Vec<T>: FromText,
{
    fn from_text(value: &Value) -> Option<Self> {
        Vec::from_text(value)?.try_into().ok()
    }
}

impl<T: FromText> FromText for Option<T> {
    fn from_text(value: &Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { T::from_text(value).map(Some) }
    }
}

/// For `#[serde(deserialize_with = "text")]`.
pub(super) fn text<'de, D: Deserializer<'de>, T: FromText>(from: D) -> Result<T, D::Error> {
    let value = <Value as serde::Deserialize>::deserialize(from)?;
    T::from_text(&value).ok_or_else(|| D::Error::custom(format!("not the expected text: {value}")))
}
