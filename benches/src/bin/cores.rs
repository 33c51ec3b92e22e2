//! `cores`: the end-to-end run on 1, 2, 4, ... cores of this machine, as one table.
//!
//! ```text
//!   round 1    taskset 0        speed --read-threads 1  ─► a line of JSON
//!              taskset 0-1      speed --read-threads 2  ─► ...
//!              taskset 0-3      speed --read-threads 4
//!   round 2    the same, from the other end           medians ─► a row for each number of cores
//! ```
//!
//! Each run is a process of its own that may use the first cores of the machine only, with as many threads that read; it
//! finds `speed` beside itself. The system counts two threads of one core as two: see `lscpu --extended` for which are which.
//! Linux only: it starts `taskset`, of util-linux.
#![forbid(unsafe_code)]

use clap::Parser;
use hedgerow_benches::usage::processor;
use serde_json::Value;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Runs `speed` on 1, 2, 4, ... cores in turns and prints medians and ratios, in markdown.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// How often each number of cores has its turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Most cores; 0: all that the process may use, and no more than these.
    #[arg(long, default_value_t = 0)]
    most: usize,
    /// Where the stores are made, each in a directory of its own that is removed again.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What `speed` is told, but `--dir`, `--json` and `--read-threads`.
    #[arg(last = true)]
    speed: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{what}: {reason}")]
    Io { what: String, reason: std::io::Error },
    #[error("{wanted} cores were asked for, and there are {all}")]
    Cores { wanted: usize, all: usize },
    #[error("speed on {cores} cores failed: {text}")]
    Speed { cores: usize, text: String },
    #[error("speed on {0} cores printed no line of JSON")]
    NoFigures(usize),
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Failure {
    let what = what.into();
    move |reason| Failure::Io { what, reason }
}

/// The columns: a figure of `speed`, what it is called, and how many digits it has behind the point.
const COLUMNS: [(&str, &str, usize); 6] = [
    ("update_ops_s", "updates/s", 0),
    ("populate_ops_s", "creates/s", 0),
    ("cpu_us_per_update", "CPU us per update", 2),
    ("cpu_us_per_create", "per create", 2),
    ("reads_s", "reads/s", 0),
    ("proofs_s", "proofs/s", 0),
];

type Figures = [f64; COLUMNS.len()];

fn main() -> ExitCode {
    let printed = measure(&Args::parse()).and_then(|table| {
        std::io::stdout().write_all(table.as_bytes()).map_err(io("printing the table"))
    });
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cores: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<String, Failure> {
    let here = std::env::current_exe().map_err(io("finding this program"))?;
    let speed = here.with_file_name("speed");
    let all = std::thread::available_parallelism().map_err(io("counting cores"))?.get();
    if args.most > all {
        return Err(Failure::Cores { wanted: args.most, all });
    }
    let counts = counts(if args.most == 0 { all } else { args.most });
    let mut runs: Vec<Vec<Figures>> = vec![vec![]; counts.len()];
    for round in 0..args.rounds {
        let mut order: Vec<usize> = (0..counts.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for number in order {
            runs[number].push(run(&speed, counts[number], args)?);
        }
    }
    let medians: Vec<Figures> = runs.iter().map(|runs| medians(runs)).collect();
    let cpu = processor().unwrap_or_else(|| "a processor that has no name here".into());
    let head = format!("{cpu}; {} rounds; speed {}\n\n", args.rounds, args.speed.join(" "));
    Ok(head + &table(&counts, &medians))
}

/// 1, 2, 4, ... and `most` itself.
fn counts(most: usize) -> Vec<usize> {
    let mut counts: Vec<usize> = std::iter::successors(Some(1_usize), |n| n.checked_mul(2))
        .take_while(|n| *n < most)
        .collect();
    counts.push(most.max(1));
    counts
}

fn run(speed: &Path, cores: usize, args: &Args) -> Result<Figures, Failure> {
    let dir = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    };
    let dir = dir.map_err(io("making a directory"))?;
    let mut command = Command::new("taskset");
    command.arg("--cpu-list").arg(format!("0-{}", cores - 1)).arg(speed);
    command.arg("--dir").arg(dir.path()).args(["--json", "--read-threads"]).arg(cores.to_string());
    let output = command.args(&args.speed).output().map_err(io("starting taskset"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::Speed { cores, text });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    figures(&text).ok_or(Failure::NoFigures(cores))
}

/// The figures of the last line.
fn figures(text: &str) -> Option<Figures> {
    let line: Value = serde_json::from_str(text.lines().last()?).ok()?;
    let mut figures = [0.0; COLUMNS.len()];
    for (figure, (key, ..)) in figures.iter_mut().zip(COLUMNS) {
        *figure = line.get(key)?.as_f64()?;
    }
    Some(figures)
}

fn medians(runs: &[Figures]) -> Figures {
    std::array::from_fn(|column| {
        let mut all: Vec<f64> = runs.iter().map(|figures| figures[column]).collect();
        all.sort_unstable_by(f64::total_cmp);
        // Of an even number, between the two in the middle.
        let middle = [all.len().saturating_sub(1) / 2, all.len() / 2];
        middle.iter().filter_map(|&at| all.get(at)).sum::<f64>() / 2.0
    })
}

/// In brackets: how many times the figure on one core.
fn table(counts: &[usize], medians: &[Figures]) -> String {
    let mut text = String::from("| cores |");
    for (_, name, _) in COLUMNS {
        let _ = write!(text, " {name} |"); // to a string: cannot fail
    }
    text += "\n|---|";
    text += &"---|".repeat(COLUMNS.len());
    for (row, (cores, figures)) in counts.iter().zip(medians).enumerate() {
        let _ = write!(text, "\n| {cores} |");
        for (column, (_, _, digits)) in COLUMNS.iter().enumerate() {
            let figure = figures[column];
            let _ = write!(text, " {figure:.digits$}");
            if row > 0
                && let Some(first) = medians.first()
            {
                let _ = write!(text, " ({:.2})", figure / first[column]);
            }
            text += " |";
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_cores_double_up_to_all() {
        assert_eq!(counts(1), [1]);
        assert_eq!(counts(2), [1, 2]);
        assert_eq!(counts(6), [1, 2, 4, 6]);
        assert_eq!(counts(16), [1, 2, 4, 8, 16]);
    }

    #[test]
    fn a_row_has_medians_and_how_many_times_the_first() {
        let runs = [3.0, 1.0, 2.0].map(|figure| [figure; COLUMNS.len()]);
        assert_eq!(medians(&runs[..2]), [2.0; COLUMNS.len()]);
        let text = table(&[1, 2], &[medians(&runs), [5.0; COLUMNS.len()]]);
        let rows: Vec<_> = text.lines().collect();
        assert_eq!(rows[2], "| 1 | 2 | 2 | 2.00 | 2.00 | 2 | 2 |");
        assert_eq!(
            rows[3],
            "| 2 | 5 (2.50) | 5 (2.50) | 5.00 (2.50) | 5.00 (2.50) | 5 (2.50) | 5 (2.50) |"
        );
    }

    #[test]
    fn a_line_without_a_figure_is_none() {
        assert_eq!(figures(""), None);
        assert_eq!(figures("{\"update_ops_s\":1}"), None);
    }
}
