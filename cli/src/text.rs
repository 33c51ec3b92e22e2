//! Keys and values as text: how they are typed, and how they are shown.
//!
//! ```text
//!   0x00ff      hex digits after 0x        any bytes
//!   alice       anything else              its UTF-8 bytes
//! ```
//!
//! **Invariant:** whatever is shown reads back as the same bytes. A text that itself begins with
//! `0x` is therefore shown, and must be typed, as hex.

use hedgerow_types::hex::{self, HexError};
use indicatif::HumanCount;
use serde::{Serialize, Serializer};
use std::fmt;

/// Reads a key or value.
///
/// # Errors
/// [`HexError`] if the text begins with `0x` and the rest is not an even number of hex digits.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, HexError> {
    if text.starts_with("0x") { hex::decode(text) } else { Ok(text.as_bytes().to_vec()) }
}

/// A key or value given as an argument.
#[derive(Clone, Debug)]
pub(crate) struct BytesArg(pub(crate) Vec<u8>);

impl std::str::FromStr for BytesArg {
    type Err = HexError;

    fn from_str(text: &str) -> Result<Self, HexError> {
        parse(text).map(Self)
    }
}

/// How many there are of what has this name in the singular, and that name with an s in the plural.
pub(crate) struct Counted(pub(crate) u64, pub(crate) &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, name) = self;
        let s = if *count == 1 { "" } else { "s" };
        write!(f, "{} {name}{s}", HumanCount(*count))
    }
}

/// Shows bytes to a person: as text if they are printable, else as hex.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.0) {
            Ok(text) if !text.starts_with("0x") && !text.chars().any(char::is_control) => {
                f.write_str(text)
            }
            _ => Hex(self.0).fmt(f),
        }
    }
}

/// Bytes as `0x` and hex digits, in every output that programs read.
#[derive(Clone, Copy)]
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        hex::write(f, self.0)
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Serializes whatever prints, such as a digest, as the text that it prints.
pub(crate) fn as_text<S: Serializer>(
    value: &impl fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_reads_back() {
        let samples: [&[u8]; 8] = [
            b"",
            b"alice",
            b"0x",
            b"0xnot hex",
            b"\x00\xff",
            b"two\nlines",
            "B\u{e4}ume".as_bytes(),
            b"\x7f",
        ];
        for bytes in samples {
            assert_eq!(parse(&Shown(bytes).to_string()).as_deref(), Ok(bytes));
            assert_eq!(parse(&Hex(bytes).to_string()).as_deref(), Ok(bytes));
        }
        assert_eq!(Shown(b"alice").to_string(), "alice");
        assert_eq!(Shown(b"0x41").to_string(), "0x30783431");
    }

    #[test]
    fn broken_hex_is_refused() {
        assert!(parse("0x1").is_err());
        assert!(parse("0xzz").is_err());
        assert!(parse("0x0x00").is_err());
    }
}
