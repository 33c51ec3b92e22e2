//! Proofs that were recorded (`data/ORIGIN.md`): what they prove, that nothing else follows from them, and what
//! the program says.

use hedgerow_light_client::{Failed, MAX_PROOF_BYTES, look_up, parse_root, read_proof};
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = include_str!("data/root.txt");
const ALICE: &[u8] = include_bytes!("data/alice.proof");
const CAROL: &[u8] = include_bytes!("data/carol-absent.proof");

#[test]
fn present_and_absent() {
    let root = parse_root(ROOT.trim()).unwrap();
    assert_eq!(look_up(&root, b"alice", ALICE).unwrap(), Some(&b"100"[..]));
    assert_eq!(look_up(&root, b"carol", CAROL).unwrap(), None);
}

#[test]
fn nothing_else_is_proved() {
    let root = parse_root(ROOT.trim()).unwrap();
    let mut other = root;
    other.0[31] ^= 1;
    for (root, key, proof) in [
        (&other, &b"alice"[..], ALICE),
        (&root, b"carol", ALICE),
        (&root, b"alice", CAROL),
        (&root, b"", ALICE),
        (&root, b"alice", b""),
    ] {
        assert!(matches!(look_up(root, key, proof), Err(Failed::NotProved(_))));
    }
    // No byte can be another one, and none can be missing.
    for (key, proof) in [(b"alice", ALICE), (b"carol", CAROL)] {
        for at in 0..proof.len() {
            let mut damaged = proof.to_vec();
            damaged[at] ^= 0x10;
            assert!(look_up(&root, key, &damaged).is_err(), "byte {at}");
            assert!(look_up(&root, key, &proof[..at]).is_err(), "{at} bytes");
        }
    }
}

/// A path to a file of the recording.
fn recorded(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn the_program_says_which_of_it_is_so() {
    let long = Path::new(env!("CARGO_TARGET_TMPDIR")).join("long.proof");
    std::fs::write(&long, vec![1; MAX_PROOF_BYTES + 1]).unwrap();
    assert!(matches!(read_proof(&long), Err(Failed::NotProved(_))));
    let [alice, carol] = [recorded("alice.proof"), recorded("carol-absent.proof")];
    let root = ROOT.trim();
    for (root, key, file, code, says) in [
        (root, "alice", &alice, 0, "100\n"),
        (root, "carol", &carol, 1, ""),
        ("100", "alice", &alice, 2, ""),
        (root, "bob", &alice, 3, ""),
        (root, "alice", &long, 3, ""),
        (root, "alice", &recorded("none.proof"), 4, ""),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_hedgerow-light-client"));
        let out = program.args([root, key]).arg(file).output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{key} {}", file.display());
        assert_eq!(out.stdout, says.as_bytes());
        assert_eq!(out.stderr.is_empty(), code == 0, "what went wrong is said");
    }
    let out = Command::new(env!("CARGO_BIN_EXE_hedgerow-light-client")).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
}
