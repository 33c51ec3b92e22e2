//! `backup`, `restore`, `prune`, `rollback`, `export --salvage`, and what is said about damage.

use crate::common::{run, run_with_input};
use hedgerow_testkit::Limit;
use serde_json::json;
use std::fmt::Write;
use std::path::Path;

/// A store with three blocks of a hundred keys; the program's words for its root.
fn store(dir: &str) -> serde_json::Value {
    run(["create", dir]).ok();
    let mut blocks = String::new();
    for height in 1..=3 {
        let put = |key| format!(r#"["put","key {key}","value {key} of {height}"]"#);
        let ops: Vec<String> = (0..100).map(put).collect();
        writeln!(blocks, r#"{{"height":{height},"ops":[{}]}}"#, ops.join(",")).expect("a string");
    }
    run_with_input(["apply", dir], &blocks).ok();
    run(["--json", "root", dir]).json()
}

fn path(place: &Path, name: &str) -> String {
    place.join(name).to_str().expect("UTF-8").to_owned()
}

#[test]
fn a_backup_is_made_and_restored() {
    let _limit = Limit::new();
    let place = tempfile::tempdir().expect("a directory");
    let path = |name| path(place.path(), name);
    let (one, backup, new) = (path("store"), path("backup"), path("new"));
    let root = store(&one);
    let made = run(["--json", "backup", &one, &backup]).json();
    assert_eq!((&made["root"], &made["height"]), (&root["root"], &root["height"]));
    assert_eq!((&made["checked"], &made["history_from"]), (&json!(true), &json!(0)));
    run_with_input(["apply", &one], r#"{"height":4,"ops":[["delete","key 7"]]}"#).ok();
    assert_eq!(run(["--json", "root", &backup]).json(), root);

    let text = run(["restore", &backup, &new, "--no-check"]).ok();
    assert!(text.contains("0 B shared") && text.contains("not checked: height 3"), "{text}");
    assert_eq!(run(["--json", "root", &new]).json(), root);
    assert_eq!(run(["get", &new, "key 7"]).ok(), "value 7 of 3\n");
    run(["check", &new]).ok();
    assert!(run(["restore", &backup, &one]).fails(10).contains("is not empty"));
    assert!(run(["backup", &path("none"), &path("x")]).fails(9).contains("there is no store"));
}

#[test]
fn an_unfinished_copy_is_no_store_and_is_made_again() {
    let _limit = Limit::new();
    let place = tempfile::tempdir().expect("a directory");
    let path = |name| path(place.path(), name);
    let (one, backup) = (path("store"), path("backup"));
    let root = store(&one);
    run(["backup", &one, &backup, "--copy", "--no-check"]).ok();
    std::fs::write(format!("{backup}/COPYING"), [0; 16]).expect("written");
    let refused = run(["root", &backup]).fails(9);
    assert!(refused.contains("not finished") && refused.contains("what now"), "{refused}");
    run(["backup", &one, &backup]).ok();
    assert_eq!(run(["--json", "root", &backup]).json(), root);
}

#[test]
fn prune_says_what_went_and_what_holds_the_rest() {
    let _limit = Limit::new();
    let place = tempfile::tempdir().expect("a directory");
    let one = path(place.path(), "store");
    store(&one);
    let text = run(["prune", &one]).ok();
    assert!(text.contains("no more heights than are kept"), "{text}");
    let pruned = run(["--json", "prune", &one, "--keep-heights", "4"]).json();
    assert_eq!(pruned["log_freed"], json!(0));
}

#[test]
fn blocks_are_taken_back() {
    let _limit = Limit::new();
    let place = tempfile::tempdir().expect("a directory");
    let one = path(place.path(), "store");
    store(&one);
    let refused = run(["rollback", &one, "4"]).fails(3);
    assert!(refused.contains("the store keeps") && refused.contains("to 3"), "{refused}");
    let done = run(["--json", "rollback", &one, "1"]).json();
    assert_eq!((&done["height"], &done["taken_back"]), (&json!(1), &json!(2)));
    assert!(done["dead_bytes"].as_u64().expect("a number") > 10_000, "{done}");
    assert_eq!(run(["--json", "root", &one]).json()["root"], done["root"]);
    assert_eq!(run(["get", &one, "key 7"]).ok(), "value 7 of 1\n");
    run_with_input(["apply", &one], r#"{"height":2,"ops":[["delete","key 7"]]}"#).ok();
    run(["check", &one]).ok();
    assert!(run(["rollback", &one, "2"]).ok().starts_with("0 blocks taken back: height 2"));
}

#[test]
fn of_a_damaged_store_all_other_keys_are_written() {
    let _limit = Limit::new();
    let place = tempfile::tempdir().expect("a directory");
    let path = |name| path(place.path(), name);
    let (one, copy) = (path("store"), path("copy"));
    store(&one);
    assert_eq!(run(["export", &one, "--salvage"]).ok().matches("put").count(), 100);
    let log = place.path().join("store/log");
    let value = b"value 7 of 3";
    let mut damaged = 0;
    for segment in std::fs::read_dir(log).expect("a log") {
        let segment = segment.expect("a segment").path();
        let mut bytes = std::fs::read(&segment).expect("read");
        let found = bytes.windows(value.len()).rposition(|part| part == value);
        let Some(at) = found else { continue };
        bytes[at] ^= 1;
        std::fs::write(&segment, bytes).expect("written");
        damaged += 1;
    }
    assert_eq!(damaged, 1);

    let refused = run(["check", &one]).fails(6);
    assert!(refused.contains("what now") && refused.contains("--salvage"), "{refused}");
    let file = path("salvaged");
    let said = run(["export", &one, "--salvage", "--output", &file]).fails(6);
    for part in ["99 keys were written, and some are missing", "of key key 7", "older value"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    run(["create", &copy]).ok();
    run(["apply", &copy, &file]).ok();
    assert_ne!(run(["get", &copy, "key 7"]).code, Some(0));
    for key in [0, 6, 8, 99] {
        let got = run(["get", &copy, &format!("key {key}")]).ok();
        assert_eq!(got, format!("value {key} of 3\n"));
    }
    assert_eq!(run(["--json", "stat", &copy]).json()["keys"], json!(99));
}
