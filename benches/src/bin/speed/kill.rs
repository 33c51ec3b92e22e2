//! Reopening after a kill: a child writes the store and is killed, this process opens what is left.
//!
//! ```text
//!   parent ── speed --dir D --until-killed ──► child    populate, update, all of it durable
//!      ◄─────────────── the root, a line ───────┘       waits
//!      SIGKILL ────────────────────────────────► ✝
//!      open D: clock, peak memory, the same root
//! ```
//!
//! This process has done nothing before it opens, so its peak memory is that of opening.

use crate::Failure;
use crate::args::Args;
use crate::run::{Place, options, written};
use hedgerow::Store;
use hedgerow_benches::usage::{memory, peak_memory};
use serde::Serialize;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// What opening after a kill came to.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    keys: u64,
    height: u64,
    opened_from: Option<u64>,
    replayed_mb: f64,
    reopen_kill_s: f64,
    open_mb: Option<f64>,
    rss_peak_reopen_mb: Option<f64>,
    root: String,
}

/// The child's part: writes, says what the root is, and waits to be killed.
pub(crate) fn write_until_killed(args: &Args) -> Result<(), Failure> {
    let io = |error| Failure::Io { what: "talking to the parent".into(), error };
    let place = Place::new(args.dir.as_deref())?;
    let store = written(args, &place)?;
    store.flush()?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", store.reader().root().1).and_then(|()| out.flush()).map_err(io)?;
    // Ends when the parent does, should that not kill it.
    std::io::stdin().read_to_end(&mut Vec::new()).map_err(io)?;
    std::process::abort();
}

/// The parent's part.
pub(crate) fn run(args: &Args) -> Result<Report, Failure> {
    let io = |what: &'static str| move |error| Failure::Io { what: what.into(), error };
    let place = Place::new(args.dir.as_deref())?;
    let program = std::env::current_exe().map_err(io("finding this program"))?;
    let child = Command::new(program)
        .args(std::env::args_os().skip(1).filter(|arg| arg != "--kill"))
        .arg("--until-killed")
        .arg("--dir")
        .arg(place.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(io("starting the child"))?;
    let mut child = Killed(child);
    let mut root = String::new();
    let out = child.0.stdout.take();
    let mut out = BufReader::new(out.ok_or(Failure::Thread)?);
    out.read_line(&mut root).map_err(io("reading from the child"))?;
    child.kill().map_err(io("killing the child"))?;
    let root = root.trim();
    if root.is_empty() {
        return Err(Failure::Wrong("the child ended before it was done".into()));
    }

    let start = Instant::now();
    let store = Store::open(place.path(), options(args))?;
    let reopen = start.elapsed();
    let (open, peak) = (memory(), peak_memory());
    let (height, reopened) = store.reader().root();
    if reopened.to_string() != root {
        return Err(Failure::Wrong(format!("the root {root} is {reopened} after the kill")));
    }
    let stats = store.stats();
    let mb = |bytes: u64| bytes as f64 / 1e6;
    Ok(Report {
        keys: stats.keys,
        height: height.0,
        opened_from: stats.opened_from.map(|height| height.0),
        replayed_mb: mb(stats.replayed_bytes),
        reopen_kill_s: reopen.as_secs_f64(),
        open_mb: open.map(mb),
        rss_peak_reopen_mb: peak.map(mb),
        root: root.to_owned(),
    })
}

/// A child that does not outlive this.
struct Killed(Child);

impl Killed {
    /// SIGKILL.
    fn kill(&mut self) -> std::io::Result<()> {
        self.0.kill()?;
        self.0.wait().map(drop)
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill().ok(); // it may be dead already
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, height, replayed_mb, reopen_kill_s, root, .. } = self;
        let from = match self.opened_from {
            Some(from) => format!("from the checkpoint of height {from}"),
            None => "without a checkpoint".into(),
        };
        writeln!(f, "{keys} keys, killed at height {height}, opened {from}")?;
        writeln!(f, "log taken in again     {replayed_mb:9.1} MB")?;
        writeln!(f, "reopen after the kill  {reopen_kill_s:9.3} s")?;
        if let (Some(open), Some(peak)) = (self.open_mb, self.rss_peak_reopen_mb) {
            writeln!(f, "memory of the store    {open:9.1} MB, {peak:.1} MB while it opened")?;
        }
        write!(f, "root {root}")
    }
}
