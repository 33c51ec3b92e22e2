//! `list`, `inspect`, and what programs read of an error.

use crate::commands::{Place, hex, many_blocks};
use hedgerow_testkit::Limit;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;

#[test]
fn list_prints_all_pairs_in_the_order_of_the_key_hashes() {
    let _limit = Limit::new();
    let place = Place::new();
    assert_eq!(place.run(&["list", "STORE"]).ok(), "");
    let (lines, model) = many_blocks(4);
    place.apply(&[], &lines).ok();
    let wanted: Vec<(String, String)> =
        model.iter().map(|(key, value)| (hex(key), hex(value))).collect();
    assert!(wanted.len() > 300);
    let read = |text: &str| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let pairs: Vec<Value> =
        wanted.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    assert_eq!(read(&place.run(&["list", "STORE", "--json"]).ok()), pairs);
    let some = place.run(&["list", "STORE", "--json", "--limit", "7", "--keys-only"]).ok();
    let keys: Vec<Value> = wanted[..7].iter().map(|(key, _)| json!({"key": key})).collect();
    assert_eq!(read(&some), keys);
    assert_eq!(place.run(&["list", "STORE", "--limit", "0"]).ok(), "");

    place.run(&["create", "OTHER"]).ok();
    for (key, value) in [("alice", "100 \u{20ac}"), ("a\tb", "line\nend"), ("0x00", "")] {
        place.run(&["put", "OTHER", key, value]).ok();
    }
    let mut lines = ["alice\t100 \u{20ac}", "0x610962\t0x6c696e650a656e64", "0x00\t"];
    let key_hash = |line: &&str| {
        let key: &[u8] = match line.split('\t').next().expect("a key") {
            "alice" => b"alice",
            "0x00" => b"\0",
            _ => b"a\tb",
        };
        Sha256::digest(key)
    };
    lines.sort_by_key(key_hash);
    assert_eq!(place.run(&["list", "OTHER"]).ok(), format!("{}\n", lines.join("\n")));
    let keys: Vec<&str> = lines.iter().map(|line| line.split('\t').next().expect("it")).collect();
    assert_eq!(place.run(&["list", "OTHER", "--keys-only"]).ok(), format!("{}\n", keys.join("\n")));
}

#[test]
fn inspect_says_what_a_proof_says_without_a_store() {
    let _limit = Limit::new();
    let place = Place::new();
    place.run(&["put", "STORE", "alice", "100"]).ok();
    let root = place.root();
    place.run(&["prove", "STORE", "alice", "-o", "PRESENT"]).ok();
    place.run(&["prove", "STORE", "nobody", "-o", "ABSENT"]).ok();
    fs::remove_dir_all(place.path("STORE")).expect("removed");
    let size = |name| fs::metadata(place.path(name)).expect("there").len();

    let present = place.run(&["inspect", "PRESENT", "--json"]).json();
    let key_hash = hex(&Sha256::digest(b"alice"));
    let told = |field: &str| present[field].clone();
    assert_eq!(told("root"), json!(root));
    assert_eq!((told("key"), told("value")), (json!("0x616c696365"), json!("0x313030")));
    assert_eq!((told("key_bytes"), told("value_bytes")), (json!(5), json!(3)));
    assert_eq!(told("key_hash"), json!(key_hash[2..]));
    assert_eq!((told("active"), told("version")), (json!(true), json!(2)));
    assert_eq!(told("proof_bytes"), json!(size("PRESENT")));
    // The first entry of its shard after the 4,096 sentries, which are two twigs.
    assert_eq!((told("serial_number"), told("upper_levels")), (json!(4096), json!(2)));
    assert_eq!(told("shard"), json!(u8::from_str_radix(&key_hash[2..3], 16).expect("hex")));

    assert_eq!(told("written_at"), json!(1));

    let absent = place.run(&["inspect", "ABSENT", "--json"]).json();
    assert_eq!(absent["written_at"], json!(0));
    assert_eq!(
        (&absent["root"], &absent["key"], &absent["value"]),
        (&json!(root), &Value::Null, &Value::Null)
    );
    let nobody = hex(&Sha256::digest(b"nobody"))[2..].to_owned();
    let bound = |field: &str| absent[field].as_str().expect("hex").to_owned();
    assert!(bound("key_hash") < nobody && nobody < bound("next_key_hash"), "{absent}");

    let text = place.run(&["inspect", "PRESENT"]).ok();
    for part in
        [&*format!("leads to root  {root}\n"), "present        alice\n", "value          100\n"]
    {
        assert!(text.contains(part), "{text}");
    }
    let text = place.run(&["inspect", "ABSENT"]).ok();
    assert!(text.contains("present        no key: the entry is a sentry\n"), "{text}");

    // A bit of the page that says that the entry is outdated; another root, too.
    let mut outdated = fs::read(place.path("PRESENT")).expect("there");
    let entry = told("entry_bytes").as_u64().expect("a number") as usize;
    outdated[8 + entry] ^= 1;
    fs::write(place.path("OUTDATED"), &outdated).expect("written");
    let text = place.run(&["inspect", "OUTDATED"]).ok();
    assert!(text.ends_with("this proves nothing, under whatever root.\n"), "{text}");
    assert!(!text.contains(&root), "{text}");
    fs::write(place.path("NOISE"), b"\x02noise").expect("written");
    let error = place.run(&["inspect", "NOISE"]).fails(5);
    assert!(error.contains("NOISE is not a proof\n  caused by: "), "{error}");
    place.run(&["inspect", "NOWHERE"]).fails(8);
    place.run(&["inspect", "PRESENT", "--max-bytes", "700"]).fails(5);
}

#[test]
fn errors_are_objects_for_programs() {
    let _limit = Limit::new();
    let place = Place::new();
    fs::write(place.path("NOISE"), b"noise").expect("written");
    let zero = "0".repeat(64);
    place.run(&["prove", "STORE", "key", "-o", "PROOF"]).ok();
    for (code, kind, args) in [
        (2, "usage", &["get", "STORE"][..]),
        (2, "usage", &["get", "STORE", "0x1"]),
        (2, "usage", &["man", "frobnicate"]),
        (3, "absent", &["root", "STORE", "--height", "77"]),
        (4, "not_proved", &["verify", "--root", &zero, "--key", "key", "PROOF"]),
        (5, "bad_input", &["inspect", "NOISE"]),
        (8, "io", &["inspect", "NOWHERE"]),
        (9, "no_store", &["stat", "NOWHERE"]),
        (10, "exists", &["create", "STORE"]),
        (10, "exists", &["prove", "STORE", "key", "-o", "NOISE"]),
    ] {
        let ran = place.run(&[args, &["--json"]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        let error: Value = serde_json::from_str(&ran.stderr).expect("JSON");
        assert_eq!((&error["code"], &error["kind"]), (&json!(code), &json!(kind)), "{error}");
        let message = error["message"].as_str().expect("text");
        assert!(!message.is_empty() && !message.starts_with("error"), "{message}");
        assert!(error["causes"].is_array() && error.get("what_now").is_some(), "{error}");
        // The same in words.
        let words = place.run(args).fails(code);
        assert!(words.starts_with(&format!("error: {message}")), "{words}");
    }
}
