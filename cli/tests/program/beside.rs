//! Commands that only read, beside a process that has the store open for writing; where nothing can be
//! written; and for a user who may only read.

use crate::common::{Ran, piped, program, run};
use hedgerow_testkit::Limit;
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A process that writes to a store and waits for more.
struct Writer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    height: u64,
}

impl Writer {
    fn new(store: &Path) -> Self {
        let mut child = piped([OsStr::new("apply"), store.as_os_str(), OsStr::new("--ack")]);
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, stdin, stdout, height: 0 }
    }

    /// Applies a block that gives `key` its height, and returns the root once it is durable.
    fn block(&mut self) -> String {
        self.height += 1;
        let height = self.height;
        writeln!(self.stdin, r#"{{"height":{height},"ops":[["put","key","{height}"]]}}"#)
            .expect("it reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it answers");
        let words: Vec<_> = line.split_whitespace().collect();
        let ["durable", said, root] = words[..] else { panic!("not an ack: {line}") };
        assert_eq!(said, height.to_string());
        root.to_owned()
    }

    fn end(self) {
        let Self { mut child, stdin, .. } = self;
        drop(stdin);
        assert!(child.wait().expect("it ends").success());
    }
}

fn new_store(dir: &Path) -> PathBuf {
    let store = dir.join("store");
    run([OsStr::new("create"), store.as_os_str()]).ok();
    store
}

/// Every command that reads tells of the same height, and of what was there.
fn read_everything(mut command: impl FnMut(&[&str]) -> Ran, roots: &[String], proof: &Path) -> u64 {
    let stat = command(&["stat", "STORE", "--json"]).json();
    let height = stat["height"].as_u64().expect("a height");
    let root = &roots[height as usize - 1];
    assert_eq!((&stat["root"], &stat["keys"]), (&json!(root), &json!(1)));
    assert_eq!(command(&["get", "STORE", "key"]).ok().trim_end(), height.to_string());
    assert_eq!(
        command(&["root", "STORE", "--json"]).json(),
        json!({"height": height, "root": root})
    );
    let earlier = command(&["root", "STORE", "--height", "1"]).ok();
    assert_eq!(earlier.trim_end(), roots[0]);
    let file = proof.display().to_string();
    let proven = command(&["prove", "STORE", "key", "--output", &file, "--force", "--json"]).json();
    assert_eq!((&proven["root"], &proven["durable"]), (&json!(root), &json!(true)));
    let verified = run(["verify", "--root", root, "--key", "key", "--json", &file]).json();
    assert_eq!(verified["present"], json!(true));
    let exported = command(&["export", "STORE"]).ok();
    assert!(exported.contains("\"ops\""), "{exported}");
    height
}

/// Arguments with the store's path in its place.
fn args<'a>(store: &'a str, args: &[&'a str]) -> Vec<&'a str> {
    args.iter().map(|arg| if *arg == "STORE" { store } else { arg }).collect()
}

#[test]
fn commands_that_read_run_beside_a_writer() {
    let _limit = Limit::new();
    let dir = tempfile::tempdir().expect("a directory");
    let store = new_store(dir.path());
    let path = store.to_str().expect("UTF-8");
    let mut writer = Writer::new(&store);
    let mut roots = vec![];
    for round in 0..5 {
        roots.extend((0..3 + round).map(|_| writer.block()));
        let height =
            read_everything(|these| run(args(path, these)), &roots, &dir.path().join("proof"));
        // The last block is durable, and no later one says so yet.
        assert!(height + 1 >= writer.height, "{height} of {}", writer.height);
    }
    let error = run(["put", path, "a", "b"]).fails(7);
    assert!(error.contains("is in use"), "{error}");
    if cfg!(target_os = "linux") {
        let holder = format!("by process {}", writer.child.id());
        assert!(error.contains(&holder), "{error}: not {holder}");
    }
    roots.push(writer.block());
    let last = writer.height;
    writer.end();
    let height = read_everything(|these| run(args(path, these)), &roots, &dir.path().join("proof"));
    assert_eq!(height, last);
}

#[test]
fn a_store_is_backed_up_beside_a_writer_and_restored() {
    let _limit = Limit::new();
    let dir = tempfile::tempdir().expect("a directory");
    let store = new_store(dir.path());
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let mut writer = Writer::new(&store);
    let mut roots = vec![];
    for (name, how) in [("linked", "--threads=1"), ("copied", "--copy"), ("quick", "--no-check")] {
        roots.extend((0..5).map(|_| writer.block()));
        let made = run(["backup", &path("store"), &path(name), how, "--json"]).json();
        let height = made["height"].as_u64().expect("a height");
        assert!(height + 1 >= writer.height, "{height} of {}", writer.height);
        assert_eq!(
            (&made["root"], &made["in_use"]),
            (&json!(roots[height as usize - 1]), &json!(true))
        );
        assert_eq!(made["checked"], json!(name != "quick"));
        roots.push(writer.block());
        let new = path(&format!("{name} new"));
        let restored = run(["restore", &path(name), &new, "--json"]).json();
        assert_eq!((&restored["root"], &restored["in_use"]), (&made["root"], &json!(false)));
        assert_eq!(run(["get", &new, "key"]).ok().trim_end(), height.to_string());
        run(["check", &new]).ok();
    }
    // The target is what is in use; a running store is nothing that is restored.
    let error = run(["backup", &path("linked"), &path("store")]).fails(7);
    assert!(error.contains("is in use"), "{error}");
    assert!(run(["restore", &path("store"), &path("other")]).fails(7).contains("is in use"));
    let text = run(["backup", &path("store"), &path("told")]).ok();
    assert!(text.contains("the store is in use: "), "{text}");
    writer.end();
    let made = run(["backup", &path("store"), &path("last"), "--json"]).json();
    assert_eq!((&made["root"], &made["in_use"]), (&json!(roots.last()), &json!(false)));
}

/// Names and bytes of all below a directory.
#[cfg(unix)]
fn everything(dir: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    found
}

/// Files can be read and nothing can be written, by nobody but the superuser.
#[cfg(unix)]
fn forbid_writing(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            forbid_writing(&path);
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("it is ours");
        }
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o555)).expect("it is ours");
}

#[cfg(unix)]
#[test]
fn who_may_only_read_can_look() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    /// That of nobody.
    const NOBODY: u32 = 65_534;
    let _limit = Limit::new();
    let dir = tempfile::tempdir().expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("it is ours");
    let store = new_store(dir.path());
    let path = store.to_str().expect("UTF-8");
    let mut writer = Writer::new(&store);
    let roots: Vec<_> = (0..4).map(|_| writer.block()).collect();
    forbid_writing(&store);
    // Whoever is not root may only read by now. Root becomes somebody else, with a program that he can reach.
    let is_root = fs::metadata(&store).expect("it is there").uid() == 0;
    let copy = dir.path().join("program");
    fs::copy(program().get_program(), &copy).expect("a copy");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let proofs = dir.path().join("proofs");
    fs::create_dir(&proofs).expect("a directory");
    fs::set_permissions(&proofs, fs::Permissions::from_mode(0o777)).expect("it is ours");
    let as_other = |these: &[&str]| {
        let mut command = Command::new(&copy);
        command.args(args(path, these)).current_dir(dir.path()).stdin(Stdio::null());
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.output()
    };
    if let Err(error) = as_other(&["--version"]) {
        println!("NOT TESTED: a user who may only read: {error}");
        return;
    }
    let before = everything(&store);
    let ran = |these: &[&str]| Ran::new(as_other(these).expect("it starts"));
    let height = read_everything(ran, &roots, &proofs.join("proof"));
    assert!(height >= 3);
    let error = ran(&["put", "STORE", "a", "b"]).fails(7);
    assert!(error.contains("in use") || error.contains("cannot be opened for writing"), "{error}");
    assert!(everything(&store) == before, "who may only read has changed something");
    writer.end();
    let before = everything(&store);
    assert_eq!(read_everything(ran, &roots, &proofs.join("proof")), 4);
    assert!(everything(&store) == before, "who may only read has changed something");
}

/// A file system that is mounted for reading, below which a writer goes on.
#[cfg(target_os = "linux")]
#[test]
fn a_store_on_a_file_system_that_is_mounted_for_reading_can_be_read() {
    let _limit = Limit::new();
    let dir = tempfile::tempdir().expect("a directory");
    let store = new_store(dir.path());
    let mounted = dir.path().join("mounted");
    fs::create_dir(&mounted).expect("a directory");
    let mut writer = Writer::new(&store);
    let roots: Vec<_> = (0..4).map(|_| writer.block()).collect();
    // In a namespace of its own, which ends with the command.
    let script = "mount --bind \"$1\" \"$2\" && mount -o remount,ro,bind \"$2\" || exit 99; \
                  ! touch \"$2/x\" 2>/dev/null || exit 98; shift 2; exec \"$@\"";
    let in_mount = |these: &[&str]| {
        let path = mounted.to_str().expect("UTF-8");
        Command::new("unshare")
            .args(["-m", "sh", "-c", script, "sh"])
            .args([store.as_os_str(), mounted.as_os_str(), program().get_program()])
            .args(args(path, these))
            .stdin(Stdio::null())
            .output()
    };
    match in_mount(&["--version"]) {
        Ok(output) if output.status.success() => {}
        other => {
            println!("NOT TESTED: a file system mounted for reading cannot be had here: {other:?}");
            writer.end();
            return;
        }
    }
    let ran = |these: &[&str]| Ran::new(in_mount(these).expect("it starts"));
    assert!(read_everything(ran, &roots, &dir.path().join("proof")) >= 3);
    writer.end();
    assert_eq!(read_everything(ran, &roots, &dir.path().join("proof")), 4);
}
