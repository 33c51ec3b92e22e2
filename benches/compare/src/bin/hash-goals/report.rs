//! The tables, as text.

use crate::{
    goals::{Bound, Figure, Goal},
    races::Races,
};
use hedgerow_benches::usage::processor;
use hedgerow_compare::{Race, contender::OURS, race::Effort};

/// Head, goals, crates, and how many goals are met.
pub(crate) fn goals(effort: Effort, races: &Races, goals: &[Goal]) -> String {
    let mut lines = head(effort, &races.plan);
    lines.push(
        "Goals are for a Zen 5 class CPU, figures are how many times as long the other takes;"
            .into(),
    );
    lines.push("ns and cycles are ours, per message.".into());
    lines.push(String::new());
    let rows = goals.iter().map(row).collect();
    lines.extend(columns(["what", "figure", "goal", ""].map(String::from), rows));
    let batches: Vec<_> = races.nodes.iter().map(|race| (race.items().to_string(), race)).collect();
    lines.extend(by_batch("ns per node, by batch size", &batches, |race, name| {
        Some(format!("{:.1}", race.each(name)?.nanoseconds))
    }));
    lines.extend(by_batch("times as long as hedgerow", &batches, |race, name| {
        Some(format!("{:.2}", race.ratio(name, OURS)?))
    }));
    lines.push(String::new());
    let met = goals.iter().filter(|goal| goal.is_met()).count();
    lines.push(format!("{met} of {} goals met\n", goals.len()));
    lines.join("\n")
}

/// What was measured where.
pub(crate) fn head(effort: Effort, plan: &str) -> Vec<String> {
    let mut lines = vec![
        format!("CPU: {}", processor().unwrap_or_else(|| "unknown".into())),
        format!("kernels by messages, as calibrated: {plan}"),
        format!("{}; tape-sha256 chose {}", env!("RUSTC_VERSION"), tape_sha256::backend()),
    ];
    if effort == Effort::Quick {
        lines.push("!!! --quick: ONE REPETITION, THE FIGURES MEAN NOTHING".into());
    }
    lines
}

fn row(goal: &Goal) -> [String; 4] {
    let figure = match &goal.figure {
        Figure::Measured { ratio, each, remark } => {
            let cost = format!("{:.1} ns, {:.0} cycles", each.nanoseconds, each.cycles);
            let separator = if remark.is_empty() { "" } else { "; " };
            format!("{ratio:.2} x ({cost}{separator}{remark})")
        }
        Figure::NotMeasured { why } => format!("!!! not measured: {why}"),
    };
    let bound = match goal.bound {
        Bound::AtLeast(bound) => format!(">= {bound:.1} x"),
        Bound::Above(bound) => format!("> {bound:.2} x"),
    };
    [goal.what.clone(), figure, bound, if goal.is_met() { "met" } else { "falls short" }.into()]
}

/// A line per contender, a column per race.
pub(crate) fn by_batch(
    title: &str,
    races: &[(String, &Race)],
    cell: impl Fn(&Race, &str) -> Option<String>,
) -> Vec<String> {
    let mut names: Vec<&str> = vec![];
    for name in races.iter().flat_map(|(_, race)| race.names()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let width = names.iter().map(|name| name.len()).chain([title.len()]).max().unwrap_or(0);
    let mut lines = vec![String::new(), format!("{title:width$}")];
    for (column, race) in races {
        let cells: Vec<_> =
            names.iter().map(|name| cell(race, name).unwrap_or_else(|| "-".into())).collect();
        let wide = cells.iter().chain([column]).map(String::len).max().unwrap_or(0);
        lines[1] += &format!("  {column:>wide$}");
        for (i, (name, cell)) in names.iter().zip(cells).enumerate() {
            if lines.len() < i + 3 {
                lines.push(format!("{name:width$}"));
            }
            lines[i + 2] += &format!("  {cell:>wide$}");
        }
    }
    lines
}

/// Rows with their columns one below the other.
fn columns<const N: usize>(title: [String; N], rows: Vec<[String; N]>) -> Vec<String> {
    let rows: Vec<_> = std::iter::once(title).chain(rows).collect();
    let widths: [usize; N] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i].len()).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells: Vec<_> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join(" | ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
