//! VARINT: Bitcoin Core's number of variable length (`serialize.h`), base 128 with the most significant group first.
//!
//! ```text
//!   0 ──► 00      127 ──► 7F      128 ──► 80 00      16,511 ──► FF 7F      16,512 ──► 80 80 00
//! ```
//!
//! A group that is carried counts one less than it says, so that no number has two forms.

use super::{FormatError, Input, ReadError};
use std::io::Read;

/// Bytes of the longest: 64 bits.
const MAX_LEN: usize = 10;

/// Appends a number.
pub(crate) fn write_varint(number: u64, out: &mut Vec<u8>) {
    let mut groups = [0; MAX_LEN];
    let mut left = number;
    let mut used = 0;
    // From the last group to the first.
    for (place, group) in groups.iter_mut().rev().enumerate() {
        *group = (left & 0x7f) as u8 | if place == 0 { 0 } else { 0x80 };
        used = place + 1;
        if left <= 0x7f {
            break;
        }
        left = (left >> 7) - 1;
    }
    out.extend(groups.iter().skip(MAX_LEN - used));
}

/// The next number.
pub(crate) fn read_varint<R: Read>(input: &mut Input<R>) -> Result<u64, ReadError> {
    let mut number: u64 = 0;
    loop {
        let [byte] = input.array()?;
        if number > u64::MAX >> 7 {
            return Err(FormatError::VarInt.into());
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
        number = number.checked_add(1).ok_or(FormatError::VarInt)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes_of(number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_varint(number, &mut out);
        out
    }

    fn number_of(bytes: &[u8]) -> Result<u64, FormatError> {
        read_varint(&mut Input::new(bytes)).map_err(ReadError::into_format)
    }

    #[test]
    fn known_forms() {
        let forms: [(u64, &[u8]); 10] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x80, 0]),
            (255, &[0x80, 0x7f]),
            (256, &[0x81, 0]),
            (16_383, &[0xfe, 0x7f]),
            (16_384, &[0xff, 0]),
            (16_511, &[0xff, 0x7f]),
            (16_512, &[0x80, 0x80, 0]),
            (u64::MAX, &[0x80, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0x7f]),
        ];
        for (number, bytes) in forms {
            assert_eq!(bytes_of(number), bytes, "{number}");
            assert_eq!(number_of(bytes), Ok(number));
        }
    }

    #[test]
    fn more_than_64_bits() {
        let over = [0x80, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xfe, 0xff, 0];
        assert_eq!(number_of(&over), Err(FormatError::VarInt));
        // However long it goes on.
        assert_eq!(number_of(&[0xff; 1_000]), Err(FormatError::VarInt));
        assert_eq!(number_of(&[0x80; 5]), Err(FormatError::Truncated));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

        #[test]
        fn every_number_has_one_form(number: u64, shift in 0..64) {
            let number = number >> shift;
            prop_assert_eq!(number_of(&bytes_of(number)), Ok(number));
        }

        #[test]
        fn what_decodes_is_what_encodes(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut input = Input::new(&bytes[..]);
            if let Ok(number) = read_varint(&mut input) {
                prop_assert_eq!(&bytes[..input.offset() as usize], bytes_of(number));
            }
        }
    }
}
