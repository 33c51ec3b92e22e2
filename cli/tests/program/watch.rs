//! `stat --watch`, beside a writer and with signals; `apply --stats`.

use crate::commands::{Place, many_blocks};
use crate::common::{Ran, piped, run};
use hedgerow_testkit::Limit;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};

fn read_line(from: &mut impl BufRead) -> String {
    let mut line = String::new();
    from.read_line(&mut line).expect("it answers");
    line
}

/// A line a look: the first says where the store is, the later ones how fast it goes on.
#[test]
fn watching_follows_a_writer_and_ends_after_its_count() {
    let _limit = Limit::new();
    let place = Place::new();
    let mut writer = piped(place.args(&["apply", "STORE", "-", "--ack"]));
    let mut blocks = writer.stdin.take().expect("piped");
    let mut acks = BufReader::new(writer.stdout.take().expect("piped"));
    let mut apply = |height: u64| {
        let ops = json!([["put", height.to_string(), "x"]]);
        writeln!(blocks, "{}", json!({"height": height, "ops": ops})).expect("it reads");
        assert!(read_line(&mut acks).starts_with(&format!("durable {height} ")));
    };
    (1..=3).for_each(&mut apply);
    let mut watching =
        piped(place.args(&["stat", "STORE", "--watch=0.1", "--count", "40", "--json"]));
    let mut lines = BufReader::new(watching.stdout.take().expect("piped"));
    let mut look = || -> Value { serde_json::from_str(&read_line(&mut lines)).expect("JSON") };
    let first = look();
    // The last block is durable, and no later one says so yet.
    let height = |line: &Value| line["height"].as_u64().expect("a height");
    assert!((2..=3).contains(&height(&first)), "{first}");
    for rate in ["seconds", "blocks_per_second", "entries_per_second", "log_bytes_per_second"] {
        assert_eq!(first[rate], Value::Null, "{first}");
    }
    assert_eq!(first["keys"], json!(height(&first)));
    (4..=9).for_each(&mut apply);
    let mut before = first;
    let mut at_least = 8;
    for _ in 1..40 {
        let line = look();
        let number = |name: &str| line[name].as_f64().expect("a number");
        let blocks = number("blocks_per_second") * number("seconds");
        assert_eq!(blocks.round() as u64, height(&line) - height(&before), "{line} after {before}");
        let grown = height(&line) > height(&before);
        assert_eq!(number("entries_per_second") > 0.0, grown, "{line}");
        assert_eq!(number("log_bytes_per_second") > 0.0, grown, "{line}");
        if height(&line) == at_least && at_least == 8 {
            // It does not keep the writer from anything.
            apply(10);
            at_least = 9;
        }
        before = line;
    }
    assert!(height(&before) >= at_least, "{before}");
    let ran = Ran::new(watching.wait_with_output().expect("it ends"));
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    drop(blocks);
    assert!(writer.wait().expect("it ends").success());

    let text = place.run(&["stat", "STORE", "--watch=0.1", "--count=2"]).ok();
    let lines: Vec<&str> = text.lines().collect();
    let [first, second] = lines[..] else { panic!("{text}") };
    assert!(first.starts_with("height 10  keys 10  log "), "{first}");
    assert!(second.ends_with("  0.0 blocks/s  0 entries/s  0 B/s"), "{second}");
}

#[cfg(unix)]
#[test]
fn watching_ends_in_order_when_it_is_told_to() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let _limit = Limit::new();
    let place = Place::new();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // A day, so that it does not end by itself.
        let mut watching = piped(place.args(&["stat", "STORE", "--watch=86400"]));
        let mut lines = BufReader::new(watching.stdout.take().expect("piped"));
        assert!(read_line(&mut lines).starts_with("height 0  keys 0  log "));
        kill(Pid::from_raw(watching.id().try_into().expect("an id")), signal).expect("it lives");
        let ran = Ran::new(watching.wait_with_output().expect("it ends"));
        let said = "stopping in order; Ctrl-C again ends at once\n";
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), said), "{ran:?}");
    }
}

#[test]
fn watching_is_refused_where_it_makes_no_sense() {
    let _limit = Limit::new();
    let place = Place::new();
    for wrong in ["--watch=0", "--watch=x", "--count=3", "--watch=1e9"] {
        place.run(&["stat", "STORE", wrong]).fails(2);
    }
    let error = run(["stat", "/nowhere/at/all", "--watch", "--count", "1"]).fails(9);
    assert!(error.contains("/nowhere/at/all"), "{error}");
}

#[test]
fn apply_says_how_long_its_steps_took() {
    let _limit = Limit::new();
    let place = Place::new();
    let (lines, _) = many_blocks(5);
    let text = place.apply(&["--json", "--stats"], &lines).ok();
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!(text.lines().count(), 6);
    let steps = last["steps"].as_array().expect("steps");
    let step = |name: &str| steps.iter().find(|step| step["step"] == name).expect("it");
    for name in ["wait", "resolve", "update", "record", "hash", "publish"] {
        assert_eq!((&step(name)["count"], &step(name)["failed"]), (&json!(5), &json!(0)), "{name}");
    }
    // Blocks that wait for the disk are written together.
    for name in ["write", "sync"] {
        let count = step(name)["count"].as_u64().expect("a number");
        assert!((1..=5).contains(&count), "{name}: {count}");
    }
    let whole = last["seconds"].as_f64().expect("a number");
    for step in steps {
        let number = |name: &str| step[name].as_f64().unwrap_or_default();
        assert!(number("median") <= number("p99") && number("p99") <= number("longest"), "{step}");
        assert!(number("longest") <= number("seconds") && number("seconds") <= whole, "{step}");
    }
    let place = Place::new();
    let text = place.apply(&["--stats"], &lines).ok();
    let mut told = text.lines();
    let headings: Vec<_> = told.next().expect("a line").split_whitespace().collect();
    assert_eq!(headings, ["step", "times", "failed", "busy", "mean", "median", "99", "%", "most"]);
    let names: Vec<_> = told.filter_map(|line| line.split_whitespace().next()).collect();
    let steps = ["wait", "resolve", "update", "record", "hash", "publish", "write", "sync"];
    assert!(names.starts_with(&steps) && names[8..] == ["manifest", "applied"], "{text}");
}
