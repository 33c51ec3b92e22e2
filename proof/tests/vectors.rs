//! The golden vectors: the files are those that the program makes, and every one of them verifies as it says.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../examples/vectors.rs"]
mod made;

use hedgerow_proof::{
    Digest, Height, KeyHash, Verified, Verifier, state_root, verify, verify_entry, verify_many,
    verify_past, verify_range,
};
use hedgerow_types::hex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

#[test]
fn the_files_are_what_the_program_makes() {
    for (name, text) in made::files() {
        let path = folder().join(format!("{name}.json"));
        let file = std::fs::read_to_string(&path).unwrap();
        let advice = "cargo run -p hedgerow-proof --example vectors";
        assert!(file == text, "{} is stale: {advice}", path.display());
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn text(bytes: &[u8]) -> Value {
    let mut text = String::new();
    hex::write(&mut text, bytes).unwrap();
    text.into()
}

/// What this crate says about a vector, in the vectors' words.
fn said(vector: &Value) -> Value {
    let root: Digest = vector["root"].as_str().unwrap().parse().unwrap();
    let proof = bytes(&vector["proof"]);
    let keys: Vec<Vec<u8>> =
        vector["keys"].as_array().map(|keys| keys.iter().map(bytes).collect()).unwrap_or_default();
    let answers = |values: Vec<Option<&[u8]>>| json!({ "answers": values.iter().map(|value| value.map(text)).collect::<Vec<_>>() });
    let said = match vector["family"].as_str().unwrap() {
        "single" => {
            let verified = verify_entry(&root, &keys[0], &proof);
            let value = verify(&root, &keys[0], &proof);
            assert_eq!(verified.as_ref().map(Verified::value).map_err(|error| *error), value);
            value.map(|value| answers(vec![value]))
        }
        "many" => verify_many(&root, &keys, &proof).map(answers),
        "range" => {
            let from: KeyHash = vector["from"].as_str().unwrap().parse().unwrap();
            verify_range(&root, from, &proof).map(|range| {
                let items: Vec<_> =
                    range.items().map(|(key, value)| json!([text(key), text(value)])).collect();
                json!({ "items": items, "until": range.until().to_string() })
            })
        }
        "past" => {
            let height = Height(vector["height"].as_u64().unwrap());
            let verified = verify_past(&root, &keys[0], height, &proof);
            verified.map(|verified| answers(vec![verified.value()]))
        }
        other => panic!("family {other}"),
    };
    said.unwrap_or_else(|error| json!({ "error": error.check() }))
}

#[test]
fn every_vector_verifies_as_it_says() {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut names = BTreeMap::new();
    for name in ["single", "many", "range", "past"] {
        let file = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
        let file: Value = serde_json::from_str(&file).unwrap();
        for vector in file["vectors"].as_array().unwrap() {
            let said = said(vector);
            assert_eq!(said, vector["expect"], "{name}: {}", vector["name"]);
            assert_eq!(vector["family"], name);
            *names.entry((name, vector["name"].to_string())).or_insert(0) += 1;
            let check = said["error"].as_str().unwrap_or("none").to_owned();
            *seen.entry(check).or_insert(0) += 1;
            let Some(list) = vector["shard_roots"].as_array() else { continue };
            let roots: [Digest; 16] =
                std::array::from_fn(|i| list[i].as_str().unwrap().parse().unwrap());
            assert_eq!(state_root(&roots).to_string(), vector["root"].as_str().unwrap());
            let (key, proof) = (bytes(&vector["keys"][0]), bytes(&vector["proof"]));
            assert!(Verifier::new().verify(&roots, &key, &proof).is_ok());
            let mut others = roots;
            others[3] = Digest::ZERO;
            assert!(Verifier::new().verify(&others, &key, &proof).is_err());
        }
    }
    // Every check of a verifier, but the limit, which the vectors do not name.
    let checks = [
        "version",
        "length",
        "no entries",
        "upper levels",
        "entry",
        "order",
        "shards",
        "position",
        "key length",
        "no keys",
        "root",
        "entry count",
        "inactive",
        "key",
        "surplus",
        "start",
        "gap",
        "later",
        "not replaced",
        "none",
    ];
    for check in checks {
        assert!(seen.contains_key(check), "no vector for {check}");
    }
    assert_eq!(seen.len(), checks.len(), "{seen:?}");
    assert!(names.len() > 100);
}
