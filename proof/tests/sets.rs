//! Proofs of several entries: their bytes, what they are put together from, and the verifier's arguments.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::path_of;
use hedgerow_proof::{
    EntryPath, Proof, ProofError, ProofRef, Sha2, Sha256, Trusted, Verified, Verifier, verify,
    verify_many,
};
use hedgerow_testkit::Model;
use hedgerow_testkit::generate::{BlockGen, GenShape, SeedNote};
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::{CompactionRule, Digest, SerialNumber, ShardId};
use std::cell::Cell;

/// A store with some history, and its keys.
fn store(seed: u64, blocks: usize) -> (Model, Vec<Vec<u8>>) {
    let shape = GenShape { keys: 120, max_value_len: 100, ..GenShape::default() };
    let mut all = BlockGen::new(seed, shape);
    let mut model = Model::new(CompactionRule::new(1, 1, 1).unwrap());
    for _ in 0..blocks {
        let (height, change_sets) = all.net();
        model.apply_net(height, &change_sets);
    }
    (model, all.keys().to_vec())
}

/// Entries anywhere, active or not, in no order and some twice.
fn any_paths(model: &mut Model, rng: &mut SplitMix64, count: u64) -> Vec<EntryPath> {
    let shards: Vec<_> = ShardId::all().collect();
    let near = rng.below(2) == 0;
    (0..count)
        .map(|_| {
            let shard = shards[rng.below(if near { 2 } else { 16 }) as usize];
            let end = model.next_sn(shard).0;
            let sn = if near { 4096 - 20 + rng.below(40) } else { rng.below(end) };
            path_of(&model.prove_sn(shard, SerialNumber(sn.min(end - 1))))
        })
        .collect()
}

#[test]
fn any_entries_of_a_tree_lead_to_its_root() {
    for seed in 0..60 {
        let _note = SeedNote::new(seed);
        let mut rng = SplitMix64::new(seed);
        let (mut model, _) = store(seed % 3, 12);
        let root = model.state_root();
        let count = [1, 2, 3, 5, 20, 60][rng.below(6) as usize];
        let mut paths = any_paths(&mut model, &mut rng, count);
        let proof = Proof::assemble(&paths).unwrap();
        let decoded = ProofRef::decode(&proof, proof.len()).unwrap();
        let roots = decoded.roots();
        assert_eq!(roots.state, root);
        let shard_roots = model.roots();
        for (shard, found) in ShardId::all().zip(roots.shards) {
            let has = decoded.entries().any(|claimed| claimed.shard == shard);
            assert_eq!(found, has.then(|| shard_roots[shard.index()]));
            assert_eq!(decoded.upper_levels(shard).is_some(), has);
        }
        // The entries, each once, with what the model says of them.
        let mut bytes = 0;
        let mut places = Vec::new();
        for claimed in decoded.entries() {
            let sn = claimed.entry.serial_number();
            assert_eq!(claimed.entry, model.entry(claimed.shard, sn));
            assert_eq!(claimed.active, model.is_active(claimed.shard, sn));
            places.push((claimed.shard, sn));
            bytes += claimed.entry.hashed_bytes().len();
        }
        assert!(places.windows(2).all(|two| two[0] < two[1]));
        assert!(places.len() <= paths.len());
        let levels: [u8; 16] = std::array::from_fn(|i| {
            decoded.upper_levels(ShardId::new(i).unwrap()).unwrap_or_default()
        });
        assert_eq!(Proof::encoded_len(&places, &levels, bytes), proof.len());
        // In whatever order they come.
        paths.reverse();
        paths.extend_from_within(..1);
        assert_eq!(Proof::assemble(&paths).unwrap(), proof);
    }
}

#[test]
fn paths_that_are_not_of_one_tree_are_refused() {
    let (mut before, keys) = store(7, 12);
    let mut after = before.clone();
    let change = vec![(keys[0].clone(), Some(b"changed".to_vec()))];
    after.apply_net(before.height() + 1, &[change]);
    let (mut refused, mut harmless) = (0, 0);
    for key in &keys[1..] {
        let old = path_of(&before.prove(&keys[0]));
        let new = path_of(&after.prove(key));
        if before.covering(&keys[0]) == after.covering(key) {
            continue;
        }
        for pair in [[old.clone(), new.clone()], [new, old]] {
            // Where nothing is taken of the newer path but what the older tree has too, the proof is one of the
            // older tree. What it leads to is the root of the first path, in any case.
            match Proof::assemble(&pair) {
                Ok(proof) => {
                    harmless += 1;
                    let root_of = |proof: &Proof| ProofRef::decode(proof, 1 << 20).unwrap().root();
                    assert_eq!(root_of(&proof), root_of(&Proof::assemble(&pair[..1]).unwrap()));
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error, ProofError::Contradiction);
                }
            }
        }
    }
    assert!(refused > 100, "{refused} refused, {harmless} harmless");
    // One place, two entries; one shard, two heights of its tree; one page, two contents.
    let path = path_of(&before.prove(&keys[0]));
    let next = {
        let (shard, sn) = before.covering(&keys[0]);
        path_of(&before.prove_sn(shard, SerialNumber(sn.0 ^ 1)))
    };
    let mut forged = path.clone();
    let last_of_value = path.entry.len() - 49 - 40;
    forged.entry[last_of_value] ^= 1;
    assert_eq!(Proof::assemble(&[path.clone(), forged]), Err(ProofError::Contradiction));
    let mut higher = next.clone();
    higher.upper.push(Digest::ZERO);
    assert_eq!(Proof::assemble(&[path.clone(), higher]), Err(ProofError::Contradiction));
    let mut page = next.clone();
    page.page[31] ^= 1;
    assert_eq!(Proof::assemble(&[path.clone(), page]), Err(ProofError::Contradiction));
    assert!(Proof::assemble(&[path.clone(), next]).is_ok());
    assert_eq!(Proof::assemble(&[]), Err(ProofError::NoEntries));
    let mut deep = path;
    deep.upper.resize(52, Digest::ZERO);
    assert_eq!(Proof::assemble(&[deep]), Err(ProofError::UpperLevels(52)));
}

#[test]
fn no_bit_of_a_proof_of_many_can_be_flipped() {
    let (mut model, keys) = store(2, 12);
    let root = model.state_root();
    let keys = &keys[..5];
    let paths: Vec<_> = keys.iter().map(|key| path_of(&model.prove(key))).collect();
    let proof = Proof::assemble(&paths).unwrap();
    let values: Vec<_> = keys.iter().map(|key| model.get(key)).collect();
    assert_eq!(verify_many(&root, keys, &proof), Ok(values));
    let mut bytes = proof.into_bytes();
    for bit in 0..8 * bytes.len() {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(verify_many(&root, keys, &bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for len in 0..bytes.len() {
        assert!(verify_many(&root, keys, &bytes[..len]).is_err(), "cut to {len}");
    }
}

/// Counts what it hashes.
#[derive(Default)]
struct Counting(Cell<usize>);

impl Sha256 for Counting {
    fn sha256(&self, bytes: &[u8]) -> Digest {
        self.0.set(self.0.get() + 1);
        Sha2.sha256(bytes)
    }
}

#[test]
fn a_verifier_hashes_what_it_must_and_with_its_own_function() {
    let (mut model, keys) = store(3, 12);
    let root = model.state_root();
    let counting = Counting::default();
    let verifier = Verifier::with_hash(&counting);
    for key in &keys {
        let proof = path_of(&model.prove(key));
        let levels = proof.upper.len();
        let proof = Proof::assemble(&[proof]).unwrap();
        counting.0.set(0);
        let verified = verifier.verify_entry(root, key, &proof).unwrap();
        assert_eq!(verified.value(), model.get(key));
        assert_eq!((verified.shard(), verified.entry().serial_number()), model.covering(key));
        // The entry, its key if it is not a sentry's; 11 + 3 + 1 levels of the twig, the upper ones, 4 of the
        // state; and the key asked for, if it is absent.
        let own = usize::from(!verified.entry().is_sentry());
        let asked = usize::from(verified.value().is_none());
        assert_eq!(counting.0.get(), 1 + own + 15 + levels + 4 + asked);
    }
}

#[test]
fn the_list_of_shard_roots_is_as_good_as_the_state_root() {
    let (mut model, keys) = store(3, 12);
    let (root, mut shards) = (model.state_root(), model.roots());
    let key = &keys[0];
    let proof = Proof::assemble(&[path_of(&model.prove(key))]).unwrap();
    let verifier = Verifier::new();
    assert_eq!(Trusted::from(root), Trusted::State(root));
    assert_eq!(verifier.verify(&shards, key, &proof), Ok(model.get(key)));
    assert_eq!(verifier.verify(root, key, &proof), Ok(model.get(key)));
    for i in 0..16 {
        shards[i].0[0] ^= 1;
        let wrong = Err(ProofError::WrongRoot { found: root });
        assert_eq!(verifier.verify(&shards, key, &proof), wrong);
        shards[i].0[0] ^= 1;
    }
    assert_eq!(hedgerow_proof::state_root(&shards), root);
}

#[test]
fn a_batch_gives_an_answer_to_each() {
    let (mut model, keys) = store(3, 12);
    let root = model.state_root();
    let proofs: Vec<_> =
        keys.iter().map(|key| Proof::assemble(&[path_of(&model.prove(key))]).unwrap()).collect();
    let verifier = Verifier::new();
    let pairs = keys.iter().zip(&proofs).map(|(key, proof)| (key, proof.as_bytes()));
    let values: Result<Vec<_>, _> = verifier.verify_batch(&root, pairs.clone()).collect();
    assert_eq!(values.unwrap(), keys.iter().map(|key| model.get(key)).collect::<Vec<_>>());
    let none: [u8; 0] = [];
    let with_a_bad_one = pairs.chain([(&keys[0], &none[..])]);
    let answers: Vec<_> = verifier.verify_batch(&root, with_a_bad_one).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 1);
    assert!(answers[keys.len()].is_err());
}

#[test]
fn limits_are_the_callers() {
    let (mut model, keys) = store(3, 12);
    let root = model.state_root();
    let paths: Vec<_> = keys.iter().map(|key| path_of(&model.prove(key))).collect();
    let proof = Proof::assemble(&paths).unwrap();
    let len = proof.len();
    let many = |limit| Verifier::new().with_limit(limit).verify_many(root, &keys, &proof);
    let values = many(len).unwrap().iter().map(Verified::value).collect::<Vec<_>>();
    assert_eq!(values, keys.iter().map(|key| model.get(key)).collect::<Vec<_>>());
    assert_eq!(many(len - 1), Err(ProofError::TooLong { len, max: len - 1 }));
    // A value that is longer than the default allows.
    let long = b"long";
    let value = vec![7; (1 << 16) + 4_000];
    model.apply_net(model.height() + 1, &[vec![(long.to_vec(), Some(value.clone()))]]);
    let root = model.state_root();
    let proof = Proof::assemble(&[path_of(&model.prove(long))]).unwrap();
    assert!(matches!(verify(&root, long, &proof), Err(ProofError::TooLong { .. })));
    let roomy = Verifier::new().with_limit(1 << 20).verify(root, long, &proof);
    assert_eq!(roomy, Ok(Some(&value[..])));
}
