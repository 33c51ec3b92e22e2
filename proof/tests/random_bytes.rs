//! Arbitrary bytes: never a panic, never an answer.

use hedgerow_proof::{MIN_PROOF_LEN, ProofRef, SerialPath, verify};
use hedgerow_types::Digest;
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes with the outline of a proof: a known version, an entry header with these lengths, and a
/// tail of some length.
fn outline() -> impl Strategy<Value = Vec<u8>> {
    let version = prop_oneof![9 => Just(1_u8), 1 => any::<u8>()];
    let odd = prop_oneof![9 => Just(0_usize), 1 => 1..32_usize];
    let parts = (version, any::<u8>(), 0..300_u32, 0..4_u8, 0..80_usize, odd);
    (parts, any::<u64>()).prop_perturb(
        |((version, key_len, value_len, dsns, nodes, odd), sn), mut rng| {
            let mut bytes = vec![version, key_len];
            bytes.extend(&value_len.to_le_bytes()[..3]);
            bytes.push(dsns);
            let before_sn = usize::from(key_len) + value_len as usize + 40;
            bytes.extend((0..before_sn).map(|_| rng.random::<u8>()));
            bytes.extend((sn >> (sn % 64)).to_le_bytes());
            let rest = 8 * usize::from(dsns) + 32 * nodes + odd;
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
        if let Ok(proof) = ProofRef::decode(&bytes, usize::MAX) {
            // Whatever it is, it leads to some root, under which it is at most about its entry.
            let root = proof.root();
            if let Ok(answer) = verify(&root, &key, &bytes) {
                prop_assert!(proof.is_active());
                prop_assert_eq!(answer.is_some(), proof.entry().key() == key);
            }
            let own = verify(&root, proof.entry().key(), &bytes);
            if proof.is_active() && !proof.entry().is_sentry() {
                prop_assert_eq!(own, Ok(Some(proof.entry().value())));
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
