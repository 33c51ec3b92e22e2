//! An entry that came out of the log.

use crate::Damage;
use crate::record::frame;
use bytes::Bytes;
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
    /// [`Damage`] if no intact frame begins there.
    pub(crate) fn in_frame(bytes: &Bytes, offset: usize, at: u64) -> Result<Self, Damage> {
        let entry = frame::check(bytes.get(offset..).unwrap_or_default(), at)?;
        let end = offset + entry.hashed_bytes().len();
        Ok(Self { bytes: bytes.slice(offset..end) })
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
