//! The recorded workloads `big` and `prune`, which are defined by a recipe instead of a file: the
//! same seed gives the same blocks everywhere.
//!
//! ```text
//!   SplitMix64(seed) ─► per block       n operations, tasks, change sets of each task
//!                    ─► per operation   r: create, update or delete
//!                                       i: which of the live keys      (not for a create)
//!                                       L, w: length and filling of the value (not for a delete)
//! ```
//!
//! The recipe stands in the README of the recordings. Its sequence of draws is the definition:
//! an operation on a key that its change set has already touched is dropped after drawing `i`.

use hedgerow::{Op, OpKind, Task};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;

/// Which workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Recipe {
    /// 220 blocks, more than a million operations.
    Big,
    /// 1100 blocks, about 320,000 operations, mostly updates.
    Prune,
}

/// The numbers of a workload; percentages of 100.
struct Shape {
    blocks: u64,
    /// Operations per block: 1 to this many.
    ops_span: u64,
    create: u64,
    update: u64,
    /// Up to this height, `create_grow` stands in for `create`.
    grow_until: u64,
    create_grow: u64,
}

impl Recipe {
    /// Number of blocks.
    pub(crate) fn blocks(self) -> u64 {
        self.shape().blocks
    }

    fn shape(self) -> Shape {
        match self {
            Self::Big => Shape {
                blocks: 220,
                ops_span: 10_000,
                create: 30,
                update: 55,
                grow_until: 60,
                create_grow: 80,
            },
            Self::Prune => Shape {
                blocks: 1100,
                ops_span: 600,
                create: 15,
                update: 75,
                grow_until: 20,
                create_grow: 90,
            },
        }
    }
}

/// The generator that the recipe names.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The blocks of a workload, in order: heights and tasks.
pub(crate) struct Blocks {
    shape: Shape,
    seed: u64,
    draws: SplitMix64,
    live: Vec<u64>,
    next_id: u64,
    height: u64,
}

impl Blocks {
    pub(crate) fn new(recipe: Recipe, seed: u64) -> Self {
        Self {
            shape: recipe.shape(),
            seed,
            draws: SplitMix64(seed),
            live: Vec::new(),
            next_id: 0,
            height: 0,
        }
    }

    fn block(&mut self) -> Vec<Task> {
        let count = 1 + self.draws.below(self.shape.ops_span);
        let tasks = 1 + self.draws.below(8);
        let mut tasks: Vec<Task> = (0..tasks)
            .map(|_| (0..1 + self.draws.below(4)).map(|_| Vec::new()).collect())
            .collect();
        let grows = self.height <= self.shape.grow_until;
        let create = if grows { self.shape.create_grow } else { self.shape.create };

        let mut change_sets: Vec<&mut Vec<Op>> = tasks.iter_mut().flatten().collect();
        let total = change_sets.len() as u64;
        let mut touched = HashSet::new();
        let mut current = 0;
        for number in 0..count {
            let into = number * total / count;
            if into != current {
                touched.clear();
                current = into;
            }
            let Some((kind, id)) = self.choose(create, &touched) else { continue };
            touched.insert(id);
            let key = self.key(id);
            let value = match kind {
                OpKind::Delete | OpKind::Read => Vec::new(),
                OpKind::Create | OpKind::Update => self.value(key.len()),
            };
            if let Some(change_set) = change_sets.get_mut(into as usize) {
                change_set.push(Op { kind, key, value });
            }
        }
        tasks
    }

    /// The next operation and its key's number; `None` if the key was touched before.
    fn choose(&mut self, create: u64, touched: &HashSet<u64>) -> Option<(OpKind, u64)> {
        let r = self.draws.below(100);
        if self.live.is_empty() || r < create {
            let id = self.next_id;
            self.next_id += 1;
            self.live.push(id);
            return Some((OpKind::Create, id));
        }
        let place = self.draws.below(self.live.len() as u64) as usize;
        let id = *self.live.get(place)?;
        if touched.contains(&id) {
            return None;
        }
        if r < create + self.shape.update {
            Some((OpKind::Update, id))
        } else {
            self.live.swap_remove(place);
            Some((OpKind::Delete, id))
        }
    }

    /// 8 to 52 bytes: the number, then as much of its digest, repeated, as the digest says.
    fn key(&self, id: u64) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_le_bytes());
        hash.update(id.to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let len = 8 + usize::from(digest[0] % 45);
        id.to_le_bytes().into_iter().chain(digest).chain(digest).take(len).collect()
    }

    fn value(&mut self, key_len: usize) -> Vec<u8> {
        let len = 1 + self.draws.below(200.min(227 - key_len as u64));
        let word = self.draws.next().to_le_bytes();
        word.into_iter().cycle().take(len as usize).collect()
    }
}

impl Iterator for Blocks {
    type Item = (u64, Vec<Task>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.height == self.shape.blocks {
            return None;
        }
        self.height += 1;
        Some((self.height, self.block()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hedgerow_testkit::recipe;

    /// The recipe is written down twice, for the program and for the tests; here the two meet.
    #[test]
    fn the_blocks_are_those_of_the_testkit() {
        for (recipe, theirs) in
            [(Recipe::Big, recipe::big as fn(u64) -> _), (Recipe::Prune, recipe::prune)]
        {
            let pairs = Blocks::new(recipe, 99).zip(theirs(99)).take(90);
            for ((height, tasks), other) in pairs {
                assert_eq!(height, other.height);
                let ours: Vec<Vec<usize>> =
                    tasks.iter().map(|task| task.iter().map(Vec::len).collect()).collect();
                let others: Vec<Vec<usize>> =
                    other.tasks.iter().map(|task| task.iter().map(Vec::len).collect()).collect();
                assert_eq!(ours, others, "{recipe:?}: shape of block {height}");
                let ours = tasks.iter().flatten().flatten();
                for (op, other) in ours.zip(other.tasks.iter().flatten().flatten()) {
                    assert_eq!(format!("{:?}", op.kind), format!("{:?}", other.kind));
                    assert_eq!((&op.key, &op.value), (&other.key, &other.value));
                }
            }
        }
        assert_eq!(Blocks::new(Recipe::Prune, 14).count(), 1100);
    }
}
