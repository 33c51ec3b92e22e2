//! Trees of hundreds of twigs, restored from random left roots: deep upper trees, edges at every
//! level, without hashing every leaf.

use crate::device::HASHERS;
use crate::world::{Change, apply_with, shard};
use hedgerow_hasher_api::{BatchHasher, ScalarHasher};
use hedgerow_merkle::{Dirty, Forest, MerkleError, ShardRestore};
use hedgerow_testkit::naive;
use hedgerow_types::{Digest, SHARDS, SerialNumber, TwigId};

/// One shard as brute force sees it.
struct Deep {
    left_roots: Vec<Digest>,
    bits: Vec<[u8; 256]>,
    leaves: Vec<Digest>,
    first_kept: u64,
    oldest: u64,
}

fn digest(n: u64) -> Digest {
    naive::sha256(&n.to_be_bytes())
}

impl Deep {
    /// Twigs below `first_active` are inactive, the others have random bits.
    fn new(first_kept: u64, first_active: u64, youngest: u64, leaves: u64) -> Self {
        let bits = |t: u64| -> [u8; 256] {
            let end = if t == youngest { leaves as usize } else { 2048 };
            let mut bits = [0; 256];
            if t >= first_active {
                for i in (0..end).filter(|&i| digest(t).0[i % 32] >> (i % 7) & 1 == 1) {
                    bits[i / 8] |= 1 << (i % 8);
                }
            }
            bits
        };
        Self {
            left_roots: (0..youngest).map(|t| digest(t << 32)).collect(),
            bits: (0..=youngest).map(bits).collect(),
            leaves: (0..leaves).map(digest).collect(),
            first_kept,
            oldest: first_active * 2048,
        }
    }

    fn upper(&self) -> Vec<Vec<Digest>> {
        let left = naive::left_levels(&self.leaves)[11][0];
        let lefts = self.left_roots.iter().chain([&left]);
        let roots = lefts.zip(&self.bits);
        let roots =
            roots.map(|(left, bits)| naive::node(11, left, &naive::right_levels(bits)[3][0]));
        naive::upper_levels(&roots.collect::<Vec<_>>())
    }

    /// What the definition says: for every level L >= 12 at which `first_kept >> (L - 12)` is odd,
    /// the node before it.
    fn edges(&self) -> Vec<(u8, Digest)> {
        let levels = self.upper();
        let odd = |(row, _): &(usize, _)| self.first_kept >> row & 1 == 1;
        let rows = levels.iter().enumerate().filter(odd);
        rows.map(|(row, nodes)| (12 + row as u8, nodes[(self.first_kept >> row) as usize - 1]))
            .collect()
    }

    fn parts(&self) -> ShardRestore {
        let first_active = SerialNumber(self.oldest).twig();
        let pages = self.bits[first_active.0 as usize..].as_flattened().chunks_exact(32);
        ShardRestore {
            first_kept: TwigId(self.first_kept),
            edges: self.edges(),
            left_roots: self.left_roots[self.first_kept as usize..].to_vec(),
            first_active,
            active_pages: pages.map(|page| Digest(page.try_into().unwrap())).collect(),
            youngest_leaves: self.leaves.clone(),
            oldest_active: SerialNumber(self.oldest),
        }
    }
}

fn restore(deep: &Deep, i: usize) -> Forest {
    let mut parts: [ShardRestore; SHARDS] = std::array::from_fn(|_| ShardRestore {
        active_pages: vec![Digest::ZERO; 8],
        ..ShardRestore::default()
    });
    parts[i] = deep.parts();
    Forest::restore(&ScalarHasher, parts).unwrap()
}

#[test]
fn restored_forests_have_the_roots_of_the_whole_tree() {
    for (first_kept, first_active, youngest, leaves) in [
        (0, 0, 0, 0),
        (0, 0, 1, 1),
        (1, 1, 1, 0),
        (1, 1, 1, 2047),
        (7, 7, 7, 0),
        (0, 5, 9, 12),
        (5, 5, 9, 12),
        (5, 7, 127, 3),
        (127, 127, 128, 0),
        (128, 128, 128, 100),
        (171, 200, 333, 1000),
        (255, 300, 341, 2000),
    ] {
        let deep = Deep::new(first_kept, first_active, youngest, leaves);
        let forest = restore(&deep, 6);
        let upper = deep.upper();
        assert_eq!(forest.roots().shards[6], upper.last().unwrap()[0], "{first_kept} {youngest}");
        assert_eq!(forest.edges(shard(6), TwigId(first_kept)).unwrap(), deep.edges());
        for twig in first_kept..=youngest {
            let path = forest.path(shard(6), TwigId(twig).first()).unwrap();
            let siblings = upper.iter().enumerate().take(upper.len() - 1);
            let siblings = siblings.map(|(row, nodes)| nodes[(twig >> row) as usize ^ 1]);
            assert_eq!(path.upper, siblings.collect::<Vec<_>>(), "{twig}");
        }
    }
}

#[test]
fn a_deep_pruned_tree_goes_on_as_the_whole_tree_would() {
    for hasher in 0..HASHERS {
        goes_on(&*crate::device::hasher(hasher));
    }
}

fn goes_on(hasher: &dyn BatchHasher) {
    let mut deep = Deep::new(100, 103, 250, 2000);
    let mut forest = restore(&deep, 6);
    let published = forest.publish();
    let mut dirty = Dirty::default();
    for round in 0..40_u64 {
        // Append across the end of a twig every few rounds, and over 255 -> 256 at some time.
        let mut changes: [Change; SHARDS] = Default::default();
        let change = &mut changes[6];
        for n in 0..700 * (round % 3) {
            let bytes = (round << 32 | n).to_le_bytes();
            change.push(&bytes);
            let leaf = deep.leaves.len();
            deep.leaves.push(naive::sha256(&bytes));
            deep.bits.last_mut().unwrap()[leaf / 8] |= 1 << (leaf % 8);
            if leaf == 2047 {
                deep.left_roots.push(naive::left_levels(&deep.leaves)[11][0]);
                deep.leaves.clear();
                deep.bits.push([0; 256]);
            }
        }
        // Everything in the next 3 twigs dies, and some entries elsewhere.
        let first_active = SerialNumber(deep.oldest).twig().0;
        let next = (deep.bits.len() as u64 - 1) * 2048 + deep.leaves.len() as u64;
        let scattered = (first_active * 2048..next).step_by(4999 + round as usize);
        for sn in (deep.oldest..deep.oldest + 3 * 2048 + 100 * round).chain(scattered) {
            let byte = &mut deep.bits[(sn / 2048) as usize][(sn % 2048 / 8) as usize];
            if *byte >> (sn % 8) & 1 == 1 {
                *byte &= !(1 << (sn % 8));
                change.deactivated.push(SerialNumber(sn));
            }
        }
        deep.oldest += 3 * 2048 + 100 * round;
        change.oldest_active = SerialNumber(deep.oldest);
        let applied = apply_with(hasher, &mut forest, &changes).unwrap();
        dirty.merge(&applied.dirty);
        assert_eq!(applied.roots.shards[6], deep.upper().last().unwrap()[0], "round {round}");
        if round % 4 == 3 {
            deep.first_kept = first_active - round % 3;
            assert_eq!(forest.edges(shard(6), TwigId(deep.first_kept)).unwrap(), deep.edges());
            forest.prune(shard(6), TwigId(deep.first_kept)).unwrap();
            assert!(restore(&deep, 6) == forest, "round {round}");
        }
        if round % 3 == 2 {
            published.copy(&forest, &dirty);
            assert!(published == forest, "round {round}");
            dirty = Dirty::default();
        }
    }
    assert!(deep.bits.len() > 257, "the root level must rise: {} twigs", deep.bits.len());
}

/// A shard with 2^39 twigs, all but 5 of them pruned.
#[test]
fn an_old_shard_costs_what_is_kept() {
    let first_kept = TwigId((1 << 39) + 0b1011);
    let edges = [12, 13, 15, 51].map(|level| (level, digest(u64::from(level))));
    let mut parts: [ShardRestore; SHARDS] = std::array::from_fn(|_| ShardRestore {
        active_pages: vec![Digest::ZERO; 8],
        ..ShardRestore::default()
    });
    parts[0] = ShardRestore {
        first_kept,
        edges: edges.to_vec(),
        left_roots: (0..4).map(digest).collect(),
        first_active: first_kept.next(),
        active_pages: vec![Digest([0x0F; 32]); 8 * 3]
            .into_iter()
            .chain([Digest::ZERO; 8])
            .collect(),
        youngest_leaves: vec![],
        oldest_active: first_kept.next().first(),
    };
    let forest = Forest::restore(&ScalarHasher, parts.clone()).unwrap();
    assert!(forest.heap_bytes() < 4_000_000);
    let youngest = TwigId(first_kept.0 + 4);
    assert_eq!(forest.next_sn(shard(0)), youngest.first());
    let path = forest.path(shard(0), youngest.first()).unwrap();
    let null = naive::null_left();
    let siblings = std::array::from_fn(|level| null[level]);
    assert_eq!(path.fold(&naive::null_leaf(), &siblings).1, forest.roots().state);

    parts[0].edges[3].0 = 50;
    let refused = Forest::restore(&ScalarHasher, parts);
    assert!(matches!(refused, Err(MerkleError::Restore { .. })));
}
