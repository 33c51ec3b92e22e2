//! A process that may have little: what it has is enough or the error names the limit. And input that
//! does not end.

use crate::common::{Ran, run, run_with_input, vector};
use flate2::Compression;
use flate2::write::GzEncoder;
use hedgerow_testkit::Limit;
use std::fs;
use std::io::Write;
use std::path::Path;

fn create(dir: &Path) -> String {
    let store = dir.join("store").display().to_string();
    run(["create", &store]).ok();
    store
}

/// A block a line; every key is new.
#[cfg(unix)]
fn blocks(count: u64) -> String {
    let block = |height: u64| {
        let ops: Vec<String> =
            (0..20).map(|key| format!(r#"["put","key {height} {key}","{height}"]"#)).collect();
        format!("{{\"height\":{height},\"ops\":[{}]}}\n", ops.join(","))
    };
    (1..=count).map(block).collect()
}

/// What ran under a limit went well, or failed with an error that names it. Never by a signal.
#[cfg(unix)]
#[track_caller]
fn well_or_named(ran: Ran, names: &[&str]) -> bool {
    match ran.code {
        Some(0) => true,
        Some(8) => {
            let said = ran.fails(8);
            assert!(names.iter().any(|name| said.contains(name)), "{names:?}: {said}");
            false
        }
        _ => panic!("{ran:?}"),
    }
}

#[cfg(unix)]
mod limited {
    use super::{blocks, create, well_or_named};
    use crate::common::{Ran, run, run_limited};
    use hedgerow::{Height, Options, Store};
    use hedgerow_testkit::Limit;
    use std::process::Command;

    /// `ulimit -n`: with 64 files a store of any number of segments goes on; with too few it says so.
    #[test]
    fn open_files() {
        let _limit = Limit::new();
        let temp = tempfile::tempdir().expect("a directory");
        let store = create(temp.path());
        let options = Options::new().segment_bytes(2048);
        let mut open = Store::open(&store, options).expect("a store");
        for height in 1..=150 {
            let mut block = open.begin_block(Height(height)).expect("a block");
            for key in 0..20 {
                block.put(format!("key {height} {key}"), height.to_string()).expect("fits");
            }
            block.commit().expect("committed");
        }
        open.close().expect("closed");
        let segments = std::fs::read_dir(temp.path().join("store/log")).expect("a log").count();
        assert!(segments > 100, "more segments than files may be open: {segments}");
        for command in ["check", "export", "stat", "root"] {
            let Some(ran) = run_limited("ulimit -n 64", [command, &store], "") else {
                return eprintln!("SKIPPED: the shell cannot limit open files");
            };
            assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{command}");
        }
        let mut enough = vec![];
        for files in 4..32 {
            let limit = format!("ulimit -n {files}");
            let ran = run_limited(&limit, ["check", &store], "").expect("limited");
            enough.push(well_or_named(ran, &["ulimit -n"]));
        }
        assert_eq!((enough.first(), enough.last()), (Some(&false), Some(&true)), "{enough:?}");
    }

    /// `ulimit -v`: too little address space is an error at opening, never an abort.
    #[test]
    fn address_space() {
        let _limit = Limit::new();
        let temp = tempfile::tempdir().expect("a directory");
        let store = create(temp.path());
        run(["put", &store, "key", "value"]).ok();
        let mut enough = vec![];
        let mut height = 1;
        for mib in (20..1500).step_by(60).chain([3000]) {
            let limit = format!("ulimit -v {}", mib * 1024);
            let input = blocks(height + 1).lines().last().expect("a block").to_owned();
            let apply = ["apply", &store, "-", "--ack"];
            let Some(ran) = run_limited(&limit, apply, &input) else {
                return eprintln!("SKIPPED: the shell cannot limit address space");
            };
            // So little that the system cannot even load the program, or has nothing left once it has.
            let not_begun = mib < 60 && ran.code.is_none();
            if ran.code == Some(127) || ran.stderr.contains("shared libraries") || not_begun {
                continue;
            }
            let well = well_or_named(ran, &["ulimit -v"]);
            enough.push((mib, well));
            height += u64::from(well);
        }
        assert!(enough.iter().any(|(_, well)| !well), "{enough:?}");
        assert_eq!(enough.last(), Some(&(3000, true)), "{enough:?}");
        run(["check", &store]).ok();
    }

    /// `ulimit -s`: the program's threads have stacks of their own.
    #[test]
    fn stack() {
        let _limit = Limit::new();
        let temp = tempfile::tempdir().expect("a directory");
        let store = create(temp.path());
        let mut next = blocks(8).lines().map(str::to_owned).collect::<Vec<_>>().into_iter();
        for kib in [64, 96, 128, 256, 1024] {
            let limit = format!("ulimit -s {kib}");
            let input = next.next().expect("a block");
            let apply = ["apply", &store, "-", "--ack"];
            let Some(ran) = run_limited(&limit, apply, &input) else {
                eprintln!("SKIPPED: the shell cannot limit the stack to {kib} KiB");
                continue;
            };
            ran.ok();
            run_limited(&limit, ["check", &store], "").expect("limited").ok();
        }
        // What the environment says of threads' stacks is not meant for ours either.
        let small = "export RUST_MIN_STACK=20000";
        let input = next.next().expect("a block");
        run_limited(small, ["apply", &store, "-"], &input).expect("set").ok();
        run_limited(small, ["check", &store], "").expect("set").ok();
    }

    /// `ulimit -u`: too few threads are an error at opening.
    #[test]
    fn threads() {
        let _limit = Limit::new();
        let temp = tempfile::tempdir().expect("a directory");
        let store = create(temp.path());
        // The limit does not bind the superuser, who becomes nobody; nobody cannot go everywhere.
        let copy = temp.path().join("hedgerow");
        std::fs::copy(env!("CARGO_BIN_EXE_hedgerow"), &copy).expect("copied");
        let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
        let own = format!(
            "test \"$(id -u)\" = 0 && {{ chown -R 65534 {} && NOBODY='{nobody}' || exit 99; }}; ",
            temp.path().display()
        );
        let mut counts = (0, 0);
        for threads in (1..16).chain([32, 64, 4096]) {
            // Shells do not agree on the option's name. It counts all threads of the user.
            let limit = format!("ulimit -u {threads} 2>/dev/null || ulimit -p {threads}");
            let script = format!("{own}{limit} || exit 99; exec $NOBODY \"$0\" check \"$1\"");
            let mut shell = Command::new("sh");
            let output =
                shell.args(["-c", &script]).args([copy.as_os_str(), store.as_ref()]).output();
            let ran = Ran::new(output.expect("a shell"));
            if ran.code == Some(99) || ran.stderr.contains("setpriv") {
                return eprintln!("SKIPPED: the limit of threads cannot be set: {}", ran.stderr);
            }
            match well_or_named(ran, &["ulimit -u"]) {
                true => counts.0 += 1,
                false => counts.1 += 1,
            }
        }
        assert!(counts.0 > 0 && counts.1 > 0, "well, refused: {counts:?}");
    }
}

/// A gzip file of a few hundred kilobytes whose only line is gigabytes long.
fn endless(path: &Path) {
    let mut member = GzEncoder::new(Vec::new(), Compression::fast());
    member.write_all(&vec![b'x'; 32 << 20]).expect("memory");
    let member = member.finish().expect("memory");
    fs::write(path, member.repeat(64)).expect("written");
}

#[test]
fn a_line_without_end_is_an_error() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().expect("a directory");
    let store = create(temp.path());
    let bomb = temp.path().join("bomb.gz").display().to_string();
    endless(Path::new(&bomb));
    let said = run(["apply", &store, &bomb]).fails(5);
    assert!(said.contains("line 1: the line is longer than 134217728 bytes"), "{said}");
    assert!(said.contains("--max-line-bytes"), "{said}");

    let shape = ["--thres", "1", "--ratio", "1", "--div", "1"];
    let replay = |args: [&str; 4]| run([&["replay"], &args[..], &shape[..]].concat()).fails(5);
    let ops = vector("ops_mixed.jsonl.gz").display().to_string();
    let expect = vector("blocks_mixed_t1_1_1.jsonl.gz").display().to_string();
    for args in [["--ops", &ops, "--expect", &bomb], ["--ops", &bomb, "--expect", &expect]] {
        let said = replay(args);
        assert!(said.contains("bomb.gz, line 1: the line is longer than"), "{said}");
    }
}

#[test]
fn the_limit_of_a_line_is_exact() {
    let _limit = Limit::new();
    let temp = tempfile::tempdir().expect("a directory");
    let store = create(temp.path());
    let mut height = 0;
    let mut apply = |max: i64, ends: &str| {
        height += 1;
        let line = format!(r#"{{"height":{height},"ops":[["put","key","value"]]}}"#);
        let max = (line.len() as i64 + max).to_string();
        let ran = run_with_input(
            ["apply", &store, "-", "--max-line-bytes", &max],
            &format!("{line}{ends}"),
        );
        height -= u64::from(ran.code != Some(0));
        ran
    };
    for ends in ["\n", "", "\n\n\n"] {
        apply(0, ends).ok();
        apply(1, ends).ok();
        let said = apply(-1, ends).fails(5);
        assert!(said.contains("standard input, line 1: the line is longer than"), "{said}");
    }
    let said = run_with_input(["apply", &store, "-", "--max-line-bytes", "0"], "\n\n{}").fails(5);
    assert!(said.contains("line 3: the line is longer than 0 bytes"), "{said}");
}
