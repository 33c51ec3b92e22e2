//! The nodes that stand for what is not there yet.
//!
//! ```text
//!  level                            null twig root  = upper[12]
//!   12                                ▲
//!   11             left[11] ──────────┴────────── active_l3
//!                     ▲                               ▲
//!   10             left[10]                       active_l2
//!   ..                ▲                               ▲
//!    9             left[9]                        active_l1
//!   ..                ▲                               ▲
//!    0   null entry hash = left[0]                32 zero bytes (a page of active bits, level 8)
//! ```
//!
//! Above the twig roots a missing right sibling is `upper[L] = node(L-1, upper[L-1], upper[L-1])`
//! (spec 8.2). Unoccupied leaves hash as the null entry (spec 4.4), so a twig that is partly filled
//! has `left[..]` nodes in its left tree; a twig that is wholly inactive has `active_l3`.

use crate::hash_node;
use hedgerow_types::{ACTIVE_BITS_LEVEL, Digest, TWIG_ROOT_LEVEL, entry::NULL_ENTRY_HASH};
use std::sync::LazyLock;

/// The null node of every level of every tree. Computed once per process, see [`null_table`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NullTable {
    /// Left tree of a twig without entries: element `L` is its node of level `L`, 0..=11
    /// (spec 8.1).
    pub left: [Digest; 12],
    /// Node over two zero pages of active bits; a node of level 9.
    pub active_l1: Digest,
    /// Node over two [`active_l1`](Self::active_l1); a node of level 10.
    pub active_l2: Digest,
    /// Root of the right tree of a twig without active entries; a node of level 11.
    pub active_l3: Digest,
    /// Upper tree: element `L` is the null node of level `L`, from the null twig root at 12 to 63
    /// (spec 8.2). Elements below 12 are zero and mean nothing.
    pub upper: [Digest; 64],
}

impl NullTable {
    /// The null node of level `level` of a twig's left tree, `None` above its root (level 11).
    pub fn left(&self, level: u8) -> Option<Digest> {
        self.left.get(usize::from(level)).copied()
    }

    /// The null node of level `level` of the upper tree, `None` below the twig roots (level 12) and
    /// above level 63.
    pub fn upper(&self, level: u8) -> Option<Digest> {
        if level < TWIG_ROOT_LEVEL {
            return None;
        }
        self.upper.get(usize::from(level)).copied()
    }

    /// The root of a twig without entries: [`upper`](Self::upper) at level 12.
    pub fn twig_root(&self) -> Digest {
        self.upper[usize::from(TWIG_ROOT_LEVEL)]
    }

    fn compute() -> Self {
        let twin = |level: u8, node: &Digest| hash_node(level, node, node);

        let mut left = [NULL_ENTRY_HASH; 12];
        for child in 0..11 {
            left[usize::from(child) + 1] = twin(child, &left[usize::from(child)]);
        }
        let active_l1 = twin(ACTIVE_BITS_LEVEL, &Digest::ZERO);
        let active_l2 = twin(ACTIVE_BITS_LEVEL + 1, &active_l1);
        let active_l3 = twin(ACTIVE_BITS_LEVEL + 2, &active_l2);

        let mut upper = [Digest::ZERO; 64];
        upper[usize::from(TWIG_ROOT_LEVEL)] = hash_node(TWIG_ROOT_LEVEL - 1, &left[11], &active_l3);
        for child in TWIG_ROOT_LEVEL..63 {
            upper[usize::from(child) + 1] = twin(child, &upper[usize::from(child)]);
        }
        Self { left, active_l1, active_l2, active_l3, upper }
    }
}

/// The null nodes: about 70 hashes, computed at the first call and kept for the life of the
/// process.
pub fn null_table() -> &'static NullTable {
    static TABLE: LazyLock<NullTable> = LazyLock::new(NullTable::compute);
    &TABLE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash_message;

    fn hex(text: &str) -> Digest {
        text.parse().unwrap()
    }

    #[test]
    fn the_null_leaf_is_the_hash_of_the_null_entry() {
        let mut bytes = vec![];
        hedgerow_types::entry::encode_null(&mut bytes);
        assert_eq!(hash_message(&bytes), NULL_ENTRY_HASH);
        assert_eq!(null_table().left(0), Some(NULL_ENTRY_HASH));
    }

    /// Digests recorded from the engines that this tree is compatible with.
    #[test]
    fn null_nodes_equal_the_recorded_ones() {
        let table = null_table();
        let left = [
            "ca2337691033ab0a24c10fbc70b49bea8c5978db1a0ec6510e7e97f528301c39",
            "28c0cc1650e8b10b29de7eb17201be478391272380e55745fd52d5feb8554eaa",
            "065ac2fd5a856e8e35e104a78235fc5f8c7e75fabbf8064cda207c4babbeb56c",
            "e4c3f379b7a5789594c9109e9896aecf749b85c4a6a0b3d26a2c697e26f36fd3",
            "7c81680ffb753a36d9e0b345f308fd818a402b0ecb5e1366cc94991a56075044",
            "053d9c73883c8ee7eac9cf011458c61433bbd4bba561e3ddc3f49cf76e52e288",
            "692f5b1dc974510438da37d0c46c8e39946a79af1246fe6fbc3f44fc80bc40c3",
            "122c8ce9fa6aaa67e3afa2e1b47a704ad12c1e6608b2a21e84fd19bd07c30713",
            "730bf342c9b3d3e9a5ecd86d26d9bb3333a6038a110455bd98cae0b91284a50b",
            "c6085473880d2de6339201f1855d088c7a7fc74ab884c5bcc8b851d202328646",
            "6625f6aa53d328b2572979b52d98b376f26d86ead0fc89b386d4ed026e944e42",
            "cce5498796e1da850e39978e5e7bc572779e8ddc5eca8532aa8d28eb8b9fa839",
        ];
        assert_eq!(table.left, left.map(hex));
        assert_eq!(
            table.active_l1,
            hex("300b4292a3591228725e6e2e20be3ab63a6a99cc695e925c6c20a90c570a5e71")
        );
        assert_eq!(
            table.active_l2,
            hex("0a5f9998b7515f418bf58bf91aca4c151651b3bcafe91f9ed1c56eb6f70d1a9b")
        );
        assert_eq!(
            table.active_l3,
            hex("6f0eaa905ebefc03fb033f1ff10fc6ebd3bb11ce2f8696acbf72bb705b03e3e7")
        );
        for (level, digest) in [
            (12, "37f6d34b5f4fe4aba10fd7411d6f58efc4bf844935c37dbe83c5686ceb62ce9d"),
            (13, "78a40c702ff7655fd6b82230ab93983a469e270f11391da53f83f303552c69d7"),
            (14, "e6ee5470fe9e784b7175224b1f7a3f47a259604270365f07dd10283beb61304a"),
            (20, "e58db01105ab92ad4adfaa1cbee138d8746a67ffac499b56d14e56ac9f9195ec"),
            (40, "b0630cd72e132e7a765d2ebf8a43ed49d0225c27605d83a15a8b73830d98d43d"),
            (63, "c787c83f6f8402c636a2f48f1bf2c02ceb31ea5ccdd4bd9e6fe6efcc3031b640"),
        ] {
            assert_eq!(table.upper(level), Some(hex(digest)), "level {level}");
        }
        assert_eq!(Some(table.twig_root()), table.upper(12));
    }

    #[test]
    fn levels_that_do_not_exist_have_no_null_node() {
        let table = null_table();
        assert!(table.left(11).is_some() && table.left(12).is_none());
        assert!(table.upper(11).is_none() && table.upper(12).is_some());
        assert!(table.upper(63).is_some() && table.upper(64).is_none());
        assert!(table.upper(255).is_none());
    }
}
