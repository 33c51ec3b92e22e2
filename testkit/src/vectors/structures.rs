//! Recordings of the data structures alone: entries, nodes, twigs, one-shard trees.

use super::read::{json, text};
use hedgerow_types::entry::EntryFields;
use hedgerow_types::{Digest, KeyHash, SerialNumber, TwigId, Version};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// What sort of entry a recorded one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// An ordinary entry; some have an empty value.
    Entry,
    /// A sentry (spec 4.3).
    Sentry,
    /// The null entry (spec 4.4).
    Null,
}

/// A recorded entry.
#[derive(Clone, Debug, Deserialize)]
pub struct EntryVector {
    /// What sort it is.
    pub kind: EntryKind,
    /// The shard, given for sentries.
    #[serde(default)]
    pub shard: Option<usize>,
    /// The key.
    #[serde(deserialize_with = "text")]
    pub key: Vec<u8>,
    /// The value.
    #[serde(deserialize_with = "text")]
    pub value: Vec<u8>,
    /// The next key hash.
    #[serde(deserialize_with = "text")]
    pub next_key_hash: KeyHash,
    /// The version.
    pub version: i64,
    /// The serial number.
    #[serde(deserialize_with = "text")]
    pub serial_number: SerialNumber,
    /// The serial numbers that the entry deactivates.
    #[serde(deserialize_with = "text", rename = "deactivated_sns")]
    pub deactivated: Vec<SerialNumber>,
    /// Hashed bytes followed by zeros up to a multiple of 8.
    #[serde(deserialize_with = "text")]
    pub serialized: Vec<u8>,
    /// How many of `serialized` are hashed.
    pub hashed_len: usize,
    /// The entry hash.
    #[serde(deserialize_with = "text")]
    pub hash: Digest,
    /// The key hash as the peers derive it from the stored entry: the padded first two key bytes
    /// for any empty value, unlike Hedgerow's (spec 4.3). `None` for the null entry.
    #[serde(deserialize_with = "text")]
    pub peer_key_hash: Option<KeyHash>,
    /// SHA-256 of the key.
    #[serde(deserialize_with = "text")]
    pub sha256_of_key: KeyHash,
}

impl EntryVector {
    /// The bytes that the hash covers.
    pub fn hashed_bytes(&self) -> &[u8] {
        &self.serialized[..self.hashed_len]
    }
}

/// The 205 recorded entries.
pub fn entries() -> Vec<EntryVector> {
    json("entries.json.gz")
}

/// A recorded node.
#[derive(Clone, Debug, Deserialize)]
pub struct NodeHashVector {
    /// Level of the children.
    pub level: u8,
    /// Left child.
    #[serde(deserialize_with = "text")]
    pub left: Digest,
    /// Right child.
    #[serde(deserialize_with = "text")]
    pub right: Digest,
    /// `node(level, left, right)`.
    #[serde(deserialize_with = "text")]
    pub hash: Digest,
}

/// Recorded node hashes and null nodes.
#[derive(Clone, Debug)]
pub struct NodesVector {
    /// Node hashes, two for each level 0..64.
    pub node_hashes: Vec<NodeHashVector>,
    /// `null_left[L]`: the level-L node of the left tree of an empty twig, L = 0..=11.
    pub null_left: [Digest; 12],
    /// The levels 9, 10 and 11 of the right tree of an inactive twig.
    pub null_active: [Digest; 3],
    /// Root of an empty twig, level 12.
    pub null_twig_root: Digest,
    /// The null node of each upper level 13..=63.
    pub null_upper: BTreeMap<u8, Digest>,
}

/// The recorded nodes.
pub fn nodes() -> NodesVector {
    #[derive(Deserialize)]
    struct Raw {
        node_hashes: Vec<NodeHashVector>,
        null_left_tree_by_node_level: BTreeMap<u8, String>,
        #[serde(deserialize_with = "text")]
        null_active_bits_mtl1: Digest,
        #[serde(deserialize_with = "text")]
        null_active_bits_mtl2: Digest,
        #[serde(deserialize_with = "text")]
        null_active_bits_mtl3: Digest,
        #[serde(deserialize_with = "text")]
        null_twig_root_level12: Digest,
        null_upper_node_by_node_level: BTreeMap<u8, String>,
    }
    let raw: Raw = json("nodes.json");
    let digest = |text: &String| text.parse::<Digest>().expect("a digest");
    let left: Vec<Digest> = raw.null_left_tree_by_node_level.values().map(digest).collect();
    NodesVector {
        node_hashes: raw.node_hashes,
        null_left: left.try_into().expect("12 levels"),
        null_active: [
            raw.null_active_bits_mtl1,
            raw.null_active_bits_mtl2,
            raw.null_active_bits_mtl3,
        ],
        null_twig_root: raw.null_twig_root_level12,
        null_upper: raw
            .null_upper_node_by_node_level
            .iter()
            .map(|(level, text)| (*level, digest(text)))
            .collect(),
    }
}

/// A recorded twig.
#[derive(Clone, Debug, Deserialize)]
pub struct TwigVector {
    /// What is special about it.
    pub name: String,
    /// Leaves that are occupied, 0..=2048; they are the first ones.
    pub leaf_count: u64,
    /// Number of the first leaf: leaf `i` is [`rule_leaf`]`(first_leaf_index + i)`.
    pub first_leaf_index: u64,
    /// The 256 bytes of active bits.
    #[serde(deserialize_with = "text")]
    pub active_bits: Vec<u8>,
    /// The leftmost node of each level 0..=11 of the left tree.
    #[serde(deserialize_with = "text")]
    pub left_nodes_leftmost_by_level: [Digest; 12],
    /// Root of the left tree, level 11.
    #[serde(deserialize_with = "text")]
    pub left_root: Digest,
    /// The right tree's nodes of level 9.
    #[serde(deserialize_with = "text")]
    pub active_bits_mtl1: [Digest; 4],
    /// The right tree's nodes of level 10.
    #[serde(deserialize_with = "text")]
    pub active_bits_mtl2: [Digest; 2],
    /// Root of the right tree, level 11.
    #[serde(deserialize_with = "text")]
    pub active_bits_mtl3: Digest,
    /// Root of the twig, level 12.
    #[serde(deserialize_with = "text")]
    pub twig_root: Digest,
}

impl TwigVector {
    /// The occupied leaves.
    pub fn leaves(&self) -> Vec<Digest> {
        (0..self.leaf_count).map(|i| rule_leaf(self.first_leaf_index + i)).collect()
    }
}

/// The 27 recorded twigs.
pub fn twigs() -> Vec<TwigVector> {
    json("twigs.json")
}

/// Leaf number `index` of the recorded twigs: SHA-256 of the number, 8 bytes little-endian.
pub fn rule_leaf(index: u64) -> Digest {
    Digest(Sha256::digest(index.to_le_bytes()).into())
}

/// A recorded tree: one shard without sentries, flushed several times.
#[derive(Clone, Debug)]
pub struct TreeVector {
    /// Name of the recording, such as `tree_5000`.
    pub name: &'static str,
    /// The flushes in order; serial numbers start at 0.
    pub flushes: Vec<TreeFlush>,
}

/// What one flush of a recorded tree appended, and what came out.
#[derive(Clone, Debug, Deserialize)]
pub struct TreeFlush {
    /// First serial number appended.
    pub append_from: u64,
    /// One past the last serial number appended.
    pub append_to: u64,
    /// For the appended entries that deactivate others: their serial number and those of the
    /// others.
    dsn_lists: Vec<(u64, Vec<u64>)>,
    /// The recorded engine dropped the active bits of the twigs below this one (no effect on
    /// roots).
    pub evict_twigs_below: u64,
    /// The youngest twig afterwards.
    #[serde(rename = "youngest_twig_id")]
    pub youngest_twig: u64,
    /// The shard root; the recorded engine has none while the youngest twig is 0.
    #[serde(deserialize_with = "text")]
    pub clean_root: Option<Digest>,
    /// The roots of all twigs, where they were recorded.
    #[serde(default, deserialize_with = "text")]
    pub clean_twig_roots: Option<Vec<Digest>>,
    /// Proofs against `clean_root`.
    #[serde(default, rename = "proofs_against_clean_root")]
    pub proofs: Vec<TreeProof>,
}

/// A proof of a recorded tree.
#[derive(Clone, Debug, Deserialize)]
pub struct TreeProof {
    /// The serial number proved.
    #[serde(deserialize_with = "text")]
    pub sn: SerialNumber,
    /// Whether its active bit is set.
    pub active: bool,
    /// Its leaf.
    #[serde(deserialize_with = "text")]
    pub entry_hash: Digest,
    /// The proof (spec 10.1); `None` where the recorded engine had none.
    #[serde(deserialize_with = "text")]
    pub proof: Option<Vec<u8>>,
}

impl TreeFlush {
    /// The appended entries in order: what each deactivates, and its hashed bytes.
    pub fn appended(&self) -> impl Iterator<Item = (Vec<SerialNumber>, Vec<u8>)> + '_ {
        let lists: BTreeMap<u64, &Vec<u64>> =
            self.dsn_lists.iter().map(|(sn, list)| (*sn, list)).collect();
        (self.append_from..self.append_to).map(move |sn| {
            let list = lists.get(&sn).map(|list| list.as_slice()).unwrap_or_default();
            let deactivated: Vec<_> = list.iter().copied().map(SerialNumber).collect();
            let bytes = rule_entry(SerialNumber(sn), &deactivated);
            (deactivated, bytes)
        })
    }

    /// The twigs that exist after the flush, `0..=youngest`.
    pub fn twigs(&self) -> impl Iterator<Item = TwigId> {
        (0..=self.youngest_twig).map(TwigId)
    }
}

/// Hashed bytes of entry `sn` of the recorded trees (their `entry_rule`).
pub fn rule_entry(sn: SerialNumber, deactivated: &[SerialNumber]) -> Vec<u8> {
    let tagged = |tag: u8| -> [u8; 32] {
        Sha256::new().chain_update([tag]).chain_update(sn.0.to_le_bytes()).finalize().into()
    };
    let key_len = 1 + (sn.0 % 32) as usize;
    let value_len = 1 + (sn.0 * 7 % 100) as usize;
    let value: Vec<u8> = tagged(b'v').into_iter().cycle().take(value_len).collect();
    let mut bytes = Vec::new();
    EntryFields {
        key: &tagged(b'k')[..key_len],
        value: &value,
        next_key_hash: KeyHash(tagged(b'n')),
        version: Version((((sn.0 / 1000) << 24) | (sn.0 % 1000)) as i64),
        serial_number: sn,
        deactivated,
    }
    .encode(&mut bytes)
    .expect("the rule makes legal entries");
    bytes
}

/// The files under `vectors/trees/`.
const TREES: [(&str, &str); 13] = [
    ("tree_10", "trees/tree_10.json"),
    ("tree_2047", "trees/tree_2047.json"),
    ("tree_2048", "trees/tree_2048.json"),
    ("tree_2049", "trees/tree_2049.json"),
    ("tree_3000_steps", "trees/tree_3000_steps.json"),
    ("tree_4096", "trees/tree_4096.json"),
    ("tree_4097", "trees/tree_4097.json"),
    ("tree_5000", "trees/tree_5000.json"),
    ("tree_7000_steps", "trees/tree_7000_steps.json.gz"),
    ("tree_20000", "trees/tree_20000.json"),
    ("tree_20000_evict", "trees/tree_20000_evict.json.gz"),
    ("tree_100k", "trees/tree_100k.json.gz"),
    ("tree_100k_evict", "trees/tree_100k_evict.json.gz"),
];

/// The 13 recorded trees, smallest first.
pub fn trees() -> impl Iterator<Item = TreeVector> {
    #[derive(Deserialize)]
    struct Raw {
        flushes: Vec<TreeFlush>,
    }
    TREES.into_iter().map(|(name, file)| {
        let raw: Raw = json(file);
        TreeVector { name, flushes: raw.flushes }
    })
}
