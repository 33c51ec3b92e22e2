//! Every command, end to end through the program.

use crate::common::{Ran, piped, run, run_with_input};
use hedgerow_testkit::{Limit, Model};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory, and in it a new store.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().expect("a directory") };
        place.run(&["create", "STORE"]).ok();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Arguments; those in capitals are paths in the directory.
    pub(crate) fn args(&self, args: &[&str]) -> Vec<String> {
        let is_path = |arg: &str| {
            arg.len() > 1 && arg.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
        };
        args.iter()
            .map(|arg| match is_path(arg) {
                true => self.path(arg).display().to_string(),
                false => (*arg).to_owned(),
            })
            .collect()
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        run(self.args(args))
    }

    pub(crate) fn apply(&self, args: &[&str], input: &str) -> Ran {
        let args = [&["apply", "STORE"], args].concat();
        run_with_input(self.args(&args), input)
    }

    pub(crate) fn root(&self) -> String {
        self.run(&["root", "STORE"]).ok().trim_end().to_owned()
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn create_says_what_it_made_and_keeps_it() {
    let _limit = Limit::new();
    let place = Place::new();
    let args = ["create", "OTHER", "--json", "--compaction", "7,3,4", "--engine", "redb"];
    let created = place.run(&args).json();
    assert_eq!(created["compaction"], json!({"threshold": 7, "ratio": 3, "div": 4}));
    assert_eq!((&created["height"], &created["engine"]), (&json!(0), &json!("redb")));
    let genesis = Model::new(Default::default()).state_root().to_string();
    assert_eq!(created["root"], json!(genesis));

    let stat = place.run(&["stat", "OTHER", "--json"]).json();
    assert_eq!(stat["compaction"], created["compaction"]);
    assert_eq!((&stat["keys"], &stat["entries"]), (&json!(0), &json!(65_536)));

    let args = ["create", "QMDB", "--compaction", "qmdb", "--json"];
    assert_eq!(place.run(&args).json()["compaction"]["threshold"], 20_000_000);
    let args = ["create", "SINGLE", "--threshold", "9", "--div", "5", "--json"];
    let compaction = &place.run(&args).json()["compaction"];
    assert_eq!(*compaction, json!({"threshold": 9, "ratio": 1, "div": 5}));
}

#[test]
fn put_get_delete() {
    let _limit = Limit::new();
    let place = Place::new();
    let put = place.run(&["put", "STORE", "alice", "100", "--json"]).json();
    assert_eq!(
        (&put["height"], &put["created"], &put["durable"]),
        (&1.into(), &1.into(), &true.into())
    );
    assert_eq!(put["root"], json!(place.root()));
    assert_eq!(place.run(&["get", "STORE", "alice"]).ok(), "100\n");
    assert_eq!(place.run(&["get", "STORE", "0x616c696365"]).ok(), "100\n");

    place.run(&["put", "STORE", "alice", "0x00ff"]).ok();
    assert_eq!(place.run(&["get", "STORE", "alice"]).ok(), "0x00ff\n");
    let got = place.run(&["get", "STORE", "alice", "--json"]).json();
    let wanted = json!({"height": 2, "key": "0x616c696365", "present": true, "value": "0x00ff"});
    assert_eq!(got, wanted);
    place.run(&["put", "STORE", "empty", ""]).ok();
    assert_eq!(place.run(&["get", "STORE", "empty"]).ok(), "\n");

    assert!(place.run(&["delete", "STORE", "alice"]).ok().starts_with("deleted; height 4, root "));
    let again = place.run(&["delete", "STORE", "alice", "--json"]).json();
    assert_eq!((&again["deleted"], &again["absent_deletes"]), (&0.into(), &1.into()));
    // Absent is an answer, not an error, and cannot be taken for a value.
    let absent = place.run(&["get", "STORE", "alice"]);
    assert_eq!((absent.code, absent.stdout.as_str()), (Some(3), ""));
    assert_eq!(absent.stderr, "absent\n");
    let absent = place.run(&["get", "STORE", "alice", "--json"]);
    assert_eq!((absent.code, absent.stderr.as_str()), (Some(3), ""));
    let absent: Value = serde_json::from_str(&absent.stdout).expect("JSON");
    assert_eq!((&absent["present"], &absent["value"]), (&json!(false), &Value::Null));
}

/// History is kept as long as a command that writes says; an archive says so.
#[test]
fn what_is_kept_is_said_when_writing() {
    let _limit = Limit::new();
    let place = Place::new();
    let write = |keep: &[&str]| {
        for number in 0..6 {
            let value = number.to_string();
            place.run(&[&["put", "STORE", "key", &value][..], keep].concat()).ok();
        }
    };
    let at_genesis = || place.run(&["root", "STORE", "--height", "0"]).code;
    write(&[]);
    write(&["--keep-all"]);
    assert_eq!(at_genesis(), Some(0), "1,024 heights are kept without a word");
    let both = place.run(&["put", "STORE", "key", "1", "--keep-all", "--keep-heights", "3"]);
    assert_eq!(both.code, Some(2), "{}", both.stderr);
    write(&["--keep-heights", "3"]);
    assert_eq!(at_genesis(), Some(3));
    assert_eq!(place.run(&["root", "STORE", "--height", "15"]).code, Some(0));
    place.run(&["delete", "STORE", "key", "--keep-heights", "3"]).ok();
    place.apply(&["--keep-heights", "3"], r#"{"height":20,"ops":[]}"#).ok();
}

#[test]
fn errors_are_for_people() {
    let _limit = Limit::new();
    let place = Place::new();
    fs::create_dir(place.path("FULL")).expect("a directory");
    fs::write(place.path("FULL").join("file"), "here").expect("a file");
    fs::create_dir(place.path("NOTHING")).expect("a directory");
    fs::write(place.path("FILE"), "here").expect("a file");
    for (code, args, message) in [
        (
            9,
            &["get", "NOWHERE", "a"][..],
            "NOWHERE: it does not exist\n  what now: `hedgerow create",
        ),
        (9, &["get", "FULL", "a"], "FULL: it is a directory with other things, such as file"),
        (9, &["stat", "NOTHING"], "NOTHING: it is an empty directory"),
        (9, &["stat", "FILE"], "FILE: it is a file, not a directory"),
        (10, &["create", "FULL"], "is not empty"),
        (10, &["create", "STORE"], "is not empty"),
        (5, &["put", "STORE", "", "v"], "a key must be 1 to 255 bytes long, this one has 0"),
        (5, &["put", "STORE", "k", "long", "--max-value-bytes", "3"], "value of 4 bytes"),
        (3, &["root", "STORE", "--height", "5"], "height 5 is not available"),
        (
            8,
            &["prove", "STORE", "k", "-o", "NO_DIR/x"],
            "writing NO_DIR/x\n  caused by: No such file",
        ),
        (8, &["apply", "STORE", "NO_FILE"], "  caused by: No such file"),
    ] {
        let error = place.run(args).fails(code);
        assert!(error.contains(message), "{args:?}: {error}");
    }
    // What cannot be understood is another exit code.
    for (args, message) in [
        (&["get", "STORE"][..], "required arguments were not provided"),
        (&["get", "STORE", "0x1"], "odd number of hex digits: 1"),
        (&["put", "STORE", "k", "0xzz"], "not a hex digit"),
        (&["verify", "--root", "12", "--key", "k", "PROOF"], "wrong number of hex digits"),
        (&["create", "NEW", "--compaction", "1,0,1"], "must be at least 1"),
        (&["create", "NEW", "--compaction", "1,2"], "expected default, qmdb or"),
        (&["create", "NEW", "--ratio", "0"], "invalid value '0'"),
        (&["create", "NEW", "--engine", "mysql"], "not a database engine"),
        (&["replay", "--expect", "FILE", "--thres", "1", "--ratio", "1", "--div", "1"], "required"),
        (&["frobnicate"], "unrecognized subcommand"),
    ] {
        let error = place.run(args).fails(2);
        assert!(error.contains(message), "{args:?}: {error}");
    }
    assert!(!place.path("NEW").exists());

    let mut holder = piped(place.args(&["apply", "STORE", "--ack"]));
    let mut stdin = holder.stdin.take().expect("piped");
    use std::io::Write;
    stdin.write_all(b"{\"height\":1,\"ops\":[]}\n").expect("it reads");
    let mut line = String::new();
    let mut stdout = BufReader::new(holder.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("it answers");
    assert!(line.starts_with("durable 1 "), "{line}");
    let error = place.run(&["put", "STORE", "a", "b"]).fails(7);
    assert!(error.contains("is in use"), "{error}");
    drop(stdin);
    assert!(holder.wait().expect("it ends").success());
}

#[test]
fn apply_takes_blocks_and_names_the_line_that_it_refuses() {
    let _limit = Limit::new();
    let place = Place::new();
    let blocks = concat!(
        r#"{"height":1,"ops":[["put","0x01","0x02"],["put","b","B"]]}"#,
        "\n\n",
        r#"{"height":2,"ops":[["delete","0x01"],["put","b","C"],["put","b","D"],["delete","x"]]}"#,
        "\n",
    );
    let mut model = Model::new(Default::default());
    model.apply_net(1, &[vec![(vec![1], Some(vec![2])), (b"b".to_vec(), Some(b"B".to_vec()))]]);
    let root_1 = model.state_root().to_string();
    let delete = |key: &[u8]| (key.to_vec(), None);
    model.apply_net(2, &[vec![delete(&[1]), (b"b".to_vec(), Some(b"D".to_vec())), delete(b"x")]]);
    let root_2 = model.state_root().to_string();

    let printed = place.apply(&["--json", "--durability", "block"], blocks).ok();
    let lines: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let line = |height: u64, root: &str| json!({"height": height, "root": root, "durable": true});
    assert_eq!(lines, [line(1, &root_1), line(2, &root_2)]);
    assert_eq!(place.run(&["get", "STORE", "b"]).ok(), "D\n");
    let summary = place.apply(&[], r#"{"height":3,"ops":[]}"#).ok();
    assert_eq!(summary, format!("applied 1 block, 0 operations; height 3, root {root_2}\n"));
    let acks = place.apply(&["-", "--ack"], r#"{"height":4,"ops":[]}"#).ok();
    assert!(acks.starts_with(&format!("durable 4 {root_2}\n")), "{acks}");

    let file = place.path("BLOCKS");
    for (second, message) in [
        (r#"{"height":7,"ops":[]}"#, "line 2: block 7\n  caused by: this block has height 7, the"),
        (r#"{"height":N,"ops":[["put","a","0x1"]]}"#, "line 2: value \"0x1\": odd number of hex"),
        (r#"{"height":N,"ops":[["move","a","b"]]}"#, "line 2: unknown operation \"move\""),
        (
            r#"{"height":N,"ops":[["put","","b"]]}"#,
            "line 2: operation 1 of block N\n  caused by: a key",
        ),
        (r#"{"height":N"#, "line 2: EOF while parsing an object (column "),
        ("hello", "line 2: expected value (column 1)"),
    ] {
        let at: u64 =
            place.run(&["stat", "STORE", "--json"]).json()["height"].as_u64().expect("a height");
        let [second, message] = [second, message].map(|t| t.replace('N', &(at + 2).to_string()));
        fs::write(&file, format!("{{\"height\":{},\"ops\":[]}}\n{second}\n", at + 1))
            .expect("written");
        let error = place.run(&["apply", "STORE", "BLOCKS"]).fails(5);
        assert!(error.contains(&message), "{error}");
        let stopped = format!(
            "\n  stopped after 1 block; the store is durable at height {}, root {root_2}\n  \
             what now: mend the input; then `hedgerow apply --skip-applied ",
            at + 1
        );
        assert!(error.contains(&stopped), "{error}");
        // The block before it stands, the refused one left nothing behind.
        assert_eq!(place.run(&["stat", "STORE", "--json"]).json()["height"], at + 1);
    }
    assert_eq!(place.root(), root_2);
    place.run(&["check", "STORE"]).ok();
}

/// Blocks with keys and values of all kinds, as lines, and the model that they lead to.
pub(crate) fn many_blocks(count: u64) -> (String, Model) {
    let mut model = Model::new(Default::default());
    let mut lines = String::new();
    for height in 1..=count {
        let mut ops = Vec::new();
        for number in 0..200u64 {
            let id = (height * 7919 + number * 104_729) % 1500;
            let key = [&id.to_le_bytes()[..], &b"0x\n\""[..(id % 5) as usize % 5]].concat();
            let value = (number % 4 != 0).then(|| vec![(id ^ height) as u8; (id % 300) as usize]);
            ops.push((key, value));
        }
        let texts: Vec<Value> = ops
            .iter()
            .map(|(key, value)| match value {
                Some(value) => json!(["put", hex(key), hex(value)]),
                None => json!(["delete", hex(key)]),
            })
            .collect();
        lines.push_str(&json!({"height": height, "ops": texts}).to_string());
        lines.push('\n');
        model.apply_net(height, &[ops]);
    }
    (lines, model)
}

/// All pairs that `export` writes, in its order; also the number of blocks.
fn exported(text: &str, first: u64) -> (Vec<(String, String)>, u64) {
    let mut pairs = Vec::new();
    let mut height = first;
    let lines: Vec<&str> = text.lines().collect();
    let [begin, blocks @ .., end] = &lines[..] else { panic!("{text}") };
    for line in blocks {
        let block: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(block["height"], height);
        height += 1;
        for op in block["ops"].as_array().expect("a list") {
            assert_eq!(op[0], "put");
            let text = |value: &Value| value.as_str().expect("a string").to_owned();
            pairs.push((text(&op[1]), text(&op[2])));
        }
    }
    let [begin, end] = [begin, end].map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    assert_eq!(begin["export"], end["export"]);
    let totals = (&json!(height - first), &json!(pairs.len()));
    assert_eq!((&end["end"]["blocks"], &end["end"]["keys"]), totals);
    (pairs, height - first)
}

#[test]
fn export_and_import_carry_all_keys_over() {
    let _limit = Limit::new();
    let place = Place::new();
    assert_eq!(exported(&place.run(&["export", "STORE"]).ok(), 1), (Vec::new(), 0));
    let (lines, mut model) = many_blocks(20);
    place.apply(&[], &lines).ok();
    assert_eq!(place.root(), model.state_root().to_string());

    let text = place.run(&["export", "STORE", "--block-ops", "100"]).ok();
    let (pairs, blocks) = exported(&text, 1);
    let wanted: Vec<_> = model.iter().map(|(key, value)| (hex(key), hex(value))).collect();
    assert_eq!(pairs, wanted);
    assert_eq!(blocks, (wanted.len() as u64).div_ceil(100));
    assert_eq!(place.run(&["stat", "STORE", "--json"]).json()["keys"], wanted.len());

    assert_eq!(place.run(&["export", "STORE", "-o", "EXPORT", "--first-height", "3"]).ok(), "");
    let file = fs::read_to_string(place.path("EXPORT")).expect("exported");
    assert_eq!(exported(&file, 3), (wanted.clone(), 1));

    let imported = run_with_input(place.args(&["import", "COPY", "--json"]), &text).json();
    let said = (&imported["keys"], &imported["blocks"], &imported["exported_height"]);
    // So few pairs are one block of a bulk load, however many the export has.
    assert_eq!(said, (&json!(wanted.len()), &json!(1), &json!(20)));
    assert_eq!(imported["exported_root"], json!(place.root()));
    let copied = place.run(&["export", "COPY"]).ok();
    assert_eq!(exported(&copied, 1).0, wanted);
    let root = place.run(&["root", "COPY", "--json"]).json();
    assert_eq!((&root["root"], &root["height"]), (&imported["root"], &json!(1)));
    place.run(&["check", "COPY"]).ok();
    // The first height is that of the export.
    let said = place.run(&["import", "THIRD", "EXPORT"]).ok();
    assert!(said.contains(" in 1 block into ") && said.contains("; height 3, root "), "{said}");
}

#[test]
fn proofs_are_checked_without_a_store() {
    let _limit = Limit::new();
    let place = Place::new();
    let (lines, model) = many_blocks(5);
    place.apply(&[], &lines).ok();
    let root = place.root();
    let (key, value) = model.iter().nth(77).expect("a key");
    let (key, value) = (hex(key), hex(value));

    let proven = place.run(&["prove", "STORE", &key, "-o", "PRESENT", "--json"]).json();
    let size = fs::metadata(place.path("PRESENT")).expect("a file").len();
    let wanted = json!({
        "height": 5, "root": root, "durable": true, "proof_bytes": size,
        "key": key, "present": true, "value": value,
    });
    assert_eq!(proven, wanted);
    let said = place.run(&["prove", "STORE", "nobody", "-o", "ABSENT"]).ok();
    assert!(said.starts_with(&format!("absent\nheight 5, root {root}\n")), "{said}");

    fs::rename(place.path("STORE"), place.path("ELSEWHERE")).expect("renamed");
    let verify = |root: &str, key: &str, file: &str, more: &[&str]| {
        let args = ["verify", "--root", root, "--key", key, file];
        place.run(&[&args[..], more].concat())
    };
    let answer = json!({"key": key, "present": true, "value": value});
    assert_eq!(verify(&root, &key, "PRESENT", &["--json"]).json(), answer);
    assert_eq!(verify(&root, "nobody", "ABSENT", &[]).ok(), "absent\n");
    let with_0x = format!("0x{root}");
    assert_eq!(verify(&with_0x, "nobody", "ABSENT", &[]).ok(), "absent\n");

    let zero = "0".repeat(64);
    let mut damaged = fs::read(place.path("PRESENT")).expect("the proof");
    damaged[40] ^= 1;
    fs::write(place.path("DAMAGED"), &damaged).expect("written");
    fs::write(place.path("EMPTY"), b"").expect("written");
    for (code, root, key, file, message) in [
        (4, &zero, key.as_str(), "PRESENT", "caused by: the proof leads to another root"),
        (4, &root, "nobody", "PRESENT", "caused by: the entry says nothing about the key"),
        (4, &root, &key, "ABSENT", "caused by: the entry says nothing about the key"),
        (4, &root, &key, "DAMAGED", "proves nothing about key"),
        (4, &root, &key, "EMPTY", "proves nothing about key"),
        (8, &root, &key, "MISSING", "caused by: No such file"),
    ] {
        let error = verify(root, key, file, &[]).fails(code);
        assert!(error.contains(message), "{file}: {error}");
    }
    let limit = (size - 1).to_string();
    let error = verify(&root, &key, "PRESENT", &["--max-bytes", &limit]).fails(4);
    assert!(error.contains("at most"), "{error}");
}

#[test]
fn many_keys_are_proved_at_once() {
    let _limit = Limit::new();
    let place = Place::new();
    let (lines, model) = many_blocks(5);
    place.apply(&[], &lines).ok();
    let root = place.root();
    let wanted: Vec<_> = model.iter().step_by(7).take(40).collect();
    let mut keys: Vec<String> = wanted.iter().map(|(key, _)| hex(key)).collect();
    keys.insert(3, "nobody".into());
    fs::write(place.path("KEYS"), keys.join("\n") + "\n\nnobody\r\n").expect("written");
    let proven = place.run(&["prove", "STORE", "--keys", "KEYS", "-o", "PROOF", "--json"]).json();
    let size = fs::metadata(place.path("PROOF")).expect("a file").len();
    let report = json!({
        "height": 5, "root": root, "durable": true, "proof_bytes": size,
        "keys": 42, "present": 40, "absent": 2,
    });
    assert_eq!(proven, report);
    place.run(&["prove", "STORE", &keys[0], "-o", "ONE"]).ok();
    assert!(size < 40 * fs::metadata(place.path("ONE")).expect("a file").len());

    fs::remove_dir_all(place.path("STORE")).expect("removed");
    let verify =
        |args: &[&str]| place.run(&[&["verify", "--root", &root, "PROOF"][..], args].concat());
    let answers = verify(&["--keys", "KEYS", "--json"]).ok();
    let answers: Vec<Value> =
        answers.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(answers.len(), 42);
    let (first, value) = wanted[0];
    assert_eq!(answers[0], json!({"key": hex(first), "present": true, "value": hex(value)}));
    let absent = json!({"key": hex(b"nobody"), "present": false, "value": null});
    assert_eq!((&answers[3], &answers[41]), (&absent, &absent));
    let text = verify(&["--keys", "KEYS"]).ok();
    assert!(text.ends_with("nobody\tabsent\n"), "{text}");
    let inspected = place.run(&["inspect", "PROOF", "--json"]).json();
    assert_eq!(inspected["root"], json!(root));
    assert_eq!(inspected["entries"].as_array().map(Vec::len), Some(41));
    assert!(place.run(&["inspect", "PROOF"]).ok().contains("\nentry 41 of 41\n"));

    // Other keys, other families, files that are none.
    fs::write(place.path("FEWER"), keys[1..].join("\n")).expect("written");
    fs::write(place.path("BLANK"), "\n\n").expect("written");
    fs::write(place.path("LONG"), "x".repeat(256)).expect("written");
    for (code, args, message) in [
        (4, &["--keys", "FEWER"][..], "says nothing about any of the keys"),
        (4, &["--key", "nobody"], "41 entries"),
        (4, &["--from", "00"], "proves nothing about the keys from 00000"),
        (5, &["--keys", "BLANK"], "there is no key in it"),
        (5, &["--keys", "LONG"], "LONG, line 1: a key has 1 to 255 bytes"),
        (8, &["--keys", "NOWHERE"], "No such file"),
        (2, &["--keys", "KEYS", "--key", "k"], "cannot be used with"),
        (2, &["--keys", "KEYS", "--from", "00"], "cannot be used with"),
        (2, &[], "required"),
    ] {
        let error = verify(args).fails(code);
        assert!(error.contains(message), "{args:?}: {error}");
    }
}

#[test]
fn ranges_are_proved_one_after_the_other() {
    let _limit = Limit::new();
    let place = Place::new();
    let (lines, model) = many_blocks(5);
    place.apply(&[], &lines).ok();
    let root = place.root();
    let (mut from, mut found, mut ranges) = ("00".to_owned(), Vec::new(), 0);
    loop {
        let prove =
            ["prove", "STORE", "--from", &from, "--limit", "20000", "--limit-bytes", "9999999"];
        let args = [&prove[..], &["-o", "PROOF", "--force", "--json"]].concat();
        let proven = place.run(&args).json();
        assert_eq!((&proven["root"], &proven["durable"]), (&json!(root), &json!(true)));
        let verified =
            place.run(&["verify", "--root", &root, "--from", &from, "PROOF", "--json"]).ok();
        let mut lines: Vec<Value> =
            verified.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let range = lines.pop().expect("a last line");
        for field in ["keys", "from", "until", "last"] {
            assert_eq!(range[field], proven[field], "{field}");
        }
        assert_eq!(range["keys"], json!(lines.len()));
        found.extend(lines);
        ranges += 1;
        if range["last"] == json!(true) {
            break;
        }
        from = range["until"].as_str().expect("hex").to_owned();
    }
    let wanted: Vec<Value> =
        model.iter().map(|(key, value)| json!({"key": hex(key), "value": hex(value)})).collect();
    assert_eq!(found, wanted);
    assert!(ranges > 3, "{ranges}");
    let text = place.run(&["verify", "--root", &root, "--from", &from, "PROOF"]).ok();
    assert!(text.ends_with("ff, the end of all\n"), "{text}");
    let error = place.run(&["prove", "STORE", "--from", &"f".repeat(64), "-o", "OUT"]).fails(5);
    assert!(error.contains("where the last one ends"), "{error}");
    place.run(&["prove", "STORE", "--from", &"f".repeat(66), "-o", "OUT"]).fails(2);
    place.run(&["prove", "STORE", "key", "--limit", "3", "-o", "OUT"]).fails(2);
}

#[test]
fn roots_of_earlier_heights_and_figures() {
    let _limit = Limit::new();
    let place = Place::new();
    let (lines, mut model) = many_blocks(3);
    place.apply(&[], &lines).ok();
    let genesis = Model::new(Default::default()).state_root().to_string();
    assert_eq!(place.run(&["root", "STORE", "--height", "0"]).ok(), format!("{genesis}\n"));
    let root = model.state_root().to_string();
    let now = place.run(&["root", "STORE", "--json"]).json();
    assert_eq!(now, json!({"height": 3, "root": root}));

    let stat = place.run(&["stat", "STORE", "--json"]).json();
    let row = model.row();
    assert_eq!(stat["next_sn"], json!(row.next_sn));
    assert_eq!(stat["oldest_active_sn"], json!(row.oldest_active_sn));
    assert_eq!((&stat["keys"], &stat["root"]), (&json!(model.len()), &json!(root)));
    let text = place.run(&["stat", "STORE"]).ok();
    assert!(text.contains(&format!("root          {root}\n")), "{text}");

    let check = place.run(&["check", "STORE", "--json"]).json();
    assert_eq!((&check["height"], &check["root"]), (&json!(3), &json!(root)));
    assert_eq!((&check["keys"], &check["twigs_missing"]), (&json!(model.len()), &json!(0)));
}

#[test]
fn a_damaged_log_is_an_error_that_names_the_file() {
    let _limit = Limit::new();
    let place = Place::new();
    place.apply(&[], &many_blocks(3).0).ok();
    let log = place.path("STORE").join("log");
    let segment = files(&log).pop().expect("a segment");
    let mut bytes = fs::read(&segment).expect("the segment");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&segment, &bytes).expect("written");
    let error = place.run(&["check", "STORE"]).fails(6);
    assert!(error.contains(&segment.display().to_string()), "{error}");

    bytes[middle] ^= 0x10;
    bytes.truncate(bytes.len() - 8);
    fs::write(&segment, &bytes).expect("written");
    let error = place.run(&["get", "STORE", "a"]).fails(6);
    assert!(error.contains(&segment.display().to_string()), "{error}");
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

/// `hedgerow export DIR | head -1`
#[test]
fn a_reader_that_goes_away_is_no_reason_to_complain() {
    let _limit = Limit::new();
    let place = Place::new();
    place.apply(&[], &many_blocks(10).0).ok();
    let mut child = piped(place.args(&["export", "STORE", "--block-ops", "1"]));
    let mut stdout = BufReader::with_capacity(16, child.stdout.take().expect("piped"));
    let mut byte = [0];
    stdout.read_exact(&mut byte).expect("it writes");
    drop(stdout);
    let mut stderr = String::new();
    let read = child.stderr.take().expect("piped").read_to_string(&mut stderr);
    read.expect("UTF-8");
    assert_eq!((child.wait().expect("it ends").code(), stderr.as_str()), (Some(1), ""));
}

/// What a key had at earlier heights: read, proved against the root of then, and against the last one.
#[test]
fn earlier_heights_are_read_and_proved() {
    let _limit = Limit::new();
    let place = Place::new();
    for value in ["100", "50"] {
        place.run(&["put", "STORE", "alice", value]).ok();
    }
    place.run(&["put", "STORE", "bob", "1"]).ok();
    place.run(&["delete", "STORE", "alice"]).ok();
    assert_eq!(place.run(&["get", "STORE", "alice", "--at", "2"]).ok(), "50\n");
    assert_eq!(place.run(&["get", "STORE", "alice", "--at", "0"]).code, Some(3));
    let ahead = place.run(&["get", "STORE", "alice", "--at", "9"]);
    assert_eq!(ahead.code, Some(3));
    assert!(ahead.stderr.contains("height 9 is not available"), "{}", ahead.stderr);

    assert_eq!(place.run(&["history", "STORE", "alice"]).ok(), "4\tabsent\n2\t50\n1\t100\n");
    let earlier = place.run(&["history", "STORE", "alice", "--at", "3", "--limit", "1"]);
    assert_eq!(earlier.ok(), "2\t50\n");
    let line = place.run(&["history", "STORE", "alice", "--at", "1", "--json"]).json();
    let wanted = json!({"height": 1, "exact": true, "present": true, "value": "0x313030"});
    assert_eq!(line, wanted);

    let root_of =
        |height: &str| place.run(&["root", "STORE", "--height", height]).ok().trim_end().to_owned();
    let (then, now) = (root_of("1"), place.root());
    let at = place.run(&["prove", "STORE", "alice", "-o", "AT", "--at", "1", "--json"]).json();
    assert_eq!((&at["height"], &at["root"]), (&json!(1), &json!(then)));
    let verified = place.run(&["verify", "--root", &then, "--key", "alice", "AT"]);
    assert_eq!(verified.ok(), "present 100\n");
    assert_eq!(place.run(&["verify", "--root", &now, "--key", "alice", "AT"]).code, Some(4));

    let past = ["prove", "STORE", "alice", "-o", "PAST", "--past", "2", "--json"];
    let past = place.run(&past).json();
    assert_eq!((&past["height"], &past["past"]), (&json!(4), &json!(2)));
    assert_eq!((&past["root"], &past["value"]), (&json!(now), &json!("0x3530")));
    let verify = |height: &str| {
        place.run(&["verify", "--root", &now, "--key", "alice", "--past", height, "PAST"])
    };
    assert_eq!(verify("2").ok(), "present 50\n");
    assert_eq!(verify("1").code, Some(4));
    assert_eq!(verify("4").code, Some(4));
    assert_eq!(place.run(&["verify", "--root", &now, "--key", "alice", "PAST"]).code, Some(4));
}
