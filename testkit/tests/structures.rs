//! The recorded entries, nodes, twigs and trees against `types` and the naive trees.

use hedgerow_testkit::naive::{self, ShardTree, Twig};
use hedgerow_testkit::vectors::{self, EntryKind};
use hedgerow_types::entry::{EntryFields, EntryRef, encode_null, encode_sentry};
use hedgerow_types::{Digest, KeyHash, ShardId, TwigId, Version, entry, node};

#[test]
fn recorded_entries_are_encoded_parsed_and_hashed() {
    let entries = vectors::entries();
    assert_eq!(entries.len(), 205);
    for vector in &entries {
        let mut bytes = Vec::new();
        match vector.kind {
            EntryKind::Null => {
                encode_null(&mut bytes);
                assert_eq!(vector.hash, entry::NULL_ENTRY_HASH);
                assert_eq!(vector.hash, naive::null_leaf());
            }
            EntryKind::Sentry => {
                let shard = ShardId::new(vector.shard.unwrap()).unwrap();
                encode_sentry(shard, vector.serial_number.0 as u16, &mut bytes);
            }
            EntryKind::Entry => EntryFields {
                key: &vector.key,
                value: &vector.value,
                next_key_hash: vector.next_key_hash,
                version: Version(vector.version),
                serial_number: vector.serial_number,
                deactivated: &vector.deactivated,
            }
            .encode(&mut bytes)
            .unwrap(),
        }
        assert_eq!(bytes, vector.hashed_bytes());
        assert_eq!(naive::sha256(&bytes), vector.hash);
        assert!(vector.serialized[vector.hashed_len..].iter().all(|byte| *byte == 0));
        assert_eq!(vector.sha256_of_key, KeyHash(naive::sha256(&vector.key).0));

        if vector.kind == EntryKind::Null {
            continue;
        }
        let entry = EntryRef::parse(&bytes).unwrap();
        assert_eq!(entry.key(), vector.key);
        assert_eq!(entry.value(), vector.value);
        assert_eq!(entry.next_key_hash(), vector.next_key_hash);
        assert_eq!(entry.version(), Version(vector.version));
        assert_eq!(entry.serial_number(), vector.serial_number);
        assert!(entry.deactivated().eq(vector.deactivated.iter().copied()));
        assert_eq!(entry.is_sentry(), vector.kind == EntryKind::Sentry);
        if let Some(kh) = entry.sentry_key_hash() {
            assert_eq!(Some(kh), vector.peer_key_hash);
        }
    }
}

#[test]
fn recorded_nodes_are_hashed() {
    let nodes = vectors::nodes();
    assert_eq!(nodes.node_hashes.len(), 128);
    for vector in &nodes.node_hashes {
        assert_eq!(naive::node(vector.level, &vector.left, &vector.right), vector.hash);
        let preimage = node::preimage(vector.level, &vector.left, &vector.right);
        assert_eq!(naive::sha256(&preimage), vector.hash);
    }
    assert_eq!(naive::null_left(), nodes.null_left);
    let right = naive::right_levels(&[0; 256]);
    assert_eq!([right[1][0], right[2][0], right[3][0]], nodes.null_active);
    assert_eq!(naive::null_upper(12), nodes.null_twig_root);
    assert!(nodes.null_upper.keys().copied().eq(13..=63));
    for (level, null) in &nodes.null_upper {
        assert_eq!(naive::null_upper(*level), *null, "level {level}");
    }
}

#[test]
fn recorded_twigs_are_hashed() {
    let twigs = vectors::twigs();
    assert_eq!(twigs.len(), 27);
    for vector in &twigs {
        let bits: [u8; 256] = vector.active_bits[..].try_into().unwrap();
        let twig = Twig::new(&vector.leaves(), &bits);
        let leftmost: Vec<Digest> = twig.left.iter().map(|nodes| nodes[0]).collect();
        assert_eq!(leftmost, vector.left_nodes_leftmost_by_level, "{}", vector.name);
        assert_eq!(twig.left_root(), vector.left_root, "{}", vector.name);
        assert_eq!(twig.right[1], vector.active_bits_mtl1, "{}", vector.name);
        assert_eq!(twig.right[2], vector.active_bits_mtl2, "{}", vector.name);
        assert_eq!(twig.right_root(), vector.active_bits_mtl3, "{}", vector.name);
        assert_eq!(twig.root, vector.twig_root, "{}", vector.name);
    }
}

#[test]
fn recorded_trees_have_the_same_roots_and_paths() {
    let (mut trees, mut roots, mut proofs) = (0, 0, 0);
    for vector in vectors::trees() {
        trees += 1;
        let mut tree = ShardTree::default();
        for flush in &vector.flushes {
            let at = format!("{} at {}", vector.name, flush.append_to);
            assert_eq!(tree.leaves.len() as u64, flush.append_from, "{at}");
            for (deactivated, bytes) in flush.appended() {
                tree.append(naive::sha256(&bytes), &deactivated);
            }
            assert_eq!(tree.twig_count() as u64, flush.youngest_twig + 1, "{at}");
            let twig_roots = tree.twig_roots();
            let root = naive::shard_root(&twig_roots);
            if let Some(recorded) = &flush.clean_twig_roots {
                assert_eq!(twig_roots, *recorded, "{at}");
            }
            match flush.clean_root {
                Some(recorded) => assert_eq!(root, recorded, "{at}"),
                None => assert_eq!(root, twig_roots[0], "{at}"),
            }
            roots += 1;
            for proof in &flush.proofs {
                let sn = proof.sn;
                let leaf = tree.leaves.get(sn.0 as usize).copied();
                let leaf = leaf.unwrap_or_else(naive::null_leaf);
                assert_eq!(leaf, proof.entry_hash, "{at}, {sn}");
                let active = tree.active.get(sn.0 as usize).copied().unwrap_or(false);
                assert_eq!(active, proof.active, "{at}, {sn}");
                if let Some(bytes) = &proof.proof {
                    let path = naive::ShardPath::new(sn, &tree.twig(sn.twig()), &twig_roots);
                    assert_eq!(path.to_bytes(&leaf, &root), *bytes, "{at}, {sn}");
                    proofs += 1;
                }
            }
        }
        assert_eq!(tree.root(), naive::shard_root(&tree.twig_roots()));
        assert_eq!(tree.active_bits(TwigId(0)).len(), 256);
    }
    assert_eq!(trees, 13);
    assert!(roots > 100 && proofs > 100, "{roots} roots, {proofs} proofs");
}
