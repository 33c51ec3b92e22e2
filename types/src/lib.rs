//! The words of Hedgerow, as types.
//!
//! Every other crate speaks in these: digests, key hashes, shards, serial numbers, twigs, heights,
//! versions and log positions are newtypes, so that two numbers that must never mix cannot. Beside
//! them stand the three definitions that everybody must agree on to the byte: the layout of an
//! [`entry`], the [sentry rule](entry::EntryRef::is_sentry) and the
//! [preimage of a tree node](node::preimage).
//!
//! ```text
//!  key ──SHA-256──► KeyHash ──top 4 bits──► ShardId
//!                                             │
//!  entry (key, value, next key hash, ...) ──► SerialNumber 0, 1, 2, ... of that shard
//!                                             │ / 2048
//!                                             ▼
//!                                           TwigId 0, 1, 2, ...
//! ```
//!
//! **Invariant:** no I/O, no allocation except to encode an entry and to [sort](even), and no hash function:
//! whoever hashes brings the hasher. The crate is `no_std` so that the light client's verifier can use it.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `serde` | `Serialize` and `Deserialize` of digests, key hashes and numbers |
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod entry;
pub mod even;
pub mod hex;
pub mod node;
mod numbers;
pub mod rows;
#[cfg(feature = "serde")]
mod serialize;
#[cfg(not(doctest))]
#[allow(rustdoc::all, clippy::all)]
#[doc = include_str!("spec.md")]
pub mod spec {}

pub use numbers::{
    CompactionRule, Height, LogPosition, ParamsError, SerialNumber, ShardId, TwigId, Version,
};

use core::fmt;

/// Number of shards of a store ([spec 1](crate::spec)).
pub const SHARDS: usize = 16;
/// Sentries per shard, the serial numbers 0..4096 of its history ([spec 4.3](crate::spec)).
pub const SENTRIES_PER_SHARD: u64 = 4096;
/// log2 of the leaves of a twig ([spec 1](crate::spec)).
pub const TWIG_SHIFT: u32 = 11;
/// Leaves of a twig: 2048 consecutive entries of one shard ([spec 8.1](crate::spec)).
pub const TWIG_LEAVES: usize = 1 << TWIG_SHIFT;
/// Twigs that one shard can have in all its history: 2^40, or 2^51 entries. The root level of its
/// tree stays below 64 ([spec 1](crate::spec)).
pub const MAX_TWIGS: u64 = 1 << 40;
/// Twigs of one shard that a store can keep at a time, 2^28: their pages are addressed in 32 bits.
pub const MAX_TWIGS_HELD: u64 = 1 << 28;
/// Fewest bytes that the log holds of an entry that it keeps: the frame of a stub. How many entries a log can
/// have is bounded by it. The entry log does not compile if its format says otherwise.
pub const MIN_FRAME_LEN: u64 = 48;
/// Level of a twig root; entry hashes are level 0 ([spec 8.1](crate::spec)).
pub const TWIG_ROOT_LEVEL: u8 = 12;
/// Level at which the 32-byte pages of a twig's active bits enter its right tree ([spec 8.1](crate::spec)).
pub const ACTIVE_BITS_LEVEL: u8 = 8;
/// 32-byte pages of active bits per twig ([spec 8.1](crate::spec)): 8 pages of 256 bits.
pub const ACTIVE_PAGES_PER_TWIG: usize = 8;
/// Level of the 16 shard roots as children of the state root's tree: `node(64 + i, ..)`.
pub const STATE_ROOT_LEVEL: u8 = 64;
/// Levels of the tree over the 16 shard roots.
pub const STATE_LEVELS: usize = 4;
/// Longest key in bytes; the shortest is 1 ([spec 3](crate::spec)).
pub const MAX_KEY_LEN: usize = 255;
/// Longest value in bytes that the entry format can hold, 2^24 - 1 ([spec 3](crate::spec)).
pub const MAX_VALUE_LEN: usize = (1 << 24) - 1;

/// A SHA-256 digest: an entry hash, a tree node or a root. 32 bytes.
///
/// ```
/// let digest: hedgerow_types::Digest = "ab".repeat(32).parse().unwrap();
/// assert_eq!(digest.as_bytes(), &[0xAB; 32]);
/// assert_eq!(digest.to_string(), "ab".repeat(32));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// 32 zero bytes.
    pub const ZERO: Self = Self([0; 32]);

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// SHA-256 of a key (or the padded prefix of a sentry, [spec 4.3](crate::spec)): what orders entries within a
/// shard and chooses the shard. 32 bytes, compared lexicographically ([spec 3](crate::spec)).
///
/// ```
/// use hedgerow_types::KeyHash;
/// // As the command line prints it; a store gets it as the SHA-256 of a key.
/// let hash: KeyHash = "2b".repeat(32).parse().unwrap();
/// assert_eq!(hash.shard().index(), 2);
/// assert!(KeyHash::sentry(0x2B2B) < hash && hash < KeyHash::sentry(0x2B2C));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct KeyHash(pub [u8; 32]);

impl Ord for KeyHash {
    /// As their bytes, of which the first eight nearly always decide: they are one comparison of numbers.
    #[inline]
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.prefix_u64().cmp(&other.prefix_u64()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for KeyHash {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl KeyHash {
    /// 32 bytes of 0xFF: the next key hash of the last entry of the last shard ([spec 4.2](crate::spec)).
    pub const MAX: Self = Self([0xFF; 32]);

    /// The shard this key hash belongs to: its top 4 bits ([spec 3](crate::spec)).
    pub const fn shard(&self) -> ShardId {
        ShardId::from_top_bits(self.0[0])
    }

    /// The key hash, and the key, of the sentry with the 16-bit prefix `prefix` ([spec 4.3](crate::spec)).
    pub const fn sentry(prefix: u16) -> Self {
        let mut bytes = [0; 32];
        let [high, low] = prefix.to_be_bytes();
        bytes[0] = high;
        bytes[1] = low;
        Self(bytes)
    }

    /// The first sentry of the shard after `shard`, or [`KeyHash::MAX`] after the last one: where
    /// the linked list of `shard` ends ([spec 4.2](crate::spec)).
    pub const fn end_of(shard: ShardId) -> Self {
        if shard.index() + 1 == SHARDS {
            Self::MAX
        } else {
            Self::sentry((shard.index() as u16 + 1) << 12)
        }
    }

    /// The first 8 bytes as a big-endian number: ordered as the key hashes are, up to ties.
    #[inline]
    pub const fn prefix_u64(&self) -> u64 {
        let b = &self.0;
        u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

macro_rules! hex_newtype {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                hex::write(f, &self.0)
            }
        }
        impl core::str::FromStr for $name {
            type Err = hex::HexError;
            /// Reads 64 hex digits, with or without a leading `0x`.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; 32];
                hex::decode_to(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }
        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }
        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
    };
}
hex_newtype!(Digest);
hex_newtype!(KeyHash);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn key_hashes_are_ordered_as_their_bytes() {
        let mut keys = alloc::vec::Vec::new();
        for place in [0, 7, 8, 31] {
            for byte in [0, 1, 0x7F, 0x80, 0xFF] {
                for filled in [0, 0x80, 0xFF] {
                    let mut key = KeyHash([filled; 32]);
                    key.0[place] = byte;
                    keys.push(key);
                }
            }
        }
        for a in &keys {
            for b in &keys {
                assert_eq!(a.cmp(b), a.0.cmp(&b.0), "{a} {b}");
                assert_eq!(a.partial_cmp(b), Some(a.cmp(b)));
            }
        }
    }

    #[test]
    fn digests_print_and_parse_as_hex() {
        let digest = Digest(core::array::from_fn(|i| i as u8 * 7));
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        let mut prefixed = alloc::string::String::from("0x");
        prefixed.push_str(&digest.to_string());
        assert_eq!(prefixed.parse::<Digest>(), Ok(digest));
        assert!("00".parse::<Digest>().is_err());
        assert!(digest.to_string().replace('0', "g").parse::<Digest>().is_err());
    }

    #[test]
    fn a_shard_ends_where_the_next_begins() {
        for shard in ShardId::all() {
            let end = KeyHash::end_of(shard);
            match shard.next() {
                Some(next) => {
                    assert_eq!(end.shard(), next);
                    assert_eq!(end, KeyHash::sentry((next.index() as u16) << 12));
                }
                None => assert_eq!(end, KeyHash::MAX),
            }
        }
    }
}
