//! Recordings of whole stores: ops in; roots, serial numbers and proofs out.

use super::read::{json, json_lines, text};
use crate::ops::{Op, RecordedBlock};
use crate::recipe;
use hedgerow_types::{CompactionRule, Digest, SerialNumber, ShardId, hex};
use serde::Deserialize;

/// One recorded run: a stream of blocks under one compaction rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordedSet {
    /// Name of the stream: `mixed`, `bigval`, `big` or `prune`.
    pub stream: &'static str,
    /// Name of the parameters, such as `t1_7_10`.
    pub params: &'static str,
    /// The parameters.
    pub rule: CompactionRule,
    /// Seed of the stream.
    pub seed: u64,
    /// Height of the last block.
    pub last_height: u64,
    /// Whether proofs were recorded after the last block.
    pub has_proofs: bool,
}

impl RecordedSet {
    /// What came out, from height 0 (genesis) on.
    pub fn blocks(&self) -> impl Iterator<Item = BlockRow> + use<> {
        blocks(self.stream, self.params)
    }

    /// What was applied, from height 1 on.
    pub fn ops(&self) -> Box<dyn Iterator<Item = RecordedBlock> + Send> {
        match self.stream {
            "big" => Box::new(recipe::big(self.seed)),
            "prune" => Box::new(recipe::prune(self.seed)),
            stream => Box::new(ops(stream)),
        }
    }

    /// The proofs after the last block; none if there are none.
    pub fn proofs(&self) -> Vec<ProofVector> {
        if self.has_proofs { proofs(self.stream, self.params) } else { Vec::new() }
    }
}

/// All 11 recorded runs, shortest first.
pub fn all_sets() -> [RecordedSet; 11] {
    let set = |stream, params| {
        let (threshold, ratio, div) = match params {
            "default" => (20_000_000, 7, 10),
            "t1_7_10" => (1, 7, 10),
            "t1_1_1" => (1, 1, 1),
            "t4300_3_4" => (4300, 3, 4),
            "t6000_1_2" => (6000, 1, 2),
            other => panic!("no parameters called {other}"),
        };
        let (seed, last_height) = match stream {
            "mixed" => (11, 80),
            "bigval" => (12, 40),
            "big" => (13, 220),
            "prune" => (14, 1100),
            other => panic!("no stream called {other}"),
        };
        let rule = CompactionRule::new(threshold, ratio, div).expect("a legal rule");
        let has_proofs = match stream {
            "prune" => false,
            "big" => params == "t6000_1_2",
            _ => true,
        };
        RecordedSet { stream, params, rule, seed, last_height, has_proofs }
    };
    [
        set("mixed", "default"),
        set("mixed", "t1_7_10"),
        set("mixed", "t1_1_1"),
        set("mixed", "t4300_3_4"),
        set("bigval", "default"),
        set("bigval", "t1_1_1"),
        set("prune", "t1_7_10"),
        set("prune", "t1_1_1"),
        set("big", "default"),
        set("big", "t1_7_10"),
        set("big", "t6000_1_2"),
    ]
}

/// The recorded run of `stream` under `params`.
pub fn set(stream: &str, params: &str) -> RecordedSet {
    all_sets()
        .into_iter()
        .find(|set| set.stream == stream && set.params == params)
        .unwrap_or_else(|| panic!("{stream} was not recorded under {params}"))
}

/// The state of the 16 shards after one block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BlockRow {
    /// Height of the block; 0 is genesis.
    pub h: u64,
    /// The clean shard roots (spec 8.2).
    #[serde(deserialize_with = "text")]
    pub clean_roots: [Digest; 16],
    /// The serial number that each shard's next entry gets.
    pub next_sn: [u64; 16],
    /// Each shard's oldest-active serial number (spec 7).
    pub oldest_active_sn: [u64; 16],
}

/// The recorded rows of one run, from height 0 on.
pub fn blocks(stream: &str, params: &str) -> impl Iterator<Item = BlockRow> + use<> {
    json_lines(&format!("blocks_{stream}_{params}.jsonl.gz"))
}

/// The recorded ops of stream `mixed` or `bigval`; `big` and `prune` are in [`crate::recipe`].
pub fn ops(stream: &str) -> impl Iterator<Item = RecordedBlock> + Send + use<> {
    #[derive(Deserialize)]
    struct Raw {
        h: u64,
        tasks: Vec<Vec<Vec<Vec<String>>>>,
    }
    let bytes = |text: &String| hex::decode(text).expect("hex");
    let op = move |fields: Vec<String>| match (fields[0].as_str(), &fields[1..]) {
        ("c", [key, value]) => Op::create(bytes(key), bytes(value)),
        ("u", [key, value]) => Op::update(bytes(key), bytes(value)),
        ("d", [key]) => Op::delete(bytes(key)),
        _ => panic!("not an op: {fields:?}"),
    };
    json_lines(&format!("ops_{stream}.jsonl.gz")).map(move |raw: Raw| {
        let change_set = |ops: Vec<Vec<String>>| ops.into_iter().map(op).collect();
        let task = |sets: Vec<Vec<Vec<String>>>| sets.into_iter().map(change_set).collect();
        RecordedBlock { height: raw.h, tasks: raw.tasks.into_iter().map(task).collect() }
    })
}

/// What a recorded proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProofKind {
    /// This key is present.
    Inclusion {
        /// The key.
        key: Vec<u8>,
    },
    /// This key is absent; the entry proved is its predecessor.
    Exclusion {
        /// The key.
        absent_key: Vec<u8>,
    },
    /// The serial number is inactive.
    Inactive,
    /// A serial number chosen for being first, oldest, last or not yet used (null entry hash).
    BySerialNumber,
}

/// A recorded proof.
#[derive(Clone, Debug)]
pub struct ProofVector {
    /// What it shows.
    pub kind: ProofKind,
    /// The shard.
    pub shard: ShardId,
    /// The serial number proved.
    pub sn: SerialNumber,
    /// Whether its active bit is set.
    pub active: bool,
    /// The leaf.
    pub leaf: Digest,
    /// The entry as stored: hashed bytes and zeros up to a multiple of 8. Where it was recorded.
    pub entry: Option<Vec<u8>>,
    /// The clean root of the shard, against which the proof holds.
    pub shard_root: Digest,
    /// The proof (spec 10.1).
    pub proof: Vec<u8>,
}

impl ProofVector {
    /// The entry's hashed bytes, without the zeros. Where the entry was recorded.
    pub fn entry_hashed_bytes(&self) -> Option<&[u8]> {
        let entry = self.entry.as_deref()?;
        let header = entry.first_chunk().expect("an entry has a header");
        Some(&entry[..hedgerow_types::entry::len_from_header(header)])
    }
}

/// The proofs recorded after the last block of a run, against the clean roots.
pub fn proofs(stream: &str, params: &str) -> Vec<ProofVector> {
    #[derive(Deserialize)]
    struct File {
        proofs: Vec<Raw>,
    }
    #[derive(Deserialize)]
    struct Raw {
        kind: String,
        #[serde(default, deserialize_with = "text")]
        key: Option<Vec<u8>>,
        #[serde(default, deserialize_with = "text")]
        absent_key: Option<Vec<u8>>,
        shard: usize,
        #[serde(deserialize_with = "text")]
        sn: SerialNumber,
        active: bool,
        #[serde(default, deserialize_with = "text")]
        entry: Option<Vec<u8>>,
        #[serde(deserialize_with = "text")]
        leaf_entry_hash: Digest,
        #[serde(deserialize_with = "text")]
        clean_shard_root: Digest,
        #[serde(deserialize_with = "text")]
        proof: Vec<u8>,
    }
    let file: File = json(&format!("proofs_{stream}_{params}.json"));
    let typed = |raw: Raw| {
        let kind = match raw.kind.as_str() {
            "inclusion" => ProofKind::Inclusion { key: raw.key.expect("a key") },
            "exclusion" => ProofKind::Exclusion { absent_key: raw.absent_key.expect("a key") },
            "inactive" => ProofKind::Inactive,
            "by_sn" => ProofKind::BySerialNumber,
            other => panic!("no proofs of kind {other}"),
        };
        ProofVector {
            kind,
            shard: ShardId::new(raw.shard).expect("a shard"),
            sn: raw.sn,
            active: raw.active,
            leaf: raw.leaf_entry_hash,
            entry: raw.entry,
            shard_root: raw.clean_shard_root,
            proof: raw.proof,
        }
    };
    file.proofs.into_iter().map(typed).collect()
}
