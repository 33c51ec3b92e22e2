//! Tables of a file of results, in markdown: one for each setting.

use crate::{
    results::{OURS, Read, Runs, Setting, settings},
    run::{Figures, PhaseFigures},
};
use std::fmt::Write as _;

/// A column: its heading, and what a cell says of an engine's runs and of ours.
type Column = (&'static str, fn(&Runs<'_>, Option<&Runs<'_>>) -> String);

/// The tables of all settings.
pub fn tables(runs: &[Figures]) -> String {
    let mut text = String::new();
    for (setting, engines) in settings(runs) {
        let ours = engines.iter().find(|runs| runs.engine == OURS);
        heading(&mut text, setting, runs);
        line(&mut text, COLUMNS.iter().map(|(name, _)| (*name).to_owned()));
        line(&mut text, COLUMNS.iter().map(|_| "---".to_owned()));
        for engine in &engines {
            line(&mut text, COLUMNS.iter().map(|(_, cell)| cell(engine, ours)));
        }
        text.push('\n');
    }
    text
}

fn heading(text: &mut String, setting: Setting, runs: &[Figures]) {
    let run = runs.iter().find(|run| Setting::of(run) == setting);
    let cpu = run.and_then(|run| run.cpu.as_deref()).unwrap_or("an unknown processor");
    let cores = run.map_or(0, |run| run.cores);
    // Writing to a string does not fail.
    let _ = writeln!(text, "### {}\n\n{cpu}, {cores} cores\n", setting.words());
}

fn line(text: &mut String, cells: impl Iterator<Item = String>) {
    let cells: Vec<_> = cells.collect();
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

const COLUMNS: [Column; 19] = [
    ("engine", |runs, _| {
        let version = runs.runs.first().map_or("", |run| &run.version);
        format!("{} {version}", runs.engine)
    }),
    ("runs", |runs, _| runs.runs.len().to_string()),
    ("CPU us/change", |runs, ours| compared(runs, ours, &updates(|phase| Some(phase.cpu_us)))),
    ("user + system", |runs, _| {
        let [user, system] = [
            &updates(|phase| Some(phase.user_us)) as Read<'_>,
            &updates(|phase| Some(phase.system_us)),
        ]
        .map(|read| middle(runs, read));
        format!("{user} + {system}")
    }),
    ("changes/s", |runs, ours| compared(runs, ours, &updates(|phase| Some(phase.ops_s)))),
    ("block ms p50, p99, max", |runs, _| {
        middles(
            runs,
            [
                &updates(|phase| Some(phase.block_ms.p50)),
                &updates(|phase| Some(phase.block_ms.p99)),
                &updates(|phase| Some(phase.block_ms.max)),
            ],
        )
    }),
    ("durable ms p50, p99, max", |runs, _| {
        middles(
            runs,
            [
                &updates(|phase| Some(phase.durable_ms.p50)),
                &updates(|phase| Some(phase.durable_ms.p99)),
                &updates(|phase| Some(phase.durable_ms.max)),
            ],
        )
    }),
    ("CPU us/create", |runs, ours| compared(runs, ours, &|run| Some(run.create.cpu_us))),
    ("creates/s", |runs, ours| compared(runs, ours, &|run| Some(run.create.ops_s))),
    ("reads/s", |runs, ours| compared(runs, ours, &|run| run.reads_s)),
    ("proofs/s", |runs, ours| compared(runs, ours, &|run| run.proofs_s)),
    ("proof bytes", |runs, _| middle(runs, &|run| run.proof_bytes)),
    ("peak MB", |runs, ours| compared(runs, ours, &|run| run.rss_peak_mb)),
    ("anon, file MB after", |runs, _| {
        middles(runs, [&|run| run.rss_anon_mb, &|run| run.rss_file_mb])
    }),
    ("written B/change", |runs, ours| compared(runs, ours, &updates(|phase| phase.write_bytes))),
    ("disk B/key", |runs, ours| compared(runs, ours, &|run| Some(run.disk_bytes_per_key))),
    ("close s, its CPU", |runs, _| {
        middles(runs, [&|run| Some(run.close_s), &|run| Some(run.close_cpu_s)])
    }),
    ("reopen s", |runs, ours| compared(runs, ours, &|run| Some(run.reopen.as_ref()?.seconds))),
    ("busy % before", |runs, _| {
        let each = runs.runs.iter().map(|run| run.busy_percent.map_or("?".into(), number));
        each.collect::<Vec<_>>().join(", ")
    }),
];

/// A figure of the update phase.
fn updates(read: fn(&PhaseFigures) -> Option<f64>) -> impl Fn(&Figures) -> Option<f64> {
    move |run| read(run.update.as_ref()?)
}

fn middle(runs: &Runs<'_>, read: Read<'_>) -> String {
    runs.spread(read).map_or("-".into(), |spread| number(spread.mid))
}

fn middles<const N: usize>(runs: &Runs<'_>, reads: [Read<'_>; N]) -> String {
    reads.map(|read| middle(runs, read)).join(", ")
}

/// The median, where runs differ their span, and how many times ours.
fn compared(runs: &Runs<'_>, ours: Option<&Runs<'_>>, read: Read<'_>) -> String {
    let Some(spread) = runs.spread(read) else { return "-".into() };
    let mut cell = number(spread.mid);
    let [low, high] = [spread.low, spread.high].map(number);
    if low != high {
        let _ = write!(cell, " [{low}..{high}]");
    }
    match ours.filter(|ours| ours.engine != runs.engine).and_then(|ours| runs.ratio(ours, read)) {
        Some(ratio) => cell + &format!(" ({ratio:.2}x)"),
        None => cell,
    }
}

/// Three digits or more; thousands and millions where nothing is lost.
fn number(figure: f64) -> String {
    match figure {
        1e6.. => format!("{:.2} M", figure / 1e6),
        1e4..1e6 => format!("{:.0} k", figure / 1e3),
        100.0..1e4 => format!("{figure:.0}"),
        10.0..100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}
