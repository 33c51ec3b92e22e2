//! Proofs of the past: every true one is accepted, and nothing that is accepted is false.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::history::{History, keys_of};
use hedgerow_proof::{Proof, ProofError, verify_past, verify_since};
use hedgerow_testkit::generate::SeedNote;
use hedgerow_testkit::recipe::SplitMix64;
use hedgerow_types::{Height, SerialNumber, ShardId};

const SHARD: usize = 6;
const SEEDS: u64 = 5;

/// Blocks of puts, deletes and compaction over few keys, across the border of two twigs.
fn history(seed: u64, keys: &[Vec<u8>]) -> History {
    let mut random = SplitMix64::new(seed);
    let mut history = History::new(ShardId::new(SHARD).unwrap(), 2048 - 20);
    for height in 1..=8_u64 {
        for _ in 0..random.below(5) {
            let key = &keys[random.below(keys.len() as u64) as usize];
            match random.below(6) {
                0 | 1 => history.compact(),
                2 if history.values.last().unwrap().contains_key(key) => history.delete(key),
                _ => history.put(key, format!("{height} {}", random.below(10)).as_bytes()),
            }
        }
        history.end_block();
    }
    history
}

#[test]
fn what_every_key_had_at_every_height_is_proved_and_nothing_else() {
    let keys = keys_of(ShardId::new(SHARD).unwrap(), 6);
    let (mut proved, mut by_two, mut refused, mut copies) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let _note = SeedNote::new(seed);
        let history = history(seed, &keys);
        let (root, state) = (history.state.root(), &history.state);
        let first = SerialNumber(2048 - 20);
        let all: Vec<_> = (first.0..state.next_sn().0).map(SerialNumber).collect();
        // Every entry alone, and every two of them.
        let mut sets: Vec<Vec<SerialNumber>> = all.iter().map(|at| vec![*at]).collect();
        for (i, a) in all.iter().enumerate() {
            sets.extend(all[i + 1..].iter().map(|b| vec![*a, *b]));
        }
        let paths: Vec<_> = all.iter().map(|at| state.entry_path(*at)).collect();
        let prove = |set: &Vec<SerialNumber>| {
            let paths: Vec<_> =
                set.iter().map(|at| paths[(at.0 - first.0) as usize].clone()).collect();
            Proof::assemble(&paths).unwrap()
        };
        let proofs: Vec<_> = sets.iter().map(prove).collect();
        for key in &keys {
            for height in 0..=history.height() {
                let truth = history.values[height as usize].get(key).map(Vec::as_slice);
                let honest = history.past(key, height);
                for (set, proof) in sets.iter().zip(&proofs) {
                    match verify_past(&root, key, Height(height), proof) {
                        Ok(verified) => {
                            assert_eq!(verified.value(), truth, "{key:?} at {height}: {set:?}");
                            assert_eq!(verified.entry(), state.entry(set[0]));
                            assert_eq!(*set, honest);
                            proved += 1;
                            by_two += usize::from(set.len() == 2);
                            let original = state.entry(set[0]).deactivated().next();
                            let copied = original.is_some_and(|at| {
                                state.entry(at).version() == state.entry(set[0]).version()
                            });
                            copies += usize::from(copied);
                        }
                        Err(_) => {
                            assert_ne!(*set, honest);
                            refused += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(proved == SEEDS * 6 * 9, "each once: {proved}");
    assert!(by_two > 50 && copies > 4 && refused > 50_000, "{by_two} {copies} {refused}");
}

#[test]
fn the_check_that_fails_is_named() {
    let keys = keys_of(ShardId::new(SHARD).unwrap(), 3);
    let [alice, bob, carol] = &keys[..] else { panic!("three keys") };
    let mut history = History::new(ShardId::new(SHARD).unwrap(), 0);
    for (height, key) in [(1, alice), (2, bob), (3, alice)] {
        history.put(key, format!("{height}").as_bytes());
        history.end_block();
    }
    history.compact();
    history.end_block();
    let (root, state) = (history.state.root(), &history.state);
    let prove = |places: &[SerialNumber]| state.prove_all(places).unwrap();
    let check = |key: &[u8], height, places: &[SerialNumber]| {
        verify_past(&root, key, Height(height), &prove(places))
            .map(|verified| verified.value().is_some())
    };
    let honest = history.past(alice, 2);
    assert_eq!(honest.len(), 2);
    assert_eq!(check(alice, 2, &honest), Ok(true));
    assert_eq!(check(alice, 2, &honest[..1]), Err(ProofError::Inactive));
    assert_eq!(check(alice, 2, &honest[1..]), Err(ProofError::Later(Height(3))));
    assert_eq!(check(alice, 0, &honest), Err(ProofError::Later(Height(1))));
    assert_eq!(check(alice, 3, &honest), Err(ProofError::NotReplaced), "no longer at 3");
    assert_eq!(check(bob, 2, &honest), Err(ProofError::WrongKey));
    // What a proof says of other heights.
    let past = prove(&honest);
    let verified = verify_past(&root, alice, Height(2), &past).unwrap();
    assert_eq!((verified.held_from(), verified.replaced_at()), (Height(1), Some(Height(3))));
    let newest = prove(&history.past(alice, 3));
    let verified = verify_past(&root, alice, Height(3), &newest).unwrap();
    assert_eq!((verified.held_from(), verified.replaced_at()), (Height(3), None));
    let since = |key: &[u8], height, proofs: &[&Proof]| {
        verify_since(&root, key, Height(height), proofs.iter().map(|proof| proof.as_bytes()))
            .map(|answer| answer.value().map(<[u8]>::to_vec))
    };
    assert_eq!(since(alice, 3, &[&newest]), Ok(Some(b"3".to_vec())));
    assert_eq!(since(alice, 4, &[&newest]), Ok(Some(b"3".to_vec())));
    assert_eq!(since(alice, 1, &[&past, &newest]), Err(ProofError::Changed(Height(3))));
    assert_eq!(since(alice, 1, &[&past]), Err(ProofError::Unfinished(Height(3))));
    assert_eq!(since(alice, 1, &[]), Err(ProofError::Unfinished(Height(1))));
    assert_eq!(since(alice, 3, &[&newest, &newest]), Err(ProofError::Surplus));
    assert_eq!(since(alice, 2, &[&newest]), Err(ProofError::Later(Height(3))));
    assert_eq!(since(alice, 1, &[&past, &past]), Err(ProofError::NotReplaced));
    // The predecessor of a key that is absent, now and then.
    let honest = history.past(carol, 1);
    assert_eq!(check(carol, 1, &honest), Ok(false));
    let three: Vec<_> = (0..3).map(SerialNumber).collect();
    assert_eq!(check(carol, 1, &three), Err(ProofError::EntryCount(3)));
}
