//! Putting proofs together; the prover's side.
//!
//! ```text
//!   EntryPath   an entry and all that stands beside its way to the state root
//!      │ one: written as it is          several: in order, each once
//!      ▼
//!   walk        where a part of the tree holds no entry, its node is what a path beside it says
//!      ▼
//!   Proof       of several: leads to the root that the first path alone leads to, or is refused
//! ```

use crate::format::{HEADER_LEN, PROOF_VERSION};
use crate::hash::{Sha2, key_hash_of};
use crate::path::{check_position, is_active};
use crate::walk::{Count, Part, Placed, Visit, same_page, walk};
use crate::{LEFT_LEVELS, MAX_UPPER_LEVELS, Proof, ProofError, ProofRef, RIGHT_LEVELS};
use alloc::vec::Vec;
use hedgerow_types::entry::EntryRef;
use hedgerow_types::{
    ACTIVE_BITS_LEVEL, Digest, SHARDS, STATE_LEVELS, STATE_ROOT_LEVEL, SerialNumber, ShardId,
    TWIG_ROOT_LEVEL,
};

/// An entry and its path to the state root: what a proof of it is made of. Siblings stand from the lowest
/// level up.
///
/// ```
/// use hedgerow_proof::{Digest, EntryPath, Proof, ProofRef};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut hashed_bytes = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut hashed_bytes).unwrap();
/// let path = EntryPath {
///     entry: hashed_bytes,
///     page: [0xFF; 32],
///     upper: vec![Digest::ZERO; 2],
///     ..EntryPath::default()
/// };
/// let proof = Proof::assemble(&[path])?;
/// assert_eq!(ProofRef::decode(&proof, proof.len())?.entries().len(), 1);
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryPath {
    /// The entry's hashed bytes ([spec 4.1](hedgerow_types::spec)).
    pub entry: Vec<u8>,
    /// Siblings in the left tree of the twig, levels 0..=10.
    pub left: [Digest; LEFT_LEVELS],
    /// The 32 bytes of active bits that hold the entry's.
    pub page: [u8; 32],
    /// Siblings in the right tree of the twig, levels 8..=10.
    pub right: [Digest; RIGHT_LEVELS],
    /// Siblings in the upper tree of the shard, from level 12.
    pub upper: Vec<Digest>,
    /// Siblings of the shard root, levels 64..=67.
    pub state: [Digest; STATE_LEVELS],
}

impl EntryPath {
    /// Whether the entry's active bit is set in its page.
    ///
    /// # Errors
    /// [`ProofError::Entry`] if `entry` is not one entry.
    pub fn is_active(&self) -> Result<bool, ProofError> {
        let entry = EntryRef::parse(&self.entry).map_err(ProofError::Entry)?;
        Ok(is_active(&self.page, entry.serial_number()))
    }

    /// The sibling at a level of a part of the tree.
    fn sibling(&self, part: Part, level: u8) -> Option<&Digest> {
        let (siblings, lowest) = match part {
            Part::Left(_) => (&self.left[..], 0),
            Part::Right(_) => (&self.right[..], ACTIVE_BITS_LEVEL),
            Part::Upper(_) => (&self.upper[..], TWIG_ROOT_LEVEL),
            Part::State => (&self.state[..], STATE_ROOT_LEVEL),
        };
        siblings.get(usize::from(level.checked_sub(lowest)?))
    }
}

/// A path and where it begins.
#[derive(Clone, Copy)]
struct Member<'a> {
    path: &'a EntryPath,
    shard: ShardId,
    sn: SerialNumber,
}

impl Placed for Member<'_> {
    fn shard(&self) -> ShardId {
        self.shard
    }

    fn sn(&self) -> SerialNumber {
        self.sn
    }
}

impl<'a> Member<'a> {
    fn new(path: &'a EntryPath) -> Result<Self, ProofError> {
        let entry = EntryRef::parse(&path.entry).map_err(ProofError::Entry)?;
        Self::of_entry(path, &entry, key_hash_of(&Sha2, &entry).shard())
    }

    /// As [`new`](Self::new), in this shard.
    fn in_shard((shard, path): &'a (ShardId, EntryPath)) -> Result<Self, ProofError> {
        let entry = EntryRef::parse(&path.entry).map_err(ProofError::Entry)?;
        Self::of_entry(path, &entry, *shard)
    }

    fn of_entry(
        path: &'a EntryPath,
        entry: &EntryRef<'_>,
        shard: ShardId,
    ) -> Result<Self, ProofError> {
        let sn = entry.serial_number();
        if path.upper.len() > MAX_UPPER_LEVELS {
            let levels = u8::try_from(path.upper.len()).unwrap_or(u8::MAX);
            return Err(ProofError::UpperLevels(levels));
        }
        check_position(sn, path.upper.len())?;
        Ok(Self { path, shard, sn })
    }
}

impl Proof {
    /// Puts a proof of these entries together. They may come in any order, and the same one more than once. The
    /// proof leads to the root that the first path leads to by itself.
    ///
    /// # Errors
    /// [`ProofError`] if there is none, one is not an entry, or has too few levels for its serial number or more
    /// than [`MAX_UPPER_LEVELS`]; [`ProofError::Contradiction`] if the paths do not make up
    /// such a proof: they are not of one tree.
    pub fn assemble(paths: &[EntryPath]) -> Result<Self, ProofError> {
        let [first, others @ ..] = paths else {
            return Err(ProofError::NoEntries);
        };
        let first = Member::new(first)?;
        if others.is_empty() {
            return encode(&[first]);
        }
        let mut members = Vec::with_capacity(paths.len());
        members.push(first);
        for path in others {
            members.push(Member::new(path)?);
        }
        let proof = encode(&in_order(members)?)?;
        let root_of = |proof: &Self| Ok(ProofRef::decode(proof, proof.len())?.root());
        if root_of(&proof)? == root_of(&encode(&[first])?)? {
            Ok(proof)
        } else {
            Err(ProofError::Contradiction)
        }
    }

    /// As [`assemble`](Self::assemble), for whoever took all of these paths from one tree, each from the shard that stands
    /// before it. Nothing is hashed, so that not all contradictions are found: of paths that are of different trees
    /// it may make a proof that leads to no tree's root.
    ///
    /// ```
    /// use hedgerow_proof::{EntryPath, KeyHash, Proof, Sha2, Sha256};
    /// # use hedgerow_types::{SerialNumber, Version, entry::EntryFields};
    /// # let mut entry = Vec::new();
    /// # let (next_key_hash, version) = (KeyHash::MAX, Version(0));
    /// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash, version,
    /// #     serial_number: SerialNumber(0), deactivated: &[] };
    /// # fields.encode(&mut entry).unwrap();
    /// let shard = KeyHash(Sha2.sha256(b"alice").0).shard();
    /// let path = EntryPath { entry, page: [0xFF; 32], ..EntryPath::default() };
    /// let assembled = Proof::assemble(&[path.clone()])?;
    /// assert_eq!(Proof::assemble_of_tree(&[(shard, path)])?, assembled);
    /// # Ok::<(), hedgerow_proof::ProofError>(())
    /// ```
    ///
    /// # Errors
    /// As [`assemble`](Self::assemble); [`ProofError::Contradiction`] as far as it is seen without hashing.
    pub fn assemble_of_tree(paths: &[(ShardId, EntryPath)]) -> Result<Self, ProofError> {
        match paths {
            [] => Err(ProofError::NoEntries),
            [one] => encode(&[Member::in_shard(one)?]),
            paths => {
                let members = paths.iter().map(Member::in_shard);
                encode(&in_order(members.collect::<Result<_, _>>()?)?)
            }
        }
    }

    /// Length in bytes of a proof of entries that stand at these places, ascending by shard and serial number,
    /// in shards with so many levels above the twig roots, and have so many hashed bytes together: for who
    /// must choose how many entries fit.
    ///
    /// ```
    /// use hedgerow_proof::{MIN_PROOF_LEN, Proof, SerialNumber, ShardId};
    /// let at = |sn| (ShardId::all().next().unwrap(), SerialNumber(sn));
    /// assert_eq!(Proof::encoded_len(&[at(3)], &[0; 16], 54), MIN_PROOF_LEN);
    /// // A neighbour takes its own bytes, and makes one sibling superfluous.
    /// assert_eq!(Proof::encoded_len(&[at(2), at(3)], &[0; 16], 2 * 54), MIN_PROOF_LEN + 54 - 32);
    /// ```
    pub fn encoded_len(
        places: &[(ShardId, SerialNumber)],
        upper_levels: &[u8; SHARDS],
        entry_bytes: usize,
    ) -> usize {
        let mut taken = Count::default();
        walk(places.iter().copied(), upper_levels, &mut taken);
        let mut last: Option<&(ShardId, SerialNumber)> = None;
        let (mut shards, mut pages) = (0, 0_usize);
        for place in places {
            shards += usize::from(last.is_none_or(|last| last.0 != place.0));
            pages += usize::from(!last.is_some_and(|last| same_page(last, place)));
            last = Some(place);
        }
        let nodes = pages.saturating_add(taken.0);
        (HEADER_LEN + shards).saturating_add(entry_bytes).saturating_add(nodes.saturating_mul(32))
    }
}

/// By shard and serial number, each once.
fn in_order(mut members: Vec<Member<'_>>) -> Result<Vec<Member<'_>>, ProofError> {
    members.sort_unstable_by_key(|member| (member.shard, member.sn));
    let same_place = |a: &Member<'_>, b: &Member<'_>| (a.shard, a.sn) == (b.shard, b.sn);
    members.dedup_by(|a, b| same_place(a, b) && a.path.entry == b.path.entry);
    if members.windows(2).any(|pair| matches!(pair, [a, b] if same_place(a, b))) {
        return Err(ProofError::Contradiction);
    }
    Ok(members)
}

/// The bytes of a proof of these, which ascend.
fn encode(members: &[Member<'_>]) -> Result<Proof, ProofError> {
    let mut levels: [Option<u8>; SHARDS] = [None; SHARDS];
    let (mut shards, mut len) = (0_u16, 0);
    for member in members {
        let upper = member.path.upper.len() as u8; // at most 51
        if let Some(levels) = levels.get_mut(member.shard.index())
            && *levels.get_or_insert(upper) != upper
        {
            return Err(ProofError::Contradiction);
        }
        shards |= 1 << member.shard.index();
        len += member.path.entry.len() + 32 * (LEFT_LEVELS + RIGHT_LEVELS + 1);
    }
    let upper = levels.iter().flatten().map(|levels| usize::from(*levels) + STATE_LEVELS);
    let mut bytes = Vec::with_capacity(HEADER_LEN + SHARDS + len + 32 * upper.sum::<usize>());
    let max = u32::MAX as usize;
    let count = u32::try_from(members.len())
        .map_err(|_| ProofError::TooLong { len: members.len(), max })?;
    bytes.push(PROOF_VERSION);
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&shards.to_le_bytes());
    bytes.extend(levels.iter().flatten());
    for member in members {
        bytes.extend_from_slice(&member.path.entry);
    }
    let mut last: Option<&Member<'_>> = None;
    for member in members {
        match last.filter(|last| same_page(*last, member)) {
            None => bytes.extend_from_slice(&member.path.page),
            Some(last) if last.path.page == member.path.page => {}
            Some(_) => return Err(ProofError::Contradiction),
        }
        last = Some(member);
    }
    if let [one] = members {
        write_nodes(one, &mut bytes);
        return Ok(Proof(bytes));
    }
    let mut writing = Writing { bytes, lost: false };
    walk(members.iter().copied(), &levels.map(Option::unwrap_or_default), &mut writing);
    if writing.lost { Err(ProofError::Contradiction) } else { Ok(Proof(writing.bytes)) }
}

/// Writes the nodes beside a single entry, in the order in which the [walk](walk) comes to them: on each level, what lies on
/// the left before all that lies below, and what lies on the right after it.
fn write_nodes(member: &Member<'_>, bytes: &mut Vec<u8>) {
    fn around(
        siblings: &[Digest],
        index: u64,
        bytes: &mut Vec<u8>,
        below: impl FnOnce(&mut Vec<u8>),
    ) {
        let is_on_left =
            |level: usize| index.checked_shr(level as u32).is_some_and(|index| index % 2 == 1);
        for (level, sibling) in siblings.iter().enumerate().rev() {
            if is_on_left(level) {
                bytes.extend_from_slice(&sibling.0);
            }
        }
        below(bytes);
        for (level, sibling) in siblings.iter().enumerate() {
            if !is_on_left(level) {
                bytes.extend_from_slice(&sibling.0);
            }
        }
    }
    let Member { path, shard, sn } = *member;
    around(&path.state, shard.index() as u64, bytes, |bytes| {
        around(&path.upper, sn.0 >> LEFT_LEVELS, bytes, |bytes| {
            around(&path.left, sn.0, bytes, |_| {});
            around(&path.right, sn.0 >> ACTIVE_BITS_LEVEL, bytes, |_| {});
        });
    });
}

/// Writes the nodes that are taken.
struct Writing {
    bytes: Vec<u8>,
    /// Whether a node was taken that no path has.
    lost: bool,
}

impl Visit<Member<'_>> for Writing {
    type Node = ();

    fn leaf(&mut self, _: &Member<'_>) {}

    fn page(&mut self, _: &Member<'_>) {}

    fn node(&mut self, part: Part, level: u8, beside: Option<&Member<'_>>) {
        match beside.and_then(|member| member.path.sibling(part, level)) {
            Some(sibling) => self.bytes.extend_from_slice(&sibling.0),
            None => self.lost = true,
        }
    }

    fn join(&mut self, _: u8, (): (), (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_types::{KeyHash, Version, entry::EntryFields};

    /// Wherever an entry stands: what is written without the walk is what the walk writes.
    #[test]
    fn the_nodes_beside_one_entry_are_in_the_order_of_the_walk() {
        for number in 0..2_000_u64 {
            let (shard, levels) = ((number % 16) as usize, (number % 52) as usize);
            let sn = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - LEFT_LEVELS - levels);
            let node = |part: u8, level: usize| {
                let mut node = Digest([part; 32]);
                node.0[..8].copy_from_slice(&(number << 8 | level as u64).to_le_bytes());
                node
            };
            let mut entry = Vec::new();
            let fields = EntryFields {
                key: b"key",
                value: b"value",
                next_key_hash: KeyHash::MAX,
                version: Version(0),
                serial_number: SerialNumber(sn),
                deactivated: &[],
            };
            fields.encode(&mut entry).unwrap();
            let path = EntryPath {
                entry,
                left: core::array::from_fn(|level| node(1, level)),
                page: [2; 32],
                right: core::array::from_fn(|level| node(3, level)),
                upper: (0..levels).map(|level| node(4, level)).collect(),
                state: core::array::from_fn(|level| node(5, level)),
            };
            let shard = ShardId::new(shard).unwrap();
            let member = Member { path: &path, shard, sn: SerialNumber(sn) };
            let mut written = Vec::new();
            write_nodes(&member, &mut written);
            let mut walked = Writing { bytes: Vec::new(), lost: false };
            walk([member].into_iter(), &[levels as u8; SHARDS], &mut walked);
            assert_eq!((written, false), (walked.bytes, walked.lost), "{number}");
        }
    }
}
