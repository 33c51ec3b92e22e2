//! Arbitrary bytes: never a panic, never an answer.

use hedgerow_proof::{
    MIN_PROOF_LEN, ProofRef, SerialPath, verify, verify_many, verify_past, verify_range,
};
use hedgerow_testkit::model::key_hash;
use hedgerow_types::{Digest, Height, KeyHash};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes with the outline of a proof of one entry: a known version, the shard that the entry says, an entry
/// header with these lengths, and a tail of some length, as a rule the right one.
fn outline() -> impl Strategy<Value = Vec<u8>> {
    let version = prop_oneof![9 => Just(2_u8), 1 => any::<u8>()];
    let odd = prop_oneof![9 => Just(0_usize), 1 => 1..32_usize];
    let nodes = prop_oneof![3 => Just(None), 1 => (0..80_usize).prop_map(Some)];
    let parts = (version, any::<u8>(), 0..300_u32, 0..4_u8, nodes, odd);
    (parts, any::<u64>(), 0..52_u8, 0..20_u8).prop_perturb(
        |((version, key_len, value_len, dsns, nodes, odd), sn, levels, wrong), mut rng| {
            let mut entry = vec![key_len];
            entry.extend(&value_len.to_le_bytes()[..3]);
            entry.push(dsns);
            let before_sn = usize::from(key_len) + value_len as usize + 40;
            entry.extend((0..before_sn).map(|_| rng.random::<u8>()));
            entry.extend((sn >> (sn % 64)).to_le_bytes());
            entry.extend((0..8 * usize::from(dsns)).map(|_| rng.random::<u8>()));
            let key_hash = key_hash(&entry[5..5 + usize::from(key_len)]);
            let shard = (key_hash.shard().index() + usize::from(wrong == 1)) % 16;
            let mut bytes = vec![version, 1 + u8::from(wrong == 2), 0, 0, 0];
            bytes.extend((1_u16 << shard).to_le_bytes());
            bytes.push(levels);
            bytes.extend(entry);
            let rest = 32 * nodes.unwrap_or(19 + usize::from(levels)) + odd;
            bytes.extend((0..rest).map(|_| rng.random::<u8>()));
            bytes
        },
    )
}

proptest! {
    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..2 * MIN_PROOF_LEN), key in vec(any::<u8>(), 0..260)) {
        prop_assert!(verify(&Digest::ZERO, &key, &bytes).is_err());
        let serial = SerialPath::decode(&bytes).and_then(|path| path.verify(&Digest::ZERO));
        prop_assert!(serial.is_err());
    }

    #[test]
    fn bytes_with_the_outline_of_a_proof(bytes in outline(), key in vec(any::<u8>(), 1..256)) {
        prop_assert!(verify(&Digest::ZERO, &key, &bytes).is_err());
        prop_assert!(verify_many(&Digest::ZERO, &[&key], &bytes).is_err());
        prop_assert!(verify_range(&Digest::ZERO, KeyHash::default(), &bytes).is_err());
        prop_assert!(verify_past(&Digest::ZERO, &key, Height(1), &bytes).is_err());
        if let Ok(proof) = ProofRef::decode(&bytes, usize::MAX) {
            // Whatever it is, it leads to some root, under which it is at most about its entry.
            let root = proof.root();
            let claimed = proof.entries().next().expect("one entry at least");
            let entry = claimed.entry;
            if let Ok(answer) = verify(&root, &key, &bytes) {
                prop_assert!(claimed.active);
                prop_assert_eq!(answer.is_some(), entry.key() == key);
            }
            let own = verify(&root, entry.key(), &bytes);
            if claimed.active && !entry.is_sentry() {
                prop_assert_eq!(own, Ok(Some(entry.value())));
            }
        }
    }

    #[test]
    fn a_serial_path_is_read_back(
        sn in 0..1_u64 << 13,
        nodes in vec(any::<[u8; 32]>(), 17 + 2..17 + 51),
    ) {
        let bytes = [&sn.to_le_bytes()[..], nodes.as_flattened()].concat();
        let path = SerialPath::decode(&bytes).expect("well formed");
        prop_assert_eq!(path.sn().0, sn);
        prop_assert_eq!(path.to_bytes(), bytes);
    }
}
