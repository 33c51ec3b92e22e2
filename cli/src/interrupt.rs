//! Ctrl-C, and SIGTERM, which means the same: how a service manager ends a program.
//!
//! ```text
//!   first    a flag, and a call that wakes up whoever waits ─► the command ends in order
//!   second   the program ends at once, with the exit code of the first
//! ```

use crate::error::CliError;
use crate::exit::Kind;
use crate::output::Output;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the user wants the command to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on Ctrl-C and SIGTERM set this flag, and then call `wake`. Once in a program.
    ///
    /// # Errors
    /// [`CliError::Thread`] if there is no thread left that could wait for it.
    pub(crate) fn watch(out: Output, wake: impl Fn() + Send + 'static) -> Result<Self, CliError> {
        let interrupt = Self::default();
        let Self(asked) = interrupt.clone();
        let json = out.json();
        // Its thread may have little of a stack: nothing is formatted there.
        let handler = move || {
            if asked.swap(true, Ordering::SeqCst) {
                std::process::exit(i32::from(Kind::Interrupted.code()));
            }
            if !json {
                let text = b"stopping in order; Ctrl-C again ends at once\n";
                let _ = std::io::stderr().write_all(text);
            }
            wake();
        };
        on_signal(handler).map_err(|error| {
            let limits = "the limits for it are threads (ulimit -u) and address space (ulimit -v)";
            CliError::Thread(format!("waiting for Ctrl-C: {error}; {limits}"))
        })?;
        Ok(interrupt)
    }

    /// Whether it was asked for.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// # Errors
    /// [`CliError::Interrupted`] if it was asked for.
    pub(crate) fn check(&self) -> Result<(), CliError> {
        if self.asked() { Err(CliError::Interrupted) } else { Ok(()) }
    }
}

/// Calls this at each of the two, on a thread of its own. The end of a terminal is not one of them: what runs
/// under `nohup` goes on.
#[cfg(unix)]
fn on_signal(mut call: impl FnMut() + Send + 'static) -> io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let each = move || signals.forever().for_each(|_| call());
    std::thread::Builder::new().name("signals".into()).spawn(each)?;
    Ok(())
}

/// The same where there is Ctrl-C alone.
#[cfg(not(unix))]
fn on_signal(call: impl FnMut() + Send + 'static) -> io::Result<()> {
    ctrlc::set_handler(call).map_err(io::Error::other)
}
