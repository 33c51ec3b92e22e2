//! `stat --watch`: how a store goes on, as it can be seen from outside.
//!
//! ```text
//!   look ─► a line ─► wait ─► look again, if there is a newer durable height ─► a line, with rates ─► ..
//!                       └── Ctrl-C, SIGTERM, or the last of --count ─► the end
//! ```
//!
//! Another process may have the store open and write to it: nothing is locked, and nothing is written. What is seen is
//! what its files say, so heights are durable ones. How long the steps of blocks take only the process that does them
//! knows: `apply --stats` tells of its own, and a program of one's own has `Stats::steps`.

use crate::error::CliError;
use crate::interrupt::Interrupt;
use crate::output::{Output, follow};
use crate::text::as_text;
use hedgerow::{Digest, Error, Height, Options, ReadOnlyStore, Store};
use indicatif::{HumanBytes, HumanCount};
use serde::Serialize;
use std::fmt;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

/// Reads what `--watch` takes: seconds, from a tenth to a day.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    if (0.1..=86_400.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err("expected 0.1 to 86400 seconds".into())
}

/// `{"height", "root", "keys", "entries", "log_bytes", "log_segments", "seconds", "blocks_per_second", ..}`: the last four
/// are about what came since the line before; null in the first.
#[derive(Serialize)]
struct Line {
    height: u64,
    #[serde(serialize_with = "as_text")]
    root: Digest,
    keys: u64,
    entries: u64,
    log_bytes: u64,
    log_segments: u64,
    seconds: Option<f64>,
    blocks_per_second: Option<f64>,
    entries_per_second: Option<f64>,
    log_bytes_per_second: Option<f64>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (keys, bytes) = (HumanCount(self.keys), HumanBytes(self.log_bytes));
        write!(f, "height {}  keys {keys}  log {bytes} in {}", self.height, self.log_segments)?;
        let rates = (self.blocks_per_second, self.entries_per_second, self.log_bytes_per_second);
        if let (Some(blocks), Some(entries), Some(bytes)) = rates {
            let bytes = HumanBytes(bytes as u64);
            write!(f, "  {blocks:.1} blocks/s  {entries:.0} entries/s  {bytes}/s")?;
        }
        Ok(())
    }
}

/// What was seen of a store at one moment.
#[derive(Clone, Copy)]
struct Seen {
    at: Instant,
    height: Height,
    entries: u64,
    /// Where the log ends, which pruning does not change.
    log_end: u64,
}

/// Looks at a store, and says what is different from `before`.
fn look(store: &ReadOnlyStore, before: Option<Seen>) -> (Seen, Line) {
    let (stats, (height, root)) = (store.stats(), store.reader().root());
    let (entries, log_end) = (stats.entries, stats.log_end.0);
    let seen = Seen { at: Instant::now(), height, entries, log_end };
    let seconds = before.map(|before| seen.at.duration_since(before.at).as_secs_f64());
    // After a rollback there are fewer: then nothing was added.
    let rate = |now: u64, then: fn(&Seen) -> u64| {
        let more = now.saturating_sub(then(before.as_ref()?)) as f64;
        seconds.filter(|&seconds| seconds > 0.0).map(|seconds| more / seconds)
    };
    let line = Line {
        height: height.0,
        root,
        keys: stats.keys,
        entries,
        log_bytes: stats.log.bytes,
        log_segments: stats.log.segments,
        seconds,
        blocks_per_second: rate(height.0, |seen| seen.height.0),
        entries_per_second: rate(entries, |seen| seen.entries),
        log_bytes_per_second: rate(log_end, |seen| seen.log_end),
    };
    (seen, line)
}

/// Looks every so often, `count` times or until somebody ends it.
pub(super) fn run(
    dir: &Path,
    every: Duration,
    count: Option<NonZeroU64>,
    out: Output,
) -> Result<(), CliError> {
    let (wake, woken) = sync_channel(1);
    // If there is no room for it, the flag says the same.
    let interrupt = Interrupt::watch(out, move || _ = wake.try_send(()))?;
    let bar = out.log_bar("opening");
    let opened = Store::open_read_only(dir, Options::new().on_progress(follow(&bar)));
    bar.finish_and_clear();
    let mut store = opened?;
    let (mut before, mut told) = (None, 0);
    loop {
        let (seen, line) = look(&store, before);
        out.report(&line)?;
        before = Some(seen);
        told += 1;
        if count.is_some_and(|count| told >= count.get()) {
            return Ok(());
        }
        loop {
            match woken.recv_timeout(every) {
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if interrupt.asked() => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {}
            }
            match store.refresh() {
                Ok(_) => break,
                // The writer was too fast for once.
                Err(error @ Error::Unsteady { .. }) => {
                    out.say(format_args!("{error}; looking again"))
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_within_bounds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("86400"), Ok(Duration::from_secs(86_400)));
        for wrong in ["", "x", "0", "-1", "0.05", "86401", "inf", "NaN"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
