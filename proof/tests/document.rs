//! docs/proofs.md is right: its example is a true proof, the one of the state that it describes, and its names of
//! checks are the library's.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::encode;
use hedgerow_proof::{
    DEFAULT_MAX_PROOF_LEN, DEFAULT_MAX_SET_LEN, Digest, EntryError, Height, KeyHash, ProofError,
    SerialNumber, verify, verify_past,
};
use hedgerow_testkit::Model;
use hedgerow_types::CompactionRule;

const DOCUMENT: &str = include_str!("../../docs/proofs.md");

/// The words in back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "{hex}");
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// The example: root, proof, and the nodes that are computed on the way.
fn example() -> (Digest, Vec<u8>, Vec<(String, Digest)>) {
    let (_, example) = DOCUMENT.split_once("## 9. An example").unwrap();
    let root = example.lines().find_map(|line| line.strip_prefix("    ")).unwrap();
    let (mut proof, mut nodes) = (Vec::new(), Vec::new());
    for line in example.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        if let Ok(offset) = cells[0].parse::<usize>() {
            assert_eq!(offset, proof.len(), "{line}");
            quoted(cells[1]).for_each(|hex| proof.extend(bytes(hex)));
        } else if let (Some(name), Some(hex)) = (quoted(cells[0]).next(), quoted(cells[1]).next()) {
            nodes.push((name.to_owned(), hex.parse().unwrap()));
        }
    }
    (root.parse().unwrap(), proof, nodes)
}

#[test]
fn the_example_is_the_proof_of_the_state_that_it_describes() {
    let (root, proof, nodes) = example();
    assert_eq!(proof.len(), 741);
    assert_eq!(verify(&root, b"alice", &proof), Ok(Some(&b"100"[..])));
    let past = |height| verify_past(&root, b"alice", Height(height), &proof);
    assert_eq!(past(1).unwrap().value(), Some(&b"100"[..]));
    assert_eq!(past(0), Err(ProofError::Later(Height(1))));
    assert_eq!(nodes.last(), Some(&("S(68, 0)".to_owned(), root)));
    assert!(nodes.len() > 10);

    let mut model = Model::new(CompactionRule::default());
    model.apply_net(1, &[vec![(b"alice".to_vec(), Some(b"100".to_vec()))]]);
    assert_eq!(model.state_root(), root);
    assert_eq!(encode(&model.prove(b"alice")).as_bytes(), proof);
}

#[test]
fn the_names_of_checks_and_the_limits_are_the_librarys() {
    let errors = [
        ProofError::TooLong { len: 0, max: 0 },
        ProofError::UnknownVersion(0),
        ProofError::Length { need: 0, have: 0 },
        ProofError::NoEntries,
        ProofError::UpperLevels(0),
        ProofError::Entry(EntryError::KeyLength(0)),
        ProofError::Order(0),
        ProofError::Shards(0),
        ProofError::Position { sn: SerialNumber(0), upper_levels: 0 },
        ProofError::KeyLength(0),
        ProofError::NoKeys,
        ProofError::WrongRoot { found: Digest::ZERO },
        ProofError::EntryCount(0),
        ProofError::Inactive,
        ProofError::WrongKey,
        ProofError::Surplus,
        ProofError::Start(KeyHash::MAX),
        ProofError::Gap(KeyHash::MAX),
        ProofError::Later(Height(0)),
        ProofError::NotReplaced,
    ];
    for error in errors {
        assert!(quoted(DOCUMENT).any(|word| word == error.check()), "no {:?}", error.check());
    }
    assert_eq!((DEFAULT_MAX_PROOF_LEN, DEFAULT_MAX_SET_LEN), (70_132, 16 << 20));
    assert!(
        DOCUMENT.contains("70,132 bytes for one entry")
            && DOCUMENT.contains("16 MiB for many keys")
    );
}
