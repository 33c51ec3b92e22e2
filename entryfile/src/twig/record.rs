//! A finished twig's record: the upper part of its left tree, and where its entries lie.
//!
//! ```text
//!  level 11        nodes[0]                     255 nodes in heap order: children of i are
//!                 ╱        ╲                    2 i + 1 and 2 i + 2
//!          nodes[1]        nodes[2]
//!             ╱ ╲             ╱ ╲
//!  level 4  nodes[127] ... nodes[254]           each covers a group of 16 leaves
//!             │                │
//!  leaves   0 .. 15   ...   2032 .. 2047        not stored as a rule: a proof reads the 16 entries of
//!                                               the group and hashes them again
//!
//!  on disk, offset   0        8      16      18      20         24          28           32
//!                   ┌────────┬──────┬───────┬───────┬──────────┬───────────┬────────────┬──────┐
//!                   │ magic  │ twig │ shard │ flags │ body len │ body crc  │ header crc │ body │
//!                   └────────┴──────┴───────┴───────┴──────────┴───────────┴────────────┴──────┘
//!                     8        8      2       2       4          4           4
//!  body             record position 8 │ 255 x 32 nodes │ 128 x 8 groups │ n x (leaf 2, position 8)
//!                   │ with flag 1: 2048 x 32 leaves
//! ```
//!
//! A body is 9,192 bytes and 10 more per break, and 65,536 more with leaves. **Nobody writes leaves
//! yet** but tests: they are for a node that serves the hashes of a twig to others, or has got them from
//! others.

use crate::record::frame::ALIGN;
use crate::{Damage, LogError};
use hedgerow_types::{Digest, LogPosition, ShardId, TWIG_LEAVES, TwigId};

/// Nodes of a twig record: levels 11 down to 4 of the left tree.
pub const TWIG_NODES: usize = 255;
/// Groups of a twig: nodes of level 4.
pub const TWIG_GROUPS: usize = 128;
/// Leaves of a group.
pub const GROUP_LEAVES: usize = TWIG_LEAVES / TWIG_GROUPS;

pub(crate) const HEADER_LEN: usize = 32;
/// Most records, which have few breaks and no leaves, are no longer.
pub(crate) const TYPICAL_LEN: usize = HEADER_LEN + FIXED_BODY + 16 * BREAK_LEN;
const MAGIC: [u8; 8] = *b"HgrwTwg1";
const FIXED_BODY: usize = 8 + TWIG_NODES * 32 + TWIG_GROUPS * 8;
const BREAK_LEN: usize = 10;
const MAX_BREAKS: usize = TWIG_LEAVES - 1;

const LEAVES_LEN: usize = TWIG_LEAVES * 32;
/// Flag: the leaves follow.
const HAS_LEAVES: u16 = 1;

const _: () = assert!(FIXED_BODY == 9_192 && GROUP_LEAVES == 16);

/// What the twig file keeps of a finished twig. Derived from the log: what is missing or damaged is
/// computed again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwigRecord {
    /// The shard.
    pub shard: ShardId,
    /// The twig.
    pub twig: TwigId,
    /// The block record that holds the twig's first entry.
    pub record: LogPosition,
    /// The left tree from its root (level 11) down to level 4, in heap order: the children of node
    /// i are 2 i + 1 and 2 i + 2, and nodes 127..255 are those of level 4.
    pub nodes: Box<[Digest; TWIG_NODES]>,
    /// Where the first entry of each group of 16 lies.
    pub groups: Box<[LogPosition; TWIG_GROUPS]>,
    /// Leaves whose frame does not directly follow that of the leaf before, increasing, with its
    /// position. Leaf 0 is not listed; the first leaf of a group is listed like any other.
    pub breaks: Vec<(u16, LogPosition)>,
    /// The hashes of all entries, if they are kept: what a store writes is without.
    pub leaves: Option<Box<[Digest; TWIG_LEAVES]>>,
}

/// What a proof of an entry needs of its twig's record: the group of 16 leaves that the entry is in.
///
/// ```
/// use hedgerow_entryfile::{TwigGroup, TwigRecord};
/// # use hedgerow_types::{Digest, LogPosition, ShardId, TwigId};
/// # let record = TwigRecord {
/// #     shard: ShardId::new(3).unwrap(),
/// #     twig: TwigId(7),
/// #     record: LogPosition(64),
/// #     nodes: Box::new([Digest::ZERO; 255]),
/// #     groups: Box::new(std::array::from_fn(|group| LogPosition(416 + 2_400 * group as u64))),
/// #     breaks: vec![],
/// #     leaves: None,
/// # };
/// let group: TwigGroup = record.group_of(35).expect("there are 2048");
/// assert_eq!((group.number, group.start), (2, record.groups[2]));      // of the leaves 32 to 47
/// assert_eq!(group.end, Some(record.groups[3]));                       // no other block lies between
/// assert_eq!((group.node, group.siblings[0]), (record.nodes[129], record.nodes[130]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwigGroup {
    /// The twig.
    pub twig: TwigId,
    /// Which group of the twig it is, 0 to 127.
    pub number: usize,
    /// The root of the twig's left tree.
    pub left_root: Digest,
    /// The group's node, of level 4.
    pub node: Digest,
    /// The siblings of the node and of its ancestors, levels 4 to 10.
    pub siblings: [Digest; GROUP_SIBLINGS],
    /// Where its first entry lies.
    pub start: LogPosition,
    /// Leaves of it, numbered in the twig, whose frame does not directly follow that of the leaf before, with its
    /// position; the first leaf may be one.
    pub breaks: Vec<(u16, LogPosition)>,
    /// Where it ends, if that is known: the next group of the twig directly follows it.
    pub end: Option<LogPosition>,
    /// The hashes of its entries, if they are kept.
    pub leaves: Option<Box<[Digest; GROUP_LEAVES]>>,
}

/// Levels between a group's node and the left root.
const GROUP_SIBLINGS: usize = 7;

impl TwigGroup {
    /// A group of a twig, from what its record says of nodes, groups, and breaks by their numbers, of which there
    /// are so many.
    fn new(
        (twig, number): (TwigId, usize),
        node: impl Fn(usize) -> Option<Digest>,
        start: impl Fn(usize) -> Option<LogPosition>,
        (breaks, break_at): (usize, impl Fn(usize) -> Option<(u16, LogPosition)>),
    ) -> Option<Self> {
        let mut place = TWIG_NODES / 2 + number;
        let own = node(place)?;
        let mut siblings = [Digest::ZERO; GROUP_SIBLINGS];
        for sibling in &mut siblings {
            // Left children have odd numbers.
            *sibling = node(((place + 1) ^ 1) - 1)?;
            place = (place - 1) / 2;
        }
        // The first break at or behind a leaf.
        let first_at = |leaf: usize| {
            let (mut low, mut high) = (0, breaks);
            while low < high {
                let middle = low.midpoint(high);
                match break_at(middle) {
                    Some((at, _)) if usize::from(at) < leaf => low = middle + 1,
                    _ => high = middle,
                }
            }
            low
        };
        let behind = (number + 1) * GROUP_LEAVES;
        let (from, to) = (first_at(number * GROUP_LEAVES), first_at(behind));
        let next_follows = break_at(to).is_none_or(|(leaf, _)| usize::from(leaf) != behind);
        Some(Self {
            twig,
            number,
            left_root: node(0)?,
            node: own,
            siblings,
            start: start(number)?,
            breaks: (from..to).filter_map(break_at).collect(),
            end: start(number + 1).filter(|_| next_follows),
            leaves: None,
        })
    }

    /// The first leaf, numbered in the twig.
    pub(crate) fn first_leaf(&self) -> usize {
        self.number * GROUP_LEAVES
    }
}

/// The body of a record as it lies in the file, its checksum verified.
pub(crate) struct TwigBody<'a> {
    fixed: &'a [u8; FIXED_BODY],
    breaks: &'a [[u8; BREAK_LEN]],
    leaves: Option<&'a [u8; LEAVES_LEN]>,
}

impl<'a> TwigBody<'a> {
    /// The parts of a body with this header.
    pub(crate) fn check(header: &TwigHeader, body: &'a [u8]) -> Result<Self, Damage> {
        let computed = crc32c::crc32c(body);
        if header.body_crc != computed {
            return Err(Damage::Checksum { stored: header.body_crc, computed });
        }
        let (fixed, rest) = body.split_first_chunk::<FIXED_BODY>().ok_or(Damage::Twig("short"))?;
        let (breaks, leaves) = if header.has_leaves {
            let (breaks, leaves) =
                rest.split_last_chunk::<LEAVES_LEN>().ok_or(Damage::Twig("short"))?;
            (breaks, Some(leaves))
        } else {
            (rest, None)
        };
        let (breaks, rest) = breaks.as_chunks::<BREAK_LEN>();
        if !rest.is_empty() {
            return Err(Damage::Twig("the breaks of a twig have no whole number"));
        }
        Ok(Self { fixed, breaks, leaves })
    }

    fn record(&self) -> LogPosition {
        LogPosition(self.fixed.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    fn nodes(&self) -> &'a [[u8; 32]] {
        self.fixed[8..8 + TWIG_NODES * 32].as_chunks::<32>().0
    }

    fn groups(&self) -> &'a [[u8; 8]] {
        self.fixed[8 + TWIG_NODES * 32..].as_chunks::<8>().0
    }

    /// The group that `leaf` belongs to; `None` if it is not one of the 2048.
    pub(crate) fn group(&self, twig: TwigId, leaf: usize) -> Option<TwigGroup> {
        let number = leaf / GROUP_LEAVES;
        let (nodes, groups) = (self.nodes(), self.groups());
        let found = TwigGroup::new(
            (twig, number),
            |place| Some(Digest(*nodes.get(place)?)),
            |group| Some(position(groups.get(group)?)),
            (self.breaks.len(), |place| Some(break_of(self.breaks.get(place)?))),
        );
        let leaves = self.leaves.and_then(|leaves| {
            let group = leaves.as_chunks::<{ GROUP_LEAVES * 32 }>().0.get(number)?;
            digests(group).try_into().ok()
        });
        Some(TwigGroup { leaves, ..found? })
    }
}

fn position(bytes: &[u8; 8]) -> LogPosition {
    LogPosition(u64::from_le_bytes(*bytes))
}

fn break_of([a, b, at @ ..]: &[u8; BREAK_LEN]) -> (u16, LogPosition) {
    (u16::from_le_bytes([*a, *b]), position(at))
}

impl TwigRecord {
    /// What a proof needs of the group that `leaf` belongs to; `None` if `leaf` is not one of the 2048.
    pub fn group_of(&self, leaf: usize) -> Option<TwigGroup> {
        let found = TwigGroup::new(
            (self.twig, leaf / GROUP_LEAVES),
            |place| self.nodes.get(place).copied(),
            |group| self.groups.get(group).copied(),
            (self.breaks.len(), |place| self.breaks.get(place).copied()),
        );
        let leaves = self.group_leaves(leaf).map(|leaves| Box::new(*leaves));
        Some(TwigGroup { leaves, ..found? })
    }

    /// Bytes of memory that it takes.
    pub fn memory(&self) -> usize {
        let leaves = self.leaves.as_ref().map_or(0, |leaves| size_of_val(&**leaves));
        let breaks = self.breaks.capacity() * size_of::<(u16, LogPosition)>();
        size_of::<Self>() + size_of_val(&*self.nodes) + size_of_val(&*self.groups) + breaks + leaves
    }

    /// The hashes of the entries of the group that `leaf` (0..2048) belongs to, if they are kept.
    pub fn group_leaves(&self, leaf: usize) -> Option<&[Digest; GROUP_LEAVES]> {
        let (groups, _) = self.leaves.as_deref()?.as_chunks();
        groups.get(leaf / GROUP_LEAVES)
    }

    /// Where the group of `leaf` begins, and the breaks within it; its entries lie one after the
    /// other from there, but for the breaks. `None` if `leaf` is not one of the 2048.
    pub fn group(&self, leaf: usize) -> Option<(LogPosition, &[(u16, LogPosition)])> {
        let group = leaf / GROUP_LEAVES;
        let start = *self.groups.get(group)?;
        let before = |limit: usize| self.breaks.partition_point(|b| usize::from(b.0) < limit);
        let (from, to) = (before(group * GROUP_LEAVES), before((group + 1) * GROUP_LEAVES));
        Some((start, self.breaks.get(from..to)?))
    }

    /// Whether the two say the same of the twig, but for leaves, which one of them may have.
    pub fn same_but_leaves(&self, other: &Self) -> bool {
        let Self { shard, twig, record, nodes, groups, breaks, leaves: _ } = self;
        (shard, twig, record) == (&other.shard, &other.twig, &other.record)
            && (nodes, groups, breaks) == (&other.nodes, &other.groups, &other.breaks)
    }

    /// The greatest position that the record names. If a block record ends above it, then the whole
    /// twig lies below that end.
    pub(crate) fn last_position(&self) -> LogPosition {
        let group = self.groups[TWIG_GROUPS - 1];
        self.breaks.last().map_or(group, |&(_, at)| at.max(group))
    }

    /// Whether the fields can be those of a twig.
    fn check(&self) -> Result<(), &'static str> {
        let breaks = &self.breaks;
        let aligned = |at: &LogPosition| at.0.is_multiple_of(ALIGN as u64);
        if breaks.len() > MAX_BREAKS
            || !breaks.is_sorted_by(|a, b| a.0 < b.0)
            || breaks.first().is_some_and(|first| first.0 == 0)
            || breaks.last().is_some_and(|last| usize::from(last.0) >= TWIG_LEAVES)
        {
            return Err("the breaks of a twig are not increasing leaves 1 to 2047");
        }
        if !self.groups.iter().all(aligned) || !breaks.iter().all(|(_, at)| aligned(at)) {
            return Err("a position in a twig is not a multiple of 8");
        }
        if !self.groups.is_sorted_by(|a, b| a < b) || !breaks.is_sorted_by(|a, b| a.1 < b.1) {
            return Err("the positions in a twig are not increasing");
        }
        Ok(())
    }

    /// Header and body.
    ///
    /// # Errors
    /// [`LogError::Malformed`] if the fields cannot be those of a twig.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, LogError> {
        self.check().map_err(LogError::Malformed)?;
        let leaves_len = if self.leaves.is_some() { LEAVES_LEN } else { 0 };
        let body_len = FIXED_BODY + BREAK_LEN * self.breaks.len() + leaves_len;
        let mut out = Vec::with_capacity(HEADER_LEN + body_len);
        out.resize(HEADER_LEN, 0);
        out.extend_from_slice(&self.record.0.to_le_bytes());
        self.nodes.iter().for_each(|node| out.extend_from_slice(&node.0));
        self.groups.iter().for_each(|at| out.extend_from_slice(&at.0.to_le_bytes()));
        for (leaf, at) in &self.breaks {
            out.extend_from_slice(&leaf.to_le_bytes());
            out.extend_from_slice(&at.0.to_le_bytes());
        }
        let leaves = self.leaves.as_deref().into_iter().flatten();
        leaves.for_each(|leaf| out.extend_from_slice(&leaf.0));
        let header = TwigHeader {
            shard: self.shard,
            twig: self.twig,
            has_leaves: self.leaves.is_some(),
            body_len: body_len as u32,
            body_crc: crc32c::crc32c(&out[HEADER_LEN..]),
        };
        out[..HEADER_LEN].copy_from_slice(&header.encode());
        Ok(out)
    }

    /// The record with this header and body.
    pub(crate) fn decode(header: &TwigHeader, body: &[u8]) -> Result<Self, Damage> {
        let found = TwigBody::check(header, body)?;
        let (nodes, groups) = (found.nodes(), found.groups());
        let record = Self {
            shard: header.shard,
            twig: header.twig,
            record: found.record(),
            nodes: Box::new(std::array::from_fn(|i| Digest(nodes[i]))),
            groups: Box::new(std::array::from_fn(|i| position(&groups[i]))),
            breaks: found.breaks.iter().map(break_of).collect(),
            leaves: found.leaves.and_then(|leaves| digests(leaves).try_into().ok()),
        };
        record.check().map_err(Damage::Twig)?;
        Ok(record)
    }
}

/// The digests in some bytes, boxed without a copy of them all on the stack.
fn digests(bytes: &[u8]) -> Box<[Digest]> {
    bytes.as_chunks::<32>().0.iter().map(|digest| Digest(*digest)).collect()
}

/// The header of a twig record, verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TwigHeader {
    pub(crate) shard: ShardId,
    pub(crate) twig: TwigId,
    /// At most [`FIXED_BODY`], all breaks and the leaves.
    pub(crate) body_len: u32,
    has_leaves: bool,
    body_crc: u32,
}

impl TwigHeader {
    fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..16].copy_from_slice(&self.twig.0.to_le_bytes());
        out[16..18].copy_from_slice(&(self.shard.index() as u16).to_le_bytes());
        let flags = if self.has_leaves { HAS_LEAVES } else { 0 };
        out[18..20].copy_from_slice(&flags.to_le_bytes());
        out[20..24].copy_from_slice(&self.body_len.to_le_bytes());
        out[24..28].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..28]);
        out[28..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, Damage> {
        let (words, _) = bytes.as_chunks::<4>();
        let u32_at = |at: usize| u32::from_le_bytes(words[at / 4]);
        if bytes[..8] != MAGIC {
            return Err(Damage::Magic);
        }
        let (stored, computed) = (u32_at(28), crc32c::crc32c(&bytes[..28]));
        if stored != computed {
            return Err(Damage::Checksum { stored, computed });
        }
        let flags = u16::from_le_bytes([bytes[18], bytes[19]]);
        if flags & !HAS_LEAVES != 0 {
            return Err(Damage::Newer { what: "set of flags", value: u64::from(flags) });
        }
        let has_leaves = flags & HAS_LEAVES != 0;
        let shard = usize::from(u16::from_le_bytes([bytes[16], bytes[17]]));
        let shard = ShardId::new(shard).ok_or(Damage::Twig("no such shard"))?;
        let twig = TwigId(u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32);
        let body_len = u32_at(20);
        let least = FIXED_BODY + if has_leaves { LEAVES_LEN } else { 0 };
        if !(least..=least + BREAK_LEN * MAX_BREAKS).contains(&(body_len as usize)) {
            let (need, have) = (u64::from(body_len), least as u64);
            return Err(Damage::Length { need, have });
        }
        Ok(Self { shard, twig, body_len, has_leaves, body_crc: u32_at(24) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(breaks: Vec<(u16, LogPosition)>) -> TwigRecord {
        TwigRecord {
            shard: ShardId::new(3).unwrap(),
            twig: TwigId(1 << 40),
            record: LogPosition(640),
            nodes: Box::new(std::array::from_fn(|i| Digest([i as u8; 32]))),
            groups: Box::new(std::array::from_fn(|i| LogPosition(800 + 3000 * i as u64))),
            breaks,
            leaves: None,
        }
    }

    fn with_leaves(mut record: TwigRecord) -> TwigRecord {
        let leaves = (0..2048).map(|i| Digest(std::array::from_fn(|j| (i + j * 7) as u8)));
        record.leaves = Some(leaves.collect::<Box<[_]>>().try_into().unwrap());
        record
    }

    fn decode(bytes: &[u8]) -> Result<TwigRecord, Damage> {
        let (header, body) = bytes.split_first_chunk().unwrap();
        let header = TwigHeader::decode(header)?;
        assert_eq!(header.body_len as usize, body.len());
        TwigRecord::decode(&header, body)
    }

    #[test]
    fn records_are_read_back_and_every_flipped_bit_is_noticed() {
        let all = (1..2048).map(|leaf| (leaf, LogPosition(u64::from(leaf) * 160))).collect();
        for breaks in [vec![], vec![(16, LogPosition(8000)), (17, LogPosition(16000))], all] {
            let without = record(breaks);
            let bytes = without.encode().unwrap();
            assert_eq!(decode(&bytes), Ok(without.clone()));
            let with = with_leaves(without);
            let longer = with.encode().unwrap();
            assert_eq!(longer.len(), bytes.len() + 65_536);
            assert_eq!(longer[32..bytes.len()], bytes[32..], "what is without comes first");
            assert_eq!(decode(&longer), Ok(with));
        }
        let without = record(vec![(5, LogPosition(8000))]);
        for record in [without.clone(), with_leaves(without)] {
            let mut bytes = record.encode().unwrap();
            // All of what is without leaves, and some of the leaves: a checksum takes its time.
            let all = 0..bytes.len().min(10_000);
            for byte in all.chain((10_000..bytes.len()).step_by(89)) {
                bytes[byte] ^= 1 << (byte % 8);
                assert!(decode(&bytes).is_err(), "byte {byte}");
                bytes[byte] ^= 1 << (byte % 8);
            }
        }
    }

    #[test]
    fn every_changed_byte_and_every_other_length_of_a_record_is_noticed() {
        let without = record(vec![(5, LogPosition(8000)), (9, LogPosition(9000))]);
        let bytes = without.encode().unwrap();
        for byte in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut damaged = bytes.clone();
                damaged[byte] ^= flip;
                let damage = decode(&damaged).unwrap_err();
                match byte {
                    0..8 => assert_eq!(damage, Damage::Magic),
                    _ => assert!(matches!(damage, Damage::Checksum { .. }), "{byte}: {damage}"),
                }
            }
        }
        let (header, body) = bytes.split_first_chunk().unwrap();
        let header = TwigHeader::decode(header).unwrap();
        let longer = [body, &[0; BREAK_LEN]].concat();
        for len in (0..body.len()).chain(body.len() + 1..=longer.len()) {
            // With the checksum of the damaged record: not what was written, and refused.
            assert!(TwigRecord::decode(&header, &longer[..len]).is_err(), "{len}");
            // With one that was mended for it: only whole breaks that fit are a record.
            let mended = TwigHeader { body_crc: crc32c::crc32c(&longer[..len]), ..header };
            let decoded = TwigRecord::decode(&mended, &longer[..len]);
            let whole = len == FIXED_BODY || len == FIXED_BODY + BREAK_LEN;
            assert_eq!(decoded.is_ok(), whole, "{len}: {decoded:?}");
        }
    }

    /// No flag, and no length that goes with the flags, leads to another record or to a large allocation.
    #[test]
    fn flags_and_lengths_belong_together() {
        let without = record(vec![(5, LogPosition(8000))]);
        let with = with_leaves(without.clone());
        let mend = |mut header: [u8; HEADER_LEN]| {
            let crc = crc32c::crc32c(&header[..28]);
            header[28..].copy_from_slice(&crc.to_le_bytes());
            TwigHeader::decode(&header)
        };
        for record in [&without, &with] {
            let bytes = record.encode().unwrap();
            let (header, body) = bytes.split_first_chunk::<HEADER_LEN>().unwrap();
            let least = FIXED_BODY + if record.leaves.is_some() { LEAVES_LEN } else { 0 };
            let most = least + BREAK_LEN * MAX_BREAKS;
            for len in [0, 1, least - 1, least, most, most + 1, 1 << 24, u32::MAX as usize] {
                let mut other = *header;
                other[20..24].copy_from_slice(&(len as u32).to_le_bytes());
                assert_eq!(mend(other).is_ok(), (least..=most).contains(&len), "{len}");
            }
            // The other flag with this body: a length that does not go with it.
            let mut other = *header;
            other[18] ^= 1;
            let decoded = mend(other).and_then(|header| TwigRecord::decode(&header, body));
            assert!(matches!(decoded, Err(Damage::Length { .. })), "{decoded:?}");
            for (byte, bit) in (1..8).map(|bit| (18, bit)).chain((0..8).map(|bit| (19, bit))) {
                let mut other = *header;
                other[byte] |= 1 << bit;
                let refused = mend(other);
                assert!(matches!(refused, Err(Damage::Newer { .. })), "{byte} {bit}: {refused:?}");
            }
            for byte in [16, 17] {
                let mut other = *header;
                other[byte] = 16;
                assert!(matches!(mend(other), Err(Damage::Twig(_))));
            }
        }
    }

    #[test]
    fn leaves_are_the_only_thing_that_may_differ() {
        let a_break = vec![(5, LogPosition(8000))];
        let one = record(a_break.clone());
        assert!(one.same_but_leaves(&with_leaves(one.clone())));
        assert!(with_leaves(one.clone()).same_but_leaves(&one));
        let changes: [fn(&mut TwigRecord); 6] = [
            |other| other.shard = ShardId::new(4).unwrap(),
            |other| other.twig.0 += 1,
            |other| other.record.0 += 8,
            |other| other.nodes[254].0[31] ^= 1,
            |other| other.groups[127].0 += 8,
            |other| other.breaks.clear(),
        ];
        for change in changes {
            let mut other = with_leaves(one.clone());
            change(&mut other);
            assert!(!one.same_but_leaves(&other));
        }
    }

    #[test]
    fn the_leaves_of_a_group_are_among_those_of_the_twig() {
        let without = record(vec![]);
        assert_eq!(without.group_leaves(0), None);
        let with = with_leaves(without);
        for leaf in 0..2048 {
            let group = with.group_leaves(leaf).unwrap();
            assert_eq!(group[leaf % 16], with.leaves.as_ref().unwrap()[leaf]);
        }
        assert_eq!(with.group_leaves(2048), None);
    }

    #[test]
    fn records_that_contradict_themselves_are_refused() {
        for breaks in [
            vec![(0, LogPosition(8))],
            vec![(2048, LogPosition(8))],
            vec![(5, LogPosition(8)), (5, LogPosition(16))],
            vec![(5, LogPosition(16)), (6, LogPosition(8))],
            vec![(5, LogPosition(9))],
        ] {
            assert!(matches!(record(breaks).encode(), Err(LogError::Malformed(_))));
        }
        let mut unsorted = record(vec![]);
        unsorted.groups.swap(3, 4);
        assert!(matches!(unsorted.encode(), Err(LogError::Malformed(_))));
    }

    /// From a record in memory and from its bytes.
    #[test]
    fn a_group_has_the_nodes_above_it_and_its_places() {
        let breaks = [(3, 9_000), (16, 10_000), (31, 11_000), (48, 200_000), (2047, 900_000)];
        let breaks: Vec<_> = breaks.map(|(leaf, at)| (leaf, LogPosition(at))).into();
        for record in [record(vec![]), record(breaks.clone()), with_leaves(record(breaks))] {
            let bytes = record.encode().unwrap();
            let (header, body) = bytes.split_first_chunk().unwrap();
            let body = TwigBody::check(&TwigHeader::decode(header).unwrap(), body).unwrap();
            for leaf in 0..2048 {
                let group = record.group_of(leaf).unwrap();
                assert_eq!(body.group(record.twig, leaf).as_ref(), Some(&group));
                let number = leaf / 16;
                // Level 11 - d begins at 2^d - 1.
                let node =
                    |level: usize, index: usize| record.nodes[(1 << (11 - level)) - 1 + index];
                assert_eq!((group.node, group.left_root), (node(4, number), node(11, 0)));
                for (above, sibling) in group.siblings.iter().enumerate() {
                    assert_eq!(*sibling, node(4 + above, (number >> above) ^ 1));
                }
                let (start, breaks) = record.group(leaf).unwrap();
                assert_eq!((group.start, &group.breaks[..]), (start, breaks));
                let next = 16 * (number + 1);
                let is_break = record.breaks.iter().any(|(leaf, _)| usize::from(*leaf) == next);
                let end = record.groups.get(number + 1).filter(|_| !is_break);
                assert_eq!(group.end, end.copied());
                assert_eq!(group.leaves.as_deref(), record.group_leaves(leaf));
                assert_eq!((group.number, group.first_leaf()), (number, leaf - leaf % 16));
            }
            assert_eq!((record.group_of(2048), body.group(record.twig, 2048)), (None, None));
        }
    }

    #[test]
    fn a_group_knows_its_breaks() {
        let breaks =
            vec![(16, LogPosition(8000)), (31, LogPosition(9000)), (32, LogPosition(9600))];
        let record = record(breaks.clone());
        assert_eq!(record.group(0), Some((record.groups[0], &[][..])));
        for leaf in 16..32 {
            assert_eq!(record.group(leaf), Some((record.groups[1], &breaks[..2])));
        }
        assert_eq!(record.group(47), Some((record.groups[2], &breaks[2..])));
        assert_eq!(record.group(2047), Some((record.groups[127], &[][..])));
        assert_eq!(record.group(2048), None);
    }
}
