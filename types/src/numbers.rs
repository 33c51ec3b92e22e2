//! The numbers of the tree and the log, each a type of its own.

use crate::{SHARDS, TWIG_LEAVES, TWIG_SHIFT};
use core::fmt;

/// One of the 16 independent key ranges, 0..16 ([spec 3](crate::spec)).
///
/// ```
/// use hedgerow_types::{KeyHash, ShardId};
/// let key_hash = KeyHash([0xA7; 32]);
/// assert_eq!(key_hash.shard().index(), 0xA);   // the top 4 bits of a key's hash
/// assert_eq!(ShardId::all().len(), 16);
/// assert_eq!(ShardId::new(16), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u8);

impl ShardId {
    /// The shard with this index, if there is one.
    pub const fn new(index: usize) -> Option<Self> {
        if index < SHARDS { Some(Self(index as u8)) } else { None }
    }

    /// The shard that the first byte of a key hash names: its top 4 bits.
    pub const fn from_top_bits(first_byte: u8) -> Self {
        Self(first_byte >> 4)
    }

    /// The index, 0..16.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The shard after this one.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.index() + 1)
    }

    /// All shards in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        (0..SHARDS as u8).map(Self)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(transparent))]
        #[repr(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Position of an entry in its shard's history, from 0 ([spec 1](crate::spec)).
    ///
    /// ```
    /// use hedgerow_types::{SerialNumber, TwigId};
    /// let sn = SerialNumber(5_000);
    /// assert_eq!((sn.twig(), sn.leaf()), (TwigId(2), 904));   // 2 * 2048 + 904
    /// ```
    SerialNumber(u64)
}
number! {
    /// A twig: the entries `2048 * id .. 2048 * (id + 1)` of a shard ([spec 8.1](crate::spec)).
    ///
    /// ```
    /// use hedgerow_types::{SerialNumber, TwigId};
    /// let twig = TwigId(2);
    /// assert_eq!((twig.first(), twig.next().first()), (SerialNumber(4_096), SerialNumber(6_144)));
    /// ```
    TwigId(u64)
}
number! {
    /// Block number, at most [`Height::MAX`]. The genesis state has height 0 and the first block height 1, unless
    /// the store's parameters name another first height: then the genesis state has the height before it.
    ///
    /// ```
    /// use hedgerow_types::Height;
    /// let height = Height(41);
    /// assert_eq!(height.next(), Height(42));
    /// assert_eq!(format!("block {height}"), "block 41");
    /// ```
    Height(u64)
}
number! {
    /// What an entry's `version` field holds: `height << 24 | index of the change set in the block`
    /// ([spec 6.2](crate::spec)), 0 for sentries, -2 for the null entry.
    ///
    /// ```
    /// use hedgerow_types::{Height, Version};
    /// let version = Version::new(Height(41), 3).unwrap();   // change set 3 of block 41
    /// assert_eq!(version.height(), Height(41));
    /// assert_eq!(Version::new(Height(41), 1 << 24), None);
    /// ```
    Version(i64)
}
number! {
    /// Byte position in the store's entry log, which begins at 0 and only grows. Positions of
    /// entries are multiples of 8.
    ///
    /// ```
    /// use hedgerow_types::LogPosition;
    /// let (begin, end) = (LogPosition(64), LogPosition(64).plus(1_000));
    /// assert!(begin < end);
    /// assert_eq!(end.0 - begin.0, 1_000);          // bytes of log between the two
    /// ```
    LogPosition(u64)
}

impl SerialNumber {
    /// The twig that holds this entry.
    pub const fn twig(self) -> TwigId {
        TwigId(self.0 >> TWIG_SHIFT)
    }

    /// The entry's leaf within its twig, 0..2048.
    pub const fn leaf(self) -> usize {
        (self.0 as usize) & (TWIG_LEAVES - 1)
    }

    /// The serial number `count` entries later.
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl TwigId {
    /// The first serial number of this twig.
    pub const fn first(self) -> SerialNumber {
        SerialNumber(self.0 << TWIG_SHIFT)
    }

    /// The twig after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Height {
    /// The greatest height that the 63-bit version field can carry.
    pub const MAX: Self = Self((1 << 39) - 1);

    /// The height of the next block.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Version {
    /// Version of the sentries ([spec 4.3](crate::spec)).
    pub const SENTRY: Self = Self(0);
    /// Version of the null entry ([spec 4.4](crate::spec)).
    pub const NULL: Self = Self(-2);
    /// Change sets that one block can have: their index is 24 bits wide ([spec 6.2](crate::spec)).
    pub const CHANGE_SETS_PER_BLOCK: u32 = 1 << 24;

    /// The version of entries written by change set `change_set` of the block at `height`, or
    /// `None` if either is beyond its field.
    pub const fn new(height: Height, change_set: u32) -> Option<Self> {
        if height.0 > Height::MAX.0 || change_set >= Self::CHANGE_SETS_PER_BLOCK {
            return None;
        }
        Some(Self((height.0 << 24) as i64 | change_set as i64))
    }

    /// The height of the block that wrote this version; 0 for sentries and the null entry.
    pub const fn height(self) -> Height {
        if self.0 < 0 { Height(0) } else { Height(self.0 as u64 >> 24) }
    }
}

impl LogPosition {
    /// The position `bytes` further on.
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

/// When a shard compacts ([spec 7](crate::spec)). Part of a store's parameters: it decides roots.
///
/// A shard is compactible when `(next_sn - oldest) * ratio >= active * div` and
/// `active >= threshold`, where `active` counts the sentries too. A shard below the threshold never
/// compacts: its log grows with every update, and nothing of it can be pruned.
///
/// Only shards that a block writes to compact by that. The log is one for all of them, and what can be
/// pruned of it ends with the oldest active entry of any. So a rule can also have a *spread*: after its
/// operations a block moves the oldest active entries of all shards as long as more entries were written
/// since the oldest of their twigs began than `spread` times what is active, one for each entry that it
/// wrote: whole twigs are kept, so that is where what is needed of the log begins.
///
/// ```
/// use hedgerow_types::CompactionRule;
/// // A shard with 1,000 active entries or more compacts while they are half of its span or less.
/// let rule = CompactionRule::new(1_000, 1, 2).unwrap();
/// assert_eq!((rule.threshold(), rule.ratio(), rule.div()), (1_000, 1, 2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactionRule {
    threshold: u64,
    ratio: u32,
    div: u32,
    spread: u8,
}

/// Why a compaction rule was refused.
///
/// ```
/// use hedgerow_types::{CompactionRule, ParamsError};
/// let refused = CompactionRule::new(1_000, 0, 2).unwrap_err();
/// assert_eq!(refused, ParamsError::ZeroCompactionRatio);
/// assert_eq!(refused.to_string(), "compaction ratio and div must be at least 1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamsError {
    /// `ratio` or `div` of the compaction rule is 0.
    ZeroCompactionRatio,
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroCompactionRatio => "compaction ratio and div must be at least 1",
        })
    }
}

impl core::error::Error for ParamsError {}

impl CompactionRule {
    /// QMDB's and skippydb's default: a store below 320 M keys never compacts, so that its log grows
    /// for ever. For compatibility.
    pub const QMDB: Self = Self { threshold: 20_000_000, ratio: 7, div: 10, spread: 0 };

    /// A rule with these parameters and without a spread. With `ratio >= div` a shard above the threshold always
    /// compacts.
    ///
    /// # Errors
    /// [`ParamsError`] if `ratio` or `div` is 0.
    pub const fn new(threshold: u64, ratio: u32, div: u32) -> Result<Self, ParamsError> {
        if ratio == 0 || div == 0 {
            return Err(ParamsError::ZeroCompactionRatio);
        }
        Ok(Self { threshold, ratio, div, spread: 0 })
    }

    /// This rule with a spread; 0 for none. Less than 3 never comes to rest: while one entry is
    /// moved for each that is written, everything is moved once before twice as much was written as is
    /// active.
    #[must_use]
    pub const fn with_spread(mut self, spread: u8) -> Self {
        self.spread = spread;
        self
    }

    /// How many times what is active may have been written, by all shards, since the twig of the oldest
    /// active entry of any began; 0 if there is no such bound.
    pub const fn spread(&self) -> u8 {
        self.spread
    }

    /// Whether the oldest active entry of all shards is to be moved, when `written` entries were written
    /// since the block began that wrote the first entry of its twig, and `active` are active.
    pub const fn spreads(&self, written: u64, active: u64) -> bool {
        self.spread > 0 && written as u128 > active as u128 * self.spread as u128
    }

    /// Active entries, sentries included, below which a shard does not compact.
    pub const fn threshold(&self) -> u64 {
        self.threshold
    }

    /// Multiplier of the entries at or above the oldest active one.
    pub const fn ratio(&self) -> u32 {
        self.ratio
    }

    /// Multiplier of the active entries.
    pub const fn div(&self) -> u32 {
        self.div
    }

    /// Whether a shard with these counts compacts ([spec 7](crate::spec)).
    ///
    /// `oldest` is the shard's oldest-active serial number, `next` the one its next entry gets.
    pub const fn compactible(&self, oldest: SerialNumber, next: SerialNumber, active: u64) -> bool {
        let span = (next.0 - oldest.0) as u128;
        active >= self.threshold && span * self.ratio as u128 >= active as u128 * self.div as u128
    }
}

impl Default for CompactionRule {
    /// Threshold 1, ratio 1, div 2, which holds in a store of any size: while a shard's keys are
    /// created and updated, the span from its oldest active entry to its newest stays about twice what
    /// is active, and never exceeds three times. (It exceeds twice while compaction is in a stretch
    /// where all is active, such as genesis: there a move adds an entry and frees one.) Only creates
    /// and updates compact ([spec 7](crate::spec)): a shard that nothing writes to stays as it is, and after many
    /// deletes the span shrinks with the writes that follow. And spread 4, which keeps a shard at rest
    /// from holding the log of the others.
    fn default() -> Self {
        Self { threshold: 1, ratio: 1, div: 2, spread: 4 }
    }
}
