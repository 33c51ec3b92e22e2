//! Hexadecimal text for digests, keys and values: lower case out, either case in.

use alloc::vec::Vec;
use core::fmt;

/// Why a text is not the hexadecimal form of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HexError {
    /// The text has an odd number of digits, or not the number asked for.
    Length {
        /// Digits found.
        digits: usize,
    },
    /// A character is not a hexadecimal digit.
    Digit {
        /// Byte offset of the character within the digits.
        at: usize,
    },
}

impl fmt::Display for HexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length { digits } => write!(f, "wrong number of hex digits: {digits}"),
            Self::Digit { at } => write!(f, "not a hex digit at offset {at}"),
        }
    }
}

impl core::error::Error for HexError {}

/// Writes `bytes` as lower-case hex.
pub fn write(f: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads hex digits, with or without a leading `0x`, into exactly `out`.
///
/// # Errors
/// [`HexError`] if the text has another length than `2 * out.len()` or holds another character.
pub fn decode_to(text: &str, out: &mut [u8]) -> Result<(), HexError> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    if digits.len() != 2 * out.len() {
        return Err(HexError::Length { digits: digits.len() });
    }
    for (i, (byte, pair)) in out.iter_mut().zip(digits.chunks_exact(2)).enumerate() {
        let digit = |j: usize| match char::from(pair[j]).to_digit(16) {
            Some(value) => Ok(value as u8),
            None => Err(HexError::Digit { at: 2 * i + j }),
        };
        *byte = digit(0)? << 4 | digit(1)?;
    }
    Ok(())
}

/// Reads hex digits, with or without a leading `0x`, of any even number.
///
/// # Errors
/// [`HexError`] if the number of digits is odd or a character is not a digit.
pub fn decode(text: &str) -> Result<Vec<u8>, HexError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mut out = alloc::vec![0; digits.len() / 2];
    decode_to(digits, &mut out)?;
    Ok(out)
}
