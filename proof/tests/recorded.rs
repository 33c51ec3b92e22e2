//! The recorded proofs of QMDB and skippydb: as they are, and carried over into proofs by key.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use hedgerow_proof::{Proof, ProofError, SerialPath, verify};
use hedgerow_testkit::naive::{self, ShardPath};
use hedgerow_testkit::vectors::{self, ProofKind};
use hedgerow_types::{Digest, entry::NULL_ENTRY_HASH};

/// The siblings in recorded bytes, read by position and not by the code under test.
fn siblings(bytes: &[u8], path: &SerialPath) -> ShardPath {
    let nodes: Vec<[u8; 32]> =
        bytes[40..].chunks_exact(32).map(|node| node.try_into().unwrap()).collect();
    ShardPath {
        sn: path.sn(),
        left: std::array::from_fn(|i| Digest(nodes[i])),
        page: nodes[11],
        right: std::array::from_fn(|i| Digest(nodes[12 + i])),
        upper: nodes[15..nodes.len() - 1].iter().map(|node| Digest(*node)).collect(),
    }
}

#[test]
fn every_recorded_proof_verifies_and_says_what_was_recorded() {
    let (mut inclusions, mut exclusions, mut inactive, mut by_sn) = (0, 0, 0, 0);
    for set in vectors::all_sets().iter().filter(|set| set.has_proofs) {
        let roots = set.blocks().last().unwrap().clean_roots;
        let root = naive::state_root(&roots);
        for vector in set.proofs() {
            let path = SerialPath::decode(&vector.proof).unwrap();
            assert_eq!(path.to_bytes(), vector.proof);
            assert_eq!(path.sn(), vector.sn);
            assert_eq!(path.leaf(), vector.leaf);
            assert_eq!(path.is_active(), vector.active);
            assert_eq!(path.verify(&vector.shard_root), Ok(()));
            assert_eq!(roots[vector.shard.index()], vector.shard_root);
            let other_root = roots[(vector.shard.index() + 1) % 16];
            let wrong = ProofError::WrongRoot { found: vector.shard_root };
            assert_eq!(path.verify(&other_root), Err(wrong));

            // The same path as a proof by key.
            let by_key = vector.entry_hashed_bytes().map(|bytes| {
                assert_eq!(path.check_entry(bytes).unwrap().serial_number(), vector.sn);
                let siblings = siblings(&vector.proof, &path);
                let state = naive::state_path(&roots, vector.shard);
                common::assemble(bytes, &siblings, &state).unwrap()
            });
            match &vector.kind {
                ProofKind::Inclusion { key } => {
                    inclusions += 1;
                    let proof: Proof = by_key.unwrap();
                    let entry = path.check_entry(vector.entry_hashed_bytes().unwrap()).unwrap();
                    assert_eq!(verify(&root, key, &proof), Ok(Some(entry.value())));
                }
                ProofKind::Exclusion { absent_key } => {
                    exclusions += 1;
                    assert_eq!(verify(&root, absent_key, &by_key.unwrap()), Ok(None));
                }
                ProofKind::Inactive => {
                    inactive += 1;
                    assert!(!path.is_active());
                }
                ProofKind::BySerialNumber => {
                    by_sn += 1;
                    assert!(vector.entry.is_none() || path.leaf() != NULL_ENTRY_HASH);
                    if let Some(proof) = by_key.filter(|_| !vector.active) {
                        let entry = vector.entry_hashed_bytes().unwrap();
                        let key = path.check_entry(entry).unwrap().key();
                        assert_eq!(verify(&root, key, &proof), Err(ProofError::Inactive));
                    }
                }
            }
        }
    }
    assert_eq!([inclusions, exclusions, inactive, by_sn], [105, 105, 63, 84]);
}

#[test]
fn recorded_trees_prove_their_leaves() {
    let mut proofs = 0;
    for tree in vectors::trees() {
        for flush in &tree.flushes {
            for vector in &flush.proofs {
                let (Some(bytes), Some(root)) = (&vector.proof, &flush.clean_root) else {
                    continue;
                };
                let path = SerialPath::decode(bytes).unwrap();
                assert_eq!(path.verify(root), Ok(()), "{}", tree.name);
                assert_eq!(path.sn(), vector.sn);
                assert_eq!(path.leaf(), vector.entry_hash);
                assert_eq!(path.is_active(), vector.active);
                proofs += 1;
            }
        }
    }
    assert!(proofs > 100);
}
