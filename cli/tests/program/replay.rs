//! `hedgerow replay` on recordings, whole and damaged.

use crate::common::{Ran, run, vector};
use flate2::read::MultiGzDecoder;
use hedgerow_testkit::Limit;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

fn replay(ops: &Path, expect: &Path, rule: [&str; 3], more: &[&str]) -> Ran {
    let [thres, ratio, div] = rule;
    let args = [
        "replay",
        "--ops",
        ops.to_str().expect("UTF-8"),
        "--expect",
        expect.to_str().expect("UTF-8"),
        "--thres",
        thres,
        "--ratio",
        ratio,
        "--div",
        div,
    ];
    run([&args[..], more].concat())
}

fn unpacked(name: &str) -> String {
    let mut text = String::new();
    let file = File::open(vector(name)).expect("the vector");
    MultiGzDecoder::new(file).read_to_string(&mut text).expect("gzip");
    text
}

#[test]
fn recordings_replay_on_disk_and_in_memory() {
    let _limit = Limit::new();
    let ops = vector("ops_mixed.jsonl.gz");
    let expect = vector("blocks_mixed_t1_1_1.jsonl.gz");
    let rule = ["1", "1", "1"];
    let said = replay(&ops, &expect, rule, &[]).ok();
    assert!(said.ends_with("\n80 blocks, 47,569 operations: all equal\n"), "{said}");

    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    let store = store.to_str().expect("UTF-8");
    let more = ["--dir", store, "--reopen-every", "7", "--hasher", "scalar", "--threads", "1"];
    let done = replay(&ops, &expect, rule, &[&more[..], &["--json", "--blocks", "30"]].concat());
    let done = done.json();
    assert_eq!((&done["blocks"], &done["equal"]), (&30.into(), &true.into()));
    // The store stays, and is an ordinary one.
    assert_eq!(run(["root", store]).ok().trim_end(), done["root"].as_str().expect("a root"));
    let error = replay(&ops, &expect, rule, &more).fails(10);
    assert!(error.contains("is not empty"), "{error}");

    let bigval = vector("ops_bigval.jsonl.gz");
    let expect = vector("blocks_bigval_default.jsonl.gz");
    let said = replay(&bigval, &expect, ["20000000", "7", "10"], &["--reopen-every", "3"]).ok();
    assert!(said.ends_with("40 blocks, 2,115 operations: all equal\n"), "{said}");
}

#[test]
fn recipes_replay_while_old_entries_are_pruned() {
    let _limit = Limit::new();
    let args = [
        "replay",
        "--recipe",
        "prune",
        "--seed",
        "14",
        "--thres",
        "1",
        "--ratio",
        "1",
        "--div",
        "1",
        "--prune-keep",
        "4",
        "--reopen-every",
        "97",
        "--blocks",
        "500",
        "--json",
        "--expect",
    ];
    let expect = vector("blocks_prune_t1_1_1.jsonl.gz");
    let done = run(args.into_iter().chain([expect.to_str().expect("UTF-8")])).json();
    assert_eq!((&done["blocks"], &done["equal"]), (&500.into(), &true.into()));
    assert!(done["pruned_bytes"].as_u64().expect("a number") > 6 << 20, "{done}");
}

/// Changes one field of one recorded state and says how the replay takes it.
fn with_damage(height: usize, damage: impl FnOnce(&mut Value)) -> String {
    let mut lines: Vec<String> =
        unpacked("blocks_mixed_default.jsonl.gz").lines().map(str::to_owned).collect();
    let mut row: Value = serde_json::from_str(&lines[height]).expect("JSON");
    damage(&mut row);
    lines[height] = row.to_string();
    expecting(&lines.join("\n"), 1)
}

/// How a replay that expects these states fails.
fn expecting(states: &str, code: i32) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("states.jsonl");
    fs::write(&file, states).expect("written");
    let ops = vector("ops_mixed.jsonl.gz");
    replay(&ops, &file, ["20000000", "7", "10"], &[]).fails(code)
}

#[test]
fn the_first_difference_ends_the_replay_with_its_place() {
    let _limit = Limit::new();
    let zeros = "0".repeat(64);
    let error = with_damage(9, |row| row["clean_roots"][4] = zeros.as_str().into());
    let place =
        format!("error: height 9, shard 4: clean_roots differs\n  expected {zeros}\n  got  ");
    assert!(error.starts_with(&place), "{error}");

    let error = with_damage(0, |row| row["next_sn"][15] = 4097.into());
    let place = "error: height 0, shard 15: next_sn differs\n  expected 4097\n  got      4096\n";
    assert_eq!(error, place);
    let error = with_damage(3, |row| row["oldest_active_sn"][0] = 1.into());
    assert!(error.starts_with("error: height 3, shard 0: oldest_active_sn differs\n"), "{error}");

    // The wrong parameters show too.
    let ops = vector("ops_mixed.jsonl.gz");
    let expect = vector("blocks_mixed_t1_1_1.jsonl.gz");
    let error = replay(&ops, &expect, ["1", "7", "10"], &[]).fails(1);
    assert!(error.contains("next_sn differs"), "{error}");
}

#[test]
fn what_the_backend_would_ignore_is_refused() {
    let _limit = Limit::new();
    let ops = vector("ops_bigval.jsonl.gz");
    let expect = vector("blocks_bigval_default.jsonl.gz");
    for (backend, flag) in [
        ("cpu", "--resident-from"),
        ("scalar", "--check-one-of"),
        ("cpu:portable", "--check-one-of"),
    ] {
        let more = ["--hasher", backend, flag, "1000"];
        let error = replay(&ops, &expect, ["20000000", "7", "10"], &more).fails(2);
        let said = format!("error: {flag} is for devices: the backend {backend} hashes on the CPU");
        assert!(error.starts_with(&said), "{error}");
    }
    let error = replay(&ops, &expect, ["20000000", "7", "10"], &["--check-one-of", "0"]).fails(2);
    assert!(error.contains("the backend cpu "), "{error}");
}

#[test]
fn roots_of_the_recorded_bug_are_not_looked_at() {
    let _limit = Limit::new();
    let text = unpacked("blocks_mixed_default.jsonl.gz");
    let mut row: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    for field in ["roots", "digest", "clean_digest", "oldest_active_pos", "entry_file_size"] {
        assert!(row.as_object_mut().expect("an object").remove(field).is_some(), "{field}");
    }
    let rest = text.split_once('\n').expect("two lines").1;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("states.jsonl");
    fs::write(&file, format!("{row}\n{rest}")).expect("written");
    let ops = vector("ops_mixed.jsonl.gz");
    replay(&ops, &file, ["20000000", "7", "10"], &["--blocks", "5"]).ok();
}

#[test]
fn incomplete_recordings_are_not_all_equal() {
    let _limit = Limit::new();
    let text = unpacked("blocks_mixed_default.jsonl.gz");
    let lines: Vec<&str> = text.lines().collect();
    let error = expecting(&lines[..40].join("\n"), 5);
    assert!(error.contains("states.jsonl: ends before the state of height 40"), "{error}");
    let error = expecting(&[&lines[..20], &lines[21..]].concat().join("\n"), 5);
    assert!(error.contains("line 21: state of height 21, expected that of 20"), "{error}");
    let error = expecting(&text[..text.len() - 50], 5);
    assert!(error.contains("states.jsonl, line 81: EOF while parsing"), "{error}");
    let error = expecting(&format!("{text}{}\n", lines[80].replace("\"h\":80", "\"h\":81")), 5);
    assert!(error.contains("state of height 81, but the workload ends at height 80"), "{error}");
}
