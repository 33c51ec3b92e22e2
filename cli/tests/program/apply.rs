//! `apply`: where it stops and how it goes on, with real signals and real terminals.

use crate::commands::{Place, many_blocks};
use crate::common::{Ran, piped, program, run_limited, run_with_input};
use hedgerow_testkit::{Limit, Model};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

fn send(signal: Signal, child: &Child) {
    let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
    kill(pid, signal).expect("it lives");
}

fn interrupt(child: &Child) {
    send(Signal::SIGINT, child);
}

/// Some blocks of one operation each.
fn blocks(heights: impl IntoIterator<Item = u64>) -> String {
    let block = |height: u64| {
        format!("{}\n", json!({"height": height, "ops": [["put", "key", height.to_string()]]}))
    };
    heights.into_iter().map(block).collect()
}

fn root_after(heights: u64) -> String {
    let mut model = Model::new(Default::default());
    for height in 1..=heights {
        let value = height.to_string().into_bytes();
        model.apply_net(height, &[vec![(b"key".to_vec(), Some(value))]]);
    }
    model.state_root().to_string()
}

/// While it waits for a line that does not come.
#[test]
fn ctrl_c_ends_it_at_a_whole_block_and_the_same_input_goes_on() {
    ends_and_goes_on(Signal::SIGINT);
}

/// How a service manager ends a program.
#[test]
fn sigterm_ends_it_as_ctrl_c_does() {
    ends_and_goes_on(Signal::SIGTERM);
}

fn ends_and_goes_on(signal: Signal) {
    let _limit = Limit::new();
    let place = Place::new();
    let mut child = piped(place.args(&["apply", "STORE", "-", "--ack"]));
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(blocks(1..=3).as_bytes()).expect("it reads");
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    for height in 1..=3 {
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it answers");
        assert!(line.starts_with(&format!("durable {height} ")), "{line}");
    }
    send(signal, &child);
    let ran = Ran::new(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, Some(130), "{ran:?}");
    let said = format!(
        "stopping in order; Ctrl-C again ends at once\nerror: interrupted\n  \
         stopped after 3 blocks; the store is durable at height 3, root {}\n  \
         what now: `hedgerow apply --skip-applied {} -` goes on from there\n",
        root_after(3),
        place.path("STORE").display()
    );
    assert_eq!(ran.stderr, said);
    drop(stdin);

    let all = blocks(1..=5);
    let error = place.apply(&[], &all).fails(5);
    assert!(error.contains("what now: --skip-applied passes over"), "{error}");
    let said = place.apply(&["--skip-applied"], &all).ok();
    let end = format!("applied 2 blocks, 2 operations; height 5, root {}\n", root_after(5));
    assert_eq!(said, format!("passed over 3 blocks that the store had already\n{end}"));
    place.run(&["check", "STORE"]).ok();
}

/// Standard output is full and nobody reads it: it cannot end in order.
#[cfg(target_os = "linux")]
#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    use nix::fcntl::{FcntlArg, fcntl};
    let _limit = Limit::new();
    let place = Place::new();
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let room = fcntl(&writer, FcntlArg::F_GETPIPE_SZ).expect("a size");
    writer.write_all(&vec![0; room.try_into().expect("a size")]).expect("there is room");
    let mut child = program()
        .args(place.args(&["apply", "STORE", "-", "--ack"]))
        .stdin(Stdio::piped())
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    // It reads a block ahead and hands in one after the other: when it has read what follows the third
    // one, the first was handed in. What follows is more than pipe and buffer hold.
    stdin.write_all(blocks(1..=3).as_bytes()).expect("it reads");
    stdin.write_all(&vec![b'\n'; 1 << 20]).expect("it reads");
    interrupt(&child);
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("it answers");
    assert_eq!(line, "stopping in order; Ctrl-C again ends at once\n");
    assert_eq!(child.try_wait().expect("a child"), None, "it waits for its output");
    interrupt(&child);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("UTF-8");
    assert_eq!(rest, "", "nothing in order any more");
    drop((stdin, reader));
    place.run(&["check", "STORE"]).ok();
}

#[test]
fn what_is_passed_over_is_compared() {
    let _limit = Limit::new();
    let place = Place::new();
    let (lines, mut model) = many_blocks(6);
    place.apply(&[], &lines).ok();
    let root = model.state_root().to_string();
    let lines: Vec<&str> = lines.lines().collect();
    let said = place.apply(&["--skip-applied"], &lines[..4].join("\n")).ok();
    let end = format!("applied 0 blocks, 0 operations; height 6, root {root}\n");
    assert_eq!(said, format!("passed over 4 blocks that the store had already\n{end}"));
    place.apply(&["--skip-applied"], &lines[2..].join("\n")).ok();

    // The last operation of a block that none after it takes back, changed.
    let changed = |at: usize, op: Value| {
        let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let mut block: Value = serde_json::from_str(&lines[at]).expect("JSON");
        block["ops"].as_array_mut().expect("a list").push(op);
        lines[at] = block.to_string();
        place.apply(&["--skip-applied"], &lines.join("\n")).fails(5)
    };
    let error = changed(5, json!(["put", "other", "value"]));
    let wanted = "standard input, line 6: the store was not made from this input: block 6 leaves key \
                  other \"value\", in the store it is absent";
    assert!(error.contains(wanted), "{error}");
    let error = changed(1, json!(["put", "other", "v".repeat(100)]));
    assert!(error.contains("line 2: "), "{error}");
    assert!(error.contains(&format!("\"{}\"... of 100 bytes", "v".repeat(40))), "{error}");
    let error = changed(2, json!(["put", "other", ""]));
    assert!(error.contains("block 3 leaves key other \"\", in the store"), "{error}");
    let error = place.apply(&["--skip-applied"], &[&lines[..2], &lines[3..]].concat().join("\n"));
    assert!(error.fails(5).contains("line 3: block 4 follows block 2"));
    assert_eq!(place.root(), root);
}

/// What it says of a bad line, for programs.
#[test]
fn where_it_stopped_is_in_the_object_too() {
    let _limit = Limit::new();
    let place = Place::new();
    let input = format!("{}not a block\n", blocks(1..=2));
    let ran = place.apply(&["--json"], &input);
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(5), 2), "{ran:?}");
    let error: Value = serde_json::from_str(&ran.stderr).expect("one object");
    assert_eq!((&error["code"], &error["kind"]), (&json!(5), &json!("bad_input")));
    let stopped = json!({"blocks": 2, "height": 2, "root": root_after(2)});
    assert_eq!(error["stopped"], stopped);
    let message = error["message"].as_str().expect("text");
    assert!(message.starts_with("standard input, line 3: expected ident"), "{message}");
    let now = error["what_now"].as_str().expect("text");
    assert!(now.starts_with("mend the input; then `hedgerow apply --skip-applied "), "{now}");
}

/// A file cannot grow any more: the disk is full, as far as the store can see.
#[test]
fn a_full_disk_is_told_with_the_height_that_is_durable() {
    let _limit = Limit::new();
    let place = Place::new();
    let block = |height: u64| {
        let value = "v".repeat(60_000);
        let ops: Vec<_> =
            (0..4).map(|n| json!(["put", format!("key {height} {n}"), value])).collect();
        format!("{}\n", json!({"height": height, "ops": ops}))
    };
    let all: String = (1..=60).map(block).collect();
    // Room for the database, and for some of the 14 MB.
    let limit = "trap '' XFSZ; ulimit -f 8192";
    let ran = run_limited(limit, place.args(&["apply", "STORE", "-"]), &all).expect("limited");
    let error = ran.fails(8);
    assert!(error.contains("; the store is durable at height "), "{error}");
    let height = error.split("durable at height ").nth(1).expect("a height");
    let height: u64 = height.split([',', '\n']).next().expect("it").parse().expect("a number");
    assert!((1..60).contains(&height), "{error}");
    // Opened by who may write: who only looks sees what a later block calls durable.
    let checked = place.run(&["check", "STORE", "--json"]).json();
    assert!(checked["height"].as_u64() >= Some(height), "{checked}: {error}");
    let done = run_with_input(place.args(&["apply", "STORE", "-", "--skip-applied"]), &all).ok();
    assert!(done.contains("; height 60, root "), "{done}");
    place.run(&["check", "STORE"]).ok();
}

#[test]
fn it_says_that_it_waits_for_a_terminal() {
    let _limit = Limit::new();
    let place = Place::new();
    let pty = openpty(None, None).expect("a terminal");
    let child = program()
        .args(place.args(&["apply", "STORE"]))
        .stdin(Stdio::from(pty.slave))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("the program starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("it says something");
    assert!(line.starts_with("waiting for blocks from the terminal"), "{line}");
    let mut keys = File::from(pty.master);
    keys.write_all(blocks([1]).as_bytes()).expect("typed");
    keys.write_all(b"\x04").expect("typed");
    let ran = Ran::new(child.wait_with_output().expect("it ends"));
    assert_eq!(
        ran.ok(),
        format!("applied 1 block, 1 operation; height 1, root {}\n", root_after(1))
    );
}

/// Everything that is written to a terminal by a program whose standard error it is.
#[cfg(target_os = "linux")]
fn seen_on_a_terminal(args: &[String]) -> String {
    let pty = openpty(None, None).expect("a terminal");
    // The command holds the terminal, so it goes before the reading ends.
    let mut child = {
        let mut command = program();
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::from(pty.slave)).spawn().expect("the program starts")
    };
    let mut seen = Vec::new();
    // Linux ends a terminal that nobody has open any more with an error.
    let _ = File::from(pty.master).read_to_end(&mut seen);
    assert!(child.wait().expect("it ends").success());
    String::from_utf8(seen).expect("UTF-8")
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_shows_how_much_of_a_file_is_done() {
    let _limit = Limit::new();
    let place = Place::new();
    fs::write(place.path("BLOCKS"), many_blocks(6).0).expect("written");
    let seen = seen_on_a_terminal(&place.args(&["apply", "STORE", "BLOCKS"]));
    let bar = seen.split('\r').find(|text| text.contains("applying"));
    let bar = bar.unwrap_or_else(|| panic!("no bar: {seen:?}"));
    assert!(bar.contains("% of ") && bar.contains(" left"), "{bar:?}");
    // Nothing of it where nobody looks.
    place.run(&["create", "OTHER"]).ok();
    place.run(&["apply", "OTHER", "BLOCKS"]).ok();
}
