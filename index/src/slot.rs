//! What the index keeps of a key, and of a position.
//!
//! ```text
//!  KeyHash::prefix_u64   bit 63    59        47                 15       0
//!                        ┌────────┬─────────┬──────────────────┬────────┐
//!                        │ shard  │ group   │ fragment         │ unused │
//!                        └────────┴─────────┴──────────────────┴────────┘
//!                            4        12            32             16
//!
//!  slot   offset 0          4                   10
//!         ┌────────────────┬────────────────────┐
//!         │ fragment (LE)  │ position / 8 (LE)  │   10 = 4 + 6 bytes
//!         └────────────────┴────────────────────┘
//! ```

use crate::IndexError;
use hedgerow_types::{KeyHash, LogPosition};

/// Groups of a shard: one for each value of the 12 bits after the shard's.
pub const GROUPS: usize = 1 << 12;

/// log2 of the alignment of entries in the log.
const ALIGN_SHIFT: u32 = 3;
/// Bits of a position divided by its alignment.
const UNIT_BITS: u32 = 48;

/// The greatest position that the index can hold: the last multiple of 8 below 2^51 (2 PiB).
pub const MAX_POSITION: LogPosition = LogPosition(((1 << UNIT_BITS) - 1) << ALIGN_SHIFT);

/// The 44 bits by which an index knows a key: group (12), fragment (32). Stems order as the key hashes
/// of a shard do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stem(u64);

impl Stem {
    /// The greatest.
    pub const MAX: Self = Self((1 << 44) - 1);

    /// The stem of the key hashes that begin with the 8 big-endian bytes `prefix`
    /// ([`KeyHash::prefix_u64`]). The top 4 bits, the shard's, do not matter.
    pub const fn of_prefix(prefix: u64) -> Self {
        Self(prefix << 4 >> 20)
    }

    /// The stem of a key hash.
    pub const fn of(key: &KeyHash) -> Self {
        Self::of_prefix(key.prefix_u64())
    }

    /// The stem that is this number; `None` if it has more than 44 bits.
    pub const fn new(number: u64) -> Option<Self> {
        if number > Self::MAX.0 { None } else { Some(Self(number)) }
    }

    /// The stem as a number below 2^44.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The stem of a group, below [`GROUPS`], and a fragment.
    pub(crate) const fn in_group(group: usize, fragment: u32) -> Self {
        Self((group as u64) << 32 | fragment as u64)
    }

    /// The least stem of a group, below [`GROUPS`].
    pub const fn first_of(group: usize) -> Self {
        Self::in_group(group, 0)
    }

    /// The greatest stem of a group, below [`GROUPS`].
    pub const fn last_of(group: usize) -> Self {
        Self::in_group(group, u32::MAX)
    }

    /// The group, 0..[`GROUPS`]: the 12 bits of a key hash after the shard's.
    pub const fn group(self) -> usize {
        (self.0 >> 32) as usize & (GROUPS - 1)
    }

    /// The 32 bits of a key hash after the group's.
    pub const fn fragment(self) -> u32 {
        self.0 as u32
    }

    /// The greatest stem less than this one; `None` below the least.
    pub const fn before(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(before) => Some(Self(before)),
            None => None,
        }
    }
}

/// A log position in the 48 bits that a slot has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit(u64);

impl Unit {
    pub(crate) const ZERO: Self = Self(0);

    pub(crate) const fn new(at: LogPosition) -> Result<Self, IndexError> {
        if at.0 > MAX_POSITION.0 || at.0 & ((1 << ALIGN_SHIFT) - 1) != 0 {
            return Err(IndexError::Position { at });
        }
        Ok(Self(at.0 >> ALIGN_SHIFT))
    }

    /// The 48 bits, little-endian.
    pub(crate) const fn bytes(self) -> [u8; 6] {
        let [u0, u1, u2, u3, u4, u5, _, _] = self.0.to_le_bytes();
        [u0, u1, u2, u3, u4, u5]
    }

    /// The position that was encoded so.
    pub(crate) const fn position_of([u0, u1, u2, u3, u4, u5]: [u8; 6]) -> LogPosition {
        LogPosition(u64::from_le_bytes([u0, u1, u2, u3, u4, u5, 0, 0]) << ALIGN_SHIFT)
    }
}

/// What a [`Bucket`](crate::bucket::Bucket) holds of a key. Slots order by their fragments first.
pub(crate) trait InBucket: Copy + Ord {
    /// The 32 bits of the key hash after the group's.
    fn fragment(self) -> u32;
    /// Where the entry is.
    fn position(self) -> LogPosition;
}

/// One key of a group: fragment and position. Ordered by fragment, then position.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot([u8; 10]);

impl Slot {
    pub(crate) const fn new(fragment: u32, unit: Unit) -> Self {
        let [f0, f1, f2, f3] = fragment.to_le_bytes();
        let [u0, u1, u2, u3, u4, u5, _, _] = unit.0.to_le_bytes();
        Self([f0, f1, f2, f3, u0, u1, u2, u3, u4, u5])
    }

    #[inline]
    pub(crate) const fn fragment(self) -> u32 {
        let [f0, f1, f2, f3, ..] = self.0;
        u32::from_le_bytes([f0, f1, f2, f3])
    }

    #[inline]
    const fn unit(self) -> u64 {
        let [.., u0, u1, u2, u3, u4, u5] = self.0;
        u64::from_le_bytes([u0, u1, u2, u3, u4, u5, 0, 0])
    }

    #[inline]
    pub(crate) const fn position(self) -> LogPosition {
        LogPosition(self.unit() << ALIGN_SHIFT)
    }
}

impl InBucket for Slot {
    #[inline]
    fn fragment(self) -> u32 {
        Self::fragment(self)
    }

    #[inline]
    fn position(self) -> LogPosition {
        Self::position(self)
    }
}

impl PartialOrd for Slot {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Slot {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.fragment(), self.unit()).cmp(&(other.fragment(), other.unit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_order_as_key_hashes_do_within_a_shard() {
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = 0x90 | i as u8;
        }
        let key = KeyHash(bytes);
        let stem = Stem::of(&key);
        assert_eq!(stem.group(), 0x091);
        assert_eq!(stem.fragment(), 0x9293_9495);
        assert_eq!(stem, Stem::in_group(stem.group(), stem.fragment()));
        bytes[6] = 0xFF;
        assert_eq!(Stem::of(&KeyHash(bytes)), stem, "bits beyond the stem do not matter");
        bytes[0] ^= 0xF0;
        assert_eq!(Stem::of(&KeyHash(bytes)), stem, "the shard does not matter");
        bytes[5] += 1;
        assert!(Stem::of(&KeyHash(bytes)) > stem);
    }

    #[test]
    fn slots_hold_every_legal_position_and_no_other() {
        for at in [0, 8, 1 << 32, 1 << 35, 1 << 50, MAX_POSITION.0] {
            let slot = Slot::new(0xFEDC_BA98, Unit::new(LogPosition(at)).unwrap());
            assert_eq!(slot.position(), LogPosition(at));
            assert_eq!(slot.fragment(), 0xFEDC_BA98);
        }
        for at in [1, 4, 7, 9, MAX_POSITION.0 + 1, MAX_POSITION.0 + 8, 1 << 51, u64::MAX, 1 << 63] {
            let at = LogPosition(at);
            assert_eq!(Unit::new(at), Err(IndexError::Position { at }));
        }
    }

    #[test]
    fn slots_order_by_fragment_then_position() {
        let slot = |fragment, at| Slot::new(fragment, Unit::new(LogPosition(at)).unwrap());
        let sorted = [
            slot(0, MAX_POSITION.0),
            slot(1, 8),
            slot(1, 256 * 8),
            slot(1, MAX_POSITION.0),
            slot(256, 0),
            slot(u32::MAX, 0),
        ];
        assert!(sorted.is_sorted_by(|a, b| a < b));
    }
}
