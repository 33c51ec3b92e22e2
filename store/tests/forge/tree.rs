//! What an attacker has who knows the whole tree: every node, and an encoder that obeys nobody.
//!
//! ```text
//!  Model ──► Tree: every node of every shard ──► Parts: version, n, shards, k, entries, pages, nodes ──► bytes
//!                                                  ▲ any field may be a lie
//! ```
//!
//! The encoder is written from `docs/proofs.md`, section 3.2, and shares nothing with the crate under test: a
//! true proof has to come out byte for byte the same.

use hedgerow::{Digest, SerialNumber, ShardId};
use hedgerow_testkit::model::Model;
use hedgerow_testkit::naive::{self, Twig};
use hedgerow_types::TwigId;
use std::collections::BTreeSet;

/// Where an entry stands: shard and serial number.
pub(crate) type Place = (usize, u64);

/// Every node of a state.
pub(crate) struct Tree {
    shards: Vec<(Vec<Twig>, Vec<Vec<Digest>>)>,
    state: Vec<Vec<Digest>>,
}

impl Tree {
    pub(crate) fn new(model: &Model) -> Self {
        let shards: Vec<_> = ShardId::all()
            .map(|shard| {
                let twigs = model.next_sn(shard).twig().0 + 1;
                let leaves = model.leaves(shard);
                let twigs: Vec<Twig> = (0..twigs)
                    .map(|twig| {
                        let first = TwigId(twig).first().0 as usize;
                        let end = leaves.len().min(first + 2048);
                        Twig::new(&leaves[first..end], &model.active_bits(shard, TwigId(twig)))
                    })
                    .collect();
                let roots: Vec<Digest> = twigs.iter().map(|twig| twig.root).collect();
                (twigs, naive::upper_levels(&roots))
            })
            .collect();
        let roots: Vec<Digest> =
            shards.iter().map(|(_, upper)| upper[upper.len() - 1][0]).collect();
        Self { shards, state: naive::state_levels(&roots.try_into().unwrap()) }
    }

    pub(crate) fn root(&self) -> Digest {
        self.state[4][0]
    }

    pub(crate) fn shard_roots(&self) -> [Digest; 16] {
        self.state[0].clone().try_into().unwrap()
    }

    /// Levels of a shard's tree above the twig roots.
    pub(crate) fn levels(&self, shard: usize) -> u8 {
        self.shards[shard].1.len() as u8 - 1
    }

    fn state_node(&self, level: u8, i: u64) -> Digest {
        self.state[usize::from(level) - 64][i as usize]
    }

    fn upper_node(&self, shard: usize, level: u8, i: u64) -> Digest {
        let row = self.shards[shard].1.get(usize::from(level) - 12);
        let node = row.and_then(|row| row.get(i as usize)).copied();
        node.unwrap_or_else(|| naive::null_upper(level))
    }

    fn twig(&self, shard: usize, level: u8, i: u64) -> Option<&Twig> {
        self.shards[shard].0.get((i >> (11 - level)) as usize)
    }

    fn left_node(&self, shard: usize, level: u8, i: u64) -> Digest {
        let twig = self.twig(shard, level, i);
        twig.map_or(naive::null_left()[usize::from(level)], |twig| {
            twig.left[usize::from(level)][i as usize % (2048 >> level)]
        })
    }

    /// A node of a right tree; of level 8 a page.
    pub(crate) fn right_node(&self, shard: usize, level: u8, i: u64) -> Digest {
        let twig = self.twig(shard, level, i);
        twig.map_or(Digest::ZERO, |twig| {
            twig.right[usize::from(level) - 8][i as usize % (8 >> (level - 8))]
        })
    }

    /// Everything that the proof of these entries has besides the entries, as the document says.
    pub(crate) fn frame(&self, places: &BTreeSet<Place>) -> Parts {
        let shards: BTreeSet<usize> = places.iter().map(|place| place.0).collect();
        let pages: BTreeSet<Place> = places.iter().map(|&(shard, sn)| (shard, sn >> 8)).collect();
        let mut walk = Walk { tree: self, places, shards: &shards, nodes: Vec::new() };
        walk.state(68, 0);
        Parts {
            version: 2,
            count: places.len() as u32,
            mask: shards.iter().fold(0, |mask, shard| mask | 1 << shard),
            levels: shards.iter().map(|shard| self.levels(*shard)).collect(),
            nodes: walk.nodes,
            pages: pages.iter().map(|&(shard, page)| self.right_node(shard, 8, page).0).collect(),
            entries: Vec::new(),
        }
    }

    /// The proof of these entries of the model that the tree is of.
    pub(crate) fn proof(&self, model: &Model, places: &BTreeSet<Place>) -> Parts {
        let entries = places.iter().map(|&place| entry_bytes(model, place)).collect();
        Parts { entries, ..self.frame(places) }
    }
}

/// The hashed bytes of an entry.
pub(crate) fn entry_bytes(model: &Model, (shard, sn): Place) -> Vec<u8> {
    model.entry(ShardId::new(shard).unwrap(), SerialNumber(sn)).hashed_bytes().to_vec()
}

struct Walk<'a> {
    tree: &'a Tree,
    places: &'a BTreeSet<Place>,
    shards: &'a BTreeSet<usize>,
    nodes: Vec<[u8; 32]>,
}

impl Walk<'_> {
    /// Whether an entry has the place `i` when the lowest bits of its serial number are left out.
    fn has(&self, shard: usize, shift: u8, i: u64) -> bool {
        let from = i.checked_shl(u32::from(shift)).unwrap();
        let to = from + ((1_u64 << shift) - 1);
        self.places.range((shard, from)..=(shard, to)).next().is_some()
    }

    fn state(&mut self, level: u8, i: u64) {
        if !self.shards.iter().any(|shard| *shard as u64 >> (level - 64) == i) {
            self.nodes.push(self.tree.state_node(level, i).0);
        } else if level == 64 {
            self.upper(i as usize, 12 + self.tree.levels(i as usize), 0);
        } else {
            self.state(level - 1, 2 * i);
            self.state(level - 1, 2 * i + 1);
        }
    }

    fn upper(&mut self, shard: usize, level: u8, i: u64) {
        if !self.has(shard, level - 1, i) {
            self.nodes.push(self.tree.upper_node(shard, level, i).0);
        } else if level == 12 {
            self.left(shard, 11, i);
            self.right(shard, 11, i);
        } else {
            self.upper(shard, level - 1, 2 * i);
            self.upper(shard, level - 1, 2 * i + 1);
        }
    }

    fn left(&mut self, shard: usize, level: u8, i: u64) {
        if !self.has(shard, level, i) {
            self.nodes.push(self.tree.left_node(shard, level, i).0);
        } else if level > 0 {
            self.left(shard, level - 1, 2 * i);
            self.left(shard, level - 1, 2 * i + 1);
        }
    }

    fn right(&mut self, shard: usize, level: u8, i: u64) {
        if !self.has(shard, level, i) {
            self.nodes.push(self.tree.right_node(shard, level, i).0);
        } else if level > 8 {
            self.right(shard, level - 1, 2 * i);
            self.right(shard, level - 1, 2 * i + 1);
        }
    }
}

/// The fields of a proof, which may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) version: u8,
    pub(crate) count: u32,
    pub(crate) mask: u16,
    pub(crate) levels: Vec<u8>,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) pages: Vec<[u8; 32]>,
    pub(crate) nodes: Vec<[u8; 32]>,
}

impl Parts {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.version];
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.mask.to_le_bytes());
        bytes.extend(&self.levels);
        bytes.extend(self.entries.concat());
        bytes.extend(self.pages.concat());
        bytes.extend(self.nodes.concat());
        bytes
    }
}
