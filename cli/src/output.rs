//! What a command prints: reports on standard output, progress on standard error.
//!
//! ```text
//!             report                     progress
//!  human      its Display, lines         a bar, if standard error is a terminal
//!  --json     one JSON object, one line  nothing
//! ```
//!
//! **Invariant:** standard output carries reports only, each written and flushed whole.

use crate::error::CliError;
use hedgerow::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};

/// How a command talks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether programs read along.
    pub(crate) fn json(self) -> bool {
        self.json
    }

    /// Prints a report.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub(crate) fn report(self, report: &(impl Display + Serialize)) -> Result<(), CliError> {
        if self.json { self.json_line(report) } else { self.line(report) }
    }

    /// Prints a line for people; nothing with `--json`.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub(crate) fn note(self, text: impl Display) -> Result<(), CliError> {
        if self.json { Ok(()) } else { self.line(text) }
    }

    fn json_line(self, report: &impl Serialize) -> Result<(), CliError> {
        let text = serde_json::to_string(report).map_err(io::Error::from);
        self.line(text.map_err(CliError::Output)?)
    }

    fn line(self, text: impl Display) -> Result<(), CliError> {
        // One write, so that whoever reads along sees whole lines or nothing.
        let text = format!("{text}\n");
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(CliError::Output)
    }

    /// A bar for the bytes that the store reads, of which it says how many there are.
    pub(crate) fn log_bar(self, what: &'static str) -> ProgressBar {
        self.bar(None, "{msg} {bar:30} {bytes}/{total_bytes} ({bytes_per_sec})").with_message(what)
    }

    /// A bar for blocks, of which there are `total`, if that is known.
    pub(crate) fn block_bar(self, total: Option<u64>) -> ProgressBar {
        let template = match total {
            Some(_) => "{msg} {bar:30} {human_pos}/{human_len} blocks, {eta} left",
            None => "{msg} {spinner} {human_pos} blocks ({per_sec})",
        };
        self.bar(total, template)
    }

    fn bar(self, total: Option<u64>, template: &str) -> ProgressBar {
        // A target on standard error is hidden by itself if that is not a terminal.
        let target =
            if self.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(total, target);
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}

/// What moves a bar as the store reads its checkpoint and its log.
pub(crate) fn follow(bar: &ProgressBar) -> impl Fn(Progress) + Send + Sync + 'static {
    let bar = bar.clone();
    move |progress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.scanned_bytes);
    }
}
