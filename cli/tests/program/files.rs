//! Files that commands write: whole, or not at all.

use crate::commands::{Place, many_blocks};
use hedgerow_testkit::Limit;
use std::fs;

/// Every command that writes a file, less the file.
const WRITING: [&[&str]; 5] = [
    &["prove", "STORE", "key"],
    &["export", "STORE"],
    &["list", "STORE"],
    &["completions", "bash"],
    &["man"],
];

fn names(place: &Place) -> Vec<String> {
    let dir = place.path("STORE").parent().expect("it").to_owned();
    let names = fs::read_dir(dir).expect("a directory");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("it").file_name();
    let mut names: Vec<String> =
        names.map(|entry| name(entry).into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn nothing_is_overwritten_without_a_word() {
    let _limit = Limit::new();
    let place = Place::new();
    place.run(&["put", "STORE", "key", "value"]).ok();
    let file = place.path("FILE");
    for command in WRITING {
        let to_file = [command, &["-o", "FILE"]].concat();
        place.run(&to_file).ok();
        let written = fs::read(&file).expect("written");
        assert!(!written.is_empty(), "{command:?}");
        fs::write(&file, "old").expect("written");
        let error = place.run(&to_file).fails(10);
        let said = format!("error: {} exists and is not overwritten\n", file.display());
        assert_eq!(error, format!("{said}  what now: --force overwrites it\n"), "{command:?}");
        assert_eq!(fs::read(&file).expect("there"), b"old", "{command:?}");
        place.run(&[&to_file[..], &["--force"]].concat()).ok();
        assert_eq!(fs::read(&file).expect("there"), written, "{command:?}");
        assert_eq!(names(&place), ["FILE", "STORE"], "{command:?}");
        fs::remove_file(&file).expect("removed");
    }
    let error = place.run(&["man", "-o", "STORE"]).fails(8);
    assert!(error.contains("is a directory"), "{error}");
}

/// Whatever stops the writing, here a limit of 512 bytes or so.
#[cfg(unix)]
#[test]
fn a_write_that_is_cut_off_leaves_the_old_file() {
    use crate::common::run_limited;
    let _limit = Limit::new();
    let place = Place::new();
    fs::write(place.path("FILE"), "old").expect("written");
    let limit = "trap '' XFSZ; ulimit -f 1";
    for more in [&["-o", "FILE", "--force"][..], &["-o", "NEW"]] {
        let args = place.args(&[&["completions", "bash"], more].concat());
        let error = run_limited(limit, args, "").expect("limited").fails(8);
        assert!(error.contains("caused by: File too large"), "{error}");
        assert_eq!(fs::read(place.path("FILE")).expect("there"), b"old");
        assert_eq!(names(&place), ["FILE", "STORE"]);
    }
}

#[cfg(unix)]
#[test]
fn links_modes_and_devices_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let _limit = Limit::new();
    let place = Place::new();
    fs::write(place.path("FILE"), "old").expect("written");
    fs::set_permissions(place.path("FILE"), fs::Permissions::from_mode(0o640)).expect("set");
    symlink(place.path("FILE"), place.path("LINK")).expect("linked");
    place.run(&["man", "-o", "LINK"]).fails(10);
    place.run(&["man", "-o", "LINK", "--force"]).ok();
    assert!(fs::symlink_metadata(place.path("LINK")).expect("there").is_symlink());
    let file = fs::metadata(place.path("FILE")).expect("there");
    assert_eq!((file.permissions().mode() & 0o777, file.len() > 1000), (0o640, true));
    place.run(&["man", "-o", "/dev/null"]).ok();
    assert!(!fs::metadata("/dev/null").expect("there").is_file());
    // As a program makes files, whatever the umask is.
    fs::write(place.path("PLAIN"), "").expect("written");
    place.run(&["man", "-o", "NEW"]).ok();
    let mode = |name| fs::metadata(place.path(name)).expect("there").permissions().mode();
    assert_eq!(mode("NEW"), mode("PLAIN"));
}

#[test]
fn a_dash_is_standard_input_or_output() {
    use crate::common::{program, run_with_input};
    use std::io::Write;
    use std::process::Stdio;
    let _limit = Limit::new();
    let place = Place::new();
    place.apply(&["-"], &many_blocks(2).0).ok();
    place.run(&["prove", "STORE", "nobody", "-o", "FILE"]).ok();
    let proof = fs::read(place.path("FILE")).expect("written");
    for json in [&[][..], &["--json"]] {
        let args = place.args(&[&["prove", "STORE", "nobody", "-o", "-"], json].concat());
        let output = program().args(args).output().expect("it runs");
        assert_eq!((output.status.code(), &output.stdout), (Some(0), &proof));
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(said.starts_with('{'), !json.is_empty(), "{said}");
        assert!(said.contains(&place.root()), "{said}");
    }
    let from_stdin = |args: &[&str]| {
        let mut child = program();
        child.args(place.args(args)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.stderr(Stdio::piped()).spawn().expect("it starts");
        child.stdin.take().expect("piped").write_all(&proof).expect("it reads");
        crate::common::Ran::new(child.wait_with_output().expect("it ends"))
    };
    let root = place.root();
    let verify = ["verify", "--root", &root, "--key", "nobody", "-"];
    assert_eq!(from_stdin(&verify).ok(), "absent\n");
    let inspected = from_stdin(&["inspect", "-", "--json"]).json();
    assert_eq!(inspected["root"], root);
    for (command, other) in [("export", "EXPORT"), ("list", "LIST")] {
        let printed = place.run(&[command, "STORE", "-o", "-"]).ok();
        place.run(&[command, "STORE", "-o", other]).ok();
        assert_eq!(fs::read_to_string(place.path(other)).expect("written"), printed);
    }
    let export = fs::read_to_string(place.path("EXPORT")).expect("written");
    run_with_input(place.args(&["import", "COPY", "-"]), &export).ok();
    // One standard input is not two files.
    let both =
        ["replay", "--ops", "-", "--expect", "-", "--thres", "1", "--ratio", "1", "--div", "1"];
    let error = place.run(&both).fails(2);
    assert!(error.contains("both from standard input"), "{error}");
}
