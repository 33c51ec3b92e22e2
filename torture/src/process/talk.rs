//! A child process: this program again, with a hidden command.
//!
//! ```text
//!   parent  ──stdin, never written──►  child     its end tells the child that nobody is left
//!           ◄──stdout, lines─────────            read by a thread of the parent's
//! ```
//!
//! A line that was written before the child died is read, however it died: it is in the pipe.

use super::line::Line;
use super::{Doing, Failure, HANGS, fail};
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The program that children run: this one, unless a test says which.
#[derive(Clone, Debug)]
pub struct Program(PathBuf);

impl Program {
    /// The program that is running.
    ///
    /// # Errors
    /// If the system does not say which it is.
    pub fn this() -> Result<Self, Failure> {
        Ok(Self(std::env::current_exe().doing("finding this program")?))
    }

    /// A program that has the command `child`.
    pub const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// A command that runs it.
    pub fn command(&self) -> Command {
        Command::new(&self.0)
    }
}

/// A child that runs.
#[derive(Debug)]
pub struct Child {
    process: std::process::Child,
    /// Open as long as the parent cares.
    _stdin: Option<ChildStdin>,
    lines: Receiver<Result<Line, String>>,
    complaints: Option<JoinHandle<String>>,
}

/// How a child ended.
#[derive(Debug)]
pub struct End {
    /// What the system says.
    pub status: ExitStatus,
    /// What it wrote to standard error.
    pub complaints: String,
    /// The lines that had not been read before.
    pub rest: Vec<Line>,
}

/// What came while waiting for a line.
#[derive(Debug)]
pub enum Heard {
    /// A line.
    Line(Line),
    /// Nothing until the time was over.
    Nothing,
    /// The child closed its end.
    End,
}

impl Child {
    /// Starts a child with the arguments of a hidden command.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(
        program: &Program,
        args: impl IntoIterator<Item = OsString>,
    ) -> Result<Self, Failure> {
        let mut process = program
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .doing("starting a child")?;
        let stdin = process.stdin.take();
        let (Some(stdout), Some(stderr)) = (process.stdout.take(), process.stderr.take()) else {
            return fail("a child without pipes");
        };
        let (line, lines) = channel();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut text = String::new();
            loop {
                text.clear();
                // A line without its end was cut off by the child's.
                let whole = stdout.read_line(&mut text).is_ok_and(|_| text.ends_with('\n'));
                if !whole || line.send(text.trim_end().parse()).is_err() {
                    return;
                }
            }
        });
        let complaints = std::thread::spawn(move || {
            let (mut stderr, mut text) = (stderr, Vec::new());
            // What could be read is what there is to say.
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Self { process, _stdin: stdin, lines, complaints: Some(complaints) })
    }

    /// The next line, if it comes before `until`; without a limit, one that does not come for as
    /// long as [`HANGS`] is a hang.
    ///
    /// # Errors
    /// A hang, after which the child is killed; or what is no line.
    pub fn hear(&mut self, until: Option<Instant>) -> Result<Heard, Failure> {
        let now = Instant::now();
        let wait = until.map_or(HANGS, |until| until.saturating_duration_since(now));
        match self.lines.recv_timeout(wait) {
            Ok(line) => Ok(Heard::Line(line.map_err(Failure)?)),
            Err(RecvTimeoutError::Disconnected) => Ok(Heard::End),
            Err(RecvTimeoutError::Timeout) if until.is_some() => Ok(Heard::Nothing),
            Err(RecvTimeoutError::Timeout) => self.hangs(),
        }
    }

    fn hangs<T>(&mut self) -> Result<T, Failure> {
        // Before anything else, so that it does not stay.
        let killed = self.process.kill();
        fail(format!("a child says nothing for {HANGS:?}: it hangs (killed: {killed:?})"))
    }

    /// SIGKILL, then what is left of it.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn kill(mut self) -> Result<End, Failure> {
        self.process.kill().doing("killing a child")?;
        self.wait()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// A hang, or a line that is none.
    pub fn wait(mut self) -> Result<End, Failure> {
        let mut rest = Vec::new();
        loop {
            match self.hear(None)? {
                Heard::Line(line) => rest.push(line),
                Heard::End => break,
                Heard::Nothing => {}
            }
        }
        let status = self.end()?;
        let complaints = self.complaints.take().and_then(|thread| thread.join().ok());
        Ok(End { status, complaints: complaints.unwrap_or_default(), rest })
    }

    /// Its pipe is closed: it is gone in a moment.
    fn end(&mut self) -> Result<ExitStatus, Failure> {
        let until = Instant::now() + HANGS;
        while Instant::now() < until {
            if let Some(status) = self.process.try_wait().doing("waiting for a child")? {
                return Ok(status);
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        self.hangs()
    }
}

impl Drop for Child {
    /// A child that nobody cares for any more does not stay.
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            // Both can fail only if it is gone.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
