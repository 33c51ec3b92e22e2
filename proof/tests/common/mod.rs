//! Proofs made from the testkit's model and naive trees, by somebody who may lie.
#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

pub(crate) mod history;

use hedgerow_proof::{EntryPath, Proof, ProofError};
use hedgerow_testkit::model::ModelProof;
use hedgerow_testkit::naive::{self, ShardPath, ShardTree};
use hedgerow_types::entry::{EntryFields, EntryRef};
use hedgerow_types::{Digest, KeyHash, SerialNumber, ShardId, Version};

/// An entry and its path in naive trees.
pub(crate) fn entry_path(entry: &[u8], path: &ShardPath, state: &[Digest; 4]) -> EntryPath {
    let ShardPath { left, page, right, ref upper, .. } = *path;
    EntryPath { entry: entry.to_vec(), left, page, right, upper: upper.clone(), state: *state }
}

/// The path of a naive tree as a proof of one entry.
pub(crate) fn assemble(
    entry: &[u8],
    path: &ShardPath,
    state: &[Digest; 4],
) -> Result<Proof, ProofError> {
    Proof::assemble(&[entry_path(entry, path, state)])
}

/// The model's path as one that proofs are made of.
pub(crate) fn path_of(proof: &ModelProof) -> EntryPath {
    entry_path(&proof.entry, &proof.path, &proof.state)
}

/// The model's proof as bytes.
pub(crate) fn encode(proof: &ModelProof) -> Proof {
    assemble(&proof.entry, &proof.path, &proof.state).expect("the model's proofs are well formed")
}

/// A state of which one shard's entries can be anything.
pub(crate) struct Handmade {
    tree: ShardTree,
    entries: Vec<Vec<u8>>,
    roots: [Digest; 16],
    shard: ShardId,
}

impl Handmade {
    /// The other shards have some roots or other.
    pub(crate) fn new(shard: ShardId) -> Self {
        let roots = std::array::from_fn(|i| naive::sha256(&[i as u8]));
        Self { tree: ShardTree::default(), entries: Vec::new(), roots, shard }
    }

    /// Appends an active entry and says where it stands.
    pub(crate) fn append(&mut self, entry: Vec<u8>) -> SerialNumber {
        self.append_instead(entry, &[])
    }

    /// Appends an active entry and deactivates others.
    pub(crate) fn append_instead(
        &mut self,
        entry: Vec<u8>,
        deactivated: &[SerialNumber],
    ) -> SerialNumber {
        let at = self.next_sn();
        self.tree.append(naive::sha256(&entry), deactivated);
        self.entries.push(entry);
        self.roots[self.shard.index()] = self.tree.root();
        at
    }

    /// Appends entries that matter to nobody, up to serial number `sn`.
    pub(crate) fn fill(&mut self, sn: u64) {
        while (self.entries.len() as u64) < sn {
            let entry = entry(b"filler", b"", KeyHash::MAX, self.entries.len() as u64);
            self.tree.append(naive::sha256(&entry), &[]);
            self.entries.push(entry);
        }
        self.roots[self.shard.index()] = self.tree.root();
    }

    /// The serial number of the next entry.
    pub(crate) fn next_sn(&self) -> SerialNumber {
        SerialNumber(self.entries.len() as u64)
    }

    pub(crate) fn is_active(&self, at: SerialNumber) -> bool {
        self.tree.active[at.0 as usize]
    }

    /// The entry that stands at `at`.
    pub(crate) fn entry(&self, at: SerialNumber) -> EntryRef<'_> {
        EntryRef::parse(&self.entries[at.0 as usize]).expect("an entry")
    }

    pub(crate) fn deactivate(&mut self, at: SerialNumber) {
        self.tree.active[at.0 as usize] = false;
        self.roots[self.shard.index()] = self.tree.root();
    }

    pub(crate) fn root(&self) -> Digest {
        naive::state_root(&self.roots)
    }

    pub(crate) fn shard_root(&self) -> Digest {
        self.roots[self.shard.index()]
    }

    pub(crate) fn path(&self, at: SerialNumber) -> ShardPath {
        self.tree.path(at)
    }

    pub(crate) fn leaf(&self, at: SerialNumber) -> Digest {
        self.tree.leaves[at.0 as usize]
    }

    pub(crate) fn state(&self) -> [Digest; 4] {
        naive::state_path(&self.roots, self.shard)
    }

    /// The entry that stands at `at` and its path to the state root.
    pub(crate) fn entry_path(&self, at: SerialNumber) -> EntryPath {
        entry_path(&self.entries[at.0 as usize], &self.path(at), &self.state())
    }

    /// The proof of the entry that stands at `at`.
    pub(crate) fn prove(&self, at: SerialNumber) -> Result<Proof, ProofError> {
        self.prove_all(&[at])
    }

    /// One proof of these entries.
    pub(crate) fn prove_all(&self, places: &[SerialNumber]) -> Result<Proof, ProofError> {
        let paths: Vec<_> = places.iter().map(|at| self.entry_path(*at)).collect();
        Proof::assemble(&paths)
    }
}

/// Hashed bytes of an entry that deactivates nothing.
pub(crate) fn entry(key: &[u8], value: &[u8], next_key_hash: KeyHash, sn: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    EntryFields {
        key,
        value,
        next_key_hash,
        version: Version(1 << 24),
        serial_number: SerialNumber(sn),
        deactivated: &[],
    }
    .encode(&mut bytes)
    .expect("a legal entry");
    bytes
}

/// `kh` plus one or minus one, as 256-bit numbers.
pub(crate) fn neighbour(kh: KeyHash, up: bool) -> KeyHash {
    let mut bytes = kh.0;
    for byte in bytes.iter_mut().rev() {
        let (value, carry) = if up { byte.overflowing_add(1) } else { byte.overflowing_sub(1) };
        *byte = value;
        if !carry {
            break;
        }
    }
    KeyHash(bytes)
}
