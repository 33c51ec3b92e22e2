//! Real processes on a real file system, killed.
//!
//! ```text
//!  kill   parent ──spawns──► child: writes blocks as fast as it can          kill.rs, child.rs
//!           ▲  └──SIGKILL──►   │ a line for each thing it knows
//!           └──── pipe ◄───────┘
//!         opens what is left, compares with the reference                     compare.rs
//!
//!  full   a small file system without space, in this process                full.rs
//!
//!  two    a holder, killed; others wait, and race                            two.rs, contend.rs
//!
//!  blocks.rs     the block of a height, a function of (seed, height)
//!  image.rs      stores in which pruning has begun
//!  reference.rs  what the store must hold at a height
//!  line.rs       what a child says
//!  talk.rs       a child process and the lines that came from it
//! ```
//!
//! **What this can find, and what not.** A killed process loses its memory and what its threads were
//! about to do, but the system's page cache lives on: every write that was made is there afterwards,
//! synced or not. So this tests the order of what is written and acknowledged, recovery from any
//! half of an operation, and locks. Losing what was not synced is the business of `torture crash`.
//!
//! Blocks, options and moments follow from the seed. When a signal arrives in the middle of a system
//! call does not: a failure prints the seed, keeps the directory, and may take some runs to happen
//! again.

pub mod blocks;
pub mod child;
pub mod command;
pub mod compare;
pub mod contend;
mod figures;
pub mod full;
mod image;
pub mod kill;
pub mod life;
pub mod line;
pub mod reference;
pub mod talk;
pub mod two;

use std::fmt::Display;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// What must not happen, happened. The text says what and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    /// The failure with the place where it was met in front.
    #[must_use]
    pub fn at(self, place: impl Display) -> Self {
        Self(format!("{place}: {}", self.0))
    }
}

/// Fails with `what`.
pub(crate) fn fail<T>(what: impl Display) -> Result<T, Failure> {
    Err(Failure(what.to_string()))
}

/// Turns any error into a failure while doing something.
pub(crate) trait Doing<T> {
    /// The value, or the error behind `what`.
    fn doing(self, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}

/// Copies a directory with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Without any progress for this long, something hangs.
pub const HANGS: Duration = Duration::from_secs(60);

/// Ends the process if nothing is heard for longer than [`HANGS`]: a hang of the store in this
/// process is a failure like any other.
#[derive(Debug)]
pub struct Watch(Sender<String>);

impl Watch {
    /// Starts to watch.
    pub fn start() -> Self {
        let (alive, heard) = channel();
        std::thread::spawn(move || watch(&heard));
        Self(alive)
    }

    /// Says what comes next.
    pub fn next(&self, what: impl Display) {
        // The other end is there until this one is dropped.
        let _ = self.0.send(what.to_string());
    }
}

fn watch(heard: &Receiver<String>) {
    let mut doing = String::from("starting");
    loop {
        match heard.recv_timeout(HANGS + HANGS) {
            Ok(next) => doing = next,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                eprintln!("!!! HANGS: {doing}");
                std::process::exit(1);
            }
        }
    }
}
