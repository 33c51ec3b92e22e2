//! The figures of a run.

use crate::engine::EngineFigures;
use crate::sync::{SetFigures, Workload};
use comfy_table::{CellAlignment, Table, presets};
use hedgerow_benches::usage::Cost;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The figures of one run of one engine. A coin that is created counts once, and once more when it is spent.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which.
    pub engine: String,
    /// Blocks.
    pub blocks: u32,
    /// Transactions of each.
    pub transactions: u32,
    /// What the blocks follow from.
    pub seed: u64,
    /// Coins created.
    pub created: u64,
    /// Coins spent.
    pub spent: u64,
    /// Amount of those, in satoshi.
    pub spent_amount: u64,
    /// Coins by second, while the engine had the blocks' thread.
    pub coins_s: f64,
    /// Microseconds of CPU by coin: user and system, all threads, without making the blocks.
    pub cpu_us_per_coin: f64,
    /// Bytes by coin: pages of files made dirty.
    pub written_per_coin: Option<f64>,
    /// Bytes by coin handed to system calls.
    pub wchar_per_coin: Option<f64>,
    /// The highest resident memory, in megabytes: everything, the program included.
    pub rss_peak_mb: Option<f64>,
    /// What its files take in the end, in megabytes.
    pub disk_mb: f64,
    /// Seconds that the engine had the blocks' thread.
    pub sync_s: f64,
    /// Seconds in all, making the blocks included.
    pub elapsed_s: f64,
    /// Seconds of CPU in user space, making the blocks included.
    pub user_s: f64,
    /// Seconds of CPU in the kernel, making the blocks included.
    pub system_s: f64,
    /// Seconds of CPU for making the blocks.
    pub making_s: f64,
    /// Coins in the end.
    pub coins: u64,
    /// Their amount, in satoshi.
    pub total_amount: u64,
    /// Their MuHash, computed from what is on the disk: the same for all engines.
    pub muhash: String,
    /// What the engine counted.
    #[serde(flatten)]
    pub figures: EngineFigures,
}

impl Report {
    #[expect(clippy::too_many_arguments, reason = "each is a figure of its own")]
    pub(crate) fn new(
        engine: &str,
        workload: Workload,
        (created, spent, spent_amount): (u64, u64, u64),
        (cost, working, making): (Cost, Duration, Duration),
        peak: Option<u64>,
        bytes: u64,
        figures: EngineFigures,
        set: SetFigures,
    ) -> Self {
        let coins = (created + spent) as f64;
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let cpu = cost.cpu().saturating_sub(making);
        Self {
            engine: engine.into(),
            blocks: workload.blocks,
            transactions: workload.transactions,
            seed: workload.seed,
            created,
            spent,
            spent_amount,
            coins_s: coins / working.as_secs_f64(),
            cpu_us_per_coin: cpu.as_secs_f64() * 1e6 / coins,
            written_per_coin: cost.written.map(|written| written.pages as f64 / coins),
            wchar_per_coin: cost.written.map(|written| written.calls as f64 / coins),
            rss_peak_mb: peak.map(megabytes),
            disk_mb: megabytes(bytes),
            sync_s: working.as_secs_f64(),
            elapsed_s: cost.wall.as_secs_f64(),
            user_s: cost.user.as_secs_f64(),
            system_s: cost.system.as_secs_f64(),
            making_s: making.as_secs_f64(),
            coins: set.coins,
            total_amount: set.total_amount,
            muhash: set.muhash.to_string(),
            figures,
        }
    }
}

/// What the table needs of a line of JSON.
#[derive(Clone, Debug, Deserialize)]
pub struct Line {
    /// Which engine.
    pub engine: String,
    /// Everything.
    #[serde(flatten)]
    pub figures: serde_json::Map<String, Value>,
}

/// Name, decimals, and whether it is compared with the last engine's.
const COLUMNS: [(&str, usize, bool); 9] = [
    ("coins_s", 0, true),
    ("cpu_us_per_coin", 3, true),
    ("written_per_coin", 1, true),
    ("wchar_per_coin", 1, false),
    ("rss_peak_mb", 1, true),
    ("disk_mb", 1, false),
    ("flushes", 0, false),
    ("flushing_s", 2, false),
    ("elapsed_s", 1, false),
];

/// The median; of an even number the lower one.
fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_unstable_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied()
}

/// A table of the medians of each engine's runs, in the order in which engines come first, and of their ratios to the engine of
/// the name `beside`.
pub fn table(lines: &[Line], beside: &str) -> String {
    let mut engines: Vec<&str> = Vec::new();
    for line in lines {
        if !engines.contains(&line.engine.as_str()) {
            engines.push(&line.engine);
        }
    }
    let of = |engine: &str, name: &str| {
        let runs = lines.iter().filter(|line| line.engine == engine);
        median(runs.filter_map(|line| line.figures.get(name)?.as_f64()).collect())
    };
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header(["engine"].into_iter().chain(COLUMNS.map(|(name, _, _)| name)));
    for engine in &engines {
        let cells = COLUMNS.map(|(name, decimals, compared)| {
            let Some(figure) = of(engine, name) else { return "?".into() };
            let ratio = of(beside, name).filter(|beside| compared && *beside > 0.0);
            let ratio = ratio.map_or(String::new(), |beside| format!(" ({:.2}x)", figure / beside));
            format!("{figure:.decimals$}{ratio}")
        });
        table.add_row([(*engine).to_owned()].into_iter().chain(cells));
    }
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let line = |engine: &str, coins_s: f64| -> Line {
            serde_json::from_value(
                serde_json::json!({ "engine": engine, "coins_s": coins_s, "flushes": 3 }),
            )
            .unwrap()
        };
        let lines = [
            line("a", 300.0),
            line("b", 100.0),
            line("a", 100.0),
            line("b", 90.0),
            line("a", 200.0),
            line("b", 950.0),
        ];
        let table = table(&lines, "b");
        let rows: Vec<&str> = table.lines().collect();
        assert!(rows[2].contains("| a") && rows[2].contains("200 (2.00x)"), "{table}");
        assert!(rows[3].contains("| b") && rows[3].contains("100 (1.00x)"), "{table}");
        assert!(rows[2].contains("| 3 ") || rows[2].contains(" 3 |"), "{table}");
        assert_eq!(median(vec![]), None);
    }
}
