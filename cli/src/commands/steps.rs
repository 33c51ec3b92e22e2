//! `apply --stats`: how long each step of the blocks took.
//!
//! ```text
//!   step      times  failed  per second  busy    mean   median  99 %    most
//!   wait      ...
//! ```

use crate::table::Columns;
use hedgerow::{Step, StepStats, Steps};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// One step, in JSON: durations in seconds; the two quantiles are null if it never ended.
#[derive(Serialize)]
struct StepLine {
    step: &'static str,
    count: u64,
    failed: u64,
    seconds: f64,
    longest: f64,
    median: Option<f64>,
    p99: Option<f64>,
}

/// `{"seconds", "steps": [{"step", "count", "failed", "seconds", "longest", "median", "p99"}, ..]}`
#[derive(Serialize)]
pub(super) struct StepsReport {
    seconds: f64,
    steps: Vec<StepLine>,
    #[serde(skip)]
    of: Steps,
}

impl StepsReport {
    pub(super) fn new(of: Steps) -> Self {
        let line = |(step, stats): (Step, &StepStats)| {
            let StepStats { durations, failed, .. } = stats;
            let quantile = |p| durations.quantile(p).map(|it| it.as_secs_f64());
            StepLine {
                step: step.name(),
                count: durations.count(),
                failed: *failed,
                seconds: durations.sum().as_secs_f64(),
                longest: durations.max().as_secs_f64(),
                median: quantile(0.5),
                p99: quantile(0.99),
            }
        };
        Self { seconds: of.over().as_secs_f64(), steps: of.iter().map(line).collect(), of }
    }
}

impl fmt::Display for StepsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headings = ["step", "times", "failed", "busy", "mean", "median", "99 %", "most"];
        let table = Columns::new(headings);
        let mut table = (1..headings.len()).fold(table, Columns::right);
        for (step, StepStats { durations, failed, .. }) in self.of.iter() {
            let or_none = |it: Option<Duration>| it.map_or_else(|| "-".to_owned(), short);
            let any = durations.count() > 0;
            table.row([
                step.name().to_owned(),
                durations.count().to_string(),
                failed.to_string(),
                format!("{:.1} %", self.of.share(step) * 100.0),
                or_none(any.then(|| durations.mean())),
                or_none(durations.quantile(0.5)),
                or_none(durations.quantile(0.99)),
                or_none(any.then(|| durations.max())),
            ]);
        }
        table.fmt(f)
    }
}

/// A duration with three digits or so.
fn short(it: Duration) -> String {
    match it.as_nanos() {
        nanos @ 0..10_000 => format!("{nanos} ns"),
        10_000..10_000_000 => format!("{:.0} \u{b5}s", it.as_secs_f64() * 1e6),
        10_000_000..10_000_000_000 => format!("{:.0} ms", it.as_secs_f64() * 1e3),
        _ => format!("{:.0} s", it.as_secs_f64()),
    }
}
