//! The bytes of a proof, version 2.
//!
//! ```text
//!      0    1  version, 2
//!      1    4  n, number of entries (LE), at least 1
//!      5    2  shards (LE): bit s is set exactly if an entry of shard s is here
//!      7    m  for each such shard, ascending: levels of its upper tree, 0 to 51
//!    7+m       n entries: their hashed bytes (spec 4.1), ascending by shard and serial number
//!              pages: 32 bytes of active bits for each page that has an entry here, in the same order
//!              nodes: 32 bytes each, in the order in which the walk takes them (walk.rs)
//! ```
//!
//! **Invariant:** a set of entries of a tree has one encoding. Everything else is derived from the entries:
//! shards from their keys, places from their serial numbers, how many pages and nodes there are from both.

use crate::ProofError;
use crate::hash::{Sha2, Sha256, hash_node, key_hash_of};
use crate::path::is_active;
use crate::path::{FIXED_NODES, MAX_UPPER_LEVELS, Node, check_position};
use crate::walk::{Count, Part, Placed, Visit, same_page, walk};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;
use hedgerow_types::entry::{self, EntryRef};
use hedgerow_types::{Digest, KeyHash, SHARDS, STATE_LEVELS, SerialNumber, ShardId};

/// The first byte of a proof.
pub const PROOF_VERSION: u8 = 2;
/// Bytes before the levels of the shards.
pub(crate) const HEADER_LEN: usize = 7;
/// Bytes of a proof of one entry beside the entry and its upper siblings.
const AROUND_ONE: usize = HEADER_LEN + 1 + 32 * (FIXED_NODES + STATE_LEVELS);
/// Length in bytes of the shortest proof: a one-byte key, no value, a shard of one twig.
pub const MIN_PROOF_LEN: usize = AROUND_ONE + entry::FIXED_LEN + 1;
/// Length in bytes of the longest proof of one entry that the format allows, 16.8 MB.
pub const MAX_PROOF_LEN: usize = AROUND_ONE + entry::MAX_LEN + 32 * MAX_UPPER_LEVELS;
/// The longest value in bytes with which [`DEFAULT_MAX_PROOF_LEN`] reckons.
pub const DEFAULT_MAX_VALUE_LEN: usize = 1 << 16;
/// Length in bytes of the longest proof of one entry that is accepted where no limit is given: that of a
/// value of 65,536 bytes. Other limits: [`verify_with_limit`](crate::verify_with_limit),
/// [`Verifier::with_limit`](crate::Verifier::with_limit).
pub const DEFAULT_MAX_PROOF_LEN: usize =
    MAX_PROOF_LEN - hedgerow_types::MAX_VALUE_LEN + DEFAULT_MAX_VALUE_LEN;
/// Length in bytes of the longest proof of a set of entries that is accepted where no limit is given, 16 MiB: some
/// 30,000 entries of 100 bytes. Other limits: [`Verifier::with_limit`](crate::Verifier::with_limit).
pub const DEFAULT_MAX_SET_LEN: usize = 16 << 20;

const _: () = assert!(MIN_PROOF_LEN == 670);
const _: () = assert!(DEFAULT_MAX_PROOF_LEN == 70_132);
const _: () = assert!(MAX_PROOF_LEN == 16_781_811);

/// An entry of a proof and the shard that its key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Located<'a> {
    entry: EntryRef<'a>,
    shard: ShardId,
}

impl Placed for Located<'_> {
    fn shard(&self) -> ShardId {
        self.shard
    }

    fn sn(&self) -> SerialNumber {
        self.entry.serial_number()
    }
}

/// The entries of a proof that has been scanned, in order.
#[derive(Clone, Debug)]
struct Locations<'a> {
    /// How many are still to come of each shard.
    counts: [u32; SHARDS],
    rest: &'a [u8],
}

impl<'a> Iterator for Locations<'a> {
    type Item = Located<'a>;

    fn next(&mut self) -> Option<Located<'a>> {
        let (shard, count) = self.counts.iter_mut().enumerate().find(|(_, count)| **count > 0)?;
        *count -= 1;
        let (entry, rest) = EntryRef::parse_prefix(self.rest).ok()?;
        self.rest = rest;
        Some(Located { entry, shard: ShardId::new(shard)? })
    }
}

/// An entry that a proof brings, as it claims: nothing of it is verified.
///
/// ```
/// use hedgerow_proof::ProofRef;
/// # use hedgerow_proof::{Digest, EntryPath, Proof};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let made = Proof::assemble(&[EntryPath { entry, page: [0xFF; 32], upper: vec![Digest::ZERO; 2],
/// #     ..EntryPath::default() }]);
/// # let received = made.unwrap().into_bytes();
/// for claimed in ProofRef::decode(&received, 64 * 1024)?.entries() {
///     println!("{:?} in shard {}, active: {}", claimed.entry.key(), claimed.shard, claimed.active);
/// }
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimedEntry<'a> {
    /// The entry.
    pub entry: EntryRef<'a>,
    /// Its shard: the top 4 bits of its key hash.
    pub shard: ShardId,
    /// Whether its active bit is set in the page that the proof brings.
    pub active: bool,
}

impl ClaimedEntry<'_> {
    /// The key hash of the entry: the padded prefix for a sentry, else SHA-256 of its key
    /// ([spec 4.3](hedgerow_types::spec)).
    pub fn key_hash(&self) -> KeyHash {
        key_hash_of(&Sha2, &self.entry)
    }
}

/// The roots that a proof leads to: it proves something under these only.
///
/// ```
/// use hedgerow_proof::ProofRef;
/// # use hedgerow_proof::{Digest, EntryPath, Proof};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let made = Proof::assemble(&[EntryPath { entry, page: [0xFF; 32], upper: vec![Digest::ZERO; 2],
/// #     ..EntryPath::default() }]);
/// # let received = made.unwrap().into_bytes();
/// let proof = ProofRef::decode(&received, 64 * 1024)?;
/// let roots = proof.roots();
/// assert_eq!(roots.state, proof.root());
/// assert_eq!(roots.shards.iter().flatten().count(), 1);   // one entry, so of one shard
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClaimedRoots {
    /// The state root.
    pub state: Digest,
    /// The roots of the shards that have an entry in the proof.
    pub shards: [Option<Digest>; SHARDS],
}

/// A proof, borrowed from its bytes. Decoding checks the form only: what it proves, and
/// under which root, [`verify`](crate::verify) says.
///
/// ```
/// use hedgerow_proof::ProofRef;
/// # use hedgerow_proof::{Digest, EntryPath, Proof};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let made = Proof::assemble(&[EntryPath { entry, page: [0xFF; 32], upper: vec![Digest::ZERO; 2],
/// #     ..EntryPath::default() }]);
/// # let received = made.unwrap().into_bytes();
/// let proof = ProofRef::decode(&received, 64 * 1024)?;
/// // What it claims: nothing is verified yet.
/// println!("{} entries under root {}", proof.entries().len(), proof.root());
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofRef<'a> {
    /// Entries of each shard.
    counts: [u32; SHARDS],
    /// Levels of each shard's upper tree.
    levels: [u8; SHARDS],
    /// The entries' bytes, and what follows them.
    entries: &'a [u8],
    pages: &'a [Node],
    nodes: &'a [Node],
    /// The key hash of the first entry.
    first: KeyHash,
}

impl<'a> ProofRef<'a> {
    /// Decodes a proof of at most `max_len` bytes, which must be exactly `bytes`.
    ///
    /// # Errors
    /// [`ProofError`]: `TooLong`, `UnknownVersion`, `NoEntries`, `UpperLevels`, `Entry`, `Order`, `Shards`,
    /// `Position` or `Length`.
    pub fn decode(bytes: &'a [u8], max_len: usize) -> Result<Self, ProofError> {
        Self::decode_with(&Sha2, bytes, max_len)
    }

    /// As [`ProofRef::decode`], with this hash.
    pub(crate) fn decode_with(
        hash: &impl Sha256,
        bytes: &'a [u8],
        max_len: usize,
    ) -> Result<Self, ProofError> {
        let have = bytes.len();
        if have > max_len {
            return Err(ProofError::TooLong { len: have, max: max_len });
        }
        let short = |need| ProofError::Length { need, have };
        if let Some(version) = bytes.first().filter(|version| **version != PROOF_VERSION) {
            return Err(ProofError::UnknownVersion(*version));
        }
        let Some(([_, n0, n1, n2, n3, s0, s1], rest)) = bytes.split_first_chunk::<HEADER_LEN>()
        else {
            return Err(short(HEADER_LEN));
        };
        let count = u32::from_le_bytes([*n0, *n1, *n2, *n3]);
        if count == 0 {
            return Err(ProofError::NoEntries);
        }
        let named = u16::from_le_bytes([*s0, *s1]);
        let named_len = named.count_ones() as usize;
        let Some((level_bytes, entries)) = rest.split_at_checked(named_len) else {
            return Err(short(HEADER_LEN + named_len));
        };
        let mut levels = [0; SHARDS];
        let shards_named =
            (0..).zip(&mut levels).filter(|(shard, _)| named >> shard & 1 == 1).map(|(_, l)| l);
        for (level, byte) in shards_named.zip(level_bytes) {
            if usize::from(*byte) > MAX_UPPER_LEVELS {
                return Err(ProofError::UpperLevels(*byte));
            }
            *level = *byte;
        }

        let mut counts = [0_u32; SHARDS];
        let (mut page_count, mut after) = (0_usize, entries);
        let mut first = None;
        let mut last: Option<Located<'_>> = None;
        for number in 0..count {
            let (entry, rest) = EntryRef::parse_prefix(after).map_err(ProofError::Entry)?;
            after = rest;
            let key_hash = key_hash_of(hash, &entry);
            let located = Located { entry, shard: key_hash.shard() };
            let ascends =
                |last: &Located<'_>| (last.shard, last.sn()) < (located.shard, located.sn());
            if !last.as_ref().is_none_or(ascends) {
                return Err(ProofError::Order(number));
            }
            let shard = located.shard.index();
            if named >> shard & 1 == 0 {
                return Err(ProofError::Shards(named));
            }
            let levels = levels.get(shard).copied().unwrap_or_default();
            check_position(located.sn(), levels.into())?;
            if let Some(count) = counts.get_mut(shard) {
                *count += 1;
            }
            page_count += usize::from(!last.is_some_and(|last| same_page(&last, &located)));
            first.get_or_insert(key_hash);
            last = Some(located);
        }
        if (0..).zip(&counts).any(|(shard, count)| (named >> shard & 1 == 1) != (*count > 0)) {
            return Err(ProofError::Shards(named));
        }

        // What is needed to go through the tree is known; that says how many nodes there must be.
        let mut taken = Count::default();
        walk(Locations { counts, rest: entries }, &levels, &mut taken);
        let after_pages = have - after.len() + 32 * page_count;
        let wrong_length = short(after_pages.saturating_add(32 * taken.0));
        let (chunks, []) = after.as_chunks() else {
            return Err(wrong_length);
        };
        match chunks.split_at_checked(page_count) {
            Some((pages, nodes)) if nodes.len() == taken.0 => {
                let first = first.unwrap_or_default();
                Ok(Self { counts, levels, entries, pages, nodes, first })
            }
            _ => Err(wrong_length),
        }
    }

    fn locations(&self) -> Locations<'a> {
        Locations { counts: self.counts, rest: self.entries }
    }

    /// The entries, ascending by shard and serial number.
    pub fn entries(&self) -> ClaimedEntries<'a> {
        let left = self.counts.iter().map(|count| *count as usize).sum();
        ClaimedEntries { locations: self.locations(), pages: self.pages, last: None, left }
    }

    /// How many entries there are, at least one.
    pub(crate) fn count(&self) -> u32 {
        self.counts.iter().sum()
    }

    /// The first entry, and its key hash.
    pub(crate) fn first(&self) -> Option<(ClaimedEntry<'a>, KeyHash)> {
        self.entries().next().map(|entry| (entry, self.first))
    }

    /// Levels of the upper tree, above the twig roots, of a shard that has an entry here; `None` if it has none.
    pub fn upper_levels(&self, shard: ShardId) -> Option<u8> {
        let (count, levels) = self.counts.iter().zip(&self.levels).nth(shard.index())?;
        (*count > 0).then_some(*levels)
    }

    /// The state root that the proof leads to: it proves something under this root only.
    pub fn root(&self) -> Digest {
        self.roots().state
    }

    /// The roots that the proof leads to.
    pub fn roots(&self) -> ClaimedRoots {
        self.roots_with(&Sha2)
    }

    /// As [`ProofRef::roots`], with this hash.
    pub(crate) fn roots_with(&self, hash: &impl Sha256) -> ClaimedRoots {
        let mut hashing =
            Hashing { hash, pages: self.pages, nodes: self.nodes, shards: [None; SHARDS] };
        let state = walk(self.locations(), &self.levels, &mut hashing);
        ClaimedRoots { state, shards: hashing.shards }
    }
}

/// The entries of a proof, ascending by shard and serial number: see [`ProofRef::entries`].
///
/// ```
/// use hedgerow_proof::ProofRef;
/// # use hedgerow_proof::{Digest, EntryPath, Proof};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let made = Proof::assemble(&[EntryPath { entry, page: [0xFF; 32], upper: vec![Digest::ZERO; 2],
/// #     ..EntryPath::default() }]);
/// # let received = made.unwrap().into_bytes();
/// let mut entries = ProofRef::decode(&received, 64 * 1024)?.entries();
/// assert_eq!(entries.len(), 1);
/// assert_eq!(entries.next().unwrap().entry.key(), b"alice");
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClaimedEntries<'a> {
    locations: Locations<'a>,
    /// The page of the last entry, and those that follow.
    pages: &'a [Node],
    last: Option<Located<'a>>,
    left: usize,
}

impl<'a> Iterator for ClaimedEntries<'a> {
    type Item = ClaimedEntry<'a>;

    fn next(&mut self) -> Option<ClaimedEntry<'a>> {
        let located = self.locations.next()?;
        if self.last.is_some_and(|last| !same_page(&last, &located)) {
            self.pages = self.pages.get(1..)?;
        }
        self.last = Some(located);
        self.left = self.left.saturating_sub(1);
        let active = self.pages.first().is_some_and(|page| is_active(page, located.sn()));
        Some(ClaimedEntry { entry: located.entry, shard: located.shard, active })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ClaimedEntries<'_> {}

/// Makes roots of a proof's entries, pages and nodes.
struct Hashing<'a, H> {
    hash: &'a H,
    pages: &'a [Node],
    nodes: &'a [Node],
    shards: [Option<Digest>; SHARDS],
}

/// Takes the first node away; decoding has seen to it that there is one.
fn take(nodes: &mut &[Node]) -> Digest {
    match nodes.split_first() {
        Some((node, rest)) => {
            *nodes = rest;
            Digest(*node)
        }
        None => Digest::ZERO,
    }
}

impl<H: Sha256> Visit<Located<'_>> for Hashing<'_, H> {
    type Node = Digest;

    fn leaf(&mut self, member: &Located<'_>) -> Digest {
        self.hash.sha256(member.entry.hashed_bytes())
    }

    fn page(&mut self, _: &Located<'_>) -> Digest {
        take(&mut self.pages)
    }

    fn node(&mut self, _: Part, _: u8, _: Option<&Located<'_>>) -> Digest {
        take(&mut self.nodes)
    }

    fn join(&mut self, level: u8, left: Digest, right: Digest) -> Digest {
        hash_node(self.hash, level, &left, &right)
    }

    fn shard_root(&mut self, shard: ShardId, root: &Digest) {
        if let Some(place) = self.shards.get_mut(shard.index()) {
            *place = Some(*root);
        }
    }
}

/// The bytes of a proof. They are well formed ([`ProofRef::decode`] accepts them); what they
/// prove, [`verify`](crate::verify) says.
///
/// ```
/// use hedgerow_proof::{Proof, ProofError};
/// # use hedgerow_proof::{Digest, EntryPath};
/// # use hedgerow_types::{KeyHash, SerialNumber, Version, entry::EntryFields};
/// # let mut entry = Vec::new();
/// # let (version, serial_number) = (Version(0), SerialNumber(5_000));
/// # let fields = EntryFields { key: b"alice", value: b"100", next_key_hash: KeyHash::MAX, version,
/// #     serial_number, deactivated: &[] };
/// # fields.encode(&mut entry).unwrap();
/// # let made = Proof::assemble(&[EntryPath { entry, page: [0xFF; 32], upper: vec![Digest::ZERO; 2],
/// #     ..EntryPath::default() }]);
/// # let received = made.unwrap().into_bytes();
/// let limit = 64 * 1024;                       // this application has no longer values
/// let proof = Proof::from_bytes(received, limit)?;   // well formed: it may be stored, and sent on
/// assert_eq!(proof.as_bytes()[0], hedgerow_proof::PROOF_VERSION);
/// let cut = Proof::from_bytes(proof[..100].to_vec(), limit);
/// assert!(matches!(cut, Err(ProofError::Length { .. })));
/// # Ok::<(), hedgerow_proof::ProofError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proof(pub(crate) Vec<u8>);

impl Proof {
    /// Takes bytes, at most `max_len`, that are a well-formed proof.
    ///
    /// # Errors
    /// As [`ProofRef::decode`].
    pub fn from_bytes(bytes: Vec<u8>, max_len: usize) -> Result<Self, ProofError> {
        ProofRef::decode(&bytes, max_len)?;
        Ok(Self(bytes))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl Deref for Proof {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Proof {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proof({} bytes)", self.0.len())
    }
}
