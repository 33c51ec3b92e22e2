//! An entry that came out of the log, or what is kept of one.

use crate::Damage;
use crate::record::frame::{self, NoEntry};
use crate::record::stub::{FrameRef, Stub};
use bytes::Bytes;
use hedgerow_types::SerialNumber;
use hedgerow_types::entry::EntryRef;
use std::fmt;

/// An entry that was read: exactly its hashed bytes, whose checksum matched.
///
/// Cloning is cheap. The bytes are a slice of what was read together (a run in memory, the results
/// of one batched read), which stays allocated as long as any slice of it lives.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// [`EntryRef::parse`] accepts these.
    bytes: Bytes,
}

impl StoredEntry {
    /// The entry in the frame that begins at `offset` of `bytes`, as a slice of them; `at` is its
    /// position.
    ///
    /// # Errors
    /// [`NoEntry`] if no intact frame begins there, or that of a stub.
    pub(crate) fn in_frame(bytes: &Bytes, offset: usize, at: u64) -> Result<Self, NoEntry> {
        match StoredFrame::at(bytes, offset, at)? {
            StoredFrame::Entry(entry) => Ok(entry),
            StoredFrame::Stub(stub) => Err(NoEntry::Stub(stub)),
        }
    }

    /// An entry that was checked and then copied to `bytes`.
    ///
    /// # Errors
    /// [`Damage`] if they are not exactly one entry.
    pub(crate) fn checked(bytes: Bytes) -> Result<Self, Damage> {
        EntryRef::parse(&bytes)?;
        Ok(Self { bytes })
    }

    /// A copy of an entry, in an allocation of its own.
    pub(crate) fn copied(entry: EntryRef<'_>) -> Self {
        Self { bytes: Bytes::copy_from_slice(entry.hashed_bytes()) }
    }

    /// The entry.
    pub fn get(&self) -> EntryRef<'_> {
        #[expect(clippy::expect_used, reason = "the constructors parsed these very bytes")]
        EntryRef::parse(&self.bytes).expect("parsed before")
    }

    /// The hashed bytes.
    pub fn hashed_bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl fmt::Debug for StoredEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// What was read of an entry: all, or what is kept of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredFrame {
    /// The entry.
    Entry(StoredEntry),
    /// What is kept of it.
    Stub(Stub),
}

impl StoredFrame {
    /// What is in the frame that begins at `offset` of `bytes`, as a slice of them; `at` is its
    /// position.
    ///
    /// # Errors
    /// [`Damage`] if no intact frame begins there.
    pub(crate) fn at(bytes: &Bytes, offset: usize, at: u64) -> Result<Self, Damage> {
        Ok(match frame::check(bytes.get(offset..).unwrap_or_default(), at)? {
            FrameRef::Entry(entry) => {
                let end = offset + entry.hashed_bytes().len();
                Self::Entry(StoredEntry { bytes: bytes.slice(offset..end) })
            }
            FrameRef::Stub(stub) => Self::Stub(stub),
        })
    }

    /// What it is, borrowed.
    pub fn get(&self) -> FrameRef<'_> {
        match self {
            Self::Entry(entry) => FrameRef::Entry(entry.get()),
            Self::Stub(stub) => FrameRef::Stub(*stub),
        }
    }

    /// The serial number of the entry, whether it is kept or not.
    pub fn serial_number(&self) -> SerialNumber {
        self.get().serial_number()
    }
}
