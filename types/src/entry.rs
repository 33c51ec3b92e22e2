//! The entry: one version of one key, as hashed bytes ([spec 4.1](crate::spec)).
//!
//! ```text
//!  offset  0   1        4   5     5+K     5+K+V                    +32       +40     +48
//!         ┌───┬────────┬───┬─────┬───────┬────────────────────────┬─────────┬───────┬──────────┐
//!         │ K │ V (LE) │ D │ key │ value │ next key hash          │ version │ sn    │ dsn x D  │
//!         └───┴────────┴───┴─────┴───────┴────────────────────────┴─────────┴───────┴──────────┘
//!           1     3      1    K      V              32                 8        8       8 D
//! ```
//!
//! Hashed length P = 53 + K + V + 8 D; the entry hash is SHA-256 of exactly these P bytes. How
//! entries are framed on disk is the entry log's business, not the tree's.

use crate::{
    Digest, KeyHash, MAX_KEY_LEN, MAX_VALUE_LEN, SENTRIES_PER_SHARD, SerialNumber, ShardId, Version,
};
use alloc::vec::Vec;
use core::fmt;

/// Bytes of an entry before its key.
pub const HEADER_LEN: usize = 5;
/// Bytes of an entry that has no key, no value and deactivates nothing.
pub const FIXED_LEN: usize = 53;
/// Serial numbers that one entry can deactivate.
pub const MAX_DEACTIVATED: usize = 255;
/// Longest entry in hashed bytes.
pub const MAX_LEN: usize = FIXED_LEN + MAX_KEY_LEN + MAX_VALUE_LEN + 8 * MAX_DEACTIVATED;
/// Hashed length of a sentry.
pub const SENTRY_LEN: usize = FIXED_LEN + 32;

/// Hash of the null entry, which stands for every unoccupied leaf ([spec 4.4](crate::spec)).
pub const NULL_ENTRY_HASH: Digest = Digest([
    0xca, 0x23, 0x37, 0x69, 0x10, 0x33, 0xab, 0x0a, 0x24, 0xc1, 0x0f, 0xbc, 0x70, 0xb4, 0x9b, 0xea,
    0x8c, 0x59, 0x78, 0xdb, 0x1a, 0x0e, 0xc6, 0x51, 0x0e, 0x7e, 0x97, 0xf5, 0x28, 0x30, 0x1c, 0x39,
]);

/// Why bytes are not an entry.
///
/// ```
/// use hedgerow_types::entry::{EntryError, EntryRef};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut bytes = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut bytes).unwrap();
/// let half = EntryRef::parse(&bytes[..30]);
/// assert_eq!(half, Err(EntryError::Short { need: 61, have: 30 }));      // more is to come
/// bytes.push(0);
/// assert_eq!(EntryRef::parse(&bytes), Err(EntryError::Long { need: 61, have: 62 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// Fewer bytes than the entry's own header announces.
    Short {
        /// Bytes that the entry needs.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// More bytes than the entry's own header announces.
    Long {
        /// Bytes that the entry needs.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// The key's length is 0 or above [`MAX_KEY_LEN`].
    KeyLength(usize),
    /// The value is longer than [`MAX_VALUE_LEN`].
    ValueLength(usize),
    /// More serial numbers than [`MAX_DEACTIVATED`].
    Deactivated(usize),
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { need, have } => write!(f, "entry needs {need} bytes, found {have}"),
            Self::Long { need, have } => {
                write!(f, "entry of {need} bytes followed by others, {have} in all")
            }
            Self::KeyLength(len) => write!(f, "key of {len} bytes, must be 1 to {MAX_KEY_LEN}"),
            Self::ValueLength(len) => write!(f, "value of {len} bytes, at most {MAX_VALUE_LEN}"),
            Self::Deactivated(count) => {
                write!(f, "entry deactivates {count} others, at most {MAX_DEACTIVATED}")
            }
        }
    }
}

impl core::error::Error for EntryError {}

/// Hashed length of the entry that begins with `header`.
pub const fn len_from_header(header: &[u8; HEADER_LEN]) -> usize {
    let [key, v0, v1, v2, dsns] = *header;
    FIXED_LEN + key as usize + u32::from_le_bytes([v0, v1, v2, 0]) as usize + 8 * dsns as usize
}

/// An entry, borrowed from its hashed bytes.
///
/// ```
/// use hedgerow_types::entry::EntryRef;
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut bytes = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut bytes).unwrap();
/// let entry = EntryRef::parse(&bytes)?;
/// assert_eq!((entry.key(), entry.value()), (&b"alice"[..], &b"100"[..]));
/// assert_eq!(entry.serial_number(), SerialNumber(5_000));
/// # Ok::<(), hedgerow_types::entry::EntryError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// Exactly the hashed bytes: [`EntryRef::parse`] checked the length against the header.
    bytes: &'a [u8],
}

impl<'a> EntryRef<'a> {
    /// The entry whose hashed bytes are exactly `bytes`.
    ///
    /// # Errors
    /// [`EntryError`] if the length is not the one that the header announces, or the key is empty.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EntryError> {
        let (entry, rest) = Self::parse_prefix(bytes)?;
        if rest.is_empty() {
            Ok(entry)
        } else {
            Err(EntryError::Long { need: bytes.len() - rest.len(), have: bytes.len() })
        }
    }

    /// The entry at the start of `bytes`, and what follows it.
    ///
    /// # Errors
    /// [`EntryError`] if `bytes` is shorter than the header announces, or the key is empty.
    pub fn parse_prefix(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), EntryError> {
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(EntryError::Short { need: FIXED_LEN, have: bytes.len() });
        };
        let need = len_from_header(header);
        if header[0] == 0 {
            return Err(EntryError::KeyLength(0));
        }
        match bytes.split_at_checked(need) {
            Some((bytes, rest)) => Ok((Self { bytes }, rest)),
            None => Err(EntryError::Short { need, have: bytes.len() }),
        }
    }

    /// The bytes that the entry hash covers.
    pub const fn hashed_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn key_len(&self) -> usize {
        self.bytes[0] as usize
    }

    fn value_len(&self) -> usize {
        u32::from_le_bytes([self.bytes[1], self.bytes[2], self.bytes[3], 0]) as usize
    }

    /// Where the fixed-size tail (next key hash, version, serial number) begins.
    fn tail(&self) -> usize {
        HEADER_LEN + self.key_len() + self.value_len()
    }

    fn u64_at(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.bytes[at..at + 8]);
        u64::from_le_bytes(bytes)
    }

    /// The key, 1 to 255 bytes.
    pub fn key(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..HEADER_LEN + self.key_len()]
    }

    /// The value, possibly empty.
    pub fn value(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN + self.key_len()..self.tail()]
    }

    /// The key hash of the next active entry of the shard, in key-hash order ([spec 4.2](crate::spec)).
    pub fn next_key_hash(&self) -> KeyHash {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(&self.bytes[self.tail()..self.tail() + 32]);
        KeyHash(bytes)
    }

    /// The version field.
    pub fn version(&self) -> Version {
        Version(self.u64_at(self.tail() + 32) as i64)
    }

    /// The serial number.
    pub fn serial_number(&self) -> SerialNumber {
        SerialNumber(self.u64_at(self.tail() + 40))
    }

    /// The serial numbers that this entry made inactive, in stored order.
    pub fn deactivated(&self) -> impl ExactSizeIterator<Item = SerialNumber> + use<'a> {
        let entry = *self;
        let first = entry.tail() + 48;
        (0..entry.bytes[4] as usize).map(move |i| SerialNumber(entry.u64_at(first + 8 * i)))
    }

    /// Whether this is a sentry: the value is empty and the key has the shape of
    /// [`is_sentry_key`].
    pub fn is_sentry(&self) -> bool {
        self.value().is_empty() && is_sentry_key(self.key())
    }

    /// The key hash, where no hash function is needed to tell: a sentry's is its key ([spec 4.3](crate::spec)).
    /// `None` means that it is SHA-256 of [`EntryRef::key`].
    pub fn sentry_key_hash(&self) -> Option<KeyHash> {
        if !self.is_sentry() {
            return None;
        }
        self.key().try_into().ok().map(KeyHash)
    }
}

impl fmt::Debug for EntryRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Hex<'a>(&'a [u8]);
        impl fmt::Debug for Hex<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                crate::hex::write(f, self.0)
            }
        }
        f.debug_struct("Entry")
            .field("sn", &self.serial_number())
            .field("key", &Hex(self.key()))
            .field("value", &Hex(self.value()))
            .field("next_key_hash", &self.next_key_hash())
            .field("version", &self.version())
            .field("deactivated", &self.deactivated().collect::<Vec<_>>())
            .finish()
    }
}

/// Whether `key` is 32 bytes of which the last 30 are zero: with an empty value, the shape of a
/// sentry, which no user entry may have.
pub fn is_sentry_key(key: &[u8]) -> bool {
    key.len() == 32 && key[2..].iter().all(|&byte| byte == 0)
}

/// The fields of an entry that is about to be written.
///
/// ```
/// use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// let fields = EntryFields {
///     key: b"alice",
///     value: b"100",
///     next_key_hash: KeyHash::MAX,
///     version: Version(1 << 24),
///     serial_number: SerialNumber(5_000),
///     deactivated: &[],
/// };
/// let mut bytes = Vec::new();
/// fields.encode(&mut bytes)?;                  // the bytes that the entry's hash covers
/// assert_eq!(bytes.len(), fields.hashed_len());
/// # Ok::<(), hedgerow_types::entry::EntryError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EntryFields<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// Key hash of the successor in the shard's linked list.
    pub next_key_hash: KeyHash,
    /// Version.
    pub version: Version,
    /// Serial number.
    pub serial_number: SerialNumber,
    /// What the entry deactivates, in the order that it is stored in.
    pub deactivated: &'a [SerialNumber],
}

impl EntryFields<'_> {
    /// Length in bytes of the entry when encoded: what its hash covers.
    pub const fn hashed_len(&self) -> usize {
        FIXED_LEN + self.key.len() + self.value.len() + 8 * self.deactivated.len()
    }

    /// Appends the hashed bytes to `out`. On an error nothing was appended.
    ///
    /// # Errors
    /// [`EntryError`] if key, value or list is longer than its length field can say, or the key is
    /// empty.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EntryError> {
        if self.key.is_empty() || self.key.len() > MAX_KEY_LEN {
            return Err(EntryError::KeyLength(self.key.len()));
        }
        if self.value.len() > MAX_VALUE_LEN {
            return Err(EntryError::ValueLength(self.value.len()));
        }
        if self.deactivated.len() > MAX_DEACTIVATED {
            return Err(EntryError::Deactivated(self.deactivated.len()));
        }
        self.encode_unchecked(out);
        Ok(())
    }

    fn encode_unchecked(&self, out: &mut Vec<u8>) {
        out.reserve(self.hashed_len());
        let [v0, v1, v2, _] = (self.value.len() as u32).to_le_bytes();
        out.extend_from_slice(&[self.key.len() as u8, v0, v1, v2, self.deactivated.len() as u8]);
        out.extend_from_slice(self.key);
        out.extend_from_slice(self.value);
        out.extend_from_slice(&self.next_key_hash.0);
        out.extend_from_slice(&self.version.0.to_le_bytes());
        out.extend_from_slice(&self.serial_number.0.to_le_bytes());
        for sn in self.deactivated {
            out.extend_from_slice(&sn.0.to_le_bytes());
        }
    }
}

/// Appends the hashed bytes of sentry `index` (0..4096, also its serial number) of `shard` to `out`
/// ([spec 4.3](crate::spec)).
pub fn encode_sentry(shard: ShardId, index: u16, out: &mut Vec<u8>) {
    debug_assert!(u64::from(index) < SENTRIES_PER_SHARD);
    let prefix = (shard.index() as u16) << 12 | index;
    let next_key_hash = match prefix.checked_add(1) {
        Some(next) => KeyHash::sentry(next),
        None => KeyHash::MAX,
    };
    EntryFields {
        key: &KeyHash::sentry(prefix).0,
        value: &[],
        next_key_hash,
        version: Version::SENTRY,
        serial_number: SerialNumber(u64::from(index)),
        deactivated: &[],
    }
    .encode_unchecked(out);
}

/// Appends the hashed bytes of the null entry to `out` ([spec 4.4](crate::spec)). It is never stored: only its
/// hash is used, [`NULL_ENTRY_HASH`].
pub fn encode_null(out: &mut Vec<u8>) {
    EntryFields {
        key: &[],
        value: &[],
        next_key_hash: KeyHash::default(),
        version: Version::NULL,
        serial_number: SerialNumber(u64::MAX),
        deactivated: &[],
    }
    .encode_unchecked(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn fields<'a>(
        key: &'a [u8],
        value: &'a [u8],
        deactivated: &'a [SerialNumber],
    ) -> EntryFields<'a> {
        EntryFields {
            key,
            value,
            next_key_hash: KeyHash([7; 32]),
            version: Version(5 << 24 | 3),
            serial_number: SerialNumber(1 << 40),
            deactivated,
        }
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        for key_len in [1, 2, 32, 254, 255] {
            for value_len in [0, 1, 255, 256, 65_535, 65_536, MAX_VALUE_LEN] {
                for count in [0, 1, 2, 255] {
                    let (key, value) = (vec![1; key_len], vec![2; value_len]);
                    let dsns = vec![SerialNumber(u64::MAX - 1); count];
                    let fields = fields(&key, &value, &dsns);
                    let mut bytes = vec![];
                    fields.encode(&mut bytes).unwrap();
                    assert_eq!(bytes.len(), fields.hashed_len());
                    let entry = EntryRef::parse(&bytes).unwrap();
                    assert_eq!((entry.key(), entry.value()), (&key[..], &value[..]));
                    assert_eq!(entry.next_key_hash(), fields.next_key_hash);
                    assert_eq!(entry.version(), fields.version);
                    assert_eq!(entry.serial_number(), fields.serial_number);
                    assert_eq!(entry.deactivated().collect::<Vec<_>>(), dsns);
                    if value_len < 300 {
                        for cut in 0..bytes.len() {
                            assert!(EntryRef::parse(&bytes[..cut]).is_err());
                        }
                    }
                    bytes.push(0);
                    assert!(matches!(EntryRef::parse(&bytes), Err(EntryError::Long { .. })));
                }
            }
        }
    }

    #[test]
    fn what_the_length_fields_cannot_say_is_refused() {
        let (long_key, long_value) = (vec![0; 256], vec![0; MAX_VALUE_LEN + 1]);
        let many = vec![SerialNumber(0); 256];
        let mut out = vec![];
        assert_eq!(fields(&[], b"v", &[]).encode(&mut out), Err(EntryError::KeyLength(0)));
        assert_eq!(fields(&long_key, b"v", &[]).encode(&mut out), Err(EntryError::KeyLength(256)));
        assert_eq!(
            fields(b"k", &long_value, &[]).encode(&mut out),
            Err(EntryError::ValueLength(MAX_VALUE_LEN + 1))
        );
        assert_eq!(fields(b"k", b"v", &many).encode(&mut out), Err(EntryError::Deactivated(256)));
        assert!(out.is_empty());
    }

    #[test]
    fn only_the_exact_shape_is_a_sentry() {
        let mut bytes = vec![];
        encode_sentry(ShardId::new(15).unwrap(), 4095, &mut bytes);
        assert_eq!(bytes.len(), SENTRY_LEN);
        let sentry = EntryRef::parse(&bytes).unwrap();
        assert_eq!(sentry.sentry_key_hash(), Some(KeyHash::sentry(0xFFFF)));
        assert_eq!(sentry.next_key_hash(), KeyHash::MAX);

        for (key, value, expected) in [
            (KeyHash::sentry(0x1234).0.to_vec(), &b""[..], true),
            (KeyHash::sentry(0x1234).0.to_vec(), b"v", false),
            (vec![0; 31], b"", false),
            (vec![1; 32], b"", false),
        ] {
            let mut bytes = vec![];
            fields(&key, value, &[]).encode(&mut bytes).unwrap();
            assert_eq!(EntryRef::parse(&bytes).unwrap().is_sentry(), expected);
        }
    }
}
