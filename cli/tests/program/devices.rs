//! `hedgerow devices`: what it lists is what `--hasher` takes.

use crate::common::{Ran, run, vector};
use hedgerow_testkit::Limit;
use serde_json::Value;
use std::collections::HashSet;

fn listed() -> Vec<Value> {
    let text = run(["devices", "--json"]).ok();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn name(backend: &Value) -> &str {
    backend["name"].as_str().expect("a name")
}

fn replay_with(hasher: &str) -> Ran {
    replay_tuned(hasher, &[])
}

fn replay_tuned(hasher: &str, more: &[&str]) -> Ran {
    let (ops, expect) = (vector("ops_bigval.jsonl.gz"), vector("blocks_bigval_default.jsonl.gz"));
    let [ops, expect] = [&ops, &expect].map(|path| path.to_str().expect("UTF-8"));
    let rule = ["--thres", "20000000", "--ratio", "7", "--div", "10"];
    let run_it = ["replay", "--ops", ops, "--expect", expect, "--blocks", "2", "--hasher", hasher];
    run(run_it.into_iter().chain(rule).chain(more.iter().copied()))
}

/// A replay that must find a difference.
fn replay_other(hasher: &str, more: &[&str]) -> Ran {
    let (ops, expect) = (vector("ops_mixed.jsonl.gz"), vector("blocks_mixed_t1_1_1.jsonl.gz"));
    let [ops, expect] = [&ops, &expect].map(|path| path.to_str().expect("UTF-8"));
    let rule = ["--thres", "1", "--ratio", "7", "--div", "10", "--hasher", hasher];
    run(["replay", "--ops", ops, "--expect", expect]
        .into_iter()
        .chain(rule)
        .chain(more.iter().copied()))
}

/// Names of the devices of the list that can be used.
fn usable_devices(backends: &[Value]) -> Vec<&str> {
    let usable = backends.iter().filter(|backend| backend["usable"] == true).map(name);
    let family = |name: &&str| name.split(':').next().unwrap_or_default().to_owned();
    usable.filter(|name| !["auto", "cpu", "scalar"].contains(&&*family(name))).collect()
}

#[test]
fn every_backend_is_usable_or_says_why_not() {
    let _limit = Limit::new();
    let backends = listed();
    let names: HashSet<&str> = backends.iter().map(name).collect();
    assert_eq!(names.len(), backends.len(), "{names:?}");
    for kernel in ["cpu", "scalar", "cpu:sha2", "cpu:portable", "cpu:avx512x32", "cpu:armv8x4"] {
        assert!(names.contains(kernel), "{kernel} is not in {names:?}");
    }
    for backend in &backends {
        assert!(!backend["device"].as_str().expect("what it runs on").is_empty());
        let ran = replay_with(name(backend));
        match backend["why_not"].as_str() {
            None => {
                assert_eq!(backend["usable"], true, "{backend}");
                assert!(ran.ok().ends_with("all equal\n"), "{backend}");
            }
            Some(why_not) => {
                assert_eq!(backend["usable"], false, "{backend}");
                let error = ran.fails(2);
                assert!(error.contains(why_not), "{error}");
            }
        }
    }
    // No CPU has the instructions of both.
    let unusable =
        |kernel: &str| backends.iter().any(|b| name(b) == kernel && b["usable"] == false);
    assert!(unusable("cpu:avx512x32") || unusable("cpu:armv8x4"));
    for unknown in ["cpu:abacus", "abacus", "scalar:1", "cpu:"] {
        assert!(replay_with(unknown).fails(2).contains("option hasher: "), "{unknown}");
    }
}

#[test]
fn a_device_is_used_as_asked_and_its_part_in_a_difference_is_told() {
    let _limit = Limit::new();
    let backends = listed();
    let devices = usable_devices(&backends);
    if devices.is_empty() {
        println!("!!! NOT RUN: the words about a device: there is none");
    }
    for device in devices {
        let tuned = ["--resident-from", "0", "--check-one-of", "1"];
        let said = replay_tuned(device, &tuned).ok();
        assert!(said.contains("the rows of 2 blocks hashed on the device"), "{said}");
        assert!(!said.contains(" 0 digests checked"), "{said}");
        // The recording's rule, but for the threshold.
        let error = replay_other(device, &tuned).fails(1);
        let (difference, health) = error.trim_end().rsplit_once('\n').expect("two lines");
        assert!(difference.contains(" differs\n"), "{error}");
        assert!(health.contains(" blocks hashed on the device, "), "{error}");
        assert!(health.ends_with(" digests checked"), "{error}");
    }
}

/// What was measured of which device follows from the list, and the plan from what was measured.
#[test]
fn auto_shows_its_calibration() {
    let _limit = Limit::new();
    let backends = listed();
    let auto = backends.iter().find(|backend| name(backend) == "auto").expect("auto");
    let measured = auto["measured"].as_array().expect("a list");
    let of_auto = |name: &&str| name.contains(':') && !name.starts_with("wgpu-software");
    let devices: HashSet<&str> = usable_devices(&backends).into_iter().filter(of_auto).collect();
    let seen: HashSet<&str> =
        measured.iter().map(|it| it["backend"].as_str().expect("a name")).collect();
    assert_eq!(seen, devices, "{auto}");
    let plan = auto["plan"].as_array().expect("a plan");
    let chosen = plan.last().expect("a range");
    assert_eq!((&plan[0]["from"], &chosen["to"]), (&1.into(), &Value::Null), "{auto}");
    let of_nodes = |it: &&Value| it["work"] == "nodes" && it["backend"] == chosen["backend"];
    match measured.iter().find(of_nodes) {
        Some(nodes) => assert_eq!(nodes["faster_from"], chosen["from"], "{auto}"),
        None => assert_eq!(chosen["backend"], "cpu", "{auto}"),
    }
    let table = run(["devices"]).ok();
    assert!(table.contains("\nauto, as measured on this machine:\n"), "{table}");
    for (work, kind) in measured.iter().zip(measured.iter().map(|it| it["work"].as_str())) {
        assert!(work["cpu_item_nanoseconds"].as_f64().is_some_and(|cost| cost >= 0.0), "{work}");
        let (device, kind) = (work["backend"].as_str().expect("a name"), kind.expect("a kind"));
        let row = |row: &str| row.split_whitespace().take(2).eq([device, kind]);
        assert!(table.lines().any(row), "{device} {kind} is not in {table}");
    }
}

#[test]
fn the_default_has_a_plan_for_every_batch_size() {
    let _limit = Limit::new();
    let backends = listed();
    let defaults: Vec<_> = backends.iter().filter(|backend| backend["default"] == true).collect();
    let [default] = defaults[..] else { panic!("{defaults:?}") };
    let plan = default["plan"].as_array().expect("a plan");
    let mut next = Some(1);
    for range in plan {
        assert_eq!(range["from"].as_u64(), next, "{plan:?}");
        next = range["to"].as_u64().map(|to| to + 1);
        let chosen = backends.iter().find(|backend| backend["name"] == range["backend"]);
        let chosen = chosen.expect("one of the list");
        assert_eq!(chosen["usable"], true, "{chosen}");
        assert!(chosen["nanoseconds_per_node"].as_f64().expect("measured") > 0.0, "{chosen}");
    }
    assert_eq!(next, None, "{plan:?}");
}

#[test]
fn the_table_has_a_row_for_each() {
    let _limit = Limit::new();
    let text = run(["devices"]).ok();
    for backend in listed() {
        let row = text.lines().find(|row| row.split(' ').next() == Some(name(&backend)));
        let row = row.unwrap_or_else(|| panic!("{backend} is not in {text}"));
        assert!(row.contains(backend["device"].as_str().expect("what it runs on")), "{row}");
        assert!(row.contains(backend["why_not"].as_str().unwrap_or("  yes")), "{row}");
        assert_eq!(row.contains("the default"), backend["default"] == true, "{row}");
    }
    // A column begins at the same place in every row.
    let rows: Vec<&str> = text.lines().take_while(|row| !row.is_empty()).collect();
    let begins = rows[0].find("usable").expect("a heading");
    for (row, backend) in rows[1..].iter().zip(listed()) {
        let usable: String = row.chars().skip(begins).collect();
        assert!(usable.starts_with("yes") || usable.starts_with("no: "), "{row}");
        let device = backend["device"].as_str().expect("what it runs on");
        assert_eq!(row.find(device), rows[0].find("runs on"), "{row}");
    }
    assert!(text.contains("\ncpu, as measured on this machine:\nbatch of nodes  begins with\n1"));
    assert!(text.lines().last().is_some_and(|row| row.contains(" and more")), "{text}");
}
