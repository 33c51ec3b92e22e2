//! The store as spec 3 to 7 describes it, in maps and vectors: what the real one must equal.
//!
//! ```text
//!  strict ops (spec 6) ───────────────────────┐
//!                                             ▼
//!  puts and deletes ──net effect per key──► sorted change sets ──► 16 x Shard
//!                                                                   entries: bytes by sn
//!                                                                   active:  key hash -> sn
//!                                                                   oldest,  bits
//!                                             roots: naive trees ◄──┘
//! ```
//!
//! Roots are computed when asked for: the left tree of a twig that has been filled is hashed once,
//! a twig whose bits changed gets its right tree again, everything above is made anew.
//!
//! **Invariants**
//! * The active entries of a shard form a list in key-hash order that begins with sentry 0.
//! * No active entry of a shard is below its oldest-active serial number.

mod shard;

use crate::naive::{self, ShardPath};
use crate::ops::{Op, OpKind, RecordedBlock};
use crate::vectors::BlockRow;
use hedgerow_types::entry::{EntryRef, is_sentry_key};
use hedgerow_types::{
    CompactionRule, Digest, Height, KeyHash, MAX_KEY_LEN, SerialNumber, ShardId, TwigId, Version,
};
use shard::Shard;
use std::collections::BTreeMap;

/// What one block did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counts {
    /// Keys created.
    pub created: u64,
    /// Keys updated.
    pub updated: u64,
    /// Keys deleted.
    pub deleted: u64,
    /// Keys whose net effect in a change set was a delete while they were absent.
    pub absent_deletes: u64,
}

/// A change set of puts (`Some`) and deletes (`None`), in the order they were made.
pub type NetChangeSet = Vec<(Vec<u8>, Option<Vec<u8>>)>;

/// The reference store.
#[derive(Clone, Debug)]
pub struct Model {
    rule: CompactionRule,
    height: u64,
    shards: Vec<Shard>,
}

/// Everything that a proof by key is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelProof {
    /// The shard.
    pub shard: ShardId,
    /// Hashed bytes of the entry proved: the key's own, or its predecessor's.
    pub entry: Vec<u8>,
    /// The path from the entry to the shard root.
    pub path: ShardPath,
    /// The root of the shard.
    pub shard_root: Digest,
    /// The siblings from the shard root to the state root.
    pub state: [Digest; 4],
    /// The state root.
    pub root: Digest,
}

/// The key hash of a user's key (spec 3).
pub fn key_hash(key: &[u8]) -> KeyHash {
    KeyHash(naive::sha256(key).0)
}

impl Model {
    /// The genesis state: 4096 sentries in each shard, height 0 (spec 5).
    pub fn new(rule: CompactionRule) -> Self {
        Self { rule, height: 0, shards: ShardId::all().map(|id| Shard::new(id, true)).collect() }
    }

    /// As [`Model::new`], but the bytes of inactive entries are dropped: for streams so long that
    /// memory matters. Roots, paths and values are the same.
    pub fn without_history(rule: CompactionRule) -> Self {
        Self { rule, height: 0, shards: ShardId::all().map(|id| Shard::new(id, false)).collect() }
    }

    /// Height of the last block applied.
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// The compaction rule.
    pub const fn rule(&self) -> CompactionRule {
        self.rule
    }

    /// Applies a block of strict ops to the letter of spec 6 and 7.
    ///
    /// # Panics
    /// If `height` is not the next one, or an op is invalid where it runs: update or delete of an
    /// absent key, create of a present one, a key or value that no entry can have.
    pub fn apply_strict(&mut self, height: u64, tasks: &[Vec<Vec<Op>>]) -> Counts {
        let before = self.begin(height);
        let mut counts = Counts::default();
        for (index, change_set) in tasks.iter().flatten().enumerate() {
            let mut ops: Vec<(KeyHash, &Op)> =
                change_set.iter().map(|op| (key_hash(&op.key), op)).collect();
            // The shard is the top of the key hash, so it needs no part in the order.
            ops.sort_by_key(|(kh, op)| (*kh, op.kind));
            for (kh, op) in ops {
                self.apply_op(version(height, index), kh, op, &mut counts);
            }
        }
        self.spread(before);
        counts
    }

    /// Applies a recorded or generated block: [`Model::apply_strict`].
    pub fn apply(&mut self, block: &RecordedBlock) -> Counts {
        self.apply_strict(block.height, &block.tasks)
    }

    /// Applies a block of one task whose change sets hold puts and deletes. In each, the last word
    /// on a key counts, against the state before the change set: present and put is an update
    /// (also to an equal value), absent and put a create, present and deleted a delete, absent and
    /// deleted nothing but a count.
    ///
    /// # Panics
    /// If `height` is not the next one, or a key or value is one that no entry can have.
    pub fn apply_net(&mut self, height: u64, change_sets: &[NetChangeSet]) -> Counts {
        let before = self.begin(height);
        let mut counts = Counts::default();
        for (index, change_set) in change_sets.iter().enumerate() {
            let mut last_word = BTreeMap::new();
            for (key, value) in change_set {
                last_word.insert(key_hash(key), (key, value));
            }
            for (kh, (key, value)) in last_word {
                let op = match (self.shard(kh).active(&kh).is_some(), value) {
                    (true, Some(value)) => Op::update(&key[..], &value[..]),
                    (false, Some(value)) => Op::create(&key[..], &value[..]),
                    (true, None) => Op::delete(&key[..]),
                    (false, None) => {
                        counts.absent_deletes += 1;
                        continue;
                    }
                };
                self.apply_op(version(height, index), kh, &op, &mut counts);
            }
        }
        self.spread(before);
        counts
    }

    /// Returns how many entries precede the block.
    fn begin(&mut self, height: u64) -> u64 {
        assert_eq!(height, self.height + 1, "heights are consecutive");
        self.height = height;
        let before = self.written();
        self.shards.iter_mut().for_each(|shard| shard.begin(before));
        before
    }

    /// Entries of all shards, active or not.
    fn written(&self) -> u64 {
        self.shards.iter().map(|shard| shard.next_sn().0).sum()
    }

    /// The rule's spread: while more entries were written since the oldest active one of all shards than
    /// so many times what is active, that one moves; one for each entry that the block wrote.
    fn spread(&mut self, before: u64) {
        let spread = u64::from(self.rule.spread());
        if spread == 0 {
            return;
        }
        let active: u64 = self.shards.iter().map(Shard::active_count).sum();
        for _ in before..self.written() {
            let heads = self.shards.iter().map(Shard::before_head).zip(0..);
            let (from, shard): (u64, usize) = heads.min().expect("there are shards");
            if self.written() - from <= spread * active {
                break;
            }
            self.shards[shard].compact_once();
        }
    }

    fn apply_op(&mut self, version: Version, kh: KeyHash, op: &Op, counts: &mut Counts) {
        assert!((1..=MAX_KEY_LEN).contains(&op.key.len()), "a key of {} bytes", op.key.len());
        let writes = matches!(op.kind, OpKind::Create | OpKind::Update);
        assert!(
            !(writes && op.value.is_empty() && is_sentry_key(&op.key)),
            "a put of a sentry's shape"
        );
        let rule = self.rule;
        let shard = &mut self.shards[kh.shard().index()];
        match op.kind {
            OpKind::Read => {}
            OpKind::Update => {
                shard.update(&rule, version, kh, op);
                counts.updated += 1;
            }
            OpKind::Create => {
                shard.create(&rule, version, kh, op);
                counts.created += 1;
            }
            OpKind::Delete => {
                shard.delete(version, kh);
                counts.deleted += 1;
            }
        }
    }

    fn shard(&self, kh: KeyHash) -> &Shard {
        &self.shards[kh.shard().index()]
    }

    /// The value of a key.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let kh = key_hash(key);
        let shard = self.shard(kh);
        Some(shard.entry(shard.active(&kh)?).value())
    }

    /// All user entries in key-hash order: key and value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.shards.iter().flat_map(|shard| {
            let entries = shard.active_in_order().map(|(_, sn)| shard.entry(sn));
            entries.filter(|entry| !entry.is_sentry()).map(|entry| (entry.key(), entry.value()))
        })
    }

    /// Number of user entries.
    pub fn len(&self) -> u64 {
        ShardId::all().map(|shard| self.active_count(shard) - 4096).sum()
    }

    /// Whether there is no user entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Active entries of a shard, sentries included.
    pub fn active_count(&self, shard: ShardId) -> u64 {
        self.shards[shard.index()].active_count()
    }

    /// The active entries of a shard in key-hash order, sentries included.
    pub fn active_entries(
        &self,
        shard: ShardId,
    ) -> impl Iterator<Item = (KeyHash, SerialNumber)> + '_ {
        self.shards[shard.index()].active_in_order()
    }

    /// The serial number that the shard's next entry gets.
    pub fn next_sn(&self, shard: ShardId) -> SerialNumber {
        self.shards[shard.index()].next_sn()
    }

    /// The shard's oldest-active serial number (spec 7).
    pub fn oldest_active_sn(&self, shard: ShardId) -> SerialNumber {
        self.shards[shard.index()].oldest()
    }

    /// Whether the entry is active; false for serial numbers not yet used.
    pub fn is_active(&self, shard: ShardId, sn: SerialNumber) -> bool {
        self.shards[shard.index()].is_active(sn)
    }

    /// The entry with this serial number.
    ///
    /// # Panics
    /// If the serial number is not yet used, or the model was made [without
    /// history](Model::without_history) and the entry is inactive.
    pub fn entry(&self, shard: ShardId, sn: SerialNumber) -> EntryRef<'_> {
        self.shards[shard.index()].entry(sn)
    }

    /// The entry hashes of a shard by serial number.
    pub fn leaves(&self, shard: ShardId) -> &[Digest] {
        self.shards[shard.index()].leaves()
    }

    /// The active bits of a twig, 256 bytes.
    pub fn active_bits(&self, shard: ShardId, twig: TwigId) -> [u8; 256] {
        self.shards[shard.index()].active_bits(twig)
    }

    /// The active entry that settles a key: its own if it is present, else its predecessor's.
    pub fn covering(&self, key: &[u8]) -> (ShardId, SerialNumber) {
        let kh = key_hash(key);
        (kh.shard(), self.shard(kh).at_or_before(&kh))
    }

    /// The clean shard roots (spec 8.2).
    pub fn roots(&mut self) -> [Digest; 16] {
        let mut roots = [Digest::ZERO; 16];
        for (root, shard) in roots.iter_mut().zip(&mut self.shards) {
            *root = naive::shard_root(shard.twig_roots());
        }
        roots
    }

    /// The state root.
    pub fn state_root(&mut self) -> Digest {
        naive::state_root(&self.roots())
    }

    /// The path from a leaf to its shard's root. The leaf may be an unoccupied one of the youngest
    /// twig.
    pub fn path(&mut self, shard: ShardId, sn: SerialNumber) -> ShardPath {
        self.shards[shard.index()].path(sn)
    }

    /// What proves that `key` has its value, or is absent.
    pub fn prove(&mut self, key: &[u8]) -> ModelProof {
        let (shard, sn) = self.covering(key);
        self.prove_sn(shard, sn)
    }

    /// The same for an entry chosen by serial number, active or not.
    pub fn prove_sn(&mut self, shard: ShardId, sn: SerialNumber) -> ModelProof {
        let roots = self.roots();
        ModelProof {
            shard,
            entry: self.entry(shard, sn).hashed_bytes().to_vec(),
            path: self.path(shard, sn),
            shard_root: roots[shard.index()],
            state: naive::state_path(&roots, shard),
            root: naive::state_root(&roots),
        }
    }

    /// The state as the recordings describe it, to compare with one of theirs.
    pub fn row(&mut self) -> BlockRow {
        let roots = self.roots();
        let by_shard = |number: fn(&Shard) -> SerialNumber| -> [u64; 16] {
            std::array::from_fn(|i| number(&self.shards[i]).0)
        };
        BlockRow {
            h: self.height,
            clean_roots: roots,
            next_sn: by_shard(Shard::next_sn),
            oldest_active_sn: by_shard(Shard::oldest),
        }
    }
}

/// The version of what change set `index` of the block at `height` writes (spec 6.2).
fn version(height: u64, index: usize) -> Version {
    let index = u32::try_from(index).expect("a change set's index has 24 bits");
    Version::new(Height(height), index).expect("a legal version")
}
