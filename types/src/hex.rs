//! Hexadecimal text for digests, keys and values: lower case out, either case in.

use alloc::vec::Vec;
use core::fmt;

/// Why a text is not the hexadecimal form of what was asked for.
///
/// ```
/// use hedgerow_types::hex::{self, HexError};
/// assert_eq!(hex::decode("0x00FF"), Ok(vec![0x00, 0xFF]));
/// assert_eq!(hex::decode("abc"), Err(HexError::Odd { digits: 3 }));
/// assert_eq!(hex::decode("no"), Err(HexError::Digit { at: 0 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HexError {
    /// The text has another number of digits than was asked for.
    Length {
        /// Digits found.
        digits: usize,
    },
    /// The text has an odd number of digits: half a byte is missing, or too much.
    Odd {
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
            Self::Odd { digits } => write!(f, "odd number of hex digits: {digits}"),
            Self::Digit { at } => write!(f, "not a hex digit at offset {at}"),
        }
    }
}

impl core::error::Error for HexError {}

/// Bytes that are written at a time.
const PART: usize = 32;

/// Writes `bytes` as lower-case hex.
pub fn write(f: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    // By a table: the formatter takes some 15 ns for each byte, which is most of an export's time.
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut buffer = [0; 2 * PART];
    for part in bytes.chunks(PART) {
        let pairs = buffer.chunks_exact_mut(2);
        for (pair, byte) in pairs.zip(part) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        let text = core::str::from_utf8(&buffer[..2 * part.len()]);
        f.write_str(text.map_err(|_| fmt::Error)?)?;
    }
    Ok(())
}

/// Reads hex digits, with or without a leading `0x`, into exactly `out`.
///
/// # Errors
/// [`HexError`] if the text has an odd or another length than `2 * out.len()`, or holds another character.
pub fn decode_to(text: &str, out: &mut [u8]) -> Result<(), HexError> {
    let digits = text.strip_prefix("0x").unwrap_or(text).as_bytes();
    if digits.len() % 2 == 1 {
        return Err(HexError::Odd { digits: digits.len() });
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn what_is_written_is_what_the_formatter_writes_and_reads_back() {
        for len in [0, 1, PART - 1, PART, PART + 1, 3 * PART, 1000] {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 37 + 11 * (i / 256)) as u8).collect();
            let mut text = String::new();
            let written = write(&mut text, &bytes);
            let mut wanted = String::new();
            let formatted = bytes
                .iter()
                .try_for_each(|byte| fmt::write(&mut wanted, format_args!("{byte:02x}")));
            assert_eq!((written, formatted, &text), (Ok(()), Ok(()), &wanted));
            assert_eq!(decode(&text), Ok(bytes));
        }
    }

    #[test]
    fn half_a_byte_is_told_from_a_wrong_length() {
        assert_eq!(decode("0x123"), Err(HexError::Odd { digits: 3 }));
        assert_eq!(decode_to("12", &mut [0; 2]), Err(HexError::Length { digits: 2 }));
        assert_eq!(decode("1g"), Err(HexError::Digit { at: 1 }));
    }
}
