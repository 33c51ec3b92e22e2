//! The op streams `big` and `prune`, re-created from a seed by the recipe in `vectors/README.md`.
//!
//! ```text
//!  seed ──► SplitMix64 ──► per block: ops n, tasks, change sets
//!                          per op:    r, [index of a live id], [length, word of the value]
//! ```
//!
//! The order of draws is part of the recipe: change nothing here without looking there. Blocks are
//! made one at a time, so a stream of a million ops needs the memory of its live ids only.

use crate::ops::{Op, OpKind, RecordedBlock};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;

/// The SplitMix64 generator.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// A generator whose state is `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.0;
        let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// The next number modulo `n` (the recipe's `below`: slightly biased, and meant to be).
    pub const fn below(&mut self, n: u64) -> u64 {
        self.next_u64() % n
    }
}

/// The constants of one stream, named as in the recipe's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamShape {
    /// Number of blocks.
    pub blocks: u64,
    /// A block has 1 to this many ops.
    pub ops_span: u64,
    /// Percentage of creates after the growing phase.
    pub create: u64,
    /// Percentage of updates; what remains are deletes.
    pub update: u64,
    /// Last block of the growing phase.
    pub grow_until: u64,
    /// Percentage of creates in the growing phase.
    pub create_grow: u64,
}

/// Stream `big`: 220 blocks, more than a million ops.
pub const BIG: StreamShape = StreamShape {
    blocks: 220,
    ops_span: 10_000,
    create: 30,
    update: 55,
    grow_until: 60,
    create_grow: 80,
};

/// Stream `prune`: 1100 blocks, about 0.32 million ops.
pub const PRUNE: StreamShape = StreamShape {
    blocks: 1100,
    ops_span: 600,
    create: 15,
    update: 75,
    grow_until: 20,
    create_grow: 90,
};

/// The blocks of a stream, in order.
#[derive(Clone, Debug)]
pub struct RecipeBlocks {
    shape: StreamShape,
    seed: u64,
    rng: SplitMix64,
    live: Vec<u64>,
    next_id: u64,
    height: u64,
}

/// The stream `big` with any seed (the recorded one has 13).
pub fn big(seed: u64) -> RecipeBlocks {
    RecipeBlocks::new(BIG, seed)
}

/// The stream `prune` with any seed (the recorded one has 14).
pub fn prune(seed: u64) -> RecipeBlocks {
    RecipeBlocks::new(PRUNE, seed)
}

impl RecipeBlocks {
    /// The stream of this shape and seed.
    pub const fn new(shape: StreamShape, seed: u64) -> Self {
        let rng = SplitMix64::new(seed);
        Self { shape, seed, rng, live: Vec::new(), next_id: 0, height: 0 }
    }

    fn value(&mut self, key_len: usize) -> Vec<u8> {
        let len = 1 + self.rng.below(200.min(227 - key_len as u64)) as usize;
        let word = self.rng.next_u64().to_le_bytes();
        word.into_iter().cycle().take(len).collect()
    }
}

/// The key of `id` in the stream of `seed`, 8 to 52 bytes.
pub fn key(seed: u64, id: u64) -> Vec<u8> {
    let digest = Sha256::new().chain_update(seed.to_le_bytes()).chain_update(id.to_le_bytes());
    let digest = digest.finalize();
    let mut key = [&id.to_le_bytes()[..], &digest, &digest].concat();
    key.truncate(8 + usize::from(digest[0] % 45));
    key
}

impl Iterator for RecipeBlocks {
    type Item = RecordedBlock;

    fn next(&mut self) -> Option<RecordedBlock> {
        if self.height == self.shape.blocks {
            return None;
        }
        self.height += 1;
        let ops = 1 + self.rng.below(self.shape.ops_span);
        let tasks = 1 + self.rng.below(8);
        let sets_of_task: Vec<u64> = (0..tasks).map(|_| 1 + self.rng.below(4)).collect();
        let sets: u64 = sets_of_task.iter().sum();
        let create = if self.height <= self.shape.grow_until {
            self.shape.create_grow
        } else {
            self.shape.create
        };

        let mut change_sets = vec![Vec::new(); sets as usize];
        let mut touched = HashSet::new();
        let mut current = 0;
        for j in 0..ops {
            let set = j * sets / ops;
            if set != current {
                touched.clear();
                current = set;
            }
            let r = self.rng.below(100);
            let (kind, id) = if self.live.is_empty() || r < create {
                let id = self.next_id;
                self.next_id += 1;
                self.live.push(id);
                (OpKind::Create, id)
            } else {
                let i = self.rng.below(self.live.len() as u64) as usize;
                let id = self.live[i];
                if touched.contains(&id) {
                    continue;
                }
                if r < create + self.shape.update {
                    (OpKind::Update, id)
                } else {
                    self.live.swap_remove(i);
                    (OpKind::Delete, id)
                }
            };
            touched.insert(id);
            let key = key(self.seed, id);
            let value = if kind == OpKind::Delete { Vec::new() } else { self.value(key.len()) };
            change_sets[set as usize].push(Op { kind, key, value });
        }

        let mut change_sets = change_sets.into_iter();
        let tasks = sets_of_task
            .into_iter()
            .map(|sets| change_sets.by_ref().take(sets as usize).collect())
            .collect();
        Some(RecordedBlock { height: self.height, tasks })
    }
}
