//! One message at a time with the `sha2` crate: the definition that every other backend must equal.
//!
//! **Invariant:** nothing here is clever. Whoever doubts a digest of another backend compares it
//! with these functions, so they must be right at a glance.

use crate::{
    BatchHasher, Capabilities, HashError, IndexedPairGroup, MessageGroup, PairGroup,
    shapes::check_all,
};
use hedgerow_types::{Digest, node};
use sha2::{Digest as _, Sha256};

/// SHA-256 of `bytes` (FIPS 180-4).
pub fn hash_message(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// The parent of `left` and `right`, which are nodes of level `level`: SHA-256 of
/// `level ‖ left ‖ right` ([spec 2](hedgerow_types::spec)).
pub fn hash_node(level: u8, left: &Digest, right: &Digest) -> Digest {
    hash_message(&node::preimage(level, left, right))
}

/// The reference backend: one message at a time on the calling thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScalarHasher;

impl BatchHasher for ScalarHasher {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            name: "scalar".into(),
            device: "sha2 crate, one message at a time".into(),
            lanes: 1,
            full_speed_batch: 1,
            is_device: false,
        }
    }

    fn messages(&self, groups: &mut [MessageGroup<'_>]) -> Result<(), HashError> {
        check_all(groups, MessageGroup::check)?;
        for group in groups {
            for (span, out) in group.spans.iter().zip(group.out.iter_mut()) {
                let message = span.of(group.arena).ok_or(HashError::MESSAGE_OUTSIDE)?;
                *out = hash_message(message);
            }
        }
        Ok(())
    }

    fn pairs(&self, level: u8, groups: &mut [PairGroup<'_>]) -> Result<(), HashError> {
        check_all(groups, PairGroup::check)?;
        for group in groups {
            let (children, _) = group.children.as_chunks();
            for ([left, right], out) in children.iter().zip(group.out.iter_mut()) {
                *out = hash_node(level, left, right);
            }
        }
        Ok(())
    }

    fn indexed_pairs(
        &self,
        level: u8,
        groups: &mut [IndexedPairGroup<'_>],
    ) -> Result<(), HashError> {
        check_all(groups, IndexedPairGroup::check)?;
        for group in groups {
            for &parent in group.parents {
                let p = parent as usize;
                group.out[p] = hash_node(level, &group.children[2 * p], &group.children[2 * p + 1]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[test]
    fn nist_vectors() {
        // FIPS 180-4 examples, as published with it (CSRC, "SHA256.pdf" and the long-message set).
        let million = vec![b'a'; 1_000_000];
        for (message, digest) in [
            (&b""[..], "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (&million, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        ] {
            assert_eq!(hash_message(message), digest.parse().unwrap());
        }
    }

    #[test]
    fn nodes_of_the_compatible_tree() {
        // From the recorded vectors of the engines that this tree is compatible with.
        for (level, left, right, hash) in [
            (
                0,
                "fdb87aac7f31faeec0cee3f436b3cb0ea0d7ccc0bf3c9483e206b97e2390743a",
                "0aa653df81007761cb4b2e19932041f5b7c46f65c7e79debe3d67f0c4f87974a",
                "9c25252c04ebfd705ab782e7450a911fa183b9dcf7fb7a1575b65e384bf7f7db",
            ),
            (
                63,
                "d4e90ef6df4b00e192348967c68398ddfd1c2a5440dd825f0bb1d60b03ac6a13",
                "ece23a7276e791f1a809ed0299928f135eabd573446442493b610a2a1ddba417",
                "0328326733d613f3581fe0b4355ac13b6ed22b7b3c38a746eb671ef3e41f7c35",
            ),
        ] {
            let (left, right) = (left.parse().unwrap(), right.parse().unwrap());
            assert_eq!(hash_node(level, &left, &right), hash.parse().unwrap());
        }
    }

    #[test]
    fn the_reference_conforms() {
        conformance::run(&ScalarHasher);
    }
}
