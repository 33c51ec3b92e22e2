//! The trees of spec 8 by brute force: nothing shared with the code under test, nothing reused
//! between calls.
//!
//! ```text
//!  level 12+i  upper tree     padded with null nodes to the next even number, up to one node
//!  level 12    twig root  = node(11, left root, right root)
//!              ┌────────────┴──────────────┐
//!  level 11    left root                   right root
//!  level 0..10 2048 entry hashes           level 8..10: 8 pages of 32 bytes of active bits
//! ```
//!
//! Levels are plain vectors, bottom first; the only shortcut is that a subtree without an occupied
//! leaf is taken from the list of null nodes.

use hedgerow_types::{Digest, SerialNumber, ShardId, TwigId};
use sha2::{Digest as _, Sha256};

/// Leaves of a twig.
const LEAVES: usize = 2048;

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// `node(level, left, right)` (spec 2).
pub fn node(level: u8, left: &Digest, right: &Digest) -> Digest {
    sha256(&[&[level][..], &left.0, &right.0].concat())
}

/// The null entry hash, from its bytes (spec 4.4).
pub fn null_leaf() -> Digest {
    let header = [0; 5];
    let next_key_hash = [0; 32];
    let version = (-2_i64).to_le_bytes();
    let serial_number = u64::MAX.to_le_bytes();
    sha256(&[&header[..], &next_key_hash, &version, &serial_number].concat())
}

/// The nodes of an empty left tree, levels 0..=11.
pub fn null_left() -> [Digest; 12] {
    let mut nulls = [null_leaf(); 12];
    for level in 0..11 {
        nulls[level + 1] = node(level as u8, &nulls[level], &nulls[level]);
    }
    nulls
}

/// The null node of an upper level, 12 (an empty twig) or above.
pub fn null_upper(level: u8) -> Digest {
    assert!(level >= 12, "upper levels begin at 12");
    let twig = Twig::new(&[], &[0; 256]).root;
    (12..level).fold(twig, |null, level| node(level, &null, &null))
}

/// All nodes of one twig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twig {
    /// The left tree: `left[L]` holds the `2048 >> L` nodes of level L, L = 0..=11.
    pub left: Vec<Vec<Digest>>,
    /// The right tree: `right[i]` holds the `8 >> i` nodes of level 8 + i, i = 0..=3; `right[0]`
    /// are the raw pages of active bits.
    pub right: Vec<Vec<Digest>>,
    /// The twig root, level 12.
    pub root: Digest,
}

impl Twig {
    /// The twig with these occupied leaves (at most 2048, the rest is null) and active bits.
    pub fn new(leaves: &[Digest], active: &[u8; 256]) -> Self {
        let left = left_levels(leaves);
        let right = right_levels(active);
        let root = node(11, &left[11][0], &right[3][0]);
        Self { left, right, root }
    }

    /// Root of the left tree, level 11.
    pub fn left_root(&self) -> Digest {
        self.left[11][0]
    }

    /// Root of the right tree, level 11.
    pub fn right_root(&self) -> Digest {
        self.right[3][0]
    }
}

/// The left tree over `leaves`, level by level from 0 to 11.
pub fn left_levels(leaves: &[Digest]) -> Vec<Vec<Digest>> {
    assert!(leaves.len() <= LEAVES, "a twig has {LEAVES} leaves");
    let nulls = null_left();
    let mut levels = vec![leaves.to_vec()];
    for level in 0..11_u8 {
        let children = levels.last_mut().expect("there is a level");
        if children.len() % 2 == 1 {
            children.push(nulls[usize::from(level)]);
        }
        let parents = parents(level, children);
        levels.push(parents);
    }
    for (level, nodes) in levels.iter_mut().enumerate() {
        nodes.resize(LEAVES >> level, nulls[level]);
    }
    levels
}

/// The right tree over a twig's 256 bytes of active bits: 8 pages (level 8), then levels 9 to 11.
pub fn right_levels(active: &[u8; 256]) -> Vec<Vec<Digest>> {
    let pages = active.chunks_exact(32).map(|page| Digest(page.try_into().expect("32 bytes")));
    let mut levels: Vec<Vec<Digest>> = vec![pages.collect()];
    for level in 8..11 {
        let parents = parents(level, &levels[usize::from(level) - 8]);
        levels.push(parents);
    }
    levels
}

fn parents(level: u8, children: &[Digest]) -> Vec<Digest> {
    assert!(children.len().is_multiple_of(2), "nodes come in pairs");
    children.chunks_exact(2).map(|pair| node(level, &pair[0], &pair[1])).collect()
}

/// The upper tree over all twigs of a shard, the youngest included, from level 12 up to the level
/// of the one root (spec 8.2). Odd levels but the last are padded with their null node.
pub fn upper_levels(twig_roots: &[Digest]) -> Vec<Vec<Digest>> {
    assert!(!twig_roots.is_empty(), "a shard always has a youngest twig");
    let mut levels = vec![twig_roots.to_vec()];
    let mut null = null_upper(12);
    for level in 12.. {
        let nodes = levels.last_mut().expect("there is a level");
        if nodes.len() == 1 {
            break;
        }
        if nodes.len() % 2 == 1 {
            nodes.push(null);
        }
        let parents = parents(level, nodes);
        levels.push(parents);
        null = node(level, &null, &null);
    }
    levels
}

/// The root of a shard over all its twig roots; of a single twig, its own root.
pub fn shard_root(twig_roots: &[Digest]) -> Digest {
    upper_levels(twig_roots).last().expect("there is a root")[0]
}

/// The tree over the 16 shard roots: 16, 8, 4, 2, 1 nodes, levels 64 to 68.
pub fn state_levels(shard_roots: &[Digest; 16]) -> Vec<Vec<Digest>> {
    let mut levels = vec![shard_roots.to_vec()];
    for level in 64..68 {
        let parents = parents(level, &levels[usize::from(level) - 64]);
        levels.push(parents);
    }
    levels
}

/// The state root.
pub fn state_root(shard_roots: &[Digest; 16]) -> Digest {
    state_levels(shard_roots)[4][0]
}

/// The four siblings from the root of `shard` up to the state root, lowest first.
pub fn state_path(shard_roots: &[Digest; 16], shard: ShardId) -> [Digest; 4] {
    let levels = state_levels(shard_roots);
    std::array::from_fn(|i| levels[i][(shard.index() >> i) ^ 1])
}

/// The siblings from one leaf up to its shard's root (spec 10.1), without the leaf and the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPath {
    /// The serial number whose path this is.
    pub sn: SerialNumber,
    /// Siblings in the left tree, levels 0..=10.
    pub left: [Digest; 11],
    /// The page of active bits that holds the serial number's.
    pub page: [u8; 32],
    /// Siblings in the right tree: the neighbour page, then levels 9 and 10.
    pub right: [Digest; 3],
    /// Siblings in the upper tree, from level 12.
    pub upper: Vec<Digest>,
}

impl ShardPath {
    /// The path of `sn` through its twig and the twig roots of its shard.
    pub fn new(sn: SerialNumber, twig: &Twig, twig_roots: &[Digest]) -> Self {
        let leaf = sn.0 as usize % LEAVES;
        let page = leaf / 256;
        let index = sn.0 as usize / LEAVES;
        assert_eq!(twig.root, twig_roots[index], "the twig is the one that holds {sn}");
        let levels = upper_levels(twig_roots);
        let upper = levels[..levels.len() - 1].iter().enumerate();
        Self {
            sn,
            left: std::array::from_fn(|level| twig.left[level][(leaf >> level) ^ 1]),
            page: twig.right[0][page].0,
            right: std::array::from_fn(|i| twig.right[i][(page >> i) ^ 1]),
            upper: upper.map(|(i, nodes)| nodes[(index >> i) ^ 1]).collect(),
        }
    }

    /// The bytes of spec 10.1 with this leaf and root.
    pub fn to_bytes(&self, leaf: &Digest, root: &Digest) -> Vec<u8> {
        let mut bytes = self.sn.0.to_le_bytes().to_vec();
        bytes.extend(leaf.0);
        bytes.extend(self.left.iter().flat_map(|digest| digest.0));
        bytes.extend(self.page);
        bytes.extend(self.right.iter().chain(&self.upper).flat_map(|digest| digest.0));
        bytes.extend(root.0);
        bytes
    }
}

/// One shard's tree: every leaf and active bit of its history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardTree {
    /// Entry hashes by serial number.
    pub leaves: Vec<Digest>,
    /// Active bits by serial number.
    pub active: Vec<bool>,
}

impl ShardTree {
    /// Appends a leaf, active, and deactivates others.
    pub fn append(&mut self, leaf: Digest, deactivated: &[SerialNumber]) {
        self.leaves.push(leaf);
        self.active.push(true);
        for sn in deactivated {
            self.active[sn.0 as usize] = false;
        }
    }

    /// Number of twigs: the youngest exists even if it is empty (spec 8.2).
    pub fn twig_count(&self) -> usize {
        self.leaves.len() / LEAVES + 1
    }

    /// The active bits of a twig as bytes: bit i is byte i / 8, mask 1 << (i % 8) (spec 8.1).
    pub fn active_bits(&self, twig: TwigId) -> [u8; 256] {
        let mut bytes = [0; 256];
        let first = twig.0 as usize * LEAVES;
        for (i, _) in self.active.iter().skip(first).take(LEAVES).enumerate().filter(|(_, a)| **a) {
            bytes[i / 8] |= 1 << (i % 8);
        }
        bytes
    }

    /// All nodes of a twig.
    pub fn twig(&self, twig: TwigId) -> Twig {
        let first = twig.0 as usize * LEAVES;
        let end = self.leaves.len().min(first + LEAVES);
        Twig::new(&self.leaves[first..end], &self.active_bits(twig))
    }

    /// The roots of all twigs.
    pub fn twig_roots(&self) -> Vec<Digest> {
        (0..self.twig_count() as u64).map(|twig| self.twig(TwigId(twig)).root).collect()
    }

    /// The shard root.
    pub fn root(&self) -> Digest {
        shard_root(&self.twig_roots())
    }

    /// The path of `sn`, which may be an unoccupied leaf of the youngest twig.
    pub fn path(&self, sn: SerialNumber) -> ShardPath {
        ShardPath::new(sn, &self.twig(sn.twig()), &self.twig_roots())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortcut_for_null_subtrees_changes_nothing() {
        for count in [0, 1, 2, 3, 7, 255, 256, 257, 1024, 2047, 2048] {
            let leaves: Vec<Digest> = (0..count).map(|i: u32| sha256(&i.to_le_bytes())).collect();
            let mut full = leaves.clone();
            full.resize(LEAVES, null_leaf());
            let mut levels = vec![full];
            for level in 0..11 {
                let parents = parents(level, &levels[usize::from(level)]);
                levels.push(parents);
            }
            assert_eq!(left_levels(&leaves), levels, "{count} leaves");
        }
    }

    #[test]
    fn the_shard_root_is_at_the_level_that_the_youngest_twig_gives() {
        for (youngest, level) in [(0, 12), (1, 13), (2, 14), (3, 14), (4, 15), (7, 15), (8, 16)] {
            let twigs: Vec<Digest> = (0..=youngest).map(|i: u32| sha256(&[i as u8])).collect();
            assert_eq!(upper_levels(&twigs).len() - 1 + 12, level, "youngest {youngest}");
        }
    }
}
