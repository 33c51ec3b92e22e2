//! Running the program and looking at what it said.

use serde_json::Value;
use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// The program under test.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_hedgerow"))
}

/// A recorded vector.
pub(crate) fn vector(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testkit/vectors").join(name)
}

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    /// Standard output of a run that went well and had nothing to complain about.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "stdout: {}", self.stdout);
        self.stdout
    }

    /// The one JSON object that a run that went well printed.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        let text = self.ok();
        assert_eq!(text.lines().count(), 1, "one line: {text}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// What a run that failed complained about; it printed nothing else.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self.stderr
    }
}

/// Runs the program.
pub(crate) fn run<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Ran {
    Ran::new(program().args(args).stdin(Stdio::null()).output().expect("the program starts"))
}

/// Runs the program with this text as its standard input.
pub(crate) fn run_with_input<S: AsRef<OsStr>>(
    args: impl IntoIterator<Item = S>,
    input: &str,
) -> Ran {
    let mut child = piped(args);
    let mut stdin = child.stdin.take().expect("piped");
    // The program may end before it has read everything; its own words say why.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    Ran::new(child.wait_with_output().expect("the program ends"))
}

/// Runs the program with this text as its standard input, in a shell that has set a limit first, such as
/// `ulimit -n 64`; `None` if the shell cannot set it.
#[cfg(unix)]
pub(crate) fn run_limited<S: AsRef<OsStr>>(
    limit: &str,
    args: impl IntoIterator<Item = S>,
    input: &str,
) -> Option<Ran> {
    let script = format!("{limit} || exit 99; exec \"$0\" \"$@\"");
    let mut child = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_hedgerow")])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    // From a thread of its own: the program may print before it has read everything.
    let feeder = std::thread::spawn(move || _ = stdin.write_all(input.as_bytes()));
    let ran = Ran::new(child.wait_with_output().expect("the program ends"));
    feeder.join().expect("the feeder ends");
    (ran.code != Some(99)).then_some(ran)
}

/// Starts the program with its three streams piped.
pub(crate) fn piped<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Child {
    program()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}
