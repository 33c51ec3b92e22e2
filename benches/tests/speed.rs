//! The program `speed` on a small store: its figures make sense, and the root depends on the seed
//! and the workload alone.
#![expect(clippy::unwrap_used, reason = "a panic is the failure report")]

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn speed(dir: &Path, more: &[&str]) -> Output {
    let small = [
        ["--keys", "3000"],
        ["--populate-block-ops", "1000"],
        ["--blocks", "5"],
        ["--block-ops", "700"],
        ["--reads", "300"],
        ["--proofs", "200"],
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_speed"));
    command.args(small.as_flattened()).arg("--dir").arg(dir).args(more).output().unwrap()
}

fn json(dir: &Path, more: &[&str]) -> Value {
    let output = speed(dir, &[&["--json"], more].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_mixed_run_in_both_durabilities() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, durability: &str, seed: &str| {
        let more = ["--mix", "mixed", "--durability", durability, "--seed", seed];
        json(&dir.path().join(name), &more)
    };
    let pipelined = run("pipelined", "pipelined", "5");
    let each = run("each", "block", "5");
    let other = run("other", "pipelined", "6");
    assert_eq!(pipelined["root"], each["root"]);
    assert_ne!(pipelined["root"], other["root"]);
    for report in [&pipelined, &each] {
        for name in [
            "populate_ops_s",
            "update_ops_s",
            "cpu_us_per_update",
            "reads_s",
            "proofs_s",
            "reopen_s",
        ] {
            assert!(report[name].as_f64().is_some_and(|figure| figure > 0.0), "{name}: {report}");
        }
        let [published, durable] = ["block_ms", "durable_ms"].map(|name| {
            let [p50, p99, max] = ["p50", "p99", "max"].map(|rank| report[name][rank].as_f64());
            assert!(p50.is_some() && p50 <= p99 && p99 <= max, "{name}: {report}");
            max
        });
        assert!(published <= durable, "{report}");
        let cpu = &report["cpu"]["update"];
        let cpu = cpu["user_s"].as_f64().unwrap() + cpu["system_s"].as_f64().unwrap();
        let per_update = report["cpu_us_per_update"].as_f64().unwrap();
        assert!((cpu * 1e6 / 3500.0 - per_update).abs() < 1e-3, "{report}");
        assert!(report["proof_bytes"].as_f64().is_some_and(|bytes| bytes > 700.0), "{report}");
    }
}

#[test]
fn the_table_names_what_was_run() {
    let dir = tempfile::tempdir().unwrap();
    let output = speed(dir.path(), &["--reads", "0", "--compaction", "4096,1,2"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for part in ["3000 keys", "5 blocks of 700", "compaction 4096,1,2", "root "] {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
}

#[test]
fn errors_are_for_people() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "precious").unwrap();
    let cases = [
        (vec![], "is not empty"),
        (vec!["--keys", "0"], "at least one key"),
        (vec!["--key-len", "4"], "8 to 255"),
        (vec!["--keys", "5", "--mix", "mixed", "--blocks", "700"], "all keys were deleted"),
        (vec!["--compaction", "1,0,1"], "ratio"),
    ];
    for (more, reason) in cases {
        let output = speed(dir.path(), &more);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(reason), "{more:?}: {error}");
        assert!(!error.contains("panicked"), "{error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else was written");
}
