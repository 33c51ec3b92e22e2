//! What both record formats share: a frame with magic, version and checksum, and strict readers.
//!
//! ```text
//!   ┌──────────┬────────────┬───────────────────────────┬───────────────────────────────┐
//!   │ magic 8  │ version 2  │ fields, little-endian ... │ CRC32C of everything before 4 │
//!   └──────────┴────────────┴───────────────────────────┴───────────────────────────────┘
//! ```
//!
//! The version is looked at before the checksum, so that a record from a newer build is called
//! that, whatever that build changed behind the first ten bytes. The checksum is looked at before
//! any field, so that the fields' own checks only ever see what somebody meant to write.

use hedgerow_types::Digest;

/// Bytes of the magic.
pub(crate) const MAGIC_LEN: usize = 8;
/// Bytes before the first field: magic and version.
pub(crate) const FRAME_HEAD_LEN: usize = MAGIC_LEN + 2;
/// Bytes of the checksum.
pub(crate) const CRC_LEN: usize = 4;

/// Why bytes are not a manifest or a history row.
///
/// ```
/// use hedgerow_metadb::{DecodeError, HistoryRow};
/// # use hedgerow_types::{Digest, Height, SerialNumber};
/// # let (shard_roots, oldest_active) = ([Digest::ZERO; 16], [SerialNumber(0); 16]);
/// # let row = HistoryRow { root: Digest([7; 32]), shard_roots, oldest_active, extra: b"time 12:00".to_vec() };
/// let mut bytes = row.encode(Height(41))?;
/// let other = HistoryRow::decode(&bytes, Height(42));
/// assert!(matches!(other, Err(DecodeError::Field(_))));              // whole, but of another height
/// bytes[100] ^= 1;
/// let damaged = HistoryRow::decode(&bytes, Height(41));
/// assert!(matches!(damaged, Err(DecodeError::Checksum { .. })));
/// # Ok::<(), hedgerow_metadb::InvalidField>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("it ends too early: {wanted} bytes wanted for {what}, {left} left")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Bytes of the field.
        wanted: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// There is something after the last field.
    #[error("{bytes} bytes too many")]
    Trailing {
        /// How much.
        bytes: usize,
    },
    /// The first bytes belong to something else.
    #[error("the first 8 bytes are not those of this kind of record")]
    Magic,
    /// Another version of Hedgerow wrote it.
    #[error(
        "it has format version {found}, this build of Hedgerow reads version {supported}{}",
        if found > supported { ": a newer one wrote it" } else { "" }
    )]
    Version {
        /// Version of the record.
        found: u16,
        /// The version this build reads and writes.
        supported: u16,
    },
    /// The bytes are not those that were written.
    #[error("the checksum is {computed:#010x}, {stored:#010x} was stored: the bytes are damaged")]
    Checksum {
        /// What stands in the record.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A field has a value that it cannot have.
    #[error(transparent)]
    Field(#[from] InvalidField),
}

/// A field with a value that it cannot have.
///
/// ```
/// use hedgerow_metadb::{HistoryRow, MAX_EXTRA_LEN};
/// # use hedgerow_types::{Digest, Height, SerialNumber};
/// # let (shard_roots, oldest_active) = ([Digest::ZERO; 16], [SerialNumber(0); 16]);
/// # let row = HistoryRow { root: Digest([7; 32]), shard_roots, oldest_active, extra: b"time 12:00".to_vec() };
/// let row = HistoryRow { extra: vec![0; MAX_EXTRA_LEN + 1], ..row };
/// let refused = row.encode(Height(41)).unwrap_err();
/// assert_eq!((refused.what, refused.found), ("the length of the extra bytes", 1_048_577));
/// assert_eq!(refused.rule, "at most 1 MiB is allowed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} is {found}, but {rule}")]
pub struct InvalidField {
    /// The field.
    pub what: &'static str,
    /// Its value.
    pub found: u64,
    /// What must hold.
    pub rule: &'static str,
}

impl InvalidField {
    /// `Err` unless `holds`.
    pub(crate) fn unless(
        holds: bool,
        what: &'static str,
        found: u64,
        rule: &'static str,
    ) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self { what, found, rule }) }
    }
}

/// Writes a record: head first, fields next, [`finish`](Self::finish) last.
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn new(magic: [u8; MAGIC_LEN], version: u16, capacity: usize) -> Self {
        let mut writer = Self { bytes: Vec::with_capacity(capacity) };
        writer.raw(&magic);
        writer.u16(version);
        writer
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn digest(&mut self, value: &Digest) {
        self.raw(value.as_bytes());
    }

    /// Appends the checksum.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let crc = crc32c::crc32c(&self.bytes);
        self.u32(crc);
        self.bytes
    }
}

/// Reads the fields of a record whose head and checksum are right.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks magic, version and checksum.
    pub(crate) fn new(
        bytes: &'a [u8],
        magic: [u8; MAGIC_LEN],
        supported: u16,
    ) -> Result<Self, DecodeError> {
        let mut head = Reader { rest: bytes };
        if head.array::<MAGIC_LEN>("the magic")? != magic {
            return Err(DecodeError::Magic);
        }
        let found = head.u16("the format version")?;
        if found != supported {
            return Err(DecodeError::Version { found, supported });
        }
        let Some((fields, stored)) = head.rest.split_last_chunk::<CRC_LEN>() else {
            let left = head.rest.len();
            return Err(DecodeError::Truncated { what: "the checksum", wanted: CRC_LEN, left });
        };
        let stored = u32::from_le_bytes(*stored);
        let computed = crc32c::crc32c(&bytes[..bytes.len() - CRC_LEN]);
        if stored != computed {
            return Err(DecodeError::Checksum { stored, computed });
        }
        Ok(Reader { rest: fields })
    }

    /// The next `len` bytes, borrowed.
    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.rest.split_at_checked(len) else {
            return Err(DecodeError::Truncated { what, wanted: len, left: self.rest.len() });
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { what, wanted: N, left: self.rest.len() });
        };
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array(what).map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.array(what).map(u64::from_le_bytes)
    }

    pub(crate) fn digest(&mut self, what: &'static str) -> Result<Digest, DecodeError> {
        self.array(what).map(Digest)
    }

    /// Checks that nothing is left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(DecodeError::Trailing { bytes }),
        }
    }
}

/// What every record format must withstand, for the tests of each.
#[cfg(test)]
pub(crate) mod damage {
    use super::*;
    use std::fmt::Debug;

    /// Damages `bytes` in every way of one step and checks that `decode` refuses each.
    pub(crate) fn assert_refused<T: Debug>(
        bytes: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) {
        decode(bytes).unwrap();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= flip;
                let error = decode(&damaged).unwrap_err();
                match at {
                    0..MAGIC_LEN => assert_eq!(error, DecodeError::Magic),
                    MAGIC_LEN..FRAME_HEAD_LEN => {
                        assert!(matches!(error, DecodeError::Version { .. }), "{error}");
                    }
                    _ => assert!(matches!(error, DecodeError::Checksum { .. }), "{error}"),
                }
            }
        }
        for len in 0..bytes.len() {
            decode(&bytes[..len]).unwrap_err();
            // A record cut short by somebody who mends the checksum is refused as well.
            if len >= FRAME_HEAD_LEN && len < bytes.len() - CRC_LEN {
                let error = decode(&sealed(&bytes[..len])).unwrap_err();
                assert!(matches!(error, DecodeError::Truncated { .. }), "{len}: {error}");
            }
        }
        let mut longer = bytes[..bytes.len() - CRC_LEN].to_vec();
        longer.push(0);
        assert_eq!(decode(&sealed(&longer)).unwrap_err(), DecodeError::Trailing { bytes: 1 });

        let mut newer = bytes[..bytes.len() - CRC_LEN].to_vec();
        newer[MAGIC_LEN] += 1;
        let error = decode(&sealed(&newer)).unwrap_err();
        assert!(error.to_string().ends_with("a newer one wrote it"), "{error}");
    }

    /// `body` with the checksum that makes it a record.
    pub(crate) fn sealed(body: &[u8]) -> Vec<u8> {
        let mut bytes = body.to_vec();
        bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
        bytes
    }

    /// `bytes` with the byte at `at` replaced and the checksum mended.
    pub(crate) fn patched(bytes: &[u8], at: usize, value: u8) -> Vec<u8> {
        let mut body = bytes[..bytes.len() - CRC_LEN].to_vec();
        body[at] = value;
        sealed(&body)
    }
}
