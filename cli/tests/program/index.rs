//! Where the index is: the flags, and that a store keeps it where it is.

use crate::commands::Place;
use hedgerow_testkit::Limit;
use serde_json::{Value, json};

/// Blocks of so many keys.
fn blocks(heights: std::ops::RangeInclusive<u64>) -> String {
    let block = |height: u64| {
        let op = |number: u64| json!(["put", format!("key {number}"), format!("value {height}")]);
        let ops: Vec<Value> = (0..2_000).map(|number| op(number * 7 + height)).collect();
        json!({ "height": height, "ops": ops }).to_string()
    };
    heights.map(|height| block(height) + "\n").collect()
}

fn stat(place: &Place) -> Value {
    place.run(&["stat", "STORE", "--json"]).json()
}

#[test]
fn an_index_in_files_stays_there_until_it_is_told_otherwise() {
    let _limit = Limit::new();
    let place = Place::new();
    assert!(stat(&place)["index_files"].is_null());
    let tiered = ["--index", "tiered", "--index-memory-mb", "4"];
    place.apply(&tiered, &blocks(1..=40)).ok();
    let found = stat(&place);
    assert!(found["index_files"]["files"].as_u64() > Some(0), "{found}");
    assert!(found["index_files"]["records"].as_u64() > Some(10_000), "{found}");
    let text = place.run(&["stat", "STORE"]).ok();
    assert!(text.contains("tiered, "), "{text}");
    // Nobody says where, and it stays where it is.
    place.run(&["put", "STORE", "a", "1"]).ok();
    place.run(&["check", "STORE"]).ok();
    place.run(&["prune", "STORE", "--keep-heights", "2"]).ok();
    place.run(&["backup", "STORE", "COPY"]).ok();
    assert!(place.path("COPY").join("index").read_dir().expect("it is there").next().is_some());
    assert!(stat(&place)["index_files"]["files"].as_u64() > Some(0));
    let root = place.root();
    place.run(&["check", "STORE", "--index", "memory"]).ok();
    assert!(stat(&place)["index_files"].is_null());
    assert_eq!(place.root(), root);
}

#[test]
fn what_does_not_go_together_is_refused() {
    let _limit = Limit::new();
    let place = Place::new();
    let refused = |args: &[&str], said: &str| {
        let ran = place.run(args);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.stderr.contains(said), "{ran:?}");
    };
    refused(&["put", "STORE", "a", "1", "--index-memory-mb", "64"], "--index tiered");
    refused(&["check", "STORE", "--index", "memory", "--index-memory-mb", "64"], "--index tiered");
    refused(&["create", "NEW", "--index", "tiered", "--index-memory-mb", "3"], "4 MiB");
    refused(&["put", "STORE", "a", "1", "--index", "disk"], "tiered");
}
