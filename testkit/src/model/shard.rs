//! One shard of the model.

use crate::naive::{self, ShardPath, Twig};
use crate::ops::Op;
use hedgerow_types::entry::{EntryFields, EntryRef, encode_sentry};
use hedgerow_types::{CompactionRule, Digest, KeyHash, SerialNumber, ShardId, TwigId, Version};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub(super) struct Shard {
    /// Hashed bytes by serial number; empty for what was forgotten.
    entries: Vec<Box<[u8]>>,
    /// Entry hashes by serial number.
    leaves: Vec<Digest>,
    /// Active bits of the twigs 0..=youngest.
    bits: Vec<[u8; 256]>,
    /// The active entries in list order.
    active: BTreeMap<KeyHash, SerialNumber>,
    /// The oldest-active serial number.
    oldest: SerialNumber,
    /// Blocks that wrote entries of the shard: the first of them, and how many entries of all shards
    /// precede the block.
    blocks: Vec<(SerialNumber, u64)>,
    /// Whether the bytes of inactive entries are kept.
    keep_history: bool,
    /// Left roots of the filled twigs whose root has been asked for, in order.
    left_roots: Vec<Digest>,
    /// Twig roots, right except for the twigs in `dirty`.
    twig_roots: Vec<Digest>,
    /// Twigs that have changed since `twig_roots` was brought up to date.
    dirty: BTreeSet<usize>,
}

impl Shard {
    /// A shard at genesis (spec 5).
    pub(super) fn new(id: ShardId, keep_history: bool) -> Self {
        let mut shard = Self {
            entries: Vec::new(),
            leaves: Vec::new(),
            bits: vec![[0; 256]],
            active: BTreeMap::new(),
            oldest: SerialNumber(0),
            blocks: vec![(SerialNumber(0), 0)],
            keep_history,
            left_roots: Vec::new(),
            twig_roots: Vec::new(),
            dirty: BTreeSet::from([0]),
        };
        for index in 0..4096 {
            let mut bytes = Vec::new();
            encode_sentry(id, index, &mut bytes);
            let prefix = (id.index() as u16) << 12 | index;
            shard.push(KeyHash::sentry(prefix), bytes, &[]);
        }
        shard
    }

    pub(super) fn next_sn(&self) -> SerialNumber {
        SerialNumber(self.entries.len() as u64)
    }

    pub(super) fn oldest(&self) -> SerialNumber {
        self.oldest
    }

    pub(super) fn active_count(&self) -> u64 {
        self.active.len() as u64
    }

    pub(super) fn leaves(&self) -> &[Digest] {
        &self.leaves
    }

    pub(super) fn active_bits(&self, twig: TwigId) -> [u8; 256] {
        self.bits[twig.0 as usize]
    }

    pub(super) fn active(&self, kh: &KeyHash) -> Option<SerialNumber> {
        self.active.get(kh).copied()
    }

    pub(super) fn active_in_order(&self) -> impl Iterator<Item = (KeyHash, SerialNumber)> + '_ {
        self.active.iter().map(|(kh, sn)| (*kh, *sn))
    }

    /// The active entry with the greatest key hash up to `kh`.
    pub(super) fn at_or_before(&self, kh: &KeyHash) -> SerialNumber {
        *self.active.range(..=kh).next_back().expect("the first sentry precedes all").1
    }

    fn predecessor(&self, kh: &KeyHash) -> (KeyHash, SerialNumber) {
        let (kh, sn) = self.active.range(..kh).next_back().expect("the first sentry precedes all");
        (*kh, *sn)
    }

    pub(super) fn is_active(&self, sn: SerialNumber) -> bool {
        self.bits
            .get(sn.0 as usize / 2048)
            .is_some_and(|bits| bits[sn.0 as usize % 2048 / 8] & 1 << (sn.0 % 8) != 0)
    }

    pub(super) fn entry(&self, sn: SerialNumber) -> EntryRef<'_> {
        EntryRef::parse(&self.entries[sn.0 as usize]).expect("the entry was kept")
    }

    /// Adds the next leaf, makes it `kh`'s active entry and clears the bits of `deactivated`.
    fn push(&mut self, kh: KeyHash, bytes: Vec<u8>, deactivated: &[SerialNumber]) {
        let sn = self.next_sn();
        self.leaves.push(naive::sha256(&bytes));
        self.entries.push(bytes.into());
        self.active.insert(kh, sn);
        self.set_bit(sn, true);
        for dead in deactivated {
            self.set_bit(*dead, false);
            if !self.keep_history {
                self.entries[dead.0 as usize] = Box::default();
            }
        }
        if self.entries.len().is_multiple_of(2048) {
            self.dirty.insert(self.bits.len());
            self.bits.push([0; 256]);
        }
    }

    fn set_bit(&mut self, sn: SerialNumber, active: bool) {
        assert_ne!(self.is_active(sn), active, "the bit of {sn} changes");
        let (twig, leaf) = (sn.0 as usize / 2048, sn.0 as usize % 2048);
        self.bits[twig][leaf / 8] ^= 1 << (leaf % 8);
        self.dirty.insert(twig);
    }

    /// Spec 6.3, `append`.
    fn append(
        &mut self,
        kh: KeyHash,
        (key, value): (&[u8], &[u8]),
        next_key_hash: KeyHash,
        version: Version,
        deactivated: &[SerialNumber],
    ) {
        let serial_number = self.next_sn();
        let mut bytes = Vec::new();
        EntryFields { key, value, next_key_hash, version, serial_number, deactivated }
            .encode(&mut bytes)
            .expect("key and value are legal");
        self.push(kh, bytes, deactivated);
    }

    /// Appends a copy of the active entry `sn` of `kh` with another list position.
    fn append_copy(
        &mut self,
        (kh, sn): (KeyHash, SerialNumber),
        next_key_hash: KeyHash,
        version: Version,
        deactivated: &[SerialNumber],
    ) {
        let bytes = self.entries[sn.0 as usize].clone();
        let old = EntryRef::parse(&bytes).expect("an active entry is kept");
        self.append(kh, (old.key(), old.value()), next_key_hash, version, deactivated);
    }

    /// Spec 6.3, update.
    pub(super) fn update(&mut self, rule: &CompactionRule, version: Version, kh: KeyHash, op: &Op) {
        let old = self.active(&kh).unwrap_or_else(|| panic!("update of absent {:02x?}", op.key));
        let next = self.entry(old).next_key_hash();
        self.append(kh, (&op.key, &op.value), next, version, &[old]);
        if self.compactible(rule) {
            self.compact_once();
        }
    }

    /// Spec 6.3, create.
    pub(super) fn create(&mut self, rule: &CompactionRule, version: Version, kh: KeyHash, op: &Op) {
        assert!(self.active(&kh).is_none(), "create of present {:02x?}", op.key);
        let before = self.predecessor(&kh);
        let next = self.entry(before.1).next_key_hash();
        self.append(kh, (&op.key, &op.value), next, version, &[]);
        self.append_copy(before, kh, version, &[before.1]);
        if self.compactible(rule) {
            self.compact_once();
            self.compact_once();
        }
    }

    /// Spec 6.3, delete.
    pub(super) fn delete(&mut self, version: Version, kh: KeyHash) {
        let old = self.active.remove(&kh).unwrap_or_else(|| panic!("delete of absent {kh}"));
        let next = self.entry(old).next_key_hash();
        let before = self.predecessor(&kh);
        self.append_copy(before, next, version, &[old, before.1]);
    }

    /// A block begins that so many entries of all shards precede.
    pub(super) fn begin(&mut self, before: u64) {
        let next = self.next_sn();
        if self.blocks.last().is_some_and(|&(first, _)| first == next) {
            self.blocks.pop();
        }
        self.blocks.push((next, before));
    }

    /// How many entries of all shards precede the block that wrote the first entry of the twig of the
    /// oldest active one.
    pub(super) fn before_head(&self) -> u64 {
        let first = self.head().twig().first();
        let block = self.blocks.partition_point(|&(from, _)| from <= first) - 1;
        self.blocks[block].1
    }

    /// The oldest active entry.
    fn head(&self) -> SerialNumber {
        let mut sn = self.oldest;
        while !self.is_active(sn) {
            sn = sn.plus(1);
        }
        sn
    }

    fn compactible(&self, rule: &CompactionRule) -> bool {
        // Spec 7 written out once more, so that the rule's own arithmetic is tested too.
        let span = u128::from(self.next_sn().0 - self.oldest.0);
        let active = u128::from(self.active_count());
        active >= u128::from(rule.threshold())
            && span * u128::from(rule.ratio()) >= active * u128::from(rule.div())
    }

    /// Spec 7, compact once.
    pub(super) fn compact_once(&mut self) {
        let sn = self.head();
        let entry = self.entry(sn);
        let kh = entry.sentry_key_hash().unwrap_or_else(|| super::key_hash(entry.key()));
        assert_eq!(self.active(&kh), Some(sn), "an active entry is its key's");
        let (next, version) = (entry.next_key_hash(), entry.version());
        self.append_copy((kh, sn), next, version, &[sn]);
        self.oldest = sn.plus(1);
    }

    fn twig_leaves(&self, twig: usize) -> &[Digest] {
        let end = self.leaves.len().min(2048 * (twig + 1));
        &self.leaves[2048 * twig..end]
    }

    fn left_root(&mut self, twig: usize) -> Digest {
        let filled = self.leaves.len() / 2048;
        while self.left_roots.len() < filled {
            let levels = naive::left_levels(self.twig_leaves(self.left_roots.len()));
            self.left_roots.push(levels[11][0]);
        }
        match self.left_roots.get(twig) {
            Some(root) => *root,
            None => naive::left_levels(self.twig_leaves(twig))[11][0],
        }
    }

    /// The roots of the twigs 0..=youngest.
    pub(super) fn twig_roots(&mut self) -> &[Digest] {
        self.twig_roots.resize(self.bits.len(), Digest::ZERO);
        for twig in std::mem::take(&mut self.dirty) {
            let left = self.left_root(twig);
            let right = naive::right_levels(&self.bits[twig])[3][0];
            self.twig_roots[twig] = naive::node(11, &left, &right);
        }
        &self.twig_roots
    }

    pub(super) fn path(&mut self, sn: SerialNumber) -> ShardPath {
        let twig = sn.0 as usize / 2048;
        let nodes = Twig::new(self.twig_leaves(twig), &self.bits[twig]);
        ShardPath::new(sn, &nodes, self.twig_roots())
    }
}
