//! The lines of a file of results, and what is read off them: medians, spreads, ratios to ours.
//!
//! ```text
//!   lines ─► Setting: same keys, blocks, changes ─► engines, ours first ─► runs, one for each round
//!
//!   ratio of an engine = the median over rounds of (its figure / ours in that round)
//! ```

use crate::{Failure, STORES, run::Figures, workload::Changes};

/// The engine that the others are compared with.
pub const OURS: &str = "hedgerow";

/// What runs must have in common to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// Keys created first.
    pub keys: u64,
    /// The changes.
    pub changes: Changes,
    /// Of a block.
    pub block_ops: u64,
    /// Blocks.
    pub blocks: u64,
    /// Creates of a block.
    pub populate_block_ops: u64,
}

impl Setting {
    /// That of a run.
    pub fn of(run: &Figures) -> Self {
        let Figures { keys, changes, block_ops, blocks, populate_block_ops, .. } = *run;
        Self { keys, changes, block_ops, blocks, populate_block_ops }
    }

    /// In words.
    pub fn words(&self) -> String {
        let changes = match self.changes {
            Changes::Update => "updates",
            Changes::Mixed => "mixed 90/5/5",
            Changes::Create => "creates",
        };
        format!("{changes}, {} keys, {} x {}", short(self.keys), self.blocks, short(self.block_ops))
    }
}

/// 1,000,000 as `1 M`.
pub fn short(count: u64) -> String {
    match count {
        1_000_000.. if count.is_multiple_of(100_000) => format!("{} M", count as f64 / 1e6),
        1_000.. if count.is_multiple_of(100) => format!("{} k", count as f64 / 1e3),
        _ => count.to_string(),
    }
}

/// The runs of one engine under one setting, in the order in which they were made.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    /// The engine.
    pub engine: &'a str,
    /// One or more.
    pub runs: Vec<&'a Figures>,
}

/// Reads a figure off a run; `None` if it has none.
pub type Read<'r> = &'r dyn Fn(&Figures) -> Option<f64>;

/// The lowest, the middle and the highest of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The lowest.
    pub low: f64,
    /// The median; of an even number the lower one.
    pub mid: f64,
    /// The highest.
    pub high: f64,
}

impl Spread {
    /// That of `figures`; `None` of no figures.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<_> = figures.into_iter().collect();
        figures.sort_unstable_by(f64::total_cmp);
        let mid = *figures.get(figures.len().saturating_sub(1) / 2)?;
        Some(Self { low: *figures.first()?, mid, high: *figures.last()? })
    }
}

impl Runs<'_> {
    /// The spread of a figure.
    pub fn spread(&self, read: Read<'_>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| read(run)))
    }

    /// How many times `ours` the figure is: the median over the rounds that both have.
    pub fn ratio(&self, ours: &Self, read: Read<'_>) -> Option<f64> {
        let ratio = |run: &&Figures| {
            let same = |other: &&&Figures| other.round == run.round;
            let other = read(ours.runs.iter().find(same)?)?;
            (other > 0.0).then_some(read(run)? / other)
        };
        Some(Spread::of(self.runs.iter().filter_map(ratio))?.mid)
    }
}

/// The lines of a file of results.
///
/// # Errors
/// [`Failure::Line`] for the first that is not such a line.
pub fn lines(text: &str) -> Result<Vec<Figures>, Failure> {
    let numbered = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let read = |(number, line)| {
        serde_json::from_str(line).map_err(|error| Failure::Line { number, reason: error })
    };
    numbered.map(read).collect()
}

/// The settings of the runs, in ascending order, each with its engines: ours, then as in [`STORES`].
pub fn settings(runs: &[Figures]) -> Vec<(Setting, Vec<Runs<'_>>)> {
    let mut settings: Vec<_> = runs.iter().map(Setting::of).collect();
    settings.sort_unstable();
    settings.dedup();
    let of = |setting: Setting| {
        let of_setting = || runs.iter().filter(move |run| Setting::of(run) == setting);
        let mut engines: Vec<&str> = of_setting().map(|run| &*run.engine).collect();
        let place = |name: &str| {
            let known = STORES.iter().position(|engine| engine.name == name);
            known.unwrap_or(STORES.len())
        };
        engines.sort_by_key(|name| (place(name), *name));
        engines.dedup();
        let runs_of = |engine| {
            let runs = of_setting().filter(|run| run.engine == engine).collect();
            Runs { engine, runs }
        };
        (setting, engines.into_iter().map(runs_of).collect())
    };
    settings.into_iter().map(of).collect()
}
