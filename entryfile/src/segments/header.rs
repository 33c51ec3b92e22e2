//! What a segment's file begins with, and what it is called.
//!
//! ```text
//!  name    base as 16 hex digits, then a suffix that tells the kind of file
//!  header  offset  0       8         12      14     16         32     40            56     60       64
//!                 ┌───────┬─────────┬───────┬──────┬──────────┬──────┬─────────────┬──────┬────────┐
//!                 │ magic │ version │ place │ zero │ store id │ base │ chunk table │ zero │ crc32c │
//!                 └───────┴─────────┴───────┴──────┴──────────┴──────┴─────────────┴──────┴────────┘
//!                   8       4         2       2      16         8      8 + 8         4      4
//! ```
//!
//! The name says where the bytes belong, the header says it again, and whose they are: so neither a
//! file under a wrong name nor one of another store is ever taken for what it is not.
//!
//! Two fields are kept for what is to come. The place is a small number that says where the segment
//! lies: 0 is the store's own directory, and there is no other yet. The chunk table, by its offset in
//! the file and its length, is that of a segment whose content lies in chunks; none has one yet. This
//! version writes zeros, and refuses a segment that has something else there: a newer one made it.

use crate::Damage;
use std::fmt;

/// Bytes of a segment's header, which occupy positions like all others.
pub const SEGMENT_HEADER_LEN: usize = 64;
pub(crate) const HEADER: u64 = SEGMENT_HEADER_LEN as u64;
const CRC_AT: usize = SEGMENT_HEADER_LEN - 4;
pub(crate) const FORMAT_VERSION: u32 = 2;

/// Fields that are zero in this version: name, first byte, end.
const LATER_FIELDS: [(&str, usize, usize); 5] = [
    ("place", 12, 14),
    ("reserved field at 14", 14, 16),
    ("chunk table's offset", 40, 48),
    ("chunk table's length", 48, 56),
    ("reserved field at 56", 56, 60),
];

/// Names a store, so that files of two stores cannot be mixed up. 16 random bytes, chosen when the
/// store is created.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({:032x})", u128::from_be_bytes(self.0))
    }
}

/// What tells one kind of segments from another.
#[derive(Debug)]
pub(crate) struct Format {
    pub(crate) magic: [u8; 8],
    /// Follows the base in a file's name, with the dot.
    pub(crate) suffix: &'static str,
}

impl Format {
    /// Name of the segment at `base`.
    pub(crate) fn file_name(&self, base: u64) -> String {
        format!("{base:016x}{}", self.suffix)
    }

    /// The base that a file's name tells, `None` if it is not one of these files. No file system
    /// holds 2^63 bytes, so no log ever came that far, and positions in a segment cannot overflow.
    pub(crate) fn base_of(&self, name: &std::ffi::OsStr) -> Option<u64> {
        let digits = name.to_str()?.strip_suffix(self.suffix)?;
        let base = u64::from_str_radix(digits, 16).ok()?;
        let ours = base <= i64::MAX as u64 && name.to_str() == Some(&self.file_name(base));
        ours.then_some(base)
    }

    pub(crate) fn encode_header(&self, id: StoreId, base: u64) -> [u8; SEGMENT_HEADER_LEN] {
        let mut out = [0; SEGMENT_HEADER_LEN];
        out[..8].copy_from_slice(&self.magic);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&id.0);
        out[32..40].copy_from_slice(&base.to_le_bytes());
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Checks the header of the segment that its name says is at `base`. The checksum comes first:
    /// what differs with a checksum that matches was written so.
    pub(crate) fn check_header(
        &self,
        header: &[u8; SEGMENT_HEADER_LEN],
        id: StoreId,
        base: u64,
    ) -> Result<(), Damage> {
        let expected = self.encode_header(id, base);
        if *header == expected {
            return Ok(());
        }
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, &b| n << 8 | u64::from(b));
        if header[..8] != expected[..8] {
            return Err(Damage::Magic);
        }
        let (stored, computed) =
            (number(&header[CRC_AT..]) as u32, crc32c::crc32c(&header[..CRC_AT]));
        if stored != computed {
            Err(Damage::Checksum { stored, computed })
        } else if header[8..12] != expected[8..12] {
            Err(Damage::FormatVersion(number(&header[8..12]) as u32))
        } else if header[16..32] != expected[16..32] {
            Err(Damage::StoreId)
        } else if let Some((what, value)) = LATER_FIELDS
            .into_iter()
            .map(|(what, from, to)| (what, number(&header[from..to])))
            .find(|&(_, value)| value != 0)
        {
            // Before the base: what is merely misnamed may be removed, what is newer must not be.
            Err(Damage::Newer { what, value })
        } else {
            Err(Damage::Place { named: number(&header[32..40]) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    const FORMAT: Format = Format { magic: *b"testtest", suffix: ".log" };

    #[test]
    fn a_base_is_told_by_its_name_and_nothing_else_is() {
        for base in [0, 1, 0xABCD, i64::MAX as u64] {
            assert_eq!(FORMAT.base_of(OsStr::new(&FORMAT.file_name(base))), Some(base));
        }
        for name in [
            "",
            "LOCK",
            "0000000000000000",
            "0000000000000000.logx",
            "000000000000000g.log",
            "00000000000000AB.log",
            "0.log",
            "+000000000000001.log",
            "00000000000000000.log",
            "8000000000000000.log",
            "ffffffffffffffff.log",
        ] {
            assert_eq!(FORMAT.base_of(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn headers_say_what_is_wrong_with_them() {
        let id = StoreId([5; 16]);
        let good = FORMAT.encode_header(id, 4096);
        assert_eq!(FORMAT.check_header(&good, id, 4096), Ok(()));
        for (byte, flip) in (0..good.len()).flat_map(|byte| [1, 0x80, 0xFF].map(|f| (byte, f))) {
            let mut header = good;
            header[byte] ^= flip;
            let damage = FORMAT.check_header(&header, id, 4096).unwrap_err();
            match byte {
                0..8 => assert_eq!(damage, Damage::Magic),
                _ => assert!(matches!(damage, Damage::Checksum { .. }), "{byte}: {damage}"),
            }
            // With a checksum that fits, every field has a reason of its own.
            let crc = crc32c::crc32c(&header[..CRC_AT]);
            header[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
            let checked = FORMAT.check_header(&header, id, 4096);
            let newer = |what, first: usize| {
                let value = u64::from(flip) << (8 * (byte - first));
                Err(Damage::Newer { what, value })
            };
            match byte {
                0..8 => assert_eq!(checked, Err(Damage::Magic)),
                8..12 => assert!(matches!(checked, Err(Damage::FormatVersion(_))), "{checked:?}"),
                12..14 => assert_eq!(checked, newer("place", 12)),
                14..16 => assert_eq!(checked, newer("reserved field at 14", 14)),
                16..32 => assert_eq!(checked, Err(Damage::StoreId)),
                32..40 => assert!(matches!(checked, Err(Damage::Place { .. })), "{checked:?}"),
                40..48 => assert_eq!(checked, newer("chunk table's offset", 40)),
                48..56 => assert_eq!(checked, newer("chunk table's length", 48)),
                56..CRC_AT => assert_eq!(checked, newer("reserved field at 56", 56)),
                CRC_AT.. => assert_eq!(checked, Ok(())),
            }
        }
        assert_eq!(FORMAT.check_header(&good, StoreId([6; 16]), 4096), Err(Damage::StoreId));
        assert_eq!(FORMAT.check_header(&good, id, 0), Err(Damage::Place { named: 4096 }));
        let other = Format { magic: *b"othertyp", suffix: ".log" };
        assert_eq!(other.check_header(&good, id, 4096), Err(Damage::Magic));
        let mut later = good;
        later[8] = 9;
        let crc = crc32c::crc32c(&later[..CRC_AT]);
        later[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(FORMAT.check_header(&later, id, 4096), Err(Damage::FormatVersion(9)));
        // Version 1 had zeros where the place and the chunk table are: it is told by its number.
        later[8] = 1;
        let crc = crc32c::crc32c(&later[..CRC_AT]);
        later[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        let damage = FORMAT.check_header(&later, id, 4096).unwrap_err();
        assert_eq!(
            damage.to_string(),
            "it has format version 1, this build of Hedgerow reads version 2: an older one wrote it"
        );
    }
}
