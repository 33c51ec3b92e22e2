//! `proofs-many`: one proof of many keys, beside as many proofs of one key, in every engine.
#![forbid(unsafe_code)]

use clap::Parser;
use hedgerow_compare_stores::{
    ENGINES, Failure,
    race::{Figure, Plan, Question, Row, Side, Stores},
};
use std::{path::PathBuf, process::ExitCode};

/// Makes a store of the same keys in each engine, asks all of them for the same proofs, verifies them and says what
/// they cost: median and quartiles of the repetitions, and how many times ours.
#[derive(Debug, Parser)]
#[command(name = "proofs-many", version)]
struct Args {
    /// Keys of each store, of 32 bytes, with values of 32 bytes.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(2..=1 << 31))]
    keys: u32,
    /// Keys that a block creates.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    block: u32,
    /// How many keys to ask for at once, each at most half of `--keys`.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
    asked: Vec<usize>,
    /// Repetitions that count.
    #[arg(long, default_value_t = 21)]
    repetitions: usize,
    /// Decides all keys and values.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the stores are made, a directory below it each; a temporary directory unless given.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// One line of JSON per engine, number and question, instead of tables.
    #[arg(long)]
    json: bool,
}

/// A figure with its ratio to ours.
fn cell(figure: &Figure) -> String {
    format!("{} ({:.2})", short(figure.quartiles.mid), figure.ratio)
}

/// The same with the quartiles.
fn spread(figure: &Figure) -> String {
    let [low, high] = [figure.quartiles.low, figure.quartiles.high].map(short);
    format!("{} [{low}..{high}] ({:.2})", short(figure.quartiles.mid), figure.ratio)
}

/// Three digits or more.
fn short(number: f64) -> String {
    match number {
        ..10.0 => format!("{number:.2}"),
        10.0..100.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

fn print(rows: &[Row]) {
    for row in rows {
        for (name, side) in [("one proof", &row.many), ("single ones", &row.single)] {
            let Side { bytes, make_cpu, make_wall, verify_cpu, verify_wall } = side;
            println!(
                "| {} | {name} | {} | {} | {} | {} | {} | {} |",
                row.asked,
                row.engine,
                cell(bytes),
                spread(make_cpu),
                cell(make_wall),
                spread(verify_cpu),
                cell(verify_wall),
            );
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let Args { keys, block, asked, repetitions, seed, dir, json } = args;
    let folder = tempfile::tempdir()?;
    let dir = dir.unwrap_or_else(|| folder.path().to_owned());
    for engine in ENGINES {
        if let Some(proofs) = engine.proofs {
            eprintln!("{} {}: {}", engine.name, engine.version(), engine.durability);
            eprintln!("    proofs say {}", proofs.say);
            eprintln!("    bytes: {}", proofs.encoding);
        }
    }
    let plan = Plan { keys, block, asked: asked.clone(), repetitions, seed };
    let stores = Stores::fill(&ENGINES, &dir, plan)?;
    eprintln!("{:.2} % of a core taken while idle", stores.idle()? * 100.0);
    for question in [Question::Present, Question::HalfAbsent] {
        if !json {
            println!(
                "\n{keys} keys; asked: {question:?}; median [quartiles] (times ours), microseconds\n"
            );
            println!(
                "| n | proofs | engine | bytes | make, CPU | make, wall | verify, CPU | verify, wall |"
            );
            println!("|---|---|---|---|---|---|---|---|");
        }
        for &asked in &asked {
            let rows = stores.measure(asked, question)?;
            if json {
                for row in &rows {
                    println!("{}", serde_json::to_string(row).map_err(std::io::Error::from)?);
                }
            } else {
                print(&rows);
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proofs-many: {error}");
            ExitCode::FAILURE
        }
    }
}
