//! Real processes and a real file system: `torture kill`, `full` and `two` at the size of a test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use hedgerow_testkit::Limit as TimeLimit;
use hedgerow_torture::process::kill::{self, Figures, Limit};
use hedgerow_torture::process::talk::Program;
use hedgerow_torture::process::two;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_torture"))
}

fn place(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

#[test]
fn nothing_is_lost_by_a_few_kills() {
    let _limit = TimeLimit::new();
    let seed = 7;
    println!("seed {seed}: torture kill --seed {seed}");
    let mut figures = Figures::default();
    let (program, limit) = (Program::at(program()), Limit::Kills(12));
    kill::run(&program, &place("kills"), seed, limit, 2, &mut figures)
        .unwrap_or_else(|failure| panic!("{failure}"));
    println!("{figures}");
    assert!(figures.durable > 20 && figures.compared > 2, "the children got somewhere: {figures}");
    assert!(figures.stages.contains_key("create"), "one was killed in a creation: {figures}");
}

#[test]
fn a_full_file_system_loses_nothing() {
    let _limit = TimeLimit::new();
    let (seed, rounds) = (2, 6);
    // A process of its own, in which alone the small file system exists.
    let output = Command::new(program())
        .args(["full", "--seed", &seed.to_string(), "--rounds", &rounds.to_string(), "--dir"])
        .arg(place("full"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    if !said.contains("!!! NOT RUN") {
        assert!(said.contains(&format!("times full {rounds}, ")), "{said}");
    }
}

#[test]
fn one_store_has_one_process_at_a_time() {
    let _limit = TimeLimit::new();
    let seed = 3;
    println!("seed {seed}: torture two --seed {seed}");
    let mut figures = two::Figures::default();
    two::run(&Program::at(program()), &place("two"), seed, 12, &mut figures)
        .unwrap_or_else(|failure| panic!("{failure}"));
    println!("{figures}");
    let seen = [figures.kills, figures.refused, figures.waited, figures.creations, figures.at_once];
    assert!(!seen.contains(&0), "all of it happened: {figures}");
}
