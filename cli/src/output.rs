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
use crate::outfile::is_dash;
use hedgerow::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::Path;

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

    /// Prints a line for people on standard error, if anybody is there to read it; nothing with `--json`.
    pub(crate) fn say(self, text: impl Display) {
        if !self.json {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// A report beside a file: on standard error if the file itself goes to standard output.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub(crate) fn report_beside(
        self,
        file: &Path,
        report: &(impl Display + Serialize),
    ) -> Result<(), CliError> {
        if !is_dash(file) {
            return self.report(report);
        }
        let text = match self.json {
            true => serde_json::to_string(report).map_err(io::Error::from),
            false => Ok(report.to_string()),
        };
        let _ = writeln!(io::stderr(), "{}", text.map_err(CliError::Output)?);
        Ok(())
    }

    /// Prints one JSON object.
    ///
    /// # Errors
    /// [`CliError::Output`].
    pub(crate) fn json_line(self, report: &impl Serialize) -> Result<(), CliError> {
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

    /// Says what is being done, while nobody knows how much of it there is.
    #[cfg(feature = "coins")]
    pub(crate) fn spinner(self, what: &'static str) -> ProgressBar {
        let bar = self.bar(None, "{spinner} {msg} ({elapsed})").with_message(what);
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        bar
    }

    /// A bar for coins that are first read and then written.
    #[cfg(feature = "coins")]
    pub(crate) fn coin_bar(self, what: &'static str, coins: u64) -> CoinBar {
        let template = "{msg} {bar:30} {percent} %, {eta} left";
        CoinBar(self.bar(Some(coins.saturating_mul(2)), template).with_message(what))
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

/// A bar for an input of blocks: by the bytes read of it, if it is known how many there are.
#[derive(Clone)]
pub(crate) struct InputBar {
    /// What moves with the bytes; hidden if nobody knows how many there are.
    pub(crate) bytes: ProgressBar,
    blocks: Option<ProgressBar>,
    what: &'static str,
}

impl InputBar {
    pub(crate) fn new(out: Output, what: &'static str, total: Option<u64>) -> Self {
        match total {
            Some(_) => {
                let template = "{msg} {bar:30} {percent}% of {total_bytes}, {eta} left";
                let bytes = out.bar(total, template).with_message(what);
                Self { bytes, blocks: None, what }
            }
            None => {
                let blocks = out.block_bar(None).with_message(what);
                Self { bytes: ProgressBar::hidden(), blocks: Some(blocks), what }
            }
        }
    }

    /// A block is done.
    pub(crate) fn block(&self, height: u64) {
        match &self.blocks {
            Some(bar) => bar.inc(1),
            None => self.bytes.set_message(format!("{} block {height}", self.what)),
        }
    }

    /// Nothing is left of it on the screen.
    pub(crate) fn finish(&self) {
        self.bytes.finish_and_clear();
        if let Some(bar) = &self.blocks {
            bar.finish_and_clear();
        }
    }
}

/// A bar for coins.
#[cfg(feature = "coins")]
pub(crate) struct CoinBar(ProgressBar);

#[cfg(feature = "coins")]
impl CoinBar {
    /// So many are read, and so many written.
    pub(crate) fn at(&self, read: u64, written: u64) {
        self.0.set_position(read.saturating_add(written));
    }

    /// Nothing is left of it on the screen.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
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
