//! A limit for tests that wait, so that a defect which makes them hang makes them fail.
//!
//! ```text
//!  test       let _limit = Limit::new(); ────── waits for a ticket, a gate, a child ──── drop
//!                     │ starts                                                            │
//!  watchdog           └──────────── waits for the drop, at most the limit ◄───────────────┘
//!                                             │ not dropped
//!                                             ▼
//!                                   says which test, names the living threads, aborts
//! ```
//!
//! The limit is a net and no statement about speed: minutes, where the test takes seconds. It ends the
//! process, for a thread that hangs cannot be ended; what else ran in the process fails with it, and
//! the last lines say why. Under nextest every test has a process of its own.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::Location;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

/// Seconds that a test may take, if the environment says nothing else.
const SECONDS: u64 = 600;

/// The variable that changes the limit, in seconds: more under a sanitizer, less to see a defect.
const VARIABLE: &str = "HEDGEROW_TEST_LIMIT_SECONDS";

/// Ends the process with a message if it is not dropped in time. Keep it as the first variable of a
/// test: it is dropped last then, and what the others do in their `drop` has the limit too.
#[derive(Debug)]
#[must_use = "keep it until the end of the test"]
pub struct Limit {
    /// Its end is what the watchdog waits for.
    _alive: Sender<()>,
}

impl Limit {
    /// Ten minutes, or as many seconds as `HEDGEROW_TEST_LIMIT_SECONDS` says.
    ///
    /// # Panics
    /// If the variable is no number, or the watchdog cannot be started.
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "the caller's place is part of it")]
    pub fn new() -> Self {
        let seconds = std::env::var(VARIABLE)
            .map_or(SECONDS, |text| text.parse().expect("HEDGEROW_TEST_LIMIT_SECONDS is a number"));
        Self::of(Duration::from_secs(seconds))
    }

    /// A limit of this length.
    ///
    /// # Panics
    /// If the watchdog cannot be started.
    #[track_caller]
    pub fn of(limit: Duration) -> Self {
        let place = Location::caller();
        // The test's name, unless there is only one thread for all tests.
        let name = thread::current().name().unwrap_or("a thread without a name").to_owned();
        let (alive, watched) = channel();
        let watch = move || {
            if watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                let report = report(&name, place, limit);
                // Not `eprintln`, which the test harness would keep to itself.
                let _ = std::io::stderr().write_all(report.as_bytes());
                std::process::abort();
            }
        };
        thread::Builder::new().name("limit".into()).spawn(watch).expect("the watchdog starts");
        Self { _alive: alive }
    }
}

fn report(name: &str, place: &Location<'_>, limit: Duration) -> String {
    let seconds = limit.as_secs();
    let mut text = format!(
        "\n!!! HANGS: {name}, at {place}, has not ended in {seconds} s ({VARIABLE} changes the \
         limit).\n!!! It waits for something that does not come. What should have brought it? A \
         stage or worker that\n!!! is missing among the living threads has ended without saying so:\n"
    );
    match living_threads() {
        Some(threads) => {
            for (name, state) in threads {
                let _ = writeln!(text, "!!!   {name:<16} {state}");
            }
        }
        None => text.push_str("!!!   (this system does not list them)\n"),
    }
    text
}

/// Names of the process's threads and what each is doing, where `/proc` tells.
fn living_threads() -> Option<Vec<(String, String)>> {
    let mut threads = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        let status = std::fs::read_to_string(task.ok()?.path().join("status")).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        threads.push((field("Name:"), field("State:")));
    }
    threads.sort();
    Some(threads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// What the process that this test starts finds in its environment.
    const CHILD: &str = "HEDGEROW_LIMIT_TEST";

    #[test]
    fn a_hang_is_a_failure_that_says_where() {
        if std::env::var_os(CHILD).is_some() {
            let _limit = Limit::new();
            let (_never, told) = channel::<()>();
            let _ = told.recv_timeout(Duration::from_secs(60));
            return; // Without a word: the parent finds that out.
        }
        let this = std::env::current_exe().expect("a test knows its program");
        let output = Command::new(this)
            .args(["limit::tests::a_hang_is_a_failure_that_says_where", "--exact"])
            .envs([(CHILD, "1"), (VARIABLE, "1")])
            .output()
            .expect("it starts");
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("!!! HANGS: limit::tests::a_hang"), "{said}");
        assert!(said.contains("limit.rs:"), "{said}");
        assert!(!cfg!(target_os = "linux") || said.contains("!!!   limit "), "{said}");
    }

    #[test]
    fn whoever_ends_in_time_is_left_alone() {
        drop(Limit::of(Duration::from_secs(3600)));
        // Dropped by the end of another thread as well.
        let limit = Limit::of(Duration::from_secs(3600));
        thread::spawn(move || drop(limit)).join().expect("it ends");
    }
}
