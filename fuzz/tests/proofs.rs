//! Entries and proofs: what comes from a stranger.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bolero::check;
use common::{Count, Damage};
use hedgerow_proof::{
    EntryPath, Proof, ProofError, ProofRef, SerialPath, verify, verify_many, verify_past,
    verify_range, verify_with_limit,
};
use hedgerow_testkit::vectors;
use hedgerow_types::entry::{EntryFields, EntryRef, encode_sentry};
use hedgerow_types::{Digest, Height, KeyHash, SerialNumber, ShardId, Version, hex};

const ITERATIONS: usize = 200_000;
/// Samples are numbered by a byte.
const SAMPLES: usize = 256;

/// At most [`SAMPLES`], evenly spread.
fn spread(mut all: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let step = all.len().div_ceil(SAMPLES).max(1);
    let mut number = 0;
    all.retain(|_| {
        number += 1;
        number % step == 0
    });
    all
}

/// Entries that QMDB recorded, a sentry, and some of the least and greatest lengths.
fn entries() -> Vec<Vec<u8>> {
    let mut sentry = vec![];
    encode_sentry(ShardId::new(3).unwrap(), 77, &mut sentry);
    let mut samples: Vec<_> =
        vectors::entries().iter().map(|entry| entry.hashed_bytes().to_vec()).collect();
    samples.truncate(SAMPLES - 4);
    samples.push(sentry);
    for (key_len, value_len, dsns) in [(1, 0, 0), (32, 100, 1), (255, 300, 3)] {
        let (key, value) = (vec![7; key_len], vec![9; value_len]);
        let deactivated: Vec<_> = (0..dsns).map(SerialNumber).collect();
        let mut bytes = vec![];
        let fields = EntryFields {
            key: &key,
            value: &value,
            next_key_hash: KeyHash([3; 32]),
            version: Version(1 << 24),
            serial_number: SerialNumber(5000),
            deactivated: &deactivated,
        };
        fields.encode(&mut bytes).unwrap();
        samples.push(bytes);
    }
    samples
}

fn encode(entry: &EntryRef<'_>) -> Vec<u8> {
    let deactivated: Vec<_> = entry.deactivated().collect();
    let mut bytes = vec![];
    let fields = EntryFields {
        key: entry.key(),
        value: entry.value(),
        next_key_hash: entry.next_key_hash(),
        version: entry.version(),
        serial_number: entry.serial_number(),
        deactivated: &deactivated,
    };
    fields.encode(&mut bytes).unwrap();
    bytes
}

#[test]
fn entry() {
    static COUNT: Count = Count::new("entry");
    let samples = entries();
    check!().with_iterations(ITERATIONS).with_type::<Damage>().for_each(|damage| {
        let bytes = damage.apply(&samples);
        let entry = EntryRef::parse(&bytes);
        if let Ok(entry) = &entry {
            assert_eq!(encode(entry), bytes, "what parses is what is encoded");
        }
        if let Ok((entry, rest)) = EntryRef::parse_prefix(&bytes) {
            assert_eq!([&encode(&entry), rest].concat(), bytes);
        }
        COUNT.note(entry.is_ok());
    });
    COUNT.finish();
}

/// Proofs of one entry: most parts of the format, in every length of entry.
fn proofs() -> Vec<Vec<u8>> {
    let node = |n: u8| Digest([n; 32]);
    let assemble = |entry: Vec<u8>| {
        let path = EntryPath {
            entry,
            left: std::array::from_fn(|i| node(i as u8)),
            page: [0xFF; 32],
            right: [node(20); 3],
            upper: (12..15).map(node).collect(),
            state: [node(30); 4],
        };
        Proof::assemble(&[path]).map(Proof::into_bytes)
    };
    // Some of the recorded serial numbers would need a longer path.
    let samples: Vec<_> = entries().into_iter().flat_map(assemble).collect();
    assert!(samples.len() > 20);
    samples
}

/// The proofs of a file of golden vectors, true ones and others.
fn vectors_of(file: &str) -> Vec<Vec<u8>> {
    let proofs = file.lines().filter_map(|line| line.trim().strip_prefix("\"proof\": \""));
    let proofs = proofs.map(|rest| hex::decode(rest.trim_end_matches("\",")).unwrap());
    let samples: Vec<_> = proofs.filter(|proof| !proof.is_empty()).collect();
    assert!(samples.len() > 10 && samples.len() <= SAMPLES);
    samples
}

/// What holds of whatever decodes: it is its own encoding, leads to some root, and none that was not its own.
fn decoded(bytes: &[u8]) -> Option<ProofRef<'_>> {
    let proof = ProofRef::decode(bytes, usize::MAX).ok()?;
    assert_eq!(proof.entries().len(), proof.entries().count());
    let places = proof.entries().map(|claimed| (claimed.shard, claimed.entry.serial_number()));
    assert!(places.clone().is_sorted() && places.count() > 0);
    assert_eq!(Proof::from_bytes(bytes.to_vec(), bytes.len()).unwrap().as_bytes(), bytes);
    assert!(Proof::from_bytes(bytes.to_vec(), bytes.len() - 1).is_err());
    Some(proof)
}

#[test]
fn proof() {
    static COUNT: Count = Count::new("proof");
    let samples = [proofs(), vectors_of(include_str!("../../proof/vectors/single.json"))].concat();
    let samples = spread(samples);
    check!().with_iterations(ITERATIONS).with_type::<Damage>().for_each(|damage| {
        let bytes = damage.apply(&samples);
        assert!(verify(&Digest::ZERO, b"key", &bytes).is_err());
        let decoded = decoded(&bytes);
        if let Some(proof) = decoded
            && let [claimed] = proof.entries().collect::<Vec<_>>()[..]
        {
            // It leads to some root; under that one it may be about its own entry only.
            let (root, key, limit) = (proof.root(), claimed.entry.key(), bytes.len());
            match verify_with_limit(&root, key, &bytes, limit) {
                Ok(Some(value)) => assert_eq!(value, claimed.entry.value()),
                Ok(None) => assert!(claimed.entry.is_sentry()),
                Err(_) => assert!(!claimed.active || claimed.entry.is_sentry()),
            }
        }
        COUNT.note(decoded.is_some());
    });
    COUNT.finish();
}

#[test]
fn proof_of_many() {
    static COUNT: Count = Count::new("proof of many keys");
    let samples = vectors_of(include_str!("../../proof/vectors/many.json"));
    check!().with_iterations(ITERATIONS / 10).with_type::<Damage>().for_each(|damage| {
        let bytes = damage.apply(&samples);
        assert!(verify_many(&Digest::ZERO, &["key"], &bytes).is_err());
        let decoded = decoded(&bytes);
        if let Some(proof) = decoded {
            let claimed: Vec<_> = proof.entries().collect();
            let keys: Vec<_> = claimed.iter().map(|claimed| claimed.entry.key()).collect();
            match verify_many(&proof.root(), &keys, &bytes) {
                Ok(values) => {
                    for (value, claimed) in values.iter().zip(&claimed) {
                        assert!(claimed.active);
                        match value {
                            Some(value) => assert_eq!(*value, claimed.entry.value()),
                            // A user's key of a sentry's bytes has a hash of its own, which may
                            // lie in that sentry's own gap.
                            None => assert!(claimed.entry.is_sentry()),
                        }
                    }
                }
                // The key of a sentry is answered by another entry, or by none; one entry is outdated; two
                // have one key.
                Err(error) => assert!(matches!(
                    error,
                    ProofError::WrongKey | ProofError::Inactive | ProofError::Surplus
                )),
            }
        }
        COUNT.note(decoded.is_some());
    });
    COUNT.finish();
}

#[test]
fn proof_of_a_range() {
    static COUNT: Count = Count::new("proof of a range");
    let samples = vectors_of(include_str!("../../proof/vectors/range.json"));
    check!().with_iterations(ITERATIONS / 10).with_type::<Damage>().for_each(|damage| {
        let bytes = damage.apply(&samples);
        assert!(verify_range(&Digest::ZERO, KeyHash::default(), &bytes).is_err());
        let decoded = decoded(&bytes);
        if let Some(proof) = decoded {
            let first = proof.entries().map(|claimed| claimed.key_hash()).min().unwrap();
            if let Ok(range) = verify_range(&proof.root(), first, &bytes) {
                assert!(range.from() < range.until());
                let hashes: Vec<_> = range.entries().map(|(own, _)| own).collect();
                assert!(hashes.is_sorted());
                assert!(hashes.iter().all(|own| (first..range.until()).contains(own)));
                let people = proof.entries().filter(|claimed| !claimed.entry.is_sentry());
                assert_eq!(hashes.len(), people.count());
            }
        }
        COUNT.note(decoded.is_some());
    });
    COUNT.finish();
}

#[test]
fn proof_of_the_past() {
    static COUNT: Count = Count::new("proof of the past");
    let samples = vectors_of(include_str!("../../proof/vectors/past.json"));
    check!().with_iterations(ITERATIONS / 10).with_type::<Damage>().for_each(|damage| {
        let bytes = damage.apply(&samples);
        assert!(verify_past(&Digest::ZERO, b"key", Height(3), &bytes).is_err());
        let decoded = decoded(&bytes);
        if let Some(proof) = decoded {
            let claimed: Vec<_> = proof.entries().collect();
            let first = claimed[0].entry;
            let (root, written) = (proof.root(), first.version().height());
            let past = |height| verify_past(&root, first.key(), Height(height), &bytes);
            match past(written.0) {
                Ok(verified) => {
                    assert_eq!(verified.entry(), first);
                    assert!(claimed.len() == 2 || claimed[0].active);
                    // Not before it was written, and not after it was replaced.
                    assert!(written.0 == 0 || past(written.0 - 1).is_err());
                    if let [_, second] = &claimed[..] {
                        assert!(past(second.entry.version().height().0).is_err());
                    }
                }
                Err(error) => assert!(!matches!(error, ProofError::WrongRoot { .. })),
            }
        }
        COUNT.note(decoded.is_some());
    });
    COUNT.finish();
}

#[test]
fn serial_path() {
    static COUNT: Count = Count::new("proof by serial number");
    // Recorded proofs, and some of lengths that were not recorded.
    let made = [1, 2, 21, 51].map(|upper| {
        [&5000_u64.to_le_bytes()[..], &vec![upper; 32 * (17 + upper as usize)]].concat()
    });
    let sets = vectors::all_sets();
    let recorded = sets.iter().filter(|set| set.has_proofs).flat_map(|set| set.proofs());
    let samples = spread(made.into_iter().chain(recorded.map(|vector| vector.proof)).collect());
    check!().with_iterations(ITERATIONS).with_type::<Damage>().for_each(|damage| {
        let bytes = damage.apply(&samples);
        let decoded = SerialPath::decode(&bytes);
        if let Ok(path) = &decoded {
            assert_eq!(path.to_bytes(), bytes);
            assert!(path.verify(&Digest::ZERO).is_err());
        }
        COUNT.note(decoded.is_ok());
    });
    COUNT.finish();
}

/// Bytes without any shape.
#[test]
fn noise() {
    check!().with_iterations(ITERATIONS).with_type::<Vec<u8>>().for_each(|bytes| {
        if let Ok(entry) = EntryRef::parse(bytes) {
            assert_eq!(&encode(&entry), bytes);
        }
        assert!(verify(&Digest::ZERO, b"key", bytes).is_err());
        assert!(verify_many(&Digest::ZERO, &["key"], bytes).is_err());
        assert!(verify_range(&Digest::ZERO, KeyHash::default(), bytes).is_err());
        assert!(verify_past(&Digest::ZERO, b"key", Height(3), bytes).is_err());
        if let Ok(path) = SerialPath::decode(bytes) {
            assert_eq!(&path.to_bytes(), bytes);
        }
    });
}
