//! The program `engines`: runs, races, tables and plots.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hedgerow_compare_stores::{plot, results, table};
use std::{
    path::Path,
    process::{Command, Output},
};

fn engines(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_engines")).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

const SMALL: [&str; 8] = [
    "--keys=500",
    "--blocks=4",
    "--block-ops=100",
    "--populate-block-ops=200",
    "--reads=100",
    "--proofs=10",
    "--mix=mixed",
    "--watch=0",
];

/// `args` and what makes a run small.
fn small<'a>(args: &[&'a str]) -> Vec<&'a str> {
    args.iter().chain(&SMALL).copied().collect()
}

#[test]
fn a_race_is_a_table_and_plots() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (out, stores, into) = (path("results.jsonl"), path("stores"), path("plots"));
    let race = ["race", "--rounds=2", "--engines=redb,hedgerow", "--out", &out, "--dir", &stores];
    let ran = engines(&small(&race));
    assert!(ran.status.success(), "{}", said(&ran));
    let runs = results::lines(&std::fs::read_to_string(&out).unwrap()).unwrap();
    let order: Vec<_> = runs.iter().map(|run| (run.round, &*run.engine)).collect();
    assert_eq!(order, [(0, "redb"), (0, "hedgerow"), (1, "hedgerow"), (1, "redb")]);
    assert!(runs.iter().all(|run| run.reopen.is_some() && run.keys == 500));
    assert!(runs.iter().all(|run| run.root.is_some() == (run.engine == "hedgerow")));
    assert_eq!(std::fs::read_dir(&stores).unwrap().count(), 0, "stores are removed");

    let table = engines(&["table", &out]);
    let text = said(&table);
    assert!(table.status.success() && text.contains("### mixed 90/5/5, 500 keys"), "{text}");
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).collect();
    // Headings, a rule, ours first.
    assert_eq!(rows.len(), 4, "{text}");
    assert!(rows[2].starts_with("| hedgerow ") && rows[3].starts_with("| redb "), "{text}");
    assert!(rows[3].contains("x)") && !rows[2].contains("x)"), "{text}");

    let plotted = engines(&["plot", &out, "--into", &into]);
    assert!(plotted.status.success(), "{}", said(&plotted));
    assert!(Path::new(&into).join("cpu.svg").is_file());
}

#[test]
fn what_is_asked_wrongly_ends_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let within = format!("--dir={}", dir.path().display());
    let fails = |args: &[&str], words: &str| {
        let ran = engines(args);
        assert!(!ran.status.success() && said(&ran).contains(words), "{args:?}: {}", said(&ran));
    };
    fails(&["run", "--engine=nobody"], "engines are hedgerow,");
    fails(&small(&["run", "--engine=redb", "--block-ops=400"]), "cannot be used multiple times");
    let run = ["run", "--engine=hedgerow", "--keys=10", "--watch=0"];
    fails(&run, "a block changes more than half of all keys");
    std::fs::write(dir.path().join("file"), "x").unwrap();
    fails(&small(&["run", "--engine=hedgerow", &within]), "is not empty");
    fails(&["table", dir.path().join("file").to_str().unwrap()], "line 1:");
    fails(&["table", dir.path().join("none").to_str().unwrap()], "No such file");
}

/// A race in which a run fails goes on, and ends with an error.
#[test]
fn a_race_goes_on_after_a_failed_run() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("results.jsonl").display().to_string();
    let within = format!("--dir={}", dir.path().display());
    let race = [
        "race",
        "--rounds=1",
        "--engines=hedgerow",
        "--keys=10,500",
        "--blocks=1",
        "--block-ops=100",
        "--reads=10",
        "--proofs=1",
        "--watch=0",
        "--out",
        &out,
        &within,
    ];
    let ran = engines(&race);
    assert!(!ran.status.success() && said(&ran).contains("1 runs failed"), "{}", said(&ran));
    let runs = results::lines(&std::fs::read_to_string(&out).unwrap()).unwrap();
    assert_eq!(runs.iter().map(|run| run.keys).collect::<Vec<_>>(), [500]);
}

/// Made-up figures of engines with made-up names.
const FIXED: &str = include_str!("results.jsonl");

#[test]
fn medians_ratios_within_rounds_and_spans() {
    let runs = results::lines(FIXED).unwrap();
    let table = table::tables(&runs);
    let rows: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).collect();
    let cell = |row: usize, column: usize| rows[row].split(" | ").nth(column).unwrap().to_owned();
    assert!(table.contains("### updates, 1 M keys, 20 x 50 k"), "{table}");
    assert!(table.contains("### updates, 10 M keys, 10 x 50 k"), "{table}");
    // Ours: 1, 2, 4; theirs 3, 4, 4 in the same rounds: ratios 3, 2, 1.
    assert_eq!(cell(2, 2), "2.00 [1.00..4.00]", "{table}");
    assert_eq!(cell(3, 2), "4.00 [3.00..4.00] (2.00x)", "{table}");
    // No proofs, and one run only, in a round that ours has.
    assert_eq!((cell(4, 10), cell(4, 2)), ("-".into(), "8.00 (4.00x)".into()), "{table}");
}

#[test]
fn plots_are_well_formed_small_and_name_every_engine() {
    let runs = results::lines(FIXED).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let names = plot::plots(&runs, dir.path()).unwrap();
    let all = ["throughput.svg", "cpu.svg", "memory.svg", "growth.svg", "latency.svg"];
    assert_eq!(names, all);
    for name in names {
        let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(text.len() < 40_000, "{name}: {} bytes", text.len());
        let svg = roxmltree::Document::parse(&text).unwrap();
        assert_eq!(svg.root_element().tag_name().name(), "svg", "{name}");
        let words: Vec<_> =
            svg.descendants().filter_map(|node| node.text()).map(str::trim).collect();
        for engine in ["hedgerow", "one", "two"] {
            // The second has one number of keys only, which is no line of growth but a point.
            assert!(words.contains(&engine), "{name}: {words:?}");
        }
        let unit = ["second", "microseconds", "MB", "milliseconds"];
        assert!(unit.iter().any(|unit| words.iter().any(|word| word.contains(unit))), "{name}");
        // Nothing is filled behind it all.
        assert!(!text.contains("fill=\"#FFFFFF\""), "{name}");
    }
}

#[test]
fn nothing_is_drawn_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(plot::plots(&[], dir.path()).unwrap().is_empty());
    assert_eq!(table::tables(&[]), "");
    let mut runs = results::lines(FIXED).unwrap();
    runs.iter_mut().for_each(|run| {
        run.update = None;
        run.rss_peak_mb = None;
    });
    assert!(plot::plots(&runs, dir.path()).unwrap().is_empty());
    assert!(table::tables(&runs).contains("| - |"));
}
