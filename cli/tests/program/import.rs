//! Exports: whole ones make a store, others leave nothing behind.

use crate::commands::{Place, many_blocks};
use crate::common::run_with_input;
use flate2::Compression;
use flate2::write::GzEncoder;
use hedgerow_testkit::Limit;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;

/// A store, and an export of it in a few blocks, line by line.
fn exported() -> (Place, Vec<String>) {
    let place = Place::new();
    place.apply(&[], &many_blocks(3).0).ok();
    let text = place.run(&["export", "STORE", "--block-ops", "150"]).ok();
    let lines: Vec<String> = text.lines().map(|line| format!("{line}\n")).collect();
    assert!(lines.len() > 4, "some blocks between first and last line: {}", lines.len());
    (place, lines)
}

/// How an import of this fails, which leaves nothing.
#[track_caller]
fn refused(place: &Place, text: &str) -> String {
    let error = run_with_input(place.args(&["import", "COPY"]), text).fails(5);
    let names = fs::read_dir(place.path("STORE").parent().expect("it")).expect("a directory");
    let left: Vec<_> = names.map(|name| name.expect("a name").file_name()).collect();
    assert_eq!(left, ["STORE"], "after {error}");
    error
}

#[test]
fn an_export_that_was_cut_short_is_refused() {
    let _limit = Limit::new();
    let (place, lines) = exported();
    for end in 1..lines.len() {
        let error = refused(&place, &lines[..end].concat());
        assert!(error.contains("the export was cut short: its last line is missing"), "{error}");
    }
    let error = refused(&place, "");
    assert!(error.contains("standard input: the export was cut short"), "{error}");
    let text = lines.concat();
    for cut in [text.len() - 10, text.len() - lines[lines.len() - 1].len() - 10, 5] {
        let error = refused(&place, &text[..cut]);
        assert!(error.contains("EOF while parsing"), "{error}");
    }
    // A file on disk is no different, also a packed one.
    fs::write(place.path("STORE").with_file_name("cut"), &text[..text.len() / 2]).expect("written");
    let cut = place.path("STORE").with_file_name("cut").display().to_string();
    place.run(&["import", "COPY", &cut]).fails(5);
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text.as_bytes()).expect("memory");
    let packed = packed.finish().expect("memory");
    for (name, bytes) in [("whole.gz", &packed[..]), ("cut.gz", &packed[..packed.len() / 2])] {
        fs::write(place.path("STORE").with_file_name(name), bytes).expect("written");
    }
    let path = |name| place.path("STORE").with_file_name(name).display().to_string();
    place.run(&["import", "COPY", &path("cut.gz")]).fails(5);
    assert!(!place.path("COPY").exists());
    // The last byte, the end of the line, is not needed.
    run_with_input(place.args(&["import", "COPY"]), text.trim_end()).ok();
    place.run(&["import", "OTHER", &path("whole.gz")]).ok();
    assert_eq!(place.run(&["root", "COPY"]).ok(), place.run(&["root", "OTHER"]).ok());
}

#[test]
fn an_export_that_was_changed_is_refused() {
    let _limit = Limit::new();
    let (place, lines) = exported();
    let changed = |at: usize, change: &dyn Fn(&mut Value)| {
        let mut lines = lines.clone();
        let mut line: Value = serde_json::from_str(&lines[at]).expect("JSON");
        change(&mut line);
        lines[at] = format!("{line}\n");
        refused(&place, &lines.concat())
    };
    let last = lines.len() - 1;
    let error = changed(2, &|line| line["ops"][0][2] = json!("another value"));
    assert!(error.contains("the export is not whole: its last line speaks of "), "{error}");
    changed(2, &|line| _ = line["ops"].as_array_mut().expect("a list").pop());
    changed(last, &|line| line["end"]["keys"] = json!(1));
    changed(last, &|line| line["end"]["blocks"] = json!(1));
    changed(last, &|line| line["export"]["height"] = json!(4));
    changed(0, &|line| line["export"]["root"] = json!("0".repeat(64)));
    let error = changed(0, &|line| line["export"]["version"] = json!(2));
    assert!(error.contains("an export of version 2; this program reads version 1"), "{error}");
    let error = changed(1, &|line| line["ops"][0] = json!(["delete", "key"]));
    assert!(error.contains("line 2: an export deletes nothing"), "{error}");
    let error = changed(2, &|line| line["height"] = json!(9));
    assert!(error.contains("line 3: block 9\n  caused by: this block has height 9"), "{error}");

    // A block less, or twice; more after the end; two in one; none of it.
    refused(&place, &[&lines[..2], &lines[3..]].concat().concat());
    let error = refused(&place, &[&lines[..], &lines[1..2]].concat().concat());
    assert!(error.contains("there is more after the last line"), "{error}");
    refused(&place, &[&lines[..1], &lines[..]].concat().concat());
    let error = refused(&place, &lines[1..].concat());
    assert!(error.contains("`hedgerow apply` takes plain blocks"), "{error}");
    let error = place.apply(&[], &lines.concat()).fails(5);
    assert!(error.contains("line 1: this is an export, which `hedgerow import` reads"), "{error}");
}

/// Packed by its name, and unpacked by it.
#[test]
fn exports_are_packed() {
    let _limit = Limit::new();
    let (place, lines) = exported();
    let path = |name: &str| place.path("STORE").with_file_name(name).display().to_string();
    let plain = path("plain.jsonl");
    place.run(&["export", "STORE", "-o", &plain, "--block-ops", "150"]).ok();
    assert_eq!(fs::read_to_string(&plain).expect("text"), lines.concat());
    place.run(&["import", "PLAIN", &plain]).ok();
    let root = place.run(&["root", "PLAIN"]).ok();
    let len = |name: &str| fs::metadata(name).expect("a file").len();
    for end in ["gz", "zst"] {
        let packed = path(&format!("packed.{end}"));
        place.run(&["export", "STORE", "-o", &packed]).ok();
        assert!(len(&packed) < len(&plain) * 3 / 4, "{end}: {} {}", len(&packed), len(&plain));
        let copy = format!("COPY-{end}");
        place.run(&["import", &path(&copy), &packed]).ok();
        assert_eq!(place.run(&["root", &path(&copy)]).ok(), root);
        let bytes = fs::read(&packed).expect("it");
        let cut = path(&format!("cut.{end}"));
        for len in [bytes.len() / 2, bytes.len() - 1, 1] {
            fs::write(&cut, &bytes[..len]).expect("written");
            place.run(&["import", "CUT", &cut]).fails(5);
            assert!(!place.path("CUT").exists());
        }
    }
}

/// An export that somebody else made, whole and in another order.
#[test]
fn an_export_in_another_order_is_refused() {
    let _limit = Limit::new();
    let of = format!(r#"{{"version":1,"height":3,"root":"{}"}}"#, "0".repeat(64));
    let export = |keys: &[&str]| {
        let mut hashed = vec![];
        for key in keys {
            hashed.extend([2]);
            hashed.extend(key.bytes());
            hashed.extend(1_u32.to_le_bytes());
            hashed.extend(b"v");
        }
        let digest = hedgerow_hasher_api::hash_message(&hashed);
        let ops: Vec<_> = keys.iter().map(|key| json!(["put", key, "v"])).collect();
        let block = json!({"height": 1, "ops": ops});
        let end = format!(r#"{{"blocks":1,"keys":{},"digest":"{digest}"}}"#, keys.len());
        format!("{{\"export\":{of}}}\n{block}\n{{\"export\":{of},\"end\":{end}}}\n")
    };
    // As `the_format_is_that_of_version_1` has them.
    let place = Place::new();
    run_with_input(place.args(&["import", "GOOD"]), &export(&["k2", "k3", "k1"])).ok();
    for (keys, reason) in
        [(["k3", "k2", "k1"], "comes before"), (["k2", "k3", "k3"], "comes twice")]
    {
        let ran = run_with_input(place.args(&["import", "BAD"]), &export(&keys));
        let error = ran.fails(5);
        assert!(error.contains(reason) && error.contains("line 2"), "{error}");
        assert!(!place.path("BAD").exists());
    }
}

#[test]
fn a_store_is_imported_where_nothing_is() {
    let _limit = Limit::new();
    let (place, lines) = exported();
    let text = lines.concat();
    let error = run_with_input(place.args(&["import", "STORE"]), &text).fails(10);
    assert!(error.contains("is not empty"), "{error}");
    fs::create_dir(place.path("EMPTY")).expect("a directory");
    let args = place.args(&["import", "EMPTY", "--compaction", "7,3,4"]);
    run_with_input(args, &text).ok();
    let stat = place.run(&["stat", "EMPTY", "--json"]).json();
    assert_eq!(stat["compaction"], json!({"threshold": 7, "ratio": 3, "div": 4}));
    // Of nothing, nothing.
    place.run(&["create", "BARE"]).ok();
    let text = place.run(&["export", "BARE"]).ok();
    let imported = run_with_input(place.args(&["import", "SECOND", "--json"]), &text).json();
    assert_eq!((&imported["keys"], &imported["height"]), (&json!(0), &json!(0)));
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_nothing() {
    use crate::common::{Ran, piped};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let _limit = Limit::new();
    let (place, lines) = exported();
    let mut child = piped(place.args(&["import", "COPY"]));
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(lines[..3].concat().as_bytes()).expect("it reads");
    // More than pipe and buffer hold: it reads, so it has prepared for a signal.
    stdin.write_all(&vec![b'\n'; 1 << 20]).expect("it reads");
    let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
    kill(pid, Signal::SIGINT).expect("it lives");
    let ran = Ran::new(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(ran.stderr.ends_with("error: interrupted\n"), "{ran:?}");
    assert_eq!(fs::read_dir(place.path("STORE").parent().expect("it")).expect("it").count(), 1);
    drop(stdin);
}

/// Whoever changes the format gives it another version.
#[test]
fn the_format_is_that_of_version_1() {
    let _limit = Limit::new();
    let place = Place::new();
    let put = |n: u64| json!({"height": n, "ops": [["put", format!("k{n}"), format!("v{n}")]]});
    let blocks: String = (1..=3).map(|height| format!("{}\n", put(height))).collect();
    place.apply(&[], &blocks).ok();
    let of = format!(r#"{{"version":1,"height":3,"root":"{}"}}"#, place.root());
    let digest = "952c05ff3a88dc081ec62fe6ef34bd7f1952e8b703014c4fe201324ce6ddb375";
    let wanted = [
        format!("{{\"export\":{of}}}\n"),
        concat!(
            r#"{"height":1,"ops":[["put","0x6b32","0x7632"],["put","0x6b33","0x7633"],"#,
            r#"["put","0x6b31","0x7631"]]}"#,
            "\n"
        )
        .to_owned(),
        format!(r#"{{"export":{of},"end":{{"blocks":1,"keys":3,"digest":"{digest}"}}}}"#),
        "\n".to_owned(),
    ];
    assert_eq!(place.run(&["export", "STORE"]).ok(), wanted.concat());
}
