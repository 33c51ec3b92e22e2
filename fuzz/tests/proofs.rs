//! Entries and proofs: what comes from a stranger.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bolero::check;
use common::{Count, Damage};
use hedgerow_proof::{Proof, ProofRef, SerialPath, verify};
use hedgerow_testkit::vectors;
use hedgerow_types::entry::{EntryFields, EntryRef, encode_sentry};
use hedgerow_types::{Digest, KeyHash, SerialNumber, ShardId, Version};

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

fn proofs() -> Vec<Vec<u8>> {
    let node = |n: u8| Digest([n; 32]);
    let assemble = |entry: &Vec<u8>| {
        let left = std::array::from_fn(|i| node(i as u8));
        let upper: Vec<_> = (12..15).map(node).collect();
        let (right, state) = ([node(20); 3], [node(30); 4]);
        Proof::assemble(entry, &left, &[0xFF; 32], &right, &upper, &state).map(Proof::into_bytes)
    };
    // Some of the recorded serial numbers would need a longer path.
    let samples: Vec<_> = entries().iter().flat_map(assemble).collect();
    assert!(samples.len() > 20);
    samples
}

#[test]
fn proof() {
    static COUNT: Count = Count::new("proof");
    let samples = proofs();
    check!().with_iterations(ITERATIONS).with_type::<Damage>().for_each(|damage| {
        let bytes = damage.apply(&samples);
        assert!(verify(&Digest::ZERO, b"key", &bytes).is_err());
        let decoded = ProofRef::decode(&bytes, usize::MAX);
        if let Ok(proof) = decoded {
            // It leads to some root; under that one it may be about its own entry only.
            let (root, key) = (proof.root(), proof.entry().key().to_vec());
            match verify(&root, &key, &bytes) {
                Ok(Some(value)) => assert_eq!(value, proof.entry().value()),
                Ok(None) => assert!(proof.entry().is_sentry()),
                Err(_) => assert!(!proof.is_active() || proof.entry().is_sentry()),
            }
            assert_eq!(Proof::from_bytes(bytes.clone(), bytes.len()).unwrap().as_bytes(), bytes);
        }
        COUNT.note(decoded.is_ok());
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
        if let Ok(path) = SerialPath::decode(bytes) {
            assert_eq!(&path.to_bytes(), bytes);
        }
    });
}
