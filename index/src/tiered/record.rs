//! What the tiered index keeps of an entry: where it was written, and under which serial number.
//!
//! ```text
//!  packed   offset 0          4                   10                16
//!           ┌────────────────┬────────────────────┬─────────────────┐
//!           │ fragment (LE)  │ position / 8 (LE)  │ serial no. (LE) │   16 = 4 + 6 + 6 bytes
//!           └────────────────┴────────────────────┴─────────────────┘
//! ```
//!
//! The group, the stem's other 12 bits, is known wherever a packed record lies. In memory and in files it
//! is the same 16 bytes.

use crate::slot::{InBucket, Unit};
use crate::{IndexError, Place, Stem};
use hedgerow_types::{LogPosition, SerialNumber};

/// Serial numbers have 48 bits: a log has room for far fewer entries.
pub(crate) const MAX_NUMBER: u64 = (1 << 48) - 1;

/// An entry of a key with a stem: where it is, and its serial number. Ordered by stem, position, number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// The stem of its key.
    pub stem: Stem,
    /// Its position in the log.
    pub at: LogPosition,
    /// Its serial number.
    pub sn: SerialNumber,
}

impl Record {
    /// The record of what an edit puts in.
    ///
    /// # Errors
    /// [`IndexError::Position`] and [`IndexError::Number`].
    pub(crate) fn new(stem: Stem, Place { at, sn }: Place) -> Result<Self, IndexError> {
        Unit::new(at)?;
        if sn.0 > MAX_NUMBER {
            return Err(IndexError::Number { sn });
        }
        Ok(Self { stem, at, sn })
    }

    pub(crate) fn pack(self) -> Packed {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.stem.fragment().to_le_bytes());
        // What `new` let through, or a page had, fits.
        bytes[4..10].copy_from_slice(&Unit::new(self.at).unwrap_or(Unit::ZERO).bytes());
        bytes[10..].copy_from_slice(&self.sn.0.to_le_bytes()[..6]);
        Packed(bytes)
    }
}

/// A record without its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packed(pub(crate) [u8; 16]);

impl Packed {
    #[inline]
    pub(crate) fn number(self) -> SerialNumber {
        let [.., s0, s1, s2, s3, s4, s5] = self.0;
        SerialNumber(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, 0, 0]))
    }

    /// The record of a key of `group`.
    #[inline]
    pub(crate) fn of_group(self, group: usize) -> Record {
        let stem = Stem::in_group(group, self.fragment());
        Record { stem, at: self.position(), sn: self.number() }
    }
}

impl InBucket for Packed {
    #[inline]
    fn fragment(self) -> u32 {
        let [f0, f1, f2, f3, ..] = self.0;
        u32::from_le_bytes([f0, f1, f2, f3])
    }

    #[inline]
    fn position(self) -> LogPosition {
        let [_, _, _, _, u0, u1, u2, u3, u4, u5, ..] = self.0;
        Unit::position_of([u0, u1, u2, u3, u4, u5])
    }
}

impl PartialOrd for Packed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Packed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |it: &Self| (it.fragment(), it.position(), it.number());
        key(self).cmp(&key(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_POSITION;

    #[test]
    fn a_record_comes_back_from_16_bytes_and_orders_as_they_do() {
        let record = |stem: u64, at: u64, sn: u64| {
            let place = Place { at: LogPosition(at), sn: SerialNumber(sn) };
            Record::new(Stem::new(stem).unwrap(), place).unwrap()
        };
        let ascending = [
            record(0x123_0000_0000, 0, MAX_NUMBER),
            record(0x123_0000_0000, 8, 0),
            record(0x123_0000_0001, 8, 0),
            record(0x123_0000_0001, 8, 1),
            record(0x123_0000_0001, MAX_POSITION.0, 256),
            record(0x123_0000_0100, 2048, 7),
            record(0x123_FFFF_FFFF, MAX_POSITION.0, MAX_NUMBER),
        ];
        assert!(ascending.is_sorted_by(|a, b| a < b));
        assert!(ascending.is_sorted_by(|a, b| a.pack() < b.pack()));
        for record in ascending {
            assert_eq!(record.pack().of_group(0x123), record);
        }
    }

    #[test]
    fn what_has_no_room_is_refused() {
        let new =
            |at, sn| Record::new(Stem::MAX, Place { at: LogPosition(at), sn: SerialNumber(sn) });
        assert!(matches!(new(9, 0), Err(IndexError::Position { .. })));
        assert!(matches!(new(8, MAX_NUMBER + 1), Err(IndexError::Number { .. })));
        assert!(new(8, MAX_NUMBER).is_ok());
    }
}
