//! The stub: what is kept of an entry whose bytes are not.
//!
//! ```text
//!  offset  0   1               8      40
//!         ┌───┬───────────────┬──────┐
//!         │ 0 │ serial number │ hash │     then checksum and padding, as of every frame: 48 bytes
//!         └───┴───────────────┴──────┘
//!           1   7, LE          32
//! ```
//!
//! A node that got its state from others has the entries that are active, and of the others the hashes
//! alone: so its log needs no holes, and what it proves of a neighbour is made from stubs. An entry begins
//! with the length of its key, which is never 0: the first byte of a frame tells the two apart, and the
//! frame of an entry is as long as it would be without stubs.
//!
//! A serial number is below 2^51. The five bits above are room for other kinds of frames: a newer version
//! made what has any of them. A hash is never zero, so that zeros are never a stub.
//!
//! **Nobody writes stubs yet** but tests: fetching the state from others is still to come. Whoever reads
//! the log can meet them already.

use crate::Damage;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{Digest, SerialNumber};

/// Bytes of a stub that its checksum covers.
pub(crate) const STUB_LEN: usize = 40;
/// What a stub begins with, where an entry has the length of its key.
pub(crate) const STUB_KIND: u8 = 0;
/// Serial numbers are below this.
const END_OF_SERIAL_NUMBERS: u64 = 1 << 51;

/// What is kept of an entry whose bytes are not kept: enough for its place and its leaf in the tree.
///
/// ```
/// use hedgerow_entryfile::{LogError, Stub};
/// use hedgerow_types::{Digest, LogPosition, SerialNumber};
/// let stub = Stub { serial_number: SerialNumber(5_000), hash: Digest([1; 32]) };
/// // What a read answers where a stub lies: the value is not here, its place in the tree is.
/// let answer = LogError::NotKept { at: LogPosition(64), stub };
/// assert!(answer.to_string().starts_with("entry 5000 at log position 64 is not kept here"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stub {
    /// The entry's serial number.
    pub serial_number: SerialNumber,
    /// The entry's hash.
    pub hash: Digest,
}

impl Stub {
    /// The bytes under the checksum; `None` if there is no such entry.
    pub(crate) fn encode(&self) -> Option<[u8; STUB_LEN]> {
        let sn = self.serial_number.0;
        if sn >= END_OF_SERIAL_NUMBERS || self.hash == Digest::ZERO {
            return None;
        }
        let mut out = [0; STUB_LEN];
        out[..8].copy_from_slice(&(sn << 8 | u64::from(STUB_KIND)).to_le_bytes());
        out[8..].copy_from_slice(&self.hash.0);
        Some(out)
    }

    /// The stub in these bytes, which begin with [`STUB_KIND`].
    pub(crate) fn decode(bytes: &[u8; STUB_LEN]) -> Result<Self, Damage> {
        let serial_number = stub_serial_number(bytes);
        if serial_number.0 >= END_OF_SERIAL_NUMBERS {
            let value = serial_number.0 / END_OF_SERIAL_NUMBERS;
            return Err(Damage::Newer { what: "kind of frame", value });
        }
        let mut hash = Digest::ZERO;
        hash.0.copy_from_slice(&bytes[8..]);
        if hash == Digest::ZERO {
            return Err(Damage::Hash);
        }
        Ok(Self { serial_number, hash })
    }
}

/// The serial number in these bytes of a stub, unchecked.
pub(crate) fn stub_serial_number(bytes: &[u8; STUB_LEN]) -> SerialNumber {
    let [word, ..] = bytes.as_chunks::<8>().0 else { return SerialNumber(0) };
    SerialNumber(u64::from_le_bytes(*word) >> 8)
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameRef<'a> {
    /// An entry.
    Entry(EntryRef<'a>),
    /// What is kept of one.
    Stub(Stub),
}

impl<'a> FrameRef<'a> {
    /// The serial number of the entry, whether it is kept or not.
    pub fn serial_number(&self) -> SerialNumber {
        match self {
            Self::Entry(entry) => entry.serial_number(),
            Self::Stub(stub) => stub.serial_number,
        }
    }

    /// The entry's hash, which is its leaf in the tree: `hash` of the bytes of an entry, and what a stub
    /// says.
    pub fn leaf(&self, hash: impl FnOnce(&[u8]) -> Digest) -> Digest {
        match self {
            Self::Entry(entry) => hash(entry.hashed_bytes()),
            Self::Stub(stub) => stub.hash,
        }
    }

    /// The entry, if it is kept.
    pub fn entry(&self) -> Option<EntryRef<'a>> {
        match self {
            Self::Entry(entry) => Some(*entry),
            Self::Stub(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn stubs_are_read_back() {
        for sn in [0, 1, 255, 256, 0x7_1234_5678_9ABC, END_OF_SERIAL_NUMBERS - 1] {
            let stub = Stub { serial_number: SerialNumber(sn), hash: Digest([0xFE; 32]) };
            let bytes = stub.encode().unwrap();
            assert_eq!((bytes[0], stub_serial_number(&bytes).0), (0, sn));
            assert_eq!(Stub::decode(&bytes), Ok(stub));
        }
    }

    #[test]
    fn no_stub_is_of_an_entry_that_cannot_be() {
        let stub = Stub { serial_number: SerialNumber(7), hash: Digest([1; 32]) };
        assert_eq!(Stub { hash: Digest::ZERO, ..stub }.encode(), None);
        assert_eq!(Stub::decode(&[0; STUB_LEN]), Err(Damage::Hash));
        let good = stub.encode().unwrap();
        for bit in 51..56 {
            let serial_number = SerialNumber(1 << bit | 7);
            assert_eq!(Stub { serial_number, ..stub }.encode(), None, "{bit}");
            let mut bytes = good;
            bytes[7] |= 1 << (bit - 48);
            let newer = Damage::Newer { what: "kind of frame", value: 1 << (bit - 51) };
            assert_eq!(Stub::decode(&bytes), Err(newer), "{bit}");
        }
    }
}
