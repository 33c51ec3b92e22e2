//! Provers that lie: nothing but a true answer is ever accepted, and nothing panics.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{Handmade, encode, entry, neighbour};
use hedgerow_proof::{
    ClaimedEntry, DEFAULT_MAX_PROOF_LEN, MIN_PROOF_LEN, Proof, ProofError, ProofRef, SerialPath,
    verify, verify_with_limit,
};
use hedgerow_testkit::Model;
use hedgerow_testkit::generate::{BlockGen, GenShape, SeedNote};
use hedgerow_testkit::model::key_hash;
use hedgerow_types::entry::{EntryError, EntryRef, encode_null, encode_sentry};
use hedgerow_types::{CompactionRule, Digest, KeyHash, SerialNumber, ShardId};

/// A store with some history, much of it dead, and its keys.
fn store(seed: u64) -> (Model, Vec<Vec<u8>>) {
    let shape = GenShape { keys: 120, max_value_len: 300, ..GenShape::default() };
    let mut blocks = BlockGen::new(seed, shape);
    let mut model = Model::new(CompactionRule::new(1, 1, 1).unwrap());
    for _ in 0..40 {
        let (height, change_sets) = blocks.net();
        model.apply_net(height, &change_sets);
    }
    (model, blocks.keys().to_vec())
}

/// What a proof of one entry claims about it.
fn only_entry(proof: &[u8]) -> ClaimedEntry<'_> {
    let entries: Vec<_> = ProofRef::decode(proof, usize::MAX).unwrap().entries().collect();
    assert_eq!(entries.len(), 1);
    entries[0]
}

#[test]
fn every_key_proves_its_own_answer_and_no_other() {
    let seed = 1;
    let _note = SeedNote::new(seed);
    let (mut model, keys) = store(seed);
    let root = model.state_root();
    let proofs: Vec<Proof> = keys.iter().map(|key| encode(&model.prove(key))).collect();
    let (mut present, mut absent, mut refused) = (0, 0, 0);
    for (key, own) in keys.iter().zip(&proofs) {
        let truth = model.get(key);
        assert_eq!(verify(&root, key, own), Ok(truth));
        present += u32::from(truth.is_some());
        absent += u32::from(truth.is_none());
        // Another key's proof may settle this key too (a common predecessor), but never wrongly.
        for other in &proofs {
            match verify(&root, key, other) {
                Ok(answer) => {
                    assert_eq!(answer, truth);
                    let entry = only_entry(other).entry;
                    let (shard, sn) = model.covering(key);
                    assert_eq!(entry, model.entry(shard, sn));
                }
                Err(error) => {
                    assert_eq!(error, ProofError::WrongKey);
                    refused += 1;
                }
            }
        }
    }
    assert!(present > 10 && absent > 10 && refused > 1000, "{present}, {absent}, {refused}");
}

#[test]
fn a_present_key_is_not_absent_between_its_neighbours() {
    let (mut model, keys) = store(2);
    let root = model.state_root();
    let mut tried = 0;
    for key in &keys {
        if model.get(key).is_none() {
            continue;
        }
        // Its predecessor's next key hash is exactly this key's hash: the strict bound refuses it.
        let (shard, kh) = (key_hash(key).shard(), key_hash(key));
        let before =
            model.active_entries(shard).take_while(|(other, _)| *other < kh).last().unwrap();
        assert_eq!(model.entry(shard, before.1).next_key_hash(), kh);
        let proof = encode(&model.prove_sn(shard, before.1));
        assert_eq!(verify(&root, key, &proof), Err(ProofError::WrongKey));
        tried += 1;
    }
    assert!(tried > 10);
}

#[test]
fn an_outdated_entry_proves_nothing() {
    let (mut model, keys) = store(3);
    let root = model.state_root();
    let (mut own, mut neighbours) = (0, 0);
    'all: for shard in ShardId::all() {
        for sn in (0..model.next_sn(shard).0).map(SerialNumber) {
            let entry = model.entry(shard, sn);
            let of_a_key = entry.serial_number().0 >= 4096;
            if model.is_active(shard, sn) || !of_a_key {
                continue;
            }
            let key = entry.key().to_vec();
            let span =
                entry.sentry_key_hash().unwrap_or_else(|| key_hash(&key))..entry.next_key_hash();
            if own == 400 {
                break 'all;
            }
            let proof = encode(&model.prove_sn(shard, sn));
            assert_eq!(verify(&root, &key, &proof), Err(ProofError::Inactive));
            own += 1;
            for key in keys.iter().filter(|key| span.contains(&key_hash(key))) {
                assert_eq!(verify(&root, key, &proof), Err(ProofError::Inactive));
                neighbours += 1;
            }
        }
    }
    assert!(own > 100 && neighbours > 10, "{own}, {neighbours}");
}

/// A present and an absent key, with their proofs and the root.
fn two_proofs() -> (Digest, [(Vec<u8>, Proof); 2]) {
    let (mut model, keys) = store(4);
    let root = model.state_root();
    let present = keys.iter().find(|key| model.get(key).is_some_and(|v| v.len() > 5)).unwrap();
    let absent = keys.iter().find(|key| model.get(key).is_none()).unwrap();
    let proof_of = |key: &Vec<u8>, model: &mut Model| (key.clone(), encode(&model.prove(key)));
    (root, [proof_of(present, &mut model), proof_of(absent, &mut model)])
}

#[test]
fn no_bit_of_a_proof_can_be_flipped() {
    let (root, proofs) = two_proofs();
    for (key, proof) in proofs {
        let mut bytes = proof.into_bytes();
        assert!(verify(&root, &key, &bytes).is_ok());
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(&root, &key, &bytes).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn no_byte_can_be_cut_off_added_or_moved() {
    let (root, proofs) = two_proofs();
    for (key, proof) in proofs {
        for len in 0..proof.len() {
            assert!(verify(&root, &key, &proof[..len]).is_err(), "cut to {len}");
            assert!(verify(&root, &key, &proof[len + 1..]).is_err(), "without the first {len}");
        }
        for extra in 1..=64 {
            for fill in [0, 1, 0xFF] {
                let longer = [&proof[..], &vec![fill; extra]].concat();
                assert!(verify(&root, &key, &longer).is_err(), "{extra} bytes more");
                let longer = [&vec![fill; extra], &proof[..]].concat();
                assert!(verify(&root, &key, &longer).is_err(), "{extra} bytes before");
            }
        }
        // Nodes left out, doubled, swapped.
        let nodes = (proof.len() - only_entry(&proof).entry.hashed_bytes().len() - 8) / 32;
        let first = proof.len() - 32 * nodes;
        for i in 0..nodes {
            let at = first + 32 * i;
            let without = [&proof[..at], &proof[at + 32..]].concat();
            assert!(verify(&root, &key, &without).is_err(), "without node {i}");
            let doubled = [&proof[..at + 32], &proof[at..]].concat();
            assert!(verify(&root, &key, &doubled).is_err(), "node {i} twice");
            for j in 0..i {
                let (a, b) = (first + 32 * j, at);
                if proof[a..a + 32] == proof[b..b + 32] {
                    continue;
                }
                let mut swapped = proof.to_vec();
                for byte in 0..32 {
                    swapped.swap(a + byte, b + byte);
                }
                assert!(verify(&root, &key, &swapped).is_err(), "nodes {i} and {j} swapped");
            }
        }
    }
}

#[test]
fn another_root_proves_nothing() {
    let (root, proofs) = two_proofs();
    let (mut later, keys) = store(4);
    let key = keys[0].clone();
    later.apply_net(41, &[vec![(key, Some(b"later".to_vec()))]]);
    for (key, proof) in &proofs {
        let wrong = Err(ProofError::WrongRoot { found: root });
        assert_eq!(verify(&later.state_root(), key, proof), wrong);
        assert_eq!(verify(&Digest::ZERO, key, proof), wrong);
        let roots = ProofRef::decode(proof, usize::MAX).unwrap().roots();
        assert_eq!(roots.state, root);
        let shard_root = roots.shards[only_entry(proof).shard.index()].unwrap();
        assert_eq!(verify(&shard_root, key, proof), wrong);
    }
}

#[test]
fn keys_and_lengths_have_limits() {
    let (root, [(key, proof), _]) = two_proofs();
    assert_eq!(verify(&root, b"", &proof), Err(ProofError::KeyLength(0)));
    assert_eq!(verify(&root, &[1; 256], &proof), Err(ProofError::KeyLength(256)));
    let len = proof.len();
    assert!(verify_with_limit(&root, &key, &proof, len).is_ok());
    let refused = Err(ProofError::TooLong { len, max: len - 1 });
    assert_eq!(verify_with_limit(&root, &key, &proof, len - 1), refused);
    let too_long = vec![2; DEFAULT_MAX_PROOF_LEN + 1];
    assert!(matches!(verify(&root, &key, &too_long), Err(ProofError::TooLong { .. })));
    let mut wrong_version = proof.to_vec();
    for version in [0, 1, 3, 255] {
        wrong_version[0] = version;
        assert_eq!(verify(&root, &key, &wrong_version), Err(ProofError::UnknownVersion(version)));
    }
}

#[test]
fn a_shard_of_one_twig_has_proofs_without_upper_siblings() {
    let key = b"only";
    let kh = key_hash(key);
    let mut state = Handmade::new(kh.shard());
    let at = state.append(entry(key, b"", KeyHash::end_of(kh.shard()), 0));
    let proof = state.prove(at).unwrap();
    assert_eq!(proof.len(), MIN_PROOF_LEN + key.len() - 1);
    assert_eq!(verify(&state.root(), key, &proof), Ok(Some(&b""[..])));
    // In the engines' own encoding it has no form.
    let path = state.path(at);
    let serial = SerialPath::assemble(
        at,
        state.leaf(at),
        &path.left,
        &path.page,
        &path.right,
        &path.upper,
        state.shard_root(),
    );
    assert_eq!(serial, Err(ProofError::PathLength { len: 552 }));
    let bytes = path.to_bytes(&state.leaf(at), &state.shard_root());
    assert_eq!(SerialPath::decode(&bytes), Err(ProofError::PathLength { len: 552 }));
}

#[test]
fn every_place_in_every_small_tree_proves_itself_and_only_itself() {
    for count in [1, 2, 255, 256, 257, 2048, 2049, 4097, 6200] {
        let key = b"here";
        let shard = key_hash(key).shard();
        for at in [0, 1, 7, 255, 256, 511, 1024, 2047, 2048, 4096, 6143, 6144].map(SerialNumber) {
            if at.0 >= count {
                continue;
            }
            let mut state = Handmade::new(shard);
            state.fill(at.0);
            state.append(entry(key, b"value", KeyHash::MAX, at.0));
            state.fill(count);
            let proof = state.prove(at).unwrap();
            assert_eq!(verify(&state.root(), key, &proof), Ok(Some(&b"value"[..])), "{at}/{count}");
            state.deactivate(at);
            let proof = state.prove(at).unwrap();
            assert_eq!(verify(&state.root(), key, &proof), Err(ProofError::Inactive));
        }
    }
}

#[test]
fn a_serial_number_beyond_the_path_is_refused() {
    // An entry that stands at leaf 5 and says so, except for a bit above the path: the sides of
    // all siblings are the same, so only the explicit check can refuse it.
    let key = b"high";
    let shard = key_hash(key).shard();
    for (count, levels) in [(6, 0), (2049, 1), (5000, 2)] {
        for bit in 11 + levels..64 {
            let claimed = 5 | 1 << bit;
            let mut state = Handmade::new(shard);
            state.fill(5);
            let at = state.append(entry(key, b"value", KeyHash::MAX, claimed));
            if bit % 16 == 11 + levels || bit > 61 {
                state.fill(count);
                let path = state.path(at);
                assert_eq!(path.upper.len(), levels as usize);
                let sn = SerialNumber(claimed);
                let refused = ProofError::Position { sn, upper_levels: path.upper.len() };
                assert_eq!(state.prove(at), Err(refused));
                // Past the builder, to the verifier itself.
                let honest =
                    common::assemble(&entry(key, b"value", KeyHash::MAX, 5), &path, &state.state())
                        .unwrap();
                let mut bytes = honest.into_bytes();
                let lie = entry(key, b"value", KeyHash::MAX, claimed);
                bytes[8..8 + lie.len()].copy_from_slice(&lie);
                assert_eq!(verify(&state.root(), key, &bytes), Err(refused));
                if levels > 0 {
                    let leaf = state.leaf(at);
                    let mut bytes = path.to_bytes(&leaf, &state.shard_root());
                    assert_eq!(
                        SerialPath::decode(&bytes).unwrap().verify(&state.shard_root()),
                        Ok(())
                    );
                    bytes[..8].copy_from_slice(&claimed.to_le_bytes());
                    assert_eq!(SerialPath::decode(&bytes), Err(refused));
                }
            }
        }
    }
}

#[test]
fn absence_holds_strictly_between_the_two_hashes_only() {
    let (key, wanted) = (b"wanted", key_hash(b"wanted"));
    let shard = wanted.shard();
    // The entry of another key, made to stand before the wanted one.
    let before = (0_u32..)
        .map(|i| i.to_le_bytes())
        .find(|key| key_hash(key).shard() == shard && key_hash(key) < wanted)
        .unwrap();
    let after = (0_u32..)
        .map(|i| i.to_le_bytes())
        .find(|key| key_hash(key).shard() == shard && key_hash(key) > wanted)
        .unwrap();
    let answer = |own: &[u8], next: KeyHash| {
        let mut state = Handmade::new(shard);
        let at = state.append(entry(own, b"v", next, 0));
        let proof = state.prove(at).unwrap();
        verify(&state.root(), key, &proof).map(|answer| answer.map(<[u8]>::to_vec))
    };
    assert_eq!(answer(&before, neighbour(wanted, true)), Ok(None));
    assert_eq!(answer(&before, KeyHash::end_of(shard)), Ok(None));
    assert_eq!(answer(&before, wanted), Err(ProofError::WrongKey));
    assert_eq!(answer(&before, neighbour(wanted, false)), Err(ProofError::WrongKey));
    assert_eq!(answer(&after, KeyHash::MAX), Err(ProofError::WrongKey));
    assert_eq!(answer(&after, neighbour(wanted, true)), Err(ProofError::WrongKey));
}

#[test]
fn absence_is_proved_by_the_keys_own_shard_only() {
    // An entry of shard 0 that points past the end of its shard.
    let own = (0_u32..).map(|i| i.to_le_bytes()).find(|key| key_hash(key).0[0] >> 4 == 0).unwrap();
    let key = (0_u32..).map(|i| i.to_le_bytes()).find(|key| key_hash(key).0[0] >> 4 == 9).unwrap();
    let mut state = Handmade::new(ShardId::new(0).unwrap());
    let at = state.append(entry(&own, b"v", KeyHash::MAX, 0));
    let proof = state.prove(at).unwrap();
    assert_eq!(verify(&state.root(), &own, &proof), Ok(Some(&b"v"[..])));
    assert_eq!(verify(&state.root(), &key, &proof), Err(ProofError::WrongKey));
    // And an entry that stands in a shard that is not its key's.
    let mut state = Handmade::new(ShardId::new(9).unwrap());
    let at = state.append(entry(&own, b"v", KeyHash::MAX, 0));
    let proof = state.prove(at).unwrap();
    let refused = verify(&state.root(), &own, &proof);
    assert!(matches!(refused, Err(ProofError::WrongRoot { .. })), "{refused:?}");
}

#[test]
fn a_sentry_is_never_a_keys_entry() {
    let mut model = Model::new(CompactionRule::QMDB);
    let root = model.state_root();
    for shard in ShardId::all() {
        let mut bytes = Vec::new();
        encode_sentry(shard, 77, &mut bytes);
        let sentry = EntryRef::parse(&bytes).unwrap();
        let proof = encode(&model.prove_sn(shard, SerialNumber(77)));
        assert_eq!(verify(&root, sentry.key(), &proof), Err(ProofError::WrongKey));
        // The key of the same bytes is absent, and provably so: by its hash.
        let proof = encode(&model.prove(sentry.key()));
        assert_eq!(verify(&root, sentry.key(), &proof), Ok(None));
    }
    // With a value, a key of a sentry's shape is a key like any other.
    let key = KeyHash::sentry(0x1234).0;
    model.apply_net(1, &[vec![(key.to_vec(), Some(b"mine".to_vec()))]]);
    let proof = encode(&model.prove(&key));
    assert_eq!(verify(&model.state_root(), &key, &proof), Ok(Some(&b"mine"[..])));
}

#[test]
fn an_empty_value_is_a_value() {
    let mut model = Model::new(CompactionRule::QMDB);
    model.apply_net(1, &[vec![(b"empty".to_vec(), Some(vec![]))]]);
    let root = model.state_root();
    let proof = encode(&model.prove(b"empty"));
    assert_eq!(verify(&root, b"empty", &proof), Ok(Some(&b""[..])));
    // Its own key hash is H(key), not the padded prefix that a sentry would have.
    assert_eq!(only_entry(&proof).key_hash(), key_hash(b"empty"));
}

#[test]
fn an_unoccupied_leaf_is_no_entry() {
    let mut null = Vec::new();
    encode_null(&mut null);
    let mut state = Handmade::new(ShardId::new(0).unwrap());
    state.fill(3);
    let path = state.path(SerialNumber(3));
    let refused = common::assemble(&null, &path, &state.state());
    assert_eq!(refused, Err(ProofError::Entry(EntryError::KeyLength(0))));
}

#[test]
fn a_proof_by_serial_number_is_strict_too() {
    let (mut model, _) = store(5);
    let roots = model.roots();
    let shard = ShardId::new(3).unwrap();
    let root = roots[3];
    for sn in [0, 4096, model.next_sn(shard).0 - 1].map(SerialNumber) {
        let leaf = model.leaves(shard)[sn.0 as usize];
        let mut bytes = model.path(shard, sn).to_bytes(&leaf, &root);
        let path = SerialPath::decode(&bytes).unwrap();
        assert_eq!(path.verify(&root), Ok(()));
        assert_eq!(path.is_active(), model.is_active(shard, sn));
        assert_eq!(path.claimed_root(), root);
        assert_eq!(path.to_bytes(), bytes);
        let entry = model.entry(shard, sn);
        assert_eq!(path.check_entry(entry.hashed_bytes()), Ok(entry));
        let other = model.entry(shard, SerialNumber(5));
        assert_eq!(path.check_entry(other.hashed_bytes()), Err(ProofError::WrongEntry));
        let forged = common::entry(b"forged", b"value", KeyHash::MAX, sn.0);
        assert_eq!(path.check_entry(&forged), Err(ProofError::WrongEntry));
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let refused = SerialPath::decode(&bytes).and_then(|path| path.verify(&root));
            assert!(refused.is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..bytes.len() {
            let refused = SerialPath::decode(&bytes[..len]).and_then(|path| path.verify(&root));
            assert!(refused.is_err(), "cut to {len}");
        }
        for extra in 1..=64 {
            let longer = [&bytes[..], &vec![0; extra]].concat();
            let refused = SerialPath::decode(&longer).and_then(|path| path.verify(&root));
            assert!(refused.is_err(), "{extra} bytes more");
        }
    }
    for nodes in [17 + 51, 17 + 52, 10_000] {
        let decoded = SerialPath::decode(&vec![0; 8 + 32 * nodes]);
        assert_eq!(decoded.is_ok(), nodes == 17 + 51);
    }
}

#[test]
fn a_proof_of_one_entry_has_the_nodes_that_its_levels_need() {
    let entry = entry(b"key", b"value", KeyHash::MAX, 0);
    let shard = 1_u16 << key_hash(b"key").shard().index();
    for levels in [0, 1, 21, 50, 51, 52, 255_u8] {
        // A page, and 11 + 3 + 4 siblings beside the upper ones.
        let right = usize::from(levels) + 19;
        for nodes in [0, 1, 18, 19, 20, right - 1, right, right + 1, 10_000] {
            let header = [&[2, 1, 0, 0, 0][..], &shard.to_le_bytes(), &[levels]].concat();
            let bytes = [&header[..], &entry, &vec![0; 32 * nodes]].concat();
            let decoded = ProofRef::decode(&bytes, usize::MAX);
            if levels > 51 {
                assert_eq!(decoded, Err(ProofError::UpperLevels(levels)));
            } else if nodes == right {
                let decoded = decoded.unwrap();
                assert_eq!(decoded.upper_levels(key_hash(b"key").shard()), Some(levels));
                assert_eq!(only_entry(&bytes).entry.hashed_bytes(), entry);
            } else {
                let need = 8 + entry.len() + 32 * right;
                assert_eq!(decoded, Err(ProofError::Length { need, have: bytes.len() }));
            }
        }
    }
}

#[test]
fn an_entry_at_the_wrong_serial_number_is_not_the_paths() {
    let mut state = Handmade::new(ShardId::new(0).unwrap());
    state.fill(2048);
    let lie = entry(b"key", b"value", KeyHash::MAX, 7);
    let at = state.append(lie.clone());
    let path = state.path(at);
    let bytes = path.to_bytes(&state.leaf(at), &state.shard_root());
    let path = SerialPath::decode(&bytes).unwrap();
    assert_eq!(path.verify(&state.shard_root()), Ok(()));
    assert_eq!(path.check_entry(&lie), Err(ProofError::WrongEntry));
}
