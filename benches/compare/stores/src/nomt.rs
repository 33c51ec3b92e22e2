//! The trie of NOMT: a binary Merkle trie of keys and hashes of values.
//!
//! ```text
//!   keys ─► a path down the trie, each ─► path proofs, sorted by their terminal, each terminal once
//!        ─► MultiProof::from_path_proofs ─► borsh ─► then the values that were found, in the order of the keys
//! ```
//!
//! Proofs, their encoding and their verification are those of `nomt-core`, and so are all hashes: they are the bytes that
//! NOMT would make, as a set of keys and values has one trie. What is **not** NOMT is where the paths come from. Its
//! store needs `imbl`, whose licence (MPL-2.0) this project does not take, so that the trie is kept in memory here,
//! every node at hand, which no store can beat. It is built again after a block, outside of what is measured.
//!
//! A leaf has the hash of its value, so that whoever verifies needs the values besides. The hash is SHA-256 as in the
//! other engines, not NOMT's default. Keys are taken as they are: NOMT wants them evenly distributed, and these are.

use crate::engine::{Answer, Change, Engine, Failure, OpenStore, Proofs, Prover, Root, Sizing};
use bitvec::{order::Msb0, view::BitView};
use borsh::{BorshDeserialize, BorshSerialize};
use nomt_core::{
    hasher::{NodeHasher, Sha2Hasher, ValueHasher},
    proof::{MultiProof, PathProof, PathProofTerminal, verify_multi_proof},
    trie::{InternalData, KeyPath, LeafData, Node, TERMINATOR},
    trie_pos::TriePosition,
};
use std::{collections::BTreeMap, fmt, path::Path, sync::OnceLock};

const NAME: &str = "nomt-core";

/// The engine.
pub const ENGINE: Engine = Engine {
    name: NAME,
    package: NAME,
    durability: "none: NOMT's trie without its store, in memory",
    tuning: "every node at hand",
    keeps: false,
    proofs: Some(Proofs {
        say: "the hash of the value of each key, or that it is absent",
        encoding: "its MultiProof in borsh, which the crate derives, followed by the values in borsh",
        absence: true,
        verify,
        verify_many,
    }),
    open,
};

struct InMemory {
    values: BTreeMap<KeyPath, Vec<u8>>,
    /// That of the values, once it is asked for.
    trie: OnceLock<Trie>,
}

fn open(_: &Path, _: Sizing) -> Result<Box<dyn OpenStore>, Failure> {
    Ok(Box::new(InMemory { values: BTreeMap::new(), trie: OnceLock::new() }))
}

fn failed(error: impl fmt::Display) -> Failure {
    Failure::of(NAME)(&error)
}

pub(crate) fn path_of(key: &[u8]) -> Result<KeyPath, Failure> {
    KeyPath::try_from(key).map_err(|_| failed("a key that is not of 32 bytes"))
}

fn leaf(key_path: KeyPath, value: &[u8]) -> LeafData {
    LeafData { key_path, value_hash: Sha2Hasher::hash_value(value) }
}

fn bit(path: &KeyPath, depth: usize) -> bool {
    path.view_bits::<Msb0>()[depth]
}

/// What is below a place of the trie.
#[derive(Clone, Copy)]
enum Below {
    Nothing,
    /// A leaf, by its number.
    Leaf(usize),
    /// An inner node, by its number.
    Inner(usize),
}

struct Inner {
    node: Node,
    /// Left, right.
    sides: [Below; 2],
}

/// All nodes of a trie.
struct Trie {
    /// In the order of their paths.
    leaves: Vec<(LeafData, Node)>,
    inner: Vec<Inner>,
    root: Below,
}

impl Trie {
    fn of(values: &BTreeMap<KeyPath, Vec<u8>>) -> Self {
        let leaf = |(path, value): (&KeyPath, &Vec<u8>)| {
            let leaf = leaf(*path, value);
            let node = Sha2Hasher::hash_leaf(&leaf);
            (leaf, node)
        };
        let leaves: Vec<_> = values.iter().map(leaf).collect();
        let (inner, end) = (Vec::with_capacity(leaves.len() * 3 / 2), leaves.len());
        let mut trie = Self { leaves, inner, root: Below::Nothing };
        trie.root = trie.build(0, end, 0);
        trie
    }

    /// Builds what is above the leaves from `first` to before `end`, whose first `depth` bits are the same.
    fn build(&mut self, first: usize, end: usize, depth: usize) -> Below {
        match end - first {
            0 => Below::Nothing,
            1 => Below::Leaf(first),
            _ => {
                let leaves = &self.leaves[first..end];
                let right = leaves.partition_point(|(leaf, _)| !bit(&leaf.key_path, depth));
                let sides = [(first, first + right), (first + right, end)]
                    .map(|(first, end)| self.build(first, end, depth + 1));
                let [left, right] = sides.map(|side| self.node(side));
                let node = Sha2Hasher::hash_internal(&InternalData { left, right });
                self.inner.push(Inner { node, sides });
                Below::Inner(self.inner.len() - 1)
            }
        }
    }

    fn node(&self, place: Below) -> Node {
        match place {
            Below::Nothing => TERMINATOR,
            Below::Leaf(number) => self.leaves[number].1,
            Below::Inner(number) => self.inner[number].node,
        }
    }

    fn prove(&self, path: &KeyPath) -> PathProof {
        let (mut siblings, mut place) = (vec![], self.root);
        let terminal = loop {
            match place {
                Below::Nothing if siblings.is_empty() => {
                    break PathProofTerminal::Terminator(TriePosition::new());
                }
                Below::Nothing => {
                    // A path has 256 bits.
                    let depth = siblings.len() as u16;
                    let at = TriePosition::from_path_and_depth(*path, depth);
                    break PathProofTerminal::Terminator(at);
                }
                Below::Leaf(number) => {
                    break PathProofTerminal::Leaf(self.leaves[number].0.clone());
                }
                Below::Inner(number) => {
                    let [left, right] = self.inner[number].sides;
                    let right_is_next = bit(path, siblings.len());
                    let (next, sibling) = if right_is_next { (right, left) } else { (left, right) };
                    siblings.push(self.node(sibling));
                    place = next;
                }
            }
        };
        PathProof { terminal, siblings }
    }
}

impl InMemory {
    fn trie(&self) -> &Trie {
        self.trie.get_or_init(|| Trie::of(&self.values))
    }
}

impl OpenStore for InMemory {
    fn apply(&mut self, block: &[Change<'_>]) -> Result<(), Failure> {
        self.trie = OnceLock::new();
        for change in block {
            let path = path_of(change.key)?;
            match change.value {
                Some(value) => self.values.insert(path, value.to_vec()),
                None => self.values.remove(&path),
            };
        }
        Ok(())
    }

    fn root(&self) -> Result<Option<Root>, Failure> {
        let trie = self.trie();
        Ok(Some(trie.node(trie.root)))
    }

    fn get(&self, key: &[u8]) -> Result<Answer, Failure> {
        Ok(self.values.get(&path_of(key)?).cloned())
    }

    fn prover(&self) -> Option<&dyn Prover> {
        Some(self)
    }
}

impl Prover for InMemory {
    fn prove(&self, key: &[u8]) -> Result<Vec<u8>, Failure> {
        let (value, proof) = (self.get(key)?, self.trie().prove(&path_of(key)?));
        borsh::to_vec(&Single { proof, value }).map_err(failed)
    }

    fn prove_many(&self, keys: &[&[u8]]) -> Result<Vec<u8>, Failure> {
        let mut proofs = Vec::with_capacity(keys.len());
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.get(key)?);
            proofs.push(self.trie().prove(&path_of(key)?));
        }
        proofs.sort_unstable_by(|a, b| a.terminal.path().cmp(b.terminal.path()));
        proofs.dedup_by(|a, b| a.terminal == b.terminal);
        let proof = MultiProof::from_path_proofs(proofs);
        borsh::to_vec(&Many { proof, values }).map_err(failed)
    }
}

/// The bytes of a proof of one key.
#[derive(BorshSerialize, BorshDeserialize)]
pub(crate) struct Single {
    pub(crate) proof: PathProof,
    pub(crate) value: Answer,
}

impl Single {
    /// The value that it proves of `key`; else why it does not.
    pub(crate) fn answer<H: NodeHasher + ValueHasher>(
        self,
        root: &Root,
        key: &[u8],
    ) -> Result<Answer, String> {
        let path = path_of(key).map_err(|error| error.to_string())?;
        let proved = self.proof.verify::<H>(path.view_bits::<Msb0>(), *root);
        let proved = proved.map_err(|error| format!("{error:?}"))?;
        let confirmed = match &self.value {
            Some(value) => {
                let leaf = LeafData { key_path: path, value_hash: H::hash_value(value) };
                proved.confirm_value(&leaf)
            }
            None => proved.confirm_nonexistence(&path),
        };
        match confirmed {
            Ok(true) => Ok(self.value),
            other => Err(format!("{other:?}")),
        }
    }
}

/// The bytes of a proof of many keys.
#[derive(BorshSerialize, BorshDeserialize)]
struct Many {
    proof: MultiProof,
    values: Vec<Answer>,
}

fn verify(root: &Root, key: &[u8], proof: &[u8]) -> Result<Answer, Failure> {
    let single: Single = borsh::from_slice(proof).map_err(|error| Failure::refused(NAME, error))?;
    single.answer::<Sha2Hasher>(root, key).map_err(|reason| Failure::refused(NAME, reason))
}

fn verify_many(root: &Root, keys: &[&[u8]], proof: &[u8]) -> Result<Vec<Answer>, Failure> {
    let refused = |reason: &dyn fmt::Debug| Failure::refused(NAME, format!("{reason:?}"));
    let Many { proof, values } = borsh::from_slice(proof).map_err(|error| refused(&error))?;
    let proved =
        verify_multi_proof::<Sha2Hasher>(&proof, *root).map_err(|error| refused(&error))?;
    if values.len() != keys.len() {
        return Err(refused(&"as many values as keys"));
    }
    for (key, value) in keys.iter().zip(&values) {
        let path = path_of(key)?;
        let confirmed = match value {
            Some(value) => proved.confirm_value(&leaf(path, value)),
            None => proved.confirm_nonexistence(&path),
        };
        if !matches!(confirmed, Ok(true)) {
            return Err(refused(&confirmed));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_benches::workload::Random;
    use nomt_core::update::build_trie;

    /// The crate's own way to build a trie agrees, also where paths have long prefixes in common.
    #[test]
    fn roots_are_those_of_the_crate() {
        for count in [0, 1, 2, 3, 100, 3000] {
            let (mut values, mut random) = (BTreeMap::new(), Random::new(count));
            for _ in 0..count {
                let mut bytes = vec![];
                random.append_to(&mut bytes, 32);
                let mut path = KeyPath::try_from(&bytes[..]).unwrap();
                if random.below(4) == Some(0) {
                    path[..31].fill(0xAA);
                }
                values.insert(path, bytes);
            }
            let ops = values.iter().map(|(path, value)| (*path, leaf(*path, value).value_hash));
            let expected = build_trie::<Sha2Hasher>(0, ops, |_| {});
            let trie = Trie::of(&values);
            assert_eq!(trie.node(trie.root), expected, "{count} keys");
        }
    }
}
