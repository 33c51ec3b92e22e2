//! The recorded twigs, trees and blocks of the engines that the tree is compatible with.

use crate::world::{Change, apply, shard};
use hedgerow_hasher_api::ScalarHasher;
use hedgerow_merkle::{FinishedTwig, Forest, LeftPart, TreePath, left_path_in};
use hedgerow_testkit::vectors;
use hedgerow_types::{Digest, SHARDS, SerialNumber, TwigId};
use std::collections::BTreeMap;

#[test]
fn recorded_twigs() {
    for twig in vectors::twigs() {
        let mut changes: [Change; SHARDS] = Default::default();
        for i in 0..twig.leaf_count {
            changes[5].push(&(twig.first_leaf_index + i).to_le_bytes());
            if twig.active_bits[i as usize / 8] >> (i % 8) & 1 == 0 {
                changes[5].deactivated.push(SerialNumber(i));
            }
        }
        let mut forest = Forest::new();
        let applied = apply(&mut forest, &changes).unwrap();
        let bits: Vec<u8> = forest.active_pages(shard(5))[..8].iter().flat_map(|p| p.0).collect();
        assert_eq!(bits, twig.active_bits, "{}", twig.name);
        if twig.leaf_count < 2048 {
            assert_eq!(applied.roots.shards[5], twig.twig_root, "{}", twig.name);
            let path = forest.path(shard(5), SerialNumber(0)).unwrap();
            assert!(
                matches!(path.left, LeftPart::Here { left_root, .. } if left_root == twig.left_root)
            );
        } else {
            // The next twig exists, empty; its sibling is this twig's root.
            let path = forest.path(shard(5), SerialNumber(2048)).unwrap();
            assert_eq!(path.upper, [twig.twig_root], "{}", twig.name);
            assert_eq!(applied.finished[0].left_root(), twig.left_root);
            for level in 4..=11 {
                let leftmost = applied.finished[0].nodes[(1 << (11 - level)) - 1];
                assert_eq!(leftmost, twig.left_nodes_leftmost_by_level[level]);
            }
        }
        let page = forest.path(shard(5), SerialNumber(0)).unwrap();
        assert_eq!(page.right[1], twig.active_bits_mtl1[1], "{}", twig.name);
        assert_eq!(page.right[2], twig.active_bits_mtl2[1], "{}", twig.name);
    }
}

/// Bytes of spec 10.1.
fn proof_bytes(path: &TreePath, leaf: &Digest, siblings: &[Digest; 11]) -> Vec<u8> {
    let mut bytes = path.sn.0.to_le_bytes().to_vec();
    let nodes = [leaf].into_iter().chain(siblings).chain([&path.page]).chain(&path.right);
    for node in nodes.chain(&path.upper).chain([&path.shard_root]) {
        bytes.extend(node.0);
    }
    bytes
}

#[test]
fn recorded_trees_and_their_proofs() {
    const SHARD: usize = 13;
    let mut proofs = 0;
    for tree in vectors::trees() {
        let mut forest = Forest::new();
        let mut finished: BTreeMap<TwigId, FinishedTwig> = BTreeMap::new();
        let mut leaves = vec![];
        for flush in &tree.flushes {
            let mut changes: [Change; SHARDS] = Default::default();
            let change = &mut changes[SHARD];
            for (deactivated, bytes) in flush.appended() {
                leaves.push(hedgerow_testkit::naive::sha256(&bytes));
                change.push(&bytes);
                change.deactivated.extend(deactivated);
            }
            change.oldest_active = TwigId(flush.evict_twigs_below).first();
            let applied = apply(&mut forest, &changes).unwrap();
            finished.extend(applied.finished.into_iter().map(|twig| (twig.twig, twig)));

            let name = (tree.name, flush.append_to);
            let root = applied.roots.shards[SHARD];
            match flush.clean_root {
                Some(clean) => assert_eq!(root, clean, "{name:?}"),
                None => assert_eq!(Some(&root), flush.clean_twig_roots.as_ref().map(|r| &r[0])),
            }
            if let Some(roots) = &flush.clean_twig_roots {
                for twig in flush.twigs().filter(|_| roots.len() > 1) {
                    let neighbour = TwigId(twig.0 ^ 1);
                    if neighbour.0 > flush.youngest_twig {
                        continue;
                    }
                    let path = forest.path(shard(SHARD), neighbour.first()).unwrap();
                    assert_eq!(path.upper[0], roots[twig.0 as usize], "{name:?} {twig}");
                }
            }
            for proof in &flush.proofs {
                let path = forest.path(shard(SHARD), proof.sn).unwrap();
                let siblings = match &path.left {
                    LeftPart::Here { siblings, .. } => **siblings,
                    LeftPart::Finished { twig, .. } => {
                        let group = proof.sn.0 as usize / 16 * 16;
                        let group = leaves[group..group + 16].try_into().unwrap();
                        left_path_in(&finished[twig].nodes, group, proof.sn.leaf()).unwrap()
                    }
                    LeftPart::Filled { .. } => panic!("nobody looks back"),
                };
                assert_eq!(path.is_active(), proof.active, "{name:?} {}", proof.sn);
                assert_eq!(path.fold(&proof.entry_hash, &siblings).0, root);
                if let Some(bytes) = &proof.proof {
                    assert_eq!(&proof_bytes(&path, &proof.entry_hash, &siblings), bytes);
                    proofs += 1;
                }
            }
        }
    }
    assert!(proofs > 50, "only {proofs} proofs were compared");
}

#[test]
fn the_empty_forest_has_the_null_roots() {
    let forest = Forest::new();
    let null = vectors::nodes();
    assert_eq!(forest.roots().shards, [null.null_twig_root; SHARDS]);
    // What it says of itself is what hashing says.
    let restored = Forest::restore(
        &ScalarHasher,
        std::array::from_fn(|_| hedgerow_merkle::ShardRestore {
            active_pages: vec![Digest::ZERO; 8],
            ..Default::default()
        }),
    );
    assert!(restored.unwrap() == forest);
}
